//! Masked softmax over rows, f32: `probs[j] = exp(s[j] - max) / sum` over the kept `j`, with
//! `s = scale * scores + bias`; zero where masked, and zeros for a row of which nothing is kept.
//!
//! Three passes over a row that the first brings into L1: maximum (with masks, the masked scores
//! are written on the way), exponentials with their sum, division. A range mask's tail is
//! neither read nor exponentiated.

use crate::isa::{Isa, run};
use crate::mask::{Grid, Plan, Row};
use crate::row::{
    Cells, RowMask, Run, exp_pass, fill, log_sum_exp, mask_pass, max_pass, scale_pass,
};
use crate::simd::{Op, Simd};

/// A softmax over the keys of `[batch, heads, queries, keys]`. Strides count elements.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct Softmax<'a> {
    pub shape: [usize; 4],
    pub scores: Grid<f32>,
    pub probs: *mut f32,
    pub probs_strides: [usize; 4],
    pub scale: f32,
    pub plan: &'a Plan<'a>,
    /// `batch * heads * queries` numbers for the log-sum-exp of each row, or null.
    pub lse: *mut f32,
}

// SAFETY: only describes memory; `softmax` is where it is touched, under its contract.
unsafe impl Send for Softmax<'_> {}
// SAFETY: as above.
unsafe impl Sync for Softmax<'_> {}

/// Computes part `index` of `parts`, which are disjoint runs of rows.
///
/// # Safety
/// Every element that the shape and the strides name is valid: of scores and the plan's matrices
/// for reading, of probs and lse for writing. Probs are the scores themselves, element by element,
/// or overlap neither them nor anything else, and no one else uses this part of them meanwhile.
pub unsafe fn softmax(isa: Isa, softmax: &Softmax<'_>, index: usize, parts: usize) {
    run(isa, Rows { softmax, index, parts });
}

struct Rows<'a> {
    softmax: &'a Softmax<'a>,
    index: usize,
    parts: usize,
}

impl Op for Rows<'_> {
    type Out = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let [batch, heads, queries, _] = self.softmax.shape;
        let rows = batch * heads * queries;
        let at = |i: usize| split(rows, i, self.parts);
        for index in at(self.index)..at(self.index + 1) {
            let (Some(query), Some(line)) =
                (index.checked_rem(queries), index.checked_div(queries))
            else {
                return;
            };
            let (Some(head), Some(batch)) = (line.checked_rem(heads), line.checked_div(heads))
            else {
                return;
            };
            // SAFETY: the row is inside the shape.
            unsafe { row(s, self.softmax, Row { batch, head, query }, index) }
        }
    }
}

/// Where part `i` of `parts` of `len` things begins.
#[inline(always)]
pub(crate) fn split(len: usize, i: usize, parts: usize) -> usize {
    // Wide enough on every target for the product.
    (len as u128 * i as u128).checked_div(parts as u128).unwrap_or(0) as usize
}

/// # Safety
/// [`softmax`]'s, for the row `at`, the `index`th.
#[inline(always)]
unsafe fn row<S: Simd>(s: S, x: &Softmax<'_>, at: Row, index: usize) {
    let columns = x.shape[3];
    let (first, end) = x.plan.range(at, columns);
    let run = Run { first, end, columns };
    let scores = Cells { p: x.scores.at(at, 0), stride: x.scores.strides[3] };
    let probs = Grid { data: x.probs.cast_const(), strides: x.probs_strides }.at(at, 0).cast_mut();
    let probs = Cells { p: probs, stride: x.probs_strides[3] };

    // SAFETY: columns below `columns` of this row are the caller's to read and write.
    unsafe {
        fill(s, probs, 0, first, 0.0);
        fill(s, probs, end, columns, 0.0);
        let (max, sum) = if x.plan.is_elementwise() {
            let masked = Cells { p: probs.p.cast_const(), stride: probs.stride };
            let mask = RowMask { plan: x.plan, row: at, key: 0 };
            let max = mask_pass(s, scores, probs, run, x.scale, mask);
            (max, exp_pass(s, masked, probs, run, 1.0, max))
        } else {
            let max = max_pass(s, scores, run, x.scale);
            (max, exp_pass(s, scores, probs, run, x.scale, max))
        };
        if sum.is_nan() {
            for c in first..end {
                let value = if x.plan.is_kept(at, c) { f32::NAN } else { 0.0 };
                probs.p.wrapping_add(c * probs.stride).write(value);
            }
        } else if sum != 0.0 {
            scale_pass(s, probs, run, 1.0 / sum);
        }
        if !x.lse.is_null() {
            x.lse.wrapping_add(index).write(log_sum_exp(max, sum));
        }
    }
}
