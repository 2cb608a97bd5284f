//! The one interface to whatever answers requests.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Answer, Request};

/// Who answers: the store's key and the report's provenance. Two identities that are equal give
/// equal answers to equal requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Short name for tables: the file or directory name, or `demo`.
    pub name: String,
    /// Where it was loaded from; not part of what makes two models equal.
    pub source: String,
    /// `llama`, or another name for a model that is none.
    pub architecture: String,
    /// SHA-256 over configuration and weights, in hexadecimal.
    pub weights_sha256: String,
    /// SHA-256 over the tokenizer, in hexadecimal.
    pub tokenizer_sha256: String,
    /// Number of weights; tied matrices count once.
    pub parameters: u64,
    /// Type the weights are kept and multiplied in: `f32`, `bf16` or `f16`.
    pub dtype: String,
    /// Where it runs: `cpu`, `cuda:0`.
    pub device: String,
    /// Longest sequence in tokens.
    pub context_length: usize,
    /// Is BOS put before every non-empty prompt? Resolved from `--bos`.
    pub adds_bos: bool,
    /// Id and text of the token that stands for the start of a text (BOS, else EOS).
    pub prefix_token: (u32, String),
}

/// What answering would take, computed without the forward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// Requests.
    pub requests: usize,
    /// Tokens if every request were computed by itself.
    pub tokens: u64,
    /// Tokens left when shared prefixes are computed once.
    pub unique_tokens: u64,
    /// How many of both are still to be generated: at most, for a completion may end early.
    pub new_tokens: u64,
    /// Batches.
    pub batches: usize,
    /// Rows per batch.
    pub batch_rows: usize,
    /// Bytes of weights plus activations of one batch.
    pub memory_bytes: u64,
}

/// Takes answers as they come.
pub trait Sink {
    /// The answer to `requests[index]`.
    ///
    /// # Errors
    /// Whatever stops the model.
    fn answer(&mut self, index: usize, answer: Answer) -> Result<(), SinkError>;

    /// Called after each batch, once all its answers are given (and after each step of generating, which
    /// may give none): unique tokens computed in it.
    ///
    /// # Errors
    /// Whatever stops the model.
    fn computed(&mut self, unique_tokens: usize) -> Result<(), SinkError> {
        let _ = unique_tokens;
        Ok(())
    }
}

/// Whatever went wrong in a [`Sink`]; handed through unchanged.
pub type SinkError = Box<dyn std::error::Error + Send + Sync>;

/// A model that answers requests.
pub trait LanguageModel {
    /// Who answers.
    fn identity(&self) -> &Identity;

    /// What answering `requests` would take.
    ///
    /// # Errors
    /// When a request cannot be tokenized.
    fn estimate(&self, requests: &[Request]) -> Result<Estimate, ModelError>;

    /// Answers every request once, in any order, through `sink`.
    ///
    /// # Errors
    /// When the device fails or the sink refuses; a single request that cannot be answered is
    /// no error but an [`Answer::Unanswered`].
    fn answer(&mut self, requests: &[Request], sink: &mut dyn Sink) -> Result<(), ModelError>;
}

/// What can go wrong with a model. Every message ends in a hint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A checkpoint file is missing, unreadable, malformed or not a LLaMA.
    #[error("{}: {problem}\nhint: {hint}", path.display())]
    Checkpoint {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it, with tensor name and expected shape where there is one.
        problem: String,
        /// What to do next.
        hint: String,
    },
    /// The tokenizer refused a text.
    #[error("tokenizer: {0}\nhint: check that `tokenizer.json` belongs to this checkpoint")]
    Tokenizer(String),
    /// The tensor library or the device failed.
    #[error("device: {0}\nhint: try a smaller `--batch-rows`, or `--device cpu`")]
    Device(String),
    /// There is no card, or it cannot be used. The message ends in a hint.
    #[error("{0}")]
    Card(String),
    /// The card was lost, or its memory taken by others, half way. The message ends in a hint.
    #[error("{0}")]
    CardFailed(String),
    /// The receiver of the answers failed.
    #[error(transparent)]
    Sink(SinkError),
}
