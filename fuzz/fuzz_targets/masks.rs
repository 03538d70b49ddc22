//! Masks of any numbers: they fit or are errors, `kept` says what a softmax does, and the two
//! polarities are each other's opposite.
#![no_main]

use std::ops::Range;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use masktile::{
    Alibi, BitMask, BlockMask, BoolMask, Causal, Mask, Offset, PrefixLm, Result, Segments, Softmax,
    TensorMut, TensorRef, View, Window,
};
use masktile_fuzz::{indices, on_every_isa};

#[derive(Arbitrary, Debug)]
struct Case {
    shape: [u8; 4],
    masks: Vec<Kind>,
    ones: Vec<u8>,
    bias: Vec<f32>,
}

#[derive(Arbitrary, Debug)]
enum Kind {
    TopLeft,
    BottomRight,
    Offset(isize),
    Offsets(Vec<isize>),
    Past(Vec<usize>),
    EndingAt(Vec<usize>),
    Window(usize, usize, isize),
    Prefix(Vec<usize>, isize),
    KeyLengths(Vec<usize>),
    KeyRanges(Vec<Range<usize>>),
    Cumulative(Vec<usize>, Vec<usize>, bool),
    /// Identities of queries and of keys, if there are as many.
    Ids(Vec<i32>, Vec<i32>),
    Alibi(Vec<f32>, isize),
    /// Of the bytes.
    Bits {
        kept: bool,
    },
    Blocks {
        kept: bool,
        block: [usize; 2],
    },
    Function(u8),
    /// A matrix of any strides, where the bytes hold one; sizes of 1 become the scores'.
    Ones {
        kept: bool,
        shape: [u8; 4],
        strides: [u8; 4],
    },
    Bias {
        shape: [u8; 4],
        strides: [u8; 4],
    },
    Nested,
}

impl Case {
    fn shape(&self) -> [usize; 4] {
        self.shape.map(|size| usize::from(size % 12))
    }

    fn mask<'a>(&'a self, kind: &'a Kind) -> Result<Mask<'a>> {
        let [batch, heads, queries, keys] = self.shape();
        Ok(match kind {
            Kind::TopLeft => Causal::top_left().into(),
            Kind::BottomRight => Causal::bottom_right().into(),
            Kind::Offset(offset) => Causal::offset(*offset).into(),
            Kind::Offsets(offsets) => Causal::offsets(offsets).into(),
            Kind::Past(past) => Causal::past(past).into(),
            Kind::EndingAt(lengths) => Causal::ending_at(lengths).into(),
            Kind::Window(left, right, offset) => {
                Window::new(*left, *right, Offset::of(*offset)).into()
            }
            Kind::Prefix(lengths, offset) => PrefixLm::new(lengths, Offset::of(*offset)).into(),
            Kind::KeyLengths(lengths) => Mask::KeyLengths(lengths),
            Kind::KeyRanges(ranges) => Mask::KeyRanges(ranges),
            Kind::Cumulative(queries, keys, false) => Segments::cumulative(queries, keys).into(),
            Kind::Cumulative(queries, keys, true) => {
                Segments::cumulative_causal(queries, keys).into()
            }
            Kind::Ids(of_queries, of_keys) => {
                let of = |ids: &'a [i32], n| View::new(ids, [batch, n]);
                Segments::ids(of(of_queries, queries)?, of(of_keys, keys)?).into()
            }
            Kind::Alibi(slopes, offset) => Alibi::new(slopes, Offset::of(*offset)).into(),
            Kind::Bits { kept } => {
                let shape = [batch, heads, queries, keys.div_ceil(8)];
                let bits = TensorRef::new(&self.ones, shape)?;
                let polarity =
                    if *kept { BitMask::ones_are_kept } else { BitMask::ones_are_masked };
                polarity(bits).into()
            }
            Kind::Blocks { kept, block } => {
                let [rows, columns] = block.map(|size| size.max(1));
                let shape = [batch, heads, queries.div_ceil(rows), keys.div_ceil(columns)];
                let table = TensorRef::new(&self.ones, shape)?;
                let polarity =
                    if *kept { BlockMask::ones_are_kept } else { BlockMask::ones_are_masked };
                polarity(table, *block).into()
            }
            Kind::Function(every) if every % 2 == 0 => Mask::kept_where(&is_even),
            Kind::Function(_) => Mask::bias_of(&bias_of),
            Kind::Ones { kept, shape, strides } => {
                let ones = self.matrix(&self.ones, shape, strides)?;
                let polarity =
                    if *kept { BoolMask::ones_are_kept } else { BoolMask::ones_are_masked };
                polarity(ones).into()
            }
            Kind::Bias { shape, strides } => Mask::Bias(self.matrix(&self.bias, shape, strides)?),
            Kind::Nested => Mask::All(&[Mask::None, Mask::All(&[])]),
        })
    }

    fn matrix<'a, T>(
        &self,
        data: &'a [T],
        shape: &[u8; 4],
        strides: &[u8; 4],
    ) -> Result<TensorRef<'a, T>> {
        let shape: [usize; 4] =
            std::array::from_fn(|axis| if shape[axis] % 2 == 0 { 1 } else { self.shape()[axis] });
        TensorRef::with_strides(data, shape, strides.map(usize::from))?.broadcast(self.shape())
    }
}

fn is_even(batch: usize, head: usize, query: usize, key: usize) -> bool {
    (batch + head + query + key) % 2 == 0
}

fn bias_of(batch: usize, head: usize, query: usize, key: usize) -> f32 {
    if is_even(batch, head, query, key / 3) { f32::NEG_INFINITY } else { 0.5 }
}

/// Probabilities of scores of zero.
fn softmax(shape: [usize; 4], mask: Mask<'_>) -> Option<Vec<f32>> {
    let len = shape.iter().product();
    let scores = vec![0.0; len];
    on_every_isa(len, |isa, memory| {
        let probs = TensorMut::new(memory, shape)?;
        Softmax::new().mask(mask).isa(isa).run(TensorRef::new(&scores, shape)?, probs)
    })
}

fuzz_target!(|case: Case| {
    let shape = case.shape();
    let Ok(masks) = case.masks.iter().map(|kind| case.mask(kind)).collect::<Result<Vec<_>>>()
    else {
        return;
    };
    let Some(probs) = softmax(shape, Mask::All(&masks)) else { return };
    let adds =
        |kind: &Kind| matches!(kind, Kind::Bias { .. } | Kind::Alibi(..) | Kind::Function(_));
    let is_bare = !case.masks.iter().any(adds);
    for (at, prob) in indices(shape).zip(&probs) {
        let kept = Mask::All(&masks).kept(shape, at).unwrap();
        assert!(kept || prob.to_bits() == 0, "{at:?} is masked, {prob}");
        assert!(!is_bare || kept == (*prob > 0.0), "{at:?}: kept {kept}, {prob}");
        // What composes keeps what all keep.
        let all = masks.iter().all(|mask| mask.kept(shape, at).unwrap());
        assert_eq!(kept, all, "{at:?}");
    }
    for (kind, mask) in case.masks.iter().zip(&masks) {
        if let Kind::Ones { kept, shape: size, strides } = *kind {
            let other = Kind::Ones { kept: !kept, shape: size, strides };
            let other = case.mask(&other).map(|other| {
                indices(shape).all(|at| other.kept(shape, at) != mask.kept(shape, at))
            });
            assert!(other.unwrap(), "polarities agree");
        }
    }
});
