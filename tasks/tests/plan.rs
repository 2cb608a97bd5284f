//! Promise: a plan holds the chosen documents and all that will be asked about them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeMap, sync::Arc};

use llama_eval_model::{Answer, Preamble, Request};
use llama_eval_tasks::{DataDir, DataError, Outcome, Protocol, Selection, TaskPlan, plan, suites};
use sha2::{Digest, Sha256};

const DOCUMENTS: usize = 6;
const EXAMPLES: usize = 4;

fn boolq(prefix: &str, count: usize) -> String {
    let line = |index| {
        format!(
            "{{\"question\": \"is {prefix} {index}\", \"title\": \"T\", \"answer\": true, \"passage\": \"P.\"}}\n"
        )
    };
    (0..count).map(line).collect()
}

fn data() -> DataDir {
    DataDir::from_memory(
        "test",
        BTreeMap::from([
            (
                "boolq/dev.jsonl".to_owned(),
                boolq("dev", DOCUMENTS).into_bytes(),
            ),
            (
                "boolq/train.jsonl".to_owned(),
                boolq("train", EXAMPLES).into_bytes(),
            ),
        ]),
    )
}

fn planned(protocol: Protocol, selection: &Selection) -> Result<TaskPlan, DataError> {
    plan(
        &suites::resolve(&["boolq".to_owned()], &Default::default()).unwrap()[0],
        &data(),
        protocol,
        selection,
    )
}

fn indices(selection: &Selection) -> Vec<usize> {
    planned(Protocol::Paper, selection)
        .unwrap()
        .items
        .iter()
        .map(|item| item.document.index)
        .collect()
}

fn preambles(plan: &TaskPlan) -> Vec<Arc<Preamble>> {
    let preamble = |request: &Request| match request {
        Request::LogLikelihood { prompt, .. } => Arc::clone(&prompt.preamble),
        other => panic!("{other:?}"),
    };
    plan.items
        .iter()
        .map(|item| preamble(&item.requests[0]))
        .collect()
}

#[test]
fn documents_are_chosen_by_limit_and_index() {
    assert_eq!(Selection::default().seed, 1234);
    assert_eq!(indices(&Selection::default()), [0, 1, 2, 3, 4, 5]);
    assert_eq!(
        indices(&Selection {
            limit: Some(2),
            ..Selection::default()
        }),
        [0, 1]
    );
    assert_eq!(
        indices(&Selection {
            limit: Some(99),
            ..Selection::default()
        })
        .len(),
        6
    );
    let some = Selection {
        documents: Some(vec![5, 1, 1, 3]),
        ..Selection::default()
    };
    assert_eq!(indices(&some), [1, 3, 5]);
    assert_eq!(
        indices(&Selection {
            limit: Some(2),
            ..some
        }),
        [1, 3]
    );
    assert!(
        indices(&Selection {
            documents: Some(Vec::new()),
            ..Selection::default()
        })
        .is_empty()
    );
    let plan = planned(
        Protocol::Paper,
        &Selection {
            limit: Some(1),
            ..Selection::default()
        },
    )
    .unwrap();
    assert_eq!(plan.split_documents, DOCUMENTS);
}

#[test]
fn an_index_out_of_range_names_task_index_and_size() {
    let selection = Selection {
        documents: Some(vec![0, 6]),
        ..Selection::default()
    };
    let message = planned(Protocol::Paper, &selection)
        .err()
        .unwrap()
        .to_string();
    assert!(
        message.starts_with("boolq: document 6 is asked for, but the split has 6\nhint: "),
        "{message}"
    );
}

#[test]
fn only_files_that_are_needed_are_read_and_recorded() {
    let hash = |text: String| {
        Sha256::digest(text)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let dev = ("boolq/dev.jsonl".to_owned(), hash(boolq("dev", DOCUMENTS)));
    let train = (
        "boolq/train.jsonl".to_owned(),
        hash(boolq("train", EXAMPLES)),
    );
    let zero = planned(Protocol::Paper, &Selection::default()).unwrap();
    assert_eq!(
        (zero.shots, zero.data_sha256),
        (0, BTreeMap::from([dev.clone()]))
    );
    let two = planned(
        Protocol::Paper,
        &Selection {
            shots: Some(2),
            ..Selection::default()
        },
    )
    .unwrap();
    assert_eq!(
        (two.shots, two.data_sha256),
        (2, BTreeMap::from([dev, train]))
    );
}

#[test]
fn equal_examples_are_held_once() {
    let selection = Selection {
        shots: Some(2),
        ..Selection::default()
    };
    let paper = preambles(&planned(Protocol::Paper, &selection).unwrap());
    assert!(
        paper
            .iter()
            .all(|preamble| Arc::ptr_eq(preamble, &paper[0]))
    );
    assert_eq!(paper[0].examples.len(), 2);
    assert!(
        paper[0].examples[0].starts_with("T -- P.") && paper[0].examples[0].ends_with("yes\n\n"),
        "{paper:?}"
    );
    // lm-eval draws for every document, but equal lists are still held once.
    let lm_eval = preambles(&planned(Protocol::LmEval, &selection).unwrap());
    assert!(lm_eval.iter().any(|preamble| **preamble != *lm_eval[0]));
    for (one, other) in lm_eval
        .iter()
        .flat_map(|one| lm_eval.iter().map(move |other| (one, other)))
    {
        assert_eq!(one == other, Arc::ptr_eq(one, other));
    }
}

#[test]
fn more_examples_than_the_pool_holds() {
    let planned = |protocol, shots| {
        planned(
            protocol,
            &Selection {
                shots: Some(shots),
                ..Selection::default()
            },
        )
    };
    assert!(planned(Protocol::Paper, EXAMPLES).is_ok());
    // lm-eval draws one more than it shows.
    for (protocol, shots, asked) in [(Protocol::Paper, 5, 5), (Protocol::LmEval, 4, 5)] {
        let message = planned(protocol, shots).err().unwrap().to_string();
        let expected =
            format!("boolq: {asked} few-shot examples are asked for, but the pool holds 4\nhint: ");
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[test]
fn missing_answers_leave_a_document_unscored() {
    let plan = planned(
        Protocol::Paper,
        &Selection {
            limit: Some(3),
            ..Selection::default()
        },
    )
    .unwrap();
    let answer = |log_prob| Answer::LogLikelihood {
        log_probs: vec![log_prob],
        token_ids: vec![0],
        greedy: false,
        margin: 1.0,
        context_tokens: 1,
        dropped_examples: 0,
        truncated_tokens: 0,
    };
    // "no" and "yes" after the prompt, then after "Answer:".
    let answers = [
        vec![answer(-2.0), answer(-1.0), answer(-1.0), answer(-1.0)],
        vec![answer(-1.0)],
    ];
    let outcomes = plan.score(&answers);
    let Outcome::Scored(values) = &outcomes[0] else {
        panic!("{outcomes:?}")
    };
    assert_eq!(values[0], ("acc".into(), 1.0));
    assert_eq!(
        outcomes[1],
        Outcome::Unscored("1 of 4 requests were answered".to_owned())
    );
    assert_eq!(
        outcomes[2],
        Outcome::Unscored("0 of 4 requests were answered".to_owned())
    );
}
