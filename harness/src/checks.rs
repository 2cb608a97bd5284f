//! What a score needs beyond the model's answers: programs run in the sandbox, texts shown to judges.
//!
//! Programs run while the model writes the next ones; judges are asked when it has finished, or later. Each verdict
//! is stored under its judge's name and version, so that another judge's never stand in for it.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use llama_eval_model::{Answer, Identity};
use llama_eval_tasks::{Check, TaskPlan, Verdict};

use crate::{
    agenda,
    ask::Interrupted,
    judges::{Judge, JudgeError, Judged, Kind},
    key::{Key, Keys, check_key},
    messages,
    sandbox::{Execution, Executor, Sandbox, SandboxError},
    store::{Store, StoreError},
};

/// What [`Check::kind`] calls programs.
pub(crate) const PROGRAM: &str = "program";
/// Between two looks at whether programs have ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The kinds of checks that completions of `plans` will need, as their first documents tell.
pub(crate) fn kinds(plans: &[TaskPlan]) -> BTreeSet<&'static str> {
    let of_plan = |plan: &TaskPlan| {
        let first = plan.items.first();
        first.map_or(Vec::new(), |item| {
            plan.task.checks(&item.document, "x", plan.protocol)
        })
    };
    let checks = plans.iter().flat_map(of_plan);
    checks.map(|check| check.kind()).collect()
}

/// Everyone who can be asked in this run.
pub(crate) struct Judges {
    sandbox: Option<Arc<Sandbox>>,
    judges: Vec<Box<dyn Judge>>,
}

impl Judges {
    /// The sandbox, if programs are to be run, and judges of texts.
    pub(crate) fn new(sandbox: Option<Sandbox>, judges: Vec<Box<dyn Judge>>) -> Self {
        Self {
            sandbox: sandbox.map(Arc::new),
            judges,
        }
    }

    /// Name and version by kind of check.
    pub(crate) fn identities(&self) -> BTreeMap<String, String> {
        let mut identities = BTreeMap::new();
        if let Some(sandbox) = &self.sandbox {
            identities.insert(PROGRAM.to_owned(), sandbox.identity());
        }
        for judge in &self.judges {
            for (kind, name) in [
                (Kind::Toxicity, "toxicity"),
                (Kind::Truthful, "truthful"),
                (Kind::Informative, "informative"),
            ] {
                if let Some(identity) = judge.identity(kind) {
                    identities.insert(name.to_owned(), identity.to_owned());
                }
            }
        }
        identities
    }

    /// Runs programs beside whatever else goes on; `None` without a sandbox.
    pub(crate) fn programs(&self) -> Option<Programs> {
        let sandbox = self.sandbox.as_ref()?;
        let threads = thread::available_parallelism().map_or(1, usize::from);
        Some(Programs {
            judge: sandbox.identity(),
            executor: Executor::new(sandbox, threads),
            keys: Vec::new(),
            known: HashSet::new(),
            ended: 0,
        })
    }

    /// Shows every judge what it has not judged yet. A judgement that fails is stored with its reason.
    ///
    /// # Errors
    /// When a judge or the store fails, or `stop` is set. What was judged is stored.
    pub(crate) fn judge(
        &mut self,
        plans: &[TaskPlan],
        identity: &Identity,
        store: &mut Store,
        stop: &AtomicBool,
    ) -> anyhow::Result<()> {
        for judge in &mut self.judges {
            let mut pending: Vec<(Key, String, Check)> = Vec::new();
            let mut seen = HashSet::new();
            each_check(plans, identity, store, |store, check| {
                let Some(kind) = judged(&check).map(|judged| judged.kind()) else {
                    return Ok(());
                };
                let Some(name) = judge.identity(kind) else {
                    return Ok(());
                };
                let key = check_key(name, &check);
                if !store.is_judged(&key)? && seen.insert(key) {
                    pending.push((key, name.to_owned(), check));
                }
                Ok(())
            })?;
            if pending.is_empty() {
                continue;
            }
            let names: BTreeSet<&str> = pending.iter().map(|(_, name, _)| name.as_str()).collect();
            let names = names.into_iter().collect::<Vec<_>>().join(", ");
            let texts = messages::counted(pending.len(), "judgement");
            messages::note(&format!("asking {names} for {texts}"));
            let items: Vec<Judged<'_>> = pending
                .iter()
                .filter_map(|(_, _, check)| judged(check))
                .collect();
            let asked = judge.judge(&items, stop, &mut |index, judgement| {
                let (key, name, _) = pending.get(index).ok_or("a judgement nobody asked for")?;
                let verdict = match judgement {
                    Ok(value) => Verdict::Known {
                        value,
                        note: String::new(),
                    },
                    Err(reason) => Verdict::Missing { reason },
                };
                Ok(store.put_verdict(*key, name, verdict)?)
            });
            let committed = store.commit();
            asked.map_err(|error| stopped(error, stop))?;
            committed?;
        }
        Ok(())
    }
}

/// An error of a judge, or that the run was stopped.
fn stopped(error: JudgeError, stop: &AtomicBool) -> anyhow::Error {
    if stop.load(Ordering::Relaxed) {
        return Interrupted::WhileJudging.into();
    }
    error.into()
}

fn judged(check: &Check) -> Option<Judged<'_>> {
    match check {
        Check::Program { .. } => None,
        Check::Toxicity { text } => Some(Judged::Toxicity { text }),
        Check::Truthful { question, answer } => Some(Judged::Truthful { question, answer }),
        Check::Informative { question, answer } => Some(Judged::Informative { question, answer }),
    }
}

/// Calls `each` with every check of every stored completion.
fn each_check(
    plans: &[TaskPlan],
    identity: &Identity,
    store: &Store,
    mut each: impl FnMut(&Store, Check) -> Result<(), StoreError>,
) -> anyhow::Result<()> {
    let mut keys = Keys::new(identity);
    for plan in plans {
        // Most benchmarks need none: their answers are not read for nothing.
        if kinds(std::slice::from_ref(plan)).is_empty() {
            continue;
        }
        for item in &plan.items {
            for request in &item.requests {
                let key = agenda::key(&mut keys, request, plan)?;
                if let Some(Answer::Completion(completion)) = store.get(&key)? {
                    let text = &completion.text;
                    for check in plan.task.checks(&item.document, text, plan.protocol) {
                        each(store, check)?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Programs that are being run.
pub(crate) struct Programs {
    judge: String,
    executor: Executor,
    /// By number of the program.
    keys: Vec<Key>,
    known: HashSet<Key>,
    ended: usize,
}

impl Programs {
    /// Runs `check` if it is a program that has no verdict yet; each once.
    ///
    /// # Errors
    /// When the store is damaged.
    pub(crate) fn submit(&mut self, check: Check, store: &Store) -> Result<(), StoreError> {
        let key = check_key(&self.judge, &check);
        if let Check::Program { source } = check
            && !store.is_judged(&key)?
            && self.known.insert(key)
        {
            self.executor.submit(self.keys.len(), source);
            self.keys.push(key);
        }
        Ok(())
    }

    /// Stores the verdicts that have come.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(crate) fn collect(&mut self, store: &mut Store) -> Result<(), StoreError> {
        for (number, result) in self.executor.try_results() {
            self.ended += 1;
            if let Some(key) = self.keys.get(number) {
                store.put_verdict(*key, &self.judge, verdict(result))?;
            }
        }
        Ok(())
    }

    /// Runs what is still missing for the completions in the store, and waits for all.
    ///
    /// # Errors
    /// When the store fails or `stop` is set; verdicts that came are stored.
    pub(crate) fn finish(
        mut self,
        plans: &[TaskPlan],
        identity: &Identity,
        store: &mut Store,
        stop: &AtomicBool,
    ) -> anyhow::Result<()> {
        each_check(plans, identity, store, |store, check| {
            self.submit(check, store)
        })?;
        self.collect(store)?;
        let left = self.keys.len() - self.ended;
        if left > 0 {
            messages::note(&format!("running {}", messages::counted(left, "program")));
        }
        while self.ended < self.keys.len() {
            if stop.load(Ordering::Relaxed) {
                store.commit()?;
                return Err(Interrupted::WhileJudging.into());
            }
            thread::sleep(LOOK_EVERY);
            self.collect(store)?;
        }
        Ok(store.commit()?)
    }
}

fn verdict(result: Result<Execution, SandboxError>) -> Verdict {
    match result {
        Ok(execution) => Verdict::Known {
            value: f64::from(u8::from(execution.passed)),
            note: execution.reason,
        },
        Err(error) => Verdict::Missing {
            reason: format!("the sandbox failed: {}", error.problem),
        },
    }
}
