//! Promise: greedy completions equal lm-eval's, token by token, for a real model.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use llama_eval_model::{Answer, Completion, Finish, Generation, Prompt, Request, Sampling};
use serde_json::Value;

/// Below this gap between the two best logits at its tightest step, another correct implementation may choose
/// another token: both sum in f32, in different orders.
const NEAR_TIE: f64 = 1e-3;
/// New tokens where the gold file's settings name none: lm-eval's default.
const DEFAULT_NEW_TOKENS: u64 = 256;

fn request(prompt: &str, stop: Vec<String>, max_new_tokens: usize) -> Request {
    Request::Generate {
        generation: Arc::new(Generation {
            prompt: Prompt::plain(prompt),
            stop,
            max_new_tokens,
            sampling: Sampling::Greedy,
        }),
        sample: 0,
    }
}

fn ids(value: &Value) -> Vec<u32> {
    let ids = value.as_array().unwrap().iter();
    ids.map(|id| id.as_u64().unwrap() as u32).collect()
}

fn completion(answer: &Answer) -> &Completion {
    answer.completion().unwrap_or_else(|| panic!("{answer:?}"))
}

#[test]
fn plain_greedy_decoding() {
    let Some(path) = common::gold("greedy.jsonl") else {
        return;
    };
    let Some(mut model) = common::real_model() else {
        return;
    };
    let lines = common::lines(path);
    let requests: Vec<Request> = lines
        .iter()
        .map(|line| {
            let length = line["output_ids"].as_array().unwrap().len();
            let stopped = line["stopped_on_eos"].as_bool().unwrap();
            // One more than it took to come to its end: it must stop by itself.
            let limit = length + usize::from(stopped);
            request(line["prompt"].as_str().unwrap(), Vec::new(), limit)
        })
        .collect();
    assert_eq!(lines.len(), 10);
    for (line, answer) in lines.iter().zip(common::answers(&mut model, &requests)) {
        let ours = completion(&answer);
        assert_eq!(
            ours.token_ids,
            ids(&line["output_ids"]),
            "{}",
            line["prompt"]
        );
        assert_eq!(
            ours.prompt_tokens,
            line["input_ids"].as_array().unwrap().len()
        );
        let stopped = line["stopped_on_eos"].as_bool().unwrap();
        let finish = if stopped {
            Finish::EndOfText
        } else {
            Finish::Length
        };
        assert_eq!(ours.finish, finish, "{}", line["prompt"]);
        // Gold's text keeps the end-of-text token.
        let text = line["text"].as_str().unwrap();
        assert_eq!(
            ours.text,
            text.replace("<|im_end|>", ""),
            "{}",
            line["prompt"]
        );
        // The margins follow from the logits, of which some are 1e-4 off.
        let margin = line["min_margin"].as_f64().unwrap();
        assert!(
            (f64::from(ours.margin) - margin).abs() < 2e-3,
            "{} {margin}",
            ours.margin
        );
    }
}

#[test]
fn every_completion_of_lm_eval() {
    let Some(folder) = common::gold("set-a") else {
        return;
    };
    let Some(mut model) = common::real_model() else {
        return;
    };
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "jsonl"))
        .collect();
    files.sort();
    let mut requests = Vec::new();
    let mut expected = Vec::new();
    for path in files {
        let task = path.file_stem().unwrap().to_string_lossy().into_owned();
        for line in common::lines(path) {
            let Some(stop) = line["stop_strings"].as_array() else {
                continue;
            };
            let stop = stop.iter().map(|stop| stop.as_str().unwrap().to_owned());
            let limit = &line["gen_kwargs"]["max_gen_toks"];
            let limit = limit.as_u64().unwrap_or(DEFAULT_NEW_TOKENS) as usize;
            let context = line["context"].as_str().unwrap();
            requests.push(request(context, stop.collect(), limit));
            expected.push((format!("{task} document {}", line["doc_id"]), line));
        }
    }
    assert_eq!(requests.len(), 9 * 12);
    let (mut ties, mut wrong) = (Vec::new(), Vec::new());
    for ((name, line), answer) in expected.iter().zip(common::answers(&mut model, &requests)) {
        let ours = completion(&answer);
        // lm-eval strips nothing but what its stop strings cut.
        let text = line["completion"].as_str().unwrap();
        let kept = line["n_kept_tokens"].as_u64().unwrap() as usize;
        let theirs = &ids(&line["output_ids"])[..kept];
        let finish = match line["finish"].as_str().unwrap() {
            "eos" => Finish::EndOfText,
            "max_gen_toks" => Finish::Length,
            _ => Finish::StopString,
        };
        if (ours.text.as_str(), ours.token_ids.as_slice(), ours.finish) == (text, theirs, finish) {
            continue;
        }
        let report = format!(
            "{name}: {:?} {:?}\n instead of {text:?} {finish:?}",
            ours.text, ours.finish
        );
        if line["min_margin"].as_f64().unwrap() < NEAR_TIE {
            ties.push(report);
        } else {
            wrong.push(report);
        }
    }
    println!(
        "{} completions, {} differ at near ties",
        expected.len(),
        ties.len()
    );
    ties.iter().for_each(|tie| println!("{tie}"));
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
