//! Turns datasets into requests and answers into scores: one file per benchmark.

mod arc;
mod boolq;
pub mod choice;
mod closed_book;
mod code;
mod completions;
mod crows_pairs;
mod dataset;
mod exact_match;
pub mod few_shot;
mod forms;
mod gsm8k;
mod hellaswag;
mod humaneval;
mod lock;
mod majority;
mod math;
mod mbpp;
mod mmlu;
mod multiple_choice;
mod natural_questions;
mod number;
mod openbookqa;
mod piqa;
mod plan;
mod race;
pub mod random;
pub mod reader;
mod real_toxicity_prompts;
mod samples;
mod siqa;
pub mod suites;
mod task;
mod text;
mod trivia_qa;
mod truthful_qa;
mod truthful_qa_gen;
mod winogender;
mod winogrande;

pub use code::pass_at_k;
pub use dataset::{DataDir, DataError, DataFile};
pub use lock::{Archive, Pin, Source, pins};
pub use plan::{DEFAULT_SEED, Item, Selection, TaskPlan, plan};
pub use task::{
    Card, Check, Document, GenerationOptions, Metric, MetricName, Outcome, Protocol, Sampler, Task,
    Verdict,
};
