//! ARC-easy and ARC-challenge: science questions of school exams. Evaluated on the test splits, whose sizes the
//! paper's decimals fit; items with three or five choices are kept.
//!
//! Paper: LLaMA section 3, per character by its text (GPT-3 used P(choice | prompt) / P(choice | "Answer:") here, and
//! all rules are reported); the prompt is not printed, so it is GPT-3's figures G.11 and G.16, which lm-eval shares.
//! lm-eval: `arc/arc_easy.yaml`, `arc/arc_challenge.yaml`.

use std::sync::Arc;

use serde_json::json;

use crate::{
    choice,
    dataset::{DataDir, DataError, DataFile},
    multiple_choice::{self, MultipleChoice},
    reader,
    task::{Card, Document, Protocol, Task},
};

const PROMPT: &str = "Question: {question}\nAnswer:";

struct Ai2Arc {
    card: Card,
    test: &'static str,
    train: &'static str,
}

pub(crate) fn tasks() -> Vec<Arc<dyn Task>> {
    let easy = Card {
        name: "arc_easy".to_owned(),
        title: "ARC-e",
        version: 1,
        published: Some(("table3_common_sense", "ARC-e")),
        group: None,
        split: "test",
        documents: 2376,
        shots: 0,
        metrics: choice::METRICS.into(),
        headline: ("acc_norm".into(), "acc_norm".into()),
        licence: "CC BY-SA 4.0",
        citation: "Clark et al. 2018, Think you have Solved Question Answering? Try ARC, arXiv 1803.05457",
    };
    let challenge = Card {
        name: "arc_challenge".to_owned(),
        title: "ARC-c",
        published: Some(("table3_common_sense", "ARC-c")),
        documents: 1172,
        ..easy.clone()
    };
    vec![
        Arc::new(Ai2Arc {
            card: easy,
            test: "arc/ARC-Easy-Test.jsonl",
            train: "arc/ARC-Easy-Train.jsonl",
        }),
        Arc::new(Ai2Arc {
            card: challenge,
            test: "arc/ARC-Challenge-Test.jsonl",
            train: "arc/ARC-Challenge-Train.jsonl",
        }),
    ]
}

impl MultipleChoice for Ai2Arc {
    fn card(&self) -> &Card {
        &self.card
    }

    fn documents(&self, data: &DataDir, _: Protocol) -> Result<Vec<Document>, DataError> {
        documents(&data.read(self.test)?)
    }

    fn examples(&self, data: &DataDir, _: Protocol) -> Result<Vec<Document>, DataError> {
        documents(&multiple_choice::read_pool(data, &[self.train])?)
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
    multiple_choice::documents(&reader::json_lines(file)?, |_, record| {
        let answer = record.text("answerKey")?;
        let fields = multiple_choice::fields([
            ("id", json!(record.text("id")?)),
            ("question", json!(record.object("question")?.text("stem")?)),
            ("choices", multiple_choice::labelled(record, answer)?),
            ("answerKey", json!(answer)),
        ]);
        Ok((record.text("id")?.to_owned(), fields))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::multiple_choice::tests::{file, questions};

    const ITEM: &str = r#"{"id": "X_1", "question": {"stem": "What is ice?", "choices": [{"text": "water", "label": "1"},
        {"text": "stone", "label": "2"}, {"text": "air", "label": "3"}]}, "answerKey": "KEY"}"#;

    #[test]
    fn digits_are_labels_too_and_three_choices_are_kept() {
        let item = ITEM.replace('\n', "").replace("KEY", "3");
        let documents = documents(&file("test.jsonl", item.as_bytes())).unwrap();
        let task = tasks().remove(0);
        assert_eq!(
            questions(&*task, &documents[0]),
            ["Question: What is ice?\nAnswer:"; 2]
        );
        assert_eq!(task.target(&documents[0]), "2");
        let requests = task.requests(&documents[0], &Arc::default(), Protocol::Paper);
        assert_eq!(
            requests.len(),
            6,
            "three choices after the prompt, three after `Answer:`"
        );
    }

    #[test]
    fn a_gold_answer_that_is_no_choice_is_an_error() {
        let item = ITEM.replace('\n', "").replace("KEY", "D");
        let error = documents(&file("test.jsonl", item.as_bytes())).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("test.jsonl:1: the gold answer \"D\""),
            "{error}"
        );
    }
}
