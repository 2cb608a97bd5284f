//! Rows and nodes of a batch, put together in depth-first order.

use crate::{forward::CachedRows, llama::NodeKeys};

/// Rows and nodes of a batch as they are put together, in depth-first order.
#[derive(Default)]
pub(super) struct Layout {
    rows: CachedRows,
    /// Trie nodes the current row lies below, each with its place in `rows.nodes`.
    open: Vec<(usize, usize)>,
}

impl Layout {
    /// The next rows lie below `path`.
    pub(super) fn enter(&mut self, path: &[usize], mut keys: impl FnMut(usize) -> NodeKeys) {
        let row = self.rows.positions.len() as u32;
        let common = self
            .open
            .iter()
            .zip(path)
            .take_while(|((open, _), node)| open == *node)
            .count();
        self.close(common);
        for &node in &path[common..] {
            self.open.push((node, self.rows.nodes.len()));
            self.rows.nodes.push((keys(node), row..row));
        }
    }

    /// The next row alone lies below these keys.
    pub(super) fn leaf(&mut self, keys: NodeKeys) {
        let row = self.rows.positions.len() as u32;
        self.rows.nodes.push((keys, row..row + 1));
    }

    fn close(&mut self, depth: usize) {
        let row = self.rows.positions.len() as u32;
        for (_, place) in self.open.drain(depth..) {
            self.rows.nodes[place].1.end = row;
        }
    }

    /// The next row is at `position`, and its key goes to `slot`.
    pub(super) fn row(&mut self, position: usize, slot: usize) {
        self.rows.positions.push(position as u32);
        self.rows.slots.push(slot as u32);
    }

    /// All rows.
    pub(super) fn rows(mut self) -> CachedRows {
        self.close(0);
        self.rows
    }
}
