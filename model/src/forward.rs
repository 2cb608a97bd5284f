//! What a forward pass does for the engine, whatever it runs on.

use std::ops::Range;

use crate::{ModelError, llama::NodeKeys, sampling::Draw, tree::TokenTree};

/// What the model says of one target token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Prediction {
    /// ln p(token | path); no finite number where the model's logits are none.
    pub(crate) log_prob: f32,
    /// Is it the token of the largest logit?
    pub(crate) best: bool,
    /// Distance from the largest logit to the second largest.
    pub(crate) margin: f32,
}

/// Rows whose keys and values are kept in a cache, in depth-first order.
#[derive(Clone, Debug, Default)]
pub(crate) struct CachedRows {
    /// Position of each row.
    pub(crate) positions: Vec<u32>,
    /// Slot each row's key and value go to.
    pub(crate) slots: Vec<u32>,
    /// Nodes, a node before those below it, each with the rows that attend to its keys.
    pub(crate) nodes: Vec<(NodeKeys, Range<u32>)>,
}

/// A token that was chosen and the distance between the two largest logits; `None` where the logits are no numbers.
pub(crate) type Chosen = Option<(u32, f32)>;

/// A loaded model that computes batches.
pub(crate) trait Forward {
    /// A batch that was begun.
    type Running;
    /// Keys and values that outlive a batch.
    type Cache;
    /// A step of generation that was begun.
    type Stepping;

    /// Bytes of the weights, of what is needed at any time, and of one batch of `rows`.
    fn memory_bytes(&self, rows: usize) -> u64;

    /// Begins to compute the batch of `tree`. On a card this returns before the work is done.
    ///
    /// # Errors
    /// When the device fails.
    fn begin(&self, tree: &TokenTree) -> Result<Self::Running, ModelError>;

    /// Waits for a batch: a prediction for each target of its tree.
    ///
    /// # Errors
    /// When the device fails.
    fn finish(&self, running: Self::Running) -> Result<Vec<Prediction>, ModelError>;

    /// Waits until everything that was begun has been done.
    ///
    /// # Errors
    /// When the device has failed.
    fn synchronize(&self) -> Result<(), ModelError>;

    /// Most sequences that are generated at once.
    fn most_leaves(&self) -> usize;

    /// Most prompt tokens computed at once.
    fn most_prompt_rows(&self) -> usize;

    /// Bytes of the keys and values of one tile of positions in all layers.
    fn tile_bytes(&self) -> u64;

    /// A cache of `tiles` tiles for sequences of at most `positions` tokens.
    ///
    /// # Errors
    /// When there is no memory for it.
    fn cache(&self, tiles: usize, positions: usize) -> Result<Self::Cache, ModelError>;

    /// Computes the keys and values of `tokens`.
    ///
    /// # Errors
    /// When the device fails.
    fn fill(&self, cache: &Self::Cache, tokens: &[u32], rows: CachedRows)
    -> Result<(), ModelError>;

    /// Is it worth beginning a step before the last one's tokens have been looked at? Where host and device take turns
    /// it is; a row of a sequence that has just ended is then computed for nothing.
    fn runs_ahead(&self) -> bool;

    /// Begins to feed one token of each sequence and to choose what follows, by the draw of each.
    ///
    /// # Errors
    /// When the device fails.
    fn begin_step(
        &self,
        cache: &Self::Cache,
        feed: Feed<'_, Self::Stepping>,
        rows: CachedRows,
        draws: &[Draw],
    ) -> Result<Self::Stepping, ModelError>;

    /// Waits for a step: what was chosen for each sequence.
    ///
    /// # Errors
    /// When the device fails.
    fn finish_step(&self, stepping: Self::Stepping) -> Result<Vec<Chosen>, ModelError>;
}

/// Where the tokens of a step come from.
#[derive(Debug)]
pub(crate) enum Feed<'a, S> {
    /// From the host.
    Tokens(&'a [u32]),
    /// What the step before has chosen or will choose, row by row.
    Chosen(&'a S),
}

/// Targets of a tree by the row they are read from.
pub(crate) struct ByRow {
    /// Rows that are read, ascending.
    pub(crate) rows: Vec<u32>,
    /// Targets, those of one row side by side.
    pub(crate) targets: Vec<usize>,
    /// For each of `rows` its first place in `targets`, and the end.
    pub(crate) starts: Vec<usize>,
}

impl ByRow {
    /// Sorts the targets of `tree`.
    pub(crate) fn new(tree: &TokenTree) -> Self {
        let row = |at: usize| tree.targets[at].row;
        let mut targets: Vec<usize> = (0..tree.targets.len()).collect();
        targets.sort_by_key(|&at| row(at));
        let mut rows: Vec<u32> = targets.iter().map(|&at| row(at)).collect();
        rows.dedup();
        let mut starts: Vec<usize> = rows
            .iter()
            .map(|wanted| targets.partition_point(|&at| row(at) < *wanted))
            .collect();
        starts.push(targets.len());
        Self {
            rows,
            targets,
            starts,
        }
    }
}
