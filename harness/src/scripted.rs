//! A model and a benchmark for tests: answers are a function of the text, so every path is tested without weights.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use llama_eval_model::{
    Answer, Estimate, Identity, LanguageModel, ModelError, Preamble, Prompt, Request, Sink,
};
use llama_eval_tasks::{
    Card, DataDir, DataError, Document, Item, Metric, Outcome, Protocol, Task, TaskPlan, Verdict,
};
use serde_json::json;
use sha2::{Digest, Sha256};

/// What happens when the question with this number (from 0, over all calls) is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accident {
    /// The device fails before it.
    DeviceFails,
    /// It cannot be answered.
    Unanswered,
    /// A signal arrives before it.
    Interrupt,
    /// It is passed over.
    Forgotten,
}

/// Answers in batches of [`Scripted::BATCH`].
pub(crate) struct Scripted {
    identity: Identity,
    /// Every question it was asked, in order.
    pub(crate) asked: Vec<Request>,
    accident: Option<(usize, Accident)>,
    interrupt: Option<Arc<std::sync::atomic::AtomicBool>>,
}

/// A scripted model's identity.
pub(crate) fn identity() -> Identity {
    Identity {
        name: "scripted".to_owned(),
        source: "tests".to_owned(),
        architecture: "llama".to_owned(),
        weights_sha256: "11".repeat(32),
        tokenizer_sha256: "22".repeat(32),
        parameters: 1_234_567,
        dtype: "f32".to_owned(),
        device: "cpu".to_owned(),
        context_length: 2048,
        adds_bos: true,
        prefix_token: (1, "<s>".to_owned()),
    }
}

impl Scripted {
    /// Questions answered between two calls of [`Sink::computed`].
    pub(crate) const BATCH: usize = 4;

    /// A model that has no accident.
    pub(crate) fn new() -> Self {
        Self {
            identity: identity(),
            asked: Vec::new(),
            accident: None,
            interrupt: None,
        }
    }

    /// A model to which something happens.
    pub(crate) fn with(question: usize, accident: Accident) -> Self {
        Self {
            accident: Some((question, accident)),
            ..Self::new()
        }
    }

    /// The flag that [`Accident::Interrupt`] raises.
    pub(crate) fn interrupting(mut self, flag: &Arc<std::sync::atomic::AtomicBool>) -> Self {
        self.interrupt = Some(Arc::clone(flag));
        self
    }

    /// What it answers to a text.
    pub(crate) fn answer_to(request: &Request) -> Answer {
        let Request::LogLikelihood {
            prompt,
            continuation,
        } = request
        else {
            panic!("{request:?}")
        };
        let hash = Sha256::new()
            .chain_update(prompt.text())
            .chain_update("\0")
            .chain_update(continuation)
            .finalize();
        let tokens = 1 + usize::from(hash[0]) % 3;
        Answer::LogLikelihood {
            log_probs: hash[1..=tokens]
                .iter()
                .map(|&byte| -f32::from(byte) / 16.0 - 0.01)
                .collect(),
            token_ids: hash[8..8 + tokens]
                .iter()
                .map(|&byte| u32::from(byte))
                .collect(),
            greedy: hash[20] % 2 == 0,
            margin: f32::from(hash[21]) / 7.0,
            context_tokens: prompt.text().len(),
            dropped_examples: usize::from(hash[22] % 2),
            truncated_tokens: usize::from(hash[23] % 5),
        }
    }
}

impl LanguageModel for Scripted {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn estimate(&self, requests: &[Request]) -> Result<Estimate, ModelError> {
        let tokens = 10 * requests.len() as u64;
        Ok(Estimate {
            requests: requests.len(),
            tokens,
            unique_tokens: tokens / 2,
            new_tokens: 0,
            batches: requests.len().div_ceil(Self::BATCH),
            batch_rows: 40,
            memory_bytes: 1 << 20,
        })
    }

    fn answer(&mut self, requests: &[Request], sink: &mut dyn Sink) -> Result<(), ModelError> {
        // Backwards: nobody may rely on the order of answers.
        let order: Vec<usize> = (0..requests.len()).rev().collect();
        for batch in order.chunks(Self::BATCH) {
            for &index in batch {
                let now = self.asked.len();
                let accident = self
                    .accident
                    .and_then(|(at, accident)| (at == now).then_some(accident));
                self.asked.push(requests[index].clone());
                let answer = match accident {
                    Some(Accident::DeviceFails) => {
                        return Err(ModelError::Device("it burns".to_owned()));
                    }
                    Some(Accident::Unanswered) => Answer::Unanswered {
                        reason: "a logit is NaN".to_owned(),
                    },
                    Some(Accident::Forgotten) => continue,
                    Some(Accident::Interrupt) => {
                        self.interrupt
                            .as_ref()
                            .unwrap()
                            .store(true, std::sync::atomic::Ordering::Relaxed);
                        Self::answer_to(&requests[index])
                    }
                    None => Self::answer_to(&requests[index]),
                };
                sink.answer(index, answer).map_err(ModelError::Sink)?;
            }
            sink.computed(10 * batch.len()).map_err(ModelError::Sink)?;
        }
        Ok(())
    }
}

const LIKELIER: Metric = Metric::new("acc", "the first choice is likelier");

/// A benchmark of two choices: right if the first is likelier.
struct Coin {
    card: Card,
}

impl Task for Coin {
    fn card(&self) -> &Card {
        &self.card
    }

    fn documents(&self, _: &DataDir, _: Protocol) -> Result<Vec<Document>, DataError> {
        Ok((0..self.card.documents)
            .map(|index| document(&self.card.name, index))
            .collect())
    }

    fn examples(&self, _: &DataDir, _: Protocol) -> Result<Vec<Document>, DataError> {
        Ok(Vec::new())
    }

    fn example(&self, _: &Document, _: Protocol) -> String {
        String::new()
    }

    fn requests(&self, document: &Document, preamble: &Arc<Preamble>, _: Protocol) -> Vec<Request> {
        let question = document.fields["question"].as_str().unwrap().to_owned();
        let asked = Prompt {
            preamble: Arc::clone(preamble),
            question,
        };
        let bare = Prompt::plain("Answer:");
        [asked, bare]
            .into_iter()
            .flat_map(|prompt| {
                [" heads", " tails"].map(|side| Request::LogLikelihood {
                    prompt: prompt.clone(),
                    continuation: side.to_owned(),
                })
            })
            .collect()
    }

    fn target(&self, _: &Document) -> String {
        "0".to_owned()
    }

    fn score(&self, _: &Document, answers: &[Answer], _: &[Vec<Verdict>], _: Protocol) -> Outcome {
        let [heads, tails, bare_heads, bare_tails] = answers else {
            return Outcome::Unscored("answers".to_owned());
        };
        let sum = |answer: &Answer| answer.log_likelihood().unwrap();
        let likelier = sum(heads) - sum(bare_heads) > sum(tails) - sum(bare_tails);
        Outcome::Scored(vec![(LIKELIER.name, f64::from(likelier))])
    }
}

fn document(task: &str, index: usize) -> Document {
    let fields = json!({ "question": format!("{task}: toss {index}?") });
    Document {
        index,
        id: format!("{task}-{index}"),
        categories: Vec::new(),
        fields: fields.as_object().unwrap().clone(),
    }
}

/// A plan of `documents` documents with four requests each, two of which all documents share.
pub(crate) fn plan(name: &str, documents: usize) -> TaskPlan {
    let card = Card {
        name: name.to_owned(),
        title: "Coin",
        version: 1,
        published: None,
        group: None,
        split: "test",
        documents,
        shots: 0,
        metrics: vec![LIKELIER].into(),
        headline: ("acc".into(), "acc".into()),
        licence: "none",
        citation: "none",
    };
    let task = Arc::new(Coin { card });
    let preamble = Arc::new(Preamble::default());
    let items = (0..documents).map(|index| {
        let document = document(name, index);
        Item {
            requests: task.requests(&document, &preamble, Protocol::Paper),
            document,
        }
    });
    TaskPlan {
        protocol: Protocol::Paper,
        shots: 0,
        split_documents: documents,
        items: items.collect(),
        data_sha256: Default::default(),
        task,
    }
}
