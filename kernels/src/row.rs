//! Passes over one row of scores, shared by softmax and attention.
//!
//! Column `c` of a row belongs to lane `c mod 16`, counted from the row's first column, so a
//! chunk always starts at a multiple of 16 and the ends of a row's kept run are masked chunks.

use crate::exp::exp_nonpositive;
use crate::gemm::{load_strided, store_strided};
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
    pub(crate) fn start(&self) -> usize {
        self.first / LANES * LANES
    }

    /// Lanes of the chunk at `c` that exist.
    #[inline(always)]
    pub(crate) fn present(&self, c: usize) -> usize {
        (self.columns - c).min(LANES)
    }

    /// `v` in the lanes of the chunk at `c` that are in the run, `other` elsewhere.
    #[inline(always)]
    pub(crate) fn keep<S: Simd>(&self, s: S, c: usize, v: S::V, other: f32) -> S::V {
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

impl Cells<*const f32> {
    #[inline(always)]
    pub(crate) fn at(&self, i: usize) -> *const f32 {
        self.p.wrapping_add(i * self.stride)
    }
}

impl Cells<*mut f32> {
    #[inline(always)]
    pub(crate) fn at(&self, i: usize) -> *mut f32 {
        self.p.wrapping_add(i * self.stride)
    }

    /// The same cells to read.
    #[inline(always)]
    pub(crate) fn as_const(&self) -> Cells<*const f32> {
        Cells { p: self.p.cast_const(), stride: self.stride }
    }
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
        let v = unsafe { load_strided(s, row.at(c), row.stride, run.present(c)) };
        max = s.max(run.keep(s, c, s.mul(v, scale), f32::NEG_INFINITY), max);
    }
    s.largest(max)
}

/// The 16 sums, in the order of the crate's first page, of `exp(scale * score - max)` over the run. `store` takes each chunk of them, zero outside the run, with its first column.
///
/// # Safety
/// The cells of `row` are valid for reading.
#[inline(always)]
unsafe fn exp_sum<S: Simd>(
    s: S,
    row: Cells<*const f32>,
    run: Run,
    scale: f32,
    max: f32,
    store: impl Fn(usize, S::V),
) -> S::V {
    let (scale, max) = (s.splat(scale), s.splat(max));
    let mut sum = s.splat(0.0);
    let mut c = run.start();
    while c < run.end {
        let block_end = run.end.min((c / SUM_BLOCK + 1) * SUM_BLOCK);
        let mut block = s.splat(0.0);
        while c < block_end {
            // SAFETY: `present` lanes exist.
            let v = unsafe { load_strided(s, row.at(c), row.stride, run.present(c)) };
            let e = exp_nonpositive(s, s.sub(s.mul(v, scale), max));
            let e = run.keep(s, c, e, 0.0);
            store(c, e);
            block = s.add(block, e);
            c += LANES;
        }
        sum = s.add(sum, block);
    }
    sum
}

/// A sum, and what is to be added to it for what its last roundings took off.
#[derive(Clone, Copy)]
pub(crate) struct Total {
    pub sum: f32,
    off: f32,
}

impl Total {
    #[inline(always)]
    pub(crate) fn exact(sum: f32) -> Total {
        Total { sum, off: 0.0 }
    }

    /// Of 16 lanes, by the tree of [`Simd::sum`], whose last two levels round most.
    #[inline(always)]
    pub(crate) fn of<S: Simd>(s: S, sums: S::V) -> Total {
        let mut lanes = [0f32; LANES];
        // SAFETY: the array has 16 numbers.
        unsafe { s.store(lanes.as_mut_ptr(), sums) };
        let [l0, l1, l2, l3, l4, l5, l6, l7, l8, l9, l10, l11, l12, l13, l14, l15] = lanes;
        let (a, c) = ((l0 + l8) + (l4 + l12), (l2 + l10) + (l6 + l14));
        let (b, d) = ((l1 + l9) + (l5 + l13), (l3 + l11) + (l7 + l15));
        let (even, odd) = (Total::exact(a).and(c), Total::exact(b).and(d));
        let total = even.and(odd.sum);
        Total { off: total.off + odd.off, ..total }
    }

    /// With another number (D. E. Knuth, *The Art of Computer Programming*, volume 2, 4.2.2: what
    /// an addition rounds off is itself a number).
    #[inline(always)]
    pub(crate) fn and(self, other: f32) -> Total {
        let sum = self.sum + other;
        let added = sum - self.sum;
        let off = (self.sum - (sum - added)) + (other - added);
        Total { sum, off: self.off + off }
    }
}

/// Writes `exp(scale * score - max)`, zero outside the run in the chunks it touches, and returns
/// their 16 sums.
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
) -> S::V {
    // SAFETY: the caller's; `present` lanes exist.
    unsafe {
        exp_sum(
            s,
            row,
            run,
            scale,
            max,
            #[inline(always)]
            |c, e| {
                store_strided(s, out.at(c), out.stride, run.present(c), e);
            },
        )
    }
}

/// The sums that [`exp_pass`] returns, without the exponentials.
///
/// # Safety
/// The cells are valid for reading.
#[inline(always)]
pub(crate) unsafe fn sum_pass<S: Simd>(
    s: S,
    row: Cells<*const f32>,
    run: Run,
    scale: f32,
    max: f32,
) -> S::V {
    // SAFETY: the caller's.
    unsafe {
        exp_sum(
            s,
            row,
            run,
            scale,
            max,
            #[inline(always)]
            |_, _| (),
        )
    }
}

/// Writes `scale * score - max - log_sum` over the run, -infinity outside it in the chunks it
/// touches and where the score is -infinity.
///
/// # Safety
/// The cells of `row` are valid for reading, of `out` for writing (they may be the same).
#[inline(always)]
pub(crate) unsafe fn log_pass<S: Simd>(
    s: S,
    row: Cells<*const f32>,
    out: Cells<*mut f32>,
    run: Run,
    scale: f32,
    [max, log_sum]: [f32; 2],
) {
    let (scale, max, log_sum) = (s.splat(scale), s.splat(max), s.splat(log_sum));
    for c in (run.start()..run.end).step_by(LANES) {
        let n = run.present(c);
        // SAFETY: `present` lanes exist.
        unsafe {
            let v = load_strided(s, row.at(c), row.stride, n);
            let v = s.sub(s.sub(s.mul(v, scale), max), log_sum);
            let v = run.keep(s, c, v, f32::NEG_INFINITY);
            store_strided(s, out.at(c), out.stride, n, v);
        }
    }
}

/// Exponentials to probabilities: divided by their sum, which is not NaN. Its inverse is taken with
/// what both are off, so that the quotient is rounded once.
///
/// # Safety
/// The cells are valid for reading and writing.
#[inline(always)]
pub(crate) unsafe fn divide_pass<S: Simd>(s: S, row: Cells<*mut f32>, run: Run, total: Total) {
    if total.sum == 0.0 {
        return;
    }
    let inverse = s.splat(1.0 / total.sum);
    let off = s.fma(inverse, s.splat(-total.sum), s.splat(1.0));
    let off = s.mul(s.fma(inverse, s.splat(-total.off), off), inverse);
    for c in (run.start()..run.end).step_by(LANES) {
        let n = run.present(c);
        // SAFETY: `present` lanes exist.
        unsafe {
            let e = load_strided(s, row.at(c).cast_const(), row.stride, n);
            store_strided(s, row.at(c), row.stride, n, s.fma(e, inverse, s.mul(e, off)));
        }
    }
}

/// NaN wherever `is_kept`, `masked` elsewhere in the run: a row whose sum is NaN.
///
/// # Safety
/// The cells are valid for writing.
#[inline(always)]
pub(crate) unsafe fn nan_pass(
    row: Cells<*mut f32>,
    run: Run,
    masked: f32,
    is_kept: impl Fn(usize) -> bool,
) {
    for c in run.first..run.end {
        // SAFETY: the caller's.
        unsafe { row.at(c).write(if is_kept(c) { f32::NAN } else { masked }) }
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
        // SAFETY: the cells below `end` are the caller's.
        unsafe { store_strided(s, row.at(c), row.stride, (end - c).min(LANES), v) }
    }
}

/// `max + ln(sum)`, -infinity for a row without weight.
#[inline(always)]
pub(crate) fn log_sum_exp(max: f32, sum: f32) -> f32 {
    if sum == 0.0 { f32::NEG_INFINITY } else { max + libm::logf(sum) }
}

/// `exp(x)` of one `x <= 0`, with the bits of a lane of [`exp_nonpositive`].
#[inline(always)]
pub(crate) fn exp_one<S: Simd>(s: S, x: f32) -> f32 {
    let mut lanes = [0f32; LANES];
    // SAFETY: the array has 16 numbers.
    unsafe { s.store(lanes.as_mut_ptr(), exp_nonpositive(s, s.splat(x))) };
    lanes[0]
}

/// The greater, as [`Simd::max`]: a NaN in `a` gives `b`.
#[inline(always)]
pub(crate) fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}
