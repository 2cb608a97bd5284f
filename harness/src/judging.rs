//! Sandbox and judges of a run, of a finished run, and of the benchmarks' own solutions.

use std::{collections::BTreeSet, sync::Arc, thread};

use llama_eval_model::LoadOptions;
use llama_eval_tasks::{Check, TaskPlan};

use crate::{
    VERSION,
    checks::{self, Judges, PROGRAM},
    cli::JudgeRunArguments,
    exit::Exit,
    interrupt,
    judges::Judge,
    messages::{self, count, counted},
    run::{now, plans, print, report},
    sandbox::{Limits, Sandbox, check_references as run_references},
    settings::{Settings, SettingsError},
    store::{self, Store},
};

/// Everyone `settings` name and `plans` need. Where the program itself chose the tasks and this machine cannot
/// isolate programs, the tasks that need it are left out of `plans`, with a warning.
///
/// # Errors
/// When programs cannot be isolated or a judge cannot be used.
pub(crate) fn open(settings: &Settings, plans: &mut Vec<TaskPlan>) -> anyhow::Result<Judges> {
    let mut kinds = checks::kinds(plans);
    let mut sandbox = None;
    if kinds.contains(PROGRAM) {
        match Sandbox::new(settings.sandbox, Limits::default()) {
            Ok(ready) => sandbox = Some(ready),
            Err(error) if settings.default_tasks => {
                let (left_out, rest): (Vec<_>, Vec<_>) = plans
                    .drain(..)
                    .partition(|plan| checks::kinds(std::slice::from_ref(plan)).contains(PROGRAM));
                let names: Vec<&str> = left_out
                    .iter()
                    .map(|plan| plan.task.card().name.as_str())
                    .collect();
                let problem = &error.problem;
                messages::warning(&format!("{} left out: {problem}", names.join(", ")));
                messages::hint(&error.hint);
                *plans = rest;
                kinds.remove(PROGRAM);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Judges::new(sandbox, open_judges(settings, &kinds)?))
}

fn open_judges(
    settings: &Settings,
    kinds: &BTreeSet<&'static str>,
) -> anyhow::Result<Vec<Box<dyn Judge>>> {
    let mut judges = Vec::new();
    if let Some(spec) = settings
        .toxicity
        .as_ref()
        .filter(|_| kinds.contains("toxicity"))
    {
        judges.push(spec.open()?);
    }
    if let Some(spec) = settings
        .truthfulness
        .as_ref()
        .filter(|_| kinds.contains("truthful"))
    {
        judges.push(spec.open(&LoadOptions::default())?);
    }
    Ok(judges)
}

/// `judge`: asks judges about the completions a run has stored, and reports anew.
///
/// # Errors
/// When there is no run, a judge cannot be used, or the store or the report fails.
pub(crate) fn judge(arguments: &JudgeRunArguments) -> anyhow::Result<Exit> {
    let stop = interrupt::install()?;
    let refuse = |problem: &str, hint| SettingsError {
        place: arguments.run.display().to_string(),
        problem: problem.to_owned(),
        hint,
    };
    if !arguments.run.join(store::FILE).is_file() {
        let hint = "name the output folder of a run: the one that holds `run.sqlite`";
        return Err(refuse("there is no run here", hint).into());
    }
    let mut store = Store::open(&arguments.run)?;
    let Some((mut settings, identity)) = store.origin()? else {
        let hint = "finish it with `llama-eval run` first";
        return Err(refuse("this run has not begun", hint).into());
    };
    settings.output.clone_from(&arguments.run);
    settings.toxicity = arguments.judges.toxicity.clone();
    settings.truthfulness = arguments.judges.truthfulness.clone();
    settings.log_samples |= arguments.log_samples;
    if settings.toxicity.is_none() && settings.truthfulness.is_none() {
        let hint = "name one: `--toxicity JUDGE` or `--truthfulness JUDGE`";
        return Err(refuse("no judge is given", hint).into());
    }
    let plans = plans(&settings)?;
    let kinds = checks::kinds(&plans);
    let judges = open_judges(&settings, &kinds)?;
    if judges.is_empty() {
        let hint = "toxicity is judged of `realtoxicityprompts`, truthfulness of `truthfulqa_gen`";
        return Err(refuse("this run has nothing for that judge", hint).into());
    }
    let mut judges = Judges::new(None, judges);
    store.begin(&settings, &identity, VERSION, &now())?;
    store.set_judges(&judges.identities())?;
    judges.judge(&plans, &identity, &mut store, &stop)?;
    report(&settings, &identity, &plans, &store)
}

/// `run --check-references`: runs the benchmarks' own solutions, all of which should pass.
///
/// # Errors
/// When there are none, programs cannot be isolated or the sandbox fails.
pub(crate) fn check_references(settings: &Settings) -> anyhow::Result<Exit> {
    let plans = plans(settings)?;
    let mut programs = Vec::new();
    for plan in &plans {
        for item in &plan.items {
            let Some(solution) = plan.task.reference(&item.document) else {
                continue;
            };
            let checks = plan.task.checks(&item.document, &solution, plan.protocol);
            let sources = checks.into_iter().filter_map(|check| match check {
                Check::Program { source } => Some(source),
                _ => None,
            });
            let name = format!("{} {}", plan.task.card().name, item.document.id);
            programs.extend(sources.map(|source| (name.clone(), source)));
        }
    }
    if programs.is_empty() {
        return Err(SettingsError {
            place: "--check-references".to_owned(),
            problem: "none of the tasks has reference solutions".to_owned(),
            hint: "name some that have: `--tasks code`",
        }
        .into());
    }
    let sandbox = Arc::new(Sandbox::new(settings.sandbox, Limits::default())?);
    messages::labelled(PROGRAM, &sandbox.identity());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let executions = run_references(&sandbox, threads, programs)?;
    let mut text = String::new();
    let mut passed = 0;
    for (name, execution) in &executions {
        if execution.passed {
            passed += 1;
        } else {
            text.push_str(&format!("{name}: {}\n", execution.reason));
        }
    }
    let slowest = executions
        .iter()
        .max_by(|(_, left), (_, right)| left.seconds.total_cmp(&right.seconds));
    if let Some((name, execution)) = slowest {
        text.push_str(&format!("slowest: {name}, {:.2} s\n", execution.seconds));
    }
    text.push_str(&format!(
        "{} of {} passed\n",
        count(passed as u64),
        counted(executions.len(), "reference solution")
    ));
    print(&text)?;
    Ok(if passed == executions.len() {
        Exit::Success
    } else {
        Exit::Unscored
    })
}
