//! The outputs of a group of query rows: how they begin and how they end.

use super::group::{Group, Place};
use super::merge::{Blocks, Finished};
use super::{KEY_BLOCK, Layout, Output, ScoresCopy};
use crate::gemm::{min, store_any};
use crate::mask::{Grid, Row};
use crate::row::{Cells, Run, Total, divide_pass, exp_pass, fill, nan_pass};
use crate::score::ALL;
use crate::simd::Simd;

// SAFETY of the methods below: as those of `Group` beside it.
impl<S: Simd, const MIXED: bool> Group<'_, S, MIXED> {
    /// The state of the rows from `first` on where nothing is kept.
    #[cfg_attr(vectors, inline(always))]
    pub(super) unsafe fn clear(&self, first: usize, rows: usize) {
        let &Layout { max, sum, acc, width, .. } = self.layout;
        let cells = |at: usize| Cells { p: self.at(at), stride: 1 };
        // SAFETY: the impl block's.
        unsafe {
            fill(self.s, cells(max + first), 0, rows, f32::MIN);
            fill(self.s, cells(sum + first), 0, rows, 0.0);
            fill(self.s, cells(acc + first * width), 0, rows * width, 0.0);
        }
    }

    /// Copied scores and block states as if nothing were kept: what no tile computes stays so.
    #[cfg_attr(vectors, inline(always))]
    pub(super) unsafe fn begin(&self) {
        let s = self.s;
        let cells = |p| Cells { p, stride: 1 };
        if self.x.copy().is_none() && self.x.block_states().is_none() {
            return;
        }
        // SAFETY: the impl block's.
        unsafe {
            for r in 0..self.rows {
                let at = self.row(r);
                if let Some(copy) = self.x.copy() {
                    fill(s, self.copied(copy, at, 0), 0, self.x.keys, f32::NEG_INFINITY);
                }
                if let Some(states) = self.x.block_states() {
                    let (blocks, index) = (self.blocks(), self.index(at));
                    for block in 0..blocks.count {
                        let state = states.wrapping_add(blocks.at(index, block));
                        state.write(f32::MIN);
                        fill(s, cells(state.wrapping_add(1)), 0, 1 + self.x.value_dim, 0.0);
                    }
                }
            }
        }
    }

    /// Ends row `r` and writes it where the caller wants it.
    #[cfg_attr(vectors, inline(always))]
    pub(super) unsafe fn finish(&self, r: usize) {
        let (s, x, l) = (self.s, self.x, self.layout);
        let Output::Values { out, strides, lse } = x.out else { return };
        // SAFETY: the impl block's.
        let at = unsafe { self.row(r) };
        let [batch, head, query, _] = strides;
        let out = out.skip(at.batch * batch + at.head * head + at.query * query);
        // SAFETY: the impl block's.
        unsafe {
            let (max, sum) = (self.at(l.max + r).read(), self.at(l.sum + r).read());
            let end =
                Finished::of(s, max, sum, if ALL { x.sinks.get(at.head).copied() } else { None });
            for c in (0..x.value_dim).step_by(S::LANES) {
                let v = end.values(s, s.load(self.at(l.acc + r * l.width + c)));
                let n = min(S::LANES, x.value_dim - c);
                store_any::<S, MIXED>(s, out.skip(c * strides[3]), strides[3], n, v);
            }
            if ALL && !lse.is_null() {
                lse.wrapping_add(self.index(at)).write(end.log_sum_exp());
            }
            if let Some(copy @ ScoresCopy { stage: None, .. }) = x.copy() {
                self.copy_probs(copy, r, &end);
            }
        }
    }

    /// The copied scores of row `r` to probabilities.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn copy_probs(&self, copy: ScoresCopy, r: usize, end: &Finished) {
        let (s, x) = (self.s, self.x);
        // SAFETY: the impl block's.
        unsafe {
            let (at, Place { first, end: last, .. }) = (self.row(r), self.place(r));
            let run = Run { first, end: last, columns: x.keys };
            let cells = self.copied(copy, at, 0);
            fill(s, cells, 0, first, 0.0);
            fill(s, cells, last, x.keys, 0.0);
            exp_pass(s, cells.as_const(), cells, run, 1.0, end.max);
            if end.sum.is_nan() {
                let (plan, first_key) = (x.rule.plan, x.first_key);
                nan_pass(
                    cells,
                    run,
                    0.0,
                    #[inline(always)]
                    |key| plan.kept(s, at, first_key + key, 1) == 1,
                );
            } else {
                divide_pass(s, cells, run, Total::exact(end.sum));
            }
        }
    }

    /// Where the scores of the row at `at` from key `start` on are copied to.
    #[cfg_attr(vectors, inline(always))]
    pub(super) fn copied(&self, copy: ScoresCopy, at: Row, start: usize) -> Cells<*mut f32> {
        let grid = Grid { data: copy.data.cast_const(), strides: copy.strides };
        let p = grid.at(at, start).cast_mut();
        Cells { p, stride: copy.strides[3] }
    }

    pub(super) fn blocks(&self) -> Blocks {
        Blocks { count: self.x.keys.div_ceil(KEY_BLOCK), value_dim: self.x.value_dim }
    }
}
