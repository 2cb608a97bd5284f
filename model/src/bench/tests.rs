//! Promise: what is measured is what the engine does, on any backend.
#![allow(clippy::unwrap_used)]

use candle_core::Device;

use super::*;
use crate::{
    Dtype, Source,
    device::{PassRows, Passes},
    engine::load_on,
    forward::Chosen,
    testing,
};

/// Ceilings for tests that look at no time.
const UNIT: Ceilings = Ceilings {
    flops_per_second: 1e9,
    bytes_per_second: 1e9,
    product: [1; 3],
};

fn options() -> LoadOptions {
    LoadOptions {
        batch_rows: Some(288),
        device: crate::DeviceChoice::Cpu,
        ..LoadOptions::default()
    }
}

fn benches() -> [Bench; 2] {
    let folder = tempfile::tempdir().unwrap();
    let config = testing::card_config();
    testing::write_checkpoint(folder.path(), &config, 7).unwrap();
    let subject = Subject::Checkpoint(Source::Path(folder.path().to_owned()));
    let small = PassRows {
        layer: 48,
        head: 16,
    };
    let passes = Passes {
        score: small,
        prompt: small,
        step: small,
    };
    let twin = |origin: Origin<'_>| {
        load_on(origin, &options(), &Device::Cpu, "twin", passes, || {
            Ok(2 << 30)
        })
    };
    [
        Bench::open(&subject, &options()).unwrap(),
        Bench::open_with(&subject, twin).unwrap(),
    ]
}

#[test]
fn both_backends_are_measured_over_the_same_work() {
    let [host, twin] = benches();
    let Plan::Scoring { documents } = Plan::new(PlanName::Hellaswag, &host.config, 0.0005) else {
        unreachable!()
    };
    let scored =
        [&host, &twin].map(|bench| bench.score(PlanName::Hellaswag, &documents, 2).unwrap()(&UNIT));
    for scored in &scored {
        assert_eq!(scored.documents, 5);
        assert_eq!(scored.rounds.len(), 2);
        assert!(scored.computed_rows >= scored.unique_tokens);
        assert!(scored.seconds > 0.0 && scored.share_of_product > 0.0);
        // Every token of an ending is a target; the first of all four is read from one row.
        let endings = documents.iter().flat_map(|document| {
            let shared = document.continuations.len() - 1;
            let tokens: usize = document.continuations.iter().map(Vec::len).sum();
            [tokens - shared]
        });
        assert_eq!(scored.scored_rows, endings.sum::<usize>() as u64);
    }
    let counts = |scored: &Scored| (scored.unique_tokens, scored.computed_rows, scored.pairs);
    assert_eq!(counts(&scored[0]), counts(&scored[1]));

    // Batches that hold no whole document compute its context again, which is no more useful work.
    let mut small = host;
    small.loaded.batch_rows = 100;
    let pending = small.score(PlanName::Hellaswag, &documents, 1).unwrap();
    let cut = pending(&UNIT);
    assert!(cut.computed_rows > cut.unique_tokens);
    assert_eq!(cut.unique_tokens, scored[0].unique_tokens);
    assert!((cut.flops - scored[0].flops).abs() < 1.0);
}

/// The tokens that a job's steps choose, one step after the other.
fn chosen<F: Forward>(model: &F, job: &Decoding<'_>) -> Vec<u32> {
    /// Remembers what was chosen.
    struct Spy<'a, F>(&'a F, std::cell::RefCell<Vec<u32>>);
    impl<F: Forward> Forward for Spy<'_, F> {
        type Running = F::Running;
        type Cache = F::Cache;
        type Stepping = F::Stepping;
        fn memory_bytes(&self, rows: usize) -> u64 {
            self.0.memory_bytes(rows)
        }
        fn begin(&self, tree: &TokenTree) -> Result<F::Running, ModelError> {
            self.0.begin(tree)
        }
        fn finish(
            &self,
            running: F::Running,
        ) -> Result<Vec<crate::forward::Prediction>, ModelError> {
            self.0.finish(running)
        }
        fn synchronize(&self) -> Result<(), ModelError> {
            self.0.synchronize()
        }
        fn most_leaves(&self) -> usize {
            self.0.most_leaves()
        }
        fn most_prompt_rows(&self) -> usize {
            self.0.most_prompt_rows()
        }
        fn tile_bytes(&self) -> u64 {
            self.0.tile_bytes()
        }
        fn cache(&self, tiles: usize, positions: usize) -> Result<F::Cache, ModelError> {
            self.0.cache(tiles, positions)
        }
        fn fill(
            &self,
            cache: &F::Cache,
            tokens: &[u32],
            rows: CachedRows,
        ) -> Result<(), ModelError> {
            self.0.fill(cache, tokens, rows)
        }
        fn runs_ahead(&self) -> bool {
            self.0.runs_ahead()
        }
        fn begin_step(
            &self,
            cache: &F::Cache,
            feed: crate::forward::Feed<'_, F::Stepping>,
            rows: CachedRows,
            draws: &[Draw],
        ) -> Result<F::Stepping, ModelError> {
            self.0.begin_step(cache, feed, rows, draws)
        }
        fn finish_step(&self, stepping: F::Stepping) -> Result<Vec<Chosen>, ModelError> {
            let chosen = self.0.finish_step(stepping)?;
            let tokens = chosen.iter().map(|chosen| chosen.unwrap().0);
            self.1.borrow_mut().extend(tokens);
            Ok(chosen)
        }
    }
    let spy = Spy(model, Default::default());
    let at_once = 3;
    let cache = spy.cache(job.tiles(at_once), 256).unwrap();
    job.run(&spy, &cache, at_once, 24, job.new_tokens).unwrap();
    spy.1.into_inner()
}

/// The layout of kept keys is right: what a step chooses is what scoring the same tokens holds most likely.
#[test]
fn steps_choose_what_scoring_finds_most_likely() {
    let [host, twin] = benches();
    // Four sequences in groups of three and one; a prompt of no whole number of tiles, in parts of 24 rows.
    let config = &host.config;
    let (prompt, fed): (Vec<u32>, Vec<Vec<u32>>) = {
        let token =
            |at: usize| (crate::llama::splitmix(at as u64) % config.vocabulary as u64) as u32;
        let fed = (0..4).map(|sequence| (0..21).map(|at| token(1000 * sequence + at)).collect());
        ((5000..5061).map(token).collect(), fed.collect())
    };
    let job = Decoding {
        prompt: &prompt,
        fed: &fed,
        new_tokens: 21,
    };
    for bench in [&host, &twin] {
        let (found, expected) = with_model!(&bench.loaded.backend, model => {
            let found = chosen(model, &job);
            let mut expected = Vec::new();
            for group in fed.chunks(3) {
                for step in 0..job.new_tokens {
                    for fed in group {
                        let context = [&prompt[..], &fed[..step]].concat();
                        // Whichever token is the best says so of itself.
                        let every: Vec<[u32; 1]> = (0..config.vocabulary as u32).map(|it| [it]).collect();
                        let members: Vec<_> = every
                            .iter()
                            .enumerate()
                            .map(|(index, token)| {
                                let sequence = crate::tree::Sequence {
                                    context: &context,
                                    continuation: token,
                                };
                                (index as u32, sequence)
                            })
                            .collect();
                        let tree = TokenTree::new(&members);
                        let predictions = model.finish(model.begin(&tree).unwrap()).unwrap();
                        let best = predictions.iter().position(|prediction| prediction.best);
                        expected.push(tree.targets[best.unwrap()].token);
                    }
                }
            }
            (found, expected)
        });
        assert_eq!(found, expected, "{}", bench.machine.device);
    }
}

#[test]
fn sequences_are_generated_in_groups_where_memory_is_short() {
    let [host, _] = benches();
    let Plan::Decoding { prompt, fed } = Plan::new(PlanName::Decode, &host.config, 0.01) else {
        unreachable!()
    };
    let measure = |bench: &Bench| {
        let (pending, kept) = bench.decode(PlanName::Decode, &prompt, &fed, 1).unwrap();
        (pending(&UNIT), kept.bytes)
    };
    let (all, kept) = measure(&host);
    assert_eq!((all.sequences, all.at_once), (5, 5));
    assert_eq!((all.prompt_tokens, all.new_tokens), (243, 12));

    let mut short = host;
    let rows = short.loaded.batch_rows;
    let fixed = with_model!(&short.loaded.backend, model => model.memory_bytes(rows));
    short.loaded.allowed_bytes = fixed + kept - 1;
    let (some, less) = measure(&short);
    assert_eq!(some.at_once, 4);
    assert!(less < kept);
    // One sequence in a group of its own makes a step as long for fewer tokens.
    assert!(some.floor_seconds_per_step < all.floor_seconds_per_step);

    short.loaded.allowed_bytes = fixed;
    let Err(error) = short.decode(PlanName::Decode, &prompt, &fed, 1) else {
        unreachable!("there is no room for a sequence")
    };
    assert!(error.to_string().contains("--memory"), "{error}");
}

#[test]
fn random_weights_give_numbers_in_every_type() {
    for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
        let config = testing::tiny_config();
        let options = LoadOptions { dtype, ..options() };
        let loaded = Loaded::new(Origin::Random(&config), &options).unwrap();
        let tokens: Vec<u32> = (0..40).collect();
        let sequence = crate::tree::Sequence {
            context: &tokens[..20],
            continuation: &tokens[20..],
        };
        let tree = TokenTree::new(&[(0, sequence)]);
        let predictions =
            with_model!(&loaded.backend, model => model.finish(model.begin(&tree).unwrap()))
                .unwrap();
        // Logits of about unit variance: every token is about as likely as the others, none the same.
        let uniform = -(config.vocabulary as f32).ln();
        for prediction in &predictions {
            assert!(
                (prediction.log_prob - uniform).abs() < 6.0,
                "{prediction:?}"
            );
        }
        assert!(
            predictions
                .windows(2)
                .all(|pair| pair[0].log_prob != pair[1].log_prob)
        );
    }
}

#[test]
fn the_median_is_the_middle() {
    assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    assert!((median(&[4.0, 1.0]) - 4.0).abs() < f64::EPSILON);
    assert!(median(&[]).abs() < f64::EPSILON);
}

/// All of it, on a device that is no host.
#[test]
fn a_device_is_measured() {
    let [_, twin] = benches();
    let plans = PlanName::ALL.map(|(_, name)| name);
    let report = twin.measure(&plans, Some(0.0002), 1, |_| ()).unwrap();
    assert_eq!((report.scoring.len(), report.decoding.len()), (2, 1));
    let Ceilings {
        flops_per_second,
        bytes_per_second,
        ..
    } = report.ceilings;
    assert!(flops_per_second > 1e6 && bytes_per_second > 1e6);
    let memory = &report.memory;
    let parts = memory.weights + memory.buffers + memory.kept_keys;
    assert_eq!(parts, memory.formula);
}
