//! The command line. Each flag is defined once, here: help, completions and the README's table come from it.

use std::{fmt::Write as _, path::PathBuf};

use clap::{
    Args, Command as ClapCommand, CommandFactory, Parser, Subcommand, ValueEnum, ValueHint,
    builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser},
};
use clap_complete::Shell;
use llama_eval_model::bench::{PlanName, Shape};
use llama_eval_tasks::Protocol;

use crate::{
    exit::Exit,
    judges::{ToxicitySpec, TruthfulnessSpec},
    sandbox::Isolation,
    settings::{BosPolicy, Device, Dtype},
};

const RUN_EXAMPLES: &str = "Examples:
  llama-eval run
      every benchmark's bundled samples on the bundled model
  llama-eval run --model llama-7b --data data --tasks common-sense,mmlu
      a checkpoint on the real benchmarks
  llama-eval run --model llama-7b --data data --tasks boolq --limit 100 --protocol lm-eval
      a hundred documents, prompted and scored as lm-eval does

The same command goes on where it was stopped; `--limit` may grow and `--tasks` may change in between.";

const JUDGE_EXAMPLES: &str = "Examples:
  llama-eval judge out/llama-7b-paper --toxicity classifier:toxic-bert
      unitary/toxic-bert or s-nlp/roberta_toxicity_classifier, downloaded as a folder
  llama-eval judge out/llama-7b-paper --truthfulness llama:truth-judge,info-judge
      allenai/truthfulqa-truth-judge-llama2-7B and allenai/truthfulqa-info-judge-llama2-7B

What was judged before by the same judge is not judged again; a failed judgement is tried again.";

const BENCH_EXAMPLES: &str = "Examples:
  llama-eval bench --shape llama-7b --dtype bf16
      random weights, made on the card
  llama-eval bench --model SmolLM2-135M --plan mmlu --scale 0.05 --json mmlu.json

Plans:
  mmlu       57 prefixes of 600 tokens, 100 questions of 110 tokens each, 4 choices of one token
  hellaswag  10,000 contexts of about 100 tokens, 4 endings of about 25 tokens each
  decode     512 sequences that go on from one prompt of 1,200 tokens, 64 new tokens each";

/// Reruns the evaluation of the LLaMA paper on a checkpoint
#[derive(Debug, Parser)]
#[command(name = "llama-eval", version = crate::VERSION, after_long_help = exit_codes())]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Evaluate a model; without arguments, the bundled one on bundled samples
    #[command(after_long_help = RUN_EXAMPLES)]
    Run(Box<RunArguments>),
    /// Measure how fast a model is computed, beside what the machine could do at most
    #[command(after_long_help = BENCH_EXAMPLES)]
    Bench(Box<BenchArguments>),
    /// Have the texts of a finished run judged, and score it again; needs no model
    #[command(after_long_help = JUDGE_EXAMPLES)]
    Judge(JudgeRunArguments),
    /// List the benchmarks, or show exactly what one of them asks
    #[command(subcommand)]
    Tasks(TasksCommand),
    /// List the data files benchmarks need, or check the ones you have
    #[command(subcommand)]
    Data(DataCommand),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Say what this machine has to offer
    Doctor(DataArguments),
    /// Print the table of flags of `run` in Markdown
    #[command(hide = true)]
    FlagTable,
}

/// `llama-eval tasks`.
#[derive(Debug, Subcommand)]
pub(crate) enum TasksCommand {
    /// Every task with its title, split, size, shots and headline metric
    List {
        /// Whose rules of prompting and scoring
        #[command(flatten)]
        protocol: ProtocolArguments,
    },
    /// One task's card, and the exact prompt and requests of one document
    Show {
        /// The task, such as `arc_easy`
        task: String,
        /// Show this document, counted from 0
        #[arg(long, value_name = "N", default_value_t = 0)]
        document: usize,
        /// Prompting.
        #[command(flatten)]
        prompting: PromptingArguments,
        /// Data.
        #[command(flatten)]
        data: DataArguments,
    },
}

/// `llama-eval data`.
#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// The benchmarks' data, with size and licence
    List,
    /// Read every benchmark's files and check them against their pinned SHA-256
    Verify(DataArguments),
}

/// Whose rules.
#[derive(Args, Clone, Debug)]
pub(crate) struct ProtocolArguments {
    /// Whose rules of prompting and scoring to follow
    #[arg(long, value_enum, value_name = "NAME", default_value = "paper")]
    pub(crate) protocol: ProtocolName,
}

/// What determines a prompt.
#[derive(Args, Clone, Debug)]
pub(crate) struct PromptingArguments {
    /// Whose rules.
    #[command(flatten)]
    pub(crate) protocol: ProtocolArguments,
    /// Few-shot examples in each prompt, instead of each task's own number
    #[arg(long, short = 'f', alias = "num_fewshot", value_name = "N")]
    pub(crate) num_fewshot: Option<usize>,
    /// Seed of the draw of few-shot examples and of generated text
    #[arg(long, value_name = "N", default_value_t = 1234)]
    pub(crate) seed: u64,
}

/// How text is generated.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct GenerationArguments {
    /// Completions drawn per prompt where a benchmark draws any (n of pass@k and maj1@k); 0 leaves majority votes out [default: each task's own; the demo's 4]
    #[arg(long, short = 'n', alias = "num_samples", value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(..=100_000))]
    pub(crate) num_samples: Option<usize>,
    /// The k of pass@k and maj1@k, at most the completions drawn [default: each task's own]
    #[arg(long, short = 'k', alias = "at_k", value_name = "K",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    pub(crate) at_k: Option<usize>,
    /// Most tokens of a completion [default: each task's own]
    #[arg(long, aliases = ["max_new_tokens", "max_gen_toks"], value_name = "TOKENS",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    pub(crate) max_new_tokens: Option<usize>,
}

/// Who judges generated text.
#[derive(Args, Clone, Debug)]
pub(crate) struct JudgeArguments {
    /// Who judges toxicity: `classifier:DIR` (Hugging Face folder of a BERT or RoBERTa classifier) or `perspective[:URL]`
    #[arg(long, value_name = "JUDGE")]
    pub(crate) toxicity: Option<ToxicitySpec>,
    /// Who judges truthfulness: `llama:TRUTH_MODEL[,INFO_MODEL]` or `endpoint:URL,model=NAME[,info-model=NAME]`
    #[arg(long, value_name = "JUDGE")]
    pub(crate) truthfulness: Option<TruthfulnessSpec>,
}

/// `llama-eval judge`.
#[derive(Args, Clone, Debug)]
pub(crate) struct JudgeRunArguments {
    /// Output folder of the run
    #[arg(value_name = "RUN", value_hint = ValueHint::DirPath)]
    pub(crate) run: PathBuf,
    /// Judges.
    #[command(flatten)]
    pub(crate) judges: JudgeArguments,
    /// Also write every document with its prompts and answers, as lm-eval's `samples_*.jsonl`
    #[arg(long, short = 's', alias = "log_samples")]
    pub(crate) log_samples: bool,
}

/// Where documents come from.
#[derive(Args, Clone, Debug)]
pub(crate) struct DataArguments {
    /// Folder with the benchmarks' files, found by what they contain [default: the bundled samples]
    #[arg(long, value_name = "DIR", env = "LLAMA_EVAL_DATA", value_hint = ValueHint::DirPath)]
    pub(crate) data: Option<PathBuf>,
}

/// Which checkpoint.
#[derive(Args, Clone, Debug)]
pub(crate) struct CheckpointArguments {
    /// Checkpoint: a GGUF file, or a folder with safetensors and a tokenizer [default: the bundled model]
    #[arg(long, short = 'M', value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) model: Option<PathBuf>,
}

/// Where and how a model is computed.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct ComputingArguments {
    /// Where to compute: `auto`, `cpu` or `cuda:N`
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: Device,
    /// Type to keep the weights and compute in; `auto` is bf16 on a card and f32 on the CPU
    #[arg(long, value_enum, value_name = "TYPE", default_value = "auto")]
    pub(crate) dtype: Dtype,
    /// Tokens computed at once; results do not depend on it [default: what fits into `--memory`]
    #[arg(long, alias = "batch_rows", value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub(crate) batch_rows: Option<usize>,
    /// Memory that weights and one batch may take, in GiB [default: what is free]
    #[arg(long, value_name = "GIB", value_parser = gibibytes)]
    pub(crate) memory: Option<f64>,
}

/// `llama-eval bench`.
#[derive(Args, Clone, Debug)]
pub(crate) struct BenchArguments {
    /// The model.
    #[command(flatten)]
    pub(crate) checkpoint: CheckpointArguments,
    /// Measure random weights of this shape instead of a checkpoint
    #[arg(long, value_name = "NAME", conflicts_with = "model",
          value_parser = PossibleValuesParser::new(Shape::ALL.map(|(name, _)| name))
              .try_map(|name| name.parse::<Shape>()))]
    pub(crate) shape: Option<Shape>,
    /// What to measure, separated by commas
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', default_value = "mmlu,hellaswag,decode",
          value_parser = PossibleValuesParser::new(PlanName::ALL.map(|(name, _)| name))
              .try_map(|name| name.parse::<PlanName>()))]
    pub(crate) plan: Vec<PlanName>,
    /// Times as many prefixes, contexts and sequences [default: 1 on a card, 0.01 on the CPU]
    #[arg(long, value_name = "F", value_parser = scale)]
    pub(crate) scale: Option<f64>,
    /// Measure so many rounds after one batch to warm up, and report their median
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pub(crate) repeat: usize,
    /// How it is computed.
    #[command(flatten)]
    pub(crate) computing: ComputingArguments,
    /// Also write the figures as JSON; `-` writes them to standard output, and the table to standard error
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) json: Option<PathBuf>,
    /// Only print the sizes of the model and the token ids of a plan as JSON, for other programs to be measured on
    #[arg(long, value_name = "NAME", conflicts_with_all = ["plan", "json"],
          value_parser = PossibleValuesParser::new(PlanName::ALL.map(|(name, _)| name))
              .try_map(|name| name.parse::<PlanName>()))]
    pub(crate) print_plan: Option<PlanName>,
}

/// `llama-eval run`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RunArguments {
    /// The model.
    #[command(flatten)]
    pub(crate) checkpoint: CheckpointArguments,
    /// A `tokenizer.json` to use instead of the checkpoint's own tokenizer
    #[arg(long, value_name = "FILE")]
    pub(crate) tokenizer: Option<PathBuf>,
    /// Tasks and suites, separated by commas [default: those of `--samples`, else `llama1,truthfulqa_mc`]
    #[arg(long, short = 't', value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) tasks: Vec<String>,
    /// Prompting.
    #[command(flatten)]
    pub(crate) prompting: PromptingArguments,
    /// Evaluate only the first N documents of each task
    #[arg(long, short = 'L', value_name = "N", conflicts_with = "samples",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub(crate) limit: Option<usize>,
    /// Evaluate only these documents: a file with JSON like `{"boolq": [0, 7]}`; tasks it does not name are evaluated whole
    #[arg(long, short = 'E', value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) samples: Option<PathBuf>,
    /// Data.
    #[command(flatten)]
    pub(crate) data: DataArguments,
    /// Generated text.
    #[command(flatten)]
    pub(crate) generation: GenerationArguments,
    /// How programs that the model wrote are kept from doing harm
    #[arg(long, value_enum, value_name = "HOW", default_value = "namespaces")]
    pub(crate) sandbox: Isolation,
    /// Run the reference solutions of the code benchmarks in the sandbox instead of the model's
    #[arg(long, alias = "check_references")]
    pub(crate) check_references: bool,
    /// Judges.
    #[command(flatten)]
    pub(crate) judges: JudgeArguments,
    /// Where choices are compared, also ask for the choice after "Answer:" alone, `always` or where it is `needed` for the headline metric
    #[arg(long, value_enum, value_name = "WHEN", default_value = "always")]
    pub(crate) answer_context: AnswerContext,
    /// How it is computed.
    #[command(flatten)]
    pub(crate) computing: ComputingArguments,
    /// Put BOS before every prompt? `auto` does what the tokenizer does
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto")]
    pub(crate) bos: BosPolicy,
    /// Longest sequence in tokens, instead of the model's own limit
    #[arg(long, alias = "max_length", value_name = "TOKENS",
          value_parser = RangedU64ValueParser::<usize>::new().range(2..))]
    pub(crate) max_length: Option<usize>,
    /// Folder for the store and the results [default: `out/<model>-<protocol>`, the demo's `out/demo`]
    #[arg(long, short = 'o', aliases = ["output_path", "output-path"], value_name = "DIR",
          value_hint = ValueHint::DirPath)]
    pub(crate) output: Option<PathBuf>,
    /// Also write every document with its prompts and answers, as lm-eval's `samples_*.jsonl`
    #[arg(long, short = 's', alias = "log_samples")]
    pub(crate) log_samples: bool,
    /// Only say what would be asked: requests, tokens, memory
    #[arg(long, alias = "dry_run")]
    pub(crate) dry_run: bool,
}

/// `--answer-context`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AnswerContext {
    /// For every comparison of choices
    Always,
    /// Where the headline metric divides by it
    Needed,
}

/// `--protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProtocolName {
    /// The LLaMA paper's
    Paper,
    /// EleutherAI's lm-evaluation-harness, 0.4.13
    LmEval,
}

impl From<ProtocolName> for Protocol {
    fn from(name: ProtocolName) -> Self {
        match name {
            ProtocolName::Paper => Self::Paper,
            ProtocolName::LmEval => Self::LmEval,
        }
    }
}

fn gibibytes(text: &str) -> Result<f64, String> {
    let gibibytes: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if gibibytes.is_finite() && gibibytes > 0.0 && gibibytes <= 1e6 {
        Ok(gibibytes)
    } else {
        Err("not a number of GiB above 0".to_owned())
    }
}

fn scale(text: &str) -> Result<f64, String> {
    let scale: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if scale > 0.0 && scale <= 100.0 {
        Ok(scale)
    } else {
        Err("not a number above 0, up to 100".to_owned())
    }
}

/// The section of `--help` on exit codes.
fn exit_codes() -> String {
    let mut text = "Exit codes:".to_owned();
    for exit in Exit::ALL {
        let _ = write!(text, "\n  {}  {}", exit as u8, exit.meaning());
    }
    text
}

/// The flags of `run` as a Markdown table, for the README.
pub(crate) fn flag_table() -> String {
    let mut table = "| Flag | Meaning | Default |\n|---|---|---|\n".to_owned();
    let command = Cli::command();
    let run = command
        .find_subcommand("run")
        .into_iter()
        .flat_map(ClapCommand::get_arguments);
    for argument in run {
        let Some(long) = argument.get_long().filter(|&long| long != "help") else {
            continue;
        };
        let mut flag = format!("--{long}");
        if argument.get_action().takes_values() {
            for name in argument.get_value_names().unwrap_or_default() {
                let _ = write!(flag, " {name}");
            }
        }
        let help = argument
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let (meaning, written) = match help.split_once(" [default: ") {
            Some((meaning, default)) => (meaning, default.trim_end_matches(']').to_owned()),
            None => (help.as_str(), String::new()),
        };
        let values = argument.get_default_values();
        let default = match values.first().map(|value| value.to_string_lossy()) {
            Some(value) if argument.get_action().takes_values() => format!("`{value}`"),
            _ => written,
        };
        let possible = argument.get_possible_values();
        let names: Vec<_> = possible
            .iter()
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        let choices = match names.as_slice() {
            [] => String::new(),
            _ if !argument.get_action().takes_values() => String::new(),
            names => format!(" ({})", names.join(", ")),
        };
        let row = format!("| `{flag}` | {meaning}{choices} | {default} |\n");
        table.push_str(&row.replace("|...", "..."));
    }
    table
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::fs;

    use super::*;

    const BEGIN: &str = "<!-- flags:begin -->\n";
    const END: &str = "<!-- flags:end -->";

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lm_evals_spellings_are_understood() {
        let line = "llama-eval run --num_fewshot 5 --output_path there --log_samples --max_length 99 --dry_run";
        let Command::Run(arguments) = Cli::try_parse_from(line.split(' ')).unwrap().command else {
            panic!()
        };
        assert_eq!(arguments.prompting.num_fewshot, Some(5));
        assert_eq!(arguments.output, Some(PathBuf::from("there")));
        assert_eq!(arguments.max_length, Some(99));
        assert!(arguments.log_samples && arguments.dry_run);
    }

    #[test]
    fn every_flag_is_documented_and_stands_in_the_table() {
        let table = flag_table();
        for argument in Cli::command()
            .find_subcommand("run")
            .unwrap()
            .get_arguments()
        {
            assert!(argument.get_help().is_some(), "{}", argument.get_id());
            if let Some(long) = argument.get_long() {
                assert!(
                    long == "help" || table.contains(&format!("`--{long}")),
                    "{long}"
                );
            }
        }
        assert!(
            table
                .lines()
                .all(|line| line.matches(" | ").count() == 2 || line.starts_with("|---")),
            "{table}"
        );
    }

    /// The README is written by hand but for this table.
    #[test]
    fn the_readme_holds_the_flag_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
        let Some(readme) = fs::read_to_string(path)
            .ok()
            .filter(|readme| readme.contains(BEGIN))
        else {
            println!("skipped: README.md with the marker {BEGIN:?} not found");
            return;
        };
        let (_, rest) = readme.split_once(BEGIN).unwrap();
        let (found, _) = rest
            .split_once(END)
            .expect("README.md has a marker `flags:begin` but no `flags:end`");
        let expected = format!("\n{}\n", flag_table());
        assert!(
            found.trim() == expected.trim(),
            "put the output of `llama-eval flag-table` between the markers of README.md:\n{expected}"
        );
    }
}
