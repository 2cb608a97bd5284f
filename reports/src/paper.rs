//! The run laid out as the paper's tables, below or beside the published numbers.

mod at_k;
mod bias;
mod by_task;
mod code;
mod judged;
mod layout;
mod math;
mod notes;
mod subjects;
mod truthfulness;

use crate::{
    Scores,
    published::PublishedTable,
    statistics::Summary,
    summary::{MetricCard, Run, TaskRun},
    table::{ABSENT, Table, percent},
};

const COMMON_SENSE: &str = "table3_common_sense";
const QUESTIONS: &str = "table4_natural_questions";
const TRIVIA: &str = "table5_triviaqa";
const READING: &str = "table6_race";
const MATH: &str = "table7_math";
const CODE: &str = "table8_code";
const MMLU: &str = "table9_mmlu";
const TOXICITY: &str = "table11_realtoxicityprompts";
const STEREOTYPES: &str = "table12_crows_pairs";
const PRONOUNS: &str = "table13_winogender";
const TRUTHFULNESS: &str = "table14_truthfulqa";

/// The paper's tables that this run has at least one value for, and what belongs beside them.
pub(crate) fn tables(run: &Run, scores: &Scores) -> Vec<Table> {
    let report = Report { run, scores };
    [
        report.by_task(COMMON_SENSE),
        report.by_task(QUESTIONS),
        report.by_task(TRIVIA),
        report.by_task(READING),
        report.math(),
        report.levels(),
        report.code(),
        report.mmlu(),
        report.toxicity(),
        report.stereotypes(),
        report.pronouns(),
        report.truthfulness(),
        report.multiple_choice(),
        report.subjects(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[derive(Clone, Copy)]
struct Report<'a> {
    run: &'a Run,
    scores: &'a Scores,
}

/// A number of this run and how many documents it could have been taken over.
#[derive(Clone, Copy)]
struct Own {
    summary: Summary,
    split: usize,
    /// Its k, where that is not the column's; it stands in the cell.
    other_k: Option<usize>,
}

impl Own {
    fn of(summary: Summary, split: usize) -> Self {
        Self {
            summary,
            split,
            other_k: None,
        }
    }
}

/// How the numbers of a table are written.
#[derive(Clone, Copy)]
enum Scale {
    /// Published values are percent, ours are not yet.
    Percent,
    /// Between 0 and 1, with so many decimals.
    Fraction(usize),
}

impl Scale {
    /// As the paper prints the table.
    fn of(table: &PublishedTable) -> Self {
        match table.id.as_str() {
            TOXICITY => Self::Fraction(3),
            TRUTHFULNESS => Self::Fraction(2),
            _ => Self::Percent,
        }
    }

    fn published(self, value: Option<f64>) -> String {
        let decimals = match self {
            Self::Percent => 1,
            Self::Fraction(decimals) => decimals,
        };
        value.map_or_else(|| ABSENT.to_owned(), |value| format!("{value:.decimals$}"))
    }

    fn own(self, value: Option<f64>) -> String {
        match self {
            Self::Percent => percent(value),
            Self::Fraction(_) => self.published(value),
        }
    }
}

impl<'a> Report<'a> {
    /// The first task for which `wanted` holds.
    fn task(self, wanted: impl Fn(&TaskRun) -> bool) -> Option<&'a TaskRun> {
        self.run.tasks.iter().find(|task| wanted(task))
    }

    /// A task's headline.
    fn whole(self, task: &TaskRun) -> Own {
        self.value(task, &task.card.headline)
    }

    /// A task's average of one metric.
    fn value(self, task: &TaskRun, metric: &str) -> Own {
        Own::of(
            self.scores.task(&task.card.name, metric),
            task.split_documents,
        )
    }

    /// Is the metric one of this run? A task knows those of both protocols; while it has no score at
    /// all, each may be.
    fn is_measured(self, task: &TaskRun, metric: &str) -> bool {
        let values = |metric: &str| self.scores.task(&task.card.name, metric).documents;
        values(metric) > 0
            || task
                .card
                .metrics
                .iter()
                .all(|other| values(&other.name) == 0)
    }

    /// The average over tasks, weighted by size, of the metric that each is asked for; `None`
    /// if no task has it.
    fn average(
        self,
        tasks: &[&'a TaskRun],
        metric: impl Fn(&'a TaskRun) -> Option<&'a str>,
    ) -> Option<Own> {
        let summaries: Vec<Summary> = tasks
            .iter()
            .filter_map(|task| Some(self.scores.task(&task.card.name, metric(task)?)))
            .collect();
        let split = tasks.iter().map(|task| task.split_documents).sum();
        (!summaries.is_empty()).then(|| Own::of(Summary::pooled(&summaries), split))
    }
}

/// `Table 4. NaturalQuestions`.
fn numbered(table: &PublishedTable) -> String {
    format!("Table {}. {}", table.paper_table, table.title)
}

fn is_in(task: &TaskRun, table: &str) -> bool {
    task.card
        .published
        .as_ref()
        .is_some_and(|(id, _)| id == table)
}

/// The task's metric of this name, whatever its filter; the headline where that is one of several.
fn metric_called<'a>(task: &'a TaskRun, name: &str) -> Option<&'a MetricCard> {
    let called = |metric: &&MetricCard| metric.name_and_filter().0 == name;
    task.headline()
        .filter(called)
        .or_else(|| task.card.metrics.iter().find(called))
}
