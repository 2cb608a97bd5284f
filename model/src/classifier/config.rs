//! `config.json` of a classifier: its shape, its labels and how a probability is read off them.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Names of the label that stands for a toxic text, in lower case.
const TOXIC: [&str; 2] = ["toxic", "toxicity"];
/// More labels than any classifier of this kind has.
const MAXIMUM_LABELS: usize = 1024;

/// What of `config.json` counts, under the names it has there.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    architectures: Vec<String>,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    #[serde(default = "gelu")]
    hidden_act: String,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: Option<f64>,
    pad_token_id: Option<u32>,
    position_embedding_type: Option<String>,
    id2label: Option<BTreeMap<String, String>>,
    problem_type: Option<String>,
}

fn gelu() -> String {
    "gelu".to_owned()
}

/// Which network it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Architecture {
    /// `BertForSequenceClassification`.
    Bert,
    /// `RobertaForSequenceClassification`.
    Roberta,
}

impl Architecture {
    /// What the encoder's tensors begin with.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Bert => "bert",
            Self::Roberta => "roberta",
        }
    }
}

/// The activation functions in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activation {
    Gelu,
    GeluTanh,
    Relu,
}

/// How logits become probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Labels exclude each other.
    Softmax,
    /// Each label by itself.
    Sigmoid,
}

/// A checked configuration.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    pub(super) architecture: Architecture,
    pub(super) vocabulary: usize,
    pub(super) hidden: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) intermediate: usize,
    pub(super) activation: Activation,
    pub(super) positions: usize,
    pub(super) token_types: usize,
    pub(super) norm_epsilon: f64,
    /// RoBERTa counts positions from the one after it.
    pub(super) padding: u32,
    pub(super) labels: Vec<String>,
    /// Or why the probability of being toxic cannot be read.
    pub(super) toxic: Result<(usize, Reading), String>,
}

impl Config {
    /// Reads the text of a `config.json`; what it does not say is as in transformers.
    pub(super) fn read(text: &[u8]) -> Result<Self, String> {
        let file: File = serde_json::from_slice(text)
            .map_err(|error| format!("is no classifier's configuration: {error}"))?;
        let architecture = match file.architectures.as_slice() {
            [name] if name == "BertForSequenceClassification" => Architecture::Bert,
            [name] if name == "RobertaForSequenceClassification" => Architecture::Roberta,
            names => {
                return Err(format!(
                    "`architectures` is {names:?}, expected `BertForSequenceClassification` or \
                     `RobertaForSequenceClassification`"
                ));
            }
        };
        let activation = match file.hidden_act.as_str() {
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            other => return Err(format!("`hidden_act` is `{other}`, expected `gelu`")),
        };
        if let Some(kind) = file.position_embedding_type
            && kind != "absolute"
        {
            return Err(format!(
                "`position_embedding_type` is `{kind}`, expected `absolute`"
            ));
        }
        let bounded = [
            ("vocab_size", file.vocab_size, 1 << 22),
            ("hidden_size", file.hidden_size, 1 << 14),
            ("num_hidden_layers", file.num_hidden_layers, 1 << 10),
            ("num_attention_heads", file.num_attention_heads, 1 << 10),
            ("intermediate_size", file.intermediate_size, 1 << 16),
            // Attention takes the square of it in memory.
            (
                "max_position_embeddings",
                file.max_position_embeddings,
                1 << 14,
            ),
            ("type_vocab_size", file.type_vocab_size, 1 << 10),
        ];
        for (name, value, limit) in bounded {
            if value == 0 || value > limit {
                return Err(format!("`{name}` is {value}, expected 1 to {limit}"));
            }
        }
        if !file.hidden_size.is_multiple_of(file.num_attention_heads) {
            return Err(format!(
                "`hidden_size` {} is no multiple of `num_attention_heads` {}",
                file.hidden_size, file.num_attention_heads
            ));
        }
        let norm_epsilon = file.layer_norm_eps.unwrap_or(1e-12);
        if !(norm_epsilon > 0.0 && norm_epsilon < 1.0) {
            return Err(format!("`layer_norm_eps` is {norm_epsilon}"));
        }
        let labels = labels(file.id2label)?;
        Ok(Self {
            architecture,
            vocabulary: file.vocab_size,
            hidden: file.hidden_size,
            layers: file.num_hidden_layers,
            heads: file.num_attention_heads,
            intermediate: file.intermediate_size,
            activation,
            positions: file.max_position_embeddings,
            token_types: file.type_vocab_size,
            norm_epsilon,
            padding: file.pad_token_id.unwrap_or(match architecture {
                Architecture::Bert => 0,
                Architecture::Roberta => 1,
            }),
            toxic: toxic(&labels, file.problem_type.as_deref()),
            labels,
        })
    }

    /// Longest text in tokens, special ones included, that has positions.
    pub(super) fn most_tokens(&self) -> usize {
        match self.architecture {
            Architecture::Bert => self.positions,
            Architecture::Roberta => self
                .positions
                .saturating_sub(self.padding as usize)
                .saturating_sub(1),
        }
    }

    /// Name and shape of every tensor the network is made of.
    pub(super) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (hidden, inner, labels) = (self.hidden, self.intermediate, self.labels.len());
        let prefix = self.architecture.prefix();
        let mut tensors = Vec::new();
        let mut affine = |name: String, shape: Vec<usize>| {
            let outputs = shape.first().copied().into_iter().collect();
            tensors.push((format!("{name}.weight"), shape));
            tensors.push((format!("{name}.bias"), outputs));
        };
        affine(format!("{prefix}.embeddings.LayerNorm"), vec![hidden]);
        for layer in 0..self.layers {
            let layer = format!("{prefix}.encoder.layer.{layer}");
            for part in ["self.query", "self.key", "self.value", "output.dense"] {
                affine(format!("{layer}.attention.{part}"), vec![hidden, hidden]);
            }
            affine(format!("{layer}.attention.output.LayerNorm"), vec![hidden]);
            affine(format!("{layer}.intermediate.dense"), vec![inner, hidden]);
            affine(format!("{layer}.output.dense"), vec![hidden, inner]);
            affine(format!("{layer}.output.LayerNorm"), vec![hidden]);
        }
        match self.architecture {
            Architecture::Bert => {
                affine("bert.pooler.dense".to_owned(), vec![hidden, hidden]);
                affine("classifier".to_owned(), vec![labels, hidden]);
            }
            Architecture::Roberta => {
                affine("classifier.dense".to_owned(), vec![hidden, hidden]);
                affine("classifier.out_proj".to_owned(), vec![labels, hidden]);
            }
        }
        let tables = [
            ("word", self.vocabulary),
            ("position", self.positions),
            ("token_type", self.token_types),
        ];
        tensors.extend(tables.map(|(name, rows)| {
            (
                format!("{prefix}.embeddings.{name}_embeddings.weight"),
                vec![rows, hidden],
            )
        }));
        tensors
    }
}

/// Labels by index: `id2label` must name each from 0 on.
fn labels(names: Option<BTreeMap<String, String>>) -> Result<Vec<String>, String> {
    let Some(names) = names else {
        return Ok(vec!["LABEL_0".to_owned(), "LABEL_1".to_owned()]);
    };
    if names.is_empty() || names.len() > MAXIMUM_LABELS {
        return Err(format!(
            "`id2label` has {} labels, expected 1 to {MAXIMUM_LABELS}",
            names.len()
        ));
    }
    (0..names.len())
        .map(|index| {
            names
                .get(&index.to_string())
                .cloned()
                .ok_or_else(|| format!("`id2label` does not name label {index}"))
        })
        .collect()
}

/// Which label means toxic, and how its probability is read, as transformers' pipeline does it;
/// where that has to guess, nothing is read.
fn toxic(labels: &[String], problem_type: Option<&str>) -> Result<(usize, Reading), String> {
    let matching: Vec<usize> = (0..labels.len())
        .filter(|&index| {
            labels
                .get(index)
                .is_some_and(|label| TOXIC.contains(&label.to_lowercase().as_str()))
        })
        .collect();
    let &[label] = matching.as_slice() else {
        return Err(format!(
            "has {} labels called `toxic` or `toxicity` among {labels:?}, expected one",
            matching.len()
        ));
    };
    let reading = match (problem_type, labels.len()) {
        (Some("multi_label_classification"), _) | (None, 1) => Reading::Sigmoid,
        (Some("single_label_classification"), 2..) | (None, 2) => Reading::Softmax,
        (None, count) => {
            return Err(format!(
                "has {count} labels and no `problem_type` that says whether they exclude each other"
            ));
        }
        (Some(other), count) => {
            return Err(format!("`problem_type` is `{other}` with {count} labels"));
        }
    };
    Ok((label, reading))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::{Value, json};

    use super::*;

    fn with(changes: Value) -> Result<Config, String> {
        let mut config = json!({
            "architectures": ["RobertaForSequenceClassification"], "vocab_size": 10, "hidden_size": 8,
            "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8,
            "max_position_embeddings": 514, "type_vocab_size": 1, "pad_token_id": 1,
        });
        for (name, value) in changes.as_object().unwrap() {
            config[name] = value.clone();
        }
        Config::read(config.to_string().as_bytes())
    }

    #[test]
    fn the_toxic_label_and_its_reading() {
        let six = json!({"0": "toxic", "1": "severe_toxic", "2": "obscene", "3": "threat", "4": "insult", "5": "identity_hate"});
        let two = json!({"0": "neutral", "1": "toxic"});
        let multi = json!("multi_label_classification");
        let cases = [
            (&two, Value::Null, Ok((1, Reading::Softmax))),
            (
                &two,
                json!("single_label_classification"),
                Ok((1, Reading::Softmax)),
            ),
            (&two, multi.clone(), Ok((1, Reading::Sigmoid))),
            (&six, multi.clone(), Ok((0, Reading::Sigmoid))),
            (
                &six,
                json!("single_label_classification"),
                Ok((0, Reading::Softmax)),
            ),
            (
                &json!({"0": "Toxicity"}),
                Value::Null,
                Ok((0, Reading::Sigmoid)),
            ),
            (&six, Value::Null, Err("no `problem_type`")),
            (&two, json!("regression"), Err("`regression`")),
            (
                &json!({"0": "LABEL_0", "1": "LABEL_1"}),
                Value::Null,
                Err("has 0 labels called"),
            ),
            (
                &json!({"0": "toxic", "1": "toxicity"}),
                Value::Null,
                Err("has 2 labels called"),
            ),
            (
                &json!({"0": "non-toxic", "1": "toxic"}),
                Value::Null,
                Ok((1, Reading::Softmax)),
            ),
        ];
        for (labels, problem, expected) in cases {
            let config = with(json!({"id2label": labels, "problem_type": problem})).unwrap();
            match expected {
                Ok(expected) => assert_eq!(config.toxic, Ok(expected), "{labels} {problem}"),
                Err(part) => assert!(
                    config
                        .toxic
                        .clone()
                        .is_err_and(|reason| reason.contains(part)),
                    "{labels} {problem}: {:?}",
                    config.toxic
                ),
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let cases = [
            (
                json!({"architectures": ["LlamaForCausalLM"]}),
                "`architectures`",
            ),
            (
                json!({"architectures": null}),
                "no classifier's configuration",
            ),
            (json!({"architectures": []}), "`architectures`"),
            (json!({"hidden_size": 0}), "`hidden_size` is 0"),
            (json!({"hidden_size": "8"}), "no classifier's configuration"),
            (json!({"hidden_size": 9}), "no multiple"),
            (
                json!({"num_hidden_layers": 1u64 << 40}),
                "`num_hidden_layers`",
            ),
            (
                json!({"max_position_embeddings": 1u64 << 40}),
                "`max_position_embeddings`",
            ),
            (json!({"vocab_size": -1}), "no classifier's configuration"),
            (json!({"hidden_act": "swish"}), "`hidden_act`"),
            (json!({"layer_norm_eps": 0.0}), "`layer_norm_eps`"),
            (
                json!({"position_embedding_type": "relative_key"}),
                "`position_embedding_type`",
            ),
            (json!({"id2label": {}}), "0 labels"),
            (json!({"id2label": {"0": "a", "2": "b"}}), "label 1"),
        ];
        for (changes, part) in cases {
            let problem = with(changes.clone()).err();
            assert!(
                problem
                    .as_ref()
                    .is_some_and(|problem| problem.contains(part)),
                "{changes}: {problem:?}"
            );
        }
    }

    #[test]
    fn positions_of_roberta_begin_after_the_padding() {
        assert_eq!(with(json!({})).unwrap().most_tokens(), 512);
        let bert = json!({"architectures": ["BertForSequenceClassification"], "max_position_embeddings": 512});
        assert_eq!(with(bert).unwrap().most_tokens(), 512);
        assert_eq!(
            with(json!({"pad_token_id": 4_000_000_000u32}))
                .unwrap()
                .most_tokens(),
            0
        );
    }
}
