//! Judges of generated text. Which judge gave a number decides what it means, so each has a name
//! and a version, and both stand beside every result.
//!
//! | judge | judges | runs |
//! |---|---|---|
//! | [`ClassifierJudge`] | toxicity | a BERT or RoBERTa classifier in this process |
//! | [`PerspectiveJudge`] | toxicity | the Perspective API, or an endpoint that speaks as it does |
//! | [`LlamaJudge`] | truthfulness, informativeness | two LLaMA checkpoints in this process |
//! | [`EndpointJudge`] | truthfulness, informativeness | an OpenAI-compatible endpoint |

mod classifier;
mod http;
mod llama;
mod openai;
mod perspective;
#[cfg(test)]
mod server;
mod spec;
mod truthfulness;

use std::sync::atomic::AtomicBool;

use llama_eval_model::{ModelError, SinkError};

pub(crate) use self::spec::{ToxicitySpec, TruthfulnessSpec};
pub(crate) use self::{
    classifier::ClassifierJudge, http::HttpOptions, llama::LlamaJudge, openai::EndpointJudge,
    perspective::PerspectiveJudge,
};

/// What is asked about a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// How likely would a reader find it toxic?
    Toxicity,
    /// Is the answer true?
    Truthful,
    /// Does the answer say anything?
    Informative,
}

impl Kind {
    /// For messages.
    fn name(self) -> &'static str {
        match self {
            Self::Toxicity => "toxicity",
            Self::Truthful => "truthfulness",
            Self::Informative => "informativeness",
        }
    }
}

/// What is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged<'a> {
    /// The toxicity of a text.
    Toxicity {
        /// Exactly what is judged.
        text: &'a str,
    },
    /// The truth of an answer.
    Truthful {
        /// The question alone, without examples.
        question: &'a str,
        /// What the model answered.
        answer: &'a str,
    },
    /// Whether an answer says anything.
    Informative {
        /// The question alone, without examples.
        question: &'a str,
        /// What the model answered.
        answer: &'a str,
    },
}

impl Judged<'_> {
    /// What is asked.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Toxicity { .. } => Kind::Toxicity,
            Self::Truthful { .. } => Kind::Truthful,
            Self::Informative { .. } => Kind::Informative,
        }
    }
}

/// A probability between 0 and 1, or why there is none: unscored, never 0.
pub(crate) type Judgement = Result<f64, String>;

/// Takes the judgement of `items[index]`; an error stops the judge.
pub(crate) type Receiver<'a> = dyn FnMut(usize, Judgement) -> Result<(), SinkError> + 'a;

/// Judges texts.
pub(crate) trait Judge: Send {
    /// Name and version of the judge of `kind`: part of the store's key and of every report; equal
    /// ones give equal judgements, as far as a judge behind an endpoint can promise that. `None`
    /// when it does not judge that.
    fn identity(&self, kind: Kind) -> Option<&str>;

    /// Judges every item once, in any order, through `each`. A judgement does not depend on the
    /// other items. An item that cannot be judged is no error but a reason given to `each`.
    ///
    /// # Errors
    /// When the judge as a whole fails, `each` refuses, or `stop` is set. What `each` took stands;
    /// the rest was not judged.
    fn judge(
        &mut self,
        items: &[Judged<'_>],
        stop: &AtomicBool,
        each: &mut Receiver<'_>,
    ) -> Result<(), JudgeError>;
}

/// Why a judge stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JudgeError {
    /// The endpoint is down.
    #[error(
        "{endpoint}: {failures} judgements in a row failed: {last}\n\
         hint: check that the judge runs, then judge again: what it has judged so far is kept"
    )]
    Down {
        /// Its address, without key.
        endpoint: String,
        /// How many.
        failures: usize,
        /// What went wrong last.
        last: String,
    },
    /// The judge cannot be used as it was asked for.
    #[error("{judge}: {problem}\nhint: {hint}")]
    Unusable {
        /// Its address without key, or its name.
        judge: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// A judge in this process failed.
    #[error("the judge failed")]
    Model(#[from] ModelError),
    /// Whatever takes the judgements refused one.
    #[error("a judgement could not be kept")]
    Sink(#[source] SinkError),
    /// It was told to stop.
    #[error("interrupted while judging")]
    Interrupted,
}

/// The reason for an item of a kind that a judge does not judge.
fn not_judged(kind: Kind) -> Judgement {
    Err(format!("this judge does not judge {}", kind.name()))
}

/// At most the first 200 characters of what others wrote, on one line, for a message.
fn shortened(text: &str) -> String {
    const MOST: usize = 200;
    let words: Vec<&str> = text.split_whitespace().take(MOST).collect();
    let line = words.join(" ");
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", line.get(..end).unwrap_or_default()),
        None => line,
    }
}
