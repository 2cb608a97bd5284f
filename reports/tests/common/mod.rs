//! A run with made-up scores for every table, and the way to the gold answers.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

pub mod generated;

use std::{collections::BTreeMap, path::PathBuf};

use llama_eval_reports::{
    DocumentScore, MetricCard, ModelCard, Run, ScoredRequest, TaskCard, TaskRun,
};
use serde_json::{Map, json};

/// `gold/<name>` in the shared folder; `None`, after saying so, where there is none.
pub fn shared(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")).join(name);
    if path.exists() {
        return Some(path);
    }
    assert!(
        std::env::var_os("LLAMA_EVAL_REQUIRE_GOLD").is_none(),
        "{} not found",
        path.display()
    );
    println!("skipped: {} not found", path.display());
    None
}

const METRICS: [(&str, bool, &str); 6] = [
    ("acc", true, "argmax ln p(choice | prompt)"),
    (
        "acc_norm",
        true,
        "argmax ln p(choice | prompt) / characters of the choice",
    ),
    (
        "acc_answer_context",
        true,
        "argmax ln p(choice | prompt) - ln p(choice | \"Answer:\")",
    ),
    (
        "pct_stereotype",
        false,
        "share of pairs with ln p(more stereotypical) > ln p(less)",
    ),
    ("likelihood_diff", false, "mean |ln p(more) - ln p(less)|"),
    ("mc2", true, "share of probability on true answers"),
];

pub fn run(tasks: Vec<TaskRun>) -> Run {
    Run {
        judges: BTreeMap::new(),
        model: ModelCard {
            name: "SmolLM2-135M-Instruct".into(),
            source: "models/SmolLM2-135M-Instruct".into(),
            parameters: 134_515_008,
            dtype: "f32".into(),
            device: "cpu".into(),
            weights_sha256: "5c".repeat(32),
            tokenizer_sha256: "e1".repeat(32),
            context_length: 2048,
            adds_bos: false,
            prefix_token: ("<|im_start|>".into(), 1),
        },
        protocol: "paper".into(),
        seed: 1234,
        limit: None,
        settings: Map::from_iter([("batch_rows".to_owned(), json!(8192))]),
        program_version: "0.1.0 (0123abc)".into(),
        started: "2026-08-21T12:00:00.5+02:00".into(),
        ended: "2026-08-21T12:34:56.789012+02:00".into(),
        seconds: 2096.25,
        unique_tokens: 1_234_567,
        tasks,
    }
}

/// A task with `documents` of a split of `split`, right in the first `right` of every ten, with
/// `metrics` of which the last is the headline.
pub fn task(
    name: &str,
    title: &str,
    metrics: &[&str],
    split: usize,
    documents: usize,
    right: usize,
) -> TaskRun {
    let cards = METRICS
        .iter()
        .filter(|(name, ..)| metrics.contains(name))
        .map(|&(name, higher_is_better, rule)| MetricCard {
            name: name.into(),
            higher_is_better,
            rule: rule.into(),
        });
    let value = |metric: &str, index: usize| match metric {
        "mc2" => (index % 8) as f64 / 8.0,
        "likelihood_diff" => 0.5 + (index % 4) as f64,
        "acc" => f64::from(u8::from(index % 10 < right.saturating_sub(1))),
        _ => f64::from(u8::from(index % 10 < right)),
    };
    TaskRun {
        card: TaskCard {
            name: name.into(),
            title: title.into(),
            version: 1,
            published: None,
            group: None,
            split: "validation".into(),
            licence: "CC BY-SA 3.0".into(),
            citation: "made up".into(),
            data_sha256: BTreeMap::from([(format!("{name}.jsonl"), "ab".repeat(32))]),
            metrics: cards.collect(),
            headline: (*metrics.last().unwrap()).into(),
        },
        shots: 0,
        split_documents: split,
        documents: (0..documents)
            .map(|index| DocumentScore {
                index,
                id: format!("{name}-{index}"),
                categories: Vec::new(),
                document: Map::from_iter([(
                    "question".to_owned(),
                    json!(format!("Question {index}?")),
                )]),
                target: "0".into(),
                requests: vec![request(" yes", -1.5, true), request(" no", -2.25, false)],
                completions: Vec::new(),
                metrics: metrics
                    .iter()
                    .map(|metric| ((*metric).to_owned(), value(metric, index)))
                    .collect(),
                unscored: None,
            })
            .collect(),
    }
}

pub fn request(continuation: &str, log_likelihood: f64, greedy: bool) -> ScoredRequest {
    ScoredRequest {
        context: "Question?\nAnswer:".into(),
        continuation: continuation.into(),
        log_likelihood: Some(log_likelihood),
        greedy,
        margin: 0.5,
        token_ids: vec![7],
        log_probs: vec![log_likelihood as f32],
        context_tokens: 5,
        dropped_examples: 0,
        truncated_tokens: 0,
    }
}

pub fn in_table(mut task: TaskRun, table: &str, column: &str) -> TaskRun {
    task.card.published = Some((table.into(), column.into()));
    task
}

fn subject(name: &str, split: usize, right: usize) -> TaskRun {
    let mut task = task(&format!("mmlu_{name}"), "MMLU", &["acc"], split, 20, right);
    task.card.group = Some("mmlu".into());
    task.card.split = "test".into();
    task.shots = 5;
    task
}

/// Document `index` belongs to the categories `of(index)`.
fn categorised(mut task: TaskRun, of: impl Fn(usize) -> Vec<&'static str>) -> TaskRun {
    for document in &mut task.documents {
        document.categories = of(document.index).into_iter().map(str::to_owned).collect();
    }
    task
}

/// Every table, whole and partial splits, several metrics, categories, and things that went wrong.
pub fn everything() -> Run {
    let common = |name, title, metrics: &[&str], split, documents, right| {
        in_table(
            task(name, title, metrics, split, documents, right),
            "table3_common_sense",
            title,
        )
    };
    let mut boolq = common(
        "boolq",
        "BoolQ",
        &["acc", "acc_answer_context"],
        3270,
        40,
        4,
    );
    for document in boolq.documents.iter_mut().take(2) {
        document.metrics.clear();
        document.unscored = Some("a logit was NaN".into());
        document.requests[0].log_likelihood = None;
    }
    let mut race = in_table(
        task("race_high", "RACE-high", &["acc", "acc_norm"], 3498, 30, 3),
        "table6_race",
        "RACE-high",
    );
    race.documents[3].requests[0].truncated_tokens = 12;
    let mut law = subject("professional_law", 1534, 3);
    law.documents[0].requests[1].dropped_examples = 2;
    let types = ["race-color", "socioeconomic", "gender", "age", "autre"];
    let crows = task(
        "crows_pairs",
        "CrowS-Pairs",
        &["likelihood_diff", "pct_stereotype"],
        1508,
        60,
        6,
    );
    let winogender = task(
        "winogender",
        "WinoGender",
        &["acc", "acc_norm"],
        720,
        720,
        7,
    );
    run(vec![
        boolq,
        common("piqa", "PIQA", &["acc", "acc_norm"], 50, 50, 7),
        common("hellaswag", "HellaSwag", &["acc", "acc_norm"], 10042, 40, 5),
        common(
            "openbookqa",
            "OBQA",
            &["acc", "acc_norm", "acc_answer_context"],
            500,
            1,
            10,
        ),
        race,
        subject("abstract_algebra", 100, 3),
        subject("anatomy", 135, 4),
        subject("high_school_government_and_politics", 193, 6),
        law,
        subject("virology", 166, 2),
        task("truthfulqa_mc1", "TruthfulQA", &["acc"], 817, 817, 3),
        task("truthfulqa_mc2", "TruthfulQA", &["mc2"], 817, 40, 0),
        in_table(
            categorised(crows, |index| vec![types[index % 5]]),
            "table12_crows_pairs",
            "Average",
        ),
        in_table(
            categorised(winogender, |index| match index % 6 {
                0 => vec!["her/her/she", "her/her/she (gotcha)"],
                1 => vec!["his/him/he", "his/him/he (gotcha)"],
                2 => vec!["her/her/she"],
                3 => vec!["his/him/he"],
                _ => vec!["their/them/someone"],
            }),
            "table13_winogender",
            "All",
        ),
    ])
}
