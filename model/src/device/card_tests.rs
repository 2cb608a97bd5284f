//! Promise: each kernel gives what its twin gives, for any shape, and writes all of its output and nothing else; and the
//! pass on a card gives what the CPU's gives.
//!
//! Runs on the first card: a real one, or the software card (`model/software-card`), which runs the same kernels on
//! the CPU. Without any, the tests say so and pass, unless `LLAMA_EVAL_REQUIRE_CARD=1`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor};

use super::{
    attention::{HEAD_SIZES, Rotary, attention, rotate_store},
    card,
    forward::key_runs,
    logits::{CHOICE, SUMMARY, Targets, sample, summaries, target_log_probs},
    operations::{embed, gather_rows, random, rms_norm, silu_multiply},
    product::{Into, product},
    table::{KeyRun, NARROW, Table, TileShape, Uploaded, WIDE},
    transfer::{FOR_PASSES, Transfers},
};
use crate::{
    llama::Heads,
    tree::{Sequence, TokenTree, Walk},
};

const TYPES: [DType; 3] = [DType::F32, DType::BF16, DType::F16];

/// The first card, opened once: a process has one.
pub(super) fn device() -> Option<Device> {
    static DEVICE: OnceLock<Option<Device>> = OnceLock::new();
    let open = || match card::open(0) {
        Ok(card) => Some(card.device()),
        Err(error) => {
            let required = std::env::var_os("LLAMA_EVAL_REQUIRE_CARD").is_some();
            assert!(!required, "LLAMA_EVAL_REQUIRE_CARD is set: {error}");
            println!("skipped: {error}");
            None
        }
    };
    DEVICE.get_or_init(open).clone()
}

/// Most that a result may differ from its twin's, as norm of the difference over norm: both sum in other orders,
/// and 16-bit types round to 2^-9 and 2^-12.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => 1e-4,
        _ => 1e-2,
    }
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.to_device(&Device::Cpu).unwrap();
    let tensor = tensor.to_dtype(DType::F32).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Numbers uniform in [-scale, scale), the same on every device.
fn numbers(shape: &[usize], dtype: DType, seed: u64, scale: f32, device: &Device) -> Tensor {
    let values = random(shape, DType::F32, &Device::Cpu, seed, scale).unwrap();
    let values = values.to_dtype(dtype).unwrap();
    values.to_device(device).unwrap()
}

/// An output full of NaN: what is not written shows.
fn poisoned(shape: &[usize], dtype: DType, device: &Device) -> Tensor {
    let count: usize = shape.iter().product();
    let values = Tensor::from_vec(vec![f32::NAN; count], shape, &Device::Cpu).unwrap();
    values.to_dtype(dtype).unwrap().to_device(device).unwrap()
}

fn indices(values: &[u32], device: &Device) -> Tensor {
    Tensor::from_slice(values, values.len(), device).unwrap()
}

fn close(name: &str, card: &Tensor, twin: &Tensor, tolerance: f64) {
    let (card, twin) = (floats(card), floats(twin));
    assert_eq!(card.len(), twin.len(), "{name}");
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let pairs = || card.iter().zip(&twin).filter(|(_, twin)| !twin.is_nan());
    let difference = square(&mut pairs().map(|(a, b)| f64::from(*a) - f64::from(*b)));
    let norm = square(&mut pairs().map(|(_, b)| f64::from(*b)));
    let error = (difference / norm.max(f64::MIN_POSITIVE)).sqrt();
    // A NaN that was not written over fails here too, for it is in the difference.
    assert!(error < tolerance, "{name}: relative error {error}");
    for (at, (card, twin)) in card.iter().zip(&twin).enumerate() {
        assert_eq!(card.is_nan(), twin.is_nan(), "{name}: number at {at}");
    }
}

/// Runs `test` on the card and on the CPU, and compares what it gives.
fn same(name: &str, tolerance: f64, test: impl Fn(&Device) -> Tensor) {
    let Some(device) = device() else { return };
    close(name, &test(&device), &test(&Device::Cpu), tolerance);
}

#[test]
fn rows_of_a_table() {
    for dtype in TYPES {
        for (rows, columns) in [(1, 1), (3, 37), (70, 64), (5, 4097)] {
            let name = format!("{dtype:?} [{rows}, {columns}]");
            let index: Vec<u32> = (0..rows as u32).map(|row| row * 7 % 11).collect();
            same(&format!("embed {name}"), 1e-9, |device| {
                let table = numbers(&[11, columns], dtype, 1, 1.0, device);
                let out = poisoned(&[rows + 1, columns], DType::F32, device);
                embed(&out, &table, &indices(&index, device)).unwrap();
                out
            });
            same(&format!("gather {name}"), 1e-9, |device| {
                let values = numbers(&[11, columns], dtype, 2, 1.0, device);
                let out = poisoned(&[rows + 1, columns], dtype, device);
                gather_rows(&out, &values, &indices(&index, device)).unwrap();
                out
            });
        }
    }
}

#[test]
fn norms_and_gates() {
    for dtype in TYPES {
        for (rows, columns) in [(1, 2), (3, 74), (70, 64), (2, 5120), (1, 11_008)] {
            let name = format!("{dtype:?} [{rows}, {columns}]");
            same(&format!("norm {name}"), tolerance(dtype), |device| {
                let stream = numbers(&[rows, columns], DType::F32, 3, 5.0, device);
                let weight = numbers(&[columns], DType::F32, 4, 2.0, device);
                let out = poisoned(&[rows + 1, columns], dtype, device);
                rms_norm(&out, &stream, &weight, 1e-5).unwrap();
                out
            });
            same(&format!("gate {name}"), tolerance(dtype), |device| {
                let gate_up = numbers(&[rows, columns], dtype, 5, 9.0, device);
                let out = poisoned(&[rows + 1, columns / 2], dtype, device);
                silu_multiply(&out, &gate_up).unwrap();
                out
            });
        }
    }
}

#[test]
fn random_weights_are_the_same_everywhere() {
    for dtype in TYPES {
        for count in [1, 255, 300_001] {
            same(&format!("{dtype:?} {count}"), 1e-9, |device| {
                random(&[count], dtype, device, 42, 0.37).unwrap()
            });
        }
    }
}

#[test]
fn dense_products() {
    for (dtype, out_type, into) in [
        (DType::F32, DType::F32, Into::Place),
        (DType::F32, DType::F32, Into::Sum),
        (DType::BF16, DType::BF16, Into::Place),
        (DType::BF16, DType::F32, Into::Place),
        (DType::BF16, DType::F32, Into::Sum),
        (DType::F16, DType::F16, Into::Place),
        (DType::F16, DType::F32, Into::Sum),
    ] {
        for (rows, inputs, outputs) in [(1, 64, 3), (48, 96, 200), (16, 1000, 33)] {
            let name = format!("{dtype:?} into {out_type:?} {into:?} {rows}x{inputs}x{outputs}");
            same(&name, tolerance(dtype), |device| {
                let input = numbers(&[rows, inputs], dtype, 6, 1.0, device);
                let weight = numbers(&[outputs, inputs], dtype, 7, 1.0, device);
                let out = match into {
                    Into::Place => poisoned(&[rows, outputs], out_type, device),
                    Into::Sum => numbers(&[rows, outputs], out_type, 8, 4.0, device),
                };
                product(&out, &input, &weight, into).unwrap();
                out
            });
        }
    }
}

fn rotary(size: usize, positions: usize, device: &Device) -> Rotary {
    let angles: Vec<f32> = (0..positions)
        .flat_map(|position| {
            (0..size / 2)
                .map(move |i| position as f32 * 10_000f32.powf(-2.0 * i as f32 / size as f32))
        })
        .collect();
    let table = |of: fn(f32) -> f32| {
        let values: Vec<f32> = angles.iter().copied().map(of).collect();
        Tensor::from_vec(values, (positions, size / 2), device).unwrap()
    };
    Rotary {
        cosine: table(f32::cos),
        sine: table(f32::sin),
    }
}

/// Sequences that share stems of several windows, with branches inside a window and leaves of one row.
fn tree() -> TokenTree {
    let stem = |seed: u32, length: u32| (0..length).map(move |at| (at * seed) % 5).collect();
    let stems: [Vec<u32>; 3] = [stem(1, 150), stem(2, 64), stem(3, 7)];
    let sequences: Vec<(Vec<u32>, Vec<u32>)> = (0..30u32)
        .map(|at| {
            let mut context = stems[at as usize % 3].clone();
            context.truncate(context.len() - (at as usize / 12) * 3);
            context.extend((0..at % 7).map(|i| (i * at) % 4));
            (context, (0..1 + at % 5).map(|i| 7 + (at + i) % 3).collect())
        })
        .collect();
    let sequences: Vec<Sequence<'_>> = sequences
        .iter()
        .map(|(context, continuation)| Sequence {
            context,
            continuation,
        })
        .collect();
    let walk = Walk::new(&sequences);
    let members: Vec<_> = walk
        .order
        .iter()
        .map(|&at| (at as u32, sequences[at]))
        .collect();
    TokenTree::new(&members)
}

/// Attention of the rows `rows` of `tree` whose keys lie at slots from `slot` on, among others that hold NaN.
fn attend(
    tree: &TokenTree,
    rows: std::ops::Range<usize>,
    heads: Heads,
    dtype: DType,
    shape: TileShape,
    device: &Device,
) -> Tensor {
    const SLOT: u32 = 5;
    let all = tree.tokens.len();
    let capacity = all + 11;
    let rotary = rotary(heads.size, 256, device);
    let fused = numbers(&[all, heads.fused()], dtype, 9, 1.5, device);
    let key_values = poisoned(&[2, capacity, heads.key_values, heads.size], dtype, device);
    let slots: Vec<u32> = (0..all as u32).map(|row| row + SLOT).collect();
    let positions = indices(&tree.positions, device);
    rotate_store(
        &key_values,
        &fused,
        &positions,
        &indices(&slots, device),
        &rotary,
        heads,
    )
    .unwrap();
    // Only the asked rows attend: as when they are a batch of their own.
    let shift = |row: u32| row.clamp(rows.start as u32, rows.end as u32) - rows.start as u32;
    let runs: Vec<KeyRun> = key_runs(tree)
        .into_iter()
        .map(|run| KeyRun {
            slot: run.slot + SLOT,
            queries: shift(run.queries.start)..shift(run.queries.end),
            ..run
        })
        .collect();
    let positions = &tree.positions[rows.clone()];
    let transfers = Transfers::new(device, FOR_PASSES).unwrap();
    let table = Table::new(positions, &runs, shape, heads.queries / heads.key_values);
    let table = Uploaded::new(&table, positions, shape, &transfers).unwrap();
    let fused = fused.narrow(0, rows.start, rows.len()).unwrap();
    let width = heads.queries * heads.size;
    let out = poisoned(&[rows.len() + 1, width], dtype, device);
    attention(&out, &fused, &key_values, &table, &rotary, heads).unwrap();
    out
}

#[test]
fn tree_attention() {
    let tree = tree();
    let rows = 0..tree.tokens.len();
    for dtype in TYPES {
        for size in HEAD_SIZES {
            for (queries, key_values) in [(2, 2), (6, 2), (8, 1)] {
                for shape in [WIDE, NARROW] {
                    let heads = Heads {
                        queries,
                        key_values,
                        size,
                    };
                    let name = format!("{dtype:?} {heads:?} {shape:?}");
                    same(&name, tolerance(dtype), |device| {
                        attend(&tree, rows.clone(), heads, dtype, shape, device)
                    });
                }
            }
        }
    }
}

#[test]
fn a_row_attends_the_same_in_any_batch() {
    let Some(device) = device() else { return };
    let tree = tree();
    let all = tree.tokens.len();
    for dtype in TYPES {
        for (shape, queries) in [(WIDE, 3), (NARROW, 3), (WIDE, 1), (NARROW, 1)] {
            let heads = Heads {
                queries,
                key_values: 1,
                size: 64,
            };
            let width = heads.queries * heads.size;
            let whole = floats(&attend(&tree, 0..all, heads, dtype, shape, &device));
            for rows in [0..1, 17..90, all - 40..all, all - 1..all] {
                let part = floats(&attend(&tree, rows.clone(), heads, dtype, shape, &device));
                assert_eq!(
                    part[..rows.len() * width],
                    whole[rows.start * width..rows.end * width],
                    "{dtype:?} {shape:?} rows {rows:?}"
                );
            }
        }
    }
}

#[test]
fn what_is_read_out_of_logits() {
    for (rows, vocabulary) in [(1, 3), (5, 1000), (3, 32_001)] {
        let name = format!("[{rows}, {vocabulary}]");
        let summary_of = |device: &Device| {
            let logits = numbers(&[rows + 1, vocabulary], DType::F32, 11, 12.0, device);
            let summary = poisoned(&[rows, SUMMARY], DType::F32, device);
            summaries(&summary, &logits).unwrap();
            (logits, summary)
        };
        let Some(device) = device() else { return };
        let card = floats(&summary_of(&device).1);
        let twin = floats(&summary_of(&Device::Cpu).1);
        for (card, twin) in card.chunks_exact(SUMMARY).zip(twin.chunks_exact(SUMMARY)) {
            // The log-sum's sums are in another order; all else is exact.
            assert!((card[0] - twin[0]).abs() < 2e-6 * twin[0].abs(), "{name}");
            assert_eq!(card[1], twin[1], "{name}: margin");
            assert_eq!(card[2].to_bits(), twin[2].to_bits(), "{name}: best");
            assert_eq!(card[3], twin[3], "{name}: largest");
        }
        same(&format!("targets {name}"), 1e-6, |device| {
            let (logits, summary) = summary_of(device);
            let (mut target_rows, mut tokens) = (Vec::new(), Vec::new());
            for row in 0..rows as u32 {
                for token in 0..3 {
                    target_rows.push(row);
                    tokens.push((token * 977) % vocabulary as u32);
                }
            }
            // A token that is not in the vocabulary.
            *tokens.last_mut().unwrap() = vocabulary as u32;
            let out = poisoned(&[target_rows.len() + 1], DType::F32, device);
            let targets = Targets {
                rows: &indices(&target_rows, device),
                tokens: &indices(&tokens, device),
            };
            target_log_probs(&out, &logits, &summary, targets).unwrap();
            out
        });
    }
}

#[test]
fn a_logit_that_is_no_number_is_seen() {
    let Some(device) = device() else { return };
    for bad in [f32::NAN, f32::INFINITY] {
        for at in [0, 5, 255, 256, 999] {
            let mut logits = vec![0.5f32; 1000];
            logits[at] = bad;
            let logits = Tensor::from_vec(logits, (1, 1000), &device).unwrap();
            let summary = poisoned(&[1, SUMMARY], DType::F32, &device);
            summaries(&summary, &logits).unwrap();
            assert!(!floats(&summary)[0].is_finite(), "{bad} at {at}");
        }
    }
}

#[test]
fn the_first_of_equal_logits_is_the_best() {
    let Some(device) = device() else { return };
    let mut logits = vec![-1.0f32; 700];
    for at in [620, 300, 301, 44 + 256] {
        logits[at] = 2.0;
    }
    let logits = Tensor::from_vec(logits, (1, 700), &device).unwrap();
    let summary = poisoned(&[1, SUMMARY], DType::F32, &device);
    summaries(&summary, &logits).unwrap();
    let summary = floats(&summary);
    assert_eq!((summary[2].to_bits(), summary[1]), (300, 0.0));
}

#[test]
fn draws_are_the_twins() {
    let Some(card) = device() else { return };
    let kinds = [
        (0.0, 1.0, 0.0),
        (1.0, 1.0, 0.0),
        (0.7, 0.9, 0.0),
        (1.3, 0.5, 40.0),
        (0.8, 1.0, 5.0),
        (1.0, 0.95, 1.0),
        (2.0, 0.01, 0.0),
    ];
    const EACH: usize = 12;
    let rows = kinds.len() * EACH;
    for vocabulary in [5, 1000, 32_000] {
        let choices: Vec<f64> = kinds
            .iter()
            .flat_map(|&(temperature, top_p, top_k)| {
                (0..EACH).flat_map(move |at| {
                    let draw = (at as f64 + 0.37) / EACH as f64;
                    [draw, temperature, top_p, top_k]
                })
            })
            .collect();
        let tokens = |device: &Device| -> Vec<u32> {
            let logits = numbers(&[rows, vocabulary], DType::F32, 13, 6.0, device);
            let summary = poisoned(&[rows, SUMMARY], DType::F32, device);
            summaries(&summary, &logits).unwrap();
            let choices = Tensor::from_slice(&choices, (rows, CHOICE), device).unwrap();
            let tokens = Tensor::zeros(rows, DType::U32, device).unwrap();
            sample(&tokens, &logits, &summary, &choices).unwrap();
            tokens.to_vec1().unwrap()
        };
        // A draw within rounding of a border between two tokens could go either way; these do not.
        assert_eq!(tokens(&card), tokens(&Device::Cpu), "{vocabulary}");
    }
}
