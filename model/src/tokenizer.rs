//! Text to token ids and back.

mod gguf_vocabulary;
mod patterns;
mod segments;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde_json::Value;
use tokenizers::{AddedToken, ModelWrapper};

use self::segments::Segments;
use crate::checkpoint::fingerprint;
use crate::checkpoint::gguf::Metadata;
use crate::{Config, ModelError};

/// A checkpoint's tokenizer. Cloning shares it.
#[derive(Clone)]
pub struct Tokenizer(Arc<Inner>);

struct Inner {
    /// Without padding, truncation and post-processor: exactly the tokens of the text.
    plain: tokenizers::Tokenizer,
    segments: Option<Segments>,
    /// What the checkpoint's own settings put before every text; usually BOS or nothing.
    automatic_prefix: Vec<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
    sha256: String,
}

impl Tokenizer {
    /// From the bytes of `tokenizer.json` and, where there is one, `tokenizer_config.json`.
    pub(crate) fn from_json(
        json: &[u8],
        beside: Option<&[u8]>,
        config: &Config,
    ) -> Result<Self, String> {
        let beside: Option<Value> = match beside {
            None => None,
            Some(text) => Some(
                serde_json::from_slice(text)
                    .map_err(|error| format!("the `tokenizer_config.json` beside it: {error}"))?,
            ),
        };
        // The parser is not ours and the file is not trusted: a panic in it is a bad file.
        let parsed = catch_unwind(AssertUnwindSafe(|| {
            let mut tokenizer =
                tokenizers::Tokenizer::from_bytes(json).map_err(|error| error.to_string())?;
            tokenizer.with_padding(None);
            tokenizer
                .with_truncation(None)
                .map_err(|error| error.to_string())?;
            let automatic_prefix = automatic_prefix(&tokenizer)?;
            tokenizer.with_post_processor(None::<tokenizers::PostProcessorWrapper>);
            Ok::<_, String>((tokenizer, automatic_prefix))
        }));
        let (plain, automatic_prefix) = parsed
            .map_err(|_| "is not a tokenizer".to_owned())?
            .map_err(|problem| format!("is not a tokenizer: {problem}"))?;
        if let ModelWrapper::BPE(model) = plain.get_model()
            && model.dropout.is_some_and(|dropout| dropout > 0.0)
        {
            return Err("drops merges at random (`dropout`)".to_owned());
        }
        let special =
            |name: &str, default: Option<u32>| match beside.as_ref().and_then(|it| it.get(name)) {
                None => default,
                Some(Value::Null) => None,
                Some(token) => token
                    .as_str()
                    .or_else(|| token.get("content").and_then(Value::as_str))
                    .and_then(|text| plain.token_to_id(text))
                    .or(default),
            };
        let bos = special("bos_token", config.bos);
        let eos = special("eos_token", config.eos.first().copied());
        let sha256 = fingerprint::of_parts([json]);
        Ok(Self(Arc::new(Inner {
            segments: Segments::of(&plain),
            plain,
            automatic_prefix,
            bos,
            eos,
            sha256,
        })))
    }

    /// The tokenizer as the text of a `tokenizer.json`, without what it puts around a text.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] when it cannot be written as JSON.
    pub fn to_json(&self) -> Result<String, ModelError> {
        self.0
            .plain
            .to_string(false)
            .map_err(|error| ModelError::Tokenizer(error.to_string()))
    }

    /// From the `tokenizer.ggml.*` metadata of a GGUF file.
    pub(crate) fn from_gguf(metadata: Metadata<'_>, config: &Config) -> Result<Self, String> {
        let vocabulary = gguf_vocabulary::read(metadata)?;
        let bos = config.bos;
        let automatic_prefix = if vocabulary.adds_bos {
            bos.into_iter().collect()
        } else {
            Vec::new()
        };
        let sha256 = gguf_vocabulary::sha256(metadata);
        let eos = config.eos.first().copied();
        Ok(Self(Arc::new(Inner {
            segments: Segments::of(&vocabulary.tokenizer),
            plain: vocabulary.tokenizer,
            automatic_prefix,
            bos,
            eos,
            sha256,
        })))
    }

    /// The token ids of `text`; with `add_special`, after what the checkpoint's own settings put
    /// before a text. Special tokens written out in the text become their ids.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] when the tokenizer refuses the text.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, ModelError> {
        let ids = match &self.0.segments {
            Some(segments) => segments.encode(&self.0.plain, text).map_err(failed)?,
            None => self.encode_whole(text)?,
        };
        Ok(if add_special && !self.0.automatic_prefix.is_empty() {
            [self.0.automatic_prefix.as_slice(), &ids].concat()
        } else {
            ids
        })
    }

    /// The token ids of `text` without special ones, computed in one piece. [`Tokenizer::encode`]
    /// gives the same and is faster on texts that share long parts.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] when the tokenizer refuses the text.
    pub fn encode_whole(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let encoding = self.0.plain.encode_fast(text, false).map_err(failed)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The token ids of `text` without special ones, each with the byte of `text` it ends at.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] when the tokenizer refuses the text.
    pub fn encode_with_ends(&self, text: &str) -> Result<Vec<(u32, usize)>, ModelError> {
        let encoding = self.0.plain.encode(text, false).map_err(failed)?;
        let ends = encoding.get_offsets().iter().map(|&(_, end)| end);
        Ok(encoding.get_ids().iter().copied().zip(ends).collect())
    }

    /// The text of `ids`, special tokens included.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] when the decoder refuses.
    pub fn decode(&self, ids: &[u32]) -> Result<String, ModelError> {
        self.0.plain.decode(ids, false).map_err(failed)
    }

    /// The text of `ids` without special tokens: what a model wrote.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] when the decoder refuses.
    pub fn decode_text(&self, ids: &[u32]) -> Result<String, ModelError> {
        self.0.plain.decode(ids, true).map_err(failed)
    }

    /// Every token that ends a text: the tokenizer's own and those the configuration names.
    pub(crate) fn ends(&self, config: &Config) -> Vec<u32> {
        let mut ends: Vec<u32> = self.0.eos.iter().chain(&config.eos).copied().collect();
        ends.sort_unstable();
        ends.dedup();
        ends
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.0.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.0.eos
    }

    /// What the checkpoint's own settings put before every text.
    pub fn automatic_prefix(&self) -> &[u32] {
        &self.0.automatic_prefix
    }

    /// Number of tokens, added ones included.
    pub fn vocabulary_size(&self) -> usize {
        self.0.plain.get_vocab_size(true)
    }

    /// A token as it stands in the vocabulary (`Ġworld`, `▁world`, `<s>`).
    pub fn token_text(&self, id: u32) -> Option<String> {
        self.0.plain.id_to_token(id)
    }

    /// SHA-256 over `tokenizer.json`, or over a GGUF file's tokenizer metadata, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.0.sha256
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Tokenizer")
            .field("vocabulary_size", &self.vocabulary_size())
            .field("bos", &self.0.bos)
            .field("eos", &self.0.eos)
            .finish_non_exhaustive()
    }
}

fn failed(error: tokenizers::Error) -> ModelError {
    ModelError::Tokenizer(error.to_string())
}

/// What the post-processor puts before a text. What it puts after one (EOS) is left out: a prompt
/// is not the end of a text.
fn automatic_prefix(tokenizer: &tokenizers::Tokenizer) -> Result<Vec<u32>, String> {
    let encode = |special| {
        let encoding = tokenizer
            .encode_fast("a", special)
            .map_err(|error| error.to_string())?;
        Ok::<_, String>(encoding.get_ids().to_vec())
    };
    let (with, without) = (encode(true)?, encode(false)?);
    let start = (0..=with.len())
        .find(|&start| {
            with.get(start..)
                .is_some_and(|rest| rest.starts_with(&without))
        })
        .ok_or("its post-processor changes the tokens of a text")?;
    Ok(with.into_iter().take(start).collect())
}

/// A token that is matched in the text as it stands.
fn added(text: &str, special: bool) -> AddedToken {
    AddedToken::from(text, special).normalized(false)
}
