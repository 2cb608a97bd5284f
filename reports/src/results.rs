//! All tasks and all metrics in one flat table, like lm-eval's own.

use crate::{
    Scores,
    groups::{Group, groups},
    mmlu,
    statistics::Summary,
    summary::{MetricCard, Run, TaskRun},
    table::{ABSENT, Column, INDENT, Table, decimal, documents, metric_name, size},
};

const TITLE: &str = "Results";
const HEADLINE_MARK: &str = " *";

/// The flat table.
pub(crate) fn table(run: &Run, scores: &Scores) -> Table {
    let mut lines = Lines {
        run,
        scores,
        rows: Vec::new(),
    };
    let groups = groups(run);
    let mut printed: Vec<usize> = Vec::new();
    for task in 0..run.tasks.len() {
        if printed.contains(&task) {
            continue;
        }
        // The top group of a task comes with all its members, the others stand for themselves.
        let top = groups
            .iter()
            .rev()
            .find(|group| group.members.contains(&task));
        match top {
            Some(group) => {
                lines.group(group, &groups, 0);
                printed.extend(&group.members);
            }
            None => lines.task(task, 0),
        }
    }
    Table {
        title: TITLE.to_owned(),
        header: vec![
            Column::text("Task"),
            Column::number("Version"),
            Column::number("Shots"),
            Column::number("n"),
            Column::text("Metric"),
            Column::text(""),
            Column::number("Value"),
            Column::number("± Stderr"),
            Column::number("95% interval"),
        ],
        rows: lines.rows,
        rules: Vec::new(),
        notes: notes(run),
    }
}

struct Lines<'a> {
    run: &'a Run,
    scores: &'a Scores,
    rows: Vec<Vec<String>>,
}

impl Lines<'_> {
    fn group(&mut self, group: &Group, all: &[Group], depth: usize) {
        let Some(first) = group.tasks(self.run).next() else {
            return;
        };
        let split = group.tasks(self.run).map(|task| task.split_documents).sum();
        let (names, card) = (group.metrics(self.run), &first.card);
        let metrics: Vec<&MetricCard> = card
            .metrics
            .iter()
            .filter(|metric| names.contains(&metric.name))
            .collect();
        let cells = [
            indented(&group.alias, depth),
            ABSENT.to_owned(),
            group
                .shots(self.run)
                .map_or_else(|| ABSENT.to_owned(), |shots| shots.to_string()),
        ];
        self.metrics(&group.name, cells, split, &metrics, &card.headline);
        for subgroup in all
            .iter()
            .filter(|other| group.subgroups.contains(&other.name))
        {
            self.group(subgroup, all, depth + 1);
        }
        let in_subgroup = |task: &usize| {
            all.iter()
                .any(|other| group.subgroups.contains(&other.name) && other.members.contains(task))
        };
        for &task in group.members.iter().filter(|task| !in_subgroup(task)) {
            self.task(task, depth + 1);
        }
    }

    fn task(&mut self, position: usize, depth: usize) {
        let Some(task) = self.run.tasks.get(position) else {
            return;
        };
        let cells = [
            indented(mmlu::alias(&task.card.name), depth),
            task.card.version.to_string(),
            task.shots.to_string(),
        ];
        let metrics: Vec<&MetricCard> = task
            .card
            .metrics
            .iter()
            .filter(|metric| !self.is_other_protocols(task, metric))
            .collect();
        self.metrics(
            &task.card.name,
            cells,
            task.split_documents,
            &metrics,
            &task.card.headline,
        );
    }

    /// Has it no value, while the same metric by another filter has one? A task knows the filters of
    /// both protocols, and a run follows one.
    fn is_other_protocols(&self, task: &TaskRun, metric: &MetricCard) -> bool {
        let measured =
            |metric: &MetricCard| self.scores.task(&task.card.name, &metric.name).documents > 0;
        let (name, _) = metric.name_and_filter();
        metric.name != task.card.headline
            && !measured(metric)
            && task
                .card
                .metrics
                .iter()
                .any(|other| other.name_and_filter().0 == name && measured(other))
    }

    /// One row per metric; only the first repeats what holds for all.
    fn metrics(
        &mut self,
        name: &str,
        cells: [String; 3],
        split: usize,
        metrics: &[&MetricCard],
        headline: &str,
    ) {
        for (position, metric) in metrics.iter().enumerate() {
            let summary = self.scores.task(name, &metric.name);
            let mark = if metric.name == headline {
                HEADLINE_MARK
            } else {
                ""
            };
            let shared = if position == 0 {
                cells.clone()
            } else {
                Default::default()
            };
            let own = [
                documents(summary.documents, split),
                format!("{}{mark}", metric_name(&metric.name)),
                if metric.higher_is_better {
                    "↑"
                } else {
                    "↓"
                }
                .to_owned(),
                decimal(summary.mean),
                decimal(summary.standard_error),
                interval(&summary),
            ];
            self.rows.push(shared.into_iter().chain(own).collect());
        }
    }
}

fn indented(name: &str, depth: usize) -> String {
    match depth {
        0 => name.to_owned(),
        _ => format!("{}-{INDENT}{name}", INDENT.repeat(depth)),
    }
}

fn interval(summary: &Summary) -> String {
    summary.interval().map_or_else(
        || ABSENT.to_owned(),
        |(low, high)| format!("{low:.3}–{high:.3}"),
    )
}

/// The first 16 digits; the results file holds all.
fn shortened(sha256: &str) -> String {
    let mut digits: String = sha256.chars().take(16).collect();
    if sha256.chars().nth(16).is_some() {
        digits.push('…');
    }
    digits
}

/// `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn notes(run: &Run) -> Vec<String> {
    let model = &run.model;
    let mut notes = vec![
        format!(
            "Model: {}, {} parameters, {} on {}, context {} tokens, BOS {}.",
            model.name,
            size(model.parameters),
            model.dtype,
            model.device,
            model.context_length,
            if model.adds_bos { "added" } else { "not added" },
        ),
        format!(
            "Weights sha256 {}; tokenizer sha256 {}.",
            shortened(&model.weights_sha256),
            shortened(&model.tokenizer_sha256)
        ),
        format!(
            "Protocol: {}; few-shot seed {}; {}.",
            run.protocol, run.seed, run.program_version
        ),
        format!(
            "{} unique tokens in {:.1} s.",
            grouped(run.unique_tokens),
            run.seconds
        ),
    ];
    if let Some(limit) = run.limit {
        notes.push(format!(
            "Only the first {limit} documents of each task: not a benchmark result."
        ));
    }
    let unscored: usize = run.tasks.iter().map(TaskRun::unscored).sum();
    if unscored > 0 {
        notes.push(format!(
            "Documents without a score, left out of every mean: {unscored}."
        ));
    }
    let (completions, cut) = run
        .tasks
        .iter()
        .map(TaskRun::cut_completions)
        .fold((0, 0), |sum, task| (sum.0 + task.0, sum.1 + task.1));
    if completions > 0 {
        notes.push(format!(
            "Completions: {}; {} of them cut off by the token limit or the model's context.",
            grouped(completions as u64),
            grouped(cut as u64)
        ));
    }
    for (check, judge) in &run.judges {
        notes.push(format!("`{check}` was told by {judge}."));
    }
    notes.push("* marks the headline metric under this protocol; ↑ higher is better, ↓ lower is better; the 95% interval is Wilson's.".to_owned());
    notes
}
