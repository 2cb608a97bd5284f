//! Tables 9 and 16: MMLU by category and by subject.

use super::{MMLU, Own, Report, layout::Line, notes::Source, numbered};
use crate::{
    mmlu,
    published::{self, PublishedTable},
    summary::TaskRun,
    table::Table,
};

/// MMLU averages: column of Table 9, row of Table 16, category (`None`: all subjects).
const AVERAGES: [(&str, &str, Option<&str>); 5] = [
    ("Humanities", "Humanities", Some("Humanities")),
    ("STEM", "STEM", Some("STEM")),
    ("Social Sciences", "Social Science", Some("Social Science")),
    ("Other", "Others", Some("Other")),
    ("Average", "All", None),
];

impl<'a> Report<'a> {
    /// Table 9: subjects averaged by category, weighted by size.
    pub(super) fn mmlu(self) -> Option<Table> {
        let published = published::table(MMLU)?;
        let own: Vec<Option<Own>> = published
            .columns
            .iter()
            .map(|column| {
                let (.., category) = AVERAGES.iter().find(|(name, ..)| name == column)?;
                self.average_subjects(*category)
            })
            .collect();
        let mut table = self.model_rows(
            numbered(published),
            &published.columns,
            Some(published),
            &own,
        )?;
        table.notes.extend(self.subject_notes(published));
        Some(table)
    }

    /// Table 16: the subjects that were run, then the averages.
    pub(super) fn subjects(self) -> Option<Table> {
        let published = published::table(mmlu::SUBJECTS)?;
        let subjects = self.subject_tasks(None);
        let mut lines: Vec<Line> = published
            .rows
            .iter()
            .filter_map(|row| {
                let task = subjects.iter().find(|task| {
                    mmlu::subject(&task.card.name).is_some_and(|subject| subject.model == row.model)
                })?;
                Some(Line {
                    label: row.model.clone(),
                    published: row.values.clone(),
                    own: Some(self.whole(task)),
                })
            })
            .collect();
        let rules = vec![lines.len()];
        if lines.is_empty() {
            return None;
        }
        lines.extend(AVERAGES.iter().map(|(_, row, category)| {
            Line::published(published, row, self.average_subjects(*category))
        }));
        let columns = published
            .columns
            .iter()
            .map(|column| column.replacen(' ', "\n", 1))
            .collect();
        let mut table = self.model_columns(published, "Subject", columns, lines, rules, &[]);
        table.notes = std::iter::once(self.own_model())
            .chain(self.subject_notes(published))
            .collect();
        Some(table)
    }

    fn subject_tasks(self, category: Option<&str>) -> Vec<&'a TaskRun> {
        let wanted = |task: &&TaskRun| match category {
            None => mmlu::subject(&task.card.name).is_some(),
            Some(_) => mmlu::averaged_category(&task.card.name) == category,
        };
        self.run.tasks.iter().filter(wanted).collect()
    }

    fn average_subjects(self, category: Option<&str>) -> Option<Own> {
        self.average(&self.subject_tasks(category), |task| {
            Some(&task.card.headline)
        })
    }

    /// Notes of the tables of MMLU.
    fn subject_notes(self, published: &PublishedTable) -> Vec<String> {
        let tasks = self.subject_tasks(None);
        let ran = tasks.len();
        let all = published::table(mmlu::SUBJECTS).map_or(0, |table| {
            table.rows.iter().filter(|row| !row.aggregate).count()
        });
        let mut notes = self.notes(Some(published), &[Source::new("MMLU", tasks)]);
        if ran < all {
            notes.push(format!(
                "Averages are over the {ran} of {all} subjects that were run."
            ));
        }
        notes.push("Averages are weighted by size. Anatomy counts to Other, as in the paper's averages; in lm-eval's `mmlu_stem` it counts to STEM.".to_owned());
        notes
    }
}
