//! Small random checkpoints for tests; no part of the interface.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use crate::{Config, RopeScaling};

/// Ids of the tiny tokenizer's special tokens: `<s>` and `</s>`.
pub const BOS: u32 = 0;
/// See [`BOS`].
pub const EOS: u32 = 1;

/// Merges of the tiny tokenizer, most frequent first, written as byte-level BPE does.
const MERGES: [(&str, &str); 12] = [
    ("Ġ", "t"),
    ("h", "e"),
    ("Ġ", "a"),
    ("i", "n"),
    ("Ġt", "he"),
    ("r", "e"),
    ("l", "l"),
    ("l", "o"),
    ("e", "r"),
    ("he", "llo"),
    ("ll", "o"),
    ("Ġ", "Ġ"),
];

/// Name, shape and numbers of a tensor.
pub type NamedWeights = (String, Vec<usize>, Vec<f32>);

/// A LLaMA small enough for any test: 2 layers, 4 heads over 2 key-value heads, untied.
pub fn tiny_config() -> Config {
    Config {
        vocabulary: 2 + 256 + MERGES.len(),
        hidden: 32,
        intermediate: 48,
        layers: 2,
        heads: 4,
        key_value_heads: 2,
        head_size: 8,
        norm_epsilon: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        context_length: 64,
        tied_embeddings: false,
        bos: Some(BOS),
        eos: vec![EOS],
    }
}

/// A small LLaMA of a head size that a card has kernels for: 6 heads over 2 key-value heads.
pub fn card_config() -> Config {
    Config {
        hidden: 96,
        heads: 6,
        key_value_heads: 2,
        head_size: 32,
        context_length: 256,
        ..tiny_config()
    }
}

/// Random weights for every tensor of `config`; equal seeds give equal weights.
pub fn random_weights(config: &Config, seed: u64) -> Vec<NamedWeights> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut uniform = || {
        // Knuth's MMIX generator; its high bits are good enough for weights.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    config
        .tensors()
        .into_iter()
        .map(|(name, shape)| {
            let (middle, spread) = if name.ends_with("norm.weight") {
                (1.0, 0.2)
            } else {
                (0.0, 0.3)
            };
            let numbers = (0..shape.iter().product())
                .map(|_| middle + spread * uniform())
                .collect();
            (name, shape, numbers)
        })
        .collect()
}

/// Writes a whole Hugging Face directory: configuration, random f32 weights, tokenizer.
///
/// # Errors
/// When the files cannot be written.
pub fn write_checkpoint(
    directory: &Path,
    config: &Config,
    seed: u64,
) -> Result<(), Box<dyn Error>> {
    write_config(directory, config)?;
    write_weights(
        &directory.join("model.safetensors"),
        &random_weights(config, seed),
    )?;
    fs::write(
        directory.join("tokenizer.json"),
        tokenizer_json().to_string(),
    )?;
    Ok(())
}

/// Writes `config.json`.
///
/// # Errors
/// When the file cannot be written.
pub fn write_config(directory: &Path, config: &Config) -> Result<(), Box<dyn Error>> {
    Ok(fs::write(
        directory.join("config.json"),
        config_json(config).to_string(),
    )?)
}

/// Writes tensors to one safetensors file, in f32.
///
/// # Errors
/// When the file cannot be written.
pub fn write_weights(path: &Path, weights: &[NamedWeights]) -> Result<(), Box<dyn Error>> {
    let bytes: Vec<Vec<u8>> = weights
        .iter()
        .map(|(_, _, numbers)| {
            numbers
                .iter()
                .flat_map(|number| number.to_le_bytes())
                .collect()
        })
        .collect();
    let mut views = BTreeMap::new();
    for ((name, shape, _), bytes) in weights.iter().zip(&bytes) {
        views.insert(
            name.clone(),
            TensorView::new(Dtype::F32, shape.clone(), bytes)?,
        );
    }
    Ok(safetensors::serialize_to_file(views, None, path)?)
}

/// `config.json` as transformers writes it.
pub fn config_json(config: &Config) -> Value {
    let scaling = match &config.rope_scaling {
        None | Some(RopeScaling::Factors { .. }) => Value::Null,
        Some(RopeScaling::Linear { factor }) => json!({"rope_type": "linear", "factor": factor}),
        Some(RopeScaling::Llama3 {
            factor,
            low_frequency_factor,
            high_frequency_factor,
            original_context_length,
        }) => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_frequency_factor,
            "high_freq_factor": high_frequency_factor,
            "original_max_position_embeddings": original_context_length,
        }),
    };
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocabulary,
        "hidden_size": config.hidden,
        "intermediate_size": config.intermediate,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.key_value_heads,
        "head_dim": config.head_size,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope_theta,
        "rope_scaling": scaling,
        "max_position_embeddings": config.context_length,
        "tie_word_embeddings": config.tied_embeddings,
        "bos_token_id": config.bos,
        "eos_token_id": config.eos,
    })
}

/// Vocabulary of the tiny byte-level tokenizer, by id.
pub fn vocabulary() -> Vec<String> {
    let mut tokens = vec!["<s>".to_owned(), "</s>".to_owned()];
    tokens.extend(byte_characters().map(String::from));
    tokens.extend(MERGES.iter().map(|(left, right)| format!("{left}{right}")));
    tokens
}

/// Merges of the tiny byte-level tokenizer, as `left right`.
pub fn merges() -> Vec<String> {
    MERGES
        .iter()
        .map(|(left, right)| format!("{left} {right}"))
        .collect()
}

/// A byte-level BPE `tokenizer.json` that puts `<s>` before a text.
pub fn tokenizer_json() -> Value {
    let vocabulary: serde_json::Map<String, Value> = vocabulary()
        .into_iter()
        .enumerate()
        .map(|(id, token)| (token, json!(id)))
        .collect();
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": false, "special": true})
    };
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [special(BOS, "<s>"), special(EOS, "</s>")],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                          "use_regex": true},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                     {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [BOS], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                    "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
                  "continuing_subword_prefix": null, "end_of_word_suffix": null,
                  "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocabulary, "merges": merges()},
    })
}

/// The 256 visible characters that stand for bytes in GPT-2's byte-level BPE, in its order.
fn byte_characters() -> impl Iterator<Item = char> {
    let visible = |byte: &u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let hidden = (0..256u32)
        .filter(move |byte| !visible(byte))
        .zip(256u32..)
        .map(|(_, stand_in)| stand_in);
    (0..256u32)
        .filter(visible)
        .chain(hidden)
        .filter_map(char::from_u32)
}

/// `checkpoint`'s tokenizer as a `tokenizer.json` with the pattern of GPT-2, as the reader of
/// transformers gives it to every byte-level GGUF file: it passes over `tokenizer.ggml.pre`.
/// SmolLM2's says `smollm`, which splits digits off, so that "about  37" becomes other tokens.
///
/// # Errors
/// When the tokenizer cannot be written as JSON.
pub fn gold_tokenizer(checkpoint: &crate::Checkpoint) -> Result<String, Box<dyn Error>> {
    let mut tokenizer: Value = serde_json::from_str(&checkpoint.tokenizer().to_json()?)?;
    tokenizer["pre_tokenizer"] = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true
    });
    Ok(tokenizer.to_string())
}
