//! Models known by their sizes alone.

use std::{fmt, str::FromStr};

use crate::Config;

/// A named shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// LLaMA 7B, as the others in table 2 of the paper (arXiv 2302.13971).
    Llama7b,
    /// LLaMA 13B.
    Llama13b,
    /// LLaMA 33B.
    Llama33b,
    /// LLaMA 65B.
    Llama65b,
    /// SmolLM2 135M.
    Smollm2,
    /// TinyLlama 1.1B.
    Tinyllama,
}

impl Shape {
    /// Every shape with its name.
    pub const ALL: [(&'static str, Self); 6] = [
        ("llama-7b", Self::Llama7b),
        ("llama-13b", Self::Llama13b),
        ("llama-33b", Self::Llama33b),
        ("llama-65b", Self::Llama65b),
        ("smollm2-135m", Self::Smollm2),
        ("tinyllama-1.1b", Self::Tinyllama),
    ];

    /// The sizes. The paper does not give the width of the feed-forward block (2/3 of 4 times the hidden size, rounded
    /// up to a multiple of 256), the vocabulary and the context: they are those of the released checkpoints.
    pub fn config(self) -> Config {
        match self {
            Self::Llama7b => llama(4096, 11_008, 32, 32),
            Self::Llama13b => llama(5120, 13_824, 40, 40),
            Self::Llama33b => llama(6656, 17_920, 60, 52),
            Self::Llama65b => llama(8192, 22_016, 80, 64),
            Self::Smollm2 => Config {
                vocabulary: 49_152,
                key_value_heads: 3,
                rope_theta: 100_000.0,
                context_length: 8192,
                tied_embeddings: true,
                ..llama(576, 1536, 30, 9)
            },
            Self::Tinyllama => Config {
                key_value_heads: 4,
                ..llama(2048, 5632, 22, 32)
            },
        }
    }
}

fn llama(hidden: usize, intermediate: usize, layers: usize, heads: usize) -> Config {
    Config {
        vocabulary: 32_000,
        hidden,
        intermediate,
        layers,
        heads,
        key_value_heads: heads,
        head_size: hidden / heads,
        norm_epsilon: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        context_length: 2048,
        tied_embeddings: false,
        bos: Some(1),
        eos: vec![2],
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, shape)| shape == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(known, _)| *known == name);
        known
            .map(|(_, shape)| *shape)
            .ok_or_else(|| format!("there is no shape `{name}`"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The paper's table 2, and what the publishers of the others say.
    #[test]
    fn shapes_have_as_many_parameters_as_they_are_known_for() {
        for (name, billions) in [
            ("llama-7b", 6.7),
            ("llama-13b", 13.0),
            ("llama-33b", 32.5),
            ("llama-65b", 65.2),
            ("smollm2-135m", 0.1345),
            ("tinyllama-1.1b", 1.1),
        ] {
            let shape: Shape = name.parse().unwrap();
            assert_eq!(shape.to_string(), name);
            shape.config().validate().unwrap();
            let found = shape.config().parameters() as f64 / 1e9;
            assert!((found / billions - 1.0).abs() < 0.01, "{name}: {found}");
        }
        assert!("llama-8b".parse::<Shape>().is_err());
    }
}
