//! A product whose C is not of f32. Partial sums would be rounded on their way, so C is computed
//! piece by piece in f32, whole depth and epilogue, and each piece rounded once as it is written.

use super::drive::Drive;
use super::pack::{load_strided, store_strided};
use super::{Gemm, Span, min};
use crate::number::{Number, NumbersMut};
use crate::simd::{Op, Simd};

/// Most rows and columns of a piece, a multiple of every panel's: 1 MiB of floats. Each piece packs
/// its rows of A and its columns of B again, which for so many of the other is a little.
const SIDE: usize = 512;

/// The greatest rows and columns of a piece of an m x n C.
pub(super) const fn piece(m: usize, n: usize) -> [usize; 2] {
    [min(m, SIDE), min(n, SIDE)]
}

/// [`super::gemm_mixed`] of a C of `T`, with its instruction set.
pub(super) struct Rounded<'a, T> {
    pub gemm: &'a Gemm<'a>,
    pub workspace: *mut f32,
    pub c: *mut T,
}

impl<T: Number> Op for Rounded<'_, T> {
    type Out = ();
    #[cfg_attr(vectors, inline(always))]
    fn eval<S: Simd>(self, s: S) {
        let g = self.gemm;
        let [most_rows, most_columns] = piece(g.m, g.n);
        let workspace = self.workspace.wrapping_add(most_rows * most_columns);
        for first in (0..g.m).step_by(most_rows.max(1)) {
            let rows = Span { first, len: min(most_rows, g.m - first) };
            for first in (0..g.n).step_by(most_columns.max(1)) {
                let columns = Span { first, len: min(most_columns, g.n - first) };
                let at = rows.first * g.c_row + columns.first * g.c_col;
                let piece = Piece {
                    sums: self.workspace,
                    c: self.c.wrapping_add(at),
                    strides: [g.c_row, g.c_col],
                    size: [rows.len, columns.len],
                };
                // SAFETY: `gemm_mixed`'s contract; `rounded_workspace` counts a piece, and what its
                // product takes behind it.
                unsafe {
                    if g.beta != 0.0 {
                        piece.load(s);
                    }
                    let c = NumbersMut::at(piece.sums);
                    let product =
                        Gemm { c, c_row: columns.len, c_col: 1, ..g.piece(rows, columns) };
                    s.run(Drive::<true> { gemm: &product, workspace });
                    piece.store(s);
                }
            }
        }
    }
}

/// A piece of C, and the floats that stand for it, row by row.
struct Piece<T> {
    sums: *mut f32,
    c: *mut T,
    strides: [usize; 2],
    /// Rows and columns.
    size: [usize; 2],
}

// SAFETY of the methods below: `gemm_mixed`'s contract; rows and columns are the piece's own.
impl<T: Number> Piece<T> {
    #[cfg_attr(vectors, inline(always))]
    unsafe fn load<S: Simd>(&self, s: S) {
        let [rows, columns] = self.size;
        for i in 0..rows {
            for j in (0..columns).step_by(S::LANES) {
                let (sums, n) =
                    (self.sums.wrapping_add(i * columns + j), min(columns - j, S::LANES));
                // SAFETY: the impl block's.
                unsafe {
                    f32::store_first(s, sums, n, load_strided(s, self.at(i, j), self.strides[1], n))
                }
            }
        }
    }

    #[cfg_attr(vectors, inline(always))]
    unsafe fn store<S: Simd>(&self, s: S) {
        let [rows, columns] = self.size;
        for i in 0..rows {
            for j in (0..columns).step_by(S::LANES) {
                let (sums, n) =
                    (self.sums.wrapping_add(i * columns + j), min(columns - j, S::LANES));
                // SAFETY: the impl block's.
                unsafe {
                    let sums = f32::load_first(s, sums, n);
                    store_strided(s, self.at(i, j).cast_mut(), self.strides[1], n, sums);
                }
            }
        }
    }

    #[cfg_attr(vectors, inline(always))]
    fn at(&self, i: usize, j: usize) -> *const T {
        self.c.wrapping_add(i * self.strides[0] + j * self.strides[1])
    }
}
