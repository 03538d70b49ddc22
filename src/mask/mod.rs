//! Masks: which keys a query attends to. This page is meant as a reference on attention masks,
//! whatever library you come from.
//!
//! A position (query i, key j) is **kept** or **masked**. A masked position contributes exactly
//! nothing: the result does not depend on the score, key or value there, even where those are NaN
//! or infinite. A row of which nothing is kept gives zeros, and a log-sum-exp of -infinity. What a
//! mask rules out is skipped as far as it comes in whole chunks of 16 keys, so an operation costs
//! what its mask keeps.
//!
//! | mask | keeps (i, j), p = i + offset | used for |
//! | --- | --- | --- |
//! | [`Mask::None`] | always | encoders, cross-attention without padding |
//! | [`Causal`] | `j <= p` | decoders: no token sees a later one |
//! | [`Window`] | `p - left <= j <= p + right` | Mistral, Gemma, Longformer: only what is near |
//! | [`PrefixLm`] | `j < prefix[batch]` or `j <= p` | T5, UniLM, PaliGemma: a prompt that sees itself whole |
//! | [`Mask::KeyLengths`] | `j < lengths[batch]` | batches padded at the end |
//! | [`Mask::KeyRanges`] | `j` in `ranges[batch]` | batches padded at the beginning or at both ends |
//! | [`Segments`] | the segment of i is that of j | sequences packed into one without padding |
//! | [`BoolMask`] | where a matrix of bytes says so | anything |
//! | [`BitMask`] | where a matrix of bits says so | the same in an eighth of the memory |
//! | [`BlockMask`] | where a table of blocks says so | BigBird, block-sparse attention |
//! | [`Mask::kept_where`] | where your function says so | what nobody foresaw |
//! | [`Mask::Bias`], [`Mask::BiasF16`], [`Mask::BiasBf16`] | unless the number is -infinity; else adds it | additive masks, relative positions |
//! | [`Alibi`] | always; adds `-slope[head] abs(p - j)` | BLOOM, MPT |
//! | [`Mask::bias_of`] | unless your function gives -infinity; else adds what it gives | T5's buckets, anything |
//! | [`Mask::All`] | if every one of them does; adds all their biases in order | composition |
//!
//! # Pictures
//!
//! [`Mask::draw`] and `Display` make them: a line for each query, `.` kept, `#` masked.
//! [`Mask::kept`] answers for one position.
//!
//! Causal, with 3 queries and 5 keys:
//!
//! ```
//! # use masktile::{Causal, Mask};
//! # let draw = |causal: Causal| Mask::from(causal).draw([1, 1, 3, 5]).unwrap().to_string();
//! assert_eq!(draw(Causal::top_left()), "\
//! .####
//! ..###
//! ...##
//! ");
//! assert_eq!(draw(Causal::bottom_right()), "\
//! ...##
//! ....#
//! .....
//! ");
//! assert_eq!(draw(Causal::offset(1)), "\
//! ..###
//! ...##
//! ....#
//! ");
//! ```
//!
//! A window of three tokens that ends at the query's own, a window to both sides, a prefix of
//! three, two packed sequences (of 2 and 3 tokens), and the second of them causal as well:
//!
//! ```
//! # use masktile::{Causal, Mask, PrefixLm, Segments, Window, mask::Offset};
//! # let draw = |mask: Mask| mask.draw([1, 1, 5, 5]).unwrap().to_string();
//! assert_eq!(draw(Window::new(2, 0, Offset::top_left()).into()), "\
//! .####
//! ..###
//! ...##
//! #...#
//! ###...
//! ");
//! assert_eq!(draw(Window::new(1, 1, Offset::top_left()).into()), "\
//! ..###
//! ...##
//! #...#
//! ###...
//! ####..
//! ");
//! assert_eq!(draw(PrefixLm::new(&[3], Offset::top_left()).into()), "\
//! ...##
//! ...##
//! ...##
//! ....#
//! .....
//! ");
//! assert_eq!(draw(Segments::cumulative(&[0, 2, 5], &[0, 2, 5]).into()), "\
//! ..###
//! ..###
//! ###...
//! ###...
//! ###...
//! ");
//! assert_eq!(draw(Segments::cumulative_causal(&[0, 2, 5], &[0, 2, 5]).into()), "\
//! .####
//! ..###
//! ###.##
//! ###..#
//! ###...
//! ");
//! ```
//!
//! Padding at the end, padding at the beginning, a table of blocks of 2 queries by 3 keys, and a
//! function (every second key):
//!
//! ```
//! # use masktile::{BlockMask, Mask, MatRef};
//! # let draw = |mask: Mask| mask.draw([1, 1, 3, 6]).unwrap().to_string();
//! assert_eq!(draw(Mask::KeyLengths(&[4])), "\
//! ....##
//! ....##
//! ....##
//! ");
//! assert_eq!(draw(Mask::KeyRanges(&[2..6])), "\
//! ###....
//! ###....
//! ###....
//! ");
//! assert_eq!(draw(BlockMask::ones_are_kept(MatRef::new(&[1, 0, 0, 1], [2, 2])?, [2, 3]).into()), "\
//! ...###
//! ...###
//! ####...
//! ");
//! assert_eq!(draw(Mask::kept_where(&|_batch, _head, _query, key| key % 2 == 0)), "\
//! .#.#.#
//! .#.#.#
//! .#.#.#
//! ");
//! # Ok::<(), masktile::Error>(())
//! ```
//!
//! # The two polarities
//!
//! Half of the field writes 1 for *ignore*, the other half 1 for *attend*, and a mask of the wrong
//! polarity is silent: `tril(ones)` read as 1 = ignore attends to the future alone and leaves the
//! last row empty. So there is no constructor that takes a boolean matrix without saying which.
//!
//! ```
//! # use masktile::{BoolMask, Mask, MatRef};
//! # let draw = |mask: Mask| mask.draw([1, 1, 3, 3]).unwrap().to_string();
//! let tril = [1, 0, 0, 1, 1, 0, 1, 1, 1];
//! let tril = MatRef::new(&tril, [3, 3])?;
//! assert_eq!(draw(BoolMask::ones_are_kept(tril).into()), "\
//! .##
//! ..#
//! ...
//! ");
//! assert_eq!(draw(BoolMask::ones_are_masked(tril).into()), "\
//! #..
//! ###.
//! ####
//! ");
//! # Ok::<(), masktile::Error>(())
//! ```
//!
//! # The offset of a causal mask
//!
//! With as many queries as keys there is one causal mask. Otherwise there are two in use: aligned
//! at the top left (query 0 sees key 0 alone) or at the bottom right (the last query sees every
//! key). In cached decoding, where the queries are the last tokens of the cache, only the bottom
//! right is right: the top left lets a decode step see key 0 and nothing else. [`crate::cache`]
//! sets it by itself. Elsewhere it has to be named; [`Offset`] has all of them, for one offset or
//! one for each batch, and [`Causal::ending_at`] serves batches whose caches are filled differently.
//!
//! # Coming from other libraries
//!
//! | there | here |
//! | --- | --- |
//! | PyTorch `scaled_dot_product_attention(attn_mask=bool)` | [`BoolMask::ones_are_kept`] |
//! | the same with floats | [`Mask::Bias`] |
//! | the same with `is_causal=True` | [`Causal::top_left`] |
//! | PyTorch `nn.attention.bias.causal_lower_right` | [`Causal::bottom_right`] |
//! | PyTorch `nn.MultiheadAttention(attn_mask=bool, key_padding_mask=bool)` | [`BoolMask::ones_are_masked`] |
//! | PyTorch FlexAttention `mask_mod`, `score_mod` that adds | [`Mask::kept_where`], [`Mask::bias_of`] |
//! | Hugging Face `attention_mask` (batch x keys) | [`BoolMask::ones_are_kept`], broadcast; or [`Mask::KeyLengths`], for padding at the left [`Mask::KeyRanges`] |
//! | Hugging Face `sliding_window=W` | [`Window::new`]`(W - 1, 0, ..)` |
//! | ONNX `Attention`, `attn_mask` of booleans; of floats | [`BoolMask::ones_are_kept`]; [`Mask::Bias`] |
//! | ONNX `Attention`, `is_causal` without, with past keys | [`Causal::top_left`]; [`Causal::offset`]`(past)` |
//! | ONNX `Attention`, `nonpad_kv_seqlen` | [`Mask::KeyLengths`] |
//! | ggml `ggml_soft_max_ext(a, mask, scale, max_bias)` | [`Mask::BiasF16`] or [`Mask::Bias`] (0 keeps, -infinity masks) and, for `max_bias`, [`Alibi`] |
//! | FlashAttention `causal=True` (since 2.1) | [`Causal::bottom_right`] |
//! | FlashAttention `window_size=(l, r)` (-1: no bound) | [`Window::new`]`(l, r, Offset::bottom_right())`, `usize::MAX` for no bound |
//! | FlashAttention `cu_seqlens_q`, `cu_seqlens_k`; with `causal` | [`Segments::cumulative`]; [`Segments::cumulative_causal`] |
//! | FlashAttention `alibi_slopes` | [`Alibi`] with [`Offset::bottom_right`] |
//! | JAX / Flax `make_causal_mask`, `combine_masks` | [`Causal::top_left`], [`Mask::All`] |
//! | Keras `attention_mask`, `use_causal_mask` (1 = attend) | [`BoolMask::ones_are_kept`], [`Causal::top_left`] |
//!
//! A finite "minus infinity" (-1e9, `f32::MIN`) is a bias like any other: its position is kept, with
//! a weight that is zero beside any usual score, and a row of which every position has it is the mean
//! of the values. Write -infinity where you mean masked.

mod draw;
mod kinds;
mod lower;

use core::ops::Range;

use masktile_kernels::mask::Plan;

use crate::Result;
use crate::error::{Error, ErrorKind};
use crate::view::TensorRef;
#[doc(inline)]
pub use draw::Drawing;
#[doc(inline)]
pub use half::{bf16, f16};
#[doc(inline)]
pub use kinds::{
    Alibi, BiasFunction, BitMask, BlockMask, BoolMask, Causal, KeptWhere, Offset, PrefixLm,
    Segments, Window,
};
use kinds::{Place, SegmentsKind};

/// What is kept, of scores that are batch x heads x queries x keys, and what is added to them. See
/// [the module](self) for each kind.
///
/// Matrices have the scores' shape; [`crate::View::broadcast`] repeats an axis of 1 for free.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub enum Mask<'a> {
    /// Everything.
    #[default]
    None,
    /// No key later than the query.
    Causal(Causal<'a>),
    /// Keys near the query.
    Window(Window<'a>),
    /// A prefix, and no key later than the query.
    PrefixLm(PrefixLm<'a>),
    /// The first `lengths[batch]` keys: the rest is padding.
    KeyLengths(&'a [usize]),
    /// The keys `ranges[batch]`: padding on both sides.
    KeyRanges(&'a [Range<usize>]),
    /// Keys of the query's own sequence among several packed into one.
    Segments(Segments<'a>),
    /// What a matrix of booleans says.
    Bool(BoolMask<'a>),
    /// What a matrix of bits says.
    Bits(BitMask<'a>),
    /// What a table of blocks says.
    Blocks(BlockMask<'a>),
    /// What a function says: [`Mask::kept_where`].
    Where(KeptWhere<'a>),
    /// Numbers added to the scaled scores, batch x heads x queries x keys. -infinity masks its
    /// position.
    Bias(TensorRef<'a>),
    /// The same in half precision.
    BiasF16(TensorRef<'a, f16>),
    /// The same in bfloat16.
    BiasBf16(TensorRef<'a, bf16>),
    /// Biases linear in the distance.
    Alibi(Alibi<'a>),
    /// What a function adds: [`Mask::bias_of`].
    BiasOf(BiasFunction<'a>),
    /// What every one of these keeps; their biases are added up in order. At most four each of
    /// the kinds that keep a run of keys, of those by matrix or function, and of biases; at most 64
    /// masks in all, eight levels deep.
    All(&'a [Mask<'a>]),
}

macro_rules! from {
    ($($kind:ident as $variant:ident)*) => { $(
        impl<'a> From<$kind<'a>> for Mask<'a> {
            fn from(mask: $kind<'a>) -> Self {
                Mask::$variant(mask)
            }
        }
    )* };
}
from! {
    Causal as Causal
    Window as Window
    PrefixLm as PrefixLm
    Segments as Segments
    BoolMask as Bool
    BitMask as Bits
    BlockMask as Blocks
    Alibi as Alibi
}

/// Batch, heads, queries, keys.
type Shape = [usize; 4];

impl<'a> Mask<'a> {
    /// Keeps what `keeps(batch, head, query, key)` says. It may be asked about a position more
    /// than once, from any thread, and should answer alike.
    ///
    /// ```
    /// use masktile::Mask;
    /// let dilated = Mask::kept_where(&|_, _, query, key| query.abs_diff(key) % 2 == 0);
    /// assert_eq!(dilated.draw([1, 1, 2, 4])?.to_string(), ".#.#\n#.#.\n");
    /// # Ok::<(), masktile::Error>(())
    /// ```
    pub const fn kept_where(
        keeps: &'a (dyn Fn(usize, usize, usize, usize) -> bool + Sync + 'a),
    ) -> Self {
        Mask::Where(KeptWhere(keeps))
    }

    /// Adds what `bias(batch, head, query, key)` gives to the scaled score; -infinity masks the
    /// position. It may be asked about a position more than once, from any thread, and should
    /// answer alike.
    pub const fn bias_of(
        bias: &'a (dyn Fn(usize, usize, usize, usize) -> f32 + Sync + 'a),
    ) -> Self {
        Mask::BiasOf(BiasFunction(bias))
    }

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
        let mut plan = Plan::EMPTY;
        self.add_to_plan(shape, &mut plan)?;
        Ok(self.keeps(shape, position))
    }

    /// [`Mask::kept`] of a mask and a position that fit, by the formulas of the module's table.
    fn keeps(&self, shape: Shape, position: Shape) -> bool {
        let [_, _, queries, keys] = shape;
        let [batch, head, query, key] = position;
        // Wide enough for every sum of sizes and offsets.
        let j = key as i128;
        let stands_at = |offset: Offset<'_>| {
            let offset = match offset.0 {
                Place::Same(offset) => offset as i128,
                Place::BottomRight => keys as i128 - queries as i128,
                Place::PerBatch(offsets) => *offsets.get(batch)? as i128,
                Place::Past(past) => *past.get(batch)? as i128,
                Place::EndingAt(lengths) => *lengths.get(batch)? as i128 - queries as i128,
            };
            Some(query as i128 + offset)
        };
        let is_one = |ones: TensorRef<'_, u8>, at| ones.get(at).map(|one| *one != 0);
        match *self {
            Mask::None | Mask::Alibi(_) => true,
            Mask::Causal(causal) => stands_at(causal.0).is_some_and(|p| j <= p),
            Mask::Window(Window { left, right, offset }) => {
                stands_at(offset).is_some_and(|p| p - left as i128 <= j && j <= p + right as i128)
            }
            Mask::PrefixLm(PrefixLm { lengths, offset }) => {
                lengths.get(batch).is_some_and(|length| key < *length)
                    || stands_at(offset).is_some_and(|p| j <= p)
            }
            Mask::KeyLengths(lengths) => lengths.get(batch).is_some_and(|length| key < *length),
            Mask::KeyRanges(ranges) => ranges.get(batch).is_some_and(|range| range.contains(&key)),
            Mask::Segments(segments) => segments.0.keep(batch, query, key),
            Mask::Bool(mask) => is_one(mask.ones, position) == Some(mask.ones_are_kept),
            Mask::Bits(mask) => {
                let byte = mask.ones.get([batch, head, query, key / 8]);
                byte.map(|byte| byte >> (key % 8) & 1 == 1) == Some(mask.ones_are_kept)
            }
            Mask::Blocks(mask) => {
                let [rows, columns] = mask.block;
                let block = query.checked_div(rows).zip(key.checked_div(columns));
                block.and_then(|(row, column)| is_one(mask.ones, [batch, head, row, column]))
                    == Some(mask.ones_are_kept)
            }
            Mask::Where(KeptWhere(keeps)) => keeps(batch, head, query, key),
            Mask::Bias(bias) => bias.get(position).is_some_and(|bias| *bias != f32::NEG_INFINITY),
            Mask::BiasF16(bias) => {
                bias.get(position).is_some_and(|bias| *bias != f16::NEG_INFINITY)
            }
            Mask::BiasBf16(bias) => {
                bias.get(position).is_some_and(|bias| *bias != bf16::NEG_INFINITY)
            }
            Mask::BiasOf(BiasFunction(bias)) => bias(batch, head, query, key) != f32::NEG_INFINITY,
            Mask::All(masks) => masks.iter().all(|mask| mask.keeps(shape, position)),
        }
    }

    /// Adds the masks as kernels read them, checked against the scores' shape.
    pub(crate) fn add_to_plan(&self, shape: Shape, plan: &mut Plan<'a>) -> Result<()> {
        lower::add_to_plan(self, shape, plan)
    }
}

impl SegmentsKind<'_> {
    fn keep(&self, batch: usize, query: usize, key: usize) -> bool {
        match *self {
            SegmentsKind::Cumulative { queries, keys, causal } => {
                let both = queries.windows(2).zip(keys.windows(2));
                both.into_iter().any(|(queries, keys)| {
                    let ([first, end], [first_key, end_key]) = (queries, keys) else {
                        return false;
                    };
                    let inside =
                        (first..end).contains(&&query) && (first_key..end_key).contains(&&key);
                    // Keys behind this one in the segment are as many as queries at least.
                    inside && (!causal || end_key - key >= end - query)
                })
            }
            SegmentsKind::Ids { queries, keys } => {
                let own = queries.get([batch, query]);
                own.is_some() && own == keys.get([batch, key])
            }
        }
    }
}
