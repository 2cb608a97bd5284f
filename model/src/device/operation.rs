//! How an operation of the pass is written: a kernel for the card, and its twin, the same computation in plain
//! code on the CPU. Both write their output in place, so that every buffer is allocated once.

use std::borrow::Cow;

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Result, Tensor, bail};
use half::{bf16, f16};

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;

/// An operation: reads its inputs, writes all or a part of its output.
pub(super) trait Operation {
    /// Name of the kernel, and of the operation in errors.
    fn name(&self) -> &'static str;

    /// What it reads, in the order of the kernel's arguments.
    fn inputs(&self) -> Vec<&Tensor>;

    /// The computation on the CPU.
    ///
    /// # Errors
    /// For an index that is out of bounds.
    fn twin(&self, output: &mut Output<'_>, inputs: &[Values<'_>]) -> Result<()>;

    /// How the kernel is launched. Its arguments are the output, the inputs, then these scalars.
    #[cfg(feature = "cuda")]
    fn launch(&self) -> super::launch::Launch;
}

/// Runs `operation` on `output`, on the device it lies on.
pub(super) fn apply(output: &Tensor, operation: &impl Operation) -> Result<()> {
    output.inplace_op1(&Applied(operation))
}

struct Applied<'a, O>(&'a O);

impl<O: Operation> InplaceOp1 for Applied<'_, O> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let tensors = self.0.inputs();
        let guards: Vec<_> = tensors
            .iter()
            .map(|tensor| tensor.storage_and_layout())
            .collect();
        let inputs = guards
            .iter()
            .map(|(storage, layout)| match &**storage {
                candle_core::Storage::Cpu(storage) => Values::of(self.name(), storage, layout),
                _ => bail!("{}: inputs on two devices", self.name()),
            })
            .collect::<Result<Vec<_>>>()?;
        let mut output = Output::of(self.name(), storage, layout)?;
        self.0.twin(&mut output, &inputs)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
        let tensors = self.0.inputs();
        let guards: Vec<_> = tensors
            .iter()
            .map(|tensor| tensor.storage_and_layout())
            .collect();
        let mut pointers = vec![super::launch::pointer(storage, layout)?];
        for (storage, layout) in &guards {
            match &**storage {
                candle_core::Storage::Cuda(storage) => {
                    pointers.push(super::launch::pointer(storage, layout)?);
                }
                _ => bail!("{}: inputs on two devices", self.name()),
            }
        }
        let launch = self.0.launch();
        // SAFETY: each operation names a kernel with the arguments it gives, and its constructor has
        // checked that all tensors hold what the kernel reads and writes.
        unsafe { launch.run(&storage.device, &pointers) }
    }
}

/// The bounds of a contiguous layout.
pub(super) fn contiguous(name: &str, layout: &Layout) -> Result<(usize, usize)> {
    match layout.contiguous_offsets() {
        Some(bounds) => Ok(bounds),
        None => bail!("{name} wants contiguous tensors"),
    }
}

/// What an operation reads, in main memory.
pub(super) enum Values<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
    F16(&'a [f16]),
    U32(&'a [u32]),
    F64(&'a [f64]),
}

impl<'a> Values<'a> {
    fn of(name: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<Self> {
        let (start, end) = contiguous(name, layout)?;
        Ok(match storage {
            CpuStorage::F32(values) => Self::F32(&values[start..end]),
            CpuStorage::BF16(values) => Self::Bf16(&values[start..end]),
            CpuStorage::F16(values) => Self::F16(&values[start..end]),
            CpuStorage::U32(values) => Self::U32(&values[start..end]),
            CpuStorage::F64(values) => Self::F64(&values[start..end]),
            _ => bail!("{name} does not read this type"),
        })
    }

    /// As f32; empty for whole numbers and f64.
    pub(super) fn floats(&self) -> Cow<'a, [f32]> {
        match self {
            Self::F32(values) => Cow::Borrowed(values),
            Self::Bf16(values) => values.iter().map(|value| value.to_f32()).collect(),
            Self::F16(values) => values.iter().map(|value| value.to_f32()).collect(),
            Self::U32(_) | Self::F64(_) => Cow::Borrowed(&[]),
        }
    }

    /// Whole numbers; empty for anything else.
    pub(super) fn indices(&self) -> &'a [u32] {
        match self {
            Self::U32(values) => values,
            _ => &[],
        }
    }

    /// f64 values; empty for anything else.
    pub(super) fn doubles(&self) -> &'a [f64] {
        match self {
            Self::F64(values) => values,
            _ => &[],
        }
    }
}

/// What an operation writes, in main memory.
pub(super) enum Output<'a> {
    F32(&'a mut [f32]),
    Bf16(&'a mut [bf16]),
    F16(&'a mut [f16]),
    U32(&'a mut [u32]),
}

impl<'a> Output<'a> {
    fn of(name: &str, storage: &'a mut CpuStorage, layout: &Layout) -> Result<Self> {
        let (start, end) = contiguous(name, layout)?;
        Ok(match storage {
            CpuStorage::F32(values) => Self::F32(&mut values[start..end]),
            CpuStorage::BF16(values) => Self::Bf16(&mut values[start..end]),
            CpuStorage::F16(values) => Self::F16(&mut values[start..end]),
            CpuStorage::U32(values) => Self::U32(&mut values[start..end]),
            _ => bail!("{name} does not write this type"),
        })
    }

    /// Writes `values` from `first` on, rounded to the output's type.
    pub(super) fn write(&mut self, first: usize, values: &[f32]) {
        fn all<T>(target: &mut [T], values: &[f32], round: impl Fn(f32) -> T) {
            for (target, &value) in target.iter_mut().zip(values) {
                *target = round(value);
            }
        }
        match self {
            Self::F32(target) => target[first..][..values.len()].copy_from_slice(values),
            Self::Bf16(target) => all(&mut target[first..], values, bf16::from_f32),
            Self::F16(target) => all(&mut target[first..], values, f16::from_f32),
            Self::U32(_) => {}
        }
    }

    /// Writes one whole number.
    pub(super) fn write_index(&mut self, at: usize, value: u32) {
        if let Self::U32(target) = self {
            target[at] = value;
        }
    }
}

/// The suffix of a kernel's name for tensors of `dtype`.
#[cfg(feature = "cuda")]
pub(super) fn suffix(dtype: DType) -> &'static str {
    match dtype {
        DType::BF16 => "bf16",
        DType::F16 => "f16",
        _ => "f32",
    }
}

/// Refuses a shape or type that an operation was not made for.
pub(super) fn expect(
    operation: &str,
    what: &str,
    tensor: &Tensor,
    dtype: DType,
    elements: usize,
) -> Result<()> {
    if tensor.dtype() != dtype || tensor.elem_count() < elements || !tensor.is_contiguous() {
        bail!(
            "{operation}: {what} is {:?} of {:?}, wanted {elements} of {dtype:?}",
            tensor.shape(),
            tensor.dtype()
        );
    }
    Ok(())
}
