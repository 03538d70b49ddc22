//! The micro-kernel: a tile of C, at most `mr x nr`, held in registers along the whole depth.
//!
//! Each step of the depth loads `nr` numbers of B, broadcasts one number of A for each row and
//! does `rows * nr / 16` fused multiply-adds. The edges are tiles of fewer rows or vectors of
//! their own, the last vector masked, so no edge computes a row that nobody asked for.
//!
//! What follows is for vectors of 16; [`super::small`] has the tile of single numbers.

use core::mem::MaybeUninit;

use super::columns::{Columns, Lying};
use super::quantised::Quantised;
use super::small::Small;
use crate::number::Numbers;
use crate::simd::{LANES, Op, Simd, each};

/// The rows of A that a tile takes.
#[derive(Clone, Copy)]
pub(crate) enum A {
    /// Element `p` of row `i` at `p * stride + i`; the stride is the tile's number of rows, unless
    /// vectors are single numbers.
    Packed(*const f32, usize),
    /// Element `p` of row `i` at `i * stride + p`.
    Rows(*const f32, usize),
}

impl A {
    /// The same rows from step `p` of the depth on.
    #[cfg_attr(vectors, inline(always))]
    pub(super) fn skipping(self, p: usize) -> A {
        match self {
            A::Packed(a, rows) => A::Packed(a.wrapping_add(p * rows), rows),
            A::Rows(a, stride) => A::Rows(a.wrapping_add(p), stride),
        }
    }
}

/// The columns of B that a tile takes.
#[derive(Clone, Copy)]
pub(crate) enum B {
    /// Element `p` of column `j` at `p * stride + j`.
    Rows(*const f32, usize),
    /// The same, and a row may be read to the next multiple of 16 columns.
    Padded(*const f32, usize),
    /// Element `p` of column `j` at `j * stride + p`. The tile is [`LANES`] columns wide, at most
    /// [`Simd::MR_BY_COLUMNS`] rows high, and its A is packed, unless vectors are single numbers.
    Columns(Numbers, usize),
    /// Columns of a quantised weight from this unit on, as for [`B::Columns`], and for one row as many
    /// again.
    Units(Quantised, usize),
}

/// `C = A B + beta C` for one tile. Columns of C are contiguous.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// 1 to `S::MR`, or to `S::MR_BY_COLUMNS` where that is more and the tile one vector wide.
    pub rows: usize,
    /// 1 to `S::NV * S::LANES`, but for [`B::Columns`] and [`B::Units`].
    pub columns: usize,
    pub depth: usize,
    pub a: A,
    pub b: B,
    /// How many elements ahead of its reading of B the tile asks for cache lines.
    pub ahead: usize,
    /// Zero: C is not read.
    pub beta: f32,
    pub c: *mut f32,
    pub c_row: usize,
}

/// How [`Body`] reads B.
const PADDED: u8 = 0;
const MASKED: u8 = 1;
const COLUMNS: u8 = 2;
/// As `PADDED`, asking for cache lines ahead.
const FAR: u8 = 3;

/// Computes a tile with code made for its number of rows and vectors. Its B is of f32.
///
/// # Safety
/// `rows` and `columns` are as [`Tile`] says; the elements of A, B and C are valid for reading,
/// those of C for writing, and C overlaps none of the others.
#[inline(always)]
pub(crate) unsafe fn run_tile<S: Simd>(s: S, tile: &Tile) {
    // Safe to write, for an `Op` is: the accesses behind it are those of this contract.
    if const { S::LANES == 1 } { s.run(Small(tile)) } else { s.run(Choice(tile)) }
}

/// The choice of a [`Body`], in a function of its own, compiled once.
struct Choice<'a>(&'a Tile);

impl Op for Choice<'_> {
    type Out = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        macro_rules! by_rows {
            ($($rows:literal)*) => {
                match self.0.rows {
                    $( $rows => by_columns::<S, $rows>(s, self.0), )*
                    _ => {}
                }
            };
        }
        by_rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
    }
}

#[inline(always)]
fn by_columns<S: Simd, const ROWS: usize>(s: S, tile: &Tile) {
    let two = S::NV > 1 && tile.columns > LANES;
    let packed = matches!(tile.a, A::Packed(..));
    let masked = !tile.columns.is_multiple_of(LANES);
    match (tile.b, two, packed) {
        (B::Columns(..), _, _) => run::<S, ROWS, 1, true, COLUMNS>(s, tile),
        (B::Rows(..), false, false) if masked => run::<S, ROWS, 1, false, MASKED>(s, tile),
        (B::Rows(..), false, true) if masked => run::<S, ROWS, 1, true, MASKED>(s, tile),
        (B::Rows(..), true, false) if masked => run::<S, ROWS, 2, false, MASKED>(s, tile),
        (B::Rows(..), true, true) if masked => run::<S, ROWS, 2, true, MASKED>(s, tile),
        (B::Rows(..), false, true) if tile.ahead > 0 => run::<S, ROWS, 1, true, FAR>(s, tile),
        (B::Rows(..), true, true) if tile.ahead > 0 => run::<S, ROWS, 2, true, FAR>(s, tile),
        (_, false, false) => run::<S, ROWS, 1, false, PADDED>(s, tile),
        (_, false, true) => run::<S, ROWS, 1, true, PADDED>(s, tile),
        (_, true, false) => run::<S, ROWS, 2, false, PADDED>(s, tile),
        (_, true, true) => run::<S, ROWS, 2, true, PADDED>(s, tile),
    }
}

/// Runs the body, if the instruction set has such a tile: for others no code is made.
#[inline(always)]
fn run<S: Simd, const ROWS: usize, const NV: usize, const PACKED: bool, const B_KIND: u8>(
    s: S,
    tile: &Tile,
) {
    if const { ROWS <= max_rows::<S>(NV, B_KIND) && NV <= S::NV } {
        s.run(Body::<ROWS, NV, PACKED, B_KIND>(tile));
    }
}

/// Rows of the highest tile of so many vectors.
const fn max_rows<S: Simd>(nv: usize, b_kind: u8) -> usize {
    // One vector wide they may all be as high as by columns, whose last panel is a packed one.
    let higher = nv == 1 && S::MR_BY_COLUMNS > S::MR;
    if b_kind == COLUMNS || higher { S::MR_BY_COLUMNS } else { S::MR }
}

struct Body<'a, const ROWS: usize, const NV: usize, const PACKED: bool, const B_KIND: u8>(&'a Tile);

/// The sums of a tile. Written element by element and never as a whole: so they stay in registers
/// at every optimisation level, where an initialised array lives on the stack at some.
pub(super) type Sums<V, const ROWS: usize, const NV: usize> = [[MaybeUninit<V>; NV]; ROWS];

impl<const ROWS: usize, const NV: usize, const PACKED: bool, const B_KIND: u8> Op
    for Body<'_, ROWS, NV, PACKED, B_KIND>
{
    type Out = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let t = self.0;
        // SAFETY: `run_tile`'s contract bounds every access.
        unsafe {
            let mut acc = t.sums::<S, ROWS, NV>(s);
            match (const { B_KIND == COLUMNS }, t.a, t.b) {
                (true, A::Packed(a, _), B::Columns(b, stride)) => {
                    Lying { p: b.of::<f32>(), stride }.walk(s, t, a, &mut acc);
                }
                _ => walk_rows::<S, ROWS, NV, PACKED, B_KIND>(s, t, &mut acc),
            }
            t.store(s, &acc);
        }
    }
}

// SAFETY of the methods below: the rows and columns are the tile's own.
impl Tile {
    /// The sums to begin with.
    ///
    /// # Safety
    /// [`run_tile`]'s; the tile has as many rows and vectors.
    #[inline(always)]
    pub(super) unsafe fn sums<S: Simd, const ROWS: usize, const NV: usize>(
        &self,
        s: S,
    ) -> Sums<S::V, ROWS, NV> {
        let mut acc: Sums<S::V, ROWS, NV> = [[const { MaybeUninit::uninit() }; NV]; ROWS];
        if self.beta == 0.0 {
            each!(i < ROWS <= 16, {
                each!(v < NV <= 2, {
                    acc[i][v].write(s.splat(0.0));
                });
            });
        } else {
            let beta = s.splat(self.beta);
            each!(i < ROWS <= 16, {
                each!(v < NV <= 2, {
                    let (c, n) = self.part(i, v);
                    // SAFETY: the impl block's.
                    acc[i][v].write(s.mul(beta, unsafe { s.load_first(c, n) }));
                });
            });
        }
        acc
    }

    /// Writes the sums.
    ///
    /// # Safety
    /// As above; the sums are written.
    #[inline(always)]
    pub(super) unsafe fn store<S: Simd, const ROWS: usize, const NV: usize>(
        &self,
        s: S,
        acc: &Sums<S::V, ROWS, NV>,
    ) {
        // SAFETY: the impl block's.
        unsafe {
            each!(i < ROWS <= 16, {
                each!(v < NV <= 2, {
                    let ((c, n), sum) = (self.part(i, v), acc[i][v].assume_init());
                    if v == NV - 1 && n < LANES {
                        s.store_first(c, n, sum);
                    } else {
                        s.store(c, sum);
                    }
                });
            });
        }
    }

    /// Where vector `v` of row `i` of C is, and how many of its columns the tile has.
    #[inline(always)]
    fn part(&self, i: usize, v: usize) -> (*mut f32, usize) {
        (self.c.wrapping_add(i * self.c_row + v * LANES), self.columns - v * LANES)
    }
}

/// The depth, where B lies by rows.
///
/// # Safety
/// [`run_tile`]'s; `acc` is written.
#[inline(always)]
unsafe fn walk_rows<
    S: Simd,
    const ROWS: usize,
    const NV: usize,
    const PACKED: bool,
    const B_KIND: u8,
>(
    s: S,
    t: &Tile,
    acc: &mut Sums<S::V, ROWS, NV>,
) {
    let (B::Rows(mut b, b_row) | B::Padded(mut b, b_row)) = t.b else { return };
    let last_columns = t.columns - (NV - 1) * LANES;
    let (mut a, a_row, a_step) = match t.a {
        A::Packed(a, _) => (a, 1, ROWS),
        A::Rows(a, stride) => (a, stride, 1),
    };
    let (a_row, a_step) = if PACKED { (1, ROWS) } else { (a_row, a_step) };
    let mut p = 0;
    // SAFETY: the caller's.
    unsafe {
        if const { PACKED && B_KIND == PADDED && S::NV == 2 } {
            // Four steps a turn: addresses and the end are seen to once for all. (Not for rows as
            // they lie: their addresses leave no registers, and sums would move to memory. Nor for
            // narrower tiles, where a vector is many instructions and the compiler takes minutes.)
            while p + 4 <= t.depth {
                each!(q < 4, {
                    let (a, b) = (a.wrapping_add(q * a_step), b.wrapping_add(q * b_row));
                    let step = Step { a, a_row, b, ahead: t.ahead, last_columns };
                    step.run::<S, ROWS, NV, PACKED, B_KIND>(s, acc);
                });
                a = a.wrapping_add(4 * a_step);
                b = b.wrapping_add(4 * b_row);
                p += 4;
            }
        }
        while p < t.depth {
            let step = Step { a, a_row, b, ahead: t.ahead, last_columns };
            step.run::<S, ROWS, NV, PACKED, B_KIND>(s, acc);
            a = a.wrapping_add(a_step);
            b = b.wrapping_add(b_row);
            p += 1;
        }
    }
}

/// One step of the depth.
struct Step {
    a: *const f32,
    a_row: usize,
    b: *const f32,
    ahead: usize,
    last_columns: usize,
}

impl Step {
    /// # Safety
    /// [`run_tile`]'s; `acc` is written.
    #[inline(always)]
    unsafe fn run<
        S: Simd,
        const ROWS: usize,
        const NV: usize,
        const PACKED: bool,
        const B_KIND: u8,
    >(
        &self,
        s: S,
        acc: &mut Sums<S::V, ROWS, NV>,
    ) {
        let mut bv = [const { MaybeUninit::<S::V>::uninit() }; NV];
        // SAFETY: the caller's.
        unsafe {
            each!(v < NV <= 2, {
                let p = self.b.wrapping_add(v * LANES);
                if B_KIND == FAR {
                    s.prefetch(p.wrapping_add(self.ahead));
                }
                bv[v].write(if B_KIND == MASKED && v == NV - 1 {
                    s.load_first(p, self.last_columns)
                } else {
                    s.load(p)
                });
            });
            each!(i < ROWS <= 16, {
                // Every other row broadcasts within the multiplication where there is such an
                // instruction: fewer instructions, and not more loads than two a cycle.
                if const { PACKED && i % 2 == 1 } {
                    each!(v < NV <= 2, {
                        let (b, c) = (bv[v].assume_init(), acc[i][v].assume_init());
                        acc[i][v].write(s.fma_at::<i>(self.a, b, c));
                    });
                } else {
                    let x = s.splat(self.a.wrapping_add(i * self.a_row).read());
                    each!(v < NV <= 2, {
                        let sum = s.fma(x, bv[v].assume_init(), acc[i][v].assume_init());
                        acc[i][v].write(sum);
                    });
                }
            });
        }
    }
}
