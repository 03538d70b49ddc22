//! Tiles of few rows over columns of B as they lie, of any type: a few steps of 16 columns are turned in
//! registers, become floats and are multiplied at once. So few rows against a large weight that lies
//! out x in stream it once, and no copy of it, widened or not, goes through memory.

use core::mem::MaybeUninit;

use half::{bf16, f16};

use super::min;
use super::pack::load_strided;
use super::quantised::{Format, Lines, Quantised, UNIT, Words};
use super::tile::{A, B, Sums, Tile, run_tile};
use crate::number::{Dtype, Number};
use crate::simd::{LANES, Op, Simd, each};

/// Rows of the tallest tile over columns that are not of f32.
pub(crate) const fn most_rows<S: Simd>() -> usize {
    min(S::MR_BY_COLUMNS, 4)
}

/// Computes a tile, whatever the type of its B: f32 unless `MIXED`.
///
/// # Safety
/// [`run_tile`]'s; over columns that are not of f32 the tile has at most [`most_rows`].
#[inline(always)]
pub(crate) unsafe fn run_any_tile<S: Simd, const MIXED: bool>(s: S, tile: &Tile) {
    if const { MIXED && S::LANES == LANES } {
        match tile.b {
            B::Columns(b, stride) if b.dtype() == Dtype::F16 => {
                return s.run(ByRows(tile, Lying { p: b.of::<f16>(), stride }));
            }
            B::Columns(b, stride) if b.dtype() == Dtype::Bf16 => {
                return s.run(ByRows(tile, Lying { p: b.of::<bf16>(), stride }));
            }
            B::Units(Quantised::Q8_0(weight), unit) => {
                return s.run(ByRows(tile, Units { weight, unit }));
            }
            B::Units(Quantised::Q4_0(weight), unit) => {
                return s.run(ByRows(tile, Units { weight, unit }));
            }
            B::Units(Quantised::Q4Groups(weight), unit) => {
                return s.run(ByRows(tile, Units { weight, unit }));
            }
            _ => {}
        }
    }
    // SAFETY: the caller's.
    unsafe { run_tile(s, tile) }
}

/// Columns of B, from the tile's first on.
pub(super) trait Columns: Copy {
    /// Vectors of columns that a tile of one row has: sums of one are a chain in which each step waits
    /// for the last, which may take longer than what there is to compute.
    const OF_ONE_ROW: usize;

    /// Adds the products of the tile's depth to its sums; `a` is its packed A.
    ///
    /// # Safety
    /// [`run_tile`]'s; `acc` is written.
    unsafe fn walk<S: Simd, const ROWS: usize, const NV: usize>(
        self,
        s: S,
        t: &Tile,
        a: *const f32,
        acc: &mut Sums<S::V, ROWS, NV>,
    );
}

/// The choice of a [`Body`], in a function of its own, compiled once.
struct ByRows<'a, C>(&'a Tile, C);

impl<C: Columns> Op for ByRows<'_, C> {
    type Out = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let ByRows(tile, columns) = self;
        match tile.rows {
            1 if C::OF_ONE_ROW == 2 && tile.columns > LANES => run::<S, C, 1, 2>(s, tile, columns),
            1 => run::<S, C, 1, 1>(s, tile, columns),
            2 => run::<S, C, 2, 1>(s, tile, columns),
            3 => run::<S, C, 3, 1>(s, tile, columns),
            4 => run::<S, C, 4, 1>(s, tile, columns),
            _ => {}
        }
    }
}

/// Runs the body, if there is such a tile: for others no code is made.
#[inline(always)]
fn run<S: Simd, C: Columns, const ROWS: usize, const NV: usize>(s: S, tile: &Tile, columns: C) {
    if const { S::LANES == LANES && ROWS <= most_rows::<S>() && NV <= C::OF_ONE_ROW } {
        s.run(Body::<C, ROWS, NV>(tile, columns));
    }
}

struct Body<'a, C, const ROWS: usize, const NV: usize>(&'a Tile, C);

impl<C: Columns, const ROWS: usize, const NV: usize> Op for Body<'_, C, ROWS, NV> {
    type Out = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let Body(t, columns) = self;
        let A::Packed(a, _) = t.a else { return };
        // SAFETY: `run_any_tile`'s contract bounds every access.
        unsafe {
            let mut acc = t.sums::<S, ROWS, NV>(s);
            columns.walk(s, t, a, &mut acc);
            t.store(s, &acc);
        }
    }
}

/// `acc[i][v] += a[i] * column`, A packed.
///
/// # Safety
/// `a` is valid for reading a number for each row; `acc` is written.
#[inline(always)]
unsafe fn add_column<S: Simd, const ROWS: usize, const NV: usize>(
    s: S,
    a: *const f32,
    columns: [S::V; NV],
    acc: &mut Sums<S::V, ROWS, NV>,
) {
    // SAFETY: the caller's.
    unsafe {
        each!(i < ROWS <= 16, {
            let x = s.splat(a.wrapping_add(i).read());
            each!(v < NV <= 2, {
                let sum = s.fma(x, columns[v], acc[i][v].assume_init());
                acc[i][v].write(sum);
            });
        });
    }
}

/// 16 columns of numbers: element `p` of column `j` at `j * stride + p`.
#[derive(Clone, Copy)]
pub(super) struct Lying<T> {
    pub p: *const T,
    pub stride: usize,
}

/// Cache lines of eight columns.
type Eight = [MaybeUninit<[f32; LANES]>; LANES / 2];

/// How many cache lines the second eight columns are read ahead of the first, and how many there then
/// are of each.
const LEAD: usize = RING - 1;
const RING: usize = 8;

impl<T: Number> Columns for Lying<T> {
    const OF_ONE_ROW: usize = 1;

    /// Cache lines are touched once, for columns a power of two apart share few places in the first
    /// level of cache: of 16 such lines and of those that the processor fetches ahead it keeps eight.
    /// So the second eight columns are read some cache lines ahead, which share other places.
    #[inline(always)]
    unsafe fn walk<S: Simd, const ROWS: usize, const NV: usize>(
        self,
        s: S,
        t: &Tile,
        mut a: *const f32,
        acc: &mut Sums<S::V, ROWS, NV>,
    ) {
        let steps = LANES * T::IN_WORD;
        let lines = t.depth / steps;
        let mut ring = [[const { MaybeUninit::uninit() }; LANES / 2]; RING];
        // SAFETY: the caller's.
        unsafe {
            let second = Lying { p: self.p.wrapping_add(LANES / 2 * self.stride), ..self };
            for line in 0..min(lines, LEAD) {
                second.stage(s, line * steps, t.ahead, &mut ring[line % RING]);
            }
            for line in 0..lines {
                // Before the products: behind them the compiler would let them wait in memory.
                if line + LEAD < lines {
                    let place = &mut ring[(line + LEAD) % RING];
                    second.stage(s, (line + LEAD) * steps, t.ahead, place);
                }
                let mut first: Eight = [const { MaybeUninit::uninit() }; LANES / 2];
                self.stage(s, line * steps, t.ahead, &mut first);
                each!(g < 4, {
                    let words = s.turn4(side_by_side(&first, &ring[line % RING], 4 * g));
                    each!(q < 4, {
                        let numbers = T::of_words(s, words[q]);
                        each!(h < 2, {
                            if h < T::IN_WORD {
                                let a = a.wrapping_add(((4 * g + q) * T::IN_WORD + h) * ROWS);
                                add_column(s, a, [numbers[h]; NV], acc);
                            }
                        });
                    });
                });
                a = a.wrapping_add(steps * ROWS);
            }
            for p in lines * steps..t.depth {
                let column = load_strided(s, self.p.wrapping_add(p), self.stride, LANES);
                add_column(s, a, [column; NV], acc);
                a = a.wrapping_add(ROWS);
            }
        }
    }
}

impl<T: Number> Lying<T> {
    /// Copies a cache line from step `p` on of each of eight columns.
    ///
    /// # Safety
    /// The columns are valid for reading 64 bytes there.
    #[inline(always)]
    unsafe fn stage<S: Simd>(self, s: S, p: usize, ahead: usize, out: &mut Eight) {
        each!(i < 8, {
            let line = self.p.wrapping_add(i * self.stride + p);
            s.prefetch(line.wrapping_add(ahead).cast());
            // SAFETY: the caller's; a place has 16 floats. A load may have any alignment.
            unsafe { s.store(out[i].as_mut_ptr().cast(), s.load(line.cast())) }
        });
    }
}

/// The lines of both, from word `at` on.
#[inline(always)]
fn side_by_side(first: &Eight, second: &Eight, at: usize) -> [*const f32; LANES] {
    let mut rows = [core::ptr::null(); LANES];
    each!(i < 8, {
        rows[i] = first[i].as_ptr().cast::<f32>().wrapping_add(at);
        rows[LANES / 2 + i] = second[i].as_ptr().cast::<f32>().wrapping_add(at);
    });
    rows
}

/// Columns of a quantised weight, from one of its units on.
#[derive(Clone, Copy)]
struct Units<F> {
    weight: F,
    unit: usize,
}

impl<F: Format> Columns for Units<F> {
    const OF_ONE_ROW: usize = 2;

    #[inline(always)]
    unsafe fn walk<S: Simd, const ROWS: usize, const NV: usize>(
        self,
        s: S,
        t: &Tile,
        mut a: *const f32,
        acc: &mut Sums<S::V, ROWS, NV>,
    ) {
        for unit in self.unit..self.unit + t.depth / UNIT {
            let mut words = [const { Words::new() }; NV];
            let mut scales = [[s.splat(0.0); 2]; NV];
            // SAFETY: the caller's.
            unsafe {
                each!(v < NV <= 2, {
                    let weight = self.weight.skip(v * LANES);
                    scales[v] = Lines(LANES).turn(s, weight, unit, t.ahead, &mut words[v]);
                });
                for run in 0..UNIT / Words::run::<F>() {
                    each!(i < 8, {
                        if const { i < Words::run::<F>() } {
                            let mut columns = [s.splat(0.0); NV];
                            each!(v < NV <= 2, {
                                columns[v] = words[v].weight::<S, F, i>(s, run, scales[v]);
                            });
                            add_column(s, a, columns, acc);
                            a = a.wrapping_add(ROWS);
                        }
                    });
                }
            }
        }
    }
}
