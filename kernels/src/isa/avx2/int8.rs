//! Products of bytes with AVX2, and with AVX-VNNI beside it.
//!
//! `vpmaddubsw` would multiply bytes directly, but its sums of two saturate at 16 bits. So without
//! VNNI both factors are widened to 16 bits, whose products `vpmaddwd` adds exactly.

use core::arch::x86_64::*;

use super::Avx2;
use crate::isa::int8::{Int8, Int8Op, Left};

/// i8 numbers 0 and 2 of a row, then 1 and 3, less `zero`, as 16 bits: as the shifts of [`widened`]
/// part columns.
#[inline(always)]
pub(in crate::isa) fn parted(bytes: [u8; 4], zero: i16) -> [u32; 2] {
    const BOTH: u32 = 0x0001_0001;
    // From 0 on, so that the numbers of a word do not disturb one another.
    let word = u32::from_le_bytes(bytes) ^ 0x8080_8080;
    let less = (zero + 128) as u32 * BOTH;
    let parted = |two: u32| ((two | (0x8000 * BOTH)) - less) ^ (0x8000 * BOTH);
    [parted(word & (0xff * BOTH)), parted((word >> 8) & (0xff * BOTH))]
}

/// The four bytes of each column as two pairs of 16 bits: 0 and 2, 1 and 3.
///
/// # Safety
/// The machine has AVX2.
#[inline(always)]
unsafe fn widened(columns: __m256i) -> [__m256i; 2] {
    // SAFETY: the caller's.
    unsafe {
        let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(columns));
        [even, _mm256_srai_epi16::<8>(columns)]
    }
}

/// # Safety
/// The machine has AVX2, and 64 bytes at `p` are valid for reading.
#[inline(always)]
unsafe fn load(p: *const u32) -> [__m256i; 2] {
    // SAFETY: the caller's.
    unsafe { [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(8).cast())] }
}

/// # Safety
/// The machine has AVX2, and [`Int8::store`]'s.
#[inline(always)]
unsafe fn store(p: *mut i32, sums: [__m256i; 2], add: bool) {
    // SAFETY: the caller's.
    unsafe {
        let sums = if add {
            let before = load(p.cast_const().cast());
            [_mm256_add_epi32(sums[0], before[0]), _mm256_add_epi32(sums[1], before[1])]
        } else {
            sums
        };
        _mm256_storeu_si256(p.cast(), sums[0]);
        _mm256_storeu_si256(p.add(8).cast(), sums[1]);
    }
}

/// Four rows of 16 bytes as 16 columns of 4.
///
/// # Safety
/// The machine has SSE2.
#[inline(always)]
pub(in crate::isa) unsafe fn interleaved(rows: [[u8; 16]; 4]) -> [[u8; 4]; 16] {
    let mut columns = [[0; 4]; 16];
    // SAFETY: rows and columns are as long as what is loaded and stored.
    unsafe {
        let (a, b) =
            (_mm_loadu_si128(rows[0].as_ptr().cast()), _mm_loadu_si128(rows[1].as_ptr().cast()));
        let (c, d) =
            (_mm_loadu_si128(rows[2].as_ptr().cast()), _mm_loadu_si128(rows[3].as_ptr().cast()));
        let (ab, ab_high) = (_mm_unpacklo_epi8(a, b), _mm_unpackhi_epi8(a, b));
        let (cd, cd_high) = (_mm_unpacklo_epi8(c, d), _mm_unpackhi_epi8(c, d));
        let p: *mut __m128i = columns.as_mut_ptr().cast();
        _mm_storeu_si128(p, _mm_unpacklo_epi16(ab, cd));
        _mm_storeu_si128(p.add(1), _mm_unpackhi_epi16(ab, cd));
        _mm_storeu_si128(p.add(2), _mm_unpacklo_epi16(ab_high, cd_high));
        _mm_storeu_si128(p.add(3), _mm_unpackhi_epi16(ab_high, cd_high));
    }
    columns
}

// SAFETY of the blocks without a comment of their own, here and below: the token proves the
// instruction exists, and arithmetic on registers has no other precondition.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Int8 for Avx2 {
    type Base = Avx2;
    type Group = [u32; 2];
    type Row = [__m256i; 2];
    type Columns = [[__m256i; 2]; 2];
    type Sums = [__m256i; 2];
    const LEFT: Left = Left::Wide;
    // 10 sums, 4 registers of columns, 2 of a row.
    const MR: usize = 5;
    const NV: usize = 1;

    #[inline(always)]
    fn base(self) -> Avx2 {
        self
    }
    #[inline(always)]
    fn group(self, bytes: [u8; 4], zero: i16) -> [u32; 2] {
        parted(bytes, zero)
    }
    #[inline(always)]
    fn row(self, group: [u32; 2]) -> Self::Row {
        unsafe { [_mm256_set1_epi32(group[0] as i32), _mm256_set1_epi32(group[1] as i32)] }
    }
    #[inline(always)]
    unsafe fn columns(self, p: *const u32) -> Self::Columns {
        // SAFETY: the caller's.
        unsafe {
            let [low, high] = load(p);
            [widened(low), widened(high)]
        }
    }
    #[inline(always)]
    fn zero(self) -> Self::Sums {
        unsafe { [_mm256_setzero_si256(); 2] }
    }
    #[inline(always)]
    fn dot(self, sums: Self::Sums, row: Self::Row, columns: Self::Columns) -> Self::Sums {
        unsafe {
            let low = _mm256_add_epi32(sums[0], _mm256_madd_epi16(row[0], columns[0][0]));
            let high = _mm256_add_epi32(sums[1], _mm256_madd_epi16(row[0], columns[1][0]));
            [
                _mm256_add_epi32(low, _mm256_madd_epi16(row[1], columns[0][1])),
                _mm256_add_epi32(high, _mm256_madd_epi16(row[1], columns[1][1])),
            ]
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut i32, sums: Self::Sums, add: bool) {
        // SAFETY: the caller's.
        unsafe { store(p, sums, add) }
    }
    #[inline(always)]
    fn interleave(self, rows: [[u8; 16]; 4]) -> [[u8; 4]; 16] {
        unsafe { interleaved(rows) }
    }

    #[inline(always)]
    fn run<O: Int8Op>(self, op: O) -> O::Out {
        #[inline(never)]
        #[target_feature(enable = "avx2,fma,f16c")]
        fn inner<O: Int8Op>(s: Avx2, op: O) -> O::Out {
            op.eval(s)
        }
        // SAFETY: holding the token proves these features.
        unsafe { inner(self, op) }
    }
}

/// The token of AVX-VNNI beside AVX2.
#[derive(Clone, Copy)]
pub(in crate::isa) struct Vnni(Avx2);

impl Vnni {
    /// # Safety
    /// As [`Avx2::assume`], and the machine has AVX-VNNI.
    pub(in crate::isa) unsafe fn assume() -> Self {
        Vnni(Avx2(()))
    }
}

#[allow(clippy::undocumented_unsafe_blocks)]
impl Int8 for Vnni {
    type Base = Avx2;
    type Group = [u8; 4];
    type Row = __m256i;
    type Columns = [__m256i; 2];
    type Sums = [__m256i; 2];
    const LEFT: Left = Left::Unsigned;
    // 12 sums, 2 registers of columns, 1 of a row.
    const MR: usize = 6;
    const NV: usize = 1;

    #[inline(always)]
    fn base(self) -> Avx2 {
        self.0
    }
    #[inline(always)]
    fn group(self, bytes: [u8; 4], _: i16) -> [u8; 4] {
        bytes
    }
    #[inline(always)]
    fn row(self, group: [u8; 4]) -> Self::Row {
        unsafe { _mm256_set1_epi32(i32::from_le_bytes(group)) }
    }
    #[inline(always)]
    unsafe fn columns(self, p: *const u32) -> Self::Columns {
        // SAFETY: the caller's.
        unsafe { load(p) }
    }
    #[inline(always)]
    fn zero(self) -> Self::Sums {
        unsafe { [_mm256_setzero_si256(); 2] }
    }
    #[inline(always)]
    fn dot(self, sums: Self::Sums, row: Self::Row, columns: Self::Columns) -> Self::Sums {
        unsafe {
            [
                _mm256_dpbusd_avx_epi32(sums[0], row, columns[0]),
                _mm256_dpbusd_avx_epi32(sums[1], row, columns[1]),
            ]
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut i32, sums: Self::Sums, add: bool) {
        // SAFETY: the caller's.
        unsafe { store(p, sums, add) }
    }
    #[inline(always)]
    fn interleave(self, rows: [[u8; 16]; 4]) -> [[u8; 4]; 16] {
        unsafe { interleaved(rows) }
    }

    #[inline(always)]
    fn run<O: Int8Op>(self, op: O) -> O::Out {
        #[inline(never)]
        #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
        fn inner<O: Int8Op>(s: Vnni, op: O) -> O::Out {
            op.eval(s)
        }
        // SAFETY: holding the token proves these features.
        unsafe { inner(self, op) }
    }
}
