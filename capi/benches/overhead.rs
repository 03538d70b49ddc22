//! What a call from C costs above the same call from Rust: a product of 8 x 8 x 8, one after the
//! other in one process, the median of many rounds.
//!
//! `cargo bench --manifest-path capi/Cargo.toml`; with `-- --test` one round, to see that it runs.

use std::hint::black_box;
use std::time::Instant;

use api::{MatMut, MatRef};
use masktile::matmul::{Matmul, masktile_matmul};
use masktile::memory::SliceMut;
use masktile::status::Status;
use masktile::view::{masktile_view, masktile_view_mut};

const SIZE: usize = 8;
const LEN: usize = SIZE * SIZE;
const WORKSPACE: usize = api::matmul::workspace_len(SIZE, SIZE, SIZE);
const CALLS: u32 = 1000;

/// What both calls read and write: the same memory, for its place matters by more than a call.
struct Operands {
    a: [f32; LEN],
    b: [f32; LEN],
    c: [f32; LEN],
    workspace: [f32; WORKSPACE],
}

fn main() {
    let is_test = std::env::args().any(|arg| arg == "--test");
    let rounds = if is_test { 1 } else { 2001 };
    let mut operands =
        Operands { a: [0.5; LEN], b: [0.25; LEN], c: [0.0; LEN], workspace: [0.0; WORKSPACE] };
    let (mut by_rust, mut by_c) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        by_rust.push(rust(&mut operands));
        by_c.push(c(&mut operands));
    }
    let (by_rust, by_c) = (median(by_rust), median(by_c));
    println!("8 x 8 x 8: {by_rust:.1} ns from Rust, {by_c:.1} ns from C");
    println!("a call from C costs {:.1} ns more", by_c - by_rust);
}

/// Nanoseconds of one call.
fn time(mut call: impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..CALLS).for_each(|_| call());
    start.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Views are made, and so checked, for each call, of sizes that the compiler does not know: an
/// engine's are its model's.
fn rust(operands: &mut Operands) -> f64 {
    time(|| {
        let Operands { a, b, c, workspace } = black_box(&mut *operands);
        let shape = black_box([SIZE, SIZE]);
        let view = |data| MatRef::new(data, shape).unwrap();
        let mut c = MatMut::new(c, shape).unwrap();
        api::Matmul::new(view(a), view(b)).run(&mut c, &mut workspace[..]).unwrap();
    })
}

/// The arguments are plain data, which a program fills in once; all checks are the call's.
fn c(operands: &mut Operands) -> f64 {
    let Operands { a, b, c, workspace } = operands;
    // SAFETY: numbers and pointers; zeros are defaults.
    let mut args: Matmul = unsafe { std::mem::zeroed() };
    args.size = size_of::<Matmul>();
    args.a = masktile_view(a.as_ptr(), 1, 1, SIZE, SIZE);
    args.b = masktile_view(b.as_ptr(), 1, 1, SIZE, SIZE);
    args.c = masktile_view_mut(c.as_mut_ptr(), 1, 1, SIZE, SIZE);
    args.workspace = SliceMut { data: workspace.as_mut_ptr(), len: workspace.len() };
    time(|| {
        // SAFETY: the memory is as long as said, and nobody else's.
        assert_eq!(unsafe { masktile_matmul(black_box(&args)) }, Status::Ok);
    })
}
