//! The kinds of mask that have something to construct.

use core::fmt;

use masktile_kernels::mask::{BiasOf, Keeps};

use crate::view::{TensorRef, View};

/// Where the queries stand beside the keys: query `i` stands at key `i + offset`. There is no
/// default: with as many queries as keys all are the same, else they differ.
#[derive(Clone, Copy, Debug)]
pub struct Offset<'a>(pub(super) Place<'a>);

#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    Same(isize),
    BottomRight,
    PerBatch(&'a [isize]),
    Past(&'a [usize]),
    EndingAt(&'a [usize]),
}

impl<'a> Offset<'a> {
    /// 0: query 0 stands at key 0. For training and prefill from an empty cache.
    pub const fn top_left() -> Self {
        Offset(Place::Same(0))
    }

    /// keys - queries: the last query stands at the last key. For queries that are the last
    /// tokens of a cache.
    pub const fn bottom_right() -> Self {
        Offset(Place::BottomRight)
    }

    /// Any offset: the number of tokens before the first query. Negative: the first queries stand
    /// before the first key.
    pub const fn of(offset: isize) -> Self {
        Offset(Place::Same(offset))
    }

    /// Any offset for each batch.
    pub const fn per_batch(offsets: &'a [isize]) -> Self {
        Offset(Place::PerBatch(offsets))
    }

    /// For each batch the number of tokens before its first query.
    pub const fn past(tokens: &'a [usize]) -> Self {
        Offset(Place::Past(tokens))
    }

    /// For each batch `lengths[batch] - queries`: the last query stands at the last of so many keys.
    /// For caches that are filled differently.
    pub const fn ending_at(lengths: &'a [usize]) -> Self {
        Offset(Place::EndingAt(lengths))
    }
}

/// Keeps key j for query i if `j <= i + offset`: no token sees a later one.
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
pub struct Causal<'a>(pub(super) Offset<'a>);

impl<'a> Causal<'a> {
    /// Offset 0: query 0 sees key 0 alone. For training and prefill from an empty cache.
    pub const fn top_left() -> Self {
        Causal(Offset::top_left())
    }

    /// Offset keys - queries: the last query sees every key. For queries that are the last
    /// tokens of a cache.
    pub const fn bottom_right() -> Self {
        Causal(Offset::bottom_right())
    }

    /// Any offset: the number of tokens before the first query. Negative: early rows are empty.
    pub const fn offset(offset: isize) -> Self {
        Causal(Offset::of(offset))
    }

    /// An offset for each batch.
    pub const fn offsets(offsets: &'a [isize]) -> Self {
        Causal(Offset::per_batch(offsets))
    }

    /// For each batch the number of tokens before its first query.
    pub const fn past(tokens: &'a [usize]) -> Self {
        Causal(Offset::past(tokens))
    }

    /// The last query of each batch sees its first `lengths[batch]` keys and no other: causal and
    /// padding in one, for caches that are filled differently.
    pub const fn ending_at(lengths: &'a [usize]) -> Self {
        Causal(Offset::ending_at(lengths))
    }
}

/// Keeps keys from `left` before to `right` behind the one that the query stands at. With
/// `right` = 0 it is causal.
///
/// A window of W tokens that includes the query's own, as Mistral's and Hugging Face's
/// `sliding_window`, is `left` = W - 1.
///
/// ```
/// use masktile::{Mask, Window, mask::Offset};
/// let mask = Mask::from(Window::new(1, 0, Offset::top_left()));
/// assert_eq!(mask.draw([1, 1, 3, 3])?.to_string(), ".##\n..#\n#..\n");
/// # Ok::<(), masktile::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    pub(super) left: usize,
    pub(super) right: usize,
    pub(super) offset: Offset<'a>,
}

impl<'a> Window<'a> {
    /// `i + offset - left <= j <= i + offset + right`; `usize::MAX` for no bound.
    pub const fn new(left: usize, right: usize, offset: Offset<'a>) -> Self {
        Window { left, right, offset }
    }
}

/// Keeps the first `lengths[batch]` keys for every query, and those that [`Causal`] keeps: a
/// prompt that sees itself whole, and tokens behind it that see no later one.
///
/// ```
/// use masktile::{Mask, PrefixLm, mask::Offset};
/// let mask = Mask::from(PrefixLm::new(&[2], Offset::top_left()));
/// assert_eq!(mask.draw([1, 1, 3, 3])?.to_string(), "..#\n..#\n...\n");
/// # Ok::<(), masktile::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PrefixLm<'a> {
    pub(super) lengths: &'a [usize],
    pub(super) offset: Offset<'a>,
}

impl<'a> PrefixLm<'a> {
    /// `j < lengths[batch]` or `j <= i + offset`.
    pub const fn new(lengths: &'a [usize], offset: Offset<'a>) -> Self {
        PrefixLm { lengths, offset }
    }
}

/// Several sequences packed one behind the other into one: a query keeps the keys of its own
/// sequence.
///
/// ```
/// use masktile::{Mask, Segments};
/// let starts = [0, 1, 3];                                 // two sequences, of 1 and 2 tokens
/// let mask = Mask::from(Segments::cumulative(&starts, &starts));
/// assert_eq!(mask.draw([1, 1, 3, 3])?.to_string(), ".##\n#..\n#..\n");
/// # Ok::<(), masktile::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Segments<'a>(pub(super) SegmentsKind<'a>);

#[derive(Clone, Copy, Debug)]
pub(super) enum SegmentsKind<'a> {
    Cumulative { queries: &'a [usize], keys: &'a [usize], causal: bool },
    Ids { queries: View<'a, i32, 2>, keys: View<'a, i32, 2> },
}

impl<'a> Segments<'a> {
    /// Segment `s` is the queries `queries[s]..queries[s + 1]` and the keys
    /// `keys[s]..keys[s + 1]`, in every batch (the `cu_seqlens` of FlashAttention). Tokens outside
    /// every segment keep nothing and are kept by nobody.
    pub const fn cumulative(queries: &'a [usize], keys: &'a [usize]) -> Self {
        Segments(SegmentsKind::Cumulative { queries, keys, causal: false })
    }

    /// The same, and causal within each segment: its last query sees its last key, each query
    /// before it one key fewer. With as many queries as keys in every segment it is
    /// [`Segments::cumulative`] and [`Causal::top_left`].
    pub const fn cumulative_causal(queries: &'a [usize], keys: &'a [usize]) -> Self {
        Segments(SegmentsKind::Cumulative { queries, keys, causal: true })
    }

    /// Keeps a key whose identity is the query's; batch x queries and batch x keys numbers.
    pub const fn ids(queries: View<'a, i32, 2>, keys: View<'a, i32, 2>) -> Self {
        Segments(SegmentsKind::Ids { queries, keys })
    }
}

/// A matrix of booleans as bytes (any but 0 counts as 1), with the meaning of a 1.
#[derive(Clone, Copy, Debug)]
pub struct BoolMask<'a> {
    pub(super) ones: TensorRef<'a, u8>,
    pub(super) ones_are_kept: bool,
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

/// A matrix of booleans as bits, batch x heads x queries x ceil(keys / 8) bytes, with the meaning
/// of a 1: key `j` is bit `j mod 8`, counted from the least significant, of byte `j / 8` of its row.
///
/// ```
/// use masktile::{BitMask, Mask, MatRef};
/// let rows = [0b001, 0b011];                              // one byte for each of two queries
/// let mask = Mask::from(BitMask::ones_are_kept(MatRef::new(&rows, [2, 1])?));
/// assert_eq!(mask.draw([1, 1, 2, 3])?.to_string(), ".##\n..#\n");
/// # Ok::<(), masktile::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct BitMask<'a> {
    pub(super) ones: TensorRef<'a, u8>,
    pub(super) ones_are_kept: bool,
}

impl<'a> BitMask<'a> {
    /// 1 = ignore, 0 = attend.
    pub fn ones_are_masked(ones: impl Into<TensorRef<'a, u8>>) -> Self {
        BitMask { ones: ones.into(), ones_are_kept: false }
    }

    /// 1 = attend, 0 = ignore.
    pub fn ones_are_kept(ones: impl Into<TensorRef<'a, u8>>) -> Self {
        BitMask { ones: ones.into(), ones_are_kept: true }
    }
}

/// A byte for each block of positions (any but 0 counts as 1), batch x heads x query blocks x key
/// blocks, with the meaning of a 1.
///
/// ```
/// use masktile::{BlockMask, Mask, MatRef};
/// let table = [1, 0, 0, 1];
/// let mask = Mask::from(BlockMask::ones_are_kept(MatRef::new(&table, [2, 2])?, [1, 2]));
/// assert_eq!(mask.draw([1, 1, 2, 4])?.to_string(), "..##\n##..\n");
/// # Ok::<(), masktile::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct BlockMask<'a> {
    pub(super) ones: TensorRef<'a, u8>,
    pub(super) ones_are_kept: bool,
    pub(super) block: [usize; 2],
}

impl<'a> BlockMask<'a> {
    /// 1 = ignore, 0 = attend; blocks of `block[0]` queries by `block[1]` keys.
    pub fn ones_are_masked(ones: impl Into<TensorRef<'a, u8>>, block: [usize; 2]) -> Self {
        BlockMask { ones: ones.into(), ones_are_kept: false, block }
    }

    /// 1 = attend, 0 = ignore; blocks of `block[0]` queries by `block[1]` keys.
    pub fn ones_are_kept(ones: impl Into<TensorRef<'a, u8>>, block: [usize; 2]) -> Self {
        BlockMask { ones: ones.into(), ones_are_kept: true, block }
    }
}

/// Attention with linear biases: adds `-slopes[head] * |i + offset - j|` to the scaled score. It
/// masks nothing. Distances are exact up to 2^24.
///
/// Source: O. Press, N. A. Smith and M. Lewis, *Train Short, Test Long*, 2022. Their slopes for `n`
/// heads, a power of two, are `2^(-8 (h + 1) / n)`.
#[derive(Clone, Copy, Debug)]
pub struct Alibi<'a> {
    pub(super) slopes: &'a [f32],
    pub(super) offset: Offset<'a>,
}

impl<'a> Alibi<'a> {
    /// One finite slope for each head.
    pub const fn new(slopes: &'a [f32], offset: Offset<'a>) -> Self {
        Alibi { slopes, offset }
    }
}

/// A function of batch, head, query and key that says what is kept: see
/// [`Mask::kept_where`](super::Mask::kept_where).
#[derive(Clone, Copy)]
pub struct KeptWhere<'a>(pub(super) Keeps<'a>);

/// A function of batch, head, query and key that gives a bias: see
/// [`Mask::bias_of`](super::Mask::bias_of).
#[derive(Clone, Copy)]
pub struct BiasFunction<'a>(pub(super) BiasOf<'a>);

impl fmt::Debug for KeptWhere<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeptWhere(..)")
    }
}

impl fmt::Debug for BiasFunction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BiasFunction(..)")
    }
}
