//! MBPP: write a Python function from one sentence and three tests. Evaluated on tasks 11 to 510, its test split.
//!
//! Paper: LLaMA section 3.4, "3-shot prompts similar to Austin et al."; see `code` for the samples. The prompt is the
//! one its authors describe, with tasks 2, 3 and 4 as examples and line feeds alone between lines. The paper does not
//! state the most new tokens: 512 here.
//! lm-eval: `mbpp/mbpp.yaml`; the examples' code keeps its CR LF. Its program leaves out `test_setup_code`.

use std::{ops::RangeInclusive, sync::Arc};

use llama_eval_model::{Answer, Preamble, Prompt, Request};
use serde_json::json;

use crate::{
    code::Samples,
    dataset::{DataDir, DataError, DataFile},
    multiple_choice::{self, EXAMPLE_DELIMITER},
    reader::{self, Record},
    task::{Card, Check, Document, GenerationOptions, Outcome, Protocol, Sampler, Task, Verdict},
    text,
};

const PROMPT: &str = "You are an expert Python programmer, and here is your task: {text} Your code should pass these tests:\n\n{tests}\n[BEGIN]\n";
const STOP: &[&str] = &["[DONE]"];
const EXAMPLE_END: &str = "\n[DONE]";

const EXAMPLES: [i64; 3] = [2, 3, 4];
const EVALUATED: RangeInclusive<i64> = 11..=510;
const TESTS: usize = 3;

const K: usize = 80;
const MAX_NEW_TOKENS: usize = 512;
const LM_EVAL_MAX_NEW_TOKENS: usize = 256;
const LM_EVAL_METRIC: &str = "pass_at_1";

const DATA: &str = "mbpp/mbpp.jsonl";

struct Mbpp {
    card: Card,
    samples: Samples,
}

pub(crate) fn tasks(options: &GenerationOptions) -> Vec<Arc<dyn Task>> {
    let lm_eval = (LM_EVAL_METRIC, LM_EVAL_MAX_NEW_TOKENS);
    let samples = Samples::new(options, K, MAX_NEW_TOKENS, lm_eval);
    let card = Card {
        name: "mbpp".to_owned(),
        title: "MBPP",
        version: 1,
        published: Some(("table8_code", "MBPP@1")),
        group: None,
        split: "test",
        documents: 500,
        shots: EXAMPLES.len(),
        metrics: samples.metrics().into(),
        headline: samples.headline(),
        licence: "CC BY 4.0",
        citation: "Austin et al. 2021, Program Synthesis with Large Language Models, arXiv 2108.07732",
    };
    vec![Arc::new(Mbpp { card, samples })]
}

impl Task for Mbpp {
    fn card(&self) -> &Card {
        &self.card
    }

    fn documents(&self, data: &DataDir, _: Protocol) -> Result<Vec<Document>, DataError> {
        evaluated(&data.read(DATA)?)
    }

    fn examples(&self, data: &DataDir, _: Protocol) -> Result<Vec<Document>, DataError> {
        examples(&data.read(DATA)?)
    }

    fn sampler(&self) -> Sampler {
        Sampler::FirstN
    }

    fn example(&self, document: &Document, protocol: Protocol) -> String {
        let code = with_line_ends(document.text("code"), protocol);
        format!(
            "{}{code}{EXAMPLE_END}{EXAMPLE_DELIMITER}",
            question(document)
        )
    }

    fn requests(
        &self,
        document: &Document,
        preamble: &Arc<Preamble>,
        protocol: Protocol,
    ) -> Vec<Request> {
        let prompt = Prompt {
            preamble: Arc::clone(preamble),
            question: question(document),
        };
        self.samples
            .requests(&self.card.name, document, &prompt, STOP, protocol)
    }

    fn target(&self, document: &Document) -> String {
        tests(document)
    }

    fn reference(&self, document: &Document) -> Option<String> {
        Some(document.text("code").to_owned())
    }

    fn checks(&self, document: &Document, completion: &str, protocol: Protocol) -> Vec<Check> {
        let setup = document.text("test_setup_code");
        let source = match protocol {
            // After the completion: the only setup of the split makes objects of a class that the completion defines.
            Protocol::Paper if !setup.is_empty() => {
                let setup = with_line_ends(setup, protocol);
                format!("{completion}\n{setup}\n{}", tests(document))
            }
            _ => format!("{completion}\n{}", tests(document)),
        };
        vec![Check::Program { source }]
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

fn question(document: &Document) -> String {
    let tests = tests(document);
    text::fill(PROMPT, |name| match name {
        "text" => Some(document.text("text")),
        _ => Some(&tests),
    })
}

fn tests(document: &Document) -> String {
    document.texts("test_list").join("\n")
}

fn with_line_ends(code: &str, protocol: Protocol) -> String {
    match protocol {
        Protocol::Paper => code.replace('\r', ""),
        Protocol::LmEval => code.to_owned(),
    }
}

fn evaluated(file: &DataFile) -> Result<Vec<Document>, DataError> {
    let mut records = Vec::new();
    for record in reader::json_lines(file)? {
        if EVALUATED.contains(&record.integer("task_id")?) {
            records.push(record);
        }
    }
    if records.is_empty() {
        let (first, last) = (EVALUATED.start(), EVALUATED.end());
        return Err(fault(
            file,
            &format!("there is none of the tasks {first} to {last}"),
        ));
    }
    documents(&records)
}

fn examples(file: &DataFile) -> Result<Vec<Document>, DataError> {
    let records = reader::json_lines(file)?;
    let with_id = |id: i64| {
        let mut records = records.iter();
        let found = records.find(|record| record.integer("task_id").is_ok_and(|found| found == id));
        let missing = || fault(file, &format!("task {id}, a few-shot example, is missing"));
        found.cloned().ok_or_else(missing)
    };
    documents(
        &EXAMPLES
            .into_iter()
            .map(with_id)
            .collect::<Result<Vec<_>, _>>()?,
    )
}

fn documents(records: &[Record]) -> Result<Vec<Document>, DataError> {
    multiple_choice::documents(records, |_, record| {
        let tests = record.texts("test_list")?;
        if tests.len() != TESTS {
            return Err(record.error(format!("{} tests instead of {TESTS}", tests.len())));
        }
        let fields = multiple_choice::fields([
            ("task_id", json!(record.integer("task_id")?)),
            ("text", json!(record.text("text")?)),
            ("code", json!(record.text("code")?)),
            ("test_list", json!(tests)),
            ("test_setup_code", json!(record.text("test_setup_code")?)),
        ]);
        Ok((record.integer("task_id")?.to_string(), fields))
    })
}

fn fault(file: &DataFile, problem: &str) -> DataError {
    DataError {
        path: file.path.clone(),
        line: None,
        problem: problem.to_owned(),
        hint: "this must be the whole `mbpp.jsonl`, not the sanitized set".to_owned(),
    }
}

#[cfg(test)]
mod unit_tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::multiple_choice::tests::file;

    fn line(id: i64, setup: &str) -> String {
        format!(
            r#"{{"text": "Do {{tests}} {id}.", "code": "def f():\r\n  pass", "task_id": {id}, "test_setup_code": "{setup}", "test_list": ["assert 1", "assert 2", "assert 3"], "challenge_test_list": []}}"#
        )
    }

    fn lines(ids: &[i64]) -> DataFile {
        let lines: Vec<String> = ids.iter().map(|&id| line(id, "")).collect();
        file("mbpp.jsonl", lines.join("\n").as_bytes())
    }

    fn source(task: &dyn Task, document: &Document, protocol: Protocol) -> String {
        match task.checks(document, "def g(): pass\n", protocol).remove(0) {
            Check::Program { source } => source,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn examples_and_evaluated_tasks_are_known_by_their_ids() {
        let file = lines(&[510, 4, 1, 3, 11, 2, 10, 511]);
        let ids = |documents: Vec<Document>| -> Vec<String> {
            documents.into_iter().map(|document| document.id).collect()
        };
        assert_eq!(ids(evaluated(&file).unwrap()), ["510", "11"]);
        assert_eq!(ids(examples(&file).unwrap()), ["2", "3", "4"]);
        let error = examples(&lines(&[2, 4, 11])).unwrap_err().to_string();
        assert!(
            error.starts_with("mbpp.jsonl: task 3, a few-shot example, is missing\nhint: "),
            "{error}"
        );
        assert!(evaluated(&lines(&[2, 3, 4])).is_err());
    }

    #[test]
    fn prompts_examples_and_programs() {
        let setup = format!("{}\n{}", line(11, ""), line(12, r"a = 1\r\nb = 2"));
        let documents = evaluated(&file("mbpp.jsonl", setup.as_bytes())).unwrap();
        let task = tasks_of();
        assert_eq!(
            task.example(&documents[0], Protocol::Paper),
            "You are an expert Python programmer, and here is your task: Do {tests} 11. Your code should pass these tests:\n\nassert 1\nassert 2\nassert 3\n[BEGIN]\ndef f():\n  pass\n[DONE]\n\n"
        );
        assert!(
            task.example(&documents[0], Protocol::LmEval)
                .ends_with("[BEGIN]\ndef f():\r\n  pass\n[DONE]\n\n")
        );
        let tests = "def g(): pass\n\nassert 1\nassert 2\nassert 3";
        for protocol in [Protocol::Paper, Protocol::LmEval] {
            assert_eq!(source(&*task, &documents[0], protocol), tests);
        }
        assert_eq!(
            source(&*task, &documents[1], Protocol::Paper),
            "def g(): pass\n\na = 1\nb = 2\nassert 1\nassert 2\nassert 3"
        );
        assert_eq!(source(&*task, &documents[1], Protocol::LmEval), tests);
    }

    fn tasks_of() -> Arc<dyn Task> {
        super::tasks(&GenerationOptions::default()).remove(0)
    }

    #[test]
    fn another_number_of_tests_is_an_error_with_its_line() {
        let line = line(11, "").replace(", \"assert 3\"", "");
        let error = evaluated(&file("mbpp.jsonl", line.as_bytes())).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("mbpp.jsonl:1: 2 tests instead of 3\nhint: "),
            "{error}"
        );
    }
}
