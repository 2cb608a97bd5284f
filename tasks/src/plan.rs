//! What will be asked: documents, their few-shot examples and their requests, before any model is loaded.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use llama_eval_model::{Answer, Preamble, Request};

use crate::{
    choice::{self, ACC_ANSWER_CONTEXT},
    dataset::{DataDir, DataError},
    few_shot::FewShot,
    task::{Document, Outcome, Protocol, Task},
};

/// lm-eval's `--seed` for few-shot examples.
pub const DEFAULT_SEED: u64 = 1234;

const HINT_INDEX: &str = "documents count from 0; choose smaller indices, or use `--limit`";
const HINT_SHOTS: &str = "ask for fewer examples with `--num-fewshot N`";

/// Which documents, with which examples.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Only the first so many documents.
    pub limit: Option<usize>,
    /// Only these documents, by index; sorted and without repeats.
    pub documents: Option<Vec<usize>>,
    /// Ask for P(choice | "Answer:") only where the headline metric divides by it.
    pub needed_denominators: bool,
    /// Few-shot examples, instead of the card's.
    pub shots: Option<usize>,
    /// Seed of the draw: lm-eval's default is 1234.
    pub seed: u64,
}

impl Default for Selection {
    fn default() -> Self {
        Self {
            limit: None,
            documents: None,
            needed_denominators: false,
            shots: None,
            seed: DEFAULT_SEED,
        }
    }
}

/// Everything one task will ask.
#[derive(Clone)]
pub struct TaskPlan {
    /// The task.
    pub task: Arc<dyn Task>,
    /// Whose rules.
    pub protocol: Protocol,
    /// Few-shot examples per prompt.
    pub shots: usize,
    /// Documents of the whole split.
    pub split_documents: usize,
    /// The chosen documents, ascending by index.
    pub items: Vec<Item>,
    /// SHA-256 of every file read, by name in `datasets.lock`.
    pub data_sha256: BTreeMap<String, String>,
}

/// One document and what is asked about it.
#[derive(Clone, Debug)]
pub struct Item {
    /// The document.
    pub document: Document,
    /// Its requests, in the task's order.
    pub requests: Vec<Request>,
}

impl TaskPlan {
    /// Scores every item from the answers to its requests, where no verdicts are needed; items without
    /// answers are unscored.
    pub fn score(&self, answers: &[Vec<Answer>]) -> Vec<Outcome> {
        let score = |(position, item): (usize, &Item)| match answers.get(position) {
            Some(answers) if answers.len() == item.requests.len() => {
                self.task.score(&item.document, answers, &[], self.protocol)
            }
            given => {
                let given = given.map(Vec::len).unwrap_or_default();
                Outcome::Unscored(format!(
                    "{given} of {} requests were answered",
                    item.requests.len()
                ))
            }
        };
        self.items.iter().enumerate().map(score).collect()
    }
}

/// Plans one task. With both `documents` and `limit`, the first so many of those documents.
///
/// # Errors
/// A missing or malformed file; an index that is not in the split; more examples than the pool holds.
pub fn plan(
    task: &Arc<dyn Task>,
    data: &DataDir,
    protocol: Protocol,
    selection: &Selection,
) -> Result<TaskPlan, DataError> {
    // A clone keeps its own record of the files read.
    let data = data.clone();
    let name = task.card().name.as_str();
    let shots = selection.shots.unwrap_or(task.card().shots);
    let headline = task.card().headline(protocol);
    let denominators = !selection.needed_denominators || headline == ACC_ANSWER_CONTEXT.name;
    let documents = task.documents(&data, protocol)?;
    let split_documents = documents.len();
    let documents = choose(documents, name, selection)?;

    let description = task.description(&data, protocol)?;
    let pool = if shots > 0 {
        task.examples(&data, protocol)?
    } else {
        Vec::new()
    };
    let mut few_shot = FewShot::new(
        &pool,
        shots,
        task.sampler(),
        protocol,
        selection.seed,
        task.few_shot_name(),
    );
    let mut preambles: BTreeMap<Vec<usize>, Arc<Preamble>> = BTreeMap::new();
    let mut items = Vec::with_capacity(documents.len());
    for document in documents {
        let chosen = few_shot
            .choose(&document)
            .map_err(|few| fault(name, &few.to_string(), HINT_SHOTS))?;
        let preamble = match preambles.entry(chosen) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(new) => {
                let examples = new.key().iter().filter_map(|&index| pool.get(index));
                let examples = examples
                    .map(|example| task.example(example, protocol))
                    .collect();
                Arc::clone(new.insert(Arc::new(Preamble {
                    description: description.clone(),
                    examples,
                })))
            }
        };
        let mut requests = task.requests(&document, &preamble, protocol);
        if !denominators {
            requests.retain(|request| !choice::is_denominator(request));
        }
        items.push(Item { document, requests });
    }
    let data_sha256 = data.files_read();
    Ok(TaskPlan {
        task: Arc::clone(task),
        protocol,
        shots,
        split_documents,
        items,
        data_sha256,
    })
}

/// The selected documents, ascending by index.
fn choose(
    documents: Vec<Document>,
    task: &str,
    selection: &Selection,
) -> Result<Vec<Document>, DataError> {
    let size = documents.len();
    let limit = selection.limit.unwrap_or(usize::MAX);
    let Some(indices) = &selection.documents else {
        return Ok(documents.into_iter().take(limit).collect());
    };
    if let Some(index) = indices.iter().find(|&&index| index >= size) {
        let problem = format!("document {index} is asked for, but the split has {size}");
        return Err(fault(task, &problem, HINT_INDEX));
    }
    let wanted: BTreeSet<usize> = indices.iter().copied().collect();
    let chosen = documents
        .into_iter()
        .enumerate()
        .filter(|(index, _)| wanted.contains(index));
    Ok(chosen.map(|(_, document)| document).take(limit).collect())
}

/// An error about a task rather than a file.
fn fault(task: &str, problem: &str, hint: &str) -> DataError {
    DataError {
        path: task.into(),
        line: None,
        problem: problem.to_owned(),
        hint: hint.to_owned(),
    }
}
