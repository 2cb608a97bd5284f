//! What a run is about to do, for people: the header, and the estimate of a dry run.

use std::collections::BTreeMap;

use llama_eval_model::{Estimate, Identity, LanguageModel, Request};
use llama_eval_tasks::TaskPlan;

use crate::{
    VERSION,
    agenda::Agenda,
    messages,
    settings::{Settings, protocol_name},
};

/// What is about to happen, in a few lines.
pub(crate) fn header(
    settings: &Settings,
    identity: &Identity,
    plans: &[TaskPlan],
    agenda: &Agenda,
) {
    messages::title(&format!("llama-eval {VERSION}"));
    let Identity {
        name,
        architecture,
        dtype,
        device,
        context_length,
        ..
    } = identity;
    let parameters = messages::short(identity.parameters);
    messages::labelled(
        "model",
        &format!("{name}: {architecture}, {parameters} parameters, {dtype}"),
    );
    let threads = messages::counted(rayon::current_num_threads(), "thread");
    let context = messages::count(*context_length as u64);
    messages::labelled(
        "device",
        &format!("{device}, {threads}, context of {context} tokens"),
    );
    messages::labelled("BOS", &bos(identity));
    let shots = match settings.num_fewshot {
        Some(shots) => messages::counted(shots, "few-shot example"),
        None => "each task's own few-shot examples".to_owned(),
    };
    let protocol = protocol_name(settings.protocol);
    messages::labelled(
        "protocol",
        &format!("{protocol}, {shots}, seed {}", settings.seed),
    );
    let data = match &settings.data {
        Some(folder) => folder.display().to_string(),
        None => bundled(settings),
    };
    messages::labelled("data", &data);
    let tasks = messages::counted(plans.len(), "task");
    let documents = messages::counted(documents(plans), "document");
    let requests = messages::counted(agenda.requests, "request");
    let known = match agenda.answered() {
        0 => String::new(),
        known => format!(", {} answered before", messages::count(known as u64)),
    };
    let unique = messages::count(agenda.different as u64);
    messages::labelled(
        "asks",
        &format!("{tasks}, {documents}, {requests} ({unique} different{known})"),
    );
}

/// Who tells what the model cannot, by kind of check.
pub(crate) fn judges(identities: &BTreeMap<String, String>) {
    for (kind, identity) in identities {
        messages::labelled(kind, identity);
    }
}

fn bundled(settings: &Settings) -> String {
    let without = match settings.left_out.len() {
        0 => String::new(),
        tasks => format!(
            "; {} without samples left out",
            messages::counted(tasks, "task")
        ),
    };
    format!("bundled samples, to try the program and not to measure a model{without}")
}

fn bos(identity: &Identity) -> String {
    let (id, text) = &identity.prefix_token;
    if identity.adds_bos {
        format!("`{text}` ({id}) before every prompt")
    } else {
        format!("none; `{text}` ({id}) stands for an empty prompt")
    }
}

/// Requests, tokens and memory of each task and all.
///
/// # Errors
/// When a request cannot be tokenized.
pub(crate) fn estimates(
    model: &dyn LanguageModel,
    plans: &[TaskPlan],
    agenda: &Agenda,
) -> anyhow::Result<String> {
    let heads = [
        "task",
        "documents",
        "requests",
        "tokens",
        "unique tokens",
        "saved",
        "new tokens",
        "batches",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    let row = |name: &str, documents: usize, estimate: &Estimate| {
        let saved = 100.0 * (1.0 - estimate.unique_tokens as f64 / estimate.tokens.max(1) as f64);
        vec![
            name.to_owned(),
            messages::count(documents as u64),
            messages::count(estimate.requests as u64),
            messages::count(estimate.tokens),
            messages::count(estimate.unique_tokens),
            format!("{saved:.1}%"),
            messages::count(estimate.new_tokens),
            messages::count(estimate.batches as u64),
        ]
    };
    let mut total = Estimate::default();
    for (plan, questions) in plans.iter().zip(&agenda.tasks) {
        let requests: Vec<Request> = questions
            .iter()
            .map(|question| question.request.clone())
            .collect();
        let estimate = model.estimate(&requests)?;
        rows.push(row(&plan.task.card().name, plan.items.len(), &estimate));
        total.requests += estimate.requests;
        total.tokens += estimate.tokens;
        total.unique_tokens += estimate.unique_tokens;
        total.new_tokens += estimate.new_tokens;
        total.batches += estimate.batches;
        total.batch_rows = total.batch_rows.max(estimate.batch_rows);
        total.memory_bytes = total.memory_bytes.max(estimate.memory_bytes);
    }
    rows.push(row("all", documents(plans), &total));
    let memory = total.memory_bytes as f64 / f64::from(1 << 30);
    let batch = messages::count(total.batch_rows as u64);
    Ok(format!(
        "{}\nbatches of at most {batch} tokens, {memory:.2} GiB of memory\n",
        messages::columns(&rows)
    ))
}

fn documents(plans: &[TaskPlan]) -> usize {
    plans.iter().map(|plan| plan.items.len()).sum()
}
