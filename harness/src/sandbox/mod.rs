//! Runs model-written Python where it can do no harm.
//!
//! Three kinds of process take part. The harness keeps *wardens*: its own program, started again, single-threaded,
//! which builds a small read-only root once. For every program the warden clones an *init* into fresh namespaces, and
//! init forks the confined *interpreter*. When init ends, or is killed, the kernel ends everything in its namespace.
//!
//! A program passed when the runner (`runner.py`) reached the line after the program's last statement: only then it
//! reads a random token from one pipe and writes it to another. Exit codes and output prove nothing. As with every
//! test that runs in the process it judges, a program that studies this protocol can still imitate it.

mod command;
mod confine;
mod executor;
mod interpreter;
mod message;
mod references;
mod root;
mod seccomp;
mod verdict;
mod warden;
mod watch;

use std::{
    env, fmt,
    process::ExitCode,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub(crate) use self::{executor::Executor, references::check_references};
use self::{interpreter::Interpreter, message::Setup, warden::Warden};

/// Checks from inside that the walls stand; run once before any program.
const SELF_TEST: &str = include_str!("self_test.py");

/// How programs are kept from the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Isolation {
    /// Own namespaces, read-only root, Landlock, seccomp and resource limits
    #[default]
    Namespaces,
    /// Resource limits and seccomp, Landlock where the kernel has it; the machine's files may be readable
    Rlimits,
}

/// What a program may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// Time from the program's first statement to its last.
    pub(crate) wall: Duration,
    /// Processor time of each process, in whole seconds.
    pub(crate) cpu: Duration,
    /// Address space of each process, and resident memory of all together.
    pub(crate) memory_bytes: u64,
    /// Processes and threads at a time.
    pub(crate) processes: u64,
    /// Open files of each process.
    pub(crate) open_files: u64,
    /// Size of each file, and under [`Isolation::Namespaces`] of all together.
    pub(crate) file_bytes: u64,
    /// What it may print.
    pub(crate) output_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(3),
            cpu: Duration::from_secs(4),
            memory_bytes: 1 << 30,
            processes: 16,
            open_files: 64,
            file_bytes: 16 << 20,
            output_bytes: 1 << 20,
        }
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} s wall time, {} s processor time, {} memory, {} processes, {} open files, {} of files, {} of output",
            self.wall.as_secs_f64(),
            self.cpu.as_secs(),
            mebibytes(self.memory_bytes),
            self.processes,
            self.open_files,
            mebibytes(self.file_bytes),
            mebibytes(self.output_bytes),
        )
    }
}

/// `16 MiB`.
fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The sandbox itself failed; says nothing about a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{problem}\nhint: {hint}")]
pub(crate) struct SandboxError {
    /// What went wrong.
    pub(crate) problem: String,
    /// What to do about it.
    pub(crate) hint: String,
}

impl SandboxError {
    fn new(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            hint: hint.into(),
        }
    }

    /// A step that works everywhere did not work here.
    fn unforeseen(step: &str, error: impl fmt::Display) -> Self {
        Self::new(
            format!("sandbox: {step}: {error}"),
            "`llama-eval doctor` says what this machine has to offer",
        )
    }
}

/// What became of a program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Execution {
    /// Whether it ran to its end without an exception.
    pub(crate) passed: bool,
    /// `passed`, or why not: the exception, the limit, the signal.
    pub(crate) reason: String,
    /// Wall time from its first statement.
    pub(crate) seconds: f64,
}

/// A place to run programs in; threads share it.
#[derive(Debug)]
pub(crate) struct Sandbox {
    setup: Setup,
    identity: String,
    walls: String,
    idle: Mutex<Vec<Warden>>,
}

impl Sandbox {
    /// Finds the interpreter, builds the walls and tests them.
    ///
    /// # Errors
    /// When `python3` is missing or unusable, or the kernel cannot isolate; names what is missing.
    pub(crate) fn new(isolation: Isolation, limits: Limits) -> Result<Self, SandboxError> {
        let setup = Setup {
            isolation,
            limits,
            interpreter: Interpreter::find()?,
        };
        let mut warden = Warden::start(&setup)?;
        if isolation == Isolation::Namespaces {
            let test = warden.run(SELF_TEST)?;
            if !test.passed {
                let problem = format!("the sandbox leaks: its self-test says {}", test.reason);
                return Err(SandboxError::new(problem, root::HINT));
            }
        }
        let landlock = match (isolation, warden.landlock()) {
            (Isolation::Namespaces, _) => "namespaces, Landlock",
            (Isolation::Rlimits, Some(_)) => "no namespaces, Landlock",
            (Isolation::Rlimits, None) => "no namespaces, no Landlock",
        };
        let walls = format!("{landlock}, seccomp");
        let Setup {
            interpreter,
            limits,
            ..
        } = &setup;
        let identity = format!(
            "{} {}, standard library only; {walls}; {limits}",
            interpreter.implementation, interpreter.version
        );
        Ok(Self {
            setup,
            identity,
            walls,
            idle: Mutex::new(vec![warden]),
        })
    }

    /// All that verdicts depend on besides the program: interpreter, walls, limits.
    pub(crate) fn identity(&self) -> String {
        self.identity.clone()
    }

    /// The interpreter with its path, and what keeps programs in, for people.
    pub(crate) fn describe(&self) -> (String, String) {
        let Interpreter {
            executable,
            implementation,
            version,
            ..
        } = &self.setup.interpreter;
        let interpreter = format!("{implementation} {version}, {}", executable.display());
        (interpreter, self.walls.clone())
    }

    /// Runs a program to its end or its limit.
    ///
    /// # Errors
    /// When the sandbox fails, never for what the program did: the program then has no verdict.
    pub(crate) fn run(&self, program: &str) -> Result<Execution, SandboxError> {
        let idle = self.idle().pop();
        let mut warden = match idle {
            Some(warden) => warden,
            None => Warden::start(&self.setup)?,
        };
        let execution = warden.run(program)?;
        self.idle().push(warden);
        Ok(execution)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Warden>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes over when this process was started to be a warden, or to run programs for a test.
pub(crate) fn intercept() -> Option<ExitCode> {
    let mut arguments = env::args();
    match arguments.nth(1)?.as_str() {
        message::WARDEN => Some(warden::serve()),
        command::NAME => Some(command::run(arguments)),
        _ => None,
    }
}
