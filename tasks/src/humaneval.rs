//! HumanEval: complete a Python function from its signature and docstring. 164 problems, no other split.
//!
//! Paper: LLaMA section 3.4, zero-shot; see `code` for the samples. The prompt is the dataset's, its last line break
//! included. Stop strings are those of Chen et al. 2021 section 2.2; neither paper states the most new tokens: 512 here.
//! lm-eval: `humaneval/humaneval.yaml`, 1024 new tokens.

use std::sync::Arc;

use llama_eval_model::{Answer, Preamble, Prompt, Request};
use serde_json::json;

use crate::{
    code::Samples,
    completions,
    dataset::{DataDir, DataError, DataFile},
    multiple_choice::{self, EXAMPLE_DELIMITER},
    reader,
    task::{Card, Check, Document, GenerationOptions, Outcome, Protocol, Task, Verdict},
};

const STOP: &[&str] = &["\nclass", "\ndef", "\n#", "\nif", "\nprint"];
const TESTS: &str = "{test}\ncheck({entry_point})";
const FIELDS: [&str; 5] = [
    "task_id",
    "prompt",
    "canonical_solution",
    "test",
    "entry_point",
];

const K: usize = 100;
const MAX_NEW_TOKENS: usize = 512;
const LM_EVAL_MAX_NEW_TOKENS: usize = 1024;
const LM_EVAL_METRIC: &str = "pass@1,create_test";
const LM_EVAL_FILTER: &str = "create_test";

const DATA: &str = "humaneval/HumanEval.jsonl.gz";
/// Of the bundled samples.
const UNPACKED: &str = "humaneval/HumanEval.jsonl";

struct HumanEval {
    card: Card,
    samples: Samples,
}

pub(crate) fn tasks(options: &GenerationOptions) -> Vec<Arc<dyn Task>> {
    let lm_eval = (LM_EVAL_METRIC, LM_EVAL_MAX_NEW_TOKENS);
    let samples = Samples::new(options, K, MAX_NEW_TOKENS, lm_eval);
    let card = Card {
        name: "humaneval".to_owned(),
        title: "HumanEval",
        version: 1,
        published: Some(("table8_code", "HumanEval@1")),
        group: None,
        split: "test",
        documents: 164,
        shots: 0,
        metrics: samples.metrics().into(),
        headline: samples.headline(),
        licence: "MIT",
        citation: "Chen et al. 2021, Evaluating Large Language Models Trained on Code, arXiv 2107.03374",
    };
    vec![Arc::new(HumanEval { card, samples })]
}

impl Task for HumanEval {
    fn card(&self) -> &Card {
        &self.card
    }

    fn documents(&self, data: &DataDir, _: Protocol) -> Result<Vec<Document>, DataError> {
        let name = if data.has(UNPACKED) { UNPACKED } else { DATA };
        documents(&reader::unpacked(data.read(name)?)?)
    }

    fn examples(&self, _: &DataDir, _: Protocol) -> Result<Vec<Document>, DataError> {
        let why = "has no split to take few-shot examples from";
        Err(completions::no_examples(&self.card.name, DATA, why))
    }

    fn example(&self, document: &Document, _: Protocol) -> String {
        document.fill("{prompt}{canonical_solution}") + EXAMPLE_DELIMITER
    }

    fn requests(
        &self,
        document: &Document,
        preamble: &Arc<Preamble>,
        protocol: Protocol,
    ) -> Vec<Request> {
        let prompt = Prompt {
            preamble: Arc::clone(preamble),
            question: document.text("prompt").to_owned(),
        };
        self.samples
            .requests(&self.card.name, document, &prompt, STOP, protocol)
    }

    fn target(&self, document: &Document) -> String {
        document.fill(TESTS)
    }

    fn reference(&self, document: &Document) -> Option<String> {
        Some(document.text("canonical_solution").to_owned())
    }

    fn checks(&self, document: &Document, completion: &str, _: Protocol) -> Vec<Check> {
        let source = format!(
            "{}{completion}\n{}",
            document.text("prompt"),
            document.fill(TESTS)
        );
        vec![Check::Program { source }]
    }

    fn filtered(
        &self,
        document: &Document,
        completion: &str,
        protocol: Protocol,
    ) -> Vec<(&'static str, String)> {
        match protocol {
            Protocol::Paper => Vec::new(),
            Protocol::LmEval => vec![(
                LM_EVAL_FILTER,
                document.text("prompt").to_owned() + completion,
            )],
        }
    }

    fn score(
        &self,
        _: &Document,
        answers: &[Answer],
        verdicts: &[Vec<Verdict>],
        protocol: Protocol,
    ) -> Outcome {
        self.samples.score(answers, verdicts, protocol)
    }
}

fn documents(file: &DataFile) -> Result<Vec<Document>, DataError> {
    multiple_choice::documents(&reader::json_lines(file)?, |_, record| {
        let mut fields = multiple_choice::fields([]);
        for name in FIELDS {
            fields.insert(name.to_owned(), json!(record.text(name)?));
        }
        Ok((record.text("task_id")?.to_owned(), fields))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::{completions::tests::generation, multiple_choice::tests::file};

    const LINE: &[u8] = br#"{"task_id": "HumanEval/0", "prompt": "def one():\n    \"\"\" One, {test}. \"\"\"\n", "entry_point": "one", "canonical_solution": "    return 1\n", "test": "def check(candidate):\n    assert candidate() == 1\n"}"#;

    #[test]
    fn the_program_is_prompt_completion_and_tests() {
        let documents = documents(&file("humaneval", LINE)).unwrap();
        let task = tasks(&GenerationOptions::default()).remove(0);
        let checks = task.checks(&documents[0], "    return 1", Protocol::Paper);
        let source = "def one():\n    \"\"\" One, {test}. \"\"\"\n    return 1\ndef check(candidate):\n    assert candidate() == 1\n\ncheck(one)".to_owned();
        assert_eq!(checks, [Check::Program { source }]);
        assert_eq!(documents[0].id, "HumanEval/0");
        assert_eq!(
            task.reference(&documents[0]).as_deref(),
            Some("    return 1\n")
        );
        let requests = task.requests(&documents[0], &Arc::default(), Protocol::Paper);
        assert_eq!(requests.len(), 400);
        for request in &requests {
            assert_eq!(
                generation(request).prompt.text(),
                documents[0].text("prompt")
            );
            assert_eq!(generation(request).max_new_tokens, 512);
        }
    }

    #[test]
    fn a_problem_without_tests_is_an_error_with_its_line() {
        let line = String::from_utf8(LINE.to_vec())
            .unwrap()
            .replace("\"test\"", "\"tests\"");
        let error = documents(&file("humaneval", line.as_bytes())).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("humaneval:1: field `test` is missing\nhint: "),
            "{error}"
        );
    }
}
