//! BoolQ: yes/no questions about a Wikipedia passage. Evaluated on the validation split (the test labels are hidden).
//!
//! Paper: LLaMA section 3 scores P(completion | context) / P(completion | "Answer:"); the prompt is not printed,
//! so it is the one of GPT-3's figure G.29 (lower case; the passage begins with its title).
//! lm-eval: `super_glue/boolq/default.yaml`. Its data are SuperGLUE's `val.jsonl`, the same rows with
//! `title -- passage` already joined.

use std::sync::Arc;

use serde_json::json;

use crate::{
    choice,
    dataset::{DataDir, DataError, DataFile},
    multiple_choice::{self, MultipleChoice},
    reader,
    task::{Card, Document, Protocol, Sampler, Task},
};

const PAPER_PROMPT: &str = "{passage}\nquestion: {question}?\nanswer:";
const LM_EVAL_PROMPT: &str = "{passage}\nQuestion: {question}?\nAnswer:";
const TITLE_DELIMITER: &str = " -- ";
const CHOICES: [&str; 2] = ["no", "yes"];

const VALIDATION: &[&str] = &["boolq/dev.jsonl", "boolq/val.jsonl"];
const TRAIN: &[&str] = &["boolq/train.jsonl"];

struct BoolQ {
    card: Card,
}

pub(crate) fn tasks() -> Vec<Arc<dyn Task>> {
    let card = Card {
        name: "boolq".to_owned(),
        title: "BoolQ",
        version: 1,
        published: Some(("table3_common_sense", "BoolQ")),
        group: None,
        split: "validation",
        documents: 3270,
        shots: 0,
        metrics: choice::METRICS.into(),
        headline: ("acc_answer_context".into(), "acc".into()),
        licence: "CC BY-SA 3.0",
        citation: "Clark et al. 2019, BoolQ: Exploring the Surprising Difficulty of Natural Yes/No Questions, NAACL",
    };
    vec![Arc::new(BoolQ { card })]
}

impl MultipleChoice for BoolQ {
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

    fn question(&self, document: &Document, protocol: Protocol) -> String {
        document.fill(match protocol {
            Protocol::Paper => PAPER_PROMPT,
            Protocol::LmEval => LM_EVAL_PROMPT,
        })
    }

    fn choices(&self, _: &Document) -> Vec<String> {
        CHOICES.map(str::to_owned).into()
    }

    fn gold(&self, document: &Document) -> usize {
        document.number("label")
    }
}

/// The original form (`title`, `answer`) and SuperGLUE's (`label`, which may be the text "true").
fn documents(file: &DataFile) -> Result<Vec<Document>, DataError> {
    multiple_choice::documents(&reader::json_lines(file)?, |index, record| {
        let passage = record.text("passage")?;
        let (passage, yes) = match record.fields.contains_key("title") {
            true => (
                format!("{}{TITLE_DELIMITER}{passage}", record.text("title")?),
                record.boolean("answer")?,
            ),
            false => (passage.to_owned(), superglue_label(record)?),
        };
        let fields = multiple_choice::fields([
            ("passage", json!(passage)),
            ("question", json!(record.text("question")?)),
            ("idx", json!(index)),
            ("label", json!(usize::from(yes))),
        ]);
        Ok((format!("{}:{}", file.name, index + 1), fields))
    })
}

fn superglue_label(record: &reader::Record) -> Result<bool, DataError> {
    match record.value("label")? {
        label if label == &json!("true") || label == &json!(true) || label == &json!(1) => Ok(true),
        label if label == &json!("false") || label == &json!(false) || label == &json!(0) => {
            Ok(false)
        }
        label => Err(record.error(format!("the gold answer {label} is neither true nor false"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn both_forms_give_one_prompt_in_each_protocol() {
        let original = br#"{"title": "Tea", "passage": "Tea is hot.", "question": "is tea {hot}", "answer": true}"#;
        let superglue = br#"{"passage": "Tea -- Tea is hot.", "question": "is tea {hot}", "idx": 0, "label": "true"}"#;
        for form in [original.as_slice(), superglue] {
            let documents =
                documents(&multiple_choice::tests::file("boolq/dev.jsonl", form)).unwrap();
            let task = tasks().remove(0);
            let [paper, lm_eval] = multiple_choice::tests::questions(&*task, &documents[0]);
            assert_eq!(
                paper,
                "Tea -- Tea is hot.\nquestion: is tea {hot}?\nanswer:"
            );
            assert_eq!(
                lm_eval,
                "Tea -- Tea is hot.\nQuestion: is tea {hot}?\nAnswer:"
            );
            assert_eq!(
                task.example(&documents[0], Protocol::Paper),
                format!("{paper} yes\n\n")
            );
            assert_eq!(task.target(&documents[0]), "1");
        }
    }

    #[test]
    fn no_gold_answer_is_an_error_with_file_and_line() {
        let lines = b"{\"title\": \"T\", \"passage\": \"P\", \"question\": \"q\", \"answer\": false}\n{\"title\": \"T\", \"passage\": \"P\", \"question\": \"q\"}";
        let error = documents(&multiple_choice::tests::file("boolq/dev.jsonl", lines)).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("boolq/dev.jsonl:2: field `answer` is missing\nhint: "),
            "{error}"
        );
    }
}
