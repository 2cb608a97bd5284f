//! The pass.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor, bail};

use super::{
    ModelResult,
    attention::{HEAD_SIZES, Rotary, attention, rotate_store},
    device_error,
    logits::{CHOICE, SUMMARY, Targets, choice, row_summary, sample, summaries, target_log_probs},
    operations::{embed, gather_rows, rms_norm, silu_multiply},
    product::{Into, product},
    readback::Readback,
    table::{KeyRun, NARROW, Table, TileShape, Uploaded, WIDE},
    weights::{Fill, FromCheckpoint, Layer, Layers, Outer, Randomly, fill},
    workspace::{PassRows, Passes, Workspace},
};
use crate::{
    Config,
    forward::{ByRow, CachedRows, Chosen, Forward, Prediction},
    llama::{Heads, Origin, cache::TILE, heads},
    sampling::Draw,
    tree::TokenTree,
};

/// Most sequences generated at once: twice what balances reading the weights and multiplying by them.
const MOST_LEAVES: usize = 512;
/// Most prompt tokens computed at once where text is generated.
const MOST_PROMPT_ROWS: usize = 8192;

/// A model on a device.
pub(crate) struct DeviceLlama {
    config: Config,
    device: Device,
    dtype: DType,
    outer: Outer,
    layers: Box<dyn Layers + Send>,
    rotary: Rotary,
    passes: Passes,
    workspace: Workspace,
}

/// What one pass computes.
struct Pass<'a> {
    tokens: &'a [u32],
    positions: &'a [u32],
    /// Slot each row's key and value go to.
    slots: &'a [u32],
    /// Keys, a run before those below it.
    runs: &'a [KeyRun],
    /// Rows whose logits are read, ascending; without any, the pass only keeps keys and values.
    wanted: &'a [u32],
    rows: PassRows,
    shape: TileShape,
    kept: Option<&'a Kept>,
}

/// Keys and values of all layers, `[2, slots, key-value heads, head size]` each.
pub(crate) struct Kept(Vec<Tensor>);

/// A batch that was begun.
pub(crate) struct Running {
    by_row: ByRow,
    /// For each target the token.
    tokens: Vec<u32>,
    summaries: Readback,
    log_probs: Readback,
}

impl DeviceLlama {
    /// Loads weights to `device`; random ones are made there.
    ///
    /// # Errors
    /// When there is no kernel for its head size, a weight is missing, or the device has no memory.
    pub(crate) fn load(
        origin: Origin<'_>,
        dtype: DType,
        device: &Device,
        passes: Passes,
        batch_rows: usize,
    ) -> ModelResult<Self> {
        let config = origin.config();
        check(config).map_err(|problem| origin.refusal(problem, "use `--device cpu`"))?;
        let mut weights: Box<dyn Fill> = match origin {
            Origin::Checkpoint(checkpoint) => {
                Box::new(FromCheckpoint::new(checkpoint, device, dtype).map_err(device_error)?)
            }
            Origin::Random(_) => Box::new(Randomly {
                device,
                dtype,
                made: 0,
            }),
        };
        Self::new(config, dtype, device, passes, &mut *weights, batch_rows)
    }

    fn new(
        config: &Config,
        dtype: DType,
        device: &Device,
        passes: Passes,
        weights: &mut dyn Fill,
        batch_rows: usize,
    ) -> ModelResult<Self> {
        let (outer, layers) = fill(config, weights)?;
        let rotary = rotary(config, device).map_err(device_error)?;
        let rows = batch_rows.max(1).next_multiple_of(passes.score.layer);
        let workspace =
            Workspace::new(config, dtype, passes, rows, device).map_err(device_error)?;
        Ok(Self {
            config: config.clone(),
            device: device.clone(),
            dtype,
            outer,
            layers: Box::new(layers),
            rotary,
            passes,
            workspace,
        })
    }

    /// Bytes of a model's weights and rotary tables on the device.
    pub(crate) fn weight_bytes(config: &Config, dtype: DType) -> u64 {
        let rotary = config.context_length * config.head_size * size_of::<f32>();
        config.parameters() * dtype.size_in_bytes() as u64 + rotary as u64
    }

    /// Bytes of the buffers for batches of up to `rows`.
    pub(crate) fn workspace_bytes(
        config: &Config,
        dtype: DType,
        passes: Passes,
        rows: usize,
    ) -> u64 {
        Workspace::bytes(config, dtype, passes, rows)
    }

    /// Rows of a batch.
    pub(crate) fn batch_rows(&self) -> usize {
        self.workspace.rows
    }

    /// Type of the weights.
    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where it runs.
    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    fn heads(&self) -> Heads {
        heads(&self.config)
    }

    /// Runs `pass`; `read` gets the logits of each part of the wanted rows, `[rows, vocabulary]` in f32, with which
    /// of them they are. The last part is padded.
    fn run(
        &self,
        pass: &Pass<'_>,
        mut read: impl FnMut(Range<usize>, &Tensor) -> Result<()>,
    ) -> Result<()> {
        let (count, chunk) = (pass.tokens.len(), pass.rows.layer);
        let padded = count.next_multiple_of(chunk);
        let work = &self.workspace;
        if count == 0 || padded > work.rows {
            bail!("a batch of {count} rows, there is room for {}", work.rows);
        }
        self.check_bounds(pass)?;
        let mut tokens = pass.tokens.to_vec();
        tokens.resize(padded, 0);
        let tokens = self.upload(&tokens)?;
        let table = Table::new(
            pass.positions,
            pass.runs,
            pass.shape,
            self.heads().queries / self.heads().key_values,
        );
        let table = Uploaded::new(&table, pass.positions, pass.shape, &self.device)?;
        let slots = self.upload(pass.slots)?;

        let chunks: Vec<usize> = (0..padded).step_by(chunk).collect();
        let stream = |first: usize| work.stream.narrow(0, first, chunk);
        let normed = work.normed.narrow(0, 0, chunk)?;
        for &first in &chunks {
            let tokens = tokens.narrow(0, first, chunk)?;
            embed(&stream(first)?, &self.outer.embedding, &tokens)?;
        }
        for index in 0..self.config.layers {
            let layer = self.layers.layer(index)?;
            for &first in &chunks {
                let norm = &layer.attention_norm;
                rms_norm(&normed, &stream(first)?, norm, self.config.norm_epsilon)?;
                let fused = work.fused.narrow(0, first, chunk)?;
                product(&fused, &normed, &layer.query_key_value, Into::Place)?;
            }
            let key_values = match pass.kept {
                Some(kept) => kept.0.get(index),
                None => Some(&work.key_values),
            };
            let Some(key_values) = key_values else {
                bail!("nothing is kept of layer {index}")
            };
            let (rotary, heads) = (&self.rotary, self.heads());
            let positions = &table.positions;
            rotate_store(key_values, &work.fused, positions, &slots, rotary, heads)?;
            let last = index + 1 == self.config.layers;
            if last && pass.wanted.is_empty() {
                // Nobody reads this pass's rows but through their keys and values.
                return Ok(());
            }
            attention(
                &work.attended,
                &work.fused,
                key_values,
                &table,
                rotary,
                heads,
            )?;
            if last {
                self.read_out(pass, &layer, &mut read)?;
            } else {
                for &first in &chunks {
                    let attended = work.attended.narrow(0, first, chunk)?;
                    self.feed_forward(&layer, &stream(first)?, &attended)?;
                }
            }
        }
        Ok(())
    }

    /// What follows attention in a layer, for a chunk of rows: `stream` is summed up in place.
    fn feed_forward(&self, layer: &Layer, stream: &Tensor, attended: &Tensor) -> Result<()> {
        let chunk = stream.dim(0)?;
        let part = |buffer: &Tensor| buffer.narrow(0, 0, chunk);
        let (normed, gate_up, gated) = (
            part(&self.workspace.normed)?,
            part(&self.workspace.gate_up)?,
            part(&self.workspace.gated)?,
        );
        product(stream, attended, &layer.output, Into::Sum)?;
        let norm = &layer.feed_forward_norm;
        rms_norm(&normed, stream, norm, self.config.norm_epsilon)?;
        product(&gate_up, &normed, &layer.gate_up, Into::Place)?;
        silu_multiply(&gated, &gate_up)?;
        product(stream, &gated, &layer.down, Into::Sum)
    }

    /// The end of the last layer and the output matrix, for the rows that are read only.
    fn read_out(
        &self,
        pass: &Pass<'_>,
        layer: &Layer,
        read: &mut impl FnMut(Range<usize>, &Tensor) -> Result<()>,
    ) -> Result<()> {
        let (chunk, head) = (pass.rows.layer, pass.rows.head);
        let work = &self.workspace;
        let part = |buffer: &Tensor| buffer.narrow(0, 0, chunk);
        let (picked, attended, normed) = (
            part(&work.picked)?,
            part(&work.picked_attended)?,
            part(&work.normed)?,
        );
        let logits = work.logits.narrow(0, 0, head)?;
        for (at, wanted) in pass.wanted.chunks(chunk).enumerate() {
            let mut index = wanted.to_vec();
            index.resize(chunk, 0);
            let index = self.upload(&index)?;
            gather_rows(&picked, &work.stream, &index)?;
            gather_rows(&attended, &work.attended, &index)?;
            self.feed_forward(layer, &picked, &attended)?;
            rms_norm(&normed, &picked, &self.outer.norm, self.config.norm_epsilon)?;
            for first in (0..wanted.len()).step_by(head) {
                let rows = normed.narrow(0, first, head)?;
                product(&logits, &rows, &self.outer.head, Into::Place)?;
                let last = (first + head).min(wanted.len());
                read(at * chunk + first..at * chunk + last, &logits)?;
            }
        }
        Ok(())
    }

    /// Refuses indices that kernels would follow out of bounds.
    fn check_bounds(&self, pass: &Pass<'_>) -> Result<()> {
        let below = |what: &str, values: &[u32], limit: usize| match values
            .iter()
            .find(|&&value| value as usize >= limit)
        {
            Some(value) => bail!("{what} {value} is not below {limit}"),
            None => Ok(()),
        };
        let slots = match pass.kept.map(|kept| kept.0.first()) {
            Some(Some(layer)) => layer.dim(1)?,
            Some(None) => 0,
            None => self.workspace.rows,
        };
        if pass.positions.len() != pass.tokens.len() || pass.slots.len() != pass.tokens.len() {
            bail!("tokens, positions and slots are not equally many");
        }
        for run in pass.runs {
            if run.slot as usize + run.keys as usize > slots {
                bail!("keys at slot {} of {slots}", run.slot);
            }
        }
        below("token", pass.tokens, self.config.vocabulary)?;
        below("position", pass.positions, self.config.context_length)?;
        below("slot", pass.slots, slots)?;
        below("row", pass.wanted, pass.tokens.len())
    }

    fn upload(&self, values: &[u32]) -> Result<Tensor> {
        Tensor::from_slice(values, values.len(), &self.device)
    }

    fn begin_scoring(&self, tree: &TokenTree) -> Result<Running> {
        let by_row = ByRow::new(tree);
        let head = self.passes.score.head;
        let zeros =
            |rows: usize, columns: usize| Tensor::zeros((rows, columns), DType::F32, &self.device);
        let all_summaries = zeros(by_row.rows.len().max(1), SUMMARY)?;
        let all_log_probs = zeros(by_row.targets.len().max(1), 1)?;
        // For each target the row among the logits of its part.
        let mut rows = vec![0u32; by_row.targets.len()];
        for row in 0..by_row.rows.len() {
            let first = row % self.passes.score.layer % head;
            rows[by_row.starts[row]..by_row.starts[row + 1]].fill(first as u32);
        }
        let tokens: Vec<u32> = by_row
            .targets
            .iter()
            .map(|&at| tree.targets[at].token)
            .collect();
        let (target_rows, target_tokens) = (self.upload(&rows)?, self.upload(&tokens)?);
        let slots: Vec<u32> = (0..tree.tokens.len() as u32).collect();
        let pass = Pass {
            tokens: &tree.tokens,
            positions: &tree.positions,
            slots: &slots,
            runs: &key_runs(tree),
            wanted: &by_row.rows,
            rows: self.passes.score,
            shape: WIDE,
            kept: None,
        };
        self.run(&pass, |part, logits| {
            let summary = all_summaries.narrow(0, part.start, part.len())?;
            summaries(&summary, logits)?;
            let targets = by_row.starts[part.start]..by_row.starts[part.end];
            let of = |tensor: &Tensor| tensor.narrow(0, targets.start, targets.len());
            let (rows, tokens) = (of(&target_rows)?, of(&target_tokens)?);
            let targets = Targets {
                rows: &rows,
                tokens: &tokens,
            };
            target_log_probs(&of(&all_log_probs)?, logits, &summary, targets)
        })?;
        Ok(Running {
            tokens,
            summaries: Readback::begin(&all_summaries)?,
            log_probs: Readback::begin(&all_log_probs)?,
            by_row,
        })
    }

    fn finish_scoring(&self, running: Running) -> Result<Vec<Prediction>> {
        let summaries = running.summaries.wait()?;
        let log_probs = running.log_probs.wait()?;
        let by_row = &running.by_row;
        let mut predictions: Vec<(usize, Prediction)> = Vec::with_capacity(running.tokens.len());
        for (row, summary) in summaries
            .chunks_exact(SUMMARY)
            .take(by_row.rows.len())
            .enumerate()
        {
            let summary = row_summary(summary);
            let targets = by_row.starts[row]..by_row.starts[row + 1];
            let read = log_probs[targets.clone()]
                .iter()
                .zip(&running.tokens[targets.clone()])
                .zip(&by_row.targets[targets]);
            for ((&log_prob, &token), &target) in read {
                let prediction = Prediction {
                    log_prob,
                    best: summary.best == token,
                    margin: summary.margin,
                };
                predictions.push((target, prediction));
            }
        }
        predictions.sort_unstable_by_key(|(at, _)| *at);
        Ok(predictions.into_iter().map(|(_, it)| it).collect())
    }

    fn run_step(
        &self,
        kept: &Kept,
        tokens: &[u32],
        rows: &CachedRows,
        draws: &[Draw],
    ) -> Result<Vec<Chosen>> {
        let wanted: Vec<u32> = (0..tokens.len() as u32).collect();
        let choices: Vec<f64> = draws.iter().copied().flat_map(choice).collect();
        let choices = Tensor::from_slice(&choices, (draws.len(), CHOICE), &self.device)?;
        let chosen = Tensor::zeros(tokens.len(), DType::U32, &self.device)?;
        let all_summaries = Tensor::zeros((tokens.len(), SUMMARY), DType::F32, &self.device)?;
        let pass = Pass {
            tokens,
            positions: &rows.positions,
            slots: &rows.slots,
            runs: &cached_runs(rows),
            wanted: &wanted,
            rows: self.passes.step,
            shape: NARROW,
            kept: Some(kept),
        };
        self.run(&pass, |part, logits| {
            let of = |tensor: &Tensor| tensor.narrow(0, part.start, part.len());
            let summary = of(&all_summaries)?;
            summaries(&summary, logits)?;
            sample(&of(&chosen)?, logits, &summary, &of(&choices)?)
        })?;
        let summaries = all_summaries.flatten_all()?.to_vec1::<f32>()?;
        let chosen = chosen.to_vec1::<u32>()?;
        Ok(chosen
            .into_iter()
            .zip(summaries.chunks_exact(SUMMARY))
            .map(|(token, summary)| {
                let summary = row_summary(summary);
                let number = summary.log_sum.is_finite();
                number.then_some((token, summary.margin))
            })
            .collect())
    }
}

impl Forward for DeviceLlama {
    type Running = Running;
    type Cache = Kept;

    fn memory_bytes(&self, _: usize) -> u64 {
        // The buffers are allocated once, for the greatest batch.
        let (config, rows) = (&self.config, self.workspace.rows);
        Self::weight_bytes(config, self.dtype)
            + Self::workspace_bytes(config, self.dtype, self.passes, rows)
    }

    fn begin(&self, tree: &TokenTree) -> ModelResult<Running> {
        self.begin_scoring(tree).map_err(device_error)
    }

    fn finish(&self, running: Running) -> ModelResult<Vec<Prediction>> {
        self.finish_scoring(running).map_err(device_error)
    }

    fn synchronize(&self) -> ModelResult<()> {
        self.device.synchronize().map_err(device_error)
    }

    fn most_leaves(&self) -> usize {
        MOST_LEAVES.min(self.workspace.rows)
    }

    fn most_prompt_rows(&self) -> usize {
        MOST_PROMPT_ROWS.min(self.workspace.rows)
    }

    fn tile_bytes(&self) -> u64 {
        let heads = self.heads();
        let row = 2 * heads.key_values * heads.size * self.dtype.size_in_bytes();
        (row * TILE * self.config.layers) as u64
    }

    fn cache(&self, tiles: usize, _: usize) -> ModelResult<Kept> {
        let heads = self.heads();
        let shape = (2, (tiles * TILE).max(1), heads.key_values, heads.size);
        (0..self.config.layers)
            .map(|_| Tensor::zeros(shape, self.dtype, &self.device))
            .collect::<Result<Vec<_>>>()
            .map(Kept)
            .map_err(device_error)
    }

    fn fill(&self, kept: &Kept, tokens: &[u32], rows: CachedRows) -> ModelResult<()> {
        let pass = Pass {
            tokens,
            positions: &rows.positions,
            slots: &rows.slots,
            runs: &cached_runs(&rows),
            wanted: &[],
            rows: self.passes.prompt,
            shape: WIDE,
            kept: Some(kept),
        };
        self.run(&pass, |_, _| Ok(())).map_err(device_error)
    }

    fn step(
        &self,
        kept: &Kept,
        tokens: &[u32],
        rows: CachedRows,
        draws: &[Draw],
    ) -> ModelResult<Vec<Chosen>> {
        self.run_step(kept, tokens, &rows, draws)
            .map_err(device_error)
    }
}

/// Can the kernels compute this model?
fn check(config: &Config) -> std::result::Result<(), String> {
    let group = config.heads / config.key_value_heads;
    if !HEAD_SIZES.contains(&config.head_size) {
        return Err(format!(
            "heads of {} components; there are attention kernels for {HEAD_SIZES:?}",
            config.head_size
        ));
    }
    if group > NARROW.queries {
        return Err(format!(
            "{group} query heads share their keys; the attention kernel takes at most {}",
            NARROW.queries
        ));
    }
    Ok(())
}

/// Rotary tables for all positions of a context.
fn rotary(config: &Config, device: &Device) -> Result<Rotary> {
    let frequencies = config.inverse_frequencies();
    let angles = (0..config.context_length).flat_map(|position| {
        frequencies
            .iter()
            .map(move |frequency| position as f32 * frequency)
    });
    let (cosine, sine): (Vec<f32>, Vec<f32>) =
        angles.map(|angle| (angle.cos(), angle.sin())).unzip();
    let shape = (config.context_length, frequencies.len());
    Ok(Rotary {
        cosine: Tensor::from_vec(cosine, shape, device)?,
        sine: Tensor::from_vec(sine, shape, device)?,
    })
}

/// The runs of keys of a tree whose rows are their own slots.
pub(super) fn key_runs(tree: &TokenTree) -> Vec<KeyRun> {
    tree.nodes
        .iter()
        .map(|node| KeyRun {
            position: node.position,
            slot: node.rows.start,
            keys: node.rows.end - node.rows.start,
            queries: node.rows.start..node.subtree_end,
        })
        .collect()
}

/// The runs of keys of rows whose keys are kept.
fn cached_runs(rows: &CachedRows) -> Vec<KeyRun> {
    rows.nodes
        .iter()
        .map(|(node, queries)| KeyRun {
            position: node.first_position,
            slot: node.first_value,
            keys: node.keys,
            queries: queries.clone(),
        })
        .collect()
}
