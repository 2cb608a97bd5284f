//! Worker threads that run programs while the model writes the next ones.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
};

use super::{Execution, Sandbox, SandboxError};

/// A program's number, as its submitter chose it, and what became of it.
pub(crate) type Verdict = (usize, Result<Execution, SandboxError>);

/// Runs programs in parallel, each once; dropped, it forgets those that have not begun.
#[derive(Debug)]
pub(crate) struct Executor {
    programs: Option<Sender<(usize, String)>>,
    verdicts: Receiver<Verdict>,
    workers: Vec<JoinHandle<()>>,
    stopped: Arc<AtomicBool>,
}

impl Executor {
    /// Starts `threads` workers, at least one.
    pub(crate) fn new(sandbox: &Arc<Sandbox>, threads: usize) -> Self {
        let (programs, waiting) = mpsc::channel();
        let (done, verdicts) = mpsc::channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let stopped = Arc::new(AtomicBool::new(false));
        let worker = |_| {
            let (sandbox, waiting, stopped) = (
                Arc::clone(sandbox),
                Arc::clone(&waiting),
                Arc::clone(&stopped),
            );
            let done = done.clone();
            thread::spawn(move || work(&sandbox, &waiting, &done, &stopped))
        };
        Self {
            programs: Some(programs),
            verdicts,
            workers: (0..threads.max(1)).map(worker).collect(),
            stopped,
        }
    }

    /// Queues a program under a number.
    pub(crate) fn submit(&self, number: usize, program: String) {
        if let Some(programs) = &self.programs {
            // Workers only end when this sender is dropped.
            let _ = programs.send((number, program));
        }
    }

    /// The verdicts that are there and were not yet taken, in the order in which programs ended.
    pub(crate) fn try_results(&self) -> Vec<Verdict> {
        self.verdicts.try_iter().collect()
    }

    /// Waits for all programs; the verdicts that were not yet taken.
    pub(crate) fn finish(mut self) -> Vec<Verdict> {
        self.programs = None;
        self.join();
        self.try_results()
    }

    fn join(&mut self) {
        for worker in self.workers.drain(..) {
            // A worker does not panic.
            let _ = worker.join();
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.programs = None;
        self.join();
    }
}

fn work(
    sandbox: &Sandbox,
    waiting: &Mutex<Receiver<(usize, String)>>,
    done: &Sender<Verdict>,
    stopped: &AtomicBool,
) {
    loop {
        let next = waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok((number, program)) = next else { return };
        if stopped.load(Ordering::Relaxed) || done.send((number, sandbox.run(&program))).is_err() {
            return;
        }
    }
}
