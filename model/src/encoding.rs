//! Requests to token sequences: what is context, what is continuation, and what does not fit.
//!
//! The border follows lm-eval 0.4.13 (`lm_eval/api/model.py`): white space at the end of the
//! context moves to the continuation; both are encoded as one text; the context keeps the tokens
//! it has by itself, and the continuation gets the joint tokens after as many. An empty context
//! is one prefix token, BOS or else EOS.
//!
//! Beyond lm-eval:
//! - Where a token spans the border so that nothing would be left to score ("Hel" + "lo"), the
//!   joint tokens are cut before the token the continuation begins in. lm-eval stops there.
//! - A prompt that is too long first loses whole few-shot examples, the last one first.
//! - A continuation that does not fit behind a single context token is refused with a reason.

use rayon::prelude::*;

use crate::{ModelError, Prompt, Request, Tokenizer};

/// Is BOS put before a prompt?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BosPolicy {
    /// As the checkpoint's own tokenizer does.
    #[default]
    Auto,
    /// Yes; EOS where the tokenizer has no BOS.
    Always,
    /// No. An empty prompt is still one prefix token: a model needs something to start from.
    Never,
}

/// A request as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// What is given, `[1 or more]`, BOS included.
    pub context: Vec<u32>,
    /// What is scored, `[1 or more]`; empty where text is to be generated. Context and continuation together are at most one token
    /// longer than the model's context: the last token is never fed.
    pub continuation: Vec<u32>,
    /// Few-shot examples dropped, from the end, because the prompt was too long.
    pub dropped_examples: usize,
    /// Tokens then cut off the left of the context, BOS first, as lm-eval does.
    pub truncated_tokens: usize,
}

/// Why a request has no tokens to score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswerable {
    /// For the user.
    pub reason: String,
}

impl Unanswerable {
    fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
        }
    }
}

/// Turns requests into tokens for one model.
#[derive(Clone, Debug)]
pub struct Encoder {
    tokenizer: Tokenizer,
    /// Put before every text that does not begin with `prefix_text`.
    special: Vec<u32>,
    prefix_token: u32,
    prefix_text: String,
    context_length: usize,
    vocabulary: usize,
}

/// Context and continuation as tokens, or why there are none.
type Parts = Result<(Vec<u32>, Vec<u32>), Unanswerable>;

/// A context without trailing white space, and its tokens.
struct Context {
    text: String,
    /// The white space that moves to the continuation.
    moved: String,
    ids: Vec<u32>,
}

impl Encoder {
    /// An encoder for sequences of at most `context_length` fed tokens with ids below
    /// `vocabulary`.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] when the tokenizer has neither BOS nor EOS.
    pub fn new(
        tokenizer: Tokenizer,
        policy: BosPolicy,
        context_length: usize,
        vocabulary: usize,
    ) -> Result<Self, ModelError> {
        let prefix_token = tokenizer
            .bos()
            .or(tokenizer.eos())
            .ok_or_else(|| ModelError::Tokenizer("it has neither BOS nor EOS".to_owned()))?;
        let prefix_text = tokenizer.token_text(prefix_token).ok_or_else(|| {
            ModelError::Tokenizer(format!(
                "its BOS or EOS id {prefix_token} is not in its vocabulary"
            ))
        })?;
        let special = match policy {
            BosPolicy::Auto => tokenizer.automatic_prefix().to_vec(),
            BosPolicy::Always => vec![prefix_token],
            BosPolicy::Never => Vec::new(),
        };
        Ok(Self {
            tokenizer,
            special,
            prefix_token,
            prefix_text,
            context_length,
            vocabulary,
        })
    }

    /// Is anything put before every non-empty prompt?
    pub fn adds_bos(&self) -> bool {
        !self.special.is_empty()
    }

    /// Id and text of the token that stands for the start of a text: BOS, else EOS.
    pub fn prefix_token(&self) -> (u32, &str) {
        (self.prefix_token, &self.prefix_text)
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The tokens of one request.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] when the tokenizer refuses a text.
    pub fn encode(&self, request: &Request) -> Result<Result<Encoded, Unanswerable>, ModelError> {
        self.encode_same_prompt(std::slice::from_ref(request))
            .map(|mut encoded| {
                encoded
                    .pop()
                    .unwrap_or_else(|| Err(Unanswerable::new("no request")))
            })
    }

    /// The tokens of every request, in order, on all cores. A context shared by neighbours (the
    /// choices of a question) is encoded once.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] when the tokenizer refuses a text.
    pub fn encode_all(
        &self,
        requests: &[Request],
    ) -> Result<Vec<Result<Encoded, Unanswerable>>, ModelError> {
        let groups: Vec<&[Request]> = requests
            .chunk_by(|one, other| same_prompt(prompt(one), prompt(other)))
            .collect();
        let encoded = groups
            .into_par_iter()
            .map(|group| self.encode_same_prompt(group))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(encoded.into_iter().flatten().collect())
    }

    fn encode_same_prompt(
        &self,
        requests: &[Request],
    ) -> Result<Vec<Result<Encoded, Unanswerable>>, ModelError> {
        // By number of dropped examples; filled as prompts turn out too long.
        let mut contexts: Vec<Context> = Vec::new();
        requests
            .iter()
            .map(|request| {
                let (prompt, continuation) = match request {
                    Request::LogLikelihood {
                        prompt,
                        continuation,
                    } => (prompt, continuation),
                    Request::Generate { generation, .. } => {
                        return self.encode_prompt(&generation.prompt, generation.max_new_tokens);
                    }
                };
                let examples = prompt.preamble.examples.len();
                let mut dropped_examples = 0;
                loop {
                    if contexts.len() == dropped_examples {
                        let text = prompt.text_with_examples(examples - dropped_examples);
                        contexts.push(self.context(text)?);
                    }
                    let Some(context) = contexts.get(dropped_examples) else {
                        return Ok(Err(Unanswerable::new("no context")));
                    };
                    let (context, continuation) = match self.split(context, continuation)? {
                        Ok(parts) => parts,
                        Err(reason) => return Ok(Err(reason)),
                    };
                    let fits = context.len() + continuation.len() <= self.context_length + 1;
                    if fits || dropped_examples == examples {
                        return Ok(self.truncate(context, continuation, dropped_examples));
                    }
                    dropped_examples += 1;
                }
            })
            .collect()
    }

    /// The tokens of a prompt to go on from, as they are: white space at its end stays. A prompt that
    /// leaves no room for `max_new_tokens` loses whole examples, then tokens on the left (lm-eval 0.4.13,
    /// `generate_until` of `lm_eval/models/huggingface.py`), but never more than down to half the context.
    fn encode_prompt(
        &self,
        prompt: &Prompt,
        max_new_tokens: usize,
    ) -> Result<Result<Encoded, Unanswerable>, ModelError> {
        let room = self
            .context_length
            .saturating_sub(max_new_tokens)
            .max(self.context_length.div_ceil(2));
        let examples = prompt.preamble.examples.len();
        let mut dropped_examples = 0;
        let mut ids = loop {
            let text = prompt.text_with_examples(examples - dropped_examples);
            let mut ids = self.with_special(&text)?;
            if ids.is_empty() {
                ids.push(self.prefix_token);
            }
            if ids.len() <= room || dropped_examples == examples {
                break ids;
            }
            dropped_examples += 1;
        };
        if let Some(id) = ids.iter().find(|&&id| id as usize >= self.vocabulary) {
            return Ok(Err(self.unknown_token(*id)));
        }
        let truncated_tokens = ids.len().saturating_sub(room);
        ids.drain(..truncated_tokens);
        Ok(Ok(Encoded {
            context: ids,
            continuation: Vec::new(),
            dropped_examples,
            truncated_tokens,
        }))
    }

    fn unknown_token(&self, id: u32) -> Unanswerable {
        Unanswerable::new(format!(
            "token {id} (`{}`) is not among the {} the model knows",
            self.tokenizer.token_text(id).unwrap_or_default(),
            self.vocabulary
        ))
    }

    fn context(&self, mut text: String) -> Result<Context, ModelError> {
        let end = text.trim_end_matches(is_python_space).len();
        let moved = text.split_off(end);
        let ids = if text.is_empty() {
            Vec::new()
        } else {
            self.with_special(&text)?
        };
        Ok(Context { text, moved, ids })
    }

    fn split(&self, context: &Context, continuation: &str) -> Result<Parts, ModelError> {
        if context.moved.is_empty() && continuation.is_empty() {
            return Ok(Err(Unanswerable::new("the continuation is empty")));
        }
        let joint = format!("{}{}{continuation}", context.text, context.moved);
        let parts = if context.text.is_empty() {
            let mut ids = self.tokenizer.encode(&joint, false)?;
            if ids.first() == Some(&self.prefix_token) {
                let rest = ids.split_off(1);
                (ids, rest)
            } else {
                (vec![self.prefix_token], ids)
            }
        } else {
            let whole = self.with_special(&joint)?;
            match whole.get(context.ids.len()..) {
                Some(continuation) if !continuation.is_empty() => {
                    (context.ids.clone(), continuation.to_vec())
                }
                _ => self.split_inside(&context.text, &joint)?,
            }
        };
        if parts.1.is_empty() {
            return Ok(Err(Unanswerable::new(
                "the continuation has no tokens of its own",
            )));
        }
        if let Some(id) = parts
            .0
            .iter()
            .chain(&parts.1)
            .find(|&&id| id as usize >= self.vocabulary)
        {
            return Ok(Err(self.unknown_token(*id)));
        }
        Ok(Ok(parts))
    }

    /// Cuts the joint tokens before the first that reaches beyond the context.
    fn split_inside(&self, context: &str, joint: &str) -> Result<(Vec<u32>, Vec<u32>), ModelError> {
        let tokens = self.tokenizer.encode_with_ends(joint)?;
        let border = tokens
            .iter()
            .position(|&(_, end)| end > context.len())
            .unwrap_or(tokens.len());
        let ids = tokens.iter().map(|&(id, _)| id);
        let mut before = self.special_for(joint).to_vec();
        before.extend(ids.clone().take(border));
        if before.is_empty() {
            before.push(self.prefix_token);
        }
        Ok((before, ids.skip(border).collect()))
    }

    fn truncate(
        &self,
        mut context: Vec<u32>,
        continuation: Vec<u32>,
        dropped_examples: usize,
    ) -> Result<Encoded, Unanswerable> {
        let Some(room) = (self.context_length + 1)
            .checked_sub(continuation.len())
            .filter(|&room| room > 0)
        else {
            return Err(Unanswerable::new(format!(
                "the continuation is {} tokens long, the model's context {}",
                continuation.len(),
                self.context_length
            )));
        };
        let truncated_tokens = context.len().saturating_sub(room);
        context.drain(..truncated_tokens);
        Ok(Encoded {
            context,
            continuation,
            dropped_examples,
            truncated_tokens,
        })
    }

    fn with_special(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let ids = self.tokenizer.encode(text, false)?;
        let special = self.special_for(text);
        Ok(if special.is_empty() {
            ids
        } else {
            [special, &ids].concat()
        })
    }

    /// What goes before `text`: nothing where the prefix is written out in it already.
    fn special_for(&self, text: &str) -> &[u32] {
        if text.starts_with(&self.prefix_text) {
            &[]
        } else {
            &self.special
        }
    }
}

fn prompt(request: &Request) -> &Prompt {
    match request {
        Request::LogLikelihood { prompt, .. } => prompt,
        Request::Generate { generation, .. } => &generation.prompt,
    }
}

fn same_prompt(one: &Prompt, other: &Prompt) -> bool {
    one.question == other.question
        && (std::sync::Arc::ptr_eq(&one.preamble, &other.preamble)
            || one.preamble == other.preamble)
}

/// What Python's `str.rstrip` takes away. Rust's `char::is_whitespace` lacks U+001C to U+001F.
fn is_python_space(character: char) -> bool {
    matches!(
        character,
        '\u{9}'..='\u{d}'
            | '\u{1c}'..='\u{20}'
            | '\u{85}'
            | '\u{a0}'
            | '\u{1680}'
            | '\u{2000}'..='\u{200a}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{202f}'
            | '\u{205f}'
            | '\u{3000}'
    )
}
