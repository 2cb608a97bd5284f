//! What a benchmark is: a card, documents, requests and scores.

use std::{borrow::Cow, sync::Arc};

use llama_eval_model::{Answer, Preamble, Request};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{
    dataset::{DataDir, DataError},
    text,
};

/// Whose rules of prompting and scoring are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// The LLaMA paper's, as far as it is known.
    Paper,
    /// EleutherAI's lm-evaluation-harness, 0.4.13.
    LmEval,
}

/// How the few-shot examples of a task are chosen from its pool; see `few_shot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Sampler {
    /// Drawn by seed. In lm-eval's configuration the task has a few-shot split or a test split
    /// (ARC, OpenBookQA, RACE, CrowS-Pairs, WinoGender).
    #[default]
    Random,
    /// Drawn by seed. In lm-eval's configuration the task has neither a few-shot split nor a test split, so
    /// that lm-eval draws one more than it needs (BoolQ, PIQA, SIQA, HellaSwag, WinoGrande, TruthfulQA).
    RandomWithSpare,
    /// The first ones in the order of the file (MMLU).
    FirstN,
}

/// Name of a metric: lm-eval's where it has one (`acc`, `mc2`, `exact_match,strict-match`: after a
/// comma its filter), `pass@100`.
pub type MetricName = Cow<'static, str>;

/// One number a benchmark reports, between 0 and 1 unless `unit` says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// What it is called.
    pub name: MetricName,
    /// Is more better?
    pub higher_is_better: bool,
    /// The rule in one line, printed beside the number.
    pub rule: Cow<'static, str>,
}

impl Metric {
    /// A metric of which more is better.
    pub const fn new(name: &'static str, rule: &'static str) -> Self {
        Self {
            name: Cow::Borrowed(name),
            higher_is_better: true,
            rule: Cow::Borrowed(rule),
        }
    }

    /// A metric of which less is better.
    pub const fn lower_is_better(name: &'static str, rule: &'static str) -> Self {
        Self {
            name: Cow::Borrowed(name),
            higher_is_better: false,
            rule: Cow::Borrowed(rule),
        }
    }
}

/// What a run says about generating, beyond each benchmark's own settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationOptions {
    /// Seed of all draws of tokens; each document's own is made of it ([`GenerationOptions::seed_of`]).
    pub seed: u64,
    /// Sampled completions per prompt (n), instead of the benchmark's own number. Greedy ones stay one.
    pub samples: Option<usize>,
    /// The k of pass@k and maj1@k, instead of the benchmark's own; never more than the samples.
    pub k: Option<usize>,
    /// Most tokens of a completion, instead of the benchmark's own number.
    pub max_new_tokens: Option<usize>,
}

impl GenerationOptions {
    /// Seed of the draws for one document of `task`; `what` tells several draws of one document apart.
    pub fn seed_of(&self, task: &str, document: usize, what: &str) -> u64 {
        let digest = Sha256::digest(format!("{}/{task}/{document}/{what}", self.seed));
        digest
            .iter()
            .take(8)
            .fold(0, |seed, &byte| seed << 8 | u64::from(byte))
    }
}

/// What a score needs to know of a completion and only something else can tell: the sandbox or a judge.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Check {
    /// Does this Python program run to its end? Its value is 1 or 0.
    Program {
        /// The whole source.
        source: String,
    },
    /// How toxic is this text? Its value goes from 0 to 1.
    Toxicity {
        /// The text.
        text: String,
    },
    /// Is this answer true? Its value is the judge's probability.
    Truthful {
        /// The question.
        question: String,
        /// The answer.
        answer: String,
    },
    /// Does this answer inform? Its value is the judge's probability.
    Informative {
        /// The question.
        question: String,
        /// The answer.
        answer: String,
    },
}

impl Check {
    /// `program`, `toxicity`, `truthful` or `informative`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Program { .. } => "program",
            Self::Toxicity { .. } => "toxicity",
            Self::Truthful { .. } => "truthful",
            Self::Informative { .. } => "informative",
        }
    }

    /// The texts it is about, in order.
    pub fn texts(&self) -> Vec<&str> {
        match self {
            Self::Program { source } => vec![source],
            Self::Toxicity { text } => vec![text],
            Self::Truthful { question, answer } | Self::Informative { question, answer } => {
                vec![question, answer]
            }
        }
    }
}

/// What came of a [`Check`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Verdict {
    /// It was made.
    Known {
        /// See [`Check`].
        value: f64,
        /// Why: `passed`, `AssertionError`, `timed out after 3 s`; empty where a number says all.
        note: String,
    },
    /// It failed, or nobody was asked: no score.
    Missing {
        /// Why.
        reason: String,
    },
}

/// What stands on a benchmark's index card.
#[derive(Clone, Debug)]
pub struct Card {
    /// lm-eval's name of the task: `arc_easy`, `mmlu_virology`.
    pub name: String,
    /// Name in the paper's tables: `ARC-e`.
    pub title: &'static str,
    /// Raised when prompts, scoring or data change.
    pub version: u32,
    /// Table of the LLaMA paper that reports it (the id in `published.json`) and its column, or its
    /// row where the columns are models (tables 12, 13 and 16); `None` for what the paper does not report.
    pub published: Option<(&'static str, &'static str)>,
    /// The group it is averaged into, size-weighted: `mmlu` for the 57 subjects.
    pub group: Option<&'static str>,
    /// The evaluated split, as its authors call it.
    pub split: &'static str,
    /// Number of documents of that split.
    pub documents: usize,
    /// Few-shot examples unless the user says otherwise.
    pub shots: usize,
    /// Every metric it reports.
    pub metrics: Cow<'static, [Metric]>,
    /// The headline metric under the paper's protocol and under lm-eval's.
    pub headline: (MetricName, MetricName),
    /// Licence of the dataset.
    pub licence: &'static str,
    /// Who made it, and where it was published.
    pub citation: &'static str,
}

impl Card {
    /// Name of the headline metric under `protocol`.
    pub fn headline(&self, protocol: Protocol) -> &str {
        match protocol {
            Protocol::Paper => &self.headline.0,
            Protocol::LmEval => &self.headline.1,
        }
    }
}

/// One item of a dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Position in the evaluated split, from 0.
    pub index: usize,
    /// The dataset's own id, or file and line.
    pub id: String,
    /// Categories results are also reported by (a bias type; a pronoun, alone and as gotcha), named
    /// as the rows of the paper's table; empty for most benchmarks.
    pub categories: Vec<String>,
    /// The fields, named as lm-eval names them.
    pub fields: Map<String, Value>,
}

/// Fields are checked when a document is read, so a missing one reads as empty here.
impl Document {
    /// A text field.
    pub fn text(&self, name: &str) -> &str {
        self.fields
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// A field that is a list of texts.
    pub fn texts(&self, name: &str) -> Vec<String> {
        let texts = self
            .fields
            .get(name)
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        texts
            .iter()
            .filter_map(|text| text.as_str().map(str::to_owned))
            .collect()
    }

    /// A field that is a whole number.
    pub fn number(&self, name: &str) -> usize {
        self.fields
            .get(name)
            .and_then(Value::as_u64)
            .and_then(|number| usize::try_from(number).ok())
            .unwrap_or_default()
    }

    /// A template with this document's text fields in the place of their `{names}`.
    pub fn fill(&self, template: &str) -> String {
        text::fill(template, |name| self.fields.get(name)?.as_str())
    }
}

/// What became of one document.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// One value per metric, by name.
    Scored(Vec<(MetricName, f64)>),
    /// No score, and why; counted, never averaged.
    Unscored(String),
}

/// A benchmark. Its file reads top to bottom: data format, prompt, requests, score.
pub trait Task: Send + Sync {
    /// Its index card.
    fn card(&self) -> &Card;

    /// The evaluated documents, in the order of the canonical file.
    ///
    /// # Errors
    /// A missing, wrong or malformed file, with file, line and hint.
    fn documents(&self, data: &DataDir, protocol: Protocol) -> Result<Vec<Document>, DataError>;

    /// What few-shot examples are taken from; see `few_shot`.
    ///
    /// # Errors
    /// As [`Task::documents`].
    fn examples(&self, data: &DataDir, protocol: Protocol) -> Result<Vec<Document>, DataError>;

    /// How few-shot examples are chosen from them.
    fn sampler(&self) -> Sampler {
        Sampler::Random
    }

    /// What the draw of few-shot examples under the paper's protocol goes by: the task's name, or one
    /// that several settings of a benchmark share, so that more examples contain fewer.
    fn few_shot_name(&self) -> &str {
        &self.card().name
    }

    /// Text before the first few-shot example; empty for most, read from a pinned file for some.
    ///
    /// # Errors
    /// As [`Task::documents`].
    fn description(&self, data: &DataDir, protocol: Protocol) -> Result<String, DataError> {
        let _ = (data, protocol);
        Ok(String::new())
    }

    /// One solved document as a few-shot example, with its trailing delimiter.
    fn example(&self, document: &Document, protocol: Protocol) -> String;

    /// All requests of one document. Their order is what [`Task::score`] gets its answers in.
    fn requests(
        &self,
        document: &Document,
        preamble: &Arc<Preamble>,
        protocol: Protocol,
    ) -> Vec<Request>;

    /// The document's index of the right choice, as lm-eval writes it to `target`.
    fn target(&self, document: &Document) -> String;

    /// What must be found out about one completion of `document` before it can be scored, in the order
    /// in which [`Task::score`] gets the verdicts. None for most benchmarks.
    fn checks(&self, document: &Document, completion: &str, protocol: Protocol) -> Vec<Check> {
        let _ = (document, completion, protocol);
        Vec::new()
    }

    /// The dataset's own solution of `document`, as a completion; `None` where there is none to run.
    fn reference(&self, document: &Document) -> Option<String> {
        let _ = document;
        None
    }

    /// What each of lm-eval's filters makes of a completion, by the filter's name: what is compared
    /// with the target. Empty where the completion itself is.
    fn filtered(
        &self,
        document: &Document,
        completion: &str,
        protocol: Protocol,
    ) -> Vec<(&'static str, String)> {
        let _ = (document, completion, protocol);
        Vec::new()
    }

    /// Scores one document from the answers to its requests; `verdicts` holds for each answer the
    /// verdicts on its [`Task::checks`].
    fn score(
        &self,
        document: &Document,
        answers: &[Answer],
        verdicts: &[Vec<Verdict>],
        protocol: Protocol,
    ) -> Outcome;
}
