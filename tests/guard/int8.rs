//! Products of bytes of every remainder and layout, packed weights, and softmax of bytes.

use masktile::int8::{DotProduct, FromInt8, Multiplier, Multipliers, SoftmaxInt, workspace_len};
use masktile::{Isa, MatmulInt8, PackedInt8, View, ViewMut};

use super::common::{MaskData, Numbers, thinned};
use super::{Lie, against_both, extent};

/// What stands between the elements of an output.
const CANARY: i32 = 0x5a_a5_5a_a5;

/// An operand with its memory, the last element the last byte.
struct Bytes<const N: usize> {
    memory: Box<[i8]>,
    shape: [usize; N],
    strides: [usize; N],
}

impl<const N: usize> Bytes<N> {
    fn new(numbers: &mut Numbers, shape: [usize; N], strides: [usize; N]) -> Self {
        let memory = (0..extent(shape, strides)).map(|_| numbers.below(256) as u8 as i8).collect();
        Bytes { memory, shape, strides }
    }

    fn view(&self) -> View<'_, i8, N> {
        View::with_strides(&self.memory, self.shape, self.strides).unwrap()
    }
}

/// Writes to memory of its exact extent, filled with `canary`, and gives the elements in order.
#[track_caller]
fn elements<T: Copy + PartialEq, const N: usize>(
    canary: T,
    shape: [usize; N],
    strides: [usize; N],
    write: impl FnOnce(&mut ViewMut<'_, T, N>),
) -> Vec<T> {
    let mut memory: Box<[T]> = vec![canary; extent(shape, strides)].into();
    write(&mut ViewMut::with_strides(&mut memory, shape, strides).unwrap());
    let at = |number: usize| {
        let mut rest = number;
        (0..N).rev().fold(0, |at, axis| {
            let index = rest % shape[axis];
            rest /= shape[axis];
            at + index * strides[axis]
        })
    };
    let places: Vec<usize> = (0..shape.iter().product()).map(at).collect();
    let given = places.iter().map(|at| memory[*at]).collect();
    places.iter().for_each(|at| memory[*at] = canary);
    assert!(memory.iter().all(|x| *x == canary), "wrote between the elements");
    given
}

/// Every way that this machine multiplies bytes, scalar first.
fn ways() -> Vec<(Isa, DotProduct)> {
    let of = |isa| DotProduct::available(isa).map(move |dot| (isa, dot));
    Isa::available().flat_map(of).collect()
}

fn product([m, n, k]: [usize; 3], lies: [Lie; 3]) -> usize {
    let mut numbers = Numbers::new((m * 10_000 + n * 100 + k) as u64);
    let a = Bytes::new(&mut numbers, [m, k], lies[0].strides([m, k]));
    let b = Bytes::new(&mut numbers, [k, n], lies[1].strides([k, n]));
    let bias: Box<[i32]> = (0..n).map(|_| numbers.below(1000) as i32).collect();
    let factor = Multiplier { value: 1 << 30, shift: -7 };
    let factors: Box<[Multiplier]> = vec![factor; n].into();
    let mut wanted = None;
    for (isa, dot) in ways() {
        let mut workspace = vec![f32::NAN; workspace_len(m, n, k)].into_boxed_slice();
        let matmul = MatmulInt8::new(a.view(), b.view())
            .zero_points(3, -4)
            .bias(&bias)
            .isa(isa)
            .dot_product(dot);
        let c_strides = lies[2].strides([m, n]);
        let sums =
            elements(CANARY, [m, n], c_strides, |c| matmul.run(c, &mut workspace[..]).unwrap());
        let matmul = matmul.requantized(Multipliers::PerColumn(&factors), 9i8);
        let bytes = elements(77, [m, n], c_strides, |c| matmul.run(c, &mut workspace[..]).unwrap());
        let given = (sums, bytes);
        let wanted = wanted.get_or_insert_with(|| given.clone());
        assert!(given == *wanted, "{isa} {dot} {m}x{n}x{k} {lies:?}");
    }
    ways().len()
}

#[test]
fn products_of_bytes() {
    against_both("products of bytes", |tally| {
        let mut case = 0;
        for m in thinned(1..=17) {
            for n in thinned(1..=35) {
                // 5 is prime to the layouts' 64.
                case += 5;
                let lies = [1, 4, 16].map(|place| Lie::ALL[case / place % 4]);
                tally.cases += product([m, n, [1, 3, 4, 5, 0, 64, 67, 130][case / 7 % 8]], lies);
            }
        }
        for shape in [[1, 300, 300], [16, 70, 330], [3, 40, 2100], [40, 1030, 20]] {
            for lie in Lie::ALL {
                tally.cases += product(shape, [lie; 3]);
            }
        }
    });
}

#[test]
fn packed_bytes() {
    against_both("packed bytes", |tally| {
        for n in thinned(1..=40) {
            let (m, k) = (n % 19 + 1, n * 7 % 71);
            let mut numbers = Numbers::new(n as u64);
            let a = Bytes::new(&mut numbers, [m, k], [k, 1]);
            let b = Bytes::new(&mut numbers, [k, n], Lie::ALL[n % 4].strides([k, n]));
            let mut wanted = None;
            for (isa, dot) in ways() {
                tally.cases += 1;
                let mut memory = vec![0; PackedInt8::len(k, n)].into_boxed_slice();
                PackedInt8::pack_for(isa, b.view(), &mut memory).unwrap();
                let packed = PackedInt8::from_memory(&memory).unwrap();
                let mut workspace = vec![f32::NAN; workspace_len(m, n, k)].into_boxed_slice();
                let matmul = MatmulInt8::packed(a.view(), packed).zero_points(-9, 0);
                let matmul = matmul.isa(isa).dot_product(dot);
                let given = elements(CANARY, [m, n], [n, 1], |c| {
                    matmul.run(c, &mut workspace[..]).unwrap();
                });
                assert!(
                    given == *wanted.get_or_insert_with(|| given.clone()),
                    "{isa} {dot} {m}x{n}x{k}"
                );
            }
        }
    });
}

#[test]
fn softmax_of_bytes() {
    against_both("softmax of bytes", |tally| {
        for keys in thinned(1..=40) {
            let shape = [2, 1, 3, keys];
            let strides = Lie::ALL[keys % 4].strides(shape);
            let scores = Bytes::new(&mut Numbers::new(keys as u64), shape, strides);
            let data = MaskData::new(shape);
            let softmax = SoftmaxInt::new(FromInt8::from_scale(0.1).unwrap());
            data.each_kind(|name, mask| {
                let mut wanted: Option<Vec<i16>> = None;
                for isa in Isa::available() {
                    let softmax = softmax.mask(mask).isa(isa);
                    let mut adds = false;
                    let given = elements(7, shape, strides, |probs| {
                        adds = softmax.run(scores.view(), probs.reborrow()).is_err();
                    });
                    tally.cases += usize::from(!adds);
                    assert!(!adds || given.iter().all(|p| *p == 7), "{name}");
                    assert!(
                        given == *wanted.get_or_insert_with(|| given.clone()),
                        "{isa} {name} {keys}"
                    );
                }
            });
        }
    });
}
