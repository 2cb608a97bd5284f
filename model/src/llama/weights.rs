//! Weights as the forward pass wants them: fused where products share their input, and stored
//! `[inputs, outputs]`, which the matrix product reads without packing.

use candle_core::{CpuStorage, DType, Device, Storage, Tensor, WithDType};
use rayon::prelude::*;

use crate::{Checkpoint, Config, ModelError};

/// Where weights come from.
#[derive(Clone, Copy)]
pub(crate) enum Origin<'a> {
    /// A checkpoint.
    Checkpoint(&'a Checkpoint),
    /// Nowhere: random numbers for a model of these sizes, to measure speed at sizes no checkpoint is at hand for.
    Random(&'a Config),
}

impl<'a> Origin<'a> {
    /// Sizes of the model.
    pub(crate) fn config(self) -> &'a Config {
        match self {
            Self::Checkpoint(checkpoint) => checkpoint.config(),
            Self::Random(config) => config,
        }
    }

    /// That there is not enough memory, or no kernel, for the model.
    pub(crate) fn refusal(self, problem: String, hint: &str) -> ModelError {
        let path = match self {
            Self::Checkpoint(checkpoint) => checkpoint.source(),
            Self::Random(_) => "random weights",
        };
        ModelError::Checkpoint {
            path: path.into(),
            problem,
            hint: hint.to_owned(),
        }
    }

    /// The named tensor in main memory.
    fn tensor(self, name: &str, shape: &[usize], dtype: DType) -> Result<Tensor, ModelError> {
        match self {
            Self::Checkpoint(checkpoint) => checkpoint.tensor(name, shape, dtype, &Device::Cpu),
            Self::Random(_) => random(name, shape, dtype).map_err(device_error),
        }
    }
}

/// Norms of ones; matrices `[outputs, inputs]` whose products keep the variance of normalised rows.
fn random(name: &str, shape: &[usize], dtype: DType) -> candle_core::Result<Tensor> {
    let &[outputs, inputs] = shape else {
        return Tensor::ones(shape, dtype, &Device::Cpu);
    };
    // FNV-1a: every tensor has its own numbers.
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // A uniform number in [-a, a) has the variance a² / 3.
    let scale = (3.0 / inputs as f32).sqrt();
    let values: Vec<f32> = (0..outputs * inputs)
        .into_par_iter()
        .map(|at| {
            let bits = splitmix(seed.wrapping_add(at as u64)) >> 40;
            scale * (bits as f32 / (1u32 << 23) as f32 - 1.0)
        })
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)
}

/// The `at`-th number of a fixed stream of random bits (SplitMix64).
pub(crate) fn splitmix(at: u64) -> u64 {
    let mixed = at.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// One layer's weights. Matrices are `[inputs, outputs]` in the checkpoint's run type, norms f32.
#[derive(Clone)]
pub(crate) struct Layer {
    /// Norm before attention, `[hidden]`.
    pub(crate) attention_norm: Tensor,
    /// Queries, keys and values, `[hidden, fused]`.
    pub(crate) query_key_value: Tensor,
    /// Output projection, `[heads * head size, hidden]`.
    pub(crate) output: Tensor,
    /// Norm before the feed-forward block, `[hidden]`.
    pub(crate) feed_forward_norm: Tensor,
    /// Gate and up projection, `[hidden, 2 * intermediate]`.
    pub(crate) gate_up: Tensor,
    /// Down projection, `[intermediate, hidden]`.
    pub(crate) down: Tensor,
}

impl Layer {
    /// Loads layer `index`.
    pub(crate) fn load(origin: Origin<'_>, index: usize, dtype: DType) -> Result<Self, ModelError> {
        let config = origin.config();
        let (hidden, intermediate) = (config.hidden, config.intermediate);
        let queries = config.heads * config.head_size;
        let key_values = config.key_value_heads * config.head_size;
        let name = |part: &str| format!("model.layers.{index}.{part}.weight");
        let matrix = |parts: &[(&str, usize)], inputs: usize| {
            let parts: Vec<(String, usize)> = parts
                .iter()
                .map(|(part, outputs)| (name(part), *outputs))
                .collect();
            transposed(origin, &parts, inputs, dtype)
        };
        let norm = |part: &str| origin.tensor(&name(part), &[hidden], DType::F32);
        Ok(Self {
            attention_norm: norm("input_layernorm")?,
            query_key_value: matrix(
                &[
                    ("self_attn.q_proj", queries),
                    ("self_attn.k_proj", key_values),
                    ("self_attn.v_proj", key_values),
                ],
                hidden,
            )?,
            output: matrix(&[("self_attn.o_proj", hidden)], queries)?,
            feed_forward_norm: norm("post_attention_layernorm")?,
            gate_up: matrix(
                &[
                    ("mlp.gate_proj", intermediate),
                    ("mlp.up_proj", intermediate),
                ],
                hidden,
            )?,
            down: matrix(&[("mlp.down_proj", hidden)], intermediate)?,
        })
    }

    /// The layer with all matrices in f32: what the CPU multiplies with. No copy if they are.
    pub(crate) fn widened(&self) -> candle_core::Result<Self> {
        Ok(Self {
            attention_norm: self.attention_norm.clone(),
            query_key_value: self.query_key_value.to_dtype(DType::F32)?,
            output: self.output.to_dtype(DType::F32)?,
            feed_forward_norm: self.feed_forward_norm.clone(),
            gate_up: self.gate_up.to_dtype(DType::F32)?,
            down: self.down.to_dtype(DType::F32)?,
        })
    }
}

/// Where token embeddings are looked up.
pub(crate) enum Embedding {
    /// A matrix of its own, `[vocabulary, hidden]`.
    Rows(Tensor),
    /// The output matrix, `[hidden, vocabulary]`: one copy serves both.
    Tied,
}

/// Everything outside the layers.
pub(crate) struct Outer {
    /// Token embeddings.
    pub(crate) embedding: Embedding,
    /// Norm before the output matrix, `[hidden]`.
    pub(crate) norm: Tensor,
    /// Output matrix, `[hidden, vocabulary]`.
    pub(crate) head: Tensor,
}

impl Outer {
    /// Loads them.
    pub(crate) fn load(origin: Origin<'_>, dtype: DType) -> Result<Self, ModelError> {
        let config = origin.config();
        let embedding = if config.tied_embeddings {
            Embedding::Tied
        } else {
            let shape = [config.vocabulary, config.hidden];
            Embedding::Rows(origin.tensor("model.embed_tokens.weight", &shape, dtype)?)
        };
        let head = [("lm_head.weight".to_owned(), config.vocabulary)];
        Ok(Self {
            embedding,
            norm: origin.tensor("model.norm.weight", &[config.hidden], DType::F32)?,
            head: transposed(origin, &head, config.hidden, dtype)?,
        })
    }

    /// Embeddings of `tokens` in f32, `[tokens, hidden]` row by row, appended to `rows`.
    pub(crate) fn embed(&self, tokens: &[u32], rows: &mut Vec<f32>) -> candle_core::Result<()> {
        let (matrix, by_row) = match &self.embedding {
            Embedding::Rows(matrix) => (matrix, true),
            Embedding::Tied => (&self.head, false),
        };
        let (first, second) = matrix.dims2()?;
        let (storage, _) = matrix.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else {
            candle_core::bail!("embeddings are expected in main memory")
        };
        let vocabulary = if by_row { first } else { second };
        let mut gather = |at: &dyn Fn(usize) -> f32| {
            for &token in tokens {
                let token = token as usize;
                if token >= vocabulary {
                    candle_core::bail!("token {token} is not in the vocabulary of {vocabulary}");
                }
                if by_row {
                    rows.extend((token * second..(token + 1) * second).map(at));
                } else {
                    rows.extend((0..first).map(|i| at(i * second + token)));
                }
            }
            Ok(())
        };
        match storage {
            CpuStorage::F32(values) => gather(&|i| values[i]),
            CpuStorage::F16(values) => gather(&|i| values[i].to_f32()),
            CpuStorage::BF16(values) => gather(&|i| values[i].to_f32()),
            _ => candle_core::bail!("embeddings are neither f32, f16 nor bf16"),
        }
    }
}

/// The matrices named `parts`, each `[outputs, inputs]` in the checkpoint, side by side as one
/// `[inputs, sum of outputs]`.
fn transposed(
    origin: Origin<'_>,
    parts: &[(String, usize)],
    inputs: usize,
    dtype: DType,
) -> Result<Tensor, ModelError> {
    match dtype {
        DType::F16 => transposed_as::<half::f16>(origin, parts, inputs),
        DType::BF16 => transposed_as::<half::bf16>(origin, parts, inputs),
        _ => transposed_as::<f32>(origin, parts, inputs),
    }
}

fn transposed_as<T: WithDType>(
    origin: Origin<'_>,
    parts: &[(String, usize)],
    inputs: usize,
) -> Result<Tensor, ModelError> {
    /// Rows of the result written by one task: a cache line of f32.
    const BLOCK: usize = 16;
    let outputs: usize = parts.iter().map(|(_, outputs)| outputs).sum();
    let mut fused = vec![T::zero(); inputs * outputs];
    let mut first = 0;
    for (name, width) in parts {
        let tensor = origin.tensor(name, &[*width, inputs], T::DTYPE)?;
        let (storage, layout) = tensor.storage_and_layout();
        let values = match (&*storage, layout.contiguous_offsets()) {
            (Storage::Cpu(storage), Some((start, end))) => {
                storage.as_slice::<T>().map(|values| &values[start..end])
            }
            _ => Err(candle_core::Error::Msg(format!(
                "tensor `{name}` is not contiguous in main memory"
            ))),
        }
        .map_err(device_error)?;
        fused
            .par_chunks_mut(BLOCK * outputs)
            .enumerate()
            .for_each(|(block, rows)| {
                for (output, source) in values.chunks_exact(inputs).enumerate() {
                    let source = &source[block * BLOCK..(block * BLOCK + rows.len() / outputs)];
                    for (row, value) in source.iter().enumerate() {
                        rows[row * outputs + first + output] = *value;
                    }
                }
            });
        first += width;
    }
    Tensor::from_vec(fused, (inputs, outputs), &Device::Cpu).map_err(device_error)
}

/// A tensor library's error as a model error.
pub(crate) fn device_error(error: candle_core::Error) -> ModelError {
    ModelError::Device(error.to_string())
}
