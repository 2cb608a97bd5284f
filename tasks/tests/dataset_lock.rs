//! Promise: data files are found by what they contain, and nothing else is read in their place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use llama_eval_tasks::{
    DataDir, DataFile, pins,
    reader::{self, Header},
};

/// Pinned from what others recorded of them; not in the reference data.
const ABSENT: [&str; 8] = [
    "siqa/train.jsonl",
    "hellaswag/hellaswag_val.jsonl",
    "hellaswag/hellaswag_train.jsonl",
    "winogrande/train_xl.jsonl",
    "arc/ARC-Easy-Dev.jsonl",
    "arc/ARC-Challenge-Dev.jsonl",
    "openbookqa/dev.jsonl",
    "openbookqa/train.jsonl",
];

fn rows(file: &DataFile) -> Option<usize> {
    let lines = || reader::lines(file).unwrap().len();
    Some(match file.name.rsplit('.').next().unwrap() {
        "jsonl" | "lst" => lines(),
        "tsv" => lines() - 1,
        "json" if file.name.starts_with("math/") => {
            let problem = reader::json_object(file).unwrap();
            usize::from(problem.text("problem").is_ok())
        }
        "json" => reader::json_objects(file).unwrap().len(),
        "csv" if file.name.starts_with("mmlu/") => reader::csv_rows(
            file,
            Header::Absent(&["question", "A", "B", "C", "D", "answer"]),
        )
        .unwrap()
        .len(),
        "csv" => reader::csv_rows(file, Header::First(&[])).unwrap().len(),
        "txt" if file.name.starts_with("race/") => reader::json_object(file)
            .unwrap()
            .list("questions")
            .unwrap()
            .len(),
        "txt" if file.name.starts_with("hellaswag/") => lines() / 6,
        "txt" => lines(),
        _ => return None,
    })
}

#[test]
fn every_pin_is_found_and_has_its_rows() {
    let Some(root) = common::shared("data") else {
        return;
    };
    let data = DataDir::open(&root).unwrap();
    let absent: BTreeSet<&str> = pins()
        .unwrap()
        .iter()
        .map(|pin| pin.name.as_str())
        .filter(|name| !data.has(name))
        .collect();
    assert_eq!(absent, ABSENT.into());
    let mut counted = 0;
    for pin in pins().unwrap().iter().filter(|pin| data.has(&pin.name)) {
        let file = data.read(&pin.name).unwrap();
        assert_eq!(file.bytes.len() as u64, pin.bytes);
        assert_eq!(file.sha256, pin.sha256);
        if let Some(rows) = rows(&file) {
            assert_eq!(rows, pin.rows, "{}", pin.name);
            counted += 1;
        }
    }
    // All but the compressed file and the two prompt files.
    assert_eq!(counted, pins().unwrap().len() - ABSENT.len() - 3);
}

#[test]
fn names_are_unique_and_addresses_are_canonical() {
    let pins = pins().unwrap();
    let names: BTreeSet<&str> = pins.iter().map(|pin| pin.name.as_str()).collect();
    assert_eq!(names.len(), pins.len());
    let hashes: BTreeSet<&str> = pins.iter().map(|pin| pin.sha256.as_str()).collect();
    assert_eq!(hashes.len(), pins.len());
    for pin in pins {
        let address = pin.source.to_string();
        assert!(
            address.starts_with("https://") || address.starts_with("http://www.cs.cmu.edu/"),
            "{address}"
        );
    }
}

/// The authors' tables of MMLU may be quoted otherwise than those the pins were taken of.
#[test]
fn other_line_ends_and_quotes_are_the_same_file() {
    let Some(root) = common::shared("data") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir::open(&root).unwrap();
    let tables: Vec<&str> = pins()
        .unwrap()
        .iter()
        .map(|pin| pin.name.as_str())
        .filter(|name| name.starts_with("mmlu/"))
        .collect();
    assert_eq!(tables.len(), 171);
    for name in &tables {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .from_reader(fs::File::open(root.join(name)).unwrap());
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut writer = csv::WriterBuilder::new()
            .quote_style(csv::QuoteStyle::Always)
            .terminator(csv::Terminator::CRLF)
            .from_path(&path)
            .unwrap();
        reader
            .byte_records()
            .for_each(|row| writer.write_byte_record(&row.unwrap()).unwrap());
        writer.flush().unwrap();
    }
    let text = fs::read_to_string(root.join("winogender/templates.tsv")).unwrap();
    fs::write(
        folder.path().join("templates.tsv"),
        text.replace('\n', "\r\n"),
    )
    .unwrap();

    let written_anew = DataDir::open(folder.path()).unwrap();
    for name in tables.into_iter().chain(["winogender/templates.tsv"]) {
        let (file, expected) = (written_anew.read(name).unwrap(), data.read(name).unwrap());
        assert_ne!(fs::read(&file.path).unwrap(), expected.bytes);
        assert_eq!(
            (file.bytes, file.sha256),
            (expected.bytes, expected.sha256),
            "{name}"
        );
    }
}

/// The pins of a few small files, to be made up in a folder of our own.
fn copies() -> Option<Vec<(&'static str, std::path::PathBuf)>> {
    let root = common::shared("data")?;
    let names = [
        "winogender/templates.tsv",
        "mmlu/dev/virology_dev.csv",
        "siqa/dev-labels.lst",
    ];
    Some(
        names
            .into_iter()
            .map(|name| (name, root.join(name)))
            .collect(),
    )
}

#[test]
fn names_and_places_do_not_matter() {
    let Some(copies) = copies() else { return };
    let folder = tempfile::tempdir().unwrap();
    for (number, (_, from)) in copies.iter().enumerate() {
        let place = folder.path().join(format!("x/{number}"));
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("renamed"), fs::read(from).unwrap()).unwrap();
    }
    let data = DataDir::open(folder.path()).unwrap();
    for (name, from) in &copies {
        assert_eq!(data.read(name).unwrap().bytes, fs::read(from).unwrap());
    }
    let read: Vec<String> = data.files_read().into_keys().collect();
    assert_eq!(
        read,
        [
            "mmlu/dev/virology_dev.csv",
            "siqa/dev-labels.lst",
            "winogender/templates.tsv"
        ]
    );
    assert!(data.clone().files_read().is_empty());
}

fn message(folder: &Path, name: &str) -> String {
    DataDir::open(folder)
        .unwrap()
        .read(name)
        .unwrap_err()
        .to_string()
}

#[test]
fn a_missing_file_names_hash_size_and_address() {
    let folder = tempfile::tempdir().unwrap();
    let message = message(folder.path(), "boolq/dev.jsonl");
    for part in [
        "`boolq/dev.jsonl` is missing",
        "2238726 bytes",
        "ebc29ea3808c5c611672384b3de56e83349fe38fc1fe876fd29b674d81d0a80a",
        "\nhint: get it from https://storage.googleapis.com/boolq/dev.jsonl",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_wrong_or_truncated_file_is_named_as_such() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("boolq")).unwrap();
    fs::create_dir(folder.path().join("siqa")).unwrap();
    fs::write(folder.path().join("boolq/dev.jsonl"), "abc").unwrap();
    fs::write(folder.path().join("siqa/dev.jsonl"), "other").unwrap();
    let message = message(folder.path(), "boolq/dev.jsonl");
    // SHA-256 of "abc" (FIPS 180-2, appendix B.1).
    let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert!(
        message.contains("is the wrong file: it has 3 bytes"),
        "{message}"
    );
    assert!(
        message.contains(sha256) && message.contains("cut short?"),
        "{message}"
    );
    assert!(
        message.contains("boolq/dev.jsonl") && !message.contains("siqa"),
        "{message}"
    );
}

#[test]
fn same_size_other_content_is_not_found() {
    let Some(copies) = copies() else { return };
    let (name, from) = &copies[0];
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = fs::read(from).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(folder.path().join("templates.tsv"), bytes).unwrap();
    let message = message(folder.path(), name);
    assert!(
        message.contains("is the wrong file") && !message.contains("cut short"),
        "{message}"
    );
}

#[test]
fn a_file_changed_after_the_search_is_refused() {
    let Some(copies) = copies() else { return };
    let (name, from) = &copies[0];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("templates.tsv");
    let bytes = fs::read(from).unwrap();
    fs::write(&path, &bytes).unwrap();
    let data = DataDir::open(folder.path()).unwrap();
    let mut longer = bytes.clone();
    longer.extend_from_slice(b"\nmore");
    let mut changed = bytes;
    *changed.last_mut().unwrap() ^= 1;
    for bytes in [changed, longer] {
        fs::write(&path, bytes).unwrap();
        assert!(
            data.read(name)
                .unwrap_err()
                .problem
                .contains("changed since")
        );
    }
    assert!(data.files_read().is_empty());
}

#[cfg(unix)]
#[test]
fn links_are_passed_over_and_counted() {
    let Some(copies) = copies() else { return };
    let (name, from) = &copies[0];
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(from, folder.path().join("templates.tsv")).unwrap();
    std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).unwrap();
    let message = message(folder.path(), name);
    assert!(
        message.contains("2 links or unreadable entries"),
        "{message}"
    );
}

#[test]
fn a_folder_that_is_none_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let error = DataDir::open(&folder.path().join("nowhere")).unwrap_err();
    assert!(
        error.to_string().contains("\nhint: name the folder"),
        "{error}"
    );
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(DataDir::open(&file).is_err());
}

#[test]
fn unpinned_names_and_paths_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir::open(folder.path()).unwrap();
    for name in ["../secret", "/etc/passwd", "boolq/test.jsonl", ""] {
        assert!(
            data.read(name)
                .unwrap_err()
                .problem
                .contains("no such file in `datasets.lock`")
        );
        assert!(!data.has(name));
    }
}

#[test]
fn one_of_several_files_will_do() {
    let folder = tempfile::tempdir().unwrap();
    let names = [
        "hellaswag/hellaswag_val.jsonl",
        "hellaswag/hellaswag_val_full.txt",
    ];
    let error = DataDir::open(folder.path())
        .unwrap()
        .read_first(&names)
        .unwrap_err();
    assert!(
        error.problem.contains(names[0]) && error.hint.contains(names[1]),
        "{error}"
    );
    let files = BTreeMap::from([(names[1].to_owned(), b"text".to_vec())]);
    assert_eq!(
        DataDir::from_memory("test", files)
            .read_first(&names)
            .unwrap()
            .name,
        names[1]
    );
}

#[test]
fn files_called_by_number_come_in_numeric_order() {
    let folder = tempfile::tempdir().unwrap();
    let names = DataDir::open(folder.path())
        .unwrap()
        .names_under("race/test/middle/")
        .unwrap();
    assert_eq!(names.len(), 362);
    let numbers = names.iter().map(|name| {
        name.rsplit('/')
            .next()
            .unwrap()
            .strip_suffix(".txt")
            .unwrap()
    });
    let numbers: Vec<u64> = numbers.map(|number| number.parse().unwrap()).collect();
    assert!(numbers.is_sorted());
    assert!(
        DataDir::open(folder.path())
            .unwrap()
            .names_under("nothing/")
            .is_err()
    );
}
