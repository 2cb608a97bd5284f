//! Promise: under lm-eval's protocol, prompts, continuations and scores are lm-eval's, to the byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;

use llama_eval_model::{Answer, Request};
use llama_eval_tasks::{DataDir, Outcome, Protocol, Selection, TaskPlan, choice, plan, suites};
use serde_json::Value;

/// Its documents are not those of a file at hand; only its scores can be compared.
const WITHOUT_DOCUMENTS: &str = "hellaswag_wikihow";

/// The files of log-likelihood requests, by lm-eval's name of the task.
fn gold() -> Option<BTreeMap<String, Vec<Value>>> {
    let folder = common::shared("gold/set-a")?;
    let mut gold = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let lines = || common::json_lines(&path);
        if path
            .extension()
            .is_some_and(|extension| extension == "jsonl")
            && lines()[0]["requests"].is_array()
        {
            gold.insert(
                path.file_stem().unwrap().to_str().unwrap().to_owned(),
                lines(),
            );
        }
    }
    // 12 subjects of MMLU and 14 other files.
    assert_eq!(gold.len(), 26);
    Some(gold)
}

fn planned(name: &str, lines: &[Value], data: &DataDir) -> TaskPlan {
    let tasks = suites::resolve(&[name.to_owned()], &Default::default()).unwrap();
    let documents = lines
        .iter()
        .map(|line| usize::try_from(line["doc_id"].as_u64().unwrap()).unwrap())
        .collect();
    let selection = Selection {
        documents: Some(documents),
        ..Selection::default()
    };
    let plan = plan(&tasks[0], data, Protocol::LmEval, &selection).unwrap();
    assert_eq!(plan.items.len(), lines.len(), "{name}");
    plan
}

/// Where lm-eval's requests begin among ours: MC2's come after MC1's, all others first.
fn offset(name: &str, ours: usize, theirs: usize) -> usize {
    if name == "truthfulqa_mc2" {
        ours - theirs
    } else {
        0
    }
}

fn log_likelihood(request: &Value) -> f32 {
    // lm-eval sums in single precision, so the written number is one exactly.
    request["loglikelihood"].as_f64().unwrap() as f32
}

fn answer(log_prob: f32) -> Answer {
    Answer::LogLikelihood {
        log_probs: vec![log_prob],
        token_ids: vec![0],
        greedy: false,
        margin: 1.0,
        context_tokens: 1,
        dropped_examples: 0,
        truncated_tokens: 0,
    }
}

#[test]
fn contexts_continuations_and_scores() {
    let (Some(gold), Some(root)) = (gold(), common::shared("data")) else {
        return;
    };
    let data = DataDir::open(&root).unwrap();
    let mut compared = 0;
    for (name, lines) in gold.iter().filter(|(name, _)| *name != WITHOUT_DOCUMENTS) {
        let plan = planned(name, lines, &data);
        for (line, item) in lines.iter().zip(&plan.items) {
            let place = format!("{name}, document {}", item.document.index);
            let theirs = line["requests"].as_array().unwrap();
            let offset = offset(name, item.requests.len(), theirs.len());
            // What lm-eval does not ask is not scored by it: any number will do.
            let mut answers = vec![answer(-1.0); item.requests.len()];
            for (index, request) in theirs.iter().enumerate() {
                let Request::LogLikelihood {
                    prompt,
                    continuation,
                } = &item.requests[offset + index]
                else {
                    panic!()
                };
                assert_eq!(
                    prompt.text(),
                    request["context"].as_str().unwrap(),
                    "{place}"
                );
                assert_eq!(
                    continuation,
                    request["continuation"].as_str().unwrap(),
                    "{place}"
                );
                answers[offset + index] = answer(log_likelihood(request));
                compared += 1;
            }
            let outcome = plan
                .task
                .score(&item.document, &answers, &[], Protocol::LmEval);
            same_metrics(name, &line["metrics"], outcome, &place);
            assert_eq!(
                plan.task.target(&item.document),
                line["target"].as_str().unwrap(),
                "{place}"
            );
        }
    }
    assert_eq!(compared, 1_968);
}

/// lm-eval's `acc,none` is our `acc`, except for TruthfulQA, whose two tasks are one here.
fn same_metrics(name: &str, theirs: &Value, outcome: Outcome, place: &str) {
    let Outcome::Scored(ours) = outcome else {
        panic!("{place}: {outcome:?}")
    };
    for (metric, value) in theirs.as_object().unwrap() {
        let metric = match (name, metric.strip_suffix(",none").unwrap()) {
            ("truthfulqa_mc1", "acc") => "mc1",
            ("truthfulqa_mc2", "acc") => "mc2",
            (_, metric) => metric,
        };
        let (_, ours) = ours.iter().find(|(name, _)| *name == metric).unwrap();
        let difference = (ours - value.as_f64().unwrap()).abs();
        // All but MC2 are exact; MC2 is a quotient of sums of exponentials.
        assert!(
            difference <= if metric == "mc2" { 1e-12 } else { 0.0 },
            "{place}: {metric} {ours} {value}"
        );
    }
}

#[test]
fn wikihow_scores() {
    let Some(gold) = gold() else { return };
    for line in &gold[WITHOUT_DOCUMENTS] {
        let requests = line["requests"].as_array().unwrap();
        let choices: Vec<String> = requests
            .iter()
            .map(|request| request["continuation"].as_str().unwrap()[1..].to_owned())
            .collect();
        let mut answers: Vec<Answer> = requests
            .iter()
            .map(|request| answer(log_likelihood(request)))
            .collect();
        answers.extend(vec![answer(-1.0); choices.len()]);
        let gold = usize::try_from(line["gold"].as_u64().unwrap()).unwrap();
        same_metrics(
            "hellaswag",
            &line["metrics"],
            choice::score(&answers, &choices, gold),
            WITHOUT_DOCUMENTS,
        );
    }
}

/// Documents without few-shot examples are asked alike whichever are chosen, and in whatever order they are named.
#[test]
fn selection_does_not_matter() {
    let (Some(gold), Some(root)) = (gold(), common::shared("data")) else {
        return;
    };
    let data = DataDir::open(&root).unwrap();
    for name in ["boolq", "mmlu_virology"] {
        let some = vec![gold[name][3].clone(), gold[name][1].clone()];
        let reversed = planned(name, &some, &data);
        let all = planned(name, &gold[name], &data);
        for (item, expected) in reversed.items.iter().zip([&all.items[1], &all.items[3]]) {
            assert_eq!(item.document, expected.document);
            assert_eq!(item.requests, expected.requests);
        }
    }
}
