//! What is measured: sequences of tokens in the proportions of real benchmarks, from a fixed generator.

use std::{fmt, str::FromStr};

use serde::Serialize;

use crate::{Config, llama::splitmix, tree::Sequence};

/// MMLU with five examples: this many subjects, each with its own examples, ...
const SUBJECTS: usize = 57;
/// ... tokens of the examples, ...
const EXAMPLES: usize = 600;
/// ... questions per subject, ...
const QUESTIONS: usize = 100;
/// ... tokens of a question, ...
const QUESTION: usize = 110;
/// ... and choices of one token.
const CHOICES: usize = 4;
/// HellaSwag: this many contexts, ...
const CONTEXTS: usize = 10_000;
/// ... the fewest and most tokens of one, ...
const CONTEXT: (usize, usize) = (80, 120);
/// ... endings of each, ...
const ENDINGS: usize = 4;
/// ... and the fewest and most tokens of one.
const ENDING: (usize, usize) = (20, 30);
/// Samples of one few-shot prompt: so many, ...
const SAMPLES: usize = 512;
/// ... tokens of the prompt, ...
const PROMPT: usize = 1200;
/// ... and tokens that are generated of each.
const NEW_TOKENS: usize = 64;

/// A named plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PlanName {
    /// 57 prefixes of 600 tokens, 100 questions of 110 tokens each, 4 choices of one token, read from one row.
    Mmlu,
    /// 10,000 contexts of 80 to 120 tokens with 4 endings of 20 to 30 tokens each.
    Hellaswag,
    /// 512 sequences that go on from one prompt of 1,200 tokens by 64 tokens each.
    Decode,
}

impl PlanName {
    /// Every plan with its name.
    pub const ALL: [(&'static str, Self); 3] = [
        ("mmlu", Self::Mmlu),
        ("hellaswag", Self::Hellaswag),
        ("decode", Self::Decode),
    ];

    /// The longest sequence in tokens.
    fn longest(self) -> usize {
        match self {
            Self::Mmlu => EXAMPLES + QUESTION,
            Self::Hellaswag => CONTEXT.1 + ENDING.1,
            Self::Decode => PROMPT + NEW_TOKENS,
        }
    }
}

impl fmt::Display for PlanName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, plan)| plan == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

impl FromStr for PlanName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(known, _)| *known == name);
        known
            .map(|(_, plan)| *plan)
            .ok_or_else(|| format!("there is no plan `{name}`"))
    }
}

/// A question: every continuation is scored after the context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Document {
    /// Token ids of the context.
    pub context: Vec<u32>,
    /// Token ids of each continuation.
    pub continuations: Vec<Vec<u32>>,
}

/// The tokens of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Plan {
    /// Continuations are scored.
    Scoring {
        /// What is scored.
        documents: Vec<Document>,
    },
    /// Tokens are generated.
    Decoding {
        /// Token ids of the prompt that all sequences share.
        prompt: Vec<u32>,
        /// For each sequence the token that is fed after each one it generates. They are the plan's own, so that the
        /// sequences differ whatever the model says.
        fed: Vec<Vec<u32>>,
    },
}

impl Plan {
    /// The plan for a model of `config`, with `scale` times as many prefixes, contexts or sequences (one at least).
    /// Where the model's context is shorter than the plan's longest sequence, all lengths are shortened alike.
    pub fn new(name: PlanName, config: &Config, scale: f64) -> Self {
        let counted = |full: usize| ((full as f64 * scale).round() as usize).max(1);
        let tokens = Tokens {
            vocabulary: config.vocabulary.max(1) as u64,
            plan: name as u64,
            shorten: (
                config.context_length.min(name.longest()),
                name.longest().max(1),
            ),
        };
        match name {
            PlanName::Mmlu => {
                let questions = 0..counted(SUBJECTS) * QUESTIONS;
                let document = |index: usize| Document {
                    context: [
                        tokens.run(0, index / QUESTIONS, EXAMPLES),
                        tokens.run(1, index % QUESTIONS, QUESTION),
                    ]
                    .concat(),
                    continuations: (0..CHOICES)
                        .map(|choice| tokens.run(2, choice, 1))
                        .collect(),
                };
                Self::Scoring {
                    documents: questions.map(document).collect(),
                }
            }
            PlanName::Hellaswag => {
                let document = |index: usize| Document {
                    context: tokens.run(0, index, tokens.between(0, index, CONTEXT)),
                    continuations: (0..ENDINGS)
                        .map(|ending| {
                            let length = tokens.between(1, index * ENDINGS + ending, ENDING);
                            tokens.run(1, ending, length)
                        })
                        .collect(),
                };
                Self::Scoring {
                    documents: (0..counted(CONTEXTS)).map(document).collect(),
                }
            }
            PlanName::Decode => Self::Decoding {
                prompt: tokens.run(0, 0, PROMPT),
                fed: (0..counted(SAMPLES))
                    .map(|sample| tokens.run(1, sample, NEW_TOKENS))
                    .collect(),
            },
        }
    }
}

/// The sequences of documents, one per continuation.
pub(super) fn sequences(documents: &[Document]) -> Vec<Sequence<'_>> {
    documents
        .iter()
        .flat_map(|document| {
            document.continuations.iter().map(|continuation| Sequence {
                context: &document.context,
                continuation,
            })
        })
        .collect()
}

/// The generator.
struct Tokens {
    vocabulary: u64,
    plan: u64,
    /// Lengths are multiplied by the first and divided by the second.
    shorten: (usize, usize),
}

impl Tokens {
    /// Random bits for a place in the plan.
    fn bits(&self, part: usize, index: usize, at: usize) -> u64 {
        splitmix(splitmix(splitmix(self.plan << 8 | part as u64) ^ index as u64) ^ at as u64)
    }

    /// `length` tokens. The first is the index itself, so that runs of different indices share nothing.
    fn run(&self, part: usize, index: usize, length: usize) -> Vec<u32> {
        let length = (length * self.shorten.0 / self.shorten.1).max(1);
        (0..length)
            .map(|at| {
                let bits = match at {
                    0 => index as u64,
                    at => self.bits(part, index, at),
                };
                (bits % self.vocabulary) as u32
            })
            .collect()
    }

    /// A length between two, each as likely.
    fn between(&self, part: usize, index: usize, (fewest, most): (usize, usize)) -> usize {
        let bits = self.bits(part, index, usize::MAX);
        fewest + (bits % (most - fewest + 1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]

    use std::collections::HashSet;

    use super::*;
    use crate::{bench::Shape, tree::Walk};

    fn documents(name: PlanName, config: &Config, scale: f64) -> Vec<Document> {
        match Plan::new(name, config, scale) {
            Plan::Scoring { documents } => documents,
            Plan::Decoding { .. } => panic!("{name} scores nothing"),
        }
    }

    /// Tokens alone and unique ones, counted without the tree: the number of different prefixes that are fed.
    fn counted(documents: &[Document]) -> (u64, u64) {
        let mut prefixes: HashSet<Vec<u32>> = HashSet::new();
        let mut alone = 0;
        for document in documents {
            for continuation in &document.continuations {
                let fed = &continuation[..continuation.len() - 1];
                let fed = [document.context.as_slice(), fed].concat();
                alone += fed.len() as u64;
                prefixes.extend((1..=fed.len()).map(|length| fed[..length].to_vec()));
            }
        }
        (alone, prefixes.len() as u64)
    }

    #[test]
    fn plans_have_the_tokens_they_promise() {
        let config = Shape::Llama7b.config();
        let documents = documents(PlanName::Mmlu, &config, 1.0);
        assert_eq!(documents.len(), 5700);
        let walk = Walk::new(&sequences(&documents));
        assert_eq!(walk.tokens(), 5700 * 4 * 710);
        assert_eq!(walk.unique_tokens(), 57 * 600 + 5700 * 110);

        let documents = self::documents(PlanName::Hellaswag, &config, 1.0);
        assert_eq!(documents.len(), 10_000);
        let walk = Walk::new(&sequences(&documents));
        let mean = |total: u64, full: f64| (total as f64 / full - 1.0).abs() < 0.005;
        assert!(mean(walk.tokens(), 40_000.0 * 124.0), "{}", walk.tokens());
        let unique = walk.unique_tokens();
        assert!(mean(unique, 10_000.0 * (100.0 + 4.0 * 24.0)), "{unique}");

        let Plan::Decoding { prompt, fed } = Plan::new(PlanName::Decode, &config, 1.0) else {
            panic!("decode is no scoring plan")
        };
        assert_eq!((prompt.len(), fed.len()), (1200, 512));
        assert!(fed.iter().all(|fed| fed.len() == 64));
        let tokens = prompt.iter().chain(fed.iter().flatten());
        assert!(tokens.max() < Some(&32_000));
    }

    #[test]
    fn the_trees_counts_are_those_of_different_prefixes() {
        let tiny = crate::testing::tiny_config();
        for (name, config, scale) in [
            (PlanName::Mmlu, &tiny, 0.03),
            (PlanName::Hellaswag, &tiny, 0.03),
            (PlanName::Hellaswag, &Shape::Smollm2.config(), 0.002),
        ] {
            let documents = documents(name, config, scale);
            let walk = Walk::new(&sequences(&documents));
            let found = (walk.tokens(), walk.unique_tokens());
            assert_eq!(found, counted(&documents), "{name}");
        }
    }

    #[test]
    fn plans_fit_into_short_contexts_and_small_vocabularies() {
        let config = crate::testing::tiny_config();
        for (_, name) in PlanName::ALL {
            let (longest, tokens) = match Plan::new(name, &config, 0.001) {
                Plan::Scoring { documents } => {
                    let sequences = sequences(&documents);
                    let lengths = sequences
                        .iter()
                        .map(|sequence| sequence.context.len() + sequence.continuation.len());
                    let tokens = sequences
                        .iter()
                        .flat_map(|sequence| sequence.context.iter().chain(sequence.continuation));
                    (lengths.max(), tokens.copied().max())
                }
                Plan::Decoding { prompt, fed } => (
                    fed.iter().map(|fed| prompt.len() + fed.len()).max(),
                    prompt.iter().chain(fed.iter().flatten()).copied().max(),
                ),
            };
            // A choice's token is a target, which takes no place in the context.
            assert!(longest <= Some(config.context_length + 1), "{name}");
            assert!(tokens < Some(config.vocabulary as u32), "{name}");
        }
    }
}
