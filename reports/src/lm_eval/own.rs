//! What lm-eval has no place for: the key `llama_eval` of the results.

use serde_json::{Map, Value, json};

use crate::{
    frame::Scores,
    summary::{Run, TaskRun},
};

/// Raised when what stands under `llama_eval` changes its meaning.
const FORMAT: u32 = 1;

pub(super) fn results(run: &Run, scores: &Scores) -> Value {
    let tasks: Map<String, Value> = run
        .tasks
        .iter()
        .map(|task| (task.card.name.clone(), own_task(task, scores)))
        .collect();
    json!({
        "format": FORMAT,
        "program_version": run.program_version,
        "protocol": run.protocol,
        "seed": run.seed,
        "settings": run.settings,
        "started": run.started,
        "ended": run.ended,
        "seconds": run.seconds,
        "unique_tokens": run.unique_tokens,
        "model": run.model,
        "judges": run.judges,
        "tasks": tasks,
    })
}

fn own_task(task: &TaskRun, scores: &Scores) -> Value {
    let card = &task.card;
    let rules: Map<String, Value> = card
        .metrics
        .iter()
        .map(|metric| (metric.name.clone(), metric.rule.as_str().into()))
        .collect();
    let intervals: Map<String, Value> = card
        .metrics
        .iter()
        .filter_map(|metric| {
            let (low, high) = scores.task(&card.name, &metric.name).interval()?;
            Some((metric.name.clone(), json!([low, high])))
        })
        .collect();
    let of_category = |category: &str| -> Value {
        let values = card.metrics.iter().filter_map(|metric| {
            let summary = scores.category(&card.name, category, &metric.name);
            let entry = json!({
                "value": summary.mean?,
                "stderr": summary.standard_error,
                "documents": summary.documents,
            });
            Some((metric.name.clone(), entry))
        });
        Value::Object(values.collect())
    };
    let categories: Map<String, Value> = scores
        .categories(&card.name)
        .into_iter()
        .map(|name| (name.to_owned(), of_category(name)))
        .collect();
    let (completions, cut) = task.cut_completions();
    json!({
        "title": card.title,
        "split": card.split,
        "licence": card.licence,
        "citation": card.citation,
        "data_sha256": card.data_sha256,
        "headline": card.headline,
        "rules": rules,
        "split_documents": task.split_documents,
        "documents": task.documents.len(),
        "unscored": task.unscored(),
        "truncated": task.truncated(),
        "dropped_examples": task.with_dropped_examples(),
        "completions": completions,
        "cut_completions": cut,
        "intervals": intervals,
        "categories": categories,
    })
}
