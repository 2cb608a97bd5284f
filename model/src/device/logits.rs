//! What is read out of logits, `[rows, vocabulary]` in f32, of which only a few rows exist at a time.

use candle_core::{DType, Result, Tensor};

use super::operation::{Operation, Output, Values, apply, expect};
#[cfg(feature = "cuda")]
use super::{
    launch::{Launch, Module},
    operations::ROW_THREADS,
};
use crate::{
    llama::{RowSummary, summarise},
    sampling::{self, Draw},
};

/// Numbers of a row's summary: log-sum, margin, best token as bits, largest logit.
pub(super) const SUMMARY: usize = 4;

/// One row's summary as the kernel writes it.
pub(super) fn row_summary(values: &[f32]) -> RowSummary {
    RowSummary {
        log_sum: values[0],
        margin: values[1],
        best: values[2].to_bits(),
    }
}

struct Summarise<'a> {
    logits: &'a Tensor,
    rows: usize,
    vocabulary: usize,
}

impl Operation for Summarise<'_> {
    fn name(&self) -> &'static str {
        "summarise"
    }

    fn inputs(&self) -> Vec<&Tensor> {
        vec![self.logits]
    }

    fn twin(&self, output: &mut Output<'_>, inputs: &[Values<'_>]) -> Result<()> {
        let logits = inputs[0].floats();
        for (row, logits) in logits
            .chunks_exact(self.vocabulary)
            .take(self.rows)
            .enumerate()
        {
            let summary = summarise(logits);
            let largest = logits.get(summary.best as usize).copied();
            output.write(
                row * SUMMARY,
                &[
                    summary.log_sum,
                    summary.margin,
                    f32::from_bits(summary.best),
                    largest.unwrap_or(f32::NAN),
                ],
            );
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn launch(&self) -> Launch {
        Launch {
            module: Module::Logits,
            kernel: "summarise_f32".to_owned(),
            grid: (self.rows, 1),
            threads: ROW_THREADS,
            shared: 0,
            scalars: vec![self.rows.into(), self.vocabulary.into()],
        }
    }
}

/// Summaries `[rows, 4]` of the first rows of `logits`.
///
/// # Errors
/// When the device fails.
pub(super) fn summaries(summary: &Tensor, logits: &Tensor) -> Result<()> {
    let name = "summarise";
    let (rows, vocabulary) = (summary.dim(0)?, logits.dim(1)?);
    expect(name, "the summary", summary, DType::F32, rows * SUMMARY)?;
    expect(name, "the logits", logits, DType::F32, rows * vocabulary)?;
    apply(
        summary,
        &Summarise {
            logits,
            rows,
            vocabulary,
        },
    )
}

/// Which log-probabilities are read: `[targets]` rows of the logits and tokens.
pub(super) struct Targets<'a> {
    pub(super) rows: &'a Tensor,
    pub(super) tokens: &'a Tensor,
}

struct TargetLogProbs<'a> {
    logits: &'a Tensor,
    summary: &'a Tensor,
    targets: Targets<'a>,
    vocabulary: usize,
}

impl Operation for TargetLogProbs<'_> {
    fn name(&self) -> &'static str {
        "target_log_probs"
    }

    fn inputs(&self) -> Vec<&Tensor> {
        vec![
            self.logits,
            self.summary,
            self.targets.rows,
            self.targets.tokens,
        ]
    }

    fn twin(&self, output: &mut Output<'_>, inputs: &[Values<'_>]) -> Result<()> {
        let (logits, summary) = (inputs[0].floats(), inputs[1].floats());
        let pairs = inputs[2].indices().iter().zip(inputs[3].indices());
        for (at, (&row, &token)) in pairs.enumerate() {
            let row = row as usize;
            let log_prob = logits
                .get(row * self.vocabulary..(row + 1) * self.vocabulary)
                .and_then(|logits| logits.get(token as usize))
                .map_or(f32::NAN, |logit| logit - summary[row * SUMMARY]);
            output.write(at, &[log_prob]);
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn launch(&self) -> Launch {
        let count = self.targets.rows.elem_count();
        Launch {
            module: Module::Logits,
            kernel: "target_log_probs_f32".to_owned(),
            grid: (count.div_ceil(ROW_THREADS as usize), 1),
            threads: ROW_THREADS,
            shared: 0,
            scalars: vec![count.into(), self.vocabulary.into()],
        }
    }
}

/// ln p of the targets, `[targets]`; NaN for a token that is not in the vocabulary.
///
/// # Errors
/// When the device fails.
pub(super) fn target_log_probs(
    out: &Tensor,
    logits: &Tensor,
    summary: &Tensor,
    targets: Targets<'_>,
) -> Result<()> {
    let name = "target_log_probs";
    let count = targets.rows.elem_count();
    expect(name, "the output", out, DType::F32, count)?;
    expect(name, "the logits", logits, DType::F32, 0)?;
    expect(name, "the summary", summary, DType::F32, 0)?;
    expect(name, "the rows", targets.rows, DType::U32, count)?;
    expect(name, "the tokens", targets.tokens, DType::U32, count)?;
    let vocabulary = logits.dim(1)?;
    apply(
        out,
        &TargetLogProbs {
            logits,
            summary,
            targets,
            vocabulary,
        },
    )
}

/// Numbers of a row's choice: draw, temperature, top-p, top-k.
pub(super) const CHOICE: usize = 4;

/// A draw as the kernel reads it.
pub(super) fn choice(draw: Draw) -> [f64; CHOICE] {
    [
        draw.draw,
        f64::from(draw.temperature),
        f64::from(draw.top_p),
        draw.top_k as f64,
    ]
}

struct Sample<'a> {
    logits: &'a Tensor,
    summary: &'a Tensor,
    choices: &'a Tensor,
    rows: usize,
    vocabulary: usize,
}

impl Operation for Sample<'_> {
    fn name(&self) -> &'static str {
        "sample"
    }

    fn inputs(&self) -> Vec<&Tensor> {
        vec![self.logits, self.summary, self.choices]
    }

    fn twin(&self, output: &mut Output<'_>, inputs: &[Values<'_>]) -> Result<()> {
        let (logits, summary) = (inputs[0].floats(), inputs[1].floats());
        let rows = logits
            .chunks_exact(self.vocabulary)
            .take(self.rows)
            .zip(summary.chunks_exact(SUMMARY));
        for (row, ((logits, summary), choice)) in rows
            .zip(inputs[2].doubles().chunks_exact(CHOICE))
            .enumerate()
        {
            let draw = Draw {
                draw: choice[0],
                temperature: choice[1] as f32,
                top_p: choice[2] as f32,
                top_k: choice[3] as usize,
            };
            output.write_index(row, sampling::pick(draw, logits, row_summary(summary)));
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn launch(&self) -> Launch {
        Launch {
            module: Module::Logits,
            kernel: "sample_f32".to_owned(),
            grid: (self.rows, 1),
            threads: ROW_THREADS,
            shared: 0,
            scalars: vec![self.rows.into(), self.vocabulary.into()],
        }
    }
}

/// The next token of each row, `[rows]`, by `choices`, `[rows, 4]` in f64.
///
/// # Errors
/// When the device fails.
pub(super) fn sample(
    tokens: &Tensor,
    logits: &Tensor,
    summary: &Tensor,
    choices: &Tensor,
) -> Result<()> {
    let name = "sample";
    let (rows, vocabulary) = (choices.dim(0)?, logits.dim(1)?);
    expect(name, "the tokens", tokens, DType::U32, rows)?;
    expect(name, "the logits", logits, DType::F32, rows * vocabulary)?;
    expect(name, "the summary", summary, DType::F32, rows * SUMMARY)?;
    expect(name, "the choices", choices, DType::F64, rows * CHOICE)?;
    apply(
        tokens,
        &Sample {
            logits,
            summary,
            choices,
            rows,
            vocabulary,
        },
    )
}
