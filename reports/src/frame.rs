//! All scores as a long frame, and its averages.

use std::collections::BTreeMap;

use polars::prelude::*;

use crate::{
    error::ReportError,
    groups::groups,
    statistics::Summary,
    summary::{Run, TaskRun, name_and_filter},
};

/// One average: of a task, of a category of it, or of a group of tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// Task or group.
    pub task: String,
    /// Category of the task, if the average is over that alone.
    pub category: Option<String>,
    /// Metric.
    pub metric: String,
    /// The average.
    pub summary: Summary,
}

/// All averages of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    scores: Vec<Score>,
    index: BTreeMap<(String, Option<String>, String), usize>,
}

/// One row per document, metric and category: `task, group, category, document, metric, value`.
///
/// A document has one row with a null category and one more for each of its categories, so
/// averages over a task take the null ones. Values that are missing or not finite have no row.
///
/// # Errors
/// When the columns do not fit together, which would be a fault of this crate.
pub fn document_frame(run: &Run) -> Result<DataFrame, ReportError> {
    let (mut tasks, mut task_groups, mut categories) = (Vec::new(), Vec::new(), Vec::new());
    let (mut documents, mut metrics, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for task in &run.tasks {
        for document in &task.documents {
            let groupings = std::iter::once(None)
                .chain(document.categories.iter().map(|name| Some(name.as_str())));
            for category in groupings {
                for metric in &task.card.metrics {
                    let Some(value) = document
                        .metrics
                        .get(&metric.name)
                        .filter(|value| value.is_finite())
                    else {
                        continue;
                    };
                    tasks.push(task.card.name.as_str());
                    task_groups.push(task.card.group.as_deref());
                    categories.push(category);
                    documents.push(document.index as u64);
                    metrics.push(metric.name.as_str());
                    values.push(*value);
                }
            }
        }
    }
    Ok(df![
        "task" => tasks,
        "group" => task_groups,
        "category" => categories,
        "document" => documents,
        "metric" => metrics,
        "value" => values,
    ]?)
}

impl Scores {
    /// Averages a run.
    ///
    /// # Errors
    /// As [`document_frame`].
    pub fn of(run: &Run) -> Result<Self, ReportError> {
        let mut scores = Self::default();
        // Values are gathered per group and summed in document order: polars' own mean may add
        // them in an order that depends on the number of threads.
        let gathered = document_frame(run)?
            .lazy()
            .group_by_stable([col("task"), col("category"), col("metric")])
            .agg([col("value")])
            .collect()?;
        let (tasks, categories) = (
            gathered.column("task")?.str()?,
            gathered.column("category")?.str()?,
        );
        let (metrics, values) = (
            gathered.column("metric")?.str()?,
            gathered.column("value")?.list()?,
        );
        for row in 0..gathered.height() {
            let (Some(task), Some(metric), Some(series)) =
                (tasks.get(row), metrics.get(row), values.get_as_series(row))
            else {
                continue;
            };
            let values: Vec<f64> = series.f64()?.iter().flatten().collect();
            scores.push(task, categories.get(row), metric, Summary::of(&values));
        }
        for group in groups(run) {
            for metric in group.metrics(run) {
                let summaries: Vec<Summary> = group
                    .tasks(run)
                    .map(|task| scores.task(&task.card.name, &metric))
                    .collect();
                scores.push(&group.name, None, &metric, Summary::pooled(&summaries));
            }
        }
        Ok(scores)
    }

    fn push(&mut self, task: &str, category: Option<&str>, metric: &str, summary: Summary) {
        let category = category.map(str::to_owned);
        self.index.insert(
            (task.to_owned(), category.clone(), metric.to_owned()),
            self.scores.len(),
        );
        self.scores.push(Score {
            task: task.to_owned(),
            category,
            metric: metric.to_owned(),
            summary,
        });
    }

    /// The average of a task or group; empty if it has no value.
    pub fn task(&self, task: &str, metric: &str) -> Summary {
        self.get(task, None, metric)
    }

    /// The average over one category of a task; empty if it has no value.
    pub fn category(&self, task: &str, category: &str, metric: &str) -> Summary {
        self.get(task, Some(category), metric)
    }

    /// The average of a task's headline metric.
    pub fn headline(&self, task: &TaskRun) -> Summary {
        self.task(&task.card.name, &task.card.headline)
    }

    /// Names of a task's categories, in order of first mention.
    pub fn categories(&self, task: &str) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for name in self
            .scores
            .iter()
            .filter(|score| score.task == task)
            .filter_map(|score| score.category.as_deref())
        {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// All averages: tasks and their categories in the order of the run, then groups.
    pub fn all(&self) -> &[Score] {
        &self.scores
    }

    fn get(&self, task: &str, category: Option<&str>, metric: &str) -> Summary {
        let key = (
            task.to_owned(),
            category.map(str::to_owned),
            metric.to_owned(),
        );
        let score = self
            .index
            .get(&key)
            .and_then(|&position| self.scores.get(position));
        score.map(|score| score.summary).unwrap_or_default()
    }
}

/// Columns of [`aggregated_csv`]; `filter` is lm-eval's, for metrics that have one; the interval is
/// Wilson's, 95 %, for 0/1 metrics.
const CSV_COLUMNS: [&str; 13] = [
    "task",
    "category",
    "metric",
    "filter",
    "headline",
    "version",
    "shots",
    "documents",
    "split_documents",
    "value",
    "standard_error",
    "interval_low",
    "interval_high",
];

/// All averages as CSV, one a line, under a line of column names.
///
/// # Errors
/// As [`document_frame`].
pub fn aggregated_csv(run: &Run, scores: &Scores) -> Result<String, ReportError> {
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:?}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(CSV_COLUMNS)?;
    for score in scores.all() {
        let task = run.tasks.iter().find(|task| task.card.name == score.task);
        let of_task = |value: &dyn Fn(&TaskRun) -> String| task.map_or_else(String::new, value);
        let interval = score.summary.interval();
        let (metric, filter) = name_and_filter(&score.metric);
        writer.write_record([
            score.task.clone(),
            score.category.clone().unwrap_or_default(),
            metric.to_owned(),
            filter.unwrap_or_default().to_owned(),
            of_task(&|task| (task.card.headline == score.metric).to_string()),
            of_task(&|task| task.card.version.to_string()),
            of_task(&|task| task.shots.to_string()),
            score.summary.documents.to_string(),
            match score.category {
                None => of_task(&|task| task.split_documents.to_string()),
                Some(_) => String::new(),
            },
            number(score.summary.mean),
            number(score.summary.standard_error),
            number(interval.map(|(low, _)| low)),
            number(interval.map(|(_, high)| high)),
        ])?;
    }
    let bytes = writer
        .into_inner()
        .map_err(|error| csv::Error::from(error.into_error()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
