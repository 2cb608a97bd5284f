//! The last steps before the interpreter runs: descriptors, limits, capabilities, Landlock, seccomp.

use std::{
    convert::Infallible,
    ffi::CString,
    fs::File,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use caps::CapSet;
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope, make_bitflags,
    path_beneath_rules,
};
use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::{
        prctl::{set_no_new_privs, set_pdeathsig},
        resource::{Resource, getrlimit, setrlimit},
        signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
    },
    unistd::{dup2_stderr, dup2_stdin, dup2_stdout, execve, getpid},
};

use super::{Isolation, Limits, message::Setup, seccomp::Filters};

const RUNNER: &str = include_str!("runner.py");

/// The newest interface of Landlock that is made use of; older kernels enforce what they know.
const NEWEST: ABI = ABI::V6;

/// Stack of the main thread: with what Linux gives by default, deep recursion ends where it does elsewhere.
const STACK_BYTES: u64 = 8 << 20;

/// The ends of pipes that the interpreter gets.
#[derive(Debug)]
pub(super) struct Ends {
    /// The program's text.
    pub(super) source: OwnedFd,
    /// Yields the token.
    pub(super) token: OwnedFd,
    /// Takes the runner's report.
    pub(super) report: OwnedFd,
    /// Takes what the program prints.
    pub(super) output: OwnedFd,
}

/// Becomes the interpreter.
///
/// # Errors
/// The step that failed; the process must end then.
pub(super) fn become_interpreter(
    setup: &Setup,
    readable: &[PathBuf],
    filters: Option<&Filters>,
    ends: &Ends,
    work: &Path,
) -> Result<Infallible, String> {
    let Setup {
        isolation,
        limits,
        interpreter,
    } = setup;
    set_pdeathsig(Signal::SIGKILL)
        .map_err(|error| format!("cannot tie the program to init: {error}"))?;
    let numbers =
        connect(ends, limits).map_err(|error| format!("cannot set descriptors up: {error}"))?;
    reset_signals().map_err(|error| format!("cannot reset signals: {error}"))?;
    limit(limits, *isolation).map_err(|error| format!("cannot set a limit: {error}"))?;
    drop_capabilities(*isolation).map_err(|error| format!("cannot drop capabilities: {error}"))?;
    set_no_new_privs().map_err(|error| format!("cannot refuse privileges: {error}"))?;
    restrict_files(*isolation, readable, work)?;

    let text = |text: &[u8]| CString::new(text).map_err(|error| error.to_string());
    let path = text(interpreter.executable.as_os_str().as_bytes())?;
    // `-I` would also ignore the hash seed: the environment is ours, so only the user's folders and `site` are left out.
    let mut arguments = vec![path.clone()];
    for argument in ["-s", "-S", "-c", RUNNER] {
        arguments.push(text(argument.as_bytes())?);
    }
    for number in numbers {
        arguments.push(text(number.to_string().as_bytes())?);
    }
    let mut environment = Vec::new();
    for (name, value) in [
        ("HOME", work.as_os_str().as_bytes()),
        ("TMPDIR", work.as_os_str().as_bytes()),
        ("LANG", b"C.UTF-8"),
        ("TZ", b"UTC"),
        ("MALLOC_ARENA_MAX", b"1"),
        ("PYTHONDONTWRITEBYTECODE", b"1"),
        ("PYTHONHASHSEED", b"0"),
        ("PYTHONSAFEPATH", b"1"),
        ("PYTHONUTF8", b"1"),
    ] {
        environment.push(text(&[name.as_bytes(), b"=", value].concat())?);
    }

    let failed = |error| format!("cannot filter system calls: {error}");
    match filters {
        Some(filters) => filters.apply().map_err(failed)?,
        None => Filters::new(*isolation, getpid().as_raw())
            .and_then(|filters| filters.apply())
            .map_err(failed)?,
    }
    execve(&path, &arguments, &environment).map_err(|error| {
        format!(
            "cannot start `{}`: {error}",
            interpreter.executable.display()
        )
    })
}

/// Puts descriptors in their places; the numbers of source, token and report differ from program to program.
fn connect(ends: &Ends, limits: &Limits) -> Result<[i32; 3], String> {
    let null = File::open("/dev/null").map_err(|error| format!("/dev/null: {error}"))?;
    let duplicate = |end: &OwnedFd| -> Result<i32, String> {
        let span = u32::try_from(limits.open_files.saturating_sub(16))
            .unwrap_or(8)
            .max(8);
        let random = getrandom::u32().map_err(|error| error.to_string())?;
        let least = 3 + (random % span) as i32;
        fcntl(end.as_fd(), FcntlArg::F_DUPFD(least)).map_err(|error| error.to_string())
    };
    let numbers = [
        duplicate(&ends.source)?,
        duplicate(&ends.token)?,
        duplicate(&ends.report)?,
    ];
    dup2_stdin(&null)
        .and_then(|()| dup2_stdout(&ends.output))
        .and_then(|()| dup2_stderr(&ends.output))
        .map_err(|error| error.to_string())?;
    Ok(numbers)
}

/// Signals that the user's shell ignores would be ignored by programs, too.
fn reset_signals() -> nix::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator() {
        if !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) {
            // SAFETY: the default action runs no code of this process.
            unsafe { sigaction(signal, &default) }?;
        }
    }
    SigSet::empty().thread_set_mask()
}

fn limit(limits: &Limits, isolation: Isolation) -> nix::Result<()> {
    let seconds = limits.cpu.as_secs().max(1);
    let mut all = vec![
        (Resource::RLIMIT_AS, limits.memory_bytes),
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_FSIZE, limits.file_bytes),
        (Resource::RLIMIT_MEMLOCK, 0),
        (Resource::RLIMIT_MSGQUEUE, 0),
        (Resource::RLIMIT_NOFILE, limits.open_files),
        (Resource::RLIMIT_STACK, STACK_BYTES),
    ];
    if isolation == Isolation::Namespaces {
        // Counted in the program's own user namespace, where init is one of them; elsewhere seccomp forbids processes.
        all.push((Resource::RLIMIT_NPROC, limits.processes + 1));
    }
    for (resource, value) in all {
        let (_, hard) = getrlimit(resource)?;
        setrlimit(resource, value.min(hard), value.min(hard))?;
    }
    // The first limit can be caught, the second one not.
    let (_, hard) = getrlimit(Resource::RLIMIT_CPU)?;
    setrlimit(
        Resource::RLIMIT_CPU,
        seconds.min(hard),
        (seconds + 1).min(hard),
    )
}

fn drop_capabilities(isolation: Isolation) -> Result<(), caps::errors::CapsError> {
    // Without them in the bounding set, not even root's programs get them back. Needs a capability itself.
    if isolation == Isolation::Namespaces
        || caps::has_cap(None, CapSet::Effective, caps::Capability::CAP_SETPCAP)?
    {
        caps::clear(None, CapSet::Bounding)?;
    }
    for set in [
        CapSet::Ambient,
        CapSet::Inheritable,
        CapSet::Effective,
        CapSet::Permitted,
    ] {
        caps::clear(None, set)?;
    }
    Ok(())
}

/// Landlock: reading where the interpreter is, writing in the work folder, no network, no signals to others.
fn restrict_files(isolation: Isolation, readable: &[PathBuf], work: &Path) -> Result<(), String> {
    let write: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
        ReadFile | ReadDir | WriteFile | Truncate | RemoveFile | RemoveDir | MakeDir | MakeReg | MakeSym | MakeFifo
            | Refer
    });
    let read = AccessFs::from_read(NEWEST);
    let restrict = || -> Result<RulesetStatus, landlock::RulesetError> {
        let rules = Ruleset::default()
            .handle_access(AccessFs::from_all(NEWEST))?
            .handle_access(AccessNet::from_all(NEWEST))?
            .scope(Scope::from_all(NEWEST))?
            .create()?;
        let rules = match isolation {
            Isolation::Namespaces => rules.add_rules(path_beneath_rules(["/"], read))?,
            Isolation::Rlimits => rules
                .add_rules(path_beneath_rules(readable, read))?
                .add_rules(path_beneath_rules(
                    ["/dev/urandom", "/dev/random"],
                    AccessFs::ReadFile,
                ))?,
        };
        let status = rules
            .add_rules(path_beneath_rules(
                ["/dev/null", "/dev/zero"],
                AccessFs::ReadFile | AccessFs::WriteFile,
            ))?
            .add_rules(path_beneath_rules([work], write))?
            .restrict_self()?;
        Ok(status.ruleset)
    };
    match restrict() {
        Ok(RulesetStatus::NotEnforced) if isolation == Isolation::Namespaces => {
            Err("the kernel has no Landlock".to_owned())
        }
        Ok(_) => Ok(()),
        Err(error) => Err(format!("cannot restrict files: {error}")),
    }
}

/// Version of Landlock's interface that the kernel has, as far as it is made use of.
pub(super) fn landlock_version() -> Option<u32> {
    let has = |abi: ABI| {
        let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        let rules = rules
            .handle_access(AccessFs::from_all(abi))
            .and_then(|rules| {
                if abi < ABI::V4 {
                    return Ok(rules);
                }
                let rules = rules.handle_access(AccessNet::from_all(abi))?;
                if abi < ABI::V6 {
                    Ok(rules)
                } else {
                    rules.scope(Scope::from_all(abi))
                }
            });
        rules.and_then(Ruleset::create).is_ok()
    };
    let known = [ABI::V1, ABI::V2, ABI::V3, ABI::V4, ABI::V5, ABI::V6];
    let newest = known.into_iter().take_while(|&abi| has(abi)).last()?;
    Some(newest as u32)
}
