//! What a group of query rows packs, and where the values lie.

use super::group::{Block, Group};
use super::scaled::{PackKeys, PackValues, ScaledTokens};
use super::tokens::{Data, Tokens};
use crate::gemm::{A, B, Packed, Panel, min, most_rows, pack_any};
use crate::mask::Row;
use crate::simd::{LANES, Simd};

// SAFETY of the methods below: `attention`'s contract; offsets into the workspace are those of
// `Layout`, offsets into operands name elements inside the sizes.
impl<S: Simd, const MIXED: bool> Group<'_, S, MIXED> {
    /// The rows `first..first + rows`, a tile of them, where they lie, if a tile can read them so and
    /// too few tiles do to repay packing. A single row lies as a packed one would.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn queries_in_place(&self, first: usize, rows: usize) -> Option<A> {
        let [_, _, token, dim] = self.x.q.strides;
        if dim != 1 || !self.x.q.is_f32::<MIXED>() {
            return None;
        }
        // SAFETY: the impl block's.
        let at = unsafe { self.row(first) };
        let lie = self.x.q.at(at, 0).of();
        if rows == 1 {
            return Some(A::Packed(lie, 1));
        }
        let is_one_head = at.query + rows <= self.x.queries;
        let few_tiles = self.x.keys <= 4 * S::NV * S::LANES && !self.reads_keys();
        if is_one_head && few_tiles { Some(A::Rows(lie, token)) } else { None }
    }

    /// The same rows, where they lie or where [`Group::pack_queries`] put them.
    #[cfg_attr(vectors, inline(always))]
    pub(super) unsafe fn queries_operand(&self, first: usize, rows: usize) -> A {
        let packed = self.at(first * self.x.dim).cast_const();
        // SAFETY: the impl block's.
        match unsafe { self.queries_in_place(first, rows) } {
            Some(queries) => queries,
            None => A::Packed(packed, rows),
        }
    }

    /// Tiles of rows, such as tiles do not read where they lie, each packed as the product's operand
    /// A. A tile may hold the end of one head and the beginning of the next.
    #[cfg_attr(vectors, inline(always))]
    pub(super) unsafe fn pack_queries(&self) {
        let [_, _, token, dim] = self.x.q.strides;
        for first in (0..self.rows).step_by(S::MR) {
            let rows = min(S::MR, self.rows - first);
            // SAFETY: the impl block's.
            if unsafe { self.queries_in_place(first, rows) }.is_some() {
                continue;
            }
            let tile = self.at(first * self.x.dim);
            let mut r = 0;
            while r < rows {
                // SAFETY: the impl block's.
                let at = unsafe { self.row(first + r) };
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
                unsafe { pack_any::<S, MIXED>(self.s, &panel, packed) };
                r += width;
            }
        }
    }

    /// Whether tiles read keys where they lie: a packed copy for a single tile would be used once.
    #[cfg_attr(vectors, inline(always))]
    fn reads_keys(&self) -> bool {
        let (token, dim) = self.x.k.strides();
        if self.x.k.is_f32::<MIXED>() {
            let by_columns = S::LANES == 1 || self.rows <= S::MR_BY_COLUMNS;
            self.rows <= S::MR && (token == 1 || dim == 1 && by_columns)
        } else {
            // Halves, by columns alone.
            let halves = S::LANES == LANES && matches!(self.x.k.data, Data::Numbers(_));
            halves && dim == 1 && self.rows <= most_rows::<S>()
        }
    }

    /// Keys of a tile.
    #[cfg_attr(vectors, inline(always))]
    pub(super) fn keys_at_once(&self) -> usize {
        // By columns a tile is one vector wide.
        if self.reads_keys() { min(S::NV * S::LANES, LANES) } else { S::NV * S::LANES }
    }

    /// The `width` keys from the block's key `key` on as a tile reads them where they lie, if it can.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn keys_in_place(&self, block: Block, key: usize, width: usize) -> Option<B> {
        let Data::Numbers(keys) = self.x.k.data else { return None };
        if !self.reads_keys() {
            return None;
        }
        // SAFETY: the impl block's.
        let (row, here) = unsafe { self.x.k.piece(self.batch, self.kv_head, block.start + key) };
        let (source, (token, dim)) = (keys.at(row, 0), self.x.k.strides());
        if here < width {
            None
        } else if token == 1 && self.x.k.is_f32::<MIXED>() {
            Some(B::Rows(source.of(), dim))
        } else {
            let is_whole = const { S::LANES == 1 } || width == LANES;
            is_whole.then_some(B::Columns(source, token))
        }
    }

    /// The same keys, where they lie or where [`Group::pack_keys`] put them.
    #[cfg_attr(vectors, inline(always))]
    pub(super) unsafe fn keys_operand(&self, block: Block, key: usize, width: usize) -> B {
        let packed = self.at(self.layout.keys + key * self.x.dim);
        // SAFETY: the impl block's.
        let in_place = unsafe { self.keys_in_place(block, key, width) };
        match in_place {
            Some(keys) => keys,
            None => B::Padded(packed, self.keys_at_once()),
        }
    }

    /// The block's kept keys, such as tiles do not read where they lie, as panels of the product's
    /// operand B: `[panel][dim][nr]`.
    #[cfg_attr(vectors, inline(always))]
    pub(super) unsafe fn pack_keys(&self, block: Block) {
        let nr = self.keys_at_once();
        let depth = self.x.dim;
        for first in (block.first / nr * nr..block.end).step_by(nr) {
            let width = min(nr, block.end - first);
            // SAFETY: the impl block's.
            if !block.has(first, nr) || unsafe { self.keys_in_place(block, first, width) }.is_some()
            {
                continue;
            }
            let out = self.at(self.layout.keys + first * depth);
            let mut done = 0;
            while done < width {
                // SAFETY: the impl block's.
                unsafe {
                    let token = block.start + first + done;
                    let (row, here) = self.x.k.piece(self.batch, self.kv_head, token);
                    let tokens = min(width - done, here);
                    let out = out.wrapping_add(done);
                    let packed = Packed { out, stride: nr, padded: nr - done };
                    match self.x.k.data {
                        Data::Numbers(keys) => {
                            let (across, along) = self.x.k.strides();
                            let (source, width) = (keys.at(row, 0), tokens);
                            let panel =
                                Panel { source, across, along, width, depth, scale: 1.0, ahead: 0 };
                            pack_any::<S, MIXED>(self.s, &panel, packed);
                        }
                        Data::Scaled { .. } => {
                            if let Some(keys) = scaled::<MIXED>(&self.x.k, row, tokens, depth) {
                                self.s.run(PackKeys(keys, packed));
                            }
                        }
                    }
                    done += tokens;
                }
            }
        }
    }

    /// The block's kept values, rows as in the block, where no tile can read them as they lie.
    #[cfg_attr(vectors, inline(always))]
    pub(super) unsafe fn pack_values(&self, block: Block) {
        let (stride, width) = (self.layout.width, self.x.value_dim);
        let mut key = block.first;
        while key < block.end {
            // SAFETY: the impl block's.
            unsafe {
                let (row, here) = self.x.v.piece(self.batch, self.kv_head, block.start + key);
                let tokens = min(block.end - key, here);
                let out = self.at(self.layout.values + key * stride);
                let packed = Packed { out, stride, padded: stride };
                match self.x.v.data {
                    Data::Numbers(values) => {
                        let (along, across) = self.x.v.strides();
                        let (source, depth) = (values.at(row, 0), tokens);
                        let panel =
                            Panel { source, across, along, width, depth, scale: 1.0, ahead: 0 };
                        pack_any::<S, MIXED>(self.s, &panel, packed);
                    }
                    Data::Scaled { .. } => {
                        if let Some(values) = scaled::<MIXED>(&self.x.v, row, tokens, width) {
                            self.s.run(PackValues(values, packed));
                        }
                    }
                }
                key += tokens;
            }
        }
    }

    /// Where the values of the block's key `key` lie, contiguous, and how many keys' values from it
    /// on lie alike.
    #[cfg_attr(vectors, inline(always))]
    pub(super) unsafe fn values(&self, block: Block, key: usize) -> (*const f32, usize) {
        let packed = self.at(self.layout.values + key * self.layout.width).cast_const();
        match self.x.v.data {
            Data::Numbers(values) if self.x.v.lie_as_rows::<MIXED>() => {
                // SAFETY: the impl block's.
                let (row, here) =
                    unsafe { self.x.v.piece(self.batch, self.kv_head, block.start + key) };
                (values.at(row, 0).of(), here)
            }
            _ => (packed, usize::MAX),
        }
    }

    /// Values from column `c` on as a tile reads them.
    #[cfg_attr(vectors, inline(always))]
    pub(super) fn values_operand(&self, values: *const f32, c: usize) -> B {
        if self.x.v.lie_as_rows::<MIXED>() {
            B::Rows(values.wrapping_add(c), self.x.v.strides().0)
        } else {
            B::Padded(values.wrapping_add(c), self.layout.width)
        }
    }
}

/// So many tokens from `row` on, where they are of eight bits and such are compiled in.
#[cfg_attr(vectors, inline(always))]
fn scaled<const MIXED: bool>(
    all: &Tokens,
    row: Row,
    tokens: usize,
    width: usize,
) -> Option<ScaledTokens> {
    let Data::Scaled { codes, scales } = all.data else { return None };
    let (token, dim) = all.strides();
    MIXED.then_some(ScaledTokens {
        codes: codes.at(row, 0),
        scales: scales.at(row, 0),
        token,
        dim,
        scale: scales.strides[2],
        tokens,
        width,
    })
}
