//! Rows and results of generated text are lm-eval's, key by key.
//!
//! What is expected here is what lm-eval 0.4.13 wrote for two tasks over the same two documents with its
//! `dummy` model, which answers `lol` to everything: one with two regular expressions as filters, one with
//! three sampled completions a document and a filter that keeps all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;

use common::generated;
use llama_eval_reports::{Run, ScoredCompletion, Scores, TaskRun, aggregated_csv, lm_eval};
use serde_json::{Value, json};

const QUESTIONS: [(&str, &str); 2] = [("One?", "lol"), ("Two é?", "no")];
const DOCUMENT_HASHES: [&str; 2] = [
    "3ababaacff676a4debb3b8336268011cd0e3dd09a6ff086216dd8990065267dd",
    "3f995a55eb30733934a0e35e296680af3fbc602d91a27d2e569bb6493958e24c",
];
const PROMPT_HASHES: [&str; 2] = [
    "f2156d8e8656675a8b07a4104eb85e720e3d385aad71b1e0632d3a3597d49700",
    "d1113b6494aa55bb860f804b898b0963713b33693cf605f8511310f78dab9db4",
];
const TARGET_HASHES: [&str; 2] = [
    "07123e1f482356c415f684407a3b8723e10b2cbbc0b8fcd6282c49d37c9c1abc",
    "9390298f3fb0c5b160498935d79cb139aef28e1c47358b4bbba61862b9c26e59",
];
const FILTERS_TASK_HASH: &str = "46b9c5c357cd6ed07650c9f52e65f1b87d159b504852d913b11fca0ba56ac396";
const REPEATS_TASK_HASH: &str = "fb75651f78399f48e7c1c878ed3a3de5f6fc76d6bca07f7a30f5d309c1c150ad";

fn prompt(index: usize) -> String {
    format!("Q: {}\nA:", QUESTIONS[index].0)
}

/// The two documents, with `completions` and `metrics` of each.
fn tiny(
    name: &str,
    metrics: &[generated::Metric],
    completions: impl Fn(usize) -> Vec<ScoredCompletion>,
) -> TaskRun {
    let mut task = generated::task(name, "Tiny", metrics, 2, 2, completions);
    for (document, (question, answer)) in task.documents.iter_mut().zip(QUESTIONS) {
        let fields = json!({"question": question, "answer": answer});
        document.document = fields.as_object().unwrap().clone();
        document.target = answer.into();
    }
    task
}

fn with_filters() -> TaskRun {
    let metrics: [generated::Metric; 2] = [
        ("exact_match,strict-match", |index| [1.0, 0.0][index]),
        ("exact_match,flexible-extract", |_| 0.0),
    ];
    tiny("tiny_filters", &metrics, |index| {
        vec![ScoredCompletion {
            stop: vec!["\n".into(), "Q:".into()],
            filtered: [("strict-match", "lol"), ("flexible-extract", "o")]
                .map(|(filter, text)| (filter.to_owned(), text.to_owned()))
                .into(),
            ..generated::greedy(&prompt(index), "lol")
        }]
    })
}

fn with_repeats() -> TaskRun {
    let metrics: [generated::Metric; 2] = [("pass@1,all", |_| 0.5), ("pass@2,all", |_| 1.0)];
    tiny("tiny_repeats", &metrics, |index| {
        let drawn = generated::drawn(&prompt(index), 3, 0.2, 7);
        let lol = |completion| ScoredCompletion {
            text: Some("lol".into()),
            filtered: vec![("all".into(), "lol".into())],
            max_new_tokens: 16,
            ..completion
        };
        drawn.into_iter().map(lol).collect()
    })
}

/// The results file and the rows of its first task.
fn written(task: TaskRun) -> (Value, Vec<Value>) {
    written_run(&common::run(vec![task]))
}

fn written_run(run: &Run) -> (Value, Vec<Value>) {
    let directory = tempfile::tempdir().unwrap();
    let written = lm_eval::write(run, directory.path(), true).unwrap();
    let results = fs::read_to_string(written.results).unwrap();
    let rows = fs::read_to_string(&written.samples[0]).unwrap();
    (
        serde_json::from_str(&results).unwrap(),
        rows.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    )
}

/// A row without what only this program writes.
fn lm_evals(row: &Value) -> Value {
    let mut row = row.as_object().unwrap().clone();
    row.remove("llama_eval").unwrap();
    row.into()
}

fn expected_row(
    index: usize,
    settings: &Value,
    responses: Value,
    filter: &str,
    filtered: &Value,
    metrics: &[(&str, f64)],
) -> Value {
    let (question, answer) = QUESTIONS[index];
    let mut row = json!({
        "doc_id": index,
        "doc": {"question": question, "answer": answer},
        "target": answer,
        "arguments": {"gen_args_0": {"arg_0": prompt(index), "arg_1": settings}},
        "resps": responses,
        "filtered_resps": filtered,
        "filter": filter,
        "metrics": metrics.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        "doc_hash": DOCUMENT_HASHES[index],
        "prompt_hash": PROMPT_HASHES[index],
        "target_hash": TARGET_HASHES[index],
    });
    for (name, value) in metrics {
        row[*name] = json!(value);
    }
    row
}

#[test]
fn a_row_per_filter_and_document_as_lm_eval_writes_it() {
    let (results, rows) = written(with_filters());
    let settings = json!({
        "until": ["\n", "Q:"], "max_gen_toks": 32, "do_sample": false, "temperature": 0.0,
    });
    let row = |index, filter, filtered: &str, value| {
        let filtered = json!([filtered]);
        let metrics = [("exact_match", value)];
        expected_row(
            index,
            &settings,
            json!([["lol"]]),
            filter,
            &filtered,
            &metrics,
        )
    };
    let expected = [
        row(0, "strict-match", "lol", 1.0),
        row(1, "strict-match", "lol", 0.0),
        row(0, "flexible-extract", "o", 0.0),
        row(1, "flexible-extract", "o", 0.0),
    ];
    assert_eq!(rows.iter().map(lm_evals).collect::<Vec<_>>(), expected);
    assert_eq!(results["task_hashes"]["tiny_filters"], FILTERS_TASK_HASH);
    assert_eq!(
        results["results"]["tiny_filters"],
        json!({
            "name": "tiny_filters",
            "alias": "tiny_filters",
            "sample_len": 2,
            "exact_match,strict-match": 0.5,
            "exact_match_stderr,strict-match": 0.5,
            "exact_match,flexible-extract": 0.0,
            "exact_match_stderr,flexible-extract": 0.0,
        })
    );
    assert_eq!(
        results["higher_is_better"]["tiny_filters"],
        json!({"exact_match": true})
    );
    let config = &results["configs"]["tiny_filters"];
    assert_eq!(config["output_type"], "generate_until");
    assert_eq!(config["generation_kwargs"], settings);
    assert_eq!(config["repeats"], 1);
    assert_eq!(
        config["metric_list"],
        json!([{"metric": "exact_match", "aggregation": "mean", "higher_is_better": true}])
    );
    let names: Vec<&Value> = config["filter_list"]
        .as_array()
        .unwrap()
        .iter()
        .map(|filter| &filter["name"])
        .collect();
    assert_eq!(names, ["strict-match", "flexible-extract"]);
}

#[test]
fn samples_of_a_prompt_are_one_request_as_lm_evals_repeats() {
    let (results, rows) = written(with_repeats());
    let settings = json!({
        "until": ["\n"], "max_gen_toks": 16, "do_sample": true,
        "temperature": 0.2, "top_p": 0.95, "top_k": 0,
    });
    let all = json!([["lol", "lol", "lol"]]);
    let metrics = [("pass@1", 0.5), ("pass@2", 1.0)];
    let expected =
        [0, 1].map(|index| expected_row(index, &settings, all.clone(), "all", &all, &metrics));
    assert_eq!(rows.iter().map(lm_evals).collect::<Vec<_>>(), expected);
    assert_eq!(results["task_hashes"]["tiny_repeats"], REPEATS_TASK_HASH);
    assert_eq!(
        results["results"]["tiny_repeats"],
        json!({
            "name": "tiny_repeats",
            "alias": "tiny_repeats",
            "sample_len": 2,
            "pass@1,all": 0.5,
            "pass@1_stderr,all": 0.0,
            "pass@2,all": 1.0,
            "pass@2_stderr,all": 0.0,
        })
    );
    let config = &results["configs"]["tiny_repeats"];
    assert_eq!(config["generation_kwargs"], settings);
    assert_eq!(config["repeats"], 3);
    let own = &rows[0]["llama_eval"]["completions"];
    assert_eq!(own["seed"], json!([7]));
    assert_eq!(own["sample"], json!([[0, 1, 2]]));
}

/// The only filter of HumanEval gives a list even for one completion.
#[test]
fn programs_are_a_list_for_one_completion_too() {
    let metrics: [generated::Metric; 1] = [("pass@1,create_test", |_| 1.0)];
    let task = tiny("humaneval", &metrics, |index| {
        vec![ScoredCompletion {
            filtered: vec![("create_test".into(), "def f(): pass".into())],
            ..generated::greedy(&prompt(index), " pass")
        }]
    });
    let (_, rows) = written(task);
    assert_eq!(rows[0]["resps"], json!([[" pass"]]));
    assert_eq!(rows[0]["filtered_resps"], json!([["def f(): pass"]]));
}

/// The paper's answers are cut out by rules that lm-eval has no filters for.
#[test]
fn filters_without_a_metric_stand_under_our_own_key() {
    let metrics: [generated::Metric; 1] = [("exact_match", |_| 1.0)];
    let task = tiny("nq_open", &metrics, |index| {
        vec![ScoredCompletion {
            filtered: vec![("final_dot".into(), "lol".into())],
            ..generated::greedy(&prompt(index), " lol. No")
        }]
    });
    let (_, rows) = written(task);
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["filter"], "none");
    assert_eq!(rows[0]["filtered_resps"], json!([" lol. No"]));
    let own = &rows[0]["llama_eval"]["completions"]["filtered"];
    assert_eq!(own, &json!([[{"final_dot": "lol"}]]));
    let (_, rows) = written(with_filters());
    let own = &rows[0]["llama_eval"]["completions"]["filtered"];
    assert_eq!(own, &json!([[{}]]));
}

#[test]
fn several_prompts_of_a_document_are_several_requests() {
    let (results, rows) = written(generated::programs(
        "humaneval",
        "HumanEval@1",
        ("pass@3", 3),
        164,
        1,
    ));
    let row = &rows[0];
    let temperatures = ["gen_args_0", "gen_args_1"]
        .map(|request| row["arguments"][request]["arg_1"]["temperature"].as_f64());
    assert_eq!(temperatures, [Some(0.1), Some(0.8)]);
    assert_eq!(row["arguments"].as_object().unwrap().len(), 2);
    let draws = json!([["draw 0", "draw 1"], ["draw 0", "draw 1", "draw 2"]]);
    assert_eq!((&row["resps"], &row["filtered_resps"]), (&draws, &draws));
    assert_eq!(row["filter"], "none");
    let own = &row["llama_eval"]["completions"];
    assert_eq!(own["tokens"], json!([[3, 3], [3, 3, 3]]));
    assert_eq!(own["finish"][1][2], "stop-string");
    assert_eq!(
        own["verdicts"][1],
        json!([
            [{"check": "program", "value": 1.0, "note": "passed"}],
            [{"check": "program", "value": 0.0, "note": "AssertionError"}],
            [{"check": "program", "value": 1.0, "note": "passed"}],
        ])
    );
    assert_eq!(results["configs"]["humaneval"]["repeats"], 2);
    assert_eq!(results["configs"]["humaneval"].get("filter_list"), None);
}

#[test]
fn completions_are_parted_by_prompt_settings_and_restart() {
    let settings = [("a", 2, 0.1), ("a", 3, 0.8), ("b", 1, 0.8), ("b", 1, 0.8)];
    let task = tiny("tiny", &[("exact_match", |_| 1.0)], |_| {
        let drawn = settings
            .iter()
            .map(|&(context, count, temperature)| generated::drawn(context, count, temperature, 1));
        drawn.flatten().collect()
    });
    let sizes: Vec<usize> = task.documents[0].generations().map(<[_]>::len).collect();
    assert_eq!(sizes, [2, 3, 1, 1]);
    let (_, rows) = written(task);
    assert_eq!(rows[0]["arguments"].as_object().unwrap().len(), 4);
}

#[test]
fn an_unanswered_completion_is_null_and_keeps_its_place() {
    let mut task = with_filters();
    let first = &mut task.documents[0];
    first.completions = vec![generated::unanswered(first.completions[0].clone())];
    first.metrics.clear();
    first.unscored = Some("the model gave no answer".into());
    let (results, rows) = written(task);
    assert_eq!(rows.len(), 4);
    for row in [&rows[0], &rows[2]] {
        assert_eq!(row["resps"], json!([[null]]));
        assert_eq!(row["filtered_resps"], json!([null]));
        assert_eq!(row["metrics"], json!([]));
        assert_eq!(row.get("exact_match"), None);
        assert_eq!(row["prompt_hash"], PROMPT_HASHES[0]);
        assert_eq!(row["llama_eval"]["unscored"], "the model gave no answer");
    }
    assert_eq!(results["results"]["tiny_filters"]["sample_len"], 1);
    // When nothing at all was answered, the rows stand under the headline's filter.
    let mut task = with_filters();
    for document in &mut task.documents {
        document.completions.clear();
        document.metrics.clear();
    }
    let (results, rows) = written(task);
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["filter"], "strict-match");
    assert_eq!(rows[0]["arguments"], json!({}));
    assert_eq!(rows[0]["llama_eval"].get("completions"), None);
    assert_eq!(
        results["results"]["tiny_filters"].get("exact_match,strict-match"),
        None
    );
}

#[test]
fn groups_judges_and_cut_completions_are_in_the_results() {
    let (results, _) = written_run(&generated::everything());
    let group = &results["groups"]["minerva_math"];
    assert_eq!(group["exact_match,none"], 0.4);
    assert_eq!(group["maj1@4,none"], 0.6);
    assert_eq!(group["sample_len"], 40);
    assert_eq!(
        results["group_subtasks"]["minerva_math"],
        json!(["minerva_math_algebra", "minerva_math_num_theory"])
    );
    let own = &results["llama_eval"];
    assert_eq!(
        own["judges"]["program"],
        "Python 3.11.7 in bubblewrap 0.8.0"
    );
    assert_eq!(own["tasks"]["nq_open"]["completions"], 3610);
    assert_eq!(own["tasks"]["nq_open"]["cut_completions"], 361);
    let level = &own["tasks"]["minerva_math_algebra"]["categories"]["Level 2"]["exact_match"];
    assert_eq!(level, &json!({"value": 1.0, "stderr": 0.0, "documents": 6}));
}

#[test]
fn csv_has_the_filter_in_its_own_column() {
    let run = common::run(vec![with_filters()]);
    let csv = aggregated_csv(&run, &Scores::of(&run).unwrap()).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].starts_with("task,category,metric,filter,headline,"));
    assert!(lines[1].starts_with("tiny_filters,,exact_match,strict-match,true,1,0,2,2,0.5,0.5,"));
    assert!(lines[2].starts_with("tiny_filters,,exact_match,flexible-extract,false,1,0,2,2,0.0,"));
}
