//! How much there is to compute, and how fast that could be done.

use serde::Serialize;

use super::Ceilings;
use crate::Config;

/// Work of a forward pass of a model, in floating-point operations and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Work {
    /// Operations per token: 2 x weights of all layers' matrices.
    pub flops_per_token: f64,
    /// Operations per row whose logits are read: 2 x hidden x vocabulary.
    pub flops_per_scored_row: f64,
    /// Operations of attention per pair of a query and a key: 4 x heads x head size x layers.
    pub flops_per_pair: f64,
    /// Bytes of the matrices that a step of decoding reads: all layers', and the output matrix.
    pub matrix_bytes: f64,
}

impl Work {
    /// The work of a model whose weights have `bytes` bytes each.
    pub fn new(config: &Config, bytes: usize) -> Self {
        let queries = config.heads * config.head_size;
        let key_values = 2 * config.key_value_heads * config.head_size;
        let layer =
            config.hidden * (2 * queries + key_values) + 3 * config.hidden * config.intermediate;
        let (body, head) = (
            (layer * config.layers) as f64,
            (config.hidden * config.vocabulary) as f64,
        );
        Self {
            flops_per_token: 2.0 * body,
            flops_per_scored_row: 2.0 * head,
            flops_per_pair: (4 * queries * config.layers) as f64,
            matrix_bytes: (body + head) * bytes as f64,
        }
    }

    /// Operations of scoring.
    pub(super) fn flops(&self, tokens: u64, scored_rows: u64, pairs: u64) -> f64 {
        tokens as f64 * self.flops_per_token
            + scored_rows as f64 * self.flops_per_scored_row
            + pairs as f64 * self.flops_per_pair
    }

    /// Fewest seconds of a step of decoding: reading the matrices or multiplying by them, whichever takes longer; the
    /// keys and values of each sequence's own tokens, which are read; and those of the tokens that all share, which are
    /// read once and multiplied at half of the rate of dense products.
    pub fn step_floor(&self, step: Step, ceilings: &Ceilings) -> f64 {
        let sequences = step.sequences as f64;
        let read = self.matrix_bytes / ceilings.bytes_per_second;
        let multiply = sequences * (self.flops_per_token + self.flops_per_scored_row)
            / ceilings.flops_per_second;
        let own = sequences * step.own_tokens * step.key_bytes / ceilings.bytes_per_second;
        let shared = sequences * step.shared_tokens * self.flops_per_pair
            / (ceilings.flops_per_second / 2.0);
        read.max(multiply) + own + shared
    }
}

/// A step of decoding.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Sequences.
    pub sequences: usize,
    /// Tokens of its own that each attends to.
    pub own_tokens: f64,
    /// Tokens that all attend to.
    pub shared_tokens: f64,
    /// Bytes of the keys and values of one token in all layers.
    pub key_bytes: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Shape;

    /// An H100 as the design's calculation takes it.
    const H100: Ceilings = Ceilings {
        flops_per_second: 800e12,
        bytes_per_second: 3e12,
        product: [8192; 3],
    };

    fn close(found: f64, wanted: f64) {
        // The table has three digits.
        assert!((found / wanted - 1.0).abs() < 0.006, "{found} for {wanted}");
    }

    /// Calculated by hand, and by others, from the sizes in the paper's table 2.
    #[test]
    fn the_papers_models_take_what_they_are_known_to_take() {
        for (shape, token, row, pair, read_milliseconds, microseconds) in [
            (Shape::Llama7b, 12.95, 0.262, 0.524, 4.40, 16.5),
            (Shape::Llama13b, 25.4, 0.328, 0.819, 8.57, 32.1),
            (Shape::Llama33b, 64.2, 0.426, 1.60, 21.5, 80.8),
            (Shape::Llama65b, 129.5, 0.524, 2.62, 43.4, 163.0),
        ] {
            let work = Work::new(&shape.config(), 2);
            close(work.flops_per_token / 1e9, token);
            close(work.flops_per_scored_row / 1e9, row);
            close(work.flops_per_pair / 1e6, pair);
            close(
                work.matrix_bytes / H100.bytes_per_second * 1e3,
                read_milliseconds,
            );
            let multiply = work.flops_per_token + work.flops_per_scored_row;
            close(multiply / H100.flops_per_second * 1e6, microseconds);
        }
    }

    #[test]
    fn a_step_of_decoding_takes_what_was_calculated_by_hand() {
        let work = Work::new(&Shape::Llama7b.config(), 2);
        for (sequences, own_tokens, shared_tokens, milliseconds) in [
            (1, 0.0, 0.0, 4.40),
            (256, 300.0, 0.0, 17.8),
            (512, 60.0, 1213.0, 14.6),
        ] {
            let step = Step {
                sequences,
                own_tokens,
                shared_tokens,
                key_bytes: f64::from(512 << 10),
            };
            close(work.step_floor(step, &H100) * 1e3, milliseconds);
        }
    }

    #[test]
    fn work_adds_up() {
        let work = Work {
            flops_per_token: 5.0,
            flops_per_scored_row: 7.0,
            flops_per_pair: 11.0,
            matrix_bytes: 0.0,
        };
        assert!((work.flops(2, 3, 4) - 75.0).abs() < 1e-9);
    }
}
