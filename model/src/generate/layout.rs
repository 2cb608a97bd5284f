//! Rows and nodes of a batch, put together in depth-first order.

use std::{ops::Range, sync::Arc};

use crate::llama::{AttentionPlan, NodeKeys};

/// Rows and nodes of a batch as they are put together, in depth-first order.
#[derive(Default)]
pub(super) struct Layout {
    /// Position of each row.
    pub(super) positions: Vec<u32>,
    /// Slot each row's key and value go to.
    pub(super) slots: Vec<u32>,
    nodes: Vec<(NodeKeys, Range<u32>)>,
    /// Trie nodes the current row lies below, each with its place in `nodes`.
    open: Vec<(usize, usize)>,
}

impl Layout {
    /// The next rows lie below `path`.
    pub(super) fn enter(&mut self, path: &[usize], mut keys: impl FnMut(usize) -> NodeKeys) {
        let row = self.positions.len() as u32;
        let common = self
            .open
            .iter()
            .zip(path)
            .take_while(|((open, _), node)| open == *node)
            .count();
        self.close(common);
        for &node in &path[common..] {
            self.open.push((node, self.nodes.len()));
            self.nodes.push((keys(node), row..row));
        }
    }

    /// The next row alone lies below these keys.
    pub(super) fn leaf(&mut self, keys: NodeKeys) {
        let row = self.positions.len() as u32;
        self.nodes.push((keys, row..row + 1));
    }

    fn close(&mut self, depth: usize) {
        let row = self.positions.len() as u32;
        for (_, place) in self.open.drain(depth..) {
            self.nodes[place].1.end = row;
        }
    }

    /// The plan of all rows.
    pub(super) fn plan(mut self) -> Arc<AttentionPlan> {
        self.close(0);
        Arc::new(AttentionPlan::cached(
            self.positions,
            self.slots,
            self.nodes,
        ))
    }
}
