//! Commands that only look: `tasks`, `data`, `doctor`.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, sync::Arc};

use llama_eval_model::{Generation, Request, Sampling};
use llama_eval_tasks::{
    Card, DataDir, DataError, Item, Pin, Protocol, Selection, Source, Task, TaskPlan, pins, plan,
    suites,
};

use crate::{
    VERSION, backend,
    cli::{DataArguments, PromptingArguments},
    exit::Exit,
    messages::{columns, count, counted},
    run::print,
    sandbox::{Isolation, Limits, Sandbox},
    settings::{SettingsError, protocol_name},
};

/// Both, for what must hold under either.
const PROTOCOLS: [Protocol; 2] = [Protocol::Paper, Protocol::LmEval];

/// `tasks list`.
///
/// # Errors
/// When stdout fails.
pub(crate) fn list_tasks(protocol: Protocol) -> anyhow::Result<Exit> {
    let heads = [
        "task",
        "title",
        "split",
        "documents",
        "shots",
        "headline",
        "group",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(suites::all(&Default::default()).iter().map(|task| {
        let card = task.card();
        vec![
            card.name.clone(),
            card.title.to_owned(),
            card.split.to_owned(),
            count(card.documents as u64),
            count(card.shots as u64),
            card.headline(protocol).to_owned(),
            card.group.unwrap_or_default().to_owned(),
        ]
    }));
    print(&columns(&rows))?;
    Ok(Exit::Success)
}

/// `tasks show`.
///
/// # Errors
/// An unknown task, one that stands for several, a document that is not there, or unusable data.
pub(crate) fn show_task(
    name: &str,
    document: usize,
    prompting: &PromptingArguments,
    data: &DataArguments,
) -> anyhow::Result<Exit> {
    let tasks = suites::resolve(&[name.to_owned()], &Default::default())?;
    let [task] = tasks.as_slice() else {
        let problem = format!("stands for {}", counted(tasks.len(), "task"));
        let hint = "name one of them: `llama-eval tasks list`";
        return Err(SettingsError {
            place: name.to_owned(),
            problem,
            hint,
        }
        .into());
    };
    let protocol = Protocol::from(prompting.protocol.protocol);
    let selection = Selection {
        needed_denominators: false,
        limit: None,
        documents: Some(vec![document]),
        shots: prompting.num_fewshot,
        seed: prompting.seed,
    };
    let data = backend::open_data(data.data.as_deref())?;
    let plan = plan(task, &data, protocol, &selection)?;
    let mut text = card(&plan);
    for item in &plan.items {
        show_item(&mut text, task.as_ref(), item)?;
    }
    print(&text)?;
    Ok(Exit::Success)
}

fn card(plan: &TaskPlan) -> String {
    let card @ Card {
        name,
        title,
        version,
        split,
        licence,
        citation,
        ..
    } = plan.task.card();
    let protocol = protocol_name(plan.protocol);
    let mut text = format!("{name} ({title}), version {version}, protocol {protocol}\n\n");
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(text, "{label:<10} {value}");
    };
    line(
        "split",
        &format!("{split}, {}", counted(plan.split_documents, "document")),
    );
    line("shots", &plan.shots.to_string());
    if let Some((table, column)) = card.published {
        line("paper", &format!("table {table}, {column}"));
    }
    for metric in card.metrics.iter() {
        let mark = if metric.name == card.headline(plan.protocol) {
            " (headline)"
        } else {
            ""
        };
        line("metric", &format!("{}{mark}: {}", metric.name, metric.rule));
    }
    line("licence", licence);
    line("citation", citation);
    for (file, sha256) in &plan.data_sha256 {
        line("data", &format!("{file}, SHA-256 {sha256}"));
    }
    text
}

fn show_item(text: &mut String, task: &dyn Task, item: &Item) -> anyhow::Result<()> {
    let document = &item.document;
    writeln!(text, "\ndocument {} ({})", document.index, document.id)?;
    for (name, value) in &document.fields {
        writeln!(text, "  {name}: {value}")?;
    }
    writeln!(text, "  target: {}", task.target(document))?;
    let mut last = None;
    for (number, request) in item.requests.iter().enumerate() {
        let (prompt, asked) = match request {
            Request::LogLikelihood {
                prompt,
                continuation,
            } => (prompt, serde_json::to_string(continuation)?),
            // The samples of a prompt differ in their number alone.
            Request::Generate { sample, .. } if *sample > 0 => continue,
            Request::Generate { generation, .. } => (&generation.prompt, generated(generation)?),
            _ => continue,
        };
        if last != Some(prompt) {
            writeln!(text, "\ncontext")?;
            // A mark before each line shows where spaces and line ends are.
            for line in prompt.text().split('\n') {
                writeln!(text, "  │{line}")?;
            }
            last = Some(prompt);
        }
        writeln!(text, "request {number}: {asked}")?;
    }
    let samples = item.requests.iter();
    let samples = samples.filter(|request| matches!(request, Request::Generate { .. }));
    match samples.count() {
        0 => (),
        completions => writeln!(text, "in all {}", counted(completions, "completion"))?,
    }
    Ok(())
}

/// How a completion is asked for, in one line.
fn generated(generation: &Generation) -> anyhow::Result<String> {
    let how = match generation.sampling {
        Sampling::Greedy => "greedy".to_owned(),
        Sampling::Random {
            temperature,
            top_p,
            top_k,
            ..
        } => format!("drawn at temperature {temperature}, top-p {top_p}, top-k {top_k}"),
    };
    Ok(format!(
        "generate up to {}, {how}, until {}",
        counted(generation.max_new_tokens, "token"),
        serde_json::to_string(&generation.stop)?
    ))
}

/// `data list`.
///
/// # Errors
/// When stdout fails.
pub(crate) fn list_data() -> anyhow::Result<Exit> {
    let heads = ["file", "rows", "bytes", "licence", "source"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for files in folders(pins()?) {
        let [first, ..] = files else { continue };
        let (name, source) = match (files, &first.source) {
            ([file], source) => (file.name.clone(), source.to_string()),
            (_, Source::Member { archive, .. }) => (whole_folder(files), archive.url.clone()),
            (_, source) => (whole_folder(files), source.to_string()),
        };
        let documents = files.iter().map(|pin| pin.rows as u64).sum();
        let bytes = files.iter().map(|pin| pin.bytes).sum();
        rows.push(vec![
            name,
            count(documents),
            count(bytes),
            first.licence.clone(),
            source,
        ]);
    }
    print(&columns(&rows))?;
    Ok(Exit::Success)
}

/// Pinned files, those of a large folder together.
fn folders(pins: &[Pin]) -> impl Iterator<Item = &[Pin]> {
    pins.chunk_by(|left, right| {
        let (left, right) = (left.name.rsplit_once('/'), right.name.rsplit_once('/'));
        left.zip(right)
            .is_some_and(|(left, right)| left.0 == right.0 && numbered(left.1) && numbered(right.1))
    })
}

/// `12.txt`: one of many files that only their numbers tell apart.
fn numbered(name: &str) -> bool {
    name.split_once('.')
        .is_some_and(|(stem, _)| stem.bytes().all(|byte| byte.is_ascii_digit()))
}

/// `race/test/high/ (1,045 files)`.
fn whole_folder(files: &[Pin]) -> String {
    let folder = files
        .first()
        .and_then(|pin| Some(pin.name.rsplit_once('/')?.0))
        .unwrap_or_default();
    format!("{folder}/ ({})", counted(files.len(), "file"))
}

/// `data verify`.
///
/// # Errors
/// When the folder cannot be read or stdout fails; files that are missing or wrong are listed.
pub(crate) fn verify_data(arguments: &DataArguments) -> anyhow::Result<Exit> {
    let Some(folder) = arguments.data.as_deref() else {
        let hint = "name the folder that holds the files: `llama-eval data verify --data DIR`";
        return Err(SettingsError {
            place: "--data".to_owned(),
            problem: "no folder given".to_owned(),
            hint,
        }
        .into());
    };
    let data = backend::open_data(Some(folder))?;
    let mut rows = vec![
        ["task", "documents", "files", "verdict"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let mut bad = 0;
    for task in suites::all(&Default::default()) {
        let name = task.card().name.clone();
        rows.push(match read(&task, &data) {
            Ok((documents, files)) => vec![
                name,
                count(documents as u64),
                count(files as u64),
                "good".to_owned(),
            ],
            Err(error) => {
                bad += 1;
                vec![name, "0".to_owned(), "0".to_owned(), one_line(&error)]
            }
        });
    }
    let mut text = columns(&rows);
    let pins = pins()?;
    let missing: Vec<&Pin> = pins
        .iter()
        .filter(|pin| data.read(&pin.name).is_err())
        .collect();
    let good = count((pins.len() - missing.len()) as u64);
    writeln!(
        text,
        "\n{good} of {} are here and whole",
        counted(pins.len(), "pinned file")
    )?;
    for Pin {
        name,
        bytes,
        sha256,
        source,
        ..
    } in missing
    {
        writeln!(
            text,
            "missing: {name}, {bytes} bytes, SHA-256 {sha256}, from {source}"
        )?;
    }
    print(&text)?;
    Ok(if bad == 0 { Exit::Success } else { Exit::Data })
}

fn one_line(error: &DataError) -> String {
    let line = error
        .line
        .map(|line| format!(":{line}"))
        .unwrap_or_default();
    format!("{}{line}: {}", error.path.display(), error.problem)
}

/// Documents and files of a task under both protocols.
fn read(task: &Arc<dyn Task>, data: &DataDir) -> Result<(usize, usize), DataError> {
    let mut documents = 0;
    let mut files = BTreeMap::new();
    for protocol in PROTOCOLS {
        let plan = plan(
            task,
            data,
            protocol,
            &Selection {
                limit: Some(1),
                ..Selection::default()
            },
        )?;
        documents = documents.max(plan.split_documents);
        files.extend(plan.data_sha256);
    }
    Ok((documents, files.len()))
}

/// `doctor`.
///
/// # Errors
/// When the data folder cannot be read or stdout fails.
pub(crate) fn doctor(arguments: &DataArguments) -> anyhow::Result<Exit> {
    let mut text = format!("llama-eval {VERSION}\n\n");
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(text, "{label:<8} {value}");
    };
    line("threads", &rayon::current_num_threads().to_string());
    line(
        "AVX-512",
        if has_avx512() {
            "yes"
        } else {
            "no: matrix products run on narrower vectors"
        },
    );
    line("memory", &memory().unwrap_or_else(|| "unknown".to_owned()));
    line("card", &llama_eval_model::describe_card());
    match Sandbox::new(Isolation::Namespaces, Limits::default()) {
        Ok(sandbox) => {
            let (interpreter, walls) = sandbox.describe();
            line("python3", &interpreter);
            line("sandbox", &format!("works: {walls}"));
        }
        Err(error) => {
            let text = error.to_string().replace("\nhint: ", "; ");
            line("sandbox", &format!("does not work: {text}"));
        }
    }
    let data = backend::open_data(arguments.data.as_deref())?;
    let tasks = suites::all(&Default::default());
    let readable = tasks
        .iter()
        .filter(|task| read(task, &data).is_ok())
        .count();
    let place = match arguments.data.as_deref() {
        Some(folder) => folder.display().to_string(),
        None => "bundled samples (give the benchmarks' files with `--data`)".to_owned(),
    };
    line(
        "data",
        &format!("{place}: {readable} of {}", counted(tasks.len(), "task")),
    );
    print(&text)?;
    Ok(Exit::Success)
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx512() -> bool {
    false
}

/// Free and whole memory, where the system tells.
fn memory() -> Option<String> {
    let text = fs::read_to_string(Path::new("/proc/meminfo")).ok()?;
    let gibibytes = |name: &str| -> Option<f64> {
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kibibytes: f64 = value.trim().trim_end_matches(" kB").parse().ok()?;
        Some(kibibytes / f64::from(1 << 20))
    };
    Some(format!(
        "{:.1} of {:.1} GiB free",
        gibibytes("MemAvailable")?,
        gibibytes("MemTotal")?
    ))
}
