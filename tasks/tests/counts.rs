//! Promise: every split has the number of documents its authors state.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use llama_eval_tasks::{DataDir, Protocol, suites};

#[test]
fn documents_per_split() {
    let Some(root) = common::shared("data") else {
        return;
    };
    let data = DataDir::open(&root).unwrap();
    let expected = [
        ("boolq", 3_270),
        ("piqa", 1_838),
        ("social_iqa", 1_954),
        ("hellaswag", 10_042),
        ("winogrande", 1_267),
        ("arc_easy", 2_376),
        ("arc_challenge", 1_172),
        ("openbookqa", 500),
        ("race_middle", 1_436),
        ("race_high", 3_498),
        ("humaneval", 164),
        ("mbpp", 500),
        ("mmlu", 14_042),
        // A subset: see the benchmark's file.
        ("realtoxicityprompts", 5_000),
        ("truthfulqa_mc", 817),
        ("truthfulqa_gen", 817),
        ("crows_pairs", 1_508),
        ("winogender", 720),
    ];
    let mut tasks = 0;
    for (name, documents) in expected {
        let mut sum = 0;
        for task in suites::resolve(&[name.to_owned()], &Default::default()).unwrap() {
            let found = task.documents(&data, Protocol::Paper).unwrap();
            assert_eq!(found.len(), task.card().documents, "{}", task.card().name);
            assert!(
                found
                    .iter()
                    .enumerate()
                    .all(|(index, document)| document.index == index)
            );
            sum += found.len();
            tasks += 1;
        }
        assert_eq!(sum, documents, "{name}");
    }
    assert_eq!(tasks, suites::all(&Default::default()).len());
}

/// lm-eval's `race` asks the last question of each of the 1,045 articles; its other tasks have the same documents.
#[test]
fn documents_under_lm_eval() {
    let Some(root) = common::shared("data") else {
        return;
    };
    let data = DataDir::open(&root).unwrap();
    for task in suites::all(&Default::default()) {
        let expected = match task.card().name.as_str() {
            "race_high" => 1_045,
            "race_middle" => 362,
            _ => task.card().documents,
        };
        assert_eq!(
            task.documents(&data, Protocol::LmEval).unwrap().len(),
            expected,
            "{}",
            task.card().name
        );
    }
}
