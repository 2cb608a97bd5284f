//! maj1@k: the answer that most of k sampled completions give (Wang et al. 2022; Lewkowycz et al. 2022, section 2).
//!
//! Votes are equal when their normalised answers are; completions without an answer do not vote. Of equally
//! frequent answers the one seen first wins (neither paper states a rule for ties).

use std::{borrow::Cow, collections::BTreeMap};

use llama_eval_model::{Answer, Completion, Generation, Prompt, Request, Sampling};

use crate::{
    completions,
    task::{GenerationOptions, Metric, MetricName, Protocol},
};

/// Temperature and share of probability of the samples. LLaMA states neither; these are Minerva's
/// (Lewkowycz et al. 2022, section 2.3: T = 0.6, p = 0.95).
const TEMPERATURE: f32 = 0.6;
const TOP_P: f32 = 0.95;

/// One greedy completion of each prompt, and the samples that are voted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Voting {
    /// Sampled completions per prompt.
    samples: usize,
    /// How many of them vote: the first ones.
    k: usize,
}

impl Voting {
    /// As the options say, or with as many samples as the paper has (`own`).
    pub(crate) fn new(options: &GenerationOptions, own: usize) -> Self {
        let samples = options.samples.or(options.k).unwrap_or(own);
        let k = options.k.unwrap_or(own).min(samples);
        Self { samples, k }
    }

    /// Under `protocol`: lm-eval's has no vote.
    pub(crate) fn under(self, protocol: Protocol) -> Self {
        match protocol {
            Protocol::Paper => self,
            Protocol::LmEval => Self { samples: 0, k: 0 },
        }
    }

    /// `maj1@100`, unless there is nothing to vote on.
    pub(crate) fn metric(self) -> Option<Metric> {
        (self.k > 0).then(|| Metric {
            name: self.name(),
            higher_is_better: true,
            rule: Cow::Owned(format!(
                "most frequent answer of {} samples at temperature {TEMPERATURE}, top-p {TOP_P}",
                self.k
            )),
        })
    }

    /// Name of [`Voting::metric`].
    pub(crate) fn name(self) -> MetricName {
        Cow::Owned(format!("maj1@{}", self.k))
    }

    /// The greedy request, then one request for every sample.
    pub(crate) fn requests(
        self,
        prompt: Prompt,
        stop: &[&str],
        max_new_tokens: usize,
        seed: u64,
    ) -> Vec<Request> {
        let sampled = Generation {
            prompt: prompt.clone(),
            stop: completions::owned(stop),
            max_new_tokens,
            sampling: Sampling::Random {
                temperature: TEMPERATURE,
                top_p: TOP_P,
                top_k: 0,
                seed,
            },
        };
        let mut requests = vec![completions::greedy(prompt, stop, max_new_tokens)];
        requests.extend(completions::requests(sampled, self.samples));
        requests
    }

    /// The completions that vote; empty if there are none.
    pub(crate) fn voters<'a>(self, completions: &[&'a Completion]) -> Vec<&'a Completion> {
        completions.iter().skip(1).take(self.k).copied().collect()
    }

    /// How many answers [`Voting::requests`] have.
    pub(crate) fn expected(self) -> usize {
        1 + self.samples
    }
}

/// The completions of all answers, or why a document cannot be scored.
pub(crate) fn all_completions(
    answers: &[Answer],
    expected: usize,
) -> Result<Vec<&Completion>, String> {
    if answers.len() != expected {
        return Err(format!(
            "{} of {expected} requests were answered",
            answers.len()
        ));
    }
    fn completion(answer: &Answer) -> Result<&Completion, String> {
        match answer {
            Answer::Completion(completion) => Ok(completion),
            Answer::Unanswered { reason } => Err(reason.clone()),
            _ => Err("the answer is not a completion".to_owned()),
        }
    }
    answers.iter().map(completion).collect()
}

/// The most frequent vote; of equally frequent ones the first.
pub(crate) fn majority<K: Ord + Clone>(votes: impl IntoIterator<Item = Option<K>>) -> Option<K> {
    let mut counts: BTreeMap<K, (usize, usize)> = BTreeMap::new();
    for (position, vote) in votes.into_iter().flatten().enumerate() {
        counts.entry(vote).or_insert((0, position)).0 += 1;
    }
    let best = counts
        .into_iter()
        .max_by_key(|&(_, (count, first))| (count, std::cmp::Reverse(first)));
    best.map(|(vote, _)| vote)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_most_frequent_answer_wins_and_of_equals_the_first() {
        let table: [(&[Option<&str>], Option<&str>); 7] = [
            (&[], None),
            (&[None, None], None),
            (&[Some("5")], Some("5")),
            // Wang et al. 2022, figure 1: two of three paths end in $18, one in $26.
            (&[Some("18"), Some("26"), Some("18")], Some("18")),
            (&[Some("b"), Some("a")], Some("b")),
            (&[Some("b"), Some("a"), Some("a"), Some("b")], Some("b")),
            // What cannot be read does not vote, however often it comes.
            (&[None, None, Some("7"), None], Some("7")),
        ];
        for (votes, expected) in table {
            assert_eq!(majority(votes.iter().copied()), expected, "{votes:?}");
        }
    }

    proptest! {
        /// Against counting by hand, quadratically.
        #[test]
        fn no_vote_has_more_voices(votes in proptest::collection::vec(proptest::option::of(0_u8..5), 0..30)) {
            let count = |vote: u8| votes.iter().filter(|other| **other == Some(vote)).count();
            let first = |vote: u8| votes.iter().position(|other| *other == Some(vote));
            let best = (0..5).filter(|&vote| count(vote) > 0).max_by_key(|&vote| (count(vote), std::cmp::Reverse(first(vote))));
            prop_assert_eq!(majority(votes.iter().copied()), best);
        }
    }

    #[test]
    fn options_change_samples_and_voters() {
        let voting = |samples, k| {
            let options = GenerationOptions {
                samples,
                k,
                ..GenerationOptions::default()
            };
            let voting = Voting::new(&options, 100);
            (voting.samples, voting.k)
        };
        assert_eq!(voting(None, None), (100, 100));
        assert_eq!(voting(None, Some(8)), (8, 8));
        assert_eq!(voting(Some(20), None), (20, 20));
        assert_eq!(voting(Some(20), Some(8)), (20, 8));
        assert_eq!(voting(Some(20), Some(50)), (20, 20));
        assert_eq!(voting(Some(0), None), (0, 0));
        assert!(Voting { samples: 0, k: 0 }.metric().is_none());
    }

    #[test]
    fn one_greedy_request_and_the_samples_share_their_prompts() {
        let voting = Voting { samples: 3, k: 2 };
        let requests = voting.requests(Prompt::plain("Q"), &["Q:"], 7, 42);
        assert_eq!(requests.len(), voting.expected());
        let generations: Vec<_> = requests
            .iter()
            .map(|request| match request {
                Request::Generate { generation, sample } => (generation, *sample),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(generations[0].0.sampling, Sampling::Greedy);
        let samples: Vec<u32> = generations[1..].iter().map(|(_, sample)| *sample).collect();
        assert_eq!(samples, [0, 1, 2]);
        assert!(std::sync::Arc::ptr_eq(generations[1].0, generations[3].0));
        assert_eq!(
            (generations[0].0.max_new_tokens, &generations[3].0.stop),
            (7, &vec!["Q:".to_owned()])
        );
    }
}
