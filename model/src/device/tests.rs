//! Promise: the card's pass gives what the CPU's gives, whatever the batches. It runs on the CPU, through the twins of
//! its kernels, and on a card where there is one (`card_tests.rs`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{path::Path, sync::Arc};

use candle_core::{DType, Device};

use super::{
    Passes,
    workspace::{PassRows, Workspace},
};
use crate::{
    Answer, Config, Dtype, Generation, LanguageModel, LoadOptions, Local, Prompt, Request,
    Sampling, Sink, SinkError, Source,
    testing::{self, card_config as config},
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

/// The CPU, and the first card if there is one.
fn devices() -> Vec<Device> {
    #[cfg(feature = "cuda")]
    let card = super::card_tests::device();
    #[cfg(not(feature = "cuda"))]
    let card = None;
    std::iter::once(Device::Cpu).chain(card).collect()
}

fn open(directory: &Path, batch_rows: usize, device: &Device) -> Local {
    let options = LoadOptions {
        batch_rows: Some(batch_rows),
        ..LoadOptions::default()
    };
    let source = Source::Path(directory.to_owned());
    Local::open_on(&source, &options, device, SMALL, FREE).unwrap()
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

fn log_probs(answer: &Answer) -> (&[f32], bool) {
    match answer {
        Answer::LogLikelihood {
            log_probs, greedy, ..
        } => (log_probs, *greedy),
        other => panic!("{other:?}"),
    }
}

/// The largest difference between the log-probabilities of equal tokens; all greedy flags are the same.
fn largest_difference(ours: &[Answer], theirs: &[Answer]) -> f32 {
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert_eq!(log_probs(ours).1, log_probs(theirs).1);
    }
    largest_log_prob_difference(ours, theirs)
}

fn largest_log_prob_difference(ours: &[Answer], theirs: &[Answer]) -> f32 {
    let pairs = ours.iter().zip(theirs).flat_map(|(ours, theirs)| {
        let (ours, theirs) = (log_probs(ours).0, log_probs(theirs).0);
        assert_eq!(ours.len(), theirs.len());
        ours.iter().zip(theirs).map(|(a, b)| (a - b).abs())
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
        let theirs = answers(&mut host(directory.path()), &requests);
        for device in devices() {
            let ours = answers(&mut open(directory.path(), 300, &device), &requests);
            // Both in f32, summed in different orders.
            let difference = largest_difference(&ours, &theirs);
            assert!(difference < 2e-5, "{name}, {device:?}: {difference}");
        }
    }
}

#[test]
fn scores_do_not_depend_on_batching() {
    let directory = tempfile::tempdir().unwrap();
    testing::write_checkpoint(directory.path(), &config(), 5).unwrap();
    let requests = requests();
    for device in devices() {
        let open = |rows| open(directory.path(), rows, &device);
        let together = answers(&mut open(960), &requests);
        for rows in [240, 480] {
            assert_eq!(answers(&mut open(rows), &requests), together, "{rows} rows");
        }
        let mut alone = open(240);
        for (request, expected) in requests.iter().zip(&together).step_by(7) {
            let answer = answers(&mut alone, std::slice::from_ref(request));
            assert_eq!(&answer[0], expected);
        }
    }
}

#[test]
fn the_longest_sequence_fits_into_the_smallest_batch() {
    let directory = tempfile::tempdir().unwrap();
    testing::write_checkpoint(directory.path(), &config(), 5).unwrap();
    // Longer than the context, so that it is cut to all of it.
    let requests = [scored(&"a b c q ".repeat(80), " a")];
    let theirs = answers(&mut host(directory.path()), &requests);
    for device in devices() {
        let ours = answers(&mut open(directory.path(), 1, &device), &requests);
        assert!(largest_difference(&ours, &theirs) < 2e-5, "{device:?}");
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
        let theirs = texts(answers(&mut host(directory.path()), &requests));
        for device in devices() {
            let mut model = open(directory.path(), 96, &device);
            let ours = texts(answers(&mut model, &requests));
            assert_eq!(ours, theirs, "{device:?}");
            // One at a time, and so in other batches.
            let alone = requests
                .iter()
                .step_by(5)
                .flat_map(|request| texts(answers(&mut model, std::slice::from_ref(request))));
            let together = ours.iter().step_by(5).cloned();
            assert!(alone.eq(together), "{device:?}");
        }
    }
}

/// The real checkpoint, if it is there.
fn real() -> Option<Source> {
    let path = std::env::var_os("LLAMA_EVAL_CHECKPOINT").map_or_else(
        || {
            let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/checkpoints");
            Path::new(target).join("SmolLM2-135M-Instruct.Q4_1.gguf")
        },
        Into::into,
    );
    if path.exists() {
        return Some(Source::Path(path));
    }
    let required = std::env::var_os("LLAMA_EVAL_REQUIRE_GOLD").is_some();
    assert!(!required, "{} is missing", path.display());
    println!("skipped: {} not found", path.display());
    None
}

#[test]
fn a_real_models_scores_are_the_hosts() {
    let Some(source) = real() else { return };
    let question =
        "Question: Which of these is a planet that people can see without a telescope?\n";
    let choices = [
        " Mars",
        " Pluto and its moon",
        " the Sun",
        " a comet's tail, at noon",
    ];
    let requests: Vec<Request> = ["Answer:", "It is"]
        .iter()
        .flat_map(|end| choices.map(|choice| scored(&format!("{question}{end}"), choice)))
        .collect();
    let theirs = answers(
        &mut Local::open(&source, &LoadOptions::default()).unwrap(),
        &requests,
    );
    for device in devices() {
        // In f32 1.2e-5 was seen. bf16 has eight bits: after 30 layers of them 0.11.
        for (dtype, tolerance) in [(Dtype::F32, 1e-3), (Dtype::Bf16, 0.2)] {
            let options = LoadOptions {
                dtype,
                batch_rows: Some(96),
                ..LoadOptions::default()
            };
            let mut model = Local::open_on(&source, &options, &device, SMALL, FREE).unwrap();
            let ours = answers(&mut model, &requests);
            let difference = largest_log_prob_difference(&ours, &theirs);
            println!("{device:?} {dtype:?}: at most {difference} off");
            assert!(difference < tolerance, "{device:?} {dtype:?}: {difference}");
        }
    }
}

#[test]
fn too_little_memory_is_said_with_its_numbers() {
    let directory = tempfile::tempdir().unwrap();
    testing::write_checkpoint(directory.path(), &config(), 5).unwrap();
    let source = Source::Path(directory.path().to_owned());
    let options = LoadOptions::default();
    let error = match Local::open_on(&source, &options, &Device::Cpu, SMALL, 768 << 20) {
        Ok(_) => panic!("the reserve alone is 768 MiB"),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("are free on the device"), "{error}");
    assert!(error.contains("hint:"), "{error}");
}
