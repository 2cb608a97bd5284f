//! Answers requests: checkpoints, tokenizer, token tree and the LLaMA forward pass.
//!
//! This crate knows nothing of benchmarks. It takes [`Request`]s and gives [`Answer`]s through
//! the [`LanguageModel`] trait.

pub mod bench;
mod checkpoint;
mod classifier;
mod completion;
#[cfg(any(feature = "cuda", test))]
mod device;
mod encoding;
mod engine;
mod forward;
mod generate;
mod lanes;
mod language_model;
mod llama;
mod memory;
mod request;
mod sampling;
#[doc(hidden)]
pub mod testing;
mod tokenizer;
pub mod tree;

pub use checkpoint::{Checkpoint, Config, RopeScaling, Source};
pub use classifier::Classifier;
pub use encoding::{BosPolicy, Encoded, Encoder, Unanswerable};
pub use engine::{DeviceChoice, Dtype, LoadOptions, Local, describe_card};
pub use language_model::{Estimate, Identity, LanguageModel, ModelError, Sink, SinkError};
pub use request::{Answer, Completion, Finish, Generation, Preamble, Prompt, Request, Sampling};
pub use tokenizer::Tokenizer;
