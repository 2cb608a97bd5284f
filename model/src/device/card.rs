//! Opens an NVIDIA card, and tells in plain words why that or anything after it failed.

use std::mem::ManuallyDrop;

use candle_core::cuda::{CudaDevice, CudaError, cudarc};
use candle_core::{Device, Error};
use cudarc::cublas::sys::cublasStatus_t;
use cudarc::curand::sys::curandStatus;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdevice_attribute, CUresult};

use super::library::{self, LibraryError};
use crate::ModelError;

/// The oldest compute capability that the kernels are compiled for (`build.rs`).
const CAPABILITY: (u32, u32) = (8, 0);

/// Why a card cannot be used, or no longer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CardError {
    /// The machine has no NVIDIA driver.
    #[error(
        "no NVIDIA driver on this machine ({reason})\nhint: install the driver, or run on the CPU with `--device cpu`"
    )]
    NoDriver {
        /// What the system said.
        reason: String,
    },
    /// The driver is older than the kernels ask for. Versions are CUDA's: 12020 is 12.2.
    #[error(
        "the NVIDIA driver is too old: it supports CUDA {}, this program needs {}\n\
         hint: update the driver, or run on the CPU with `--device cpu`",
        version(*found), version(*needed)
    )]
    OldDriver {
        /// The newest version the driver supports; 0 if it does not say.
        found: u32,
        /// The version of the compiler that made the kernels.
        needed: u32,
    },
    /// There is no card of that number.
    #[error(
        "no card cuda:{asked}: the driver shows {count} card(s)\n\
         hint: cards are numbered from 0, and CUDA_VISIBLE_DEVICES hides some; `--device cpu` runs on the CPU"
    )]
    NoDevice {
        /// The number asked for.
        asked: usize,
        /// How many cards there are.
        count: usize,
    },
    /// The card is older than the kernels are made for.
    #[error(
        "{name} has compute capability {}.{}, and {}.{} is the oldest supported\n\
         hint: run on the CPU with `--device cpu`",
        capability.0, capability.1, CAPABILITY.0, CAPABILITY.1
    )]
    OldDevice {
        /// The card's name.
        name: String,
        /// Its compute capability, major and minor.
        capability: (u32, u32),
    },
    /// A library of CUDA's is missing or does not load.
    #[error(
        "{library} of CUDA does not load ({reason})\n\
         hint: install CUDA's libraries, name their folder in LD_LIBRARY_PATH or CUDA_HOME, or run on the CPU with `--device cpu`"
    )]
    NoLibrary {
        /// Its file name.
        library: &'static str,
        /// What the system said.
        reason: String,
    },
    /// The card's memory is full.
    #[error(
        "the card is out of memory: {} of {} MiB are free\n\
         hint: end other programs on the card, choose `--dtype bf16`, or run on the CPU with `--device cpu`",
        free >> 20, total >> 20
    )]
    OutOfMemory {
        /// Free bytes after the failure.
        free: u64,
        /// All of the card's bytes.
        total: u64,
    },
    /// The card has stopped answering; this process cannot use it again.
    #[error(
        "the card is lost ({reason})\n\
         hint: see the system's log (dmesg, nvidia-smi), then run again: finished answers are kept; `--device cpu` needs no card"
    )]
    Lost {
        /// The driver's error.
        reason: String,
    },
    /// Anything else.
    #[error("{reason}\nhint: if it happens again please report it; `--device cpu` runs on the CPU")]
    Other {
        /// The error's text.
        reason: String,
    },
}

fn version(number: u32) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

/// A card that is ready to be used.
pub(crate) struct Card {
    /// The card for candle: one stream for all threads, no event tracking.
    ///
    /// Never dropped, because closing cuBLAS on a lost card makes cudarc panic.
    device: ManuallyDrop<CudaDevice>,
    /// As the driver calls it.
    pub(crate) name: String,
    /// Compute capability, major and minor.
    pub(crate) capability: (u32, u32),
    /// How many multiprocessors it has.
    pub(crate) multiprocessors: u32,
}

/// Opens card `index` of this machine (`cuda:index`), loading the CUDA libraries if need be.
///
/// # Errors
/// Every [`CardError`]; what the card lacks is found out before anything is allocated on it.
pub(crate) fn open(index: usize) -> Result<Card, CardError> {
    let loaded = library::load();
    // Before a library is called missing: a driver that is too old comes first.
    if !matches!(loaded, Err(LibraryError::NoDriver { .. })) && driver_version() < needed_version()
    {
        return Err(CardError::old_driver());
    }
    loaded?;
    let count = match result::init().and_then(|()| result::device::get_count()) {
        Err(DriverError(CUresult::CUDA_ERROR_NO_DEVICE)) => 0,
        Err(error @ DriverError(CUresult::CUDA_ERROR_STUB_LIBRARY)) => {
            return Err(CardError::NoDriver {
                reason: error.to_string(),
            });
        }
        count => usize::try_from(count?).unwrap_or_default(),
    };
    let ordinal = i32::try_from(index).ok().filter(|_| index < count);
    let ordinal = ordinal.ok_or(CardError::NoDevice {
        asked: index,
        count,
    })?;
    let handle = result::device::get(ordinal)?;
    let name = result::device::get_name(handle)?;
    let attribute = |attribute| {
        // SAFETY: the handle is the driver's own.
        unsafe { result::device::get_attribute(handle, attribute) }.map(i32::unsigned_abs)
    };
    let capability = (
        attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    );
    if capability < CAPABILITY {
        return Err(CardError::OldDevice { name, capability });
    }
    let multiprocessors = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
    // Not the default stream of each thread, as `Device::new_cuda` has it: any thread may use the device.
    let device = CudaDevice::new_with_stream(index)?;
    // SAFETY: there is one stream, so nothing needs events to be in order.
    unsafe { device.disable_event_tracking() };
    if device.cuda_stream().context().has_async_alloc() {
        let mut keep = u64::MAX;
        // SAFETY: the pool is the device's own; this attribute is a 64-bit number. Freed memory then stays with the
        // process, and is given out again without asking the driver.
        unsafe {
            let pool = result::device::get_mem_pool(handle)?;
            let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            result::mem_pool::set_attribute(pool, threshold, (&raw mut keep).cast())?;
        }
    }
    Ok(Card {
        device: ManuallyDrop::new(device),
        name,
        capability,
        multiprocessors,
    })
}

/// The CUDA version that the driver supports; 0 where it does not say.
fn driver_version() -> u32 {
    let mut version = 0;
    // SAFETY: writes the version to the pointer; may be called before `cuInit`, and fails where it is not loaded.
    match unsafe { sys::cuDriverGetVersion(&raw mut version) } {
        CUresult::CUDA_SUCCESS => version.unsigned_abs(),
        _ => 0,
    }
}

/// The version of the compiler that made the kernels; older drivers do not understand them.
fn needed_version() -> u32 {
    env!("CUDA_TOOLKIT_VERSION").parse().unwrap_or_default()
}

impl Card {
    /// The card as a candle device. Tensors on it may be used from any thread.
    pub(crate) fn device(&self) -> Device {
        Device::Cuda(CudaDevice::clone(&self.device))
    }

    /// The card's memory in bytes: free, and in all. What was freed is given back to the driver first: it would count
    /// as taken, and a second model would not fit where the first has been.
    ///
    /// # Errors
    /// [`CardError::Lost`] or [`CardError::Other`].
    pub(crate) fn memory(&self) -> Result<(u64, u64), CardError> {
        let stream = self.device.cuda_stream();
        let context = stream.context();
        if context.has_async_alloc() {
            context.synchronize()?;
            // SAFETY: the pool is the device's own.
            unsafe {
                let pool = result::device::get_mem_pool(context.cu_device())?;
                result::mem_pool::trim_to(pool, 0)?;
            }
        }
        let (free, total) = context.mem_get_info()?;
        Ok((free as u64, total as u64))
    }
}

/// The error of a computation on the card that this thread uses, in plain words.
pub(crate) fn explain(error: &Error) -> CardError {
    match (CardError::from_candle(error), result::mem_get_info()) {
        (CardError::OutOfMemory { .. }, Ok((free, total))) => CardError::OutOfMemory {
            free: free as u64,
            total: total as u64,
        },
        (error, _) => error,
    }
}

impl From<CardError> for ModelError {
    fn from(error: CardError) -> Self {
        match error {
            CardError::OutOfMemory { .. } | CardError::Lost { .. } => {
                Self::CardFailed(error.to_string())
            }
            error => Self::Card(error.to_string()),
        }
    }
}

/// What an error of candle's means for the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The card's memory was full; smaller work may do.
    OutOfMemory,
    /// The card failed for good: every later call fails too.
    Lost,
    /// Neither.
    Other,
}

/// The driver's errors after which a process cannot go on using the card.
const LOST: &[CUresult] = &[
    CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE,
    CUresult::CUDA_ERROR_ECC_UNCORRECTABLE,
    CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE,
    CUresult::CUDA_ERROR_CONTAINED,
    CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
    CUresult::CUDA_ERROR_LAUNCH_TIMEOUT,
    CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED,
    CUresult::CUDA_ERROR_ASSERT,
    CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR,
    CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION,
    CUresult::CUDA_ERROR_MISALIGNED_ADDRESS,
    CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE,
    CUresult::CUDA_ERROR_INVALID_PC,
    CUresult::CUDA_ERROR_LAUNCH_FAILED,
    CUresult::CUDA_ERROR_EXTERNAL_DEVICE,
    CUresult::CUDA_ERROR_UNKNOWN,
];

fn trouble(code: CUresult) -> Trouble {
    match code {
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => Trouble::OutOfMemory,
        code if LOST.contains(&code) => Trouble::Lost,
        _ => Trouble::Other,
    }
}

/// Whether an error of candle's is the card's: full, lost, or something else.
///
/// The driver's code decides where the error still holds it, else its name in the text.
pub(crate) fn classify(error: &Error) -> Trouble {
    match error {
        Error::Context { inner, .. }
        | Error::WithPath { inner, .. }
        | Error::WithBacktrace { inner, .. } => classify(inner),
        Error::Cuda(source)
        | Error::WrappedContext {
            wrapped: source, ..
        } => source_trouble(source.as_ref()),
        other => text_trouble(&other.to_string()),
    }
}

fn source_trouble(source: &(dyn std::error::Error + Send + Sync + 'static)) -> Trouble {
    if let Some(error) = source.downcast_ref::<Error>() {
        return classify(error);
    }
    if let Some(DriverError(code)) = source.downcast_ref() {
        return trouble(*code);
    }
    match source.downcast_ref::<CudaError>() {
        Some(
            CudaError::Cuda(DriverError(code))
            | CudaError::Load {
                cuda: DriverError(code),
                ..
            },
        ) => trouble(*code),
        Some(CudaError::Cublas(error)) if error.0 == cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED => {
            Trouble::OutOfMemory
        }
        // A product fails while running only where its memory or the card does.
        Some(CudaError::Cublas(error))
            if error.0 == cublasStatus_t::CUBLAS_STATUS_EXECUTION_FAILED =>
        {
            Trouble::Lost
        }
        Some(CudaError::Curand(error))
            if error.0 == curandStatus::CURAND_STATUS_ALLOCATION_FAILED =>
        {
            Trouble::OutOfMemory
        }
        _ => text_trouble(&source.to_string()),
    }
}

fn text_trouble(text: &str) -> Trouble {
    let named = |code: &CUresult| text.contains(&format!("{code:?}"));
    if named(&CUresult::CUDA_ERROR_OUT_OF_MEMORY) {
        Trouble::OutOfMemory
    } else if LOST.iter().any(named) {
        Trouble::Lost
    } else {
        Trouble::Other
    }
}

impl CardError {
    fn old_driver() -> Self {
        Self::OldDriver {
            found: driver_version(),
            needed: needed_version(),
        }
    }

    fn from_candle(error: &Error) -> Self {
        // One line: the backtrace that candle adds on request is not for the user.
        let reason = error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned();
        Self::new(classify(error), reason)
    }

    fn new(trouble: Trouble, reason: String) -> Self {
        match trouble {
            Trouble::OutOfMemory => Self::OutOfMemory { free: 0, total: 0 },
            Trouble::Lost => Self::Lost { reason },
            Trouble::Other => Self::Other { reason },
        }
    }
}

impl From<LibraryError> for CardError {
    fn from(error: LibraryError) -> Self {
        match error {
            LibraryError::NoDriver { reason } => Self::NoDriver { reason },
            LibraryError::OldDriver { .. } => Self::old_driver(),
            LibraryError::Missing { library, reason } => Self::NoLibrary { library, reason },
        }
    }
}

impl From<DriverError> for CardError {
    fn from(error: DriverError) -> Self {
        Self::new(trouble(error.0), error.to_string())
    }
}

impl From<Error> for CardError {
    fn from(error: Error) -> Self {
        Self::from_candle(&error)
    }
}

#[cfg(test)]
mod tests;
