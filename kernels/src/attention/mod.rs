//! Masked attention: `out = softmax(s) V` for each batch and head, with the scores `s` of
//! [`crate::score`] from `Q K^T`: Q queries x dim, K keys x dim, V keys x value_dim.
//!
//! Method: T. Dao et al., *FlashAttention*, 2022 (after M. Milakov and N. Gimelshein, *Online
//! normalizer calculation for softmax*, 2018), with one difference: every block of
//! [`KEY_BLOCK`] keys is taken by itself, with its own maximum, sum and weighted value, and blocks
//! are merged from the first to the last. So no block depends on the one before it, and the
//! result is the same bits however queries are tiled and blocks shared out.
//!
//! A group of query rows (of all heads that share a key/value head) walks the key blocks
//! together ([`group`](self)): the block's keys are packed once (or, where one tile alone reads them,
//! read where they lie), each tile of rows takes its scores, exponentials and weighted value while
//! they are in L1, and what the masks rule out is skipped, 16 keys at a time.

mod group;
mod merge;
mod output;
mod pack;
mod scaled;
mod tokens;

use crate::gemm::{MAX_MR, MAX_NR, min};
use crate::isa::{Isa, run};
use crate::number::NumbersMut;
use crate::score::{ALL, Rule, Stage};
use crate::simd::{LANES, Op, Simd};
use group::{Group, Place};
pub use merge::{
    Blocks, BlocksOf, MergeBlocks, MergeOutputs, OutputOf, merge_blocks, merge_outputs,
};
pub use tokens::{Data, Pages, Tensor, Tokens};

/// Keys of a block. Part of the numbers' contract: another length gives other roundings.
pub const KEY_BLOCK: usize = 256;
/// Chunks of 16 keys in a block; a `u16` has a bit for each.
const CHUNKS: usize = KEY_BLOCK / LANES;
/// Query rows that share a packed block of keys, a multiple of every tile's rows.
const GROUP: usize = 168;

/// Where the parts of the workspace lie, in floats from its start.
struct Layout {
    /// Floats of a row of scores.
    block: usize,
    /// Floats of a row of values.
    width: usize,
    keys: usize,
    values: usize,
    scores: usize,
    weighted: usize,
    acc: usize,
    max: usize,
    sum: usize,
    /// Two bytes for each chunk of each row.
    kept: usize,
    /// A [`Place`] for each row.
    places: usize,
    total: usize,
}

impl Layout {
    /// `rows` are the query rows of all heads that share a key/value head. The queries lie at 0.
    const fn new(rows: usize, keys: usize, dim: usize, value_dim: usize) -> Layout {
        let group = min(rows, GROUP);
        let block = min(keys, KEY_BLOCK).next_multiple_of(MAX_NR);
        let width = match value_dim.checked_next_multiple_of(MAX_NR) {
            Some(width) => width,
            None => usize::MAX,
        };
        // Saturating: sizes that no memory holds ask for a workspace that no caller has.
        let keys = group.saturating_mul(dim);
        let values = keys.saturating_add(block.saturating_mul(dim));
        let scores = values.saturating_add(block.saturating_mul(width));
        let weighted = scores.saturating_add(MAX_MR * block);
        let acc = weighted.saturating_add(width.saturating_mul(MAX_MR));
        let max = acc.saturating_add(width.saturating_mul(group));
        let sum = max.saturating_add(group.next_multiple_of(LANES));
        let kept = sum.saturating_add(group.next_multiple_of(LANES));
        let places = kept.saturating_add(group * CHUNKS / 2);
        let total = places.saturating_add(group * size_of::<Place>() / size_of::<f32>());
        Layout { block, width, keys, values, scores, weighted, acc, max, sum, kept, places, total }
    }
}

/// Floats of workspace for `rows` query rows a key/value head (query heads that share it times
/// queries), whatever the instruction set. It stops growing at 168 rows and 256 keys.
pub const fn workspace(rows: usize, keys: usize, dim: usize, value_dim: usize) -> usize {
    Layout::new(rows, keys, dim, value_dim).total
}

/// An attention. Strides count elements: batch, head, token, dim.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct Attention<'a> {
    pub batch: usize,
    pub heads: usize,
    /// Divides `heads`; query head `h` reads key/value head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    pub queries: usize,
    pub keys: usize,
    /// Where the first key stands among all that the masks speak of.
    pub first_key: usize,
    pub dim: usize,
    pub value_dim: usize,
    pub q: Tensor,
    pub k: Tokens,
    pub v: Tokens,
    pub rule: Rule<'a>,
    /// A logit for each head that joins the sum and has no key; empty for none.
    pub sinks: &'a [f32],
    pub out: Output,
    pub copy: Option<ScoresCopy>,
}

/// Where the result goes.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub enum Output {
    Values {
        out: NumbersMut,
        strides: [usize; 4],
        /// `batch * heads * queries` numbers for the log-sum-exp of each row, or null.
        lse: *mut f32,
    },
    /// Each key block by itself, for [`merge_blocks`]: see [`Blocks`]. Sinks do not enter.
    Blocks(*mut f32),
}

/// A matrix that takes scores or probabilities, batch x heads x queries x keys.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct ScoresCopy {
    pub data: *mut f32,
    pub strides: [usize; 4],
    /// Scores up to a stage, -infinity where masked; none for probabilities, zero where masked.
    pub stage: Option<Stage>,
}

// SAFETY: only describes memory; `attention` is where it is touched, under its contract.
unsafe impl Send for Attention<'_> {}
// SAFETY: as above.
unsafe impl Sync for Attention<'_> {}

impl Attention<'_> {
    /// Query rows that share a key/value head.
    fn rows(&self) -> usize {
        self.heads.saturating_mul(self.queries).checked_div(self.kv_heads).unwrap_or(0)
    }

    /// Where each key block goes by itself.
    fn block_states(&self) -> Option<*mut f32> {
        match self.out {
            Output::Blocks(states) if ALL => Some(states),
            _ => None,
        }
    }

    /// Where scores or probabilities go.
    fn copy(&self) -> Option<ScoresCopy> {
        if ALL { self.copy } else { None }
    }

    /// Independent pieces of work: groups of query rows.
    pub fn units(&self) -> usize {
        // Without a number to write the other sizes may be any.
        let nothing = match self.out {
            Output::Values { lse, .. } => self.value_dim == 0 && lse.is_null(),
            Output::Blocks(_) => self.keys == 0,
        };
        if nothing && (self.copy.is_none() || self.keys == 0) {
            return 0;
        }
        let lines = self.batch.saturating_mul(self.kv_heads);
        lines.saturating_mul(self.rows().div_ceil(GROUP))
    }
}

/// Computes the units `first..end` of [`Attention::units`], of an attention of f32 alone. A program
/// that has no others need not hold what [`attention_mixed`] takes.
///
/// # Safety
/// Every element that the sizes and strides name is valid: of q, k, v and the plan's grids for
/// reading, of the outputs for writing. No element of an output is named twice or lies in any
/// other operand, and no one else uses these units' part of them meanwhile. Where keys and values
/// are paged, the masks keep only keys whose pages the table names. `workspace` is valid for
/// writing [`workspace`] floats.
pub unsafe fn attention(
    isa: Isa,
    attention: &Attention<'_>,
    first: usize,
    end: usize,
    workspace: *mut f32,
) {
    run(isa, Units::<false> { attention, first, end, workspace });
}

/// The same of an attention of any types.
///
/// # Safety
/// As [`attention`].
pub unsafe fn attention_mixed(
    isa: Isa,
    attention: &Attention<'_>,
    first: usize,
    end: usize,
    workspace: *mut f32,
) {
    run(isa, Units::<true> { attention, first, end, workspace });
}

struct Units<'a, const MIXED: bool> {
    attention: &'a Attention<'a>,
    first: usize,
    end: usize,
    workspace: *mut f32,
}

impl<const MIXED: bool> Op for Units<'_, MIXED> {
    type Out = ();
    #[cfg_attr(vectors, inline(always))]
    fn eval<S: Simd>(self, s: S) {
        let x = self.attention;
        let rows = x.rows();
        let groups = rows.div_ceil(GROUP);
        let layout = Layout::new(rows, x.keys, x.dim, x.value_dim);
        let heads = x.heads.checked_div(x.kv_heads).unwrap_or(0);
        for unit in self.first..self.end.min(x.units()) {
            let (Some(line), Some(group)) = (unit.checked_div(groups), unit.checked_rem(groups))
            else {
                return;
            };
            let (Some(batch), Some(kv_head)) =
                (line.checked_div(x.kv_heads), line.checked_rem(x.kv_heads))
            else {
                return;
            };
            let first = group * GROUP;
            let group = Group::<S, MIXED> {
                s,
                x,
                layout: &layout,
                workspace: self.workspace,
                batch,
                kv_head,
                first_head: kv_head * heads,
                first,
                rows: min(GROUP, rows - first),
            };
            // SAFETY: `attention`'s contract.
            unsafe { group.run() }
        }
    }
}
