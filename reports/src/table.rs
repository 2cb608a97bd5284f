//! A table as data, whatever it is drawn with.

use crate::{ReportError, Run, Scores, paper, results, summary::name_and_filter};

/// A table: what [`crate::terminal`] and [`crate::markdown`] draw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Heading.
    pub title: String,
    /// One entry per column.
    pub header: Vec<Column>,
    /// Cells, each row as long as the header.
    pub rows: Vec<Vec<String>>,
    /// Positions of rows that a line is drawn above.
    pub rules: Vec<usize>,
    /// What a reader must know to read the numbers, one sentence each.
    pub notes: Vec<String>,
}

/// Heading and alignment of one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Heading; a line break is a place to break it.
    pub title: String,
    /// Are the cells numbers, aligned to the right?
    pub numeric: bool,
}

impl Column {
    pub(crate) fn text(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            numeric: false,
        }
    }

    pub(crate) fn number(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            numeric: true,
        }
    }
}

/// What stands where there is no value.
pub(crate) const ABSENT: &str = "-";

/// All tables of a run: the paper's that it has a value for, in the paper's order, then every
/// metric of every task.
///
/// # Errors
/// When the scores cannot be aggregated; see [`Scores::of`].
pub fn tables(run: &Run) -> Result<Vec<Table>, ReportError> {
    let scores = Scores::of(run)?;
    let mut tables = paper::tables(run, &scores);
    tables.push(results::table(run, &scores));
    Ok(tables)
}

/// Blank that neither wrapping nor Markdown takes away.
pub(crate) const INDENT: &str = "\u{a0}";

/// A fraction as percent with one decimal, as the paper prints it.
pub(crate) fn percent(value: Option<f64>) -> String {
    value.map_or_else(
        || ABSENT.to_owned(),
        |value| format!("{:.1}", value * 100.0),
    )
}

/// `exact_match (strict-match)` for `exact_match,strict-match`.
pub(crate) fn metric_name(metric: &str) -> String {
    match name_and_filter(metric) {
        (name, Some(filter)) => format!("{name} ({filter})"),
        (name, None) => name.to_owned(),
    }
}

/// Four decimals, as lm-eval prints it.
pub(crate) fn decimal(value: Option<f64>) -> String {
    value.map_or_else(|| ABSENT.to_owned(), |value| format!("{value:.4}"))
}

/// `40/3270`, or `3270` if that is all.
pub(crate) fn documents(scored: usize, split: usize) -> String {
    if scored < split {
        format!("{scored}/{split}")
    } else {
        scored.to_string()
    }
}

/// `1 document`, `2 documents`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Number of weights as in model names: `135M`, `6.7B`, `65B`.
pub(crate) fn size(parameters: u64) -> String {
    let scaled = |unit: f64, suffix: &str| {
        let number = parameters as f64 / unit;
        if number < 10.0 {
            format!("{}{suffix}", (number * 10.0).round() / 10.0)
        } else {
            format!("{number:.0}{suffix}")
        }
    };
    match parameters {
        0..1_000 => parameters.to_string(),
        1_000..1_000_000 => scaled(1e3, "K"),
        1_000_000..1_000_000_000 => scaled(1e6, "M"),
        _ => scaled(1e9, "B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_like_model_names() {
        let sizes = [
            0,
            999,
            45_000,
            134_515_008,
            6_738_415_616,
            65_285_660_672,
            999_999_999,
        ];
        assert_eq!(
            sizes.map(size),
            ["0", "999", "45K", "135M", "6.7B", "65B", "1000M"]
        );
    }
}
