//! The local engine: encodes requests, lays them into a token tree, runs it batch by batch.

use std::{ops::Range, path::PathBuf};

use candle_core::DType;

use crate::{
    Answer, BosPolicy, Checkpoint, Encoded, Encoder, Estimate, Identity, LanguageModel, ModelError,
    Request, Sink, Source,
    encoding::Unanswerable,
    generate::{self, Generator, Job, Prompts, Room},
    llama::{Llama, activation_bytes},
    memory,
    tree::{Sequence, Target, TokenTree, Walk},
};

/// Most rows of a batch, however much memory there is: answers become durable batch by batch.
const MOST_ROWS: u64 = 8192;
/// Most prompt tokens computed at once where text is generated: the memory is better used for keys and values.
const MOST_PROMPT_ROWS: usize = 2048;
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
}

impl Dtype {
    /// `f32`, `bf16` or `f16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    fn tensor_type(self) -> DType {
        match self {
            Self::F32 => DType::F32,
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
    llama: Llama,
    batch_rows: usize,
    /// Weights and what all threads need at any time, in bytes.
    fixed_bytes: u64,
    /// Bytes allowed in all.
    allowed_bytes: u64,
    /// Tokens that end a text.
    ends: Vec<u32>,
}

impl Local {
    /// Opens, checks and loads a checkpoint.
    ///
    /// # Errors
    /// [`ModelError::Checkpoint`] when it is missing, malformed, no LLaMA or too large for the
    /// memory allowed; [`ModelError::Device`] for a device this build does not have.
    pub fn open(source: &Source, options: &LoadOptions) -> Result<Self, ModelError> {
        if let DeviceChoice::Cuda(index) = options.device {
            return Err(ModelError::Device(format!(
                "this build cannot use `cuda:{index}`"
            )));
        }
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
        let encoder = Encoder::new(
            checkpoint.tokenizer().clone(),
            options.bos,
            context_length,
            config.vocabulary,
        )?;
        let dtype = options.dtype.tensor_type();
        let weight_bytes = config.parameters() * dtype.size_in_bytes() as u64;
        let threads = rayon::current_num_threads();
        let fixed = weight_bytes + Llama::scratch_bytes(config, threads);
        let allowed = options
            .memory_bytes
            .unwrap_or_else(|| fixed + memory::available().saturating_sub(fixed) / 2);
        let per_row = activation_bytes(config);
        if fixed + FEWEST_ROWS.min(context_length as u64) * per_row > allowed {
            return Err(ModelError::Checkpoint {
                path: checkpoint.source().into(),
                problem: format!(
                    "needs {} for its weights in {} and a small batch, {} is allowed",
                    memory::display(fixed + FEWEST_ROWS * per_row),
                    options.dtype.name(),
                    memory::display(allowed),
                ),
                hint: "use `--dtype bf16`, or a higher `--memory`".to_owned(),
            });
        }
        let batch_rows = match options.batch_rows {
            Some(rows) => rows.max(1),
            None => ((allowed - fixed) / per_row).min(MOST_ROWS) as usize,
        };
        let (prefix_id, prefix_text) = encoder.prefix_token();
        let identity = Identity {
            name: checkpoint.name().to_owned(),
            source: checkpoint.source().to_owned(),
            architecture: checkpoint.architecture().to_owned(),
            weights_sha256: checkpoint.weights_sha256().to_owned(),
            tokenizer_sha256: checkpoint.tokenizer_sha256().to_owned(),
            parameters: config.parameters(),
            dtype: options.dtype.name().to_owned(),
            device: "cpu".to_owned(),
            context_length,
            adds_bos: encoder.adds_bos(),
            prefix_token: (prefix_id, prefix_text.to_owned()),
        };
        let ends = encoder.tokenizer().ends(config);
        let llama = Llama::load(&checkpoint, dtype)?;
        Ok(Self {
            identity,
            encoder,
            llama,
            batch_rows,
            fixed_bytes: fixed,
            allowed_bytes: allowed,
            ends,
        })
    }

    /// Allows keys and values of generated text so many bytes only; for tests of how sequences are let in.
    #[doc(hidden)]
    pub fn limit_cache(&mut self, bytes: u64) {
        self.allowed_bytes = self.memory_bytes(self.batch_rows.min(MOST_PROMPT_ROWS)) + bytes;
    }

    /// What generating may take: the memory that weights and a batch of prompt tokens leave.
    fn room(&self) -> Room {
        let batch_rows = self.batch_rows.min(MOST_PROMPT_ROWS);
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
        self.fixed_bytes + rows as u64 * activation_bytes(self.llama.config())
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
        let sequence = Sequence {
            context: tokens,
            continuation: std::slice::from_ref(last),
        };
        let tree = TokenTree::new(&[(0, sequence)]);
        let rows: Vec<u32> = (0..tokens.len() as u32).collect();
        self.llama.logits(&tree, &rows, |_, logits, summary| {
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
        for batch in walk.batches(self.batch_rows) {
            let batch = self.answer_batch(&sequences, &walk, batch)?;
            for (index, predictions) in batch.answers {
                let answer = log_likelihood(&sequences.encoded[index], &predictions);
                let request = scored.indices[sequences.requests[index]];
                sink.answer(request, answer).map_err(ModelError::Sink)?;
            }
            sink.computed(batch.rows).map_err(ModelError::Sink)?;
        }
        Ok(())
    }

    fn generate(&self, jobs: &[Job], sink: &mut dyn Sink) -> Result<(), ModelError> {
        let prompts = Prompts::new(&self.encoder, jobs)?;
        for (job, reason) in prompts.refused() {
            let reason = reason.to_owned();
            sink.answer(jobs[job].request, Answer::Unanswered { reason })
                .map_err(ModelError::Sink)?;
        }
        let (generator, waiting) = Generator::new(
            &self.llama,
            &self.encoder,
            self.ends.clone(),
            jobs,
            &prompts,
            self.room(),
        );
        generator.run(waiting, sink)
    }

    /// Answers the sequences `batch` of `walk`, in the order of their indices.
    fn answer_batch(
        &self,
        sequences: &Sequences,
        walk: &Walk,
        batch: Range<usize>,
    ) -> Result<BatchAnswers, ModelError> {
        let order = &walk.order[batch];
        let members: Vec<(u32, Sequence<'_>)> = order
            .iter()
            .map(|&index| (index as u32, sequences.get(index)))
            .collect();
        let tree = TokenTree::new(&members);
        let mut wanted: Vec<u32> = tree.targets.iter().map(|target| target.row).collect();
        wanted.sort_unstable();
        wanted.dedup();
        // The targets of each wanted row, side by side.
        let mut by_row: Vec<usize> = (0..tree.targets.len()).collect();
        by_row.sort_by_key(|&at| tree.targets[at].row);
        let starts: Vec<usize> = wanted
            .iter()
            .map(|row| by_row.partition_point(|&at| tree.targets[at].row < *row))
            .collect();
        let read = self.llama.logits(&tree, &wanted, |row, logits, summary| {
            let end = starts.get(row + 1).copied().unwrap_or(by_row.len());
            by_row[starts[row]..end]
                .iter()
                .map(|&at| {
                    let token = tree.targets[at].token;
                    let log_prob = logits
                        .get(token as usize)
                        .map_or(f32::NAN, |logit| logit - summary.log_sum);
                    (
                        at,
                        Prediction {
                            log_prob,
                            best: summary.best == token,
                            margin: summary.margin,
                        },
                    )
                })
                .collect::<Vec<_>>()
        })?;
        let mut predictions = vec![
            Prediction {
                log_prob: f32::NAN,
                best: false,
                margin: 0.0
            };
            tree.targets.len()
        ];
        for (at, prediction) in read.into_iter().flatten() {
            predictions[at] = prediction;
        }
        let mut answers: Vec<(usize, Vec<Prediction>)> = Vec::with_capacity(members.len());
        let mut at = 0;
        for targets in tree
            .targets
            .chunk_by(|a: &Target, b: &Target| a.sequence == b.sequence)
        {
            answers.push((
                targets[0].sequence as usize,
                predictions[at..at + targets.len()].to_vec(),
            ));
            at += targets.len();
        }
        answers.sort_by_key(|(index, _)| *index);
        Ok(BatchAnswers {
            answers,
            rows: tree.rows(),
        })
    }
}

/// What the model says of one target token.
#[derive(Clone, Copy)]
struct Prediction {
    log_prob: f32,
    best: bool,
    margin: f32,
}

/// One batch's answers by sequence, and the rows it took.
struct BatchAnswers {
    answers: Vec<(usize, Vec<Prediction>)>,
    rows: usize,
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
            let cache = generate::useful_bytes(&self.llama, &jobs, &prompts, room.context_length);
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
