//! The LLaMA forward pass (arXiv 2302.13971, section 2.2) over a token tree.

mod attention;
pub(crate) mod cache;
mod forward;
mod ops;
mod weights;

pub(crate) use attention::{AttentionPlan, Heads, NodeKeys, Rotary};
pub(crate) use forward::{Batch, Llama, activation_bytes, heads};
pub(crate) use ops::RowSummary;
