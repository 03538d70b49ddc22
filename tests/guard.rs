//! Nothing is read or written outside what was given: operands lie against a page that may not be
//! touched, at their end and at their beginning, so that one byte too far is a fault.
#![cfg(target_os = "linux")]

mod common;

use common::{MaskData, Numbers, assert_same_bits, thinned};
use masktile::{
    Attention, BoolMask, Isa, Mask, MatMut, MatRef, Matmul, Softmax, TensorMut, TensorRef,
};

/// Where in its pages the memory lies.
#[derive(Clone, Copy, Debug)]
enum Against {
    Begin,
    End,
}

/// Memory between two pages that may not be touched.
struct Guarded<T> {
    map: *mut libc::c_void,
    bytes: usize,
    data: *mut T,
    len: usize,
}

impl<T: Copy> Guarded<T> {
    fn new(numbers: &[T], against: Against) -> Self {
        // SAFETY: asks the system for a size and for new memory of its own; the pointers stay
        // inside the map, whose inner pages hold `size` bytes or more.
        unsafe {
            let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
            let size = std::mem::size_of_val(numbers);
            let inner = size.next_multiple_of(page).max(page);
            let bytes = inner + 2 * page;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let map = libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0);
            assert_ne!(map, libc::MAP_FAILED);
            let first = map.cast::<u8>().add(page);
            assert_eq!(libc::mprotect(first.cast(), inner, libc::PROT_READ | libc::PROT_WRITE), 0);
            let skip = match against {
                Against::Begin => 0,
                Against::End => inner - size,
            };
            let data = first.add(skip).cast::<T>();
            std::ptr::copy_nonoverlapping(numbers.as_ptr(), data, numbers.len());
            Guarded { map, bytes, data, len: numbers.len() }
        }
    }

    fn slice(&self) -> &[T] {
        // SAFETY: `len` numbers were written there.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }

    fn slice_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.data, self.len) }
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        // SAFETY: the map of `new`, which nobody borrows any more.
        unsafe { libc::munmap(self.map, self.bytes) };
    }
}

#[test]
fn matmul() {
    for against in [Against::Begin, Against::End] {
        for n in thinned(1..=67) {
            for (m, k) in [(1, 1), (5, 18), (15, 7), (30, 33), (61, 256)] {
                let mut numbers = Numbers::new(n as u64);
                let guarded = |numbers: &[f32]| Guarded::new(numbers, against);
                let (a, b) = (guarded(&numbers.many(m * k)), guarded(&numbers.many(k * n)));
                let bias = guarded(&numbers.many(n));
                let mut workspace = guarded(&vec![0.0; masktile::matmul::workspace_len(m, n, k)]);
                let mut wanted = Vec::new();
                for (isa, transposed) in
                    Isa::available().flat_map(|isa| [(isa, false), (isa, true)])
                {
                    // The same numbers, so B transposed is another matrix: its own wanted.
                    if isa == Isa::SCALAR && !transposed {
                        wanted.clear();
                    }
                    let mut c = guarded(&vec![f32::NAN; m * n]);
                    let a = MatRef::new(a.slice(), [m, k]).unwrap();
                    let b = if transposed {
                        MatRef::new(b.slice(), [n, k]).unwrap().transposed()
                    } else {
                        MatRef::new(b.slice(), [k, n]).unwrap()
                    };
                    let mut out = MatMut::new(c.slice_mut(), [m, n]).unwrap();
                    Matmul::new(a, b)
                        .bias(bias.slice())
                        .isa(isa)
                        .run(&mut out, workspace.slice_mut())
                        .unwrap();
                    if isa == Isa::SCALAR {
                        wanted.push(c.slice().to_vec());
                    }
                    let case = format_args!("{isa} {m}x{n}x{k} {against:?}");
                    assert_same_bits(c.slice(), &wanted[usize::from(transposed)], case);
                }
            }
        }
    }
}

#[test]
fn softmax() {
    for against in [Against::Begin, Against::End] {
        for keys in thinned(1..=67) {
            let shape = [1, 2, 3, keys];
            let data = MaskData::new(shape);
            let ones = Guarded::new(&data.ones, against);
            let bias = Guarded::new(&data.bias, against);
            let lengths = [keys - keys / 3];
            let masks = [
                Mask::KeyLengths(&lengths),
                BoolMask::ones_are_kept(TensorRef::new(ones.slice(), shape).unwrap()).into(),
                Mask::Bias(TensorRef::new(bias.slice(), shape).unwrap()),
            ];
            let scores = Guarded::new(&Numbers::new(1).many(6 * keys), against);
            let mut wanted = Vec::new();
            for isa in Isa::available() {
                for (i, mask) in [Mask::None, Mask::All(&masks)].into_iter().enumerate() {
                    let mut probs = Guarded::new(&vec![f32::NAN; 6 * keys], against);
                    let mut lse = Guarded::new(&[f32::NAN; 6], against);
                    Softmax::new()
                        .mask(mask)
                        .isa(isa)
                        .log_sum_exp(lse.slice_mut())
                        .run(
                            TensorRef::new(scores.slice(), shape).unwrap(),
                            TensorMut::new(probs.slice_mut(), shape).unwrap(),
                        )
                        .unwrap();
                    if isa == Isa::SCALAR {
                        wanted.push(probs.slice().to_vec());
                    }
                    let case = format_args!("{isa} {keys} keys {against:?}");
                    assert_same_bits(probs.slice(), &wanted[i], case);
                }
            }
        }
    }
}

#[test]
fn attention() {
    for against in [Against::Begin, Against::End] {
        for n in thinned(1..=40) {
            let (queries, keys, dim, width) = (n % 17 + 1, n + 3, n % 20 + 1, n);
            let shape = [1, 2, queries, keys];
            let data = MaskData::new(shape);
            let ones = Guarded::new(&data.ones, against);
            let bias = Guarded::new(&data.bias, against);
            let masks = [
                BoolMask::ones_are_masked(TensorRef::new(ones.slice(), shape).unwrap()).into(),
                Mask::Bias(TensorRef::new(bias.slice(), shape).unwrap()),
            ];
            let mut numbers = Numbers::new(n as u64);
            let q = Guarded::new(&numbers.many(2 * queries * dim), against);
            let k = Guarded::new(&numbers.many(2 * keys * dim), against);
            let v = Guarded::new(&numbers.many(2 * keys * width), against);
            let len = masktile::attention::workspace_len(queries, keys, dim, width);
            let mut workspace = Guarded::new(&vec![0.0; len], against);
            let mut wanted = Vec::new();
            for isa in Isa::available() {
                for (i, mask) in [Mask::None, Mask::All(&masks)].into_iter().enumerate() {
                    let mut out = Guarded::new(&vec![f32::NAN; 2 * queries * width], against);
                    Attention::new(
                        TensorRef::new(q.slice(), [1, 2, queries, dim]).unwrap(),
                        TensorRef::new(k.slice(), [1, 2, keys, dim]).unwrap(),
                        TensorRef::new(v.slice(), [1, 2, keys, width]).unwrap(),
                    )
                    .mask(mask)
                    .isa(isa)
                    .run(
                        &mut TensorMut::new(out.slice_mut(), [1, 2, queries, width]).unwrap(),
                        workspace.slice_mut(),
                    )
                    .unwrap();
                    if isa == Isa::SCALAR {
                        wanted.push(out.slice().to_vec());
                    }
                    let case = format_args!("{isa} {queries}x{keys} {dim} {width} {against:?}");
                    assert_same_bits(out.slice(), &wanted[i], case);
                }
            }
        }
    }
}

/// The test itself: a read one number too far must fault, or the others prove nothing.
#[test]
fn the_guard_guards() {
    // SAFETY: the child only reads, faults or leaves; it touches no lock and no allocator.
    unsafe {
        for (against, offset) in [(Against::Begin, -1), (Against::End, 4)] {
            let memory = Guarded::new(&[1.0f32; 4], against);
            let child = libc::fork();
            if child == 0 {
                std::ptr::read_volatile(memory.data.offset(offset));
                libc::_exit(0);
            }
            let mut status = 0;
            libc::waitpid(child, &mut status, 0);
            assert!(libc::WIFSIGNALED(status), "{against:?}: the read was not stopped");
        }
    }
}
