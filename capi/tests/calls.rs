//! Products, softmax and joins through C: the bits of the Rust API.

mod common;

use std::ffi::c_void;

use api::{MatMut, MatRef, TensorMut, TensorRef};
use common::{
    BEFORE, args, assert_done, assert_same_bits, last_error, numbers, slice, slice_mut, view,
    view_mut,
};
use masktile::decoder::{masktile_join_as_columns, masktile_join_as_row};
use masktile::isa::Isa;
use masktile::matmul::{
    Activation, Clamp, Each, Matmul, Parts, masktile_matmul, masktile_matmul_parts,
    masktile_matmul_workspace_len, masktile_parts_free, masktile_parts_run,
};
use masktile::optional::Optional;
use masktile::packed::{masktile_pack_b, masktile_packed_b_len, masktile_packed_b_shape};
use masktile::softmax::{Softmax, masktile_softmax};
use masktile::status::Status;

// Every call's memory is what it says: `// SAFETY: lent` stands for that below.

const BATCH: usize = 2;
const M: usize = 5;
const N: usize = 7;
const K: usize = 9;

const fn given(value: f32) -> Optional {
    Optional { is_given: 1, value }
}

unsafe extern "C-unwind" fn add_place(
    user: *mut c_void,
    row: usize,
    column: usize,
    elements: *mut f32,
    count: usize,
) {
    // SAFETY: lent
    let elements = unsafe { std::slice::from_raw_parts_mut(elements, count) };
    for (j, x) in elements.iter_mut().enumerate() {
        *x += (user.addr() * row + column + j) as f32;
    }
}

/// Operands of a product with all that may follow it.
struct Operands {
    a: Vec<f32>,
    b: Vec<f32>,
    bias: Vec<f32>,
    scale: Vec<f32>,
    residual: Vec<f32>,
    workspace: Vec<f32>,
}

impl Operands {
    fn new() -> Self {
        Operands {
            a: numbers(1, BATCH * M * K),
            b: numbers(2, K * N),
            bias: numbers(3, N),
            scale: numbers(4, N),
            residual: numbers(5, BATCH * M * N),
            workspace: vec![0.0; masktile_matmul_workspace_len(BATCH * M, N, K)],
        }
    }

    /// B lies in n x k.
    fn in_rust(&self) -> Vec<f32> {
        let mut c = vec![BEFORE; BATCH * M * N];
        let b = api::View::with_strides(&self.b, [1, 1, K, N], [0, 0, 1, K]).unwrap();
        api::Matmul::new(TensorRef::new(&self.a, [BATCH, 1, M, K]).unwrap(), b)
            .alpha(0.5)
            .beta(-1.5)
            .scale(&self.scale)
            .bias(&self.bias)
            .activation(api::Activation::GeluTanh)
            .residual(TensorRef::new(&self.residual, [BATCH, 1, M, N]).unwrap())
            .clamp(-1.0, 50.0)
            .each(&|row, column, elements| {
                for (j, x) in elements.iter_mut().enumerate() {
                    *x += (10 * row + column + j) as f32;
                }
            })
            .run(&mut TensorMut::new(&mut c, [BATCH, 1, M, N]).unwrap(), &mut api::Workspace::new())
            .unwrap();
        c
    }

    fn in_c(&mut self, c: &mut [f32]) -> Matmul {
        args(|matmul: &mut Matmul| {
            matmul.a = view(&self.a, [BATCH, 1, M, K]);
            matmul.b = view(&self.b, [1, 1, K, N]);
            matmul.b.strides = [0, 0, 1, K];
            matmul.c = view_mut(c, [BATCH, 1, M, N]);
            matmul.workspace = slice_mut(&mut self.workspace);
            (matmul.alpha, matmul.beta) = (given(0.5), -1.5);
            (matmul.scale, matmul.bias) = (slice(&self.scale), slice(&self.bias));
            matmul.activation = Activation::GeluTanh as u32;
            matmul.residual = view(&self.residual, [BATCH, 1, M, N]);
            matmul.clamp = Clamp { is_given: 1, least: -1.0, greatest: 50.0 };
            let user = std::ptr::without_provenance_mut(10);
            matmul.each = Each { function: Some(add_place), user };
        })
    }
}

#[test]
fn product_with_everything() {
    let mut operands = Operands::new();
    let mut c = vec![BEFORE; BATCH * M * N];
    let args = operands.in_c(&mut c);
    // SAFETY: lent
    assert_done(unsafe { masktile_matmul(&args) });
    assert_same_bits(&c, &operands.in_rust(), "product");
}

/// A struct as an older header had it, without its last fields: they have their defaults.
#[test]
fn fields_beyond_the_size_are_defaults() {
    let mut operands = Operands::new();
    let mut c = vec![BEFORE; BATCH * M * N];
    let mut args = operands.in_c(&mut c);
    args.size = std::mem::offset_of!(Matmul, packed_b);
    // SAFETY: lent
    assert_done(unsafe { masktile_matmul(&args) });
    let mut plain = vec![BEFORE; BATCH * M * N];
    let b = api::View::with_strides(&operands.b, [1, 1, K, N], [0, 0, 1, K]).unwrap();
    api::Matmul::new(TensorRef::new(&operands.a, [BATCH, 1, M, K]).unwrap(), b)
        .run(&mut TensorMut::new(&mut plain, [BATCH, 1, M, N]).unwrap(), &mut api::Workspace::new())
        .unwrap();
    assert_same_bits(&c, &plain, "product");
}

#[test]
fn packed_product() {
    let mut operands = Operands::new();
    let wanted = operands.in_rust();
    let mut memory = vec![0.0; masktile_packed_b_len(K, N)];
    let mut b = view(&operands.b, [1, 1, K, N]);
    b.strides = [0, 0, 1, K];
    let (mut k, mut n) = (0, 0);
    // SAFETY: lent
    unsafe {
        assert_done(masktile_pack_b(b, Isa::Default as u32, slice_mut(&mut memory)));
        assert_done(masktile_packed_b_shape(slice(&memory), &mut k, &mut n));
    }
    assert_eq!([k, n], [K, N]);
    let mut c = vec![BEFORE; BATCH * M * N];
    let mut args = operands.in_c(&mut c);
    args.packed_b = slice(&memory);
    // SAFETY: lent
    assert_eq!(unsafe { masktile_matmul(&args) }, Status::Misplaced);
    assert_eq!(last_error(), "`b`: given here, wanted either it or `packed_b`");
    args.b.data = std::ptr::null();
    // SAFETY: lent
    assert_done(unsafe { masktile_matmul(&args) });
    assert_same_bits(&c, &wanted, "packed product");
}

struct Shared(*const Parts);
// SAFETY: parts are run from any thread.
unsafe impl Sync for Shared {}

#[test]
fn product_in_parts_on_threads() {
    let mut operands = Operands::new();
    let wanted = operands.in_rust();
    for count in [1, 2, 3, 16] {
        let mut c = vec![BEFORE; BATCH * M * N];
        let args = operands.in_c(&mut c);
        let mut parts = std::ptr::null_mut();
        // SAFETY: lent
        assert_done(unsafe { masktile_matmul_parts(&args, count, &mut parts) });
        let shared = Shared(parts);
        let shared = &shared;
        let run = move |index| {
            let mut workspace = vec![0.0; masktile_matmul_workspace_len(BATCH * M, N, K)];
            let mut short = [0.0; 1];
            // SAFETY: lent
            unsafe {
                let status = masktile_parts_run(shared.0, index, slice_mut(&mut short));
                assert_eq!(status, Status::TooShort);
                assert_done(masktile_parts_run(shared.0, index, slice_mut(&mut workspace)));
                let status = masktile_parts_run(shared.0, index, slice_mut(&mut workspace));
                assert_eq!(status, Status::Misplaced, "run twice");
            }
        };
        std::thread::scope(|scope| {
            (0..count).for_each(|index| drop(scope.spawn(move || run(index))));
        });
        let mut workspace = vec![0.0; masktile_matmul_workspace_len(BATCH * M, N, K)];
        // SAFETY: lent
        unsafe {
            let status = masktile_parts_run(parts, count, slice_mut(&mut workspace));
            assert_eq!(status, Status::TooLarge);
            let over_c = masktile::memory::SliceMut { data: args.c.data, len: 1 << 20 };
            assert_eq!(masktile_parts_run(parts, 0, over_c), Status::Overlap);
            masktile_parts_free(parts);
        }
        assert_same_bits(&c, &wanted, "parts");
    }
    // SAFETY: lent
    unsafe {
        let nowhere = masktile::memory::SliceMut { data: std::ptr::null_mut(), len: 0 };
        assert_eq!(masktile_parts_run(std::ptr::null(), 0, nowhere), Status::Null);
        masktile_parts_free(std::ptr::null_mut());
    }
}

#[test]
fn softmax_out_of_place_and_in_place() {
    let (shape, scores, sinks) = ([1, 2, 3, 8], numbers(1, 48), [0.3, -0.2]);
    let (mut wanted, mut wanted_lse) = (vec![0.0; 48], vec![0.0; 6]);
    api::Softmax::new()
        .scale(2.0)
        .softcap(1.5)
        .temperature(0.7)
        .sinks(&sinks)
        .log()
        .log_sum_exp(&mut wanted_lse)
        .run(TensorRef::new(&scores, shape).unwrap(), TensorMut::new(&mut wanted, shape).unwrap())
        .unwrap();
    let (mut probs, mut lse) = (scores.clone(), vec![0.0; 6]);
    let mut args = args(|softmax: &mut Softmax| {
        softmax.scores = view(&scores, shape);
        softmax.probs = view_mut(&mut probs, shape);
        softmax.scale = given(2.0);
        softmax.softcap = given(1.5);
        softmax.temperature = given(0.7);
        softmax.sinks = slice(&sinks);
        softmax.log = 1;
        softmax.lse = slice_mut(&mut lse);
    });
    // SAFETY: lent
    assert_done(unsafe { masktile_softmax(&args) });
    assert_same_bits(&lse, &wanted_lse, "lse");
    assert_same_bits(&probs, &wanted, "probs");

    let mut in_place = scores.clone();
    args.probs = view_mut(&mut in_place, shape);
    args.scores = view(&in_place, shape);
    // SAFETY: lent
    assert_done(unsafe { masktile_softmax(&args) });
    assert_same_bits(&in_place, &wanted, "in place");
}

#[test]
fn joins() {
    let (encoder, previous) = (numbers(1, 12), numbers(2, 4));
    let matrix = MatRef::new(&encoder, [3, 4]).unwrap();
    let (mut wanted, mut given) = (vec![0.0; 16], vec![0.0; 16]);
    let mut joined = MatMut::new(&mut wanted, [4, 4]).unwrap();
    api::decoder::join_as_row(matrix, &previous, &mut joined).unwrap();
    let (from, to) = (view(&encoder, [1, 1, 3, 4]), view_mut(&mut given, [1, 1, 4, 4]));
    // SAFETY: lent
    assert_done(unsafe { masktile_join_as_row(from, slice(&previous), to) });
    assert_same_bits(&given, &wanted, "row");

    let (mut wanted, mut given) = (vec![0.0; 24], vec![0.0; 24]);
    let mut joined = MatMut::new(&mut wanted, [3, 8]).unwrap();
    api::decoder::join_as_columns(matrix, &previous, &mut joined).unwrap();
    let mut to = view_mut(&mut given, [1, 1, 3, 8]);
    // SAFETY: lent
    assert_done(unsafe { masktile_join_as_columns(from, slice(&previous), to) });
    assert_same_bits(&given, &wanted, "columns");
    to.shape = [2, 1, 1, 8];
    // SAFETY: lent
    assert_eq!(unsafe { masktile_join_as_columns(from, slice(&previous), to) }, Status::Size);
    assert_eq!(last_error(), "`joined`: leading axes: given 2 x 1, wanted 1 x 1");
}
