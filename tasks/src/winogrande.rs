//! WinoGrande (xl): which of two names fills the blank. Evaluated on the validation split ("dev").
//!
//! Partial evaluation under both protocols (GPT-3's figure G.14): each option takes the place of `_`, and the same
//! rest of the sentence is scored after it. The continuations are equal, so no normalisation changes the result.
//! lm-eval: `winogrande/default.yaml`, `winogrande/preprocess_winogrande.py`.

use std::sync::Arc;

use llama_eval_model::{Answer, Preamble, Prompt, Request};
use serde_json::json;

use crate::{
    choice,
    dataset::{DataDir, DataError, DataFile},
    multiple_choice::{self, EXAMPLE_DELIMITER},
    reader,
    task::{Card, Document, Metric, Outcome, Protocol, Sampler, Task, Verdict},
    text,
};

const BLANK: char = '_';
const OPTIONS: [&str; 2] = ["option1", "option2"];
const METRICS: &[Metric] = &[Metric::new(
    "acc",
    "argmax ln p(rest of the sentence | sentence up to and with the option)",
)];

const VALIDATION: &str = "winogrande/dev.jsonl";
const TRAIN: &[&str] = &["winogrande/train_xl.jsonl"];

struct WinoGrande {
    card: Card,
}

pub(crate) fn tasks() -> Vec<Arc<dyn Task>> {
    let card = Card {
        name: "winogrande".to_owned(),
        title: "WinoGrande",
        version: 1,
        published: Some(("table3_common_sense", "WinoGrande")),
        group: None,
        split: "validation",
        documents: 1267,
        shots: 0,
        metrics: METRICS.into(),
        headline: ("acc".into(), "acc".into()),
        licence: "CC BY",
        citation: "Sakaguchi et al. 2020, WinoGrande: An Adversarial Winograd Schema Challenge at Scale, AAAI",
    };
    vec![Arc::new(WinoGrande { card })]
}

impl Task for WinoGrande {
    fn card(&self) -> &Card {
        &self.card
    }

    fn documents(&self, data: &DataDir, _: Protocol) -> Result<Vec<Document>, DataError> {
        documents(&data.read(VALIDATION)?)
    }

    fn examples(&self, data: &DataDir, _: Protocol) -> Result<Vec<Document>, DataError> {
        documents(&multiple_choice::read_pool(data, TRAIN)?)
    }

    fn sampler(&self) -> Sampler {
        Sampler::RandomWithSpare
    }

    fn example(&self, document: &Document, _: Protocol) -> String {
        let (before, rest) = split(document);
        let option = OPTIONS
            .get(gold(document))
            .map(|name| document.text(name))
            .unwrap_or_default();
        format!(
            "{before}{option}{}{rest}{EXAMPLE_DELIMITER}",
            choice::DELIMITER
        )
    }

    fn requests(&self, document: &Document, preamble: &Arc<Preamble>, _: Protocol) -> Vec<Request> {
        let (before, rest) = split(document);
        let request = |name: &str| Request::LogLikelihood {
            prompt: Prompt {
                preamble: Arc::clone(preamble),
                question: format!("{before}{}", document.text(name)),
            },
            continuation: format!("{}{rest}", choice::DELIMITER),
        };
        OPTIONS.map(request).into()
    }

    /// lm-eval's target is the scored rest of the sentence.
    fn target(&self, document: &Document) -> String {
        split(document).1.to_owned()
    }

    fn score(
        &self,
        document: &Document,
        answers: &[Answer],
        _: &[Vec<Verdict>],
        _: Protocol,
    ) -> Outcome {
        match choice::log_likelihoods(answers) {
            Ok(values) if values.len() == OPTIONS.len() => {
                let correct = choice::argmax(values) == Some(gold(document));
                Outcome::Scored(vec![(choice::ACC.name, f64::from(u8::from(correct)))])
            }
            Ok(values) => Outcome::Unscored(format!("{} answers to 2 requests", values.len())),
            Err(reason) => Outcome::Unscored(reason),
        }
    }
}

/// The sentence before the first blank, and the stripped rest after it.
fn split(document: &Document) -> (&str, &str) {
    let (before, after) = document
        .text("sentence")
        .split_once(BLANK)
        .unwrap_or_default();
    (before, text::strip(after))
}

fn gold(document: &Document) -> usize {
    OPTIONS
        .iter()
        .position(|option| option.strip_prefix("option") == Some(document.text("answer")))
        .unwrap_or_default()
}

fn documents(file: &DataFile) -> Result<Vec<Document>, DataError> {
    multiple_choice::documents(&reader::json_lines(file)?, |_, record| {
        let (sentence, answer) = (record.text("sentence")?, record.text("answer")?);
        if !sentence.contains(BLANK) {
            return Err(record.error("the sentence has no blank `_`"));
        }
        if !["1", "2"].contains(&answer) {
            return Err(record.error(format!("the gold answer {answer:?} is neither 1 nor 2")));
        }
        let fields = multiple_choice::fields([
            ("sentence", json!(sentence)),
            ("option1", json!(record.text("option1")?)),
            ("option2", json!(record.text("option2")?)),
            ("answer", json!(answer)),
        ]);
        Ok((record.text("qID")?.to_owned(), fields))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::multiple_choice::tests::{asked, file, log_likelihood};

    #[test]
    fn the_same_rest_is_scored_after_each_option() {
        let line = br#"{"qID": "Q-1", "sentence": "Kim thanked Lee because _ had helped.", "option1": "Kim", "option2": "Lee", "answer": "2"}"#;
        let documents = documents(&file("dev.jsonl", line)).unwrap();
        let task = tasks().remove(0);
        let rest = " had helped.".to_owned();
        let contexts = ["Kim thanked Lee because Kim", "Kim thanked Lee because Lee"];
        let wanted = contexts.map(|context| (context.to_owned(), rest.clone()));
        assert_eq!(asked(&*task, &documents[0], Protocol::Paper), wanted);
        assert_eq!(
            task.example(&documents[0], Protocol::LmEval),
            "Kim thanked Lee because Lee had helped.\n\n"
        );

        let answers = [log_likelihood(&[-2.0]), log_likelihood(&[-1.0])];
        assert_eq!(
            task.score(&documents[0], &answers, &[], Protocol::Paper),
            Outcome::Scored(vec![("acc".into(), 1.0)])
        );
    }
}
