//! What a report is made of.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One finished (or interrupted) run: the input to every table and file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The model that answered.
    pub model: ModelCard,
    /// `paper` or `lm-eval`.
    pub protocol: String,
    /// Seed of the few-shot draws.
    pub seed: u64,
    /// `--limit`, if given.
    pub limit: Option<usize>,
    /// All other resolved settings, for the record.
    pub settings: Map<String, Value>,
    /// Program version, with the commit where it is known.
    pub program_version: String,
    /// Start and end, ISO 8601 with offset.
    pub started: String,
    /// See `started`.
    pub ended: String,
    /// Wall-clock seconds spent asking the model, over all sessions of this run.
    pub seconds: f64,
    /// Unique tokens computed, over all sessions of this run.
    pub unique_tokens: u64,
    /// Who said what the model could not: `program`, `toxicity`, `truthful` or `informative`, and the
    /// sandbox's or judge's name and version.
    pub judges: BTreeMap<String, String>,
    /// The tasks, in the order they were asked for.
    pub tasks: Vec<TaskRun>,
}

/// Provenance of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// Short name for tables.
    pub name: String,
    /// Path it was loaded from.
    pub source: String,
    /// Number of weights.
    pub parameters: u64,
    /// `f32`, `bf16` or `f16`.
    pub dtype: String,
    /// `cpu`, `cuda:0`.
    pub device: String,
    /// SHA-256 of the weights.
    pub weights_sha256: String,
    /// SHA-256 of the tokenizer.
    pub tokenizer_sha256: String,
    /// Longest sequence in tokens.
    pub context_length: usize,
    /// Is BOS put before non-empty prompts?
    pub adds_bos: bool,
    /// Text and id of the start-of-text token.
    pub prefix_token: (String, u32),
}

/// One task of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRun {
    /// What the task is.
    pub card: TaskCard,
    /// Few-shot examples in each prompt.
    pub shots: usize,
    /// Documents in the whole split; `documents` holds the evaluated ones.
    pub split_documents: usize,
    /// Evaluated documents, ascending by index.
    pub documents: Vec<DocumentScore>,
}

/// What a report needs to know of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskCard {
    /// lm-eval's name.
    pub name: String,
    /// The paper's name.
    pub title: String,
    /// Version of prompts and scoring.
    pub version: u32,
    /// Table id and column in `published.json`.
    pub published: Option<(String, String)>,
    /// Group it is averaged into, size-weighted.
    pub group: Option<String>,
    /// Evaluated split.
    pub split: String,
    /// Licence of the data.
    pub licence: String,
    /// Citation.
    pub citation: String,
    /// SHA-256 of the data files it read, by file name.
    pub data_sha256: BTreeMap<String, String>,
    /// All metrics, in order.
    pub metrics: Vec<MetricCard>,
    /// Name of the headline metric under this run's protocol.
    pub headline: String,
}

/// What a report needs to know of a metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricCard {
    /// lm-eval's name.
    pub name: String,
    /// Is more better?
    pub higher_is_better: bool,
    /// The rule in one line.
    pub rule: String,
}

/// One document's requests, answers and scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DocumentScore {
    /// Position in the split.
    pub index: usize,
    /// The dataset's id.
    pub id: String,
    /// Categories results are also reported by: none, one, or several (a WinoGender document belongs
    /// to its pronoun's and perhaps to that pronoun's gotcha group). Named as the rows of the
    /// published table, or as the dataset spells them (`race-color` finds `Race/Color`).
    pub categories: Vec<String>,
    /// The fields, in their order.
    pub document: Map<String, Value>,
    /// The gold answer as text.
    pub target: String,
    /// Log-likelihood requests with their answers, in order.
    pub requests: Vec<ScoredRequest>,
    /// Generation requests with their completions, in order.
    pub completions: Vec<ScoredCompletion>,
    /// Metric values by name; empty if unscored.
    pub metrics: BTreeMap<String, f64>,
    /// Why it has no score, if it has none.
    pub unscored: Option<String>,
}

/// One log-likelihood request and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoredRequest {
    /// Context as asked, before any shortening.
    pub context: String,
    /// Continuation as asked.
    pub continuation: String,
    /// Summed log-likelihood; `None` if unanswered.
    pub log_likelihood: Option<f64>,
    /// Is the continuation the model's own choice?
    pub greedy: bool,
    /// Smallest gap between the two best logits at the scored positions.
    pub margin: f32,
    /// Continuation token ids.
    pub token_ids: Vec<u32>,
    /// ln p of each.
    pub log_probs: Vec<f32>,
    /// Tokens of context fed.
    pub context_tokens: usize,
    /// Few-shot examples dropped to fit.
    pub dropped_examples: usize,
    /// Tokens cut from the left to fit.
    pub truncated_tokens: usize,
}

/// One generation request and its completion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoredCompletion {
    /// Prompt as asked, before any shortening; shared by the samples of one prompt.
    pub context: Arc<str>,
    /// Stop strings.
    pub stop: Vec<String>,
    /// Most tokens allowed.
    pub max_new_tokens: usize,
    /// How tokens were drawn; `None` for greedy.
    pub sampling: Option<ScoredSampling>,
    /// Which of several completions of the prompt, from 0.
    pub sample: u32,
    /// The completion, without the stop string; `None` if unanswered.
    pub text: Option<String>,
    /// What each of lm-eval's filters makes of it: filter and text; empty where there is none.
    pub filtered: Vec<(String, String)>,
    /// Why it ended: `stop-string`, `end-of-text`, `length` or `context`; empty if unanswered.
    pub finish: String,
    /// Was it cut off by the token limit or the model's context?
    pub cut: bool,
    /// Tokens generated.
    pub tokens: usize,
    /// Smallest gap between the two best logits at any step.
    pub margin: f32,
    /// Tokens of prompt fed.
    pub prompt_tokens: usize,
    /// Few-shot examples dropped to fit.
    pub dropped_examples: usize,
    /// Tokens cut from the left to fit.
    pub truncated_tokens: usize,
    /// What the sandbox or judges said of it, in the task's order.
    pub verdicts: Vec<ScoredVerdict>,
}

/// How tokens were drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoredSampling {
    /// Logits were divided by it.
    pub temperature: f32,
    /// Share of probability drawn from.
    pub top_p: f32,
    /// Number of tokens drawn from; 0 for all.
    pub top_k: usize,
    /// Seed of the document's draws.
    pub seed: u64,
}

/// What the sandbox or a judge said of a completion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoredVerdict {
    /// What was asked: `program`, `toxicity`, `truthful`, `informative`.
    pub check: String,
    /// The answer; `None` if there is none.
    pub value: Option<f64>,
    /// Why it is so, or why there is none.
    pub note: String,
}

impl DocumentScore {
    /// Completions by what was generated: one slice per prompt, stop strings, limit and sampling,
    /// holding its samples in order.
    pub fn generations(&self) -> impl Iterator<Item = &[ScoredCompletion]> {
        self.completions.chunk_by(|one, next| {
            next.sample > one.sample
                && one.sampling == next.sampling
                && one.max_new_tokens == next.max_new_tokens
                && one.stop == next.stop
                && one.context == next.context
        })
    }

    /// Has it a finite value of `metric`?
    pub fn has(&self, metric: &str) -> bool {
        self.metrics
            .get(metric)
            .is_some_and(|value| value.is_finite())
    }
}

impl MetricCard {
    /// Name without and with what stands after the comma: `exact_match` and, if any, its filter
    /// `strict-match`.
    pub fn name_and_filter(&self) -> (&str, Option<&str>) {
        name_and_filter(&self.name)
    }
}

/// A metric's name and, after its comma, lm-eval's filter.
pub(crate) fn name_and_filter(metric: &str) -> (&str, Option<&str>) {
    match metric.split_once(',') {
        Some((name, filter)) => (name, Some(filter)),
        None => (metric, None),
    }
}

impl TaskRun {
    /// Evaluated documents without a value of the headline metric: left out of every mean, never counted as 0.
    pub fn unscored(&self) -> usize {
        self.without(&self.card.headline).count()
    }

    /// Evaluated documents without a value of `metric`.
    pub fn without(&self, metric: &str) -> impl Iterator<Item = &DocumentScore> {
        self.documents
            .iter()
            .filter(move |document| !document.has(metric))
    }

    /// Documents whose context was cut from the left, in at least one request.
    pub fn truncated(&self) -> usize {
        self.count(
            |request| request.truncated_tokens > 0,
            |completion| completion.truncated_tokens > 0,
        )
    }

    /// Documents that lost few-shot examples, in at least one request.
    pub fn with_dropped_examples(&self) -> usize {
        self.count(
            |request| request.dropped_examples > 0,
            |completion| completion.dropped_examples > 0,
        )
    }

    /// Completions, and how many of them were cut off by the token limit or the model's context.
    pub fn cut_completions(&self) -> (usize, usize) {
        let completions = || self.documents.iter().flat_map(|it| &it.completions);
        (
            completions().count(),
            completions().filter(|completion| completion.cut).count(),
        )
    }

    /// The headline metric's card.
    pub fn headline(&self) -> Option<&MetricCard> {
        self.card
            .metrics
            .iter()
            .find(|metric| metric.name == self.card.headline)
    }

    fn count(
        &self,
        request: fn(&ScoredRequest) -> bool,
        completion: fn(&ScoredCompletion) -> bool,
    ) -> usize {
        self.documents
            .iter()
            .filter(|document| {
                document.requests.iter().any(request) || document.completions.iter().any(completion)
            })
            .count()
    }
}
