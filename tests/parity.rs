//! Promise: the whole program gives lm-eval's prompts, log-likelihoods, scores, averages and
//! standard errors, for a real model on the real data, by way of the files it writes.

use std::{collections::BTreeMap, fs};

use serde_json::{Map, Value};

use crate::program::{lines, real_checkpoint, run_as_gold, shared, starting};

/// Largest difference in log-likelihood per scored token; see `model/tests/gold_engine.rs`.
const PER_TOKEN: f64 = 1e-3;
/// Averages and standard errors of equal scores differ by the order of a sum at most.
const AVERAGE: f64 = 1e-6;
/// Averages of what follows the log-likelihoods continuously: lm-eval's own sums over a sentence
/// differ by up to 5e-5 between batch sizes.
const CONTINUOUS_AVERAGE: f64 = 5e-5;

/// Below this gap between the two best logits the greedy flag hangs on rounding.
const NEAR_TIE: f64 = 1e-4;

/// Gold task and ours, where the names differ or ours holds several.
const NAMES: [(&str, &str); 5] = [
    ("race", "race_high"),
    ("truthfulqa_mc1", "truthfulqa_mc"),
    ("truthfulqa_mc2", "truthfulqa_mc"),
    ("crows_pairs_english", "crows_pairs"),
    ("winogender_all", "winogender"),
];

/// HellaSwag's original file is not among the shared data; its gold requests are tested on the
/// engine.
const NO_DATA: [&str; 2] = ["hellaswag", "hellaswag_wikihow"];

fn our_name(gold: &str) -> &str {
    NAMES
        .iter()
        .find(|(name, _)| *name == gold)
        .map_or(gold, |(_, ours)| ours)
}

#[test]
fn files_equal_lm_eval() {
    let Some(gold) = shared("gold/set-a") else {
        return;
    };
    let Some(data) = shared("data") else { return };
    let Some(checkpoint) = real_checkpoint() else {
        return;
    };

    let results: Value =
        serde_json::from_str(&fs::read_to_string(gold.join("results.json")).unwrap()).unwrap();
    let mut documents: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut samples = Map::new();
    for (name, _) in results["tasks"].as_object().unwrap() {
        let rows = lines(&gold.join(format!("{name}.jsonl")));
        let scored = rows
            .first()
            .is_some_and(|row| row["requests"][0]["loglikelihood"].is_number());
        if !scored || NO_DATA.contains(&name.as_str()) {
            continue;
        }
        samples.insert(
            our_name(name).to_owned(),
            rows.iter().map(|row| row["doc_id"].clone()).collect(),
        );
        documents.insert(name.clone(), rows);
    }
    assert!(documents.len() >= 24, "only {} gold tasks", documents.len());

    let folder = run_as_gold(&checkpoint, &data, samples, &[]);
    let output = folder.path().join("out");

    let ours: Value =
        serde_json::from_str(&fs::read_to_string(starting(&output, "results_")).unwrap()).unwrap();
    let mut wrong = Vec::new();
    for (name, rows) in &documents {
        let written: BTreeMap<u64, Value> =
            lines(&starting(&output, &format!("samples_{}_", our_name(name))))
                .into_iter()
                .map(|row| (row["doc_id"].as_u64().unwrap(), row))
                .collect();
        for row in rows {
            let sample = &written[&row["doc_id"].as_u64().unwrap()];
            compare_document(name, row, sample, &mut wrong);
        }
        let expected = results["tasks"][name]["results"].as_object().unwrap();
        let our_results = &ours["results"][our_name(name)];
        for (metric, value) in expected
            .iter()
            .filter(|(metric, _)| metric.ends_with(",none"))
        {
            // lm-eval calls the metric of both TruthfulQA tasks `acc`.
            let key = match name.as_str() {
                "truthfulqa_mc1" => metric.replace("acc", "mc1"),
                "truthfulqa_mc2" => metric.replace("acc", "mc2"),
                _ => metric.clone(),
            };
            let tolerance = match key.starts_with("mc2") || key.starts_with("likelihood_diff") {
                true => CONTINUOUS_AVERAGE,
                false => AVERAGE,
            };
            match (value.as_f64(), our_results[&key].as_f64()) {
                (Some(value), Some(ours)) if (value - ours).abs() <= tolerance => {}
                (None, _) if our_results[&key] == *value => {}
                _ => wrong.push(format!(
                    "{name}: {metric} is {} instead of {value}",
                    our_results[&key]
                )),
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differences:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn compare_document(name: &str, gold: &Value, ours: &Value, wrong: &mut Vec<String>) {
    let place = format!("{name} document {}", gold["doc_id"]);
    let token_ids = ours["llama_eval"]["token_ids"].as_array().unwrap();
    // TruthfulQA's MC2 requests come after its MC1 requests.
    let requests = gold["requests"].as_array().unwrap();
    let all = ours["arguments"].as_object().unwrap();
    let first = match name {
        "truthfulqa_mc2" => (0..all.len())
            .rev()
            .find(|start| {
                requests.iter().enumerate().all(|(i, request)| {
                    all.get(&format!("gen_args_{}", start + i))
                        .is_some_and(|it| it["arg_1"] == request["continuation"])
                })
            })
            .unwrap_or(0),
        _ => 0,
    };
    for (index, request) in requests.iter().enumerate() {
        let arguments = &all[&format!("gen_args_{}", first + index)];
        if arguments["arg_0"] != request["context"] || arguments["arg_1"] != request["continuation"]
        {
            wrong.push(format!(
                "{place}: asks {arguments} instead of {} + {}",
                request["context"], request["continuation"]
            ));
            continue;
        }
        let answer = &ours["resps"][first + index][0];
        let number: f64 = answer[0].as_str().unwrap().parse().unwrap();
        let tokens = token_ids[first + index].as_array().unwrap().len();
        let expected = request["loglikelihood"].as_f64().unwrap();
        if (number - expected).abs() > PER_TOKEN * tokens as f64 {
            wrong.push(format!(
                "{place}: log-likelihood {number} instead of {expected}"
            ));
        }
        let greedy = answer[1] == "True";
        let margin = ours["llama_eval"]["margin"][first + index]
            .as_f64()
            .unwrap();
        if margin >= NEAR_TIE && request["is_greedy"].as_bool() != Some(greedy) {
            wrong.push(format!("{place}: greedy is {greedy}"));
        }
    }
    for (metric, value) in gold["metrics"].as_object().unwrap() {
        let metric = metric.trim_end_matches(",none");
        let key = match name {
            "truthfulqa_mc1" => "mc1",
            "truthfulqa_mc2" => "mc2",
            _ => metric,
        };
        let (expected, found) = (value.as_f64().unwrap(), ours[key].as_f64());
        // These follow the log-likelihoods continuously; everything else is 0 or 1.
        let tolerance = match key {
            "likelihood_diff" | "mc2" => PER_TOKEN,
            _ => 0.0,
        };
        if found.is_none_or(|found| (found - expected).abs() > tolerance) {
            wrong.push(format!("{place}: {key} is {found:?} instead of {expected}"));
        }
    }
}
