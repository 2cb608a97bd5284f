//! Weights on the device, and where the pass gets a layer's from.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::{
    ModelResult,
    operations::random,
    transfer::{FOR_WEIGHTS, Transfers},
};
use crate::{Checkpoint, Config, llama::heads};

/// One layer's weights. Matrices are `[outputs, inputs]` in the run's type, norms f32.
#[derive(Clone)]
pub(super) struct Layer {
    /// Norm before attention, `[hidden]`.
    pub(super) attention_norm: Tensor,
    /// Queries, keys and values, `[fused, hidden]`.
    pub(super) query_key_value: Tensor,
    /// Output projection, `[hidden, heads * head size]`.
    pub(super) output: Tensor,
    /// Norm before the feed-forward block, `[hidden]`.
    pub(super) feed_forward_norm: Tensor,
    /// Gate and up projection, `[2 * intermediate, hidden]`.
    pub(super) gate_up: Tensor,
    /// Down projection, `[hidden, intermediate]`.
    pub(super) down: Tensor,
}

/// Everything outside the layers.
pub(super) struct Outer {
    /// Token embeddings, `[vocabulary, hidden]`; the output matrix itself where they are tied.
    pub(super) embedding: Tensor,
    /// Norm before the output matrix, `[hidden]`.
    pub(super) norm: Tensor,
    /// Output matrix, `[vocabulary, hidden]`.
    pub(super) head: Tensor,
}

/// Where the pass gets its layers from: all of them on the card, or brought there one after the other.
pub(super) trait Layers {
    /// Layer `index`, ready to be used.
    ///
    /// # Errors
    /// When it cannot be brought to the device.
    fn layer(&self, index: usize) -> Result<Layer>;
}

/// All layers on the device.
pub(super) struct Resident(Vec<Layer>);

impl Layers for Resident {
    fn layer(&self, index: usize) -> Result<Layer> {
        match self.0.get(index) {
            Some(layer) => Ok(layer.clone()),
            None => bail!("layer {index} of {}", self.0.len()),
        }
    }
}

/// What weights are made of.
pub(super) trait Fill {
    /// The named matrices, `[outputs, inputs]` each, one below the other.
    ///
    /// # Errors
    /// When one is missing, or the device has no memory.
    fn matrix(&mut self, parts: &[(String, usize)], inputs: usize) -> ModelResult<Tensor>;

    /// A norm's weight, `[hidden]` in f32.
    ///
    /// # Errors
    /// As [`Fill::matrix`].
    fn norm(&mut self, name: &str, hidden: usize) -> ModelResult<Tensor>;
}

/// Everything a model is made of.
pub(super) fn fill(config: &Config, fill: &mut dyn Fill) -> ModelResult<(Outer, Resident)> {
    let (hidden, intermediate) = (config.hidden, config.intermediate);
    let heads = heads(config);
    let queries = heads.queries * heads.size;
    let key_values = heads.key_values * heads.size;
    let head = fill.matrix(&[("lm_head.weight".to_owned(), config.vocabulary)], hidden)?;
    let embedding = if config.tied_embeddings {
        head.clone()
    } else {
        let name = "model.embed_tokens.weight".to_owned();
        fill.matrix(&[(name, config.vocabulary)], hidden)?
    };
    let outer = Outer {
        embedding,
        norm: fill.norm("model.norm.weight", hidden)?,
        head,
    };
    let layers = (0..config.layers)
        .map(|index| {
            let name = |part: &str| format!("model.layers.{index}.{part}.weight");
            let parts = |parts: &[(&str, usize)]| -> Vec<(String, usize)> {
                parts
                    .iter()
                    .map(|(part, outputs)| (name(part), *outputs))
                    .collect()
            };
            Ok(Layer {
                attention_norm: fill.norm(&name("input_layernorm"), hidden)?,
                query_key_value: fill.matrix(
                    &parts(&[
                        ("self_attn.q_proj", queries),
                        ("self_attn.k_proj", key_values),
                        ("self_attn.v_proj", key_values),
                    ]),
                    hidden,
                )?,
                output: fill.matrix(&parts(&[("self_attn.o_proj", hidden)]), queries)?,
                feed_forward_norm: fill.norm(&name("post_attention_layernorm"), hidden)?,
                gate_up: fill.matrix(
                    &parts(&[
                        ("mlp.gate_proj", intermediate),
                        ("mlp.up_proj", intermediate),
                    ]),
                    hidden,
                )?,
                down: fill.matrix(&parts(&[("mlp.down_proj", hidden)]), intermediate)?,
            })
        })
        .collect::<ModelResult<Vec<_>>>()?;
    Ok((outer, Resident(layers)))
}

/// A checkpoint's weights, through pinned memory to the card.
pub(super) struct FromCheckpoint<'a> {
    checkpoint: &'a Checkpoint,
    device: &'a Device,
    dtype: DType,
    transfers: Transfers,
}

impl<'a> FromCheckpoint<'a> {
    pub(super) fn new(
        checkpoint: &'a Checkpoint,
        device: &'a Device,
        dtype: DType,
    ) -> Result<Self> {
        Ok(Self {
            checkpoint,
            device,
            dtype,
            transfers: Transfers::new(device, FOR_WEIGHTS)?,
        })
    }
}

impl Fill for FromCheckpoint<'_> {
    fn matrix(&mut self, parts: &[(String, usize)], inputs: usize) -> ModelResult<Tensor> {
        let outputs = parts.iter().map(|(_, outputs)| outputs).sum();
        let matrix = Tensor::zeros((outputs, inputs), self.dtype, self.device)
            .map_err(super::device_error)?;
        let mut first = 0;
        for (name, outputs) in parts {
            let shape = [*outputs, inputs];
            let values = self
                .checkpoint
                .tensor(name, &shape, self.dtype, &Device::Cpu)?;
            let place = matrix
                .narrow(0, first, *outputs)
                .map_err(super::device_error)?;
            self.transfers
                .place(&place, &values)
                .map_err(super::device_error)?;
            first += outputs;
        }
        Ok(matrix)
    }

    fn norm(&mut self, name: &str, hidden: usize) -> ModelResult<Tensor> {
        self.checkpoint
            .tensor(name, &[hidden], DType::F32, self.device)
    }
}

/// Random weights, made on the device: for measuring speed at sizes no checkpoint is at hand for.
pub(super) struct Randomly<'a> {
    pub(super) device: &'a Device,
    pub(super) dtype: DType,
    pub(super) made: u64,
}

impl Fill for Randomly<'_> {
    fn matrix(&mut self, parts: &[(String, usize)], inputs: usize) -> ModelResult<Tensor> {
        let outputs = parts.iter().map(|(_, outputs)| outputs).sum();
        self.made += 1;
        // A uniform number in [-a, a) has the variance a² / 3: products of normalised rows keep theirs.
        let scale = (3.0 / inputs as f32).sqrt();
        random(
            &[outputs, inputs],
            self.dtype,
            self.device,
            self.made,
            scale,
        )
        .map_err(super::device_error)
    }

    fn norm(&mut self, _: &str, hidden: usize) -> ModelResult<Tensor> {
        Tensor::ones(hidden, DType::F32, &Device::Cpu)
            .and_then(|ones| ones.to_device(self.device))
            .map_err(super::device_error)
    }
}
