//! Promise: the card's pass gives what the CPU's gives. Here it runs through the twins of its kernels: everything
//! but the kernels themselves, which are held to their twins where there is a card (`tests/card_kernels.rs`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{path::Path, sync::Arc};

use candle_core::{DType, Device};

use super::{
    Passes,
    workspace::{PassRows, Workspace},
};
use crate::{
    Answer, Config, Generation, LanguageModel, LoadOptions, Local, Prompt, Request, Sampling, Sink,
    SinkError, Source, testing,
};

/// Small products, so that small batches have several chunks.
const SMALL: Passes = Passes {
    score: PassRows {
        layer: 48,
        head: 16,
    },
    prompt: PassRows { layer: 24, head: 8 },
    step: PassRows { layer: 8, head: 8 },
};
/// Memory of the device there is not.
const FREE: u64 = 2 << 30;

struct Collect(Vec<Option<Answer>>);

impl Sink for Collect {
    fn answer(&mut self, index: usize, answer: Answer) -> Result<(), SinkError> {
        assert!(self.0[index].replace(answer).is_none(), "{index} twice");
        Ok(())
    }
}

fn answers(model: &mut Local, requests: &[Request]) -> Vec<Answer> {
    let mut sink = Collect(vec![None; requests.len()]);
    model.answer(requests, &mut sink).unwrap();
    sink.0.into_iter().map(Option::unwrap).collect()
}

fn config() -> Config {
    Config {
        hidden: 96,
        heads: 6,
        key_value_heads: 2,
        head_size: 32,
        context_length: 256,
        ..testing::tiny_config()
    }
}

fn twin(directory: &Path, batch_rows: usize) -> Local {
    let options = LoadOptions {
        batch_rows: Some(batch_rows),
        ..LoadOptions::default()
    };
    Local::open_twin(&Source::Path(directory.to_owned()), &options, SMALL, FREE).unwrap()
}

fn host(directory: &Path) -> Local {
    Local::open(&Source::Path(directory.to_owned()), &LoadOptions::default()).unwrap()
}

fn scored(prompt: &str, continuation: &str) -> Request {
    Request::LogLikelihood {
        prompt: Prompt::plain(prompt),
        continuation: continuation.to_owned(),
    }
}

/// Prompts that share stems longer than a window of keys, and choices that share words.
fn requests() -> Vec<Request> {
    let stems = ["hello there ".repeat(9), "abc ".repeat(12), "x".to_owned()];
    (0..60)
        .map(|index| {
            let question = "the question ".repeat(index / 12) + &"ab ".repeat(index % 3);
            let choice = [" a", " a b", " the other one", " he"][index % 4];
            scored(&format!("{}{question}", stems[index % stems.len()]), choice)
        })
        .collect()
}

/// The largest difference between the log-probabilities of equal tokens.
fn largest_difference(ours: &[Answer], theirs: &[Answer]) -> f32 {
    let pairs = ours.iter().zip(theirs).flat_map(|pair| match pair {
        (
            Answer::LogLikelihood {
                log_probs: ours,
                greedy: our_greedy,
                ..
            },
            Answer::LogLikelihood {
                log_probs: theirs,
                greedy: their_greedy,
                ..
            },
        ) => {
            assert_eq!(our_greedy, their_greedy);
            assert_eq!(ours.len(), theirs.len());
            ours.iter().zip(theirs).map(|(a, b)| (a - b).abs())
        }
        other => panic!("{other:?}"),
    });
    pairs.fold(0.0, f32::max)
}

#[test]
fn buffers_are_what_the_formula_says() {
    for dtype in [DType::F32, DType::BF16] {
        for rows in [48, 144] {
            let work = Workspace::new(&config(), dtype, SMALL, rows, &Device::Cpu).unwrap();
            assert_eq!(
                work.allocated(),
                Workspace::bytes(&config(), dtype, SMALL, rows)
            );
        }
    }
}

#[test]
fn scores_are_the_hosts() {
    for (name, config) in [
        ("shared heads", config()),
        (
            "tied, no shared heads",
            Config {
                key_value_heads: 6,
                tied_embeddings: true,
                ..config()
            },
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        testing::write_checkpoint(directory.path(), &config, 5).unwrap();
        let requests = requests();
        let ours = answers(&mut twin(directory.path(), 300), &requests);
        let theirs = answers(&mut host(directory.path()), &requests);
        // Both in f32, summed in different orders.
        let difference = largest_difference(&ours, &theirs);
        assert!(difference < 2e-5, "{name}: {difference}");
    }
}

#[test]
fn scores_do_not_depend_on_batching() {
    let directory = tempfile::tempdir().unwrap();
    testing::write_checkpoint(directory.path(), &config(), 5).unwrap();
    let requests = requests();
    let together = answers(&mut twin(directory.path(), 960), &requests);
    for rows in [240, 480] {
        assert_eq!(answers(&mut twin(directory.path(), rows), &requests), together);
    }
    let mut alone = twin(directory.path(), 240);
    for (request, expected) in requests.iter().zip(&together).step_by(7) {
        let answer = answers(&mut alone, std::slice::from_ref(request));
        assert_eq!(&answer[0], expected);
    }
}

fn completions(sampling: Sampling) -> Vec<Request> {
    let stems = ["hello there ".repeat(5), "abc ".repeat(7), "x".to_owned()];
    stems
        .iter()
        .flat_map(|stem| {
            let generation = Arc::new(Generation {
                prompt: Prompt::plain(stem.clone()),
                stop: vec!["q".to_owned()],
                max_new_tokens: 40,
                sampling,
            });
            (0..6).map(move |sample| Request::Generate {
                generation: Arc::clone(&generation),
                sample,
            })
        })
        .collect()
}

#[test]
fn completions_are_the_hosts() {
    let directory = tempfile::tempdir().unwrap();
    testing::write_checkpoint(directory.path(), &config(), 5).unwrap();
    let random = Sampling::Random {
        temperature: 0.9,
        top_p: 0.95,
        top_k: 0,
        seed: 3,
    };
    for sampling in [Sampling::Greedy, random] {
        let requests = completions(sampling);
        let texts = |answers: Vec<Answer>| -> Vec<(Vec<u32>, String)> {
            answers
                .into_iter()
                .map(|answer| match answer {
                    Answer::Completion(completion) => (completion.token_ids, completion.text),
                    other => panic!("{other:?}"),
                })
                .collect()
        };
        let ours = texts(answers(&mut twin(directory.path(), 96), &requests));
        let theirs = texts(answers(&mut host(directory.path()), &requests));
        assert_eq!(ours, theirs);
    }
}

#[test]
fn too_little_memory_is_said_with_its_numbers() {
    let directory = tempfile::tempdir().unwrap();
    testing::write_checkpoint(directory.path(), &config(), 5).unwrap();
    let source = Source::Path(directory.path().to_owned());
    let options = LoadOptions::default();
    let error = match Local::open_twin(&source, &options, SMALL, 768 << 20) {
        Ok(_) => panic!("the reserve alone is 768 MiB"),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("are free on the device"), "{error}");
    assert!(error.contains("hint:"), "{error}");
}
