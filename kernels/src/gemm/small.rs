//! The micro-kernel of instruction sets without vectors: 4 x 4 sums of single numbers in registers,
//! sixteen fused multiply-adds for eight loads.
//!
//! Operands are read where they lie, rows or columns. An edge is taken line by line, so that none
//! computes what nobody asked for, in as little code as may be.

use super::tile::{A, B, Tile};
use crate::simd::{Op, Simd, each};

/// Rows and columns of the tile.
pub(super) const SIDE: usize = 4;

/// Lines of an operand, rows of A or columns of B: number `p` of line `x` is at
/// `p * along + x * across`.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Lines {
    pub p: *const f32,
    pub along: usize,
    pub across: usize,
}

impl Lines {
    fn starting_at(self, line: usize) -> Lines {
        Lines { p: self.p.wrapping_add(line * self.across), ..self }
    }
}

/// `sums[i][j] += a[i, p] * b[p, j]` for each `p` in order, each step rounded once.
///
/// # Safety
/// The first `ROWS` lines of `a` and the first 4 of `b` are valid for reading `depth` numbers.
#[inline(always)]
pub(crate) unsafe fn add_products<S: Simd, const ROWS: usize>(
    s: S,
    sums: &mut [[S::V; SIDE]; ROWS],
    depth: usize,
    [mut a, mut b]: [Lines; 2],
) {
    for _ in 0..depth {
        let mut row = [s.splat(0.0); SIDE];
        // SAFETY: the caller's.
        unsafe {
            each!(j < 4, {
                row[j] = s.load(b.starting_at(j).p);
            });
            each!(i < ROWS <= 4, {
                let x = s.load(a.starting_at(i).p);
                each!(j < 4, {
                    sums[i][j] = s.fma(x, row[j], sums[i][j]);
                });
            });
        }
        a.p = a.p.wrapping_add(a.along);
        b.p = b.p.wrapping_add(b.along);
    }
}

/// A tile of at most [`SIDE`] rows and columns; see [`super::run_tile`] for what it trusts.
pub(super) struct Small<'a>(pub &'a Tile);

impl Op for Small<'_> {
    type Out = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let t = self.0;
        let a = match t.a {
            A::Packed(p, along) => Lines { p, along, across: 1 },
            A::Rows(p, across) => Lines { p, along: 1, across },
        };
        let b = match t.b {
            B::Rows(p, along) | B::Padded(p, along) => Lines { p, along, across: 1 },
            B::Columns(p, across) => Lines { p: p.of(), along: 1, across },
            B::Units(..) => return,
        };
        let part = |i: usize, j: usize| Part {
            tile: t,
            lines: [a.starting_at(i), b.starting_at(j)],
            c: t.c.wrapping_add(i * t.c_row + j),
            c_steps: [t.c_row, 1],
        };
        match (t.rows, t.columns) {
            (SIDE, SIDE) => s.run(Block::<4, 4>(part(0, 0))),
            (_, SIDE) => (0..t.rows).for_each(|i| s.run(Block::<1, 4>(part(i, 0)))),
            (SIDE, _) => (0..t.columns).for_each(|j| s.run(Block::<1, 4>(part(0, j).turned()))),
            _ => {
                for i in 0..t.rows {
                    (0..t.columns).for_each(|j| s.run(Block::<1, 1>(part(i, j))));
                }
            }
        }
    }
}

/// A part of a tile.
struct Part<'a> {
    tile: &'a Tile,
    lines: [Lines; 2],
    c: *mut f32,
    /// From row to row and from column to column.
    c_steps: [usize; 2],
}

impl Part<'_> {
    /// Its transpose.
    fn turned(self) -> Self {
        let ([a, b], [row, column]) = (self.lines, self.c_steps);
        Part { lines: [b, a], c_steps: [column, row], ..self }
    }
}

/// A part of so many rows and columns.
struct Block<'a, const ROWS: usize, const COLUMNS: usize>(Part<'a>);

impl<const ROWS: usize, const COLUMNS: usize> Op for Block<'_, ROWS, COLUMNS> {
    type Out = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let Part { tile, lines: [mut a, mut b], c, c_steps } = self.0;
        let at = |i: usize, j: usize| c.wrapping_add(i * c_steps[0] + j * c_steps[1]);
        let mut sums = [[s.splat(0.0); SIDE]; ROWS];
        // SAFETY: `run_tile`'s contract bounds every access.
        unsafe {
            if tile.beta != 0.0 {
                for (i, row) in sums.iter_mut().enumerate() {
                    for (j, sum) in row.iter_mut().enumerate().take(COLUMNS) {
                        *sum = s.mul(s.splat(tile.beta), s.load(at(i, j)));
                    }
                }
            }
            if const { COLUMNS == SIDE } {
                s.add_products(&mut sums, tile.depth, [a, b]);
            } else {
                for _ in 0..tile.depth {
                    sums[0][0] = s.fma(s.load(a.p), s.load(b.p), sums[0][0]);
                    a.p = a.p.wrapping_add(a.along);
                    b.p = b.p.wrapping_add(b.along);
                }
            }
            for (i, row) in sums.iter().enumerate() {
                for (j, sum) in row.iter().enumerate().take(COLUMNS) {
                    s.store(at(i, j), *sum);
                }
            }
        }
    }
}
