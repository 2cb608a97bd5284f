//! How fast a device multiplies and copies: what the pass is measured against.

use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor};

use super::{
    ModelResult, device_error,
    operations::random,
    product::{Into, product},
};

/// Seconds of one product of `[side, side]` by `[side, side]` in `dtype`, the mean of `count` on end.
///
/// # Errors
/// When the device has no memory for three such matrices, or fails.
pub(crate) fn product_seconds(
    device: &Device,
    dtype: DType,
    side: usize,
    count: usize,
) -> ModelResult<f64> {
    // Random numbers: a card is slower on them than on zeros, for it draws more power.
    let matrix = |seed| random(&[side, side], dtype, device, seed, 1.0).map_err(device_error);
    let (input, weight, out) = (matrix(1)?, matrix(2)?, matrix(3)?);
    mean_seconds(device, count, || {
        product(&out, &input, &weight, Into::Place)
    })
    .map_err(device_error)
}

/// Seconds of copying `bytes` from one place of the device's memory to another, the mean of `count` on end.
///
/// # Errors
/// When the device has no memory for both, or fails.
pub(crate) fn copy_seconds(device: &Device, bytes: usize, count: usize) -> ModelResult<f64> {
    let seconds = || {
        let from = Tensor::zeros(bytes / size_of::<f32>(), DType::F32, device)?;
        // Each copy's place is free for the next one.
        mean_seconds(device, count, || from.copy().map(drop))
    };
    seconds().map_err(device_error)
}

fn mean_seconds(device: &Device, count: usize, work: impl Fn() -> Result<()>) -> Result<f64> {
    work()?;
    device.synchronize()?;
    let start = Instant::now();
    for _ in 0..count.max(1) {
        work()?;
    }
    device.synchronize()?;
    Ok(start.elapsed().as_secs_f64() / count.max(1) as f64)
}
