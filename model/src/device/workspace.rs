//! The buffers of a pass, allocated once, and how many bytes that is.

use candle_core::{DType, Device, Result, Tensor};

use super::logits::SUMMARY;
use crate::{Config, llama::heads};

/// Rows of the dense products of one kind of pass. Rows are padded to these counts: a product always runs over
/// as many, so that a row's result does not depend on how many others there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PassRows {
    /// Rows of a layer's products.
    pub(crate) layer: usize,
    /// Rows of the output matrix's product, whose result is `[rows, vocabulary]` in f32. Divides `layer`.
    pub(crate) head: usize,
}

/// The three kinds of passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passes {
    /// Scoring.
    pub(crate) score: PassRows,
    /// Prompts of generated text: fewer come at once.
    pub(crate) prompt: PassRows,
    /// One token of each sequence. Reading the weights takes as long as multiplying by about 267 rows
    /// (an H100, bf16): a product over 256 costs hardly more than one over a single row.
    pub(crate) step: PassRows,
}

impl Default for Passes {
    fn default() -> Self {
        Self {
            score: PassRows {
                layer: 4096,
                head: 1024,
            },
            prompt: PassRows {
                layer: 1024,
                head: 256,
            },
            step: PassRows {
                layer: 256,
                head: 256,
            },
        }
    }
}

/// Elements of each buffer.
struct Sizes {
    /// In the run's type.
    typed: [(usize, usize); 7],
    /// In f32.
    floats: [(usize, usize); 4],
}

impl Sizes {
    fn new(config: &Config, passes: Passes, rows: usize) -> Self {
        let heads = heads(config);
        let chunk = passes
            .score
            .layer
            .max(passes.prompt.layer)
            .max(passes.step.layer);
        let head = passes.score.head.max(passes.step.head);
        let key_values = heads.key_values * heads.size;
        let queries = heads.queries * heads.size;
        Self {
            typed: [
                (rows, heads.fused()),
                (2 * rows, key_values),
                (rows, queries),
                (chunk, queries),
                (chunk, config.hidden),
                (chunk, 2 * config.intermediate),
                (chunk, config.intermediate),
            ],
            floats: [
                (rows, config.hidden),
                (chunk, config.hidden),
                (head, config.vocabulary),
                (chunk, SUMMARY),
            ],
        }
    }
}

/// The buffers.
pub(super) struct Workspace {
    /// Rows of a batch at most.
    pub(super) rows: usize,
    /// Residual stream, `[rows, hidden]` f32.
    pub(super) stream: Tensor,
    /// Queries, keys and values before rotation, `[rows, fused]`.
    pub(super) fused: Tensor,
    /// Keys and values of one layer when nothing is kept, `[2, rows, key-value heads, head size]`.
    pub(super) key_values: Tensor,
    /// What attention gives, `[rows, heads * head size]`.
    pub(super) attended: Tensor,
    /// Rows of it that are read out, `[chunk, heads * head size]`.
    pub(super) picked_attended: Tensor,
    /// Rows of the stream that are read out, `[chunk, hidden]` f32.
    pub(super) picked: Tensor,
    /// Normalised rows of a chunk, `[chunk, hidden]`.
    pub(super) normed: Tensor,
    /// Gate and up projections of a chunk, `[chunk, 2 * intermediate]`.
    pub(super) gate_up: Tensor,
    /// What the gate lets through, `[chunk, intermediate]`.
    pub(super) gated: Tensor,
    /// Logits of a part of a chunk, `[head, vocabulary]` f32.
    pub(super) logits: Tensor,
    /// Summaries of them, `[chunk, 4]` f32.
    pub(super) summary: Tensor,
}

impl Workspace {
    /// Bytes of the buffers for batches of up to `rows`.
    pub(super) fn bytes(config: &Config, dtype: DType, passes: Passes, rows: usize) -> u64 {
        let Sizes { typed, floats } = Sizes::new(config, passes, rows);
        let bytes = |sizes: &[(usize, usize)], dtype: DType| -> u64 {
            let elements: usize = sizes.iter().map(|(rows, columns)| rows * columns).sum();
            (elements * dtype.size_in_bytes()) as u64
        };
        bytes(&typed, dtype) + bytes(&floats, DType::F32)
    }

    /// Allocates them.
    ///
    /// # Errors
    /// When the device has not enough memory.
    pub(super) fn new(
        config: &Config,
        dtype: DType,
        passes: Passes,
        rows: usize,
        device: &Device,
    ) -> Result<Self> {
        let Sizes { typed, floats } = Sizes::new(config, passes, rows);
        let typed = |at: usize| Tensor::zeros(typed[at], dtype, device);
        let float = |at: usize| Tensor::zeros(floats[at], DType::F32, device);
        let heads = heads(config);
        Ok(Self {
            rows,
            fused: typed(0)?,
            key_values: typed(1)?.reshape((2, rows, heads.key_values, heads.size))?,
            attended: typed(2)?,
            picked_attended: typed(3)?,
            normed: typed(4)?,
            gate_up: typed(5)?,
            gated: typed(6)?,
            stream: float(0)?,
            picked: float(1)?,
            logits: float(2)?,
            summary: float(3)?,
        })
    }

    /// Bytes that are really allocated.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> u64 {
        [
            &self.stream,
            &self.fused,
            &self.key_values,
            &self.attended,
            &self.picked_attended,
            &self.picked,
            &self.normed,
            &self.gate_up,
            &self.gated,
            &self.logits,
            &self.summary,
        ]
        .iter()
        .map(|tensor| (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64)
        .sum()
    }
}
