//! The process that runs programs one after the other, and the harness's end of it.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    os::{
        fd::{AsFd, AsRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl, openat},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, clone},
    sys::{
        memfd::{MFdFlags, memfd_create},
        prctl::set_pdeathsig,
        signal::{Signal, kill, killpg},
        stat::Mode,
        wait::{WaitStatus, wait, waitpid},
    },
    unistd::{
        ForkResult, Gid, Pid, Uid, chdir, close, fork, pipe2, read, setgroups, sethostname,
        setresgid, setresuid, setsid, write,
    },
};

use super::{
    Execution, Isolation, SandboxError,
    confine::{self, Ends, become_interpreter},
    message::{Answer, Setup, WARDEN, receive, send},
    root::{self, Outside},
    seccomp::Filters,
    verdict::{Ending, Stop, judge},
    watch::resident_bytes,
};

/// How long an interpreter may take to get ready; longer, and the machine is at fault.
const START: Duration = Duration::from_secs(30);

/// How often memory is looked at.
const TICK: Duration = Duration::from_millis(50);

/// How much of a report or a message from init is kept.
const REPORT_BYTES: usize = 4096;

/// User and group of programs, as they see themselves.
const INSIDE: u32 = 1000;

/// Stack of init.
const STACK_BYTES: usize = 1 << 20;

/// A warden, seen from the harness.
#[derive(Debug)]
pub(super) struct Warden {
    process: Child,
    to: ChildStdin,
    from: ChildStdout,
    landlock: Option<u32>,
}

impl Warden {
    /// Starts one and lets it prepare.
    ///
    /// # Errors
    /// When the kernel cannot isolate.
    pub(super) fn start(setup: &Setup) -> Result<Self, SandboxError> {
        let failed = |error: io::Error| SandboxError::unforeseen("cannot start a warden", error);
        // A group of its own: Ctrl-C is for the harness, which ends its wardens itself.
        let mut process = Command::new("/proc/self/exe")
            .arg(WARDEN)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let (Some(to), Some(from)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(SandboxError::unforeseen(
                "cannot start a warden",
                "no pipes",
            ));
        };
        let mut warden = Self {
            process,
            to,
            from,
            landlock: None,
        };
        send(&mut warden.to, setup).map_err(failed)?;
        match receive(&mut warden.from).map_err(failed)? {
            Answer::Ready { landlock } => warden.landlock = landlock,
            Answer::Failed(error) => return Err(error),
            Answer::Done(_) => {
                return Err(SandboxError::unforeseen("a warden", "answers out of turn"));
            }
        }
        Ok(warden)
    }

    /// Version of Landlock's interface.
    pub(super) fn landlock(&self) -> Option<u32> {
        self.landlock
    }

    /// Runs a program.
    ///
    /// # Errors
    /// When the sandbox fails; the warden is of no use then.
    pub(super) fn run(&mut self, program: &str) -> Result<Execution, SandboxError> {
        let failed = |error: io::Error| SandboxError::unforeseen("a warden died", error);
        send(&mut self.to, &program).map_err(failed)?;
        match receive(&mut self.from).map_err(failed)? {
            Answer::Done(execution) => Ok(execution),
            Answer::Failed(error) => Err(error),
            Answer::Ready { .. } => {
                Err(SandboxError::unforeseen("a warden", "answers out of turn"))
            }
        }
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        // The kernel ends its program with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The warden's own work: prepares, then runs every program it is sent.
pub(super) fn serve() -> ExitCode {
    match session() {
        Ok(()) => ExitCode::SUCCESS,
        // The harness is gone, or will notice that its warden is.
        Err(_) => ExitCode::FAILURE,
    }
}

fn session() -> io::Result<()> {
    close_inherited()?;
    let from = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let to = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    // Where memory runs short, the kernel should take a program and not the harness.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let post = match Post::prepare(receive(&from)?) {
        Ok(post) => post,
        Err(error) => return send(&to, &Answer::Failed(error)),
    };
    let landlock = confine::landlock_version();
    send(&to, &Answer::Ready { landlock })?;
    loop {
        let program: String = match receive(&from) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            received => received?,
        };
        let answer = post
            .run(&program, &from)
            .map_or_else(Answer::Failed, Answer::Done);
        send(&to, &answer)?;
    }
}

/// Closes what the user's shell left open.
fn close_inherited() -> io::Result<()> {
    let open: Vec<i32> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for number in open.into_iter().filter(|&number| number > 2) {
        // The folder that was just read is among them, and closed already.
        let _ = close(number);
    }
    Ok(())
}

/// A prepared warden.
struct Post {
    setup: Setup,
    /// Where programs may read, under [`Isolation::Rlimits`].
    readable: Vec<PathBuf>,
    /// `None` under [`Isolation::Rlimits`]: there every process needs its own.
    filters: Option<Filters>,
    outside: Outside,
}

impl Post {
    fn prepare(setup: Setup) -> Result<Self, SandboxError> {
        let isolation = setup.isolation;
        let filters =
            Filters::new(isolation, 0).map_err(|error| root::refused("seccomp", error))?;
        let readable = root::readable(&setup.interpreter);
        let (outside, filters) = match isolation {
            Isolation::Namespaces => {
                if confine::landlock_version().is_none() {
                    let error =
                        "not built in, or not among the modules that the kernel was booted with";
                    return Err(root::refused("Landlock", error));
                }
                (root::enter(&setup.interpreter)?, Some(filters))
            }
            Isolation::Rlimits => (Outside::unchanged()?, None),
        };
        Ok(Self {
            setup,
            readable,
            filters,
            outside,
        })
    }

    /// Runs one program; `harness` is watched for its end.
    fn run(&self, program: &str, harness: &File) -> Result<Execution, SandboxError> {
        let failed = |error: io::Error| SandboxError::unforeseen("cannot run a program", error);
        let folder = match self.setup.isolation {
            Isolation::Namespaces => None,
            Isolation::Rlimits => Some(tempfile::tempdir().map_err(failed)?),
        };
        let work = folder
            .as_ref()
            .map_or(Path::new("/tmp"), |folder| folder.path());
        let mut running = self.launch(program, work)?;
        let watched = running.watch(self, harness).map_err(failed);
        running.end(self.setup.isolation);
        let (stop, seconds) = watched?;

        let Running {
            token,
            status,
            report,
            output,
            ..
        } = running;
        let status = String::from_utf8_lossy(&status.kept).into_owned();
        let status = status.lines().next().unwrap_or_default();
        if report.kept.is_empty() {
            let said = String::from_utf8_lossy(&output.kept).into_owned();
            let last = said.trim().lines().last().unwrap_or_default();
            let problem = format!("the interpreter does not start in the sandbox: {status} {last}");
            return Err(SandboxError::new(problem.trim(), root::HINT));
        }
        let ending = Ending::from_text(status);
        let (passed, reason) = judge(
            stop,
            ending,
            &report.kept,
            token.as_bytes(),
            &self.setup.limits,
        );
        Ok(Execution {
            passed,
            reason,
            seconds,
        })
    }

    /// Clones init, which starts the interpreter.
    fn launch(&self, program: &str, work: &Path) -> Result<Running, SandboxError> {
        let failed = |error: io::Error| SandboxError::unforeseen("cannot run a program", error);
        let (plan, mut running, go) = Plan::new(program).map_err(failed)?;
        let flags = match self.setup.isolation {
            Isolation::Namespaces => root::namespaces(),
            Isolation::Rlimits => CloneFlags::empty(),
        };
        let init = || {
            // Held by init, it would hide that the warden is gone.
            let _ = close(go.as_raw_fd());
            let text = match self.init(&plan, work) {
                Ok(ending) => ending.to_text(),
                Err(problem) => problem,
            };
            let _ = write(&plan.status, text.as_bytes());
            0
        };
        let mut stack = vec![0; STACK_BYTES];
        // SAFETY: this process has one thread, so that its copy may do all that it may; the stack is the copy's own.
        let init = unsafe {
            clone(
                Box::new(init),
                &mut stack,
                flags,
                Some(Signal::SIGCHLD as i32),
            )
        };
        running.init = init.map_err(|error| root::refused("the namespaces of a program", error))?;
        if let Err(error) = self.admit(running.init, &go) {
            running.end(self.setup.isolation);
            return Err(root::refused("a program's own user", error));
        }
        running.go = Some(go);
        Ok(running)
    }

    /// Gives init its users and lets it go on.
    fn admit(&self, init: Pid, go: &OwnedFd) -> io::Result<()> {
        if self.setup.isolation == Isolation::Namespaces {
            let (uid, gid) = self.outside.ids;
            for (file, id) in [("uid_map", uid), ("gid_map", gid)] {
                let path = format!("{init}/{file}");
                let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
                let map = openat(&self.outside.proc, path.as_str(), flags, Mode::empty())?;
                File::from(map).write_all(format!("{INSIDE} {id} 1").as_bytes())?;
            }
        }
        write(go, b"g")?;
        Ok(())
    }

    /// Init: furnishes the namespaces, starts the interpreter and waits for it.
    fn init(&self, plan: &Plan, work: &Path) -> Result<Ending, String> {
        let step = |what: &'static str| move |error: Errno| format!("cannot {what}: {error}");
        if read(&plan.go, &mut [0]) != Ok(1) {
            return Err("the warden is gone".to_owned());
        }
        let namespaces = self.setup.isolation == Isolation::Namespaces;
        if namespaces {
            // Forbidden to ordinary users, whose groups mean nothing in the new root.
            let _ = setgroups(&[]);
            let (uid, gid) = (Uid::from_raw(INSIDE), Gid::from_raw(INSIDE));
            setresgid(gid, gid, gid).map_err(step("change the group"))?;
            setresuid(uid, uid, uid).map_err(step("change the user"))?;
        }
        set_pdeathsig(Signal::SIGKILL).map_err(step("tie init to the warden"))?;
        let mut gone = [PollFd::new(plan.go.as_fd(), PollFlags::empty())];
        if poll(&mut gone, PollTimeout::ZERO) != Ok(0) {
            return Err("the warden is gone".to_owned());
        }
        setsid().map_err(step("start a session"))?;
        if namespaces {
            sethostname("sandbox").map_err(step("set the host name"))?;
            root::mount_work_folder(self.setup.limits.file_bytes)
                .map_err(step("mount a work folder"))?;
        }
        chdir(work).map_err(step("enter the work folder"))?;

        // SAFETY: this process has one thread.
        match unsafe { fork() }.map_err(step("fork"))? {
            ForkResult::Child => {
                let filters = self.filters.as_ref();
                let Err(problem) =
                    become_interpreter(&self.setup, &self.readable, filters, &plan.ends, work);
                let _ = write(&plan.status, format!("{problem}\n").as_bytes());
                std::process::exit(1);
            }
            ForkResult::Parent { child } => loop {
                // Orphans are reaped here, too.
                match wait() {
                    Ok(WaitStatus::Exited(process, code)) if process == child => {
                        return Ok(Ending::Code(code));
                    }
                    Ok(WaitStatus::Signaled(process, signal, _)) if process == child => {
                        return Ok(Ending::Signal(signal as i32));
                    }
                    Ok(_) | Err(Errno::EINTR) => (),
                    Err(error) => return Err(step("wait")(error)),
                }
            },
        }
    }
}

/// What init is given.
struct Plan {
    ends: Ends,
    /// Yields a byte when init may begin; closed, it says that the warden is gone.
    go: OwnedFd,
    /// Takes how the interpreter ended, or what kept it from starting.
    status: OwnedFd,
}

impl Plan {
    /// Pipes and token for a program: init's part, the warden's part, and the end that lets init go.
    fn new(program: &str) -> io::Result<(Self, Running, OwnedFd)> {
        let token = format!("{:016x}{:016x}", getrandom::u64()?, getrandom::u64()?);
        let mut source = File::from(memfd_create(c"program", MFdFlags::MFD_CLOEXEC)?);
        source.write_all(program.as_bytes())?;
        source.rewind()?;
        let (token_end, token_start) = pipe2(OFlag::O_CLOEXEC)?;
        File::from(token_start).write_all(token.as_bytes())?;
        let (report, report_end) = Stream::new()?;
        let (output, output_end) = Stream::new()?;
        let (status, status_end) = Stream::new()?;
        let (go_end, go) = pipe2(OFlag::O_CLOEXEC)?;
        let ends = Ends {
            source: source.into(),
            token: token_end,
            report: report_end,
            output: output_end,
        };
        let plan = Self {
            ends,
            go: go_end,
            status: status_end,
        };
        let running = Running {
            init: Pid::this(),
            token,
            go: None,
            report,
            output,
            status,
        };
        Ok((plan, running, go))
    }
}

/// A program that was launched.
struct Running {
    /// Its init, once it is cloned.
    init: Pid,
    token: String,
    go: Option<OwnedFd>,
    report: Stream,
    output: Stream,
    status: Stream,
}

impl Running {
    /// Waits until the program ends or must be ended; with its wall time in seconds.
    fn watch(&mut self, post: &Post, harness: &File) -> io::Result<(Option<Stop>, f64)> {
        let limits = &post.setup.limits;
        let launched = Instant::now();
        let mut begun: Option<Instant> = None;
        let mut looked = launched;
        loop {
            let now = Instant::now();
            let seconds = begun.map_or(0.0, |begun| (now - begun).as_secs_f64());
            let deadline = begun.map_or(launched + START, |begun| begun + limits.wall);
            if now >= deadline {
                return Ok((Some(Stop::Time), limits.wall.as_secs_f64()));
            }
            if self.output.length > limits.output_bytes {
                return Ok((Some(Stop::Output), seconds));
            }
            if now - looked >= TICK {
                looked = now;
                if resident_bytes(&post.outside.proc, self.init) > limits.memory_bytes {
                    return Ok((Some(Stop::Memory), seconds));
                }
            }

            let mut polled = vec![PollFd::new(harness.as_fd(), PollFlags::empty())];
            for stream in [&self.status, &self.report, &self.output] {
                polled.extend(
                    stream
                        .open
                        .as_ref()
                        .map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN)),
                );
            }
            let rest = (deadline - now).min(TICK).as_millis() + 1;
            match poll(
                &mut polled,
                PollTimeout::try_from(rest).unwrap_or(PollTimeout::ZERO),
            ) {
                Ok(_) | Err(Errno::EINTR) => (),
                Err(error) => return Err(error.into()),
            }
            if polled.first().and_then(PollFd::any) == Some(true) {
                return Err(io::Error::other("the harness is gone"));
            }
            drop(polled);
            self.status.read()?;
            self.output.read()?;
            self.report.read()?;
            if begun.is_none() && !self.report.kept.is_empty() {
                begun = Some(Instant::now());
            }
            if self.status.open.is_none() {
                // Init is gone: what is in the pipes is all there will be.
                let seconds = begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64());
                return Ok((None, seconds));
            }
        }
    }

    /// Ends init and with it everything in its namespace, or its group.
    fn end(&mut self, isolation: Isolation) {
        let _ = kill(self.init, Signal::SIGKILL);
        if isolation == Isolation::Rlimits {
            // No other group can have this number before init is waited for.
            let _ = killpg(self.init, Signal::SIGKILL);
        }
        while waitpid(self.init, None) == Err(Errno::EINTR) {}
        let _ = self.report.read();
        let _ = self.status.read();
    }
}

/// The reading end of a pipe, and the beginning of what came through.
struct Stream {
    open: Option<File>,
    kept: Vec<u8>,
    length: u64,
}

impl Stream {
    fn new() -> io::Result<(Self, OwnedFd)> {
        let (end, start) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let stream = Self {
            open: Some(end.into()),
            kept: Vec::new(),
            length: 0,
        };
        Ok((stream, start))
    }

    /// Reads what is there, at most one piece.
    fn read(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.open else {
            return Ok(());
        };
        let mut piece = [0; 1 << 16];
        match file.read(&mut piece) {
            Ok(0) => self.open = None,
            Ok(length) => {
                self.length += length as u64;
                let rest = REPORT_BYTES.saturating_sub(self.kept.len());
                self.kept.extend(piece.iter().take(length.min(rest)));
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
