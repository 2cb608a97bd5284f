//! Multiple choice: what most benchmarks share.
//!
//! A choice is scored as a continuation of the prompt, and compared by three rules
//! (LLaMA paper, section 3; lm-eval `api/task.py`).

use std::sync::Arc;

use llama_eval_model::{Answer, Preamble, Prompt, Request};

use crate::task::{Metric, MetricName, Outcome};

/// Text between prompt and choice.
pub const DELIMITER: &str = " ";
/// Context of the denominator in P(choice | prompt) / P(choice | "Answer:").
pub const ANSWER_CONTEXT: &str = "Answer:";

/// Summed log-likelihood, no normalisation.
pub const ACC: Metric = Metric::new("acc", "argmax ln p(choice | prompt)");
/// Per character.
pub const ACC_NORM: Metric = Metric::new(
    "acc_norm",
    "argmax ln p(choice | prompt) / characters of the choice",
);
/// Against the bare answer context.
pub const ACC_ANSWER_CONTEXT: Metric = Metric::new(
    "acc_answer_context",
    "argmax ln p(choice | prompt) - ln p(choice | \"Answer:\")",
);
/// The three, in the order they are reported.
pub const METRICS: &[Metric] = &[ACC, ACC_NORM, ACC_ANSWER_CONTEXT];

/// The requests of one question: every choice after the prompt, then every choice after [`ANSWER_CONTEXT`].
pub fn requests(preamble: &Arc<Preamble>, question: &str, choices: &[String]) -> Vec<Request> {
    let after = |prompt: Prompt| {
        choices.iter().map(move |choice| Request::LogLikelihood {
            prompt: prompt.clone(),
            continuation: format!("{DELIMITER}{choice}"),
        })
    };
    let asked = Prompt {
        preamble: Arc::clone(preamble),
        question: question.to_owned(),
    };
    after(asked)
        .chain(after(Prompt::plain(ANSWER_CONTEXT)))
        .collect()
}

/// Is this one of the requests for the denominator, P(choice | "Answer:")?
pub(crate) fn is_denominator(request: &Request) -> bool {
    let Request::LogLikelihood { prompt, .. } = request else {
        return false;
    };
    *prompt == Prompt::plain(ANSWER_CONTEXT)
}

/// Scores the answers to [`requests`] by all three rules; the first of equal choices wins, as numpy's argmax.
/// Where only the choices after the prompt were asked for, [`ACC_ANSWER_CONTEXT`] is left out.
///
/// Unscored when an answer is missing, is not a finite number, or the gold index is no choice.
pub fn score(answers: &[Answer], choices: &[String], gold: usize) -> Outcome {
    scored(answers, choices, gold).map_or_else(Outcome::Unscored, Outcome::Scored)
}

fn scored(
    answers: &[Answer],
    choices: &[String],
    gold: usize,
) -> Result<Vec<(MetricName, f64)>, String> {
    if gold >= choices.len() {
        return Err(format!(
            "the gold index {gold} is not one of {} choices",
            choices.len()
        ));
    }
    let values = log_likelihoods(answers)?;
    let (asked, bare) = values.split_at(choices.len().min(values.len()));
    if asked.len() != choices.len() || ![0, choices.len()].contains(&bare.len()) {
        return Err(format!(
            "{} answers for {} choices",
            values.len(),
            choices.len()
        ));
    }
    let by_length = asked
        .iter()
        .zip(choices)
        .map(|(value, choice)| value / choice.chars().count() as f64);
    let by_context = asked.iter().zip(bare).map(|(value, bare)| value - bare);
    let mut metrics = vec![
        (ACC.name, correct(asked.iter().copied(), gold)),
        (ACC_NORM.name, correct(by_length, gold)),
    ];
    if !bare.is_empty() {
        metrics.push((ACC_ANSWER_CONTEXT.name, correct(by_context, gold)));
    }
    Ok(metrics)
}

/// The summed log-likelihood of every answer, or why there is none.
///
/// # Errors
/// The first answer that is missing or not finite, as text.
pub fn log_likelihoods(answers: &[Answer]) -> Result<Vec<f64>, String> {
    let value = |(index, answer): (usize, &Answer)| match (answer, answer.log_likelihood()) {
        (Answer::Unanswered { reason }, _) => {
            Err(format!("request {index} was not answered: {reason}"))
        }
        (_, Some(value)) if value.is_finite() => Ok(value),
        (_, Some(value)) => Err(format!("the log-likelihood of request {index} is {value}")),
        (_, None) => Err(format!(
            "the answer to request {index} is not a log-likelihood"
        )),
    };
    answers.iter().enumerate().map(value).collect()
}

/// The mean log-likelihood per token of every answer: the greater, the lower the perplexity.
///
/// # Errors
/// As [`log_likelihoods`], and when there are no tokens.
pub fn per_token(answers: &[Answer]) -> Result<Vec<f64>, String> {
    let mean = |(index, (sum, answer)): (usize, (f64, &Answer))| match answer {
        Answer::LogLikelihood { log_probs, .. } if !log_probs.is_empty() => {
            Ok(sum / log_probs.len() as f64)
        }
        _ => Err(format!("the answer to request {index} has no tokens")),
    };
    log_likelihoods(answers)?
        .into_iter()
        .zip(answers)
        .enumerate()
        .map(mean)
        .collect()
}

/// Index of the greatest value, the first of equal ones; `None` if there are none.
pub fn argmax<I: IntoIterator<Item = f64>>(values: I) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (index, value) in values.into_iter().enumerate() {
        // numpy: a value that is not a number counts as the greatest.
        if best
            .is_none_or(|(_, greatest)| value > greatest || (value.is_nan() && !greatest.is_nan()))
        {
            best = Some((index, value));
        }
    }
    best.map(|(index, _)| index)
}

fn correct(values: impl IntoIterator<Item = f64>, gold: usize) -> f64 {
    f64::from(u8::from(argmax(values) == Some(gold)))
}
