//! Promise: under lm-eval's protocol, the prompts, settings, extracted answers and scores of generated text are
//! lm-eval's, to the byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{collections::BTreeMap, sync::Arc};

use llama_eval_model::{Answer, Completion, Finish, Request, Sampling};
use llama_eval_tasks::{
    DataDir, Document, Outcome, Protocol, Selection, Task, TaskPlan, plan, suites,
};
use serde_json::Value;

/// lm-eval's file, our task, few-shot examples.
const FILES: [(&str, &str, usize); 7] = [
    ("nq_open", "nq_open", 0),
    ("nq_open_fs", "nq_open_5shot", 5),
    ("triviaqa", "triviaqa", 0),
    ("triviaqa_fs", "triviaqa_5shot", 5),
    ("gsm8k", "gsm8k", 5),
    ("gsm8k_cot", "gsm8k_cot", 8),
    ("minerva_math_algebra", "minerva_math_algebra", 4),
];

fn task(name: &str) -> Arc<dyn Task> {
    suites::resolve(&[name.to_owned()], &Default::default())
        .unwrap()
        .remove(0)
}

fn answer(text: &str) -> Answer {
    Answer::Completion(Completion {
        text: text.to_owned(),
        token_ids: Vec::new(),
        finish: Finish::StopString,
        margin: 1.0,
        prompt_tokens: 1,
        dropped_examples: 0,
        truncated_tokens: 0,
    })
}

fn filtered(task: &dyn Task, document: &Document, text: &str) -> BTreeMap<String, String> {
    let filtered = task.filtered(document, text, Protocol::LmEval);
    filtered
        .into_iter()
        .map(|(filter, text)| (filter.to_owned(), text))
        .collect()
}

/// Scores by lm-eval's `metric,filter`.
fn scores(task: &dyn Task, document: &Document, text: &str) -> BTreeMap<String, f64> {
    let outcome = task.score(document, &[answer(text)], &[], Protocol::LmEval);
    let Outcome::Scored(values) = outcome else {
        panic!("{outcome:?}")
    };
    let key = |name: &str| {
        if name.contains(',') {
            name.to_owned()
        } else {
            format!("{name},none")
        }
    };
    values
        .into_iter()
        .map(|(name, value)| (key(&name), value))
        .collect()
}

fn planned(name: &str, lines: &[Value], data: &DataDir) -> TaskPlan {
    let index = |line: &Value| usize::try_from(line["doc_id"].as_u64().unwrap()).unwrap();
    let selection = Selection {
        documents: Some(lines.iter().map(index).collect()),
        ..Selection::default()
    };
    plan(&task(name), data, Protocol::LmEval, &selection).unwrap()
}

#[test]
fn contexts_settings_filters_and_scores() {
    let (Some(gold), Some(root)) = (common::shared("gold/set-a"), common::shared("data")) else {
        return;
    };
    let data = DataDir::open(&root).unwrap();
    for (file, name, shots) in FILES {
        let lines = common::json_lines(&gold.join(format!("{file}.jsonl")));
        let plan = planned(name, &lines, &data);
        assert_eq!(
            (plan.items.len(), plan.shots),
            (lines.len(), shots),
            "{file}"
        );
        for (line, item) in lines.iter().zip(&plan.items) {
            let place = format!("{file}, document {}", item.document.index);
            let [
                Request::Generate {
                    generation,
                    sample: 0,
                },
            ] = &item.requests[..]
            else {
                panic!("{place}: {:?}", item.requests)
            };
            assert_eq!(
                generation.prompt.text(),
                line["context"].as_str().unwrap(),
                "{place}"
            );
            let until: Vec<&str> = line["gen_kwargs"]["until"]
                .as_array()
                .unwrap()
                .iter()
                .map(|stop| stop.as_str().unwrap())
                .collect();
            assert_eq!(generation.stop, until, "{place}");
            assert_eq!(line["gen_kwargs"]["do_sample"], false);
            assert_eq!(
                (generation.sampling, generation.max_new_tokens),
                (Sampling::Greedy, 256)
            );
            assert_eq!(
                plan.task.target(&item.document),
                line["target"].as_str().unwrap(),
                "{place}"
            );

            let completion = line["completion"].as_str().unwrap();
            let mut theirs: BTreeMap<String, String> =
                serde_json::from_value(line["filtered"].clone()).unwrap();
            // Without a filter the completion itself is compared.
            if let Some(text) = theirs.remove("none") {
                assert_eq!(text, completion);
            }
            assert_eq!(
                filtered(&*plan.task, &item.document, completion),
                theirs,
                "{place}"
            );
            same_scores(
                &line["metrics"],
                &scores(&*plan.task, &item.document, completion),
                &place,
            );
        }
    }
}

/// All of lm-eval's scores are among ours.
fn same_scores(theirs: &Value, ours: &BTreeMap<String, f64>, place: &str) {
    let theirs = theirs.as_object().unwrap();
    assert!(!theirs.is_empty());
    for (name, value) in theirs {
        assert_eq!(ours.get(name).copied(), value.as_f64(), "{place}: {name}");
    }
}

/// Chosen responses, most of them right in one spelling or another.
#[test]
fn chosen_responses() {
    let (Some(path), Some(root)) = (common::shared("gold/scoring.jsonl"), common::shared("data"))
    else {
        return;
    };
    let data = DataDir::open(&root).unwrap();
    let mut documents: BTreeMap<String, (Arc<dyn Task>, Vec<Document>)> = BTreeMap::new();
    let lines = common::json_lines(&path);
    assert_eq!(lines.len(), 2_096);
    let mut positive = 0;
    for line in &lines {
        let name = line["task"].as_str().unwrap();
        let (task, documents) = documents.entry(name.to_owned()).or_insert_with(|| {
            let task = task(name);
            let documents = task.documents(&data, Protocol::LmEval).unwrap();
            (task, documents)
        });
        let document = &documents[usize::try_from(line["doc_id"].as_u64().unwrap()).unwrap()];
        let (response, filter) = (
            line["response"].as_str().unwrap(),
            line["filter"].as_str().unwrap(),
        );
        let place = format!("{name}, document {}: {response}", document.index);
        match &line["target"] {
            Value::Array(targets) => {
                let targets: Vec<&str> = targets.iter().map(|it| it.as_str().unwrap()).collect();
                assert_eq!(document.texts("answer"), targets, "{place}");
            }
            target => assert_eq!(task.target(document), target.as_str().unwrap(), "{place}"),
        }
        let ours = filtered(&**task, document, response);
        let ours = ours.get(filter).map_or(response, String::as_str);
        assert_eq!(ours, line["filtered"].as_str().unwrap(), "{place}");
        let ours = scores(&**task, document, response);
        for (metric, value) in line["metrics"].as_object().unwrap() {
            let key = format!("{metric},{filter}");
            assert_eq!(ours.get(&key).copied(), value.as_f64(), "{place}: {key}");
            positive += usize::from(value == 1.0);
        }
    }
    assert!(positive > 800, "{positive}");
}
