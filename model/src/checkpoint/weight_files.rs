//! The weights of a Hugging Face directory by themselves, for models that are no LLaMA.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use super::file::{File, refuse};
use super::{Located, fingerprint, safetensors};
use crate::ModelError;

/// Mapped safetensors files and the tensors in them.
pub(crate) struct WeightFiles {
    directory: PathBuf,
    files: Vec<File>,
    tensors: BTreeMap<String, Located>,
}

impl WeightFiles {
    /// Maps the weight files of `directory`, pickled ones refused.
    pub(crate) fn open(directory: &Path) -> Result<Self, ModelError> {
        let (files, tensors) = safetensors::open(directory)?;
        Ok(Self {
            directory: directory.to_owned(),
            files,
            tensors,
        })
    }

    /// Names of all tensors, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// One tensor, of exactly `shape`, converted to f32 on the CPU.
    pub(crate) fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let located = self.tensors.get(name).ok_or_else(|| {
            refuse(
                &self.directory,
                format!("tensor `{name}` is missing"),
                "check that all files of the checkpoint are there",
            )
        })?;
        let path = self
            .files
            .get(located.file)
            .map_or(self.directory.as_path(), File::path);
        located.read(name, shape, DType::F32, &Device::Cpu, &self.files, path)
    }

    /// Fingerprint of `config` and the weights, as a checkpoint's.
    pub(crate) fn sha256(&self, config: &[u8]) -> String {
        fingerprint::weights(config, self.files.iter().map(|file| &**file))
    }
}
