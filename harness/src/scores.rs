//! Scores, from the store alone: no model is needed for what was answered once.

use std::{collections::BTreeMap, sync::Arc};

use llama_eval_model::{Answer, Generation, Identity, Request, Sampling};
use llama_eval_reports::{
    DocumentScore, MetricCard, ModelCard, Run, ScoredCompletion, ScoredRequest, ScoredSampling,
    ScoredVerdict, TaskCard, TaskRun,
};
use llama_eval_tasks::{Check, Item, Outcome, TaskPlan, Verdict};
use serde_json::{Map, Value};

use crate::{
    VERSION,
    agenda::key,
    key::{Keys, check_key},
    settings::{Settings, protocol_name},
    store::Store,
};

/// Why a document has no score whose completions nobody was asked to judge.
pub(crate) const AWAITS: &str = "awaits a judge";
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
    let judges = Verdicts(store.judges()?);
    let tasks = plans
        .iter()
        .map(|plan| task(plan, &mut keys, &judges, store))
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
        judges: judges.0,
        tasks,
    })
}

/// Tasks with documents that have no score: name, how many, and the first one's reason.
pub(crate) fn unscored(run: &Run) -> Vec<(&str, usize, &str)> {
    without_score(run, |reason| !reason.contains(AWAITS))
}

/// The same for documents that nobody was asked to judge.
pub(crate) fn awaiting(run: &Run) -> Vec<(&str, usize, &str)> {
    without_score(run, |reason| reason.contains(AWAITS))
}

fn without_score(run: &Run, wanted: fn(&str) -> bool) -> Vec<(&str, usize, &str)> {
    let mut found = Vec::new();
    for task in &run.tasks {
        let documents = task.documents.iter();
        let mut reasons = documents
            .filter_map(|document| document.unscored.as_deref())
            .filter(|reason| wanted(reason));
        if let Some(first) = reasons.next() {
            found.push((task.card.name.as_str(), 1 + reasons.count(), first));
        }
    }
    found
}

fn task(
    plan: &TaskPlan,
    keys: &mut Keys,
    judges: &Verdicts,
    store: &Store,
) -> anyhow::Result<TaskRun> {
    let documents = plan
        .items
        .iter()
        .map(|item| document(plan, item, keys, judges, store));
    let documents = documents.collect::<anyhow::Result<Vec<_>>>()?;
    let mut card = task_card(plan);
    // Metrics of the other protocol have no values here; the headline stays, even where nothing has one.
    let has_values = |name: &str| documents.iter().any(|it| it.metrics.contains_key(name));
    card.metrics
        .retain(|metric| metric.name == card.headline || has_values(&metric.name));
    Ok(TaskRun {
        card,
        shots: plan.shots,
        split_documents: plan.split_documents,
        documents,
    })
}

fn document(
    plan: &TaskPlan,
    item: &Item,
    keys: &mut Keys,
    judges: &Verdicts,
    store: &Store,
) -> anyhow::Result<DocumentScore> {
    let mut answers = Vec::with_capacity(item.requests.len());
    for request in &item.requests {
        let stored = store.get(&key(keys, request, plan)?)?;
        answers.push(stored.unwrap_or_else(|| Answer::Unanswered {
            reason: NOT_ASKED.to_owned(),
        }));
    }
    let checks: Vec<Vec<Check>> = answers
        .iter()
        .map(|answer| match answer.completion() {
            Some(it) => plan.task.checks(&item.document, &it.text, plan.protocol),
            None => Vec::new(),
        })
        .collect();
    let verdicts = checks
        .iter()
        .map(|checks| {
            checks
                .iter()
                .map(|check| judges.verdict(check, store))
                .collect()
        })
        .collect::<anyhow::Result<Vec<Vec<Verdict>>>>()?;
    let missing = answers.iter().find_map(|answer| match answer {
        Answer::Unanswered { reason } => Some(reason.clone()),
        _ => None,
    });
    let outcome = match missing {
        Some(reason) => Outcome::Unscored(reason),
        None => plan
            .task
            .score(&item.document, &answers, &verdicts, plan.protocol),
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
            .filter_map(|(request, answer)| scored(request, answer))
            .collect(),
        completions: completions(plan, item, &answers, &checks, &verdicts),
        metrics: metrics
            .into_iter()
            .map(|(name, value)| (name.into_owned(), value))
            .collect(),
        unscored,
    })
}

/// Every completion of a document; the samples of one prompt share its text.
fn completions(
    plan: &TaskPlan,
    item: &Item,
    answers: &[Answer],
    checks: &[Vec<Check>],
    verdicts: &[Vec<Verdict>],
) -> Vec<ScoredCompletion> {
    let mut last: Option<(&Arc<Generation>, Arc<str>)> = None;
    let mut completions = Vec::new();
    for (index, (request, answer)) in item.requests.iter().zip(answers).enumerate() {
        let Request::Generate { generation, sample } = request else {
            continue;
        };
        let context = match &last {
            Some((known, text)) if Arc::ptr_eq(known, generation) => Arc::clone(text),
            _ => generation.prompt.text().into(),
        };
        last = Some((generation, Arc::clone(&context)));
        let completion = answer.completion();
        let text = completion.map(|it| it.text.clone());
        let filtered = text.as_deref().map_or(Vec::new(), |text| {
            plan.task.filtered(&item.document, text, plan.protocol)
        });
        let pairs = checks.get(index).into_iter().zip(verdicts.get(index));
        completions.push(ScoredCompletion {
            context,
            stop: generation.stop.clone(),
            max_new_tokens: generation.max_new_tokens,
            sampling: sampling(generation.sampling),
            sample: *sample,
            filtered: filtered
                .into_iter()
                .map(|(filter, text)| (filter.to_owned(), text))
                .collect(),
            text,
            finish: completion.map_or("", |it| it.finish.name()).to_owned(),
            cut: completion.is_some_and(|it| it.finish.is_cut()),
            tokens: completion.map_or(0, |it| it.token_ids.len()),
            margin: completion.map_or(0.0, |it| it.margin),
            prompt_tokens: completion.map_or(0, |it| it.prompt_tokens),
            dropped_examples: completion.map_or(0, |it| it.dropped_examples),
            truncated_tokens: completion.map_or(0, |it| it.truncated_tokens),
            verdicts: pairs
                .flat_map(|(checks, verdicts)| checks.iter().zip(verdicts))
                .map(|(check, verdict)| scored_verdict(check, verdict))
                .collect(),
        });
    }
    completions
}

fn sampling(sampling: Sampling) -> Option<ScoredSampling> {
    match sampling {
        Sampling::Greedy => None,
        Sampling::Random {
            temperature,
            top_p,
            top_k,
            seed,
        } => Some(ScoredSampling {
            temperature,
            top_p,
            top_k,
            seed,
        }),
    }
}

fn scored_verdict(check: &Check, verdict: &Verdict) -> ScoredVerdict {
    let (value, note) = match verdict {
        Verdict::Known { value, note } => (Some(*value), note.clone()),
        Verdict::Missing { reason } => (None, reason.clone()),
    };
    ScoredVerdict {
        check: check.kind().to_owned(),
        value,
        note,
    }
}

/// Whose verdicts count, by kind of check.
struct Verdicts(BTreeMap<String, String>);

impl Verdicts {
    fn verdict(&self, check: &Check, store: &Store) -> anyhow::Result<Verdict> {
        let kind = check.kind();
        let Some(judge) = self.0.get(kind) else {
            let reason = format!("{AWAITS} ({kind})");
            return Ok(Verdict::Missing { reason });
        };
        Ok(store
            .verdict(&check_key(judge, check))?
            .unwrap_or_else(|| Verdict::Missing {
                reason: "the verdict is not in the store".to_owned(),
            }))
    }
}

/// A log-likelihood request and its answer; `None` for other kinds.
fn scored(request: &Request, answer: &Answer) -> Option<ScoredRequest> {
    let Request::LogLikelihood {
        prompt,
        continuation,
    } = request
    else {
        return None;
    };
    let unanswered = ScoredRequest {
        context: prompt.text(),
        continuation: continuation.clone(),
        log_likelihood: answer.log_likelihood(),
        greedy: false,
        margin: 0.0,
        token_ids: Vec::new(),
        log_probs: Vec::new(),
        context_tokens: 0,
        dropped_examples: 0,
        truncated_tokens: 0,
    };
    Some(match answer {
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
    })
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
