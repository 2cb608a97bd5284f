//! Hyper-parameters of a model, and the tensors that follow from them.

/// Hyper-parameters of a LLaMA 1, 2 or 3 shaped model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Number of tokens the embedding knows.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width inside the feed-forward block.
    pub intermediate: usize,
    /// Number of transformer layers.
    pub layers: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads; divides `heads`.
    pub key_value_heads: usize,
    /// Width of one head; even.
    pub head_size: usize,
    /// Added to the mean square in RMSNorm.
    pub norm_epsilon: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// How the rotary frequencies are stretched for longer contexts.
    pub rope_scaling: Option<RopeScaling>,
    /// Longest sequence in tokens.
    pub context_length: usize,
    /// Is the embedding also the output matrix?
    pub tied_embeddings: bool,
    /// Token id that begins a text.
    pub bos: Option<u32>,
    /// Token ids that end a text.
    pub eos: Vec<u32>,
}

/// How rotary frequencies are changed for contexts longer than the pretrained one.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Every position is divided by `factor`.
    Linear {
        /// Divisor of the positions.
        factor: f32,
    },
    /// LLaMA 3.1: low frequencies are divided by `factor`, high ones kept, with a ramp between.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f32,
        /// Wavelengths longer than `original_context_length` over this are divided.
        low_frequency_factor: f32,
        /// Wavelengths shorter than `original_context_length` over this are kept.
        high_frequency_factor: f32,
        /// Context length of the pretraining.
        original_context_length: usize,
    },
    /// Each frequency has its own divisor, `[head_size / 2]`: the GGUF tensor `rope_freqs.weight`.
    Factors {
        /// Divisors, highest frequency first.
        factors: Vec<f32>,
    },
}

impl Config {
    /// Rotary frequencies in radians per position after scaling, `[head_size / 2]`.
    ///
    /// Computed in f32 in the order of transformers' `modeling_rope_utils`, to give its very bits
    /// where the power function agrees.
    pub fn inverse_frequencies(&self) -> Vec<f32> {
        let plain = (0..self.head_size / 2).map(|index| {
            1.0 / self
                .rope_theta
                .powf((2 * index) as f32 / self.head_size as f32)
        });
        match &self.rope_scaling {
            None => plain.collect(),
            Some(RopeScaling::Linear { factor }) => {
                plain.map(|frequency| frequency / factor).collect()
            }
            Some(RopeScaling::Factors { factors }) => plain
                .zip(factors)
                .map(|(frequency, factor)| frequency / factor)
                .collect(),
            Some(RopeScaling::Llama3 {
                factor,
                low_frequency_factor: low,
                high_frequency_factor: high,
                original_context_length,
            }) => {
                let original = *original_context_length as f32;
                plain
                    .map(|frequency| {
                        let wavelength = 2.0 * std::f32::consts::PI / frequency;
                        if wavelength > original / low {
                            frequency / factor
                        } else if wavelength < original / high {
                            frequency
                        } else {
                            let smooth = (original / wavelength - low) / (high - low);
                            (1.0 - smooth) * frequency / factor + smooth * frequency
                        }
                    })
                    .collect()
            }
        }
    }

    /// Number of weights; tied matrices count once.
    pub fn parameters(&self) -> u64 {
        let size = |shape: &[usize]| shape.iter().map(|&length| length as u64).product::<u64>();
        let layer: u64 = self
            .layer_tensors()
            .iter()
            .map(|(_, shape)| size(shape))
            .sum();
        let outer: u64 = self
            .outer_tensors()
            .iter()
            .map(|(_, shape)| size(shape))
            .sum();
        outer + layer * self.layers as u64
    }

    /// Every tensor the model must have: Hugging Face name and shape, in the order of a forward
    /// pass. A tied output matrix is not among them.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let layers = (0..self.layers).flat_map(|layer| {
            self.layer_tensors()
                .into_iter()
                .map(move |(name, shape)| (format!("model.layers.{layer}.{name}"), shape))
        });
        let outer = self
            .outer_tensors()
            .into_iter()
            .map(|(name, shape)| (name.to_owned(), shape));
        outer.chain(layers).collect()
    }

    fn outer_tensors(&self) -> Vec<(&'static str, Vec<usize>)> {
        let matrix = vec![self.vocabulary, self.hidden];
        let mut tensors = vec![
            ("model.embed_tokens.weight", matrix.clone()),
            ("model.norm.weight", vec![self.hidden]),
        ];
        if !self.tied_embeddings {
            tensors.push(("lm_head.weight", matrix));
        }
        tensors
    }

    fn layer_tensors(&self) -> [(&'static str, Vec<usize>); 9] {
        let (hidden, intermediate) = (self.hidden, self.intermediate);
        let queries = self.heads * self.head_size;
        let keys = self.key_value_heads * self.head_size;
        [
            ("input_layernorm.weight", vec![hidden]),
            ("self_attn.q_proj.weight", vec![queries, hidden]),
            ("self_attn.k_proj.weight", vec![keys, hidden]),
            ("self_attn.v_proj.weight", vec![keys, hidden]),
            ("self_attn.o_proj.weight", vec![hidden, queries]),
            ("post_attention_layernorm.weight", vec![hidden]),
            ("mlp.gate_proj.weight", vec![intermediate, hidden]),
            ("mlp.up_proj.weight", vec![intermediate, hidden]),
            ("mlp.down_proj.weight", vec![hidden, intermediate]),
        ]
    }

    /// Checks what both formats promise: sizes within bounds and divisible where they must be.
    pub(crate) fn validate(&self) -> Result<(), String> {
        let bounded = [
            ("vocabulary", self.vocabulary, 1 << 24),
            ("hidden size", self.hidden, 1 << 20),
            ("intermediate size", self.intermediate, 1 << 22),
            ("number of layers", self.layers, 1 << 12),
            ("number of heads", self.heads, 1 << 14),
            ("number of key-value heads", self.key_value_heads, 1 << 14),
            ("head size", self.head_size, 1 << 14),
            ("context length", self.context_length, 1 << 28),
        ];
        for (what, value, limit) in bounded {
            if value == 0 || value > limit {
                return Err(format!("{what} is {value}, expected 1 to {limit}"));
            }
        }
        if !self.heads.is_multiple_of(self.key_value_heads) {
            return Err(format!(
                "{} heads are no multiple of {} key-value heads",
                self.heads, self.key_value_heads
            ));
        }
        if !self.head_size.is_multiple_of(2) {
            return Err(format!(
                "head size {} is odd, rotary embedding needs pairs",
                self.head_size
            ));
        }
        let positive = |value: f32| value.is_finite() && value > 0.0;
        if !positive(self.norm_epsilon) || self.norm_epsilon > 1.0 {
            return Err(format!("RMSNorm epsilon is {}", self.norm_epsilon));
        }
        if !positive(self.rope_theta) {
            return Err(format!("rotary base is {}", self.rope_theta));
        }
        let scaling_holds = match &self.rope_scaling {
            None => true,
            Some(RopeScaling::Linear { factor }) => positive(*factor),
            Some(RopeScaling::Factors { factors }) => {
                factors.len() == self.head_size / 2
                    && factors.iter().all(|&factor| positive(factor))
            }
            Some(RopeScaling::Llama3 {
                factor,
                low_frequency_factor: low,
                high_frequency_factor: high,
                original_context_length,
            }) => {
                [*factor, *low, *high].into_iter().all(positive)
                    && high > low
                    && *original_context_length > 0
            }
        };
        if !scaling_holds {
            return Err(format!(
                "rotary scaling is not usable: {:?}",
                self.rope_scaling
            ));
        }
        Ok(())
    }
}
