//! Tree attention on the device, and the write of keys and values to their slots.

use candle_core::{DType, Result, Tensor, bail};

#[cfg(feature = "cuda")]
use super::{
    launch::{Launch, Module, Scalar},
    operation::suffix,
    operations::ROW_THREADS,
    table::{TileShape, WIDE},
};
use super::{
    operation::{Operation, Output, Values, apply, expect},
    table::{NONE, Uploaded},
};
use crate::llama::Heads;

/// Head sizes there are attention kernels for.
pub(super) const HEAD_SIZES: [usize; 5] = [32, 64, 80, 96, 128];

/// Cosine and sine of the rotary embedding (arXiv 2104.09864), `[positions, head size / 2]` in f32.
pub(super) struct Rotary {
    pub(super) cosine: Tensor,
    pub(super) sine: Tensor,
}

/// `head` rotated at `position`: component `i` with component `i + half`.
fn rotate(head: &[f32], cosine: &[f32], sine: &[f32], position: usize) -> Vec<f32> {
    let half = head.len() / 2;
    let (low, high) = head.split_at(half);
    let (cosine, sine) = (
        &cosine[position * half..][..half],
        &sine[position * half..][..half],
    );
    let first = (0..half).map(|i| low[i] * cosine[i] - high[i] * sine[i]);
    let second = (0..half).map(|i| high[i] * cosine[i] + low[i] * sine[i]);
    first.chain(second).collect()
}

/// Bytes of shared memory of the attention kernel, by the formula in `attention.cu`.
#[cfg(feature = "cuda")]
fn shared_bytes(dtype: DType, size: usize, shape: TileShape) -> u32 {
    let rows = match (dtype, shape == WIDE) {
        (DType::F32, _) => shape.queries + 2 * shape.window,
        (_, true) => 4 * shape.window,
        (_, false) => 6 * shape.window,
    };
    (dtype.size_in_bytes() * size * rows) as u32
}

struct RotateStore<'a> {
    fused: &'a Tensor,
    positions: &'a Tensor,
    slots: &'a Tensor,
    rotary: &'a Rotary,
    heads: Heads,
    capacity: usize,
}

impl Operation for RotateStore<'_> {
    fn name(&self) -> &'static str {
        "rotate_store"
    }

    fn inputs(&self) -> Vec<&Tensor> {
        vec![
            self.fused,
            self.positions,
            self.slots,
            &self.rotary.cosine,
            &self.rotary.sine,
        ]
    }

    fn twin(&self, output: &mut Output<'_>, inputs: &[Values<'_>]) -> Result<()> {
        let (fused, cosine, sine) = (inputs[0].floats(), inputs[3].floats(), inputs[4].floats());
        let Heads {
            queries,
            key_values,
            size,
        } = self.heads;
        let rows = inputs[1].indices().iter().zip(inputs[2].indices());
        for (row, (&position, &slot)) in rows.enumerate() {
            if slot as usize >= self.capacity {
                bail!("rotate_store: slot {slot} of {}", self.capacity);
            }
            let row = &fused[row * self.heads.fused() + queries * size..];
            for head in 0..key_values {
                let key = &row[head * size..(head + 1) * size];
                let value = &row[(key_values + head) * size..][..size];
                let at = |slot: usize| (slot * key_values + head) * size;
                let key = rotate(key, &cosine, &sine, position as usize);
                output.write(at(slot as usize), &key);
                output.write(at(self.capacity + slot as usize), value);
            }
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn launch(&self) -> Launch {
        let rows = self.positions.elem_count();
        Launch {
            module: Module::Rows,
            kernel: format!("rotate_store_{}", suffix(self.fused.dtype())),
            grid: (rows, 1),
            threads: ROW_THREADS,
            shared: 0,
            scalars: vec![
                rows.into(),
                self.heads.queries.into(),
                self.heads.key_values.into(),
                self.heads.size.into(),
                Scalar::U64(self.capacity as u64),
            ],
        }
    }
}

/// Slots of `[2, slots, key-value heads, head size]`: keys, then values.
fn capacity(key_values: &Tensor) -> Result<usize> {
    key_values.dim(1)
}

/// Rotates the keys of `fused`, `[rows, fused]`, by `positions` and puts them and the values into `key_values`
/// at `slots`. There may be more rows than positions; the caller has checked the slots.
///
/// # Errors
/// When the device fails.
pub(super) fn rotate_store(
    key_values: &Tensor,
    fused: &Tensor,
    positions: &Tensor,
    slots: &Tensor,
    rotary: &Rotary,
    heads: Heads,
) -> Result<()> {
    let name = "rotate_store";
    let rows = positions.elem_count();
    expect(
        name,
        "the rows",
        fused,
        key_values.dtype(),
        rows * heads.fused(),
    )?;
    expect(name, "the positions", positions, DType::U32, rows)?;
    expect(name, "the slots", slots, DType::U32, rows)?;
    let capacity = capacity(key_values)?;
    let elements = 2 * capacity * heads.key_values * heads.size;
    expect(name, "the cache", key_values, key_values.dtype(), elements)?;
    apply(
        key_values,
        &RotateStore {
            fused,
            positions,
            slots,
            rotary,
            heads,
            capacity,
        },
    )
}

struct Attention<'a> {
    fused: &'a Tensor,
    key_values: &'a Tensor,
    table: &'a Uploaded,
    rotary: &'a Rotary,
    heads: Heads,
    capacity: usize,
}

impl Attention<'_> {
    fn scale(&self) -> f32 {
        1.0 / (self.heads.size as f32).sqrt()
    }
}

impl Operation for Attention<'_> {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn inputs(&self) -> Vec<&Tensor> {
        vec![
            self.fused,
            self.key_values,
            &self.table.tiles,
            &self.table.steps,
            &self.table.slots,
            &self.table.positions,
            &self.rotary.cosine,
            &self.rotary.sine,
        ]
    }

    fn twin(&self, output: &mut Output<'_>, inputs: &[Values<'_>]) -> Result<()> {
        let (fused, key_values) = (inputs[0].floats(), inputs[1].floats());
        let [tiles, steps, slots, positions] = [2, 3, 4, 5].map(|at| inputs[at].indices());
        let (cosine, sine) = (inputs[6].floats(), inputs[7].floats());
        let Heads {
            queries,
            key_values: kv_heads,
            size,
        } = self.heads;
        let window = self.table.shape.window;
        for tile in tiles.chunks_exact(4).take(self.table.count) {
            for row in 0..tile[1] {
                // The keys this row meets, in the order of the steps.
                let at = (tile[0] + row) as usize;
                let mut met = Vec::new();
                for step in tile[2] as usize..(tile[2] + tile[3]) as usize {
                    let first = steps[step * 4] as usize * window;
                    if !(steps[step * 4 + 1]..steps[step * 4 + 2]).contains(&row) {
                        continue;
                    }
                    let keys = &slots[step * window..][..window];
                    let seen = keys
                        .iter()
                        .enumerate()
                        .filter(|&(key, &slot)| {
                            slot != NONE && first + key <= positions[at] as usize
                        })
                        .map(|(_, &slot)| slot as usize);
                    met.extend(seen);
                }
                if met.iter().any(|&slot| slot >= self.capacity) {
                    bail!("attention: a slot is beyond {}", self.capacity);
                }
                for head in 0..queries {
                    let query = &fused[at * self.heads.fused() + head * size..][..size];
                    let query = rotate(query, &cosine, &sine, positions[at] as usize);
                    let kv_head = head / (queries / kv_heads);
                    let of =
                        |slot: usize| &key_values[(slot * kv_heads + kv_head) * size..][..size];
                    let scores: Vec<f32> = met
                        .iter()
                        .map(|&slot| {
                            let dot: f32 = query.iter().zip(of(slot)).map(|(a, b)| a * b).sum();
                            dot * self.scale()
                        })
                        .collect();
                    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let mut sum = 0.0;
                    let mut mean = vec![0f32; size];
                    for (score, &slot) in scores.iter().zip(&met) {
                        let weight = (score - largest).exp();
                        sum += weight;
                        for (mean, value) in mean.iter_mut().zip(of(self.capacity + slot)) {
                            *mean += weight * value;
                        }
                    }
                    mean.iter_mut().for_each(|mean| *mean /= sum);
                    output.write((at * queries + head) * size, &mean);
                }
            }
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn launch(&self) -> Launch {
        let dtype = self.fused.dtype();
        let Heads { size, .. } = self.heads;
        let queries = self.table.shape.queries;
        Launch {
            module: Module::Attention,
            kernel: format!("attention_{}_h{size}_q{queries}", suffix(dtype)),
            grid: (self.table.count, self.heads.key_values),
            // A warp for every sixteen queries.
            threads: 2 * queries as u32,
            shared: shared_bytes(dtype, size, self.table.shape),
            scalars: vec![
                self.heads.queries.into(),
                self.heads.key_values.into(),
                Scalar::U64(self.capacity as u64),
                Scalar::F32(self.scale()),
            ],
        }
    }
}

/// Attention of the rows of `table`: `[rows, query heads * head size]` from the queries in `fused`,
/// `[rows, fused]`, and the keys and values kept in `key_values`.
///
/// # Errors
/// When the device fails.
pub(super) fn attention(
    out: &Tensor,
    fused: &Tensor,
    key_values: &Tensor,
    table: &Uploaded,
    rotary: &Rotary,
    heads: Heads,
) -> Result<()> {
    let name = "attention";
    let dtype = key_values.dtype();
    let rows = table.positions.elem_count();
    let width = heads.queries * heads.size;
    expect(name, "the output", out, dtype, rows * width)?;
    expect(name, "the rows", fused, dtype, rows * heads.fused())?;
    let capacity = capacity(key_values)?;
    let elements = 2 * capacity * heads.key_values * heads.size;
    expect(name, "the cache", key_values, dtype, elements)?;
    apply(
        out,
        &Attention {
            fused,
            key_values,
            table,
            rotary,
            heads,
            capacity,
        },
    )
}
