//! Promise: the whole program gives lm-eval's prompts, completions, filtered answers, scores, averages and standard
//! errors where text is generated, for a real model on the real data, by way of the files it writes.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Map, Value, json};

use crate::program::{can_isolate, lines, real_checkpoint, run_as_gold, shared, starting};

/// Gold task and ours.
const TASKS: [(&str, &str); 9] = [
    ("gsm8k", "gsm8k"),
    ("gsm8k_cot", "gsm8k_cot"),
    ("humaneval", "humaneval"),
    ("mbpp", "mbpp"),
    ("minerva_math_algebra", "minerva_math_algebra"),
    ("nq_open", "nq_open"),
    ("nq_open_fs", "nq_open_5shot"),
    ("triviaqa", "triviaqa"),
    ("triviaqa_fs", "triviaqa_5shot"),
];
/// Below this gap between the two best logits at its tightest step, another correct implementation may choose
/// another token.
const NEAR_TIE: f64 = 1e-3;
/// Averages and standard errors of equal scores differ by the order of a sum at most.
const AVERAGE: f64 = 1e-6;

#[test]
fn files_of_generated_text_equal_lm_eval() {
    let (Some(gold), Some(data)) = (shared("gold/set-a"), shared("data")) else {
        return;
    };
    let Some(checkpoint) = real_checkpoint() else {
        return;
    };
    if !can_isolate() {
        return;
    }
    let mut samples = Map::new();
    for (theirs, ours) in TASKS {
        let rows = lines(&gold.join(format!("{theirs}.jsonl")));
        let documents: Vec<&Value> = rows.iter().map(|row| &row["doc_id"]).collect();
        samples.insert(ours.to_owned(), json!(documents));
    }
    // What lm-eval generates where a task does not say; the gold answers of all tasks were made with it.
    let folder = run_as_gold(&checkpoint, &data, samples, &["--max-new-tokens", "256"]);
    let output = folder.path().join("out");

    let read = |path: &Path| serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let expected: Value = read(&gold.join("results.json"));
    let ours: Value = read(&starting(&output, "results_"));
    let (mut wrong, mut ties, mut compared) = (Vec::new(), 0, 0);
    for (theirs, name) in TASKS {
        // One row for each document and filter.
        let mut written: BTreeMap<(u64, String), Value> = BTreeMap::new();
        for row in lines(&starting(&output, &format!("samples_{name}_2"))) {
            let key = (
                row["doc_id"].as_u64().unwrap(),
                row["filter"].as_str().unwrap().to_owned(),
            );
            assert!(
                written.insert(key, row).is_none(),
                "{name}: a row stands twice"
            );
        }
        let mut tied = false;
        for row in lines(&gold.join(format!("{theirs}.jsonl"))) {
            for (filter, filtered) in row["filtered"].as_object().unwrap() {
                let key = (row["doc_id"].as_u64().unwrap(), filter.clone());
                let place = format!("{theirs} document {}, {filter}", row["doc_id"]);
                let Some(sample) = written.get(&key) else {
                    wrong.push(format!("{place}: there is no row"));
                    continue;
                };
                compared += 1;
                let problems = compare(&row, filter, filtered, sample);
                if !problems.is_empty() && row["min_margin"].as_f64().unwrap() < NEAR_TIE {
                    ties += 1;
                    tied = true;
                    println!("{place}: a near tie: {}", problems.join("; "));
                } else if !problems.is_empty() {
                    wrong.push(format!("{place}: {}", problems.join("; ")));
                }
            }
        }
        let averages = expected["tasks"][theirs]["results"].as_object().unwrap();
        for (metric, value) in averages.iter().filter(|(name, _)| name.contains(',')) {
            let found = &ours["results"][name][metric];
            let same = match (value.as_f64(), found.as_f64()) {
                (Some(value), Some(found)) => (value - found).abs() <= AVERAGE,
                _ => value == found,
            };
            // Gold ran no programs: its metric is `bypass`.
            if !same && !tied && !metric.starts_with("bypass") {
                wrong.push(format!("{theirs}: {metric} is {found} instead of {value}"));
            }
        }
    }
    // GSM8k's two tasks have two filters each.
    assert_eq!(
        compared,
        11 * 12 - wrong.iter().filter(|it| it.contains("no row")).count()
    );
    println!("{compared} rows, {ties} near ties");
    assert!(
        wrong.is_empty(),
        "{} differences:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// What differs between a gold document and a row of ours.
fn compare(gold: &Value, filter: &str, filtered: &Value, ours: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let mut same = |what: &str, expected: &Value, found: &Value| {
        if expected != found {
            problems.push(format!("{what} is {found} instead of {expected}"));
        }
    };
    let arguments = &ours["arguments"]["gen_args_0"];
    same("the prompt", &gold["context"], &arguments["arg_0"]);
    same(
        "until",
        &gold["gen_kwargs"]["until"],
        &arguments["arg_1"]["until"],
    );
    same("the completion", &gold["completion"], &ours["resps"][0][0]);
    let found = &ours["filtered_resps"][0];
    // Gold writes the lists of HumanEval's filter as Python does.
    let listed = found.is_array() && filtered.is_string();
    if !listed {
        same("the filtered answer", filtered, found);
    }
    for (metric, value) in gold["metrics"].as_object().unwrap() {
        let (name, of) = metric.split_once(',').unwrap();
        if of == filter {
            let found = ours[name].as_f64();
            same(name, &json!(value.as_f64()), &json!(found));
        }
    }
    problems
}
