//! The text of a completion as it grows: detokenising, and where it stops.

use crate::{Finish, ModelError, Tokenizer};

/// Tokens of the prompt that are detokenised together with the completion: some detokenisers treat the first
/// token of a text differently, and a letter may be spread over tokens on both sides.
const PROMPT_TAIL: usize = 16;
/// What a detokeniser puts for bytes that are no letter (yet).
const INCOMPLETE: char = '\u{fffd}';

/// A completion under way.
#[derive(Debug)]
pub(crate) struct Growing {
    /// The prompt's last tokens, then the completion's.
    tokens: Vec<u32>,
    /// How many of them are the prompt's.
    prompt: usize,
    /// Text of the tokens before `read`, without the prompt's.
    text: String,
    /// Tokens before this one are not looked at again.
    context: usize,
    /// Tokens before this one are in `text`.
    read: usize,
}

impl Growing {
    /// A completion of `prompt`.
    pub(crate) fn new(prompt: &[u32]) -> Self {
        let tail = &prompt[prompt.len().saturating_sub(PROMPT_TAIL)..];
        Self {
            tokens: tail.to_vec(),
            prompt: tail.len(),
            text: String::new(),
            context: 0,
            read: tail.len(),
        }
    }

    /// The generated tokens.
    pub(crate) fn generated(&self) -> &[u32] {
        &self.tokens[self.prompt..]
    }

    /// Adds a token; gives why the completion ends with it, if it does.
    ///
    /// # Errors
    /// When the detokeniser refuses.
    pub(crate) fn push(
        &mut self,
        token: u32,
        tokenizer: &Tokenizer,
        ends: &[u32],
        stop: &[String],
    ) -> Result<Option<Finish>, ModelError> {
        self.tokens.push(token);
        if ends.contains(&token) {
            return Ok(Some(Finish::EndOfText));
        }
        if stop.is_empty() {
            return Ok(None);
        }
        let before = tokenizer.decode_text(&self.tokens[self.context..self.read])?;
        let after = tokenizer.decode_text(&self.tokens[self.context..])?;
        // A letter that is not whole yet waits for its other bytes.
        if after.ends_with(INCOMPLETE) || after.len() < before.len() {
            return Ok(None);
        }
        let longest = stop.iter().map(String::len).max().unwrap_or_default();
        let seen = self.text.len().saturating_sub(longest);
        let seen = (0..=seen)
            .rev()
            .find(|&at| self.text.is_char_boundary(at))
            .unwrap_or(0);
        self.text
            .push_str(after.get(before.len()..).unwrap_or_default());
        self.context = self.read.saturating_sub(1);
        self.read = self.tokens.len();
        let found = self
            .text
            .get(seen..)
            .is_some_and(|text| first_stop(text, stop).is_some());
        Ok(found.then_some(Finish::StopString))
    }

    /// The completion's text: prompt and completion detokenised together, without the prompt, without the
    /// token that ended it, cut before the first stop string.
    ///
    /// # Errors
    /// When the detokeniser refuses.
    pub(crate) fn text(
        &self,
        tokenizer: &Tokenizer,
        finish: Finish,
        stop: &[String],
    ) -> Result<String, ModelError> {
        let end = self.tokens.len() - usize::from(finish == Finish::EndOfText);
        let prompt = tokenizer.decode_text(&self.tokens[..self.prompt])?;
        let whole = tokenizer.decode_text(&self.tokens[..end.max(self.prompt)])?;
        // Where the prompt ends within a letter, its own text ends in a replacement mark.
        let same = prompt
            .char_indices()
            .zip(whole.chars())
            .find(|((_, left), right)| left != right)
            .map_or(prompt.len(), |((at, _), _)| at);
        let mut text = whole.get(same..).unwrap_or_default().to_owned();
        if let Some(at) = first_stop(&text, stop) {
            text.truncate(at);
        }
        Ok(text)
    }
}

/// The byte at which the first of any stop strings begins; empty ones never do.
fn first_stop(text: &str, stop: &[String]) -> Option<usize> {
    stop.iter()
        .filter(|stop| !stop.is_empty())
        .filter_map(|stop| text.find(stop.as_str()))
        .min()
}
