//! What stands under a table: what the numbers mean, what they were taken over, what went wrong.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{Report, Scale};
use crate::{
    published::PublishedTable,
    summary::{ScoredSampling, TaskRun},
    table::{counted, metric_name, size},
};

/// Most letters shown of the reason for which a document has no score.
const REASON_LETTERS: usize = 100;

/// The tasks behind a label, for the notes.
pub(super) struct Source<'a> {
    /// What the numbers stand under.
    label: String,
    /// What the tasks are called, where several labels hold the same.
    title: String,
    tasks: Vec<&'a TaskRun>,
    /// Metric shown, where it is not the headline.
    metric: Option<String>,
    /// Is it of greedy completions, whatever else was generated?
    greedy: bool,
}

impl<'a> Source<'a> {
    /// The headline of `tasks`.
    pub(super) fn new(label: &str, tasks: Vec<&'a TaskRun>) -> Self {
        Self {
            label: label.to_owned(),
            title: label.to_owned(),
            tasks,
            metric: None,
            greedy: false,
        }
    }

    /// One task under its own title.
    pub(super) fn of(task: &'a TaskRun) -> Self {
        Self::new(&task.card.title, vec![task])
    }

    /// The same with a name for the tasks.
    pub(super) fn entitled(self, title: &str) -> Self {
        Self {
            title: title.to_owned(),
            ..self
        }
    }

    /// The same by another metric.
    pub(super) fn by(self, metric: Option<&str>) -> Self {
        Self {
            metric: metric.map(str::to_owned),
            ..self
        }
    }

    /// The same of greedy completions alone.
    pub(super) fn greedy(self) -> Self {
        Self {
            greedy: true,
            ..self
        }
    }

    /// Its completions, and how many were cut off.
    fn completions(&self) -> (usize, usize) {
        let documents = self.tasks.iter().flat_map(|task| &task.documents);
        let counted = documents
            .flat_map(|document| &document.completions)
            .filter(|completion| !self.greedy || completion.sampling.is_none());
        counted.fold((0, 0), |(all, cut), completion| {
            (all + 1, cut + usize::from(completion.cut))
        })
    }

    fn metric<'b>(&'b self, task: &'b TaskRun) -> &'b str {
        self.metric.as_deref().unwrap_or(&task.card.headline)
    }

    fn sum(&self, of: impl Fn(&TaskRun) -> usize) -> usize {
        self.tasks.iter().map(|task| of(task)).sum()
    }
}

impl Report<'_> {
    /// Whose numbers the own columns hold.
    pub(super) fn own_model(self) -> String {
        let model = &self.run.model;
        format!(
            "This model: {}, {} parameters, {} on {}.",
            model.name,
            size(model.parameters),
            model.dtype,
            model.device
        )
    }

    /// What the numbers mean, what they were taken over, and what went wrong.
    pub(super) fn notes(
        self,
        published: Option<&PublishedTable>,
        sources: &[Source],
    ) -> Vec<String> {
        let mut notes = vec![published.map_or_else(|| "Values: percent.".to_owned(), values)];
        notes.extend(rules(sources));
        // What is of the tasks, not of a metric, is told once per title.
        let tasks: Vec<&Source> = sources
            .iter()
            .enumerate()
            .filter(|(position, source)| {
                !sources
                    .iter()
                    .take(*position)
                    .any(|other| other.title == source.title)
            })
            .map(|(_, source)| source)
            .collect();
        let partial = tasks.iter().filter_map(|source| {
            let evaluated = source.sum(|task| task.documents.len());
            let split = source.sum(|task| task.split_documents);
            (evaluated < split).then(|| format!("{} n={evaluated} of {split}", source.title))
        });
        notes.extend(listed("On fewer documents than the split", partial));
        notes.extend(listed(
            "Not scored and left out of the mean",
            sources.iter().filter_map(unscored),
        ));
        let count = |of: fn(&TaskRun) -> usize| {
            tasks.iter().filter_map(move |source| {
                let count = source.sum(of);
                (count > 0).then(|| format!("{} {}", source.title, counted(count, "document")))
            })
        };
        notes.extend(listed(
            "Few-shot examples dropped to fit the context",
            count(TaskRun::with_dropped_examples),
        ));
        notes.extend(listed(
            "Context cut from the left to fit",
            count(TaskRun::truncated),
        ));
        let cut = tasks.iter().filter_map(|source| {
            let (all, cut) = source.completions();
            (cut > 0).then(|| format!("{} {cut} of {all}", source.title))
        });
        notes.extend(listed(
            "Completions cut off by the token limit or the model's context",
            cut,
        ));
        notes.extend(listed(
            "Samples per prompt",
            tasks.iter().filter_map(|source| sampled(source)),
        ));
        if published.is_some_and(|table| {
            table
                .rows
                .iter()
                .any(|row| !row.read_from_figure.is_empty())
        }) {
            notes.push("* read from a figure by the paper's authors.".to_owned());
        }
        let beside = if published.is_some() && self.run.protocol == "lm-eval" {
            "; the published rows follow their own papers' protocols, with other prompts and rules"
        } else {
            ""
        };
        notes.push(format!("Protocol: {}{beside}.", self.run.protocol));
        notes
    }
}

/// What the paper measured; where a judge did, that is not what this run measures.
fn values(table: &PublishedTable) -> String {
    let whose = match Scale::of(table) {
        Scale::Percent => "Values",
        Scale::Fraction(_) => "Published values",
    };
    format!("{whose}: {}; {}.", table.metric, table.unit)
}

/// One note per metric, rule and number of shots, with the labels it holds for.
fn rules(sources: &[Source]) -> Vec<String> {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for source in sources {
        for task in &source.tasks {
            let metric = source.metric(task);
            let card = task.card.metrics.iter().find(|card| card.name == metric);
            let rule = card.map_or("no rule stated", |card| card.rule.as_str());
            let key = format!("{}, {rule}; {}-shot", metric_name(metric), task.shots);
            let position = groups
                .iter()
                .position(|(other, _)| *other == key)
                .unwrap_or_else(|| {
                    groups.push((key, Vec::new()));
                    groups.len() - 1
                });
            if let Some((_, labels)) = groups.get_mut(position)
                && !labels.contains(&source.label.as_str())
            {
                labels.push(&source.label);
            }
        }
    }
    groups
        .into_iter()
        .map(|(key, labels)| format!("{}: {key}.", labels.join(", ")))
        .collect()
}

/// `BoolQ 2 documents (a logit was NaN)`: how many have no value, and the commonest reason.
fn unscored(source: &Source) -> Option<String> {
    // How often, and where first, by reason: there may be as many as documents.
    let mut reasons: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut count = 0;
    for task in &source.tasks {
        for document in task.without(source.metric(task)) {
            count += 1;
            let Some(reason) = document.unscored.as_deref() else {
                continue;
            };
            reasons.entry(reason).or_insert((0, count)).0 += 1;
        }
    }
    let commonest = reasons
        .iter()
        .max_by_key(|(_, (times, first))| (*times, Reverse(*first)));
    let reason = commonest.map_or_else(String::new, |(reason, _)| {
        let others = match reasons.len() {
            1 => String::new(),
            all => format!(", and {}", counted(all - 1, "other reason")),
        };
        format!(" ({}{others})", shortened(reason))
    });
    (count > 0).then(|| format!("{} {}{reason}", source.label, counted(count, "document")))
}

/// The first line, not too long of it.
fn shortened(reason: &str) -> String {
    let line = reason.lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(REASON_LETTERS).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    short
}

/// `HumanEval 200 (temperature 0.8, top-p 0.95)`; nothing where all is greedy.
fn sampled(source: &Source) -> Option<String> {
    if source.greedy {
        return None;
    }
    let mut ways: Vec<(ScoredSampling, usize, usize)> = Vec::new();
    let documents = source.tasks.iter().flat_map(|task| &task.documents);
    for generation in documents.flat_map(|document| document.generations()) {
        let Some(way) = generation.first().and_then(|first| first.sampling) else {
            continue;
        };
        // Seeds differ from document to document.
        let way = ScoredSampling { seed: 0, ..way };
        let samples = generation.len();
        match ways.iter_mut().find(|(other, ..)| *other == way) {
            Some((_, fewest, most)) => {
                *fewest = samples.min(*fewest);
                *most = samples.max(*most);
            }
            None => ways.push((way, samples, samples)),
        }
    }
    let described = ways.iter().map(|(way, fewest, most)| {
        let samples = if fewest == most {
            most.to_string()
        } else {
            format!("{fewest} to {most}")
        };
        let top_k = match way.top_k {
            0 => String::new(),
            top_k => format!(", top-k {top_k}"),
        };
        format!(
            "{samples} (temperature {}, top-p {}{top_k})",
            way.temperature, way.top_p
        )
    });
    let described: Vec<String> = described.collect();
    (!described.is_empty()).then(|| format!("{} {}", source.title, described.join(" and ")))
}

fn listed(heading: &str, items: impl Iterator<Item = String>) -> Option<String> {
    let items: Vec<String> = items.collect();
    (!items.is_empty()).then(|| format!("{heading}: {}.", items.join(", ")))
}
