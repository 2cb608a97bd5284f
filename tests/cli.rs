//! What the program says: help, and every error a command line can lead to.

use std::{fs, io, path::Path, process::Stdio};

use insta::{assert_snapshot, with_settings};
use tempfile::tempdir;

use crate::program::{Said, program, run, succeed};

/// How a command failed, as a snapshot without the test's own directory.
fn failure(directory: &Path, said: &Said) -> String {
    assert_eq!(said.stdout, "", "errors do not belong on stdout");
    let place = format!("{}/", directory.display());
    format!(
        "exit code {}\n{}",
        said.code.unwrap(),
        said.stderr.replace(&place, "")
    )
}

#[test]
fn help() {
    let directory = tempdir().unwrap();
    for (name, arguments) in [
        ("help", "--help"),
        ("help_short", "-h"),
        ("help_run", "run --help"),
        ("help_run_short", "run -h"),
        ("help_bench", "bench --help"),
        ("help_tasks_show", "tasks show --help"),
        ("help_data_verify", "data verify --help"),
    ] {
        let said = succeed(directory.path(), arguments);
        with_settings!({ description => format!("llama-eval {arguments}") }, {
            assert_snapshot!(name, said.stdout);
        });
    }
}

#[test]
fn command_lines_that_make_no_sense() {
    let directory = tempdir().unwrap();
    for (name, arguments) in [
        ("usage_no_command", ""),
        ("usage_unknown_flag", "run --taks boolq"),
        ("usage_limit", "run --limit 0"),
        ("usage_limit_and_samples", "run --limit 5 --samples x.json"),
        ("usage_device", "run --device gpu"),
        ("usage_dtype", "run --dtype int4"),
        ("usage_memory", "run --memory -3"),
        ("usage_protocol", "run --protocol lm_eval"),
    ] {
        let said = run(directory.path(), arguments);
        assert_snapshot!(name, failure(directory.path(), &said));
        assert_eq!(said.code, Some(2));
    }
}

#[test]
fn tasks_that_do_not_exist() {
    let directory = tempdir().unwrap();
    let samples = directory.path().join("samples.json");
    fs::write(&samples, r#"{"hellaswagg": [1]}"#).unwrap();
    for (name, arguments) in [
        ("task_misspelt", "run --tasks piqa,bolq"),
        ("task_unknown", "run --tasks xyzzy"),
        ("task_unknown_in_samples", "run --samples samples.json"),
        ("task_unknown_to_show", "tasks show arc_eazy"),
    ] {
        let said = run(directory.path(), arguments);
        assert_snapshot!(name, failure(directory.path(), &said));
        assert_eq!(said.code, Some(3));
    }
    assert!(
        !directory.path().join("out").exists(),
        "a run that cannot begin leaves nothing behind"
    );
}

#[test]
fn samples_files_that_cannot_be_used() {
    let directory = tempdir().unwrap();
    for (name, text) in [
        ("samples_not_json", "boolq: 1"),
        ("samples_list", "[0, 1]"),
        ("samples_negative", r#"{"boolq": [-1]}"#),
        ("samples_empty", r#"{"boolq": []}"#),
    ] {
        fs::write(directory.path().join("samples.json"), text).unwrap();
        let said = run(directory.path(), "run --samples samples.json");
        assert_snapshot!(name, failure(directory.path(), &said));
        assert_eq!(said.code, Some(2));
    }
    let said = run(directory.path(), "run --samples nowhere.json");
    assert_snapshot!("samples_missing", failure(directory.path(), &said));
}

#[test]
fn documents_and_data_that_are_not_there() {
    let directory = tempdir().unwrap();
    fs::create_dir(directory.path().join("empty")).unwrap();
    fs::write(
        directory.path().join("samples.json"),
        r#"{"boolq": [999999]}"#,
    )
    .unwrap();
    for (name, arguments) in [
        ("data_missing_folder", "run --tasks boolq --data nowhere"),
        ("data_empty_folder", "run --tasks boolq --data empty"),
        ("data_no_such_document", "run --samples samples.json"),
        (
            "data_no_such_document_to_show",
            "tasks show boolq --document 999999",
        ),
    ] {
        let said = run(directory.path(), arguments);
        assert_snapshot!(name, failure(directory.path(), &said));
        assert_eq!(said.code, Some(4));
    }
}

#[test]
fn models_that_are_none() {
    let directory = tempdir().unwrap();
    let picture = [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".as_slice(), &[3; 2000]].concat();
    fs::write(directory.path().join("picture.png"), &picture).unwrap();
    fs::write(directory.path().join("picture.gguf"), &picture).unwrap();
    fs::write(directory.path().join("empty.gguf"), "").unwrap();
    fs::create_dir(directory.path().join("folder")).unwrap();
    for (name, model) in [
        ("model_missing", "nowhere"),
        ("model_picture", "picture.png"),
        ("model_picture_called_gguf", "picture.gguf"),
        ("model_empty_file", "empty.gguf"),
        ("model_empty_folder", "folder"),
    ] {
        let said = run(
            directory.path(),
            &format!("run --tasks boolq --model {model}"),
        );
        assert_snapshot!(name, failure(directory.path(), &said));
        assert_eq!(said.code, Some(5));
        let left = directory
            .path()
            .join("out")
            .read_dir()
            .map(Iterator::count)
            .unwrap_or_default();
        assert_eq!(left, 0, "a run that cannot begin leaves nothing behind");
    }
}

#[test]
fn every_shell_gets_completions() {
    let directory = tempdir().unwrap();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let said = succeed(directory.path(), &format!("completions {shell}"));
        assert!(said.stdout.contains("num-fewshot"), "{shell}");
    }
}

#[test]
fn a_reader_that_left_is_no_failure() {
    let directory = tempdir().unwrap();
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut command = program(directory.path());
    let output = command
        .args(["tasks", "list"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = Said::from(output);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
}

#[test]
fn doctor_and_lists_work_without_anything() {
    let directory = tempdir().unwrap();
    for arguments in [
        "doctor",
        "tasks list",
        "data list",
        "tasks show boolq",
        "flag-table",
    ] {
        let said = succeed(directory.path(), arguments);
        assert!(said.stdout.lines().count() > 3, "{arguments}: {said:#?}");
        assert_eq!(said.stderr, "", "{arguments}");
    }
}
