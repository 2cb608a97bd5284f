//! Measures a model: scoring and decoding of fixed plans, beside what the machine could do at most.
//!
//! Any machine gets the same plans, computed by the engine's own loops; the ceilings (a large matrix product in the
//! run's type, a large copy) are measured on the same device in the same process.

mod ceiling;
mod plan;
mod shape;
mod work;

use std::time::Instant;

use serde::Serialize;

pub use self::{
    ceiling::Ceilings,
    plan::{Document, Plan, PlanName},
    shape::Shape,
    work::{Step, Work},
};
use crate::{
    Checkpoint, Config, LoadOptions, ModelError, Source,
    engine::{Backend, Loaded, score_batches, with_model},
    forward::{CachedRows, Feed, Forward},
    llama::{
        NodeKeys, Origin,
        cache::{TILE, tiles},
    },
    memory,
    sampling::Draw,
    tree::{TokenTree, Walk},
};

/// What is measured.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A checkpoint.
    Checkpoint(Source),
    /// Random weights of a known shape.
    Shape(Shape),
}

impl Subject {
    /// Sizes of the model; loads no weights.
    ///
    /// # Errors
    /// When the checkpoint cannot be used.
    pub fn config(&self) -> Result<Config, ModelError> {
        match self {
            Self::Checkpoint(source) => Ok(Checkpoint::open(source)?.config().clone()),
            Self::Shape(shape) => Ok(shape.config()),
        }
    }
}

/// Who was measured, where.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// The checkpoint's name, or the shape's.
    pub model: String,
    /// Are the weights random?
    pub random_weights: bool,
    /// Number of weights; tied matrices count once.
    pub parameters: u64,
    /// Type of the weights.
    pub dtype: &'static str,
    /// Where it runs: `cpu`, `cuda:0 (name)`.
    pub device: String,
    /// Compute capability of the card.
    pub capability: Option<String>,
    /// Multiprocessors of the card.
    pub multiprocessors: Option<u32>,
    /// Threads of the host.
    pub threads: usize,
    /// Rows of a scoring batch.
    pub batch_rows: usize,
    /// Seconds it took to load the weights, or to make them.
    pub load_seconds: f64,
}

/// What scoring a plan took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scored {
    /// The plan.
    pub plan: PlanName,
    /// Documents.
    pub documents: usize,
    /// Tokens if every sequence were computed by itself.
    pub tokens: u64,
    /// Tokens left when shared prefixes are computed once.
    pub unique_tokens: u64,
    /// Rows that were computed: unique tokens, and prefixes that go on over the end of a batch again.
    pub computed_rows: u64,
    /// Rows whose logits are read.
    pub scored_rows: u64,
    /// Pairs of a query and a key.
    pub pairs: u64,
    /// Floating-point operations of all that; for unique tokens only.
    pub flops: f64,
    /// Seconds of each round.
    pub rounds: Vec<f64>,
    /// Their median.
    pub seconds: f64,
    /// Unique tokens per second.
    pub unique_tokens_per_second: f64,
    /// Documents per second.
    pub documents_per_second: f64,
    /// Operations per second as a share of the measured matrix product's.
    pub share_of_product: f64,
}

/// What decoding took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decoded {
    /// The plan.
    pub plan: PlanName,
    /// Sequences.
    pub sequences: usize,
    /// Sequences generated at once: all, or as many as there is room for.
    pub at_once: usize,
    /// Tokens of the prompt they share.
    pub prompt_tokens: usize,
    /// Tokens generated of each.
    pub new_tokens: usize,
    /// Seconds of the prompt, the median of the rounds.
    pub prompt_seconds: f64,
    /// Seconds of all steps in each round.
    pub rounds: Vec<f64>,
    /// Seconds of a step: the median of the rounds over the number of steps.
    pub seconds_per_step: f64,
    /// New tokens per second, without the prompt.
    pub tokens_per_second: f64,
    /// Fewest seconds of a step that the machine allows; see [`Work::step_floor`].
    pub floor_seconds_per_step: f64,
    /// The floor as a share of what it took.
    pub share_of_floor: f64,
}

/// Memory, by formula and as the device says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Memory {
    /// Bytes of the weights, by formula.
    pub weights: u64,
    /// Bytes of the buffers of a batch, by formula.
    pub buffers: u64,
    /// Bytes of the keys and values that decoding keeps, by formula.
    pub kept_keys: u64,
    /// Their sum.
    pub formula: u64,
    /// Bytes taken since before the weights were loaded: of the card, or the most that this process held.
    pub taken: u64,
}

/// Everything that was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Who was measured, where.
    pub machine: Machine,
    /// The model's work.
    pub work: Work,
    /// What the machine can do at most.
    pub ceilings: Ceilings,
    /// How many times as many prefixes, contexts and sequences the plans had.
    pub scale: f64,
    /// Rounds whose median is reported.
    pub repeat: usize,
    /// Plans that were scored.
    pub scoring: Vec<Scored>,
    /// Plans that were decoded.
    pub decoding: Vec<Decoded>,
    /// Memory that all that took.
    pub memory: Memory,
}

/// A figure that waits for the ceilings: they are measured last, when the memory that plans took has been read.
type Pending<T> = Box<dyn FnOnce(&Ceilings) -> T>;

/// How much of the plans the CPU gets where nothing else is asked for.
const CPU_SCALE: f64 = 0.01;

/// A loaded model that can be measured.
pub struct Bench {
    loaded: Loaded,
    config: Config,
    machine: Machine,
    bytes_per_weight: usize,
    /// Bytes of main memory that were held before loading.
    held_before: u64,
}

impl Bench {
    /// Loads a model, or makes its random weights. The tokenizer is not used.
    ///
    /// # Errors
    /// As [`crate::Local::open`].
    pub fn open(subject: &Subject, options: &LoadOptions) -> Result<Self, ModelError> {
        Self::open_with(subject, |origin| Loaded::new(origin, options))
    }

    fn open_with(
        subject: &Subject,
        load: impl FnOnce(Origin<'_>) -> Result<Loaded, ModelError>,
    ) -> Result<Self, ModelError> {
        let (held_before, _) = memory::resident();
        let timed = |origin: Origin<'_>| {
            let start = Instant::now();
            let loaded = load(origin)?;
            with_model!(&loaded.backend, model => model.synchronize())?;
            Ok::<_, ModelError>((loaded, start.elapsed().as_secs_f64()))
        };
        let (name, config, (loaded, load_seconds)) = match subject {
            Subject::Checkpoint(source) => {
                let checkpoint = Checkpoint::open(source)?;
                let name = checkpoint.name().to_owned();
                let config = checkpoint.config().clone();
                (name, config, timed(Origin::Checkpoint(&checkpoint))?)
            }
            Subject::Shape(shape) => {
                let config = shape.config();
                let loaded = timed(Origin::Random(&config))?;
                (shape.to_string(), config, loaded)
            }
        };
        let machine = Machine {
            model: name,
            random_weights: matches!(subject, Subject::Shape(_)),
            parameters: config.parameters(),
            dtype: loaded.dtype.name(),
            device: loaded.device.clone(),
            capability: capability(&loaded),
            multiprocessors: multiprocessors(&loaded),
            threads: rayon::current_num_threads(),
            batch_rows: loaded.batch_rows,
            load_seconds,
        };
        Ok(Self {
            bytes_per_weight: loaded.dtype.tensor_type().size_in_bytes(),
            loaded,
            config,
            machine,
            held_before,
        })
    }

    /// Measures `plans`, each in `repeat` rounds; `scale` is 1 on a card and 0.01 on the CPU where nothing is given.
    /// `begun` is told what is measured next.
    ///
    /// # Errors
    /// When the device fails, or its memory is not enough.
    pub fn measure(
        &self,
        plans: &[PlanName],
        scale: Option<f64>,
        repeat: usize,
        mut begun: impl FnMut(&str),
    ) -> Result<Report, ModelError> {
        let on_card = !matches!(self.loaded.backend, Backend::Host(_));
        let scale = scale.unwrap_or(if on_card { 1.0 } else { CPU_SCALE });
        let (mut scoring, mut decoding) = (Vec::new(), Vec::new());
        let (mut most_kept, mut most_taken) = (0, 0);
        for &name in plans {
            begun(&name.to_string());
            match Plan::new(name, &self.config, scale) {
                Plan::Scoring { documents } => {
                    scoring.push(self.score(name, &documents, repeat)?);
                }
                Plan::Decoding { prompt, fed } => {
                    let (decoded, kept) = self.decode(name, &prompt, &fed, repeat)?;
                    decoding.push(decoded);
                    most_kept = most_kept.max(kept.bytes);
                    most_taken = most_taken.max(kept.taken);
                }
            }
        }
        let memory = self.memory(most_kept, most_taken.max(self.taken()?));
        begun("the machine's matrix product and copy");
        let ceilings = self.ceilings(repeat)?;
        Ok(Report {
            machine: self.machine.clone(),
            work: self.work(),
            ceilings,
            scale,
            repeat,
            scoring: scoring
                .into_iter()
                .map(|pending| pending(&ceilings))
                .collect(),
            decoding: decoding
                .into_iter()
                .map(|pending| pending(&ceilings))
                .collect(),
            memory,
        })
    }

    fn work(&self) -> Work {
        Work::new(&self.config, self.bytes_per_weight)
    }

    /// What the machine can do at most, in `rounds` rounds.
    fn ceilings(&self, rounds: usize) -> Result<Ceilings, ModelError> {
        match &self.loaded.backend {
            Backend::Host(_) => ceiling::of_host(rounds),
            #[cfg(any(feature = "cuda", test))]
            Backend::Device(model) => ceiling::of_device(model.device(), model.dtype(), rounds),
        }
    }

    /// Scores `documents` `rounds` times, after a batch to warm up.
    fn score(
        &self,
        plan: PlanName,
        documents: &[Document],
        rounds: usize,
    ) -> Result<Pending<Scored>, ModelError> {
        let sequences = plan::sequences(documents);
        let walk = Walk::new(&sequences);
        let members: Vec<_> = walk
            .order
            .iter()
            .filter_map(|&index| Some((index as u32, *sequences.get(index)?)))
            .collect();
        // The whole plan as one tree, for counting: every unique token is a row of it.
        let whole = TokenTree::new(&members);
        let mut rows: Vec<u32> = whole.targets.iter().map(|target| target.row).collect();
        rows.sort_unstable();
        rows.dedup();
        let scored_rows = rows.len() as u64;
        let pairs = whole.positions.iter().map(|&at| u64::from(at) + 1).sum();
        drop((whole, members));

        let batch_rows = self.loaded.batch_rows;
        let run = |only_first: bool| {
            let start = Instant::now();
            let walk = Walk::new(&sequences);
            let mut batches = walk.batches(batch_rows);
            if only_first {
                batches.truncate(1);
            }
            let mut computed = 0;
            with_model!(&self.loaded.backend, model => score_batches(
                model,
                &walk,
                batches,
                |index| sequences[index],
                |tree, predictions| {
                    computed += tree.rows() as u64;
                    // The optimiser must not think that nobody wants them.
                    std::hint::black_box(predictions);
                    Ok(())
                },
            ))?;
            Ok::<_, ModelError>((start.elapsed().as_secs_f64(), computed))
        };
        run(true)?;
        let measured = (0..rounds.max(1))
            .map(|_| run(false))
            .collect::<Result<Vec<_>, _>>()?;
        let computed_rows = measured.first().map_or(0, |(_, computed)| *computed);
        let rounds: Vec<f64> = measured.into_iter().map(|(seconds, _)| seconds).collect();
        let seconds = median(&rounds);
        let unique_tokens = walk.unique_tokens();
        let work = self.work();
        let flops = work.flops(unique_tokens, scored_rows, pairs);
        let (documents, tokens) = (documents.len(), walk.tokens());
        Ok(Box::new(move |ceilings| Scored {
            plan,
            documents,
            tokens,
            unique_tokens,
            computed_rows,
            scored_rows,
            pairs,
            flops,
            seconds,
            unique_tokens_per_second: unique_tokens as f64 / seconds,
            documents_per_second: documents as f64 / seconds,
            share_of_product: flops / seconds / ceilings.flops_per_second,
            rounds,
        }))
    }

    /// Goes on from `prompt` once per entry of `fed`, `rounds` times, after a step to warm up. Gives what that took, and
    /// the kept keys and values.
    fn decode(
        &self,
        plan: PlanName,
        prompt: &[u32],
        fed: &[Vec<u32>],
        rounds: usize,
    ) -> Result<(Pending<Decoded>, KeptKeys), ModelError> {
        let new_tokens = fed.iter().map(Vec::len).max().unwrap_or_default();
        let job = Decoding {
            prompt,
            fed,
            new_tokens,
        };
        let (measured, at_once, kept, tile_bytes) = with_model!(&self.loaded.backend, model => {
            let prompt_rows = model.most_prompt_rows().min(self.loaded.batch_rows).max(1);
            let room = self
                .loaded
                .allowed_bytes
                .saturating_sub(model.memory_bytes(prompt_rows));
            let at_once = job.at_once(model, room)?;
            let kept = job.tiles(at_once);
            let cache = model.cache(kept, prompt.len() + new_tokens)?;
            let run = |steps| job.run(model, &cache, at_once, prompt_rows, steps);
            run(1)?;
            let measured = (0..rounds.max(1))
                .map(|_| run(new_tokens))
                .collect::<Result<Vec<_>, _>>()?;
            let tile_bytes = model.tile_bytes();
            let kept = KeptKeys {
                bytes: kept as u64 * tile_bytes,
                taken: self.taken()?,
            };
            drop(cache);
            (measured, at_once, kept, tile_bytes)
        });
        let (prompts, rounds): (Vec<f64>, Vec<f64>) = measured.into_iter().unzip();
        let work = self.work();
        let groups: Vec<usize> = fed.chunks(at_once).map(<[_]>::len).collect();
        let steps = (groups.len() * new_tokens).max(1) as f64;
        let seconds = median(&rounds);
        let prompt_seconds = median(&prompts);
        let (sequences, prompt_tokens) = (fed.len(), prompt.len());
        let pending = move |ceilings: &Ceilings| {
            let floors = groups.into_iter().map(|sequences| {
                let step = Step {
                    sequences,
                    own_tokens: (new_tokens + 1) as f64 / 2.0,
                    shared_tokens: prompt_tokens.saturating_sub(1) as f64,
                    key_bytes: tile_bytes as f64 / TILE as f64,
                };
                work.step_floor(step, ceilings) * new_tokens as f64
            });
            let floor: f64 = floors.sum();
            Decoded {
                plan,
                sequences,
                at_once,
                prompt_tokens,
                new_tokens,
                prompt_seconds,
                rounds,
                seconds_per_step: seconds / steps,
                tokens_per_second: (sequences * new_tokens) as f64 / seconds,
                floor_seconds_per_step: floor / steps,
                share_of_floor: floor / seconds,
            }
        };
        Ok((Box::new(pending), kept))
    }

    /// Bytes taken since before the weights were loaded.
    fn taken(&self) -> Result<u64, ModelError> {
        #[cfg(feature = "cuda")]
        if let Some((card, free_before)) = &self.loaded.card {
            let (free, _) = card.memory()?;
            return Ok(free_before.saturating_sub(free));
        }
        let (_, peak) = memory::resident();
        Ok(peak.saturating_sub(self.held_before))
    }

    /// The memory by formula, when decoding kept `kept_keys` bytes, beside what was `taken` at most.
    fn memory(&self, kept_keys: u64, taken: u64) -> Memory {
        let weights = self.config.parameters() * self.bytes_per_weight as u64;
        let rows = self.loaded.batch_rows;
        let fixed = with_model!(&self.loaded.backend, model => model.memory_bytes(rows));
        Memory {
            weights,
            buffers: fixed.saturating_sub(weights),
            kept_keys,
            formula: fixed + kept_keys,
            taken,
        }
    }
}

/// What decoding keeps.
struct KeptKeys {
    /// By formula.
    bytes: u64,
    /// Bytes of everything that were taken meanwhile.
    taken: u64,
}

#[cfg(feature = "cuda")]
fn capability(loaded: &Loaded) -> Option<String> {
    let (card, _) = loaded.card.as_ref()?;
    Some(format!("{}.{}", card.capability.0, card.capability.1))
}

#[cfg(not(feature = "cuda"))]
fn capability(_: &Loaded) -> Option<String> {
    None
}

#[cfg(feature = "cuda")]
fn multiprocessors(loaded: &Loaded) -> Option<u32> {
    loaded.card.as_ref().map(|(card, _)| card.multiprocessors)
}

#[cfg(not(feature = "cuda"))]
fn multiprocessors(_: &Loaded) -> Option<u32> {
    None
}

/// The middle of some measurements; of an even number the greater of the two in the middle.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Sequences that go on from one prompt, laid out as the engine does: the prompt's keys are kept once but for its last
/// token, which every sequence feeds itself.
struct Decoding<'a> {
    prompt: &'a [u32],
    fed: &'a [Vec<u32>],
    new_tokens: usize,
}

impl Decoding<'_> {
    /// Kept tokens of the prompt.
    fn shared(&self) -> usize {
        self.prompt.len().saturating_sub(1)
    }

    /// Tiles of `sequences` of them.
    fn tiles(&self, sequences: usize) -> usize {
        tiles(0, self.shared()) + sequences * tiles(self.shared(), self.new_tokens)
    }

    /// How many can be generated at once in `room` bytes.
    fn at_once<F: Forward>(&self, model: &F, room: u64) -> Result<usize, ModelError> {
        let affordable = room / model.tile_bytes().max(1);
        let most = model.most_leaves().min(self.fed.len()).max(1);
        let fits = |sequences: usize| self.tiles(sequences) as u64 <= affordable;
        (1..=most)
            .rev()
            .find(|&sequences| fits(sequences))
            .ok_or_else(|| {
                ModelError::Device(format!(
                    "keys and values of one sequence need {}, and {} are left for them; raise `--memory`",
                    memory::display(self.tiles(1) as u64 * model.tile_bytes()),
                    memory::display(room)
                ))
            })
    }

    /// Generates `steps` tokens of every sequence, `at_once` at a time. Gives the seconds of the prompt, which is
    /// computed once, and those of all steps.
    fn run<F: Forward>(
        &self,
        model: &F,
        cache: &F::Cache,
        at_once: usize,
        prompt_rows: usize,
        steps: usize,
    ) -> Result<(f64, f64), ModelError> {
        let start = Instant::now();
        let shared = self.shared();
        for first in (0..shared).step_by(prompt_rows) {
            let end = (first + prompt_rows).min(shared);
            let rows = CachedRows {
                positions: (first as u32..end as u32).collect(),
                slots: (first as u32..end as u32).collect(),
                nodes: vec![(
                    NodeKeys {
                        own: 0..(end - first) as u32,
                        own_key: first as u32,
                        ..shared_keys(end)
                    },
                    0..(end - first) as u32,
                )],
            };
            let tokens = self.prompt.get(first..end).unwrap_or_default();
            model.fill(cache, tokens, rows)?;
        }
        model.synchronize()?;
        let prompt_seconds = start.elapsed().as_secs_f64();

        let start = Instant::now();
        for group in self.fed.chunks(at_once) {
            // As the engine does: where the device runs ahead, a step begins before the last one's choices are here.
            let mut before = None;
            for step in 0..steps {
                let stepping = self.begin_step(model, cache, group, step)?;
                let done = if model.runs_ahead() {
                    before.replace(stepping)
                } else {
                    Some(stepping)
                };
                done.map_or(Ok(()), |done| finish(model, done))?;
            }
            before.map_or(Ok(()), |done| finish(model, done))?;
        }
        model.synchronize()?;
        Ok((prompt_seconds, start.elapsed().as_secs_f64()))
    }

    /// Begins to feed each sequence of `group` its token of a step, and to have the next one chosen.
    fn begin_step<F: Forward>(
        &self,
        model: &F,
        cache: &F::Cache,
        group: &[Vec<u32>],
        step: usize,
    ) -> Result<F::Stepping, ModelError> {
        const GREEDY: Draw = Draw {
            draw: 0.0,
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
        };
        let shared = self.shared();
        let each = tiles(shared, self.new_tokens);
        let mut rows = CachedRows::default();
        if shared > 0 {
            let all = 0..group.len() as u32;
            rows.nodes.push((shared_keys(shared), all));
        }
        let mut tokens = Vec::with_capacity(group.len());
        for (row, fed) in group.iter().enumerate() {
            let tile = tiles(0, shared) + row * each;
            let slot = tile * TILE + shared % TILE;
            let row = row as u32;
            let keys = NodeKeys {
                own: row..row + 1,
                own_key: step as u32,
                first_position: shared as u32,
                keys: step as u32 + 1,
                first_tile: tile as u32,
                first_value: slot as u32,
            };
            rows.nodes.push((keys, row..row + 1));
            rows.positions.push((shared + step) as u32);
            rows.slots.push((slot + step) as u32);
            // The first feeds the prompt's last token, each later one what the plan has in the place of its choice.
            let token = match step.checked_sub(1) {
                None => self.prompt.last(),
                Some(before) => fed.get(before),
            };
            tokens.push(token.copied().unwrap_or_default());
        }
        let draws = vec![GREEDY; tokens.len()];
        model.begin_step(cache, Feed::Tokens(&tokens), rows, &draws)
    }
}

/// Waits for a step.
fn finish<F: Forward>(model: &F, stepping: F::Stepping) -> Result<(), ModelError> {
    let chosen = model.finish_step(stepping)?;
    if chosen.iter().any(Option::is_none) {
        return Err(ModelError::Device(
            "the model's logits are no numbers".to_owned(),
        ));
    }
    Ok(())
}

/// The first `keys` keys of the prompt.
fn shared_keys(keys: usize) -> NodeKeys {
    NodeKeys {
        own: 0..0,
        own_key: 0,
        first_position: 0,
        keys: keys as u32,
        first_tile: 0,
        first_value: 0,
    }
}

#[cfg(test)]
mod tests;
