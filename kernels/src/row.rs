//! Passes over one row of scores, shared by softmax and attention.
//!
//! Column `c` of a row belongs to lane `c mod 16`, counted from the row's first column, so a
//! chunk always starts at a multiple of 16 and the ends of a row's kept run are masked chunks.

use crate::exp::exp_nonpositive;
use crate::gemm::{load_strided, store_strided};
use crate::simd::{LANES, Simd, fold_lanes};

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
    #[cfg_attr(vectors, inline(always))]
    pub(crate) fn start<S: Simd>(&self) -> usize {
        self.first / S::LANES * S::LANES
    }

    /// Columns of the chunk of 16 at `c` that exist.
    #[cfg_attr(vectors, inline(always))]
    pub(crate) fn present(&self, c: usize) -> usize {
        (self.columns - c).min(LANES)
    }

    /// Lanes of the vector at `c` that exist.
    #[cfg_attr(vectors, inline(always))]
    pub(crate) fn lanes<S: Simd>(&self, c: usize) -> usize {
        width::<S>(self.columns - c)
    }

    /// First and end of the columns, of those from the vector at `first` to `end`, whose vectors are
    /// whole, in the run and, by the strides of what is read and written, one number beside the other:
    /// nothing need be asked of each. `end` twice where there are none.
    #[cfg_attr(vectors, inline(always))]
    pub(crate) fn whole<S: Simd>(
        &self,
        first: usize,
        end: usize,
        strides: [usize; 2],
    ) -> (usize, usize) {
        if const { S::LANES < LANES } || strides != [1; 2] {
            return (end, end);
        }
        let from = self.first.next_multiple_of(LANES).max(first);
        let to = end.min(self.end) / LANES * LANES;
        if from < to { (from, to) } else { (end, end) }
    }

    /// Calls `f` with the first column of each vector from `first` to `end`, and whether that is whole:
    /// see [`Run::whole`]. The whole ones are a loop of their own.
    #[inline(always)]
    fn each_vector<S: Simd>(
        &self,
        [first, end]: [usize; 2],
        strides: [usize; 2],
        mut f: impl FnMut(usize, bool),
    ) {
        let (from, to) = self.whole::<S>(first, end, strides);
        let mut c = first;
        while c < end {
            while c >= from && c < to {
                f(c, true);
                c += S::LANES;
            }
            if c < end {
                f(c, false);
                c += S::LANES;
            }
        }
    }

    /// `v` in the lanes of the vector at `c` that are in the run, `other` elsewhere.
    #[cfg_attr(vectors, inline(always))]
    pub(crate) fn keep<S: Simd>(&self, s: S, c: usize, v: S::V, other: f32) -> S::V {
        if const { S::LANES == 1 } || (c >= self.first && c + S::LANES <= self.end) {
            return v;
        }
        let v = s.select(s.first(self.end - c), v, s.splat(other));
        s.select(s.first(self.first.saturating_sub(c)), s.splat(other), v)
    }
}

/// Lanes of a vector of which `rest` numbers are left, at least one.
#[cfg_attr(vectors, inline(always))]
fn width<S: Simd>(rest: usize) -> usize {
    if const { S::LANES == 1 } { 1 } else { rest.min(S::LANES) }
}

/// The sums of 16 lanes, whatever the vector: of vectors of 16 there is one, of single numbers 16.
#[derive(Clone, Copy)]
pub(crate) struct Sums<S: Simd> {
    s: S,
    vectors: [S::V; LANES],
}

impl<S: Simd> Sums<S> {
    #[cfg_attr(vectors, inline(always))]
    fn zero(s: S) -> Self {
        Sums { s, vectors: [s.splat(0.0); LANES] }
    }

    /// Adds the vector at column `c`.
    #[cfg_attr(vectors, inline(always))]
    fn add(&mut self, c: usize, v: S::V) {
        let sum = &mut self.vectors[c % LANES / S::LANES];
        *sum = self.s.add(*sum, v);
    }

    #[cfg_attr(vectors, inline(always))]
    fn add_all(&mut self, other: &Self) {
        let vectors = self.vectors.iter_mut().zip(&other.vectors);
        for (sum, other) in vectors.take(LANES / S::LANES) {
            *sum = self.s.add(*sum, *other);
        }
    }

    #[cfg_attr(vectors, inline(always))]
    fn lanes(&self) -> [f32; LANES] {
        let mut lanes = [0f32; LANES];
        for (i, v) in self.vectors.iter().enumerate().take(LANES / S::LANES) {
            // SAFETY: the array has room for all vectors.
            unsafe { self.s.store(lanes.as_mut_ptr().add(i * S::LANES), *v) };
        }
        lanes
    }

    /// The sum of the 16, by the tree of [`Simd::sum`].
    #[cfg_attr(vectors, inline(always))]
    pub(crate) fn sum(&self) -> f32 {
        if const { S::LANES == LANES } {
            return self.s.sum(self.vectors[0]);
        }
        fold_lanes(self.lanes(), |low, high| low + high)
    }
}

/// Numbers a stride apart.
#[derive(Clone, Copy)]
pub(crate) struct Cells<P> {
    pub p: P,
    pub stride: usize,
}

impl Cells<*const f32> {
    #[cfg_attr(vectors, inline(always))]
    pub(crate) fn at(&self, i: usize) -> *const f32 {
        self.p.wrapping_add(i * self.stride)
    }
}

impl Cells<*mut f32> {
    #[cfg_attr(vectors, inline(always))]
    pub(crate) fn at(&self, i: usize) -> *mut f32 {
        self.p.wrapping_add(i * self.stride)
    }

    /// The same cells to read.
    #[cfg_attr(vectors, inline(always))]
    pub(crate) fn as_const(&self) -> Cells<*const f32> {
        Cells { p: self.p.cast_const(), stride: self.stride }
    }
}

/// The vector of a row at column `c`; zeros behind the row's end.
///
/// # Safety
/// Its lanes that exist are valid for reading, all of them where it `is_whole`.
#[inline(always)]
unsafe fn load<S: Simd>(s: S, row: Cells<*const f32>, run: Run, c: usize, is_whole: bool) -> S::V {
    // SAFETY: the caller's.
    unsafe {
        if is_whole {
            s.load(row.p.wrapping_add(c))
        } else {
            load_strided(s, row.at(c), row.stride, run.lanes::<S>(c))
        }
    }
}

/// Writes what [`load`] reads.
///
/// # Safety
/// As there, for writing.
#[inline(always)]
unsafe fn store<S: Simd>(s: S, row: Cells<*mut f32>, run: Run, c: usize, is_whole: bool, v: S::V) {
    // SAFETY: the caller's.
    unsafe {
        if is_whole {
            s.store(row.p.wrapping_add(c), v);
        } else {
            store_strided(s, row.at(c), row.stride, run.lanes::<S>(c), v);
        }
    }
}

/// The greatest of `scale * score` over the run, or the least finite number if that is more.
/// NaN is passed over: it shows in the sum.
///
/// # Safety
/// The row's cells are valid for reading.
#[cfg_attr(vectors, inline(always))]
pub(crate) unsafe fn max_pass<S: Simd>(s: S, row: Cells<*const f32>, run: Run, scale: f32) -> f32 {
    let (scale, mut max) = (s.splat(scale), s.splat(f32::MIN));
    let first = run.start::<S>();
    let count = run.end.saturating_sub(first);
    let strip = Strip {
        from: row.at(first),
        from_stride: row.stride,
        to: core::ptr::null_mut(),
        to_stride: 0,
        count,
    };
    // SAFETY: the caller's.
    if let Some(max) = unsafe { s.max_strip(&strip, scale, max) } {
        return s.largest(max);
    }
    run.each_vector::<S>(
        [first, run.end],
        [row.stride; 2],
        #[inline(always)]
        |c, is_whole| {
            // SAFETY: these lanes exist.
            let v = s.mul(unsafe { load(s, row, run, c, is_whole) }, scale);
            let v = if is_whole { v } else { run.keep(s, c, v, f32::NEG_INFINITY) };
            max = s.max(v, max);
        },
    );
    s.largest(max)
}

/// What a function of a whole strip of a row reads and writes, for instruction sets that have one:
/// `count` numbers at `from` and `to`, whose strides count elements.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Strip {
    pub from: *const f32,
    pub from_stride: usize,
    pub to: *mut f32,
    pub to_stride: usize,
    pub count: usize,
}

/// The 16 sums, in the order of the crate's first page, that `add_block` makes of blocks of columns
/// of the run, `(first, end, sums)`.
#[inline(always)]
fn sum_blocks<S: Simd>(s: S, run: Run, add_block: impl Fn(usize, usize, &mut Sums<S>)) -> Sums<S> {
    let mut sum: Option<Sums<S>> = None;
    let mut c = run.start::<S>();
    while c < run.end {
        let block_end = run.end.min((c / SUM_BLOCK + 1) * SUM_BLOCK);
        let mut block = Sums::zero(s);
        add_block(c, block_end, &mut block);
        match &mut sum {
            None => sum = Some(block),
            Some(sum) => sum.add_all(&block),
        }
        c = block_end;
    }
    sum.unwrap_or(Sums::zero(s))
}

/// The exponentials of `scale * score - max` of a row's run.
#[derive(Clone, Copy)]
struct Exponentials<S: Simd> {
    s: S,
    row: Cells<*const f32>,
    run: Run,
    scale: f32,
    max: f32,
}

impl<S: Simd> Exponentials<S> {
    /// Adds those of the columns `first..end`; `store`, which writes with such a stride, takes each
    /// vector of them, zero outside the run, with its first column and whether it is whole.
    ///
    /// # Safety
    /// The cells of the row are valid for reading.
    #[inline(always)]
    unsafe fn add(
        &self,
        [first, end]: [usize; 2],
        stride: usize,
        sums: &mut Sums<S>,
        store: impl Fn(usize, bool, S::V),
    ) {
        let Exponentials { s, row, run, .. } = *self;
        let (scale, max) = (s.splat(self.scale), s.splat(self.max));
        run.each_vector::<S>(
            [first, end],
            [row.stride, stride],
            #[inline(always)]
            |c, is_whole| {
                // SAFETY: these lanes exist.
                let v = unsafe { load(s, row, run, c, is_whole) };
                let e = exp_nonpositive(s, s.sub(s.mul(v, scale), max));
                let e = if is_whole { e } else { run.keep(s, c, e, 0.0) };
                store(c, is_whole, e);
                sums.add(c, e);
            },
        );
    }
}

/// A sum, and what is to be added to it for what its last roundings took off.
#[derive(Clone, Copy)]
pub(crate) struct Total {
    pub sum: f32,
    off: f32,
}

impl Total {
    #[cfg_attr(vectors, inline(always))]
    pub(crate) fn exact(sum: f32) -> Total {
        Total { sum, off: 0.0 }
    }

    /// Of 16 lanes, by the tree of [`Simd::sum`], whose last two levels round most.
    #[cfg_attr(vectors, inline(always))]
    pub(crate) fn of<S: Simd>(sums: &Sums<S>) -> Total {
        let [l0, l1, l2, l3, l4, l5, l6, l7, l8, l9, l10, l11, l12, l13, l14, l15] = sums.lanes();
        let (a, c) = ((l0 + l8) + (l4 + l12), (l2 + l10) + (l6 + l14));
        let (b, d) = ((l1 + l9) + (l5 + l13), (l3 + l11) + (l7 + l15));
        let (even, odd) = (Total::exact(a).and(c), Total::exact(b).and(d));
        let total = even.and(odd.sum);
        Total { off: total.off + odd.off, ..total }
    }

    /// With another number (D. E. Knuth, *The Art of Computer Programming*, volume 2, 4.2.2: what
    /// an addition rounds off is itself a number).
    #[cfg_attr(vectors, inline(always))]
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
#[cfg_attr(vectors, inline(always))]
pub(crate) unsafe fn exp_pass<S: Simd>(
    s: S,
    row: Cells<*const f32>,
    out: Cells<*mut f32>,
    run: Run,
    scale: f32,
    max: f32,
) -> Sums<S> {
    let exponentials = Exponentials { s, row, run, scale, max };
    sum_blocks(
        s,
        run,
        #[inline(always)]
        |first, end, sums| {
            let strip = Strip {
                from: row.at(first),
                from_stride: row.stride,
                to: out.at(first),
                to_stride: out.stride,
                count: end - first,
            };
            // SAFETY: the caller's; these lanes exist.
            unsafe {
                if s.exp_strip(&strip, [scale, max], first % LANES, &mut sums.vectors) {
                    return;
                }
                exponentials.add(
                    [first, end],
                    out.stride,
                    sums,
                    #[inline(always)]
                    |c, is_whole, e| store(s, out, run, c, is_whole, e),
                );
            }
        },
    )
}

/// The sums that [`exp_pass`] returns, without the exponentials.
///
/// # Safety
/// The cells are valid for reading.
#[cfg_attr(vectors, inline(always))]
pub(crate) unsafe fn sum_pass<S: Simd>(
    s: S,
    row: Cells<*const f32>,
    run: Run,
    scale: f32,
    max: f32,
) -> Sums<S> {
    let exponentials = Exponentials { s, row, run, scale, max };
    sum_blocks(
        s,
        run,
        #[inline(always)]
        |first, end, sums| {
            // SAFETY: the caller's.
            unsafe {
                exponentials.add(
                    [first, end],
                    row.stride,
                    sums,
                    #[inline(always)]
                    |_, _, _| (),
                );
            }
        },
    )
}

/// Writes `scale * score - max - log_sum` over the run, -infinity outside it in the chunks it
/// touches and where the score is -infinity.
///
/// # Safety
/// The cells of `row` are valid for reading, of `out` for writing (they may be the same).
#[cfg_attr(vectors, inline(always))]
pub(crate) unsafe fn log_pass<S: Simd>(
    s: S,
    row: Cells<*const f32>,
    out: Cells<*mut f32>,
    run: Run,
    scale: f32,
    [max, log_sum]: [f32; 2],
) {
    let (scale, max, log_sum) = (s.splat(scale), s.splat(max), s.splat(log_sum));
    run.each_vector::<S>(
        [run.start::<S>(), run.end],
        [row.stride, out.stride],
        #[inline(always)]
        |c, is_whole| {
            // SAFETY: these lanes exist.
            unsafe {
                let v = s.mul(load(s, row, run, c, is_whole), scale);
                let v = s.sub(s.sub(v, max), log_sum);
                let v = if is_whole { v } else { run.keep(s, c, v, f32::NEG_INFINITY) };
                store(s, out, run, c, is_whole, v);
            }
        },
    );
}

/// Exponentials to probabilities: divided by their sum, which is not NaN. Its inverse is taken with
/// what both are off, so that the quotient is rounded once.
///
/// # Safety
/// The cells are valid for reading and writing.
#[cfg_attr(vectors, inline(always))]
pub(crate) unsafe fn divide_pass<S: Simd>(s: S, row: Cells<*mut f32>, run: Run, total: Total) {
    if total.sum == 0.0 {
        return;
    }
    let inverse = s.splat(1.0 / total.sum);
    let off = s.fma(inverse, s.splat(-total.sum), s.splat(1.0));
    let off = s.mul(s.fma(inverse, s.splat(-total.off), off), inverse);
    let first = run.start::<S>();
    let (p, count) = (row.at(first), run.end.saturating_sub(first));
    let strip = Strip { from: p, from_stride: row.stride, to: p, to_stride: row.stride, count };
    // SAFETY: the caller's.
    if unsafe { s.divide_strip(&strip, inverse, off) } {
        return;
    }
    run.each_vector::<S>(
        [first, run.end],
        [row.stride; 2],
        #[inline(always)]
        |c, is_whole| {
            // SAFETY: these lanes exist.
            unsafe {
                let e = load(s, row.as_const(), run, c, is_whole);
                let probs = s.fma(e, inverse, s.mul(e, off));
                // The zeros beside the run stay what they are in every rounding mode.
                let probs = if is_whole { probs } else { run.keep(s, c, probs, 0.0) };
                store(s, row, run, c, is_whole, probs);
            }
        },
    );
}

/// NaN wherever `is_kept`, `masked` elsewhere in the run: a row whose sum is NaN.
///
/// # Safety
/// The cells are valid for writing.
#[cfg_attr(vectors, inline(always))]
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
#[cfg_attr(vectors, inline(always))]
pub(crate) unsafe fn fill<S: Simd>(
    s: S,
    row: Cells<*mut f32>,
    first: usize,
    end: usize,
    value: f32,
) {
    if const { S::LANES == 1 } && row.stride == 1 && first < end {
        // SAFETY: the caller's; no one else has these cells.
        unsafe { core::slice::from_raw_parts_mut(row.at(first), end - first) }.fill(value);
        return;
    }
    let (v, mut c) = (s.splat(value), first);
    while c < end {
        // SAFETY: the cells below `end` are the caller's.
        unsafe { store_strided(s, row.at(c), row.stride, width::<S>(end - c), v) }
        c += S::LANES;
    }
}

/// `max + ln(sum)`, -infinity for a row without weight.
#[cfg_attr(vectors, inline(always))]
pub(crate) fn log_sum_exp(max: f32, sum: f32) -> f32 {
    if sum == 0.0 { f32::NEG_INFINITY } else { max + libm::logf(sum) }
}

/// `exp(x)` of one `x <= 0`, with the bits of a lane of [`exp_nonpositive`].
#[cfg_attr(vectors, inline(always))]
pub(crate) fn exp_one<S: Simd>(s: S, x: f32) -> f32 {
    let mut lanes = [0f32; LANES];
    // SAFETY: the array has 16 numbers.
    unsafe { s.store(lanes.as_mut_ptr(), exp_nonpositive(s, s.splat(x))) };
    lanes[0]
}

/// The greater, as [`Simd::max`]: a NaN in `a` gives `b`.
#[cfg_attr(vectors, inline(always))]
pub(crate) fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}
