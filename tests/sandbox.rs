//! The sandbox, attacked: each attack must be contained, and its reason recorded.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, unshare};
use serde::Deserialize;
use serde_json::Value;
use tempfile::tempdir;

use crate::program::{Said, can_isolate, program, shared};

/// What became of a program.
#[derive(Debug, Deserialize)]
struct Execution {
    passed: bool,
    reason: String,
    seconds: f64,
}

fn start(directory: &Path, arguments: &[&str], programs: &[&str]) -> Child {
    let mut child = program(directory)
        .arg("sandbox-run")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: String = programs
        .iter()
        .map(|text| serde_json::to_string(text).unwrap() + "\n")
        .collect();
    let mut stdin = child.stdin.take().unwrap();
    // Whatever refuses to run reads nothing.
    thread::spawn(move || stdin.write_all(lines.as_bytes()));
    child
}

fn said(directory: &Path, arguments: &[&str], programs: &[&str]) -> Said {
    start(directory, arguments, programs)
        .wait_with_output()
        .unwrap()
        .into()
}

/// What becomes of programs, in their order.
fn run(arguments: &[&str], programs: &[&str]) -> Vec<Execution> {
    let directory = tempdir().unwrap();
    let said = said(directory.path(), arguments, programs);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let executions: Vec<Execution> = said
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(executions.len(), programs.len());
    executions
}

/// None of the programs may pass, each fails for a reason that begins so, and none takes longer than it may.
fn all_fail<T: AsRef<str>>(arguments: &[&str], programs: &[(T, &str)]) -> Vec<Execution> {
    let texts: Vec<&str> = programs.iter().map(|(text, _)| text.as_ref()).collect();
    let arguments = [arguments, &["--threads", "2"]].concat();
    let executions = run(&arguments, &texts);
    for ((text, reason), execution) in programs.iter().zip(&executions) {
        let text = text.as_ref();
        assert!(!execution.passed, "{text}\n{execution:?}");
        assert!(
            execution.reason.starts_with(reason),
            "{text}\n{execution:?}"
        );
        // Where nothing else is said, the limit is 3 s; a busy machine may notice late.
        let limited = !arguments.contains(&"--wall");
        assert!(
            !limited || execution.seconds <= 6.0,
            "{text}\n{execution:?}"
        );
    }
    executions
}

fn fails(arguments: &[&str], text: &str, reason: &str) -> Execution {
    all_fail(arguments, &[(text, reason)]).remove(0)
}

/// The programs must run to their ends: their own assertions say that they reached nothing.
fn all_hold<T: AsRef<str>>(arguments: &[&str], texts: &[T]) {
    let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
    for (text, execution) in texts.iter().zip(run(arguments, &texts)) {
        assert!(execution.passed, "{text}\n{execution:?}");
    }
}

fn holds(arguments: &[&str], text: &str) {
    all_hold(arguments, &[text]);
}

/// Command lines of all processes of the machine, by number.
fn processes() -> BTreeMap<u32, String> {
    let numbers = fs::read_dir("/proc").unwrap().flatten();
    numbers
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            Some((number, String::from_utf8_lossy(&line).replace('\0', " ")))
        })
        .collect()
}

fn marked(mark: &str) -> bool {
    processes().values().any(|line| line.contains(mark))
}

fn parent(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

fn descendants(ancestor: u32) -> BTreeSet<u32> {
    let all = processes();
    let mut found = BTreeSet::from([ancestor]);
    loop {
        let young =
            |process: &&u32| parent(**process).is_some_and(|parent| found.contains(&parent));
        let next: BTreeSet<u32> = all.keys().filter(young).copied().collect();
        let before = found.len();
        found.extend(next);
        if found.len() == before {
            found.remove(&ancestor);
            return found;
        }
    }
}

fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn programs_that_end_well_pass() {
    if !can_isolate() {
        return;
    }
    let texts = [
        "",
        "assert 1 + 1 == 2",
        "import sys\nprint('x' * 9999, file=sys.stderr)",
        "with open('a', 'w') as file:\n    file.write('b')\nassert open('a').read() == 'b'",
        "import math, re, json, heapq, itertools, collections, datetime, hashlib, decimal, ssl, sqlite3, ctypes",
        "import threading\nthread = threading.Thread(target=print)\nthread.start()\nthread.join()",
        // As in HumanEval's own evaluation, a program is not the main module.
        "if __name__ == '__main__':\n    raise ValueError",
        "import atexit, os\natexit.register(os._exit, 9)",
        "s = '\\u2028\\U0001f600'\nassert len(s) == 2",
    ];
    all_hold(&[], &texts);
    all_hold(&["--rlimits"], &texts);
    holds(
        &[],
        "import subprocess, sys\nassert subprocess.run([sys.executable, '-c', 'exit(3)']).returncode == 3",
    );
    holds(&[], "import asyncio\nasyncio.run(asyncio.sleep(0))");
}

#[test]
fn sets_and_strings_hash_alike_in_every_run() {
    if !can_isolate() {
        return;
    }
    let show = "raise ValueError(hash('llama'))";
    let reasons: BTreeSet<String> = run(&[], &[show, show, show])
        .into_iter()
        .map(|execution| execution.reason)
        .collect();
    assert_eq!(reasons.len(), 1, "{reasons:?}");
}

#[test]
fn failures_name_their_exception() {
    if !can_isolate() {
        return;
    }
    let table = [
        ("assert 1 == 2", "AssertionError"),
        ("assert 1 == 2, 'sum'", "AssertionError: sum"),
        (
            "import numpy",
            "ModuleNotFoundError: No module named 'numpy'",
        ),
        ("def f(:", "syntax error: invalid syntax"),
        ("x = '\0'", "syntax error: "),
        ("def f():\n    f()\nf()", "RecursionError"),
        ("input()", "EOFError"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        (
            "class E(Exception):\n    def __str__(self):\n        raise E\nraise E",
            "E",
        ),
        ("import os\nos.abort()", "killed by signal 6 (SIGABRT)"),
        (
            "import ctypes\nctypes.string_at(0)",
            "killed by signal 11 (SIGSEGV)",
        ),
    ];
    all_fail(&[], &table);
    all_fail(&["--rlimits"], &table);
}

#[test]
fn a_terminal_or_a_report_is_safe_from_messages() {
    if !can_isolate() {
        return;
    }
    let reason = fails(
        &[],
        "raise ValueError('\\x1b[2J\\n' + 'x' * 10**6)",
        "ValueError:",
    )
    .reason;
    assert!(
        reason.len() < 1300 && !reason.contains(char::is_control),
        "{reason:?}"
    );
}

#[test]
fn fake_success_fails() {
    if !can_isolate() {
        return;
    }
    let before = "exited before its end";
    let table = [
        ("print('passed')\nimport os\nos._exit(0)", before),
        ("print('ok')\nraise SystemExit", before),
        ("import sys\nsys.exit(0)", before),
        (
            "import sys\ntry:\n    sys.exit(0)\nfinally:\n    print('passed')",
            before,
        ),
        (
            "import os, atexit\natexit.register(os._exit, 0)\nassert False",
            "AssertionError",
        ),
        (
            "import os, signal\nsignal.signal(signal.SIGTERM, lambda *_: os._exit(0))\nos.kill(os.getpid(), 15)\nwhile True: pass",
            before,
        ),
        (
            "import os, sys\nos.execv(sys.executable, [sys.executable, '-c', 'print(1)'])",
            before,
        ),
        // Replaced names do not change what the runner does.
        (
            "import builtins, os, posix, sys\nposix._exit = os._exit = lambda code: None\nposix.write = lambda *_: 1\n\
             builtins.BaseException = builtins.type = None\nsys.excepthook = lambda *_: os._exit(0)\nassert False",
            "AssertionError",
        ),
        // A message on every descriptor is not the token.
        (
            "import os\nfor number in range(3, 64):\n    try:\n        os.write(number, b'passed')\n    except OSError:\n        pass",
            "meddled with the runner's report",
        ),
        ("import os\nos.closerange(3, 64)", before),
    ];
    all_fail(&[], &table);
    all_fail(&["--rlimits"], &table);
    // The copy that a fork makes reaches the end in its parent's stead.
    fails(&[], "import os\nif os.fork():\n    os._exit(0)", before);
    fails(
        &[],
        "import os\nif os.fork():\n    os.wait()\n    assert False",
        "AssertionError",
    );
}

#[test]
fn time_runs_out() {
    if !can_isolate() {
        return;
    }
    let reason = "timed out after 1 s";
    let table = [
        "import time\ntime.sleep(1000)",
        "while True: pass",
        "while True:\n    try:\n        while True: pass\n    except BaseException:\n        pass",
        "import signal, time\nfor number in range(1, 65):\n    try:\n        signal.signal(number, signal.SIG_IGN)\n\
         \x20   except (OSError, ValueError):\n        pass\nwhile True:\n    time.sleep(1)",
        "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E",
        "'a' * 40 + 'b' and __import__('re').match('(a+)+$', 'a' * 40 + 'b')",
    ]
    .map(|text| (text, reason));
    for arguments in [&["--wall", "1"][..], &["--wall", "1", "--rlimits"]] {
        for execution in all_fail(arguments, &table) {
            assert!(execution.seconds >= 0.99, "{execution:?}");
        }
    }
    fails(&[], "import time\ntime.sleep(1000)", "timed out after 3 s");
    // Longer than the limit on processor time.
    fails(
        &["--wall", "30"],
        "while True: pass",
        "out of processor time",
    );
}

#[test]
fn memory_runs_out() {
    if !can_isolate() {
        return;
    }
    for arguments in [&["--wall", "20"][..], &["--wall", "20", "--rlimits"]] {
        fails(arguments, "x = bytearray(100 << 30)", "out of memory");
        fails(
            arguments,
            "x = []\nwhile True:\n    x.append(bytearray(1 << 24))",
            "out of memory",
        );
    }
    // Each below the limit of a process, together above it.
    let text = "import os, time\nfor _ in range(6):\n    if os.fork() == 0:\n        break\nx = bytearray(600 << 20)\ntime.sleep(60)";
    fails(&["--wall", "20"], text, "out of memory");
}

#[test]
fn output_and_files_run_out() {
    if !can_isolate() {
        return;
    }
    let both = [&["--wall", "20"][..], &["--wall", "20", "--rlimits"]];
    for arguments in both {
        let table = [
            ("while True:\n    print('spam' * 100)", "too much output"),
            (
                "import os\nwhile True:\n    os.write(2, b'x' * 9999)",
                "too much output",
            ),
            (
                "file = open('large', 'wb')\nwhile True:\n    file.write(b'x' * (1 << 20))",
                "OSError: [Errno 27]",
            ),
            (
                "x = [open('/dev/null') for _ in range(1000)]",
                "OSError: [Errno 24]",
            ),
        ];
        all_fail(arguments, &table);
    }
    let many = "for number in range(100000):\n    open(f'/tmp/{number}', 'w').close()";
    fails(&["--wall", "20"], many, "OSError: [Errno 28]");
    let sum = "for number in range(100):\n    open(f'/tmp/{number}', 'wb').write(b'x' * (1 << 20))";
    fails(&["--wall", "20"], sum, "OSError: [Errno 28]");
}

#[test]
fn fork_bombs_burst() {
    if !can_isolate() {
        return;
    }
    fails(
        &[],
        "import os\nwhile True:\n    os.fork()",
        "BlockingIOError",
    );
    let persistent =
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass";
    fails(&["--wall", "1"], persistent, "timed out after 1 s");
    let count = "import os\nnumber = 0\ntry:\n    while True:\n        if os.fork() == 0:\n            __import__('time').sleep(60)\n\
                 \x20       number += 1\nexcept OSError:\n    raise ValueError(number)";
    fails(&[], count, "ValueError: 15");
    fails(
        &["--rlimits"],
        "import os\nwhile True:\n    os.fork()",
        "OSError: [Errno 38]",
    );
}

#[test]
fn nothing_survives_a_program() {
    if !can_isolate() {
        return;
    }
    let directory = tempdir().unwrap();
    // Two forks and a session of its own: the usual way of a daemon. Its mark shows in the machine's list of processes.
    for (ending, reason) in [
        ("time.sleep(1)", "passed"),
        ("time.sleep(1)\nos._exit(0)", "exited before its end"),
        ("time.sleep(60)", "timed out"),
    ] {
        let mark = format!("mark{}{}", std::process::id(), ending.len());
        let text = format!(
            "import os, sys, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        \
             os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(600)', '{mark}'])\n    os._exit(0)\n{ending}"
        );
        let child = start(directory.path(), &["--wall", "2"], &[&text]);
        eventually("the daemon shows", || marked(&mark));
        let said = Said::from(child.wait_with_output().unwrap());
        assert!(said.stdout.contains(reason), "{said:?}");
        assert!(!marked(&mark), "a daemon outlives its program");
    }
}

#[test]
fn nothing_survives_the_harness() {
    if !can_isolate() {
        return;
    }
    let directory = tempdir().unwrap();
    for arguments in [&["--wall", "600"][..], &["--wall", "600", "--rlimits"]] {
        let mut child = start(directory.path(), arguments, &["while True: pass"]);
        let mut family = BTreeSet::new();
        // Warden, init, interpreter.
        eventually("three generations show", || {
            family = descendants(child.id());
            family.len() >= 3
        });
        thread::sleep(Duration::from_millis(300));
        family.extend(descendants(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        let gone = |process: &u32| !Path::new(&format!("/proc/{process}")).exists();
        eventually("they die with the harness", || family.iter().all(gone));
    }
}

#[test]
fn the_machines_files_are_out_of_reach() {
    if !can_isolate() {
        return;
    }
    // World-writable: only the walls are in the way.
    let directory = tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let secret = directory.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o666)).unwrap();
    let path = secret.display();
    let folder = directory.path().display();
    let hidden = [
        format!("open('{path}').read()"),
        format!("open('{path}', 'a').write('x')"),
        format!("open('{folder}/new', 'w')"),
        format!("__import__('os').unlink('{path}')"),
        format!("__import__('shutil').rmtree('{folder}')"),
        "open('/etc/passwd')".to_owned(),
        "open('/proc/1/environ')".to_owned(),
        "open('/proc/self/mem')".to_owned(),
        "__import__('os').execv('/bin/sh', ['sh', '-c', 'exit 0'])".to_owned(),
    ];
    let read_only = ["open('/written', 'w')", "open('/etc/passwd', 'a')"].map(str::to_owned);
    let table = |texts: &[String], reason| -> Vec<(String, &str)> {
        texts.iter().map(|text| (text.clone(), reason)).collect()
    };
    all_fail(&[], &table(&hidden, "FileNotFoundError"));
    all_fail(&[], &table(&read_only, "OSError: [Errno 30] Read-only"));
    let both = [&hidden[..], &read_only].concat();
    all_fail(&["--rlimits"], &table(&both, "PermissionError"));
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    assert!(!directory.path().join("new").exists() && !Path::new("/written").exists());

    // Deleting everything deletes nothing of the interpreter, and the next program finds its own `/tmp` empty.
    let clear = "import os, random\nopen('/tmp/left', 'w').close()\nfor folder, folders, files in os.walk('/', topdown=False):\n    \
                 for name in files:\n        if folder != '/tmp':\n            try:\n                os.unlink(os.path.join(folder, name))\n                \
                 raise KeyError(folder, name)\n            except OSError:\n                pass\nassert os.path.exists(random.__file__)";
    let executions = run(
        &["--wall", "60"],
        &[
            clear,
            "import os\nassert os.listdir('/tmp') == []\nimport random",
        ],
    );
    assert!(
        executions.iter().all(|execution| execution.passed),
        "{executions:?}"
    );
    assert!(!Path::new("/tmp/left").exists());
}

#[test]
fn there_is_no_network() {
    if !can_isolate() {
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    for arguments in [&[][..], &["--rlimits"]] {
        let connect = format!("import socket\nsocket.create_connection(('127.0.0.1', {port}), 1)");
        let open =
            format!("import urllib.request\nurllib.request.urlopen('http://127.0.0.1:{port}/')");
        let mut table = vec![(connect, "PermissionError: [Errno 1]"), (open, "URLError")];
        table.extend(
            ["AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK"].map(|family| {
                let text = format!("import socket\nsocket.socket(socket.{family})");
                (text, "PermissionError")
            }),
        );
        all_fail(arguments, &table);
    }
    assert!(listener.accept().is_err(), "somebody connected");
}

#[test]
fn other_processes_are_out_of_reach() {
    if !can_isolate() {
        return;
    }
    let mut bystander = Command::new("sleep").arg("600").spawn().unwrap();
    let number = bystander.id();
    let kill = format!(
        "import ctypes\nkill = ctypes.CDLL(None).kill\nassert kill({number}, 9) == -1\nassert kill(-1, 9) == -1\n\
         for number in range(3, 50000):\n    assert kill(number, 9) == -1"
    );
    holds(&[], &kill);
    let without = format!(
        "import ctypes\nkill = ctypes.CDLL(None).kill\nassert kill({number}, 9) == -1\nassert kill(-1, 9) == -1"
    );
    holds(&["--rlimits"], &without);
    // Not even init: it survives and the program goes on to its own end.
    holds(
        &[],
        "import ctypes, os\nassert os.getppid() == 1\nctypes.CDLL(None).kill(1, 9)",
    );
    assert!(
        bystander.try_wait().unwrap().is_none(),
        "the bystander was killed"
    );
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[test]
fn calls_that_reach_outside_are_refused() {
    if !can_isolate() {
        return;
    }
    let call = |call: &str| {
        format!(
            "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\nassert c.{call} == -1\nassert ctypes.get_errno() in (1, 38), ctypes.get_errno()"
        )
    };
    let texts = [
        "ptrace(16, 1, 0, 0)",
        "unshare(0x10000000)",
        "mount(b'none', b'/tmp', b'tmpfs', 0, None)",
        "umount2(b'/tmp', 2)",
        "chroot(b'/tmp')",
        "setns(0, 0)",
        "setuid(0)",
        "sethostname(b'x', 1)",
        "shmget(0, 4096, 0o1600)",
        "memfd_create(b'x', 0)",
        "personality(0x40000)",
        "process_vm_readv(1, None, 0, None, 0, 0)",
    ]
    .map(call);
    all_hold(&[], &texts);
    all_hold(&["--rlimits"], &texts);
    // No capability can come back: none is in the bounding set.
    let privileges = "import os\nassert os.getresuid() == (1000,) * 3 and os.getresgid() == (1000,) * 3\nassert set(os.getgroups()) <= {1000, 65534}\n\
                      import socket\nassert socket.gethostname() == 'sandbox'\nassert set(os.listdir('/dev')) == {'null', 'zero', 'random', 'urandom'}\n\
                      assert not {'home', 'var', 'proc', 'sys', 'bin'} & set(os.listdir('/'))";
    holds(&[], privileges);
    fails(
        &[],
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))",
        "ValueError",
    );
}

#[test]
fn nothing_of_the_users_environment_gets_in() {
    if !can_isolate() {
        return;
    }
    let directory = tempdir().unwrap();
    fs::write(
        directory.path().join("json.py"),
        "raise ValueError('shadowed')",
    )
    .unwrap();
    let text = "import os, json\nassert 'LLAMA_SECRET' not in os.environ and 'PYTHONPATH' not in os.environ\nassert not hasattr(json, 'shadowed')";
    for arguments in [&[][..], &["--rlimits"]] {
        let mut command = program(directory.path());
        command
            .env("LLAMA_SECRET", "x")
            .env("PYTHONPATH", directory.path())
            .env("PYTHONSTARTUP", "json.py");
        let mut child = command
            .arg("sandbox-run")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(serde_json::to_string(text).unwrap().as_bytes())
            .unwrap();
        let mut stdout = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut stdout)
            .unwrap();
        assert!(child.wait().unwrap().success());
        assert!(stdout.contains("\"passed\":true"), "{stdout}");
    }
}

#[test]
fn a_kernel_that_cannot_isolate_is_named() {
    if !can_isolate() {
        return;
    }
    let directory = tempdir().unwrap();
    let mut command = program(directory.path());
    command.arg("sandbox-run").stdin(Stdio::null());
    // SAFETY: between fork and exec, only system calls and a small file write.
    unsafe {
        command.pre_exec(|| {
            unshare(CloneFlags::CLONE_NEWUSER)?;
            fs::write("/proc/sys/user/max_user_namespaces", "0")
        });
    }
    let said = Said::from(command.output().unwrap());
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_eq!(said.stdout, "");
    assert!(
        said.stderr
            .contains("the kernel does not give the sandbox user and mount namespaces"),
        "{said:?}"
    );
    assert!(said.stderr.contains("hint: `sysctl user.max_user_namespaces=10000` allows namespaces; otherwise `--sandbox rlimits`"), "{said:?}");
}

#[test]
fn an_interpreter_that_cannot_be_used_is_named() {
    let directory = tempdir().unwrap();
    let script = directory.path().join("python3");
    let path = script.display();
    for (text, problem) in [
        (
            None,
            "cannot start `python3`: No such file or directory".to_owned(),
        ),
        (
            Some("exit 3"),
            "`python3` does not work: exit status: 3".to_owned(),
        ),
        (
            Some("echo shim: no version is set >&2; exit 127"),
            "shim: no version is set".to_owned(),
        ),
        (
            Some("[ \"$2\" = -c ] && echo \"$0\" || echo pypy"),
            format!("`{path}` says \"pypy\""),
        ),
        (
            Some(
                "[ \"$2\" = -c ] && echo \"$0\" || echo '{\"executable\":\"/p\",\"implementation\":\"CPython\",\"version\":\"3.7.17\",\"folders\":[]}'",
            ),
            format!("`{path}` is Python 3.7.17: too old"),
        ),
    ] {
        let _ = fs::remove_file(&script);
        if let Some(text) = text {
            fs::write(&script, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        }
        for arguments in [&[][..], &["--rlimits"]] {
            let mut command = program(directory.path());
            command
                .arg("sandbox-run")
                .args(arguments)
                .env("PATH", directory.path())
                .stdin(Stdio::null());
            let said = Said::from(command.output().unwrap());
            assert_eq!(said.code, Some(1), "{said:?}");
            assert!(said.stderr.contains(&problem), "{problem}\n{said:?}");
            assert!(
                said.stderr
                    .contains("hint: install Python 3.8 or newer as `python3` on the PATH"),
                "{said:?}"
            );
        }
    }
}

#[test]
fn verdicts_keep_their_order_among_threads() {
    if !can_isolate() {
        return;
    }
    let programs: Vec<String> = (0..40)
        .map(|number| {
            format!(
                "import time\ntime.sleep({} / 100)\nraise ValueError({number})",
                number * 7 % 10
            )
        })
        .collect();
    let programs: Vec<&str> = programs.iter().map(String::as_str).collect();
    for (number, execution) in run(&["--threads", "4"], &programs).into_iter().enumerate() {
        assert_eq!(execution.reason, format!("ValueError: {number}"));
    }
}

#[test]
fn the_identity_says_what_verdicts_depend_on() {
    if !can_isolate() {
        return;
    }
    let directory = tempdir().unwrap();
    let first = |arguments: &[&str]| said(directory.path(), arguments, &[]).stdout;
    let namespaces = first(&["--identity"]);
    let tail = "standard library only; namespaces, Landlock, seccomp; 3 s wall time, 4 s processor time, 1024 MiB memory, \
                16 processes, 64 open files, 16 MiB of files, 1 MiB of output\n";
    assert!(
        namespaces.ends_with(tail) && namespaces.contains(" 3."),
        "{namespaces}"
    );
    assert_eq!(first(&["--identity"]), namespaces);
    assert!(first(&["--identity", "--wall", "5"]).contains("; 5 s wall time"));
    assert!(first(&["--identity", "--rlimits"]).contains("; no namespaces, "));
}

/// HumanEval's and MBPP's own solutions, each with its tests.
fn references() -> Option<Vec<(String, String)>> {
    let human_eval = shared("data/humaneval/HumanEval.jsonl.gz")?;
    let mbpp = shared("data/mbpp/mbpp.jsonl")?;
    let unpacked = Command::new("gzip")
        .arg("-dc")
        .arg(human_eval)
        .output()
        .unwrap();
    let rows = |text: &str| -> Vec<Value> {
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().replace('\r', "");
    let mut programs = Vec::new();
    for row in rows(std::str::from_utf8(&unpacked.stdout).unwrap()) {
        let [prompt, solution, test, entry] =
            ["prompt", "canonical_solution", "test", "entry_point"].map(|key| text(&row, key));
        programs.push((
            text(&row, "task_id"),
            format!("{prompt}{solution}\n{test}\ncheck({entry})"),
        ));
    }
    for row in rows(&fs::read_to_string(mbpp).unwrap()) {
        let number = row["task_id"].as_u64().unwrap();
        if (11..=510).contains(&number) {
            let tests: Vec<&str> = row["test_list"]
                .as_array()
                .unwrap()
                .iter()
                .map(|test| test.as_str().unwrap())
                .collect();
            // The setup of task 367 needs classes of the solution.
            let program = [
                text(&row, "code"),
                text(&row, "test_setup_code"),
                tests.join("\n"),
            ]
            .join("\n");
            programs.push((format!("MBPP/{number}"), program));
        }
    }
    Some(programs)
}

#[test]
fn reference_solutions_pass() {
    let Some(references) = references().filter(|_| can_isolate()) else {
        return;
    };
    assert_eq!(references.len(), 664);
    let programs: Vec<&str> = references
        .iter()
        .map(|(_, program)| program.as_str())
        .collect();
    let begun = Instant::now();
    let executions = run(&["--threads", "2"], &programs);
    println!(
        "{:.1} ms per program on 2 threads",
        begun.elapsed().as_secs_f64() * 1000.0 / 664.0
    );
    for ((name, _), execution) in references.iter().zip(&executions) {
        match name.as_str() {
            // Sums the divisors of every number up to 9999 by trial: about 3 s of computing, the limit itself.
            "MBPP/123" => assert!(
                execution.passed || execution.reason == "timed out after 3 s",
                "{execution:?}"
            ),
            _ => assert!(execution.passed, "{name}: {execution:?}"),
        }
    }
    // With time enough, it passes, too.
    let (_, slow) = references
        .iter()
        .find(|(name, _)| name == "MBPP/123")
        .unwrap();
    let execution = run(&["--wall", "60"], &[slow]).remove(0);
    assert!(
        execution.passed || execution.reason == "out of processor time",
        "{execution:?}"
    );
}
