//! The forward pass on a card, or on anything that computes whole batches, one operation after the other.
//!
//! Every operation is a kernel with a twin in plain code ([`operation`]), so that the same pass also runs on the CPU:
//! slowly, but there to test everything but the kernels themselves. Buffers are allocated once ([`workspace`]) and
//! written in place.

mod attention;
#[cfg(feature = "cuda")]
mod card;
#[cfg(all(feature = "cuda", test))]
mod card_tests;
mod ceiling;
mod forward;
#[cfg(feature = "cuda")]
mod launch;
#[cfg(feature = "cuda")]
mod library;
mod load;
mod logits;
mod operation;
mod operations;
mod product;
mod table;
#[cfg(test)]
mod tests;
mod transfer;
mod weights;
mod workspace;

#[cfg(feature = "cuda")]
pub(crate) use card::{Card, CardError, open as open_card};
pub(crate) use ceiling::{copy_seconds, product_seconds};
pub(crate) use forward::DeviceLlama;
pub(crate) use load::{Limits, load, longest};
#[cfg(test)]
pub(crate) use workspace::PassRows;
pub(crate) use workspace::Passes;

use crate::ModelError;

/// Tensor operations give the tensor library's errors; what the engine sees gives these.
type ModelResult<T> = Result<T, ModelError>;

/// A tensor library's error as a model error.
fn device_error(error: candle_core::Error) -> ModelError {
    #[cfg(feature = "cuda")]
    if matches!(error, candle_core::Error::Cuda(_))
        || card::classify(&error) != card::Trouble::Other
    {
        return card::explain(&error).into();
    }
    // One line: candle adds a backtrace where `RUST_BACKTRACE` asks for one.
    let text = error.to_string();
    ModelError::Device(text.lines().next().unwrap_or_default().to_owned())
}
