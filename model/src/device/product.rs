//! Dense products: `out = input x weightᵀ`, weights as checkpoints hold them, `[outputs, inputs]`.
//!
//! A product always runs over the same number of rows, so that the library takes the same kernel and a row's result
//! does not depend on how many others there are. Sums are in f32, and so is the output where it says so.

use candle_core::{CpuStorage, DType, InplaceOp3, Layout, Result, Tensor, backend::BackendStorage, bail};

use super::operation::expect;

/// Is the product put in the output's place, or added to it?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Into {
    /// `out = product`.
    Place,
    /// `out += product`: the residual sum, in f32.
    Sum,
}

struct Product {
    rows: usize,
    inputs: usize,
    outputs: usize,
    into: Into,
}

/// Multiplies `[rows, inputs]` by `[outputs, inputs]` into `[rows, outputs]`, of the input's type or f32.
///
/// # Errors
/// When the device fails.
pub(super) fn product(out: &Tensor, input: &Tensor, weight: &Tensor, into: Into) -> Result<()> {
    let name = "product";
    let (outputs, inputs) = weight.dims2()?;
    let rows = out.dim(0)?;
    expect(name, "the input", input, weight.dtype(), rows * inputs)?;
    expect(name, "the weight", weight, weight.dtype(), outputs * inputs)?;
    expect(name, "the output", out, out.dtype(), rows * outputs)?;
    if out.dtype() != DType::F32 && (out.dtype() != weight.dtype() || into == Into::Sum) {
        bail!("product: no {:?} output of {:?}", out.dtype(), weight.dtype());
    }
    let product = Product {
        rows,
        inputs,
        outputs,
        into,
    };
    out.inplace_op3(input, weight, &product)
}

impl InplaceOp3 for Product {
    fn name(&self) -> &'static str {
        "product"
    }

    fn cpu_fwd(
        &self,
        out: &mut CpuStorage,
        out_layout: &Layout,
        input: &CpuStorage,
        input_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<()> {
        let input_layout = Layout::contiguous_with_offset(
            (self.rows, self.inputs),
            input_layout.start_offset(),
        );
        let wide = |storage: &CpuStorage, layout: &Layout| storage.to_dtype(layout, DType::F32);
        let product = wide(input, &input_layout)?.matmul(
            &wide(weight, weight_layout)?,
            (1, self.rows, self.outputs, self.inputs),
            &Layout::contiguous((self.rows, self.inputs)),
            &Layout::contiguous((self.outputs, self.inputs)).transpose(0, 1)?,
        )?;
        let start = out_layout.start_offset();
        let end = start + self.rows * self.outputs;
        let layout = Layout::contiguous(self.rows * self.outputs);
        match out {
            CpuStorage::F32(out) => {
                let product = product.as_slice::<f32>()?;
                for (out, product) in out[start..end].iter_mut().zip(product) {
                    *out = match self.into {
                        Into::Place => *product,
                        Into::Sum => *out + product,
                    };
                }
            }
            CpuStorage::BF16(out) => {
                let product = product.to_dtype(&layout, DType::BF16)?;
                out[start..end].copy_from_slice(product.as_slice()?);
            }
            CpuStorage::F16(out) => {
                let product = product.to_dtype(&layout, DType::F16)?;
                out[start..end].copy_from_slice(product.as_slice()?);
            }
            _ => bail!("product: an output that is no floating point"),
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        out: &mut candle_core::CudaStorage,
        out_layout: &Layout,
        input: &candle_core::CudaStorage,
        input_layout: &Layout,
        weight: &candle_core::CudaStorage,
        weight_layout: &Layout,
    ) -> Result<()> {
        use super::launch::pointer;
        use candle_core::cuda_backend::{
            WrapErr,
            cudarc::cublas::{
                result::gemm_ex,
                sys::{cublasComputeType_t, cublasGemmAlgo_t, cublasOperation_t, cudaDataType},
            },
        };
        let kind = |dtype: DType| match dtype {
            DType::BF16 => cudaDataType::CUDA_R_16BF,
            DType::F16 => cudaDataType::CUDA_R_16F,
            _ => cudaDataType::CUDA_R_32F,
        };
        let number = |value: usize| {
            i32::try_from(value)
                .map_err(|_| candle_core::Error::Msg(format!("product: a side of {value}")))
        };
        let (rows, inputs, outputs) = (
            number(self.rows)?,
            number(self.inputs)?,
            number(self.outputs)?,
        );
        let pointers = (
            pointer(out, out_layout)?,
            pointer(input, input_layout)?,
            pointer(weight, weight_layout)?,
        );
        let one = 1f32;
        let beta: f32 = match self.into {
            Into::Place => 0.0,
            Into::Sum => 1.0,
        };
        let blas = out.device.cublas_handle();
        // cuBLAS counts by columns: to it, our matrices are transposed.
        // SAFETY: the pointers hold matrices of these sides, as `product` has checked.
        unsafe {
            gemm_ex(
                *blas.handle(),
                cublasOperation_t::CUBLAS_OP_T,
                cublasOperation_t::CUBLAS_OP_N,
                outputs,
                rows,
                inputs,
                (&raw const one).cast(),
                pointers.2 as *const _,
                kind(weight.dtype()),
                inputs,
                pointers.1 as *const _,
                kind(input.dtype()),
                inputs,
                (&raw const beta).cast(),
                pointers.0 as *mut _,
                kind(out.dtype()),
                outputs,
                cublasComputeType_t::CUBLAS_COMPUTE_32F,
                cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .w()
    }
}
