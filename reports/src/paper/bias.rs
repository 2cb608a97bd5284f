//! Tables 12 and 13: categories down, models across.

use super::{Own, PRONOUNS, Report, STEREOTYPES, is_in, layout::Line, notes::Source};
use crate::{
    published::{self, PublishedRow},
    summary::TaskRun,
    table::Table,
};

impl Report<'_> {
    /// Table 12: bias categories down.
    pub(super) fn stereotypes(self) -> Option<Table> {
        let published = published::table(STEREOTYPES)?;
        let task = self.task(|task| is_in(task, STEREOTYPES))?;
        let whole = Line::published(published, "Average", Some(self.whole(task)));
        let mut lines = self.categories(
            task,
            published.rows.iter().filter(|row| row.model != whole.label),
        );
        let rules = vec![lines.len()];
        lines.push(whole);
        let columns = published.columns.clone();
        Some(self.model_columns(
            published,
            "Category",
            columns,
            lines,
            rules,
            &[Source::of(task)],
        ))
    }

    /// Table 13: pronouns down.
    pub(super) fn pronouns(self) -> Option<Table> {
        let published = published::table(PRONOUNS)?;
        let task = self.task(|task| is_in(task, PRONOUNS))?;
        let mut lines = vec![Line::published(published, "All", Some(self.whole(task)))];
        lines.extend(self.categories(task, published.rows.iter().filter(|row| row.model != "All")));
        let gotcha = lines.iter().position(|line| line.label.contains("gotcha"));
        let rules = std::iter::once(1).chain(gotcha).collect();
        let columns = published
            .columns
            .iter()
            .map(|size| format!("LLaMA\n{size}"))
            .collect();
        Some(self.model_columns(
            published,
            "Pronoun",
            columns,
            lines,
            rules,
            &[Source::of(task)],
        ))
    }

    /// One line per published category and then per category only this run has.
    fn categories(
        self,
        task: &TaskRun,
        rows: impl Iterator<Item = &'static PublishedRow>,
    ) -> Vec<Line> {
        let mut names = self.scores.categories(&task.card.name);
        let own = |name: &str| {
            let summary = self
                .scores
                .category(&task.card.name, name, &task.card.headline);
            // How many documents of a category the whole split has is not known from a part of it.
            Own::of(summary, summary.documents)
        };
        let rows: Vec<_> = rows.collect();
        let mut lines: Vec<Line> = rows
            .iter()
            .map(|row| Line {
                label: row.model.clone(),
                published: row.values.clone(),
                own: None,
            })
            .collect();
        // Equal names first, so that a name that begins another cannot take its place.
        for matches in [same_name as fn(&str, &str) -> bool, begins_name] {
            for line in lines.iter_mut().filter(|line| line.own.is_none()) {
                if let Some(position) = names.iter().position(|name| matches(&line.label, name)) {
                    line.own = Some(own(names.remove(position)));
                }
            }
        }
        lines.extend(names.into_iter().map(|name| Line {
            label: name.to_owned(),
            published: Vec::new(),
            own: Some(own(name)),
        }));
        lines
    }
}

fn same_name(published: &str, own: &str) -> bool {
    words(published) == words(own)
}

/// `socioeconomic` for `Socioeconomic status`.
fn begins_name(published: &str, own: &str) -> bool {
    let own = words(own);
    !own.is_empty() && words(published).starts_with(&own)
}

fn words(name: &str) -> Vec<String> {
    name.split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}
