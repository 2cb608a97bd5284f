//! Table 7, and what it averages: MATH by subject and level.

use super::{
    MATH, Own, Report, Scale,
    at_k::at_k,
    is_in,
    layout::{COUNT_ROW, ERROR_ROW, own_cells},
    metric_called,
    notes::Source,
    numbered,
};
use crate::{
    published,
    statistics::Summary,
    summary::TaskRun,
    table::{Column, Table, documents, percent},
};

/// Group of MATH's subjects, and the prefix of their task names.
const GROUP: &str = "minerva_math";
/// Subjects as the dataset calls them, by what follows the prefix.
const SUBJECTS: [(&str, &str); 7] = [
    ("algebra", "Algebra"),
    ("counting_and_prob", "Counting & Probability"),
    ("geometry", "Geometry"),
    ("intermediate_algebra", "Intermediate Algebra"),
    ("num_theory", "Number Theory"),
    ("prealgebra", "Prealgebra"),
    ("precalc", "Precalculus"),
];
const EXACT_MATCH: &str = "exact_match";
const MAJORITY: &str = "maj1@";
/// The k of the paper's majority votes.
const MATH_K: usize = 256;
const GSM8K_K: usize = 100;

impl<'a> Report<'a> {
    /// Table 7: both benchmarks, greedy and by majority vote.
    pub(super) fn math(self) -> Option<Table> {
        let published = published::table(MATH)?;
        let questions = self
            .task(|task| is_in(task, MATH) && !is_subject(task))
            .into_iter()
            .collect();
        let benchmarks = [
            ("MATH", self.math_tasks(), MATH_K),
            ("GSM8k", questions, GSM8K_K),
        ];
        let (mut own, mut sources, mut votes) = (Vec::new(), Vec::new(), Vec::new());
        for (title, tasks, paper_k) in benchmarks {
            let greedy = self.average(&tasks, exact_match);
            let (vote, name) = self.majority(&tasks, paper_k).unzip();
            own.extend([greedy, vote]);
            let exact = tasks.first().and_then(|task| exact_match(task));
            for (label, metric) in [
                (title.to_owned(), exact),
                (format!("{title} +maj1@k"), name),
            ] {
                if metric.is_some() {
                    let source = Source::new(&label, tasks.clone());
                    sources.push(source.entitled(title).by(metric));
                }
            }
            votes.push((format!("{title} +maj1@k"), paper_k, vote));
        }
        let headings = ["MATH", "+maj1@k", "GSM8k", "+maj1@k"].map(str::to_owned);
        let mut table = self.model_rows(numbered(published), &headings, Some(published), &own)?;
        table.notes.extend(self.notes(Some(published), &sources));
        table.notes.extend(self.k_notes(&votes));
        table.notes.extend(self.math_notes());
        Some(table)
    }

    /// Greedy exact match, subjects down, levels across.
    pub(super) fn levels(self) -> Option<Table> {
        let tasks = self.math_tasks();
        let mut levels: Vec<&str> = tasks
            .iter()
            .flat_map(|task| self.scores.categories(&task.card.name))
            .collect();
        levels.sort_unstable();
        levels.dedup();
        if levels.is_empty() {
            return None;
        }
        let of_level = |task: &TaskRun, level: &str| {
            exact_match(task).map(|metric| self.scores.category(&task.card.name, level, metric))
        };
        let mut rows: Vec<Vec<String>> = Vec::new();
        for task in &tasks {
            let own = self.average(&[*task], exact_match);
            let cells = levels
                .iter()
                .map(|level| percent(of_level(task, level).and_then(|summary| summary.mean)));
            let [value, error, count] = own_cells(own, Scale::Percent);
            rows.push(
                std::iter::once(subject(task))
                    .chain(cells)
                    .chain([value, error, count])
                    .collect(),
            );
        }
        let rules = vec![rows.len()];
        let pooled: Vec<Own> = levels
            .iter()
            .map(|level| {
                let summaries: Vec<_> = tasks
                    .iter()
                    .filter_map(|task| of_level(task, level))
                    .collect();
                let summary = Summary::pooled(&summaries);
                // How many documents of a level the whole split has is not known from a part of it.
                Own::of(summary, summary.documents)
            })
            .collect();
        let [value, error, count] = own_cells(self.average(&tasks, exact_match), Scale::Percent);
        let mut bottom = |label: &str, cell: fn(&Own) -> String, last: [String; 3]| {
            let row = std::iter::once(label.to_owned())
                .chain(pooled.iter().map(cell))
                .chain(last);
            rows.push(row.collect());
        };
        bottom(
            "All subjects",
            |own| percent(own.summary.mean),
            [value, error, count],
        );
        bottom(
            ERROR_ROW,
            |own| percent(own.summary.standard_error),
            Default::default(),
        );
        bottom(
            COUNT_ROW,
            |own| documents(own.summary.documents, own.split),
            Default::default(),
        );
        let metric = tasks.first().and_then(|task| exact_match(task));
        let source = Source::new("MATH", tasks).by(metric).greedy();
        Some(Table {
            title: "MATH by subject and level".to_owned(),
            header: std::iter::once(Column::text("Subject"))
                .chain(levels.iter().map(|level| Column::number(*level)))
                .chain(["All", "±", "n"].map(Column::number))
                .collect(),
            rows,
            rules,
            notes: std::iter::once(self.own_model())
                .chain(self.notes(None, &[source]))
                .chain(self.math_notes())
                .collect(),
        })
    }

    fn math_tasks(self) -> Vec<&'a TaskRun> {
        self.run
            .tasks
            .iter()
            .filter(|task| is_subject(task))
            .collect()
    }

    /// The majority vote over tasks, and the metric's name; `None` unless all tasks have the same.
    fn majority(self, tasks: &[&'a TaskRun], paper_k: usize) -> Option<(Own, &'a str)> {
        let vote = |task: &'a TaskRun| {
            at_k(task, MAJORITY)
                .filter(|vote| self.is_measured(task, vote.metric))
                .max_by_key(|vote| vote.k)
        };
        let first = vote(tasks.first()?)?;
        tasks
            .iter()
            .all(|task| vote(task).is_some_and(|other| other.metric == first.metric))
            .then_some(())?;
        let own = self.average(tasks, |_| Some(first.metric))?;
        Some((own.at(first.k, paper_k), first.metric))
    }

    fn math_notes(self) -> Vec<String> {
        let (ran, all) = (self.math_tasks().len(), SUBJECTS.len());
        let partial = || format!("MATH is over the {ran} of {all} subjects that were run.");
        let weighted = "MATH is the mean over its subjects, weighted by size.".to_owned();
        let notes = [
            (0 < ran && ran < all).then(partial),
            (ran > 1).then_some(weighted),
        ];
        notes.into_iter().flatten().collect()
    }
}

fn is_subject(task: &TaskRun) -> bool {
    task.card.group.as_deref() == Some(GROUP)
}

fn exact_match(task: &TaskRun) -> Option<&str> {
    metric_called(task, EXACT_MATCH).map(|metric| metric.name.as_str())
}

/// `Number Theory` for `minerva_math_num_theory`; a task that is none of the seven keeps its name.
fn subject(task: &TaskRun) -> String {
    let name = task.card.name.as_str();
    let known = name
        .strip_prefix(GROUP)
        .and_then(|rest| rest.strip_prefix('_'))
        .and_then(|rest| SUBJECTS.iter().find(|(subject, _)| *subject == rest));
    known.map_or(name, |(_, title)| title).to_owned()
}
