//! Results on their way from the device to main memory, while the device goes on with the next batch.

use candle_core::{Result, Tensor};

/// f32 values that were asked for.
pub(super) enum Readback {
    /// They are here.
    Here(Vec<f32>),
    /// The card puts them into pinned memory.
    #[cfg(feature = "cuda")]
    Coming(candle_core::cuda_backend::cudarc::driver::PinnedHostSlice<f32>),
}

impl Readback {
    /// Asks for the values of a contiguous f32 tensor, as they are when all that was begun before has been done.
    ///
    /// # Errors
    /// When the device fails.
    pub(super) fn begin(tensor: &Tensor) -> Result<Self> {
        #[cfg(feature = "cuda")]
        if let candle_core::Device::Cuda(device) = tensor.device()
            && tensor.elem_count() > 0
        {
            use candle_core::cuda_backend::WrapErr;
            let stream = device.cuda_stream();
            let (storage, layout) = tensor.storage_and_layout();
            let (start, end) = super::operation::contiguous("readback", layout)?;
            if let candle_core::Storage::Cuda(storage) = &*storage {
                let values = storage.as_cuda_slice::<f32>()?.slice(start..end);
                // SAFETY: f32 of any bits are valid, and the copy below writes all of them before they are read.
                let mut pinned = unsafe { stream.context().alloc_pinned::<f32>(end - start) }.w()?;
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
    pub(super) fn wait(self) -> Result<Vec<f32>> {
        match self {
            Self::Here(values) => Ok(values),
            #[cfg(feature = "cuda")]
            Self::Coming(pinned) => {
                use candle_core::cuda_backend::WrapErr;
                Ok(pinned.as_slice().w()?.to_vec())
            }
        }
    }
}
