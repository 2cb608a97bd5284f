//! Promise: a completion is a function of its request alone: the same to the last bit whatever else is generated
//! beside it, in which order, with how much memory and on how many threads. And it ends where it should.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{path::Path, sync::Arc};

use llama_eval_model::{
    Answer, Completion, Finish, Generation, LanguageModel, LoadOptions, Local, ModelError, Prompt,
    Request, Sampling, Sink, SinkError, Source, testing,
};
use proptest::prelude::*;

fn model(directory: &Path, options: &LoadOptions) -> Local {
    Local::open(&Source::Path(directory.to_owned()), options)
        .unwrap_or_else(|error| panic!("{error}"))
}

fn checkpoint() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    testing::write_checkpoint(directory.path(), &testing::tiny_config(), 3).unwrap();
    directory
}

fn generation(
    prompt: &str,
    stop: &[&str],
    max_new_tokens: usize,
    sampling: Sampling,
) -> Arc<Generation> {
    Arc::new(Generation {
        prompt: Prompt::plain(prompt),
        stop: stop.iter().map(|&stop| stop.to_owned()).collect(),
        max_new_tokens,
        sampling,
    })
}

fn request(generation: &Arc<Generation>, sample: u32) -> Request {
    Request::Generate {
        generation: Arc::clone(generation),
        sample,
    }
}

fn complete(model: &mut Local, generation: &Arc<Generation>) -> Completion {
    let answer = common::answers(model, &[request(generation, 0)]).remove(0);
    let Answer::Completion(completion) = answer else {
        panic!("{answer:?}")
    };
    completion
}

fn sampling() -> impl Strategy<Value = Sampling> {
    let random = (0.3f32..1.5, 0.5f32..=1.0, 0usize..40, 0u64..5);
    prop_oneof![
        1 => Just(Sampling::Greedy),
        2 => random.prop_map(|(temperature, top_p, top_k, seed)| Sampling::Random { temperature, top_p, top_k, seed }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn batched_equals_alone(
        // Few letters and short texts: prompts share prefixes, and are prefixes of each other.
        prompts in prop::collection::vec(("[ab]{0,12}", 1usize..60, sampling(), 1u32..5), 1..12),
        batch_rows in 1usize..40,
        // The least that the longest request can need alone: a tile for each of twelve letters, five for its text.
        tiles in 17u64..60,
        threads in 1usize..4,
    ) {
        let directory = checkpoint();
        let mut alone = model(directory.path(), &LoadOptions::default());
        let requests: Vec<Request> = prompts
            .iter()
            .flat_map(|(prompt, limit, sampling, samples)| {
                let generation = generation(prompt, &["aa", "hello"], *limit, *sampling);
                (0..*samples).map(move |sample| request(&generation, sample))
            })
            .collect();
        let expected: Vec<Answer> = requests
            .iter()
            .map(|request| common::answers(&mut alone, std::slice::from_ref(request)).remove(0))
            .collect();
        // Memory for a few sequences at a time: others wait until some have ended.
        let config = testing::tiny_config();
        let tile = (2 * 16 * config.layers * 4) as u64 * (8 + 16);
        let options = LoadOptions { batch_rows: Some(batch_rows), ..LoadOptions::default() };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let answers = pool.install(|| {
            let mut together = model(directory.path(), &options);
            together.limit_cache(tiles * tile);
            common::answers(&mut together, &requests)
        });
        prop_assert_eq!(&answers, &expected);
    }
}

/// Logits of the step after every prefix, from the scoring engine.
#[test]
fn greedy_tokens_are_those_of_the_scored_logits() {
    let directory = checkpoint();
    let mut model = model(directory.path(), &LoadOptions::default());
    let completion = complete(
        &mut model,
        &generation("hello ab", &[], 40, Sampling::Greedy),
    );
    let mut tokens = model
        .encoder()
        .tokenizer()
        .encode("hello ab", true)
        .unwrap();
    let prompt = tokens.len();
    assert_eq!(completion.prompt_tokens, prompt);
    tokens.extend(&completion.token_ids);
    let rows = model.log_probabilities(&tokens).unwrap();
    let mut margin = f32::INFINITY;
    for (position, &token) in completion.token_ids.iter().enumerate() {
        let row = &rows[prompt + position - 1];
        let mut sorted = row.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        assert_eq!(
            row[token as usize].to_bits(),
            sorted[0].to_bits(),
            "token {position}"
        );
        margin = margin.min(sorted[0] - sorted[1]);
    }
    // Differences of log-probabilities are differences of logits but for rounding.
    assert!(
        (completion.margin - margin).abs() < 1e-5,
        "{} {margin}",
        completion.margin
    );
}

#[test]
fn it_says_why_it_ended() {
    let directory = checkpoint();
    let mut model = model(directory.path(), &LoadOptions::default());
    // The same text, stopped where it says so itself, in the middle of it. (A random model writes many bytes that
    // are no letters; a stop string has none, and must not begin in what the first one makes of the prompt.)
    let (prompt, long, stop) = ["ab", "a", "b", "hello", "ba", "aab", "abba", "hello b"]
        .into_iter()
        .find_map(|prompt| {
            let long = complete(&mut model, &generation(prompt, &[], 30, Sampling::Greedy));
            assert_eq!((long.finish, long.token_ids.len()), (Finish::Length, 30));
            let mut letters = long.text.chars().skip(2);
            let stop = letters.find(|letter| letter.is_ascii_graphic())?;
            (letters.count() > 1).then_some((prompt, long, stop.to_string()))
        })
        .unwrap();
    let stopped = complete(
        &mut model,
        &generation(prompt, &["", "never so", &stop], 30, Sampling::Greedy),
    );
    assert_eq!(stopped.finish, Finish::StopString);
    assert_eq!(stopped.text, long.text[..long.text.find(&stop).unwrap()]);
    assert!(long.token_ids.starts_with(&stopped.token_ids));
    assert!(stopped.token_ids.len() < 30);
    // 64 tokens are the whole context.
    let full = complete(&mut model, &generation("ab", &[], 1000, Sampling::Greedy));
    assert_eq!(full.finish, Finish::Context);
    assert_eq!(full.prompt_tokens + full.token_ids.len(), 64);
    // A prompt longer than the context is cut on the left.
    let cut = complete(
        &mut model,
        &generation(&"ab ".repeat(80), &[], 8, Sampling::Greedy),
    );
    assert_eq!((cut.prompt_tokens, cut.finish), (56, Finish::Length));
    assert!(cut.truncated_tokens > 0);
}

#[test]
fn the_end_of_text_ends_it_and_is_no_text() {
    let directory = checkpoint();
    // The token that greedy decoding comes to after a few others becomes the end of text.
    let long = complete(
        &mut model(directory.path(), &LoadOptions::default()),
        &generation("ab", &[], 30, Sampling::Greedy),
    );
    let end = long.token_ids[5];
    let first = long
        .token_ids
        .iter()
        .position(|&token| token == end)
        .unwrap();
    let mut config = testing::tiny_config();
    config.eos = vec![1, end];
    testing::write_config(directory.path(), &config).unwrap();
    let mut model = model(directory.path(), &LoadOptions::default());
    let ended = complete(&mut model, &generation("ab", &[], 30, Sampling::Greedy));
    assert_eq!(ended.finish, Finish::EndOfText);
    assert_eq!(ended.token_ids, long.token_ids[..=first]);
    assert!(long.text.starts_with(&ended.text) && ended.text.len() < long.text.len());
}

#[test]
fn what_never_fits_is_unanswered_and_the_rest_goes_on() {
    let directory = checkpoint();
    let mut model = model(directory.path(), &LoadOptions::default());
    let config = testing::tiny_config();
    let tile = (2 * 16 * config.layers * 4) as u64 * (8 + 16);
    model.limit_cache(2 * tile);
    let requests = [
        request(&generation("ab", &[], 60, Sampling::Greedy), 0),
        request(&generation("b", &[], 3, Sampling::Greedy), 0),
    ];
    let answers = common::answers(&mut model, &requests);
    let Answer::Unanswered { reason } = &answers[0] else {
        panic!("{:?}", answers[0])
    };
    assert!(
        reason.contains("keys and values") && reason.contains("--memory"),
        "{reason}"
    );
    assert!(answers[1].completion().is_some());
}

/// A kept prompt can lie in the middle of the memory when everything around it has ended.
#[test]
fn a_kept_prompt_in_the_way_is_computed_again() {
    let directory = checkpoint();
    let mut model = model(directory.path(), &LoadOptions::default());
    let config = testing::tiny_config();
    let tile = (2 * 16 * config.layers * 4) as u64 * (8 + 16);
    // One tile for the first token of both prompts, one for the second of each, four for the longest completion.
    model.limit_cache(6 * tile);
    let long = generation("bb", &[], 61, Sampling::Greedy);
    let requests = [
        request(&generation("ab", &[], 5, Sampling::Greedy), 0),
        request(&generation("bb", &[], 3, Sampling::Greedy), 0),
        request(&long, 0),
    ];
    let answers = common::answers(&mut model, &requests);
    let together = answers[2]
        .completion()
        .unwrap_or_else(|| panic!("{:?}", answers[2]));
    assert_eq!(together.prompt_tokens, 3);
    assert_eq!(together, &complete(&mut model, &long));
}

struct Refuses(usize);

impl Sink for Refuses {
    fn answer(&mut self, _: usize, _: Answer) -> Result<(), SinkError> {
        Ok(())
    }

    fn computed(&mut self, _: usize) -> Result<(), SinkError> {
        self.0 -= 1;
        if self.0 == 0 {
            Err("enough".into())
        } else {
            Ok(())
        }
    }
}

#[test]
fn a_sink_that_refuses_stops_it_between_two_steps() {
    let directory = checkpoint();
    let mut model = model(directory.path(), &LoadOptions::default());
    let requests = [request(&generation("ab", &[], 50, Sampling::Greedy), 0)];
    let mut sink = Refuses(5);
    let error = model.answer(&requests, &mut sink).unwrap_err();
    assert!(matches!(error, ModelError::Sink(_)), "{error}");
    assert_eq!(sink.0, 0);
}

#[test]
fn logits_that_are_no_numbers_leave_it_unanswered() {
    let directory = checkpoint();
    let config = testing::tiny_config();
    let mut weights = testing::random_weights(&config, 3);
    let (_, _, head) = weights
        .iter_mut()
        .find(|(name, ..)| name == "lm_head.weight")
        .unwrap();
    head[200 * config.hidden] = f32::NAN;
    testing::write_weights(&directory.path().join("model.safetensors"), &weights).unwrap();
    let mut model = model(directory.path(), &LoadOptions::default());
    let requests = [request(&generation("ab", &[], 5, Sampling::Greedy), 0)];
    let answers = common::answers(&mut model, &requests);
    let [Answer::Unanswered { reason }] = answers.as_slice() else {
        panic!("{answers:?}")
    };
    assert!(reason.contains("token 0"), "{reason}");
}
