//! Generates from a file of requests, and says how long it took: for measurements beside other programs.
//!
//! ```text
//! complete CHECKPOINT TOKENIZER_JSON REQUESTS_JSON
//! ```
//! Requests are a list of `{"prompt": .., "stop": [..], "max_new_tokens": .., "samples": .., "temperature": ..}`, greedy
//! at temperature 0. Prints `{"seconds": .., "token_ids": [[..], ..]}`, the time without loading.

use std::{env, fs, sync::Arc, time::Instant};

use anyhow::{Context, bail};
use llama_eval_model::{
    Answer, Generation, LanguageModel, LoadOptions, Local, Prompt, Request, Sampling, Sink,
    SinkError, Source,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Asked {
    prompt: String,
    stop: Vec<String>,
    max_new_tokens: usize,
    samples: u32,
    temperature: f32,
}

struct Collect(Vec<Vec<u32>>);

impl Sink for Collect {
    fn answer(&mut self, index: usize, answer: Answer) -> Result<(), SinkError> {
        let completion = answer.completion().ok_or("a request was not answered")?;
        let place = self.0.get_mut(index).ok_or("an answer to no request")?;
        place.clone_from(&completion.token_ids);
        Ok(())
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [checkpoint, tokenizer, requests] = arguments.as_slice() else {
        bail!("wants a checkpoint, a tokenizer.json and a file of requests")
    };
    let asked: Vec<Asked> = serde_json::from_str(&fs::read_to_string(requests)?)
        .with_context(|| format!("{requests} holds no requests"))?;
    let requests: Vec<Request> = asked
        .into_iter()
        .enumerate()
        .flat_map(|(seed, asked)| {
            let sampling = match asked.temperature > 0.0 {
                false => Sampling::Greedy,
                true => Sampling::Random {
                    temperature: asked.temperature,
                    top_p: 1.0,
                    top_k: 0,
                    seed: seed as u64,
                },
            };
            let generation = Arc::new(Generation {
                prompt: Prompt::plain(asked.prompt),
                stop: asked.stop,
                max_new_tokens: asked.max_new_tokens,
                sampling,
            });
            (0..asked.samples).map(move |sample| Request::Generate {
                generation: Arc::clone(&generation),
                sample,
            })
        })
        .collect();
    let options = LoadOptions {
        tokenizer: Some(tokenizer.into()),
        ..LoadOptions::default()
    };
    let mut model = Local::open(&Source::Path(checkpoint.into()), &options)?;
    let mut sink = Collect(vec![Vec::new(); requests.len()]);
    let begun = Instant::now();
    model.answer(&requests, &mut sink)?;
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{}",
        serde_json::json!({ "seconds": seconds, "token_ids": sink.0 })
    );
    Ok(())
}
