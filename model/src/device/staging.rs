//! From main memory to the card through pinned memory: the card fetches one half while the other is filled.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{
    Device, Result,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{CudaEvent, CudaStream, DeviceRepr, PinnedHostSlice, result},
    },
};
use rayon::prelude::*;

/// Bytes of one half.
const HALF: usize = 32 << 20;
/// Bytes one task copies into it.
const PIECE: usize = 1 << 20;

/// Two halves of pinned memory and the stream that copies go through.
pub(super) struct Staging {
    stream: Arc<CudaStream>,
    halves: Mutex<Halves>,
}

struct Halves {
    pinned: [PinnedHostSlice<u8>; 2],
    /// When the card has fetched each half.
    fetched: [Option<CudaEvent>; 2],
    next: usize,
}

impl Staging {
    /// Takes the pinned memory; none for a device that is no card.
    ///
    /// # Errors
    /// When there is none to be had.
    pub(super) fn new(device: &Device) -> Result<Option<Self>> {
        let Device::Cuda(device) = device else {
            return Ok(None);
        };
        let stream = device.cuda_stream();
        // SAFETY: bytes are valid whatever they are; each is written before it is read.
        let pinned = || unsafe { stream.context().alloc_pinned::<u8>(HALF) }.w();
        Ok(Some(Self {
            halves: Mutex::new(Halves {
                pinned: [pinned()?, pinned()?],
                fetched: [None, None],
                next: 0,
            }),
            stream,
        }))
    }

    /// Copies `values` to `address` on the card. The copy is in the stream's order.
    ///
    /// # Errors
    /// When the card fails.
    pub(super) fn copy<T: DeviceRepr + Sync>(&self, address: u64, values: &[T]) -> Result<()> {
        // SAFETY: numbers without padding, read as bytes.
        let bytes = unsafe {
            std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values))
        };
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        let Halves {
            pinned,
            fetched,
            next,
        } = &mut *halves;
        for (part, bytes) in bytes.chunks(HALF).enumerate() {
            let half = *next;
            *next = 1 - half;
            if let Some(event) = fetched[half].take() {
                event.synchronize().w()?;
            }
            let target = &mut pinned[half].as_mut_slice().w()?[..bytes.len()];
            target
                .par_chunks_mut(PIECE)
                .zip(bytes.par_chunks(PIECE))
                .for_each(|(target, bytes)| target.copy_from_slice(bytes));
            let address = address + (part * HALF) as u64;
            // SAFETY: the caller's memory at `address` holds the values; the half is not written again
            // before the event that is recorded behind the copy.
            unsafe { result::memcpy_htod_async(address, target, self.stream.cu_stream()) }.w()?;
            fetched[half] = Some(self.stream.record_event(None).w()?);
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // The card must not fetch from memory that is gone; a card that is lost will not.
        let _ = self.stream.synchronize();
    }
}
