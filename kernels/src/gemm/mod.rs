//! The matrix product `C = alpha A B + beta C`: A is m x k, B is k x n, C is m x n, all of any
//! strides and of any type of number, and what an [`Epilogue`] does to its elements. Arithmetic is in
//! f32: other types are widened as they are packed or read, and a C of halves is computed in f32, each
//! element rounded once.
//!
//! Method: K. Goto and R. van de Geijn, *Anatomy of High-Performance Matrix Multiplication*,
//! ACM TOMS 34(3), 2008: blocks of B and A are packed into panels, and a register tile of
//! `mr x nr` walks along them. An operand that is used too rarely to repay packing is read where
//! it lies. Every path computes an element by the same chain (see the crate's first page), so the
//! choice of path shows in the time alone.

mod blocks;
mod columns;
mod drive;
mod epilogue;
mod pack;
mod quantised;
mod rounded;
mod small;
mod tile;

use half::{bf16, f16};

use crate::isa::{HAS_VECTORS, Isa, run};
use crate::number::{Dtype, Number, Numbers, NumbersMut};
use crate::simd::{LANES, Op, Simd};
use blocks::DEEP;
pub(crate) use columns::{most_rows, run_any_tile};
pub use epilogue::{Activation, Each, Epilogue, Operand};
pub(crate) use epilogue::{Finished, finish};
use pack::pack_panel;
pub(crate) use pack::{Packed, Panel, load_strided, pack_any, store_any, store_strided};
pub use quantised::{Q4_0, Q4Groups, Q8_0, Quantised, UNIT};
use quantised::{Rows, pack_quantised};
use rounded::Rounded;
pub use small::Lines;
pub(crate) use small::add_products;
pub(crate) use tile::{A, B, Tile, run_tile};

/// The greatest depth of a block.
const KC: usize = 512;
/// The greatest number of rows of a block, a multiple of every tile's.
const MC: usize = 168;
/// The greatest number of columns of a block, a multiple of every tile's.
const NC: usize = 1024;
/// Columns of the widest tile.
pub const MAX_NR: usize = if HAS_VECTORS { 2 * LANES } else { small::SIDE };
/// Rows of the tallest tile.
pub(crate) const MAX_MR: usize = if HAS_VECTORS { LANES } else { small::SIDE };

/// Rows of parts come in multiples of it: those of the tallest tile two vectors wide.
const PART_ROWS: usize = if HAS_VECTORS { 14 } else { MAX_MR };

pub(crate) const fn min(a: usize, b: usize) -> usize {
    if a < b { a } else { b }
}

/// Floats of workspace that a product of these sizes may need, whatever the instruction set, the
/// caches and the strides.
pub const fn workspace(m: usize, n: usize, k: usize) -> usize {
    // A product may be computed as its transpose.
    let (straight, turned) = (one_way(m, n, k), one_way(n, m, k));
    if straight > turned { straight } else { turned }
}

const fn one_way(m: usize, n: usize, k: usize) -> usize {
    let columns = min(n, NC).next_multiple_of(MAX_NR);
    let blocks = min(k, KC) * (min(m, MC) + columns);
    // Few rows go deeper, with one panel of B at most. A part of many may be few.
    let deep = if k > KC { min(k, DEEP) * (min(m, MAX_MR) + LANES) } else { 0 };
    if blocks > deep { blocks } else { deep }
}

/// As [`workspace`], for a C that is not of f32.
pub const fn rounded_workspace(m: usize, n: usize, k: usize) -> usize {
    let [rows, columns] = rounded::piece(m, n);
    rows * columns + workspace(rows, columns, k)
}

/// Where part `index` of `parts` of `len` things begins.
pub fn split(len: usize, index: usize, parts: usize) -> usize {
    let (Some(each), Some(rest)) = (len.checked_div(parts), len.checked_rem(parts)) else {
        return 0;
    };
    // The first parts have one more.
    each * index + min(index, rest)
}

/// The right-hand matrix.
#[derive(Clone, Copy, Debug)]
pub enum Right {
    /// As it lies, by the product's strides.
    Numbers(Numbers),
    /// In blocks of few bits; strides mean nothing.
    Quantised(Quantised),
    /// What [`pack_b`] wrote for the same instruction set; strides mean nothing.
    Panels(*const f32),
}

/// A product. Strides count elements.
#[derive(Clone, Copy)]
#[allow(missing_docs, reason = "the letters of the formula above")]
pub struct Gemm<'a> {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub alpha: f32,
    pub a: Numbers,
    pub a_row: usize,
    pub a_col: usize,
    pub b: Right,
    pub b_row: usize,
    pub b_col: usize,
    /// Zero: C is written and never read.
    pub beta: f32,
    pub c: NumbersMut,
    pub c_row: usize,
    pub c_col: usize,
    pub epilogue: Epilogue<'a>,
}

// SAFETY: a `Gemm` only describes memory; `gemm` is where it is touched, and its contract is about
// whoever else touches that memory at the time, on whatever thread. The caller's function is Sync.
unsafe impl Send for Gemm<'_> {}
// SAFETY: as above.
unsafe impl Sync for Gemm<'_> {}

impl Gemm<'_> {
    /// Part `index` of `parts` disjoint parts of C, which together are C; some may be empty.
    pub fn part(&self, index: usize, parts: usize) -> Self {
        let cut = |len: usize, unit: usize| {
            let units = len.div_ceil(unit);
            let at = |i: usize| min(split(units, i, parts) * unit, len);
            Span { first: at(index), len: at(index + 1) - at(index) }
        };
        // By rows where each part gets some tiles of them, else by columns.
        if self.m >= (4 * MAX_MR).saturating_mul(parts) || self.m > self.n {
            self.piece(cut(self.m, PART_ROWS), Span { first: 0, len: self.n })
        } else {
            self.piece(Span { first: 0, len: self.m }, cut(self.n, MAX_NR))
        }
    }

    /// The product for these rows and columns of C; of panels the first column is a panel's.
    fn piece(&self, rows: Span, columns: Span) -> Self {
        Gemm {
            m: rows.len,
            n: columns.len,
            a: self.a.skip(rows.first * self.a_row),
            b: match self.b {
                Right::Numbers(b) => Right::Numbers(b.skip(columns.first * self.b_col)),
                Right::Quantised(b) => Right::Quantised(b.skip(columns.first)),
                Right::Panels(b) => Right::Panels(b.wrapping_add(columns.first * self.k)),
            },
            c: self.c.skip(rows.first * self.c_row + columns.first * self.c_col),
            epilogue: self.epilogue.moved(rows.first, columns.first),
            ..*self
        }
    }

    /// `C^T = B^T A^T`, the same chains, where that way C's columns are contiguous; and for a
    /// single column, which then is a single row.
    fn turned(&self) -> Option<Self> {
        let turn = self.c_row == 1 && (self.c_col != 1 || self.n == 1) && self.m > 1;
        let Right::Numbers(b) = self.b else { return None };
        if !turn || self.alpha != 1.0 {
            return None;
        }
        Some(Gemm {
            m: self.n,
            n: self.m,
            a: b,
            a_row: self.b_col,
            a_col: self.b_row,
            b: Right::Numbers(self.a),
            b_row: self.a_col,
            b_col: self.a_row,
            c_row: self.c_col,
            c_col: 1,
            epilogue: self.epilogue.transposed()?,
            ..*self
        })
    }
}

/// Rows or columns from `first` on, or steps of the depth.
#[derive(Clone, Copy)]
struct Span {
    first: usize,
    len: usize,
}

/// Computes a product of f32 alone: A, B and C are of that type. A program that has no others need
/// not hold what [`gemm_mixed`] takes.
///
/// # Safety
/// Every element that the sizes and strides name is valid: of A, B and the epilogue's operands for
/// reading, of C for writing and, unless `beta` is 0, for reading. No element of C is named twice
/// or lies in any operand or the workspace, and no one else uses it meanwhile. `workspace` is valid
/// for writing [`workspace`]`(m, n, k)` floats.
pub unsafe fn gemm(isa: Isa, gemm: &Gemm<'_>, workspace: *mut f32) {
    // SAFETY: the caller's.
    unsafe { turn_and_run::<false>(isa, gemm, workspace) }
}

/// Computes a product of any types.
///
/// # Safety
/// As [`gemm`]; `workspace` is valid for writing [`rounded_workspace`]`(m, n, k)` floats where C is
/// not of f32.
pub unsafe fn gemm_mixed(isa: Isa, gemm: &Gemm<'_>, workspace: *mut f32) {
    // SAFETY: the caller's.
    unsafe { turn_and_run::<true>(isa, gemm, workspace) }
}

/// # Safety
/// [`gemm_mixed`]'s; all is of f32 unless `MIXED`.
#[inline(always)]
unsafe fn turn_and_run<const MIXED: bool>(isa: Isa, gemm: &Gemm<'_>, workspace: *mut f32) {
    if gemm.m == 0 || gemm.n == 0 {
        return;
    }
    let turned = gemm.turned();
    let gemm = turned.as_ref().unwrap_or(gemm);
    let c = gemm.c;
    match c.dtype() {
        Dtype::F16 if MIXED => run(isa, Rounded { gemm, workspace, c: c.of::<f16>() }),
        Dtype::Bf16 if MIXED => run(isa, Rounded { gemm, workspace, c: c.of::<bf16>() }),
        _ => run(isa, drive::Drive::<MIXED> { gemm, workspace }),
    }
}

/// Floats that [`pack_b`] writes, whatever the instruction set; saturating.
pub const fn packed_len(k: usize, n: usize) -> usize {
    match n.checked_next_multiple_of(MAX_NR) {
        Some(columns) => columns.saturating_mul(k),
        None => usize::MAX,
    }
}

/// Columns of a panel of packed B. Packed forms of the same width are the same.
pub fn panel_width(isa: Isa) -> usize {
    struct Width;
    impl Op for Width {
        type Out = usize;
        #[inline(always)]
        fn eval<S: Simd>(self, _: S) -> usize {
            S::NV * S::LANES
        }
    }
    run(isa, Width)
}

/// Whether a panel of packed B may be so wide.
pub fn is_panel_width(width: usize) -> bool {
    [small::SIDE, LANES, 2 * LANES].contains(&width)
}

/// Packs B (k x n) as tiles read it: panels of [`panel_width`] columns, in each the rows one behind
/// the other; columns behind the last repeat some number of B.
///
/// # Safety
/// The elements of B that the sizes and strides name are valid for reading, `out` for writing
/// [`packed_len`] floats, which B does not overlap.
pub unsafe fn pack_b<T: Number>(
    isa: Isa,
    [k, n]: [usize; 2],
    b: *const T,
    [along, across]: [usize; 2],
    out: *mut f32,
) {
    struct Pack<T>(Panel<*const T>, *mut f32);
    impl<T: Number> Op for Pack<T> {
        type Out = ();
        #[inline(always)]
        fn eval<S: Simd>(self, s: S) {
            let Pack(Panel { source, across, along, width: n, depth, scale, ahead }, out) = self;
            let nr = S::NV * S::LANES;
            for j in (0..n).step_by(nr) {
                let (source, width) = (source.wrapping_add(j * across), min(nr, n - j));
                let panel = Panel { source, across, along, width, depth, scale, ahead };
                let packed = Packed { out: out.wrapping_add(j * depth), stride: nr, padded: nr };
                // SAFETY: `pack_b`'s; panel `j / nr` has room for `nr` columns of `k`.
                unsafe { pack_panel(s, &panel, packed) };
            }
        }
    }
    // Without an element the other size may be any.
    if k != 0 && n != 0 {
        let panel = Panel { source: b, across, along, width: n, depth: k, scale: 1.0, ahead: 0 };
        run(isa, Pack(panel, out));
    }
}

/// As [`pack_b`], of a quantised weight: its rows are columns of B.
///
/// # Safety
/// The weight is n x k, valid for reading, `out` for writing [`packed_len`] floats.
pub unsafe fn pack_b_quantised(isa: Isa, [k, n]: [usize; 2], b: Quantised, out: *mut f32) {
    struct Pack {
        size: [usize; 2],
        b: Quantised,
        out: *mut f32,
    }
    impl Op for Pack {
        type Out = ();
        #[inline(always)]
        fn eval<S: Simd>(self, s: S) {
            let Pack { size: [k, n], b, out } = self;
            let nr = S::NV * S::LANES;
            for j in (0..n).step_by(nr) {
                let depth = Span { first: 0, len: k };
                let rows = Rows { weight: b.skip(j), len: min(nr, n - j), depth, ahead: 0 };
                let packed = Packed { out: out.wrapping_add(j * k), stride: nr, padded: nr };
                // SAFETY: `pack_b_quantised`'s; panel `j / nr` has room for `nr` columns of `k`.
                unsafe { pack_quantised(s, rows, packed) };
            }
        }
    }
    if k != 0 && n != 0 {
        run(isa, Pack { size: [k, n], b, out });
    }
}
