//! Makes the demo checkpoint in `model/demo` and the sample documents in `tasks/samples`.
//!
//! Both are about one little world of people, animals, towns, tools and sums. Everything follows
//! from fixed seeds. Samples, tokenizer and config are the same on every run, and tests say so. The
//! weights were the same bytes in three runs of four steps on one machine; whether that holds for all
//! steps, or on other processors, has not been checked.
//!
//! ```text
//! cargo run --release -p llama-eval-model --example train_demo -- checkpoint [FOLDER] [STEPS]
//! cargo run --release -p llama-eval-model --example train_demo -- samples [FOLDER]
//! cargo run --release -p llama-eval-model --example train_demo -- corpus [COUNT]
//! ```

mod checkpoint;
mod corpus;
mod network;
mod numbers;
mod operations;
mod optimizer;
mod programs;
mod pronouns;
mod questions;
mod random;
mod relations;
mod samples;
mod stories;
#[cfg(test)]
mod tests;
mod text;
mod training;
mod vocabulary;
mod world;

use std::path::Path;

use anyhow::{Result, bail};
// Only linked: with the feature `cuda` it is what lets a program start without the CUDA libraries.
use llama_eval_model as _;

use crate::random::Draw;
use crate::world::World;

/// Where the checkpoint is kept in the repository.
const CHECKPOINT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo");
/// Where the samples are kept in the repository.
const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tasks/samples");
/// Training steps of the checkpoint in the repository.
const STEPS: usize = 1500;

fn main() -> Result<()> {
    // SAFETY: no other thread runs yet. Each part of a batch has its own thread, so candle must not
    // share out one part over further ones; read by candle when it first computes.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", "1") };
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |place: usize| arguments.get(place).map(String::as_str);
    let world = World::new();
    match argument(0) {
        Some("checkpoint") => {
            let folder = Path::new(argument(1).unwrap_or(CHECKPOINT));
            let steps = argument(2).map_or(Ok(STEPS), str::parse)?;
            checkpoint::make(&world, folder, steps)
        }
        Some("samples") => samples::write(&world, Path::new(argument(1).unwrap_or(SAMPLES))),
        Some("corpus") => {
            let count = argument(1).map_or(Ok(40), str::parse)?;
            let mut draw = Draw::new(0);
            for _ in 0..count {
                println!("{}\n=====", corpus::text(&world, &mut draw).text);
            }
            Ok(())
        }
        _ => bail!(
            "say what to make\nhint: `train_demo checkpoint`, `train_demo samples` or `train_demo corpus`"
        ),
    }
}
