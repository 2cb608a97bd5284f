//! Reruns the evaluation of the LLaMA paper on a checkpoint.

mod agenda;
mod ask;
mod backend;
mod bench;
mod checks;
mod cli;
mod events;
mod exit;
mod inspect;
mod interrupt;
mod judges;
mod judging;
mod key;
mod messages;
mod overview;
mod progress;
mod rows;
mod run;
mod sandbox;
mod scores;
#[cfg(test)]
mod scripted;
mod settings;
mod store;

use std::{env, process::ExitCode};

use clap::{CommandFactory, Parser};

use crate::{
    cli::{Cli, Command, DataCommand, TasksCommand},
    exit::Exit,
    settings::Settings,
};

/// Version of the program, with the commit where the build was told it.
const VERSION: &str = match option_env!("LLAMA_EVAL_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

fn main() -> ExitCode {
    if let Some(code) = sandbox::intercept() {
        return code;
    }
    let exit = obey(Cli::parse().command).unwrap_or_else(|error| {
        let exit = Exit::of(&error);
        match exit {
            Exit::Success => (),
            Exit::Interrupted => {
                messages::note(&error.root_cause().to_string());
                messages::hint(&format!(
                    "go on with the same command: `{}`",
                    command_line()
                ));
            }
            _ => messages::error(&error),
        }
        exit
    });
    exit.into()
}

fn obey(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Run(arguments) => {
            let settings = Settings::resolve(&arguments)?;
            if arguments.check_references {
                judging::check_references(&settings)
            } else if arguments.dry_run {
                run::dry_run(&settings)
            } else {
                run::run(&settings)
            }
        }
        Command::Bench(arguments) => bench::bench(&arguments),
        Command::Judge(arguments) => judging::judge(&arguments),
        Command::Tasks(TasksCommand::List { protocol }) => {
            inspect::list_tasks(protocol.protocol.into())
        }
        Command::Tasks(TasksCommand::Show {
            task,
            document,
            prompting,
            data,
        }) => inspect::show_task(&task, document, &prompting, &data),
        Command::Data(DataCommand::List) => inspect::list_data(),
        Command::Data(DataCommand::Verify(data)) => inspect::verify_data(&data),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "llama-eval", &mut script);
            run::print(&String::from_utf8_lossy(&script))?;
            Ok(Exit::Success)
        }
        Command::Doctor(data) => inspect::doctor(&data),
        Command::FlagTable => {
            run::print(&cli::flag_table())?;
            Ok(Exit::Success)
        }
    }
}

/// What the user typed, quoted where a shell needs it.
fn command_line() -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@+".contains(c);
    let quote = |word: String| match word.chars().all(plain) && !word.is_empty() {
        true => word,
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    env::args().map(quote).collect::<Vec<_>>().join(" ")
}
