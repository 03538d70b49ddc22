//! The loops around the tile.

use super::finish::{Finish, Out, WIDEST};
use super::pack::{Conversion, Lines, pack_a, pack_b};
use super::tile::{ColumnSums, Tile, column_sums, run_tile};
use super::{BLOCK, BROAD, FEW, MAX_MR, NC, Product, Right, SHALLOW, min};
use crate::isa::Caches;
use crate::isa::int8::{Int8, Int8Op, Left};
use crate::simd::{LANES, Op, Simd};

/// A B of so many bytes stays in the first level of cache, however it is read.
const SMALL: usize = 16 * 1024;

/// Depth and columns of a block of B.
pub(super) struct Way {
    kc: usize,
    nc: usize,
}

impl Way {
    #[inline(always)]
    fn of<S: Int8, F: Finish>(p: &Product<'_, F>) -> Way {
        let nr = S::NV * LANES;
        let groups = p.k.div_ceil(4);
        // The rows of a B that lies by rows are far apart: few rows pass over some of them at a
        // time, from end to end, and partial sums wait in memory.
        if let Right::Matrix { column: 1, row, .. } = p.b
            && row != 1
            && p.m <= FEW
            && p.k.saturating_mul(p.n) > SMALL
        {
            return Way { kc: SHALLOW, nc: BROAD };
        }
        // A panel that is used once goes no farther than it must.
        if p.m <= S::MR && matches!(p.b, Right::Matrix { .. }) {
            return Way { kc: p.k, nc: nr };
        }
        // The block takes half of the second level.
        let words = min(Caches::detect().l2 / 8, BLOCK);
        let panels = words.checked_div(groups * nr).unwrap_or(NC / nr);
        Way { kc: p.k, nc: min(panels.max(1) * nr, NC) }
    }
}

/// [`super::product`] with its instructions.
pub(super) struct Drive<'a, F: Finish> {
    pub product: &'a Product<'a, F>,
    pub workspace: *mut u32,
}

impl<F: Finish> Int8Op for Drive<'_, F> {
    type Out = ();
    #[inline(always)]
    fn eval<S: Int8>(self, s: S) {
        let p = self.product;
        let way = Way::of::<S, F>(p);
        let nr = S::NV * LANES;
        let width = min(p.n.next_multiple_of(nr), way.nc);
        // Sums of all rows where they wait for the next block of the depth, else those of a tile's.
        let sums_rows = if way.kc < p.k { p.m } else { min(p.m, S::MR) };
        let conversion = Conversion::of::<S>(p.a.is_signed, p.a_zero);
        let sums: *mut i32 = self.workspace.cast();
        let column_sums = sums.wrapping_add(width * sums_rows);
        let a: *mut u32 = column_sums.wrapping_add(width).cast();
        let a_words = min(p.k, way.kc).div_ceil(4) * min(p.m, S::MR) * size_of::<S::Group>() / 4;
        let walk = Walk {
            s,
            p,
            nr,
            sums,
            sums_row: width,
            column_sums,
            packed_a: a.cast(),
            packed_b: a.wrapping_add(a_words),
            conversion,
            zero: if S::LEFT == Left::Wide { 0 } else { i32::from(conversion.zero) },
            way,
        };
        // SAFETY: `product`'s contract.
        unsafe { walk.run() }
    }
}

/// A product on its way.
struct Walk<'a, S: Int8, F: Finish> {
    s: S,
    p: &'a Product<'a, F>,
    way: Way,
    nr: usize,
    /// Sums of the rows of a tile, or of all rows where they wait.
    sums: *mut i32,
    sums_row: usize,
    column_sums: *mut i32,
    packed_a: *mut S::Group,
    packed_b: *mut u32,
    conversion: Conversion,
    /// What stands for nothing in A as the instructions see it, unless it was subtracted.
    zero: i32,
}

/// Rows, columns or depth from `first` on.
#[derive(Clone, Copy)]
struct Span {
    first: usize,
    len: usize,
}

// SAFETY of the methods below: `product`'s contract. All offsets name elements inside the sizes
// given; sums and packed operands lie in the workspace one behind the other, as `workspace` counts
// them.
impl<S: Int8, F: Finish> Walk<'_, S, F> {
    #[inline(always)]
    unsafe fn run(&self) {
        let (p, way) = (self.p, &self.way);
        let tiles = p.m.div_ceil(S::MR);
        let (height, higher) =
            (p.m.checked_div(tiles).unwrap_or(0), p.m.checked_rem(tiles).unwrap_or(0));
        let mut columns = Span { first: 0, len: 0 };
        while columns.first < p.n {
            columns.len = min(way.nc, p.n - columns.first);
            let mut depth = Span { first: 0, len: 0 };
            // Once at least: without depth there are still bias and finish.
            loop {
                depth.len = min(way.kc, p.k - depth.first);
                let b = self.block_of_b(columns, depth);
                let mut rows = Span { first: 0, len: 0 };
                for t in 0..tiles {
                    rows.len = height + usize::from(t < higher);
                    // SAFETY: the impl block's.
                    unsafe { self.rows(rows, columns, depth, b) };
                    rows.first += rows.len;
                }
                depth.first += depth.len;
                if depth.first >= p.k {
                    break;
                }
            }
            columns.first += columns.len;
        }
    }

    /// Panels of these columns and this depth, with their column sums where they are needed.
    #[inline(always)]
    fn block_of_b(&self, columns: Span, depth: Span) -> *const u32 {
        let (data, row, column) = match self.p.b {
            Right::Packed { panels, .. } => {
                return panels.wrapping_add(columns.first * depth.len.div_ceil(4));
            }
            Right::Matrix { data, row, column } => (data, row, column),
        };
        let b = Lines {
            source: data.wrapping_add(depth.first * row + columns.first * column).cast(),
            across: column,
            along: row,
            width: columns.len,
            depth: depth.len,
        };
        let sums = (self.zero != 0).then_some(self.column_sums);
        self.s.run(Panels { b, out: self.packed_b, sums, add: depth.first > 0 });
        self.packed_b
    }

    /// Rows of one tile over the panels of a block.
    #[inline(always)]
    unsafe fn rows(&self, rows: Span, columns: Span, depth: Span, b: *const u32) {
        let p = self.p;
        // A single tile of whole rows is packed once.
        if rows.len < p.m || depth.len < p.k || columns.first == 0 {
            let a = Lines {
                source: p.a.data.wrapping_add(rows.first * p.a.row + depth.first * p.a.column),
                across: p.a.row,
                along: p.a.column,
                width: rows.len,
                depth: depth.len,
            };
            // SAFETY: the impl block's.
            unsafe { pack_a(self.s, a, self.conversion, self.packed_a) };
        }
        let (groups, waits) = (depth.len.div_ceil(4), depth.len < p.k);
        let first_row = if waits { rows.first * self.sums_row } else { 0 };
        let sums = self.sums.wrapping_add(first_row);
        // The last panel may be one vector of two.
        let wide = if S::NV == 2 { columns.len.div_ceil(LANES) / 2 } else { 0 };
        let narrow = columns.len.div_ceil(LANES) - 2 * wide;
        for (is_wide, first, panels) in [(true, 0, wide), (false, wide, narrow)] {
            let tile = Tile {
                rows: rows.len,
                is_wide,
                panels,
                groups,
                a: self.packed_a.cast_const().cast(),
                b: b.wrapping_add(first * self.nr * groups),
                b_step: self.nr,
                sums: sums.wrapping_add(first * self.nr),
                sums_row: self.sums_row,
                add: depth.first > 0,
            };
            if panels > 0 {
                // SAFETY: the impl block's.
                unsafe { run_tile(self.s, &tile) };
            }
        }
        if depth.first + depth.len >= p.k {
            let column_sums = match p.b {
                Right::Packed { column_sums, .. } => column_sums.wrapping_add(columns.first),
                Right::Matrix { .. } => self.column_sums.cast_const(),
            };
            let (sums_row, zero) = (self.sums_row, self.zero);
            self.s.base().run(FinishRows { p, sums, sums_row, zero, column_sums, rows, columns });
        }
    }
}

/// Panels to pack, in a function of its own, compiled once.
pub(super) struct Panels {
    pub b: Lines,
    pub out: *mut u32,
    /// Where the sums of the columns go, or are added.
    pub sums: Option<*mut i32>,
    pub add: bool,
}

impl Int8Op for Panels {
    type Out = ();
    #[inline(always)]
    fn eval<S: Int8>(self, s: S) {
        let Panels { b, out, sums, add } = self;
        let (nr, groups) = (S::NV * LANES, b.depth.div_ceil(4));
        // SAFETY: `Walk::block_of_b` or `pack`, which made it: there is room for whole panels.
        unsafe {
            pack_b(s, b, out, nr);
            for x in (0..b.width).step_by(LANES) {
                let (panel, rest) = (x / nr * nr, x % nr);
                let b = out.wrapping_add(panel * groups + rest);
                if let Some(sums) = sums {
                    let sums = sums.wrapping_add(x);
                    column_sums(s, ColumnSums { groups, b, b_step: nr, sums, add });
                }
            }
        }
    }
}

/// What is left to do for the sums of some rows.
struct FinishRows<'a, F: Finish> {
    p: &'a Product<'a, F>,
    sums: *mut i32,
    sums_row: usize,
    zero: i32,
    /// Of the first column on; read where `zero` is not 0.
    column_sums: *const i32,
    rows: Span,
    columns: Span,
}

impl<F: Finish> Op for FinishRows<'_, F> {
    type Out = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let FinishRows { p, zero, rows, columns, .. } = self;
        let (row, column) = (p.origin.0 + rows.first, p.origin.1 + columns.first);
        for i in 0..rows.len {
            // SAFETY: `Walk::rows`, which made it: a row of sums, as many sums of columns where they
            // are needed, and places of C.
            unsafe {
                let sums = self.sums.wrapping_add(i * self.sums_row);
                let sums = core::slice::from_raw_parts_mut(sums, columns.len);
                if zero != 0 {
                    let own = core::slice::from_raw_parts(self.column_sums, columns.len);
                    for (sum, column_sum) in sums.iter_mut().zip(own) {
                        *sum = sum.wrapping_sub(column_sum.wrapping_mul(zero));
                    }
                }
                if p.b_zero != 0 {
                    let all = p.row_sum(rows.first + i).wrapping_mul(i32::from(p.b_zero));
                    for sum in sums.iter_mut() {
                        *sum = sum.wrapping_sub(all);
                    }
                }
                for (sum, bias) in sums.iter_mut().zip(p.bias.get(column..).unwrap_or(&[])) {
                    *sum = sum.wrapping_add(*bias);
                }
                let c = p.c.wrapping_add((rows.first + i) * p.c_row);
                for (j, sums) in (0..).step_by(WIDEST).zip(sums.chunks(WIDEST)) {
                    let place = c.wrapping_add((columns.first + j) * p.c_column);
                    let out = Out { p: place, stride: p.c_column };
                    p.finish.finish(s, sums, row + i, column + j, out);
                }
            }
        }
    }
}

impl<F: Finish> Product<'_, F> {
    /// The sum of row `i` of A, its zero point subtracted.
    ///
    /// # Safety
    /// [`super::product`]'s.
    #[inline(always)]
    unsafe fn row_sum(&self, i: usize) -> i32 {
        let row = self.a.data.wrapping_add(i * self.a.row);
        let mut sum = 0i32;
        for p in 0..self.k {
            // SAFETY: the caller's.
            let byte = unsafe { row.wrapping_add(p * self.a.column).read() };
            let number = if self.a.is_signed { i32::from(byte as i8) } else { i32::from(byte) };
            sum = sum.wrapping_add(number - i32::from(self.a_zero));
        }
        sum
    }
}

/// [`super::panel_width`]
pub(super) struct Width;

impl Int8Op for Width {
    type Out = usize;
    #[inline(always)]
    fn eval<S: Int8>(self, _: S) -> usize {
        const { assert!(S::NV * LANES <= WIDEST && S::MR <= MAX_MR) };
        S::NV * LANES
    }
}
