//! Which way a product goes, and in blocks of what size: by shape, layout and caches alone.

use super::columns::most_rows;
use super::{Gemm, KC, MAX_MR, MC, NC, Right};
use crate::isa::Caches;
use crate::number::Dtype;
use crate::simd::{LANES, Simd};

/// How a tile comes by its columns of B.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Source {
    /// Where they lie, as rows of contiguous columns.
    Rows,
    /// Where they lie, as contiguous columns.
    Columns,
    /// From a panel packed just before its first tile.
    Packed,
    /// From panels that the caller packed beforehand.
    Prepacked,
}

/// A way through the product.
pub(super) struct Way {
    pub b: Source,
    pub pack_a: bool,
    /// Rows and columns of a tile.
    pub mr: usize,
    pub nr: usize,
    /// Rows, depth and columns of a block.
    pub mc: usize,
    pub kc: usize,
    pub nc: usize,
    /// Depth of B that is packed before its tiles are computed, where that is less than a block's.
    pub piece: usize,
    /// How far ahead, in elements of B, a tile asks for cache lines; 0 for not at all.
    pub ahead: usize,
}

/// Depth of a block where few rows pass over a B that lies by rows: so few that the processor's
/// prefetchers follow each row of B, so many that C is not loaded and stored too often. 8, 16 and
/// 32 were alike at 1 x 4096 x 4096.
const SHALLOW: usize = 16;
/// Depth of a block where few rows pass over a B that lies by columns. 4 x 4096 x 4096 took 0.63
/// of its time at 512 with 4096, and 0.70 with 1024.
pub(super) const DEEP: usize = 2048;
/// Floats of a B that stays in L1 and L2 as it lies, whatever the number of rows.
const SMALL: usize = 16 * 1024;

/// How far ahead, in elements, cache lines are asked for where few rows pass over a B not of f32.
const AHEAD: usize = 256;
/// Depth of a piece of B, by columns and not of f32, that few rows pass over: widened into L1, where
/// its tiles find it. A block has whole pieces of whole cache lines.
const PIECE: usize = 64;

impl Way {
    /// The way of a B whose rows are read where they lie, and stay in a cache.
    #[cfg_attr(vectors, inline(always))]
    pub(super) fn in_place<S: Simd>(pack_a: bool) -> Way {
        let nr = S::NV * S::LANES;
        let (b, mr, piece) = (Source::Rows, S::MR, KC);
        Way { b, pack_a, mr, nr, mc: MC, kc: KC, nc: NC, piece, ahead: 0 }
    }

    #[cfg_attr(vectors, inline(always))]
    pub(super) fn of<S: Simd, const MIXED: bool>(g: &Gemm<'_>) -> Way {
        let nr = S::NV * S::LANES;
        let must_pack_a = g.a_col != 1 || g.alpha != 1.0 || (MIXED && g.a.dtype() != Dtype::F32);
        // A packed A is one stream instead of one a row; packing repays itself over some panels.
        let pack_a = must_pack_a || g.n > 4 * nr;
        let in_place = Way::in_place::<S>(pack_a);
        let floats = g.k.saturating_mul(g.n);
        let b = match g.b {
            Right::Panels(_) => {
                return Way { b: Source::Prepacked, ..in_place }.fitted(&Caches::detect());
            }
            Right::Quantised(_) if MIXED => return in_place.widened::<S>(g, must_pack_a),
            Right::Numbers(b) => b.dtype(),
            Right::Quantised(_) => Dtype::F32,
        };
        if MIXED && b != Dtype::F32 {
            return in_place.widened::<S>(g, must_pack_a);
        }
        if g.b_col == 1 && floats <= SMALL {
            return in_place;
        }
        if const { S::LANES == 1 } && g.b_row == 1 && floats <= SMALL {
            return Way { b: Source::Columns, ..in_place };
        }
        if g.b_row == 1 && g.b_col != 1 && g.m <= S::MR_BY_COLUMNS {
            return Way {
                b: Source::Columns,
                pack_a: must_pack_a || g.m > 1,
                mr: S::MR_BY_COLUMNS,
                nr: LANES,
                kc: DEEP,
                piece: DEEP,
                ahead: 8 * LANES,
                ..in_place
            };
        }
        let caches = Caches::detect();
        if g.b_col == 1 && g.m <= 2 * S::MR && floats > caches.l2 / 8 {
            return Way { kc: SHALLOW, nc: usize::MAX, ahead: 32 * nr, ..in_place };
        }
        if g.b_col == 1 && g.m <= 4 * S::MR {
            return in_place;
        }
        Way { b: Source::Packed, ..in_place }.fitted(&caches)
    }

    /// The way of a B that is not of f32, which only few rows pass over as it lies: widening is a part
    /// of packing, or of turning columns.
    #[cfg_attr(vectors, inline(always))]
    fn widened<S: Simd>(self, g: &Gemm<'_>, must_pack_a: bool) -> Way {
        let packed = Way { b: Source::Packed, ..self };
        if g.m > MAX_MR {
            return packed.fitted(&Caches::detect());
        }
        let is_quantised = matches!(g.b, Right::Quantised(_));
        // As many rows of B at once as the prefetchers follow, or pieces of as many columns as a
        // panel has.
        if g.b_row != 1 && !is_quantised {
            return Way { kc: SHALLOW, piece: SHALLOW, nc: usize::MAX, ahead: AHEAD, ..packed };
        }
        // Of fewer bits a cache line is more numbers: 1 x 4096 x 4096 of Q8_0 took 0.95 of its time.
        let ahead = if is_quantised { AHEAD / 2 } else { AHEAD };
        let pack_a = must_pack_a || g.m > 1;
        let pieces = Way { pack_a, kc: DEEP, piece: PIECE, ahead, ..packed };
        if const { S::LANES == 1 } || g.m > most_rows::<S>() {
            return pieces;
        }
        let nr = if is_quantised && g.m == 1 { 2 * LANES } else { LANES };
        Way { b: Source::Columns, mr: most_rows::<S>(), nr, piece: DEEP, ..pieces }
    }

    /// Columns of the next tile, of which so many are left: where they lie as columns, whole vectors
    /// before the rest.
    #[cfg_attr(vectors, inline(always))]
    pub(super) fn width(&self, left: usize) -> usize {
        let whole = self.nr.min(left);
        if self.b == Source::Columns && left < self.nr { whole.min(LANES) } else { whole }
    }

    /// Blocks of packed operands. A panel of B and one of A together are up to twice L1: the
    /// panel of B streams from L2, which at 512^3 cost nothing against one of half the depth.
    /// The block of A takes a sixth of L2 (84 and 168 rows of 512 were alike, 504 a tenth
    /// slower), the block of B as much as L2.
    #[cfg_attr(vectors, inline(always))]
    fn fitted(self, caches: &Caches) -> Way {
        let whole = |n: usize, unit: usize, limit: usize| {
            let n = if n < limit { n } else { limit };
            let units = n.checked_div(unit).unwrap_or(0);
            if units == 0 { unit } else { units * unit }
        };
        let line = self.mr + self.nr;
        let kc = whole((caches.l1 / 2).checked_div(line).unwrap_or(0), 2 * LANES, KC);
        let mc = whole((caches.l2 / 24).checked_div(kc).unwrap_or(0), self.mr, MC);
        let nc = whole((caches.l2 / 4).checked_div(kc).unwrap_or(0), self.nr, NC);
        Way { kc, piece: kc, mc, nc, ..self }
    }
}
