//! Promise: on a card, a real model's log-likelihoods are lm-eval's, and the same to the last bit in any batch.
//!
//! Needs a real card: the software card would take hours. `scripts/gpu-check` runs it.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use llama_eval_model::{
    Answer, DeviceChoice, Dtype, LanguageModel, LoadOptions, Local, Prompt, Request, Source,
    testing,
};

/// Largest difference in log-likelihood per scored token in f32: both sides sum in other orders.
const TOLERANCE: f64 = 1e-3;
/// Largest mean difference per scored token in bf16, whose numbers have eight bits. Differences have both signs.
const MEAN_TOLERANCE: f64 = 0.1;

/// The real model on the first real card; `None`, said plainly, where there is none.
fn open(dtype: Dtype, batch_rows: usize) -> Option<Local> {
    let checkpoint = common::real_checkpoint()?;
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = folder.path().join("tokenizer.json");
    std::fs::write(&tokenizer, testing::gold_tokenizer(&checkpoint).unwrap()).unwrap();
    let options = LoadOptions {
        dtype,
        device: DeviceChoice::Cuda(0),
        batch_rows: Some(batch_rows),
        tokenizer: Some(tokenizer),
        ..LoadOptions::default()
    };
    let source = Source::Path(checkpoint.source().into());
    let why = match Local::open(&source, &options) {
        Ok(model) if model.identity().device.contains("Software card") => {
            "the software card would take hours".to_owned()
        }
        Ok(model) => return Some(model),
        Err(error) => error.to_string(),
    };
    println!("skipped: {why}");
    None
}

/// The gold requests and their log-likelihoods.
fn gold() -> Option<(Vec<Request>, Vec<f64>)> {
    let folder = common::gold("set-a")?;
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "jsonl"))
        .collect();
    files.sort();
    let documents = files.into_iter().flat_map(common::lines);
    let requests = documents.flat_map(|document| {
        let requests = document["requests"].as_array().cloned();
        requests.unwrap_or_default()
    });
    let scored = requests.filter(|request| request["continuation"].is_string());
    Some(
        scored
            .map(|request| {
                let text = |name: &str| request[name].as_str().unwrap().to_owned();
                let asked = Request::LogLikelihood {
                    prompt: Prompt::plain(text("context")),
                    continuation: text("continuation"),
                };
                (asked, request["loglikelihood"].as_f64().unwrap())
            })
            .unzip(),
    )
}

/// For each answer its log-likelihood and its number of tokens.
fn sums(answers: &[Answer]) -> Vec<(f64, usize)> {
    let sum = |answer: &Answer| match answer {
        Answer::LogLikelihood { log_probs, .. } => {
            let sum = log_probs.iter().map(|&it| f64::from(it)).sum();
            (sum, log_probs.len())
        }
        other => panic!("{other:?}"),
    };
    answers.iter().map(sum).collect()
}

#[test]
fn parity_with_lm_eval() {
    let Some((requests, expected)) = gold() else {
        return;
    };
    for dtype in [Dtype::F32, Dtype::Bf16] {
        let Some(mut model) = open(dtype, 8192) else {
            return;
        };
        let sums = sums(&common::answers(&mut model, &requests));
        let differences: Vec<f64> = sums
            .iter()
            .zip(&expected)
            .map(|((sum, tokens), expected)| (sum - expected).abs() / *tokens as f64)
            .collect();
        let largest = differences.iter().copied().fold(0.0, f64::max);
        let mean = differences.iter().sum::<f64>() / differences.len() as f64;
        println!("{dtype:?}: per token at most {largest:.6}, {mean:.6} on average");
        match dtype {
            Dtype::F32 => assert!(largest < TOLERANCE, "{largest}"),
            _ => assert!(mean < MEAN_TOLERANCE, "{mean}"),
        }
    }
}

#[test]
fn bitwise_the_same_in_any_batch() {
    let Some((requests, _)) = gold() else { return };
    let requests: Vec<Request> = requests.into_iter().step_by(5).collect();
    for dtype in [Dtype::Bf16, Dtype::F32] {
        let Some(mut model) = open(dtype, 16_384) else {
            return;
        };
        let together = common::answers(&mut model, &requests);
        for (request, expected) in requests.iter().zip(&together).step_by(40) {
            let alone = common::answers(&mut model, std::slice::from_ref(request));
            assert_eq!(&alone[0], expected, "{dtype:?}");
        }
        drop(model);
        let Some(mut smaller) = open(dtype, 4096) else {
            return;
        };
        assert_eq!(
            common::answers(&mut smaller, &requests),
            together,
            "{dtype:?}"
        );
    }
}
