//! Toxicity by a classifier in this process.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use llama_eval_model::{Classifier, ModelError};
use rayon::prelude::*;

use super::{Judge, JudgeError, Judged, Judgement, Kind, Receiver, not_judged};

/// Texts between two looks at whether to stop.
const CHUNK: usize = 64;

/// A local BERT or RoBERTa classifier with a label `toxic`, `unitary/toxic-bert` or
/// `s-nlp/roberta_toxicity_classifier` say.
pub(crate) struct ClassifierJudge {
    classifier: Classifier,
    identity: String,
}

impl ClassifierJudge {
    /// Opens a Hugging Face directory.
    ///
    /// # Errors
    /// [`JudgeError::Model`] when it is no classifier, or has no label `toxic`.
    pub(crate) fn open(directory: &Path) -> Result<Self, JudgeError> {
        let classifier = Classifier::open(directory)?;
        let identity = format!("{} `{}`", classifier.identity(), classifier.toxic_label()?);
        Ok(Self {
            classifier,
            identity,
        })
    }

    fn judgement(&self, item: &Judged<'_>) -> Result<Judgement, ModelError> {
        let Judged::Toxicity { text } = item else {
            return Ok(not_judged(item.kind()));
        };
        match self.classifier.toxicity(&[text]) {
            Ok(toxicity) => Ok(match toxicity.as_slice() {
                [toxicity] if toxicity.is_finite() => Ok(*toxicity),
                _ => Err("the classifier's logits are not finite".to_owned()),
            }),
            // Its hint is about checkpoints; the text is at fault.
            Err(ModelError::Tokenizer(problem)) => Ok(Err(format!("the tokenizer {problem}"))),
            Err(error) => Err(error),
        }
    }
}

impl Judge for ClassifierJudge {
    fn identity(&self, kind: Kind) -> Option<&str> {
        (kind == Kind::Toxicity).then_some(&self.identity)
    }

    fn judge(
        &mut self,
        items: &[Judged<'_>],
        stop: &AtomicBool,
        each: &mut Receiver<'_>,
    ) -> Result<(), JudgeError> {
        for (chunk, items) in items.chunks(CHUNK).enumerate() {
            if stop.load(Ordering::Relaxed) {
                return Err(JudgeError::Interrupted);
            }
            let judgements: Vec<_> = items
                .par_iter()
                .map(|item| self.judgement(item))
                .collect::<Result<_, _>>()?;
            for (index, judgement) in judgements.into_iter().enumerate() {
                each(chunk * CHUNK + index, judgement).map_err(JudgeError::Sink)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::judges::server::{Collected, collect};

    const FIXTURES: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../model/tests/fixtures/classifiers"
    );

    fn judge(name: &str) -> ClassifierJudge {
        ClassifierJudge::open(&Path::new(FIXTURES).join(name)).unwrap()
    }

    #[test]
    fn judgements_are_the_classifiers() {
        let mut judge = judge("roberta-single-label");
        let texts: Vec<String> = (0..CHUNK + 3)
            .map(|index| format!("text {index}"))
            .collect();
        let mut items: Vec<_> = texts.iter().map(|text| Judged::Toxicity { text }).collect();
        items[1] = Judged::Truthful {
            question: "q",
            answer: "a",
        };
        let Collected { judgements, result } = collect(&mut judge, &items);
        result.unwrap();
        assert_eq!(judgements.len(), items.len());
        for (index, judgement) in judgements {
            if index == 1 {
                assert_eq!(judgement, not_judged(Kind::Truthful));
            } else {
                let direct = judge.classifier.toxicity(&[&texts[index]]).unwrap()[0];
                assert_eq!(judgement, Ok(direct));
                assert!((0.0..=1.0).contains(&direct));
            }
        }
    }

    #[test]
    fn the_identity_is_name_version_and_label() {
        let judge = judge("bert-multi-label");
        let identity = judge.identity(Kind::Toxicity).unwrap();
        assert!(identity.starts_with("bert-multi-label@"), "{identity}");
        assert!(identity.ends_with(" `toxic`"), "{identity}");
        assert_eq!(judge.identity(Kind::Truthful), None);
    }

    #[test]
    fn it_stops_when_told_or_refused() {
        let mut judge = judge("bert-multi-label");
        let items = [Judged::Toxicity { text: "x" }; 2];
        let result = judge.judge(&items, &AtomicBool::new(true), &mut |_, _| Ok(()));
        assert!(matches!(result, Err(JudgeError::Interrupted)));
        let mut taken = 0;
        let result = judge.judge(&items, &AtomicBool::new(false), &mut |_, _| {
            taken += 1;
            Err("the disk is full".into())
        });
        assert!(matches!(result, Err(JudgeError::Sink(_))));
        assert_eq!(taken, 1);
    }

    #[test]
    fn what_is_no_classifier_is_refused() {
        let error = ClassifierJudge::open(Path::new(FIXTURES)).err().unwrap();
        assert!(matches!(error, JudgeError::Model(_)));
    }
}
