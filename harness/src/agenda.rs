//! What is still to be asked: every question once, however many documents ask it, and nothing the store knows.

use std::{collections::HashSet, sync::Arc};

use llama_eval_model::{Answer, Identity, Request};
use llama_eval_tasks::TaskPlan;

use crate::{
    key::{Key, Keys},
    store::{Store, StoreError},
};

/// What a token that is generated counts beside bytes that are read: a step is far slower than reading on.
const BYTES_OF_NEW_TOKEN: usize = 16;

/// One question that has no answer yet.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// Under which its answer is stored.
    pub(crate) key: Key,
    /// The document that asks it first: its position in the plan.
    pub(crate) item: usize,
    /// What to ask.
    pub(crate) request: Request,
    /// Bytes that are new with it: its continuation or what it may generate at most, and its context unless
    /// the question before had the same. Close enough to unique tokens to tell the time left.
    pub(crate) work: u64,
}

/// Questions by task, in the order of the plan.
#[derive(Clone, Debug, Default)]
pub(crate) struct Agenda {
    /// For each task, its questions that no task before asks.
    pub(crate) tasks: Vec<Vec<Question>>,
    /// Requests of all documents.
    pub(crate) requests: usize,
    /// Different ones among them.
    pub(crate) different: usize,
}

/// A request of a kind this program cannot store.
#[derive(Clone, Debug, thiserror::Error)]
#[error("task `{task}` asks for something that cannot be stored")]
pub(crate) struct UnknownRequest {
    task: String,
}

impl Agenda {
    /// All questions of `plans` that `store`, if there is one, does not answer. What a model could not
    /// answer before is asked again.
    ///
    /// # Errors
    /// When the store is damaged.
    pub(crate) fn new(
        plans: &[TaskPlan],
        identity: &Identity,
        store: Option<&Store>,
    ) -> anyhow::Result<Self> {
        let mut keys = Keys::new(identity);
        let mut seen = HashSet::new();
        let mut agenda = Self::default();
        for plan in plans {
            let mut questions: Vec<Question> = Vec::new();
            let items = plan.items.iter().enumerate();
            for (item, request) in
                items.flat_map(|(at, item)| item.requests.iter().map(move |request| (at, request)))
            {
                agenda.requests += 1;
                let key = key(&mut keys, request, plan)?;
                if !seen.insert(key) || is_answered(store, &key)? {
                    continue;
                }
                let work = work(request, questions.last());
                questions.push(Question {
                    key,
                    item,
                    request: request.clone(),
                    work,
                });
            }
            agenda.tasks.push(questions);
        }
        agenda.different = seen.len();
        Ok(agenda)
    }

    /// Size of all its questions.
    pub(crate) fn work(&self) -> u64 {
        self.tasks
            .iter()
            .flatten()
            .map(|question| question.work)
            .sum()
    }

    /// Questions that the store answers already.
    pub(crate) fn answered(&self) -> usize {
        self.different - self.tasks.iter().map(Vec::len).sum::<usize>()
    }
}

/// The key of one request of `plan`.
///
/// # Errors
/// When it is of an unknown kind.
pub(crate) fn key(
    keys: &mut Keys,
    request: &Request,
    plan: &TaskPlan,
) -> Result<Key, UnknownRequest> {
    keys.key(request).ok_or_else(|| UnknownRequest {
        task: plan.task.card().name.clone(),
    })
}

fn is_answered(store: Option<&Store>, key: &Key) -> Result<bool, StoreError> {
    let stored = store.map(|store| store.get(key)).transpose()?.flatten();
    Ok(stored.is_some_and(|answer| !matches!(answer, Answer::Unanswered { .. })))
}

fn work(request: &Request, last: Option<&Question>) -> u64 {
    let last = last.map(|question| &question.request);
    let (new, context, same) = match request {
        Request::LogLikelihood {
            prompt,
            continuation,
        } => {
            let same =
                matches!(last, Some(Request::LogLikelihood { prompt: last, .. }) if last == prompt);
            (continuation.len(), prompt.question.len(), same)
        }
        Request::Generate { generation, .. } => {
            let same = matches!(last, Some(Request::Generate { generation: last, .. })
                if Arc::ptr_eq(last, generation));
            let new = generation.max_new_tokens * BYTES_OF_NEW_TOKEN;
            (new, generation.prompt.question.len(), same)
        }
        _ => (0, 0, true),
    };
    (new + if same { 0 } else { context }).max(1) as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::scripted::{identity, plan};

    #[test]
    fn equal_questions_are_asked_once() {
        let plans = [plan("one", 3), plan("two", 3)];
        let agenda = Agenda::new(&plans, &identity(), None).unwrap();
        // Two choices after each document's own prompt, and once after the context all share.
        assert_eq!(
            (agenda.requests, agenda.different, agenda.answered()),
            (24, 14, 0)
        );
        assert_eq!(
            agenda.tasks.iter().map(Vec::len).collect::<Vec<_>>(),
            [8, 6]
        );
    }

    #[test]
    fn work_counts_what_is_new_with_a_question() {
        let agenda = Agenda::new(&[plan("one", 2)], &identity(), None).unwrap();
        let work: Vec<_> = agenda.tasks[0]
            .iter()
            .map(|question| question.work as usize)
            .collect();
        let (side, toss, answer) = (" heads".len(), "one: toss 0?".len(), "Answer:".len());
        assert_eq!(
            work,
            [side + toss, side, side + answer, side, side + toss, side]
        );
    }
}
