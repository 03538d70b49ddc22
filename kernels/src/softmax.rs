//! Masked softmax over rows, f32: `probs[j] = exp(s[j] - max) / sum` over the kept `j`, with `s` as
//! [`crate::score`] says; zero where masked, and zeros for a row of which nothing is kept. Or its
//! logarithm, `s[j] - max - ln(sum)`, -infinity where masked.
//!
//! Three passes over a row that the first brings into L1: maximum (unless scores are only scaled,
//! what the softmax takes is written on the way), exponentials with their sum, division. A range
//! mask's tail is neither read nor exponentiated.

use crate::gemm::split;
use crate::isa::{Isa, run};
use crate::mask::{Grid, Row};
use crate::row::{
    Cells, Run, Total, divide_pass, exp_one, exp_pass, fill, greater, log_pass, log_sum_exp,
    max_pass, nan_pass, sum_pass,
};
use crate::score::{ALL, Line, Rule, Stage, score_pass};
use crate::simd::{Op, Simd};

/// A softmax over the keys of `[batch, heads, queries, keys]`. Strides count elements.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct Softmax<'a> {
    pub shape: [usize; 4],
    pub scores: Grid<f32>,
    pub probs: *mut f32,
    pub probs_strides: [usize; 4],
    pub rule: Rule<'a>,
    /// A logit for each head that joins the sum and has no key; empty for none.
    pub sinks: &'a [f32],
    /// The logarithm of the probabilities.
    pub log: bool,
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
    #[cfg_attr(vectors, inline(always))]
    fn eval<S: Simd>(self, s: S) {
        let [batch, heads, queries, keys] = self.softmax.shape;
        // Without a number to write the other sizes may be any.
        if keys == 0 && self.softmax.lse.is_null() {
            return;
        }
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

/// # Safety
/// [`softmax`]'s, for the row `at`, the `index`th.
#[cfg_attr(vectors, inline(always))]
unsafe fn row<S: Simd>(s: S, x: &Softmax<'_>, at: Row, index: usize) {
    let columns = x.shape[3];
    let (first, end) = x.rule.plan.range(at, columns);
    let run = Run { first, end, columns };
    let raw = Cells { p: x.scores.at(at, 0), stride: x.scores.strides[3] };
    let out = Grid { data: x.probs.cast_const(), strides: x.probs_strides }.at(at, 0).cast_mut();
    let out = Cells { p: out, stride: x.probs_strides[3] };
    let log = ALL && x.log;
    let masked = if log { f32::NEG_INFINITY } else { 0.0 };
    let plan = x.rule.plan;

    // SAFETY: columns below `columns` of this row are the caller's to read and write.
    unsafe {
        fill(s, out, 0, first, masked);
        fill(s, out, end, columns, masked);
        let (scores, scale, max) = if x.rule.is_plain() {
            (raw, x.rule.scale, max_pass(s, raw, run, x.rule.scale))
        } else {
            let line = Line { rule: &x.rule, row: at, key: 0 };
            let bits = plan.row_bits(at, 0);
            let max = score_pass(
                s,
                raw,
                out,
                run,
                line,
                Stage::Biased,
                #[inline(always)]
                // What biases mask they mask themselves.
                |c| bits.kept(s, c, run.present(c)),
            );
            (out.as_const(), 1.0, max)
        };
        let sink = if ALL { x.sinks.get(at.head).copied() } else { None };
        let max = greater(sink.unwrap_or(f32::NEG_INFINITY), max);
        let sums = if log {
            sum_pass(s, scores, run, scale, max)
        } else {
            exp_pass(s, scores, out, run, scale, max)
        };
        let mut total = Total::of(&sums);
        if let Some(sink) = sink {
            total = total.and(exp_one(s, sink - max));
        }
        let sum = total.sum;

        if sum.is_nan() {
            nan_pass(
                out,
                run,
                masked,
                #[inline(always)]
                |c| plan.kept(s, at, c, 1) == 1,
            );
        } else if !log {
            divide_pass(s, out, run, total);
        } else if sum == 0.0 {
            fill(s, out, first, end, masked);
        } else {
            log_pass(s, scores, out, run, scale, [max, libm::logf(sum)]);
        }
        if ALL && !x.lse.is_null() {
            x.lse.wrapping_add(index).write(log_sum_exp(max, sum));
        }
    }
}
