//! Masks: which keys a query attends to.
//!
//! A position (query i, key j) is **kept** or **masked**. A masked position contributes exactly
//! nothing: the result does not depend on the score, key or value there, even where those are NaN
//! or infinite. A row of which nothing is kept gives zeros.
//!
//! | mask | keeps (i, j) | used for |
//! | --- | --- | --- |
//! | [`Mask::None`] | always | encoders, cross-attention without padding |
//! | [`Causal`] | if `j <= i + offset` | decoders: no token sees a later one |
//! | [`Mask::KeyLengths`] | if `j < lengths[batch]` | padded batches |
//! | [`BoolMask::ones_are_masked`] | where the matrix is 0 | PyTorch's `MultiheadAttention`, most papers' 1 = ignore |
//! | [`BoolMask::ones_are_kept`] | where the matrix is 1 | PyTorch's `scaled_dot_product_attention`, ONNX, Hugging Face's `attention_mask` |
//! | [`Mask::Bias`] | unless the number is -infinity | additive masks, relative positions |
//! | [`Mask::All`] | if every one of them does | composition |
//!
//! # The two polarities
//!
//! Half of the field writes 1 for *ignore*, the other half 1 for *attend*, and a mask of the wrong
//! polarity is silent: `tril(ones)` read as 1 = ignore attends to the future alone and leaves the
//! last row empty. So there is no constructor that takes a boolean matrix without saying which.
//!
//! # Causal with 3 queries and 5 keys
//!
//! ```text
//! top_left()   bottom_right()   offset(1)
//! .####        ...##            ..###
//! ..###        ....#            ...##        . kept   # masked
//! ...##        .....            ....#
//! ```

use masktile_kernels::mask::{Bool, Grid, MAX_OF_A_SORT, Plan, Range};

use crate::Result;
use crate::error::{Error, ErrorKind, same, same_shape};
use crate::view::TensorRef;

/// What is kept, of scores that are batch x heads x queries x keys.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub enum Mask<'a> {
    /// Everything.
    #[default]
    None,
    /// No key later than the query.
    Causal(Causal<'a>),
    /// The first `lengths[batch]` keys: the rest is padding.
    KeyLengths(&'a [usize]),
    /// What a matrix of booleans says.
    Bool(BoolMask<'a>),
    /// Numbers added to the scaled scores, batch x heads x queries x keys
    /// ([`crate::View::broadcast`] repeats an axis). -infinity masks its position.
    Bias(TensorRef<'a>),
    /// What every one of these keeps; their biases are added up in order.
    All(&'a [Mask<'a>]),
}

/// Keeps key j for query i if `j <= i + offset`. There is no default offset: with as many queries
/// as keys all are the same, else they differ.
///
/// ```
/// use masktile::{Causal, Mask};
/// let scores = [1, 1, 3, 5];                              // batch, heads, queries, keys
/// let kept = |causal, i, j| Mask::Causal(causal).kept(scores, [0, 0, i, j]);
/// assert!(!kept(Causal::top_left(), 0, 2)?);
/// assert!(kept(Causal::bottom_right(), 0, 2)?);
/// assert!(kept(Causal::offset(1), 0, 1)?);
/// # Ok::<(), masktile::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Causal<'a>(Offset<'a>);

#[derive(Clone, Copy, Debug)]
enum Offset<'a> {
    Same(isize),
    BottomRight,
    PerBatch(&'a [isize]),
}

impl<'a> Causal<'a> {
    /// Offset 0: query 0 sees key 0 alone. For training and prefill from an empty cache.
    pub const fn top_left() -> Self {
        Causal(Offset::Same(0))
    }

    /// Offset keys - queries: the last query sees every key. For queries that are the last
    /// tokens of a cache.
    pub const fn bottom_right() -> Self {
        Causal(Offset::BottomRight)
    }

    /// Any offset: the number of tokens before the first query. Negative: early rows are empty.
    pub const fn offset(offset: isize) -> Self {
        Causal(Offset::Same(offset))
    }

    /// An offset for each batch.
    pub const fn offsets(offsets: &'a [isize]) -> Self {
        Causal(Offset::PerBatch(offsets))
    }
}

/// A matrix of booleans as bytes (any but 0 counts as 1), with the meaning of a 1.
#[derive(Clone, Copy, Debug)]
pub struct BoolMask<'a> {
    ones: TensorRef<'a, u8>,
    ones_are_kept: bool,
}

impl<'a> BoolMask<'a> {
    /// 1 = ignore, 0 = attend.
    pub fn ones_are_masked(ones: impl Into<TensorRef<'a, u8>>) -> Self {
        BoolMask { ones: ones.into(), ones_are_kept: false }
    }

    /// 1 = attend, 0 = ignore.
    pub fn ones_are_kept(ones: impl Into<TensorRef<'a, u8>>) -> Self {
        BoolMask { ones: ones.into(), ones_are_kept: true }
    }
}

impl<'a> From<Causal<'a>> for Mask<'a> {
    fn from(causal: Causal<'a>) -> Self {
        Mask::Causal(causal)
    }
}

impl<'a> From<BoolMask<'a>> for Mask<'a> {
    fn from(mask: BoolMask<'a>) -> Self {
        Mask::Bool(mask)
    }
}

/// Batch, heads, queries, keys.
type Shape = [usize; 4];

impl<'a> Mask<'a> {
    /// Whether position `[batch, head, query, key]` of scores of `shape` is kept.
    ///
    /// # Errors
    /// If the mask does not fit the shape, or the position is outside it.
    pub fn kept(&self, shape: Shape, position: Shape) -> Result<bool> {
        for (given, size) in position.into_iter().zip(shape) {
            if given >= size {
                let limit = size.saturating_sub(1);
                return Err(Error::new(
                    "position",
                    ErrorKind::TooLarge { what: "index", given, limit },
                ));
            }
        }
        self.plan(shape)?;
        Ok(self.keeps(shape, position))
    }

    /// [`Mask::kept`] of a mask and a position that fit.
    fn keeps(&self, shape: Shape, position: Shape) -> bool {
        let [_, _, queries, keys] = shape;
        let [batch, _, query, key] = position;
        let causal = |offset: isize| key as i128 <= query as i128 + offset as i128;
        match self {
            Mask::None => true,
            Mask::Causal(Causal(Offset::Same(offset))) => causal(*offset),
            Mask::Causal(Causal(Offset::BottomRight)) => causal(bottom_right(queries, keys)),
            Mask::Causal(Causal(Offset::PerBatch(offsets))) => {
                offsets.get(batch).is_some_and(|offset| causal(*offset))
            }
            Mask::KeyLengths(lengths) => lengths.get(batch).is_some_and(|length| key < *length),
            Mask::Bool(mask) => {
                mask.ones.get(position).is_some_and(|one| (*one != 0) == mask.ones_are_kept)
            }
            Mask::Bias(bias) => bias.get(position).is_some_and(|bias| *bias != f32::NEG_INFINITY),
            Mask::All(masks) => masks.iter().all(|mask| mask.keeps(shape, position)),
        }
    }

    /// The masks as kernels read them, checked against the scores' shape.
    pub(crate) fn plan(&self, shape: Shape) -> Result<Plan<'a>> {
        let mut plan = Plan::EMPTY;
        self.lower(shape, &mut plan)?;
        Ok(plan)
    }

    fn lower(&self, shape: Shape, plan: &mut Plan<'a>) -> Result<()> {
        let [batch, _, queries, keys] = shape;
        let pushed = match *self {
            Mask::None => true,
            Mask::Causal(Causal(Offset::Same(offset))) => plan.ranges.push(Range::Causal(offset)),
            Mask::Causal(Causal(Offset::BottomRight)) => {
                plan.ranges.push(Range::Causal(bottom_right(queries, keys)))
            }
            Mask::Causal(Causal(Offset::PerBatch(offsets))) => {
                same("mask", "causal offsets", offsets.len(), batch)?;
                plan.ranges.push(Range::CausalPerBatch(offsets))
            }
            Mask::KeyLengths(lengths) => {
                same("mask", "key lengths", lengths.len(), batch)?;
                if let Some(&given) = lengths.iter().find(|length| **length > keys) {
                    let kind = ErrorKind::TooLarge { what: "key length", given, limit: keys };
                    return Err(Error::new("mask", kind));
                }
                plan.ranges.push(Range::KeyLengths(lengths))
            }
            Mask::Bool(BoolMask { ones, ones_are_kept }) => {
                fits(ones.shape(), shape)?;
                let grid = Grid { data: ones.as_ptr(), strides: ones.strides() };
                plan.bools.push(Bool { grid, ones_are_kept })
            }
            Mask::Bias(bias) => {
                fits(bias.shape(), shape)?;
                plan.biases.push(Grid { data: bias.as_ptr(), strides: bias.strides() })
            }
            Mask::All(masks) => {
                masks.iter().try_for_each(|mask| mask.lower(shape, plan))?;
                true
            }
        };
        if pushed {
            return Ok(());
        }
        let (given, limit) = (MAX_OF_A_SORT + 1, MAX_OF_A_SORT);
        let what = "masks of one sort composed (ranges, booleans, biases)";
        Err(Error::new("mask", ErrorKind::TooLarge { what, given, limit }))
    }
}

fn bottom_right(queries: usize, keys: usize) -> isize {
    // Both are sizes of what is in memory or of nothing; saturate where they are not.
    let wide = keys as i128 - queries as i128;
    wide.clamp(isize::MIN as i128, isize::MAX as i128) as isize
}

fn fits(given: Shape, wanted: Shape) -> Result<()> {
    same_shape("mask", ["batch", "heads", "queries", "keys"], given, wanted)
}
