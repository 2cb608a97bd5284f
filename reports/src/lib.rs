//! Turns scores into tables and files, beside published results.
//!
//! This crate knows neither tasks nor models: it takes a [`Run`] and writes what people read.
//!
//! - [`tables`] lays a run out as the paper's tables; [`terminal`] and [`markdown`] draw them.
//! - [`write_files`] writes `report/tables.md`, `report/results.csv` and, in lm-eval's layout,
//!   `results_<time>.json` and `samples_<task>_<time>.jsonl`.
//! - [`statistics`], [`Scores`] and [`published`] are what those are made of.

mod error;
mod files;
mod frame;
mod groups;
pub mod lm_eval;
mod markdown;
mod mmlu;
mod paper;
pub mod published;
mod python;
mod results;
pub mod statistics;
mod summary;
mod table;
mod terminal;

pub use error::ReportError;
pub use files::{Written, write_files};
pub use frame::{Score, Scores, aggregated_csv, document_frame};
pub use markdown::markdown;
pub use statistics::Summary;
pub use summary::{
    DocumentScore, MetricCard, ModelCard, Run, ScoredCompletion, ScoredRequest, ScoredSampling,
    ScoredVerdict, TaskCard, TaskRun,
};
pub use table::{Column, Table, tables};
pub use terminal::terminal;
