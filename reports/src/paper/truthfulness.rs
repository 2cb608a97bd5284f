//! Table 14, and beside it the multiple choice that the paper does not report.

use super::{Own, Report, TRUTHFULNESS, notes::Source, numbered};
use crate::{published, table::Table};

/// Columns of Table 14 and their metrics.
const GENERATED_COLUMNS: [(&str, &str); 2] = [
    ("Truthful", "truthful"),
    ("Truthful*Inf", "truthful_informative"),
];
/// Multiple-choice columns: heading, task that reports only that, metric of a task that reports both.
const CHOICE_COLUMNS: [(&str, &str, &str); 2] = [
    ("MC1", "truthfulqa_mc1", "mc1"),
    ("MC2", "truthfulqa_mc2", "mc2"),
];
const CHOICE_TASK: &str = "truthfulqa_mc";

impl Report<'_> {
    /// Table 14: generated answers, judged.
    pub(super) fn truthfulness(self) -> Option<Table> {
        let published = published::table(TRUTHFULNESS)?;
        let mut table = self.judged(published, &GENERATED_COLUMNS)?;
        let theirs = "models that OpenAI tuned for it and has since withdrawn";
        for (what, check) in [("Truth", "truthful"), ("Informativeness", "informative")] {
            table.notes.push(self.judge_note(what, check, theirs));
        }
        Some(table)
    }

    /// MC1 and MC2.
    pub(super) fn multiple_choice(self) -> Option<Table> {
        let published = published::table(TRUTHFULNESS)?;
        let mut sources = Vec::new();
        let own: Vec<Option<Own>> = CHOICE_COLUMNS
            .iter()
            .map(|&(column, alone, metric)| {
                let of_both = self.task(|task| {
                    task.card.name == CHOICE_TASK
                        && task.card.metrics.iter().any(|card| card.name == metric)
                });
                let (task, metric) = match self.task(|task| task.card.name == alone) {
                    Some(task) => (task, task.card.headline.as_str()),
                    None => (of_both?, metric),
                };
                sources.push(Source::new(column, vec![task]).by(Some(metric)));
                Some(self.value(task, metric))
            })
            .collect();
        let columns = CHOICE_COLUMNS.map(|(column, ..)| column.to_owned());
        let title = format!("{}, multiple choice", numbered(published));
        let mut table = self.model_rows(title, &columns, None, &own)?;
        table.notes.push(format!(
            "The paper reports no multiple choice, so there are no published rows: its Table {} is of generated answers, graded by judge models.",
            published.paper_table
        ));
        table.notes.extend(self.notes(None, &sources));
        Some(table)
    }
}
