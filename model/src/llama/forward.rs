//! The forward pass of one batch.
//!
//! Dense products run over chunks of a fixed number of rows, the last one padded: the matrix
//! product always sees the same shape, so a row's result does not depend on the batch it is in,
//! and chunks are spread over threads. Everything of a chunk stays in the second-level cache.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};
use rayon::prelude::*;

use super::{
    attention::{AttentionPlan, Heads, Rotary, TreeAttention},
    cache::Cache,
    ops::{RmsNorm, RowSummary, SiluMultiply, summarise},
    weights::{Layer, Origin, Outer, device_error},
};
use crate::{Config, ModelError, tree::TokenTree};

/// Rows of a chunk of the layers.
const CHUNK_ROWS: usize = 256;
/// Chunks of batches with few rows have a multiple of this many.
const FEWEST_CHUNK_ROWS: usize = 16;
/// Batches with no more rows are one chunk.
const FEW_ROWS: usize = 64;
/// Rows of a chunk of the output matrix, whose result is `[rows, vocabulary]`.
const HEAD_ROWS: usize = 128;

/// Bytes of activations per row of a batch: what lives while one layer runs.
pub(crate) fn activation_bytes(config: &Config) -> u64 {
    let heads = heads(config);
    // Residual stream twice, fused projection by chunk and joined, packed keys and values (aligned
    // tiles, doubled for branchy trees), attention output twice.
    let floats = 2 * config.hidden
        + 2 * heads.fused()
        + 2 * (heads.fused() - heads.queries * heads.size)
        + 2 * heads.queries * heads.size;
    (floats * size_of::<f32>()) as u64
}

/// Sizes of an attention layer.
pub(crate) fn heads(config: &Config) -> Heads {
    Heads {
        queries: config.heads,
        key_values: config.key_value_heads,
        size: config.head_size,
    }
}

/// What one pass computes.
pub(crate) struct Batch<'a> {
    /// Token ids, `[rows]`.
    pub(crate) tokens: &'a [u32],
    /// Who attends to whom.
    pub(crate) plan: Arc<AttentionPlan>,
    /// Rotary tables that reach the last position.
    pub(crate) rotary: Arc<Rotary>,
    /// Rows whose logits are read, ascending. Without any, the batch only fills the cache.
    pub(crate) wanted: &'a [u32],
    /// Rows per dense product; the last chunk is padded.
    pub(crate) chunk_rows: usize,
    /// Where keys and values stay, if they do.
    pub(crate) cache: Option<&'a Cache>,
}

impl Batch<'_> {
    /// Rows per dense product for a batch of `rows`: as many as [`CHUNK_ROWS`] where there are enough to
    /// keep every thread busy, else an equal part each, or all of few, for reading the weights takes longer
    /// than multiplying then. Products of any number of rows above one agree to the last bit, which
    /// `tests/generation.rs` of this crate checks.
    pub(crate) fn chunk_rows(rows: usize) -> usize {
        if rows <= FEW_ROWS {
            return rows.next_multiple_of(FEWEST_CHUNK_ROWS);
        }
        let part = rows.div_ceil(rayon::current_num_threads());
        if part <= HEAD_ROWS {
            part.next_multiple_of(FEWEST_CHUNK_ROWS)
        } else {
            CHUNK_ROWS
        }
    }
}

/// A loaded model.
pub(crate) struct Llama {
    config: Config,
    /// Bytes of the weights, and of what all threads need at any time.
    fixed_bytes: u64,
    inverse_frequencies: Vec<f32>,
    outer: Outer,
    layers: Vec<Layer>,
}

impl Llama {
    /// Loads all weights into main memory as `dtype`.
    pub(crate) fn load(origin: Origin<'_>, dtype: DType) -> std::result::Result<Self, ModelError> {
        let config = origin.config().clone();
        Ok(Self {
            fixed_bytes: Self::fixed(&config, dtype),
            inverse_frequencies: config.inverse_frequencies(),
            outer: Outer::load(origin, dtype)?,
            layers: (0..config.layers)
                .map(|index| Layer::load(origin, index, dtype))
                .collect::<std::result::Result<_, _>>()?,
            config,
        })
    }

    /// Bytes of the weights in `dtype`, and of the chunks in flight of all threads.
    pub(crate) fn fixed(config: &Config, dtype: DType) -> u64 {
        config.parameters() * dtype.size_in_bytes() as u64
            + Self::scratch_bytes(config, rayon::current_num_threads())
    }

    /// Bytes all threads together need beside the rows of a batch: chunks in flight.
    fn scratch_bytes(config: &Config, threads: usize) -> u64 {
        let layer = CHUNK_ROWS * (3 * config.intermediate + 3 * config.hidden);
        let head = HEAD_ROWS * config.vocabulary;
        (layer.max(head) * threads * size_of::<f32>()) as u64
    }

    /// Runs the batch of `tree` and gives, for each of the `wanted` rows (ascending), what `read` makes of
    /// its logits, `[vocabulary]` in f32, and their summary.
    ///
    /// # Errors
    /// When the tensor library fails.
    pub(crate) fn logits<T: Send>(
        &self,
        tree: &TokenTree,
        wanted: &[u32],
        read: impl Fn(usize, &[f32], RowSummary) -> T + Sync,
    ) -> std::result::Result<Vec<T>, ModelError> {
        let plan = Arc::new(AttentionPlan::new(tree));
        let batch = Batch {
            tokens: &tree.tokens,
            rotary: self.rotary(plan.last_position() + 1),
            plan,
            wanted,
            chunk_rows: CHUNK_ROWS,
            cache: None,
        };
        self.run(&batch, read)
    }

    /// Runs a batch, as [`Llama::logits`].
    ///
    /// # Errors
    /// When the tensor library fails.
    pub(crate) fn run<T: Send>(
        &self,
        batch: &Batch<'_>,
        read: impl Fn(usize, &[f32], RowSummary) -> T + Sync,
    ) -> std::result::Result<Vec<T>, ModelError> {
        self.hidden(batch)
            .and_then(|hidden| self.head(&hidden, batch.wanted.len(), read))
            .map_err(device_error)
    }

    /// Rotary tables for positions `0..positions`.
    pub(crate) fn rotary(&self, positions: usize) -> Arc<Rotary> {
        Arc::new(Rotary::new(&self.inverse_frequencies, positions))
    }

    /// Sizes of the model.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// [`Llama::fixed`] of this model.
    pub(crate) fn fixed_bytes(&self) -> u64 {
        self.fixed_bytes
    }

    /// The normalised residual stream at the wanted rows, as padded chunks of at most [`HEAD_ROWS`].
    fn hidden(&self, batch: &Batch<'_>) -> Result<Vec<Tensor>> {
        let hidden = self.config.hidden;
        let norm = RmsNorm {
            epsilon: self.config.norm_epsilon,
        };
        let chunk_rows = batch.chunk_rows;
        let mut stream = batch
            .tokens
            .par_chunks(chunk_rows)
            .map(|tokens| {
                let mut rows = Vec::with_capacity(chunk_rows * hidden);
                self.outer.embed(tokens, &mut rows)?;
                padded_chunk(rows, chunk_rows, hidden)
            })
            .collect::<Result<Vec<_>>>()?;

        for (index, layer) in self.layers.iter().enumerate() {
            let layer = layer.widened()?;
            let fused = stream
                .par_iter()
                .map(|x| {
                    x.apply_op2_no_bwd(&layer.attention_norm, &norm)?
                        .matmul(&layer.query_key_value)
                })
                .collect::<Result<Vec<_>>>()?;
            let fused = Tensor::cat(&fused, 0)?.narrow(0, 0, batch.tokens.len())?;
            let attention = TreeAttention {
                plan: Arc::clone(&batch.plan),
                rotary: Arc::clone(&batch.rotary),
                heads: heads(&self.config),
                cache: batch.cache.and_then(|cache| cache.layer(index)).cloned(),
            };
            let last = index + 1 == self.layers.len();
            if last && batch.wanted.is_empty() {
                // Nobody reads this batch's rows but through their keys and values.
                with_values(&fused, |fused| attention.keep(fused))??;
                return Ok(Vec::new());
            }
            let mut attended = chunks(&fused.apply_op1_no_bwd(&attention)?, chunk_rows)?;
            drop(fused);
            if last {
                // After the last attention, only rows that are read out matter.
                stream = chunks(&gather(&stream, chunk_rows, batch.wanted)?, chunk_rows)?;
                attended = chunks(&gather(&attended, chunk_rows, batch.wanted)?, chunk_rows)?;
            }
            stream = stream
                .par_iter()
                .zip(&attended)
                .map(|(x, attended)| {
                    let x = (x + attended.matmul(&layer.output)?)?;
                    let gate_up = x
                        .apply_op2_no_bwd(&layer.feed_forward_norm, &norm)?
                        .matmul(&layer.gate_up)?;
                    &x + gate_up
                        .apply_op1_no_bwd(&SiluMultiply)?
                        .matmul(&layer.down)?
                })
                .collect::<Result<Vec<_>>>()?;
        }
        let normed = stream
            .par_iter()
            .map(|x| x.apply_op2_no_bwd(&self.outer.norm, &norm))
            .collect::<Result<Vec<_>>>()?;
        let head_rows = chunk_rows.min(HEAD_ROWS);
        normed
            .iter()
            .flat_map(|chunk| {
                (0..chunk_rows / head_rows)
                    .map(move |part| chunk.narrow(0, part * head_rows, head_rows))
            })
            .collect()
    }

    fn head<T: Send>(
        &self,
        hidden: &[Tensor],
        rows: usize,
        read: impl Fn(usize, &[f32], RowSummary) -> T + Sync,
    ) -> Result<Vec<T>> {
        let matrix = self.outer.head.to_dtype(DType::F32)?;
        let parts = hidden
            .par_iter()
            .enumerate()
            .map(|(chunk, hidden)| {
                let first = chunk * hidden.dim(0)?;
                if first >= rows {
                    return Ok(Vec::new());
                }
                let logits = hidden.matmul(&matrix)?;
                with_values(&logits, |logits| {
                    logits
                        .chunks_exact(self.config.vocabulary)
                        .take(rows - first)
                        .enumerate()
                        .map(|(row, logits)| read(first + row, logits, summarise(logits)))
                        .collect::<Vec<T>>()
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(parts.into_iter().flatten().collect())
    }
}

/// `rows` filled up with zeros to `[count, columns]`.
fn padded_chunk(mut rows: Vec<f32>, count: usize, columns: usize) -> Result<Tensor> {
    rows.resize(count * columns, 0.0);
    Tensor::from_vec(rows, (count, columns), &Device::Cpu)
}

/// `[rows, columns]` as chunks of `size` rows, the last one padded.
fn chunks(tensor: &Tensor, size: usize) -> Result<Vec<Tensor>> {
    let (rows, columns) = tensor.dims2()?;
    (0..rows)
        .step_by(size)
        .map(|start| {
            let count = size.min(rows - start);
            let chunk = tensor.narrow(0, start, count)?;
            if count == size {
                Ok(chunk)
            } else {
                with_values(&chunk, |values| {
                    padded_chunk(values.to_vec(), size, columns)
                })?
            }
        })
        .collect()
}

/// The rows `wanted` out of chunks of `size`, `[wanted, columns]`.
fn gather(chunks: &[Tensor], size: usize, wanted: &[u32]) -> Result<Tensor> {
    let columns = match chunks.first() {
        Some(chunk) => chunk.dim(1)?,
        None => candle_core::bail!("an empty batch"),
    };
    let mut rows = Vec::with_capacity(wanted.len() * columns);
    for same in wanted.chunk_by(|a, b| *a as usize / size == *b as usize / size) {
        let chunk = same[0] as usize / size;
        with_values(&chunks[chunk], |values| {
            for &row in same {
                let row = row as usize % size;
                rows.extend_from_slice(&values[row * columns..(row + 1) * columns]);
            }
        })?;
    }
    Tensor::from_vec(rows, (wanted.len(), columns), &Device::Cpu)
}

/// Reads the values of a contiguous f32 tensor in main memory.
fn with_values<T>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (candle_core::Storage::Cpu(storage), Some((start, end))) => {
            Ok(read(&storage.as_slice::<f32>()?[start..end]))
        }
        _ => candle_core::bail!("a tensor is not contiguous in main memory"),
    }
}
