//! A run with made-up completions for every table of generated text.

use std::sync::Arc;

use llama_eval_reports::{
    DocumentScore, MetricCard, Run, ScoredCompletion, ScoredSampling, ScoredVerdict, TaskCard,
    TaskRun,
};
use serde_json::{Map, json};

/// A metric and its value of a document.
pub type Metric = (&'static str, fn(usize) -> f64);

/// A greedy completion.
pub fn greedy(context: &str, text: &str) -> ScoredCompletion {
    ScoredCompletion {
        context: context.into(),
        stop: vec!["\n".into()],
        max_new_tokens: 32,
        sampling: None,
        sample: 0,
        text: Some(text.into()),
        filtered: Vec::new(),
        finish: "stop-string".into(),
        cut: false,
        tokens: 3,
        margin: 0.5,
        prompt_tokens: 9,
        dropped_examples: 0,
        truncated_tokens: 0,
        verdicts: Vec::new(),
    }
}

/// `count` drawn completions of one prompt.
pub fn drawn(context: &str, count: u32, temperature: f32, seed: u64) -> Vec<ScoredCompletion> {
    let context: Arc<str> = context.into();
    let sampling = ScoredSampling {
        temperature,
        top_p: 0.95,
        top_k: 0,
        seed,
    };
    (0..count)
        .map(|sample| ScoredCompletion {
            context: Arc::clone(&context),
            sampling: Some(sampling),
            sample,
            ..greedy("", &format!("draw {sample}"))
        })
        .collect()
}

/// What the model did not answer.
pub fn unanswered(completion: ScoredCompletion) -> ScoredCompletion {
    ScoredCompletion {
        text: None,
        filtered: Vec::new(),
        finish: String::new(),
        tokens: 0,
        ..completion
    }
}

/// A task of generated text; the first of `metrics` is the headline.
pub fn task(
    name: &str,
    title: &str,
    metrics: &[Metric],
    split: usize,
    documents: usize,
    completions: impl Fn(usize) -> Vec<ScoredCompletion>,
) -> TaskRun {
    let card = |(metric, _): &Metric| MetricCard {
        name: (*metric).into(),
        higher_is_better: !metric.starts_with("toxicity"),
        rule: format!("rule of {metric}"),
    };
    TaskRun {
        card: TaskCard {
            name: name.into(),
            title: title.into(),
            version: 1,
            published: None,
            group: None,
            split: "test".into(),
            licence: "MIT".into(),
            citation: "made up".into(),
            data_sha256: Default::default(),
            metrics: metrics.iter().map(card).collect(),
            headline: metrics[0].0.into(),
        },
        shots: 0,
        split_documents: split,
        documents: (0..documents)
            .map(|index| DocumentScore {
                index,
                id: format!("{name}-{index}"),
                categories: Vec::new(),
                document: Map::from_iter([("question".to_owned(), json!(format!("{index}?")))]),
                target: "42".into(),
                requests: Vec::new(),
                completions: completions(index),
                metrics: metrics
                    .iter()
                    .map(|(metric, value)| ((*metric).to_owned(), value(index)))
                    .collect(),
                unscored: None,
            })
            .collect(),
    }
}

/// The same with so many shots.
pub fn with_shots(task: TaskRun, shots: usize) -> TaskRun {
    TaskRun { shots, ..task }
}

/// A third of the answers right; every tenth cut off.
pub fn questions(name: &str, table: &str, column: &str, documents: usize) -> TaskRun {
    let completions = |index: usize| {
        vec![ScoredCompletion {
            cut: index % 10 == 9,
            finish: if index % 10 == 9 {
                "length"
            } else {
                "stop-string"
            }
            .into(),
            ..greedy("Q: question\nA:", " answer")
        }]
    };
    let title = if table.contains("trivia") {
        "TriviaQA"
    } else {
        "NaturalQuestions"
    };
    let metrics: [Metric; 2] = [
        ("exact_match", |index| f64::from(u8::from(index % 3 == 0))),
        ("exact_match,remove_whitespace", |_| f64::NAN),
    ];
    let task = task(name, title, &metrics, 3610, documents, completions);
    super::in_table(task, table, column)
}

/// A subject of MATH: greedy and four draws a document, levels 1 to 5 in turn.
pub fn subject(name: &str, split: usize, documents: usize) -> TaskRun {
    let completions = |index: usize| {
        let prompt = format!("Problem:\n{index}\n\nSolution:");
        let mut completions = vec![greedy(&prompt, " $42$")];
        completions.extend(drawn(&prompt, 4, 0.6, index as u64));
        completions
    };
    let metrics: [Metric; 2] = [
        ("exact_match", |index| f64::from(u8::from(index % 5 < 2))),
        ("maj1@4", |index| f64::from(u8::from(index % 5 < 3))),
    ];
    let name = format!("minerva_math_{name}");
    let mut task = task(&name, "MATH", &metrics, split, documents, completions);
    task.card.group = Some("minerva_math".into());
    for document in &mut task.documents {
        document.categories = vec![format!("Level {}", document.index % 5 + 1)];
    }
    super::in_table(with_shots(task, 4), "table7_math", "MATH")
}

fn gsm8k() -> TaskRun {
    let completions = |index: usize| {
        let mut completions = vec![greedy("Q: How many?\nA:", " The answer is 42.")];
        completions.extend(drawn("Q: How many?\nA:", 100, 0.6, index as u64));
        completions
    };
    let metrics: [Metric; 2] = [
        ("exact_match", |index| f64::from(u8::from(index == 0))),
        ("maj1@100", |index| f64::from(u8::from(index < 2))),
    ];
    let task = task("gsm8k_cot", "GSM8k", &metrics, 1319, 4, completions);
    super::in_table(with_shots(task, 8), "table7_math", "GSM8k")
}

/// Programs: two draws for pass@1 and more for pass@k, each with the sandbox's verdict.
pub fn programs(
    name: &str,
    column: &str,
    at_k: (&'static str, u32),
    split: usize,
    documents: usize,
) -> TaskRun {
    let completions = |index: usize| {
        let mut completions = drawn("def f():\n", 2, 0.1, index as u64);
        completions.extend(drawn("def f():\n", at_k.1, 0.8, index as u64));
        for completion in &mut completions {
            let passed = completion.sample % 2 == 0;
            completion.verdicts = vec![ScoredVerdict {
                check: "program".into(),
                value: Some(f64::from(u8::from(passed))),
                note: if passed { "passed" } else { "AssertionError" }.into(),
            }];
        }
        completions
    };
    let metrics: [Metric; 2] = [
        ("pass@1", |index| 0.5 * (index % 2) as f64),
        (at_k.0, |index| [0.25, 1.0][index % 2]),
    ];
    let title = column.split('@').next().unwrap();
    let task = task(name, title, &metrics, split, documents, completions);
    super::in_table(task, "table8_code", column)
}

/// Two prompts a document; the last document's judge failed.
pub fn toxicity() -> TaskRun {
    let completions = |_| {
        vec![
            greedy("So", " it goes"),
            greedy("Complete politely: So", " it is"),
        ]
    };
    let metrics: [Metric; 2] = [
        ("toxicity_basic", |index| [0.0625, 0.25, 0.125][index % 3]),
        ("toxicity_respectful", |index| {
            [0.03125, 0.125, 0.0625][index % 3]
        }),
    ];
    let title = "RealToxicityPrompts";
    let mut task = task(
        "realtoxicityprompts",
        title,
        &metrics,
        99_442,
        7,
        completions,
    );
    let last = task.documents.last_mut().unwrap();
    last.metrics.clear();
    last.unscored = Some("the judge gave no number\nhint: ask again".into());
    super::in_table(task, "table11_realtoxicityprompts", "Basic")
}

/// Judged answers.
pub fn truthful() -> TaskRun {
    let metrics: [Metric; 2] = [
        ("truthful", |index| f64::from(u8::from(index % 4 > 0))),
        ("truthful_informative", |index| {
            f64::from(u8::from(index % 4 > 1))
        }),
    ];
    let answer = |_| vec![greedy("Q: Why?\nA:", " Because.")];
    let mut task = task("truthfulqa_gen", "TruthfulQA", &metrics, 817, 817, answer);
    task.card.headline = "truthful_informative".into();
    super::in_table(task, "table14_truthfulqa", "Truthful*Inf")
}

/// No judge was asked.
pub fn awaiting(mut task: TaskRun) -> TaskRun {
    for document in &mut task.documents {
        document.metrics.clear();
        document.unscored = Some("awaits a judge".into());
    }
    task
}

/// Every table of generated text: partial splits, another k, judges, and what went wrong.
pub fn everything() -> Run {
    let (natural, trivia) = ("table4_natural_questions", "table5_triviaqa");
    let mut run = super::run(vec![
        questions("nq_open", natural, "0-shot", 3610),
        with_shots(questions("nq_open_5shot", natural, "5-shot", 40), 5),
        with_shots(questions("nq_open_64shot", natural, "64-shot", 20), 64),
        with_shots(questions("triviaqa_1shot", trivia, "1-shot", 30), 1),
        subject("algebra", 1187, 30),
        subject("num_theory", 10, 10),
        gsm8k(),
        programs("humaneval", "HumanEval@1", ("pass@10", 12), 164, 3),
        programs("mbpp", "MBPP@1", ("pass@80", 80), 500, 2),
        toxicity(),
        truthful(),
        super::task("truthfulqa_mc1", "TruthfulQA", &["acc"], 817, 817, 3),
    ]);
    let judges = [
        ("program", "Python 3.11.7 in bubblewrap 0.8.0"),
        ("toxicity", "a made-up classifier 1.0 (sha256 abcd)"),
        ("truthful", "a made-up truth judge 2.0"),
        ("informative", "a made-up info judge 2.0"),
    ];
    run.judges = judges
        .map(|(check, judge)| (check.to_owned(), judge.to_owned()))
        .into();
    run
}
