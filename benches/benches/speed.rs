//! `<operation>/<shape>/<isa>` for every instruction set of this machine, beside the peak of fused
//! multiply-adds that the same run measures.
//!
//! `cargo bench -p masktile-benches` measures all, with a word behind it those whose names hold it.
//! Criterion takes one operation after the other; for a ratio that does not drift with the
//! machine, the group `share of peak` interleaves both and prints the share itself.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use masktile::{
    Attention, Causal, Isa, Mask, MatMut, MatRef, Matmul, Softmax, TensorMut, TensorRef, Workspace,
};
use masktile_benches::{PEAK_FLOPS, fma_peak, numbers};

const MATMULS: [[usize; 3]; 5] =
    [[64, 64, 64], [512, 512, 512], [1024, 1024, 1024], [128, 768, 3072], [1, 4096, 4096]];

fn isas() -> Vec<Isa> {
    Isa::available().collect()
}

/// Whether an operation of so many flops is too slow to be measured in scalar code.
fn skip(isa: Isa, flops: usize) -> bool {
    isa == Isa::SCALAR && flops > 1 << 28
}

fn matmul(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("matmul");
    for [m, k, n] in MATMULS {
        let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
        let mut c = vec![0.0; m * n];
        let mut workspace = Workspace::new();
        for isa in isas() {
            if skip(isa, 2 * m * k * n) {
                continue;
            }
            group.throughput(Throughput::Elements((2 * m * k * n) as u64));
            group.bench_function(BenchmarkId::new(format!("{m}x{k}x{n}"), isa), |bencher| {
                let (a, b) = (MatRef::new(&a, [m, k]).unwrap(), MatRef::new(&b, [k, n]).unwrap());
                let mut c = MatMut::new(&mut c, [m, n]).unwrap();
                let matmul = Matmul::new(a, b).isa(isa);
                bencher.iter(|| matmul.run(&mut c, &mut workspace).unwrap());
            });
        }
    }
    group.finish();
}

fn softmax(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("softmax 512x512");
    group.throughput(Throughput::Elements(512 * 512));
    let scores = numbers(512 * 512, 3);
    let mut probs = vec![0.0; 512 * 512];
    for (name, mask) in [("full", Mask::None), ("causal", Causal::top_left().into())] {
        for isa in isas() {
            group.bench_function(BenchmarkId::new(name, isa), |bencher| {
                bencher.iter(|| {
                    let scores = MatRef::new(&scores, [512, 512]).unwrap();
                    let probs = MatMut::new(&mut probs, [512, 512]).unwrap();
                    Softmax::new().mask(mask).isa(isa).run(scores, probs).unwrap();
                });
            });
        }
    }
    group.finish();
}

fn attention(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("attention 8x512x512x64");
    let shape = [1, 8, 512, 64];
    let flops = 4 * 8 * 512 * 512 * 64;
    group.throughput(Throughput::Elements(flops as u64));
    let [q, k, v] = [4, 5, 6].map(|seed| numbers(8 * 512 * 64, seed));
    let mut out = vec![0.0; q.len()];
    let mut workspace = Workspace::new();
    for (name, mask) in [("full", Mask::None), ("causal", Causal::top_left().into())] {
        for isa in isas() {
            if skip(isa, flops) {
                continue;
            }
            group.bench_function(BenchmarkId::new(name, isa), |bencher| {
                bencher.iter(|| {
                    let view = |data| TensorRef::new(data, shape).unwrap();
                    let mut out = TensorMut::new(&mut out, shape).unwrap();
                    Attention::new(view(&q), view(&k), view(&v))
                        .mask(mask)
                        .isa(isa)
                        .run(&mut out, &mut workspace)
                        .unwrap();
                });
            });
        }
    }
    group.finish();
}

/// Median times of each of `runs`, taken in turns.
fn interleaved<const N: usize>(rounds: usize, mut runs: [&mut dyn FnMut(); N]) -> [Duration; N] {
    let mut times: [Vec<Duration>; N] = std::array::from_fn(|_| Vec::new());
    for _ in 0..rounds {
        for (run, times) in runs.iter_mut().zip(&mut times) {
            let start = Instant::now();
            run();
            times.push(start.elapsed());
        }
    }
    times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    })
}

/// Prints the share of the peak that 512x512x512 reaches, and causal attention's time over full's.
fn share_of_peak(criterion: &mut Criterion) {
    let n = 512;
    let (a, b) = (numbers(n * n, 1), numbers(n * n, 2));
    let mut c = vec![0.0; n * n];
    let mut workspace = Workspace::new();
    let rounds = if std::env::args().any(|arg| arg == "--test") { 1 } else { 200 };
    for isa in Isa::available().filter(|isa| *isa != Isa::SCALAR) {
        let matmul =
            Matmul::new(MatRef::new(&a, [n, n]).unwrap(), MatRef::new(&b, [n, n]).unwrap());
        let mut c = MatMut::new(&mut c, [n, n]).unwrap();
        let [peak, product] = interleaved(
            rounds,
            [
                &mut || {
                    for _ in 0..64 {
                        black_box(fma_peak(isa, black_box(0.4)));
                    }
                },
                &mut || matmul.isa(isa).run(&mut c, &mut workspace).unwrap(),
            ],
        );
        let peak = (64 * PEAK_FLOPS) as f64 / peak.as_secs_f64() / 1e9;
        let product = 2.0 * (n * n * n) as f64 / product.as_secs_f64() / 1e9;
        println!(
            "share of peak/512x512x512/{isa}: {product:.1} of {peak:.1} GFLOP/s, {:.2}",
            product / peak
        );
    }
    causal_over_full(rounds);
    criterion.bench_function("fma peak", |bencher| {
        bencher.iter(|| fma_peak(Isa::detect(), black_box(0.4)));
    });
}

/// Prints what causal attention takes of full attention's time: half of the work and the diagonal.
fn causal_over_full(rounds: usize) {
    let shape = [1, 8, 512, 64];
    let [q, k, v] = [4, 5, 6].map(|seed| numbers(8 * 512 * 64, seed));
    let mut out = vec![0.0; q.len()];
    let (mut other_out, mut workspace, mut other) =
        (out.clone(), Workspace::new(), Workspace::new());
    for isa in Isa::available().filter(|isa| *isa != Isa::SCALAR) {
        let attend = |mask: Mask<'_>, out: &mut [f32], workspace: &mut Workspace| {
            let view = |data| TensorRef::new(data, shape).unwrap();
            Attention::new(view(&q), view(&k), view(&v))
                .mask(mask)
                .isa(isa)
                .run(&mut TensorMut::new(out, shape).unwrap(), workspace)
                .unwrap();
        };
        let [full, causal] = interleaved(
            rounds,
            [&mut || attend(Mask::None, &mut out, &mut workspace), &mut || {
                attend(Causal::top_left().into(), &mut other_out, &mut other);
            }],
        );
        let gflops = |time: Duration| 4.0 * (8 * 512 * 512 * 64) as f64 / time.as_secs_f64() / 1e9;
        println!(
            "causal over full/8x512x512x64/{isa}: {:.2} of its time, {:.1} and {:.1} GFLOP/s",
            causal.as_secs_f64() / full.as_secs_f64(),
            gflops(causal),
            gflops(full)
        );
    }
}

criterion_group!(benches, share_of_peak, matmul, softmax, attention);
criterion_main!(benches);
