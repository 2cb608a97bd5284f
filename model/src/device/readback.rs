//! Results on their way from the device to main memory, while the device goes on with the next batch.

#[cfg(feature = "cuda")]
use candle_core::cuda_backend::{
    CudaDType, WrapErr,
    cudarc::driver::{DeviceRepr, PinnedHostSlice, ValidAsZeroBits},
};
use candle_core::{Result, Tensor, WithDType};

/// Numbers that are read back.
#[cfg(feature = "cuda")]
pub(super) trait Number: WithDType + CudaDType + DeviceRepr + ValidAsZeroBits {}
/// Numbers that are read back.
#[cfg(not(feature = "cuda"))]
pub(super) trait Number: WithDType {}

impl Number for f32 {}
impl Number for u32 {}

/// Values that were asked for.
pub(super) enum Readback<T> {
    /// They are here.
    Here(Vec<T>),
    /// The card puts them into pinned memory.
    #[cfg(feature = "cuda")]
    Coming(PinnedHostSlice<T>),
}

impl<T: Number> Readback<T> {
    /// Asks for the values of a contiguous tensor, as they are when all that was begun before has been done.
    ///
    /// # Errors
    /// When the device fails.
    pub(super) fn begin(tensor: &Tensor) -> Result<Self> {
        #[cfg(feature = "cuda")]
        if let candle_core::Device::Cuda(device) = tensor.device()
            && tensor.elem_count() > 0
        {
            let stream = device.cuda_stream();
            let (storage, layout) = tensor.storage_and_layout();
            let (start, end) = super::operation::contiguous("readback", layout)?;
            if let candle_core::Storage::Cuda(storage) = &*storage {
                let values = storage.as_cuda_slice::<T>()?.slice(start..end);
                // SAFETY: numbers of any bits are valid, and the copy below writes all of them before they are read.
                let mut pinned = unsafe { stream.context().alloc_pinned::<T>(end - start) }.w()?;
                stream.memcpy_dtoh(&values, &mut pinned).w()?;
                return Ok(Self::Coming(pinned));
            }
        }
        Ok(Self::Here(tensor.flatten_all()?.to_vec1()?))
    }

    /// Waits for them.
    ///
    /// # Errors
    /// When the device has failed.
    pub(super) fn wait(self) -> Result<Vec<T>> {
        match self {
            Self::Here(values) => Ok(values),
            #[cfg(feature = "cuda")]
            Self::Coming(pinned) => Ok(pinned.as_slice().w()?.to_vec()),
        }
    }
}
