//! The machine's `python3`, and which folders it is made of.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::SandboxError;

const PROBE: &str = include_str!("probe.py");

/// `python3` may be a script that picks an interpreter, or a link of a virtual environment: this names the real one.
const RESOLVE: &str = "import os, sys
sys.stdout.write(os.path.realpath(getattr(sys, '_base_executable', None) or sys.executable))";

/// Oldest version that the runner works with.
const OLDEST: (u32, u32) = (3, 8);

/// A probe that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

const HINT: &str = "install Python 3.8 or newer as `python3` on the PATH";

/// A Python interpreter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Interpreter {
    /// The program itself, without links.
    pub(super) executable: PathBuf,
    /// `CPython`.
    pub(super) implementation: String,
    /// `3.11.7`.
    pub(super) version: String,
    /// Standard library and shared libraries.
    pub(super) folders: Vec<PathBuf>,
}

impl Interpreter {
    /// Asks `python3` what it is made of.
    ///
    /// # Errors
    /// When it is missing, broken or too old.
    pub(super) fn find() -> Result<Self, SandboxError> {
        let executable = ask(Path::new("python3"), &["-I", "-c", RESOLVE])?;
        let text = ask(Path::new(&executable), &["-I", "-S", "-c", PROBE])?;
        let found: Self = serde_json::from_str(&text)
            .map_err(|error| broken(format!("`{executable}` says {text:?}: {error}")))?;
        let mut numbers = found.version.split('.').map_while(|part| part.parse().ok());
        let version = (
            numbers.next().unwrap_or_default(),
            numbers.next().unwrap_or_default(),
        );
        if version < OLDEST {
            return Err(broken(format!(
                "`{executable}` is Python {}: too old",
                found.version
            )));
        }
        Ok(found)
    }
}

fn broken(problem: String) -> SandboxError {
    SandboxError::new(problem, HINT)
}

/// What an interpreter prints.
fn ask(executable: &Path, arguments: &[&str]) -> Result<String, SandboxError> {
    let name = executable.display();
    let mut child = Command::new(executable)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| broken(format!("cannot start `{name}`: {error}")))?;
    let begun = Instant::now();
    // What it prints fits into a pipe: it ends without being read.
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(5)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(broken(format!("`{name}` hangs")));
            }
            Err(error) => return Err(broken(format!("cannot wait for `{name}`: {error}"))),
        }
    };
    let text = |stream: Option<&mut dyn std::io::Read>| {
        let mut bytes = Vec::new();
        if let Some(stream) = stream {
            let _ = stream.take(1 << 16).read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).trim().to_owned()
    };
    if !status.success() {
        let said = text(child.stderr.as_mut().map(|stream| stream as _));
        let last = said.lines().last().unwrap_or_default();
        return Err(broken(format!("`{name}` does not work: {status}: {last}")));
    }
    Ok(text(child.stdout.as_mut().map(|stream| stream as _)))
}
