//! Metrics named after their k: `pass@100`, `maj1@256`.

use super::{Own, Report};
use crate::summary::TaskRun;

/// A metric with its k.
#[derive(Clone, Copy)]
pub(super) struct AtK<'a> {
    pub(super) metric: &'a str,
    pub(super) k: usize,
}

/// All metrics of the task whose names are `prefix` and a k.
pub(super) fn at_k<'a>(task: &'a TaskRun, prefix: &'a str) -> impl Iterator<Item = AtK<'a>> {
    task.card.metrics.iter().filter_map(move |metric| {
        let k = metric.name_and_filter().0.strip_prefix(prefix)?;
        Some(AtK {
            metric: &metric.name,
            k: k.parse().ok()?,
        })
    })
}

impl Own {
    /// Marked with its k where that is not the paper's.
    pub(super) fn at(self, k: usize, paper: usize) -> Self {
        Self {
            other_k: (k != paper).then_some(k),
            ..self
        }
    }
}

impl Report<'_> {
    /// What a reader must know of estimates from samples; `columns` are the labels with the paper's k.
    pub(super) fn k_notes(self, columns: &[(String, usize, Option<Own>)]) -> Vec<String> {
        let others: Vec<String> = columns
            .iter()
            .filter_map(|(label, paper, own)| {
                Some(format!(
                    "{label} k={} (paper {paper})",
                    own.as_ref()?.other_k?
                ))
            })
            .collect();
        let other = (!others.is_empty()).then(|| {
            format!(
                "Another k than the paper's, marked @k in the cell and not comparable: {}.",
                others.join(", ")
            )
        });
        let error = "± is over documents, one estimate each; chance in drawing a document's samples is part of their spread, not told apart.";
        let sampled = columns.iter().any(|(.., own)| own.is_some());
        other
            .into_iter()
            .chain(sampled.then(|| error.to_owned()))
            .collect()
    }
}
