//! The five loops around the tile.

use super::blocks::{Source, Way};
use super::columns::run_any_tile;
use super::epilogue::{Finished, finish, finish_linear};
use super::pack::{Packed, Panel, pack_any};
use super::quantised::{Rows, UNIT, pack_quantised};
use super::tile::{A, B, Tile};
use super::{Gemm, KC, MAX_MR, MAX_NR, MC, Right, Span, min};
use crate::simd::{LANES, Op, Simd};

/// [`super::gemm`] with its instruction set; where not `MIXED` all is of f32, else C is.
pub(super) struct Drive<'a, const MIXED: bool> {
    pub gemm: &'a Gemm<'a>,
    pub workspace: *mut f32,
}

impl<const MIXED: bool> Op for Drive<'_, MIXED> {
    type Out = ();
    #[cfg_attr(vectors, inline(always))]
    fn eval<S: Simd>(self, s: S) {
        if const { !MIXED && S::LANES > 1 } && self.is_small::<S>() {
            // The loops around its one panel would take longer than its tiles.
            let Gemm { m, n, k, .. } = *self.gemm;
            let [rows, depth, columns] = [m, k, n].map(|len| Span { first: 0, len });
            // SAFETY: `gemm`'s contract.
            unsafe {
                self.walk(s, Way::in_place::<S>(false)).block(&Block { rows, depth, columns })
            }
        } else {
            // SAFETY: as above.
            unsafe { self.walk(s, Way::of::<S, MIXED>(self.gemm)).run() }
        }
    }
}

impl<'a, const MIXED: bool> Drive<'a, MIXED> {
    /// Whether it is one block of one panel, all of it read where it lies.
    #[cfg_attr(vectors, inline(always))]
    fn is_small<S: Simd>(&self) -> bool {
        let g = self.gemm;
        matches!(g.b, Right::Numbers(_))
            && [g.a_col, g.b_col, g.c_col] == [1; 3]
            && g.alpha == 1.0
            && g.n <= S::NV * S::LANES
            && g.m <= MC
            && g.k <= KC
    }

    #[cfg_attr(vectors, inline(always))]
    fn walk<S: Simd>(&self, s: S, way: Way) -> Walk<'a, S, MIXED> {
        let packed_a =
            if way.pack_a { min(self.gemm.m, way.mc) * min(self.gemm.k, way.kc) } else { 0 };
        Walk {
            s,
            g: self.gemm,
            // Panels of B stay where another block of rows will read them.
            keep: self.gemm.m > way.mc,
            packed_b: self.workspace.wrapping_add(packed_a),
            packed_a: self.workspace,
            way,
        }
    }
}

/// A product on its way.
struct Walk<'a, S, const MIXED: bool> {
    s: S,
    g: &'a Gemm<'a>,
    way: Way,
    packed_a: *mut f32,
    packed_b: *mut f32,
    keep: bool,
}

/// What all tiles of a block have in common.
#[derive(Clone, Copy)]
struct Block {
    rows: Span,
    depth: Span,
    columns: Span,
}

// SAFETY of the methods below: `gemm`'s contract. All offsets name elements inside the sizes
// given; packed panels lie in the workspace one behind the other, as `workspace` counts them.
impl<S: Simd, const MIXED: bool> Walk<'_, S, MIXED> {
    #[cfg_attr(vectors, inline(always))]
    unsafe fn run(&self) {
        let (g, way) = (self.g, &self.way);
        let mut columns = Span { first: 0, len: 0 };
        while columns.first < g.n {
            columns.len = min(way.nc, g.n - columns.first);
            let mut depth = Span { first: 0, len: 0 };
            // Once at least: without depth there are still beta and the epilogue.
            loop {
                depth.len = min(way.kc, g.k - depth.first);
                let mut rows = Span { first: 0, len: 0 };
                while rows.first < g.m {
                    rows.len = min(way.mc, g.m - rows.first);
                    // SAFETY: the impl block's.
                    unsafe { self.block(&Block { rows, depth, columns }) };
                    rows.first += rows.len;
                }
                depth.first += depth.len;
                if depth.first >= g.k {
                    break;
                }
            }
            columns.first += columns.len;
        }
    }

    #[cfg_attr(vectors, inline(always))]
    unsafe fn block(&self, block: &Block) {
        // As few tiles as will do, as even as can be.
        let rows = block.rows.len;
        let tiles = (rows + self.way.mr - 1).checked_div(self.way.mr).unwrap_or(0);
        let height = rows.checked_div(tiles).unwrap_or(0);
        let higher = rows.checked_rem(tiles).unwrap_or(0);
        // But of single numbers only whole tiles are fast.
        let (height, higher) =
            if const { S::LANES == 1 } { (self.way.mr, 0) } else { (height, higher) };
        let mut j = 0;
        while j < block.columns.len {
            let width = self.way.width(block.columns.len - j);
            let mut done = 0;
            // Once at least, as above.
            loop {
                let len = min(self.way.piece, block.depth.len - done);
                let piece =
                    Block { depth: Span { first: block.depth.first + done, len }, ..*block };
                // SAFETY: the impl block's.
                unsafe {
                    let b = self.panel_b(&piece, j, width);
                    let mut row = Span { first: 0, len: 0 };
                    for t in 0..tiles {
                        row.len = min(height + if t < higher { 1 } else { 0 }, rows - row.first);
                        let a = self.panel_a(block, row, j == 0 && done == 0).skipping(done);
                        self.tile(&piece, row, Span { first: j, len: width }, a, b);
                        row.first += row.len;
                    }
                }
                done += len;
                if done >= block.depth.len {
                    break;
                }
            }
            j += width;
        }
    }

    /// The block's columns of B from column `j` of the block on.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn panel_b(&self, block: &Block, j: usize, width: usize) -> B {
        let (g, way) = (self.g, &self.way);
        let (pc, depth) = (block.depth.first, block.depth.len);
        let column = block.columns.first + j;
        let b = match g.b {
            Right::Panels(b) => {
                return B::Padded(b.wrapping_add(column * g.k + pc * way.nr), way.nr);
            }
            Right::Numbers(b) => {
                let b = b.skip(column * g.b_col);
                let here = b.skip(pc * g.b_row);
                match way.b {
                    Source::Rows => return B::Rows(here.of(), g.b_row),
                    Source::Columns if width == LANES || const { S::LANES == 1 } => {
                        return B::Columns(here, g.b_col);
                    }
                    Source::Packed | Source::Columns | Source::Prepacked => Right::Numbers(b),
                }
            }
            Right::Quantised(b) => {
                let b = b.skip(column);
                if MIXED && way.b == Source::Columns && width >= LANES {
                    return B::Units(b, pc / UNIT);
                }
                Right::Quantised(b)
            }
        };
        let stride = if way.b == Source::Columns { min(way.nr, LANES) } else { way.nr };
        let slot = self.packed_b.wrapping_add(if self.keep { j * depth } else { 0 });
        if !self.keep || block.rows.first == 0 {
            let packed = Packed { out: slot, stride, padded: stride };
            // SAFETY: the impl block's.
            unsafe { self.pack_columns(b, width, block.depth, packed) };
        }
        B::Padded(slot, stride)
    }

    /// Packs columns of B, from the first of `b` on.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn pack_columns(&self, b: Right, width: usize, depth: Span, packed: Packed) {
        let (g, ahead) = (self.g, self.way.ahead);
        // SAFETY: the impl block's.
        unsafe {
            match b {
                Right::Numbers(b) => {
                    let source = b.skip(depth.first * g.b_row);
                    let (across, along, depth) = (g.b_col, g.b_row, depth.len);
                    let panel = Panel { source, across, along, width, depth, scale: 1.0, ahead };
                    pack_any::<S, MIXED>(self.s, &panel, packed);
                }
                Right::Quantised(weight) if MIXED => {
                    pack_quantised(self.s, Rows { weight, len: width, depth, ahead }, packed);
                }
                Right::Quantised(_) | Right::Panels(_) => {}
            }
        }
    }

    /// The block's rows of A; `first` for the first time.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn panel_a(&self, block: &Block, row: Span, first: bool) -> A {
        let g = self.g;
        let at = (block.rows.first + row.first) * g.a_row + block.depth.first * g.a_col;
        let source = g.a.skip(at);
        if !self.way.pack_a {
            // A single row is a panel as it lies.
            let source = source.of();
            return if row.len == 1 { A::Packed(source, 1) } else { A::Rows(source, g.a_row) };
        }
        let slot = self.packed_a.wrapping_add(row.first * block.depth.len);
        if first {
            let (across, along, width, depth) = (g.a_row, g.a_col, row.len, block.depth.len);
            let scale = g.alpha;
            let panel = Panel { source, across, along, width, depth, scale, ahead: 0 };
            // SAFETY: the impl block's.
            unsafe {
                let packed = Packed { out: slot, stride: width, padded: width };
                pack_any::<S, MIXED>(self.s, &panel, packed);
            }
        }
        A::Packed(slot, row.len)
    }

    #[cfg_attr(vectors, inline(always))]
    unsafe fn tile(&self, block: &Block, row: Span, column: Span, a: A, b: B) {
        let g = self.g;
        let (i, j) = (block.rows.first + row.first, block.columns.first + column.first);
        let tile = Tile {
            rows: row.len,
            columns: column.len,
            depth: block.depth.len,
            a,
            b,
            ahead: self.way.ahead,
            beta: if block.depth.first == 0 { g.beta } else { 1.0 },
            c: g.c.skip(i * g.c_row + j * g.c_col).of(),
            c_row: g.c_row,
        };
        let last = block.depth.first + block.depth.len == g.k;
        // SAFETY: the impl block's.
        unsafe {
            if g.c_col == 1 {
                self.compute(&tile);
                self.finish(last, &tile, i, j);
            } else {
                self.scattered(last, &tile, i, j);
            }
        }
    }

    #[cfg_attr(vectors, inline(always))]
    unsafe fn compute(&self, tile: &Tile) {
        // SAFETY: the impl block's.
        unsafe { run_any_tile::<S, MIXED>(self.s, tile) }
    }

    #[cfg_attr(vectors, inline(always))]
    unsafe fn finish(&self, last: bool, tile: &Tile, row: usize, column: usize) {
        if !last || self.g.epilogue.is_none() {
            return;
        }
        let Tile { c, c_row, rows, columns, .. } = *tile;
        let tile = Finished { c, c_row, rows, columns, row, column };
        let epilogue = &self.g.epilogue;
        if const { S::LANES == LANES } && self.s.run(FinishLinear(epilogue, &tile)) {
            return;
        }
        self.s.run(Finish(epilogue, tile));
    }

    /// A tile of a C whose columns are not contiguous, by way of a contiguous one.
    #[inline(never)]
    unsafe fn scattered(&self, last: bool, tile: &Tile, row: usize, column: usize) {
        let mut contiguous = [0f32; MAX_MR * MAX_NR];
        // SAFETY: rows <= MAX_MR and columns <= MAX_NR index the array, and name elements of C.
        unsafe {
            let at = |i: usize, j: usize| tile.c.wrapping_add(i * tile.c_row + j * self.g.c_col);
            let p = contiguous.as_mut_ptr();
            if tile.beta != 0.0 {
                for i in 0..tile.rows {
                    for j in 0..tile.columns {
                        p.add(i * MAX_NR + j).write(at(i, j).read());
                    }
                }
            }
            let inner = Tile { c: p, c_row: MAX_NR, ..*tile };
            self.compute(&inner);
            self.finish(last, &inner, row, column);
            for i in 0..tile.rows {
                for j in 0..tile.columns {
                    at(i, j).write(p.add(i * MAX_NR + j).read());
                }
            }
        }
    }
}

/// [`finish_linear`] in a function of its own, compiled once.
struct FinishLinear<'a>(&'a super::Epilogue<'a>, &'a Finished);

impl Op for FinishLinear<'_> {
    type Out = bool;
    #[cfg_attr(vectors, inline(always))]
    fn eval<S: Simd>(self, s: S) -> bool {
        // SAFETY: as of `Finish`.
        unsafe { finish_linear(s, self.0, self.1) }
    }
}

/// [`finish`] in a function of its own, compiled once.
struct Finish<'a>(&'a super::Epilogue<'a>, Finished);

impl Op for Finish<'_> {
    type Out = ();
    #[cfg_attr(vectors, inline(always))]
    fn eval<S: Simd>(self, s: S) {
        // SAFETY: `Walk::finish`, which made it, and `gemm`'s contract.
        unsafe { finish(s, self.0, &self.1) }
    }
}
