//! Promise: the three rules of multiple choice are what they say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use llama_eval_model::{Answer, Preamble, Request};
use llama_eval_tasks::{Outcome, choice};

fn answer(log_probs: &[f32]) -> Answer {
    Answer::LogLikelihood {
        log_probs: log_probs.to_vec(),
        token_ids: vec![0; log_probs.len()],
        greedy: false,
        margin: 1.0,
        context_tokens: 1,
        dropped_examples: 0,
        truncated_tokens: 0,
    }
}

fn score(choices: &[&str], values: &[f32], gold: usize) -> Outcome {
    let choices: Vec<String> = choices.iter().map(|&choice| choice.to_owned()).collect();
    choice::score(
        &values
            .iter()
            .map(|&value| answer(&[value]))
            .collect::<Vec<_>>(),
        &choices,
        gold,
    )
}

/// Choices, values after the prompt and after "Answer:", gold, and acc, acc_norm and acc_answer_context.
type Case = (&'static [&'static str], &'static [f32], usize, [f64; 3]);

#[test]
fn table() {
    let table: &[Case] = &[
        // The sum prefers the short choice, the length and the context the long one.
        (
            &["no", "certainly"],
            &[-3.0, -4.0, -1.0, -6.0],
            0,
            [1.0, 0.0, 0.0],
        ),
        (
            &["no", "certainly"],
            &[-3.0, -4.0, -1.0, -6.0],
            1,
            [0.0, 1.0, 1.0],
        ),
        // Equal values: the first wins.
        (&["a", "b"], &[-2.0, -2.0, -1.0, -1.0], 0, [1.0, 1.0, 1.0]),
        (&["a", "b"], &[-2.0, -2.0, -1.0, -1.0], 1, [0.0, 0.0, 0.0]),
        // Equal choices are no special case.
        (
            &["a", "a", "b"],
            &[-2.0, -2.0, -3.0, -1.0, -1.0, -9.0],
            2,
            [0.0, 0.0, 1.0],
        ),
        // Code points, not bytes: 4 against 6 per character -1.25 and -1; by bytes -0.625 and -1.
        (
            &["éééé", "abcdef"],
            &[-5.0, -6.0, 0.0, 0.0],
            1,
            [0.0, 1.0, 0.0],
        ),
        // A leading space of the choice itself counts (HellaSwag's WikiHow endings).
        (&[" ab", "ab"], &[-3.0, -2.5, 0.0, 0.0], 0, [0.0, 1.0, 0.0]),
    ];
    for (choices, values, gold, [acc, acc_norm, acc_answer_context]) in table {
        let expected = vec![
            ("acc".into(), *acc),
            ("acc_norm".into(), *acc_norm),
            ("acc_answer_context".into(), *acc_answer_context),
        ];
        assert_eq!(
            score(choices, values, *gold),
            Outcome::Scored(expected),
            "{choices:?} {values:?} {gold}"
        );
    }
}

#[test]
fn the_log_probs_of_a_choice_are_summed() {
    let answers = [
        answer(&[-1.0, -1.5]),
        answer(&[-2.4]),
        answer(&[0.0]),
        answer(&[0.0]),
    ];
    let Outcome::Scored(values) = choice::score(&answers, &["ab".to_owned(), "cd".to_owned()], 1)
    else {
        panic!()
    };
    assert_eq!(values[0], ("acc".into(), 1.0));
}

#[test]
fn nothing_unsure_is_scored() {
    let reason = |outcome| match outcome {
        Outcome::Unscored(reason) => reason,
        Outcome::Scored(values) => panic!("{values:?}"),
    };
    assert!(
        reason(score(&["a", "b"], &[-1.0, f32::NAN, -1.0, -1.0], 0)).contains("request 1 is NaN")
    );
    assert!(
        reason(score(
            &["a", "b"],
            &[-1.0, -1.0, -1.0, f32::NEG_INFINITY],
            0
        ))
        .contains("request 3 is -inf")
    );
    assert!(reason(score(&["a", "b"], &[-1.0, -1.0, -1.0], 0)).contains("3 answers for 2 choices"));
    assert!(reason(score(&["a", "b"], &[-1.0; 4], 2)).contains("gold index 2"));
    assert!(reason(score(&[], &[], 0)).contains("gold index 0"));
    let mut answers = vec![answer(&[-1.0]); 4];
    answers[2] = Answer::Unanswered {
        reason: "a logit was NaN".to_owned(),
    };
    let outcome = choice::score(&answers, &["a".to_owned(), "b".to_owned()], 0);
    assert_eq!(
        reason(outcome),
        "request 2 was not answered: a logit was NaN"
    );
}

#[test]
fn requests_are_the_choices_after_the_prompt_and_after_answer() {
    let preamble = Arc::new(Preamble {
        description: "D\n".to_owned(),
        examples: vec!["E\n".to_owned()],
    });
    let requests = choice::requests(&preamble, "Q:", &["x".to_owned(), "y".to_owned()]);
    let texts: Vec<(String, &str)> = requests
        .iter()
        .map(|request| match request {
            Request::LogLikelihood {
                prompt,
                continuation,
            } => (prompt.text(), continuation.as_str()),
            other => panic!("{other:?}"),
        })
        .collect();
    let texts: Vec<(&str, &str)> = texts
        .iter()
        .map(|(context, continuation)| (context.as_str(), *continuation))
        .collect();
    assert_eq!(
        texts,
        [
            ("D\nE\nQ:", " x"),
            ("D\nE\nQ:", " y"),
            ("Answer:", " x"),
            ("Answer:", " y")
        ]
    );
}
