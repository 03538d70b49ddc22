//! Passes over one row of scores, shared by softmax and attention.
//!
//! Column `c` of a row belongs to lane `c mod 16`, counted from the row's first column, so a
//! chunk always starts at a multiple of 16 and the ends of a row's kept run are masked chunks.

use crate::exp::exp_nonpositive;
use crate::gemm::{load_strided, store_strided};
use crate::mask::{Plan, Row};
use crate::simd::{LANES, Simd};

/// Columns whose lane sums are added up by themselves before they join the row's: it keeps the
/// rounding of a long row's sum near that of a short one's.
const SUM_BLOCK: usize = 1024;

/// The kept run of one row: columns `first..end` of `columns`.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub first: usize,
    pub end: usize,
    /// How many columns may be read and written.
    pub columns: usize,
}

impl Run {
    #[inline(always)]
    fn start(&self) -> usize {
        self.first / LANES * LANES
    }

    /// Lanes of the chunk at `c` that exist.
    #[inline(always)]
    fn present(&self, c: usize) -> usize {
        (self.columns - c).min(LANES)
    }

    /// `v` in the lanes of the chunk at `c` that are in the run, `other` elsewhere.
    #[inline(always)]
    fn keep<S: Simd>(&self, s: S, c: usize, v: S::V, other: f32) -> S::V {
        if c >= self.first && c + LANES <= self.end {
            return v;
        }
        let v = s.select(s.first(self.end - c), v, s.splat(other));
        s.select(s.first(self.first.saturating_sub(c)), s.splat(other), v)
    }
}

/// Numbers a stride apart.
#[derive(Clone, Copy)]
pub(crate) struct Cells<P> {
    pub p: P,
    pub stride: usize,
}

/// Where a row of scores stands among the masks.
#[derive(Clone, Copy)]
pub(crate) struct RowMask<'a> {
    pub plan: &'a Plan<'a>,
    pub row: Row,
    /// The key of column 0.
    pub key: usize,
}

/// The greatest of `scale * score` over the run, or the least finite number if that is more.
/// NaN is passed over: it shows in the sum.
///
/// # Safety
/// The row's cells are valid for reading.
#[inline(always)]
pub(crate) unsafe fn max_pass<S: Simd>(s: S, row: Cells<*const f32>, run: Run, scale: f32) -> f32 {
    let scale = s.splat(scale);
    let mut max = s.splat(f32::MIN);
    for c in (run.start()..run.end).step_by(LANES) {
        // SAFETY: `present` lanes exist.
        let v = unsafe {
            load_strided(s, row.p.wrapping_add(c * row.stride), row.stride, run.present(c))
        };
        max = s.max(run.keep(s, c, s.mul(v, scale), f32::NEG_INFINITY), max);
    }
    s.largest(max)
}

/// Writes `scale * score + bias`, or -infinity where masked, and returns the greatest as
/// [`max_pass`] does.
///
/// # Safety
/// The cells of `row` are valid for reading, of `out` for writing (they may be the same), and the
/// plan's matrices have the run's keys.
#[inline(always)]
pub(crate) unsafe fn mask_pass<S: Simd>(
    s: S,
    row: Cells<*const f32>,
    out: Cells<*mut f32>,
    run: Run,
    scale: f32,
    mask: RowMask<'_>,
) -> f32 {
    let scale = s.splat(scale);
    let mut max = s.splat(f32::MIN);
    for c in (run.start()..run.end).step_by(LANES) {
        let n = run.present(c);
        // SAFETY: `present` lanes exist, in the row and in the matrices.
        unsafe {
            let v = load_strided(s, row.p.wrapping_add(c * row.stride), row.stride, n);
            let v = mask.plan.apply(s, mask.row, mask.key + c, n, s.mul(v, scale));
            let v = run.keep(s, c, v, f32::NEG_INFINITY);
            store_strided(s, out.p.wrapping_add(c * out.stride), out.stride, n, v);
            max = s.max(v, max);
        }
    }
    s.largest(max)
}

/// Writes `exp(scale * score - max)`, zero outside the run in the chunks it touches, and returns
/// the sum in the order of the crate's first page.
///
/// # Safety
/// The cells of `row` are valid for reading, of `out` for writing (they may be the same).
#[inline(always)]
pub(crate) unsafe fn exp_pass<S: Simd>(
    s: S,
    row: Cells<*const f32>,
    out: Cells<*mut f32>,
    run: Run,
    scale: f32,
    max: f32,
) -> f32 {
    let (scale, max) = (s.splat(scale), s.splat(max));
    let mut sum = s.splat(0.0);
    let mut c = run.start();
    while c < run.end {
        let block_end = run.end.min((c / SUM_BLOCK + 1) * SUM_BLOCK);
        let mut block = s.splat(0.0);
        while c < block_end {
            let n = run.present(c);
            // SAFETY: `present` lanes exist.
            unsafe {
                let v = load_strided(s, row.p.wrapping_add(c * row.stride), row.stride, n);
                let e = exp_nonpositive(s, s.sub(s.mul(v, scale), max));
                let e = run.keep(s, c, e, 0.0);
                store_strided(s, out.p.wrapping_add(c * out.stride), out.stride, n, e);
                block = s.add(block, e);
            }
            c += LANES;
        }
        sum = s.add(sum, block);
    }
    s.sum(sum)
}

/// Multiplies the run's chunks by `factor`.
///
/// # Safety
/// The cells are valid for reading and writing.
#[inline(always)]
pub(crate) unsafe fn scale_pass<S: Simd>(s: S, row: Cells<*mut f32>, run: Run, factor: f32) {
    let factor = s.splat(factor);
    for c in (run.start()..run.end).step_by(LANES) {
        let n = run.present(c);
        let p = row.p.wrapping_add(c * row.stride);
        // SAFETY: `present` lanes exist.
        unsafe {
            let v = load_strided(s, p.cast_const(), row.stride, n);
            store_strided(s, p, row.stride, n, s.mul(v, factor));
        }
    }
}

/// Writes `value` to the columns `first..end`.
///
/// # Safety
/// Those cells are valid for writing.
#[inline(always)]
pub(crate) unsafe fn fill<S: Simd>(
    s: S,
    row: Cells<*mut f32>,
    first: usize,
    end: usize,
    value: f32,
) {
    let v = s.splat(value);
    for c in (first..end).step_by(LANES) {
        let p = row.p.wrapping_add(c * row.stride);
        // SAFETY: the cells below `end` are the caller's.
        unsafe { store_strided(s, p, row.stride, (end - c).min(LANES), v) }
    }
}

/// `max + ln(sum)`, -infinity for a row without weight.
#[inline(always)]
pub(crate) fn log_sum_exp(max: f32, sum: f32) -> f32 {
    if sum == 0.0 { f32::NEG_INFINITY } else { max + libm::logf(sum) }
}
