//! Generation requests as lm-eval writes them: settings, completions, filters.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::FILTER;
use crate::summary::{DocumentScore, ScoredCompletion, ScoredVerdict, TaskRun};

/// lm-eval's filters that give a list for a prompt even where it has one completion.
const LIST_FILTERS: [&str; 1] = ["create_test"];

/// `generation_kwargs`, which lm-eval writes as the second argument of a request.
pub(super) fn arguments(completion: &ScoredCompletion) -> Value {
    let (stop, limit) = (&completion.stop, completion.max_new_tokens);
    match completion.sampling {
        None => {
            json!({"until": stop, "max_gen_toks": limit, "do_sample": false, "temperature": 0.0})
        }
        Some(sampling) => json!({
            "until": stop,
            "max_gen_toks": limit,
            "do_sample": true,
            "temperature": decimal(sampling.temperature),
            "top_p": decimal(sampling.top_p),
            "top_k": sampling.top_k,
        }),
    }
}

/// The number that was meant: 0.6, where widening the `f32` gives 0.6000000238.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// Filters the task has rows for, in the order of its metrics: those with a value or a filtered text,
/// and if there are none that of the headline.
pub(super) fn filters(task: &TaskRun) -> Vec<&str> {
    let used = |filter: &str| {
        let of_filter = |metric: &str| {
            let (_, other) = crate::summary::name_and_filter(metric);
            other.unwrap_or(FILTER) == filter
        };
        task.documents.iter().any(|document| {
            document.metrics.keys().any(|metric| of_filter(metric))
                || document
                    .completions
                    .iter()
                    .any(|completion| completion.filtered.iter().any(|(name, _)| name == filter))
        })
    };
    let mut filters: Vec<&str> = Vec::new();
    for metric in &task.card.metrics {
        let filter = metric.name_and_filter().1.unwrap_or(FILTER);
        if !filters.contains(&filter) {
            filters.push(filter);
        }
    }
    filters.retain(|filter| used(filter));
    if filters.is_empty() {
        let (_, headline) = crate::summary::name_and_filter(&task.card.headline);
        filters.push(headline.unwrap_or(FILTER));
    }
    filters
}

/// All completions of a prompt; null for one that is missing.
pub(super) fn responses(generation: &[ScoredCompletion]) -> Vec<Option<&str>> {
    generation
        .iter()
        .map(|completion| completion.text.as_deref())
        .collect()
}

/// What `filter` makes of a prompt's completions: one text, or a list where there are several.
pub(super) fn filtered(generation: &[ScoredCompletion], filter: &str) -> Value {
    let of = |completion: &ScoredCompletion| -> Value {
        let filtered = completion.filtered.iter().find(|(name, _)| name == filter);
        match (filtered, &completion.text) {
            (Some((_, text)), _) | (None, Some(text)) => text.as_str().into(),
            (None, None) => Value::Null,
        }
    };
    match generation {
        [one] if !LIST_FILTERS.contains(&filter) => of(one),
        several => several.iter().map(of).collect(),
    }
}

/// What lm-eval has no place for: each a list over the prompts of lists over their samples.
#[derive(Serialize)]
pub(super) struct Own<'a> {
    /// Seed of the draws, by prompt; null where greedy.
    seed: Vec<Option<u64>>,
    sample: Vec<Vec<u32>>,
    finish: Vec<Vec<&'a str>>,
    cut: Vec<Vec<bool>>,
    /// What filters made of them that have no row of their own.
    filtered: Vec<Vec<BTreeMap<&'a str, &'a str>>>,
    tokens: Vec<Vec<usize>>,
    margin: Vec<Vec<f32>>,
    prompt_tokens: Vec<Vec<usize>>,
    dropped_examples: Vec<Vec<usize>>,
    truncated_tokens: Vec<Vec<usize>>,
    verdicts: Vec<Vec<&'a [ScoredVerdict]>>,
}

impl<'a> Own<'a> {
    /// `None` of a document that nothing was generated for; `filters` have rows of their own.
    pub(super) fn of(document: &'a DocumentScore, filters: &[&str]) -> Option<Self> {
        if document.completions.is_empty() {
            return None;
        }
        Some(Self {
            seed: document
                .generations()
                .map(|generation| Some(generation.first()?.sampling?.seed))
                .collect(),
            sample: nested(document, |completion| completion.sample),
            finish: nested(document, |completion| completion.finish.as_str()),
            cut: nested(document, |completion| completion.cut),
            filtered: nested(document, |completion| {
                let filtered = completion.filtered.iter();
                filtered
                    .filter(|(name, _)| !filters.contains(&name.as_str()))
                    .map(|(name, text)| (name.as_str(), text.as_str()))
                    .collect()
            }),
            tokens: nested(document, |completion| completion.tokens),
            margin: nested(document, |completion| completion.margin),
            prompt_tokens: nested(document, |completion| completion.prompt_tokens),
            dropped_examples: nested(document, |completion| completion.dropped_examples),
            truncated_tokens: nested(document, |completion| completion.truncated_tokens),
            verdicts: nested(document, |completion| completion.verdicts.as_slice()),
        })
    }
}

fn nested<'a, T>(
    document: &'a DocumentScore,
    of: impl Fn(&'a ScoredCompletion) -> T,
) -> Vec<Vec<T>> {
    document
        .generations()
        .map(|generation| generation.iter().map(&of).collect())
        .collect()
}
