//! Choosing the next token.
//!
//! Temperature, then top-k, then top-p (arXiv 1904.09751), in the order Hugging Face applies them. A draw is a
//! function of (seed, sample, position) alone: never of what else is generated, or in which order.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::{Sampling, llama::RowSummary};

/// Candidates that are sorted first; three times as many more, again and again, where they are not enough.
const FIRST_CANDIDATES: usize = 64;

/// How one token is chosen: what is left of [`Sampling`] when the chance is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Draw {
    /// Uniform in [0, 1).
    pub(crate) draw: f64,
    /// 0 for the most likely token.
    pub(crate) temperature: f32,
    pub(crate) top_p: f32,
    /// 0 for all.
    pub(crate) top_k: usize,
}

impl Draw {
    /// The draw for the `position`-th token (from 0) of completion `sample`.
    pub(crate) fn new(sampling: Sampling, sample: u32, position: usize) -> Self {
        match sampling {
            Sampling::Greedy => Self {
                draw: 0.0,
                temperature: 0.0,
                top_p: 1.0,
                top_k: 0,
            },
            Sampling::Random {
                temperature,
                top_p,
                top_k,
                seed,
            } => Self {
                draw: uniform(seed, sample, position),
                temperature,
                top_p,
                top_k,
            },
        }
    }
}

/// The token that follows a row of logits, `[vocabulary]`.
pub(crate) fn pick(draw: Draw, logits: &[f32], summary: RowSummary) -> u32 {
    let Draw {
        draw,
        temperature,
        top_p,
        top_k,
    } = draw;
    // Colder than this, one token has all the weight.
    if temperature.is_nan() || temperature < 1e-6 {
        return summary.best;
    }
    let largest = logits.get(summary.best as usize).copied().unwrap_or(0.0);
    draw_token(logits, largest, temperature, top_p, top_k, draw).unwrap_or(summary.best)
}

/// A number in [0, 1) with 53 random bits.
fn uniform(seed: u64, sample: u32, position: usize) -> f64 {
    let mut key = [0; 32];
    let (first, rest) = key.split_at_mut(8);
    first.copy_from_slice(&seed.to_le_bytes());
    rest[..8].copy_from_slice(&u64::from(sample).to_le_bytes());
    rest[8..16].copy_from_slice(&(position as u64).to_le_bytes());
    (ChaCha8Rng::from_seed(key).next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// The token at `draw` of the way through the kept probabilities, the most likely first.
fn draw_token(
    logits: &[f32],
    largest: f32,
    temperature: f32,
    top_p: f32,
    top_k: usize,
    draw: f64,
) -> Option<u32> {
    let weight = |logit: f32| f64::from(((logit - largest) / temperature).exp());
    let weight_of = |key: u64| {
        logits
            .get(token(key) as usize)
            .map_or(0.0, |&it| weight(it))
    };
    let mut ranked = Ranked::new(logits);
    let total = match top_k {
        0 => logits.iter().map(|&logit| weight(logit)).sum::<f64>(),
        _ => {
            ranked.keep(top_k);
            (0..).map_while(|at| ranked.get(at)).map(weight_of).sum()
        }
    };
    // All of the mass is kept: where it ends need not be looked for.
    let (wanted, known) = match top_p >= 1.0 {
        true => (f64::INFINITY, Some(total)),
        false => (f64::from(top_p.max(0.0)) * total, None),
    };
    let mass = known.unwrap_or_else(|| {
        let mut mass = 0.0;
        let mut at = 0;
        while mass < wanted
            && let Some(key) = ranked.get(at)
        {
            mass += weight_of(key);
            at += 1;
        }
        mass
    });
    let target = draw * mass;
    let (mut passed, mut at, mut last) = (0.0, 0, None);
    while let Some(key) = ranked.get(at) {
        passed += weight_of(key);
        last = Some(token(key));
        if passed > target || passed >= wanted {
            break;
        }
        at += 1;
    }
    last
}

/// Tokens in the order of their logits, the greatest first and of equal ones the smaller id; sorted only as far
/// as it is asked for.
struct Ranked {
    /// [`key`]s: ascending is the wanted order, and no two are equal, so that any sort gives the same.
    keys: Vec<u64>,
    sorted: usize,
}

impl Ranked {
    fn new(logits: &[f32]) -> Self {
        Self {
            keys: (0..)
                .zip(logits)
                .map(|(token, &logit)| key(token, logit))
                .collect(),
            sorted: 0,
        }
    }

    /// Forgets all but the first `count`.
    fn keep(&mut self, count: usize) {
        if count < self.keys.len() {
            self.keys.select_nth_unstable(count);
            self.keys.truncate(count);
        }
    }

    fn get(&mut self, at: usize) -> Option<u64> {
        while at >= self.sorted && self.sorted < self.keys.len() {
            let rest = self.keys.get_mut(self.sorted..)?;
            let count = (3 * self.sorted).max(FIRST_CANDIDATES).min(rest.len());
            if count < rest.len() {
                rest.select_nth_unstable(count);
            }
            rest.get_mut(..count)?.sort_unstable();
            self.sorted += count;
        }
        self.keys.get(at).copied()
    }
}

/// Logit and token as one number that is smaller for a greater logit.
fn key(token: u32, logit: f32) -> u64 {
    let bits = logit.to_bits();
    // The order of `f32::total_cmp`, turned round.
    let ascending = if bits >> 31 == 1 {
        !bits
    } else {
        bits | 1 << 31
    };
    u64::from(!ascending) << 32 | u64::from(token)
}

fn token(key: u64) -> u32 {
    (key & u64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    /// The plain definition: softmax, sort, cut, and walk.
    fn by_definition(logits: &[f32], temperature: f32, top_p: f32, top_k: usize, draw: f64) -> u32 {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut all: Vec<(u32, f64)> = (0..)
            .zip(logits)
            .map(|(token, &logit)| (token, f64::from(((logit - largest) / temperature).exp())))
            .collect();
        all.sort_by(|a, b| {
            logits[b.0 as usize]
                .total_cmp(&logits[a.0 as usize])
                .then(a.0.cmp(&b.0))
        });
        if top_k > 0 {
            all.truncate(top_k);
        }
        let total: f64 = all.iter().map(|(_, weight)| weight).sum();
        let mut mass = 0.0;
        let mut kept = 0;
        for (_, weight) in &all {
            mass += weight;
            kept += 1;
            if mass >= f64::from(top_p) * total * (1.0 - 1e-12) {
                break;
            }
        }
        let mut passed = 0.0;
        for (token, weight) in &all[..kept] {
            passed += weight;
            if passed > draw * mass {
                return *token;
            }
        }
        all[kept - 1].0
    }

    proptest! {
        #[test]
        fn a_draw_is_that_of_the_definition(
            logits in prop::collection::vec(-8f32..8.0, 1..400),
            temperature in 0.1f32..2.0,
            top_p in 0.05f32..0.999,
            top_k in 0usize..50,
            draw in 0.0..1.0f64,
        ) {
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            prop_assert_eq!(
                draw_token(&logits, largest, temperature, top_p, top_k, draw).unwrap(),
                by_definition(&logits, temperature, top_p, top_k, draw)
            );
        }
    }

    #[test]
    fn draws_are_uniform_and_their_own() {
        let draws: Vec<f64> = (0..40)
            .flat_map(|sample| (0..50).map(move |position| uniform(7, sample, position)))
            .collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        // The mean of 2,000 uniform draws lies within five of its standard deviations, 0.0065, of one half.
        assert!((mean - 0.5).abs() < 0.033, "{mean}");
        let mut sorted = draws.clone();
        sorted.sort_by(f64::total_cmp);
        assert!(
            sorted.windows(2).all(|pair| pair[0] < pair[1]),
            "two draws are equal"
        );
        assert_ne!(uniform(8, 0, 0), uniform(7, 0, 0));
        assert_eq!(uniform(7, 3, 9), uniform(7, 3, 9));
    }

    #[test]
    fn frequencies_are_the_probabilities() {
        let logits = [1f32, 0.0, 2.0, -1.0];
        let largest = 2.0;
        const DRAWS: usize = 20_000;
        let mut counts = [0usize; 4];
        for position in 0..DRAWS {
            let token = draw_token(&logits, largest, 0.8, 1.0, 0, uniform(1, 0, position)).unwrap();
            counts[token as usize] += 1;
        }
        let weights = logits.map(|logit| f64::from((logit - largest) / 0.8).exp());
        let total: f64 = weights.iter().sum();
        for (count, weight) in counts.iter().zip(weights) {
            let (share, p) = (*count as f64 / DRAWS as f64, weight / total);
            // Five standard deviations of a share of 20,000 draws.
            assert!(
                (share - p).abs() < 5.0 * (p * (1.0 - p) / DRAWS as f64).sqrt(),
                "{counts:?}"
            );
        }
    }

    #[test]
    fn cold_and_narrow_draws_are_greedy() {
        let logits = [0.5f32, 3.0, 3.0, 1.0];
        let summary = crate::llama::RowSummary {
            log_sum: 4.0,
            best: 1,
            margin: 0.0,
        };
        for (temperature, top_p, top_k) in
            [(0.0, 1.0, 0), (1.0, 1.0, 1), (1.0, 0.01, 0), (1e-9, 0.9, 3)]
        {
            let sampling = Sampling::Random {
                temperature,
                top_p,
                top_k,
                seed: 5,
            };
            for position in 0..50 {
                let draw = Draw::new(sampling, 0, position);
                assert_eq!(pick(draw, &logits, summary), 1);
            }
        }
    }
}
