//! Launching kernels: their compiled text, their arguments.

use candle_core::{
    CudaDevice, CudaStorage, DType, Layout, Result, bail,
    cuda_backend::{
        CudaDType, WrapErr,
        cudarc::driver::{DevicePtr, LaunchConfig, PushKernelArg, sys::CUfunction_attribute},
    },
};
use half::{bf16, f16};

use super::operation::contiguous;

/// A file of kernels, compiled to PTX by `build.rs`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Module {
    Rows,
    Attention,
    Logits,
}

impl Module {
    fn name(self) -> &'static str {
        match self {
            Self::Rows => "llama-eval-rows",
            Self::Attention => "llama-eval-attention",
            Self::Logits => "llama-eval-logits",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Rows => include_str!(concat!(env!("OUT_DIR"), "/rows.ptx")),
            Self::Attention => include_str!(concat!(env!("OUT_DIR"), "/attention.ptx")),
            Self::Logits => include_str!(concat!(env!("OUT_DIR"), "/logits.ptx")),
        }
    }
}

/// An argument that is no tensor.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scalar {
    U32(u32),
    U64(u64),
    F32(f32),
}

impl From<usize> for Scalar {
    /// Kernels take sizes as 32 bits; constructors have refused greater ones.
    fn from(value: usize) -> Self {
        Self::U32(value as u32)
    }
}

/// One launch of a kernel.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) module: Module,
    pub(super) kernel: String,
    /// Blocks.
    pub(super) grid: (usize, usize),
    /// Threads of a block.
    pub(super) threads: u32,
    /// Bytes of dynamic shared memory.
    pub(super) shared: u32,
    pub(super) scalars: Vec<Scalar>,
}

/// Dynamic shared memory a kernel gets without asking.
const UNASKED_SHARED: u32 = 48 << 10;

impl Launch {
    /// Puts the launch in the device's queue.
    ///
    /// # Safety
    /// The kernel takes these pointers and scalars, and the memory behind the pointers is as large as it assumes.
    pub(super) unsafe fn run(&self, device: &CudaDevice, pointers: &[u64]) -> Result<()> {
        let (Ok(width), Ok(height)) = (u32::try_from(self.grid.0), u16::try_from(self.grid.1)) else {
            bail!("{}: a grid of {:?} is too large", self.kernel, self.grid)
        };
        if width == 0 || height == 0 {
            return Ok(());
        }
        let function =
            device.get_or_load_custom_func(&self.kernel, self.module.name(), self.module.text())?;
        if self.shared > UNASKED_SHARED {
            let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function
                .set_attribute(attribute, self.shared as i32)
                .w()?;
        }
        let mut builder = function.builder();
        for pointer in pointers {
            builder.arg(pointer);
        }
        for scalar in &self.scalars {
            match scalar {
                Scalar::U32(value) => builder.arg(value),
                Scalar::U64(value) => builder.arg(value),
                Scalar::F32(value) => builder.arg(value),
            };
        }
        let config = LaunchConfig {
            grid_dim: (width, height.into(), 1),
            block_dim: (self.threads, 1, 1),
            shared_mem_bytes: self.shared,
        };
        // SAFETY: the caller's promise.
        unsafe { builder.launch(config) }.w()?;
        Ok(())
    }
}

/// The address of a contiguous tensor's first element.
pub(super) fn pointer(storage: &CudaStorage, layout: &Layout) -> Result<u64> {
    let (start, _) = contiguous("a kernel", layout)?;
    match storage.slice.dtype() {
        DType::F32 => address::<f32>(storage, start),
        DType::BF16 => address::<bf16>(storage, start),
        DType::F16 => address::<f16>(storage, start),
        DType::U32 => address::<u32>(storage, start),
        DType::F64 => address::<f64>(storage, start),
        other => bail!("no kernel reads {other:?}"),
    }
}

fn address<T: CudaDType>(storage: &CudaStorage, start: usize) -> Result<u64> {
    let slice = storage.as_cuda_slice::<T>()?;
    // Everything runs on one stream in order: the guard has nothing to wait for.
    let (address, _guard) = slice.device_ptr(slice.stream());
    Ok(address + (start * size_of::<T>()) as u64)
}
