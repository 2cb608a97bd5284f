//! A run on a card: it gives what a run on the CPU gives, and says clearly what is wrong with a card, before a run or in
//! the middle of it. These run on the software card (`model/software-card`), which can be told to misbehave; without
//! it they say so and pass, unless `LLAMA_EVAL_REQUIRE_CARD=1`.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::tempdir;

use crate::program::{Said, answers, lines, program, starting};

/// Log-likelihoods and completions of a few documents: one batch, then some steps.
const RUN: &str = "run --tasks boolq,hellaswag,nq_open --limit 2 --log-samples --output out";
/// Kernels that the batch of log-likelihoods takes are fewer, those of the whole run more.
const HALF_WAY: &str = "150";

/// The folder of the software card, if the tests are run on it.
fn software_card() -> Option<PathBuf> {
    let folders = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders)
        .find(|folder| folder.ends_with("software-card") && folder.join("libcuda.so.1").exists());
    if found.is_none() {
        let required = std::env::var_os("LLAMA_EVAL_REQUIRE_CARD").is_some();
        assert!(!required, "LD_LIBRARY_PATH names no software card");
        println!("skipped: LD_LIBRARY_PATH names no software card (model/software-card/build)");
    }
    found
}

fn run(directory: &Path, device: &str, environment: &[(&str, &str)]) -> Said {
    program(directory)
        .args(RUN.split(' '))
        .args(["--device", device])
        .envs(environment.iter().copied())
        .output()
        .unwrap()
        .into()
}

/// What a run makes of each document, without the numbers that rounding reaches.
fn scores(directory: &Path) -> Vec<Value> {
    const EXACT: [&str; 5] = [
        "doc_id",
        "acc",
        "acc_norm",
        "acc_answer_context",
        "exact_match",
    ];
    let mut scores = Vec::new();
    for task in ["boolq", "hellaswag", "nq_open"] {
        let path = starting(&directory.join("out"), &format!("samples_{task}_"));
        for document in lines(&path) {
            scores.extend(EXACT.map(|name| document[name].clone()));
            scores.push(document["llama_eval"]["greedy"].clone());
            if task == "nq_open" {
                scores.push(document["resps"].clone());
            }
        }
    }
    scores
}

#[test]
fn a_device_gives_what_the_cpu_gives() {
    if software_card().is_none() {
        return;
    }
    let (card, cpu) = (tempdir().unwrap(), tempdir().unwrap());
    let said = run(card.path(), "cuda:0", &[]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.stdout.contains("cuda:0 (Software card)"), "{said:#?}");
    let said = run(cpu.path(), "cpu", &[]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert_eq!(scores(card.path()), scores(cpu.path()));
}

#[test]
fn a_device_lost_half_way_loses_nothing() {
    if software_card().is_none() {
        return;
    }
    for (misbehaviour, value, expected) in [
        (
            "SOFTWARE_CARD_LOST_AFTER",
            HALF_WAY.to_owned(),
            "the card is lost",
        ),
        (
            "SOFTWARE_CARD_TAKEN_AFTER",
            format!("{HALF_WAY}:{}", 2u64 << 30),
            "the card is out of memory",
        ),
    ] {
        let directory = tempdir().unwrap();
        let said = run(directory.path(), "cuda:0", &[(misbehaviour, &value)]);
        assert_eq!(said.code, Some(11), "{said:#?}");
        assert!(said.stderr.contains(expected), "{said:#?}");
        assert!(said.stderr.contains("hint:"), "{said:#?}");
        let (stored, _) = answers(&directory.path().join("out"));
        assert!(stored > 0, "{said:#?}");
        let said = run(directory.path(), "cuda:0", &[]);
        assert_eq!(said.code, Some(0), "{said:#?}");
        let before = format!("{stored} answered before");
        assert!(said.stderr.contains(&before), "{before}: {said:#?}");
        let (all, written) = answers(&directory.path().join("out"));
        assert_eq!(all, written, "something was answered twice");
    }
}

/// Device, environment, and the exit code and message they lead to.
type Case = (
    &'static str,
    &'static [(&'static str, &'static str)],
    i32,
    &'static str,
);

#[test]
fn a_device_that_cannot_be_used_is_said_so() {
    if software_card().is_none() {
        return;
    }
    let cases: [Case; 6] = [
        (
            "cuda:0",
            &[("LD_LIBRARY_PATH", "")],
            6,
            "no NVIDIA driver on this machine",
        ),
        (
            "cuda:0",
            &[("SOFTWARE_CARD_DRIVER", "12020")],
            6,
            "supports CUDA 12.2, this program needs 13.0",
        ),
        (
            "cuda:0",
            &[("SOFTWARE_CARD_CAPABILITY", "7.5")],
            6,
            "compute capability 7.5",
        ),
        ("cuda:3", &[], 6, "no card cuda:3: the driver shows 1"),
        (
            "cuda:0",
            &[("SOFTWARE_CARD_MEMORY", "700000000")],
            5,
            "are free on the device",
        ),
        (
            "auto",
            &[("SOFTWARE_CARD_CAPABILITY", "7.5")],
            6,
            "compute capability 7.5",
        ),
    ];
    for (device, environment, code, expected) in cases {
        let directory = tempdir().unwrap();
        let said = run(directory.path(), device, environment);
        assert_eq!(said.code, Some(code), "{environment:?}: {said:#?}");
        assert!(said.stderr.contains(expected), "{environment:?}: {said:#?}");
        assert!(said.stderr.contains("--device cpu"), "{said:#?}");
    }
}

#[test]
fn without_a_device_auto_takes_the_cpu() {
    if software_card().is_none() {
        return;
    }
    for environment in [("LD_LIBRARY_PATH", ""), ("SOFTWARE_CARD_COUNT", "0")] {
        let directory = tempdir().unwrap();
        let said = run(directory.path(), "auto", &[environment]);
        assert_eq!(said.code, Some(0), "{said:#?}");
        assert!(said.stdout.contains("on cpu"), "{said:#?}");
    }
}
