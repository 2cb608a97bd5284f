//! What may be asked of a model, and what it answers.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What all prompts of a task (or of one MMLU subject) begin with: a description and the few-shot
/// examples. Shared by reference, because thousands of prompts hold the same one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Preamble {
    /// Text before the first example, with its own trailing delimiter; may be empty.
    pub description: String,
    /// One text per few-shot example, each with its trailing delimiter.
    pub examples: Vec<String>,
}

/// The text a continuation is scored after, kept in its parts so that whole examples can be
/// dropped when it is longer than the model's context.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Prompt {
    /// Description and few-shot examples.
    pub preamble: Arc<Preamble>,
    /// The document's own part.
    pub question: String,
}

impl Prompt {
    /// A prompt without description or examples.
    pub fn plain(question: impl Into<String>) -> Self {
        Self {
            preamble: Arc::default(),
            question: question.into(),
        }
    }

    /// The whole text.
    pub fn text(&self) -> String {
        self.text_with_examples(self.preamble.examples.len())
    }

    /// The text with only the first `examples` few-shot examples.
    pub fn text_with_examples(&self, examples: usize) -> String {
        let kept = self.preamble.examples.iter().take(examples);
        let mut text = String::with_capacity(
            self.preamble.description.len()
                + kept.clone().map(String::len).sum::<usize>()
                + self.question.len(),
        );
        text.push_str(&self.preamble.description);
        kept.for_each(|example| text.push_str(example));
        text.push_str(&self.question);
        text
    }
}

/// One question to a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Request {
    /// How likely is `continuation` after `prompt`? An empty prompt means: at the start of a text.
    LogLikelihood {
        /// The context.
        prompt: Prompt,
        /// The text that is scored, with its leading delimiter.
        continuation: String,
    },
    /// How does the text go on? One request asks for one completion, so that each is stored as it
    /// ends and more samples can be asked for later.
    Generate {
        /// What is asked, shared by all samples of one prompt.
        generation: Arc<Generation>,
        /// Which of several completions of the same prompt, from 0.
        sample: u32,
    },
}

/// What to generate, and when to stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// The text to go on from.
    pub prompt: Prompt,
    /// The completion ends before the first occurrence of any of these. Matched on text, also
    /// across tokens.
    pub stop: Vec<String>,
    /// Most tokens of a completion.
    pub max_new_tokens: usize,
    /// How each token is chosen.
    pub sampling: Sampling,
}

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Sampling {
    /// The most likely one; of equal ones, that with the smallest id.
    Greedy,
    /// Drawn. A draw depends on `seed`, the request's sample and the position in the completion
    /// alone, so a completion is the same whatever else is generated beside it.
    Random {
        /// Logits are divided by it; above 0.
        temperature: f32,
        /// Only the most likely tokens whose probabilities sum up to this are drawn from; 1 for all.
        top_p: f32,
        /// Only so many of the most likely tokens are drawn from; 0 for all.
        top_k: usize,
        /// Made of the run's seed, the task and the document.
        seed: u64,
    },
}

/// What a model answers to one [`Request`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Answer {
    /// To [`Request::LogLikelihood`].
    LogLikelihood {
        /// ln p of each continuation token given all before it, `[continuation tokens]`.
        log_probs: Vec<f32>,
        /// The continuation's token ids, `[continuation tokens]`.
        token_ids: Vec<u32>,
        /// Is every token of the continuation the model's own first choice?
        greedy: bool,
        /// Smallest distance between the best and the second-best logit at the scored positions:
        /// where it is tiny, `greedy` hangs on rounding.
        margin: f32,
        /// Tokens of context that were fed, BOS included, after any shortening.
        context_tokens: usize,
        /// Few-shot examples dropped, from the end, because the prompt was too long.
        dropped_examples: usize,
        /// Tokens cut off the left of the context after that.
        truncated_tokens: usize,
    },
    /// To [`Request::Generate`].
    Completion(Completion),
    /// The model could not answer (a logit was NaN, say): never scored as 0, counted as unscored.
    Unanswered {
        /// Why, for the user.
        reason: String,
    },
}

/// One generated text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// What follows the prompt, up to the first stop string or the end-of-text token, without it.
    pub text: String,
    /// Every generated token, `[tokens]`, those of the stop string or the end of the text included.
    pub token_ids: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
    /// Smallest distance between the best and the second-best logit at any step: where it is tiny,
    /// a greedy completion hangs on rounding.
    pub margin: f32,
    /// Tokens of prompt that were fed, BOS included, after any shortening.
    pub prompt_tokens: usize,
    /// Few-shot examples dropped, from the end, because the prompt was too long.
    pub dropped_examples: usize,
    /// Tokens cut off the left of the prompt after that.
    pub truncated_tokens: usize,
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finish {
    /// A stop string.
    StopString,
    /// The end-of-text token.
    EndOfText,
    /// As many tokens as were allowed.
    Length,
    /// The model's context was full.
    Context,
}

impl Finish {
    /// Was the text cut off before its own end?
    pub fn is_cut(self) -> bool {
        matches!(self, Self::Length | Self::Context)
    }

    /// Every reason.
    pub const ALL: [Self; 4] = [
        Self::StopString,
        Self::EndOfText,
        Self::Length,
        Self::Context,
    ];

    /// `stop-string`, `end-of-text`, `length` or `context`.
    pub fn name(self) -> &'static str {
        match self {
            Self::StopString => "stop-string",
            Self::EndOfText => "end-of-text",
            Self::Length => "length",
            Self::Context => "context",
        }
    }
}

impl Answer {
    /// The completion, or `None` if there is none.
    pub fn completion(&self) -> Option<&Completion> {
        match self {
            Self::Completion(completion) => Some(completion),
            _ => None,
        }
    }

    /// The summed log-likelihood in nats, or `None` if there is none.
    pub fn log_likelihood(&self) -> Option<f64> {
        match self {
            Self::LogLikelihood { log_probs, .. } => {
                Some(log_probs.iter().map(|&log_prob| f64::from(log_prob)).sum())
            }
            Self::Completion(_) | Self::Unanswered { .. } => None,
        }
    }
}
