//! What benchmarks of generated text share: their requests, and what was found out about the completions.

use std::sync::Arc;

use llama_eval_model::{Answer, Generation, Prompt, Request, Sampling};

use crate::{dataset::DataError, task::Verdict};

/// From this probability on, a judge's answer is yes.
pub(crate) const YES: f64 = 0.5;

/// One request per completion of the same prompt.
pub(crate) fn requests(generation: Generation, samples: usize) -> Vec<Request> {
    let generation = Arc::new(generation);
    let samples = u32::try_from(samples).unwrap_or(u32::MAX);
    let request = |sample| Request::Generate {
        generation: Arc::clone(&generation),
        sample,
    };
    (0..samples).map(request).collect()
}

/// The request for the one most likely completion, token by token.
pub(crate) fn greedy(prompt: Prompt, stop: &[&str], max_new_tokens: usize) -> Request {
    Request::Generate {
        generation: Arc::new(Generation {
            prompt,
            stop: owned(stop),
            max_new_tokens,
            sampling: Sampling::Greedy,
        }),
        sample: 0,
    }
}

pub(crate) fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// The value of one verdict on one completion, or why there is none.
pub(crate) fn verdict(
    answers: &[Answer],
    verdicts: &[Vec<Verdict>],
    completion: usize,
    check: usize,
) -> Result<f64, String> {
    match answers.get(completion) {
        Some(Answer::Completion(_)) => {}
        Some(Answer::Unanswered { reason }) => return Err(reason.clone()),
        _ => return Err(format!("there is no completion {completion}")),
    }
    let verdicts = verdicts.get(completion).map(Vec::as_slice);
    match verdicts.unwrap_or_default().get(check) {
        Some(Verdict::Known { value, .. }) if value.is_finite() => Ok(*value),
        Some(Verdict::Known { value, .. }) => Err(format!(
            "the verdict on completion {completion} is {value}, which is no score"
        )),
        Some(Verdict::Missing { reason }) => Err(reason.clone()),
        None => Err(format!("there is no verdict on completion {completion}")),
    }
}

/// Few-shot examples are asked for where there are none to be had; `file` is the benchmark's.
pub(crate) fn no_examples(task: &str, file: &str, why: &str) -> DataError {
    DataError {
        path: file.into(),
        line: None,
        problem: format!("{task} {why}"),
        hint: format!("run {task} with 0 few-shot examples"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use llama_eval_model::{Completion, Finish};

    /// A completion with this text.
    pub(crate) fn completion(text: &str) -> Answer {
        Answer::Completion(Completion {
            text: text.to_owned(),
            token_ids: vec![1],
            finish: Finish::StopString,
            margin: 1.0,
            prompt_tokens: 1,
            dropped_examples: 0,
            truncated_tokens: 0,
        })
    }

    pub(crate) fn known(value: f64) -> Verdict {
        Verdict::Known {
            value,
            note: String::new(),
        }
    }

    pub(crate) fn missing() -> Verdict {
        Verdict::Missing {
            reason: "nobody was asked".to_owned(),
        }
    }

    /// What is asked to be generated.
    pub(crate) fn generation(request: &Request) -> &Generation {
        let Request::Generate { generation, .. } = request else {
            panic!("{request:?}")
        };
        generation
    }

    #[test]
    fn a_verdict_that_is_not_there_has_a_reason() {
        let answers = [
            completion("a"),
            Answer::Unanswered {
                reason: "NaN".to_owned(),
            },
            completion("b"),
        ];
        let verdicts = [
            vec![known(0.25), missing()],
            vec![known(1.0)],
            vec![known(f64::NAN)],
        ];
        for (completion, check, expected) in [
            (0, 0, Ok(0.25)),
            (0, 1, Err("nobody was asked")),
            (0, 2, Err("there is no verdict on completion 0")),
            (1, 0, Err("NaN")),
            (
                2,
                0,
                Err("the verdict on completion 2 is NaN, which is no score"),
            ),
            (3, 0, Err("there is no completion 3")),
        ] {
            let found = verdict(&answers, &verdicts, completion, check);
            assert_eq!(found, expected.map_err(str::to_owned));
        }
    }
}
