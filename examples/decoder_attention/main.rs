//! A decoder's operations on the real tensors of a transformer layer, on every instruction set
//! that this machine has: the query projection, causal and padded self-attention, cross-attention
//! over padded memories, the join of a decoder's inputs, and decoding step by step from a cache.
//!
//! Each is compared with a float64 reference and, bit for bit, with scalar code.
//!
//! ```sh
//! cargo run --release --example decoder_attention
//! cargo run --release --example decoder_attention -- --heatmap attention.svg
//! ```

mod data;
mod heatmap;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use data::{BATCH, DIM, HEADS, Layer, SHAPE, TOKENS, WIDTH};
use masktile::decoder::{KvCache, join_as_columns, join_as_row};
use masktile::{
    Attention, Causal, Isa, Mask, MatMut, MatRef, Matmul, TensorMut, TensorRef, Workspace,
};

/// Masked attention on a real transformer layer, on every instruction set of this machine.
#[derive(Parser)]
struct Options {
    /// Write a picture of one head's causal attention to this file, as SVG.
    #[arg(long, value_name = "FILE")]
    heatmap: Option<PathBuf>,
    /// The sentence of the picture.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..BATCH as i64))]
    sentence: u8,
    /// The head of the picture.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..HEADS as i64))]
    head: u8,
}

/// What a run of an operation gives.
struct Outcome {
    /// The operation's name.
    name: &'static str,
    output: Vec<f32>,
    reference: Vec<f64>,
    /// The greatest absolute error that is no defect.
    bound: f64,
    time: Duration,
    flops: usize,
}

type Res<T> = Result<T, Box<dyn Error>>;

/// Chains of 384 fused multiply-adds, half an ulp each, 2.4e-7 for sums below 8; measured: 3.1e-6.
const PRODUCT_BOUND: f64 = 2e-5;
/// Probabilities sum to 1 and values are below 4; measured: 7.6e-7.
const ATTENTION_BOUND: f64 = 3e-6;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("decoder_attention: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Res<bool> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/minilm-layer3.safetensors");
    let layer = Layer::read(path)?;
    println!(
        "{:<34} {:<7} {:>10} {:>9} {:>10}  same bits as scalar",
        "operation", "ISA", "time", "GFLOP/s", "error"
    );
    let mut good = true;
    for operation in
        [query_projection, self_attention, cross_attention, join_rows, join_columns, decode]
    {
        let scalar = operation(&layer, Isa::SCALAR)?.output;
        for isa in Isa::available() {
            let outcome = operation(&layer, isa)?;
            let same =
                outcome.output.iter().map(|x| x.to_bits()).eq(scalar.iter().map(|x| x.to_bits()));
            good &= report(&outcome, isa, same);
        }
    }
    println!(
        "\nAttention counts 4 x batch x heads x queries x keys x dim, masked work as if done."
    );
    if let Some(file) = &options.heatmap {
        let svg = heatmap::svg(&layer, options.sentence.into(), options.head.into())?;
        std::fs::write(file, svg)
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        println!("wrote {}", file.display());
    }
    Ok(good)
}

/// Prints a row of the table; whether all of it is as it should be.
fn report(outcome: &Outcome, isa: Isa, same: bool) -> bool {
    let pairs = outcome.output.iter().zip(&outcome.reference);
    let error = pairs.map(|(x, y)| (f64::from(*x) - y).abs()).fold(0.0, greatest);
    // A NaN is within no bound.
    let small = outcome.output.len() == outcome.reference.len() && error <= outcome.bound;
    let seconds = outcome.time.as_secs_f64();
    println!(
        "{:<34} {:<7} {:>7.1} us {:>9} {:>10.1e}  {}{}",
        outcome.name,
        isa,
        seconds * 1e6,
        gflops(outcome.flops, seconds),
        error,
        if same { "yes" } else { "NO" },
        if small { String::new() } else { format!("  ERROR OVER {:.0e}", outcome.bound) },
    );
    small && same
}

/// The greater of two errors; NaN, once seen, stays (`f64::max` would forget it).
fn greatest(worst: f64, error: f64) -> f64 {
    if error > worst || error.is_nan() { error } else { worst }
}

/// Billions a second, or a dash for an operation that computes nothing.
fn gflops(flops: usize, seconds: f64) -> String {
    if flops == 0 { "-".to_owned() } else { format!("{:.1}", flops as f64 / seconds / 1e9) }
}

/// The median time of a run, of as many as fit 50 ms and at least 30.
fn time(mut run: impl FnMut() -> masktile::Result<()>) -> Res<Duration> {
    run()?;
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < 30 || start.elapsed() < Duration::from_millis(50) {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

/// `x W^T + b` for the whole batch.
fn query_projection(layer: &Layer, isa: Isa) -> Res<Outcome> {
    let rows = BATCH * TOKENS;
    let (output, time) = project(layer, isa, layer.f32("hidden")?, "query")?;
    let reference = layer.f32("proj_query")?.iter().map(|x| f64::from(*x)).collect();
    Ok(Outcome {
        name: "query projection 105x384x384",
        output,
        reference,
        bound: PRODUCT_BOUND,
        time,
        flops: 2 * rows * WIDTH * WIDTH,
    })
}

/// Rows of `x` by one of the layer's weights, which lie out x in, and its bias.
fn project(layer: &Layer, isa: Isa, x: &[f32], part: &str) -> Res<(Vec<f32>, Duration)> {
    let rows = x.len() / WIDTH;
    let weight = MatRef::new(layer.f32(&format!("w_{part}"))?, [WIDTH, WIDTH])?.transposed();
    let matmul = Matmul::new(MatRef::new(x, [rows, WIDTH])?, weight)
        .bias(layer.f32(&format!("b_{part}"))?)
        .isa(isa);
    let (mut output, mut workspace) = (vec![0.0; rows * WIDTH], Workspace::new());
    let time = time(|| matmul.run(&mut MatMut::new(&mut output, [rows, WIDTH])?, &mut workspace))?;
    Ok((output, time))
}

/// Causal self-attention of padded sentences.
fn self_attention(layer: &Layer, isa: Isa) -> Res<Outcome> {
    let [q, k, v] = operands(layer)?;
    let masks = [Mask::Causal(Causal::top_left()), Mask::KeyLengths(&layer.lengths)];
    let (mut output, mut workspace) = (vec![0.0; q.shape().iter().product()], Workspace::new());
    let time = time(|| {
        Attention::new(q, k, v)
            .mask(Mask::All(&masks))
            .isa(isa)
            .run(&mut TensorMut::new(&mut output, SHAPE)?, &mut workspace)
    })?;
    Ok(Outcome {
        name: "self-attention, causal + padding",
        output,
        reference: layer.f64("out_causal_padding")?.to_vec(),
        bound: ATTENTION_BOUND,
        time,
        flops: attention_flops(BATCH, TOKENS),
    })
}

/// The queries of each sentence over the keys and values of its opposite in the batch.
fn cross_attention(layer: &Layer, isa: Isa) -> Res<Outcome> {
    let [q, k, v] = operands(layer)?;
    let (mut output, mut workspace) = (vec![0.0; q.shape().iter().product()], Workspace::new());
    let time = time(|| {
        for sentence in 0..BATCH {
            let memory = BATCH - 1 - sentence;
            let length = layer.lengths.get(memory..=memory).unwrap_or(&[]);
            let out = TensorMut::new(&mut output, SHAPE)?.narrow(0, sentence, 1)?;
            Attention::new(
                q.narrow(0, sentence, 1)?,
                k.narrow(0, memory, 1)?,
                v.narrow(0, memory, 1)?,
            )
            .mask(Mask::KeyLengths(length))
            .isa(isa)
            .run(&mut { out }, &mut workspace)?;
        }
        Ok(())
    })?;
    Ok(Outcome {
        name: "cross-attention, padding",
        output,
        reference: layer.f64("out_cross_reversed_batch")?.to_vec(),
        bound: ATTENTION_BOUND,
        time,
        flops: attention_flops(BATCH, TOKENS),
    })
}

/// A decoder's input as rows (the encoder's output and, as one more row, the decoder's last
/// output), and the keys made from it.
fn join_rows(layer: &Layer, isa: Isa) -> Res<Outcome> {
    let (encoder, previous) = join_operands(layer)?;
    let mut joined = vec![0.0; (encoder.rows() + 1) * WIDTH];
    join_as_row(encoder, previous, &mut MatMut::new(&mut joined, [encoder.rows() + 1, WIDTH])?)?;
    let (output, time) = project(layer, isa, &joined, "key")?;
    let (weight, bias) = (layer.f32("w_key")?, layer.f32("b_key")?);
    let mut reference = Vec::with_capacity(output.len());
    for x in layer.f32("hidden")?.chunks(WIDTH).take(encoder.rows()).chain([previous]) {
        for (out, bias) in weight.chunks(WIDTH).zip(bias) {
            let product: f64 = x.iter().zip(out).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
            reference.push(product + f64::from(*bias));
        }
    }
    let flops = 2 * (encoder.rows() + 1) * WIDTH * WIDTH;
    let name = "join as row, key projection";
    Ok(Outcome { name, output, reference, bound: PRODUCT_BOUND, time, flops })
}

/// The same two as columns: every row of the encoder's output with the decoder's last output.
fn join_columns(layer: &Layer, _: Isa) -> Res<Outcome> {
    let (encoder, previous) = join_operands(layer)?;
    let shape = [encoder.rows(), 2 * WIDTH];
    let mut output = vec![0.0; shape[0] * shape[1]];
    let time = time(|| join_as_columns(encoder, previous, &mut MatMut::new(&mut output, shape)?))?;
    let rows = layer.f32("hidden")?.chunks(WIDTH).take(encoder.rows());
    let reference =
        rows.flat_map(|row| row.iter().chain(previous)).map(|x| f64::from(*x)).collect();
    Ok(Outcome { name: "join as columns (a copy)", output, reference, bound: 0.0, time, flops: 0 })
}

/// Sentence 0's real tokens, and a row that stands for the decoder's last output.
fn join_operands(layer: &Layer) -> Res<(MatRef<'_>, &[f32])> {
    let hidden = MatRef::new(layer.f32("hidden")?, [BATCH * TOKENS, WIDTH])?;
    let length = layer.lengths.first().copied().unwrap_or(0);
    let last = layer.f32("hidden")?.chunks(WIDTH).last().unwrap_or(&[]);
    Ok((hidden.narrow(0, 0, length)?, last))
}

/// Eight steps of sentence 2, one query each, over a cache that holds the 27 tokens before them.
/// The reference is the last rows of the causal self-attention: a step is its row of a prefill.
fn decode(layer: &Layer, isa: Isa) -> Res<Outcome> {
    const STEPS: usize = 8;
    const SENTENCE: usize = 2;
    fn steps(x: TensorRef<'_>, first: usize, len: usize) -> masktile::Result<TensorRef<'_>> {
        x.narrow(0, SENTENCE, 1)?.narrow(2, first, len)
    }
    let [q, k, v] = operands(layer)?;
    let shape = [1, HEADS, TOKENS, DIM];
    let (mut keys, mut values) = (vec![0.0; HEADS * TOKENS * DIM], vec![0.0; HEADS * TOKENS * DIM]);
    let mut cache =
        KvCache::new(TensorMut::new(&mut keys, shape)?, TensorMut::new(&mut values, shape)?)?;
    let past = TOKENS - STEPS;
    cache.append(steps(k, 0, past)?, steps(v, 0, past)?)?;

    let (mut output, mut workspace) = (vec![0.0; STEPS * WIDTH], Workspace::new());
    let time = time(|| {
        cache.truncate(past);
        for (step, out) in output.chunks_mut(WIDTH).enumerate() {
            let token = past + step;
            cache.append(steps(k, token, 1)?, steps(v, token, 1)?)?;
            Attention::new(steps(q, token, 1)?, cache.keys(), cache.values())
                .mask(Causal::bottom_right())
                .isa(isa)
                .run(&mut TensorMut::new(out, [1, HEADS, 1, DIM])?, &mut workspace)?;
        }
        Ok(())
    })?;

    let prefill = TensorRef::new(layer.f64("out_causal_padding")?, SHAPE)?;
    let at = |i: usize| prefill.get([SENTENCE, i / DIM % HEADS, past + i / WIDTH, i % DIM]);
    let reference = (0..STEPS * WIDTH).filter_map(at).copied().collect();
    let flops = (0..STEPS).map(|step| 4 * WIDTH * (past + step + 1)).sum();
    Ok(Outcome {
        name: "8 decode steps from a cache",
        output,
        reference,
        bound: ATTENTION_BOUND,
        time,
        flops,
    })
}

fn operands(layer: &Layer) -> Res<[TensorRef<'_>; 3]> {
    let tensor = |name| Res::Ok(TensorRef::new(layer.f32(name)?, SHAPE)?);
    Ok([tensor("q")?, tensor("k")?, tensor("v")?])
}

fn attention_flops(batch: usize, keys: usize) -> usize {
    4 * batch * HEADS * TOKENS * keys * DIM
}
