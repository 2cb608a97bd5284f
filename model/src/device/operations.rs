//! The row-wise operations of a pass.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::operation::{Operation, Output, Values, apply, expect};
#[cfg(feature = "cuda")]
use super::{
    launch::{Launch, Module, Scalar},
    operation::suffix,
};

/// Threads of a block that works on one row.
#[cfg(feature = "cuda")]
pub(super) const ROW_THREADS: u32 = 256;

/// A launch of one block per row.
#[cfg(feature = "cuda")]
fn by_row(module: Module, kernel: &str, dtype: DType, rows: usize, scalars: Vec<Scalar>) -> Launch {
    Launch {
        module,
        kernel: format!("{kernel}_{}", suffix(dtype)),
        grid: (rows, 1),
        threads: ROW_THREADS,
        shared: 0,
        scalars,
    }
}

/// Refuses an index that is not below `limit`.
fn below(operation: &str, what: &str, index: u32, limit: usize) -> Result<usize> {
    if index as usize >= limit {
        bail!("{operation}: {what} {index} is not below {limit}");
    }
    Ok(index as usize)
}

/// Rows of a table by index: embeddings into the f32 residual stream, or rows gathered as they are.
struct Gather<'a> {
    name: &'static str,
    table: &'a Tensor,
    index: &'a Tensor,
    columns: usize,
}

impl Operation for Gather<'_> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn inputs(&self) -> Vec<&Tensor> {
        vec![self.table, self.index]
    }

    fn twin(&self, output: &mut Output<'_>, inputs: &[Values<'_>]) -> Result<()> {
        let table = inputs[0].floats();
        for (row, &index) in inputs[1].indices().iter().enumerate() {
            let index = below(self.name, "index", index, table.len() / self.columns)?;
            let values = &table[index * self.columns..][..self.columns];
            output.write(row * self.columns, values);
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn launch(&self) -> Launch {
        let rows = self.index.elem_count();
        let scalars = vec![rows.into(), self.columns.into()];
        by_row(Module::Rows, self.name, self.table.dtype(), rows, scalars)
    }
}

/// `stream[row] = table[tokens[row]]`: `[rows, hidden]` in f32 from `[vocabulary, hidden]`.
/// The caller has checked that all tokens are in the vocabulary.
///
/// # Errors
/// When the device fails.
pub(super) fn embed(stream: &Tensor, table: &Tensor, tokens: &Tensor) -> Result<()> {
    gather("embed", stream, table, tokens, DType::F32)
}

/// `out[row] = values[index[row]]`: `[rows, columns]` from `[any, columns]`.
/// The caller has checked the indices.
///
/// # Errors
/// When the device fails.
pub(super) fn gather_rows(out: &Tensor, values: &Tensor, index: &Tensor) -> Result<()> {
    gather("gather_rows", out, values, index, values.dtype())
}

fn gather(
    name: &'static str,
    out: &Tensor,
    table: &Tensor,
    index: &Tensor,
    dtype: DType,
) -> Result<()> {
    let columns = table.dim(1)?;
    expect(name, "the output", out, dtype, index.elem_count() * columns)?;
    expect(name, "the index", index, DType::U32, 0)?;
    apply(
        out,
        &Gather {
            name,
            table,
            index,
            columns,
        },
    )
}

/// Root-mean-square normalisation (arXiv 1910.07467).
struct RmsNorm<'a> {
    stream: &'a Tensor,
    weight: &'a Tensor,
    epsilon: f32,
    #[cfg(feature = "cuda")]
    dtype: DType,
}

impl Operation for RmsNorm<'_> {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn inputs(&self) -> Vec<&Tensor> {
        vec![self.stream, self.weight]
    }

    fn twin(&self, output: &mut Output<'_>, inputs: &[Values<'_>]) -> Result<()> {
        let (stream, weight) = (inputs[0].floats(), inputs[1].floats());
        let hidden = weight.len();
        for (row, x) in stream.chunks_exact(hidden).enumerate() {
            let squares: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            let scale = 1.0 / (squares / hidden as f64 + f64::from(self.epsilon)).sqrt();
            let normed: Vec<f32> = x
                .iter()
                .zip(&*weight)
                .map(|(x, weight)| x * scale as f32 * weight)
                .collect();
            output.write(row * hidden, &normed);
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn launch(&self) -> Launch {
        let hidden = self.weight.elem_count();
        let rows = self.stream.elem_count() / hidden;
        let scalars = vec![rows.into(), hidden.into(), Scalar::F32(self.epsilon)];
        by_row(Module::Rows, "rms_norm", self.dtype, rows, scalars)
    }
}

/// Normalises `[rows, hidden]` f32 by a weight of `[hidden]` f32, into the type of `out`.
///
/// # Errors
/// When the device fails.
pub(super) fn rms_norm(out: &Tensor, stream: &Tensor, weight: &Tensor, epsilon: f32) -> Result<()> {
    let name = "rms_norm";
    let elements = stream.elem_count();
    expect(name, "the output", out, out.dtype(), elements)?;
    expect(name, "the stream", stream, DType::F32, elements)?;
    expect(name, "the weight", weight, DType::F32, stream.dim(1)?)?;
    apply(
        out,
        &RmsNorm {
            stream,
            weight,
            epsilon,
            #[cfg(feature = "cuda")]
            dtype: out.dtype(),
        },
    )
}

/// The gate of the feed-forward block (arXiv 2002.05202).
struct SiluMultiply<'a> {
    gate_up: &'a Tensor,
    intermediate: usize,
}

impl Operation for SiluMultiply<'_> {
    fn name(&self) -> &'static str {
        "silu_multiply"
    }

    fn inputs(&self) -> Vec<&Tensor> {
        vec![self.gate_up]
    }

    fn twin(&self, output: &mut Output<'_>, inputs: &[Values<'_>]) -> Result<()> {
        let gate_up = inputs[0].floats();
        for (row, both) in gate_up.chunks_exact(2 * self.intermediate).enumerate() {
            let (gate, up) = both.split_at(self.intermediate);
            let gated: Vec<f32> = gate
                .iter()
                .zip(up)
                .map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up)
                .collect();
            output.write(row * self.intermediate, &gated);
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn launch(&self) -> Launch {
        let rows = self.gate_up.elem_count() / (2 * self.intermediate);
        let scalars = vec![rows.into(), self.intermediate.into()];
        let dtype = self.gate_up.dtype();
        by_row(Module::Rows, "silu_multiply", dtype, rows, scalars)
    }
}

/// silu(gate) * up: `[rows, intermediate]` from `[rows, 2 * intermediate]`, gate and up side by side.
///
/// # Errors
/// When the device fails.
pub(super) fn silu_multiply(out: &Tensor, gate_up: &Tensor) -> Result<()> {
    let name = "silu_multiply";
    let elements = gate_up.elem_count();
    expect(name, "the output", out, gate_up.dtype(), elements / 2)?;
    expect(name, "the input", gate_up, gate_up.dtype(), elements)?;
    let intermediate = gate_up.dim(1)? / 2;
    apply(
        out,
        &SiluMultiply {
            gate_up,
            intermediate,
        },
    )
}

/// Pseudo-random weights.
struct Random {
    seed: u64,
    scale: f32,
    #[cfg(feature = "cuda")]
    count: usize,
    #[cfg(feature = "cuda")]
    dtype: DType,
}

impl Operation for Random {
    fn name(&self) -> &'static str {
        "random"
    }

    fn inputs(&self) -> Vec<&Tensor> {
        Vec::new()
    }

    fn twin(&self, output: &mut Output<'_>, _: &[Values<'_>]) -> Result<()> {
        let count = match output {
            Output::F32(values) => values.len(),
            Output::Bf16(values) => values.len(),
            Output::F16(values) => values.len(),
            Output::U32(_) => 0,
        };
        for at in 0..count {
            output.write(at, &[self.scale * uniform(self.seed, at as u64)]);
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn launch(&self) -> Launch {
        /// Blocks that keep any card busy; each thread takes many elements.
        const BLOCKS: usize = 4096;
        Launch {
            module: Module::Rows,
            kernel: format!("random_{}", suffix(self.dtype)),
            grid: (self.count.div_ceil(ROW_THREADS as usize).min(BLOCKS), 1),
            threads: ROW_THREADS,
            shared: 0,
            scalars: vec![
                Scalar::U64(self.count as u64),
                Scalar::U64(self.seed),
                Scalar::F32(self.scale),
            ],
        }
    }
}

/// The `at`-th number of a seed in [-1, 1): the finaliser of splitmix64, cut to 24 bits.
fn uniform(seed: u64, at: u64) -> f32 {
    let mut x = seed.wrapping_add((at + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^= x >> 31;
    (x >> 40) as f32 * 2f32.powi(-23) - 1.0
}

/// A tensor of numbers uniform in [-scale, scale), made on the device.
///
/// # Errors
/// When the device has no memory for it.
pub(super) fn random(
    shape: &[usize],
    dtype: DType,
    device: &Device,
    seed: u64,
    scale: f32,
) -> Result<Tensor> {
    let tensor = Tensor::zeros(shape, dtype, device)?;
    let operation = Random {
        seed,
        scale,
        #[cfg(feature = "cuda")]
        count: tensor.elem_count(),
        #[cfg(feature = "cuda")]
        dtype,
    };
    apply(&tensor, &operation)?;
    Ok(tensor)
}
