//! One row per filter and document, streamed.

use std::io::{self, Write};

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{FILTER, generation};
use crate::{
    python,
    summary::{DocumentScore, ScoredRequest, TaskRun},
};

/// lm-eval's three hashes of a document (`evaluator.py`).
pub(super) struct Hashes {
    document: String,
    prompt: String,
    target: String,
}

impl Hashes {
    pub(super) fn of(document: &DocumentScore) -> Self {
        let request = document.requests.first();
        let completion = document.completions.first();
        let prompt = request
            .map(|request| request.context.as_str())
            .or(completion.map(|completion| &*completion.context))
            .unwrap_or_default();
        Self {
            document: sha256([python::indented_json(&document.document).as_str()]),
            prompt: sha256([prompt]),
            target: sha256([document.target.as_str()]),
        }
    }
}

/// SHA-256 of the hashes of all rows of a task, one after another.
pub(super) fn task_hash(task: &TaskRun, hashes: &[Hashes]) -> String {
    let rows = generation::filters(task)
        .into_iter()
        .flat_map(|_| hashes.iter());
    sha256(
        rows.flat_map(|hashes| [&hashes.document, &hashes.prompt, &hashes.target])
            .map(String::as_str),
    )
}

pub(super) fn write(writer: &mut dyn Write, task: &TaskRun, hashes: &[Hashes]) -> io::Result<()> {
    let filters = generation::filters(task);
    for &filter in &filters {
        for (document, hashes) in task.documents.iter().zip(hashes) {
            let row = Row {
                task,
                filter,
                filters: &filters,
                document,
                hashes,
            };
            python::write_json(writer, &row, None)?;
            writer.write_all(b"\n")?;
        }
    }
    Ok(())
}

struct Row<'a> {
    task: &'a TaskRun,
    filter: &'a str,
    filters: &'a [&'a str],
    document: &'a DocumentScore,
    hashes: &'a Hashes,
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let document = self.document;
        let values = || {
            let metrics = self.task.card.metrics.iter();
            metrics.filter_map(|metric| {
                let (name, filter) = metric.name_and_filter();
                let value = document.metrics.get(&metric.name)?;
                (filter.unwrap_or(FILTER) == self.filter).then_some((name, value))
            })
        };
        let likelihoods = || document.requests.iter().map(response);
        // One list more than below: lm-eval can ask each request several times.
        let responses: Vec<Value> = likelihoods()
            .map(|response| json!([response]))
            .chain(
                document
                    .generations()
                    .map(|it| json!(generation::responses(it))),
            )
            .collect();
        let filtered: Vec<Value> = likelihoods()
            .map(|response| json!(response))
            .chain(
                document
                    .generations()
                    .map(|it| generation::filtered(it, self.filter)),
            )
            .collect();
        let mut row = serializer.serialize_map(None)?;
        row.serialize_entry("doc_id", &document.index)?;
        row.serialize_entry("doc", &document.document)?;
        row.serialize_entry("target", &document.target)?;
        row.serialize_entry("arguments", &arguments(document))?;
        row.serialize_entry("resps", &responses)?;
        row.serialize_entry("filtered_resps", &filtered)?;
        row.serialize_entry("filter", self.filter)?;
        row.serialize_entry(
            "metrics",
            &values().map(|(name, _)| name).collect::<Vec<_>>(),
        )?;
        row.serialize_entry("doc_hash", &self.hashes.document)?;
        row.serialize_entry("prompt_hash", &self.hashes.prompt)?;
        row.serialize_entry("target_hash", &self.hashes.target)?;
        for (name, value) in values() {
            row.serialize_entry(name, value)?;
        }
        row.serialize_entry("llama_eval", &own(document, self.filters))?;
        row.end()
    }
}

fn response(request: &ScoredRequest) -> [String; 2] {
    [
        python::repr(request.log_likelihood.unwrap_or(f64::NAN)),
        python::boolean(request.greedy).to_owned(),
    ]
}

fn arguments(document: &DocumentScore) -> Map<String, Value> {
    let likelihoods = document
        .requests
        .iter()
        .map(|request| json!({"arg_0": request.context, "arg_1": request.continuation}));
    let generations = document
        .generations()
        .filter_map(|generation| generation.first())
        .map(|first| json!({"arg_0": &*first.context, "arg_1": generation::arguments(first)}));
    likelihoods
        .chain(generations)
        .enumerate()
        .map(|(index, argument)| (format!("gen_args_{index}"), argument))
        .collect()
}

fn own(document: &DocumentScore, filters: &[&str]) -> impl Serialize {
    #[derive(Serialize)]
    struct Own<'a> {
        id: &'a str,
        categories: &'a [String],
        unscored: Option<&'a str>,
        token_ids: Vec<&'a [u32]>,
        log_probs: Vec<&'a [f32]>,
        greedy: Vec<bool>,
        margin: Vec<f32>,
        context_tokens: Vec<usize>,
        dropped_examples: Vec<usize>,
        truncated_tokens: Vec<usize>,
        #[serde(skip_serializing_if = "Option::is_none")]
        completions: Option<generation::Own<'a>>,
    }
    let requests = || document.requests.iter();
    Own {
        id: &document.id,
        categories: &document.categories,
        unscored: document.unscored.as_deref(),
        token_ids: requests()
            .map(|request| request.token_ids.as_slice())
            .collect(),
        log_probs: requests()
            .map(|request| request.log_probs.as_slice())
            .collect(),
        greedy: requests().map(|request| request.greedy).collect(),
        margin: requests().map(|request| request.margin).collect(),
        context_tokens: requests().map(|request| request.context_tokens).collect(),
        dropped_examples: requests().map(|request| request.dropped_examples).collect(),
        truncated_tokens: requests().map(|request| request.truncated_tokens).collect(),
        completions: generation::Own::of(document, filters),
    }
}

fn sha256<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = Sha256::new();
    parts
        .into_iter()
        .for_each(|part| hasher.update(part.as_bytes()));
    hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
