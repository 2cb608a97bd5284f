//! Files of a checkpoint: mapped or embedded, always bounded.

use std::io::Read;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::ModelError;

/// A file's bytes, never copied as a whole.
pub(super) struct File {
    path: PathBuf,
    bytes: Bytes,
}

enum Bytes {
    Mapped(Mmap),
    Embedded(&'static [u8]),
}

impl File {
    /// Maps a regular, non-empty file.
    pub(super) fn map(path: &Path) -> Result<Self, ModelError> {
        let file = open_regular(path)?;
        // SAFETY: the mapping is read-only. As with every memory-mapped checkpoint, the file must
        // not be cut short by others while it is in use; the system would then end the process.
        let mapping = unsafe { Mmap::map(&file) }.map_err(|error| unreadable(path, &error))?;
        // Loading and fingerprinting both go from front to back; a refused hint changes nothing.
        #[cfg(unix)]
        let _ = mapping.advise(memmap2::Advice::Sequential);
        Ok(Self {
            path: path.to_owned(),
            bytes: Bytes::Mapped(mapping),
        })
    }

    /// Bytes that are part of the program.
    pub(super) fn embedded(name: &str, bytes: &'static [u8]) -> Self {
        Self {
            path: PathBuf::from(name),
            bytes: Bytes::Embedded(bytes),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Deref for File {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(mapping) => mapping,
            Bytes::Embedded(bytes) => bytes,
        }
    }
}

/// Reads a small file whole, refusing one of more than `limit` bytes.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, ModelError> {
    let file = open_regular(path)?;
    let mut bytes = Vec::new();
    // One byte more than allowed shows that there is more, even where the length lies.
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > limit {
        return Err(refuse(
            path,
            format!("is longer than {limit} bytes"),
            "check that this is the file that came with the checkpoint",
        ));
    }
    Ok(bytes)
}

/// Is there something at `path`, broken links included? What it is shows when it is opened.
pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn open_regular(path: &Path) -> Result<std::fs::File, ModelError> {
    // Asked before opening: to open a named pipe would wait for ever.
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if !metadata.is_file() {
        return Err(refuse(
            path,
            "is not a regular file",
            "give a Hugging Face checkpoint directory, or a GGUF file",
        ));
    }
    if metadata.len() == 0 {
        return Err(refuse(
            path,
            "is empty",
            "check that the file came over whole",
        ));
    }
    std::fs::File::open(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> ModelError {
    refuse(
        path,
        format!("cannot be read: {error}"),
        "check the path and its permissions",
    )
}

/// The error every part of loading gives.
pub(crate) fn refuse(
    path: &Path,
    problem: impl Into<String>,
    hint: impl Into<String>,
) -> ModelError {
    ModelError::Checkpoint {
        path: path.to_owned(),
        problem: problem.into(),
        hint: hint.into(),
    }
}
