//! Promise: under lm-eval's protocol, HumanEval and MBPP ask for what lm-eval asks for and run the same programs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use llama_eval_model::{Request, Sampling};
use llama_eval_tasks::{
    Check, DataDir, GenerationOptions, Protocol, Selection, TaskPlan, plan, suites,
};
use serde_json::Value;

/// lm-eval's lines on a task, and our plan of the same documents with as many new tokens.
fn gold(name: &str) -> Option<(Vec<Value>, TaskPlan)> {
    let lines = common::json_lines(&common::shared(&format!("gold/set-a/{name}.jsonl"))?);
    let data = DataDir::open(&common::shared("data")?).unwrap();
    let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let options = GenerationOptions {
        max_new_tokens: Some(number(&lines[0]["gen_kwargs"]["max_gen_toks"])),
        ..GenerationOptions::default()
    };
    let task = suites::resolve(&[name.to_owned()], &options).unwrap();
    let selection = Selection {
        documents: Some(lines.iter().map(|line| number(&line["doc_id"])).collect()),
        ..Selection::default()
    };
    let plan = plan(&task[0], &data, Protocol::LmEval, &selection).unwrap();
    assert_eq!((plan.items.len(), lines.len()), (12, 12));
    Some((lines, plan))
}

#[test]
fn prompts_settings_and_programs() {
    for (name, id_prefix, filter) in [
        ("humaneval", "", Some("create_test")),
        ("mbpp", "mbpp-", None),
    ] {
        let Some((lines, plan)) = gold(name) else {
            return;
        };
        for (line, item) in lines.iter().zip(&plan.items) {
            let document = &item.document;
            let place = format!("{name}, document {}", document.index);
            let [
                Request::Generate {
                    generation,
                    sample: 0,
                },
            ] = item.requests.as_slice()
            else {
                panic!("{place}: {:?}", item.requests)
            };
            assert_eq!(
                generation.prompt.text(),
                line["context"].as_str().unwrap(),
                "{place}"
            );
            assert_eq!(generation.sampling, Sampling::Greedy);
            let settings = serde_json::json!({
                "until": generation.stop,
                "max_gen_toks": generation.max_new_tokens,
                "do_sample": false,
            });
            assert_eq!(settings, line["gen_kwargs"], "{place}");
            assert_eq!(
                format!("{id_prefix}{}", document.id),
                line["doc_key"],
                "{place}"
            );

            let target = plan.task.target(document);
            assert_eq!(target, line["target"].as_str().unwrap(), "{place}");
            let completion = line["completion"].as_str().unwrap();
            // What lm-eval's filter makes of it is what lm-eval puts before the target.
            let tried = match filter {
                Some(filter) => {
                    let theirs = line["filtered"][filter][0].as_str().unwrap();
                    let ours = plan.task.filtered(document, completion, Protocol::LmEval);
                    assert_eq!(ours, [(filter, theirs.to_owned())], "{place}");
                    theirs
                }
                None => completion,
            };
            assert_eq!(
                plan.task.checks(document, completion, Protocol::LmEval),
                [Check::Program {
                    source: format!("{tried}\n{target}")
                }],
                "{place}"
            );
        }
    }
}

/// HumanEval's programs are the same under both protocols; MBPP's are where there is nothing to set up, which is in
/// all of its tasks but one.
#[test]
fn programs_of_the_two_protocols() {
    let Some(root) = common::shared("data") else {
        return;
    };
    let data = DataDir::open(&root).unwrap();
    for (name, expected) in [("humaneval", vec![]), ("mbpp", vec!["367"])] {
        let task = &suites::resolve(&[name.to_owned()], &Default::default()).unwrap()[0];
        let differing: Vec<String> = task
            .documents(&data, Protocol::Paper)
            .unwrap()
            .into_iter()
            .filter(|document| {
                let source = |protocol| task.checks(document, "pass", protocol);
                source(Protocol::Paper) != source(Protocol::LmEval)
            })
            .map(|document| document.id)
            .collect();
        assert_eq!(differing, expected, "{name}");
    }
}

/// The code of the paper's few-shot examples has line feeds alone; nothing else differs.
#[test]
fn the_papers_examples_have_no_carriage_returns() {
    let Some(root) = common::shared("data") else {
        return;
    };
    let data = DataDir::open(&root).unwrap();
    let task = &suites::resolve(&["mbpp".to_owned()], &Default::default()).unwrap()[0];
    let preamble = |protocol| {
        let plan = plan(task, &data, protocol, &Selection::default()).unwrap();
        let Request::Generate { generation, .. } = &plan.items[0].requests[0] else {
            panic!()
        };
        generation.prompt.preamble.examples.concat()
    };
    let (paper, lm_eval) = (preamble(Protocol::Paper), preamble(Protocol::LmEval));
    assert!(lm_eval.contains('\r'));
    assert_eq!(paper, lm_eval.replace('\r', ""));
}
