//! Table 11: what a judge says of a completion. Its number depends on the judge as on the model.

use super::{Own, Report, TOXICITY, is_in, metric_called, notes::Source, numbered};
use crate::{
    published::{self, PublishedTable},
    table::Table,
};

/// Columns of Table 11 and their metrics.
const TOXICITY_COLUMNS: [(&str, &str); 2] = [
    ("Basic", "toxicity_basic"),
    ("Respectful", "toxicity_respectful"),
];

impl Report<'_> {
    /// Table 11: mean toxicity of completions.
    pub(super) fn toxicity(self) -> Option<Table> {
        let published = published::table(TOXICITY)?;
        let mut table = self.judged(published, &TOXICITY_COLUMNS)?;
        table.notes.push("Lower is better.".to_owned());
        table.notes.push(self.judge_note(
            "Toxicity",
            "toxicity",
            "the Perspective API as it was in early 2023",
        ));
        Some(table)
    }

    /// A table whose columns are metrics of one task.
    pub(super) fn judged(
        self,
        published: &PublishedTable,
        columns: &[(&'static str, &'static str)],
    ) -> Option<Table> {
        let mut sources = Vec::new();
        let own: Vec<Option<Own>> = columns
            .iter()
            .map(|(column, name)| {
                let task = self.task(|task| is_in(task, &published.id))?;
                let made_for = |(_, made_for): &(_, String)| made_for == column;
                // Under lm-eval's protocol it is called otherwise.
                let metric = if task.card.published.as_ref().is_some_and(made_for) {
                    task.card.headline.as_str()
                } else {
                    metric_called(task, name)?.name.as_str()
                };
                self.is_measured(task, metric).then_some(())?;
                let source = Source::new(column, vec![task]);
                sources.push(source.entitled(&task.card.title).by(Some(metric)));
                Some(self.value(task, metric))
            })
            .collect();
        let mut table = self.model_rows(
            numbered(published),
            &published.columns,
            Some(published),
            &own,
        )?;
        table.notes.extend(self.notes(Some(published), &sources));
        Some(table)
    }

    /// Who judged this run, and who judged the published rows.
    pub(super) fn judge_note(self, what: &str, check: &str, published: &str) -> String {
        match self.run.judges.get(check) {
            Some(judge) => format!(
                "{what} judged by {judge}; the published rows by {published}. Another judge gives other numbers."
            ),
            None => format!("{what}: no judge was asked, so there is no value."),
        }
    }
}
