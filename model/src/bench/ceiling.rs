//! What a machine can do at most, measured.

use std::time::Instant;

use candle_core::{Device, Tensor};
use rayon::prelude::*;
use serde::Serialize;

use crate::{ModelError, llama::splitmix};

/// Most operations and bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ceilings {
    /// Floating-point operations per second of a large matrix product.
    pub flops_per_second: f64,
    /// Bytes per second, read and written, of a large copy.
    pub bytes_per_second: f64,
    /// Rows, inputs and outputs of the product.
    pub product: [usize; 3],
}

/// Side of the host's product.
const HOST_SIDE: usize = 2048;
/// Rows that a thread of the host multiplies at once; fewer or more are slower.
const HOST_ROWS: usize = 256;
/// Bytes that the host copies: far beyond its caches.
const HOST_BYTES: usize = 256 << 20;

/// Ceilings of the CPU: f32 products by chunks of rows, as the engine does them, and a copy by all threads. The best of
/// `rounds`, for a ceiling is what was seen to be possible.
///
/// # Errors
/// When the tensor library fails.
pub(super) fn of_host(rounds: usize) -> Result<Ceilings, ModelError> {
    let threads = rayon::current_num_threads();
    let chunks = (HOST_SIDE / HOST_ROWS).max(2 * threads);
    let flops = 2.0 * (chunks * HOST_ROWS * HOST_SIDE * HOST_SIDE) as f64;
    let measured = || -> candle_core::Result<(f64, f64)> {
        let matrix = |seed: u64, rows: usize| {
            let values: Vec<f32> = (0..(rows * HOST_SIDE) as u64)
                .into_par_iter()
                .map(|at| (splitmix(seed << 32 | at) >> 40) as f32 / (1 << 23) as f32 - 1.0)
                .collect();
            Tensor::from_vec(values, (rows, HOST_SIDE), &Device::Cpu)
        };
        let weight = matrix(0, HOST_SIDE)?;
        let inputs = (0..chunks)
            .map(|chunk| matrix(1 + chunk as u64, HOST_ROWS))
            .collect::<candle_core::Result<Vec<_>>>()?;
        let product = best(rounds, || {
            inputs
                .par_iter()
                .try_for_each(|input| input.matmul(&weight).map(drop))
        })?;
        let from = vec![1u8; HOST_BYTES];
        let mut to = vec![0u8; HOST_BYTES];
        let part = HOST_BYTES.div_ceil(threads);
        let copy = best(rounds, || {
            to.par_chunks_mut(part)
                .zip(from.par_chunks(part))
                .for_each(|(to, from)| to.copy_from_slice(from));
            Ok(())
        })?;
        Ok((product, copy))
    };
    let (product, copy) = measured().map_err(|error| ModelError::Device(error.to_string()))?;
    Ok(Ceilings {
        flops_per_second: flops / product,
        bytes_per_second: 2.0 * HOST_BYTES as f64 / copy,
        product: [chunks * HOST_ROWS, HOST_SIDE, HOST_SIDE],
    })
}

/// The fewest seconds of `rounds` rounds, after one to warm up.
fn best(
    rounds: usize,
    mut work: impl FnMut() -> candle_core::Result<()>,
) -> candle_core::Result<f64> {
    work()?;
    let mut best = f64::INFINITY;
    for _ in 0..rounds.max(1) {
        let start = Instant::now();
        work()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// Ceilings of a device, as [`of_host`].
///
/// # Errors
/// When the device fails or has no memory for it.
#[cfg(any(feature = "cuda", test))]
pub(super) fn of_device(
    device: &Device,
    dtype: candle_core::DType,
    rounds: usize,
) -> Result<Ceilings, ModelError> {
    use crate::device::{copy_seconds, product_seconds};
    // A card takes far less than a millisecond for the product of this side; the software card takes seconds, and
    // where there is no card the kernels' twins are slow too.
    let small = 512;
    let fast = device.is_cuda() && product_seconds(device, dtype, small, 1)? < 0.005;
    let (side, bytes, count) = match fast {
        true => (8192, 1 << 30, 16),
        false => (small, 16 << 20, 1),
    };
    let best = |measure: &dyn Fn() -> Result<f64, ModelError>| {
        (0..rounds.max(1)).try_fold(f64::INFINITY, |best: f64, _| {
            measure().map(|seconds| best.min(seconds))
        })
    };
    let product = best(&|| product_seconds(device, dtype, side, count))?;
    let copy = best(&|| copy_seconds(device, bytes, count))?;
    Ok(Ceilings {
        flops_per_second: 2.0 * (side as f64).powi(3) / product,
        bytes_per_second: 2.0 * bytes as f64 / copy,
        product: [side; 3],
    })
}
