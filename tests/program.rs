//! Runs the program.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use llama_eval_model::{Checkpoint, Source, testing};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Map, Value};
use tempfile::TempDir;

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

/// The lines of a JSON Lines file.
pub(crate) fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The only file of a folder whose name begins so.
pub(crate) fn starting(folder: &Path, start: &str) -> PathBuf {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let found: Vec<_> = names
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(start))
        .map(|entry| entry.path())
        .collect();
    assert_eq!(found.len(), 1, "{start}: {found:?}");
    found[0].clone()
}

/// Runs `checkpoint` on these documents of the real data as lm-eval did for the gold answers, with its tokenizer; the
/// folder holds the output in `out`.
pub(crate) fn run_as_gold(
    checkpoint: &Path,
    data: &Path,
    documents: Map<String, Value>,
    arguments: &[&str],
) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let samples = write("samples.json", Value::Object(documents).to_string());
    let opened = Checkpoint::open(&Source::Path(checkpoint.to_owned())).unwrap();
    let tokenizer = write("tokenizer.json", testing::gold_tokenizer(&opened).unwrap());
    let output = folder.path().join("out");
    let ran: Said = program(folder.path())
        .args(["run", "--protocol", "lm-eval", "--log-samples"])
        .args(arguments)
        .args(["--model".as_ref(), checkpoint.as_os_str()])
        .args(["--tokenizer".as_ref(), tokenizer.as_os_str()])
        .args(["--samples".as_ref(), samples.as_os_str()])
        .args(["--data".as_ref(), data.as_os_str()])
        .args(["--output".as_ref(), output.as_os_str()])
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    folder
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
