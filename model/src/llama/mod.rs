//! The LLaMA forward pass (arXiv 2302.13971, section 2.2) over a token tree.

mod attention;
pub(crate) mod cache;
mod forward;
mod host;
mod ops;
mod weights;

pub(crate) use attention::NodeKeys;
pub(crate) use forward::{Llama, activation_bytes};
pub(crate) use ops::RowSummary;
pub(crate) use weights::{Origin, splitmix};
#[cfg(any(feature = "cuda", test))]
pub(crate) use {attention::Heads, forward::heads, ops::summarise};
