//! Promise: `llama-eval bench` measures every plan on any machine, and its JSON holds what its table says.

use std::fs;

use insta::assert_snapshot;
use serde_json::Value;
use tempfile::tempdir;

use crate::program::{run, succeed};

fn positive(value: &Value, fields: &[&str]) {
    for field in fields {
        let number = value[field].as_f64();
        assert!(number > Some(0.0), "{field} in {value:#}");
    }
}

#[test]
fn every_plan_is_measured() {
    let folder = tempdir().unwrap();
    let said = succeed(
        folder.path(),
        "bench --device cpu --scale 0.001 --repeat 2 --json figures.json",
    );
    let text = fs::read_to_string(folder.path().join("figures.json")).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();

    assert_eq!(report["machine"]["device"], "cpu");
    assert_eq!(report["machine"]["dtype"], "f32");
    assert_eq!(report["machine"]["random_weights"], false);
    positive(
        &report["machine"],
        &["parameters", "threads", "batch_rows", "load_seconds"],
    );
    positive(
        &report["ceilings"],
        &["flops_per_second", "bytes_per_second"],
    );
    positive(
        &report["memory"],
        &["weights", "buffers", "kept_keys", "formula", "taken"],
    );
    let memory = |field: &str| report["memory"][field].as_u64().unwrap();
    let parts = memory("weights") + memory("buffers") + memory("kept_keys");
    assert_eq!(parts, memory("formula"));
    assert_eq!(report["formulas"].as_array().unwrap().len(), 2);

    let scoring = report["scoring"].as_array().unwrap();
    let plans: Vec<_> = scoring.iter().map(|scored| &scored["plan"]).collect();
    assert_eq!(plans, ["mmlu", "hellaswag"]);
    for scored in scoring {
        positive(
            scored,
            &[
                "seconds",
                "flops",
                "scored_rows",
                "pairs",
                "share_of_product",
            ],
        );
        assert_eq!(scored["rounds"].as_array().unwrap().len(), 2);
        let rate = |field: &str| scored[field].as_f64().unwrap();
        let expected = rate("unique_tokens") / rate("seconds");
        assert!((rate("unique_tokens_per_second") / expected - 1.0).abs() < 1e-9);
        let expected = rate("documents") / rate("seconds");
        assert!((rate("documents_per_second") / expected - 1.0).abs() < 1e-9);
        let expected = rate("unique_tokens") * report["work"]["flops_per_token"].as_f64().unwrap()
            + rate("scored_rows") * report["work"]["flops_per_scored_row"].as_f64().unwrap()
            + rate("pairs") * report["work"]["flops_per_pair"].as_f64().unwrap();
        assert!((rate("flops") / expected - 1.0).abs() < 1e-9);
    }
    let [decoded] = report["decoding"].as_array().unwrap().as_slice() else {
        panic!("{report:#}")
    };
    assert_eq!(decoded["sequences"], 1);
    positive(
        decoded,
        &[
            "prompt_seconds",
            "seconds_per_step",
            "floor_seconds_per_step",
            "share_of_floor",
            "tokens_per_second",
        ],
    );
    for words in [
        "mmlu",
        "hellaswag",
        "decode",
        "of the product",
        "of the floor",
        "taken",
    ] {
        assert!(said.stdout.contains(words), "{words}: {}", said.stdout);
    }
}

#[test]
fn figures_go_to_standard_output_alone() {
    let folder = tempdir().unwrap();
    let said = succeed(
        folder.path(),
        "bench --device cpu --plan decode --scale 0.004 --repeat 1 --json -",
    );
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(report["scoring"], Value::Array(Vec::new()));
    assert_eq!(report["decoding"][0]["sequences"], 2);
    assert!(said.stderr.contains("tokens/s"));
}

#[test]
fn a_plan_can_be_printed_for_others() {
    let folder = tempdir().unwrap();
    let print = |arguments: &str| -> Value {
        let said = succeed(folder.path(), &format!("bench {arguments}"));
        serde_json::from_str(&said.stdout).unwrap()
    };
    let plan = print("--shape llama-65b --print-plan mmlu --scale 0.01");
    let documents = plan["documents"].as_array().unwrap();
    assert_eq!(documents.len(), 100);
    for document in documents {
        assert_eq!(document["context"].as_array().unwrap().len(), 710);
        assert_eq!(document["continuations"].as_array().unwrap().len(), 4);
    }
    let plan = print("--shape llama-7b --print-plan decode --scale 0.01");
    assert_eq!(plan["prompt"].as_array().unwrap().len(), 1200);
    assert_eq!(plan["fed"].as_array().unwrap().len(), 5);
    assert_eq!(plan["model"]["hidden"], 4096);
    assert_eq!(plan["model"]["context_length"], 2048);
}

#[test]
fn what_cannot_be_measured() {
    let folder = tempdir().unwrap();
    for (name, arguments) in [
        ("bench_shape", "bench --shape llama-8b"),
        ("bench_plan", "bench --plan mmlu,arc"),
        ("bench_scale", "bench --scale 0"),
        ("bench_shape_and_model", "bench --shape llama-7b --model x"),
        ("bench_json", "bench --json nowhere/figures.json"),
    ] {
        let said = run(folder.path(), arguments);
        assert_snapshot!(
            name,
            format!("exit code {}\n{}", said.code.unwrap(), said.stderr)
        );
        assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""));
    }
    let said = run(
        folder.path(),
        "bench --shape llama-65b --device cpu --dtype bf16 --memory 1",
    );
    assert_eq!(said.code, Some(5));
    for words in ["random weights: needs 12", "1.0 GiB is allowed", "hint:"] {
        assert!(said.stderr.contains(words), "{}", said.stderr);
    }
}
