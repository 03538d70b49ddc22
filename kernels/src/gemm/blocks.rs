//! Which way a product goes, and in blocks of what size: by shape, layout and caches alone.

use super::{Gemm, KC, MC, NC};
use crate::isa::Caches;
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

impl Way {
    #[cfg_attr(vectors, inline(always))]
    pub(super) fn of<S: Simd>(g: &Gemm<'_>) -> Way {
        let nr = S::NV * S::LANES;
        let must_pack_a = g.a_col != 1 || g.alpha != 1.0;
        // A packed A is one stream instead of one a row; packing repays itself over some panels.
        let pack_a = must_pack_a || g.n > 4 * nr;
        let in_place =
            Way { b: Source::Rows, pack_a, mr: S::MR, nr, mc: MC, kc: KC, nc: NC, ahead: 0 };
        let floats = g.k.saturating_mul(g.n);
        if !g.panels && g.b_col == 1 && floats <= SMALL {
            return in_place;
        }
        if const { S::LANES == 1 } && !g.panels && g.b_row == 1 && floats <= SMALL {
            return Way { b: Source::Columns, ..in_place };
        }
        if !g.panels && g.b_row == 1 && g.b_col != 1 && g.m <= S::MR_BY_COLUMNS {
            return Way {
                b: Source::Columns,
                pack_a: must_pack_a || g.m > 1,
                mr: S::MR_BY_COLUMNS,
                nr: LANES,
                kc: DEEP,
                ahead: 8 * LANES,
                ..in_place
            };
        }
        let caches = Caches::detect();
        if !g.panels && g.b_col == 1 && g.m <= 2 * S::MR && floats > caches.l2 / 8 {
            return Way { kc: SHALLOW, nc: usize::MAX, ahead: 32 * nr, ..in_place };
        }
        if !g.panels && g.b_col == 1 && g.m <= 4 * S::MR {
            return in_place;
        }
        let b = if g.panels { Source::Prepacked } else { Source::Packed };
        Way { b, ..in_place }.fitted(&caches)
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
        let kc = whole(caches.l1 / 2 / (self.mr + self.nr), LANES, KC);
        let mc = whole((caches.l2 / 24).checked_div(kc).unwrap_or(0), self.mr, MC);
        let nc = whole((caches.l2 / 4).checked_div(kc).unwrap_or(0), self.nr, NC);
        Way { kc, mc, nc, ..self }
    }
}
