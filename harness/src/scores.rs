//! Scores, from the store alone: no model is needed for what was answered once.

use std::collections::BTreeMap;

use llama_eval_model::{Answer, Identity, Request};
use llama_eval_reports::{
    DocumentScore, MetricCard, ModelCard, Run, ScoredRequest, TaskCard, TaskRun,
};
use llama_eval_tasks::{Item, Outcome, TaskPlan};
use serde_json::{Map, Value};

use crate::{
    VERSION,
    agenda::key,
    key::Keys,
    settings::{Settings, protocol_name},
    store::Store,
};

/// Why a document has no score whose answer is not in the store.
const NOT_ASKED: &str = "the model gave no answer";

/// Scores every document of `plans`.
///
/// # Errors
/// When the store is damaged.
pub(crate) fn score(
    settings: &Settings,
    identity: &Identity,
    plans: &[TaskPlan],
    store: &Store,
    now: &str,
) -> anyhow::Result<Run> {
    let mut keys = Keys::new(identity);
    let tasks = plans
        .iter()
        .map(|plan| task(plan, &mut keys, store))
        .collect::<anyhow::Result<_>>()?;
    let totals = store.totals()?;
    Ok(Run {
        model: model_card(identity),
        protocol: protocol_name(settings.protocol).to_owned(),
        seed: settings.seed,
        limit: settings.limit,
        settings: object(serde_json::to_value(settings)?),
        program_version: VERSION.to_owned(),
        started: totals.started,
        ended: now.to_owned(),
        seconds: totals.seconds,
        unique_tokens: totals.unique_tokens,
        judges: BTreeMap::new(),
        tasks,
    })
}

/// Tasks with documents that have no score: name, how many, and the first one's reason.
pub(crate) fn unscored(run: &Run) -> Vec<(&str, usize, &str)> {
    let of_task = |task: &'_ TaskRun| {
        task.documents
            .iter()
            .filter(|document| document.unscored.is_some())
            .count()
    };
    run.tasks
        .iter()
        .filter_map(|task| {
            let reason = task
                .documents
                .iter()
                .find_map(|document| document.unscored.as_deref())?;
            Some((task.card.name.as_str(), of_task(task), reason))
        })
        .collect()
}

fn task(plan: &TaskPlan, keys: &mut Keys, store: &Store) -> anyhow::Result<TaskRun> {
    let documents = plan
        .items
        .iter()
        .map(|item| document(plan, item, keys, store));
    Ok(TaskRun {
        card: task_card(plan),
        shots: plan.shots,
        split_documents: plan.split_documents,
        documents: documents.collect::<anyhow::Result<_>>()?,
    })
}

fn document(
    plan: &TaskPlan,
    item: &Item,
    keys: &mut Keys,
    store: &Store,
) -> anyhow::Result<DocumentScore> {
    let mut answers = Vec::with_capacity(item.requests.len());
    for request in &item.requests {
        let stored = store.get(&key(keys, request, plan)?)?;
        answers.push(stored.unwrap_or_else(|| Answer::Unanswered {
            reason: NOT_ASKED.to_owned(),
        }));
    }
    let missing = answers.iter().find_map(|answer| match answer {
        Answer::Unanswered { reason } => Some(reason.clone()),
        _ => None,
    });
    let outcome = match missing {
        Some(reason) => Outcome::Unscored(reason),
        None => plan
            .task
            .score(&item.document, &answers, &[], plan.protocol),
    };
    let (metrics, unscored) = match outcome {
        Outcome::Scored(values) => (values, None),
        Outcome::Unscored(reason) => (Vec::new(), Some(reason)),
    };
    Ok(DocumentScore {
        index: item.document.index,
        id: item.document.id.clone(),
        categories: item.document.categories.clone(),
        document: item.document.fields.clone(),
        target: plan.task.target(&item.document),
        requests: item
            .requests
            .iter()
            .zip(&answers)
            .map(|(request, answer)| scored(request, answer))
            .collect(),
        completions: Vec::new(),
        metrics: metrics
            .into_iter()
            .map(|(name, value)| (name.into_owned(), value))
            .collect(),
        unscored,
    })
}

fn scored(request: &Request, answer: &Answer) -> ScoredRequest {
    let (context, continuation) = match request {
        Request::LogLikelihood {
            prompt,
            continuation,
        } => (prompt.text(), continuation.clone()),
        _ => Default::default(),
    };
    let unanswered = ScoredRequest {
        context,
        continuation,
        log_likelihood: answer.log_likelihood(),
        greedy: false,
        margin: 0.0,
        token_ids: Vec::new(),
        log_probs: Vec::new(),
        context_tokens: 0,
        dropped_examples: 0,
        truncated_tokens: 0,
    };
    match answer {
        Answer::LogLikelihood {
            log_probs,
            token_ids,
            greedy,
            margin,
            context_tokens,
            dropped_examples,
            truncated_tokens,
        } => ScoredRequest {
            greedy: *greedy,
            margin: *margin,
            token_ids: token_ids.clone(),
            log_probs: log_probs.clone(),
            context_tokens: *context_tokens,
            dropped_examples: *dropped_examples,
            truncated_tokens: *truncated_tokens,
            ..unanswered
        },
        _ => unanswered,
    }
}

fn task_card(plan: &TaskPlan) -> TaskCard {
    let card = plan.task.card();
    let metric = |metric: &llama_eval_tasks::Metric| MetricCard {
        name: metric.name.clone().into_owned(),
        higher_is_better: metric.higher_is_better,
        rule: metric.rule.clone().into_owned(),
    };
    TaskCard {
        name: card.name.clone(),
        title: card.title.to_owned(),
        version: card.version,
        published: card
            .published
            .map(|(table, column)| (table.to_owned(), column.to_owned())),
        group: card.group.map(str::to_owned),
        split: card.split.to_owned(),
        licence: card.licence.to_owned(),
        citation: card.citation.to_owned(),
        data_sha256: plan.data_sha256.clone(),
        metrics: card.metrics.iter().map(metric).collect(),
        headline: card.headline(plan.protocol).to_owned(),
    }
}

fn model_card(identity: &Identity) -> ModelCard {
    let (id, text) = identity.prefix_token.clone();
    ModelCard {
        name: identity.name.clone(),
        source: identity.source.clone(),
        parameters: identity.parameters,
        dtype: identity.dtype.clone(),
        device: identity.device.clone(),
        weights_sha256: identity.weights_sha256.clone(),
        tokenizer_sha256: identity.tokenizer_sha256.clone(),
        context_length: identity.context_length,
        adds_bos: identity.adds_bos,
        prefix_token: (text, id),
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
