//! From a checkpoint on disk to named tensors.
//!
//! Two formats are read: a Hugging Face directory (`config.json`, safetensors, `tokenizer.json`)
//! and a GGUF file. Both give the same view: Hugging Face names and layouts. Weights stay in the
//! mapped file until a tensor is asked for, and are converted in one pass.

mod config;
mod convert;
mod demo;
mod file;
pub(crate) mod fingerprint;
pub(crate) mod gguf;
mod gguf_llama;
mod huggingface;
mod safetensors;
mod weight_files;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor};

pub use self::config::{Config, RopeScaling};
use self::convert::{RowOrder, Storage, Stored};
use self::file::File;
pub(crate) use self::file::{exists, read_bounded, refuse};
use self::huggingface::Refusal;
pub(crate) use self::weight_files::WeightFiles;
use crate::{ModelError, Tokenizer};

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const TOKENIZER: &str = "tokenizer.json";
pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const EMBEDDING: &str = "model.embed_tokens.weight";
const OUTPUT: &str = "lm_head.weight";
pub(crate) const MAXIMUM_CONFIG: u64 = 1 << 20;
pub(crate) const MAXIMUM_TOKENIZER: u64 = 64 << 20;
const DEMO: &str = "demo";

/// First bytes of files that are often mistaken for a checkpoint.
const OTHER_FILES: [(&[u8], &str); 8] = [
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or PyTorch's pickled weights"),
    (b"\x80\x02", "pickled Python data"),
    (b"\x1f\x8b", "a gzip archive"),
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the file itself",
    ),
];

/// Where a checkpoint comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A Hugging Face directory or a GGUF file.
    Path(PathBuf),
    /// The small checkpoint that is part of the program.
    Demo,
}

/// An opened checkpoint: everything checked, no weight converted yet.
pub struct Checkpoint {
    name: String,
    source: String,
    /// What errors name: the directory, the GGUF file, or `demo`.
    path: PathBuf,
    config: Config,
    tokenizer: Tokenizer,
    /// `config.json`; empty for GGUF.
    config_text: Vec<u8>,
    files: Vec<File>,
    tensors: BTreeMap<String, Located>,
    weights_sha256: OnceLock<String>,
}

/// Where a tensor lies and how.
struct Located {
    file: usize,
    shape: Vec<usize>,
    /// Or the name of the type that cannot be read.
    storage: Result<Storage, String>,
    bytes: Range<usize>,
    order: RowOrder,
}

impl Checkpoint {
    /// Opens a checkpoint and checks it: configuration, tokenizer, and name, type and shape of
    /// every tensor. Weights are mapped, not read.
    ///
    /// # Errors
    /// [`ModelError::Checkpoint`] naming the file, and the tensor with its expected shape where
    /// one is at fault.
    pub fn open(source: &Source) -> Result<Self, ModelError> {
        let checkpoint = match source {
            Source::Demo => Self::open_demo()?,
            Source::Path(path) => {
                let metadata = std::fs::metadata(path).map_err(|error| {
                    refuse(
                        path,
                        format!("cannot be read: {error}"),
                        "give the path of a Hugging Face checkpoint directory or of a GGUF file",
                    )
                })?;
                if metadata.is_dir() {
                    Self::open_directory(path)?
                } else {
                    Self::open_gguf(path)?
                }
            }
        };
        checkpoint.check_tensors()?;
        Ok(checkpoint)
    }

    /// Replaces the checkpoint's own tokenizer by a `tokenizer.json`; BOS and EOS stay the
    /// checkpoint's.
    ///
    /// # Errors
    /// [`ModelError::Checkpoint`] when the file is no tokenizer.
    pub fn with_tokenizer(mut self, path: &Path) -> Result<Self, ModelError> {
        if !exists(path) {
            return Err(refuse(
                path,
                "does not exist",
                "give `--tokenizer` the path of a `tokenizer.json`",
            ));
        }
        let json = read_bounded(path, MAXIMUM_TOKENIZER)?;
        self.tokenizer = Tokenizer::from_json(&json, None, &self.config)
            .map_err(|problem| refuse(path, problem, "check that it belongs to this checkpoint"))?;
        Ok(self)
    }

    fn open_directory(directory: &Path) -> Result<Self, ModelError> {
        let path = directory.join(CONFIG);
        if !exists(&path) {
            return Err(no_config(directory));
        }
        let config_text = read_bounded(&path, MAXIMUM_CONFIG)?;
        let config =
            huggingface::config(&config_text).map_err(|refusal| refused(&path, refusal))?;
        let (files, tensors) = safetensors::open(directory)?;

        let path = directory.join(TOKENIZER);
        if !exists(&path) {
            return Err(refuse(
                directory,
                format!("has no `{TOKENIZER}`"),
                "transformers' `AutoTokenizer.from_pretrained(...).save_pretrained(...)` writes it \
                 from a `tokenizer.model`",
            ));
        }
        let json = read_bounded(&path, MAXIMUM_TOKENIZER)?;
        let beside = directory.join(TOKENIZER_CONFIG);
        let beside = if exists(&beside) {
            Some(read_bounded(&beside, MAXIMUM_CONFIG)?)
        } else {
            None
        };
        let tokenizer =
            Tokenizer::from_json(&json, beside.as_deref(), &config).map_err(|problem| {
                refuse(&path, problem, "check that it belongs to this checkpoint")
            })?;
        Ok(Self {
            name: name_of(directory),
            source: directory.display().to_string(),
            path: directory.to_owned(),
            config,
            tokenizer,
            config_text,
            files,
            tensors,
            weights_sha256: OnceLock::new(),
        })
    }

    fn open_demo() -> Result<Self, ModelError> {
        let path = PathBuf::from(DEMO);
        let config =
            huggingface::config(demo::CONFIG).map_err(|refusal| refused(&path, refusal))?;
        let (files, tensors) = safetensors::list(vec![File::embedded(DEMO, demo::WEIGHTS)])?;
        let tokenizer = Tokenizer::from_json(demo::TOKENIZER, None, &config)
            .map_err(|problem| refuse(&path, problem, "build the program again"))?;
        Ok(Self {
            name: DEMO.to_owned(),
            source: DEMO.to_owned(),
            path,
            config,
            tokenizer,
            config_text: demo::CONFIG.to_vec(),
            files,
            tensors,
            weights_sha256: OnceLock::new(),
        })
    }

    fn open_gguf(path: &Path) -> Result<Self, ModelError> {
        let file = File::map(path)?;
        if !file.starts_with(gguf::MAGIC) {
            return Err(not_a_checkpoint(path, &file));
        }
        let whole = "check that the file came over whole";
        let header = gguf::Header::read(&file).map_err(|problem| refuse(path, problem, whole))?;
        let metadata = gguf::Metadata {
            header: &header,
            file: &file,
        };
        let config = gguf_llama::config(metadata).map_err(|refusal| refused(path, refusal))?;
        let tokenizer = Tokenizer::from_gguf(metadata, &config).map_err(|problem| {
            refuse(
                path,
                problem,
                "use a GGUF file with its own `gpt2` or `llama` tokenizer",
            )
        })?;

        let mut tensors = BTreeMap::new();
        let mut wanted: Vec<String> = config.tensors().into_iter().map(|(name, _)| name).collect();
        wanted.sort_unstable();
        let mut known = std::collections::BTreeSet::from([gguf_llama::ROPE_FACTORS.to_owned()]);
        for name in wanted {
            let Some(gguf_name) = gguf_llama::gguf_name(&name) else {
                continue;
            };
            if let Some(entry) = header.tensors.get(&gguf_name) {
                let located = Located {
                    file: 0,
                    shape: entry.shape.clone(),
                    storage: Ok(entry.storage),
                    bytes: entry.bytes.clone(),
                    order: gguf_llama::row_order(&name, &config),
                };
                tensors.insert(name, located);
            }
            known.insert(gguf_name);
        }
        if let Some(other) = header.tensors.keys().find(|name| !known.contains(*name)) {
            return Err(unexpected(path, other));
        }
        Ok(Self {
            name: name_of(path),
            source: path.display().to_string(),
            path: path.to_owned(),
            config,
            tokenizer,
            config_text: Vec::new(),
            files: vec![file],
            tensors,
            weights_sha256: OnceLock::new(),
        })
    }

    /// Are all tensors there, in a type that can be read, with the shapes the configuration asks?
    fn check_tensors(&self) -> Result<(), ModelError> {
        let wanted = self.config.tensors();
        for (name, shape) in &wanted {
            let located = self.located(name)?;
            if &located.shape != shape {
                return Err(refuse(
                    self.path_of(located),
                    format!("tensor `{name}` is {:?}, expected {shape:?}", located.shape),
                    "check that configuration and weights belong to the same checkpoint",
                ));
            }
            if let Err(kind) = &located.storage {
                return Err(refuse(
                    self.path_of(located),
                    format!("tensor `{name}` is of type {kind}, expected F32, F16 or BF16"),
                    "use the checkpoint in one of these types",
                ));
            }
        }
        let wanted: std::collections::BTreeSet<&str> =
            wanted.iter().map(|(name, _)| name.as_str()).collect();
        for (name, located) in &self.tensors {
            // Old conversions store the rotary frequencies; tied ones may repeat the embedding.
            let redundant = name.ends_with("rotary_emb.inv_freq")
                || (name == OUTPUT && self.config.tied_embeddings);
            if !redundant && !wanted.contains(name.as_str()) {
                return Err(unexpected(self.path_of(located), name));
            }
        }
        Ok(())
    }

    fn located(&self, name: &str) -> Result<&Located, ModelError> {
        let stored = if name == OUTPUT && self.config.tied_embeddings {
            EMBEDDING
        } else {
            name
        };
        self.tensors.get(stored).ok_or_else(|| {
            let hint = if name == OUTPUT {
                "a model without its own output matrix has `tie_word_embeddings` true in its configuration"
            } else {
                "check that all files of the checkpoint are there"
            };
            refuse(&self.path, format!("tensor `{name}` is missing"), hint)
        })
    }

    fn path_of(&self, located: &Located) -> &Path {
        self.files.get(located.file).map_or(&self.path, File::path)
    }

    /// Short name: the file's or directory's own, or `demo`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it was opened from, as given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Hyper-parameters.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The checkpoint's own tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Name of the model kind.
    pub fn architecture(&self) -> &'static str {
        huggingface::ARCHITECTURE
    }

    /// Fingerprint of configuration and weights, in hexadecimal: SHA-256 over the SHA-256s of
    /// pieces of 16 MiB. The first call reads all weights, on all cores; later ones are free.
    pub fn weights_sha256(&self) -> &str {
        self.weights_sha256.get_or_init(|| {
            fingerprint::weights(&self.config_text, self.files.iter().map(|file| &**file))
        })
    }

    /// SHA-256 over the tokenizer, in hexadecimal.
    pub fn tokenizer_sha256(&self) -> &str {
        self.tokenizer.sha256()
    }

    /// One tensor in Hugging Face's naming and layout, `model.layers.3.self_attn.q_proj.weight`
    /// say, `[heads * head_size, hidden]`, converted or dequantised to `dtype` (f32, f16 or bf16)
    /// on `device`. Of a tied model, `lm_head.weight` is the embedding once more.
    ///
    /// # Errors
    /// When there is no such tensor, when its shape is not `shape`, or when the device fails.
    pub fn tensor(
        &self,
        name: &str,
        shape: &[usize],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor, ModelError> {
        let located = self.located(name)?;
        located.read(
            name,
            shape,
            dtype,
            device,
            &self.files,
            self.path_of(located),
        )
    }
}

impl Located {
    /// The tensor, out of `files`; `path` is the file it lies in.
    fn read(
        &self,
        name: &str,
        shape: &[usize],
        dtype: DType,
        device: &Device,
        files: &[File],
        path: &Path,
    ) -> Result<Tensor, ModelError> {
        if self.shape != shape {
            return Err(refuse(
                path,
                format!("tensor `{name}` is {:?}, expected {shape:?}", self.shape),
                "check that configuration and weights belong to the same checkpoint",
            ));
        }
        let storage = self.storage.as_ref().map_err(|kind| {
            refuse(
                path,
                format!("tensor `{name}` is of type {kind}"),
                "use it in f32, f16 or bf16",
            )
        })?;
        let bytes = files
            .get(self.file)
            .and_then(|file| file.get(self.bytes.clone()))
            .ok_or_else(|| {
                refuse(
                    path,
                    format!("tensor `{name}` is cut off"),
                    "check that the file came over whole",
                )
            })?;
        let (columns, rows) = match shape.split_last() {
            Some((columns, outer)) => (*columns, outer.iter().product()),
            None => (1, 1),
        };
        Stored {
            storage: *storage,
            bytes,
            rows,
            columns,
            order: self.order,
        }
        .tensor(shape, dtype, device)
        .map_err(|error| ModelError::Device(format!("tensor `{name}`: {error}")))
    }
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Checkpoint")
            .field("name", &self.name)
            .field("config", &self.config)
            .field("tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}

fn refused(path: &Path, refusal: Refusal) -> ModelError {
    refuse(path, refusal.problem, refusal.hint)
}

fn unexpected(path: &Path, tensor: &str) -> ModelError {
    refuse(
        path,
        format!("tensor `{tensor}` is none of a LLaMA's"),
        "only LLaMA 1, 2 and 3 shaped models can be read",
    )
}

fn no_config(directory: &Path) -> ModelError {
    let gguf = std::fs::read_dir(directory).ok().and_then(|entries| {
        let mut names: Vec<_> = entries
            .take(10_000)
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.to_ascii_lowercase().ends_with(".gguf"))
            .collect();
        names.sort_unstable();
        names.into_iter().next()
    });
    let hint = match gguf {
        Some(name) => format!(
            "there is a GGUF file in it: give `{}`",
            directory.join(name).display()
        ),
        None if exists(&directory.join("params.json")) => {
            "these look like Meta's original files: convert them with transformers' \
             `convert_llama_weights_to_hf.py`"
                .to_owned()
        }
        None => "give a Hugging Face checkpoint directory, or a GGUF file".to_owned(),
    };
    refuse(directory, format!("has no `{CONFIG}`"), hint)
}

fn not_a_checkpoint(path: &Path, file: &[u8]) -> ModelError {
    if let Some((_, what)) = OTHER_FILES
        .iter()
        .find(|(magic, _)| file.starts_with(magic))
    {
        return refuse(
            path,
            format!("is {what}, not a GGUF file"),
            "give a Hugging Face checkpoint directory with safetensors, or a GGUF file",
        );
    }
    let hint = if path
        .extension()
        .is_some_and(|extension| extension == "safetensors")
    {
        "give the directory that holds it, with `config.json` and `tokenizer.json`"
    } else {
        "give a Hugging Face checkpoint directory, or a GGUF file"
    };
    refuse(path, "is not a GGUF file", hint)
}

/// The last part of a path, with `.` and links resolved where there is no name.
pub(crate) fn name_of(path: &Path) -> String {
    let named = path
        .file_name()
        .map(std::ffi::OsStr::to_os_string)
        .or_else(|| {
            path.canonicalize()
                .ok()?
                .file_name()
                .map(std::ffi::OsStr::to_os_string)
        });
    named.map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}
