//! A run that is stopped, however rudely, goes on with the same command and ends as if nothing had happened.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::{TempDir, tempdir};

use crate::program::{answers, can_isolate, program, run, samples, succeed};

/// Small batches, so that there is a half way.
const RUN: &str = "run --batch-rows 64 --log-samples --output out";
/// Nothing but generated text, some of it drawn, and programs that are run.
const TEXT: &str = "run --tasks closed-book,math,code --log-samples --output out";
/// A demo takes seconds; a build machine may be slow.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a run may finish before it could be stopped.
const ATTEMPTS: usize = 5;

fn start(directory: &Path, line: &str) -> Child {
    let mut command = program(directory);
    command
        .args(line.split(' '))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Waits until the run has stored something, then stops it; is there something left to do?
fn stop_half_way(
    directory: &Path,
    line: &str,
    whole: i64,
    stop: impl Fn(&mut Child),
) -> Option<i32> {
    let output = directory.join("out");
    let mut child = start(directory, line);
    let begun = Instant::now();
    while answers(&output).0 == 0 && child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < PATIENCE, "nothing was stored");
        thread::sleep(Duration::from_millis(2));
    }
    stop(&mut child);
    let status = child.wait().unwrap();
    let (stored, _) = answers(&output);
    assert!(stored > 0);
    (stored < whole).then_some(status.code().unwrap_or(-1))
}

/// A directory where a run was stopped half way, and its exit code (-1 for none).
fn stopped(line: &str, whole: i64, stop: impl Fn(&mut Child)) -> (TempDir, i32) {
    for _ in 0..ATTEMPTS {
        let directory = tempdir().unwrap();
        if let Some(code) = stop_half_way(directory.path(), line, whole, &stop) {
            return (directory, code);
        }
    }
    panic!("the run always ended before it was stopped");
}

/// Results of a run nobody disturbed.
fn undisturbed(line: &str) -> (i64, Vec<(String, String)>) {
    let directory = tempdir().unwrap();
    succeed(directory.path(), line);
    let output = directory.path().join("out");
    let (stored, written) = answers(&output);
    assert_eq!(stored, written);
    let samples = samples(&output);
    assert!(samples.iter().all(|(_, text)| !text.is_empty()) && !samples.is_empty());
    (stored, samples)
}

fn assert_answered_before(said: &str, count: i64) {
    let expected = format!("{count} answered before");
    assert!(
        said.replace(',', "").contains(&expected),
        "{expected}: {said}"
    );
}

fn goes_on(directory: &Path, line: &str, whole: i64, expected: &[(String, String)]) {
    let before = answers(&directory.join("out"));
    let said = succeed(directory, line);
    let after = answers(&directory.join("out"));
    assert_eq!(
        after,
        (whole, whole),
        "every question was asked once; {before:?} before"
    );
    assert_answered_before(&said.stderr, before.0);
    assert_eq!(samples(&directory.join("out")), expected);
}

fn killed_and_gone_on(line: &str) {
    let (whole, expected) = undisturbed(line);
    let (directory, code) = stopped(line, whole, |child| child.kill().unwrap());
    assert_eq!(code, -1);
    goes_on(directory.path(), line, whole, &expected);
    // And again, with nothing left to ask.
    let said = succeed(directory.path(), line);
    assert_answered_before(&said.stderr, whole);
    assert_eq!(answers(&directory.path().join("out")), (whole, whole));
}

#[test]
fn a_killed_run_goes_on() {
    killed_and_gone_on(RUN);
}

#[test]
fn a_run_killed_while_it_writes_text_goes_on() {
    if can_isolate() {
        killed_and_gone_on(TEXT);
    }
}

#[test]
#[cfg(unix)]
fn an_interrupted_run_says_how_to_go_on() {
    let (whole, expected) = undisturbed(RUN);
    let interrupt = |child: &mut Child| {
        let status = Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    };
    let (directory, code) = stopped(RUN, whole, interrupt);
    assert_eq!(code, 9);
    goes_on(directory.path(), RUN, whole, &expected);
}

#[test]
fn the_limit_may_grow_and_tasks_may_be_added() {
    let directory = tempdir().unwrap();
    let few = succeed(directory.path(), "run --tasks boolq --limit 2 --output out");
    assert!(few.stderr.contains("1 task, 2 documents"), "{}", few.stderr);
    let (first, _) = answers(&directory.path().join("out"));
    let more = succeed(
        directory.path(),
        "run --tasks piqa,boolq --limit 3 --output out",
    );
    assert!(
        more.stderr.contains(&format!("{first} answered before")),
        "{}",
        more.stderr
    );
    let (stored, written) = answers(&directory.path().join("out"));
    assert_eq!(stored, written);
    assert!(stored > first);
}

#[test]
fn other_settings_are_refused_with_both_values() {
    let directory = tempdir().unwrap();
    let first = "run --tasks boolq --limit 1 --output out";
    succeed(directory.path(), first);
    let before = answers(&directory.path().join("out"));
    for (flags, line) in [
        ("--protocol lm-eval", "--protocol: was paper, is lm-eval"),
        (
            "--num-fewshot 1",
            "--num-fewshot: was each task's own, is 1",
        ),
        ("--seed 7", "--seed: was 1234, is 7"),
        ("--dtype bf16", "--dtype: was f32, is bf16"),
        ("--max-length 100", "is 100"),
    ] {
        let said = run(directory.path(), &format!("{first} {flags}"));
        assert_eq!(said.code, Some(7), "{flags}: {said:#?}");
        assert!(said.stderr.contains(line), "{flags}: {}", said.stderr);
        assert!(said.stderr.contains("\nhint: "), "{flags}: {}", said.stderr);
    }
    assert_eq!(answers(&directory.path().join("out")), before);
    succeed(directory.path(), first);
}

#[test]
fn a_dry_run_writes_nothing() {
    let directory = tempdir().unwrap();
    let said = succeed(directory.path(), "run --dry-run --tasks boolq,piqa");
    assert!(said.stdout.contains("unique tokens"), "{}", said.stdout);
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}

#[test]
fn results_do_not_depend_on_the_batch() {
    let directory = tempdir().unwrap();
    for (rows, output) in [("64", "small"), ("4096", "large")] {
        let tasks = "--tasks boolq,arc_easy,crows_pairs --log-samples";
        succeed(
            directory.path(),
            &format!("run {tasks} --batch-rows {rows} --output {output}"),
        );
    }
    assert_eq!(
        samples(&directory.path().join("small")),
        samples(&directory.path().join("large"))
    );
}
