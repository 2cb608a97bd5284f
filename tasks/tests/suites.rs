//! Promise: tasks and suites are found by the names people know.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use llama_eval_tasks::suites::{self, resolve};

/// Tasks that need no generated text.
const LIKELIHOOD: usize = 70;
/// Suites of tasks that do, and the others of that kind.
const GENERATED: [&str; 6] = [
    "closed-book",
    "math",
    "code",
    "toxicity",
    "gsm8k",
    "truthfulqa_gen",
];
/// Here for comparison alone.
const NOT_IN_THE_PAPER: [&str; 2] = ["gsm8k", "truthfulqa_mc"];

fn names(asked: &[&str]) -> Vec<String> {
    let asked: Vec<String> = asked.iter().map(|name| (*name).to_owned()).collect();
    resolve(&asked, &Default::default())
        .unwrap()
        .iter()
        .map(|task| task.card().name.clone())
        .collect()
}

fn hint(asked: &str) -> String {
    resolve(&[asked.to_owned()], &Default::default())
        .err()
        .unwrap()
        .to_string()
}

#[test]
fn all_tasks_in_paper_order() {
    let all = names(&["likelihood"]);
    assert_eq!(all.len(), LIKELIHOOD);
    let expected = [
        "boolq",
        "piqa",
        "social_iqa",
        "hellaswag",
        "winogrande",
        "arc_easy",
        "arc_challenge",
        "openbookqa",
        "race_middle",
        "race_high",
        "mmlu_abstract_algebra",
    ];
    assert_eq!(all[..11], expected);
    assert_eq!(
        all[66..],
        [
            "mmlu_world_religions",
            "truthfulqa_mc",
            "crows_pairs",
            "winogender"
        ]
    );
    let generated = names(&GENERATED);
    assert_eq!(generated.len(), 21);
    assert!(generated.iter().all(|name| !all.contains(name)));
    let registered: Vec<String> = suites::all(&Default::default())
        .iter()
        .map(|task| task.card().name.clone())
        .collect();
    assert_eq!(registered.len(), LIKELIHOOD + generated.len());
}

#[test]
fn llama1_is_the_paper() {
    let llama1 = names(&["llama1"]);
    let expected: Vec<String> = suites::all(&Default::default())
        .iter()
        .map(|task| task.card().name.clone())
        .filter(|name| !NOT_IN_THE_PAPER.contains(&name.as_str()))
        .collect();
    assert_eq!(llama1, expected);
}

#[test]
fn suites_hold_their_tasks() {
    assert_eq!(names(&["common-sense"]).len(), 8);
    assert_eq!(names(&["reading"]), ["race_middle", "race_high"]);
    assert_eq!(
        names(&["truthfulness"]),
        ["truthfulqa_mc", "truthfulqa_gen"]
    );
    assert_eq!(names(&["code"]), ["humaneval", "mbpp"]);
    assert_eq!(names(&["toxicity"]), ["realtoxicityprompts"]);
    assert_eq!(names(&["bias"]), ["crows_pairs", "winogender"]);
    // lm-eval's groups, counted in its task files.
    for (group, subjects) in [
        ("humanities", 13),
        ("stem", 19),
        ("social_sciences", 12),
        ("other", 13),
    ] {
        assert_eq!(
            names(&[&format!("mmlu_{group}")]).len(),
            subjects,
            "{group}"
        );
    }
    assert!(names(&["mmlu_stem"]).contains(&"mmlu_anatomy".to_owned()));
    for suite in suites::suites() {
        assert_eq!(suite.tasks(), names(&[suite.name]), "{}", suite.name);
    }
}

#[test]
fn lm_eval_names_are_understood() {
    let asked = [
        "race",
        "siqa",
        "truthfulqa_mc1",
        "truthfulqa_mc2",
        "crows_pairs_english",
        "winogender_all",
    ];
    assert_eq!(
        names(&asked),
        [
            "race_high",
            "social_iqa",
            "truthfulqa_mc",
            "crows_pairs",
            "winogender"
        ]
    );
}

#[test]
fn each_task_once_in_order_of_first_mention() {
    assert_eq!(
        names(&["winogender", "bias", "winogender"]),
        ["winogender", "crows_pairs"]
    );
    assert_eq!(names(&["mmlu_virology", "mmlu"]).len(), 57);
    assert!(names(&[]).is_empty());
}

#[test]
fn unknown_names_get_the_nearest() {
    assert_eq!(
        hint("bolq"),
        "unknown task or suite: bolq\nhint: did you mean `boolq`?"
    );
    assert!(hint("HellaSwag").ends_with("did you mean `hellaswag`?"));
    assert!(hint("mmlu_virolgy").ends_with("did you mean `mmlu_virology`?"));
    assert!(hint("commonsense").ends_with("did you mean `common-sense`?"));
    assert!(hint("zzzzzzzz").contains("llama-eval tasks list"));
    assert!(hint("").contains("llama-eval tasks list"));
}
