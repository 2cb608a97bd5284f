//! The engine's view of the CPU's forward pass.

use std::sync::Arc;

use super::{
    attention::{AttentionPlan, Rotary},
    cache::Cache,
    forward::{Batch, Llama, activation_bytes, heads},
};
use crate::{
    ModelError,
    forward::{ByRow, CachedRows, Chosen, Feed, Forward, Prediction},
    sampling::{Draw, pick},
    tree::TokenTree,
};

/// Most leaves of a step: more make a product no faster, and each holds memory.
const MOST_LEAVES: usize = 256;
/// Most prompt tokens computed at once where text is generated: the memory is better used for keys and values.
const MOST_PROMPT_ROWS: usize = 2048;

/// Keys and values in main memory, and rotary tables that reach the last position.
pub(crate) struct HostCache {
    cache: Cache,
    rotary: Arc<Rotary>,
}

impl Forward for Llama {
    type Running = Vec<Prediction>;
    type Cache = HostCache;
    type Stepping = Vec<Chosen>;

    fn memory_bytes(&self, rows: usize) -> u64 {
        self.fixed_bytes() + rows as u64 * activation_bytes(self.config())
    }

    fn begin(&self, tree: &TokenTree) -> Result<Vec<Prediction>, ModelError> {
        let by_row = ByRow::new(tree);
        let read = self.logits(tree, &by_row.rows, |row, logits, summary| {
            by_row.targets[by_row.starts[row]..by_row.starts[row + 1]]
                .iter()
                .map(|&at| {
                    let token = tree.targets[at].token;
                    let log_prob = logits
                        .get(token as usize)
                        .map_or(f32::NAN, |logit| logit - summary.log_sum);
                    let prediction = Prediction {
                        log_prob,
                        best: summary.best == token,
                        margin: summary.margin,
                    };
                    (at, prediction)
                })
                .collect::<Vec<_>>()
        })?;
        let mut predictions: Vec<(usize, Prediction)> = read.into_iter().flatten().collect();
        predictions.sort_unstable_by_key(|(at, _)| *at);
        Ok(predictions.into_iter().map(|(_, it)| it).collect())
    }

    fn finish(&self, running: Vec<Prediction>) -> Result<Vec<Prediction>, ModelError> {
        Ok(running)
    }

    fn synchronize(&self) -> Result<(), ModelError> {
        Ok(())
    }

    fn most_leaves(&self) -> usize {
        MOST_LEAVES
    }

    fn most_prompt_rows(&self) -> usize {
        MOST_PROMPT_ROWS
    }

    fn tile_bytes(&self) -> u64 {
        Cache::tile_bytes(heads(self.config()), self.config().layers)
    }

    fn cache(&self, tiles: usize, positions: usize) -> Result<HostCache, ModelError> {
        Ok(HostCache {
            cache: Cache::new(heads(self.config()), self.config().layers, tiles),
            rotary: self.rotary(positions),
        })
    }

    fn fill(&self, cache: &HostCache, tokens: &[u32], rows: CachedRows) -> Result<(), ModelError> {
        self.run(&batch(cache, tokens, rows, &[]), |_, _, _| ())
            .map(drop)
    }

    fn runs_ahead(&self) -> bool {
        false
    }

    fn begin_step(
        &self,
        cache: &HostCache,
        feed: Feed<'_, Vec<Chosen>>,
        rows: CachedRows,
        draws: &[Draw],
    ) -> Result<Vec<Chosen>, ModelError> {
        let chosen: Vec<u32>;
        let tokens = match feed {
            Feed::Tokens(tokens) => tokens,
            Feed::Chosen(before) => {
                let token = |chosen: &Chosen| chosen.map_or(0, |(token, _)| token);
                chosen = before.iter().map(token).collect();
                &chosen
            }
        };
        let wanted: Vec<u32> = (0..tokens.len() as u32).collect();
        self.run(
            &batch(cache, tokens, rows, &wanted),
            |row, logits, summary| {
                let draw = *draws.get(row)?;
                let number = summary.log_sum.is_finite();
                number.then(|| (pick(draw, logits, summary), summary.margin))
            },
        )
    }

    fn finish_step(&self, stepping: Vec<Chosen>) -> Result<Vec<Chosen>, ModelError> {
        Ok(stepping)
    }
}

fn batch<'a>(
    cache: &'a HostCache,
    tokens: &'a [u32],
    rows: CachedRows,
    wanted: &'a [u32],
) -> Batch<'a> {
    Batch {
        tokens,
        plan: Arc::new(AttentionPlan::cached(rows)),
        rotary: Arc::clone(&cache.rotary),
        wanted,
        chunk_rows: Batch::chunk_rows(tokens.len()),
        cache: Some(&cache.cache),
    }
}
