//! The two ways the paper lays out a table: models down, or models across.

use super::{Own, Report, Scale, notes::Source, numbered};
use crate::{
    published::{PublishedRow, PublishedTable},
    table::{ABSENT, Column, Table, documents, size},
};

const OWN_COLUMN: &str = "this\nmodel";
const ERROR_COLUMN: &str = "±";
const COUNT_COLUMN: &str = "n";
pub(super) const ERROR_ROW: &str = "\u{a0}\u{a0}± standard error";
pub(super) const COUNT_ROW: &str = "\u{a0}\u{a0}documents";
/// On values that the paper's authors read from a figure, as there.
const READ_MARK: &str = "*";

/// One row of a table whose columns are models.
pub(super) struct Line {
    pub(super) label: String,
    pub(super) published: Vec<Option<f64>>,
    pub(super) own: Option<Own>,
}

impl Line {
    /// The table's row of this label, with our number.
    pub(super) fn published(table: &PublishedTable, label: &str, own: Option<Own>) -> Self {
        let row = table.rows.iter().find(|row| row.model == label);
        Self {
            label: label.to_owned(),
            published: row.map(|row| row.values.clone()).unwrap_or_default(),
            own,
        }
    }
}

impl Report<'_> {
    /// A table whose rows are models, this one last. `None` if it has no value.
    pub(super) fn model_rows(
        self,
        title: String,
        headings: &[String],
        published: Option<&PublishedTable>,
        own: &[Option<Own>],
    ) -> Option<Table> {
        if own.iter().all(Option::is_none) {
            return None;
        }
        let scale = published.map_or(Scale::Percent, Scale::of);
        let mut lines: Vec<Vec<String>> = published
            .map(|table| table.rows.iter().map(|row| published_cells(table, row)))
            .into_iter()
            .flatten()
            .collect();
        let rules = if lines.is_empty() {
            Vec::new()
        } else {
            vec![lines.len()]
        };
        let mut line = |label: &str, size: String, cell: &dyn Fn(&Own) -> String| {
            let cells = own
                .iter()
                .map(|own| own.as_ref().map_or_else(|| ABSENT.to_owned(), cell));
            lines.push([label.to_owned(), size].into_iter().chain(cells).collect());
        };
        let model = &self.run.model;
        line(&model.name, size(model.parameters), &|own| {
            let value = scale.own(own.summary.mean);
            match own.other_k.filter(|_| own.summary.mean.is_some()) {
                Some(k) => format!("{value}\u{a0}@{k}"),
                None => value,
            }
        });
        line(ERROR_ROW, String::new(), &|own| {
            scale.own(own.summary.standard_error)
        });
        line(COUNT_ROW, String::new(), &|own| {
            documents(own.summary.documents, own.split)
        });
        Some(Table {
            title,
            header: [Column::text("Model"), Column::number("Size")]
                .into_iter()
                .chain(headings.iter().map(Column::number))
                .collect(),
            rows: lines,
            rules,
            notes: Vec::new(),
        })
    }

    /// A table whose columns are models, this one last.
    pub(super) fn model_columns(
        self,
        published: &PublishedTable,
        key: &str,
        columns: Vec<String>,
        lines: Vec<Line>,
        rules: Vec<usize>,
        sources: &[Source],
    ) -> Table {
        let (width, scale) = (columns.len(), Scale::of(published));
        let own_columns = [OWN_COLUMN, ERROR_COLUMN, COUNT_COLUMN].map(Column::number);
        let row = |line: Line| {
            let values = (0..width)
                .map(|column| scale.published(line.published.get(column).copied().flatten()));
            std::iter::once(line.label.clone())
                .chain(values)
                .chain(own_cells(line.own, scale))
                .collect()
        };
        Table {
            title: numbered(published),
            header: std::iter::once(Column::text(key))
                .chain(columns.into_iter().map(Column::number))
                .chain(own_columns)
                .collect(),
            rows: lines.into_iter().map(row).collect(),
            rules,
            notes: std::iter::once(self.own_model())
                .chain(self.notes(Some(published), sources))
                .collect(),
        }
    }
}

/// Value, standard error and documents.
pub(super) fn own_cells(own: Option<Own>, scale: Scale) -> [String; 3] {
    own.map_or_else(
        || [(); 3].map(|()| ABSENT.to_owned()),
        |own| {
            [
                scale.own(own.summary.mean),
                scale.own(own.summary.standard_error),
                documents(own.summary.documents, own.split),
            ]
        },
    )
}

/// Model, size and values.
fn published_cells(table: &PublishedTable, row: &PublishedRow) -> Vec<String> {
    let values = table.columns.iter().enumerate().map(|(column, name)| {
        let value = Scale::of(table).published(row.values.get(column).copied().flatten());
        let mark = if row.read_from_figure.contains(name) {
            READ_MARK
        } else {
            ""
        };
        value + mark
    });
    [row.model.clone(), row.params.clone().unwrap_or_default()]
        .into_iter()
        .chain(values)
        .collect()
}
