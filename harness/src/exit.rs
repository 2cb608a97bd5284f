//! Exit codes, and which error leads to which.

use std::{io, process::ExitCode};

use llama_eval_model::ModelError;
use llama_eval_reports::ReportError;
use llama_eval_tasks::{DataError, suites::UnknownTask};

use crate::{
    ask::Interrupted, judges::JudgeError, sandbox::SandboxError, settings::SettingsError,
    store::StoreError,
};

/// How the program ended. The numbers are part of its interface and never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Everything was done.
    Success = 0,
    /// Something nobody foresaw.
    Unexpected = 1,
    /// The command line, or a file it names, makes no sense (clap's own code).
    Usage = 2,
    /// A task or suite that does not exist.
    UnknownTask = 3,
    /// A data file is missing, wrong or malformed.
    Data = 4,
    /// The checkpoint or its tokenizer cannot be used.
    Checkpoint = 5,
    /// The device or its memory failed.
    Device = 6,
    /// The output directory or its store cannot be used.
    Output = 7,
    /// Everything was done, but some documents have no score.
    Unscored = 8,
    /// Stopped half way by a signal; the same command goes on.
    Interrupted = 9,
    /// Generated programs cannot be isolated here, or a judge cannot be asked.
    Judge = 10,
    /// The card was lost, or its memory taken by others, half way; the same command goes on.
    Card = 11,
}

impl Exit {
    /// Every code, ascending.
    pub(crate) const ALL: [Self; 12] = [
        Self::Success,
        Self::Unexpected,
        Self::Usage,
        Self::UnknownTask,
        Self::Data,
        Self::Checkpoint,
        Self::Device,
        Self::Output,
        Self::Unscored,
        Self::Interrupted,
        Self::Judge,
        Self::Card,
    ];

    /// What it means, for the help text.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Unexpected => "unexpected error",
            Self::Usage => "wrong usage",
            Self::UnknownTask => "unknown task or suite",
            Self::Data => "data file missing, wrong or malformed",
            Self::Checkpoint => "checkpoint or tokenizer unusable",
            Self::Device => "device failure",
            Self::Output => "output directory or store unusable",
            Self::Unscored => "finished, but some documents have no score",
            Self::Interrupted => "interrupted; the same command goes on where it stopped",
            Self::Judge => "sandbox or judge unusable",
            Self::Card => "card lost or full half way; the same command goes on where it stopped",
        }
    }

    /// The code an error stands for.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        error.chain().find_map(of_cause).unwrap_or(Self::Unexpected)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if let Some(error) = cause.downcast_ref::<ModelError>() {
        return of_model(error);
    }
    if let Some(error) = cause.downcast_ref::<io::Error>()
        && error.kind() == io::ErrorKind::BrokenPipe
    {
        // Whoever read the output has seen enough (`llama-eval tasks list | head`).
        return Some(Exit::Success);
    }
    let kinds = [
        (cause.is::<SettingsError>(), Exit::Usage),
        (cause.is::<UnknownTask>(), Exit::UnknownTask),
        (cause.is::<DataError>(), Exit::Data),
        (cause.is::<StoreError>(), Exit::Output),
        (cause.is::<ReportError>(), Exit::Output),
        (cause.is::<Interrupted>(), Exit::Interrupted),
        (cause.is::<SandboxError>(), Exit::Judge),
        (cause.is::<JudgeError>(), Exit::Judge),
    ];
    kinds.into_iter().find_map(|(is, exit)| is.then_some(exit))
}

fn of_model(error: &ModelError) -> Option<Exit> {
    match error {
        ModelError::Checkpoint { .. } | ModelError::Tokenizer(_) => Some(Exit::Checkpoint),
        ModelError::Device(_) | ModelError::Card(_) => Some(Exit::Device),
        ModelError::CardFailed(_) => Some(Exit::Card),
        ModelError::Sink(inner) => of_cause(&**inner),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_their_positions() {
        for (position, exit) in Exit::ALL.into_iter().enumerate() {
            assert_eq!(exit as usize, position);
        }
    }

    #[test]
    fn an_error_that_passed_through_the_model_keeps_its_code() {
        let interrupted = ModelError::Sink(Box::new(Interrupted::WhileAsking {
            answered: 1,
            questions: 2,
        }));
        assert_eq!(Exit::of(&interrupted.into()), Exit::Interrupted);
        let device = anyhow::Error::from(ModelError::Device("out of memory".to_owned()))
            .context("asking `boolq`");
        assert_eq!(Exit::of(&device), Exit::Device);
    }

    #[test]
    fn a_reader_that_left_is_no_failure() {
        let error = io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(Exit::of(&error.into()), Exit::Success);
        let error = io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(Exit::of(&error.into()), Exit::Unexpected);
    }
}
