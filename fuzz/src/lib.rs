//! What the fuzz targets share: numbers, layouts, compositions of masks, and the comparison of all
//! instruction sets with scalar. The oracles in float64 are those of the tests.

#[path = "../../tests/common/mod.rs"]
pub mod common;

use arbitrary::Arbitrary;
use common::{MaskData, Numbers, Shape, same_bits};
use masktile::{Causal, Error, Isa, Mask};

/// What an output holds before an operation.
const BEFORE: f32 = 7.0;

/// Runs `f` on every instruction set, each with `len` numbers of its own to write: all give
/// scalar's result, an error leaves the numbers alone. Gives what scalar wrote, none on an error.
pub fn on_every_isa(
    len: usize,
    f: impl Fn(Isa, &mut [f32]) -> Result<(), Error>,
) -> Option<Vec<f32>> {
    let run = |isa| {
        let mut memory = vec![BEFORE; len];
        let result = f(isa, &mut memory);
        assert!(result.is_ok() || memory.iter().all(|x| *x == BEFORE), "{isa}: {result:?}");
        (result, memory)
    };
    // As text, for an error may name a NaN, which does not equal itself.
    let text = |result: &Result<(), Error>| format!("{result:?}");
    let (scalar, wanted) = run(Isa::SCALAR);
    for isa in Isa::available() {
        let (result, given) = run(isa);
        assert_eq!(text(&result), text(&scalar), "{isa}");
        assert!(same_bits(&given, &wanted), "{isa}");
    }
    scalar.ok().map(|()| wanted)
}

/// Numbers of an operand.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Floats {
    /// In -1 .. 1.
    Plain(u16),
    /// Times a power of two, down to the subnormal and up to infinity.
    Scaled(u16, i8),
    /// Any bits, NaN and infinity among them.
    Bits(u16),
}

impl Floats {
    pub fn many(&self, n: usize) -> Vec<f32> {
        match *self {
            Floats::Plain(seed) => Numbers::new(u64::from(seed)).many(n),
            Floats::Scaled(seed, exponent) => {
                let scale = 2f64.powi(i32::from(exponent) + i32::from(exponent) / 6);
                let numbers = Numbers::new(u64::from(seed)).many(n);
                numbers.into_iter().map(|x| (f64::from(x) * scale) as f32).collect()
            }
            Floats::Bits(seed) => {
                let mut numbers = Numbers::new(u64::from(seed));
                (0..n).map(|_| f32::from_bits(numbers.below(1 << 32) as u32)).collect()
            }
        }
    }

    pub fn are_plain(&self) -> bool {
        matches!(self, Floats::Plain(_))
    }
}

/// How an operand lies.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Lie {
    /// Which axis is the closest; the others follow from the last on.
    closest: u8,
    /// Numbers between elements, and between rows.
    gaps: [u8; 2],
}

impl Lie {
    pub fn strides<const N: usize>(&self, shape: [usize; N]) -> [usize; N] {
        let closest = N - 1 - usize::from(self.closest) % N;
        let others = (0..N).rev().filter(|axis| *axis != closest);
        let mut strides = [0; N];
        let mut stride = 1 + usize::from(self.gaps[0] % 3);
        for (place, axis) in std::iter::once(closest).chain(others).enumerate() {
            strides[axis] = stride;
            let gap = if place == 0 { usize::from(self.gaps[1] % 20) } else { 0 };
            stride = stride * shape[axis].max(1) + gap;
        }
        strides
    }

    /// Numbers from the first element to the last.
    pub fn extent<const N: usize>(&self, shape: [usize; N]) -> usize {
        if shape.contains(&0) {
            return 0;
        }
        let strides = self.strides(shape);
        shape.into_iter().zip(strides).map(|(size, stride)| (size - 1) * stride).sum::<usize>() + 1
    }
}

/// A composition of masks for scores of any shape.
#[derive(Arbitrary, Debug)]
pub struct MaskChoice {
    /// Of the kinds that the tests have, by number.
    kinds: [Option<u8>; 2],
    causal: Option<isize>,
    lengths: Option<u8>,
    /// What the boolean matrices repeat.
    ones: [u8; 5],
}

impl MaskChoice {
    /// `f` of the mask and of what it is made of.
    pub fn with<R>(&self, shape: Shape, f: impl FnOnce(&MaskData, Mask<'_>) -> R) -> R {
        let mut data = MaskData::new(shape);
        for matrix in [&mut data.ones, &mut data.bits, &mut data.table] {
            matrix.iter_mut().zip(self.ones.iter().cycle()).for_each(|(one, bits)| *one = *bits);
        }
        let kinds = data.masks();
        let mut masks: Vec<Mask<'_>> = self
            .kinds
            .iter()
            .flatten()
            .map(|kind| kinds[usize::from(*kind) % kinds.len()].1)
            .collect();
        masks.extend(self.causal.map(|offset| Mask::from(Causal::offset(offset))));
        // Some are longer than there are keys, which is an error.
        let lengths = vec![usize::from(self.lengths.unwrap_or(0)); shape[0]];
        if self.lengths.is_some() {
            masks.push(Mask::KeyLengths(&lengths));
        }
        f(&data, Mask::All(&masks))
    }
}

/// The indices of all elements of `shape`, in order.
pub fn indices<const N: usize>(shape: [usize; N]) -> impl Iterator<Item = [usize; N]> {
    (0..shape.iter().product()).map(move |number: usize| {
        let mut rest = number;
        let mut at = [0; N];
        for axis in (0..N).rev() {
            at[axis] = rest % shape[axis];
            rest /= shape[axis];
        }
        at
    })
}
