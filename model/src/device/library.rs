//! Opens the CUDA libraries when a card is asked for, so that a program built with the feature `cuda` starts on
//! machines without them.
//!
//! `build.rs` defines every function of those libraries as a jump through a slot, which at first holds a function
//! that returns "not initialised". [`load`] puts the real functions in.

use std::env;
use std::ffi::{OsString, c_void};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The library and the name of each slot, one a line.
const ENTRIES: &str = include_str!(concat!(env!("OUT_DIR"), "/entries.txt"));

// SAFETY: the array that `build.rs` writes, one pointer for each line of `ENTRIES`; only this module changes it.
unsafe extern "C" {
    #[link_name = "llama_eval_cuda_slots"]
    static FIRST_SLOT: AtomicPtr<c_void>;
}

/// A library to open. `nvrtc` and `cudart` are not: nothing here compiles at run time, and candle's only use of
/// the second is for quantised products on the card.
struct Library {
    /// As `ENTRIES` calls it.
    name: &'static str,
    /// File names, the most wanted first.
    files: &'static [&'static str],
    /// Functions without which it is too old.
    needed: &'static [&'static str],
    /// Whether nothing works without it.
    required: bool,
}

/// In the order of opening: cuBLAS needs cuBLASLt, and finds it once it is open, wherever it lies.
const LIBRARIES: &[Library] = &[
    Library {
        name: "cuda",
        files: &["libcuda.so.1"],
        needed: &[
            "cuDriverGetVersion",
            "cuInit",
            "cuDevicePrimaryCtxRetain",
            "cuMemAllocAsync",
            "cuMemPoolSetAttribute",
            "cuModuleLoadData",
            "cuLaunchKernel",
        ],
        required: true,
    },
    Library {
        name: "cublasLt",
        files: &["libcublasLt.so.13", "libcublasLt.so.12"],
        needed: &[],
        required: false,
    },
    Library {
        name: "cublas",
        files: &["libcublas.so.13", "libcublas.so.12"],
        needed: &[
            "cublasCreate_v2",
            "cublasGemmEx",
            "cublasGemmStridedBatchedEx",
        ],
        required: true,
    },
    Library {
        name: "curand",
        files: &["libcurand.so.10"],
        needed: &["curandCreateGenerator"],
        required: true,
    },
];

/// Why the CUDA libraries are not to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LibraryError {
    /// The machine has no NVIDIA driver.
    #[error("no NVIDIA driver: {reason}")]
    NoDriver {
        /// What the dynamic linker said.
        reason: String,
    },
    /// The driver lacks a function.
    #[error("the NVIDIA driver has no function {function}")]
    OldDriver {
        /// The first function missing.
        function: &'static str,
    },
    /// One of CUDA's own libraries is missing, or lacks a function.
    #[error("{library}: {reason}")]
    Missing {
        /// Its file name.
        library: &'static str,
        /// What the dynamic linker said.
        reason: String,
    },
}

/// Opens the CUDA libraries, once; they stay open. Until this succeeds no function of theirs may be relied on.
///
/// # Errors
/// The first library that is missing or too old. The functions of those before it can be called.
pub(crate) fn load() -> Result<(), LibraryError> {
    static LOADED: OnceLock<Result<(), LibraryError>> = OnceLock::new();
    LOADED
        .get_or_init(|| LIBRARIES.iter().try_for_each(open))
        .clone()
}

fn open(library: &Library) -> Result<(), LibraryError> {
    let handle = match find(library.files) {
        Ok(handle) => handle,
        Err(reason) if library.name == "cuda" => return Err(LibraryError::NoDriver { reason }),
        Err(reason) if library.required => {
            let library = library.files.first().copied().unwrap_or(library.name);
            return Err(LibraryError::Missing { library, reason });
        }
        Err(_) => return Ok(()),
    };
    for (index, line) in ENTRIES.lines().enumerate() {
        if let Some(name) = line
            .strip_prefix(library.name)
            .and_then(|rest| rest.strip_prefix(' '))
            && let Some(function) = function(&handle, name)
        {
            // SAFETY: the array has as many slots as `ENTRIES` has lines.
            let slot = unsafe { &*(&raw const FIRST_SLOT).add(index) };
            slot.store(function, Ordering::Release);
        }
    }
    let missing = library
        .needed
        .iter()
        .find(|name| function(&handle, name).is_none());
    // Never closed: the slots point into it.
    std::mem::forget(handle);
    match missing {
        None => Ok(()),
        Some(function) if library.name == "cuda" => Err(LibraryError::OldDriver { function }),
        Some(function) => Err(LibraryError::Missing {
            library: library.files.first().copied().unwrap_or(library.name),
            reason: format!("it has no function {function}"),
        }),
    }
}

fn function(library: &libloading::Library, name: &str) -> Option<*mut c_void> {
    // SAFETY: the address is only stored, in the slot of the function that the library's header declares by this name.
    unsafe { library.get::<*mut c_void>(name).ok()?.try_as_raw_ptr() }
}

/// Opens the first of `files` that is there: where the dynamic linker looks, or else in [`folders`].
fn find(files: &[&str]) -> Result<libloading::Library, String> {
    let mut reason = String::new();
    for file in files {
        let elsewhere = folders()
            .into_iter()
            .map(|folder| folder.join(file))
            .filter(|path| path.is_file());
        let candidates =
            std::iter::once(OsString::from(file)).chain(elsewhere.map(PathBuf::into_os_string));
        for candidate in candidates {
            // SAFETY: NVIDIA's libraries are made to be opened at any time, from any thread.
            match unsafe { libloading::Library::new(&candidate) } {
                Ok(library) => return Ok(library),
                Err(error) if reason.is_empty() || Path::new(&candidate).is_absolute() => {
                    reason = std::error::Error::source(&error)
                        .map_or_else(|| error.to_string(), ToString::to_string);
                }
                Err(_) => {}
            }
        }
    }
    Err(reason)
}

/// Beside the program, and where CUDA is installed.
fn folders() -> Vec<PathBuf> {
    let program = env::current_exe()
        .ok()
        .and_then(|path| path.parent().map(Path::to_owned));
    let toolkits = ["CUDA_HOME", "CUDA_PATH"]
        .into_iter()
        .filter_map(env::var_os)
        .map(PathBuf::from);
    let toolkits = toolkits
        .chain([PathBuf::from("/usr/local/cuda")])
        .map(|home| home.join("lib64"));
    program.into_iter().chain(toolkits).collect()
}
