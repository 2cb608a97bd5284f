//! The weights of a Hugging Face directory: one safetensors file, or shards with an index.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde_json::Value;

use super::convert::{RowOrder, Storage};
use super::file::{File, exists, read_bounded, refuse};
use super::{Located, ModelError};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const MAXIMUM_INDEX: u64 = 32 << 20;
const MAXIMUM_SHARDS: usize = 4096;
const WHOLE: &str = "check that the file came over whole";
const CONVERT: &str = "convert the checkpoint to safetensors: load it with transformers' \
     `from_pretrained(...)` and write it with `save_pretrained(...)`";

/// Maps the weight files of `directory` and lists the tensors in them.
pub(super) fn open(directory: &Path) -> Result<(Vec<File>, BTreeMap<String, Located>), ModelError> {
    let index = directory.join(INDEX);
    if exists(&index) {
        let shards = shards(&index)?;
        return list(
            shards
                .iter()
                .map(|name| File::map(&directory.join(name)))
                .collect::<Result<_, _>>()?,
        );
    }
    let single = directory.join(SINGLE);
    if exists(&single) {
        return list(vec![File::map(&single)?]);
    }
    let has = |name: &str| exists(&directory.join(name));
    Err(
        if [
            "pytorch_model.bin",
            "pytorch_model.bin.index.json",
            "consolidated.00.pth",
        ]
        .into_iter()
        .any(has)
        {
            refuse(
                directory,
                "holds pickled PyTorch weights, which can run code when read",
                CONVERT,
            )
        } else {
            refuse(
                directory,
                format!("has neither `{SINGLE}` nor `{INDEX}`"),
                "give a Hugging Face checkpoint directory, or a GGUF file",
            )
        },
    )
}

/// The tensors in already opened files.
pub(super) fn list(files: Vec<File>) -> Result<(Vec<File>, BTreeMap<String, Located>), ModelError> {
    let mut tensors = BTreeMap::new();
    for (index, file) in files.iter().enumerate() {
        let (header, metadata) = SafeTensors::read_metadata(file)
            .map_err(|error| refuse(file.path(), explain(&error), WHOLE))?;
        let data = header + size_of::<u64>();
        for name in metadata.offset_keys() {
            let Some(info) = metadata.info(&name) else {
                continue;
            };
            let storage = match info.dtype {
                Dtype::F32 => Some(Storage::F32),
                Dtype::F16 => Some(Storage::F16),
                Dtype::BF16 => Some(Storage::BF16),
                _ => None,
            };
            let located = Located {
                file: index,
                shape: info.shape.clone(),
                storage: storage.ok_or(format!("{:?}", info.dtype)),
                bytes: info.data_offsets.0 + data..info.data_offsets.1 + data,
                order: RowOrder::Stored,
            };
            if tensors.insert(name.clone(), located).is_some() {
                return Err(refuse(
                    file.path(),
                    format!("tensor `{name}` is also in another shard"),
                    "keep only the files of one checkpoint in the directory",
                ));
            }
        }
    }
    Ok((files, tensors))
}

/// File names in the index, each once, in order. Only plain names: an index must not reach out of
/// its directory.
fn shards(index: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let text = read_bounded(index, MAXIMUM_INDEX)?;
    let value: Value = serde_json::from_slice(&text)
        .map_err(|error| refuse(index, format!("is not valid JSON: {error}"), WHOLE))?;
    let map = value
        .get("weight_map")
        .and_then(Value::as_object)
        .ok_or_else(|| refuse(index, "has no object `weight_map`", WHOLE))?;
    let mut names = BTreeSet::new();
    for (tensor, name) in map {
        let name = name
            .as_str()
            .ok_or_else(|| refuse(index, format!("tensor `{tensor}` has no file name"), WHOLE))?;
        let mut components = Path::new(name).components();
        let plain = matches!(
            (components.next(), components.next()),
            (Some(Component::Normal(only)), None) if only == name
        );
        if !plain || !name.ends_with(".safetensors") || name.contains('\\') {
            return Err(refuse(
                index,
                format!(
                    "tensor `{tensor}` lies in `{name}`, expected a `.safetensors` file beside the index"
                ),
                "use the index that came with the checkpoint",
            ));
        }
        names.insert(PathBuf::from(name));
    }
    if names.is_empty() || names.len() > MAXIMUM_SHARDS {
        return Err(refuse(
            index,
            format!(
                "names {} files, expected 1 to {MAXIMUM_SHARDS}",
                names.len()
            ),
            WHOLE,
        ));
    }
    Ok(names.into_iter().collect())
}

fn explain(error: &SafeTensorError) -> String {
    match error {
        SafeTensorError::MetadataIncompleteBuffer => {
            "its length is not what its header says: the file is cut off, or has bytes too many"
                .to_owned()
        }
        SafeTensorError::InvalidOffset(name) => {
            format!("tensor `{name}` overlaps another or leaves a gap")
        }
        other => format!("is not a safetensors file: {other}"),
    }
}
