//! Nothing is read or written outside what was given. This binary's allocator puts every block
//! against a page that may not be touched, at its end or at its beginning, so that one number too
//! far is a fault; and outputs with gaps between their elements keep what is in the gaps.
#![cfg(target_os = "linux")]

mod allocator;
mod cached;
#[path = "../common/mod.rs"]
mod common;
mod decoder;
mod int8;
mod masked;
mod matmul;
mod primitives;

use allocator::{Against, Guarded};
use common::same_bits;
use masktile::{View, ViewMut};

#[global_allocator]
static ALLOCATOR: Guarded = Guarded;

/// What stands between the elements of an output.
const CANARY: f32 = -6.02e23;

/// An output with its memory: canaries everywhere, the last element the last number.
struct Output<const N: usize> {
    memory: Box<[f32]>,
    shape: [usize; N],
    strides: [usize; N],
}

impl<const N: usize> Output<N> {
    fn new(shape: [usize; N], strides: [usize; N]) -> Self {
        Output { memory: vec![CANARY; extent(shape, strides)].into(), shape, strides }
    }

    fn view(&mut self) -> ViewMut<'_, f32, N> {
        ViewMut::with_strides(&mut self.memory, self.shape, self.strides).unwrap()
    }

    /// The elements in the order of their indices. Fails where a number between them has changed.
    #[track_caller]
    fn elements(mut self, case: &dyn std::fmt::Display) -> Vec<f32> {
        let (shape, strides) = (self.shape, self.strides);
        let mut elements = Vec::new();
        for number in 0..shape.iter().product() {
            let mut rest = number;
            let mut at = 0;
            for axis in (0..N).rev() {
                at += rest % shape[axis] * strides[axis];
                rest /= shape[axis];
            }
            elements.push(std::mem::replace(&mut self.memory[at], CANARY));
        }
        let gone = self.memory.iter().position(|x| x.to_bits() != CANARY.to_bits());
        assert_eq!(gone, None, "{case}: wrote between the elements of {shape:?} by {strides:?}");
        elements
    }
}

/// Numbers from the first element to the last.
fn extent<const N: usize>(shape: [usize; N], strides: [usize; N]) -> usize {
    if shape.contains(&0) {
        return 0;
    }
    shape.iter().zip(strides).map(|(size, stride)| (size - 1) * stride).sum::<usize>() + 1
}

/// An operand with its memory, the last element the last number.
struct Input<const N: usize> {
    memory: Box<[f32]>,
    shape: [usize; N],
    strides: [usize; N],
}

impl<const N: usize> Input<N> {
    fn new(numbers: &mut common::Numbers, shape: [usize; N], strides: [usize; N]) -> Self {
        Input { memory: numbers.many(extent(shape, strides)).into(), shape, strides }
    }

    fn view(&self) -> View<'_, f32, N> {
        View::with_strides(&self.memory, self.shape, self.strides).unwrap()
    }
}

/// How an operand lies.
#[derive(Clone, Copy, Debug)]
enum Lie {
    /// Contiguous, the last axis the closest.
    Plain,
    /// The same with numbers between the rows.
    Gaps,
    /// The last two axes exchanged.
    Turned,
    /// Numbers between all elements.
    Sparse,
}

impl Lie {
    const ALL: [Lie; 4] = [Lie::Plain, Lie::Gaps, Lie::Turned, Lie::Sparse];

    fn strides<const N: usize>(self, shape: [usize; N]) -> [usize; N] {
        let (mut order, gap, first): ([usize; N], usize, usize) =
            (std::array::from_fn(|axis| N - 1 - axis), 3, 2);
        let (gap, first) = match self {
            Lie::Plain => (0, 1),
            Lie::Gaps => (gap, 1),
            Lie::Turned => {
                order.swap(0, 1);
                (0, 1)
            }
            Lie::Sparse => (gap, first),
        };
        let mut strides = [0; N];
        let mut stride = first;
        for (place, axis) in order.into_iter().enumerate() {
            strides[axis] = stride;
            stride = stride * shape[axis].max(1) + if place == 0 { gap } else { 0 };
        }
        strides
    }
}

/// Runs the cases of one table with memory against either page, and says how many there were.
fn against_both(what: &str, mut table: impl FnMut(&mut Tally)) {
    let mut tally = Tally { cases: 0, against: Against::End };
    for against in [Against::End, Against::Begin] {
        tally.against = against;
        allocator::place(against);
        table(&mut tally);
    }
    println!("cases: {} {what}", tally.cases);
    assert!(tally.cases > 0);
}

struct Tally {
    cases: usize,
    against: Against,
}

impl Tally {
    /// Runs `operation` on every instruction set and compares with scalar's result.
    fn each_isa(
        &mut self,
        case: std::fmt::Arguments<'_>,
        operation: impl Fn(masktile::Isa, &dyn std::fmt::Display) -> Vec<f32>,
    ) {
        let mut wanted = Vec::new();
        for isa in masktile::Isa::available() {
            self.cases += 1;
            let case = format_args!("{isa} {:?} {case}", self.against);
            let given = operation(isa, &case);
            if isa == masktile::Isa::SCALAR {
                wanted = given;
            } else if !same_bits(&given, &wanted) {
                common::assert_same_bits(&given, &wanted, case);
            }
        }
    }
}
