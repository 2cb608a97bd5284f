//! The token tree: many token sequences laid into a trie, so that a prefix which several share is
//! computed once.
//!
//! A batch is a piece of the trie, flattened depth-first. In that order the rows that attend to a
//! node's keys are one contiguous range, `node.rows.start..node.subtree_end`: attention over any
//! tree is a short list of dense blocks. The idea is that of Hydragen (arXiv 2402.05099) and
//! SGLang's radix tree (arXiv 2312.07104), applied to scoring, where all sequences are known
//! beforehand and nothing needs to be cached or evicted.

use std::{cmp::Ordering, ops::Range};

/// A scored sequence. All of the context and all of the continuation but its last token are fed to
/// the model; every continuation token is a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence<'a> {
    /// Token ids of the context, at least one.
    pub context: &'a [u32],
    /// Token ids of the continuation, at least one; none where text is to be generated.
    pub continuation: &'a [u32],
}

impl<'a> Sequence<'a> {
    /// Number of tokens fed to the model.
    fn len(self) -> usize {
        self.context.len() + self.continuation.len().saturating_sub(1)
    }

    /// The fed tokens.
    fn fed(self) -> impl Iterator<Item = u32> + 'a {
        let last = self.continuation.len().saturating_sub(1);
        self.context
            .iter()
            .chain(self.continuation.iter().take(last))
            .copied()
    }

    /// The fed token at `position`.
    fn token(self, position: usize) -> u32 {
        match position.checked_sub(self.context.len()) {
            None => self.context[position],
            Some(offset) => self.continuation[offset],
        }
    }

    /// Fed tokens at the start that both share.
    fn common_prefix(self, other: Self) -> usize {
        // Contexts are long and usually equal: comparing them as slices first is several times faster.
        let limit = self.len().min(other.len());
        let contexts = self.context.len().min(other.context.len()).min(limit);
        let equal = self.context[..contexts]
            .iter()
            .zip(&other.context[..contexts])
            .take_while(|(a, b)| a == b)
            .count();
        if equal < contexts {
            return equal;
        }
        (equal..limit)
            .take_while(|&at| self.token(at) == other.token(at))
            .count()
            + equal
    }

    /// Order of the trie's walk: by fed tokens.
    fn order(self, other: Self) -> Ordering {
        if self.context.len() == other.context.len() {
            match self.context.cmp(other.context) {
                Ordering::Equal => {}
                different => return different,
            }
        }
        self.fed().cmp(other.fed())
    }
}

/// A walk over all sequences of a run: their trie order, and what each adds to its predecessor.
#[derive(Clone, Debug)]
pub struct Walk {
    /// Indices of the sequences in trie order. Sequences that feed the same tokens keep their order.
    pub order: Vec<usize>,
    /// Tokens `order[i]` shares with `order[i - 1]`; 0 for the first.
    shared: Vec<usize>,
    /// Fed tokens of `order[i]`.
    lengths: Vec<usize>,
}

impl Walk {
    /// Sorts `sequences` into trie order.
    pub fn new(sequences: &[Sequence<'_>]) -> Self {
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        order.sort_by(|&a, &b| sequences[a].order(sequences[b]));
        let shared = (0..order.len())
            .map(|i| match i.checked_sub(1) {
                None => 0,
                Some(before) => sequences[order[i]].common_prefix(sequences[order[before]]),
            })
            .collect();
        let lengths = order.iter().map(|&index| sequences[index].len()).collect();
        Self {
            order,
            shared,
            lengths,
        }
    }

    /// Tokens if every sequence were computed by itself.
    pub fn tokens(&self) -> u64 {
        self.lengths.iter().map(|&length| length as u64).sum()
    }

    /// Tokens of the whole trie: what is left when every prefix is computed once.
    pub fn unique_tokens(&self) -> u64 {
        self.lengths
            .iter()
            .zip(&self.shared)
            .map(|(length, shared)| (length - shared) as u64)
            .sum()
    }

    /// Cuts the walk into batches of at most `budget` rows (one sequence longer than that is a
    /// batch of its own). Each batch is a range of [`Walk::order`]; a prefix that goes on over a
    /// cut is computed again, so a cut is made where little is shared: at the least shared
    /// boundary within the last quarter of the rows.
    pub fn batches(&self, budget: usize) -> Vec<Range<usize>> {
        let mut batches = Vec::new();
        let mut start = 0;
        while start < self.order.len() {
            let mut rows = self.lengths[start];
            let mut end = start + 1;
            let mut cut = (usize::MAX, end);
            while end < self.order.len() {
                let added = self.lengths[end] - self.shared[end];
                if added > 0 && rows + added > budget {
                    break;
                }
                rows += added;
                end += 1;
                if end < self.order.len() && rows * 4 >= budget * 3 && self.shared[end] <= cut.0 {
                    cut = (self.shared[end], end);
                }
            }
            if end < self.order.len() && cut.0 < self.shared[end] {
                end = cut.1;
            }
            batches.push(start..end);
            start = end;
        }
        batches
    }
}

/// An unbranched run of tokens: the keys that all rows of its subtree attend to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its rows; positions rise by one from row to row.
    pub rows: Range<u32>,
    /// Position of its first row in the sequence.
    pub position: u32,
    /// One past the last row of its subtree.
    pub subtree_end: u32,
    /// The node it goes on from.
    pub parent: Option<u32>,
}

/// One log-probability that is wanted: ln p(`token` | path to `row`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Row whose output predicts the token.
    pub row: u32,
    /// The token.
    pub token: u32,
    /// Index of the sequence it belongs to, as given to [`TokenTree::new`].
    pub sequence: u32,
}

/// A batch: a piece of the trie, flattened depth-first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenTree {
    /// Token ids, `[rows]`.
    pub tokens: Vec<u32>,
    /// Positions in the sequence, `[rows]`.
    pub positions: Vec<u32>,
    /// Nodes in depth-first order; their rows follow each other without a gap.
    pub nodes: Vec<Node>,
    /// Wanted log-probabilities; those of one sequence in the order of its continuation.
    pub targets: Vec<Target>,
}

impl TokenTree {
    /// Builds the tree of `sequences`, which must be in trie order ([`Walk::order`]). Each comes
    /// with the index its targets will carry.
    pub fn new(sequences: &[(u32, Sequence<'_>)]) -> Self {
        Self::with_ends(sequences).0
    }

    /// The tree, and for each sequence the node whose last row is its last fed token.
    pub(crate) fn with_ends(sequences: &[(u32, Sequence<'_>)]) -> (Self, Vec<Option<u32>>) {
        let mut tree = Self::default();
        // Pieces of the trie still to be laid out: sequences that share their first `depth` tokens.
        let mut pending: Vec<(Range<usize>, usize, Option<u32>)> = Vec::new();
        push_children(sequences, 0..sequences.len(), 0, None, &mut pending);
        let mut deepest: Vec<Option<u32>> = vec![None; sequences.len()];

        while let Some((range, depth, parent)) = pending.pop() {
            let first = sequences[range.start].1;
            let shared = first.common_prefix(sequences[range.end - 1].1);
            let index = tree.nodes.len() as u32;
            let start = tree.tokens.len() as u32;
            tree.tokens
                .extend((depth..shared).map(|position| first.token(position)));
            tree.positions.extend(depth as u32..shared as u32);
            let end = tree.tokens.len() as u32;
            tree.nodes.push(Node {
                rows: start..end,
                position: depth as u32,
                subtree_end: end,
                parent,
            });
            // Sorted: those that end here come first.
            let ended = range
                .clone()
                .take_while(|&at| sequences[at].1.len() == shared)
                .count();
            deepest[range.start..range.start + ended].fill(Some(index));
            push_children(
                sequences,
                range.start + ended..range.end,
                shared,
                Some(index),
                &mut pending,
            );
        }
        for index in (0..tree.nodes.len()).rev() {
            if let Some(parent) = tree.nodes[index].parent {
                let end = tree.nodes[index].subtree_end;
                let parent = &mut tree.nodes[parent as usize];
                parent.subtree_end = parent.subtree_end.max(end);
            }
        }
        for (&(id, sequence), &leaf) in sequences.iter().zip(&deepest) {
            tree.add_targets(id, sequence, leaf);
        }
        (tree, deepest)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    fn add_targets(&mut self, id: u32, sequence: Sequence<'_>, leaf: Option<u32>) {
        let first = self.targets.len();
        let mut node = leaf;
        let mut position = sequence.len() as u32;
        // From the leaf upwards, hence backwards through the continuation.
        for &token in sequence.continuation.iter().rev() {
            position = match position.checked_sub(1) {
                Some(position) => position,
                None => break,
            };
            while let Some(index) = node
                && self.nodes[index as usize].position > position
            {
                node = self.nodes[index as usize].parent;
            }
            let Some(index) = node else { break };
            let holder = &self.nodes[index as usize];
            let row = holder.rows.start + (position - holder.position);
            self.targets.push(Target {
                row,
                token,
                sequence: id,
            });
        }
        self.targets[first..].reverse();
    }
}

/// Splits `range`, whose sequences share `depth` tokens and all go on, by their next token.
fn push_children(
    sequences: &[(u32, Sequence<'_>)],
    range: Range<usize>,
    depth: usize,
    parent: Option<u32>,
    pending: &mut Vec<(Range<usize>, usize, Option<u32>)>,
) {
    let children = pending.len();
    let mut start = range.start;
    while start < range.end {
        let token = sequences[start].1.token(depth);
        let length = sequences[start..range.end]
            .partition_point(|(_, sequence)| sequence.token(depth) == token);
        pending.push((start..start + length, depth, parent));
        start += length;
    }
    // The stack pops the last first.
    pending[children..].reverse();
}
