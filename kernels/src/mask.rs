//! Masks as kernels read them: a run of keys for each row, bits for 16 keys at a time, and numbers
//! that are added to the scores.
//!
//! The crate `masktile` lowers its masks to a [`Plan`]. A position is kept when it lies in every
//! range, every [`Bits`] keeps it, and no bias is -infinity there. A masked position's score is
//! replaced, never added to, so a NaN or an infinity behind a mask stays there. A mask that was not
//! compiled ([`ALL`]) keeps nothing.

use core::fmt;
use core::num::NonZeroUsize;

use crate::gemm::{load_strided, min};
use crate::simd::{LANES, Simd};

/// Whether all masks were compiled: see the feature.
pub const ALL: bool = cfg!(feature = "masks");

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

/// How queries stand beside keys: query `i` stands at key `i + offset`.
#[derive(Clone, Copy, Debug)]
pub enum Offset<'a> {
    /// The same for every batch.
    Same(isize),
    /// One for each batch.
    PerBatch(&'a [isize]),
    /// One for each batch: the tokens before its first query.
    Past(&'a [usize]),
    /// The last of so many queries stands at the last of a batch's `lengths` keys.
    #[allow(missing_docs)]
    EndingAt { lengths: &'a [usize], queries: usize },
}

impl Offset<'_> {
    /// The key that the row's query stands at, saturating; none for a batch without an offset.
    #[cfg_attr(vectors, inline(always))]
    fn key(&self, row: Row) -> Option<isize> {
        let signed = |size: usize| isize::try_from(size).unwrap_or(isize::MAX);
        let offset = match *self {
            Offset::Same(offset) => offset,
            Offset::PerBatch(offsets) => *offsets.get(row.batch)?,
            Offset::Past(past) => signed(*past.get(row.batch)?),
            Offset::EndingAt { lengths, queries } => {
                signed(*lengths.get(row.batch)?) - signed(queries)
            }
        };
        Some(signed(row.query).saturating_add(offset))
    }
}

/// A mask that keeps one run of keys in each row.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Range<'a> {
    /// Keys from `left` before to `right` behind the key that the query stands at.
    Band { offset: Offset<'a>, left: usize, right: usize },
    /// The first `lengths[batch]` keys, and those up to the one that the query stands at.
    Prefix { offset: Offset<'a>, lengths: &'a [usize] },
    /// The first so many keys of each batch.
    KeyLengths(&'a [usize]),
    /// Keys from the first number up to the second, of each batch.
    KeyRanges(&'a [core::ops::Range<usize>]),
    /// The keys of the query's own segment: segment `s` is `queries[s]..queries[s + 1]` and
    /// `keys[s]..keys[s + 1]`. With `causal` the segment's last query sees its last key, each
    /// query before it one key fewer.
    Packed { queries: &'a [usize], keys: &'a [usize], causal: bool },
}

impl Range<'_> {
    /// First and end of the row's run; an end that is not behind the first for none.
    #[cfg_attr(vectors, inline(always))]
    fn run(&self, row: Row) -> Option<(usize, usize)> {
        // One behind `key`, 0 for a key before the first.
        let behind = |key: isize| usize::try_from(key.saturating_add(1)).unwrap_or(0);
        Some(match *self {
            Range::Band { offset, left, right } => {
                let signed = |size: usize| isize::try_from(size).unwrap_or(isize::MAX);
                let key = offset.key(row)?;
                let first = key.saturating_sub(signed(left));
                (usize::try_from(first).unwrap_or(0), behind(key.saturating_add(signed(right))))
            }
            Range::KeyLengths(lengths) => (0, *lengths.get(row.batch)?),
            _ if !ALL => return None,
            Range::Prefix { offset, lengths } => {
                (0, behind(offset.key(row)?).max(*lengths.get(row.batch)?))
            }
            Range::KeyRanges(ranges) => {
                let range = ranges.get(row.batch)?;
                (range.start, range.end)
            }
            Range::Packed { queries, keys, causal } => {
                let next = queries.partition_point(|start| *start <= row.query);
                let segment = next.checked_sub(1)?;
                let (query_end, first, end) =
                    (*queries.get(next)?, *keys.get(segment)?, *keys.get(next)?);
                let hidden = if causal { query_end.checked_sub(row.query + 1)? } else { 0 };
                (first, end.saturating_sub(hidden))
            }
        })
    }
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
    #[cfg_attr(vectors, inline(always))]
    pub(crate) fn at(&self, row: Row, key: usize) -> *const T {
        let [batch, head, query, column] = self.strides;
        let offset = row.batch * batch + row.head * head + row.query * query + key * column;
        self.data.wrapping_add(offset)
    }

    /// The row's numbers from `key` on.
    #[cfg_attr(vectors, inline(always))]
    fn line(&self, row: Row, key: usize) -> Line<T> {
        Line { p: self.at(row, key), stride: self.strides[3] }
    }
}

/// Numbers a stride apart.
struct Line<T> {
    p: *const T,
    stride: usize,
}

impl<T: Copy + Default> Line<T> {
    /// The first `n <= 16` of them, zero behind.
    ///
    /// # Safety
    /// They are valid for reading.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn read(&self, n: usize) -> [T; LANES] {
        // SAFETY: the caller's.
        unsafe {
            if self.stride == 1 && n >= LANES {
                return self.p.cast::<[T; LANES]>().read();
            }
            let mut numbers = [T::default(); LANES];
            for (i, number) in numbers.iter_mut().enumerate().take(n) {
                *number = self.p.wrapping_add(i * self.stride).read();
            }
            numbers
        }
    }
}

/// `keeps(batch, head, query, key)`
pub type Keeps<'a> = &'a (dyn Fn(usize, usize, usize, usize) -> bool + Sync + 'a);
/// `bias(batch, head, query, key)`
pub type BiasOf<'a> = &'a (dyn Fn(usize, usize, usize, usize) -> f32 + Sync + 'a);

/// A mask that keeps any keys of a row.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub enum Bits<'a> {
    /// A byte for each position.
    Bytes { ones: Grid<u8>, ones_are_kept: bool },
    /// A bit for each position: key `j` is bit `j mod 8` of byte `j / 8` of the row.
    Packed { ones: Grid<u8>, ones_are_kept: bool },
    /// A byte for each block of positions, `block` queries by keys.
    Blocks { ones: Grid<u8>, ones_are_kept: bool, block: [NonZeroUsize; 2] },
    /// Keys of the query's own segment. The identities are by batch and token, which the grids
    /// have as query and as key.
    SameSegment { queries: Grid<i32>, keys: Grid<i32> },
    /// What a function says.
    Where(Keeps<'a>),
}

impl Bits<'_> {
    /// Which of the `n <= 16` keys from `key` on are kept, bit `i` for key `key + i`; the bits
    /// behind them mean nothing.
    ///
    /// # Safety
    /// The grids have those positions, valid for reading.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn kept<S: Simd>(&self, s: S, row: Row, key: usize, n: usize) -> u16 {
        // SAFETY: the caller's.
        unsafe {
            match *self {
                Bits::Bytes { ones, ones_are_kept } => {
                    flip(s.nonzero_bytes(ones.line(row, key).read(n)), !ones_are_kept)
                }
                _ if !ALL => 0,
                Bits::Packed { ones, ones_are_kept } => {
                    let (shift, line) = (key % 8, ones.line(row, key / 8));
                    if shift == 0 && n == LANES && line.stride == 1 {
                        let word = u16::from_le_bytes(line.p.cast::<[u8; 2]>().read());
                        return flip(word, !ones_are_kept);
                    }
                    // 16 bits from any bit of a byte on lie in at most three bytes.
                    let bytes = line.read((shift + n).div_ceil(8));
                    let word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
                    flip((word >> shift) as u16, !ones_are_kept)
                }
                Bits::Blocks { ones, ones_are_kept, block: [queries, keys] } => {
                    let row = Row { query: row.query / queries, ..row };
                    let each = |column: usize| ones.at(row, column).read() != 0;
                    let (first, last) = (key / keys, (key + n.max(1) - 1) / keys);
                    if first == last {
                        return if each(first) == ones_are_kept { u16::MAX } else { 0 };
                    }
                    gather(n, |i| each((key + i) / keys) == ones_are_kept)
                }
                Bits::SameSegment { queries, keys } => {
                    let own = queries.at(row, 0).read();
                    let others = keys.line(Row { query: 0, ..row }, key).read(n);
                    gather(LANES, |i| others[i] == own)
                }
                Bits::Where(keeps) => gather(n, |i| keeps(row.batch, row.head, row.query, key + i)),
            }
        }
    }
}

#[cfg_attr(vectors, inline(always))]
fn flip(bits: u16, if_so: bool) -> u16 {
    if if_so { !bits } else { bits }
}

/// The first `n` bits, all 16 if `n >= 16`.
#[cfg_attr(vectors, inline(always))]
pub(crate) fn first_bits(n: usize) -> u16 {
    if n >= LANES { u16::MAX } else { (1 << n) - 1 }
}

/// Bit `i` for each `i < n <= 16` of which `f` is true.
#[cfg_attr(vectors, inline(always))]
fn gather(n: usize, f: impl Fn(usize) -> bool) -> u16 {
    (0..LANES).fold(0, |bits, i| bits | u16::from(i < n && f(i)) << i)
}

/// Numbers that are added to the scaled scores; -infinity masks its position.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub enum Bias<'a> {
    F32(Grid<f32>),
    /// The bits of IEEE 754 halves.
    F16(Grid<u16>),
    /// The bits of bfloat16.
    Bf16(Grid<u16>),
    /// `-slopes[head] * |p - j|`, with `p` the key that the query stands at; exact distances up
    /// to 2^24. Slopes are finite.
    Alibi {
        slopes: &'a [f32],
        offset: Offset<'a>,
    },
    /// What a function says.
    Of(BiasOf<'a>),
}

impl Bias<'_> {
    /// The biases of the `n` keys of a vector from `key` on; behind them anything.
    ///
    /// # Safety
    /// The grids have those positions, valid for reading.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn load<S: Simd>(&self, s: S, row: Row, key: usize, n: usize) -> S::V {
        // SAFETY: the caller's; an array has 16 numbers.
        unsafe {
            match *self {
                Bias::F32(grid) => load_strided(s, grid.at(row, key), grid.strides[3], n),
                _ if !ALL => s.splat(f32::NEG_INFINITY),
                Bias::F16(grid) => s.widen_f16(grid.line(row, key).read(n)),
                Bias::Bf16(grid) => s.widen_bf16(grid.line(row, key).read(n)),
                Bias::Alibi { slopes, offset } => {
                    let slope = slopes.get(row.head).copied().unwrap_or(0.0);
                    let stands_at = offset.key(row).unwrap_or(0) as i64;
                    let lane: [f32; LANES] = core::array::from_fn(|i| i as f32);
                    let distance = s.splat((key as i64).wrapping_sub(stands_at) as f32);
                    let distance = s.add(distance, s.load(lane.as_ptr()));
                    s.mul(s.copysign(distance, s.splat(-1.0)), s.splat(slope))
                }
                Bias::Of(bias) => {
                    let mut numbers = [0f32; LANES];
                    for (i, number) in numbers.iter_mut().enumerate().take(n) {
                        *number = bias(row.batch, row.head, row.query, key + i);
                    }
                    s.load(numbers.as_ptr())
                }
            }
        }
    }

    /// Whether it may be -infinity.
    #[cfg_attr(vectors, inline(always))]
    fn may_mask(&self) -> bool {
        !matches!(self, Bias::Alibi { .. })
    }
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

    #[cfg_attr(vectors, inline(always))]
    fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter().map_while(Option::as_ref)
    }
}

/// The masks of one call, sorted by how a kernel applies them.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct Plan<'a> {
    pub ranges: Few<Range<'a>>,
    pub bits: Few<Bits<'a>>,
    pub biases: Few<Bias<'a>>,
}

impl fmt::Debug for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { ranges, bits, biases } = self;
        write!(f, "Plan {{ {} ranges, {} bits, {} biases }}", ranges.len, bits.len, biases.len)
    }
}

impl Plan<'_> {
    /// Keeps everything.
    pub const EMPTY: Self = Plan { ranges: Few::EMPTY, bits: Few::EMPTY, biases: Few::EMPTY };

    /// Whether positions inside a row's range need a look of their own.
    #[cfg_attr(vectors, inline(always))]
    pub(crate) fn is_elementwise(&self) -> bool {
        self.bits.len + self.biases.len > 0
    }

    /// Whether numbers are added to scores.
    #[cfg_attr(vectors, inline(always))]
    pub fn has_biases(&self) -> bool {
        self.biases.len > 0
    }

    /// The row's biases from `key` on, where there is one matrix of them, of f32 side by side.
    #[cfg_attr(vectors, inline(always))]
    pub(crate) fn lone_bias(&self, row: Row, key: usize) -> Option<*const f32> {
        match self.biases.items {
            [Some(Bias::F32(grid)), None, ..] if grid.strides[3] == 1 => Some(grid.at(row, key)),
            _ => None,
        }
    }

    /// The keys that the ranges keep, as first and end; `(0, 0)` where they keep none.
    #[cfg_attr(vectors, inline(always))]
    pub(crate) fn range(&self, row: Row, keys: usize) -> (usize, usize) {
        let (mut first, mut end) = (0, keys);
        for range in self.ranges.iter() {
            let run = range.run(row).unwrap_or((0, 0));
            (first, end) = (first.max(run.0), end.min(run.1));
        }
        if first < end { (first, end) } else { (0, 0) }
    }

    /// Which of the `n <= 16` keys from `key` on the matrices and functions keep, bit `i` for key
    /// `key + i` (the ranges are the caller's to ask).
    ///
    /// # Safety
    /// The grids have those positions, valid for reading.
    #[cfg_attr(vectors, inline(always))]
    pub(crate) unsafe fn kept<S: Simd>(&self, s: S, row: Row, key: usize, n: usize) -> u16 {
        // SAFETY: the caller's.
        unsafe { self.kept_by_bits(s, row, key, n) & self.kept_by_biases(s, row, key, n) }
    }

    /// [`Plan::kept`] by biases alone.
    ///
    /// # Safety
    /// As there.
    #[cfg_attr(vectors, inline(always))]
    pub(crate) unsafe fn kept_by_biases<S: Simd>(
        &self,
        s: S,
        row: Row,
        key: usize,
        n: usize,
    ) -> u16 {
        let mut kept = u16::MAX;
        for bias in self.biases.iter() {
            if bias.may_mask() {
                for i in (0..n).step_by(S::LANES) {
                    // SAFETY: the caller's.
                    let bias = unsafe { bias.load(s, row, key + i, min(n - i, S::LANES)) };
                    kept &= !(s.bits(s.lt(bias, s.splat(f32::MIN))) << i);
                }
            }
        }
        kept
    }

    /// What [`Plan::kept_by_bits`] reads of a row from `key` on.
    #[cfg_attr(vectors, inline(always))]
    pub(crate) fn row_bits(&self, row: Row, key: usize) -> RowBits<'_> {
        let lone = match self.bits.items {
            [Some(Bits::Bytes { ones, ones_are_kept }), None, ..] if ones.strides[3] == 1 => {
                Some((ones.at(row, key), !ones_are_kept))
            }
            _ => None,
        };
        let lone = if cfg!(masktile_fault = "missing_mask") { None } else { lone };
        RowBits { plan: self, row, key, lone }
    }

    /// [`Plan::kept`] of a plan without biases, in which nothing is a float.
    ///
    /// # Safety
    /// As there.
    #[cfg_attr(vectors, inline(always))]
    pub(crate) unsafe fn kept_by_bits<S: Simd>(&self, s: S, row: Row, key: usize, n: usize) -> u16 {
        if self.bits.len == 0 {
            return first_bits(n);
        }
        let all = self.bits.iter().skip(usize::from(cfg!(masktile_fault = "missing_mask")));
        all.fold(
            first_bits(n),
            #[inline(always)]
            |kept, bits| {
                // SAFETY: the caller's.
                kept & unsafe { bits.kept(s, row, key, n) }
            },
        )
    }

    /// The scores `v` of the `n` keys of a vector from `key` on, plus the biases in order; -infinity
    /// where one of them masks.
    ///
    /// # Safety
    /// The grids have those positions, valid for reading.
    #[cfg_attr(vectors, inline(always))]
    pub(crate) unsafe fn biased<S: Simd>(
        &self,
        s: S,
        row: Row,
        key: usize,
        n: usize,
        mut v: S::V,
    ) -> S::V {
        let (least, hidden) = (s.splat(f32::MIN), s.splat(f32::NEG_INFINITY));
        let mut mask = s.splat(0.0);
        for bias in self.biases.iter() {
            // SAFETY: the caller's.
            let numbers = unsafe { bias.load(s, row, key, n) };
            v = s.add(v, numbers);
            if bias.may_mask() {
                mask = s.select(s.lt(numbers, least), hidden, mask);
            }
        }
        s.select(s.lt(mask, least), hidden, v)
    }
}

/// What a plan's matrices and functions keep of one row, of which a lone matrix of bytes, side by side,
/// is found once.
pub(crate) struct RowBits<'a> {
    plan: &'a Plan<'a>,
    row: Row,
    key: usize,
    /// The row's bytes, and whether ones are masked.
    lone: Option<(*const u8, bool)>,
}

impl RowBits<'_> {
    /// [`Plan::kept_by_bits`] of the `n` keys from `column` on.
    ///
    /// # Safety
    /// As there.
    #[cfg_attr(vectors, inline(always))]
    pub(crate) unsafe fn kept<S: Simd>(&self, s: S, column: usize, n: usize) -> u16 {
        // SAFETY: the caller's.
        unsafe {
            match self.lone {
                Some((ones, ones_are_masked)) if n == LANES => {
                    let ones = ones.wrapping_add(column).cast::<[u8; LANES]>().read();
                    flip(s.nonzero_bytes(ones), ones_are_masked)
                }
                _ => self.plan.kept_by_bits(s, self.row, self.key + column, n),
            }
        }
    }
}
