//! Checks the sandbox with programs that are known to be right.

use std::sync::Arc;

use super::{Execution, Executor, Sandbox, SandboxError};

/// Runs the reference solutions of a benchmark, each with its tests; the verdicts in their order.
///
/// # Errors
/// When the sandbox fails.
pub(crate) fn check_references(
    sandbox: &Arc<Sandbox>,
    threads: usize,
    programs: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<(String, Execution)>, SandboxError> {
    let executor = Executor::new(sandbox, threads);
    let mut names = Vec::new();
    for (name, program) in programs {
        executor.submit(names.len(), program);
        names.push(name);
    }
    let mut verdicts = executor.finish();
    verdicts.sort_by_key(|&(number, _)| number);
    let pair = |(name, (_, result)): (String, (usize, Result<Execution, SandboxError>))| {
        result.map(|execution| (name, execution))
    };
    names.into_iter().zip(verdicts).map(pair).collect()
}
