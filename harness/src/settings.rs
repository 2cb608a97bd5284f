//! What a run does, resolved once from the command line; everything else takes [`Settings`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use clap::ValueEnum;
use llama_eval_tasks::{DataDir, GenerationOptions, Protocol, Selection, Task, suites};
use serde::{Deserialize, Serialize};

use crate::{
    cli::{AnswerContext, RunArguments},
    judges::{ToxicitySpec, TruthfulnessSpec},
    sandbox::Isolation,
};

/// What is run when nothing else was asked for: the paper, and TruthfulQA's choices beside its judged answers.
const DEFAULT_TASKS: &[&str] = &["llama1", "truthfulqa_mc"];
/// Sampled completions per prompt of the bundled model, which is there to try the program.
const DEMO_SAMPLES: usize = 4;
/// Folder of all default output directories.
const DEFAULT_OUTPUT: &str = "out";
/// Largest samples file in bytes: all documents of all benchmarks are far below.
const MAX_SAMPLES_BYTES: u64 = 16 << 20;
/// What a samples file must look like.
const SAMPLES_HINT: &str = "write one JSON object, such as {\"boolq\": [0, 7], \"piqa\": [3]}";

/// Everything a run was asked to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// The checkpoint; `None` for the bundled one.
    pub(crate) model: Option<PathBuf>,
    /// `--tokenizer`.
    pub(crate) tokenizer: Option<PathBuf>,
    /// Names of the tasks, suites resolved.
    pub(crate) tasks: Vec<String>,
    /// Tasks of suites of which no samples are bundled, left out where there is no other data.
    pub(crate) left_out: Vec<String>,
    /// Whose rules.
    pub(crate) protocol: Protocol,
    /// `--num-fewshot`; `None` for each task's own.
    pub(crate) num_fewshot: Option<usize>,
    /// `--answer-context needed`.
    pub(crate) needed_denominators: bool,
    /// `--limit`.
    pub(crate) limit: Option<usize>,
    /// `--samples`: documents by task name, ascending and without repeats.
    pub(crate) samples: Option<BTreeMap<String, Vec<usize>>>,
    /// Seed of the few-shot draws and of generated text.
    pub(crate) seed: u64,
    /// `--num-samples`; `None` for each task's own.
    #[serde(default)]
    pub(crate) num_samples: Option<usize>,
    /// `--at-k`; `None` for each task's own.
    #[serde(default)]
    pub(crate) at_k: Option<usize>,
    /// `--max-new-tokens`; `None` for each task's own.
    #[serde(default)]
    pub(crate) max_new_tokens: Option<usize>,
    /// `--sandbox`.
    #[serde(default)]
    pub(crate) sandbox: Isolation,
    /// `--toxicity`.
    #[serde(default)]
    pub(crate) toxicity: Option<ToxicitySpec>,
    /// `--truthfulness`.
    #[serde(default)]
    pub(crate) truthfulness: Option<TruthfulnessSpec>,
    /// Was it the program that chose the tasks?
    #[serde(default)]
    pub(crate) default_tasks: bool,
    /// Folder of the data; `None` for the bundled samples.
    pub(crate) data: Option<PathBuf>,
    /// `--device`, unresolved.
    pub(crate) device: Device,
    /// `--dtype`.
    pub(crate) dtype: Dtype,
    /// `--bos`, unresolved.
    pub(crate) bos: BosPolicy,
    /// `--max-length`, in tokens.
    pub(crate) max_length: Option<usize>,
    /// `--batch-rows`, in tokens.
    pub(crate) batch_rows: Option<usize>,
    /// `--memory`, in bytes.
    pub(crate) memory_bytes: Option<u64>,
    /// Output directory.
    pub(crate) output: PathBuf,
    /// `--log-samples`.
    pub(crate) log_samples: bool,
}

impl Settings {
    /// Resolves suites, the samples file and defaults.
    ///
    /// # Errors
    /// An unknown task, or a samples file that cannot be used.
    pub(crate) fn resolve(arguments: &RunArguments) -> anyhow::Result<Self> {
        let samples = arguments.samples.as_deref().map(read_samples).transpose()?;
        let asked: Vec<String> = match (&arguments.tasks, &samples) {
            (tasks, _) if !tasks.is_empty() => {
                tasks.iter().map(|name| name.trim().to_owned()).collect()
            }
            (_, Some(samples)) => samples.keys().cloned().collect(),
            _ => DEFAULT_TASKS.iter().map(|&name| name.to_owned()).collect(),
        };
        let default_tasks = arguments.tasks.is_empty() && samples.is_none();
        let protocol = Protocol::from(arguments.prompting.protocol.protocol);
        let resolved = suites::resolve(&asked, &Default::default())?;
        let (tasks, left_out) = match &arguments.data.data {
            Some(_) => (resolved, Vec::new()),
            None => resolved
                .into_iter()
                .partition(|task| asked.contains(&task.card().name) || has_samples(task)),
        };
        Ok(Self {
            model: arguments.checkpoint.model.clone(),
            tokenizer: arguments.tokenizer.clone(),
            tasks: names(&tasks),
            left_out: names(&left_out),
            protocol,
            num_fewshot: arguments.prompting.num_fewshot,
            needed_denominators: arguments.answer_context == AnswerContext::Needed,
            limit: arguments.limit,
            samples: samples.map(by_task).transpose()?,
            seed: arguments.prompting.seed,
            num_samples: arguments.generation.num_samples.or(arguments
                .checkpoint
                .model
                .is_none()
                .then_some(DEMO_SAMPLES)),
            at_k: arguments.generation.at_k,
            max_new_tokens: arguments.generation.max_new_tokens,
            sandbox: arguments.sandbox,
            toxicity: arguments.judges.toxicity.clone(),
            truthfulness: arguments.judges.truthfulness.clone(),
            default_tasks,
            data: arguments.data.data.clone(),
            device: arguments.computing.device,
            dtype: arguments.computing.dtype,
            bos: arguments.bos,
            max_length: arguments.max_length,
            batch_rows: arguments.computing.batch_rows,
            memory_bytes: arguments.computing.memory.map(bytes),
            output: arguments
                .output
                .clone()
                .unwrap_or_else(|| default_output(arguments.checkpoint.model.as_deref(), protocol)),
            log_samples: arguments.log_samples,
        })
    }

    /// Which documents of `task` are evaluated, and with which examples.
    pub(crate) fn selection(&self, task: &str) -> Selection {
        Selection {
            limit: self.limit,
            documents: self
                .samples
                .as_ref()
                .and_then(|samples| samples.get(task).cloned()),
            needed_denominators: self.needed_denominators,
            shots: self.num_fewshot,
            seed: self.seed,
        }
    }

    /// How tasks generate.
    pub(crate) fn generation(&self) -> GenerationOptions {
        GenerationOptions {
            seed: self.seed,
            samples: self.num_samples,
            k: self.at_k,
            max_new_tokens: self.max_new_tokens,
        }
    }

    /// What the data is, for people.
    pub(crate) fn data_name(&self) -> &'static str {
        if self.data.is_some() {
            "the benchmarks' files"
        } else {
            "the bundled samples"
        }
    }

    /// What one output directory must agree on, with the flag that sets it. Tasks, limits and samples
    /// are not among it (they choose documents), nor are numbers of completions (which may grow) and judges
    /// (which may follow later), nor is what only makes a run slower or faster.
    pub(crate) fn meaning(&self) -> Vec<(&'static str, String)> {
        let shots = self
            .num_fewshot
            .map_or("each task's own".to_owned(), |shots| shots.to_string());
        let new_tokens = self
            .max_new_tokens
            .map_or("each task's own".to_owned(), |tokens| tokens.to_string());
        vec![
            ("--protocol", protocol_name(self.protocol).to_owned()),
            ("--num-fewshot", shots),
            ("--seed", self.seed.to_string()),
            ("--max-new-tokens", new_tokens),
            ("--data", self.data_name().to_owned()),
        ]
    }
}

/// `paper` or `lm-eval`.
pub(crate) fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Paper => "paper",
        Protocol::LmEval => "lm-eval",
    }
}

/// Are samples of this task part of the program?
fn has_samples(task: &Arc<dyn Task>) -> bool {
    task.documents(&DataDir::bundled(), Protocol::Paper).is_ok()
}

fn by_task(
    samples: BTreeMap<String, BTreeSet<usize>>,
) -> anyhow::Result<BTreeMap<String, Vec<usize>>> {
    let mut merged: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (name, documents) in samples {
        for task in names(&suites::resolve(&[name], &Default::default())?) {
            merged.entry(task).or_default().extend(&documents);
        }
    }
    Ok(merged
        .into_iter()
        .map(|(task, documents)| (task, documents.into_iter().collect()))
        .collect())
}

fn names(tasks: &[Arc<dyn Task>]) -> Vec<String> {
    tasks.iter().map(|task| task.card().name.clone()).collect()
}

fn read_samples(path: &Path) -> Result<BTreeMap<String, BTreeSet<usize>>, SettingsError> {
    let error = |problem: String| SettingsError {
        place: path.display().to_string(),
        problem,
        hint: SAMPLES_HINT,
    };
    let text = read_bounded(path, MAX_SAMPLES_BYTES).map_err(|failure| error(reason(&failure)))?;
    let samples: BTreeMap<String, BTreeSet<usize>> = serde_json::from_str(&text)
        .map_err(|failure| error(format!("not a samples file: {failure}")))?;
    match samples.iter().find(|(_, documents)| documents.is_empty()) {
        Some((task, _)) => Err(error(format!("no documents are given for `{task}`"))),
        None if samples.is_empty() => Err(error("no tasks are given".to_owned())),
        None => Ok(samples),
    }
}

fn read_bounded(path: &Path, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(limit + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("the file has more than {limit} bytes"),
        ));
    }
    Ok(text)
}

/// What an I/O error says, without the operating system's number.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

fn default_output(model: Option<&Path>, protocol: Protocol) -> PathBuf {
    let name = match (model, protocol) {
        (None, Protocol::Paper) => "demo".to_owned(),
        (model, protocol) => format!(
            "{}-{}",
            model.map_or("demo".to_owned(), model_name),
            protocol_name(protocol)
        ),
    };
    Path::new(DEFAULT_OUTPUT).join(name)
}

/// A checkpoint's name as part of a folder's name: the file's without its ending, or the folder's.
fn model_name(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let gguf = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    let name = if gguf {
        path.file_stem()
    } else {
        path.file_name()
    };
    let name = name.map_or("model".into(), |name| name.to_string_lossy());
    name.chars()
        .map(|c| {
            if c.is_alphanumeric() || "-._".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect()
}

/// GiB as whole bytes.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the parser bounds it to 0..1e6"
)]
pub(crate) fn bytes(gibibytes: f64) -> u64 {
    (gibibytes * f64::from(1 << 30)) as u64
}

/// A command line that cannot be followed, beyond what clap sees.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}\nhint: {hint}")]
pub(crate) struct SettingsError {
    /// The file or flag.
    pub(crate) place: String,
    /// What is wrong.
    pub(crate) problem: String,
    /// What to do next.
    pub(crate) hint: &'static str,
}

/// `--device`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Device {
    /// The first CUDA device if there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device by number.
    Cuda(usize),
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse().map(Self::Cuda).ok();
        let device = match text {
            "auto" => Some(Self::Auto),
            "cpu" => Some(Self::Cpu),
            "cuda" => Some(Self::Cuda(0)),
            _ => text.strip_prefix("cuda:").and_then(number),
        };
        device.ok_or_else(|| "expected `auto`, `cpu` or `cuda:N`".to_owned())
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// `--dtype`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Dtype {
    /// bf16 on a card, f32 on the CPU
    Auto,
    /// 32 bits
    F32,
    /// 16 bits, range of f32
    Bf16,
    /// 16 bits
    F16,
}

/// `--bos`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BosPolicy {
    /// As the tokenizer does
    Auto,
    /// Before every prompt
    Always,
    /// Only where the prompt is empty
    Never,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::fs;

    use super::*;

    #[test]
    fn devices_are_read_and_written_alike() {
        for text in ["auto", "cpu", "cuda:0", "cuda:7"] {
            assert_eq!(text.parse::<Device>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        for text in [
            "",
            "gpu",
            "cuda:",
            "cuda:-1",
            "cuda:99999999999999999999",
            "CPU",
        ] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }

    #[test]
    fn output_directories_are_named_after_model_and_protocol() {
        let output = |model: Option<&str>, protocol| default_output(model.map(Path::new), protocol);
        assert_eq!(output(None, Protocol::Paper), Path::new("out/demo"));
        assert_eq!(
            output(None, Protocol::LmEval),
            Path::new("out/demo-lm-eval")
        );
        assert_eq!(
            output(Some("models/llama-7b"), Protocol::Paper),
            Path::new("out/llama-7b-paper")
        );
        assert_eq!(
            output(Some("a b/x:y.Q4_1.gguf"), Protocol::LmEval),
            Path::new("out/x_y.Q4_1-lm-eval")
        );
        assert_eq!(
            output(Some("/"), Protocol::Paper),
            Path::new("out/model-paper")
        );
    }

    #[test]
    fn samples_are_sorted_and_unique() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("samples.json");
        fs::write(&path, r#"{"a": [3, 1, 3]}"#).unwrap();
        assert_eq!(
            read_samples(&path).unwrap(),
            BTreeMap::from([("a".to_owned(), BTreeSet::from([1, 3]))])
        );
    }

    #[test]
    fn bad_samples_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("samples.json");
        for (text, problem) in [
            ("", "EOF while parsing"),
            ("[1]", "invalid type: sequence"),
            (r#"{"a": [-1]}"#, "integer `-1`"),
            (r#"{"a": [0.5]}"#, "0.5"),
            (r#"{"a": []}"#, "no documents are given for `a`"),
            ("{}", "no tasks are given"),
        ] {
            fs::write(&path, text).unwrap();
            let error = read_samples(&path).unwrap_err();
            assert!(error.problem.contains(problem), "{error}");
            assert_eq!(error.place, path.display().to_string());
        }
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(read_samples(&path).unwrap_err().problem.contains("UTF-8"));
        assert_eq!(
            read_samples(&folder.path().join("none"))
                .unwrap_err()
                .problem,
            "No such file or directory"
        );
    }

    #[test]
    fn unbounded_files_are_not_read_whole() {
        let error = read_bounded(Path::new("/dev/zero"), 1000).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
