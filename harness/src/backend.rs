//! Where the program meets the crates that load models, read data and write reports.

use std::path::{Path, PathBuf};

use llama_eval_model::{
    self as model, DeviceChoice, LanguageModel, LoadOptions, Local, ModelError, Source,
    bench::{Bench, Subject},
};
use llama_eval_reports::{self as reports, ReportError, Run, Written};
use llama_eval_tasks::{DataDir, DataError};

use crate::{
    cli::ComputingArguments,
    settings::{BosPolicy, Device, Dtype, Settings, bytes},
};

/// The model the settings name.
///
/// # Errors
/// When it cannot be used.
pub(crate) fn open_model(settings: &Settings) -> Result<Box<dyn LanguageModel>, ModelError> {
    let source = settings.model.clone().map_or(Source::Demo, Source::Path);
    let options = LoadOptions {
        dtype: settings.dtype.into(),
        device: settings.device.into(),
        bos: match settings.bos {
            BosPolicy::Auto => model::BosPolicy::Auto,
            BosPolicy::Always => model::BosPolicy::Always,
            BosPolicy::Never => model::BosPolicy::Never,
        },
        tokenizer: settings.tokenizer.clone(),
        context_length: settings.max_length,
        batch_rows: settings.batch_rows,
        memory_bytes: settings.memory_bytes,
    };
    Ok(Box::new(Local::open(&source, &options)?))
}

/// A model to be measured.
///
/// # Errors
/// When it cannot be used.
pub(crate) fn open_bench(
    subject: &Subject,
    computing: &ComputingArguments,
) -> Result<Bench, ModelError> {
    let options = LoadOptions {
        dtype: computing.dtype.into(),
        device: computing.device.into(),
        batch_rows: computing.batch_rows,
        memory_bytes: computing.memory.map(bytes),
        ..LoadOptions::default()
    };
    Bench::open(subject, &options)
}

impl From<Dtype> for model::Dtype {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Auto => Self::Auto,
            Dtype::F32 => Self::F32,
            Dtype::Bf16 => Self::Bf16,
            Dtype::F16 => Self::F16,
        }
    }
}

impl From<Device> for DeviceChoice {
    fn from(device: Device) -> Self {
        match device {
            Device::Auto => Self::Auto,
            Device::Cpu => Self::Cpu,
            Device::Cuda(number) => Self::Cuda(number),
        }
    }
}

/// The folder of data, or the bundled samples.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn open_data(folder: Option<&Path>) -> Result<DataDir, DataError> {
    match folder {
        Some(folder) => DataDir::open(folder),
        None => Ok(DataDir::bundled()),
    }
}

/// The tables people read first, `width` columns wide where that is possible.
///
/// # Errors
/// When the scores cannot be aggregated.
pub(crate) fn tables(run: &Run, width: usize) -> Result<String, ReportError> {
    Ok(reports::terminal(&reports::tables(run)?, width))
}

/// Writes every file of a report; gives the paths people look for.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write_files(
    run: &Run,
    directory: &Path,
    log_samples: bool,
) -> Result<Vec<PathBuf>, ReportError> {
    let Written {
        tables,
        csv,
        results,
        samples,
    } = reports::write_files(run, directory, log_samples)?;
    Ok([tables, csv, results].into_iter().chain(samples).collect())
}
