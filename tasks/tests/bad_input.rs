//! Promise: bad data ends in an error that names file and line and says what to do, never in a panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeMap, io::Write as _, path::PathBuf};

use flate2::{Compression, write::GzEncoder};
use llama_eval_tasks::{
    DataDir, DataError, DataFile, Protocol, pins,
    reader::{self, Header, MAX_LINE_BYTES, MAX_UNPACKED_BYTES},
    suites,
};
use proptest::prelude::*;

fn file(bytes: impl Into<Vec<u8>>) -> DataFile {
    DataFile {
        name: "x/data".to_owned(),
        path: "x/data".into(),
        bytes: bytes.into(),
        sha256: String::new(),
    }
}

fn place<T>(result: Result<T, DataError>) -> (Option<usize>, String) {
    let error = result.err().unwrap();
    assert_eq!(error.path, PathBuf::from("x/data"));
    let message = error.to_string();
    assert!(
        message.starts_with("x/data") && message.contains("\nhint: "),
        "{message}"
    );
    (error.line, error.problem)
}

#[test]
fn json_lines() {
    let problem = |text: &str| place(reader::json_lines(&file(text)));
    let (line, text) = problem("{}\n{\"a\": }\n");
    assert_eq!(
        (line, text.as_str()),
        (Some(2), "malformed JSON at column 7: expected value")
    );
    assert_eq!(
        problem("{}\n[1]"),
        (Some(2), "the line is not a JSON object".to_owned())
    );
    assert_eq!(problem("{}\n\n{}").0, Some(2));
    for empty in ["", "\n", " \r\n", "\u{feff}"] {
        assert_eq!(problem(empty), (None, "the file is empty".to_owned()));
    }
    let long = format!("{{}}\n{{\"a\": \"{}\"}}", "x".repeat(MAX_LINE_BYTES));
    let (line, text) = problem(&long);
    assert!(
        line == Some(2) && text.contains("more than 1048576"),
        "{text}"
    );
    // Nesting deep enough to end the stack is refused.
    assert!(
        problem(&"{\"a\":".repeat(100_000))
            .1
            .contains("recursion limit")
    );
}

fn zipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn gzip_is_unpacked_within_bounds() {
    let text = b"{\"a\": 1}\n";
    for bytes in [text.to_vec(), zipped(text)] {
        assert_eq!(reader::unpacked(file(bytes)).unwrap().bytes, text);
    }
    let problem = |bytes: Vec<u8>| place(reader::unpacked(file(bytes))).1;
    let mut cut = zipped(text);
    cut.truncate(cut.len() - 4);
    let mut changed = zipped(text);
    *changed.last_mut().unwrap() ^= 1;
    for damaged in [
        cut,
        changed,
        vec![0x1f, 0x8b],
        vec![0x1f, 0x8b, 8, 0, 1, 2, 3],
    ] {
        let problem = problem(damaged);
        assert!(
            problem.starts_with("the gzip file cannot be unpacked: "),
            "{problem}"
        );
    }
    // 66 kB that would fill the memory.
    let bomb = zipped(&vec![0; MAX_UNPACKED_BYTES + 1]);
    assert!(bomb.len() < 100_000);
    assert_eq!(
        problem(bomb),
        "the gzip file holds more than 67108864 bytes"
    );
    let most = reader::unpacked(file(zipped(&vec![0; MAX_UNPACKED_BYTES]))).unwrap();
    assert_eq!(most.bytes.len(), MAX_UNPACKED_BYTES);
}

#[test]
fn text_that_is_not_utf_8() {
    for read in [reader::json_lines, |file: &DataFile| {
        reader::csv_rows(file, Header::First(&[]))
    }] {
        assert_eq!(
            place(read(&file(b"a\nb\n\xff\n".to_vec()))),
            (Some(3), "not UTF-8 text".to_owned())
        );
    }
}

#[test]
fn a_byte_order_mark_and_other_line_ends_are_fine() {
    let records = reader::json_lines(&file("\u{feff}{\"a\": 1}\r\n{\"a\": 2}\r\n\r\n")).unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!(
        (records[1].line, records[1].integer("a").unwrap()),
        (Some(2), 2)
    );
    let records = reader::csv_rows(
        &file("\u{feff}a,b\r\n1,\"x\ny\"\r\n2,z\r\n"),
        Header::First(&["a"]),
    )
    .unwrap();
    assert_eq!(records[0].text("b").unwrap(), "x\ny");
    // The quoted line end counts as a line.
    assert_eq!(
        (records[1].line, records[1].text("a").unwrap()),
        (Some(4), "2")
    );
}

#[test]
fn whole_files_of_json() {
    assert_eq!(place(reader::json(&file("[1,\n2"))).0, Some(2));
    assert_eq!(
        place(reader::json_object(&file("[]"))).1,
        "the file is not a JSON object"
    );
    assert_eq!(
        place(reader::json_objects(&file("{}"))).1,
        "the file is not a JSON list"
    );
    assert_eq!(
        place(reader::json_objects(&file("[{}, 3]"))).1,
        "item 1 is not an object"
    );
    let items = reader::json_objects(&file("[{}, {\"a\": {\"b\": 1}}]")).unwrap();
    assert_eq!(place(items[0].text("a")).1, "item 0: field `a` is missing");
    assert_eq!(
        place(items[1].object("a").unwrap().text("b")).1,
        "item 1, a: field `b` is not a string"
    );
}

#[test]
fn tables() {
    let csv = |text: &str, header| place(reader::csv_rows(&file(text), header));
    let named = Header::First(&["b"]);
    assert_eq!(
        csv("a,c\n1,2\n", named),
        (Some(1), "the header has no column `b`".to_owned())
    );
    assert_eq!(
        csv("a,b\n1,2\n3\n", named),
        (Some(3), "the row has 1 fields instead of 2".to_owned())
    );
    assert_eq!(
        csv("a,b\n", named),
        (None, "the file has no rows".to_owned())
    );
    assert_eq!(csv("1,2\n1,2,3\n", Header::Absent(&["a", "b"])).0, Some(2));
    let long = format!("a,b\n1,{}\n", "x".repeat(MAX_LINE_BYTES));
    assert_eq!(csv(&long, named).0, Some(2));
    let tsv = reader::tsv_rows(&file("a\tb\n1\t\"x\n"), named).unwrap();
    assert_eq!(tsv[0].text("b").unwrap(), "\"x");
    assert_eq!(
        place(reader::tsv_rows(&file("a\tb\n1\n"), named)).0,
        Some(2)
    );
}

#[test]
fn fields_of_the_wrong_kind() {
    let records = reader::json_lines(&file("{\"a\": \"7\", \"b\": [1], \"c\": 1.5}")).unwrap();
    let record = &records[0];
    assert_eq!(record.integer("a").unwrap(), 7);
    assert_eq!(
        place(record.integer("c")),
        (Some(1), "field `c` is not a whole number".to_owned())
    );
    assert_eq!(place(record.text("b")).1, "field `b` is not a string");
    assert_eq!(
        place(record.texts("b")).1,
        "field `b` is not a list of strings"
    );
    assert_eq!(
        place(record.objects("b")).1,
        "field `b` is not a list of objects"
    );
    assert_eq!(place(record.list("a")).1, "field `a` is not a list");
    assert_eq!(
        place(record.boolean("a")).1,
        "field `a` is not true or false"
    );
    assert_eq!(place(record.object("a")).1, "field `a` is not an object");
    assert_eq!(place(record.value("z")).1, "field `z` is missing");
}

/// Task, its files, and where the error is: file and line.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, Option<usize>);

/// A document without a gold answer, or with one that is no choice, in every dataset: file, line, problem.
#[test]
fn documents_without_gold() {
    let mc_task =
        r#"[{"question": "q", "mc1_targets": {"x": 0}, "mc2_targets": {"x": 1, "y": 0}}]"#;
    let arc = r#"{"id": "1", "question": {"stem": "s", "choices": [{"text": "x", "label": "A"}]}, "answerKey": "B"}"#;
    let race = r#"{"article": "a", "questions": ["q"], "options": [["1","2","3","4"]], "answers": ["E"], "id": "high1.txt"}"#;
    let piqa = r#"{"goal": "g", "sol1": "x", "sol2": "y"}"#;
    let siqa =
        r#"{"context": "c", "question": "q", "answerA": "x", "answerB": "y", "answerC": "z"}"#;
    let winogrande =
        r#"{"qID": "1", "sentence": "a _ b", "option1": "x", "option2": "y", "answer": ""}"#;
    let hellaswag = r#"{"ind": 1, "activity_label": "l", "ctx_a": "a", "ctx_b": "b", "endings": ["1","2","3","4"]}"#;
    let boolq = r#"{"question": "q", "title": "t", "passage": "p"}"#;
    let humaneval =
        r#"{"task_id": "0", "prompt": "p", "entry_point": "e", "canonical_solution": "s"}"#;
    let mbpp =
        r#"{"task_id": 11, "text": "t", "code": "c", "test_setup_code": "", "test_list": []}"#;
    let csv = "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\nT,C,,B,B,I,S\n";
    let cases: &[Case<'_>] = &[
        (
            "humaneval",
            &[("humaneval/HumanEval.jsonl", humaneval)],
            "humaneval/HumanEval.jsonl",
            Some(1),
        ),
        (
            "mbpp",
            &[("mbpp/mbpp.jsonl", mbpp)],
            "mbpp/mbpp.jsonl",
            Some(1),
        ),
        (
            "truthfulqa_gen",
            &[("truthfulqa/TruthfulQA.csv", csv)],
            "truthfulqa/TruthfulQA.csv",
            Some(2),
        ),
        (
            "realtoxicityprompts",
            &[("realtoxicityprompts/quark/val.jsonl", r#"{"prompt": {}}"#)],
            "realtoxicityprompts/quark/val.jsonl",
            Some(1),
        ),
        (
            "boolq",
            &[("boolq/dev.jsonl", boolq)],
            "boolq/dev.jsonl",
            Some(1),
        ),
        (
            "piqa",
            &[("piqa/valid.jsonl", piqa), ("piqa/valid-labels.lst", "2\n")],
            "piqa/valid-labels.lst",
            Some(1),
        ),
        (
            "piqa",
            &[
                ("piqa/valid.jsonl", piqa),
                ("piqa/valid-labels.lst", "1\n0\n"),
            ],
            "piqa/valid-labels.lst",
            None,
        ),
        (
            "social_iqa",
            &[("siqa/dev.jsonl", siqa), ("siqa/dev-labels.lst", "4\n")],
            "siqa/dev-labels.lst",
            Some(1),
        ),
        (
            "hellaswag",
            &[("hellaswag/hellaswag_val.jsonl", hellaswag)],
            "hellaswag/hellaswag_val.jsonl",
            Some(1),
        ),
        (
            "winogrande",
            &[("winogrande/dev.jsonl", winogrande)],
            "winogrande/dev.jsonl",
            Some(1),
        ),
        (
            "arc_easy",
            &[("arc/ARC-Easy-Test.jsonl", arc)],
            "arc/ARC-Easy-Test.jsonl",
            Some(1),
        ),
        (
            "openbookqa",
            &[("openbookqa/test.jsonl", arc)],
            "openbookqa/test.jsonl",
            Some(1),
        ),
        (
            "race_high",
            &[("race/test/high/1.txt", race)],
            "race/test/high/1.txt",
            None,
        ),
        (
            "mmlu_virology",
            &[("mmlu/test/virology_test.csv", "q,1,2,3,4,A\nq,1,2,3,4,E\n")],
            "mmlu/test/virology_test.csv",
            Some(2),
        ),
        (
            "truthfulqa_mc",
            &[("truthfulqa/mc_task.json", mc_task)],
            "truthfulqa/mc_task.json",
            None,
        ),
    ];
    for (task, files, place, line) in cases {
        let files = files
            .iter()
            .map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()));
        let data = DataDir::from_memory("test", files.collect());
        let tasks = suites::resolve(&[(*task).to_owned()], &Default::default()).unwrap();
        let error = tasks[0].documents(&data, Protocol::Paper).unwrap_err();
        assert_eq!(
            (error.path.to_str(), error.line),
            (Some(format!("test:{place}").as_str()), *line),
            "{error}"
        );
        assert!(error.to_string().contains("\nhint: "), "{error}");
    }
}

#[test]
fn every_task_says_what_is_missing() {
    let data = DataDir::from_memory("test", BTreeMap::new());
    for task in suites::all(&Default::default()) {
        for protocol in [Protocol::Paper, Protocol::LmEval] {
            let message = task.documents(&data, protocol).unwrap_err().to_string();
            assert!(message.contains("\nhint: "), "{message}");
        }
    }
}

/// A dataset's names with the same content for all.
fn everywhere(bytes: &[u8]) -> DataDir {
    let names = pins().unwrap().iter().map(|pin| pin.name.clone());
    let names = names.filter(|name| {
        !name.starts_with("race/") || name.ends_with("/1.txt") || name.ends_with("/73.txt")
    });
    DataDir::from_memory("test", names.map(|name| (name, bytes.to_vec())).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_make_a_task_panic(
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            "([\\[\\]{}\",:\t\n_$A-E0-9]|question|answer|choices|null){0,60}".prop_map(String::into_bytes),
        ]
    ) {
        let data = everywhere(&bytes);
        for task in suites::all(&Default::default()) {
            for protocol in [Protocol::Paper, Protocol::LmEval] {
                let documents = task.documents(&data, protocol).unwrap_or_default();
                for document in &documents {
                    let _ = task.requests(document, &std::sync::Arc::default(), protocol);
                    let _ = (task.target(document), task.example(document, protocol), task.score(document, &[], &[], protocol));
                    let _ = (task.checks(document, "x", protocol), task.filtered(document, "x", protocol));
                }
                let _ = (task.examples(&data, protocol), task.description(&data, protocol));
            }
        }
    }
}
