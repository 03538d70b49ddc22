//! Time does not depend on values: subnormal numbers, of operands or of products, take at most one
//! and a half times as long as others, a little more in scalar code. A ratio of two times taken in
//! turns in one process.

mod common;
#[path = "common/operations.rs"]
mod operations;

use std::time::{Duration, Instant};

use masktile::Isa;
use operations::{COPIES, Inputs, OPERATIONS, Operation};

/// A processor may take longer for an operation on subnormal numbers, one by one as scalar code has
/// them: 1.25 to 1.53 were seen on Zen 2, of the same program, for a softmax of nothing else.
fn limit(isa: Isa) -> f64 {
    if isa == Isa::SCALAR { 1.65 } else { 1.5 }
}

/// The shortest of many rounds for each of the inputs.
fn shortest<const N: usize>(run: Operation, isa: Isa, inputs: &[Inputs; N]) -> [Duration; N] {
    let (_, run) = run;
    let time = |inputs: &Inputs, times: u128| {
        let start = Instant::now();
        for _ in 0..times {
            std::hint::black_box(run(std::hint::black_box(inputs), isa));
        }
        start.elapsed()
    };
    let once = inputs.each_ref().map(|inputs| time(inputs, 1))[0].as_nanos().max(1);
    // So long that a clock of ten nanoseconds tells them apart.
    let times = (20_000 / once).clamp(1, 1000);
    let rounds = (60_000_000 / (once * times)).clamp(10, 1000);
    let mut best = [Duration::MAX; N];
    for _ in 0..rounds {
        for (best, inputs) in best.iter_mut().zip(inputs) {
            *best = time(inputs, times).min(*best);
        }
    }
    best
}

#[test]
#[ignore = "a measurement, which ci/harden.sh makes in release mode"]
fn subnormal_numbers_take_no_longer() {
    let names = ["products are subnormal", "operands are subnormal", "zeros"];
    let inputs = [1.0, 1e-20, 1e-41, 0.0].map(Inputs::new);
    let (mut cases, mut slow) = (0, Vec::new());
    for isa in Isa::available() {
        for run in OPERATIONS.into_iter().chain(COPIES) {
            // A second look where a neighbour may have disturbed the first.
            let mut ratios = [f64::MAX; 3];
            for _ in 0..3 {
                let [normal, others @ ..] = shortest(run, isa, &inputs);
                for (ratio, other) in ratios.iter_mut().zip(others) {
                    *ratio = ratio.min(other.as_secs_f64() / normal.as_secs_f64());
                }
                if ratios.iter().all(|ratio| *ratio <= limit(isa)) {
                    break;
                }
            }
            for (name, ratio) in names.iter().zip(ratios) {
                let (operation, _) = run;
                println!("{ratio:.2} {isa} {operation}: {name}");
                cases += 1;
                if ratio > limit(isa) {
                    slow.push(format!("{operation}, {isa}, {name}: {ratio:.2}"));
                }
            }
        }
    }
    println!("cases: {cases} ratios");
    assert!(slow.is_empty(), "over the limit: {slow:#?}");
}
