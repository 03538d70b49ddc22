//! The matrix product `C = alpha A B + beta C + bias`, f32: A is m x k, B is k x n, C is m x n,
//! all of any strides; `bias` is one number a column.
//!
//! Method: K. Goto and R. van de Geijn, *Anatomy of High-Performance Matrix Multiplication*,
//! ACM TOMS 34(3), 2008: blocks of B and A are packed into panels, and a register tile of
//! `mr x nr` walks along them. An operand that is used too rarely to repay packing is read where
//! it lies. Every path computes an element by the same chain (see the crate's first page), so the
//! choice of path shows in the time alone.

mod pack;
mod tile;

use crate::isa::{Isa, run};
use crate::simd::{LANES, Op, Simd};
pub(crate) use pack::{Panel, load_strided, pack_panel, store_strided};
pub(crate) use tile::{A, Tile, run_tile};

/// Depth of a block: a panel of A, 14 x 512, and the walk along one of B fit L1 and L2.
const KC: usize = 512;
/// Rows of a block of A, a multiple of every tile's rows; 84 x 512 f32 are 168 KiB.
const MC: usize = 84;
/// Columns of a block of B, a multiple of every tile's columns; 512 x 1024 f32 are 2 MiB.
const NC: usize = 1024;
/// Columns of the widest tile.
pub(crate) const MAX_NR: usize = 2 * LANES;
/// Rows of the tallest tile, rounded up to a vector.
pub(crate) const MAX_MR: usize = LANES;

const fn min(a: usize, b: usize) -> usize {
    if a < b { a } else { b }
}

/// Floats of workspace that a product of these sizes may need, whatever the instruction set and
/// the strides.
pub const fn workspace(m: usize, n: usize, k: usize) -> usize {
    let depth = min(k, KC);
    let columns = min(n, NC).next_multiple_of(MAX_NR);
    depth * (min(m, MC) + columns)
}

/// A product. Strides count elements.
#[derive(Clone, Copy)]
#[allow(missing_docs, reason = "the letters of the formula above")]
pub struct Gemm {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub alpha: f32,
    pub a: *const f32,
    pub a_row: usize,
    pub a_col: usize,
    pub b: *const f32,
    pub b_row: usize,
    pub b_col: usize,
    /// Zero: C is written and never read.
    pub beta: f32,
    pub c: *mut f32,
    pub c_row: usize,
    pub c_col: usize,
    /// n numbers, or null for none.
    pub bias: *const f32,
}

// SAFETY: a `Gemm` only describes memory; `gemm` is where it is touched, and its contract is about
// whoever else touches that memory at the time, on whatever thread.
unsafe impl Send for Gemm {}
// SAFETY: as above.
unsafe impl Sync for Gemm {}

impl Gemm {
    /// Part `index` of `parts` disjoint parts of C, which together are C; some may be empty.
    pub fn part(&self, index: usize, parts: usize) -> Gemm {
        let mut part = *self;
        let cut = |len: usize, unit: usize| {
            let units = len.div_ceil(unit);
            let at = |i: usize| min((units * i).checked_div(parts).unwrap_or(0) * unit, len);
            (at(index), at(index + 1) - at(index))
        };
        // By rows where each part gets some tiles of them, else by columns.
        if self.m >= 4 * MAX_MR * parts || self.m > self.n {
            let (first, rows) = cut(self.m, MC / 6);
            part.m = rows;
            part.a = self.a.wrapping_add(first * self.a_row);
            part.c = self.c.wrapping_add(first * self.c_row);
        } else {
            let (first, columns) = cut(self.n, MAX_NR);
            part.n = columns;
            part.b = self.b.wrapping_add(first * self.b_col);
            part.c = self.c.wrapping_add(first * self.c_col);
            if !self.bias.is_null() {
                part.bias = self.bias.wrapping_add(first);
            }
        }
        part
    }
}

/// Computes the product.
///
/// # Safety
/// Every element that the sizes and strides name is valid: of A, B and bias for reading, of C for
/// writing and, unless `beta` is 0, for reading. No element of C is named twice or lies in A, B,
/// bias or the workspace, and no one else uses it meanwhile. `workspace` is valid for writing
/// [`workspace`]`(m, n, k)` floats.
pub unsafe fn gemm(isa: Isa, gemm: &Gemm, workspace: *mut f32) {
    if gemm.m > 0 && gemm.n > 0 {
        run(isa, Drive { gemm, workspace });
    }
}

struct Drive<'a> {
    gemm: &'a Gemm,
    workspace: *mut f32,
}

impl Op for Drive<'_> {
    type Out = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        // SAFETY: `gemm`'s contract.
        unsafe { drive(s, self.gemm, self.workspace) }
    }
}

/// The rule by which operands are packed: by shape and layout alone.
struct Packing {
    a: bool,
    b: bool,
}

impl Packing {
    #[inline(always)]
    fn of<S: Simd>(g: &Gemm) -> Packing {
        let nr = S::NV * LANES;
        // Packing A multiplies by alpha on the way, and gives the tile one stream instead of one a
        // row; it repays itself once a row is used by some panels of B.
        let a = g.a_col != 1 || g.alpha != 1.0 || g.n > 4 * nr;
        // B is read once for each tile of rows. A small B stays in L1 as it lies.
        let b = g.b_col != 1 || (g.m > 4 * S::MR && g.k.saturating_mul(g.n) > 16 * 1024);
        Packing { a, b }
    }
}

/// The five loops around the tile.
///
/// # Safety
/// [`gemm`]'s.
#[inline(always)]
unsafe fn drive<S: Simd>(s: S, g: &Gemm, workspace: *mut f32) {
    let nr = S::NV * LANES;
    let packing = Packing::of::<S>(g);
    let packed_a = workspace;
    let packed_b = workspace.wrapping_add(min(g.m, MC) * min(g.k, KC));

    for jc in (0..g.n).step_by(NC) {
        let columns = min(NC, g.n - jc);
        let mut pc = 0;
        // Once at least: without depth there are still beta and the bias.
        loop {
            let depth = min(KC, g.k - pc);
            let (first, last) = (pc == 0, pc + depth == g.k);
            for ic in (0..g.m).step_by(MC) {
                let rows = min(MC, g.m - ic);
                // SAFETY: all offsets name elements inside the sizes given; the packed blocks
                // lie in the workspace one behind the other, as `workspace` counts them.
                unsafe {
                    if packing.b && ic == 0 {
                        let b = g.b.wrapping_add(pc * g.b_row + jc * g.b_col);
                        for j in (0..columns).step_by(nr) {
                            let panel = Panel {
                                source: b.wrapping_add(j * g.b_col),
                                across: g.b_col,
                                along: g.b_row,
                                width: min(nr, columns - j),
                                depth,
                                scale: 1.0,
                            };
                            pack_panel(s, &panel, packed_b.wrapping_add(j * depth), nr, nr);
                        }
                    }
                    if packing.a {
                        let a = g.a.wrapping_add(ic * g.a_row + pc * g.a_col);
                        for i in (0..rows).step_by(S::MR) {
                            let width = min(S::MR, rows - i);
                            let panel = Panel {
                                source: a.wrapping_add(i * g.a_row),
                                across: g.a_row,
                                along: g.a_col,
                                width,
                                depth,
                                scale: g.alpha,
                            };
                            pack_panel(s, &panel, packed_a.wrapping_add(i * depth), width, width);
                        }
                    }
                }
                for j in (0..columns).step_by(nr) {
                    for i in (0..rows).step_by(S::MR) {
                        let a = if packing.a {
                            A::Packed(packed_a.wrapping_add(i * depth))
                        } else {
                            A::Rows(g.a.wrapping_add((ic + i) * g.a_row + pc), g.a_row)
                        };
                        let (b, b_row) = if packing.b {
                            (packed_b.wrapping_add(j * depth).cast_const(), nr)
                        } else {
                            (g.b.wrapping_add(pc * g.b_row + jc + j), g.b_row)
                        };
                        let tile = Tile {
                            rows: min(S::MR, rows - i),
                            columns: min(nr, columns - j),
                            depth,
                            a,
                            b,
                            b_row,
                            b_padded: packing.b,
                            beta: if first { g.beta } else { 1.0 },
                            c: g.c.wrapping_add((ic + i) * g.c_row + (jc + j) * g.c_col),
                            c_row: g.c_row,
                            bias: if last && !g.bias.is_null() {
                                g.bias.wrapping_add(jc + j)
                            } else {
                                core::ptr::null()
                            },
                        };
                        // SAFETY: the tile lies inside C; its operands are as deep and wide.
                        unsafe {
                            if g.c_col == 1 {
                                run_tile(s, &tile);
                            } else {
                                scattered_tile(s, &tile, g.c_col);
                            }
                        }
                    }
                }
            }
            pc += depth;
            if last {
                break;
            }
        }
    }
}

/// A tile of a C whose columns are not contiguous, by way of a contiguous one.
///
/// # Safety
/// As [`run_tile`], with columns of C at `c_col`.
#[inline(never)]
unsafe fn scattered_tile<S: Simd>(s: S, tile: &Tile, c_col: usize) {
    let mut contiguous = [0f32; MAX_MR * MAX_NR];
    // SAFETY: rows < MAX_MR and columns <= MAX_NR index the array, and name elements of C.
    unsafe {
        let at = |i: usize, j: usize| tile.c.wrapping_add(i * tile.c_row + j * c_col);
        let p = contiguous.as_mut_ptr();
        if tile.beta != 0.0 {
            for i in 0..tile.rows {
                for j in 0..tile.columns {
                    p.add(i * MAX_NR + j).write(at(i, j).read());
                }
            }
        }
        run_tile(s, &Tile { c: p, c_row: MAX_NR, ..*tile });
        for i in 0..tile.rows {
            for j in 0..tile.columns {
                at(i, j).write(p.add(i * MAX_NR + j).read());
            }
        }
    }
}
