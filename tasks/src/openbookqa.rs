//! OpenBookQA: elementary science, without the book of facts. Evaluated on the test split.
//!
//! Paper: LLaMA section 3 scores P(completion | context) / P(completion | "Answer:"); the prompt is not printed, so it
//! is GPT-3's figure G.8: the bare question stem, which lm-eval shares.
//! lm-eval: `openbookqa/openbookqa.yaml`.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    choice,
    dataset::{DataDir, DataError, DataFile},
    multiple_choice::{self, MultipleChoice},
    reader::{self, Header, Record},
    task::{Card, Document, Protocol, Task},
};

const PROMPT: &str = "{question_stem}";

/// The authors' archive holds both forms.
const TEST: &[&str] = &["openbookqa/test.jsonl", "openbookqa/test.tsv"];
const TRAIN: &[&str] = &["openbookqa/train.jsonl", "openbookqa/train.tsv"];
const COLUMNS: &[&str] = &["ID", "Question Stem", "Choices", "Answer Key"];
const MARKS: [(&str, &str); 4] = [
    ("A", "(A) "),
    ("B", " (B) "),
    ("C", " (C) "),
    ("D", " (D) "),
];

struct OpenBookQa {
    card: Card,
}

pub(crate) fn tasks() -> Vec<Arc<dyn Task>> {
    let card = Card {
        name: "openbookqa".to_owned(),
        title: "OBQA",
        version: 1,
        published: Some(("table3_common_sense", "OBQA")),
        group: None,
        split: "test",
        documents: 500,
        shots: 0,
        metrics: choice::METRICS.into(),
        headline: ("acc_answer_context".into(), "acc_norm".into()),
        licence: "not stated",
        citation: "Mihaylov et al. 2018, Can a Suit of Armor Conduct Electricity? (OpenBookQA), EMNLP",
    };
    vec![Arc::new(OpenBookQa { card })]
}

impl MultipleChoice for OpenBookQa {
    fn card(&self) -> &Card {
        &self.card
    }

    fn documents(&self, data: &DataDir, _: Protocol) -> Result<Vec<Document>, DataError> {
        documents(&data.read_first(TEST)?)
    }

    fn examples(&self, data: &DataDir, _: Protocol) -> Result<Vec<Document>, DataError> {
        documents(&multiple_choice::read_pool(data, TRAIN)?)
    }

    fn question(&self, document: &Document, _: Protocol) -> String {
        document.fill(PROMPT)
    }

    fn choices(&self, document: &Document) -> Vec<String> {
        multiple_choice::labelled_choices(document)
    }

    fn gold(&self, document: &Document) -> usize {
        multiple_choice::labelled_gold(document)
    }
}

fn documents(file: &DataFile) -> Result<Vec<Document>, DataError> {
    let table = file.name.ends_with(".tsv");
    let records = if table {
        reader::tsv_rows(file, Header::First(COLUMNS))?
    } else {
        reader::json_lines(file)?
    };
    multiple_choice::documents(&records, |_, record| {
        let (id, stem, answer, choices) = if table {
            let answer = record.text("Answer Key")?.trim();
            (
                record.text("ID")?,
                record.text("Question Stem")?.to_owned(),
                answer,
                table_choices(record, answer)?,
            )
        } else {
            let answer = record.text("answerKey")?.trim();
            let stem = record.object("question")?.text("stem")?.to_owned();
            (
                record.text("id")?,
                stem,
                answer,
                multiple_choice::labelled(record, answer)?,
            )
        };
        let fields = multiple_choice::fields([
            ("id", json!(id)),
            ("question_stem", json!(stem)),
            ("choices", choices),
            ("answerKey", json!(answer)),
        ]);
        Ok((id.to_owned(), fields))
    })
}

/// `(A) one (B) two (C) three (D) four`.
fn table_choices(record: &Record, answer: &str) -> Result<Value, DataError> {
    let malformed = || record.error("the choices are not of the form (A) .. (B) .. (C) .. (D) ..");
    let text = record.text("Choices")?;
    let mut starts = Vec::new();
    let mut from = 0;
    for (_, mark) in MARKS {
        let rest = text.get(from..).ok_or_else(malformed)?;
        let start = from + rest.find(mark).ok_or_else(malformed)?;
        from = start + mark.len();
        starts.push((start, from));
    }
    let ends = starts
        .iter()
        .skip(1)
        .map(|&(start, _)| start)
        .chain([text.len()]);
    let texts = starts
        .iter()
        .zip(ends)
        .map(|(&(_, from), to)| text.get(from..to));
    let texts = texts.collect::<Option<Vec<_>>>().ok_or_else(malformed)?;
    let labels = MARKS.map(|(label, _)| label);
    if !labels.contains(&answer) {
        return Err(record.error(format!(
            "the gold answer {answer:?} is none of the choices {labels:?}"
        )));
    }
    Ok(json!({ "text": texts, "label": labels }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::multiple_choice::tests::{file, questions};

    #[test]
    fn both_forms_give_the_same_document() {
        let lines = br#"{"id": "7-1", "question": {"stem": "Ice is", "choices": [{"text": "cold", "label": "A"}, {"text": "hot (B)", "label": "B"}, {"text": "dry", "label": "C"}, {"text": "far", "label": "D"}]}, "answerKey": "A"}"#;
        let table = b"ID\tQuestion Stem\tChoices\tComplete Question\tAnswer Key\n7-1\tIce is\t(A) cold (B) hot (B) (C) dry (D) far\t-\tA\n";
        let lines = documents(&file("openbookqa/test.jsonl", lines)).unwrap();
        let table = documents(&file("openbookqa/test.tsv", table)).unwrap();
        assert_eq!(lines, table);
        let task = tasks().remove(0);
        assert_eq!(questions(&*task, &lines[0]), ["Ice is"; 2]);
        assert_eq!(task.example(&lines[0], Protocol::Paper), "Ice is cold\n\n");
    }
}
