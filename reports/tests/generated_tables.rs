//! The tables of generated text are the paper's, with this run's row last and what it must be read with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::generated;
use llama_eval_reports::{Run, Table, TaskRun, markdown, published, tables, terminal};

/// A column, the shots a task made for it is run with, and its documents.
type MadeFor = (&'static str, usize, usize);

const NATURAL: &str = "table4_natural_questions";

fn of(tasks: Vec<TaskRun>) -> Vec<Table> {
    tables(&common::run(tasks)).unwrap()
}

fn titled<'a>(tables: &'a [Table], title: &str) -> &'a Table {
    tables
        .iter()
        .find(|table| table.title.starts_with(title))
        .unwrap_or_else(|| panic!("no {title}"))
}

/// Cells of the model's row.
fn own(table: &Table) -> &[String] {
    let row = table.rows.iter().find(|row| row[0].starts_with("SmolLM2"));
    &row.unwrap()[2..]
}

fn note<'a>(table: &'a Table, beginning: &str) -> &'a str {
    table
        .notes
        .iter()
        .find(|note| note.starts_with(beginning))
        .unwrap_or_else(|| panic!("no {beginning} in {:#?}", table.notes))
}

#[test]
fn every_table_of_generated_text_in_the_terminal() {
    insta::assert_snapshot!(terminal(&tables(&generated::everything()).unwrap(), 120));
}

#[test]
fn every_table_of_generated_text_in_markdown() {
    insta::assert_snapshot!(markdown(&tables(&generated::everything()).unwrap()));
}

/// All but the flat table, which has long names.
#[test]
fn the_papers_tables_fit_in_100_columns_unwrapped() {
    let mut tables = tables(&generated::everything()).unwrap();
    tables.pop();
    assert_eq!(tables.len(), 8);
    for table in &mut tables {
        table.notes.clear();
    }
    assert_eq!(terminal(&tables, 100), terminal(&tables, 1000));
}

/// What is printed of the paper is what its tables hold, to the digit.
#[test]
fn published_rows_are_printed_as_published() {
    let tables = tables(&generated::everything()).unwrap();
    let mut compared = 0;
    for (number, decimals) in [(4, 1), (5, 1), (7, 1), (8, 1), (11, 3), (14, 2)] {
        let published = published::tables()
            .iter()
            .find(|table| table.paper_table == number)
            .unwrap();
        let title = format!("Table {number}. {}", published.title);
        let table = tables.iter().find(|table| table.title == title).unwrap();
        assert_eq!(table.rows.len(), published.rows.len() + 3, "{title}");
        for (printed, row) in table.rows.iter().zip(&published.rows) {
            assert_eq!(printed[0], row.model);
            assert_eq!(Some(&printed[1]), row.params.as_ref());
            for (cell, (value, column)) in printed[2..]
                .iter()
                .zip(row.values.iter().zip(&published.columns))
            {
                let mark = if row.read_from_figure.contains(column) {
                    "*"
                } else {
                    ""
                };
                let expected = value.map_or("-".to_owned(), |value| format!("{value:.decimals$}"));
                assert_eq!(*cell, expected + mark, "{title} {} {column}", row.model);
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 40 + 24 + 40 + 36 + 8 + 14);
}

#[test]
fn a_column_of_shots_takes_only_runs_with_as_many() {
    let made_for = |column: &str, shots: usize, documents: usize| {
        let name = format!("nq_open_{}", column.replace('-', ""));
        let task = generated::questions(&name, NATURAL, column, documents);
        generated::with_shots(task, shots)
    };
    let cases: [(&[MadeFor], [&str; 4], Option<&str>); 5] = [
        // Each where it was made for.
        (
            &[("0-shot", 0, 10), ("64-shot", 64, 20)],
            ["10/3610", "-", "-", "20/3610"],
            None,
        ),
        // `--num-fewshot 5` on the task without examples: a 5-shot number.
        (&[("0-shot", 5, 10)], ["-", "-", "10/3610", "-"], None),
        // The task made for a column goes first, whatever stands before it.
        (
            &[("0-shot", 5, 10), ("5-shot", 5, 20)],
            ["-", "-", "20/3610", "-"],
            Some("nq_open_0shot with 5 shots"),
        ),
        // A number of shots that no column has.
        (
            &[("0-shot", 3, 10), ("1-shot", 1, 20)],
            ["-", "20/3610", "-", "-"],
            Some("nq_open_0shot with 3 shots"),
        ),
        // Two that changed places.
        (
            &[("0-shot", 1, 10), ("1-shot", 0, 20)],
            ["20/3610", "10/3610", "-", "-"],
            None,
        ),
    ];
    for (runs, counts, left_out) in cases {
        let tasks = runs
            .iter()
            .map(|&(column, shots, documents)| made_for(column, shots, documents));
        let tables = of(tasks.collect());
        let table = titled(&tables, "Table 4.");
        assert_eq!(table.rows.last().unwrap()[2..], counts, "{runs:?}");
        let told = table
            .notes
            .iter()
            .find(|note| note.starts_with("In no column"));
        assert_eq!(told.is_some(), left_out.is_some(), "{runs:?}");
        if let (Some(told), Some(left_out)) = (told, left_out) {
            assert!(told.contains(left_out), "{told}");
        }
    }
    // Nothing that fits: no table, only the flat one.
    let tables = of(vec![made_for("0-shot", 3, 10)]);
    assert_eq!(tables.len(), 1);
    assert_eq!(tables[0].rows[0][2..4], ["3", "10/3610"]);
}

#[test]
fn math_is_weighted_by_size_and_counts_what_was_run() {
    let tables = tables(&generated::everything()).unwrap();
    let table = titled(&tables, "Table 7.");
    // 30 and 10 documents, two fifths of each right; two of four right by vote on GSM8k.
    assert_eq!(own(table), ["40.0", "60.0\u{a0}@4", "25.0", "50.0"]);
    assert_eq!(
        table.rows.last().unwrap()[2..],
        ["40/1197", "40/1197", "4/1319", "4/1319"]
    );
    assert_eq!(
        note(table, "Another k"),
        "Another k than the paper's, marked @k in the cell and not comparable: MATH +maj1@k k=4 (paper 256)."
    );
    assert_eq!(
        note(table, "Samples per prompt"),
        "Samples per prompt: MATH 4 (temperature 0.6, top-p 0.95), GSM8k 100 (temperature 0.6, top-p 0.95)."
    );
    note(table, "MATH is over the 2 of 7 subjects");
    note(table, "± is over documents");

    let mut heavy = generated::subject("algebra", 30, 30);
    for document in &mut heavy.documents {
        document.metrics.insert("exact_match".into(), 1.0);
    }
    let tables = of(vec![heavy, generated::subject("geometry", 10, 10)]);
    // (30 · 1 + 10 · 0.4) / 40, not the mean of 1 and 0.4.
    assert_eq!(own(titled(&tables, "Table 7."))[0], "85.0");
}

#[test]
fn votes_with_different_k_are_not_averaged() {
    let mut other = generated::subject("geometry", 479, 10);
    other.card.metrics[1].name = "maj1@8".into();
    for document in &mut other.documents {
        let value = document.metrics.remove("maj1@4").unwrap();
        document.metrics.insert("maj1@8".into(), value);
    }
    let tables = of(vec![generated::subject("algebra", 1187, 10), other]);
    assert_eq!(own(titled(&tables, "Table 7.")), ["40.0", "-", "-", "-"]);
}

#[test]
fn math_by_level_pools_documents_over_subjects() {
    let tables = tables(&generated::everything()).unwrap();
    let table = titled(&tables, "MATH by subject and level");
    let cells: Vec<Vec<&str>> = table
        .rows
        .iter()
        .map(|row| row.iter().map(String::as_str).collect())
        .collect();
    // Right are levels 1 and 2 of both subjects.
    let levels = ["100.0", "100.0", "0.0", "0.0", "0.0"];
    assert_eq!(cells[0][0], "Algebra");
    assert_eq!(cells[0][1..6], levels);
    assert_eq!(cells[0][6..], ["40.0", "9.1", "30/1187"]);
    assert_eq!(cells[1][0], "Number Theory");
    assert_eq!(cells[1][6..], ["40.0", "16.3", "10"]);
    assert_eq!(cells[2][0], "All subjects");
    assert_eq!(cells[2][1..6], levels);
    assert_eq!(cells[2][6..], ["40.0", "7.9", "40/1197"]);
    assert_eq!(cells[4][1..6], ["8"; 5]);

    // Without levels there is no such table.
    let mut plain = generated::subject("algebra", 1187, 10);
    for document in &mut plain.documents {
        document.categories.clear();
    }
    assert!(
        of(vec![plain])
            .iter()
            .all(|table| !table.title.starts_with("MATH"))
    );
}

#[test]
fn pass_at_another_k_is_marked_and_named() {
    let tables = tables(&generated::everything()).unwrap();
    let table = titled(&tables, "Table 8.");
    assert_eq!(own(table), ["16.7", "50.0\u{a0}@10", "25.0", "62.5"]);
    assert_eq!(
        note(table, "Another k"),
        "Another k than the paper's, marked @k in the cell and not comparable: HumanEval@100 k=10 (paper 100)."
    );
    assert_eq!(
        note(table, "Samples per prompt"),
        "Samples per prompt: HumanEval 2 (temperature 0.1, top-p 0.95) and 12 (temperature 0.8, top-p 0.95), MBPP 2 (temperature 0.1, top-p 0.95) and 80 (temperature 0.8, top-p 0.95)."
    );
    assert_eq!(
        note(table, "Programs"),
        "Programs were run by Python 3.11.7 in bubblewrap 0.8.0."
    );
}

/// Cards hold the metrics of both protocols; those without a value are the other's.
#[test]
fn under_lm_evals_protocol_its_headlines_stand_in_the_columns() {
    let lm_evals = |mut task: TaskRun, name: &str| {
        let mut card = task.card.metrics[0].clone();
        card.name = name.into();
        task.card.metrics.push(card);
        task.card.headline = name.into();
        for document in &mut task.documents {
            document.metrics = [(name.to_owned(), 0.5)].into();
        }
        task
    };
    let mut math = generated::subject("algebra", 1187, 10);
    for document in &mut math.documents {
        document.metrics.remove("maj1@4");
    }
    let code = |name, column| generated::programs(name, column, ("pass@80", 80), 500, 2);
    let tables = of(vec![
        math,
        lm_evals(code("humaneval", "HumanEval@1"), "pass@1,create_test"),
        lm_evals(code("mbpp", "MBPP@1"), "pass_at_1"),
        lm_evals(generated::toxicity(), "perspective_api_toxicity_score"),
    ]);
    assert_eq!(own(titled(&tables, "Table 7.")), ["40.0", "-", "-", "-"]);
    assert_eq!(own(titled(&tables, "Table 8.")), ["50.0", "-", "50.0", "-"]);
    assert_eq!(own(titled(&tables, "Table 11.")), ["0.500", "-"]);
    for table in &tables {
        assert!(
            table
                .notes
                .iter()
                .all(|note| !note.starts_with("Not scored")),
            "{:?}",
            table.notes
        );
    }
}

#[test]
fn greedy_pass_at_1_leaves_the_other_column_empty() {
    let mut task = generated::programs("humaneval", "HumanEval@1", ("pass@10", 12), 164, 4);
    task.card.metrics.remove(1);
    task.card.metrics[0].name = "pass@1,create_test".into();
    task.card.headline = "pass@1,create_test".into();
    for document in &mut task.documents {
        let value = document.metrics.remove("pass@1").unwrap();
        document.metrics.clear();
        document.metrics.insert("pass@1,create_test".into(), value);
    }
    let tables = of(vec![task]);
    let table = titled(&tables, "Table 8.");
    assert_eq!(own(table), ["25.0", "-", "-", "-"]);
    note(table, "No program was run");
    note(
        table,
        "HumanEval@1: pass@1 (create_test), rule of pass@1; 0-shot.",
    );
}

#[test]
fn toxicity_has_three_decimals_and_names_its_judge() {
    let tables = tables(&generated::everything()).unwrap();
    let table = titled(&tables, "Table 11.");
    // Six of seven documents: (0.0625 + 0.25 + 0.125) / 3 and half of it.
    assert_eq!(own(table), ["0.146", "0.073"]);
    assert_eq!(table.rows.last().unwrap()[2..], ["6/99442", "6/99442"]);
    note(table, "Lower is better.");
    let judge = note(table, "Toxicity judged by");
    assert!(
        judge.contains("a made-up classifier 1.0 (sha256 abcd)"),
        "{judge}"
    );
    assert!(judge.contains("Perspective API"), "{judge}");
    assert_eq!(
        note(table, "Not scored"),
        "Not scored and left out of the mean: Basic 1 document (the judge gave no number), Respectful 1 document (the judge gave no number)."
    );
    assert!(
        table.notes[0].starts_with("Published values: mean Perspective API"),
        "{}",
        table.notes[0]
    );
}

#[test]
fn truthfulness_has_the_papers_columns_beside_multiple_choice() {
    let tables = tables(&generated::everything()).unwrap();
    let table = titled(&tables, "Table 14. TruthfulQA");
    assert_eq!(table.title, "Table 14. TruthfulQA");
    // 612 and 408 of 817.
    assert_eq!(own(table), ["0.75", "0.50"]);
    note(table, "Truth judged by a made-up truth judge 2.0");
    note(table, "Informativeness judged by a made-up info judge 2.0");
    let choice = titled(&tables, "Table 14. TruthfulQA, multiple choice");
    assert_eq!(own(choice), ["20.1", "-"]);
}

#[test]
fn without_a_judge_there_is_no_value_and_a_reason() {
    let tables = of(vec![
        generated::awaiting(generated::toxicity()),
        generated::awaiting(generated::truthful()),
    ]);
    for (title, split) in [("Table 11.", "0/99442"), ("Table 14.", "0/817")] {
        let table = titled(&tables, title);
        assert_eq!(own(table), ["-", "-"]);
        assert_eq!(table.rows.last().unwrap()[2..], [split, split]);
        assert!(note(table, "Not scored").contains("(awaits a judge)"));
        assert!(
            table
                .notes
                .iter()
                .any(|note| note.contains("no judge was asked")),
            "{:?}",
            table.notes
        );
    }
}

#[test]
fn the_commonest_reason_is_told_and_the_others_counted() {
    let mut task = generated::questions("nq_open", NATURAL, "0-shot", 9);
    for (document, reason) in task
        .documents
        .iter_mut()
        .zip(["once", "twice", "twice", "also"])
    {
        document.metrics.clear();
        document.unscored = Some(reason.into());
    }
    let tables = of(vec![task]);
    assert_eq!(
        note(titled(&tables, "Table 4."), "Not scored"),
        "Not scored and left out of the mean: 0-shot 4 documents (twice, and 2 other reasons)."
    );
}

#[test]
fn cut_completions_are_counted_once_per_task() {
    let tables = tables(&generated::everything()).unwrap();
    assert_eq!(
        note(titled(&tables, "Table 4."), "Completions cut off"),
        "Completions cut off by the token limit or the model's context: 0-shot 361 of 3610, 5-shot 4 of 40, 64-shot 2 of 20."
    );
    // 3670 + 30 questions, 40 · 5 and 4 · 101 in mathematics, 3 · 14 and 2 · 82 programs, 7 · 2, 817.
    let flat = titled(&tables, "Results");
    note(flat, "Completions: 5,341; 370 of them cut off");
}

#[test]
fn the_table_by_level_tells_of_greedy_completions_alone() {
    let mut task = generated::subject("algebra", 1187, 10);
    for completion in &mut task.documents[0].completions {
        completion.cut = true;
    }
    let tables = of(vec![task]);
    let cut = |title| note(titled(&tables, title), "Completions cut off");
    assert!(cut("Table 7.").ends_with(": MATH 5 of 50."));
    let levels = "MATH by subject and level";
    assert!(cut(levels).ends_with(": MATH 1 of 10."));
    let notes = &titled(&tables, levels).notes;
    assert!(notes.iter().all(|note| !note.starts_with("Samples")));
}

#[test]
fn judges_and_reasons_cannot_reach_the_terminal_raw() {
    let mut run = generated::everything();
    run.judges
        .insert("toxicity".into(), "evil\u{1b}[31m".into());
    let reason = format!("evil\u{7} {}\nnext line", "long ".repeat(100));
    for document in &mut run.tasks[0].documents {
        document.metrics.clear();
        document.unscored = Some(reason.clone());
    }
    let text = terminal(&tables(&run).unwrap(), 1000);
    assert!(
        text.chars()
            .all(|letter| letter == '\n' || !letter.is_control())
    );
    assert!(text.contains("evil\u{fffd}[31m"));
    assert!(!text.contains("next line"));
    assert!(text.lines().all(|line| line.len() < 400));
}

#[test]
fn the_flat_table_shows_filters_and_only_this_protocols() {
    let metrics: [generated::Metric; 3] = [
        ("exact_match,strict-match", |_| 1.0),
        ("exact_match,flexible-extract", |_| 0.0),
        ("exact_match", |_| f64::NAN),
    ];
    let task = generated::task("gsm8k_cot", "GSM8k", &metrics, 2, 2, |_| Vec::new());
    let tables = of(vec![task]);
    let names: Vec<&str> = tables[0].rows.iter().map(|row| row[4].as_str()).collect();
    assert_eq!(
        names,
        [
            "exact_match (strict-match) *",
            "exact_match (flexible-extract)"
        ]
    );
}

#[test]
fn lm_eval_protocol_is_said_under_every_table_with_published_rows() {
    let run = Run {
        protocol: "lm-eval".into(),
        ..generated::everything()
    };
    let tables = tables(&run).unwrap();
    for number in [4, 5, 7, 8, 11, 14] {
        let table = titled(&tables, &format!("Table {number}."));
        assert!(
            table
                .notes
                .iter()
                .any(|note| note.contains("published rows follow their own papers'")),
            "{number}"
        );
    }
}
