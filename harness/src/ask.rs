//! Asks the model what is on the agenda, and hands each answer to the store as it comes.

use std::sync::atomic::{AtomicBool, Ordering};

use llama_eval_model::{Answer, LanguageModel, ModelError, Request, Sink, SinkError};
use llama_eval_tasks::TaskPlan;

use crate::{
    agenda::{Agenda, Question},
    checks::Programs,
    events::{Event, Listener},
    messages,
    store::Store,
};

/// A signal stopped the run; everything that came before it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Interrupted {
    /// While the model answered.
    #[error("interrupted: {} of {} stored", messages::count(*answered as u64), messages::counted(*questions, "answer"))]
    WhileAsking {
        /// Answers in the store.
        answered: usize,
        /// Answers of a whole run.
        questions: usize,
    },
    /// While programs ran or judges were asked.
    #[error("interrupted: all answers are stored, not all verdicts on them")]
    WhileJudging,
}

/// Asks `model` everything on `agenda`, task by task.
///
/// # Errors
/// [`Interrupted`] when `stop` is set; what the model or the store say. All answers that came are stored.
pub(crate) fn ask(
    model: &mut dyn LanguageModel,
    plans: &[TaskPlan],
    agenda: &Agenda,
    store: &mut Store,
    listener: &mut dyn Listener,
    programs: Option<&mut Programs>,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let (answered, questions) = (agenda.answered(), agenda.different);
    listener.event(&Event::Begun {
        questions,
        answered,
        work: agenda.work(),
    });
    let mut recorder = Recorder {
        store,
        asked: None,
        programs,
        answered,
        different: questions,
        listener,
        stop,
    };
    let mut asked = Ok(());
    for (plan, questions) in plans.iter().zip(&agenda.tasks) {
        if questions.is_empty() {
            continue;
        }
        recorder.listener.event(&Event::Task {
            name: plan.task.card().name.clone(),
        });
        recorder.asked = Some((plan, questions));
        let requests: Vec<Request> = questions
            .iter()
            .map(|question| question.request.clone())
            .collect();
        asked = recorder
            .check_stop()
            .map_err(ModelError::Sink)
            .and_then(|()| model.answer(&requests, &mut recorder));
        if asked.is_err() {
            break;
        }
    }
    // Also after a failure: what came before it counts.
    let committed = recorder.store.commit();
    recorder.listener.event(&Event::Ended);
    asked?;
    Ok(committed?)
}

/// Hands answers to the store and tells about them.
struct Recorder<'a> {
    store: &'a mut Store,
    /// The task that is asked, and its questions.
    asked: Option<(&'a TaskPlan, &'a [Question])>,
    /// Where generated programs are run.
    programs: Option<&'a mut Programs>,
    /// Answers in the store, of so many different questions.
    answered: usize,
    different: usize,
    listener: &'a mut dyn Listener,
    stop: &'a AtomicBool,
}

impl Recorder<'_> {
    fn check_stop(&self) -> Result<(), SinkError> {
        if self.stop.load(Ordering::Relaxed) {
            Err(Box::new(Interrupted::WhileAsking {
                answered: self.answered,
                questions: self.different,
            }))
        } else {
            Ok(())
        }
    }
}

impl Sink for Recorder<'_> {
    fn answer(&mut self, index: usize, answer: Answer) -> Result<(), SinkError> {
        let asked = self
            .asked
            .and_then(|(plan, questions)| Some((plan, questions.get(index)?)));
        let (plan, question) = asked.ok_or("the model answered a question nobody asked")?;
        if let (Some(programs), Answer::Completion(completion), Some(item)) =
            (&mut self.programs, &answer, plan.items.get(question.item))
        {
            let checks = plan
                .task
                .checks(&item.document, &completion.text, plan.protocol);
            for check in checks {
                programs.submit(check, self.store)?;
            }
        }
        self.store.put(question.key, answer)?;
        self.answered += 1;
        self.listener.event(&Event::Answered {
            work: question.work,
        });
        Ok(())
    }

    fn computed(&mut self, unique_tokens: usize) -> Result<(), SinkError> {
        if let Some(programs) = &mut self.programs {
            programs.collect(self.store)?;
        }
        self.store.computed(unique_tokens)?;
        self.listener.event(&Event::Computed { unique_tokens });
        self.check_stop()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::{path::Path, sync::Arc};

    use clap::Parser as _;
    use llama_eval_reports::Run;
    use tempfile::tempdir;

    use super::*;
    use crate::{
        VERSION,
        cli::{Cli, Command},
        exit::Exit,
        scores,
        scripted::{Accident, Scripted, plan},
        settings::Settings,
    };

    #[derive(Default)]
    struct Log(Vec<Event>);

    impl Listener for Log {
        fn event(&mut self, event: &Event) {
            self.0.push(event.clone());
        }
    }

    fn settings() -> Settings {
        let Command::Run(arguments) = Cli::parse_from(["llama-eval", "run"]).command else {
            panic!()
        };
        Settings::resolve(&arguments).unwrap()
    }

    fn plans() -> Vec<TaskPlan> {
        vec![plan("one", 12), plan("two", 5)]
    }

    /// One session: what came of asking, what was asked, what happened, and the scores.
    struct Session {
        outcome: anyhow::Result<()>,
        asked: usize,
        events: Vec<Event>,
        run: Run,
    }

    fn session(
        directory: &Path,
        plans: &[TaskPlan],
        mut model: Scripted,
        stop: &AtomicBool,
    ) -> Session {
        let mut store = Store::open(directory).unwrap();
        store
            .begin(
                &settings(),
                model.identity(),
                VERSION,
                "2024-01-01T00:00:00Z",
            )
            .unwrap();
        let agenda = Agenda::new(plans, model.identity(), Some(&store)).unwrap();
        let mut log = Log::default();
        let outcome = ask(&mut model, plans, &agenda, &mut store, &mut log, None, stop);
        let mut run = scores::score(
            &settings(),
            model.identity(),
            plans,
            &store,
            "2024-01-02T00:00:00Z",
        )
        .unwrap();
        // The only number that clocks decide.
        run.seconds = 0.0;
        Session {
            outcome,
            asked: model.asked.len(),
            events: log.0,
            run,
        }
    }

    fn whole() -> Run {
        let directory = tempdir().unwrap();
        let session = session(
            directory.path(),
            &plans(),
            Scripted::new(),
            &AtomicBool::new(false),
        );
        session.outcome.unwrap();
        session.run
    }

    /// Two requests of each document's own, and two that all share.
    const UNIQUE: usize = 2 * 17 + 2;

    #[test]
    fn scores_are_those_of_the_answers() {
        let run = whole();
        assert_eq!(
            run.tasks
                .iter()
                .map(|task| task.documents.len())
                .collect::<Vec<_>>(),
            [12, 5]
        );
        assert_eq!(run.unique_tokens, 10 * UNIQUE as u64);
        let log_likelihood = |context: &str, continuation: &str| {
            let prompt = llama_eval_model::Prompt::plain(context);
            let request = Request::LogLikelihood {
                prompt,
                continuation: continuation.to_owned(),
            };
            Scripted::answer_to(&request).log_likelihood().unwrap()
        };
        let bare = log_likelihood("Answer:", " heads") - log_likelihood("Answer:", " tails");
        let mut right = 0;
        for document in run.tasks.iter().flat_map(|task| &task.documents) {
            let question = document.document["question"].as_str().unwrap();
            let first =
                log_likelihood(question, " heads") - log_likelihood(question, " tails") > bare;
            assert_eq!(document.metrics["acc"], f64::from(first));
            assert_eq!(
                document.requests[1].log_likelihood,
                Some(log_likelihood(question, " tails"))
            );
            right += usize::from(first);
        }
        assert!((1..17).contains(&right), "{right}");
    }

    #[test]
    fn a_run_that_failed_anywhere_goes_on_and_ends_alike() {
        let whole = whole();
        for question in 0..UNIQUE {
            let directory = tempdir().unwrap();
            let stop = AtomicBool::new(false);
            let model = Scripted::with(question, Accident::DeviceFails);
            let first = session(directory.path(), &plans(), model, &stop);
            assert_eq!(Exit::of(&first.outcome.unwrap_err()), Exit::Device);
            assert_eq!(first.events.last(), Some(&Event::Ended));
            let second = session(directory.path(), &plans(), Scripted::new(), &stop);
            second.outcome.unwrap();
            assert_eq!(second.asked, UNIQUE - question);
            assert_eq!(second.run.tasks, whole.tasks);
        }
    }

    #[test]
    fn an_interrupt_stops_after_the_batch() {
        let directory = tempdir().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let model = Scripted::with(5, Accident::Interrupt).interrupting(&stop);
        let first = session(directory.path(), &plans(), model, &stop);
        let error = first.outcome.unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Interrupted);
        assert_eq!(
            error.root_cause().to_string(),
            "interrupted: 8 of 36 answers stored"
        );
        assert_eq!(first.asked, 2 * Scripted::BATCH);
        stop.store(false, Ordering::Relaxed);
        let second = session(directory.path(), &plans(), Scripted::new(), &stop);
        second.outcome.unwrap();
        assert_eq!(second.asked, UNIQUE - first.asked);
        assert_eq!(second.run, whole());
    }

    #[test]
    fn what_could_not_be_answered_is_unscored_and_asked_again() {
        for accident in [Accident::Unanswered, Accident::Forgotten] {
            let directory = tempdir().unwrap();
            let stop = AtomicBool::new(false);
            let first = session(
                directory.path(),
                &plans(),
                Scripted::with(0, accident),
                &stop,
            );
            first.outcome.unwrap();
            let reason = if accident == Accident::Unanswered {
                "a logit is NaN"
            } else {
                "the model gave no answer"
            };
            assert_eq!(scores::unscored(&first.run), [("one", 1, reason)]);
            let missing = first.run.tasks[0]
                .documents
                .iter()
                .find(|document| document.unscored.is_some())
                .unwrap();
            assert!(missing.metrics.is_empty());
            let second = session(directory.path(), &plans(), Scripted::new(), &stop);
            assert_eq!(second.asked, 1);
            assert_eq!(second.run.tasks, whole().tasks);
        }
    }

    #[test]
    fn a_shared_question_without_an_answer_takes_the_score_of_all() {
        let directory = tempdir().unwrap();
        // The model works backwards: the shared contexts are in the first document's place.
        let position = 2 * 12 + 2 - 1 - 2;
        let model = Scripted::with(position, Accident::Unanswered);
        let session = session(directory.path(), &plans(), model, &AtomicBool::new(false));
        assert_eq!(
            scores::unscored(&session.run)
                .iter()
                .map(|(_, count, _)| count)
                .sum::<usize>(),
            17
        );
    }

    #[test]
    fn a_finished_run_asks_nothing_and_scores_alike() {
        let directory = tempdir().unwrap();
        let stop = AtomicBool::new(false);
        let first = session(directory.path(), &plans(), Scripted::new(), &stop);
        let second = session(directory.path(), &plans(), Scripted::new(), &stop);
        assert_eq!(second.asked, 0);
        assert_eq!(second.run, first.run);
        let begun = Event::Begun {
            questions: UNIQUE,
            answered: UNIQUE,
            work: 0,
        };
        assert_eq!(second.events, [begun, Event::Ended]);
    }

    #[test]
    fn tasks_and_documents_may_be_added() {
        let directory = tempdir().unwrap();
        let stop = AtomicBool::new(false);
        session(directory.path(), &[plan("one", 4)], Scripted::new(), &stop)
            .outcome
            .unwrap();
        let second = session(directory.path(), &plans(), Scripted::new(), &stop);
        assert_eq!(second.asked, UNIQUE - (2 * 4 + 2));
        assert_eq!(second.run.tasks, whole().tasks);
    }

    #[test]
    fn events_add_up() {
        let directory = tempdir().unwrap();
        let session = session(
            directory.path(),
            &plans(),
            Scripted::new(),
            &AtomicBool::new(false),
        );
        let (mut planned, mut done, mut answers, mut tokens) = (0, 0, 0, 0);
        for event in &session.events {
            match event {
                Event::Begun { work, .. } => planned = *work,
                Event::Answered { work } => {
                    done += work;
                    answers += 1;
                }
                Event::Computed { unique_tokens } => tokens += unique_tokens,
                Event::Task { .. } | Event::Ended => (),
            }
        }
        assert!(planned > 0);
        assert_eq!((done, answers, tokens), (planned, UNIQUE, 10 * UNIQUE));
    }
}
