//! A hidden command that runs programs from stdin, for tests and for a look at one program.
//!
//! Each line of stdin is a program as a JSON string; each line of stdout is what became of it, in the same order.

use std::{
    io::{self, BufRead as _, Write as _},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use super::{Isolation, Limits, Sandbox, check_references};

/// The argument that asks for it.
pub(super) const NAME: &str = "sandbox-run";

/// `sandbox-run [--rlimits] [--threads N] [--wall SECONDS] [--identity]`.
pub(super) fn run(arguments: impl Iterator<Item = String>) -> ExitCode {
    match obey(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::messages::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn obey(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let mut isolation = Isolation::Namespaces;
    let mut limits = Limits::default();
    let mut threads = 1;
    let mut identity = false;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default();
        match argument.as_str() {
            "--rlimits" => isolation = Isolation::Rlimits,
            "--identity" => identity = true,
            "--threads" => threads = value().parse()?,
            "--wall" => limits.wall = Duration::try_from_secs_f64(value().parse()?)?,
            unknown => anyhow::bail!("unknown argument `{unknown}`"),
        }
    }
    let sandbox = Arc::new(Sandbox::new(isolation, limits)?);
    let mut out = io::stdout().lock();
    if identity {
        writeln!(out, "{}", sandbox.identity())?;
    }
    let mut programs = Vec::new();
    for line in io::stdin().lock().lines() {
        programs.push((String::new(), serde_json::from_str(&line?)?));
    }
    for (_, execution) in check_references(&sandbox, threads, programs)? {
        writeln!(out, "{}", serde_json::to_string(&execution)?)?;
    }
    Ok(())
}
