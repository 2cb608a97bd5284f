//! `configs`: what each task was run with, and the model's settings.

use serde_json::{Map, Value, json};

use super::{FILTER, PROGRAM, generation};
use crate::{
    mmlu,
    summary::{DocumentScore, Run, TaskRun},
};

pub(super) fn task(task: &TaskRun) -> Value {
    let card = &task.card;
    let validation = ["val", "dev"]
        .iter()
        .any(|part| card.split.to_lowercase().contains(part));
    let split = if validation {
        "validation_split"
    } else {
        "test_split"
    };
    let mut names: Vec<&str> = Vec::new();
    let mut metrics: Vec<Value> = Vec::new();
    for metric in &card.metrics {
        let (name, _) = metric.name_and_filter();
        if !names.contains(&name) {
            names.push(name);
            metrics.push(json!({"metric": name, "aggregation": "mean", "higher_is_better": metric.higher_is_better}));
        }
    }
    let mut config = Map::new();
    let mut set = |key: &str, value: Value| config.insert(key.to_owned(), value);
    set("task", card.name.as_str().into());
    set("task_alias", mmlu::alias(&card.name).into());
    set(split, card.split.as_str().into());
    let generation = task
        .documents
        .iter()
        .find_map(|document| Some((document, document.completions.first()?)));
    match generation {
        None => set("output_type", "multiple_choice".into()),
        Some(_) => set("output_type", "generate_until".into()),
    };
    set("num_fewshot", task.shots.into());
    set("metric_list", metrics.into());
    if let Some((_, completion)) = generation {
        set("generation_kwargs", generation::arguments(completion));
        let named = |filter| json!({"name": filter});
        let filters = generation::filters(task);
        if filters != [FILTER] {
            set("filter_list", filters.into_iter().map(named).collect());
        }
    }
    let repeats = generation.map_or(1, |(document, _)| samples(document));
    set("repeats", repeats.into());
    set("metadata", json!({"version": card.version}));
    config.into()
}

/// Completions of the document's first prompt.
fn samples(document: &DocumentScore) -> usize {
    document.generations().next().map_or(1, <[_]>::len)
}

pub(super) fn model(run: &Run) -> Value {
    let model = &run.model;
    let dtype = match model.dtype.as_str() {
        "f32" => "float32",
        "bf16" => "bfloat16",
        "f16" => "float16",
        other => other,
    };
    json!({
        "model": PROGRAM,
        "model_args": format!("pretrained={},dtype={dtype}", model.source),
        "model_num_parameters": model.parameters,
        "model_dtype": dtype,
        "model_revision": "",
        "model_sha": model.weights_sha256,
        "batch_size": null,
        "batch_sizes": [],
        "device": model.device,
        "use_cache": null,
        "limit": run.limit,
        "bootstrap_iters": 0,
        "gen_kwargs": null,
        "random_seed": run.seed,
        "numpy_seed": run.seed,
        "torch_seed": run.seed,
        "fewshot_seed": run.seed,
    })
}
