//! LLaMA on NVIDIA cards.

#[cfg(feature = "cuda")]
mod card;
#[cfg(feature = "cuda")]
mod library;
