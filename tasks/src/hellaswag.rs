//! HellaSwag: which ending follows, of video captions and WikiHow articles. Evaluated on the validation split.
//!
//! Paper: LLaMA section 3, per character; the prompt is not printed, so it is GPT-3's figure G.9,
//! `{activity_label}: {ctx}`, whose example is preprocessed as lm-eval does (second part capitalised, marks removed).
//! lm-eval: `hellaswag/hellaswag.yaml`, `hellaswag/utils.py`.
//!
//! Read from the authors' `hellaswag_val.jsonl`, or from a published text form whose marks are already removed. The
//! text form does not say where the second part of the context begins: where the context does not end a sentence,
//! it is what follows the last sentence end. WikiHow endings differ there in a few spaces and full stops.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::{
    choice,
    dataset::{DataDir, DataError, DataFile},
    multiple_choice::{self, MultipleChoice},
    reader::{self, Record},
    task::{Card, Document, Protocol, Sampler, Task},
    text,
};

const PROMPT: &str = "{query}";
const TITLE_MARK: (&str, &str) = (" [title]", ". ");
const SENTENCE_ENDS: [char; 3] = ['.', '!', '?'];
const ENDINGS: usize = 4;
/// Of one item in the text form: context, index of the right ending, the endings.
const LINES_PER_ITEM: usize = 2 + ENDINGS;

const VALIDATION: &[&str] = &[
    "hellaswag/hellaswag_val.jsonl",
    "hellaswag/hellaswag_val_full.txt",
];
const TRAIN: &[&str] = &["hellaswag/hellaswag_train.jsonl"];

struct HellaSwag {
    card: Card,
}

pub(crate) fn tasks() -> Vec<Arc<dyn Task>> {
    let card = Card {
        name: "hellaswag".to_owned(),
        title: "HellaSwag",
        version: 1,
        published: Some(("table3_common_sense", "HellaSwag")),
        group: None,
        split: "validation",
        documents: 10042,
        shots: 0,
        metrics: choice::METRICS.into(),
        headline: ("acc_norm".into(), "acc_norm".into()),
        licence: "MIT",
        citation: "Zellers et al. 2019, HellaSwag: Can a Machine Really Finish Your Sentence?, ACL",
    };
    vec![Arc::new(HellaSwag { card })]
}

impl MultipleChoice for HellaSwag {
    fn card(&self) -> &Card {
        &self.card
    }

    fn documents(&self, data: &DataDir, _: Protocol) -> Result<Vec<Document>, DataError> {
        documents(&data.read_first(VALIDATION)?)
    }

    fn examples(&self, data: &DataDir, _: Protocol) -> Result<Vec<Document>, DataError> {
        documents(&multiple_choice::read_pool(data, TRAIN)?)
    }

    fn sampler(&self) -> Sampler {
        Sampler::RandomWithSpare
    }

    fn question(&self, document: &Document, _: Protocol) -> String {
        document.fill(PROMPT)
    }

    fn choices(&self, document: &Document) -> Vec<String> {
        document.texts("choices")
    }

    fn gold(&self, document: &Document) -> usize {
        document.number("gold")
    }
}

fn documents(file: &DataFile) -> Result<Vec<Document>, DataError> {
    if file.name.ends_with(".txt") {
        let items = text_items(file)?;
        return multiple_choice::documents(&items, |index, item| {
            Ok((
                format!("{}:{}", file.name, index * LINES_PER_ITEM + 1),
                item.fields.clone(),
            ))
        });
    }
    multiple_choice::documents(&reader::json_lines(file)?, |index, record| {
        let (label, second) = (
            record.text("activity_label")?,
            text::capitalize(record.text("ctx_b")?),
        );
        let query = preprocess(&format!("{label}: {} {second}", record.text("ctx_a")?));
        let endings: Vec<String> = record
            .texts("endings")?
            .iter()
            .map(|ending| preprocess(ending))
            .collect();
        let gold = multiple_choice::gold(record, record.integer("label")?, 0, endings.len())?;
        let ind = record.integer("ind").unwrap_or(index as i64);
        let mut fields = fields(&query, &endings, gold);
        fields.insert("ind".to_owned(), json!(ind));
        Ok((ind.to_string(), fields))
    })
}

fn fields<T: AsRef<str>>(query: &str, endings: &[T], gold: usize) -> Map<String, Value> {
    let endings: Vec<&str> = endings.iter().map(AsRef::as_ref).collect();
    multiple_choice::fields([
        ("query", json!(query)),
        ("choices", json!(endings)),
        ("gold", json!(gold)),
    ])
}

/// lm-eval's `preprocess`: a title mark becomes a full stop, other `[marks]` go, double spaces become single.
fn preprocess(text: &str) -> String {
    let text = text::strip(text).replace(TITLE_MARK.0, TITLE_MARK.1);
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('[') {
        kept.push_str(before);
        // As the pattern `\[.*?\]`, whose dot does not match a line break.
        rest = match after.split_once(']') {
            Some((mark, after)) if !mark.contains('\n') => after,
            _ => {
                kept.push('[');
                after
            }
        };
    }
    kept.push_str(rest);
    kept.replace("  ", " ")
}

/// The items of the text form.
fn text_items(file: &DataFile) -> Result<Vec<Record>, DataError> {
    let lines = reader::lines(file)?;
    let item = |lines: &[(usize, &str)]| {
        let at = |line: usize| Record {
            path: file.path.clone(),
            line: Some(line),
            item: None,
            fields: Map::new(),
        };
        let [(line, context), (label_line, label), endings @ ..] = lines else {
            return Err(at(lines.len()).error("the item has no label"));
        };
        if endings.len() != ENDINGS {
            return Err(at(*line).error(format!(
                "the item has {} endings instead of {ENDINGS}",
                endings.len()
            )));
        }
        let label = label
            .trim()
            .parse()
            .map_err(|_| at(*label_line).error(format!("{label:?} is no gold answer")))?;
        let gold = multiple_choice::gold(&at(*label_line), label, 0, ENDINGS)?;
        let endings: Vec<&str> = endings.iter().map(|(_, ending)| *ending).collect();
        Ok(Record {
            fields: fields(&capitalize_second_part(context), &endings, gold),
            ..at(*line)
        })
    };
    lines.chunks(LINES_PER_ITEM).map(item).collect()
}

/// What follows the last sentence end, capitalised, unless the context ends there.
fn capitalize_second_part(context: &str) -> String {
    if context.ends_with(SENTENCE_ENDS) {
        return context.to_owned();
    }
    let end = SENTENCE_ENDS
        .iter()
        .filter_map(|end| context.rfind(&format!("{end} ")))
        .max();
    match end.and_then(|end| context.split_at_checked(end + 2)) {
        Some((first, second)) => format!("{first}{}", text::capitalize(second)),
        None => context.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::multiple_choice::tests::{file, questions};

    #[test]
    fn preprocesses_as_lm_eval_does() {
        for (raw, wanted) in [
            (
                " [header] How to nap [title] Lie down. [step] Sleep.",
                " How to nap. Lie down. Sleep.",
            ),
            ("[step] one   two", " one  two"),
            ("open [ bracket\n ] kept", "open [ bracket\n ] kept"),
            ("a [b [c] d] e [", "a d] e ["),
            ("[x\n[y] z", "[x\n z"),
        ] {
            assert_eq!(preprocess(raw), wanted, "{raw:?}");
        }
    }

    #[test]
    fn both_forms_give_the_same_prompt() {
        let lines = br#"{"ind": 24, "activity_label": "Tea", "ctx_a": "A cup is shown.", "ctx_b": "the Man", "ctx": "A cup is shown. the Man", "endings": ["drinks.", "flies.", "sings.", "sleeps."], "label": 1}"#;
        let text = b"Tea: A cup is shown. the Man\n1\ndrinks.\nflies.\nsings.\nsleeps.\n";
        let task = tasks().remove(0);
        for (name, bytes) in [
            ("hellaswag_val.jsonl", lines.as_slice()),
            ("hellaswag_val_full.txt", text),
        ] {
            let documents = documents(&file(name, bytes)).unwrap();
            assert_eq!(
                questions(&*task, &documents[0]),
                ["Tea: A cup is shown. The man"; 2]
            );
            assert_eq!(
                task.example(&documents[0], Protocol::Paper),
                "Tea: A cup is shown. The man flies.\n\n"
            );
        }
    }

    #[test]
    fn a_cut_text_form_is_an_error_with_its_line() {
        let error = documents(&file("val.txt", b"Tea: A cup.\n7\na\nb\nc\nd\n")).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("val.txt:2: the gold answer 7 is none of the 4"),
            "{error}"
        );
        let error = documents(&file("val.txt", b"Tea: A cup.\n1\na\nb\nc\n")).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("val.txt:1: the item has 3 endings"),
            "{error}"
        );
    }
}
