//! What a group of query rows packs, and where the values lie.

use super::group::{Block, Group};
use crate::gemm::{B, Packed, Panel, min, pack_panel};
use crate::simd::Simd;

// SAFETY of the methods below: `attention`'s contract; offsets into the workspace are those of
// `Layout`, offsets into operands name elements inside the sizes.
impl<S: Simd> Group<'_, S> {
    /// Tiles of rows, each packed as the product's operand A. A tile may hold the end of one
    /// head and the beginning of the next.
    #[cfg_attr(vectors, inline(always))]
    pub(super) unsafe fn pack_queries(&self) {
        let [_, _, token, dim] = self.x.q.strides;
        for first in (0..self.rows).step_by(S::MR) {
            let rows = min(S::MR, self.rows - first);
            let tile = self.at(first * self.x.dim);
            let mut r = 0;
            while r < rows {
                let at = self.position(first + r);
                let width = min(rows - r, self.x.queries - at.query);
                let panel = Panel {
                    source: self.x.q.at(at, 0),
                    across: token,
                    along: dim,
                    width,
                    depth: self.x.dim,
                    scale: 1.0,
                    ahead: 0,
                };
                let packed = Packed { out: tile.wrapping_add(r), stride: rows, padded: width };
                // SAFETY: the impl block's.
                unsafe { pack_panel(self.s, &panel, packed) };
                r += width;
            }
        }
    }

    /// The block's kept keys as panels of the product's operand B: `[panel][dim][nr]`.
    #[cfg_attr(vectors, inline(always))]
    pub(super) unsafe fn pack_keys(&self, block: Block) {
        let nr = S::NV * S::LANES;
        let (across, along) = self.x.k.strides();
        for first in (block.first / nr * nr..block.end).step_by(nr) {
            if !block.has(first, nr) {
                continue;
            }
            let out = self.at(self.layout.keys + first * self.x.dim);
            let width = min(nr, block.end - first);
            let mut packed = 0;
            while packed < width {
                // SAFETY: the impl block's.
                unsafe {
                    let token = block.start + first + packed;
                    let (source, here) = self.x.k.piece(self.batch, self.kv_head, token);
                    let width = min(width - packed, here);
                    let depth = self.x.dim;
                    let panel = Panel { source, across, along, width, depth, scale: 1.0, ahead: 0 };
                    let out = out.wrapping_add(packed);
                    pack_panel(self.s, &panel, Packed { out, stride: nr, padded: nr - packed });
                    packed += width;
                }
            }
        }
    }

    /// The block's kept values, rows as in the block, where their columns are not contiguous.
    #[cfg_attr(vectors, inline(always))]
    pub(super) unsafe fn pack_values(&self, block: Block) {
        let (along, across) = self.x.v.strides();
        let width = self.layout.width;
        let mut key = block.first;
        while key < block.end {
            // SAFETY: the impl block's.
            unsafe {
                let (source, here) = self.x.v.piece(self.batch, self.kv_head, block.start + key);
                let depth = min(block.end - key, here);
                let panel = Panel {
                    source,
                    across,
                    along,
                    width: self.x.value_dim,
                    depth,
                    scale: 1.0,
                    ahead: 0,
                };
                let out = self.at(self.layout.values + key * width);
                pack_panel(self.s, &panel, Packed { out, stride: width, padded: width });
                key += depth;
            }
        }
    }

    /// Where the values of the block's key `key` lie, contiguous, and how many keys' values from it
    /// on lie alike.
    #[cfg_attr(vectors, inline(always))]
    pub(super) unsafe fn values(&self, block: Block, key: usize) -> (*const f32, usize) {
        if self.x.v.strides().1 != 1 {
            let packed = self.at(self.layout.values + key * self.layout.width);
            return (packed.cast_const(), usize::MAX);
        }
        // SAFETY: the impl block's.
        unsafe { self.x.v.piece(self.batch, self.kv_head, block.start + key) }
    }

    /// Values from column `c` on as a tile reads them.
    #[cfg_attr(vectors, inline(always))]
    pub(super) fn values_operand(&self, values: *const f32, c: usize) -> B {
        match self.x.v.strides() {
            (token, 1) => B::Rows(values.wrapping_add(c), token),
            _ => B::Padded(values.wrapping_add(c), self.layout.width),
        }
    }
}
