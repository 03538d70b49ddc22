//! The register tile: sums of a few rows by one or two vectors of columns along the whole depth,
//! from packed operands.

use core::mem::MaybeUninit;

use crate::isa::int8::{Int8, Int8Op};
use crate::simd::{LANES, each};

/// Sums of one tile.
pub(super) struct Tile {
    /// 1 to [`Int8::MR`].
    pub rows: usize,
    /// Whether the tile is two vectors wide.
    pub is_wide: bool,
    /// Fours of the depth.
    pub groups: usize,
    /// [`Int8::Group`] `g` of row `i` at `g * rows + i`.
    pub a: *const u32,
    /// Group `g` of column `j` at `g * b_step + j`.
    pub b: *const u32,
    pub b_step: usize,
    /// Sum of row `i` and column `j` at `i * sums_row + j`, for whole vectors.
    pub sums: *mut i32,
    pub sums_row: usize,
    /// Whether the sums are added to those that are there.
    pub add: bool,
}

/// Computes a tile with code made for its number of rows and vectors.
///
/// # Safety
/// `rows` is as [`Tile`] says, and a tile is two vectors wide only if `S::NV` is 2; the groups of A
/// and B are valid for reading, the sums for writing and, with `add`, reading.
#[inline(always)]
pub(super) unsafe fn run_tile<S: Int8>(s: S, tile: &Tile) {
    // SAFETY of the arms: the caller's.
    macro_rules! by_rows {
        ($($rows:literal)*) => {
            match tile.rows {
                $( $rows => unsafe { by_width::<S, $rows>(s, tile) }, )*
                _ => {}
            }
        };
    }
    by_rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
}

/// # Safety
/// [`run_tile`]'s; the tile has so many rows.
#[inline(always)]
unsafe fn by_width<S: Int8, const ROWS: usize>(s: S, tile: &Tile) {
    if const { ROWS <= S::MR } {
        if const { S::NV == 2 } && tile.is_wide {
            s.run(Body::<ROWS, 2>(tile));
        } else {
            s.run(Body::<ROWS, 1>(tile));
        }
    }
}

/// Made by [`run_tile`] alone, under its contract.
struct Body<'a, const ROWS: usize, const NV: usize>(&'a Tile);

impl<const ROWS: usize, const NV: usize> Int8Op for Body<'_, ROWS, NV> {
    type Out = ();
    #[inline(always)]
    fn eval<S: Int8>(self, s: S) {
        let tile = self.0;
        // Written element by element, as in `gemm`: so they stay in registers.
        let mut sums = [[const { MaybeUninit::<S::Sums>::uninit() }; NV]; ROWS];
        each!(i < ROWS <= 16, {
            each!(v < NV <= 2, {
                sums[i][v].write(s.zero());
            });
        });
        let (mut a, mut b) = (tile.a.cast::<S::Group>(), tile.b);
        for _ in 0..tile.groups {
            // SAFETY: `run_tile`'s. Sums were written above.
            unsafe {
                let mut columns = [const { MaybeUninit::<S::Columns>::uninit() }; NV];
                each!(v < NV <= 2, {
                    columns[v].write(s.columns(b.wrapping_add(v * LANES)));
                });
                each!(i < ROWS <= 16, {
                    let row = s.row(a.wrapping_add(i).read_unaligned());
                    each!(v < NV <= 2, {
                        let sum = s.dot(sums[i][v].assume_init(), row, columns[v].assume_init());
                        sums[i][v].write(sum);
                    });
                });
            }
            a = a.wrapping_add(ROWS);
            b = b.wrapping_add(tile.b_step);
        }
        each!(i < ROWS <= 16, {
            each!(v < NV <= 2, {
                let place = tile.sums.wrapping_add(i * tile.sums_row + v * LANES);
                // SAFETY: `run_tile`'s.
                unsafe { s.store(place, sums[i][v].assume_init(), tile.add) }
            });
        });
    }
}

/// Sums over the depth of columns of a packed panel.
pub(super) struct ColumnSums {
    /// Vectors of 16 columns.
    pub vectors: usize,
    pub groups: usize,
    pub b: *const u32,
    pub b_step: usize,
    pub sums: *mut i32,
    pub add: bool,
}

impl ColumnSums {
    /// # Safety
    /// As [`run_tile`], of one row.
    #[inline(always)]
    pub(super) unsafe fn run<S: Int8>(self, s: S) {
        s.run(self);
    }
}

impl Int8Op for ColumnSums {
    type Out = ();
    #[inline(always)]
    fn eval<S: Int8>(self, s: S) {
        let ones = s.row(s.group([1; 4], 0));
        for v in 0..self.vectors {
            let mut sums = s.zero();
            let mut b = self.b.wrapping_add(v * LANES);
            // SAFETY: `ColumnSums::run`'s.
            unsafe {
                for _ in 0..self.groups {
                    sums = s.dot(sums, ones, s.columns(b));
                    b = b.wrapping_add(self.b_step);
                }
                s.store(self.sums.wrapping_add(v * LANES), sums, self.add);
            }
        }
    }
}
