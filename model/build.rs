//! With the feature `cuda`: compiles the kernels to PTX, and makes the CUDA libraries optional at start.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    if let Err(message) = cuda::build() {
        println!("cargo::error={}", message.replace('\n', " "));
        std::process::exit(1);
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::{env, fs};

    /// The oldest generation of cards that the kernels run on; the driver compiles their PTX for its card.
    const ARCHITECTURE: &str = "compute_80";

    pub(super) fn build() -> Result<(), String> {
        // Not PATH: it differs from shell to shell, and compiling takes a while.
        for variable in ["CUDA_HOME", "CUDA_PATH"] {
            println!("cargo:rerun-if-env-changed={variable}");
        }
        let output = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
        let toolkit = Toolkit::find()?;
        println!(
            "cargo:rustc-env=CUDA_TOOLKIT_VERSION={}",
            toolkit.version()?
        );
        toolkit.compile_kernels(Path::new("src/kernels"), &output)?;
        entry_points(&toolkit.home.join("include"), &output)
    }

    /// CUDA's compiler and headers.
    struct Toolkit {
        home: PathBuf,
    }

    impl Toolkit {
        /// Looks in `CUDA_HOME`, `CUDA_PATH` and beside the `nvcc` of `PATH`.
        fn find() -> Result<Self, String> {
            let named = ["CUDA_HOME", "CUDA_PATH"]
                .into_iter()
                .filter_map(env::var_os)
                .map(PathBuf::from);
            let path = env::var_os("PATH").unwrap_or_default();
            let on_path = env::split_paths(&path).filter_map(|folder| {
                fs::canonicalize(folder.join("nvcc"))
                    .ok()?
                    .parent()?
                    .parent()
                    .map(Path::to_owned)
            });
            named
                .chain(on_path)
                .find(|home| home.join("bin/nvcc").is_file() && home.join("include/cuda.h").is_file())
                .map(|home| Self { home })
                .ok_or_else(|| {
                    "the feature `cuda` needs CUDA's compiler (nvcc, cuda.h), which is not under CUDA_HOME, CUDA_PATH or PATH\n\
                     hint: scripts/cuda-home && source target/cuda/env gets one that needs no card"
                        .to_owned()
                })
        }

        fn nvcc(&self, arguments: &[&str], paths: &[&Path]) -> Result<String, String> {
            let nvcc = self.home.join("bin/nvcc");
            let output = Command::new(&nvcc)
                .args(arguments)
                .args(paths)
                .output()
                .map_err(|error| format!("{}: {error}", nvcc.display()))?;
            let text = [output.stdout, output.stderr]
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .concat();
            if output.status.success() {
                Ok(text)
            } else {
                Err(format!("nvcc {arguments:?} {paths:?}: {text}"))
            }
        }

        /// As drivers number versions: 13000 for 13.0. An older driver cannot load this compiler's PTX.
        fn version(&self) -> Result<u32, String> {
            let text = self.nvcc(&["--version"], &[])?;
            let release = text
                .split_once("release ")
                .and_then(|(_, rest)| rest.split_once(','))
                .map(|(release, _)| release);
            let (major, minor) = release
                .and_then(|release| release.split_once('.'))
                .ok_or("nvcc names no version")?;
            let number = |part: &str| {
                part.parse::<u32>()
                    .map_err(|error| format!("nvcc's version {part}: {error}"))
            };
            Ok(1000 * number(major)? + 10 * number(minor)?)
        }

        /// Each `NAME.cu` becomes `NAME.ptx` in the output folder.
        fn compile_kernels(&self, folder: &Path, output: &Path) -> Result<(), String> {
            println!("cargo:rerun-if-changed={}", folder.display());
            let Ok(entries) = fs::read_dir(folder) else {
                return Ok(());
            };
            let architecture = format!("-arch={ARCHITECTURE}");
            for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
                if path.extension().is_some_and(|extension| extension == "cu")
                    && let Some(name) = path.file_stem()
                {
                    let ptx = output.join(name).with_extension("ptx");
                    let options = ["-ptx", "-std=c++17", "-O3", architecture.as_str(), "-o"];
                    self.nvcc(&options, &[ptx.as_path(), path.as_path()])?;
                }
            }
            Ok(())
        }
    }

    /// A CUDA library: its header, how its functions begin, and what they return before the library is loaded.
    struct Library {
        name: &'static str,
        headers: &'static [&'static str],
        prefix: &'static str,
        not_initialised: u32,
    }

    const LIBRARIES: &[Library] = &[
        Library {
            name: "cuda",
            headers: &["cuda.h"],
            prefix: "cu",
            not_initialised: 3,
        },
        Library {
            name: "cublasLt",
            headers: &["cublasLt.h"],
            prefix: "cublasLt",
            not_initialised: 1,
        },
        Library {
            name: "cublas",
            headers: &["cublas_v2.h", "cublas_api.h"],
            prefix: "cublas",
            not_initialised: 1,
        },
        Library {
            name: "curand",
            headers: &["curand.h"],
            prefix: "curand",
            not_initialised: 101,
        },
        Library {
            name: "nvrtc",
            headers: &["nvrtc.h"],
            prefix: "nvrtc",
            not_initialised: 11,
        },
        Library {
            name: "cudart",
            headers: &["cuda_runtime_api.h"],
            prefix: "cuda",
            not_initialised: 3,
        },
        // What nvcc's host code calls. Its static constructors do so before `main`, and ignore what is returned.
        Library {
            name: "cudart",
            headers: &["crt/host_runtime.h", "crt/device_functions.h"],
            prefix: "__cuda",
            not_initialised: 3,
        },
    ];

    /// candle links the CUDA libraries by name, so a program built with it would not start without a driver.
    /// Here each of their functions is defined as a jump through a slot, which `device/library.rs` fills once it
    /// has opened the libraries. The linker finds every function, and leaves the libraries out as not needed.
    ///
    /// Writes `entries.txt`, the library and name of each slot in order, and links `llama_eval_cuda_slots`.
    fn entry_points(include: &Path, output: &Path) -> Result<(), String> {
        let architecture = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
        let (return_number, return_text, jump) = match architecture.as_str() {
            "x86_64" => (
                "mov $NUMBER, %eax\n ret",
                "lea 9f(%rip), %rax\n ret",
                "jmp *SLOT(%rip)",
            ),
            "aarch64" => (
                "mov w0, #NUMBER\n ret",
                "adrp x0, 9f\n add x0, x0, :lo12:9f\n ret",
                "adrp x16, SLOT\n ldr x16, [x16, :lo12:SLOT]\n br x16",
            ),
            other => {
                return Err(format!(
                    "the feature `cuda` is for x86_64 and aarch64, not {other}"
                ));
            }
        };
        let mut seen = BTreeSet::new();
        let (mut table, mut slots, mut code) = (String::new(), String::new(), String::new());
        let mut failures = BTreeSet::new();
        let mut index = 0;
        for library in LIBRARIES {
            for header in library.headers {
                let path = include.join(header);
                let text = fs::read_to_string(&path)
                    .map_err(|error| format!("{}: {error}", path.display()))?;
                for name in functions(&text, library.prefix) {
                    if !seen.insert(name.clone()) {
                        continue;
                    }
                    // Functions that return their text, unlike the driver's, which write it through a pointer.
                    let text = library.name != "cuda"
                        && ["ErrorString", "ErrorName", "StatusString", "StatusName"]
                            .iter()
                            .any(|end| name.ends_with(end));
                    let failure = if text {
                        "text".to_owned()
                    } else {
                        library.not_initialised.to_string()
                    };
                    let slot = format!("llama_eval_cuda_slots+{}", 8 * index);
                    index += 1;
                    let _ = writeln!(table, "{} {name}", library.name);
                    let _ = writeln!(slots, " .quad llama_eval_cuda_fail_{failure}");
                    let jump = jump.replace("SLOT", &slot);
                    let _ = writeln!(
                        code,
                        " .globl {name}\n .hidden {name}\n .type {name}, %function\n{name}:\n {jump}"
                    );
                    failures.insert(failure);
                }
            }
        }
        let mut assembly = String::from(" .text\n");
        for failure in failures {
            let body = if failure == "text" {
                return_text.to_owned()
            } else {
                return_number.replace("NUMBER", &failure)
            };
            let _ = writeln!(
                assembly,
                " .type llama_eval_cuda_fail_{failure}, %function\nllama_eval_cuda_fail_{failure}:\n {body}"
            );
        }
        let _ = write!(
            assembly,
            "{code} .section .rodata\n9: .asciz \"the library is not loaded\"\n \
             .section .data.rel.local,\"aw\"\n .balign 8\n .globl llama_eval_cuda_slots\n .hidden llama_eval_cuda_slots\n\
             llama_eval_cuda_slots:\n{slots} .section .note.GNU-stack,\"\",%progbits\n"
        );
        let write = |name: &str, text: &str| {
            fs::write(output.join(name), text).map_err(|error| format!("{name}: {error}"))
        };
        write("entries.txt", &table)?;
        write("entries.s", &assembly)?;
        cc::Build::new()
            .file(output.join("entries.s"))
            .link_lib_modifier("+whole-archive")
            .try_compile("llama_eval_cuda_entries")
            .map_err(|error| error.to_string())
    }

    /// The functions a header declares: names with `prefix` that an argument list follows, every version of them
    /// (`#define cuMemAlloc cuMemAlloc_v2`), and the variants for per-thread default streams (`_ptds`, `_ptsz`).
    fn functions(header: &str, prefix: &str) -> BTreeSet<String> {
        let text = without_comments(header);
        let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
        let mut names = BTreeSet::new();
        let mut rest = text.as_str();
        let mut before = "";
        while let Some(start) = rest.find(is_name) {
            let end = rest[start..]
                .find(|character| !is_name(character))
                .map_or(rest.len(), |length| start + length);
            let (name, after) = (&rest[start..end], rest[end..].trim_start());
            let own = name
                .strip_prefix(prefix)
                .is_some_and(|tail| tail.starts_with(|first: char| first.is_ascii_uppercase()));
            let versioned = name
                .rsplit_once("_v")
                .is_some_and(|(_, version)| version.parse::<u8>().is_ok());
            let per_thread = ["_PTDS", "_PTSZ"]
                .iter()
                .find(|suffix| before.ends_with(**suffix));
            if own && let Some(suffix) = per_thread {
                names.insert(name.to_owned() + &suffix.to_ascii_lowercase());
            }
            if own && (after.starts_with('(') || versioned || per_thread.is_some()) {
                names.insert(name.to_owned());
            }
            before = name;
            rest = &rest[end..];
        }
        names
    }

    fn without_comments(header: &str) -> String {
        let mut text = String::new();
        let mut rest = header;
        while let Some((code, comment)) = rest.split_once("/*") {
            text.push_str(code);
            text.push(' ');
            rest = comment.split_once("*/").map_or("", |(_, after)| after);
        }
        text.push_str(rest);
        text.lines()
            .map(|line| line.split("//").next().unwrap_or(line))
            .collect::<Vec<_>>()
            .join("\n")
    }
}
