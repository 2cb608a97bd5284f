//! What NaturalQuestions and TriviaQA share: questions answered from memory, with 0, 1, 5 and 64 examples.
//!
//! Paper: appendix A and figure 3. Greedy; the answer ends "at the first line break, final dot or comma" and is
//! right if it equals any gold answer after [`text::normalize_answer`]. Left open are: what a final dot is (here
//! the default: a dot or comma that white space or the end follows, so that "1,000" stays whole; the other
//! reading, any dot or comma, is reported beside it); the examples (drawn by seed, the same order for all four
//! settings, so that more examples contain fewer); how questions are spelled (those of the figure begin with a
//! capital and end in a question mark, so all are given both); which of several gold answers an example shows
//! (the first); the limit of new tokens (64).
//! lm-eval: `nq_open/nq_open.yaml`, `triviaqa/default.yaml`.

use std::{borrow::Cow, sync::Arc};

use llama_eval_model::{Answer, Generation, Preamble, Prompt, Request, Sampling};
use serde_json::json;

use crate::{
    dataset::{DataDir, DataError},
    exact_match::ExactMatch,
    majority, multiple_choice,
    reader::Record,
    task::{
        Card, Document, GenerationOptions, Metric, MetricName, Outcome, Protocol, Sampler, Task,
        Verdict,
    },
    text,
};

const PAPER_DESCRIPTION: &str = "Answer these questions:\n";
const PAPER_PROMPT: &str = "Q: {question}\nA:";
const PAPER_DELIMITER: &str = "\n";
const PAPER_STOP: &[&str] = &["\n"];
const PAPER_NEW_TOKENS: usize = 64;
const LM_EVAL_STOP: &[&str] = &["\n", ".", ","];
/// lm-eval's default where a task names none.
pub(crate) const LM_EVAL_NEW_TOKENS: usize = 256;

/// The paper's settings: examples, ending of the task's name, column of the table.
const SETTINGS: [(usize, &str, &str); 4] = [
    (0, "", "0-shot"),
    (1, "_1shot", "1-shot"),
    (5, "_5shot", "5-shot"),
    (64, "_64shot", "64-shot"),
];

const FINAL_DOT: Metric = Metric::new(
    "exact_match",
    "equals a gold answer, cut at a line break or a dot or comma before white space",
);
const FIRST_DOT: Metric = Metric::new(
    "exact_match_first_dot",
    "equals a gold answer, cut at a line break or any dot or comma",
);
const LM_EVAL: Metric = Metric::new(
    "exact_match,remove_whitespace",
    "equals a gold answer but for case, punctuation and lm-eval's ignored words",
);
pub(crate) const METRICS: &[Metric] = &[FINAL_DOT, FIRST_DOT, LM_EVAL];

/// The headline metrics.
pub(crate) fn headline() -> (MetricName, MetricName) {
    (FINAL_DOT.name, LM_EVAL.name)
}

/// What a benchmark has of its own.
pub(crate) trait ClosedBook: Send + Sync + 'static {
    /// What lm-eval writes before all examples.
    const LM_EVAL_DESCRIPTION: &'static str;
    /// lm-eval's prompt.
    const LM_EVAL_PROMPT: &'static str;
    /// lm-eval's delimiter after an example.
    const LM_EVAL_DELIMITER: &'static str;

    /// Card of the setting without examples.
    fn card() -> Card;

    /// See [`Task::documents`].
    fn documents(data: &DataDir) -> Result<Vec<Document>, DataError>;

    /// See [`Task::examples`].
    fn examples(data: &DataDir) -> Result<Vec<Document>, DataError>;

    /// How lm-eval compares.
    fn exact_match() -> ExactMatch;
}

struct Setting<B> {
    card: Card,
    name: String,
    max_new_tokens: Option<usize>,
    benchmark: std::marker::PhantomData<fn() -> B>,
}

/// The four settings of one benchmark.
pub(crate) fn settings<B: ClosedBook>(options: &GenerationOptions) -> Vec<Arc<dyn Task>> {
    let setting = |(shots, ending, column): (usize, &str, &'static str)| -> Arc<dyn Task> {
        let card = B::card();
        let name = card.name.clone();
        let published = card.published.map(|(table, _)| (table, column));
        Arc::new(Setting::<B> {
            card: Card {
                name: format!("{name}{ending}"),
                shots,
                published,
                ..card
            },
            name,
            max_new_tokens: options.max_new_tokens,
            benchmark: std::marker::PhantomData,
        })
    };
    SETTINGS.into_iter().map(setting).collect()
}

impl<B: ClosedBook> Setting<B> {
    fn question(document: &Document, protocol: Protocol) -> String {
        match protocol {
            Protocol::Paper => {
                let question = spelled_out(document.text("question"));
                text::fill(PAPER_PROMPT, |name| {
                    (name == "question").then_some(question.as_str())
                })
            }
            Protocol::LmEval => document.fill(B::LM_EVAL_PROMPT),
        }
    }
}

impl<B: ClosedBook> Task for Setting<B> {
    fn card(&self) -> &Card {
        &self.card
    }

    fn documents(&self, data: &DataDir, _: Protocol) -> Result<Vec<Document>, DataError> {
        B::documents(data)
    }

    fn examples(&self, data: &DataDir, _: Protocol) -> Result<Vec<Document>, DataError> {
        B::examples(data)
    }

    fn sampler(&self) -> Sampler {
        Sampler::RandomWithSpare
    }

    fn few_shot_name(&self) -> &str {
        &self.name
    }

    fn description(&self, _: &DataDir, protocol: Protocol) -> Result<String, DataError> {
        let description = match protocol {
            Protocol::Paper => PAPER_DESCRIPTION,
            Protocol::LmEval => B::LM_EVAL_DESCRIPTION,
        };
        Ok(description.to_owned())
    }

    fn example(&self, document: &Document, protocol: Protocol) -> String {
        let delimiter = match protocol {
            Protocol::Paper => PAPER_DELIMITER,
            Protocol::LmEval => B::LM_EVAL_DELIMITER,
        };
        let answer = answers(document).into_iter().next().unwrap_or_default();
        let question = Self::question(document, protocol);
        format!("{question} {answer}{delimiter}")
    }

    fn requests(
        &self,
        document: &Document,
        preamble: &Arc<Preamble>,
        protocol: Protocol,
    ) -> Vec<Request> {
        let (stop, max_new_tokens) = match protocol {
            Protocol::Paper => (PAPER_STOP, PAPER_NEW_TOKENS),
            Protocol::LmEval => (LM_EVAL_STOP, LM_EVAL_NEW_TOKENS),
        };
        let generation = Generation {
            prompt: Prompt {
                preamble: Arc::clone(preamble),
                question: Self::question(document, protocol),
            },
            stop: stop.iter().map(|&stop| stop.to_owned()).collect(),
            max_new_tokens: self.max_new_tokens.unwrap_or(max_new_tokens),
            sampling: Sampling::Greedy,
        };
        vec![Request::Generate {
            generation: Arc::new(generation),
            sample: 0,
        }]
    }

    fn target(&self, document: &Document) -> String {
        text::python_list(&answers(document))
    }

    fn filtered(
        &self,
        _: &Document,
        completion: &str,
        protocol: Protocol,
    ) -> Vec<(&'static str, String)> {
        match protocol {
            Protocol::Paper => {
                let line = text::first_line(completion);
                vec![
                    ("final_dot", text::cut_at_final_dot(line).trim().to_owned()),
                    ("first_dot", text::cut_at_first_dot(line).trim().to_owned()),
                ]
            }
            Protocol::LmEval => {
                vec![("remove_whitespace", text::strip(completion).to_owned())]
            }
        }
    }

    fn score(
        &self,
        document: &Document,
        answers: &[Answer],
        _: &[Vec<Verdict>],
        protocol: Protocol,
    ) -> Outcome {
        let completions = match majority::all_completions(answers, 1) {
            Ok(completions) => completions,
            Err(reason) => return Outcome::Unscored(reason),
        };
        let gold = self::answers(document);
        let completion = completions.first().map(|it| it.text.as_str());
        let filtered = self.filtered(document, completion.unwrap_or_default(), protocol);
        let names = match protocol {
            Protocol::Paper => vec![FINAL_DOT.name, FIRST_DOT.name],
            Protocol::LmEval => vec![LM_EVAL.name],
        };
        let scores = names.into_iter().zip(filtered).map(|(name, (_, answer))| {
            let right = match protocol {
                Protocol::Paper => {
                    let answer = text::normalize_answer(&answer);
                    gold.iter()
                        .any(|gold| text::normalize_answer(gold) == answer)
                }
                Protocol::LmEval => B::exact_match().any(&answer, &gold),
            };
            (name, f64::from(u8::from(right)))
        });
        Outcome::Scored(scores.collect())
    }
}

fn answers(document: &Document) -> Vec<String> {
    document.texts("answer")
}

/// With a capital at the beginning and a question mark at the end.
fn spelled_out(question: &str) -> String {
    let question = text::capitalize_first(question.trim());
    if question.ends_with('?') {
        question
    } else {
        question + "?"
    }
}

/// The document of a question and its gold answers, of which there must be one.
pub(crate) fn document(
    record: &Record,
    index: usize,
    question: &str,
    answers: &[String],
) -> Result<Document, DataError> {
    if question.trim().is_empty() {
        return Err(record.error("the question is empty"));
    }
    if answers.is_empty() {
        return Err(record.error("there is no gold answer"));
    }
    Ok(Document {
        index,
        id: record.place(),
        categories: Vec::new(),
        fields: multiple_choice::fields([
            ("question", json!(question)),
            ("answer", json!(answers)),
        ]),
    })
}

/// Rows of DPR's files: question, tab, Python's literal of a list of answers; fields may be quoted.
pub(crate) fn dpr_documents(records: &[Record]) -> Result<Vec<Document>, DataError> {
    let row = |(index, record): (usize, &Record)| {
        let literal = record.text("answers")?;
        let answers = python_texts(literal)
            .ok_or_else(|| record.error("the answers are not a Python list of texts".to_owned()))?;
        document(record, index, &unquoted(record.text("question")?), &answers)
    };
    records.iter().enumerate().map(row).collect()
}

/// Many questions of these files were quoted twice; the second quotes are known by the doubled ones within.
fn unquoted(question: &str) -> Cow<'_, str> {
    let inner = question
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    match inner.filter(|inner| inner.contains("\"\"")) {
        Some(inner) => Cow::Owned(inner.replace("\"\"", "\"")),
        None => Cow::Borrowed(question),
    }
}

/// The texts of a Python list literal such as `['a', "it's"]`; `None` for anything else.
fn python_texts(literal: &str) -> Option<Vec<String>> {
    let mut rest = literal.trim().strip_prefix('[')?.trim_start();
    let mut texts = Vec::new();
    loop {
        if let Some(end) = rest.strip_prefix(']') {
            return end.is_empty().then_some(texts);
        }
        let (text, after) = python_text(rest)?;
        texts.push(text);
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(next) => next.trim_start(),
            None if after.starts_with(']') => after,
            None => return None,
        };
    }
}

/// The first text of a literal, and what follows it.
fn python_text(literal: &str) -> Option<(String, &str)> {
    let mut letters = literal.chars();
    let quote = letters.next().filter(|quote| matches!(quote, '\'' | '"'))?;
    let mut text = String::new();
    loop {
        match letters.next()? {
            letter if letter == quote => return Some((text, letters.as_str())),
            '\\' => text.push(match letters.next()? {
                plain @ ('\\' | '\'' | '"') => plain,
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'x' => hexadecimal(&mut letters, 2)?,
                'u' => hexadecimal(&mut letters, 4)?,
                'U' => hexadecimal(&mut letters, 8)?,
                _ => return None,
            }),
            '\n' => return None,
            letter => text.push(letter),
        }
    }
}

fn hexadecimal(letters: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let (code, rest) = letters.as_str().split_at_checked(digits)?;
    *letters = rest.chars();
    code.bytes()
        .all(|byte| byte.is_ascii_hexdigit())
        .then(|| char::from_u32(u32::from_str_radix(code, 16).ok()?))?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn python_lists_are_read_strictly() {
        let table: [(&str, Option<&[&str]>); 12] = [
            ("['a']", Some(&["a"])),
            (
                r#"['a', "it's", 'it\'s \xe9 \u2019']"#,
                Some(&["a", "it's", "it's \u{e9} \u{2019}"]),
            ),
            ("[]", Some(&[])),
            ("['a',]", Some(&["a"])),
            ("['a' 'b']", None),
            ("['a'] + x", None),
            ("['a'", None),
            ("'a'", None),
            ("[1]", None),
            (r"['\q']", None),
            (r"['\xg1']", None),
            (r"['\ud800']", None),
        ];
        for (literal, expected) in table {
            let expected = expected.map(|texts| texts.iter().map(|&it| it.to_owned()).collect());
            assert_eq!(python_texts(literal), expected, "{literal}");
        }
    }

    proptest! {
        #[test]
        fn what_python_would_write_is_read_back(texts in proptest::collection::vec(".{0,20}", 0..4)) {
            prop_assert_eq!(python_texts(&text::python_list(&texts)), Some(texts));
        }

        #[test]
        fn no_literal_makes_it_panic(literal in "[\\[\\]'\",\\\\xuUn0-9a é]{0,40}") {
            let _ = python_texts(&literal);
        }
    }

    #[test]
    fn questions_are_spelled_as_in_the_figure() {
        assert_eq!(spelled_out("who is it"), "Who is it?");
        assert_eq!(spelled_out(" Is it NATO? "), "Is it NATO?");
        assert_eq!(spelled_out("\u{e9}cole"), "\u{c9}cole?");
    }

    #[test]
    fn second_quotes_are_known_by_doubled_ones_within() {
        assert_eq!(
            unquoted(r#""Who sang ""Hey"" first?""#),
            r#"Who sang "Hey" first?"#
        );
        assert_eq!(unquoted(r#""To be or not.""#), r#""To be or not.""#);
    }
}
