//! SIQA: what people feel, want or do next. Evaluated on the validation split ("dev").
//!
//! Paper: LLaMA section 3, per character. No prompt is known: the paper prints none and GPT-3 was not evaluated on
//! SIQA. lm-eval's is used under both protocols; expect a few points of difference from that alone.
//! lm-eval: `siqa/siqa.yaml` (`social_iqa`).

use std::sync::Arc;

use serde_json::json;

use crate::{
    choice,
    dataset::{DataDir, DataError, DataFile},
    multiple_choice::{self, MultipleChoice},
    reader,
    task::{Card, Document, Protocol, Sampler, Task},
};

const PROMPT: &str = "Q: {context} {question}\nA:";
const CHOICES: [&str; 3] = ["answerA", "answerB", "answerC"];

const VALIDATION: (&str, &str) = ("siqa/dev.jsonl", "siqa/dev-labels.lst");
const TRAIN: (&str, &str) = ("siqa/train.jsonl", "siqa/train-labels.lst");

struct Siqa {
    card: Card,
}

pub(crate) fn tasks() -> Vec<Arc<dyn Task>> {
    let card = Card {
        name: "social_iqa".to_owned(),
        title: "SIQA",
        version: 1,
        published: Some(("table3_common_sense", "SIQA")),
        group: None,
        split: "validation",
        documents: 1954,
        shots: 0,
        metrics: choice::METRICS.into(),
        headline: ("acc_norm".into(), "acc".into()),
        licence: "not stated",
        citation: "Sap et al. 2019, SocialIQA: Commonsense Reasoning about Social Interactions, EMNLP",
    };
    vec![Arc::new(Siqa { card })]
}

impl MultipleChoice for Siqa {
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

    fn question(&self, document: &Document, _: Protocol) -> String {
        document.fill(PROMPT)
    }

    fn choices(&self, document: &Document) -> Vec<String> {
        CHOICES.map(|name| document.text(name).to_owned()).into()
    }

    /// The label counts from 1, and is text, as in the data.
    fn gold(&self, document: &Document) -> usize {
        document
            .text("label")
            .parse::<usize>()
            .map_or(0, |label| label.saturating_sub(1))
    }
}

fn documents(file: &DataFile, labels: &DataFile) -> Result<Vec<Document>, DataError> {
    let records = reader::json_lines(file)?;
    let labels = multiple_choice::labels(labels, records.len(), 1, CHOICES.len())?;
    multiple_choice::documents(&records, |index, record| {
        let mut fields = multiple_choice::fields([
            ("context", json!(record.text("context")?)),
            ("question", json!(record.text("question")?)),
        ]);
        for name in CHOICES {
            fields.insert(name.to_owned(), json!(record.text(name)?));
        }
        let label = labels.get(index).map(|gold| (gold + 1).to_string());
        fields.insert("label".to_owned(), json!(label));
        Ok((format!("{}:{}", file.name, index + 1), fields))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::multiple_choice::tests::{file, questions};

    #[test]
    fn labels_count_from_one_and_the_prompt_is_one_under_both_protocols() {
        let lines = br#"{"context": "Kim left.", "question": "Why?", "answerA": "a", "answerB": "b", "answerC": "c"}"#;
        let documents =
            documents(&file("dev.jsonl", lines), &file("dev-labels.lst", b"3\n")).unwrap();
        let task = tasks().remove(0);
        assert_eq!(
            questions(&*task, &documents[0]),
            ["Q: Kim left. Why?\nA:"; 2]
        );
        assert_eq!(task.target(&documents[0]), "2");
        assert_eq!(
            task.example(&documents[0], Protocol::LmEval),
            "Q: Kim left. Why?\nA: c\n\n"
        );
    }
}
