//! Generating text: which sequences are computed when, and with what memory.
//!
//! All prompts form one trie. A run of prompt tokens that several sequences share is computed once, and its keys
//! and values are kept until the last of them has ended. Every sequence that is being generated is a leaf of its
//! own; one step feeds one token of each. Leaves are let in, in the order of the trie, as others end and
//! give their memory back; what a leaf needs at most is reserved when it is let in.
//!
//! A leaf begins by feeding its prompt's last token, so that all samples of a prompt start from the same kept keys.

mod layout;
mod trie;

use std::{collections::HashMap, ops::Range, sync::Arc};

use crate::{
    Answer, Completion, Encoded, Encoder, Finish, Generation, ModelError, Sink,
    completion::Growing,
    encoding::Unanswerable,
    forward::{CachedRows, Chosen, Feed, Forward},
    llama::{
        NodeKeys,
        cache::{TILE, Tiles, tiles},
    },
    memory,
    sampling::Draw,
    tree::{Sequence, Walk},
};

use layout::Layout;
use trie::{Node, trie, useful_tiles};
pub(crate) use trie::{Waiting, useful_bytes};

/// Leaves are let in when at least this part of the places (one in so many) is free: short passes over few
/// prompt tokens are slow.
const FREE_PART: usize = 4;

/// One completion to make.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// Index of its request.
    pub(crate) request: usize,
    /// What to generate.
    pub(crate) generation: Arc<Generation>,
    /// Which of the prompt's samples.
    pub(crate) sample: u32,
}

/// What a pass may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Bytes for keys and values.
    pub(crate) cache_bytes: u64,
    /// Prompt tokens computed at once.
    pub(crate) batch_rows: usize,
    /// Longest sequence in tokens.
    pub(crate) context_length: usize,
}

/// Prompts as tokens, each once.
pub(crate) struct Prompts {
    /// By index: tokens, or why there are none.
    encoded: Vec<Result<Encoded, Unanswerable>>,
    /// For each job its prompt.
    of_job: Vec<usize>,
}

impl Prompts {
    /// Encodes the prompts of `jobs`, those that many samples share once.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] when the tokenizer refuses a text.
    pub(crate) fn new(encoder: &Encoder, jobs: &[Job]) -> Result<Self, ModelError> {
        let mut known: HashMap<*const Generation, usize> = HashMap::new();
        let mut requests = Vec::new();
        let mut of_job = Vec::with_capacity(jobs.len());
        for job in jobs {
            let next = requests.len();
            let index = *known.entry(Arc::as_ptr(&job.generation)).or_insert(next);
            if index == next {
                requests.push(crate::Request::Generate {
                    generation: Arc::clone(&job.generation),
                    sample: 0,
                });
            }
            of_job.push(index);
        }
        Ok(Self {
            encoded: encoder.encode_all(&requests)?,
            of_job,
        })
    }

    /// Jobs whose prompt cannot be encoded, and why.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (usize, &str)> {
        self.of_job.iter().enumerate().filter_map(|(job, &prompt)| {
            let refused = self.encoded.get(prompt)?.as_ref().err()?;
            Some((job, refused.reason.as_str()))
        })
    }

    /// The prompt of a job.
    fn of(&self, job: usize) -> Option<&Encoded> {
        self.encoded.get(*self.of_job.get(job)?)?.as_ref().ok()
    }

    /// Tokens if every completion were computed by itself and grew to its limit, and those left when prompts
    /// are shared.
    pub(crate) fn tokens(&self, jobs: &[Job]) -> (u64, u64) {
        let new: u64 = jobs
            .iter()
            .map(|job| job.generation.max_new_tokens as u64)
            .sum();
        let prompts: u64 = (0..jobs.len())
            .filter_map(|job| self.of(job))
            .map(|encoded| encoded.context.len() as u64)
            .sum();
        let answerable: Vec<Sequence<'_>> = self
            .encoded
            .iter()
            .filter_map(|encoded| encoded.as_ref().ok())
            .map(|encoded| prompt_sequence(&encoded.context))
            .collect();
        (prompts + new, Walk::new(&answerable).unique_tokens() + new)
    }
}

fn prompt_sequence(tokens: &[u32]) -> Sequence<'_> {
    Sequence {
        context: tokens,
        continuation: &[],
    }
}

/// What a pass computes of a node: rows of the pass, and the node's keys they make.
struct Own {
    rows: Range<u32>,
    keys: Range<usize>,
}

/// A sequence that is being generated.
struct Leaf {
    job: usize,
    /// The last node of its prompt, without the prompt's last token; `None` for a prompt of one token.
    node: Option<usize>,
    /// Position of the prompt's last token: the first that it feeds itself.
    first: usize,
    /// Tokens it may generate at most.
    limit: usize,
    /// First of its own tiles.
    tile: usize,
    /// The token to feed next.
    next: u32,
    text: Growing,
    margin: f32,
    /// Its answer was given; nothing that is computed of it counts any more.
    ended: bool,
}

impl Leaf {
    /// Tokens of its own that were fed.
    fn fed(&self) -> usize {
        self.text.generated().len()
    }

    fn tiles(&self) -> usize {
        tiles(self.first, self.limit)
    }

    /// Has it ended, or will it with the token that is being computed, whatever that is?
    fn will_have_ended(&self) -> bool {
        self.ended || self.fed() + 1 >= self.limit
    }
}

/// Generates all completions of one call.
pub(crate) struct Generator<'a, F: Forward> {
    model: &'a F,
    encoder: &'a Encoder,
    jobs: &'a [Job],
    prompts: &'a Prompts,
    room: Room,
    ends: Vec<u32>,
    nodes: Vec<Node>,
    cache: F::Cache,
    free: Tiles,
    leaves: Vec<Leaf>,
}

impl<'a, F: Forward> Generator<'a, F> {
    /// Lays out the prompts' trie. Gives the sequences in its order, last first, to be let in.
    ///
    /// # Errors
    /// When there is no memory for keys and values.
    pub(crate) fn new(
        model: &'a F,
        encoder: &'a Encoder,
        ends: Vec<u32>,
        jobs: &'a [Job],
        prompts: &'a Prompts,
        room: Room,
    ) -> Result<(Self, Vec<Waiting>), ModelError> {
        let (nodes, mut waiting) = trie(jobs, prompts, room.context_length);
        let tile_bytes = model.tile_bytes().max(1);
        let affordable = usize::try_from(room.cache_bytes / tile_bytes).unwrap_or(usize::MAX);
        // More than all of it at once, or than fits into the index, is never needed.
        let useful =
            useful_tiles(&nodes, &waiting, model.most_leaves()).min(u32::MAX as usize / TILE - 1);
        let last = waiting
            .iter()
            .map(|waiting| waiting.first + waiting.limit)
            .max()
            .unwrap_or_default();
        waiting.reverse();
        let tiles = affordable.min(useful);
        let generator = Self {
            model,
            encoder,
            jobs,
            prompts,
            room,
            ends,
            nodes,
            cache: model.cache(tiles, last + 1)?,
            free: Tiles::new(tiles),
            leaves: Vec::new(),
        };
        Ok((generator, waiting))
    }

    /// Generates everything that waits.
    ///
    /// # Errors
    /// When the device fails or the sink refuses.
    pub(crate) fn run(
        mut self,
        mut waiting: Vec<Waiting>,
        sink: &mut dyn Sink,
    ) -> Result<(), ModelError> {
        while !(waiting.is_empty() && self.leaves.is_empty()) {
            if self.leaves.len() * FREE_PART <= self.model.most_leaves() * (FREE_PART - 1) {
                self.let_in(&mut waiting, sink)?;
            }
            if self.leaves.is_empty() {
                continue;
            }
            self.steps(sink)?;
        }
        Ok(())
    }

    /// Lets in as many as there is room for, and computes the prompt tokens they need.
    fn let_in(
        &mut self,
        waiting: &mut Vec<Waiting>,
        sink: &mut dyn Sink,
    ) -> Result<(), ModelError> {
        let mut new_nodes = Vec::new();
        while let Some(next) = waiting.last()
            && self.leaves.len() < self.model.most_leaves()
        {
            let path = self.path(next.node);
            let missing: Vec<usize> = path
                .into_iter()
                .filter(|&node| self.nodes[node].tile.is_none())
                .collect();
            let Some(tile) = self.reserve(&missing, next.tiles()) else {
                if self.leaves.is_empty() && new_nodes.is_empty() {
                    // Kept prompts may lie in the way of a gap that is wide enough.
                    if self.drop_kept() {
                        continue;
                    }
                    // It does not fit alone: it never will.
                    let reason = self.too_large(next);
                    sink.answer(self.jobs[next.job].request, Answer::Unanswered { reason })
                        .map_err(ModelError::Sink)?;
                    let node = next.node;
                    waiting.pop();
                    self.leave(node);
                    continue;
                }
                break;
            };
            new_nodes.extend(missing);
            if let Some(next) = waiting.pop() {
                let prompt = self.prompts.of(next.job).map(|it| it.context.as_slice());
                let prompt = prompt.unwrap_or_default();
                self.leaves.push(Leaf {
                    job: next.job,
                    node: next.node,
                    first: next.first,
                    limit: next.limit,
                    tile,
                    next: prompt.last().copied().unwrap_or_default(),
                    text: Growing::new(prompt),
                    margin: f32::INFINITY,
                    ended: false,
                });
            }
        }
        self.prefill(&new_nodes, sink)
    }

    fn too_large(&self, waiting: &Waiting) -> String {
        let nodes = self.path(waiting.node);
        let tiles: usize = nodes.iter().map(|&node| self.nodes[node].tiles()).sum();
        let bytes = (tiles + waiting.tiles()) as u64 * self.model.tile_bytes();
        format!(
            "its keys and values need {}, and {} are allowed; raise `--memory`",
            memory::display(bytes),
            memory::display(self.room.cache_bytes)
        )
    }

    /// The nodes from the root to `node`.
    fn path(&self, node: Option<usize>) -> Vec<usize> {
        let mut path: Vec<usize> =
            std::iter::successors(node, |&node| self.nodes[node].parent).collect();
        path.reverse();
        path
    }

    /// Reserves tiles for `missing` nodes and for a leaf: all or nothing. Gives the leaf's first.
    fn reserve(&mut self, missing: &[usize], leaf: usize) -> Option<usize> {
        for (done, &node) in missing.iter().enumerate() {
            let tile = self.free.take(self.nodes[node].tiles());
            if tile.is_none() {
                missing[..done].iter().for_each(|&node| self.release(node));
                return None;
            }
            self.nodes[node].tile = tile;
        }
        let tile = self.free.take(leaf);
        if tile.is_none() {
            missing.iter().for_each(|&node| self.release(node));
        }
        tile
    }

    fn release(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        if let Some(tile) = node.tile.take() {
            self.free.give_back(tile, node.tiles());
        }
    }

    /// Drops all kept prompts, to be computed again; `false` if there are none.
    fn drop_kept(&mut self) -> bool {
        let kept: Vec<usize> = (0..self.nodes.len())
            .filter(|&node| self.nodes[node].tile.is_some())
            .collect();
        kept.iter().for_each(|&node| self.release(node));
        !kept.is_empty()
    }

    /// A sequence below `node` has ended: whatever nobody waits for any more is dropped.
    fn leave(&mut self, mut node: Option<usize>) {
        while let Some(index) = node {
            self.nodes[index].waiting = self.nodes[index].waiting.saturating_sub(1);
            if self.nodes[index].waiting == 0 {
                self.release(index);
            }
            node = self.nodes[index].parent;
        }
    }

    /// Computes the keys and values of prompt nodes, given in depth-first order.
    fn prefill(&self, nodes: &[usize], sink: &mut dyn Sink) -> Result<(), ModelError> {
        // Pieces of nodes, so that a pass has no more rows than it may.
        let mut pass: Vec<(usize, Range<usize>)> = Vec::new();
        let mut rows = 0;
        for &node in nodes {
            let length = self.nodes[node].tokens.len();
            let mut start = 0;
            while start < length {
                let count = (length - start).min(self.room.batch_rows.max(1) - rows);
                pass.push((node, start..start + count));
                rows += count;
                start += count;
                if rows >= self.room.batch_rows.max(1) {
                    self.prefill_pass(&pass)?;
                    sink.computed(rows).map_err(ModelError::Sink)?;
                    pass.clear();
                    rows = 0;
                }
            }
        }
        if rows > 0 {
            self.prefill_pass(&pass)?;
            sink.computed(rows).map_err(ModelError::Sink)?;
        }
        Ok(())
    }

    fn prefill_pass(&self, pass: &[(usize, Range<usize>)]) -> Result<(), ModelError> {
        let mut tokens = Vec::new();
        let mut layout = Layout::default();
        let mut row = 0;
        let own: HashMap<usize, Own> = pass
            .iter()
            .map(|(node, range)| {
                let rows = row..row + range.len() as u32;
                row = rows.end;
                (
                    *node,
                    Own {
                        rows,
                        keys: range.clone(),
                    },
                )
            })
            .collect();
        for (node, range) in pass {
            let held = &self.nodes[*node];
            layout.enter(&self.path(Some(*node)), |index| {
                self.keys_of(index, own.get(&index))
            });
            let slot = held.tile.unwrap_or_default() * TILE + held.position % TILE;
            for at in range.clone() {
                layout.row(held.position + at, slot + at);
            }
            tokens.extend_from_slice(&held.tokens[range.clone()]);
        }
        self.model.fill(&self.cache, &tokens, layout.rows())
    }

    /// The keys of a prompt node as a pass sees them that computes `own` of them.
    fn keys_of(&self, index: usize, own: Option<&Own>) -> NodeKeys {
        let node = &self.nodes[index];
        let tile = node.tile.unwrap_or_default();
        NodeKeys {
            own: own.map_or(0..0, |own| own.rows.clone()),
            own_key: own.map_or(0, |own| own.keys.start) as u32,
            first_position: node.position as u32,
            keys: own.map_or(node.tokens.len(), |own| own.keys.end) as u32,
            first_tile: tile as u32,
            first_value: (tile * TILE + node.position % TILE) as u32,
        }
    }

    /// Feeds one token of every leaf and chooses the next; on a device that runs ahead, again and again, until
    /// leaves whose text has ended take up too many places.
    fn steps(&mut self, sink: &mut dyn Sink) -> Result<(), ModelError> {
        let tokens: Vec<u32> = self.leaves.iter().map(|leaf| leaf.next).collect();
        let (rows, draws) = self.rows(0);
        let model = self.model;
        let mut stepping = model.begin_step(&self.cache, Feed::Tokens(&tokens), rows, &draws)?;
        loop {
            let ended = self
                .leaves
                .iter()
                .filter(|leaf| leaf.will_have_ended())
                .count();
            let next = if model.runs_ahead() && ended * FREE_PART < self.leaves.len() {
                let (rows, draws) = self.rows(1);
                let feed = Feed::Chosen(&stepping);
                Some(model.begin_step(&self.cache, feed, rows, &draws))
            } else {
                None
            };
            let rows = self.leaves.iter().filter(|leaf| !leaf.ended).count();
            self.take_tokens(model.finish_step(stepping)?, sink)?;
            sink.computed(rows).map_err(ModelError::Sink)?;
            match next {
                // Only now may a step that could not begin end the run: the last one's texts are handed on.
                Some(next) => stepping = next?,
                None => break,
            }
        }
        self.sweep();
        Ok(())
    }

    /// One row for each leaf, when `ahead` more tokens have been fed than are known; and its draw.
    fn rows(&self, ahead: usize) -> (CachedRows, Vec<Draw>) {
        let mut draws = Vec::with_capacity(self.leaves.len());
        let mut layout = Layout::default();
        for (row, leaf) in self.leaves.iter().enumerate() {
            let path = self.path(leaf.node);
            layout.enter(&path, |index| self.keys_of(index, None));
            let slot = leaf.tile * TILE + leaf.first % TILE;
            // One that has ended feeds its last place again.
            let fed = (leaf.fed() + ahead).min(leaf.limit - 1);
            layout.leaf(NodeKeys {
                own: row as u32..row as u32 + 1,
                own_key: fed as u32,
                first_position: leaf.first as u32,
                keys: fed as u32 + 1,
                first_tile: leaf.tile as u32,
                first_value: slot as u32,
            });
            layout.row(leaf.first + fed, slot + fed);
            let job = &self.jobs[leaf.job];
            draws.push(Draw::new(job.generation.sampling, job.sample, fed));
        }
        (layout.rows(), draws)
    }

    /// Gives back the places of leaves that have ended.
    fn sweep(&mut self) {
        let (ended, kept) = std::mem::take(&mut self.leaves)
            .into_iter()
            .partition(|leaf| leaf.ended);
        self.leaves = kept;
        for leaf in &ended {
            self.free.give_back(leaf.tile, leaf.tiles());
            self.leave(leaf.node);
        }
    }

    /// Adds the chosen tokens, and sends off what has ended.
    fn take_tokens(&mut self, chosen: Vec<Chosen>, sink: &mut dyn Sink) -> Result<(), ModelError> {
        let tokenizer = self.encoder.tokenizer();
        let mut leaves = std::mem::take(&mut self.leaves);
        let alive = leaves
            .iter_mut()
            .zip(chosen)
            .filter(|(leaf, _)| !leaf.ended);
        for (leaf, chosen) in alive {
            let job = &self.jobs[leaf.job];
            let stop = &job.generation.stop;
            let ended = match chosen {
                None => Some(Answer::Unanswered {
                    reason: format!(
                        "the model's logits for token {} of the completion are no numbers",
                        leaf.fed()
                    ),
                }),
                Some((token, margin)) => {
                    leaf.next = token;
                    leaf.margin = leaf.margin.min(margin);
                    let finish = leaf.text.push(token, tokenizer, &self.ends, stop)?;
                    let full = || {
                        let asked = leaf.limit >= job.generation.max_new_tokens;
                        (leaf.fed() >= leaf.limit).then_some(if asked {
                            Finish::Length
                        } else {
                            Finish::Context
                        })
                    };
                    match finish.or_else(full) {
                        None => None,
                        Some(finish) => {
                            Some(Answer::Completion(self.completion(leaf, finish, stop)?))
                        }
                    }
                }
            };
            if let Some(answer) = ended {
                leaf.ended = true;
                sink.answer(job.request, answer).map_err(ModelError::Sink)?;
            }
        }
        self.leaves = leaves;
        Ok(())
    }

    fn completion(
        &self,
        leaf: &Leaf,
        finish: Finish,
        stop: &[String],
    ) -> Result<Completion, ModelError> {
        let prompt = self.prompts.of(leaf.job);
        Ok(Completion {
            text: leaf.text.text(self.encoder.tokenizer(), finish, stop)?,
            token_ids: leaf.text.generated().to_vec(),
            finish,
            margin: leaf.margin,
            prompt_tokens: prompt.map_or(0, |it| it.context.len()),
            dropped_examples: prompt.map_or(0, |it| it.dropped_examples),
            truncated_tokens: prompt.map_or(0, |it| it.truncated_tokens),
        })
    }
}
