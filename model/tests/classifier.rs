//! Text classifiers against transformers' logits, and directories that are none.
//!
//! The checkpoints and answers in `fixtures/classifiers` are made by
//! `scripts/make-classifier-fixtures`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use llama_eval_model::testing::{NamedWeights, write_weights};
use llama_eval_model::{Classifier, ModelError};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

const NAMES: [&str; 3] = [
    "bert-single-label",
    "bert-multi-label",
    "roberta-single-label",
];

fn fixtures() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/classifiers"
    ))
}

fn open(name: &str) -> Classifier {
    Classifier::open(&fixtures().join(name)).unwrap_or_else(|error| panic!("{error}"))
}

fn answers() -> Value {
    serde_json::from_slice(&fs::read(fixtures().join("answers.json")).unwrap()).unwrap()
}

fn texts(answers: &Value) -> Vec<&str> {
    let texts = answers["texts"].as_array().unwrap();
    texts.iter().map(|text| text.as_str().unwrap()).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    let numbers = value.as_array().unwrap();
    numbers
        .iter()
        .map(|number| number.as_f64().unwrap())
        .collect()
}

/// A changeable copy of a fixture.
fn copy(name: &str) -> TempDir {
    let copy = tempdir().unwrap();
    for entry in fs::read_dir(fixtures().join(name)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

fn change_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn change_weights(directory: &Path, change: impl FnOnce(&mut Vec<NamedWeights>)) {
    let path = directory.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let mut weights: Vec<NamedWeights> = SafeTensors::deserialize(&bytes)
        .unwrap()
        .iter()
        .map(|(name, view)| {
            let numbers = view.data().as_chunks::<4>().0;
            let numbers = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes));
            (name.to_owned(), view.shape().to_vec(), numbers.collect())
        })
        .collect();
    change(&mut weights);
    write_weights(&path, &weights).unwrap();
}

fn rename(weights: &mut [NamedWeights], from: &str, to: &str) {
    let found = weights.iter_mut().find(|(name, ..)| name == from).unwrap();
    to.clone_into(&mut found.0);
}

#[test]
fn logits_and_toxicity_are_those_of_transformers() {
    let answers = answers();
    let texts = texts(&answers);
    for name in NAMES {
        let classifier = open(name);
        let expected = &answers["classifiers"][name];
        let logits = classifier.logits(&texts).unwrap();
        let toxicity = classifier.toxicity(&texts).unwrap();
        assert_eq!(logits.len(), texts.len());
        let expected_toxicity = numbers(&expected["toxicity"]);
        for (index, text) in texts.iter().enumerate() {
            let expected = numbers(&expected["logits"][index]);
            assert_eq!(logits[index].len(), expected.len());
            for (own, theirs) in logits[index].iter().zip(&expected) {
                assert!(
                    (f64::from(*own) - theirs).abs() < 1e-5,
                    "{name}, {text:?}: {own} {theirs}"
                );
            }
            assert!(
                (toxicity[index] - expected_toxicity[index]).abs() < 1e-6,
                "{name}, {text:?}: {} {}",
                toxicity[index],
                expected_toxicity[index]
            );
        }
        let longest = numbers(&expected["tokens"]).into_iter().fold(0.0, f64::max);
        assert_eq!(classifier.most_tokens() as f64, longest);
    }
}

#[test]
fn a_text_has_the_same_bits_in_any_company() {
    let answers = answers();
    let texts = texts(&answers);
    for name in NAMES {
        let classifier = open(name);
        let together = classifier.logits(&texts).unwrap();
        let backwards: Vec<&str> = texts.iter().rev().copied().collect();
        let mut backwards = classifier.logits(&backwards).unwrap();
        backwards.reverse();
        assert_eq!(together, backwards);
        for (text, logits) in texts.iter().zip(&together) {
            assert_eq!(&classifier.logits(&[text]).unwrap()[0], logits, "{text:?}");
        }
        assert_eq!(classifier.logits(&[]).unwrap(), Vec::<Vec<f32>>::new());
    }
}

#[test]
fn names_labels_and_versions() {
    let classifier = open("bert-multi-label");
    assert_eq!(classifier.name(), "bert-multi-label");
    assert_eq!(classifier.labels().len(), 6);
    assert_eq!(classifier.toxic_label().unwrap(), "toxic");
    assert_eq!(
        classifier.identity(),
        format!("bert-multi-label@{}", &classifier.sha256()[..16])
    );
    let mut versions = vec![classifier.sha256().to_owned()];
    let same = copy("bert-multi-label");
    assert_eq!(Classifier::open(same.path()).unwrap().sha256(), versions[0]);
    let change = |path: &str, change: &dyn Fn(&mut Value)| {
        let copy = copy("bert-multi-label");
        change_json(&copy.path().join(path), change);
        Classifier::open(copy.path()).unwrap().sha256().to_owned()
    };
    versions.push(change("tokenizer_config.json", &|it| {
        it["model_max_length"] = json!(19);
    }));
    versions.push(change("tokenizer.json", &|it| {
        it["normalizer"]["lowercase"] = json!(false);
    }));
    versions.push(change("config.json", &|it| {
        it["layer_norm_eps"] = json!(1e-5)
    }));
    let weights = copy("bert-multi-label");
    change_weights(weights.path(), |weights| weights[0].2[0] += 1.0);
    versions.push(
        Classifier::open(weights.path())
            .unwrap()
            .sha256()
            .to_owned(),
    );
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), 5);
}

#[test]
fn a_limit_above_the_positions_is_none() {
    for limit in [json!(1e30), json!(512), Value::Null] {
        let copy = copy("bert-multi-label");
        change_json(&copy.path().join("tokenizer_config.json"), |it| {
            it["model_max_length"] = limit.clone();
        });
        let classifier = Classifier::open(copy.path()).unwrap();
        assert_eq!(classifier.most_tokens(), 24, "{limit}");
    }
}

#[test]
fn tensors_nobody_needs_are_passed_over() {
    let copy = copy("roberta-single-label");
    change_weights(copy.path(), |weights| {
        weights.push((
            "roberta.embeddings.position_ids".to_owned(),
            vec![1, 2],
            vec![0.0, 1.0],
        ));
        weights.push((
            "roberta.pooler.dense.bias".to_owned(),
            vec![2],
            vec![0.0, 1.0],
        ));
    });
    let text = ["hello world"];
    assert_eq!(
        Classifier::open(copy.path())
            .unwrap()
            .logits(&text)
            .unwrap(),
        open("roberta-single-label").logits(&text).unwrap()
    );
}

#[test]
fn weights_that_are_no_numbers_give_no_probability() {
    for name in NAMES {
        let copy = copy(name);
        change_weights(copy.path(), |weights| {
            let (_, _, bias) = weights
                .iter_mut()
                .find(|(name, ..)| name.starts_with("classifier") && name.ends_with("bias"))
                .unwrap();
            bias.fill(f32::NAN);
        });
        let classifier = Classifier::open(copy.path()).unwrap();
        assert!(classifier.toxicity(&["hello"]).unwrap()[0].is_nan());
    }
}

#[test]
fn labels_that_do_not_tell_are_refused_only_where_asked() {
    let copy = copy("bert-multi-label");
    change_json(&copy.path().join("config.json"), |it| {
        it.as_object_mut().unwrap().remove("problem_type");
    });
    let classifier = Classifier::open(copy.path()).unwrap();
    assert_eq!(classifier.logits(&["hello"]).unwrap()[0].len(), 6);
    for error in [
        classifier.toxicity(&["hello"]).unwrap_err(),
        classifier.toxic_label().unwrap_err(),
    ] {
        assert!(error.to_string().contains("`problem_type`"), "{error}");
        assert!(error.to_string().contains("\nhint: "), "{error}");
    }
}

#[test]
fn a_token_the_network_does_not_have_is_an_error() {
    let copy = copy("bert-single-label");
    change_json(&copy.path().join("tokenizer.json"), |it| {
        it["model"]["vocab"]["hello"] = json!(4_000_000_000u32);
    });
    let classifier = Classifier::open(copy.path()).unwrap();
    assert!(classifier.logits(&["world"]).is_ok());
    let error = classifier.logits(&["world", "hello"]).unwrap_err();
    assert!(matches!(&error, ModelError::Tokenizer(_)), "{error}");
}

#[test]
fn directories_that_are_no_classifier_are_refused_with_a_hint() {
    type Change = Box<dyn Fn(&Path)>;
    let remove = |name: &'static str| -> Change {
        Box::new(move |directory| fs::remove_file(directory.join(name)).unwrap())
    };
    let replace = |name: &'static str, text: &'static [u8]| -> Change {
        Box::new(move |directory| fs::write(directory.join(name), text).unwrap())
    };
    let config = |field: &'static str, value: Value| -> Change {
        Box::new(move |directory| {
            change_json(&directory.join("config.json"), |it| {
                it[field] = value.clone()
            });
        })
    };
    let weights = |change: fn(&mut Vec<NamedWeights>)| -> Change {
        Box::new(move |directory| change_weights(directory, change))
    };
    let cases: Vec<(Change, &str)> = vec![
        (remove("config.json"), "has no `config.json`"),
        (remove("tokenizer.json"), "has no `tokenizer.json`"),
        (
            remove("model.safetensors"),
            "has neither `model.safetensors`",
        ),
        (
            Box::new(|directory| {
                let weights = directory.join("model.safetensors");
                fs::rename(weights, directory.join("pytorch_model.bin")).unwrap();
            }),
            "pickled PyTorch weights",
        ),
        (
            replace("config.json", b"{"),
            "no classifier's configuration",
        ),
        (
            replace("config.json", b"[]"),
            "no classifier's configuration",
        ),
        (
            replace("config.json", b"\xff\xfe"),
            "no classifier's configuration",
        ),
        (replace("config.json", b""), "is empty"),
        (replace("tokenizer.json", b"{}"), "is not a tokenizer"),
        (
            replace("tokenizer_config.json", b"7"),
            "no tokenizer's configuration",
        ),
        (
            replace("tokenizer_config.json", br#"{"model_max_length": 1}"#),
            "puts 2 special tokens around a text, the classifier takes 1 tokens",
        ),
        (
            replace("tokenizer_config.json", br#"{"model_max_length": -5}"#),
            "the classifier takes 0 tokens",
        ),
        (
            replace("model.safetensors", b"not tensors"),
            "is not a safetensors file",
        ),
        (
            Box::new(|directory| {
                let path = directory.join("model.safetensors");
                let bytes = fs::read(&path).unwrap();
                fs::write(&path, &bytes[..bytes.len() - 8]).unwrap();
            }),
            "cut off",
        ),
        (
            config("vocab_size", json!(70)),
            "is [69, 16], expected [70, 16]",
        ),
        (
            config("vocab_size", json!(4_000_000)),
            "expected [4000000, 16]",
        ),
        (config("num_hidden_layers", json!(3)), "encoder.layer.2."),
        (
            config("num_hidden_layers", json!(1)),
            "is none of the classifier's",
        ),
        (config("num_attention_heads", json!(3)), "no multiple"),
        (
            config("id2label", json!({"0": "toxic"})),
            "expected [1, 16]",
        ),
        (
            config("architectures", json!(["BertForMaskedLM"])),
            "`architectures`",
        ),
        (
            config("architectures", json!(["RobertaForSequenceClassification"])),
            "is none of the classifier's",
        ),
        (
            weights(|weights| rename(weights, "classifier.weight", "classifier.w")),
            "`classifier.w` is none",
        ),
        (
            weights(|weights| weights.retain(|(name, ..)| name != "bert.pooler.dense.bias")),
            "`bert.pooler.dense.bias` is missing",
        ),
        (
            weights(|weights| {
                let found = weights
                    .iter_mut()
                    .find(|(name, ..)| name == "classifier.bias");
                *found.unwrap() = ("classifier.bias".to_owned(), vec![1, 2], vec![0.0; 2]);
            }),
            "`classifier.bias` is [1, 2], expected [2]",
        ),
    ];
    for (change, part) in cases {
        let copy = copy("bert-single-label");
        change(copy.path());
        let error = Classifier::open(copy.path()).unwrap_err().to_string();
        assert!(error.contains(part), "expected {part:?}: {error}");
        assert!(error.contains("\nhint: "), "{error}");
    }
    let nowhere = Classifier::open(Path::new("no/such/directory")).unwrap_err();
    assert!(nowhere.to_string().contains("has no `config.json`"));
}
