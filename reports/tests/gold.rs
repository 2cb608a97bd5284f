//! Averages and errors are lm-eval's, recomputed from its own values per document.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;

use llama_eval_reports::{DocumentScore, Scores, TaskRun, published};
use serde_json::{Map, Value};

const TOLERANCE: f64 = 1e-6;

fn close(ours: Option<f64>, theirs: &Value, what: &str) {
    match (ours, theirs.as_f64()) {
        (Some(ours), Some(theirs)) => assert!(
            (ours - theirs).abs() <= TOLERANCE,
            "{what}: {ours} against {theirs}"
        ),
        (ours, theirs) => assert_eq!(ours, theirs, "{what}"),
    }
}

#[test]
fn every_task_has_lm_evals_average_and_error() {
    let Some(gold) = common::shared("gold/set-a") else {
        return;
    };
    let results: Value =
        serde_json::from_str(&fs::read_to_string(gold.join("results.json")).unwrap()).unwrap();
    let mut tasks: Vec<TaskRun> = Vec::new();
    for name in results["tasks"].as_object().unwrap().keys() {
        let text = fs::read_to_string(gold.join(format!("{name}.jsonl"))).unwrap();
        let rows: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        // lm-eval ran no program there.
        if rows[0]["metrics"].as_object().unwrap().is_empty() {
            continue;
        }
        let names: Vec<&str> = rows[0]["metrics"]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut task = common::task(name, name, &["acc"], rows.len(), 0, 0);
        let card = task.card.metrics.remove(0);
        task.card.metrics = names
            .iter()
            .map(|&name| llama_eval_reports::MetricCard {
                name: name.into(),
                ..card.clone()
            })
            .collect();
        task.documents = rows
            .iter()
            .enumerate()
            .map(|(index, row)| DocumentScore {
                index,
                id: row["doc_key"].as_str().unwrap().into(),
                categories: Vec::new(),
                document: Map::new(),
                target: row["target"].as_str().unwrap().into(),
                requests: Vec::new(),
                completions: Vec::new(),
                metrics: names
                    .iter()
                    .map(|&name| (name.into(), row["metrics"][name].as_f64().unwrap()))
                    .collect(),
                unscored: None,
            })
            .collect();
        tasks.push(task);
    }
    assert!(tasks.len() >= 30, "only {} tasks", tasks.len());
    let run = common::run(tasks);
    let scores = Scores::of(&run).unwrap();
    let mut compared = 0;
    for task in &run.tasks {
        let expected = &results["tasks"][&task.card.name]["results"];
        for metric in &task.card.metrics {
            let summary = scores.task(&task.card.name, &metric.name);
            let error = metric.name.replace(',', "_stderr,");
            let what = format!("{} {}", task.card.name, metric.name);
            assert!(expected[&metric.name].is_number(), "{what}");
            close(summary.mean, &expected[&metric.name], &what);
            close(
                summary.standard_error,
                &expected[&error],
                &format!("{what} error"),
            );
            assert_eq!(
                Some(summary.documents as u64),
                expected["sample_len"].as_u64(),
                "{what}"
            );
            compared += 1;
        }
    }
    assert!(compared > 30, "only {compared} metrics");
}

/// The paper's averages are the subjects' values weighted by the size of their test files, if
/// Anatomy counts to Other: the categories used for Table 9 are the paper's.
#[test]
fn mmlu_averages_as_the_paper_does() {
    let Some(data) = common::shared("data/mmlu/test") else {
        return;
    };
    let subjects = published::table("table16_mmlu_subjects").unwrap();
    for (column, name) in subjects
        .columns
        .iter()
        .enumerate()
        .filter(|(_, name)| name.starts_with("LLaMA "))
    {
        let mut run = common::run(Vec::new());
        for row in subjects.rows.iter().filter(|row| !row.aggregate) {
            let subject = row.model.to_lowercase().replace(' ', "_");
            let file = data.join(format!("{subject}_test.csv"));
            let size = csv::ReaderBuilder::new()
                .has_headers(false)
                .from_path(file)
                .unwrap()
                .records()
                .count();
            let right = (row.values[column].unwrap() / 100.0 * size as f64).round() as usize;
            let mut task =
                common::task(&format!("mmlu_{subject}"), "MMLU", &["acc"], size, size, 0);
            for document in &mut task.documents {
                document
                    .metrics
                    .insert("acc".into(), f64::from(u8::from(document.index < right)));
            }
            task.card.group = Some("mmlu".into());
            run.tasks.push(task);
        }
        let tables = llama_eval_reports::tables(&run).unwrap();
        let averages = tables
            .iter()
            .find(|table| table.title.starts_with("Table 9."))
            .unwrap();
        let size = name.trim_start_matches("LLaMA ");
        let published = averages
            .rows
            .iter()
            .find(|row| row[0] == "LLaMA" && row[1] == size)
            .unwrap();
        let own = averages
            .rows
            .iter()
            .find(|row| row[0].starts_with("SmolLM2"))
            .unwrap();
        assert_eq!(own[2..], published[2..], "{name}");
    }
}
