//! Tables 3 to 6: one task per column.

use super::{Report, is_in, notes::Source, numbered};
use crate::{published, summary::TaskRun, table::Table};

impl<'a> Report<'a> {
    /// The table with this id, with a column per task.
    pub(super) fn by_task(self, id: &str) -> Option<Table> {
        let published = published::table(id)?;
        let columns: Vec<(&str, Option<&TaskRun>)> = published
            .columns
            .iter()
            .map(|column| (column.as_str(), self.for_column(id, column)))
            .collect();
        let own: Vec<_> = columns
            .iter()
            .map(|(_, task)| task.map(|task| self.whole(task)))
            .collect();
        let sources: Vec<Source> = columns
            .iter()
            .filter_map(|(column, task)| Some(Source::new(column, vec![(*task)?])))
            .collect();
        let mut table = self.model_rows(
            numbered(published),
            &published.columns,
            Some(published),
            &own,
        )?;
        table.notes.extend(self.notes(Some(published), &sources));
        let left_out: Vec<String> = self
            .run
            .tasks
            .iter()
            .filter(|task| is_in(task, id))
            .filter(|task| {
                !columns
                    .iter()
                    .any(|(_, shown)| shown.is_some_and(|shown| std::ptr::eq(shown, *task)))
            })
            .map(|task| format!("{} with {} shots", task.card.name, task.shots))
            .collect();
        if !left_out.is_empty() {
            table.notes.push(format!(
                "In no column, as the table has none left for them: {}.",
                left_out.join(", ")
            ));
        }
        Some(table)
    }

    /// The task a column shows. Where columns are numbers of shots it must have been run with as
    /// many, whichever column it was made for.
    fn for_column(self, id: &str, column: &str) -> Option<&'a TaskRun> {
        let made_for = |task: &TaskRun| {
            task.card
                .published
                .as_ref()
                .is_some_and(|(table, name)| table == id && name == column)
        };
        let Some(shots) = shots(column) else {
            return self.task(made_for);
        };
        let fits = |task: &TaskRun| is_in(task, id) && task.shots == shots;
        self.task(|task| made_for(task) && fits(task))
            .or_else(|| self.task(fits))
    }
}

/// 64 for `64-shot`.
fn shots(column: &str) -> Option<usize> {
    column.strip_suffix("-shot")?.parse().ok()
}
