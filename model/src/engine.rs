//! The local engine: encodes requests, lays them into a token tree, runs it batch by batch.

use std::{ops::Range, path::PathBuf};

use candle_core::DType;

#[cfg(any(feature = "cuda", test))]
use crate::device::DeviceLlama;
use crate::{
    Answer, BosPolicy, Checkpoint, Encoded, Encoder, Estimate, Identity, LanguageModel, ModelError,
    Request, Sink, Source,
    encoding::Unanswerable,
    forward::{Forward, Prediction},
    generate::{self, Generator, Job, Prompts, Room},
    llama::{Llama, Origin, activation_bytes},
    memory,
    tree::{Sequence, Target, TokenTree, Walk},
};

/// Most rows of a batch, however much memory there is: answers become durable batch by batch.
const MOST_ROWS: u64 = 8192;
/// Fewest rows of a batch: fewer make the matrix products slow.
const FEWEST_ROWS: u64 = 512;

/// The type weights are kept in. The CPU multiplies in f32 whatever they are kept in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// 32-bit floating point.
    #[default]
    F32,
    /// bfloat16.
    Bf16,
    /// 16-bit floating point.
    F16,
    /// bfloat16 on a card, f32 on the CPU: what each is fast with.
    Auto,
}

impl Dtype {
    /// `f32`, `bf16`, `f16` or `auto`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// What is meant on a card, or on the CPU.
    fn resolved(self, card: bool) -> Self {
        match (self, card) {
            (Self::Auto, true) => Self::Bf16,
            (Self::Auto, false) => Self::F32,
            (asked, _) => asked,
        }
    }

    pub(crate) fn tensor_type(self) -> DType {
        match self {
            Self::F32 | Self::Auto => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }
}

/// Where a model runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeviceChoice {
    /// The first CUDA device if this build and machine have one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of that number.
    Cuda(usize),
}

/// How a checkpoint is loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Type of the weights.
    pub dtype: Dtype,
    /// Where it runs.
    pub device: DeviceChoice,
    /// Is BOS put before prompts?
    pub bos: BosPolicy,
    /// A `tokenizer.json` to use instead of the checkpoint's own tokenizer.
    pub tokenizer: Option<PathBuf>,
    /// Longest sequence in tokens, if not the checkpoint's own.
    pub context_length: Option<usize>,
    /// Rows per batch, if not chosen from memory.
    pub batch_rows: Option<usize>,
    /// Bytes that weights and one batch may take, if not half of what is free.
    pub memory_bytes: Option<u64>,
}

/// A LLaMA in this process.
pub struct Local {
    identity: Identity,
    encoder: Encoder,
    backend: Backend,
    batch_rows: usize,
    /// Bytes allowed in all.
    allowed_bytes: u64,
    /// Tokens that end a text.
    ends: Vec<u32>,
}

/// What computes.
pub(crate) enum Backend {
    Host(Box<Llama>),
    #[cfg(any(feature = "cuda", test))]
    Device(Box<DeviceLlama>),
}

impl Backend {
    /// The CPU's pass, if it is that.
    fn host(&self) -> Option<&Llama> {
        match self {
            Self::Host(llama) => Some(llama),
            #[cfg(any(feature = "cuda", test))]
            Self::Device(_) => None,
        }
    }
}

/// `$body` with `$model` bound to what computes: both kinds are a [`Forward`].
macro_rules! with_model {
    ($backend:expr, $model:ident => $body:expr) => {
        match $backend {
            $crate::engine::Backend::Host($model) => {
                let $model: &$crate::llama::Llama = $model;
                $body
            }
            #[cfg(any(feature = "cuda", test))]
            $crate::engine::Backend::Device($model) => {
                let $model: &$crate::device::DeviceLlama = $model;
                $body
            }
        }
    };
}
pub(crate) use with_model;

impl Local {
    /// Opens, checks and loads a checkpoint.
    ///
    /// # Errors
    /// [`ModelError::Checkpoint`] when it is missing, malformed, no LLaMA or too large for the
    /// memory allowed; [`ModelError::Device`] for a device this build does not have.
    pub fn open(source: &Source, options: &LoadOptions) -> Result<Self, ModelError> {
        Self::open_with(source, options, |origin| Loaded::new(origin, options))
    }

    /// [`Local::open`] with the card's pass on any device: on the CPU it runs through the twins of its kernels.
    #[cfg(test)]
    pub(crate) fn open_on(
        source: &Source,
        options: &LoadOptions,
        device: &candle_core::Device,
        passes: crate::device::Passes,
        free: u64,
    ) -> Result<Self, ModelError> {
        Self::open_with(source, options, |origin| {
            load_on(origin, options, device, "test", passes, || Ok(free))
        })
    }

    /// Opens a checkpoint and loads it by `load`.
    fn open_with(
        source: &Source,
        options: &LoadOptions,
        load: impl FnOnce(Origin<'_>) -> Result<Loaded, ModelError>,
    ) -> Result<Self, ModelError> {
        let mut checkpoint = Checkpoint::open(source)?;
        if let Some(path) = &options.tokenizer {
            checkpoint = checkpoint.with_tokenizer(path)?;
        }
        let config = checkpoint.config();
        let context_length = match options.context_length {
            Some(length) if length > config.context_length || length < 2 => {
                return Err(ModelError::Checkpoint {
                    path: checkpoint.source().into(),
                    problem: format!(
                        "context of {length} tokens asked for, it has {}",
                        config.context_length
                    ),
                    hint: format!(
                        "give `--max-length` between 2 and {}",
                        config.context_length
                    ),
                });
            }
            Some(length) => length,
            None => config.context_length,
        };
        let loaded = load(Origin::Checkpoint(&checkpoint))?;
        let context_length = context_length.min(loaded.longest);
        let encoder = Encoder::new(
            checkpoint.tokenizer().clone(),
            options.bos,
            context_length,
            config.vocabulary,
        )?;
        let (prefix_id, prefix_text) = encoder.prefix_token();
        let identity = Identity {
            name: checkpoint.name().to_owned(),
            source: checkpoint.source().to_owned(),
            architecture: checkpoint.architecture().to_owned(),
            weights_sha256: checkpoint.weights_sha256().to_owned(),
            tokenizer_sha256: checkpoint.tokenizer_sha256().to_owned(),
            parameters: config.parameters(),
            dtype: loaded.dtype.name().to_owned(),
            device: loaded.device,
            context_length,
            adds_bos: encoder.adds_bos(),
            prefix_token: (prefix_id, prefix_text.to_owned()),
        };
        let ends = encoder.tokenizer().ends(config);
        Ok(Self {
            identity,
            encoder,
            backend: loaded.backend,
            batch_rows: loaded.batch_rows,
            allowed_bytes: loaded.allowed_bytes,
            ends,
        })
    }

    /// Allows keys and values of generated text so many bytes only; for tests of how sequences are let in.
    #[doc(hidden)]
    pub fn limit_cache(&mut self, bytes: u64) {
        self.allowed_bytes = self.memory_bytes(self.prompt_rows()) + bytes;
    }

    /// Most prompt tokens computed at once where text is generated.
    fn prompt_rows(&self) -> usize {
        let most = with_model!(&self.backend, model => model.most_prompt_rows());
        self.batch_rows.min(most)
    }

    /// What generating may take: the memory that weights and a batch of prompt tokens leave.
    fn room(&self) -> Room {
        let batch_rows = self.prompt_rows();
        Room {
            cache_bytes: self
                .allowed_bytes
                .saturating_sub(self.memory_bytes(batch_rows)),
            batch_rows,
            context_length: self.identity.context_length,
        }
    }

    /// Bytes of weights and one batch of `rows`.
    fn memory_bytes(&self, rows: usize) -> u64 {
        with_model!(&self.backend, model => model.memory_bytes(rows))
    }

    /// The encoder: how this model sees a request.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// ln p of every token of `vocabulary` after each prefix of `tokens`, `[tokens, vocabulary]`:
    /// for checks against other implementations.
    ///
    /// # Errors
    /// When the tensor library fails.
    pub fn log_probabilities(&self, tokens: &[u32]) -> Result<Vec<Vec<f32>>, ModelError> {
        let Some((last, _)) = tokens.split_last() else {
            return Ok(Vec::new());
        };
        let Some(llama) = self.backend.host() else {
            return Err(ModelError::Device(
                "whole rows of logits are read on the CPU only".to_owned(),
            ));
        };
        let sequence = Sequence {
            context: tokens,
            continuation: std::slice::from_ref(last),
        };
        let tree = TokenTree::new(&[(0, sequence)]);
        let rows: Vec<u32> = (0..tokens.len() as u32).collect();
        llama.logits(&tree, &rows, |_, logits, summary| {
            logits.iter().map(|logit| logit - summary.log_sum).collect()
        })
    }

    fn score(&self, scored: &Scored, sink: &mut dyn Sink) -> Result<(), ModelError> {
        let (sequences, refused) = sort_out(self.encoder.encode_all(&scored.requests)?);
        let walk = Walk::new(&sequences.all());
        for (index, Unanswerable { reason }) in refused {
            sink.answer(scored.indices[index], Answer::Unanswered { reason })
                .map_err(ModelError::Sink)?;
        }
        with_model!(&self.backend, model => self.score_on(model, scored, &sequences, &walk, sink))
    }

    fn score_on<F: Forward>(
        &self,
        model: &F,
        scored: &Scored,
        sequences: &Sequences,
        walk: &Walk,
        sink: &mut dyn Sink,
    ) -> Result<(), ModelError> {
        let batches = walk.batches(self.batch_rows);
        let sequence = |index| sequences.get(index);
        score_batches(model, walk, batches, sequence, |tree, predictions| {
            for (index, predictions) in by_sequence(tree, &predictions) {
                let answer = log_likelihood(&sequences.encoded[index], predictions);
                let request = scored.indices[sequences.requests[index]];
                sink.answer(request, answer).map_err(ModelError::Sink)?;
            }
            sink.computed(tree.rows()).map_err(ModelError::Sink)
        })
    }

    fn generate(&self, jobs: &[Job], sink: &mut dyn Sink) -> Result<(), ModelError> {
        let prompts = Prompts::new(&self.encoder, jobs)?;
        for (job, reason) in prompts.refused() {
            let reason = reason.to_owned();
            sink.answer(jobs[job].request, Answer::Unanswered { reason })
                .map_err(ModelError::Sink)?;
        }
        let ends = self.ends.clone();
        with_model!(&self.backend, model => {
            let (generator, waiting) =
                Generator::new(model, &self.encoder, ends, jobs, &prompts, self.room())?;
            generator.run(waiting, sink)
        })
    }
}

/// Scores `batches` of `walk`, whose sequences `sequence` gives by index; `hand_on` gets each batch's tree and its
/// predictions. The next batch is laid out and begun before the last one's are handed on, so that a card does not wait
/// for the host.
///
/// # Errors
/// When the device or `hand_on` fails.
pub(crate) fn score_batches<'a, F: Forward>(
    model: &F,
    walk: &Walk,
    batches: Vec<Range<usize>>,
    sequence: impl Fn(usize) -> Sequence<'a>,
    mut hand_on: impl FnMut(&TokenTree, Vec<Prediction>) -> Result<(), ModelError>,
) -> Result<(), ModelError> {
    let mut before: Option<(F::Running, TokenTree)> = None;
    for batch in batches {
        let members: Vec<(u32, Sequence<'_>)> = walk.order[batch]
            .iter()
            .map(|&index| (index as u32, sequence(index)))
            .collect();
        let tree = TokenTree::new(&members);
        let running = model.begin(&tree);
        // Even if the next batch cannot begin: this one's work is done.
        if let Some((running, tree)) = before.take() {
            hand_on(&tree, model.finish(running)?)?;
        }
        before = Some((running?, tree));
    }
    match before {
        Some((running, tree)) => hand_on(&tree, model.finish(running)?),
        None => Ok(()),
    }
}

/// A model, and what it was given.
pub(crate) struct Loaded {
    pub(crate) backend: Backend,
    /// As in [`Identity::device`].
    pub(crate) device: String,
    /// Type of the weights.
    pub(crate) dtype: Dtype,
    /// Longest sequence it computes, in tokens.
    pub(crate) longest: usize,
    pub(crate) batch_rows: usize,
    /// Bytes allowed in all.
    pub(crate) allowed_bytes: u64,
    /// The card it runs on, and the card's free bytes before anything was loaded.
    #[cfg(feature = "cuda")]
    pub(crate) card: Option<(crate::device::Card, u64)>,
}

impl Loaded {
    /// Loads a model as `options` say.
    ///
    /// # Errors
    /// As [`Local::open`].
    pub(crate) fn new(origin: Origin<'_>, options: &LoadOptions) -> Result<Self, ModelError> {
        match options.device {
            DeviceChoice::Cpu => load_host(origin, options),
            DeviceChoice::Cuda(index) => load_card(origin, options, index),
            DeviceChoice::Auto => load_auto(origin, options),
        }
    }
}

/// Loads a model into main memory.
fn load_host(origin: Origin<'_>, options: &LoadOptions) -> Result<Loaded, ModelError> {
    let config = origin.config();
    let kept = options.dtype.resolved(false);
    let dtype = kept.tensor_type();
    let fixed = Llama::fixed(config, dtype);
    let allowed = options
        .memory_bytes
        .unwrap_or_else(|| fixed + memory::available().saturating_sub(fixed) / 2);
    let per_row = activation_bytes(config);
    let fewest = fixed + FEWEST_ROWS.min(config.context_length as u64) * per_row;
    if fewest > allowed {
        return Err(too_large(origin, options, fewest, allowed));
    }
    let batch_rows = match options.batch_rows {
        Some(rows) => rows.max(1),
        None => ((allowed - fixed) / per_row).min(MOST_ROWS) as usize,
    };
    Ok(Loaded {
        backend: Backend::Host(Box::new(Llama::load(origin, dtype)?)),
        device: "cpu".to_owned(),
        dtype: kept,
        longest: config.context_length,
        batch_rows,
        allowed_bytes: allowed,
        #[cfg(feature = "cuda")]
        card: None,
    })
}

fn too_large(origin: Origin<'_>, options: &LoadOptions, needed: u64, allowed: u64) -> ModelError {
    let problem = format!(
        "needs {} for its weights in {} and a small batch, {} is allowed",
        memory::display(needed),
        options.dtype.resolved(false).name(),
        memory::display(allowed),
    );
    origin.refusal(problem, "use `--dtype bf16`, or a higher `--memory`")
}

/// Loads a model to a device that computes whole batches.
#[cfg(any(feature = "cuda", test))]
pub(crate) fn load_on(
    origin: Origin<'_>,
    options: &LoadOptions,
    device: &candle_core::Device,
    name: &str,
    passes: crate::device::Passes,
    free: impl Fn() -> Result<u64, ModelError>,
) -> Result<Loaded, ModelError> {
    let dtype = options.dtype.resolved(true);
    let limits = crate::device::Limits {
        dtype: dtype.tensor_type(),
        context_length: options.context_length.unwrap_or(usize::MAX),
        passes,
        batch_rows: options.batch_rows,
        memory_bytes: options.memory_bytes,
    };
    let (model, allowed_bytes) = crate::device::load(origin, device, limits, free)?;
    Ok(Loaded {
        device: name.to_owned(),
        dtype,
        longest: crate::device::longest(origin.config()),
        batch_rows: model.batch_rows(),
        backend: Backend::Device(Box::new(model)),
        allowed_bytes,
        #[cfg(feature = "cuda")]
        card: None,
    })
}

/// The first card of this machine and its memory, or why there is none, in a line: for people.
#[cfg(feature = "cuda")]
pub fn describe_card() -> String {
    let described = crate::device::open_card(0).and_then(|card| {
        let (free, total) = card.memory()?;
        let (free, total) = (memory::display(free), memory::display(total));
        Ok(format!("cuda:0 {}, {free} of {total} free", card.name))
    });
    described
        .unwrap_or_else(|error| format!("none: {}", error.to_string().replace("\nhint: ", "; ")))
}

/// As above: this build knows no cards.
#[cfg(not(feature = "cuda"))]
pub fn describe_card() -> String {
    "none: this program was built without `--features cuda`".to_owned()
}

/// Loads a model to the first card if this build and machine have one, else into main memory.
#[cfg(feature = "cuda")]
fn load_auto(origin: Origin<'_>, options: &LoadOptions) -> Result<Loaded, ModelError> {
    use crate::device::CardError;
    match crate::device::open_card(0) {
        Ok(card) => load_opened(origin, options, card, 0),
        // A machine without a card is nothing to complain of; a card that cannot be used is.
        Err(CardError::NoDriver { .. } | CardError::NoDevice { .. }) => load_host(origin, options),
        Err(error) => Err(error.into()),
    }
}

/// As above: this build knows no cards.
#[cfg(not(feature = "cuda"))]
fn load_auto(origin: Origin<'_>, options: &LoadOptions) -> Result<Loaded, ModelError> {
    load_host(origin, options)
}

#[cfg(feature = "cuda")]
fn load_card(
    origin: Origin<'_>,
    options: &LoadOptions,
    index: usize,
) -> Result<Loaded, ModelError> {
    let card = crate::device::open_card(index)?;
    load_opened(origin, options, card, index)
}

#[cfg(feature = "cuda")]
fn load_opened(
    origin: Origin<'_>,
    options: &LoadOptions,
    card: crate::device::Card,
    index: usize,
) -> Result<Loaded, ModelError> {
    let passes = crate::device::Passes::default();
    let name = format!("cuda:{index} ({})", card.name);
    let (before, _) = card.memory()?;
    let free = || Ok(card.memory()?.0);
    let loaded = load_on(origin, options, &card.device(), &name, passes, free);
    let loaded = loaded.map_err(|error| match error {
        // Nothing was answered yet that a second try could go on from.
        ModelError::CardFailed(message) => ModelError::Card(message),
        error => error,
    })?;
    Ok(Loaded {
        card: Some((card, before)),
        ..loaded
    })
}

#[cfg(not(feature = "cuda"))]
fn load_card(_: Origin<'_>, _: &LoadOptions, index: usize) -> Result<Loaded, ModelError> {
    Err(ModelError::Card(format!(
        "this build cannot use `cuda:{index}`\nhint: build with `--features cuda`, or use `--device cpu`"
    )))
}

/// The predictions of each sequence, by index. A tree lists the targets of a sequence side by side.
fn by_sequence<'a>(
    tree: &TokenTree,
    predictions: &'a [Prediction],
) -> Vec<(usize, &'a [Prediction])> {
    let mut at = 0;
    let mut sequences: Vec<(usize, &[Prediction])> = tree
        .targets
        .chunk_by(|a: &Target, b: &Target| a.sequence == b.sequence)
        .map(|targets| {
            let first = at;
            at += targets.len();
            (targets[0].sequence as usize, &predictions[first..at])
        })
        .collect();
    sequences.sort_by_key(|(index, _)| *index);
    sequences
}

/// The requests that can be answered.
struct Sequences {
    encoded: Vec<Encoded>,
    /// Index of each one's request.
    requests: Vec<usize>,
}

impl Sequences {
    fn get(&self, index: usize) -> Sequence<'_> {
        let encoded = &self.encoded[index];
        Sequence {
            context: &encoded.context,
            continuation: &encoded.continuation,
        }
    }

    fn all(&self) -> Vec<Sequence<'_>> {
        (0..self.encoded.len())
            .map(|index| self.get(index))
            .collect()
    }
}

/// Separates what can be answered from what cannot.
fn sort_out(
    encoded: Vec<Result<Encoded, Unanswerable>>,
) -> (Sequences, Vec<(usize, Unanswerable)>) {
    let mut sequences = Sequences {
        encoded: Vec::new(),
        requests: Vec::new(),
    };
    let mut refused = Vec::new();
    for (index, encoded) in encoded.into_iter().enumerate() {
        match encoded {
            Ok(encoded) => {
                sequences.encoded.push(encoded);
                sequences.requests.push(index);
            }
            Err(reason) => refused.push((index, reason)),
        }
    }
    (sequences, refused)
}

/// The answer made of one sequence's predictions.
fn log_likelihood(encoded: &Encoded, predictions: &[Prediction]) -> Answer {
    if let Some(at) = predictions
        .iter()
        .position(|prediction| !prediction.log_prob.is_finite())
    {
        let log_prob = predictions[at].log_prob;
        return Answer::Unanswered {
            reason: format!("the model's log-probability of continuation token {at} is {log_prob}"),
        };
    }
    Answer::LogLikelihood {
        log_probs: predictions
            .iter()
            .map(|prediction| prediction.log_prob)
            .collect(),
        token_ids: encoded.continuation.clone(),
        greedy: predictions.iter().all(|prediction| prediction.best),
        margin: predictions
            .iter()
            .map(|prediction| prediction.margin)
            .fold(f32::INFINITY, f32::min),
        context_tokens: encoded.context.len(),
        dropped_examples: encoded.dropped_examples,
        truncated_tokens: encoded.truncated_tokens,
    }
}

impl LanguageModel for Local {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn estimate(&self, requests: &[Request]) -> Result<Estimate, ModelError> {
        let (scored, jobs) = by_kind(requests);
        let (sequences, _) = sort_out(self.encoder.encode_all(&scored.requests)?);
        let walk = Walk::new(&sequences.all());
        let prompts = Prompts::new(&self.encoder, &jobs)?;
        let (tokens, unique_tokens) = prompts.tokens(&jobs);
        let room = self.room();
        let mut memory_bytes = 0;
        if !sequences.encoded.is_empty() || jobs.is_empty() {
            memory_bytes = self.memory_bytes(self.batch_rows);
        }
        if !jobs.is_empty() {
            let cache = with_model!(&self.backend, model => {
                generate::useful_bytes(model, &jobs, &prompts, room.context_length)
            });
            let generating = self.memory_bytes(room.batch_rows) + cache.min(room.cache_bytes);
            memory_bytes = memory_bytes.max(generating);
        }
        Ok(Estimate {
            requests: requests.len(),
            tokens: walk.tokens() + tokens,
            unique_tokens: walk.unique_tokens() + unique_tokens,
            new_tokens: jobs
                .iter()
                .map(|job| job.generation.max_new_tokens as u64)
                .sum(),
            batches: walk.batches(self.batch_rows).len(),
            batch_rows: self.batch_rows,
            memory_bytes,
        })
    }

    fn answer(&mut self, requests: &[Request], sink: &mut dyn Sink) -> Result<(), ModelError> {
        let (scored, jobs) = by_kind(requests);
        self.score(&scored, sink)?;
        self.generate(&jobs, sink)
    }
}

/// Requests of one kind, each with its index among all.
#[derive(Default)]
struct Scored {
    requests: Vec<Request>,
    indices: Vec<usize>,
}

/// Log-likelihoods, and completions.
fn by_kind(requests: &[Request]) -> (Scored, Vec<Job>) {
    let mut scored = Scored::default();
    let mut jobs = Vec::new();
    for (index, request) in requests.iter().enumerate() {
        match request {
            Request::LogLikelihood { .. } => {
                scored.requests.push(request.clone());
                scored.indices.push(index);
            }
            Request::Generate { generation, sample } => jobs.push(Job {
                request: index,
                generation: std::sync::Arc::clone(generation),
                sample: *sample,
            }),
        }
    }
    (scored, jobs)
}
