//! Promise: the bundled samples stand in for every dataset, so that everything can be tried without any download.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use llama_eval_tasks::{DataDir, Protocol, Selection, pins, plan, suites};

/// The samples folder, `None` (said plainly) where it was not made.
fn samples() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    if !folder.is_dir() {
        eprintln!("skipped: {} not found", folder.display());
        return None;
    }
    Some(folder)
}

#[test]
fn every_sample_is_embedded_under_a_pinned_name() {
    let Some(folder) = samples() else { return };
    let mut on_disk = BTreeSet::new();
    let mut waiting = vec![folder.clone()];
    while let Some(path) = waiting.pop() {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.file_name().is_some_and(|name| name != "README.md") {
                let relative = path.strip_prefix(&folder).unwrap();
                let parts: Vec<_> = relative.iter().map(|part| part.to_str().unwrap()).collect();
                on_disk.insert(parts.join("/"));
            }
        }
    }
    let bundled = DataDir::bundled();
    assert!(bundled.is_bundled());
    let names: BTreeSet<String> = bundled.names_under("").unwrap().into_iter().collect();
    assert_eq!(names, on_disk);
    let pinned: BTreeSet<&str> = pins()
        .unwrap()
        .iter()
        .map(|pin| pin.name.as_str())
        .collect();
    for name in &names {
        // RACE and MATH are read by folder, so their files may have any number.
        let is_article = name.starts_with("race/test/middle/")
            || name.starts_with("race/test/high/")
            || name.starts_with("math/test/");
        // HumanEval is pinned compressed.
        let is_unpacked = name == "humaneval/HumanEval.jsonl";
        assert!(
            is_article || is_unpacked || pinned.contains(name.as_str()),
            "{name} is not in datasets.lock"
        );
        let file = bundled.read(name).unwrap();
        assert_eq!(file.bytes, fs::read(folder.join(name)).unwrap());
        assert!(
            pins().unwrap().iter().all(|pin| pin.sha256 != file.sha256),
            "{name} is the dataset itself"
        );
    }
}

/// Every task but the subjects of MMLU and MATH, of which there are some.
#[test]
fn every_benchmark_can_be_planned() {
    if samples().is_none() {
        return;
    }
    let (mut subjects, mut problems) = (0, 0);
    for task in suites::all(&Default::default()) {
        let name = &task.card().name;
        for protocol in [Protocol::Paper, Protocol::LmEval] {
            match plan(&task, &DataDir::bundled(), protocol, &Selection::default()) {
                Ok(plan) => {
                    assert!(!plan.items.is_empty(), "{name}");
                    subjects += usize::from(name.starts_with("mmlu_"));
                    problems += usize::from(name.starts_with("minerva_math_"));
                }
                Err(error) => assert!(
                    (name.starts_with("mmlu_") || name.starts_with("minerva_math_"))
                        && error.problem.contains("no such"),
                    "{error}"
                ),
            }
        }
    }
    assert!(subjects >= 2);
    // Algebra, counting and probability, and prealgebra, under both protocols.
    assert_eq!(problems, 6);
}
