//! What masks cost: attention under each, beside full attention, one after the other in one process.
//! The time should be in proportion to what a mask keeps, in tiles of 16 keys.
//!
//! `cargo bench -p masktile-bench --bench masks` prints the table; `-- --test` runs each once.

use std::hint::black_box;
use std::time::{Duration, Instant};

use masktile::{
    Attention, BitMask, BlockMask, Causal, Isa, Mask, Offset, PrefixLm, Segments, TensorMut,
    TensorRef, Window, Workspace,
};
use masktile_bench::buffer::Buffer;

const TOKENS: usize = 8192;
const DIM: usize = 64;

fn main() {
    let is_test = std::env::args().any(|arg| arg == "--test");
    let tokens = if is_test { 512 } else { TOKENS };
    let rounds = if is_test { 1 } else { 9 };
    let starts: Vec<usize> = (0..=16).map(|s| s * tokens / 16).collect();
    let lengths = [tokens / 4];
    let tables = tokens / 64;
    // A block in eight, and each block of the diagonal.
    let table: Vec<u8> = (0..tables * tables)
        .map(|at| {
            u8::from(
                (at / tables + 3 * (at % tables)).is_multiple_of(8) || at / tables == at % tables,
            )
        })
        .collect();
    let table = TensorRef::new(&table, [1, 1, tables, tables]).unwrap();
    let mut bits = vec![0u8; tokens * tokens / 8];
    for query in 0..tokens {
        for key in query.saturating_sub(255)..=query {
            bits[query * tokens / 8 + key / 8] |= 1 << (key % 8);
        }
    }
    let bits = TensorRef::new(&bits, [1, 1, tokens, tokens / 8]).unwrap();
    let window = Window::new(255, 0, Offset::top_left());
    let segments = Segments::cumulative(&starts, &starts);
    let causal = Mask::from(Causal::top_left());
    let padded = [causal, Mask::KeyLengths(&lengths)];
    let masks = [
        ("full", Mask::None),
        ("causal", causal),
        ("window of 256", window.into()),
        ("the same as a matrix of bits", BitMask::ones_are_kept(bits).into()),
        ("prefix of a quarter", PrefixLm::new(&lengths, Offset::top_left()).into()),
        ("padding: a quarter kept", Mask::KeyLengths(&lengths)),
        ("causal, a quarter kept", Mask::All(&padded)),
        ("16 packed segments", segments.into()),
        ("16 packed segments, causal", Segments::cumulative_causal(&starts, &starts).into()),
        ("blocks of 64, one in eight", BlockMask::ones_are_kept(table, [64, 64]).into()),
    ];

    for isa in Isa::available().filter(|isa| *isa != Isa::SCALAR) {
        let times = measure(isa, tokens, rounds, &masks.map(|(_, mask)| mask));
        println!("\nattention of {tokens} tokens, one head of {DIM}, {isa}");
        println!("{:30} {:>10} {:>12} {:>14}", "mask", "kept", "of full's", "full's over it");
        for ((name, mask), time) in masks.iter().zip(&times) {
            let share = time.as_secs_f64() / times[0].as_secs_f64();
            println!(
                "{name:30} {:>9.1}% {:>11.1}% {:>14.1}",
                100.0 * kept(mask, tokens),
                100.0 * share,
                1.0 / share
            );
        }
    }
}

/// Median times under each mask, in turns.
fn measure(isa: Isa, tokens: usize, rounds: usize, masks: &[Mask<'_>]) -> Vec<Duration> {
    let shape = [1, 1, tokens, DIM];
    let [q, k, v] = [1, 2, 3].map(|seed| Buffer::random(tokens * DIM, seed));
    let [q, k, v] = [&q, &k, &v].map(|data| TensorRef::new(data, shape).unwrap());
    let (mut out, mut workspace) = (vec![0.0; tokens * DIM], Workspace::new());
    let mut times = vec![Vec::new(); masks.len()];
    for _ in 0..rounds {
        for (mask, times) in masks.iter().zip(&mut times) {
            let mut out = TensorMut::new(&mut out, shape).unwrap();
            let start = Instant::now();
            Attention::new(q, k, v).mask(*mask).isa(isa).run(&mut out, &mut workspace).unwrap();
            times.push(start.elapsed());
            black_box(&mut out);
        }
    }
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    times.into_iter().map(median).collect()
}

/// The share of positions that a mask keeps, from one query in 64.
fn kept(mask: &Mask<'_>, tokens: usize) -> f64 {
    let shape = [1, 1, tokens, tokens];
    let queries = (31..tokens).step_by(64);
    let kept: usize = queries
        .clone()
        .map(|i| (0..tokens).filter(|j| mask.kept(shape, [0, 0, i, *j]).unwrap()).count())
        .sum();
    kept as f64 / (queries.count() * tokens) as f64
}
