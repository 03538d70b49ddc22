//! Criterion's measurements, named `<operation>/<type>/<isa>/<shape>` with the mask behind it:
//! `matmul/f32/avx512/512x512x512`, `attention/f32/avx2/8x512x512x64/causal`.
//!
//! `cargo bench -p masktile-bench` measures all, `cargo bench -p masktile-bench -- avx2` those whose
//! names hold it; `--save-baseline` and `--baseline` compare. Criterion takes one after the other:
//! for ratios that do not drift with the machine there is `masktile-bench run`, which interleaves.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use masktile::Isa;
use masktile_bench::buffer::Buffer;
use masktile_bench::masks::Kind;
use masktile_bench::ops::{Case, How, OPERATIONS, Problem, Unit};
use masktile_bench::run::is_too_slow;

fn speed(criterion: &mut Criterion) {
    for case in OPERATIONS.iter().flat_map(|op| op.cases(op.shapes)) {
        if [Kind::None, Kind::Causal].contains(&case.mask) {
            let problem = case.problem().expect("a shape of the table");
            measure(criterion, &case, &*problem);
        }
    }
}

/// One case with each instruction set.
fn measure(criterion: &mut Criterion, case: &Case, problem: &dyn Problem) {
    let mut out = Buffer::filled(f32::NAN, problem.outputs());
    let mut workspace = Buffer::workspace();
    let name = match case.mask {
        Kind::None => case.shape.clone(),
        mask => format!("{}/{mask}", case.shape),
    };
    for isa in Isa::available().filter(|isa| !is_too_slow(*isa, problem)) {
        let group = format!("{}/{}/{isa}", case.op.name, case.op.dtype);
        let mut group = criterion.benchmark_group(group);
        group.throughput(match case.op.unit {
            Unit::Gflops => Throughput::Elements(problem.work().flops as u64),
            Unit::Gbps => Throughput::Bytes(problem.work().bytes as u64),
        });
        let how = How { isa, threaded: false };
        group.bench_function(&name, |bencher| {
            bencher.iter(|| problem.run(how, &mut out, &mut workspace).unwrap());
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = speed
}
criterion_main!(benches);
