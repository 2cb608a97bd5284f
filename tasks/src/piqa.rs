//! PIQA: which of two solutions reaches an everyday goal. Evaluated on the validation split.
//!
//! Paper: LLaMA section 3, per character; the prompt is not printed, so it is GPT-3's figure G.4: the bare goal.
//! lm-eval: `piqa/piqa.yaml`.

use std::sync::Arc;

use serde_json::json;

use crate::{
    choice,
    dataset::{DataDir, DataError, DataFile},
    multiple_choice::{self, MultipleChoice},
    reader,
    task::{Card, Document, Protocol, Sampler, Task},
};

const PAPER_PROMPT: &str = "{goal}";
const LM_EVAL_PROMPT: &str = "Question: {goal}\nAnswer:";

const VALIDATION: (&str, &str) = ("piqa/valid.jsonl", "piqa/valid-labels.lst");
const TRAIN: (&str, &str) = ("piqa/train.jsonl", "piqa/train-labels.lst");

struct Piqa {
    card: Card,
}

pub(crate) fn tasks() -> Vec<Arc<dyn Task>> {
    let card = Card {
        name: "piqa".to_owned(),
        title: "PIQA",
        version: 1,
        published: Some(("table3_common_sense", "PIQA")),
        group: None,
        split: "validation",
        documents: 1838,
        shots: 0,
        metrics: choice::METRICS.into(),
        headline: ("acc_norm".into(), "acc_norm".into()),
        licence: "AFL-3.0",
        citation: "Bisk et al. 2020, PIQA: Reasoning about Physical Commonsense in Natural Language, AAAI",
    };
    vec![Arc::new(Piqa { card })]
}

impl MultipleChoice for Piqa {
    fn card(&self) -> &Card {
        &self.card
    }

    fn documents(&self, data: &DataDir, _: Protocol) -> Result<Vec<Document>, DataError> {
        documents(&data.read(VALIDATION.0)?, &data.read(VALIDATION.1)?)
    }

    fn examples(&self, data: &DataDir, _: Protocol) -> Result<Vec<Document>, DataError> {
        documents(
            &multiple_choice::read_pool(data, &[TRAIN.0])?,
            &multiple_choice::read_pool(data, &[TRAIN.1])?,
        )
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

    fn choices(&self, document: &Document) -> Vec<String> {
        ["sol1", "sol2"]
            .map(|name| document.text(name).to_owned())
            .into()
    }

    fn gold(&self, document: &Document) -> usize {
        document.number("label")
    }
}

fn documents(file: &DataFile, labels: &DataFile) -> Result<Vec<Document>, DataError> {
    let records = reader::json_lines(file)?;
    let labels = multiple_choice::labels(labels, records.len(), 0, 2)?;
    multiple_choice::documents(&records, |index, record| {
        let fields = multiple_choice::fields([
            ("goal", json!(record.text("goal")?)),
            ("sol1", json!(record.text("sol1")?)),
            ("sol2", json!(record.text("sol2")?)),
            ("label", json!(labels.get(index))),
        ]);
        Ok((format!("{}:{}", file.name, index + 1), fields))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::multiple_choice::tests::{file, questions};

    const LINES: &[u8] = br#"{"goal": "To cool tea,", "sol1": "wait.", "sol2": "boil it."}"#;

    #[test]
    fn the_paper_asks_the_bare_goal() {
        let documents = documents(
            &file("valid.jsonl", LINES),
            &file("valid-labels.lst", b"0\n"),
        )
        .unwrap();
        let task = tasks().remove(0);
        assert_eq!(
            questions(&*task, &documents[0]),
            ["To cool tea,", "Question: To cool tea,\nAnswer:"]
        );
        assert_eq!(
            task.example(&documents[0], Protocol::Paper),
            "To cool tea, wait.\n\n"
        );
    }

    #[test]
    fn labels_must_be_there_and_valid() {
        for (labels, wanted) in [
            (
                b"2\n".as_slice(),
                "labels.lst:1: the gold answer \"2\" is none of the 2 choices",
            ),
            (b"0\n1\n", "labels.lst: 2 labels for 1 documents"),
        ] {
            let error =
                documents(&file("valid.jsonl", LINES), &file("labels.lst", labels)).unwrap_err();
            assert!(error.to_string().starts_with(wanted), "{error}");
        }
    }
}
