//! Masks: which keys a query attends to.

mod draw;
mod lower;

use std::ffi::c_void;

pub use draw::{masktile_mask_draw, masktile_mask_kept};
pub(crate) use lower::Masks;

use crate::memory::{Args, Plain, Slice, View};

/// The kinds of mask, each with the member of `MasktileMaskOf` that it reads. A position of a
/// query i and a key j is kept or masked; one that is masked contributes exactly nothing.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MaskKind {
    /// Keeps everything. Reads no member.
    None = 0,
    /// Keeps `j <= i + offset`: no token sees a later one. Reads `offset`.
    Causal = 1,
    /// Keeps keys near the query. Reads `window`.
    Window = 2,
    /// Keeps a prefix, and what is causal. Reads `prefix`.
    PrefixLm = 3,
    /// Keeps the first `lengths.data[batch]` keys: the rest is padding. Reads `lengths`.
    KeyLengths = 4,
    /// Keeps the keys of `ranges.data[batch]`: padding on both sides. Reads `ranges`.
    KeyRanges = 5,
    /// Keeps keys of the query's own sequence among several packed into one. Reads `segments`.
    Segments = 6,
    /// The same, and causal within each segment. Reads `segments`.
    SegmentsCausal = 7,
    /// Keeps a key whose identity is the query's. Reads `ids`.
    SegmentIds = 8,
    /// Keeps what a matrix of bytes says. Reads `matrix`.
    Bool = 9,
    /// Keeps what a matrix of bits says: batch x heads x queries x ceil(keys / 8) bytes, key j at
    /// bit j mod 8, from the least significant on, of byte j / 8. Reads `matrix`.
    Bits = 10,
    /// Keeps what a table of blocks says: batch x heads x query blocks x key blocks. Reads
    /// `matrix`.
    Blocks = 11,
    /// Keeps what a function of yours says. Reads `kept_where`.
    KeptWhere = 12,
    /// Adds numbers to the scaled scores, batch x heads x queries x keys; -infinity masks. Reads
    /// `bias`.
    Bias = 13,
    /// The same in half precision. Reads `half_bias`.
    BiasF16 = 14,
    /// The same in bfloat16. Reads `half_bias`.
    BiasBf16 = 15,
    /// Adds `-slopes.data[head] * |i + offset - j|`. Reads `alibi`.
    Alibi = 16,
    /// Adds what a function of yours gives; -infinity masks. Reads `bias_of`.
    BiasOf = 17,
}

impl MaskKind {
    /// All, in the order of their numbers.
    const ALL: [MaskKind; 18] = [
        MaskKind::None,
        MaskKind::Causal,
        MaskKind::Window,
        MaskKind::PrefixLm,
        MaskKind::KeyLengths,
        MaskKind::KeyRanges,
        MaskKind::Segments,
        MaskKind::SegmentsCausal,
        MaskKind::SegmentIds,
        MaskKind::Bool,
        MaskKind::Bits,
        MaskKind::Blocks,
        MaskKind::KeptWhere,
        MaskKind::Bias,
        MaskKind::BiasF16,
        MaskKind::BiasBf16,
        MaskKind::Alibi,
        MaskKind::BiasOf,
    ];
}

/// Where the queries stand beside the keys: query i stands at key `i + offset`. There is no
/// default.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OffsetKind {
    /// 0: query 0 stands at key 0. For training, and prefill from an empty cache.
    TopLeft = 1,
    /// keys - queries: the last query stands at the last key. For queries that are the last tokens
    /// of a cache.
    BottomRight = 2,
    /// `offset.same`.
    Same = 3,
    /// `offset.per_batch.data[batch]`.
    PerBatch = 4,
    /// `offset.lengths.data[batch]`: the number of tokens before the first query.
    Past = 5,
    /// `offset.lengths.data[batch] - queries`: the last query stands at the last of so many keys.
    EndingAt = 6,
}

impl OffsetKind {
    /// All, in the order of their numbers, which begin at 1.
    const ALL: [OffsetKind; 6] = [
        OffsetKind::TopLeft,
        OffsetKind::BottomRight,
        OffsetKind::Same,
        OffsetKind::PerBatch,
        OffsetKind::Past,
        OffsetKind::EndingAt,
    ];
}

/// What a 1 in a matrix of booleans means. There is no default.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ones {
    /// 1 = ignore, 0 = attend.
    AreMasked = 1,
    /// 1 = attend, 0 = ignore.
    AreKept = 2,
}

/// Where the queries stand beside the keys.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Offset {
    /// One of `MasktileOffsetKind`.
    pub kind: u32,
    /// For `MASKTILE_OFFSET_KIND_SAME`; it may be negative.
    pub same: isize,
    /// For `MASKTILE_OFFSET_KIND_PER_BATCH`: one number for each batch.
    pub per_batch: Slice<isize>,
    /// For `MASKTILE_OFFSET_KIND_PAST` and `MASKTILE_OFFSET_KIND_ENDING_AT`: one for each batch.
    pub lengths: Slice<usize>,
}

/// Keeps `i + offset - left <= j <= i + offset + right`; SIZE_MAX for no bound. A window of W
/// tokens that ends with the query's own has `left` = W - 1 and `right` = 0.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Window {
    /// Keys before the query's own.
    pub left: usize,
    /// Keys behind it.
    pub right: usize,
    /// Where the queries stand.
    pub offset: Offset,
}

/// Keeps `j < lengths.data[batch]` or `j <= i + offset`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PrefixLm {
    /// The prefix of each batch.
    pub lengths: Slice<usize>,
    /// Where the queries stand.
    pub offset: Offset,
}

/// The keys from `start` up to, and without, `end`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KeyRange {
    /// The first.
    pub start: usize,
    /// The one behind the last.
    pub end: usize,
}

/// Cumulative lengths (`cu_seqlens`): segment s is the queries from `queries.data[s]` up to
/// `queries.data[s + 1]` and the keys from `keys.data[s]` up to `keys.data[s + 1]`, in every batch.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Segments {
    /// Of queries.
    pub queries: Slice<usize>,
    /// Of keys, as many.
    pub keys: Slice<usize>,
}

/// The identity of each token's segment.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SegmentIds {
    /// 1 x 1 x batch x queries.
    pub queries: View<i32>,
    /// 1 x 1 x batch x keys.
    pub keys: View<i32>,
}

/// A matrix of booleans, any byte but 0 counting as 1.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct BoolMatrix {
    /// Batch x heads x queries x keys; of bits and blocks as `MasktileMaskKind` says. A stride of 0
    /// repeats an axis.
    pub ones: View<u8>,
    /// One of `MasktileOnes`.
    pub meaning: u32,
    /// Of blocks: how many queries a block has.
    pub block_queries: usize,
    /// Of blocks: how many keys.
    pub block_keys: usize,
}

/// Biases linear in the distance.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Alibi {
    /// One finite slope for each head.
    pub slopes: Slice<f32>,
    /// Where the queries stand.
    pub offset: Offset,
}

/// A function that says what is kept: any but 0 keeps. It may be asked more than once, answers
/// alike, and neither throws nor jumps out.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KeptWhere {
    /// Of `user`, batch, head, query and key.
    pub function: Option<
        unsafe extern "C-unwind" fn(
            user: *mut c_void,
            batch: usize,
            head: usize,
            query: usize,
            key: usize,
        ) -> i32,
    >,
    /// Whatever you want it to get.
    pub user: *mut c_void,
}

/// A function that gives a bias. It may be asked more than once, answers alike, and neither throws
/// nor jumps out.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct BiasOf {
    /// Of `user`, batch, head, query and key.
    pub function: Option<
        unsafe extern "C-unwind" fn(
            user: *mut c_void,
            batch: usize,
            head: usize,
            query: usize,
            key: usize,
        ) -> f32,
    >,
    /// Whatever you want it to get.
    pub user: *mut c_void,
}

/// What a mask is made of: the member that its kind names.
#[repr(C)]
#[derive(Clone, Copy)]
pub union MaskOf {
    /// Causal.
    pub offset: Offset,
    /// Near keys.
    pub window: Window,
    /// A prefix.
    pub prefix: PrefixLm,
    /// One length for each batch.
    pub lengths: Slice<usize>,
    /// One range for each batch.
    pub ranges: Slice<KeyRange>,
    /// Packed sequences.
    pub segments: Segments,
    /// The same by identities.
    pub ids: SegmentIds,
    /// Booleans as bytes, bits or blocks.
    pub matrix: BoolMatrix,
    /// A function of what is kept.
    pub kept_where: KeptWhere,
    /// Numbers.
    pub bias: View<f32>,
    /// Numbers of 16 bits.
    pub half_bias: View<u16>,
    /// Slopes.
    pub alibi: Alibi,
    /// A function of biases.
    pub bias_of: BiasOf,
}

/// A mask. An array of them keeps what all of them keep, and adds up their biases in order: at
/// most four each of the kinds that keep a run of keys, of those by matrix or function, and of
/// biases.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Mask {
    /// `sizeof(MasktileMask)`, the same in all elements of an array.
    pub size: usize,
    /// One of `MasktileMaskKind`.
    pub kind: u32,
    /// What it is made of.
    pub of: MaskOf,
}

// SAFETY: numbers, pointers, optional functions, and unions of these.
unsafe impl Args for Mask {
    const LEAST: usize = size_of::<Mask>();
}
// SAFETY: two numbers.
unsafe impl Plain for KeyRange {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_stand_at_their_numbers() {
        for (number, kind) in MaskKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
        }
        for (number, kind) in OffsetKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number + 1);
        }
    }
}
