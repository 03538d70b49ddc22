//! The micro-kernel: a tile of C, at most `mr x nr`, held in registers along the whole depth.
//!
//! Each step of the depth loads `nr` numbers of B, broadcasts one number of A for each row and
//! does `rows * nr / 16` fused multiply-adds. The edges are tiles of fewer rows or vectors of
//! their own, the last vector masked, so no edge computes a row that nobody asked for.

use core::mem::MaybeUninit;

use crate::simd::{LANES, Op, Simd, each};

/// The rows of A that a tile takes.
#[derive(Clone, Copy)]
pub(crate) enum A {
    /// Element `p` of row `i` at `p * rows + i`.
    Packed(*const f32),
    /// Element `p` of row `i` at `i * stride + p`.
    Rows(*const f32, usize),
}

/// `C = A B + beta C + bias` for one tile. Columns of B and C are contiguous.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// 1 to `S::MR`.
    pub rows: usize,
    /// 1 to `S::NV * 16`.
    pub columns: usize,
    pub depth: usize,
    pub a: A,
    pub b: *const f32,
    pub b_row: usize,
    /// Whether a row of B may be read to the next multiple of 16 columns.
    pub b_padded: bool,
    /// Zero: C is not read.
    pub beta: f32,
    pub c: *mut f32,
    pub c_row: usize,
    /// Null for none.
    pub bias: *const f32,
}

/// Computes a tile with code made for its number of rows and vectors.
///
/// # Safety
/// `rows` and `columns` are as [`Tile`] says; the elements of A, B, C and bias are valid for
/// reading, those of C for writing, and C overlaps none of the others.
#[inline(always)]
pub(crate) unsafe fn run_tile<S: Simd>(s: S, tile: &Tile) {
    macro_rules! by_rows {
        ($($rows:literal)*) => {
            match tile.rows {
                // SAFETY: the caller's, and the constants are the tile's own.
                $( $rows => unsafe { by_columns::<S, $rows>(s, tile) }, )*
                _ => {}
            }
        };
    }
    by_rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
}

/// # Safety
/// [`run_tile`]'s, and `ROWS` is `tile.rows`.
#[inline(always)]
unsafe fn by_columns<S: Simd, const ROWS: usize>(s: S, tile: &Tile) {
    let masked = !tile.b_padded && !tile.columns.is_multiple_of(LANES);
    let two = S::NV > 1 && tile.columns > LANES;
    let packed = matches!(tile.a, A::Packed(_));
    match (two, packed, masked) {
        (false, false, false) => s.run(Body::<ROWS, 1, false, false>(tile)),
        (false, false, true) => s.run(Body::<ROWS, 1, false, true>(tile)),
        (false, true, false) => s.run(Body::<ROWS, 1, true, false>(tile)),
        (false, true, true) => s.run(Body::<ROWS, 1, true, true>(tile)),
        (true, false, false) => s.run(Body::<ROWS, 2, false, false>(tile)),
        (true, false, true) => s.run(Body::<ROWS, 2, false, true>(tile)),
        (true, true, false) => s.run(Body::<ROWS, 2, true, false>(tile)),
        (true, true, true) => s.run(Body::<ROWS, 2, true, true>(tile)),
    }
}

struct Body<'a, const ROWS: usize, const NV: usize, const PACKED: bool, const MASKED: bool>(
    &'a Tile,
);

impl<const ROWS: usize, const NV: usize, const PACKED: bool, const MASKED: bool> Op
    for Body<'_, ROWS, NV, PACKED, MASKED>
{
    type Out = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        // Constants: a tile that this instruction set does not have compiles to nothing.
        if ROWS > S::MR || NV > S::NV {
            return;
        }
        let t = self.0;
        let last = NV - 1;
        let last_columns = t.columns - last * LANES;
        let (mut a, a_row, a_step) = match t.a {
            A::Packed(a) => (a, 1, ROWS),
            A::Rows(a, stride) => (a, stride, 1),
        };
        let (a_row, a_step) = if PACKED { (1, ROWS) } else { (a_row, a_step) };
        let mut b = t.b;

        // Written element by element and never as a whole: so it stays in registers at every
        // optimisation level, where an initialised array lives on the stack at some.
        let mut acc = [[const { MaybeUninit::<S::V>::uninit() }; NV]; ROWS];
        // SAFETY: `run_tile`'s contract bounds every access; each element of `acc` is written by
        // the first block before another reads it.
        unsafe {
            if t.beta == 0.0 {
                each!(i < ROWS, {
                    each!(v < NV, {
                        acc[i][v].write(s.splat(0.0));
                    });
                });
            } else {
                let beta = s.splat(t.beta);
                each!(i < ROWS, {
                    each!(v < NV, {
                        let c = t.c.wrapping_add(i * t.c_row + v * LANES);
                        let n = if v == last { last_columns } else { LANES };
                        acc[i][v].write(s.mul(beta, s.load_first(c, n)));
                    });
                });
            }
            for _ in 0..t.depth {
                let mut bv = [const { MaybeUninit::<S::V>::uninit() }; NV];
                each!(v < NV, {
                    let p = b.wrapping_add(v * LANES);
                    bv[v].write(if MASKED && v == last {
                        s.load_first(p, last_columns)
                    } else {
                        s.load(p)
                    });
                });
                each!(i < ROWS, {
                    let x = s.splat(a.wrapping_add(i * a_row).read());
                    each!(v < NV, {
                        let sum = s.fma(x, bv[v].assume_init(), acc[i][v].assume_init());
                        acc[i][v].write(sum);
                    });
                });
                a = a.wrapping_add(a_step);
                b = b.wrapping_add(t.b_row);
            }
            if !t.bias.is_null() {
                each!(v < NV, {
                    let n = if v == last { last_columns } else { LANES };
                    let bias = s.load_first(t.bias.wrapping_add(v * LANES), n);
                    each!(i < ROWS, {
                        let sum = s.add(acc[i][v].assume_init(), bias);
                        acc[i][v].write(sum);
                    });
                });
            }
            each!(i < ROWS, {
                each!(v < NV, {
                    let c = t.c.wrapping_add(i * t.c_row + v * LANES);
                    let sum = acc[i][v].assume_init();
                    if v == last && last_columns != LANES {
                        s.store_first(c, last_columns, sum);
                    } else {
                        s.store(c, sum);
                    }
                });
            });
        }
    }
}
