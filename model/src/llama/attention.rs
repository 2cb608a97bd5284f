//! Attention over a token tree.
//!
//! A row attends to all rows on its path from the root. Keys are walked in the order of the path,
//! sixteen at a time, in steps aligned to their position in the sequence, with an online softmax
//! (arXiv 2205.14135) whose running maximum is rounded up to a whole power of two. Rescaling by a
//! power of two is exact, and every sum takes its terms one after the other in path order: so a
//! row's result is the same to the last bit, however the tree was cut into nodes and batches.

use std::{ops::Range, sync::Arc};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape};
use rayon::prelude::*;

use super::cache::{KeyValues, Layer as CachedLayer};
use crate::{
    forward::CachedRows,
    lanes::{Kernel, LANES, Lanes, with_lanes},
    tree::TokenTree,
};

/// Query rows that one task works on when scoring.
const CHUNK_ROWS: usize = 32;
/// Query rows that one task works on when text is generated: there are few rows, and each has many keys.
const STEP_ROWS: usize = 8;
/// Key tiles between two rescalings.
const TILES_PER_STEP: usize = 4;
/// Keys between two rescalings.
const STEP: usize = TILES_PER_STEP * LANES;

/// Sizes of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heads {
    /// Query heads.
    pub(crate) queries: usize,
    /// Key-value heads; each serves `queries / key_values` query heads.
    pub(crate) key_values: usize,
    /// Components of a head.
    pub(crate) size: usize,
}

impl Heads {
    /// Columns of the fused projection: queries, keys, values.
    pub(crate) fn fused(self) -> usize {
        (self.queries + 2 * self.key_values) * self.size
    }

    fn group(self) -> usize {
        self.queries / self.key_values
    }

    /// Head size rounded up to whole lanes.
    pub(crate) fn padded(self) -> usize {
        self.size.next_multiple_of(LANES)
    }
}

/// Cosine and sine of the rotary embedding (arXiv 2104.09864), `[positions, head size / 2]`.
#[derive(Debug)]
pub(crate) struct Rotary {
    cosine: Vec<f32>,
    sine: Vec<f32>,
    half: usize,
}

impl Rotary {
    /// Tables for positions `0..positions`.
    pub(crate) fn new(inverse_frequencies: &[f32], positions: usize) -> Self {
        let angles = (0..positions).flat_map(|position| {
            inverse_frequencies
                .iter()
                .map(move |frequency| position as f32 * frequency)
        });
        let (cosine, sine) = angles.map(|angle| (angle.cos(), angle.sin())).unzip();
        Self {
            cosine,
            sine,
            half: inverse_frequencies.len(),
        }
    }

    /// Rotates one head at `position`: component `i` with component `i + half`, as Hugging Face's
    /// LLaMA does.
    fn rotate(&self, head: &[f32], position: u32, mut put: impl FnMut(usize, f32)) {
        let table = position as usize * self.half..(position as usize + 1) * self.half;
        let (low, high) = head.split_at(self.half);
        let angles = self.cosine[table.clone()].iter().zip(&self.sine[table]);
        for (i, ((&a, &b), (&cosine, &sine))) in low.iter().zip(high).zip(angles).enumerate() {
            put(i, a * cosine - b * sine);
            put(i + self.half, b * cosine + a * sine);
        }
    }
}

/// Sixteen keys at aligned positions of one node.
#[derive(Clone, Copy, Debug)]
struct Tile {
    /// Row of the first key.
    row: u32,
    /// Lane of the first key: its position modulo 16.
    lane: u32,
    /// Number of keys.
    keys: u32,
}

/// A dense piece of the attention matrix: rows `queries` against all keys of `node`.
#[derive(Clone, Debug)]
struct Block {
    queries: Range<u32>,
    node: u32,
}

/// Keys of consecutive positions that several rows attend to.
#[derive(Clone, Debug)]
pub(crate) struct NodeKeys {
    /// Rows of the batch that are the node's own; empty when its keys were computed before.
    pub(crate) own: Range<u32>,
    /// Which of the node's keys the first of these rows makes, from 0.
    pub(crate) own_key: u32,
    /// Position of the first key.
    pub(crate) first_position: u32,
    /// Number of keys.
    pub(crate) keys: u32,
    /// Tile of the first key; the others follow.
    pub(crate) first_tile: u32,
    /// Row of the first value; the others follow.
    pub(crate) first_value: u32,
}

/// Which rows attend to which keys: made once per batch, used by every layer.
#[derive(Debug)]
pub(crate) struct AttentionPlan {
    positions: Vec<u32>,
    keys: Keys,
    nodes: Vec<NodeKeys>,
    /// Rows of a chunk.
    chunk_rows: usize,
    /// For each chunk of rows its blocks, in path order for every row.
    chunks: Vec<Vec<Block>>,
}

/// Where keys and values lie.
#[derive(Debug)]
enum Keys {
    /// All are computed in this batch, and dropped after the layer.
    Batch(Vec<Tile>),
    /// In a cache, from earlier batches too: the slot each row's key and value go to, `[rows]`.
    Cache(Vec<u32>),
}

impl AttentionPlan {
    /// The plan of `tree`.
    pub(crate) fn new(tree: &TokenTree) -> Self {
        let mut tiles = Vec::new();
        let mut nodes = Vec::with_capacity(tree.nodes.len());
        for node in &tree.nodes {
            let keys = NodeKeys {
                own: node.rows.clone(),
                own_key: 0,
                first_position: node.position,
                keys: node.rows.end - node.rows.start,
                first_tile: tiles.len() as u32,
                first_value: node.rows.start,
            };
            nodes.push((keys, node.rows.start..node.subtree_end));
            let mut row = node.rows.start;
            while row < node.rows.end {
                let lane = (node.position + (row - node.rows.start)) % LANES as u32;
                let keys = (LANES as u32 - lane).min(node.rows.end - row);
                tiles.push(Tile { row, lane, keys });
                row += keys;
            }
        }
        Self::from_nodes(
            tree.positions.clone(),
            Keys::Batch(tiles),
            nodes,
            CHUNK_ROWS,
        )
    }

    /// The plan of a batch whose keys stay in a cache.
    pub(crate) fn cached(rows: CachedRows) -> Self {
        Self::from_nodes(
            rows.positions,
            Keys::Cache(rows.slots),
            rows.nodes,
            STEP_ROWS,
        )
    }

    /// Depth-first order puts ancestors before descendants: path order for free.
    fn from_nodes(
        positions: Vec<u32>,
        keys: Keys,
        nodes: Vec<(NodeKeys, Range<u32>)>,
        chunk_rows: usize,
    ) -> Self {
        let mut chunks = vec![Vec::new(); positions.len().div_ceil(chunk_rows)];
        for (index, (_, queries)) in nodes.iter().enumerate() {
            let mut start = queries.start;
            while start < queries.end {
                let chunk = start as usize / chunk_rows;
                let end = (((chunk + 1) * chunk_rows) as u32).min(queries.end);
                chunks[chunk].push(Block {
                    queries: start..end,
                    node: index as u32,
                });
                start = end;
            }
        }
        Self {
            positions,
            keys,
            nodes: nodes.into_iter().map(|(keys, _)| keys).collect(),
            chunk_rows,
            chunks,
        }
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.positions.len()
    }

    /// The last position of any row.
    pub(crate) fn last_position(&self) -> usize {
        self.positions
            .iter()
            .max()
            .map_or(0, |&position| position as usize)
    }
}

/// Attention of one layer: `[rows, fused]` queries, keys and values before rotation to
/// `[rows, query heads * head size]`, in f32.
pub(crate) struct TreeAttention {
    /// Who attends to whom.
    pub(crate) plan: Arc<AttentionPlan>,
    /// Rotary tables that reach the last position of the batch.
    pub(crate) rotary: Arc<Rotary>,
    /// Sizes.
    pub(crate) heads: Heads,
    /// Where keys and values stay, if they do.
    pub(crate) cache: Option<CachedLayer>,
}

impl CustomOp1 for TreeAttention {
    fn name(&self) -> &'static str {
        "tree-attention"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (start, end) = layout.contiguous_offsets().ok_or_else(|| {
            candle_core::Error::Msg("tree attention wants contiguous rows".to_owned())
        })?;
        let fused = &storage.as_slice::<f32>()?[start..end];
        let rows = self.plan.positions.len();
        if fused.len() != rows * self.heads.fused() {
            candle_core::bail!(
                "tree attention: {} values for {rows} rows of {}",
                fused.len(),
                self.heads.fused()
            );
        }
        let output = match (&self.plan.keys, &self.cache) {
            (Keys::Batch(tiles), None) => {
                let (keys, values) = self.pack(fused, tiles);
                self.attend(fused, &keys, &values)
            }
            (Keys::Cache(_), Some(cache)) => {
                self.keep(fused)?;
                let cache = cache.read();
                self.attend(fused, &cache.keys, &cache.values)
            }
            _ => {
                candle_core::bail!("tree attention: the plan and the cache do not belong together")
            }
        };
        let width = self.heads.queries * self.heads.size;
        Ok((CpuStorage::F32(output), Shape::from((rows, width))))
    }
}

impl TreeAttention {
    fn attend(&self, fused: &[f32], keys: &[f32], values: &[f32]) -> Vec<f32> {
        let width = self.heads.queries * self.heads.size;
        let mut output = vec![0f32; self.plan.rows() * width];
        output
            .par_chunks_mut(self.plan.chunk_rows * width)
            .enumerate()
            .for_each(|(chunk, output)| {
                with_lanes(AttendChunk {
                    op: self,
                    fused,
                    keys,
                    values,
                    chunk,
                    output,
                });
            });
        output
    }

    /// Puts the rotated keys and the values of `fused` into the cache.
    ///
    /// # Errors
    /// When there is no cache, or a slot is beyond its end.
    pub(crate) fn keep(&self, fused: &[f32]) -> Result<()> {
        let (Keys::Cache(slots), Some(cache)) = (&self.plan.keys, &self.cache) else {
            candle_core::bail!("tree attention: there is no cache")
        };
        let Heads {
            queries,
            key_values,
            size,
        } = self.heads;
        let padded = self.heads.padded();
        let mut cache = cache.write();
        let KeyValues { keys, values } = &mut *cache;
        let rows = fused.chunks_exact(self.heads.fused());
        for ((row, &position), &slot) in rows.zip(&self.plan.positions).zip(slots) {
            let (tile, lane) = (slot as usize / LANES, slot as usize % LANES);
            let tile_size = key_values * size * LANES;
            let (Some(tile), Some(value)) = (
                keys.get_mut(tile * tile_size..(tile + 1) * tile_size),
                values.get_mut(slot as usize * key_values * padded..),
            ) else {
                candle_core::bail!("tree attention: slot {slot} is beyond the end of the cache")
            };
            let (_, row) = row.split_at(queries * size);
            let (key, row) = row.split_at(key_values * size);
            for head in 0..key_values {
                let target = &mut tile[head * size * LANES..];
                self.rotary
                    .rotate(&key[head * size..(head + 1) * size], position, |i, x| {
                        target[i * LANES + lane] = x;
                    });
                value[head * padded..head * padded + size]
                    .copy_from_slice(&row[head * size..(head + 1) * size]);
            }
        }
        Ok(())
    }

    /// Rotated keys as `[tiles, key-value heads, head size, 16]` and values as
    /// `[rows, key-value heads, padded head size]`.
    fn pack(&self, fused: &[f32], tiles: &[Tile]) -> (Vec<f32>, Vec<f32>) {
        let Heads {
            queries,
            key_values,
            size,
        } = self.heads;
        let padded = self.heads.padded();
        let mut keys = vec![0f32; tiles.len() * key_values * size * LANES];
        keys.par_chunks_mut(key_values * size * LANES)
            .zip(tiles)
            .with_min_len(16)
            .for_each(|(keys, tile)| {
                for key in 0..tile.keys as usize {
                    let row = tile.row as usize + key;
                    let lane = tile.lane as usize + key;
                    let position = self.plan.positions[row];
                    let source = &fused[row * self.heads.fused() + queries * size..];
                    for head in 0..key_values {
                        let target = &mut keys[head * size * LANES..];
                        self.rotary.rotate(
                            &source[head * size..(head + 1) * size],
                            position,
                            |i, x| {
                                target[i * LANES + lane] = x;
                            },
                        );
                    }
                }
            });
        let mut values = vec![0f32; self.plan.positions.len() * key_values * padded];
        values
            .par_chunks_mut(key_values * padded)
            .enumerate()
            .with_min_len(64)
            .for_each(|(row, values)| {
                let source = &fused[row * self.heads.fused() + (queries + key_values) * size..];
                for head in 0..key_values {
                    values[head * padded..head * padded + size]
                        .copy_from_slice(&source[head * size..(head + 1) * size]);
                }
            });
        (keys, values)
    }
}

/// Attention of all heads for one chunk of rows.
struct AttendChunk<'a> {
    op: &'a TreeAttention,
    fused: &'a [f32],
    keys: &'a [f32],
    values: &'a [f32],
    chunk: usize,
    /// `[rows of the chunk, query heads * head size]`.
    output: &'a mut [f32],
}

/// Running state of the online softmax, one entry per query (a row and one of its heads).
struct State {
    /// Rotated, scaled queries, `[queries, head size]`.
    queries: Vec<f32>,
    /// Whole exponents not below the largest score so far, `[queries]`.
    shifts: Vec<f32>,
    /// Sums of weights by lane, `[queries, 16]`.
    sums: Vec<f32>,
    /// Weighted sums of values, `[queries, padded head size]`.
    outputs: Vec<f32>,
}

impl Kernel for AttendChunk<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let heads = self.op.heads;
        let (group, padded) = (heads.group(), heads.padded());
        let width = heads.queries * heads.size;
        let first_row = self.chunk * self.op.plan.chunk_rows;
        let rows = self.output.len() / width;
        let count = rows * group;
        // Softmax in powers of two: exp(x) = 2^(x log2 e).
        let scale = std::f32::consts::LOG2_E / (heads.size as f32).sqrt();
        let mut state = State {
            queries: vec![0f32; count * heads.size],
            shifts: vec![0f32; count],
            sums: vec![0f32; count * LANES],
            outputs: vec![0f32; count * padded],
        };
        for head in 0..heads.key_values {
            state.shifts.fill(f32::NEG_INFINITY);
            state.sums.fill(0.0);
            state.outputs.fill(0.0);
            for row in 0..rows {
                let position = self.op.plan.positions[first_row + row];
                for member in 0..group {
                    let source =
                        (first_row + row) * heads.fused() + (head * group + member) * heads.size;
                    let target =
                        &mut state.queries[(row * group + member) * heads.size..][..heads.size];
                    self.op.rotary.rotate(
                        &self.fused[source..source + heads.size],
                        position,
                        |i, x| {
                            target[i] = x * scale;
                        },
                    );
                }
            }
            for block in &self.op.plan.chunks[self.chunk] {
                // SAFETY: the caller's promise; the block's rows lie in this chunk by construction.
                unsafe { self.attend_block::<L>(head, first_row, block, &mut state) };
            }
            for query in 0..count {
                // SAFETY: `sums` holds sixteen floats per query.
                let sum = unsafe { L::load(state.sums.as_ptr().add(query * LANES)).sum() };
                let (row, member) = (query / group, query % group);
                let target = &mut self.output[row * width + (head * group + member) * heads.size..]
                    [..heads.size];
                for (target, value) in target.iter_mut().zip(&state.outputs[query * padded..]) {
                    *target = value / sum;
                }
            }
        }
    }
}

impl AttendChunk<'_> {
    /// Adds the keys of one node to the state of the block's queries.
    ///
    /// # Safety
    /// As [`Lanes`]; the block belongs to this chunk.
    #[inline(always)]
    unsafe fn attend_block<L: Lanes>(
        &self,
        head: usize,
        first_row: usize,
        block: &Block,
        state: &mut State,
    ) {
        let plan = &self.op.plan;
        let group = self.op.heads.group();
        let node = &plan.nodes[block.node as usize];
        let first_lane = node.first_position as usize % LANES;
        let end_lane = first_lane + node.keys as usize;
        let mut step_start = 0;
        // Lanes are counted from the start of the node's first tile.
        while step_start < end_lane {
            let lanes = step_start.max(first_lane)..(step_start + STEP).min(end_lane);
            let first_key = lanes.start - first_lane;
            // The node's own rows see the keys up to their own; none of this step's before its first.
            let start = if block.queries.start < node.own.end {
                let before = first_key.saturating_sub(node.own_key as usize);
                (block.queries.start as usize).max(node.own.start as usize + before)
            } else {
                block.queries.start as usize
            };
            let mut query = start.saturating_sub(first_row) * group;
            let end = (block.queries.end as usize - first_row) * group;
            let step = Step {
                head,
                tile: node.first_tile as usize + step_start / LANES,
                lanes: lanes.start - step_start..lanes.end - step_start,
                first_value: node.first_value as usize + first_key,
                first_position: node.first_position as usize + first_key,
                chunk_row: first_row,
            };
            while query < end {
                // SAFETY: `query + N <= end` in each arm.
                unsafe {
                    query += match end - query {
                        8.. => self.attend_step::<L, 8>(&step, query, state),
                        4.. => self.attend_step::<L, 4>(&step, query, state),
                        2.. => self.attend_step::<L, 2>(&step, query, state),
                        _ => self.attend_step::<L, 1>(&step, query, state),
                    };
                }
            }
            step_start += STEP;
        }
    }

    /// Scores `N` queries against the keys of one step, and adds the values. Returns `N`.
    ///
    /// # Safety
    /// As [`Lanes`]; queries `query..query + N` exist.
    #[inline(always)]
    unsafe fn attend_step<L: Lanes, const N: usize>(
        &self,
        step: &Step,
        query: usize,
        state: &mut State,
    ) -> usize {
        let heads = self.op.heads;
        let (group, size, padded) = (heads.group(), heads.size, heads.padded());
        let tile_stride = heads.key_values * size * LANES;
        let tiles = step.lanes.end.div_ceil(LANES);
        let mut weights = [[0f32; STEP]; N];
        // SAFETY: tiles `step.tile..step.tile + tiles` belong to the node; each holds `size * 16` floats per head;
        // the state holds `size`, 16 and `padded` floats per query; value rows exist for all keys of the step.
        unsafe {
            let keys = self
                .keys
                .as_ptr()
                .add(step.tile * tile_stride + step.head * size * LANES);
            let queries = state.queries.as_ptr().add(query * size);
            let mut tile = 0;
            while tile < tiles {
                let keys = keys.add(tile * tile_stride);
                if tile + 1 < tiles {
                    dot_products::<L, N, 2>(queries, size, keys, tile_stride, tile, &mut weights);
                    tile += 2;
                } else {
                    dot_products::<L, N, 1>(queries, size, keys, tile_stride, tile, &mut weights);
                    tile += 1;
                }
            }
            for (n, weights) in weights.iter_mut().enumerate() {
                // A row sees the keys up to its own.
                let row = step.chunk_row + (query + n) / group;
                let position = self.op.plan.positions[row] as usize;
                let seen =
                    (step.lanes.start + position + 1 - step.first_position).min(step.lanes.end);
                let sums = state.sums.as_mut_ptr().add((query + n) * LANES);
                let mut largest = L::splat(f32::NEG_INFINITY);
                for tile in 0..tiles {
                    let kept = step.lanes.start.clamp(tile * LANES, (tile + 1) * LANES)
                        - tile * LANES
                        ..seen.clamp(tile * LANES, (tile + 1) * LANES) - tile * LANES;
                    let at = weights.as_mut_ptr().add(tile * LANES);
                    let scores =
                        L::load(at).keep(kept.start..kept.end.max(kept.start), f32::NEG_INFINITY);
                    scores.store(at);
                    largest = scores.max(largest);
                }
                let old = state.shifts[query + n];
                let shift = old.max(largest.largest().ceil());
                let shift = if shift.is_finite() { shift } else { 0.0 };
                if shift != old {
                    state.shifts[query + n] = shift;
                    let change = L::splat(old - shift);
                    L::load(sums).scale(change).store(sums);
                    for i in (0..padded).step_by(LANES) {
                        let output = state.outputs.as_mut_ptr().add((query + n) * padded + i);
                        L::load(output).scale(change).store(output);
                    }
                }
                let shift = L::splat(shift);
                for tile in 0..tiles {
                    let at = weights.as_mut_ptr().add(tile * LANES);
                    let powers = L::load(at).exp2_shifted(shift);
                    powers.store(at);
                    L::load(sums).add(powers).store(sums);
                }
            }
            let value_stride = heads.key_values * padded;
            let values = self
                .values
                .as_ptr()
                .add(step.first_value * value_stride + step.head * padded);
            let outputs = state.outputs.as_mut_ptr().add(query * padded);
            let mut column = 0;
            while column < padded {
                let (values, outputs) = (values.add(column), outputs.add(column));
                if column + 4 * LANES <= padded {
                    add_values::<L, N, 4>(
                        &weights,
                        step.lanes.clone(),
                        values,
                        value_stride,
                        outputs,
                        padded,
                    );
                    column += 4 * LANES;
                } else {
                    add_values::<L, N, 1>(
                        &weights,
                        step.lanes.clone(),
                        values,
                        value_stride,
                        outputs,
                        padded,
                    );
                    column += LANES;
                }
            }
        }
        N
    }
}

/// Up to [`STEP`] keys of one node.
struct Step {
    head: usize,
    /// First tile.
    tile: usize,
    /// Lanes that hold keys, counted from the first tile's first lane.
    lanes: Range<usize>,
    /// Row of the value at `lanes.start`.
    first_value: usize,
    /// Position of the key at `lanes.start`.
    first_position: usize,
    /// First row of the chunk.
    chunk_row: usize,
}

/// Scores of `N` queries against `T` tiles from tile `tile` on, into `scores`.
///
/// # Safety
/// As [`Lanes`]; `queries` holds `N * size` floats, each tile `size * 16`.
#[inline(always)]
unsafe fn dot_products<L: Lanes, const N: usize, const T: usize>(
    queries: *const f32,
    size: usize,
    keys: *const f32,
    tile_stride: usize,
    tile: usize,
    scores: &mut [[f32; STEP]; N],
) {
    // SAFETY: the caller's promise; `tile + T <= TILES_PER_STEP` lanes fit into a step.
    unsafe {
        let mut sums = [[L::splat(0.0); T]; N];
        for i in 0..size {
            let mut column = [L::splat(0.0); T];
            for (t, column) in column.iter_mut().enumerate() {
                *column = L::load(keys.add(t * tile_stride + i * LANES));
            }
            for (n, sums) in sums.iter_mut().enumerate() {
                let component = L::splat(*queries.add(n * size + i));
                for (sum, column) in sums.iter_mut().zip(column) {
                    *sum = component.multiply_add(column, *sum);
                }
            }
        }
        for (sums, scores) in sums.iter().zip(scores) {
            for (t, sum) in sums.iter().enumerate() {
                sum.store(scores.as_mut_ptr().add((tile + t) * LANES));
            }
        }
    }
}

/// Adds `weights` times values to the outputs of `N` queries, `R * 16` columns of them, key after key.
///
/// # Safety
/// As [`Lanes`]; a value row exists for every lane, and `R * 16` floats per output.
#[inline(always)]
unsafe fn add_values<L: Lanes, const N: usize, const R: usize>(
    weights: &[[f32; STEP]; N],
    lanes: Range<usize>,
    values: *const f32,
    value_stride: usize,
    outputs: *mut f32,
    output_stride: usize,
) {
    let mut first = 0;
    while first < N {
        let rest = &weights[first..];
        // SAFETY: the caller's promise; `first + Q <= N` in each arm.
        unsafe {
            let outputs = outputs.add(first * output_stride);
            // Four queries at a time: sixteen accumulators and four value registers fit the register file.
            first += match N - first {
                4.. => add_values_to::<L, 4, R>(
                    rest,
                    lanes.clone(),
                    values,
                    value_stride,
                    outputs,
                    output_stride,
                ),
                2.. => add_values_to::<L, 2, R>(
                    rest,
                    lanes.clone(),
                    values,
                    value_stride,
                    outputs,
                    output_stride,
                ),
                _ => add_values_to::<L, 1, R>(
                    rest,
                    lanes.clone(),
                    values,
                    value_stride,
                    outputs,
                    output_stride,
                ),
            };
        }
    }
}

/// [`add_values`] for the first `Q` queries. Returns `Q`.
///
/// # Safety
/// As [`add_values`].
#[inline(always)]
unsafe fn add_values_to<L: Lanes, const Q: usize, const R: usize>(
    weights: &[[f32; STEP]],
    lanes: Range<usize>,
    values: *const f32,
    value_stride: usize,
    outputs: *mut f32,
    output_stride: usize,
) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[L::splat(0.0); R]; Q];
        for (n, sums) in sums.iter_mut().enumerate() {
            for (r, sum) in sums.iter_mut().enumerate() {
                *sum = L::load(outputs.add(n * output_stride + r * LANES));
            }
        }
        for (key, lane) in lanes.enumerate() {
            let mut row = [L::splat(0.0); R];
            for (r, row) in row.iter_mut().enumerate() {
                *row = L::load(values.add(key * value_stride + r * LANES));
            }
            for (n, sums) in sums.iter_mut().enumerate() {
                let weight = L::splat(*weights.get_unchecked(n).get_unchecked(lane));
                for (sum, row) in sums.iter_mut().zip(row) {
                    *sum = weight.multiply_add(row, *sum);
                }
            }
        }
        for (n, sums) in sums.iter().enumerate() {
            for (r, sum) in sums.iter().enumerate() {
                sum.store(outputs.add(n * output_stride + r * LANES));
            }
        }
    }
    Q
}
