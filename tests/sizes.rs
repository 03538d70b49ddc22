//! Sizes that no memory holds: an error or an empty result, at once, without a panic and without
//! asking the allocator for anything.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Debug;
use std::sync::mpsc;
use std::time::Duration;

use masktile::cache::KvCache;
use masktile::decoder::{join_as_columns, join_as_row};
use masktile::{
    Attention, BoolMask, Causal, ErrorKind, Isa, Mask, MatMut, MatRef, Matmul, PackedB, Softmax,
    TensorMut, TensorRef, View, ViewMut, Workspace,
};

/// The system's allocator, counting how often each thread asks.
struct Counting;

thread_local! {
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: the system's allocator, with a number kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.set(ASKED.get() + 1);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// `f` of a thread of its own: it returns within seconds and allocates nothing.
#[track_caller]
fn at_once<T: Send + 'static>(case: &str, f: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        // The instruction set is asked for once a process.
        masktile::isa::current().unwrap();
        let before = ASKED.get();
        let result = f();
        let asked = ASKED.get() - before;
        let _ = send.send((result, asked));
    });
    match receive.recv_timeout(Duration::from_secs(5)) {
        Ok((result, asked)) => {
            assert_eq!(asked, 0, "{case}: asked the allocator");
            result
        }
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{case}: hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => panic!("{case}: panicked"),
    }
}

const MAX: usize = usize::MAX;
const HALF: usize = usize::MAX / 2 + 1;
const EXTREMES: [usize; 12] =
    [0, 1, 2, 3, 7, 1 << 16, 1 << (usize::BITS / 2), HALF - 1, HALF, HALF + 1, MAX - 1, MAX];

/// Views of all pairs of extreme sizes and strides: made exactly where the last element, counted
/// in numbers that do not wrap, is inside the slice.
#[test]
fn views() {
    let cases = at_once("views", || {
        let (data, mut out) = ([0u8; 16], [0u8; 16]);
        let mut cases = 0;
        let four = |i: usize| [0, 1, 2, 3].map(|place| EXTREMES[i / 12usize.pow(place) % 12]);
        for i in 0..12usize.pow(4) {
            let [rows, columns, row, column] = four(i);
            let reach = |size: usize, stride: usize| {
                (size as u128).checked_sub(1).map(|last| last.saturating_mul(stride as u128))
            };
            let fits = match (reach(rows, row), reach(columns, column)) {
                (Some(down), Some(right)) => down.saturating_add(right) < 16,
                _ => true,
            };
            let (shape, strides) = ([rows, columns], [row, column]);
            let view = MatRef::with_strides(&data, shape, strides);
            assert_eq!(view.is_ok(), fits, "{shape:?} {strides:?}");
            assert!(fits || MatMut::with_strides(&mut out, shape, strides).is_err());
            if let Ok(view) = view {
                assert_eq!(view.get([rows, 0]), None);
                assert_eq!(view.get([MAX, MAX]), None);
                for (axis, start, len) in [(0, rows, 0), (1, MAX, MAX), (0, 1, MAX), (MAX, 0, 0)] {
                    let _ = view.narrow(axis, start, len);
                }
                let _ = TensorRef::from(view).broadcast([MAX, MAX, rows, MAX]);
            }
            cases += 1;
        }
        for shape in [[MAX, MAX, 0, MAX], [HALF, 2, 1, 1], [1 << 22, 1 << 22, 1 << 22, 0]] {
            assert_eq!(TensorRef::new(&data, shape).unwrap_err().kind(), ErrorKind::Overflow);
            assert_eq!(TensorMut::new(&mut out, shape).unwrap_err().kind(), ErrorKind::Overflow);
            cases += 1;
        }
        cases
    });
    println!("cases: {cases} views");
}

/// A view without elements, of any other sizes and strides.
fn empty<const N: usize>(shape: [usize; N], strides: [usize; N]) -> View<'static, f32, N> {
    View::with_strides(&[], shape, strides).unwrap()
}

fn empty_mut<const N: usize>(shape: [usize; N], strides: [usize; N]) -> ViewMut<'static, f32, N> {
    ViewMut::with_strides(&mut [], shape, strides).unwrap()
}

/// Operations without a number to write: they return whatever the other sizes.
#[test]
fn outputs_without_elements() {
    const STRIDES: [[usize; 4]; 3] = [[0; 4], [1; 4], [MAX; 4]];
    let mut cases = 0;
    for strides in STRIDES {
        for many in [3, 1 << 40, HALF - 1, MAX] {
            let name = |what: &str| format!("{what}, {many} of nothing, strides {}", strides[0]);
            let two = [strides[0]; 2];
            at_once(&name("product without columns"), move || {
                let (a, b) = (empty([many, 0], two), empty([0, 0], two));
                Matmul::new(a, b).run(&mut empty_mut([many, 0], two), &mut [0.0; 64]).unwrap();
            });
            for shape in [[many, many, 0, 5], [many, 3, 5, 0], [1, many, 0, 0]] {
                at_once(&name("batches"), move || {
                    let [x, y, m, n] = shape;
                    let (a, b) = (empty([x, y, m, 0], strides), empty([x, y, 0, n], strides));
                    let mut c = empty_mut(shape, strides);
                    Matmul::new(a, b).run(&mut c, &mut [0.0; 64]).unwrap();
                    for part in Matmul::new(a, b).parts(&mut c, 3).unwrap() {
                        part.run(&mut [0.0; 64]).unwrap();
                    }
                });
            }
            for shape in [[1, 1, many, 0], [many, 1, 1, 0], [1, many, 2, 0], [many, many, 0, 1]] {
                at_once(&name("softmax"), move || {
                    let _ = Softmax::new().run(empty(shape, strides), empty_mut(shape, strides));
                    let _ = Softmax::new().run_in_place(empty_mut(shape, strides));
                });
                at_once(&name("attention"), move || {
                    let x = empty(shape, strides);
                    let mut out = empty_mut(shape, strides);
                    let _ = Attention::new(x, x, x).run(&mut out, &mut [0.0; 60_000]);
                });
                at_once(&name("cache"), move || {
                    let cache = KvCache::new(empty_mut(shape, strides), empty_mut(shape, strides));
                    let mut cache = cache.unwrap();
                    for _ in 0..2 {
                        let _ = cache.append(empty(shape, strides), empty(shape, strides));
                    }
                });
                cases += 3;
            }
            at_once(&name("joins"), move || {
                let encoder = empty([many, 0], two);
                let rows = many.saturating_add(1);
                let _ = join_as_row(encoder, &[], &mut empty_mut([rows, 0], two));
                let _ = join_as_columns(encoder, &[], &mut empty_mut([many, 0], two));
            });
            cases += 5;
        }
    }
    println!("cases: {cases} operations without elements");
}

/// A sum of nothing is zero, whatever the strides of the operands that have no elements.
#[test]
fn depth_zero() {
    for isa in Isa::available() {
        let c = at_once("depth zero", move || {
            let mut c = [7.0; 3 * 5 * 35];
            let a = empty([3, 5, 0], [MAX, HALF + 3, MAX]);
            let b = empty([3, 0, 35], [MAX - 1, MAX, HALF]);
            Matmul::new(a, b)
                .isa(isa)
                .run(&mut ViewMut::new(&mut c, [3, 5, 35]).unwrap(), &mut [0.0; 4096])
                .unwrap();
            c
        });
        assert_eq!(c, [0.0; 3 * 5 * 35], "{isa}");
    }
}

/// The step along an axis of one element leads nowhere, and may be any.
#[test]
fn steps_along_one_element() {
    let numbers: [f32; 400] = std::array::from_fn(|i| i as f32 / 8.0);
    let product = |isa, [m, n, k]: [usize; 3], is_turned: bool, step: Option<usize>| {
        let view = |rows: usize, columns: usize| {
            let [row, column] = if is_turned { [1, rows] } else { [columns, 1] };
            let stride = |size, usual| if size == 1 { step.unwrap_or(usual) } else { usual };
            let strides = [stride(rows, row), stride(columns, column)];
            MatRef::with_strides(&numbers, [rows, columns], strides).unwrap()
        };
        let mut c = [0.0; 400];
        Matmul::new(view(m, k), view(k, n))
            .isa(isa)
            .run(&mut MatMut::new(&mut c, [m, n]).unwrap(), &mut [0.0; 4096])
            .unwrap();
        c
    };
    let sizes = [1, 2, 20];
    let all = sizes.map(|m| sizes.map(|n| sizes.map(|k| [m, n, k])));
    for isa in Isa::available() {
        for size in all.into_iter().flatten().flatten() {
            for is_turned in [false, true] {
                let usual = product(isa, size, is_turned, None);
                for step in EXTREMES {
                    let c = product(isa, size, is_turned, Some(step));
                    assert_eq!(c, usual, "{isa}: {size:?}, turned: {is_turned}, step {step}");
                }
            }
        }
    }
}

#[track_caller]
fn too_short<T: Debug>(result: masktile::Result<T>, argument: &str) {
    let error = result.unwrap_err();
    let is_length = matches!(error.kind(), ErrorKind::TooShort { .. });
    assert!(error.argument() == argument && is_length, "{error}");
}

/// One number of workspace or of packed memory missing; nothing is written.
#[test]
fn memory_one_short() {
    at_once("one short", || {
        let (a, mut c) = ([1.0; 20 * 20], [7.0; 20 * 20]);
        let (a, mut c) =
            (MatRef::new(&a, [20, 20]).unwrap(), MatMut::new(&mut c, [20, 20]).unwrap());
        let mut workspace = [7.0; 100_000];
        let len = masktile::matmul::workspace_len(20, 20, 20);
        let short = &mut workspace[..len - 1];
        too_short(Matmul::new(a, a).run(&mut c, short), "workspace");
        for part in Matmul::new(a, a).parts(&mut c, 2).unwrap() {
            too_short(part.run(short), "workspace");
        }
        let len = PackedB::len(20, 20);
        too_short(PackedB::pack(a, &mut workspace[..len - 1]), "memory");
        let len = masktile::attention::workspace_len(20, 20, 20, 20);
        let attention = Attention::new(a.into(), a.into(), a.into());
        let short = &mut workspace[..len - 1];
        too_short(attention.run(&mut c.reborrow().into(), short), "workspace");
        let (mut lse, softmax) = ([7.0; 19], Softmax::new());
        too_short(softmax.log_sum_exp(&mut lse).run(a, c.reborrow()), "lse");
        assert!(workspace.iter().chain(&lse).all(|x| *x == 7.0));
        let elements = (0..400).map(|at| *c.as_ref().get([at / 20, at % 20]).unwrap());
        assert!(elements.into_iter().all(|x| x == 7.0));
    });
}

/// Lengths of memory saturate; operands that repeat one number by stride 0 to sizes that need
/// more workspace than there can be are errors.
#[test]
fn lengths_saturate() {
    at_once("lengths", || {
        for (k, n) in [(MAX, MAX), (HALF, 2), (2, MAX), (MAX, 33)] {
            assert_eq!(PackedB::len(k, n), MAX, "{k} {n}");
        }
        assert_eq!(masktile::attention::workspace_len(MAX, MAX, MAX, MAX), MAX);
        assert_eq!(masktile::attention::workspace_len(1, 1, HALF, 1), MAX);
        assert!(masktile::matmul::workspace_len(MAX, MAX, MAX) < 1 << 24);
        let one = [1.0];
        let (row, column) = ([1, 1, 1, MAX], [1, 1, MAX, MAX]);
        let view = |shape| TensorRef::with_strides(&one, shape, [0; 4]).unwrap();
        let mut out = [7.0];
        let mut out = TensorMut::new(&mut out, [1, 1, 1, 1]).unwrap();
        let attention = || Attention::new(view(row), view(column), view([1, 1, MAX, 1]));
        too_short(attention().run(&mut out, &mut [0.0; 64]), "workspace");
        too_short(attention().run(&mut out, &mut Workspace::new()), "workspace");
        assert_eq!(out.get_mut([0; 4]), Some(&mut 7.0));
        let wide = MatRef::with_strides(&one, [MAX, MAX], [0, 0]).unwrap();
        too_short(PackedB::pack(wide, &mut [7.0; 64]), "memory");
    });
}

/// More parts than anybody can run: none panics, and the first ones, which may be empty, write
/// what is theirs.
#[test]
fn any_number_of_parts() {
    for parts in [1 << 20, HALF / 64, HALF, MAX - 1, MAX] {
        at_once("parts", move || {
            let (numbers, mut c) = ([1.0; 6 * 3 * 2], [7.0; 6 * 3 * 3]);
            let a = View::<f32, 3>::new(&numbers, [6, 3, 2]).unwrap();
            let b = View::<f32, 3>::new(&numbers, [6, 2, 3]).unwrap();
            let mut view = ViewMut::new(&mut c, [6, 3, 3]).unwrap();
            for part in Matmul::new(a, b).parts(&mut view, parts).unwrap().take(3) {
                part.run(&mut [0.0; 2048]).unwrap();
            }
            assert!(c.iter().all(|x| *x == 7.0 || *x == 2.0));
            let a = MatRef::new(&numbers, [18, 2]).unwrap();
            let b = MatRef::new(&numbers, [2, 3]).unwrap();
            let mut view = MatMut::new(&mut c, [18, 3]).unwrap();
            for part in Matmul::new(a, b).parts(&mut view, parts).unwrap().take(3) {
                part.run(&mut [0.0; 2048]).unwrap();
            }
            assert!(c.iter().all(|x| *x == 7.0 || *x == 2.0));
        });
    }
}

/// Headers that say anything: an error, or a matrix that the memory holds.
#[test]
fn forged_headers() {
    let cases = at_once("headers", || {
        let b = [1.0; 6];
        let mut memory = [0.0; PackedB::len(2, 3)];
        PackedB::pack(MatRef::new(&b, [2, 3]).unwrap(), &mut memory).unwrap();
        let (mut cases, words) = (0, [0, 1, 2, 3, 16, 32, 33, 1 << 16, 1 << 31, u32::MAX]);
        for i in 0..words.len().pow(4) {
            for (place, power) in [2, 3, 4, 5].into_iter().zip(0..) {
                memory[place] = f32::from_bits(words[i / words.len().pow(power) % words.len()]);
            }
            if let Ok(packed) = PackedB::from_memory(&memory) {
                let [k, n] = packed.shape();
                assert!(PackedB::len(k, n) <= memory.len(), "{k} {n}");
            }
            cases += 1;
        }
        cases
    });
    println!("cases: {cases} headers");
}

/// Masks with numbers at the ends of their types.
#[test]
fn extreme_masks() {
    at_once("masks", || {
        let (scores, mut probs) = ([0.0; 6], [7.0; 6]);
        let scores = MatRef::new(&scores, [2, 3]).unwrap();
        for (offset, first) in [(isize::MAX, 1.0 / 3.0), (isize::MIN, 0.0), (isize::MIN + 1, 0.0)] {
            for causal in [Causal::offset(offset), Causal::offsets(&[offset])] {
                let out = MatMut::new(&mut probs, [2, 3]).unwrap();
                Softmax::new().mask(causal).run(scores, out).unwrap();
                assert_eq!(probs, [first; 6], "{offset}");
            }
        }
        let out = MatMut::new(&mut probs, [2, 3]).unwrap();
        assert!(Softmax::new().mask(Mask::KeyLengths(&[MAX])).run(scores, out).is_err());
        let far = [MAX, MAX, MAX, MAX];
        assert!(Mask::None.kept(far, far).is_err());
        assert!(Mask::Causal(Causal::bottom_right()).kept(far, [0, 0, MAX - 1, 0]).unwrap());
        let ones = TensorRef::with_strides(&[1u8], far, [0; 4]).unwrap();
        let last = [MAX - 1; 4];
        assert!(Mask::from(BoolMask::ones_are_kept(ones)).kept(far, last).unwrap());
    });
}
