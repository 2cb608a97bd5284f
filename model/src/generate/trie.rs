//! The prompts' trie: which runs of tokens sequences share, and in which order sequences are let in.

use crate::{
    forward::Forward,
    llama::cache::tiles,
    tree::{Sequence, TokenTree, Walk},
};

use super::{Job, Prompts, prompt_sequence};

/// An unbranched run of prompt tokens.
pub(super) struct Node {
    pub(super) tokens: Vec<u32>,
    /// Position of its first token.
    pub(super) position: usize,
    pub(super) parent: Option<usize>,
    /// First tile of its keys, once they are computed or about to be.
    pub(super) tile: Option<usize>,
    /// Sequences below it that have not ended.
    pub(super) waiting: usize,
}

impl Node {
    /// Tiles its keys need.
    pub(super) fn tiles(&self) -> usize {
        tiles(self.position, self.tokens.len())
    }
}

/// A sequence that was not let in yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(super) job: usize,
    /// The last node of its prompt, without the prompt's last token; `None` for a prompt of one token.
    pub(super) node: Option<usize>,
    /// Position of the prompt's last token: the first that it feeds itself.
    pub(super) first: usize,
    /// Tokens it may generate at most.
    pub(super) limit: usize,
}

impl Waiting {
    /// Tiles its own keys need at most.
    pub(super) fn tiles(&self) -> usize {
        tiles(self.first, self.limit)
    }
}

/// Tiles that everything needs which can be alive at once, of sequences `most_leaves`.
pub(super) fn useful_tiles(nodes: &[Node], waiting: &[Waiting], most_leaves: usize) -> usize {
    let mut leaves: Vec<usize> = waiting.iter().map(Waiting::tiles).collect();
    leaves.sort_unstable_by(|a, b| b.cmp(a));
    let leaves = leaves.into_iter().take(most_leaves);
    leaves
        .chain(nodes.iter().map(Node::tiles))
        .fold(0, usize::saturating_add)
}

/// Bytes of keys and values that generating `jobs` can use.
pub(crate) fn useful_bytes(
    model: &impl Forward,
    jobs: &[Job],
    prompts: &Prompts,
    context_length: usize,
) -> u64 {
    let (nodes, waiting) = trie(jobs, prompts, context_length);
    useful_tiles(&nodes, &waiting, model.most_leaves()) as u64 * model.tile_bytes()
}

/// The prompts' trie, without the last token of each, and all sequences in its order.
pub(super) fn trie(
    jobs: &[Job],
    prompts: &Prompts,
    context_length: usize,
) -> (Vec<Node>, Vec<Waiting>) {
    let kept: Vec<usize> = (0..prompts.encoded.len())
        .filter(|&prompt| prompts.encoded[prompt].is_ok())
        .collect();
    let fed: Vec<Sequence<'_>> = kept
        .iter()
        .map(|&prompt| match &prompts.encoded[prompt] {
            Ok(encoded) => {
                let last = encoded.context.len().saturating_sub(1);
                prompt_sequence(&encoded.context[..last])
            }
            Err(_) => prompt_sequence(&[]),
        })
        .collect();
    let walk = Walk::new(&fed);
    // An empty sequence has no place in a tree; sorted, all of them come first.
    let members: Vec<(u32, Sequence<'_>)> = walk
        .order
        .iter()
        .filter(|&&at| !fed[at].context.is_empty())
        .map(|&at| (at as u32, fed[at]))
        .collect();
    let (tree, ends) = TokenTree::with_ends(&members);
    let mut nodes: Vec<Node> = tree
        .nodes
        .iter()
        .map(|node| Node {
            tokens: tree.tokens[node.rows.start as usize..node.rows.end as usize].to_vec(),
            position: node.position as usize,
            parent: node.parent.map(|parent| parent as usize),
            tile: None,
            waiting: 0,
        })
        .collect();
    let mut end_of: Vec<Option<usize>> = vec![None; prompts.encoded.len()];
    for (&(at, _), &end) in members.iter().zip(&ends) {
        end_of[kept[at as usize]] = end.map(|end| end as usize);
    }
    let mut by_prompt: Vec<Vec<usize>> = vec![Vec::new(); prompts.encoded.len()];
    for job in 0..jobs.len() {
        by_prompt[prompts.of_job[job]].push(job);
    }
    let mut waiting = Vec::with_capacity(jobs.len());
    for &at in &walk.order {
        let prompt = kept[at];
        let first = fed[at].context.len();
        for &job in &by_prompt[prompt] {
            let node = end_of[prompt];
            // The prompt's last token and all generated ones but the last are fed.
            let room = context_length.saturating_sub(first + 1).max(1);
            let limit = jobs[job].generation.max_new_tokens.clamp(1, room);
            waiting.push(Waiting {
                job,
                node,
                first,
                limit,
            });
            for index in
                std::iter::successors(node, |&index| nodes[index].parent).collect::<Vec<_>>()
            {
                nodes[index].waiting += 1;
            }
        }
    }
    (nodes, waiting)
}
