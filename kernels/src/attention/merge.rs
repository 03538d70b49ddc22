//! Merging what was computed over parts of the keys, and the end of a row.
//!
//! Two states of a row, each a maximum `m`, a sum `l` of `exp(s - m)` and the values weighted
//! alike, `a`, merge into `M = max(m, m')`, `l exp(m - M) + l' exp(m' - M)` and `a` likewise.

use crate::exp::exp_nonpositive;
use crate::gemm::{load_strided, min, store_strided};
use crate::isa::{Isa, run};
use crate::mask::{Grid, Row};
use crate::row::{exp_one, greater, log_sum_exp};
use crate::simd::{Op, Simd};

/// Maxima and sums of merged states, and the factors of the old and of the new values.
pub(super) struct Merged<V> {
    pub max: V,
    pub sum: V,
    pub old: V,
    pub new: V,
}

impl<V: Copy> Merged<V> {
    /// States of as many rows as a vector has lanes, each a maximum and a sum.
    #[cfg_attr(vectors, inline(always))]
    pub(super) fn of<S: Simd<V = V>>(s: S, [max, sum]: [V; 2], [new_max, new_sum]: [V; 2]) -> Self {
        let merged = s.max(new_max, max);
        let old = exp_nonpositive(s, s.sub(max, merged));
        let new = exp_nonpositive(s, s.sub(new_max, merged));
        Merged { max: merged, sum: s.fma(new_sum, new, s.mul(sum, old)), old, new }
    }
}

/// Merged values, by the factors of the old and of the new.
#[cfg_attr(vectors, inline(always))]
pub(super) fn merged_values<S: Simd>(s: S, factors: [S::V; 2], old: S::V, new: S::V) -> S::V {
    s.fma(new, factors[1], s.mul(old, factors[0]))
}

/// The end of a row: its sink, if any, joins as one more state without a value.
pub(super) struct Finished {
    /// Factors of the values, to be applied in this order.
    factors: [f32; 2],
    pub max: f32,
    pub sum: f32,
}

impl Finished {
    #[cfg_attr(vectors, inline(always))]
    pub(super) fn of<S: Simd>(s: S, max: f32, sum: f32, sink: Option<f32>) -> Self {
        let Some(sink) = sink else {
            return Finished { factors: [1.0, 1.0 / sum], max, sum };
        };
        let top = greater(sink, max);
        let factor = exp_one(s, max - top);
        let sum = sum * factor + exp_one(s, sink - top);
        Finished { factors: [factor, 1.0 / sum], max: top, sum }
    }

    /// Values divided by the sum; zeros for a row without weight.
    #[cfg_attr(vectors, inline(always))]
    pub(super) fn values<S: Simd>(&self, s: S, acc: S::V) -> S::V {
        if self.sum == 0.0 {
            return s.splat(0.0);
        }
        let [first, second] = self.factors;
        let v = s.mul(s.mul(acc, s.splat(first)), s.splat(second));
        // + 0: a negative zero would tell whether a masked key was skipped or added.
        s.add(v, s.splat(0.0))
    }

    #[cfg_attr(vectors, inline(always))]
    pub(super) fn log_sum_exp(&self) -> f32 {
        log_sum_exp(self.max, self.sum)
    }
}

/// States of key blocks, block by block for each row of batch x heads x queries: the maximum, the
/// sum, then `value_dim` weighted values.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Blocks {
    pub count: usize,
    pub value_dim: usize,
}

impl Blocks {
    /// Floats of one row.
    pub const fn row_len(self) -> usize {
        self.count.saturating_mul(self.value_dim.saturating_add(2))
    }

    /// Where block `block` of row `row` begins.
    #[cfg_attr(vectors, inline(always))]
    pub(super) fn at(self, row: usize, block: usize) -> usize {
        (row * self.count + block) * (self.value_dim + 2)
    }
}

/// The states of a part's key blocks, and how many blocks they are for each row.
pub type BlocksOf<'a> = &'a (dyn Fn(usize) -> (&'a [f32], usize) + Sync + 'a);

/// What [`merge_blocks`] merges: parts of the keys of all rows, from the first keys to the last.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct MergeBlocks<'a> {
    pub parts: usize,
    pub part: BlocksOf<'a>,
    /// Batch, heads, queries, value_dim.
    pub shape: [usize; 4],
    pub sinks: &'a [f32],
    pub out: *mut f32,
    pub strides: [usize; 4],
    /// A number for each row, or null.
    pub lse: *mut f32,
}

/// Merges blocks in order, with the bits of an attention over all keys at once.
///
/// # Safety
/// Each part's states hold [`Blocks::row_len`] numbers for each row; the elements of the outputs
/// are valid for writing, distinct, and lie in no part.
pub unsafe fn merge_blocks(isa: Isa, merge: &MergeBlocks<'_>) {
    run(isa, *merge);
}

impl Op for MergeBlocks<'_> {
    type Out = ();
    #[cfg_attr(vectors, inline(always))]
    fn eval<S: Simd>(self, s: S) {
        each_row(
            self.shape,
            #[inline(always)]
            |row, index| {
                // SAFETY: `merge_blocks`' contract.
                unsafe { self.row(s, row, index) }
            },
        );
    }
}

impl MergeBlocks<'_> {
    #[cfg_attr(vectors, inline(always))]
    unsafe fn row<S: Simd>(&self, s: S, row: Row, index: usize) {
        let width = self.shape[3];
        let out = Grid { data: self.out.cast_const(), strides: self.strides };
        // A row without values has a log-sum-exp all the same.
        for c in (0..width.max(1)).step_by(S::LANES) {
            let n = min(S::LANES, width - c);
            // SAFETY: the row's elements are inside the shape; there is a log-sum-exp for each row.
            unsafe {
                let (end, acc) = self.merged(s, row, index, c, n);
                let stride = self.strides[3];
                store_strided(s, out.at(row, c).cast_mut(), stride, n, end.values(s, acc));
                if c == 0 && !self.lse.is_null() {
                    self.lse.wrapping_add(index).write(end.log_sum_exp());
                }
            }
        }
    }

    /// The row's end, and its `n` merged values, at most a vector, from `c` on.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn merged<S: Simd>(
        &self,
        s: S,
        row: Row,
        index: usize,
        c: usize,
        n: usize,
    ) -> (Finished, S::V) {
        let (mut state, mut acc) = ([s.splat(f32::MIN), s.splat(0.0)], s.splat(0.0));
        for part in 0..self.parts {
            let (states, count) = (self.part)(part);
            let blocks = Blocks { count, value_dim: self.shape[3] };
            for block in 0..count {
                let p = states.as_ptr().wrapping_add(blocks.at(index, block));
                // SAFETY: the part holds this block of this row.
                let (new, weighted) = unsafe {
                    let new = [s.splat(p.read()), s.splat(p.wrapping_add(1).read())];
                    (new, s.load_first(p.wrapping_add(2 + c), n))
                };
                let merged = Merged::of(s, state, new);
                acc = merged_values(s, [merged.old, merged.new], acc, weighted);
                state = [merged.max, merged.sum];
            }
        }
        let (max, sum) = (s.largest(state[0]), s.largest(state[1]));
        (Finished::of(s, max, sum, self.sinks.get(row.head).copied()), acc)
    }
}

/// An output over a part of the keys, and its log-sum-exp for each row.
pub type OutputOf<'a> = &'a (dyn Fn(usize) -> (Grid<f32>, *const f32) + Sync + 'a);

/// What [`merge_outputs`] merges.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct MergeOutputs<'a> {
    pub parts: usize,
    pub part: OutputOf<'a>,
    /// Batch, heads, queries, value_dim.
    pub shape: [usize; 4],
    pub sinks: &'a [f32],
    pub out: *mut f32,
    pub strides: [usize; 4],
    /// A number for each row, or null.
    pub lse: *mut f32,
}

/// `out = sum exp(lse_p - M) out_p / sum exp(lse_p - M)` over the parts `p` in order, `M` the
/// greatest of their log-sum-exps.
///
/// # Safety
/// Each part's output has the shape, and a log-sum-exp for each row, valid for reading; the
/// elements of the outputs are valid for writing, distinct, and lie in no part.
pub unsafe fn merge_outputs(isa: Isa, merge: &MergeOutputs<'_>) {
    run(isa, *merge);
}

impl Op for MergeOutputs<'_> {
    type Out = ();
    #[cfg_attr(vectors, inline(always))]
    fn eval<S: Simd>(self, s: S) {
        each_row(
            self.shape,
            #[inline(always)]
            |row, index| {
                // SAFETY: `merge_outputs`' contract.
                unsafe { self.row(s, row, index) }
            },
        );
    }
}

impl MergeOutputs<'_> {
    #[cfg_attr(vectors, inline(always))]
    unsafe fn lse_of(&self, part: usize, row: usize) -> f32 {
        // SAFETY: the part has a log-sum-exp for each row.
        unsafe { (self.part)(part).1.wrapping_add(row).read() }
    }

    #[cfg_attr(vectors, inline(always))]
    unsafe fn row<S: Simd>(&self, s: S, row: Row, index: usize) {
        // SAFETY: each part has a log-sum-exp for each row, and the row's elements; so has the
        // output.
        unsafe {
            let (mut max, mut sum) = (f32::MIN, 0.0);
            for p in 0..self.parts {
                max = greater(self.lse_of(p, index), max);
            }
            for p in 0..self.parts {
                sum += exp_one(s, self.lse_of(p, index) - max);
            }
            let end = Finished::of(s, max, sum, self.sinks.get(row.head).copied());

            let out = Grid { data: self.out.cast_const(), strides: self.strides };
            for c in (0..self.shape[3]).step_by(S::LANES) {
                let n = min(S::LANES, self.shape[3] - c);
                let mut acc = s.splat(0.0);
                for p in 0..self.parts {
                    let part = (self.part)(p).0;
                    let v = load_strided(s, part.at(row, c), part.strides[3], n);
                    let weight = exp_one(s, self.lse_of(p, index) - max);
                    acc = s.fma(v, s.splat(weight), acc);
                }
                let stride = self.strides[3];
                store_strided(s, out.at(row, c).cast_mut(), stride, n, end.values(s, acc));
            }
            if !self.lse.is_null() {
                self.lse.wrapping_add(index).write(end.log_sum_exp());
            }
        }
    }
}

/// Calls `f` with each row of batch x heads x queries and its place among them.
#[cfg_attr(vectors, inline(always))]
fn each_row([batch, heads, queries, _]: [usize; 4], f: impl Fn(Row, usize)) {
    let mut index = 0;
    for batch in 0..batch {
        for head in 0..heads {
            for query in 0..queries {
                f(Row { batch, head, query }, index);
                index += 1;
            }
        }
    }
}
