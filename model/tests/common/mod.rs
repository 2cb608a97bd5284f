//! What several test files share.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    unreachable_pub
)]

use std::path::{Path, PathBuf};

use llama_eval_model::testing::{self, NamedWeights};
use llama_eval_model::{
    Answer, Checkpoint, Config, LanguageModel, LoadOptions, Local, ModelError, Request, Sink,
    SinkError, Source,
};
use serde_json::Value;

/// A file of the shared gold folder, or `None`, said plainly, where there is none.
pub fn gold(name: &str) -> Option<PathBuf> {
    // `LLAMA_EVAL_GOLD` names the folder where the tests run far from where they were built.
    let folder = std::env::var_os("LLAMA_EVAL_GOLD").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/gold")),
        PathBuf::from,
    );
    available(folder.join(name))
}

/// The real checkpoint the gold answers were made with.
pub fn real_checkpoint() -> Option<Checkpoint> {
    let path = std::env::var_os("LLAMA_EVAL_CHECKPOINT").map_or_else(
        || {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../target/checkpoints/SmolLM2-135M-Instruct.Q4_1.gguf"
            ))
        },
        PathBuf::from,
    );
    let path = available(path)?;
    Some(Checkpoint::open(&Source::Path(path)).unwrap_or_else(|error| panic!("{error}")))
}

/// The real checkpoint with the tokenizer the gold answers were made with.
pub fn real_model() -> Option<Local> {
    let checkpoint = real_checkpoint()?;
    let tokenizer = testing::gold_tokenizer(&checkpoint).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, tokenizer).unwrap();
    let options = LoadOptions {
        tokenizer: Some(path),
        ..LoadOptions::default()
    };
    let source = Source::Path(checkpoint.source().into());
    Some(Local::open(&source, &options).unwrap_or_else(|error| panic!("{error}")))
}

struct Collect(Vec<Option<Answer>>);

impl Sink for Collect {
    fn answer(&mut self, index: usize, answer: Answer) -> Result<(), SinkError> {
        assert!(self.0[index].is_none(), "request {index} is answered twice");
        self.0[index] = Some(answer);
        Ok(())
    }
}

/// What `model` answers to each request; every one must be answered once.
pub fn answers(model: &mut dyn LanguageModel, requests: &[Request]) -> Vec<Answer> {
    let mut sink = Collect(vec![None; requests.len()]);
    model.answer(requests, &mut sink).unwrap();
    let answers = sink.0.into_iter().enumerate();
    answers
        .map(|(index, answer)| answer.unwrap_or_else(|| panic!("request {index} has no answer")))
        .collect()
}

fn available(path: PathBuf) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    let required = std::env::var("LLAMA_EVAL_REQUIRE_GOLD").is_ok_and(|value| value == "1");
    assert!(!required, "{} not found", path.display());
    println!("skipped: {} not found", path.display());
    None
}

/// The lines of a JSON Lines file.
pub fn lines(path: PathBuf) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A tensor as GGUF stores it: name, shape with the fastest dimension first, type, bytes.
#[derive(Clone)]
pub struct GgufTensor {
    pub name: String,
    pub shape: Vec<u64>,
    pub kind: u32,
    pub bytes: Vec<u8>,
    /// Where it claims to begin in the data section, instead of where it does.
    pub offset: Option<u64>,
}

/// A metadata value to write.
#[derive(Clone)]
pub enum Meta {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    Floats(Vec<f32>),
    Integers(Vec<i32>),
}

/// Writes a GGUF file of version 3 (or another) with 32-byte alignment.
pub fn gguf(version: u32, metadata: &[(String, Meta)], tensors: &[GgufTensor]) -> Vec<u8> {
    let mut file = b"GGUF".to_vec();
    let text = |file: &mut Vec<u8>, text: &str| {
        file.extend((text.len() as u64).to_le_bytes());
        file.extend(text.as_bytes());
    };
    let array = |file: &mut Vec<u8>, kind: u32, count: usize| {
        file.extend(9u32.to_le_bytes());
        file.extend(kind.to_le_bytes());
        file.extend((count as u64).to_le_bytes());
    };
    file.extend(version.to_le_bytes());
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        text(&mut file, key);
        match value {
            Meta::U32(number) => {
                file.extend(4u32.to_le_bytes());
                file.extend(number.to_le_bytes());
            }
            Meta::F32(number) => {
                file.extend(6u32.to_le_bytes());
                file.extend(number.to_le_bytes());
            }
            Meta::Bool(flag) => {
                file.extend(7u32.to_le_bytes());
                file.push(u8::from(*flag));
            }
            Meta::Text(value) => {
                file.extend(8u32.to_le_bytes());
                text(&mut file, value);
            }
            Meta::Texts(values) => {
                array(&mut file, 8, values.len());
                values.iter().for_each(|value| text(&mut file, value));
            }
            Meta::Floats(values) => {
                array(&mut file, 6, values.len());
                values
                    .iter()
                    .for_each(|value| file.extend(value.to_le_bytes()));
            }
            Meta::Integers(values) => {
                array(&mut file, 5, values.len());
                values
                    .iter()
                    .for_each(|value| file.extend(value.to_le_bytes()));
            }
        }
    }
    let mut offset = 0u64;
    for tensor in tensors {
        text(&mut file, &tensor.name);
        file.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor
            .shape
            .iter()
            .for_each(|length| file.extend(length.to_le_bytes()));
        file.extend(tensor.kind.to_le_bytes());
        file.extend(tensor.offset.unwrap_or(offset).to_le_bytes());
        offset = (offset + tensor.bytes.len() as u64).next_multiple_of(32);
    }
    for tensor in tensors {
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(&tensor.bytes);
    }
    file
}

/// The bytes of f32 numbers.
pub fn f32_bytes(numbers: &[f32]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

/// Numbers of a tensor, flat.
pub fn flat(tensor: &candle_core::Tensor) -> Vec<f32> {
    tensor
        .to_dtype(candle_core::DType::F32)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

/// A random matrix row order as llama.cpp's converter makes it: within each head, the row of pair
/// `i` and half `j` moves from `j * half + i` to `2 * i + j`.
fn interleave(numbers: &[f32], columns: usize, head_size: usize) -> Vec<f32> {
    let half = head_size / 2;
    let mut moved = vec![0.0; numbers.len()];
    for (row, values) in numbers.chunks(columns).enumerate() {
        let (head, within) = (row / head_size, row % head_size);
        let target = head * head_size + 2 * (within % half) + within / half;
        moved[target * columns..(target + 1) * columns].copy_from_slice(values);
    }
    moved
}

/// Metadata of a LLaMA in GGUF with the byte-level tokenizer of the testing module.
pub fn llama_metadata(config: &Config) -> Vec<(String, Meta)> {
    let number = |key: &str, value: usize| (format!("llama.{key}"), Meta::U32(value as u32));
    let tokens = testing::vocabulary();
    let types = tokens
        .iter()
        .map(|token| if token.ends_with("s>") { 3 } else { 1 })
        .collect();
    let mut metadata = vec![
        (
            "general.architecture".to_owned(),
            Meta::Text("llama".to_owned()),
        ),
        number("block_count", config.layers),
        number("context_length", config.context_length),
        number("embedding_length", config.hidden),
        number("feed_forward_length", config.intermediate),
        number("attention.head_count", config.heads),
        number("attention.head_count_kv", config.key_value_heads),
        number("attention.key_length", config.head_size),
        number("rope.dimension_count", config.head_size),
        (
            "llama.rope.freq_base".to_owned(),
            Meta::F32(config.rope_theta),
        ),
        (
            "llama.attention.layer_norm_rms_epsilon".to_owned(),
            Meta::F32(config.norm_epsilon),
        ),
        (
            "tokenizer.ggml.model".to_owned(),
            Meta::Text("gpt2".to_owned()),
        ),
        (
            "tokenizer.ggml.pre".to_owned(),
            Meta::Text("gpt-2".to_owned()),
        ),
        ("tokenizer.ggml.tokens".to_owned(), Meta::Texts(tokens)),
        (
            "tokenizer.ggml.token_type".to_owned(),
            Meta::Integers(types),
        ),
        (
            "tokenizer.ggml.merges".to_owned(),
            Meta::Texts(testing::merges()),
        ),
    ];
    if let Some(bos) = config.bos {
        metadata.push(("tokenizer.ggml.bos_token_id".to_owned(), Meta::U32(bos)));
    }
    if let Some(eos) = config.eos.first() {
        metadata.push(("tokenizer.ggml.eos_token_id".to_owned(), Meta::U32(*eos)));
    }
    metadata
}

/// `weights` (Hugging Face names and layout) as GGUF tensors in f32.
pub fn llama_tensors(config: &Config, weights: &[NamedWeights]) -> Vec<GgufTensor> {
    const NAMES: [(&str, &str); 11] = [
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("model.layers", "blk"),
        ("lm_head", "output"),
    ];
    weights
        .iter()
        .map(|(name, shape, numbers)| {
            let mut gguf = name
                .replace("model.embed_tokens", "token_embd")
                .replace("model.norm", "output_norm");
            for (hugging_face, short) in NAMES {
                gguf = gguf.replace(hugging_face, short);
            }
            let rotary = gguf.contains("attn_q.") || gguf.contains("attn_k.");
            let numbers = if rotary {
                interleave(numbers, shape[1], config.head_size)
            } else {
                numbers.clone()
            };
            GgufTensor {
                name: gguf,
                shape: shape.iter().rev().map(|&length| length as u64).collect(),
                kind: 0,
                bytes: f32_bytes(&numbers),
                offset: None,
            }
        })
        .collect()
}

/// A whole GGUF file of a tiny random LLaMA.
pub fn llama_gguf(config: &Config, seed: u64) -> Vec<u8> {
    let weights = testing::random_weights(config, seed);
    gguf(3, &llama_metadata(config), &llama_tensors(config, &weights))
}

/// Opens `bytes` as a GGUF file.
pub fn open_gguf(bytes: &[u8]) -> Result<Checkpoint, ModelError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tiny.gguf");
    std::fs::write(&path, bytes).unwrap();
    Checkpoint::open(&Source::Path(path))
}

/// Opens a directory.
pub fn open(directory: &Path) -> Result<Checkpoint, ModelError> {
    Checkpoint::open(&Source::Path(directory.to_owned()))
}

/// Loads every tensor in f32.
pub fn load(checkpoint: &Checkpoint) -> Vec<NamedWeights> {
    let tensors = checkpoint.config().tensors().into_iter();
    tensors
        .map(|(name, shape)| {
            let tensor = checkpoint
                .tensor(
                    &name,
                    &shape,
                    candle_core::DType::F32,
                    &candle_core::Device::Cpu,
                )
                .unwrap();
            let numbers = flat(&tensor);
            (name, shape, numbers)
        })
        .collect()
}
