//! The attention table: which rows meet which keys, as the attention kernel walks it.
//!
//! Rows are taken in tiles of consecutive rows, keys in windows of positions `window * WIDTH ..`. A step lets the rows
//! of one tile whose paths agree on a window meet its keys: the keys are listed by slot, so a window may be put
//! together from several nodes. A row therefore meets whole windows, in the order of its path, aligned to the
//! position in the sequence: what it computes does not depend on how the tree was cut into nodes and batches.

use std::ops::Range;

use candle_core::{Result, Tensor};

use super::transfer::Transfers;

/// No key.
pub(super) const NONE: u32 = u32::MAX;

/// A run of keys at consecutive positions and consecutive slots, and the rows that attend to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyRun {
    /// Position of the first key.
    pub(crate) position: u32,
    /// Slot of the first key.
    pub(crate) slot: u32,
    /// Number of keys.
    pub(crate) keys: u32,
    /// Rows at or below it.
    pub(crate) queries: Range<u32>,
}

/// Shape of a tile: queries of a block of threads, and keys of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TileShape {
    pub(super) queries: usize,
    pub(super) window: usize,
}

/// Long runs of rows: scoring, and prompts.
pub(super) const WIDE: TileShape = TileShape {
    queries: 64,
    window: 64,
};
/// One row of many sequences each: a step of generation.
pub(super) const NARROW: TileShape = TileShape {
    queries: 16,
    window: 32,
};

impl TileShape {
    /// Rows of a tile when `group` query heads share their keys.
    pub(super) fn rows(self, group: usize) -> usize {
        self.queries / group
    }
}

/// The table of one batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// `[tiles, 4]`: first row, rows, first step, steps.
    pub(super) tiles: Vec<u32>,
    /// `[steps, 4]`: window, first row and one past the last row within the tile, 0.
    pub(super) steps: Vec<u32>,
    /// `[steps, window]`.
    pub(super) slots: Vec<u32>,
}

/// One step while its tile is put together.
struct Step {
    rows: Range<u32>,
    slots: Vec<u32>,
}

/// Consecutive rows below the same runs of keys.
struct Branch {
    rows: Range<u32>,
    /// Indices of the runs, from the root down.
    path: Vec<usize>,
}

impl Table {
    /// The table of rows at `positions` below `runs`, which come in depth-first order: a run before those below it.
    pub(super) fn new(positions: &[u32], runs: &[KeyRun], shape: TileShape, group: usize) -> Self {
        let branches = branches(positions.len() as u32, runs);
        let mut table = Self::default();
        let tile_rows = shape.rows(group).max(1) as u32;
        let mut at = 0;
        for first in (0..positions.len() as u32).step_by(tile_rows as usize) {
            let end = (first + tile_rows).min(positions.len() as u32);
            while at < branches.len() && branches[at].rows.end <= first {
                at += 1;
            }
            let mut windows: Vec<Vec<Step>> = Vec::new();
            let mut before: Option<(&Branch, u32)> = None;
            for branch in branches[at..]
                .iter()
                .take_while(|branch| branch.rows.start < end)
            {
                let rows = branch.rows.start.max(first)..branch.rows.end.min(end);
                let last = positions[rows.start as usize..rows.end as usize]
                    .iter()
                    .max()
                    .copied()
                    .unwrap_or_default();
                // Positions whose keys are those of the branch before.
                let shared = before.map_or(0, |(before, reached)| {
                    let common = before
                        .path
                        .iter()
                        .zip(&branch.path)
                        .take_while(|(a, b)| a == b)
                        .count();
                    match common.checked_sub(1) {
                        None => 0,
                        Some(deepest) => {
                            let run = &runs[branch.path[deepest]];
                            (run.position + run.keys).min(reached + 1)
                        }
                    }
                });
                let rows = rows.start - first..rows.end - first;
                for window in 0..=last as usize / shape.window {
                    if windows.len() == window {
                        windows.push(Vec::new());
                    }
                    let start = (window * shape.window) as u32;
                    let steps = &mut windows[window];
                    let whole = start + shape.window as u32 <= shared;
                    if let Some(step) = steps.last_mut()
                        && step.rows.end == rows.start
                    {
                        if whole {
                            step.rows.end = rows.end;
                            continue;
                        }
                        let slots = window_slots(&branch.path, runs, start, last, shape.window);
                        if agree(&step.slots, &slots) {
                            for (slot, other) in step.slots.iter_mut().zip(slots) {
                                if *slot == NONE {
                                    *slot = other;
                                }
                            }
                            step.rows.end = rows.end;
                            continue;
                        }
                        steps.push(Step {
                            rows: rows.clone(),
                            slots,
                        });
                        continue;
                    }
                    steps.push(Step {
                        rows: rows.clone(),
                        slots: window_slots(&branch.path, runs, start, last, shape.window),
                    });
                }
                before = Some((branch, last));
            }
            table.push_tile(first..end, windows);
        }
        table
    }

    fn push_tile(&mut self, rows: Range<u32>, windows: Vec<Vec<Step>>) {
        let first_step = (self.steps.len() / 4) as u32;
        for (window, steps) in windows.into_iter().enumerate() {
            for step in steps {
                self.steps
                    .extend([window as u32, step.rows.start, step.rows.end, 0]);
                self.slots.extend(step.slots);
            }
        }
        let steps = (self.steps.len() / 4) as u32 - first_step;
        self.tiles
            .extend([rows.start, rows.end - rows.start, first_step, steps]);
    }
}

/// Rows split where the path changes.
fn branches(rows: u32, runs: &[KeyRun]) -> Vec<Branch> {
    let mut branches: Vec<Branch> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut next = 0;
    let mut row = 0;
    while row < rows {
        open.retain(|&run| runs[run].queries.end > row);
        while next < runs.len() && runs[next].queries.start <= row {
            if runs[next].queries.end > row {
                open.push(next);
            }
            next += 1;
        }
        let end = open
            .iter()
            .map(|&run| runs[run].queries.end)
            .chain(runs.get(next).map(|run| run.queries.start))
            .min()
            .unwrap_or(rows)
            .clamp(row + 1, rows);
        branches.push(Branch {
            rows: row..end,
            path: open.clone(),
        });
        row = end;
    }
    branches
}

/// Slots of the keys at positions `start..start + width` on `path`, none beyond `last`.
fn window_slots(path: &[usize], runs: &[KeyRun], start: u32, last: u32, width: usize) -> Vec<u32> {
    let mut slots = vec![NONE; width];
    let end = (start + width as u32).min(last + 1);
    // From the end: windows are mostly about the last runs of a path.
    for &run in path.iter().rev() {
        let run = &runs[run];
        for position in run.position.max(start)..(run.position + run.keys).min(end) {
            slots[(position - start) as usize] = run.slot + (position - run.position);
        }
        if run.position <= start {
            break;
        }
    }
    slots
}

/// Do both lists hold the same keys as far as both go?
fn agree(a: &[u32], b: &[u32]) -> bool {
    a.iter()
        .zip(b)
        .all(|(a, b)| a == b || *a == NONE || *b == NONE)
}

/// A table on the device, with the positions it was made for.
pub(super) struct Uploaded {
    pub(super) tiles: Tensor,
    pub(super) steps: Tensor,
    pub(super) slots: Tensor,
    pub(super) positions: Tensor,
    pub(super) shape: TileShape,
    /// Tiles.
    pub(super) count: usize,
}

impl Uploaded {
    /// Copies `table` to the device.
    ///
    /// # Errors
    /// When the device has no memory for it, or fails.
    pub(super) fn new(
        table: &Table,
        positions: &[u32],
        shape: TileShape,
        transfers: &Transfers,
    ) -> Result<Self> {
        Ok(Self {
            tiles: transfers.upload(&table.tiles)?,
            steps: transfers.upload(&table.steps)?,
            slots: transfers.upload(&table.slots)?,
            positions: transfers.upload(positions)?,
            shape,
            count: table.tiles.len() / 4,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tree::{Sequence, TokenTree, Walk};

    /// Sequences that share stems of up to 200 tokens: several windows, with branches inside them.
    fn forest() -> impl Strategy<Value = Vec<(Vec<u32>, Vec<u32>)>> {
        let stems = prop::collection::vec(prop::collection::vec(0u32..2, 1..200), 1..4);
        let tails = (any::<prop::sample::Index>(), any::<prop::sample::Index>());
        let ends = prop::collection::vec((tails, prop::collection::vec(0u32..2, 1..12)), 1..30);
        (stems, ends).prop_map(|(stems, ends)| {
            ends.into_iter()
                .map(|((stem, cut), end)| {
                    let stem = stem.get(&stems);
                    (stem[..=cut.index(stem.len())].to_vec(), end)
                })
                .collect()
        })
    }

    /// For each row the slots of its path, walked row by row.
    fn paths(positions: &[u32], runs: &[KeyRun]) -> Vec<Vec<u32>> {
        (0..positions.len() as u32)
            .map(|row| {
                let mut slots = Vec::new();
                for run in runs.iter().filter(|run| run.queries.contains(&row)) {
                    let end = (run.position + run.keys).min(positions[row as usize] + 1);
                    slots.extend((run.position..end).map(|at| run.slot + (at - run.position)));
                }
                slots
            })
            .collect()
    }

    proptest! {
        #[test]
        fn every_row_meets_the_keys_of_its_path_once_and_in_order(
            sequences in forest(),
            group in 1usize..5,
            narrow in any::<bool>(),
        ) {
            let sequences: Vec<Sequence<'_>> = sequences
                .iter()
                .map(|(context, continuation)| Sequence { context, continuation })
                .collect();
            let walk = Walk::new(&sequences);
            let members: Vec<_> = walk.order.iter().map(|&at| (at as u32, sequences[at])).collect();
            let tree = TokenTree::new(&members);
            let runs = super::super::forward::key_runs(&tree);
            let shape = if narrow { NARROW } else { WIDE };
            let table = Table::new(&tree.positions, &runs, shape, group);
            let mut met: Vec<Vec<u32>> = vec![Vec::new(); tree.positions.len()];
            for tile in table.tiles.chunks_exact(4) {
                prop_assert!(tile[1] as usize * group <= shape.queries);
                for step in tile[2]..tile[2] + tile[3] {
                    let at = step as usize;
                    let [window, begin, end, _] = table.steps[at * 4..][..4] else { unreachable!() };
                    prop_assert!(begin < end && end <= tile[1]);
                    let slots = &table.slots[at * shape.window..][..shape.window];
                    for row in tile[0] + begin..tile[0] + end {
                        let first = window as usize * shape.window;
                        for (key, &slot) in slots.iter().enumerate() {
                            if first + key <= tree.positions[row as usize] as usize {
                                // Position by position, without a gap.
                                prop_assert_eq!(met[row as usize].len(), first + key);
                                met[row as usize].push(slot);
                            }
                        }
                    }
                }
            }
            prop_assert_eq!(met, paths(&tree.positions, &runs));
        }
    }
}
