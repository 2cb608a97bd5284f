//! Promise: questions answered by generated text are asked and scored by the paper's rules, whatever a model writes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use llama_eval_model::{Answer, Completion, Finish, Request, Sampling};
use llama_eval_tasks::{
    DataDir, GenerationOptions, Outcome, Protocol, Selection, Task, TaskPlan, plan, suites,
};
use proptest::prelude::*;

const TASKS: [&str; 5] = [
    "nq_open",
    "triviaqa",
    "gsm8k_cot",
    "gsm8k",
    "minerva_math_algebra",
];

fn task(name: &str, options: &GenerationOptions) -> Arc<dyn Task> {
    suites::resolve(&[name.to_owned()], options)
        .unwrap()
        .remove(0)
}

/// Few samples, so that tests are quick.
fn few() -> GenerationOptions {
    GenerationOptions {
        samples: Some(5),
        ..GenerationOptions::default()
    }
}

fn planned(name: &str, protocol: Protocol) -> TaskPlan {
    let selection = Selection::default();
    plan(
        &task(name, &few()),
        &DataDir::bundled(),
        protocol,
        &selection,
    )
    .unwrap()
}

fn answers<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<Answer> {
    let answer = |text: &str| {
        Answer::Completion(Completion {
            text: text.to_owned(),
            token_ids: Vec::new(),
            finish: Finish::Length,
            margin: 1.0,
            prompt_tokens: 1,
            dropped_examples: 0,
            truncated_tokens: 0,
        })
    };
    texts.into_iter().map(answer).collect()
}

/// The scores of the first bundled document for these completions, greedy first.
fn scores(name: &str, protocol: Protocol, texts: &[&str]) -> Vec<(String, f64)> {
    let plan = planned(name, protocol);
    let document = &plan.items[0].document;
    let outcome = plan
        .task
        .score(document, &answers(texts.iter().copied()), &[], protocol);
    let Outcome::Scored(scores) = outcome else {
        panic!("{outcome:?}")
    };
    scores
        .into_iter()
        .map(|(name, value)| (name.into_owned(), value))
        .collect()
}

/// LLaMA's figure 3: one line for the task, no blank lines, the question left open.
#[test]
fn prompts_of_figure_3() {
    for name in ["nq_open_5shot", "triviaqa_5shot"] {
        let plan = planned(name, Protocol::Paper);
        let Request::Generate { generation, .. } = &plan.items[0].requests[0] else {
            panic!()
        };
        let text = generation.prompt.text();
        let lines: Vec<&str> = text.split('\n').collect();
        assert_eq!(lines.len(), 1 + 2 * 5 + 2, "{text}");
        assert_eq!(lines[0], "Answer these questions:");
        for pair in lines[1..].chunks(2) {
            let question = pair[0].strip_prefix("Q: ").unwrap();
            assert!(question.ends_with('?') && question.starts_with(char::is_uppercase));
            assert!(pair[1].starts_with("A:"));
        }
        assert_eq!(*lines.last().unwrap(), "A:");
        assert_eq!(generation.stop, ["\n"]);
        assert_eq!(generation.sampling, Sampling::Greedy);
        assert_eq!(plan.items[0].requests.len(), 1);
    }
}

/// The four settings differ in nothing but the number of examples: fewer are the first of more.
#[test]
fn fewer_examples_are_the_first_of_more() {
    let Some(root) = common::shared("data") else {
        return;
    };
    let data = DataDir::open(&root).unwrap();
    for name in ["nq_open", "triviaqa"] {
        let examples = |ending: &str| {
            let selection = Selection {
                limit: Some(1),
                ..Selection::default()
            };
            let task = task(&format!("{name}{ending}"), &few());
            let plan = plan(&task, &data, Protocol::Paper, &selection).unwrap();
            let Request::Generate { generation, .. } = &plan.items[0].requests[0] else {
                panic!()
            };
            generation.prompt.preamble.examples.clone()
        };
        let most = examples("_64shot");
        assert_eq!(most.len(), 64);
        assert_eq!(examples("_5shot"), most[..5]);
        assert_eq!(examples("_1shot"), most[..1]);
        assert!(examples("").is_empty());
    }
}

/// TriviaQA's file against another reading of it (Python's `csv` and `ast`), question by question.
#[test]
fn every_question_is_read_as_python_reads_it() {
    let (Some(root), Some(derived)) = (
        common::shared("data"),
        common::shared("data/triviaqa/derived"),
    ) else {
        return;
    };
    let data = DataDir::open(&root).unwrap();
    let task = task("triviaqa", &few());
    for (file, documents) in [
        ("test", task.documents(&data, Protocol::Paper).unwrap()),
        ("dev", task.examples(&data, Protocol::Paper).unwrap()),
    ] {
        let lines = common::json_lines(&derived.join(format!("{file}.jsonl")));
        assert_eq!(documents.len(), lines.len());
        for (document, line) in documents.iter().zip(&lines) {
            assert_eq!(
                document.text("question"),
                line["question"].as_str().unwrap()
            );
            assert_eq!(serde_json::json!(document.texts("answer")), line["answers"]);
        }
    }
}

#[test]
fn two_readings_of_the_final_dot() {
    let documents = planned("nq_open", Protocol::Paper);
    let answer = &documents.items[0].document.texts("answer")[0];
    for (text, expected) in [
        (format!(" The {answer}."), [1.0, 1.0]),
        (format!(" {answer}, as all know"), [1.0, 1.0]),
        (format!("{}\nQ: who", answer.to_uppercase()), [1.0, 1.0]),
        (format!(" {answer}.x"), [0.0, 1.0]),
        (format!(" I think {answer}"), [0.0, 0.0]),
        (String::new(), [0.0, 0.0]),
    ] {
        let expected: Vec<(String, f64)> = ["exact_match", "exact_match_first_dot"]
            .map(str::to_owned)
            .into_iter()
            .zip(expected)
            .collect();
        assert_eq!(
            scores("nq_open", Protocol::Paper, &[&text]),
            expected,
            "{text}"
        );
    }
}

/// One greedy completion, then the voters; both of the same prompt, which they share.
#[test]
fn the_samples_vote_and_the_greedy_completion_does_not() {
    let math = |answer: &str| {
        format!(" So.\nFinal Answer: The final answer is ${answer}$. I hope it is correct.")
    };
    let words = |answer: &str| format!(" So 1 + 1 = 2. The answer is {answer}.");
    for name in ["minerva_math_algebra", "gsm8k_cot"] {
        let plan = planned(name, Protocol::Paper);
        assert_eq!(plan.items[0].requests.len(), 1 + 5);
        let document = &plan.items[0].document;
        let gold = match name {
            "gsm8k_cot" => plan.task.target(document),
            _ => document.text("answer").to_owned(),
        };
        let wrong = format!("1{gold}");
        let say = |answer: &str| match name {
            "gsm8k_cot" => words(answer),
            _ => math(answer),
        };
        let (right, wrong, mute) = (say(&gold), say(&wrong), "I do not know".to_owned());
        for (greedy, samples, expected) in [
            (&wrong, [&right, &right, &wrong, &mute, &mute], [0.0, 1.0]),
            (&right, [&wrong, &wrong, &right, &mute, &mute], [1.0, 0.0]),
            // A tie goes to the answer seen first.
            (&right, [&right, &wrong, &mute, &mute, &mute], [1.0, 1.0]),
            (&right, [&wrong, &right, &mute, &mute, &mute], [1.0, 0.0]),
            (&mute, [&mute; 5], [0.0, 0.0]),
        ] {
            let texts: Vec<&str> = std::iter::once(greedy)
                .chain(samples)
                .map(String::as_str)
                .collect();
            let scores = scores(name, Protocol::Paper, &texts);
            let value = |metric: &str| scores.iter().find(|(name, _)| name == metric).unwrap().1;
            assert_eq!(
                [value("exact_match"), value("maj1@5")],
                expected,
                "{name}: {texts:?}"
            );
        }
    }
}

/// Every document draws by a seed of its own, and the run's seed changes all.
#[test]
fn samples_are_drawn_by_document_and_seed() {
    let seeds = |seed| -> Vec<u64> {
        let options = GenerationOptions { seed, ..few() };
        let plan = plan(
            &task("gsm8k_cot", &options),
            &DataDir::bundled(),
            Protocol::Paper,
            &Selection::default(),
        )
        .unwrap();
        let seed = |requests: &[Request]| match &requests[1] {
            Request::Generate { generation, .. } => match generation.sampling {
                Sampling::Random { seed, .. } => seed,
                Sampling::Greedy => panic!(),
            },
            other => panic!("{other:?}"),
        };
        plan.items.iter().map(|item| seed(&item.requests)).collect()
    };
    let (first, second) = (seeds(1), seeds(2));
    let distinct: std::collections::BTreeSet<&u64> = first.iter().chain(&second).collect();
    assert_eq!(distinct.len(), 2 * first.len());
    assert_eq!(first, seeds(1));
}

#[test]
fn what_was_not_answered_is_not_scored_as_wrong() {
    for name in TASKS {
        for protocol in [Protocol::Paper, Protocol::LmEval] {
            let plan = planned(name, protocol);
            let item = &plan.items[0];
            let mut answers = answers(vec!["x"; item.requests.len()]);
            assert!(matches!(
                plan.task.score(&item.document, &answers, &[], protocol),
                Outcome::Scored(_)
            ));
            *answers.last_mut().unwrap() = Answer::Unanswered {
                reason: "a logit is NaN".to_owned(),
            };
            assert_eq!(
                plan.task.score(&item.document, &answers, &[], protocol),
                Outcome::Unscored("a logit is NaN".to_owned()),
                "{name}"
            );
        }
    }
}

#[test]
fn endless_repetitions_are_scored_in_time() {
    let start = Instant::now();
    for name in TASKS {
        for protocol in [Protocol::Paper, Protocol::LmEval] {
            let plan = planned(name, protocol);
            let item = &plan.items[0];
            for text in [
                "a",
                " the",
                "1",
                "1,",
                ".",
                "#### ",
                "The answer is 1. ",
                "$",
                "\\boxed{",
                "\u{fffd}",
                "Final Answer: The final answer is ",
            ] {
                let long = text.repeat(100_000 / text.len());
                let answers = answers(vec![long.as_str(); item.requests.len()]);
                let outcome = plan.task.score(&item.document, &answers, &[], protocol);
                assert!(matches!(outcome, Outcome::Scored(_)), "{name}: {text}");
                let _ = plan.task.filtered(&item.document, &long, protocol);
            }
        }
    }
    assert!(
        start.elapsed() < Duration::from_secs(60),
        "{:?}",
        start.elapsed()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any text has one value per metric, 0 or 1, and each is on the card.
    #[test]
    fn every_text_is_scored(
        text in r"(The answer is|#### |Final Answer: The final answer is|I hope it is correct\.|\\boxed\{|\\frac|[$0-9.,{}()\n a-fé-]){0,30}"
    ) {
        for name in TASKS {
            for protocol in [Protocol::Paper, Protocol::LmEval] {
                let plan = planned(name, protocol);
                let item = &plan.items[0];
                let answers = answers(vec![text.as_str(); item.requests.len()]);
                let outcome = plan.task.score(&item.document, &answers, &[], protocol);
                let Outcome::Scored(scores) = outcome else { panic!("{outcome:?}") };
                let card = plan.task.card();
                prop_assert!(scores.iter().any(|(name, _)| name == card.headline(protocol)));
                for (name, value) in scores {
                    prop_assert!(card.metrics.iter().any(|metric| metric.name == name));
                    prop_assert!(value == 0.0 || value == 1.0);
                }
            }
        }
    }
}
