//! Products of bytes, exact in 32 bits: `C = finish(sum over p of (A[i, p] - za) (B[p, j] - zb) +
//! bias[j])`, A of i8 or u8 and m x k, B of i8 and k x n, of any strides, and a [`Finish`] that
//! writes the sums, scales them to floats or requantises them to bytes.
//!
//! Sums are taken modulo 2^32, so they are the same in any order and on every instruction set. None
//! wraps around where `k` times the greatest product of two numbers (their zero points subtracted)
//! is under 2^31: without zero points k up to [`EXACT_K`], with any up to 33,025.
//!
//! Method: B is packed by fours of the depth, a block that stays in the second level of cache;
//! rows of A pass over it a register tile at a time, along the whole depth, so no partial sum
//! leaves the registers. Where instructions take bytes of one signedness only, A's are shifted by
//! 128, which the sums of B's columns undo. Without vectors operands are read where they lie.

#[cfg_attr(not(vectors), allow(dead_code, reason = "for vectors"))]
mod drive;
mod finish;
#[cfg_attr(not(vectors), allow(dead_code, reason = "for vectors"))]
mod pack;
mod small;
pub mod softmax;
#[cfg_attr(not(vectors), allow(dead_code, reason = "for vectors"))]
mod tile;

use crate::gemm::{min, split};
use crate::isa::int8::run;
use crate::isa::{DotProduct, HAS_VECTORS, Isa};
use crate::simd::LANES;
pub use finish::{Dequantize, Exact, Finish, Multipliers, Narrow, Out, Requantize};

/// The greatest depth at which a product of u8 or i8 by i8 without zero points is exact, whatever
/// the numbers: `2^31 / (255 * 128)`, rounded down.
pub const EXACT_K: usize = 65_793;

/// Rows of the tallest tile.
const MAX_MR: usize = 14;
/// Columns of the widest tile.
const MAX_NR: usize = 2 * LANES;
/// Words of a packed block of B.
const BLOCK: usize = 96 * 1024;
/// Columns of a packed block of B.
const NC: usize = 1024;
/// Rows that count as few, where B lies by rows.
const FEW: usize = 16;
/// Depth and columns of a block of B that few rows pass over as it lies.
const SHALLOW: usize = 16;
const BROAD: usize = 4096;

/// Words (of 4 bytes) of workspace that a product of these sizes may need, whatever the instruction
/// set and the strides; saturating.
pub const fn workspace(m: usize, n: usize, k: usize) -> usize {
    if !HAS_VECTORS || m == 0 || n == 0 {
        return 0;
    }
    let (groups, columns) = (k.div_ceil(4), min(n, BROAD).next_multiple_of(MAX_NR));
    // One panel at least, though it be deeper than a block.
    let (block, panel) = (groups.saturating_mul(columns), groups.saturating_mul(MAX_NR));
    let block = min(block, if panel > BLOCK { panel } else { BLOCK });
    // A's groups are at most two words. Beside the packed operands there are sums of columns, and
    // those of a tile's rows.
    let rows = min(m, MAX_MR);
    let sums = min(columns, NC) * (rows + 1);
    let whole = block.saturating_add(groups.saturating_mul(2 * rows)).saturating_add(sums);
    let broad = SHALLOW / 4 * (columns + 2 * FEW) + columns * (min(m, FEW) + 1);
    if m <= FEW && broad > whole { broad } else { whole }
}

/// The left-hand matrix.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct Left {
    pub data: *const u8,
    pub row: usize,
    pub column: usize,
    /// Whether the bytes are i8.
    pub is_signed: bool,
}

/// The right-hand matrix, of i8.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub enum Right {
    /// As it lies.
    Matrix { data: *const i8, row: usize, column: usize },
    /// As [`pack`] wrote it.
    Packed { panels: *const u32, column_sums: *const i32 },
}

/// A product. Strides count elements.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct Product<'a, F: Finish> {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub a: Left,
    pub b: Right,
    /// What stands for nothing in A and in B, in the range of each.
    pub a_zero: i16,
    pub b_zero: i16,
    /// One for each column of the whole product, or empty.
    pub bias: &'a [i32],
    pub c: *mut F::Out,
    pub c_row: usize,
    pub c_column: usize,
    pub finish: F,
    /// The row and column of the whole product that this one begins at.
    pub origin: (usize, usize),
}

// SAFETY: a `Product` only describes memory; `product` is where it is touched, and its contract is
// about whoever else touches that memory at the time, on whatever thread.
unsafe impl<F: Finish> Send for Product<'_, F> {}
// SAFETY: as above.
unsafe impl<F: Finish> Sync for Product<'_, F> {}

impl<F: Finish> Product<'_, F> {
    /// Part `index` of `parts` disjoint parts of C, which together are C; some may be empty.
    pub fn part(&self, index: usize, parts: usize) -> Self {
        let cut = |len: usize, unit: usize| {
            let units = len.div_ceil(unit);
            let at = |i: usize| min(split(units, i, parts).saturating_mul(unit), len);
            (at(index), at(index + 1) - at(index))
        };
        // By rows where each part gets some tiles of them, else by columns.
        if self.m >= (4 * MAX_MR).saturating_mul(parts) || self.m > self.n {
            let (first, rows) = cut(self.m, MAX_MR);
            return self.rows(first, rows);
        }
        let (first, columns) = cut(self.n, MAX_NR);
        self.columns(first, columns)
    }

    fn rows(&self, first: usize, rows: usize) -> Self {
        let data = self.a.data.wrapping_add(first * self.a.row);
        Product {
            m: rows,
            a: Left { data, ..self.a },
            c: self.c.wrapping_add(first * self.c_row),
            origin: (self.origin.0 + first, self.origin.1),
            ..*self
        }
    }

    fn columns(&self, first: usize, columns: usize) -> Self {
        let b = match self.b {
            Right::Matrix { data, row, column } => {
                Right::Matrix { data: data.wrapping_add(first * column), row, column }
            }
            Right::Packed { panels, column_sums } => Right::Packed {
                panels: panels.wrapping_add(first * self.k.div_ceil(4)),
                column_sums: column_sums.wrapping_add(first),
            },
        };
        Product {
            n: columns,
            b,
            c: self.c.wrapping_add(first * self.c_column),
            origin: (self.origin.0, self.origin.1 + first),
            ..*self
        }
    }
}

/// Computes the product.
///
/// # Safety
/// Every element that the sizes and strides name is valid: of A, B and what the finish reads for
/// reading, of C for writing. No element of C is named twice or lies in any operand or the
/// workspace, and no one else uses it meanwhile. `workspace` is valid for writing
/// [`workspace`]`(m, n, k)` words. A packed B was packed for the same instruction set.
pub unsafe fn product<F: Finish>(
    isa: Isa,
    dot: DotProduct,
    product: &Product<'_, F>,
    workspace: *mut u32,
) {
    // SAFETY: the caller's.
    unsafe { F::product(isa, dot, product, workspace) }
}

/// [`product`], generic over everything.
///
/// # Safety
/// As there.
unsafe fn compute<F: Finish>(
    isa: Isa,
    dot: DotProduct,
    product: &Product<'_, F>,
    workspace: *mut u32,
) {
    if product.m == 0 || product.n == 0 {
        return;
    }
    if let Err(drive) = run(isa, dot, drive::Drive { product, workspace }) {
        crate::run(Isa::SCALAR, small::Small(drive.product));
    }
}

/// Columns of a panel of packed B. Packed forms of the same width are the same.
pub fn panel_width(isa: Isa) -> usize {
    run(isa, DotProduct::PLAIN, drive::Width).unwrap_or(1)
}

/// Whether a panel of packed B may be so wide.
pub fn is_panel_width(width: usize) -> bool {
    [1, LANES, MAX_NR].contains(&width)
}

/// Words that [`pack`] writes: of panels, and of the sums of columns behind them; saturating.
pub const fn packed_len(k: usize, n: usize) -> [usize; 2] {
    match n.checked_next_multiple_of(MAX_NR) {
        Some(columns) => [columns.saturating_mul(k.div_ceil(4)), columns],
        None => [usize::MAX; 2],
    }
}

/// Packs B (k x n) as tiles read it: panels of [`panel_width`] columns, in each the fours of the
/// depth one behind the other; and the sum of each column.
///
/// # Safety
/// The elements of B that the sizes and strides name are valid for reading, `panels` and
/// `column_sums` for writing [`packed_len`] words, which B does not overlap.
pub unsafe fn pack(
    isa: Isa,
    [k, n]: [usize; 2],
    b: *const i8,
    [b_row, b_column]: [usize; 2],
    panels: *mut u32,
    column_sums: *mut i32,
) {
    let source = b.cast();
    let b = pack::Lines { source, across: b_column, along: b_row, width: n, depth: k };
    let op = drive::Panels { b, out: panels, sums: Some(column_sums), add: false };
    if run(isa, DotProduct::PLAIN, op).is_err() {
        // SAFETY: the caller's.
        unsafe { small::pack(b, panels, column_sums) };
    }
}
