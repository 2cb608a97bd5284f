//! Results and samples in the layout of lm-evaluation-harness 0.4.13 (`lm_eval/result_schema.py`,
//! `loggers/evaluation_tracker.py`), so that what reads its files reads ours.
//!
//! Keys, nesting and hashes are lm-eval's. What it has no place for stands under the new key
//! `llama_eval`:
//!
//! - in `results_<time>.json`: `format`, `program_version`, `protocol`, `seed`, `settings`,
//!   `started`, `ended`, `seconds`, `unique_tokens`, `model` (every field of [`ModelCard`]),
//!   `judges` (sandbox and judges, by what they were asked) and `tasks`, by name: `title`, `split`,
//!   `licence`, `citation`, `data_sha256`, `headline`, `rules` (by metric), `split_documents`,
//!   `documents`, `unscored`, `truncated`, `dropped_examples`, `completions`, `cut_completions` (cut off
//!   by the token limit or the model's context), `intervals` (Wilson's, 95 %, by metric) and
//!   `categories` (by category and metric: `value`, `stderr`, `documents`);
//! - in each row of `samples_<task>_<time>.jsonl`: `id`, `categories`, `unscored` (the reason or
//!   null) and, each a list over the log-likelihood requests, `token_ids`, `log_probs`, `greedy`,
//!   `margin`, `context_tokens`, `dropped_examples`, `truncated_tokens`; where text was generated also
//!   `completions`, of which `seed` is a list over the prompts and all else a list over the prompts of
//!   lists over their samples: `sample`, `finish`, `cut`, `filtered` (by filter, of filters without
//!   a row of their own), `tokens`, `margin`, `prompt_tokens`,
//!   `dropped_examples`, `truncated_tokens`, `verdicts` (each a list of `check`, `value`, `note`).
//!
//! Metrics with a filter (`exact_match,strict-match`) keep it in the results' keys, and give one row
//! per filter in the samples, all documents of one filter before those of the next. The samples of one
//! prompt are one request with several responses, as lm-eval's `repeats`.
//!
//! Differences: `arguments` and `resps` also hold requests that lm-eval does not make (the
//! choices after `Answer:`; a prompt's samples at another temperature), after its own; a request
//! without an answer has the log-likelihood `nan` or the response null; `generation_kwargs` and
//! `repeats` of a task's configuration are those of its first prompt, and its `filter_list` holds names
//! alone, because the filters are this program's; the seven subjects of MATH are averaged into a group
//! `minerva_math`, which lm-eval does not have; `task_hashes` are written without samples too; keys
//! about packages this program does not use (`transformers_version`) are left out.
//!
//! [`ModelCard`]: crate::ModelCard

mod config;
mod generation;
mod own;
mod samples;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};

use crate::{
    error::ReportError,
    files::{make_directory, write_whole},
    frame::Scores,
    groups::{Group, groups},
    mmlu, python,
    statistics::Summary,
    summary::{Run, TaskRun, name_and_filter},
};

/// No filter: log-likelihoods and completions are scored as they are.
const FILTER: &str = "none";
/// What lm-eval writes for an error it cannot compute.
const NOT_AVAILABLE: &str = "N/A";
const PROGRAM: &str = "llama-eval";

/// What [`write()`] wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// `results_<time>.json`.
    pub results: PathBuf,
    /// One `samples_<task>_<time>.jsonl` per task, in the order of the run.
    pub samples: Vec<PathBuf>,
}

/// Writes `results_<time>.json` and, if asked for, the samples into `directory`; `<time>` is when
/// the run ended, by its own clock, with `-` for `:`.
///
/// # Errors
/// The first file that cannot be written, with a hint; nothing is left of that file.
pub fn write(run: &Run, directory: &Path, log_samples: bool) -> Result<Written, ReportError> {
    make_directory(directory)?;
    let time = file_time(&run.ended);
    let mut hashes = Map::new();
    let mut samples = Vec::new();
    for task in &run.tasks {
        let hashed: Vec<samples::Hashes> = task.documents.iter().map(samples::Hashes::of).collect();
        hashes.insert(
            task.card.name.clone(),
            samples::task_hash(task, &hashed).into(),
        );
        if log_samples {
            let path = directory.join(format!(
                "samples_{}_{time}.jsonl",
                file_name_part(&task.card.name)
            ));
            write_whole(&path, |writer| samples::write(writer, task, &hashed))?;
            samples.push(path);
        }
    }
    let results = directory.join(format!("results_{time}.json"));
    let value = results_value(run, &Scores::of(run)?, hashes);
    write_whole(&results, |writer| {
        python::write_json(writer, &value, Some(2))
    })?;
    Ok(Written { results, samples })
}

fn results_value(run: &Run, scores: &Scores, task_hashes: Map<String, Value>) -> Value {
    let groups = groups(run);
    let mut results: Map<String, Value> = run
        .tasks
        .iter()
        .map(|task| (task.card.name.clone(), task_results(task, scores).into()))
        .collect();
    let group_results: Map<String, Value> = groups
        .iter()
        .map(|group| (group.name.clone(), group_results(group, run, scores).into()))
        .collect();
    results.extend(group_results.clone());

    let mut value = Map::new();
    value.insert("results".into(), results.into());
    if !groups.is_empty() {
        value.insert("groups".into(), group_results.into());
    }
    let children = groups
        .iter()
        .map(|group| (group.name.clone(), group.children(run).into()));
    value.insert("group_subtasks".into(), Value::Object(children.collect()));
    value.insert(
        "configs".into(),
        sorted(
            run.tasks
                .iter()
                .map(|task| (task.card.name.as_str(), config::task(task))),
        ),
    );
    let versions = run
        .tasks
        .iter()
        .map(|task| (task.card.name.as_str(), task.card.version.into()));
    let group_versions = groups
        .iter()
        .map(|group| (group.name.as_str(), Value::from(NOT_AVAILABLE)));
    value.insert("versions".into(), sorted(versions.chain(group_versions)));
    let shots = run
        .tasks
        .iter()
        .map(|task| (task.card.name.as_str(), task.shots.into()));
    let group_shots = groups
        .iter()
        .filter_map(|group| Some((group.name.as_str(), group.shots(run)?.into())));
    value.insert("n-shot".into(), sorted(shots.chain(group_shots)));
    let directions = run
        .tasks
        .iter()
        .map(|task| (task.card.name.as_str(), directions([task].into_iter())));
    let group_directions = groups
        .iter()
        .map(|group| (group.name.as_str(), self::directions(group.tasks(run))));
    value.insert(
        "higher_is_better".into(),
        sorted(directions.chain(group_directions)),
    );
    let counts = run.tasks.iter().map(|task| {
        (
            task.card.name.clone(),
            json!({"original": task.split_documents, "effective": sample_count(task, scores)}),
        )
    });
    value.insert("n-samples".into(), Value::Object(counts.collect()));
    value.insert("config".into(), config::model(run));
    value.extend(provenance(run, task_hashes));
    value.insert("llama_eval".into(), own::results(run, scores));
    value.into()
}

fn task_results(task: &TaskRun, scores: &Scores) -> Map<String, Value> {
    let name = &task.card.name;
    let mut entry = Map::new();
    entry.insert("name".into(), name.as_str().into());
    entry.insert("alias".into(), mmlu::alias(name).into());
    entry.insert("sample_len".into(), sample_count(task, scores).into());
    for metric in &task.card.metrics {
        insert_metric(&mut entry, &metric.name, &scores.task(name, &metric.name));
    }
    entry
}

fn group_results(group: &Group, run: &Run, scores: &Scores) -> Map<String, Value> {
    let mut entry = Map::new();
    entry.insert("alias".into(), group.alias.as_str().into());
    entry.insert("name".into(), group.name.as_str().into());
    let documents: usize = group
        .tasks(run)
        .map(|task| sample_count(task, scores))
        .sum();
    entry.insert("sample_len".into(), documents.into());
    let mut counts = Map::new();
    for metric in group.metrics(run) {
        let summary = scores.task(&group.name, &metric);
        if insert_metric(&mut entry, &metric, &summary) {
            counts.insert(key(&metric), summary.documents.into());
        }
    }
    if !counts.is_empty() {
        entry.insert("sample_count".into(), counts.into());
    }
    entry
}

/// A metric without a value has no key, rather than a 0 nobody measured.
fn insert_metric(entry: &mut Map<String, Value>, metric: &str, summary: &Summary) -> bool {
    let Some(mean) = summary.mean else {
        return false;
    };
    let error = summary
        .standard_error
        .map_or_else(|| NOT_AVAILABLE.into(), Value::from);
    entry.insert(key(metric), mean.into());
    entry.insert(error_key(metric), error);
    true
}

fn key(metric: &str) -> String {
    let (name, filter) = name_and_filter(metric);
    format!("{name},{}", filter.unwrap_or(FILTER))
}

fn error_key(metric: &str) -> String {
    let (name, filter) = name_and_filter(metric);
    format!("{name}_stderr,{}", filter.unwrap_or(FILTER))
}

/// Most documents any metric of the task was averaged over, as lm-eval counts.
fn sample_count(task: &TaskRun, scores: &Scores) -> usize {
    let counts = task
        .card
        .metrics
        .iter()
        .map(|metric| scores.task(&task.card.name, &metric.name).documents);
    counts.max().unwrap_or(0)
}

/// Direction by metric; null where tasks disagree.
fn directions<'a>(tasks: impl Iterator<Item = &'a TaskRun>) -> Value {
    let mut directions: Map<String, Value> = Map::new();
    for metric in tasks.flat_map(|task| &task.card.metrics) {
        let direction = Value::from(metric.higher_is_better);
        let known = directions
            .entry(metric.name_and_filter().0)
            .or_insert_with(|| direction.clone());
        if *known != direction {
            *known = Value::Null;
        }
    }
    directions.into()
}

fn sorted<'a>(entries: impl Iterator<Item = (&'a str, Value)>) -> Value {
    let entries: BTreeMap<&str, Value> = entries.collect();
    Value::Object(
        entries
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

fn provenance(run: &Run, task_hashes: Map<String, Value>) -> Map<String, Value> {
    let (started, ended) = (unix_seconds(&run.started), unix_seconds(&run.ended));
    let entries = [
        ("git_hash", Value::Null),
        ("date", started.into()),
        (
            "pretty_env_info",
            format!("{PROGRAM} {}", run.program_version).into(),
        ),
        ("upper_git_hash", Value::Null),
        ("max_length", run.model.context_length.into()),
        ("task_hashes", task_hashes.into()),
        ("model_source", PROGRAM.into()),
        ("model_name", run.model.source.as_str().into()),
        (
            "model_name_sanitized",
            sanitized_model(&run.model.source).into(),
        ),
        ("system_instruction", Value::Null),
        ("system_instruction_sha", Value::Null),
        ("fewshot_as_multiturn", false.into()),
        ("chat_template", Value::Null),
        ("chat_template_sha", Value::Null),
        ("start_time", started.into()),
        ("end_time", ended.into()),
        (
            "total_evaluation_time_seconds",
            python::repr(run.seconds).into(),
        ),
    ];
    entries
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn unix_seconds(time: &str) -> Option<f64> {
    let time: jiff::Timestamp = time.parse().ok()?;
    Some(time.as_duration().as_secs_f64())
}

/// Local part of an ISO 8601 time as lm-eval puts it into file names.
fn file_time(time: &str) -> String {
    let zone = |letter: char| matches!(letter, 'Z' | 'z' | '+' | '[');
    let (date, clock) = time.split_once(['T', ' ']).unwrap_or((time, ""));
    let clock = clock
        .split(|letter: char| zone(letter) || letter == '-')
        .next()
        .unwrap_or_default();
    let joined = if clock.is_empty() {
        date.to_owned()
    } else {
        format!("{date}T{clock}")
    };
    file_name_part(&joined.replace(':', "-"))
}

/// Only letters, digits, `_`, `-` and `.`, and nothing a path could be made of.
fn file_name_part(text: &str) -> String {
    let kept = |letter: char| {
        if letter.is_alphanumeric() || "_-.".contains(letter) {
            letter
        } else {
            '_'
        }
    };
    text.chars().take(200).map(kept).collect()
}

/// lm-eval's `sanitize_model_name`: each run of characters that file systems refuse becomes `__`.
fn sanitized_model(name: &str) -> String {
    let mut sanitized = String::with_capacity(name.len());
    let mut replaced = false;
    for letter in name.chars() {
        let refused = "\"<>:/|\\?*[]".contains(letter);
        if refused && !replaced {
            sanitized.push_str("__");
        } else if !refused {
            sanitized.push(letter);
        }
        replaced = refused;
    }
    sanitized
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_become_file_names() {
        let times = [
            "2026-08-21T12:34:56.789012+02:00",
            "2026-08-21T12:34:56Z",
            "2026-08-21T12:34:56-05:00[America/New_York]",
            "../x",
            "",
        ];
        assert_eq!(
            times.map(file_time),
            [
                "2026-08-21T12-34-56.789012",
                "2026-08-21T12-34-56",
                "2026-08-21T12-34-56",
                ".._x",
                ""
            ]
        );
        assert_eq!(unix_seconds("1970-01-01T01:00:01.5+01:00"), Some(1.5));
        assert_eq!(unix_seconds("yesterday"), None);
    }

    #[test]
    fn model_names_become_directory_names_as_in_lm_eval() {
        // Expected: lm_eval.utils.sanitize_model_name.
        assert_eq!(sanitized_model("/models/llama-7b"), "__models__llama-7b");
        assert_eq!(sanitized_model("a//b:*c[d]"), "a__b__c__d__");
    }
}
