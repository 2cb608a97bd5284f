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
    table::{KeyRun, NARROW, Table, TileShape, Uploaded, WIDE},
    transfer::{FOR_PASSES, ReadBack, Transfers},
    weights::{Fill, FromCheckpoint, Layer, Layers, Outer, Randomly, fill},
    workspace::{PassRows, Passes, Workspace},
};
use crate::{
    Config,
    forward::{ByRow, CachedRows, Chosen, Feed, Forward, Prediction},
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
    transfers: Transfers,
}

/// Tokens of a pass, `[rows]`.
enum Tokens<'a> {
    Host(&'a [u32]),
    /// Chosen by a step, and so in the vocabulary.
    Device(&'a Tensor),
}

/// What one pass computes.
struct Pass<'a> {
    tokens: Tokens<'a>,
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

/// Rows that go through the dense products together. Products run over all `padded` rows, whatever lies in those
/// beyond `rows`; all else only over these.
struct Chunk {
    first: usize,
    rows: usize,
    padded: usize,
}

impl Chunk {
    /// The chunk's rows of a buffer that holds all of a batch, with the padding.
    fn whole(&self, buffer: &Tensor) -> Result<Tensor> {
        buffer.narrow(0, self.first, self.padded)
    }

    /// As [`Chunk::whole`], without the padding.
    fn real(&self, buffer: &Tensor) -> Result<Tensor> {
        buffer.narrow(0, self.first, self.rows)
    }

    /// A buffer that one chunk after the other uses.
    fn scratch(&self, buffer: &Tensor) -> Result<Tensor> {
        buffer.narrow(0, 0, self.padded)
    }
}

/// Keys and values of all layers, `[2, slots, key-value heads, head size]` each.
pub(crate) struct Kept(Vec<Tensor>);

/// A batch that was begun.
pub(crate) struct Running {
    by_row: ByRow,
    /// For each target the token.
    tokens: Vec<u32>,
    summaries: ReadBack<f32>,
    log_probs: ReadBack<f32>,
}

/// A step that was begun.
pub(crate) struct Stepping {
    /// The chosen tokens, `[rows]`.
    chosen: Tensor,
    tokens: ReadBack<u32>,
    summaries: ReadBack<f32>,
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
            transfers: Transfers::new(device, FOR_PASSES).map_err(device_error)?,
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
        let (count, chunk) = (pass.positions.len(), pass.rows.layer);
        let padded = count.next_multiple_of(chunk);
        let work = &self.workspace;
        if count == 0 || padded > work.rows {
            bail!("a batch of {count} rows, there is room for {}", work.rows);
        }
        self.check_bounds(pass)?;
        let tokens = match pass.tokens {
            Tokens::Host(tokens) => self.transfers.upload(tokens)?,
            Tokens::Device(tokens) => tokens.clone(),
        };
        let table = Table::new(
            pass.positions,
            pass.runs,
            pass.shape,
            self.heads().queries / self.heads().key_values,
        );
        let table = Uploaded::new(&table, pass.positions, pass.shape, &self.transfers)?;
        let slots = self.transfers.upload(pass.slots)?;

        let chunks: Vec<Chunk> = (0..count)
            .step_by(chunk)
            .map(|first| Chunk {
                first,
                rows: chunk.min(count - first),
                padded: chunk,
            })
            .collect();
        for part in &chunks {
            let tokens = tokens.narrow(0, part.first, part.rows)?;
            embed(&part.real(&work.stream)?, &self.outer.embedding, &tokens)?;
        }
        for index in 0..self.config.layers {
            let layer = self.layers.layer(index)?;
            for part in &chunks {
                let (norm, epsilon) = (&layer.attention_norm, self.config.norm_epsilon);
                let normed = part.scratch(&work.normed)?;
                rms_norm(&normed, &part.real(&work.stream)?, norm, epsilon)?;
                let fused = part.whole(&work.fused)?;
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
                for part in &chunks {
                    self.feed_forward(&layer, part, &work.stream, &work.attended)?;
                }
            }
        }
        Ok(())
    }

    /// What follows attention in a layer, for a chunk of rows: their part of `stream` is summed up in place.
    fn feed_forward(
        &self,
        layer: &Layer,
        part: &Chunk,
        stream: &Tensor,
        attended: &Tensor,
    ) -> Result<()> {
        let work = &self.workspace;
        let normed = part.scratch(&work.normed)?;
        let gate_up = part.scratch(&work.gate_up)?;
        let gated = part.scratch(&work.gated)?;
        let whole = part.whole(stream)?;
        product(&whole, &part.whole(attended)?, &layer.output, Into::Sum)?;
        let (norm, epsilon) = (&layer.feed_forward_norm, self.config.norm_epsilon);
        rms_norm(&normed, &part.real(stream)?, norm, epsilon)?;
        product(&gate_up, &normed, &layer.gate_up, Into::Place)?;
        silu_multiply(&gated, &gate_up.narrow(0, 0, part.rows)?)?;
        product(&whole, &gated, &layer.down, Into::Sum)
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
        let logits = work.logits.narrow(0, 0, head)?;
        let index = self.transfers.upload(pass.wanted)?;
        for (at, wanted) in pass.wanted.chunks(chunk).enumerate() {
            let part = Chunk {
                first: 0,
                rows: wanted.len(),
                padded: chunk,
            };
            let index = index.narrow(0, at * chunk, wanted.len())?;
            gather_rows(&work.picked, &work.stream, &index)?;
            gather_rows(&work.picked_attended, &work.attended, &index)?;
            self.feed_forward(layer, &part, &work.picked, &work.picked_attended)?;
            let normed = part.scratch(&work.normed)?;
            let (norm, epsilon) = (&self.outer.norm, self.config.norm_epsilon);
            rms_norm(&normed, &part.real(&work.picked)?, norm, epsilon)?;
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
        let rows = pass.positions.len();
        let tokens = match pass.tokens {
            Tokens::Host(tokens) => {
                below("token", tokens, self.config.vocabulary)?;
                tokens.len()
            }
            Tokens::Device(tokens) => tokens.elem_count(),
        };
        if tokens != rows || pass.slots.len() != rows {
            bail!("tokens, positions and slots are not equally many");
        }
        for run in pass.runs {
            if run.slot as usize + run.keys as usize > slots {
                bail!("keys at slot {} of {slots}", run.slot);
            }
        }
        below("position", pass.positions, self.config.context_length)?;
        below("slot", pass.slots, slots)?;
        below("row", pass.wanted, rows)
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
        let (target_rows, target_tokens) = (
            self.transfers.upload(&rows)?,
            self.transfers.upload(&tokens)?,
        );
        let slots: Vec<u32> = (0..tree.tokens.len() as u32).collect();
        let pass = Pass {
            tokens: Tokens::Host(&tree.tokens),
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
            summaries: self.transfers.read_back(&all_summaries)?,
            log_probs: self.transfers.read_back(&all_log_probs)?,
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

    fn begin_stepping(
        &self,
        kept: &Kept,
        tokens: Tokens<'_>,
        rows: &CachedRows,
        draws: &[Draw],
    ) -> Result<Stepping> {
        let count = rows.positions.len();
        if draws.len() != count {
            bail!("{} draws for {count} sequences", draws.len());
        }
        let wanted: Vec<u32> = (0..count as u32).collect();
        let choices: Vec<f64> = draws.iter().copied().flat_map(choice).collect();
        let choices = self.transfers.upload(&choices)?.reshape((count, CHOICE))?;
        let chosen = Tensor::zeros(count, DType::U32, &self.device)?;
        let all_summaries = Tensor::zeros((count, SUMMARY), DType::F32, &self.device)?;
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
        Ok(Stepping {
            tokens: self.transfers.read_back(&chosen)?,
            summaries: self.transfers.read_back(&all_summaries)?,
            chosen,
        })
    }

    fn finish_stepping(stepping: Stepping) -> Result<Vec<Chosen>> {
        let summaries = stepping.summaries.wait()?;
        let chosen = stepping.tokens.wait()?;
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
    type Stepping = Stepping;

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
            tokens: Tokens::Host(tokens),
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

    fn runs_ahead(&self) -> bool {
        true
    }

    fn begin_step(
        &self,
        kept: &Kept,
        feed: Feed<'_, Stepping>,
        rows: CachedRows,
        draws: &[Draw],
    ) -> ModelResult<Stepping> {
        let tokens = match feed {
            Feed::Tokens(tokens) => Tokens::Host(tokens),
            Feed::Chosen(before) => Tokens::Device(&before.chosen),
        };
        self.begin_stepping(kept, tokens, &rows, draws)
            .map_err(device_error)
    }

    fn finish_step(&self, stepping: Stepping) -> ModelResult<Vec<Chosen>> {
        Self::finish_stepping(stepping).map_err(device_error)
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
