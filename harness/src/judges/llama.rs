//! Truthfulness by LLaMA checkpoints that were trained to judge it, AllenAI's
//! `truthfulqa-truth-judge-llama2-7B` and `truthfulqa-info-judge-llama2-7B` say.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use llama_eval_model::{
    Answer, Checkpoint, LanguageModel, LoadOptions, Local, ModelError, Prompt, Request, Sink,
    SinkError, Source,
};
use sha2::{Digest, Sha256};

use super::{
    Judge, JudgeError, Judged, Judgement, Kind, Receiver, not_judged,
    truthfulness::{VERDICTS, prompt, verdict},
};

/// Two checkpoints, of which only one is in memory at a time.
pub(crate) struct LlamaJudge {
    options: LoadOptions,
    truth: Seat,
    info: Option<Seat>,
}

struct Seat {
    source: Source,
    identity: String,
}

impl LlamaJudge {
    /// Opens and checks the checkpoints and takes their fingerprints, which reads them once; they
    /// are loaded when there is something to judge. Without `info`, truth alone is judged.
    ///
    /// # Errors
    /// [`JudgeError::Model`] when one of them is no LLaMA checkpoint.
    pub(crate) fn open(
        truth: &Path,
        info: Option<&Path>,
        options: LoadOptions,
    ) -> Result<Self, JudgeError> {
        Ok(Self {
            truth: Seat::open(truth, &options)?,
            info: info.map(|path| Seat::open(path, &options)).transpose()?,
            options,
        })
    }

    fn seat(&self, kind: Kind) -> Option<&Seat> {
        match kind {
            Kind::Truthful => Some(&self.truth),
            Kind::Informative => self.info.as_ref(),
            Kind::Toxicity => None,
        }
    }
}

impl Seat {
    fn open(path: &Path, options: &LoadOptions) -> Result<Self, ModelError> {
        let source = Source::Path(path.to_owned());
        let checkpoint = Checkpoint::open(&source)?;
        let mut version = Sha256::new();
        version.update(checkpoint.weights_sha256());
        version.update(checkpoint.tokenizer_sha256());
        let version = version.finalize();
        let short: String = version
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let identity = format!("{}@{short} {}", checkpoint.name(), options.dtype.name());
        Ok(Self { source, identity })
    }
}

impl Judge for LlamaJudge {
    fn identity(&self, kind: Kind) -> Option<&str> {
        self.seat(kind).map(|seat| seat.identity.as_str())
    }

    fn judge(
        &mut self,
        items: &[Judged<'_>],
        stop: &AtomicBool,
        each: &mut Receiver<'_>,
    ) -> Result<(), JudgeError> {
        for (index, item) in items.iter().enumerate() {
            if self.seat(item.kind()).is_none() {
                each(index, not_judged(item.kind())).map_err(JudgeError::Sink)?;
            }
        }
        for kind in [Kind::Truthful, Kind::Informative] {
            let (indices, prompts): (Vec<usize>, Vec<String>) = items
                .iter()
                .enumerate()
                .filter(|(_, item)| item.kind() == kind)
                .filter_map(|(index, item)| Some((index, prompt(item)?)))
                .unzip();
            let Some(seat) = self.seat(kind).filter(|_| !indices.is_empty()) else {
                continue;
            };
            if stop.load(Ordering::Relaxed) {
                return Err(JudgeError::Interrupted);
            }
            let mut model = Local::open(&seat.source, &self.options)?;
            let mut pairs = Pairs {
                waiting: vec![None; indices.len()],
                indices: &indices,
                stop,
                each,
            };
            model
                .answer(&requests(&prompts), &mut pairs)
                .map_err(|error| match error {
                    ModelError::Sink(error) if error.is::<Stopped>() => JudgeError::Interrupted,
                    ModelError::Sink(error) => JudgeError::Sink(error),
                    error => JudgeError::Model(error),
                })?;
        }
        Ok(())
    }
}

/// Both verdicts after each prompt, side by side.
fn requests(prompts: &[String]) -> Vec<Request> {
    prompts
        .iter()
        .flat_map(|prompt| {
            VERDICTS.map(|verdict| Request::LogLikelihood {
                prompt: Prompt::plain(prompt),
                continuation: verdict.to_owned(),
            })
        })
        .collect()
}

/// Puts the answers to the two verdicts of one item together.
struct Pairs<'a, 'b> {
    /// Which item each pair belongs to.
    indices: &'a [usize],
    /// The answer that came first, and whether it is that to yes.
    waiting: Vec<Option<(bool, Answer)>>,
    stop: &'a AtomicBool,
    each: &'a mut Receiver<'b>,
}

/// Carries a stop through the model.
#[derive(Debug, thiserror::Error)]
#[error("told to stop")]
struct Stopped;

impl Sink for Pairs<'_, '_> {
    fn answer(&mut self, index: usize, answer: Answer) -> Result<(), SinkError> {
        let (pair, is_yes) = (index / VERDICTS.len(), index.is_multiple_of(VERDICTS.len()));
        let unknown = || SinkError::from("the judge answered a question nobody asked");
        let waiting = self.waiting.get_mut(pair).ok_or_else(unknown)?;
        let judgement = match waiting.take() {
            None => {
                *waiting = Some((is_yes, answer));
                return Ok(());
            }
            Some((true, yes)) => judgement(&yes, &answer),
            Some((false, no)) => judgement(&answer, &no),
        };
        let item = self.indices.get(pair).ok_or_else(unknown)?;
        (self.each)(*item, judgement)
    }

    fn computed(&mut self, _: usize) -> Result<(), SinkError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Box::new(Stopped));
        }
        Ok(())
    }
}

fn judgement(yes: &Answer, no: &Answer) -> Judgement {
    verdict(probability(yes)?, probability(no)?)
}

fn probability(answer: &Answer) -> Judgement {
    match answer {
        Answer::LogLikelihood {
            truncated_tokens: 1..,
            ..
        } => Err("question and answer are longer than the judge's context".to_owned()),
        Answer::Unanswered { reason } => Err(reason.clone()),
        answer => answer
            .log_likelihood()
            .map(f64::exp)
            .ok_or_else(|| "the judge gave no probability".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::fs;

    use llama_eval_model::testing::{
        config_json, random_weights, tiny_config, tokenizer_json, write_checkpoint, write_weights,
    };
    use serde_json::json;
    use tempfile::{TempDir, tempdir};

    use super::*;
    use crate::judges::server::{Collected, collect};

    /// A checkpoint with the tokens ` yes` and ` no`, that says little else.
    fn trained(seed: u64) -> TempDir {
        let directory = tempdir().unwrap();
        let mut config = tiny_config();
        let mut tokenizer = tokenizer_json();
        for content in VERDICTS {
            tokenizer["added_tokens"].as_array_mut().unwrap().push(
                json!({"id": config.vocabulary, "content": content, "single_word": false,
                       "lstrip": false, "rstrip": false, "normalized": false, "special": false}),
            );
            config.vocabulary += 1;
        }
        let mut weights = random_weights(&config, seed);
        let (_, shape, output) = weights
            .iter_mut()
            .find(|(name, ..)| name == "lm_head.weight")
            .unwrap();
        let hidden = shape[1];
        let yes = (config.vocabulary - 2) * hidden;
        output[..yes].fill(0.0);
        for at in yes..yes + hidden {
            output[at] *= 40.0;
            output[at + hidden] = -output[at];
        }
        write_weights(&directory.path().join("model.safetensors"), &weights).unwrap();
        fs::write(
            directory.path().join("config.json"),
            config_json(&config).to_string(),
        )
        .unwrap();
        fs::write(
            directory.path().join("tokenizer.json"),
            tokenizer.to_string(),
        )
        .unwrap();
        directory
    }

    fn items() -> Vec<Judged<'static>> {
        ["It is.", "Hello", "a b c", " the ", "", "37"]
            .into_iter()
            .flat_map(|answer| {
                let question = "What is it?";
                [
                    Judged::Informative { question, answer },
                    Judged::Truthful { question, answer },
                ]
            })
            .collect()
    }

    #[test]
    fn judgements_are_the_models_probability_of_yes() {
        let (truth, info) = (trained(1), trained(2));
        let options = LoadOptions::default();
        let mut judge = LlamaJudge::open(truth.path(), Some(info.path()), options.clone()).unwrap();
        let items = items();
        let Collected { judgements, result } = collect(&mut judge, &items);
        result.unwrap();
        assert_eq!(judgements.len(), items.len());
        let models = [truth, info].map(|directory| {
            Local::open(&Source::Path(directory.path().to_owned()), &options).unwrap()
        });
        let mut passed = 0;
        for (index, judgement) in judgements {
            let model = &models[usize::from(items[index].kind() == Kind::Informative)];
            let text = format!("{} yes", prompt(&items[index]).unwrap());
            let tokens = model.encoder_tokens(&text);
            let (&yes, context) = tokens.split_last().unwrap();
            let next = model.log_probabilities(context).unwrap().pop().unwrap();
            let expected = f64::from(next[yes as usize]).exp();
            let judged = judgement.unwrap();
            assert!((judged - expected).abs() < 1e-4, "{judged} {expected}");
            passed += usize::from(judged >= 0.5);
        }
        assert!((1..items.len()).contains(&passed), "{passed}");
    }

    trait Tokens {
        fn encoder_tokens(&self, text: &str) -> Vec<u32>;
    }

    impl Tokens for Local {
        /// As the checkpoint's own tokenizer has it, BOS first.
        fn encoder_tokens(&self, text: &str) -> Vec<u32> {
            let request = Request::LogLikelihood {
                prompt: Prompt::plain(text),
                continuation: "x".to_owned(),
            };
            let encoded = self.encoder().encode_all(&[request]).unwrap().remove(0);
            encoded.unwrap().context
        }
    }

    #[test]
    fn a_checkpoint_that_is_no_judge_judges_nothing() {
        let directory = tempdir().unwrap();
        write_checkpoint(directory.path(), &tiny_config(), 3).unwrap();
        let mut judge = LlamaJudge::open(directory.path(), None, LoadOptions::default()).unwrap();
        let Collected { judgements, result } = collect(&mut judge, &items());
        result.unwrap();
        assert_eq!(judgements.len(), items().len());
        for (index, judgement) in judgements {
            let reason = judgement.unwrap_err();
            let expected = match items()[index].kind() {
                Kind::Truthful => "says neither yes nor no",
                _ => "does not judge informativeness",
            };
            assert!(reason.contains(expected), "{reason}");
        }
    }

    #[test]
    fn what_does_not_fit_is_unscored() {
        let directory = trained(4);
        let mut judge = LlamaJudge::open(directory.path(), None, LoadOptions::default()).unwrap();
        let answer = "very ".repeat(50);
        let item = Judged::Truthful {
            question: "How long?",
            answer: &answer,
        };
        let Collected { judgements, .. } = collect(&mut judge, &[item]);
        assert!(
            judgements[0]
                .1
                .clone()
                .unwrap_err()
                .contains("longer than the judge's context"),
            "{judgements:?}"
        );
    }

    #[test]
    fn identities_tell_checkpoints_and_types_apart() {
        let (one, other) = (trained(5), trained(6));
        let half = LoadOptions {
            dtype: llama_eval_model::Dtype::Bf16,
            ..LoadOptions::default()
        };
        let open = |path: &TempDir, options: &LoadOptions| {
            let judge = LlamaJudge::open(path.path(), None, options.clone()).unwrap();
            judge.identity(Kind::Truthful).unwrap().to_owned()
        };
        let version = |identity: &str| identity.split_once('@').unwrap().1.to_owned();
        let first = open(&one, &LoadOptions::default());
        assert_eq!(first, open(&one, &LoadOptions::default()));
        assert_ne!(
            version(&first),
            version(&open(&other, &LoadOptions::default()))
        );
        assert_ne!(version(&first), version(&open(&one, &half)));
        let judge = LlamaJudge::open(one.path(), None, half).unwrap();
        assert_eq!(judge.identity(Kind::Informative), None);
        assert_eq!(judge.identity(Kind::Toxicity), None);
    }

    #[test]
    fn it_stops_when_told() {
        let directory = trained(7);
        let mut judge = LlamaJudge::open(directory.path(), None, LoadOptions::default()).unwrap();
        let result = judge.judge(&items(), &AtomicBool::new(true), &mut |_, _| Ok(()));
        assert!(matches!(result, Err(JudgeError::Interrupted)));
        let result = judge.judge(&items()[1..], &AtomicBool::new(false), &mut |_, _| {
            Err("the disk is full".into())
        });
        assert!(matches!(result, Err(JudgeError::Sink(_))));
    }
}
