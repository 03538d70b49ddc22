//! The register tile: sums of a few rows by one or two vectors of columns along the whole depth,
//! from packed operands; and from there to the next columns.

use core::mem::MaybeUninit;

use crate::isa::int8::{Int8, Int8Op};
use crate::simd::{LANES, each};

/// Sums of one tile.
pub(super) struct Tile {
    /// 1 to [`Int8::MR`].
    pub rows: usize,
    /// Whether a tile is two vectors wide.
    pub is_wide: bool,
    /// How many tiles there are, side by side.
    pub panels: usize,
    /// Fours of the depth.
    pub groups: usize,
    /// [`Int8::Group`] `g` of row `i` at `g * rows + i`.
    pub a: *const u32,
    /// Group `g` of column `j` of a tile at `g * b_step + j`, `groups * b_step` words a tile.
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
    // SAFETY: the caller's, for the number of rows that a tile has.
    unsafe {
        match tile.rows {
            1 => by_width::<S, 1>(s, tile),
            2 => by_width::<S, 2>(s, tile),
            3 => by_width::<S, 3>(s, tile),
            4 => by_width::<S, 4>(s, tile),
            5 => by_width::<S, 5>(s, tile),
            6 => by_width::<S, 6>(s, tile),
            7 => by_width::<S, 7>(s, tile),
            8 => by_width::<S, 8>(s, tile),
            9 => by_width::<S, 9>(s, tile),
            10 => by_width::<S, 10>(s, tile),
            11 => by_width::<S, 11>(s, tile),
            12 => by_width::<S, 12>(s, tile),
            13 => by_width::<S, 13>(s, tile),
            14 => by_width::<S, 14>(s, tile),
            _ => {}
        }
    }
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
        let (mut b, mut place) = (tile.b, tile.sums);
        for _ in 0..tile.panels {
            // SAFETY: `run_tile`'s.
            unsafe { panel::<S, ROWS, NV>(s, tile, b, place) };
            b = b.wrapping_add(tile.groups * tile.b_step);
            place = place.wrapping_add(tile.b_step);
        }
    }
}

/// One tile.
///
/// # Safety
/// [`run_tile`]'s.
#[inline(always)]
unsafe fn panel<S: Int8, const ROWS: usize, const NV: usize>(
    s: S,
    tile: &Tile,
    mut b: *const u32,
    place: *mut i32,
) {
    // Written element by element, as in `gemm`: so they stay in registers.
    let mut sums = [[const { MaybeUninit::<S::Sums>::uninit() }; NV]; ROWS];
    each!(i < ROWS <= 16, {
        each!(v < NV <= 2, {
            sums[i][v].write(s.zero());
        });
    });
    let mut a = tile.a.cast::<S::Group>();
    for _ in 0..tile.groups {
        // SAFETY: the caller's. Sums were written above.
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
            let place = place.wrapping_add(i * tile.sums_row + v * LANES);
            // SAFETY: the caller's.
            unsafe { s.store(place, sums[i][v].assume_init(), tile.add) }
        });
    });
}

/// Sums over the depth of 16 columns of a packed panel.
pub(super) struct ColumnSums {
    pub groups: usize,
    pub b: *const u32,
    pub b_step: usize,
    pub sums: *mut i32,
    pub add: bool,
}

/// Takes them.
///
/// # Safety
/// As [`run_tile`], of one row.
#[inline(always)]
pub(super) unsafe fn column_sums<S: Int8>(s: S, of: ColumnSums) {
    let ones = s.row(s.group([1; 4], 0));
    let (mut sums, mut b) = (s.zero(), of.b);
    // SAFETY: the caller's.
    unsafe {
        for _ in 0..of.groups {
            sums = s.dot(sums, ones, s.columns(b));
            b = b.wrapping_add(of.b_step);
        }
        s.store(of.sums, sums, of.add);
    }
}
