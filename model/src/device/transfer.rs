//! Between main memory and the device, in the order of the device's queue and without waiting for it.
//!
//! A card copies by itself only to and from pinned memory, and later: what is pinned is written again, or read, only
//! behind an event that the card passes when it has copied. (The events that cudarc keeps with pinned memory are not
//! recorded where a device has one stream.)

use candle_core::{
    CpuStorage, Device, InplaceOp1, Layout, Result, Storage, Tensor, WithDType, bail,
};

#[cfg(feature = "cuda")]
use self::card::{Returned, Staging};
use super::operation::contiguous;

/// Numbers of four bytes that are read back.
#[cfg_attr(
    not(feature = "cuda"),
    allow(dead_code, reason = "only a card gives bytes")
)]
pub(super) trait Word: WithDType {
    /// From the bytes as they lie in memory.
    fn from_bytes(bytes: [u8; 4]) -> Self;
}

impl Word for f32 {
    fn from_bytes(bytes: [u8; 4]) -> Self {
        Self::from_ne_bytes(bytes)
    }
}

impl Word for u32 {
    fn from_bytes(bytes: [u8; 4]) -> Self {
        Self::from_ne_bytes(bytes)
    }
}

/// The ways to and from a device.
pub(super) struct Transfers {
    device: Device,
    /// Pinned memory for what goes to a card.
    #[cfg(feature = "cuda")]
    staging: Option<Staging>,
    /// Pinned memory that was read and can be used again.
    #[cfg(feature = "cuda")]
    returned: Returned,
}

/// Pinned memory for uploads: so many pieces of so many bytes, used in turn.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(feature = "cuda"),
    allow(dead_code, reason = "only a card has pinned memory")
)]
pub(super) struct Pieces {
    pub(super) count: usize,
    pub(super) bytes: usize,
}

/// Enough to keep a bus busy with weights.
pub(super) const FOR_WEIGHTS: Pieces = Pieces {
    count: 2,
    bytes: 32 << 20,
};
/// More pieces than a pass has uploads: the host never waits for the pass before.
pub(super) const FOR_PASSES: Pieces = Pieces {
    count: 16,
    bytes: 1 << 20,
};

impl Transfers {
    /// Takes the pinned memory, if `device` is a card.
    ///
    /// # Errors
    /// When there is none to be had.
    #[cfg_attr(not(feature = "cuda"), allow(unused_variables))]
    pub(super) fn new(device: &Device, pieces: Pieces) -> Result<Self> {
        Ok(Self {
            device: device.clone(),
            #[cfg(feature = "cuda")]
            staging: Staging::new(device, pieces)?,
            #[cfg(feature = "cuda")]
            returned: Returned::default(),
        })
    }

    /// `values` on the device, `[values]`.
    ///
    /// # Errors
    /// When the device has no memory for them, or fails.
    pub(super) fn upload<T: WithDType>(&self, values: &[T]) -> Result<Tensor> {
        let here = Tensor::from_slice(values, values.len(), &Device::Cpu)?;
        if self.device.is_cpu() || values.is_empty() {
            return here.to_device(&self.device);
        }
        let there = Tensor::zeros(values.len(), T::DTYPE, &self.device)?;
        self.place(&there, &here)?;
        Ok(there)
    }

    /// Copies `values`, in main memory, to `place`, a contiguous part of a tensor on the device.
    ///
    /// # Errors
    /// When the device fails.
    pub(super) fn place(&self, place: &Tensor, values: &Tensor) -> Result<()> {
        if place.elem_count() != values.elem_count() || place.dtype() != values.dtype() {
            bail!("upload: {:?} to {:?}", values.shape(), place.shape());
        }
        place.inplace_op1(&Upload {
            transfers: self,
            values,
        })
    }

    /// Asks for the values of a contiguous tensor, as they are when all that was begun before has been done.
    ///
    /// # Errors
    /// When the device fails.
    pub(super) fn read_back<T: Word>(&self, tensor: &Tensor) -> Result<ReadBack<T>> {
        #[cfg(feature = "cuda")]
        if let Device::Cuda(device) = tensor.device()
            && tensor.elem_count() > 0
        {
            let (storage, layout) = tensor.storage_and_layout();
            if let Storage::Cuda(storage) = &*storage {
                let address = super::launch::pointer(storage, layout)?;
                let bytes = tensor.elem_count() * size_of::<T>();
                let coming = self.returned.read(device, address, bytes)?;
                return Ok(ReadBack::Coming(coming, std::marker::PhantomData));
            }
        }
        Ok(ReadBack::Here(tensor.flatten_all()?.to_vec1()?))
    }
}

/// Values that were asked for.
pub(super) enum ReadBack<T> {
    /// They are here.
    Here(Vec<T>),
    /// The card puts them into pinned memory.
    #[cfg(feature = "cuda")]
    Coming(card::Coming, std::marker::PhantomData<T>),
}

impl<T: Word> ReadBack<T> {
    /// Waits for them.
    ///
    /// # Errors
    /// When the device has failed.
    pub(super) fn wait(self) -> Result<Vec<T>> {
        match self {
            Self::Here(values) => Ok(values),
            #[cfg(feature = "cuda")]
            Self::Coming(coming, _) => coming.wait(|bytes| {
                let words = bytes.as_chunks::<4>().0;
                words.iter().map(|word| T::from_bytes(*word)).collect()
            }),
        }
    }
}

#[cfg_attr(
    not(feature = "cuda"),
    allow(dead_code, reason = "only a card has pinned memory")
)]
struct Upload<'a> {
    transfers: &'a Transfers,
    values: &'a Tensor,
}

impl InplaceOp1 for Upload<'_> {
    fn name(&self) -> &'static str {
        "upload"
    }

    fn cpu_fwd(&self, out: &mut CpuStorage, layout: &Layout) -> Result<()> {
        use CpuStorage::{BF16, F16, F32, F64, U32};
        let (storage, values) = self.values.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else {
            bail!("upload: values on another device")
        };
        let (start, end) = contiguous("upload", layout)?;
        let (first, last) = contiguous("upload", values)?;
        match (out, storage) {
            (F32(out), F32(values)) => out[start..end].copy_from_slice(&values[first..last]),
            (BF16(out), BF16(values)) => out[start..end].copy_from_slice(&values[first..last]),
            (F16(out), F16(values)) => out[start..end].copy_from_slice(&values[first..last]),
            (U32(out), U32(values)) => out[start..end].copy_from_slice(&values[first..last]),
            (F64(out), F64(values)) => out[start..end].copy_from_slice(&values[first..last]),
            _ => bail!("upload: no such type"),
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, out: &mut candle_core::CudaStorage, layout: &Layout) -> Result<()> {
        use CpuStorage::{BF16, F16, F32, F64, U32};
        let (storage, values) = self.values.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else {
            bail!("upload: values on another device")
        };
        let (first, last) = contiguous("upload", values)?;
        let address = super::launch::pointer(out, layout)?;
        let Some(staging) = &self.transfers.staging else {
            bail!("upload: no pinned memory")
        };
        match storage {
            F32(values) => staging.copy(address, &values[first..last]),
            BF16(values) => staging.copy(address, &values[first..last]),
            F16(values) => staging.copy(address, &values[first..last]),
            U32(values) => staging.copy(address, &values[first..last]),
            F64(values) => staging.copy(address, &values[first..last]),
            _ => bail!("upload: no such type"),
        }
    }
}

/// A card's side.
#[cfg(feature = "cuda")]
pub(super) mod card {
    use std::sync::{Arc, Mutex, PoisonError};

    use candle_core::{
        CudaDevice, Device, Result,
        cuda_backend::{
            WrapErr,
            cudarc::driver::{CudaEvent, CudaStream, DeviceRepr, PinnedHostSlice, result},
        },
    };
    use rayon::prelude::*;

    use super::Pieces;

    /// Bytes one task copies into pinned memory.
    const SHARE: usize = 1 << 20;
    /// Fewest bytes of pinned memory that results are read into.
    const FEWEST: usize = 64 << 10;

    /// Pieces of pinned memory and the stream that copies go through.
    pub(super) struct Staging {
        stream: Arc<CudaStream>,
        turns: Mutex<Turns>,
    }

    struct Turns {
        pieces: Vec<Piece>,
        next: usize,
    }

    struct Piece {
        pinned: PinnedHostSlice<u8>,
        /// Passed when the card has fetched it.
        fetched: Option<CudaEvent>,
    }

    impl Staging {
        /// Takes the pinned memory; none for a device that is no card.
        pub(super) fn new(device: &Device, pieces: Pieces) -> Result<Option<Self>> {
            let Device::Cuda(device) = device else {
                return Ok(None);
            };
            let stream = device.cuda_stream();
            let piece = |_| {
                // SAFETY: bytes are valid whatever they are; each is written before the card fetches it.
                let pinned = unsafe { stream.context().alloc_pinned::<u8>(pieces.bytes) }.w()?;
                Ok(Piece {
                    pinned,
                    fetched: None,
                })
            };
            let turns = Turns {
                pieces: (0..pieces.count).map(piece).collect::<Result<_>>()?,
                next: 0,
            };
            Ok(Some(Self {
                turns: Mutex::new(turns),
                stream,
            }))
        }

        /// Copies `values` to `address` on the card, in the stream's order.
        pub(super) fn copy<T: DeviceRepr + Sync>(&self, address: u64, values: &[T]) -> Result<()> {
            // SAFETY: numbers without padding, read as bytes.
            let mut rest = unsafe {
                std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values))
            };
            let mut address = address;
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            while !rest.is_empty() {
                let turn = turns.next;
                turns.next = (turn + 1) % turns.pieces.len();
                let piece = &mut turns.pieces[turn];
                if let Some(fetched) = piece.fetched.take() {
                    fetched.synchronize().w()?;
                }
                let pinned = piece.pinned.as_mut_slice().w()?;
                let (bytes, later) = rest.split_at(rest.len().min(pinned.len()));
                let target = &mut pinned[..bytes.len()];
                target
                    .par_chunks_mut(SHARE)
                    .zip(bytes.par_chunks(SHARE))
                    .for_each(|(target, bytes)| target.copy_from_slice(bytes));
                // SAFETY: the caller's memory at `address` holds the values; the piece is not written again
                // before the event behind the copy.
                unsafe { result::memcpy_htod_async(address, target, self.stream.cu_stream()) }
                    .w()?;
                piece.fetched = Some(self.stream.record_event(None).w()?);
                address += bytes.len() as u64;
                rest = later;
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

    /// Pinned memory that waits to be used again.
    #[derive(Clone, Default)]
    pub(super) struct Returned(Arc<Mutex<Vec<PinnedHostSlice<u8>>>>);

    impl Returned {
        fn list(&self) -> std::sync::MutexGuard<'_, Vec<PinnedHostSlice<u8>>> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        /// Asks for `bytes` at `address` on the card, in the stream's order.
        pub(super) fn read(
            &self,
            device: &CudaDevice,
            address: u64,
            bytes: usize,
        ) -> Result<Coming> {
            let stream = device.cuda_stream();
            let fitting = {
                let mut list = self.list();
                let at = list.iter().position(|pinned| pinned.len() >= bytes);
                at.map(|at| list.swap_remove(at))
            };
            let mut pinned = match fitting {
                Some(pinned) => pinned,
                None => {
                    let capacity = bytes.next_power_of_two().max(FEWEST);
                    // No flag: memory that the host reads must be cached.
                    // SAFETY: bytes are valid whatever they are.
                    unsafe { stream.context().alloc_pinned_with_flags::<u8>(capacity, 0) }.w()?
                }
            };
            let target = &mut pinned.as_mut_slice().w()?[..bytes];
            // SAFETY: the caller's memory at `address` holds the bytes; nobody reads the target, or gives it back,
            // before the event behind the copy.
            unsafe { result::memcpy_dtoh_async(target, address, stream.cu_stream()) }.w()?;
            let copied = match stream.record_event(None).w() {
                Ok(copied) => copied,
                Err(error) => {
                    let _ = stream.synchronize();
                    return Err(error);
                }
            };
            Ok(Coming {
                pinned: Some(pinned),
                bytes,
                copied,
                returned: self.clone(),
            })
        }
    }

    /// Bytes that are on their way from the card.
    pub(in super::super) struct Coming {
        pinned: Option<PinnedHostSlice<u8>>,
        bytes: usize,
        copied: CudaEvent,
        returned: Returned,
    }

    impl Coming {
        /// Waits for them and reads them.
        pub(super) fn wait<T>(self, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
            self.copied.synchronize().w()?;
            match &self.pinned {
                Some(pinned) => Ok(read(&pinned.as_slice().w()?[..self.bytes])),
                None => Ok(read(&[])),
            }
        }
    }

    impl Drop for Coming {
        fn drop(&mut self) {
            // The card must not write to memory that someone else reads into; a card that is lost will not.
            let _ = self.copied.synchronize();
            self.returned.list().extend(self.pinned.take());
        }
    }
}
