//! End-to-end tests: the program as its users meet it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bench;
#[cfg(feature = "cuda")]
mod card;
mod cli;
mod generation_parity;
mod judging;
mod parity;
mod program;
mod resume;
mod sandbox;
mod store;
