//! Runs the program.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use rusqlite::{Connection, OpenFlags};

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code(),
        }
    }
}

/// The program, in a world that holds nothing of the user's.
pub(crate) fn program(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llama-eval"));
    command
        .current_dir(directory)
        .env_remove("LLAMA_EVAL_DATA")
        .env("NO_COLOR", "1");
    command
}

/// Runs `llama-eval` with space-separated arguments.
pub(crate) fn run(directory: &Path, arguments: &str) -> Said {
    program(directory)
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
        .into()
}

/// As [`run`], and it must succeed.
pub(crate) fn succeed(directory: &Path, arguments: &str) -> Said {
    let said = run(directory, arguments);
    assert_eq!(said.code, Some(0), "{arguments}: {said:#?}");
    said
}

/// Number of answers in the store of an output directory, and how many were ever written into it.
pub(crate) fn answers(output: &Path) -> (i64, i64) {
    let count = |connection: &Connection| -> rusqlite::Result<(i64, i64)> {
        let stored = "SELECT (SELECT count(*) FROM answers) + (SELECT count(*) FROM completions)";
        let stored = connection.query_row(stored, [], |row| row.get(0))?;
        let written = "SELECT coalesce(sum(answers), 0) FROM sessions";
        Ok((stored, connection.query_row(written, [], |row| row.get(0))?))
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = Connection::open_with_flags(output.join("run.sqlite"), flags);
    connection
        .and_then(|connection| count(&connection))
        .unwrap_or_default()
}

/// The sample files of an output directory without the time in their names, sorted.
pub(crate) fn samples(output: &Path) -> Vec<(String, String)> {
    let mut samples = Vec::new();
    for entry in fs::read_dir(output).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("samples_") {
            let (task, _) = name.rsplit_once('_').unwrap();
            samples.push((task.to_owned(), fs::read_to_string(&path).unwrap()));
        }
    }
    samples.sort();
    samples
}

/// Something of the shared folder beside the project; where it is missing, says so.
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    available(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")).join(name))
}

/// The real checkpoint; `scripts/fetch-test-checkpoint` fetches it.
pub(crate) fn real_checkpoint() -> Option<PathBuf> {
    let fetched = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../target/checkpoints/SmolLM2-135M-Instruct.Q4_1.gguf"
    );
    available(
        std::env::var_os("LLAMA_EVAL_CHECKPOINT").map_or_else(|| fetched.into(), PathBuf::from),
    )
}

/// Whether this kernel can isolate programs; elsewhere tests that need it say that they were skipped.
pub(crate) fn can_isolate() -> bool {
    let directory = tempfile::tempdir().unwrap();
    let mut command = program(directory.path());
    let said: Said = command
        .arg("sandbox-run")
        .stdin(Stdio::null())
        .output()
        .unwrap()
        .into();
    if said.code == Some(0) {
        return true;
    }
    let required = std::env::var("LLAMA_EVAL_REQUIRE_GOLD").is_ok_and(|value| value == "1");
    assert!(!required, "{}", said.stderr);
    println!("skipped: {}", said.stderr);
    false
}

fn available(path: PathBuf) -> Option<PathBuf> {
    if path.exists() {
        return Some(path.canonicalize().unwrap());
    }
    let required = std::env::var("LLAMA_EVAL_REQUIRE_GOLD").is_ok_and(|value| value == "1");
    assert!(!required, "{} not found", path.display());
    println!("skipped: {} not found", path.display());
    None
}
