//! `llama-eval bench`: how fast a model is computed, beside what the machine could do at most.

use std::{fmt::Write as _, fs::File, io::Write as _, path::Path};

use llama_eval_model::{
    Source,
    bench::{Plan, Report, Subject},
};
use serde::Serialize;

use crate::{
    VERSION, backend,
    cli::BenchArguments,
    exit::Exit,
    messages::{columns, count, counted, labelled, short, title},
    run::print,
    settings::{SettingsError, reason},
};

/// How shares are computed; part of what is written.
const FORMULAS: [&str; 2] = [
    "operations of scoring = unique tokens x 2 x weights of the layers' matrices \
     + scored rows x 2 x hidden x vocabulary + (query, key) pairs x 4 x hidden x layers",
    "floor of a step = max(matrix bytes / copy rate, sequences x operations per token and scored row / product rate) \
     + sequences x own tokens x bytes of a key and value / copy rate \
     + sequences x shared tokens x operations per pair / (product rate / 2)",
];

/// The report as it is written.
#[derive(Serialize)]
struct Written<'a> {
    version: &'static str,
    #[serde(flatten)]
    report: &'a Report,
    formulas: [&'static str; 2],
}

/// A plan as it is printed for other programs: the model's sizes, and the plan's tokens.
#[derive(Serialize)]
struct Printed {
    model: serde_json::Value,
    #[serde(flatten)]
    plan: Plan,
}

/// Measures what the command line asks for.
///
/// # Errors
/// When the model or the device cannot be used, or a file cannot be written.
pub(crate) fn bench(arguments: &BenchArguments) -> anyhow::Result<Exit> {
    let subject = match (arguments.shape, &arguments.checkpoint.model) {
        (Some(shape), _) => Subject::Shape(shape),
        (None, Some(path)) => Subject::Checkpoint(Source::Path(path.clone())),
        (None, None) => Subject::Checkpoint(Source::Demo),
    };
    if let Some(name) = arguments.print_plan {
        let config = subject.config()?;
        let model = serde_json::json!({
            "vocabulary": config.vocabulary,
            "hidden": config.hidden,
            "intermediate": config.intermediate,
            "layers": config.layers,
            "heads": config.heads,
            "key_value_heads": config.key_value_heads,
            "head_size": config.head_size,
            "context_length": config.context_length,
            "tied_embeddings": config.tied_embeddings,
        });
        let plan = Plan::new(name, &config, arguments.scale.unwrap_or(1.0));
        print(&(serde_json::to_string(&Printed { model, plan })? + "\n"))?;
        return Ok(Exit::Success);
    }
    // Before anything is measured: an hour's figures are not lost for want of a folder.
    let file = match arguments.json.as_deref() {
        Some(path) if path != Path::new("-") => Some(create(path)?),
        _ => None,
    };
    title(&format!("llama-eval {VERSION}"));
    let bench = backend::open_bench(&subject, &arguments.computing)?;
    let begun = |what: &str| labelled("measures", what);
    let report = bench.measure(&arguments.plan, arguments.scale, arguments.repeat, begun)?;
    drop(bench);
    let table = table(&report)?;
    let json = serde_json::to_string_pretty(&Written {
        version: VERSION,
        report: &report,
        formulas: FORMULAS,
    })? + "\n";
    match (file, &arguments.json) {
        (Some(mut file), _) => {
            print(&table)?;
            file.write_all(json.as_bytes())?;
        }
        (None, Some(_)) => {
            eprint!("{table}");
            print(&json)?;
        }
        (None, None) => print(&table)?,
    }
    Ok(Exit::Success)
}

fn create(path: &Path) -> Result<File, SettingsError> {
    File::create(path).map_err(|error| SettingsError {
        place: path.display().to_string(),
        problem: reason(&error),
        hint: "name a file in a folder that exists: `--json FILE`",
    })
}

/// The report for people.
fn table(report: &Report) -> anyhow::Result<String> {
    let mut text = heading(report);
    if !report.scoring.is_empty() {
        let rows = report.scoring.iter().map(|scored| {
            [
                scored.plan.to_string(),
                count(scored.documents as u64),
                count(scored.tokens),
                count(scored.unique_tokens),
                format!("{:.2}", scored.seconds),
                rate(scored.unique_tokens_per_second),
                rate(scored.documents_per_second),
                percent(scored.share_of_product),
            ]
        });
        let heads = [
            "scoring",
            "documents",
            "tokens alone",
            "unique tokens",
            "seconds",
            "unique tokens/s",
            "documents/s",
            "of the product",
        ];
        write!(text, "\n{}", aligned(heads, rows))?;
    }
    if !report.decoding.is_empty() {
        let rows = report.decoding.iter().map(|decoded| {
            let sequences = match decoded.at_once == decoded.sequences {
                true => count(decoded.sequences as u64),
                false => format!(
                    "{} ({} at once)",
                    count(decoded.sequences as u64),
                    decoded.at_once
                ),
            };
            [
                decoded.plan.to_string(),
                sequences,
                count(decoded.prompt_tokens as u64),
                count(decoded.new_tokens as u64),
                format!("{:.3}", decoded.prompt_seconds),
                format!("{:.2}", decoded.seconds_per_step * 1e3),
                format!("{:.2}", decoded.floor_seconds_per_step * 1e3),
                percent(decoded.share_of_floor),
                rate(decoded.tokens_per_second),
            ]
        });
        let heads = [
            "decoding",
            "sequences",
            "prompt tokens",
            "new tokens each",
            "prompt s",
            "ms per step",
            "floor",
            "of the floor",
            "tokens/s",
        ];
        write!(text, "\n{}", aligned(heads, rows))?;
    }
    writeln!(text)?;
    for formula in FORMULAS {
        // A line for each term.
        writeln!(text, "{}", formula.replace(" + ", "\n    + "))?;
    }
    Ok(text)
}

/// Model, device, ceilings and memory.
fn heading(report: &Report) -> String {
    let Report {
        machine, ceilings, ..
    } = report;
    let weights = match machine.random_weights {
        true => ", random weights",
        false => "",
    };
    let model = format!(
        "{}: {} parameters, {}{weights}, loaded in {:.2} s",
        machine.model,
        short(machine.parameters),
        machine.dtype,
        machine.load_seconds
    );
    let mut device = machine.device.clone();
    if let Some(capability) = &machine.capability {
        device += &format!(", compute capability {capability}");
    }
    if let Some(multiprocessors) = machine.multiprocessors {
        device += &format!(", {multiprocessors} multiprocessors");
    }
    device += &format!(
        ", {}, batches of {} rows",
        counted(machine.threads, "thread"),
        count(machine.batch_rows as u64)
    );
    let [rows, inputs, outputs] = ceilings.product;
    let at_most = format!(
        "{:.3} TFLOP/s (product of {rows} x {inputs} by {inputs} x {outputs}), {:.1} GB/s (copy, read and written)",
        ceilings.flops_per_second / 1e12,
        ceilings.bytes_per_second / 1e9
    );
    let memory = &report.memory;
    let memory = format!(
        "{} by formula (weights {}, buffers {}, kept keys {}), {} taken",
        mebibytes(memory.formula),
        mebibytes(memory.weights),
        mebibytes(memory.buffers),
        mebibytes(memory.kept_keys),
        mebibytes(memory.taken)
    );
    let plans = format!(
        "scale {}, median of {} after a batch to warm up",
        report.scale,
        counted(report.repeat, "round")
    );
    let lines = [
        ("model", model),
        ("device", device),
        ("at most", at_most),
        ("memory", memory),
        ("plans", plans),
    ];
    lines
        .iter()
        .map(|(label, value)| format!("{label:<8} {value}\n"))
        .collect()
}

fn aligned<const N: usize>(heads: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let heads = heads.map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(heads)
        .chain(rows.map(|row| row.to_vec()))
        .collect();
    columns(&rows)
}

/// `12,345` or `1.23`: three digits at least.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are no larger than 2^53, and not negative"
)]
fn rate(per_second: f64) -> String {
    if per_second >= 100.0 {
        count(per_second.round() as u64)
    } else {
        format!("{per_second:.2}")
    }
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", count(bytes.div_ceil(1 << 20)))
}
