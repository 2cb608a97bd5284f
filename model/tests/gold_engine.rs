//! Promise: log-likelihoods and greedy flags equal lm-eval's, request by request, for a real model.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use llama_eval_model::{Answer, Prompt, Request};

/// Largest difference in log-likelihood per scored token. Both sides compute in f32 but sum in
/// different orders; lm-eval differs from itself by up to 5e-5 between batch sizes.
const TOLERANCE: f64 = 1e-3;
/// Below this gap between the two best logits the greedy flag hangs on rounding.
const NEAR_TIE: f32 = 1e-4;

#[test]
fn every_request_of_lm_eval() {
    let Some(folder) = common::gold("set-a") else {
        return;
    };
    let Some(mut model) = common::real_model() else {
        return;
    };
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let (mut requests, mut expected) = (Vec::new(), Vec::new());
    for path in files
        .into_iter()
        .filter(|path| path.extension().is_some_and(|kind| kind == "jsonl"))
    {
        let task = path.file_stem().unwrap().to_string_lossy().into_owned();
        for document in common::lines(path) {
            let Some(list) = document["requests"].as_array() else {
                continue;
            };
            for request in list
                .iter()
                .filter(|request| request["continuation"].is_string())
            {
                requests.push(Request::LogLikelihood {
                    prompt: Prompt::plain(request["context"].as_str().unwrap()),
                    continuation: request["continuation"].as_str().unwrap().to_owned(),
                });
                expected.push((
                    format!("{task} document {}", document["doc_id"]),
                    request["loglikelihood"].as_f64().unwrap(),
                    request["is_greedy"].as_bool().unwrap(),
                ));
            }
        }
    }
    assert!(
        requests.len() > 2000,
        "only {} gold requests",
        requests.len()
    );
    let answers = common::answers(&mut model, &requests);
    let (mut largest, mut near_ties, mut wrong) = (0f64, 0, Vec::new());
    for (answer, (name, log_likelihood, greedy)) in answers.iter().zip(&expected) {
        let Answer::LogLikelihood {
            log_probs,
            greedy: ours,
            margin,
            ..
        } = answer
        else {
            panic!("{name}: {answer:?}");
        };
        let difference =
            (answer.log_likelihood().unwrap() - log_likelihood).abs() / log_probs.len() as f64;
        largest = largest.max(difference);
        if difference > TOLERANCE {
            wrong.push(format!("{name}: {answer:?} instead of {log_likelihood}"));
        }
        if ours != greedy {
            near_ties += 1;
            if *margin >= NEAR_TIE {
                wrong.push(format!("{name}: greedy {ours} with a margin of {margin}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} requests differ:\n{}",
        wrong.len(),
        requests.len(),
        wrong.join("\n")
    );
    println!(
        "{} requests, largest difference per token {largest:.1e}, near ties {near_ties}",
        requests.len()
    );
}

#[test]
fn log_probabilities_at_every_position() {
    let Some(path) = common::gold("logits.jsonl") else {
        return;
    };
    let Some(model) = common::real_model() else {
        return;
    };
    let mut compared = 0;
    for line in common::lines(path) {
        let ids: Vec<u32> = line["input_ids"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_u64().unwrap() as u32)
            .collect();
        let ours = model.log_probabilities(&ids).unwrap();
        for position in line["positions"].as_array().unwrap() {
            let row = &ours[position["pos"].as_u64().unwrap() as usize];
            let top_ids = position["top_ids"]
                .as_array()
                .unwrap()
                .iter()
                .map(|id| id.as_u64().unwrap() as usize);
            let top = position["top_logprobs"]
                .as_array()
                .unwrap()
                .iter()
                .map(|value| value.as_f64().unwrap());
            for (id, expected) in top_ids.zip(top) {
                assert!(
                    (f64::from(row[id]) - expected).abs() <= TOLERANCE,
                    "{}: {id}",
                    line["prompt"]
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 50, "only {compared} values compared");
}
