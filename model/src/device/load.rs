//! How much of a device's memory goes to what.

use candle_core::{DType, Device};

use super::{ModelResult, forward::DeviceLlama, workspace::Passes};
use crate::{Config, llama::Origin, memory};

/// Most rows of a batch, however much memory there is: answers become durable batch by batch, and more rows make the
/// products no faster.
const MOST_ROWS: usize = 32 << 10;
/// Of the memory that weights leave, one part in so many goes to a batch at most: the rest is for keys and values
/// of generated text.
const BATCH_PART: u64 = 4;
/// Bytes left to the driver, the matrix library, kernels' texts, tables and results.
const RESERVED: u64 = 768 << 20;

/// The longest sequence a card computes, in tokens: it must fit into a batch.
pub(crate) fn longest(config: &Config) -> usize {
    config.context_length.min(MOST_ROWS)
}

/// What the caller asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Type of the weights.
    pub(crate) dtype: DType,
    /// Longest sequence that will be asked for, in tokens.
    pub(crate) context_length: usize,
    /// Rows of the dense products.
    pub(crate) passes: Passes,
    /// Rows of a batch, if not chosen from memory.
    pub(crate) batch_rows: Option<usize>,
    /// Bytes that weights, batches and kept keys may take, if not all that is free.
    pub(crate) memory_bytes: Option<u64>,
}

impl Limits {
    /// Rows of a batch when `bytes` are left for it; the longest sequence always fits in.
    fn rows(&self, config: &Config, bytes: u64) -> usize {
        let chunk = self.passes.score.layer;
        let fewest = self
            .context_length
            .min(longest(config))
            .next_multiple_of(chunk);
        if let Some(rows) = self.batch_rows {
            return rows.next_multiple_of(chunk).max(fewest);
        }
        let size = |rows| DeviceLlama::workspace_bytes(config, self.dtype, self.passes, rows);
        let mut rows = MOST_ROWS.next_multiple_of(chunk);
        while rows > fewest && size(rows) > bytes / BATCH_PART {
            rows -= chunk;
        }
        rows
    }
}

/// Loads a model to `device`; `free` says how much of its memory is free at the moment. Gives the model, and the
/// bytes that it, a batch and kept keys may take together.
///
/// # Errors
/// [`crate::ModelError::Checkpoint`] when the memory is not enough, or there are no kernels for the model;
/// [`crate::ModelError::Device`] when the device fails.
pub(crate) fn load(
    origin: Origin<'_>,
    device: &Device,
    limits: Limits,
    free: impl Fn() -> ModelResult<u64>,
) -> ModelResult<(DeviceLlama, u64)> {
    let plan = Plan::new(origin.config(), limits, free()?).map_err(|short| {
        origin.refusal(
            short.0,
            "use `--dtype bf16`, a higher `--memory`, a lower `--max-length`, a card that is free, or `--device cpu`",
        )
    })?;
    let Limits { dtype, passes, .. } = limits;
    let model = DeviceLlama::load(origin, dtype, device, passes, plan.batch_rows)?;
    Ok((model, plan.allowed_bytes))
}

/// Who gets how much.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    batch_rows: usize,
    allowed_bytes: u64,
}

/// Why the memory is not enough.
#[derive(Debug)]
struct TooLittle(String);

impl Plan {
    /// Shares out `free` bytes.
    fn new(config: &Config, limits: Limits, free: u64) -> Result<Self, TooLittle> {
        let available = free.saturating_sub(RESERVED);
        let allowed_bytes = limits
            .memory_bytes
            .map_or(available, |allowed| allowed.min(available));
        let weights = DeviceLlama::weight_bytes(config, limits.dtype);
        let batch_rows = limits.rows(config, allowed_bytes.saturating_sub(weights));
        let batch = DeviceLlama::workspace_bytes(config, limits.dtype, limits.passes, batch_rows);
        if weights + batch > allowed_bytes {
            return Err(TooLittle(format!(
                "needs {} for its weights in {} and {} for a batch of {batch_rows} rows; {} are free \
                 on the device, of which {} are allowed",
                memory::display(weights),
                limits.dtype.as_str(),
                memory::display(batch),
                memory::display(free),
                memory::display(allowed_bytes),
            )));
        }
        Ok(Self {
            batch_rows,
            allowed_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::bench::Shape;

    #[test]
    fn the_papers_models_fit_on_an_80_gb_card() {
        let limits = Limits {
            dtype: DType::BF16,
            context_length: 2048,
            passes: Passes::default(),
            batch_rows: None,
            memory_bytes: None,
        };
        // What an H100 of 80 GB shows as free before anything is loaded: 79.1 GiB less the context.
        let free = 78 << 30;
        for (shape, fewest) in [
            (Shape::Llama7b, 32_768),
            (Shape::Llama13b, 32_768),
            (Shape::Llama33b, 8192),
        ] {
            let plan = Plan::new(&shape.config(), limits, free).unwrap();
            assert!(plan.batch_rows >= fewest, "{plan:?}");
        }
        let error = Plan::new(&Shape::Llama65b.config(), limits, free).unwrap_err();
        assert!(error.0.contains("121.6 GiB"), "{}", error.0);
    }
}
