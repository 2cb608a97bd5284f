//! A run: plan, ask, store, score, report.

use std::io::{Write as _, stdout};

use anyhow::Context as _;
use console::Term;
use jiff::{Timestamp, Unit};
use llama_eval_model::Identity;
use llama_eval_tasks::{TaskPlan, plan, suites};

use crate::{
    VERSION, agenda::Agenda, ask::ask, backend, exit::Exit, interrupt, judging, messages, overview,
    progress::Progress, scores, settings::Settings, store::Store,
};

/// Columns of a table where no terminal says how many there are.
const PLAIN_WIDTH: usize = 120;

/// Evaluates a model.
///
/// # Errors
/// Anything that keeps it from finishing; see [`Exit`].
pub(crate) fn run(settings: &Settings) -> anyhow::Result<Exit> {
    let stop = interrupt::install().context("cannot listen to signals")?;
    let mut plans = plans(settings)?;
    // Before the model is loaded, and long before it generates anything.
    let mut judges = judging::open(settings, &mut plans)?;
    let mut store = Store::open(&settings.output)?;
    store.check_settings(settings)?;
    let mut model = match backend::open_model(settings) {
        Ok(model) => model,
        Err(error) => {
            store.abandon();
            return Err(error.into());
        }
    };
    store.begin(settings, model.identity(), VERSION, &now())?;
    let agenda = Agenda::new(&plans, model.identity(), Some(&store))?;
    overview::header(settings, model.identity(), &plans, &agenda);
    let identities = judges.identities();
    overview::judges(&identities);
    store.set_judges(&identities)?;
    let mut programs = judges.programs();
    ask(
        model.as_mut(),
        &plans,
        &agenda,
        &mut store,
        &mut Progress::new(),
        programs.as_mut(),
        &stop,
    )?;
    let identity = model.identity().clone();
    // Its memory may be needed by judges.
    drop(model);
    if let Some(programs) = programs {
        programs.finish(&plans, &identity, &mut store, &stop)?;
    }
    judges.judge(&plans, &identity, &mut store, &stop)?;
    report(settings, &identity, &plans, &store)
}

/// Scores what the store holds, and writes and prints the report.
///
/// # Errors
/// When the store is damaged or a file cannot be written.
pub(crate) fn report(
    settings: &Settings,
    identity: &Identity,
    plans: &[TaskPlan],
    store: &Store,
) -> anyhow::Result<Exit> {
    let run = scores::score(settings, identity, plans, store, &now())?;
    let files = backend::write_files(&run, &settings.output, settings.log_samples)?;
    print(&backend::tables(&run, width())?)?;
    for file in files {
        messages::note(&format!("wrote `{}`", file.display()));
    }
    for (task, documents, reason) in scores::awaiting(&run) {
        let documents = messages::counted(documents, "document");
        messages::note(&format!("{task}: {documents} without a score: {reason}"));
    }
    if !scores::awaiting(&run).is_empty() {
        let output = settings.output.display();
        messages::hint(&format!(
            "`llama-eval judge {output} --help` tells how texts are judged"
        ));
    }
    let unscored = scores::unscored(&run);
    if unscored.is_empty() {
        return Ok(Exit::Success);
    }
    for (task, documents, reason) in &unscored {
        messages::warning(&format!(
            "{task}: {} without a score: {reason}",
            messages::counted(*documents, "document")
        ));
    }
    messages::hint("the same command asks for what is missing again");
    Ok(Exit::Unscored)
}

/// Says what a run would ask, without asking.
///
/// # Errors
/// As [`run`], but for the output directory, which is not touched.
pub(crate) fn dry_run(settings: &Settings) -> anyhow::Result<Exit> {
    let mut plans = plans(settings)?;
    let judges = judging::open(settings, &mut plans)?;
    let model = backend::open_model(settings)?;
    let agenda = Agenda::new(&plans, model.identity(), None)?;
    overview::header(settings, model.identity(), &plans, &agenda);
    overview::judges(&judges.identities());
    print(&overview::estimates(model.as_ref(), &plans, &agenda)?)?;
    Ok(Exit::Success)
}

/// Plans every task, before any model is loaded.
///
/// # Errors
/// An unknown task, or data that cannot be used.
pub(crate) fn plans(settings: &Settings) -> anyhow::Result<Vec<TaskPlan>> {
    let data = backend::open_data(settings.data.as_deref())?;
    let tasks = suites::resolve(&settings.tasks, &settings.generation())?;
    for name in settings.samples.iter().flat_map(|samples| samples.keys()) {
        if !settings.tasks.contains(name) {
            messages::warning(&format!(
                "`--samples` names `{name}`, which is not among the tasks"
            ));
        }
    }
    let plan = |task| {
        Ok(plan(
            task,
            &data,
            settings.protocol,
            &settings.selection(&task.card().name),
        )?)
    };
    tasks.iter().map(plan).collect()
}

/// Writes to stdout; unlike `print!`, without a panic where nobody reads.
///
/// # Errors
/// When stdout fails.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn width() -> usize {
    Term::stdout()
        .size_checked()
        .map_or(PLAIN_WIDTH, |(_, columns)| usize::from(columns))
}

/// Now, ISO 8601, to the second.
pub(crate) fn now() -> String {
    let now = Timestamp::now();
    now.round(Unit::Second).unwrap_or(now).to_string()
}
