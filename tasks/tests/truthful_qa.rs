//! Promise: TruthfulQA's generated answers are asked for with the same preset as its multiple choice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;

use llama_eval_model::Request;
use llama_eval_tasks::{DataDir, Protocol, Selection, plan, suites};

/// lm-eval's multiple-choice prompts are the paper's for generation; its own for generation end before `A:`.
#[test]
fn prompts() {
    let (Some(gold), Some(root)) = (
        common::shared("gold/set-a/truthfulqa_mc1.jsonl"),
        common::shared("data"),
    ) else {
        return;
    };
    let data = DataDir::open(&root).unwrap();
    let task = &suites::resolve(&["truthfulqa_gen".to_owned()], &Default::default()).unwrap()[0];
    let prompts = |protocol| -> BTreeSet<String> {
        let plan = plan(task, &data, protocol, &Selection::default()).unwrap();
        let requests = plan.items.iter().flat_map(|item| &item.requests);
        let text = |request: &Request| match request {
            Request::Generate { generation, .. } => generation.prompt.text(),
            other => panic!("{other:?}"),
        };
        requests.map(text).collect()
    };
    let (paper, lm_eval) = (prompts(Protocol::Paper), prompts(Protocol::LmEval));
    assert_eq!((paper.len(), lm_eval.len()), (817, 817));
    let mut compared = 0;
    for line in common::json_lines(&gold) {
        let context = line["requests"][0]["context"].as_str().unwrap();
        assert!(paper.contains(context), "{context}");
        assert!(
            lm_eval.contains(context.strip_suffix("\nA:").unwrap()),
            "{context}"
        );
        compared += 1;
    }
    assert!(compared >= 12, "{compared}");
}

/// Lin et al. 2022, section 2: 817 questions in 38 categories.
#[test]
fn categories() {
    let Some(root) = common::shared("data") else {
        return;
    };
    let data = DataDir::open(&root).unwrap();
    let task = &suites::resolve(&["truthfulqa_gen".to_owned()], &Default::default()).unwrap()[0];
    let documents = task.documents(&data, Protocol::Paper).unwrap();
    assert!(
        documents
            .iter()
            .all(|document| document.categories.len() == 1)
    );
    let categories: BTreeSet<_> = documents
        .iter()
        .map(|document| &document.categories)
        .collect();
    assert_eq!(categories.len(), 38);
}
