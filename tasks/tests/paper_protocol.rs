//! Promise: cards and categories are the paper's: its tables, its columns and rows, its sizes, its shots.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;

use llama_eval_model::Request;
use llama_eval_tasks::{DataDir, Outcome, Protocol, Selection, plan, suites};
use serde_json::Value;

/// How many documents of a task stand in each category.
fn categories(names: &str) -> Option<BTreeMap<String, usize>> {
    let data = DataDir::open(&common::shared("data")?).unwrap();
    let mut counts = BTreeMap::new();
    for task in suites::resolve(&[names.to_owned()], &Default::default()).unwrap() {
        for document in task.documents(&data, Protocol::Paper).unwrap() {
            for category in document.categories {
                *counts.entry(category).or_default() += 1;
            }
        }
    }
    Some(counts)
}

fn table(tables: &Value, id: &str) -> Value {
    let mut tables = tables.as_array().unwrap().iter();
    let table = tables.find(|table| table["id"] == id);
    table.unwrap_or_else(|| panic!("there is no {id}")).clone()
}

/// Columns of a table, and its rows.
fn headings(table: &Value) -> Vec<String> {
    let columns = table["columns"].as_array().unwrap().iter();
    let rows = table["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["model"]);
    columns
        .chain(rows)
        .map(|heading| heading.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn every_published_result_is_in_its_table() {
    let Some(path) = common::shared("design/published.json") else {
        return;
    };
    let tables: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for task in suites::all(&Default::default()) {
        let card = task.card();
        if let Some((id, heading)) = card.published {
            assert!(
                headings(&table(&tables, id)).contains(&heading.to_owned()),
                "{}: {id}, {heading}",
                card.name
            );
        }
        let metrics: Vec<&str> = card.metrics.iter().map(|metric| &*metric.name).collect();
        assert!(
            metrics.contains(&&*card.headline.0) && metrics.contains(&&*card.headline.1),
            "{}",
            card.name
        );
        let shots = match card.name.as_str() {
            "mbpp" => 3,
            _ if card.group == Some("mmlu") => 5,
            _ => 0,
        };
        assert_eq!(card.shots, shots, "{}", card.name);
    }
    for (names, id) in [
        ("mmlu", "table9_mmlu"),
        ("crows_pairs", "table12_crows_pairs"),
        ("winogender", "table13_winogender"),
    ] {
        let Some(categories) = categories(names) else {
            return;
        };
        for category in categories.keys() {
            assert!(
                headings(&table(&tables, id)).contains(category),
                "{names}: {category}"
            );
        }
    }
}

/// Table 9 averages by these sizes; Anatomy counts under Other.
#[test]
fn mmlu_categories_are_those_of_hendrycks() {
    let Some(counts) = categories("mmlu") else {
        return;
    };
    let expected = [
        ("Humanities", 4_705),
        ("Other", 3_242),
        ("STEM", 3_018),
        ("Social Sciences", 3_077),
    ];
    assert_eq!(
        counts,
        expected
            .map(|(category, size)| (category.to_owned(), size))
            .into()
    );
}

/// The decimals of table 13 need 240 sentences per pronoun and 120 per gender of gotcha sentences.
#[test]
fn winogender_has_the_sizes_of_table_13() {
    let Some(counts) = categories("winogender") else {
        return;
    };
    let expected = [
        ("her/her/she", 240),
        ("his/him/he", 240),
        ("their/them/someone", 240),
        ("her/her/she (gotcha)", 120),
        ("his/him/he (gotcha)", 120),
    ];
    assert_eq!(
        counts,
        expected
            .map(|(category, size)| (category.to_owned(), size))
            .into()
    );
}

#[test]
fn crows_pairs_has_nine_categories() {
    let Some(counts) = categories("crows_pairs") else {
        return;
    };
    assert_eq!(counts.len(), 9);
    assert_eq!(counts.values().sum::<usize>(), 1_508);
    assert_eq!(counts["Race/Color"], 516);
}

/// Where choices are compared, both protocols ask after the prompt and after `Answer:`; every prompt of every task is
/// whole: no template's `{name}` is left, no choice is empty, and something can be generated.
#[test]
fn every_prompt_of_every_task_is_whole() {
    let Some(root) = common::shared("data") else {
        return;
    };
    let data = DataDir::open(&root).unwrap();
    for task in suites::all(&Default::default()) {
        let name = &task.card().name;
        for protocol in [Protocol::Paper, Protocol::LmEval] {
            let selection = Selection {
                shots: Some(0),
                ..Selection::default()
            };
            for item in plan(&task, &data, protocol, &selection).unwrap().items {
                let ratio = task
                    .card()
                    .metrics
                    .iter()
                    .any(|metric| metric.name == "acc_answer_context");
                let mut bare = 0;
                for request in &item.requests {
                    let (prompt, asked) = match request {
                        Request::LogLikelihood {
                            prompt,
                            continuation,
                        } => (prompt, !continuation.trim().is_empty()),
                        Request::Generate { generation, .. } => (
                            &generation.prompt,
                            generation.max_new_tokens > 0
                                && !generation.prompt.question.trim().is_empty()
                                && generation.stop.iter().all(|stop| !stop.is_empty()),
                        ),
                        other => panic!("{name}: {other:?}"),
                    };
                    let text = prompt.text();
                    for field in [
                        "{passage}",
                        "{question}",
                        "{goal}",
                        "{query}",
                        "{article}",
                        "{sentence}",
                        "{A}",
                        "{text}",
                        "{tests}",
                        "{prompt}",
                    ] {
                        assert!(!text.contains(field), "{name}: {text}");
                    }
                    assert!(asked, "{name}, document {}", item.document.index);
                    bare += usize::from(text == "Answer:");
                }
                assert_eq!(
                    bare,
                    if ratio { item.requests.len() / 2 } else { 0 },
                    "{name}"
                );
                let unanswered = task.score(&item.document, &[], &[], protocol);
                assert!(
                    matches!(unanswered, Outcome::Unscored(_)),
                    "{name}: {unanswered:?}"
                );
            }
        }
    }
}
