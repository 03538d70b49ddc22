//! Masks as kernels read them: a range of keys for each row, and matrices of numbers.
//!
//! The crate `masktile` lowers its masks to a [`Plan`]. A position is kept when it lies in every
//! range, no boolean matrix masks it, and no bias is -infinity there. A masked position's score
//! is replaced, never added to, so a NaN or an infinity behind a mask stays there.

use crate::gemm::load_strided;
use crate::simd::{LANES, Simd};

/// Masks of one sort that may be composed.
pub const MAX_OF_A_SORT: usize = 4;

/// Where a row of scores stands.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Row {
    pub batch: usize,
    pub head: usize,
    pub query: usize,
}

/// A mask that keeps one run of keys in each row.
#[derive(Clone, Copy, Debug)]
pub enum Range<'a> {
    /// Keys up to `query + offset`.
    Causal(isize),
    /// The same with an offset for each batch.
    CausalPerBatch(&'a [isize]),
    /// The first so many keys of each batch.
    KeyLengths(&'a [usize]),
}

/// Numbers by batch, head, query and key; a stride of 0 repeats them.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Grid<T> {
    pub data: *const T,
    pub strides: [usize; 4],
}

impl<T> Grid<T> {
    /// The number at a position.
    #[inline(always)]
    pub(crate) fn at(&self, row: Row, key: usize) -> *const T {
        let [batch, head, query, column] = self.strides;
        let offset = row.batch * batch + row.head * head + row.query * query + key * column;
        self.data.wrapping_add(offset)
    }
}

/// A boolean matrix of bytes, with the meaning of a byte that is not zero.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Bool {
    pub grid: Grid<u8>,
    pub ones_are_kept: bool,
}

/// A few values without an allocator.
#[derive(Clone, Copy, Debug)]
pub struct Few<T> {
    items: [Option<T>; MAX_OF_A_SORT],
    len: usize,
}

impl<T: Copy> Few<T> {
    const EMPTY: Self = Few { items: [None; MAX_OF_A_SORT], len: 0 };

    /// Appends `item`; false if there is no place.
    #[must_use]
    pub fn push(&mut self, item: T) -> bool {
        let Some(place) = self.items.get_mut(self.len) else { return false };
        *place = Some(item);
        self.len += 1;
        true
    }

    #[inline(always)]
    fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter().map_while(Option::as_ref)
    }
}

/// The masks of one call, sorted by how a kernel applies them.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Plan<'a> {
    pub ranges: Few<Range<'a>>,
    pub bools: Few<Bool>,
    pub biases: Few<Grid<f32>>,
}

impl Plan<'_> {
    /// Keeps everything.
    pub const EMPTY: Self = Plan { ranges: Few::EMPTY, bools: Few::EMPTY, biases: Few::EMPTY };

    /// Whether positions inside a row's range need a look of their own.
    #[inline(always)]
    pub(crate) fn is_elementwise(&self) -> bool {
        self.bools.len + self.biases.len > 0
    }

    /// The keys that the ranges keep, as first and end; `(0, 0)` where they keep none.
    #[inline(always)]
    pub(crate) fn range(&self, row: Row, keys: usize) -> (usize, usize) {
        let causal = |offset: isize| {
            let end = (row.query as isize).saturating_add(offset).saturating_add(1);
            usize::try_from(end).unwrap_or(0)
        };
        let mut end = keys;
        for range in self.ranges.iter() {
            end = end.min(match range {
                Range::Causal(offset) => causal(*offset),
                Range::CausalPerBatch(offsets) => offsets.get(row.batch).map_or(0, |o| causal(*o)),
                Range::KeyLengths(lengths) => lengths.get(row.batch).copied().unwrap_or(0),
            });
        }
        (0, end)
    }

    /// Adds the biases to the scores `v` of `n` keys from `key` on, then puts -infinity wherever a
    /// matrix masks.
    ///
    /// # Safety
    /// The grids have those positions, valid for reading.
    #[inline(always)]
    pub(crate) unsafe fn apply<S: Simd>(
        &self,
        s: S,
        row: Row,
        key: usize,
        n: usize,
        mut v: S::V,
    ) -> S::V {
        let mut kept = s.first(LANES);
        for grid in self.biases.iter() {
            // SAFETY: the caller's.
            let bias = unsafe { load_strided(s, grid.at(row, key), grid.strides[3], n) };
            v = s.add(v, bias);
            kept = s.and(kept, s.not(s.lt(bias, s.splat(f32::MIN))));
        }
        for mask in self.bools.iter() {
            // SAFETY: the caller's.
            let ones = unsafe { load_bytes(s, mask.grid.at(row, key), mask.grid.strides[3], n) };
            kept = s.and(kept, if mask.ones_are_kept { ones } else { s.not(ones) });
        }
        s.select(kept, v, s.splat(f32::NEG_INFINITY))
    }

    /// Whether the matrices keep one position (the ranges are the caller's to ask).
    ///
    /// # Safety
    /// The grids have that position, valid for reading.
    pub(crate) unsafe fn is_kept(&self, row: Row, key: usize) -> bool {
        // SAFETY: the caller's.
        let kept = |m: &Bool| unsafe { (m.grid.at(row, key).read() != 0) == m.ones_are_kept };
        // SAFETY: the caller's.
        let finite = |b: &Grid<f32>| unsafe { b.at(row, key).read() != f32::NEG_INFINITY };
        self.bools.iter().all(kept) && self.biases.iter().all(finite)
    }
}

/// Which of `n <= 16` bytes, `stride` apart, are not zero.
///
/// # Safety
/// Those bytes are valid for reading.
#[inline(always)]
unsafe fn load_bytes<S: Simd>(s: S, p: *const u8, stride: usize, n: usize) -> S::M {
    // SAFETY: the caller's.
    unsafe {
        if stride == 1 {
            return s.nonzero_bytes(p, n);
        }
        let mut bytes = [0u8; LANES];
        for (i, byte) in bytes.iter_mut().enumerate() {
            if i < n {
                *byte = p.wrapping_add(i * stride).read();
            }
        }
        s.nonzero_bytes(bytes.as_ptr(), LANES)
    }
}
