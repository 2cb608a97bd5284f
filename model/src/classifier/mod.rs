//! Classifiers of whole texts: BERT and RoBERTa with a classification head.
//!
//! The encoders are candle-transformers'; pooler, heads, labels and limits are here. Each text is
//! computed by itself, without padding, so that its logits are the same bits whatever else is
//! asked; texts run in parallel.

mod config;

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use candle_nn::{Activation, Linear, Module, VarBuilder, linear};
use candle_transformers::models::bert::{self, BertModel, HiddenAct};
use candle_transformers::models::xlm_roberta::{self, XLMRobertaForSequenceClassification};
use rayon::prelude::*;
use serde::Deserialize;
use tokenizers::{TruncationDirection, TruncationParams, TruncationStrategy};

use self::config::{Architecture, Config, Reading};
use crate::ModelError;
use crate::checkpoint::{
    CONFIG, MAXIMUM_CONFIG, MAXIMUM_TOKENIZER, TOKENIZER, TOKENIZER_CONFIG, WeightFiles, exists,
    fingerprint, name_of, read_bounded, refuse,
};
use crate::memory;

const BELONGS: &str = "check that it belongs to this checkpoint";
const KNOWN: &str = "give the Hugging Face directory of a BERT or RoBERTa classifier, such as \
     `unitary/toxic-bert` or `s-nlp/roberta_toxicity_classifier`";
/// Characters of the weights' SHA-256 in [`Classifier::identity`].
const SHORT: usize = 16;

/// A classifier in this process, in f32 on the CPU.
pub struct Classifier {
    directory: PathBuf,
    name: String,
    sha256: String,
    config: Config,
    tokenizer: tokenizers::Tokenizer,
    most_tokens: usize,
    network: Network,
}

enum Network {
    Bert {
        encoder: BertModel,
        pooler: Linear,
        head: Linear,
    },
    Roberta(XLMRobertaForSequenceClassification),
}

/// What of `tokenizer_config.json` counts. The number is 1e30 where there is no limit.
#[derive(Deserialize)]
struct TokenizerConfig {
    model_max_length: Option<f64>,
}

impl Classifier {
    /// Opens a Hugging Face directory: `config.json` of a `BertForSequenceClassification` or a
    /// `RobertaForSequenceClassification`, weights in safetensors (pickled ones are refused),
    /// `tokenizer.json`, and the length limit in `tokenizer_config.json` where there is one.
    ///
    /// # Errors
    /// [`ModelError::Checkpoint`] naming the file, and the tensor with its expected shape where
    /// one is at fault.
    pub fn open(directory: &Path) -> Result<Self, ModelError> {
        let path = directory.join(CONFIG);
        if !exists(&path) {
            return Err(refuse(directory, format!("has no `{CONFIG}`"), KNOWN));
        }
        let config_text = read_bounded(&path, MAXIMUM_CONFIG)?;
        let config = Config::read(&config_text).map_err(|problem| refuse(&path, problem, KNOWN))?;
        let (tokenizer, tokenizer_json, most_tokens) = tokenizer(directory, &config)?;
        let files = WeightFiles::open(directory)?;
        let network = load(directory, &config, &files)?;
        let sha256 = fingerprint::of_parts([
            files.sha256(&config_text).as_bytes(),
            fingerprint::of_parts([tokenizer_json.as_slice()]).as_bytes(),
            // Where texts are cut decides on their logits too.
            &(most_tokens as u64).to_le_bytes(),
        ]);
        Ok(Self {
            directory: directory.to_owned(),
            name: name_of(directory),
            sha256,
            config,
            tokenizer,
            most_tokens,
            network,
        })
    }

    /// Short name: the directory's own.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 over configuration, weights, tokenizer and length limit, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Name and version for reports and keys: `toxic-bert@` and 16 characters of the SHA-256.
    pub fn identity(&self) -> String {
        let short = self.sha256.get(..SHORT).unwrap_or(&self.sha256);
        format!("{}@{short}", self.name)
    }

    /// Names of the labels, in the order of the logits.
    pub fn labels(&self) -> &[String] {
        &self.config.labels
    }

    /// Longest text in tokens, special ones included; what is longer is cut.
    pub fn most_tokens(&self) -> usize {
        self.most_tokens
    }

    /// The logits of each text, `[texts, labels]`. A text that is too long loses tokens at its
    /// end, as with `truncation=True` in transformers; special tokens stay. Logits may be NaN
    /// where weights are.
    ///
    /// # Errors
    /// When the tokenizer refuses a text or gives a token the network does not have, or when the
    /// tensor library fails.
    pub fn logits(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, ModelError> {
        texts.par_iter().map(|text| self.logits_of(text)).collect()
    }

    /// The probability of being toxic of each text, 0 to 1, or NaN where a logit is none. It is
    /// that of the label called `toxic` or `toxicity`: a sigmoid where labels do not exclude each
    /// other (`problem_type` `multi_label_classification`, or one label), a softmax over two
    /// labels that do, or where `problem_type` says so.
    ///
    /// # Errors
    /// As [`Classifier::logits`]; [`ModelError::Checkpoint`] when the labels do not tell, see
    /// [`Classifier::toxic_label`].
    pub fn toxicity(&self, texts: &[&str]) -> Result<Vec<f64>, ModelError> {
        let (label, reading) = self.toxic()?;
        let logits = self.logits(texts)?;
        Ok(logits
            .iter()
            .map(|logits| probability(logits, label, reading))
            .collect())
    }

    /// The label whose probability [`Classifier::toxicity`] gives.
    ///
    /// # Errors
    /// [`ModelError::Checkpoint`] when not exactly one label is called `toxic` or `toxicity`, or
    /// when nothing says whether more than two labels exclude each other.
    pub fn toxic_label(&self) -> Result<&str, ModelError> {
        let (label, _) = self.toxic()?;
        Ok(self.config.labels.get(label).map_or("", String::as_str))
    }

    fn toxic(&self) -> Result<(usize, Reading), ModelError> {
        self.config.toxic.clone().map_err(|problem| {
            refuse(
                &self.directory.join(CONFIG),
                problem,
                "name one label `toxic` in `id2label`, and set `problem_type` to \
                 `single_label_classification` or `multi_label_classification`",
            )
        })
    }

    fn logits_of(&self, text: &str) -> Result<Vec<f32>, ModelError> {
        let failed = |error: tokenizers::Error| ModelError::Tokenizer(error.to_string());
        let encoding = self.tokenizer.encode_fast(text, true).map_err(failed)?;
        let (ids, types) = (encoding.get_ids(), encoding.get_type_ids());
        if let Some(id) = ids
            .iter()
            .find(|&&id| id as usize >= self.config.vocabulary)
        {
            return Err(ModelError::Tokenizer(format!(
                "gives token {id}, the classifier has {}",
                self.config.vocabulary
            )));
        }
        if ids.is_empty() || ids.len() > self.most_tokens {
            return Err(ModelError::Tokenizer(format!(
                "gives {} tokens, expected 1 to {}",
                ids.len(),
                self.most_tokens
            )));
        }
        if types
            .iter()
            .any(|&kind| kind as usize >= self.config.token_types)
        {
            return Err(ModelError::Tokenizer(
                "gives a token type the classifier does not have".to_owned(),
            ));
        }
        self.network
            .forward(ids, types)
            .map_err(|error| ModelError::Device(error.to_string()))
    }
}

impl std::fmt::Debug for Classifier {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Classifier")
            .field("name", &self.name)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Network {
    /// The logits of one unpadded sequence, `[labels]`.
    fn forward(&self, ids: &[u32], types: &[u32]) -> candle_core::Result<Vec<f32>> {
        let ids = Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?;
        let types = Tensor::new(types, &Device::Cpu)?.unsqueeze(0)?;
        let logits = match self {
            Self::Bert {
                encoder,
                pooler,
                head,
            } => {
                let first = encoder
                    .forward(&ids, &types, None)?
                    .get_on_dim(1, 0)?
                    .contiguous()?;
                head.forward(&pooler.forward(&first)?.tanh()?)?
            }
            Self::Roberta(network) => network.forward(&ids, &ids.ones_like()?, &types)?,
        };
        logits.squeeze(0)?.to_vec1()
    }
}

fn probability(logits: &[f32], label: usize, reading: Reading) -> f64 {
    let Some(&wanted) = logits.get(label) else {
        return f64::NAN;
    };
    let wanted = f64::from(wanted);
    let sum: f64 = match reading {
        // 1 / sum of exp(other - wanted) is a softmax that cannot overflow into NaN.
        Reading::Softmax => logits
            .iter()
            .map(|&other| (f64::from(other) - wanted).exp())
            .sum(),
        Reading::Sigmoid => 1.0 + (-wanted).exp(),
    };
    1.0 / sum
}

/// The tokenizer with its special tokens, cutting at the limit also given; and its bytes.
fn tokenizer(
    directory: &Path,
    config: &Config,
) -> Result<(tokenizers::Tokenizer, Vec<u8>, usize), ModelError> {
    let path = directory.join(TOKENIZER);
    if !exists(&path) {
        return Err(refuse(
            directory,
            format!("has no `{TOKENIZER}`"),
            "transformers' `AutoTokenizer.from_pretrained(...).save_pretrained(...)` writes it",
        ));
    }
    let mut most_tokens = config.most_tokens();
    let beside = directory.join(TOKENIZER_CONFIG);
    if exists(&beside) {
        let text = read_bounded(&beside, MAXIMUM_CONFIG)?;
        let own: TokenizerConfig = serde_json::from_slice(&text).map_err(|error| {
            refuse(
                &beside,
                format!("is no tokenizer's configuration: {error}"),
                BELONGS,
            )
        })?;
        if let Some(limit) = own.model_max_length
            && limit < most_tokens as f64
        {
            most_tokens = limit.max(0.0) as usize;
        }
    }
    let json = read_bounded(&path, MAXIMUM_TOKENIZER)?;
    // The parser is not ours and the file is not trusted: a panic in it is a bad file.
    let parsed = catch_unwind(AssertUnwindSafe(|| {
        let mut tokenizer =
            tokenizers::Tokenizer::from_bytes(&json).map_err(|error| error.to_string())?;
        let empty = tokenizer
            .with_padding(None)
            .with_truncation(None)
            .and_then(|tokenizer| tokenizer.encode_fast("", true))
            .map_err(|error| error.to_string())?;
        if empty.is_empty() {
            return Err("puts no special token before a text".to_owned());
        }
        // Checked here: the library subtracts one from the other.
        if empty.len() > most_tokens {
            return Err(format!(
                "puts {} special tokens around a text, the classifier takes {most_tokens} tokens",
                empty.len()
            ));
        }
        tokenizer
            .with_truncation(Some(TruncationParams {
                max_length: most_tokens,
                strategy: TruncationStrategy::LongestFirst,
                stride: 0,
                direction: TruncationDirection::Right,
            }))
            .map_err(|error| error.to_string())?;
        Ok(tokenizer)
    }));
    let tokenizer = parsed
        .map_err(|_| "is not a tokenizer".to_owned())
        .and_then(|parsed| parsed)
        .map_err(|problem| refuse(&path, problem, BELONGS))?;
    Ok((tokenizer, json, most_tokens))
}

/// Checks every tensor's name and shape, then converts and assembles.
fn load(directory: &Path, config: &Config, files: &WeightFiles) -> Result<Network, ModelError> {
    let wanted = config.tensors();
    let names: BTreeSet<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
    if let Some(other) = files
        .names()
        .find(|name| !names.contains(name) && !unused(name))
    {
        return Err(refuse(
            directory,
            format!("tensor `{other}` is none of the classifier's"),
            KNOWN,
        ));
    }
    let bytes: u64 = wanted
        .iter()
        .map(|(_, shape)| 4 * shape.iter().product::<usize>() as u64)
        .sum();
    if bytes > memory::available() {
        return Err(refuse(
            directory,
            format!(
                "needs {}, {} is free",
                memory::display(bytes),
                memory::display(memory::available())
            ),
            "use a smaller classifier",
        ));
    }
    let tensors = wanted
        .into_iter()
        .map(|(name, shape)| {
            let tensor = files.tensor(&name, &shape)?;
            Ok((name, tensor))
        })
        .collect::<Result<HashMap<_, _>, ModelError>>()?;
    let tensors = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    assemble(config, tensors).map_err(|error| ModelError::Device(error.to_string()))
}

/// Tensors that old or pre-trained checkpoints hold and a classifier has no use for.
fn unused(name: &str) -> bool {
    name.ends_with(".position_ids")
        || name.ends_with(".token_type_ids")
        || name.starts_with("roberta.pooler.")
}

fn assemble(config: &Config, tensors: VarBuilder<'_>) -> candle_core::Result<Network> {
    let (hidden, labels) = (config.hidden, config.labels.len());
    Ok(match config.architecture {
        Architecture::Bert => {
            let shape = bert::Config {
                vocab_size: config.vocabulary,
                hidden_size: hidden,
                num_hidden_layers: config.layers,
                num_attention_heads: config.heads,
                intermediate_size: config.intermediate,
                hidden_act: match config.activation {
                    config::Activation::Gelu => HiddenAct::Gelu,
                    config::Activation::GeluTanh => HiddenAct::GeluApproximate,
                    config::Activation::Relu => HiddenAct::Relu,
                },
                max_position_embeddings: config.positions,
                type_vocab_size: config.token_types,
                layer_norm_eps: config.norm_epsilon,
                ..bert::Config::default()
            };
            Network::Bert {
                encoder: BertModel::load(tensors.pp("bert"), &shape)?,
                pooler: linear(hidden, hidden, tensors.pp("bert.pooler.dense"))?,
                head: linear(hidden, labels, tensors.pp("classifier"))?,
            }
        }
        Architecture::Roberta => {
            let shape = xlm_roberta::Config {
                hidden_size: hidden,
                layer_norm_eps: config.norm_epsilon,
                attention_probs_dropout_prob: 0.0,
                hidden_dropout_prob: 0.0,
                num_attention_heads: config.heads,
                position_embedding_type: "absolute".to_owned(),
                intermediate_size: config.intermediate,
                hidden_act: match config.activation {
                    config::Activation::Gelu => Activation::Gelu,
                    config::Activation::GeluTanh => Activation::NewGelu,
                    config::Activation::Relu => Activation::Relu,
                },
                num_hidden_layers: config.layers,
                vocab_size: config.vocabulary,
                max_position_embeddings: config.positions,
                type_vocab_size: config.token_types,
                pad_token_id: config.padding,
            };
            Network::Roberta(XLMRobertaForSequenceClassification::new(
                labels, &shape, tensors,
            )?)
        }
    })
}
