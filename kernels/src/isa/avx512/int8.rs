//! Products of bytes with AVX-512, and with AVX512-VNNI beside it.

use core::arch::x86_64::*;

use super::Avx512;
use crate::isa::avx2::int8::{interleaved, parted};
use crate::isa::int8::{Int8, Int8Op, Left};

/// # Safety
/// The machine has AVX-512 F, and [`Int8::store`]'s.
#[inline(always)]
unsafe fn store(p: *mut i32, sums: __m512i, add: bool) {
    // SAFETY: the caller's.
    unsafe {
        let sums = if add {
            _mm512_add_epi32(sums, _mm512_loadu_si512(p.cast_const().cast()))
        } else {
            sums
        };
        _mm512_storeu_si512(p.cast(), sums);
    }
}

// SAFETY of the blocks without a comment of their own, here and below: the token proves the
// instruction exists, and arithmetic on registers has no other precondition.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Int8 for Avx512 {
    type Base = Avx512;
    type Group = [u32; 2];
    type Row = [__m512i; 2];
    /// Numbers 0 and 2 of each column as 16 bits, then 1 and 3.
    type Columns = [__m512i; 2];
    type Sums = __m512i;
    const LEFT: Left = Left::Wide;
    // 24 sums, 4 registers of columns, 2 of a row.
    const MR: usize = 12;
    const NV: usize = 2;

    #[inline(always)]
    fn base(self) -> Avx512 {
        self
    }
    #[inline(always)]
    fn group(self, bytes: [u8; 4], zero: i16) -> [u32; 2] {
        parted(bytes, zero)
    }
    #[inline(always)]
    fn row(self, group: [u32; 2]) -> Self::Row {
        unsafe { [_mm512_set1_epi32(group[0] as i32), _mm512_set1_epi32(group[1] as i32)] }
    }
    #[inline(always)]
    unsafe fn columns(self, p: *const u32) -> Self::Columns {
        // SAFETY: the caller's.
        unsafe {
            let columns = _mm512_loadu_si512(p.cast());
            let even = _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(columns));
            [even, _mm512_srai_epi16::<8>(columns)]
        }
    }
    #[inline(always)]
    fn zero(self) -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    fn dot(self, sums: __m512i, row: Self::Row, columns: Self::Columns) -> __m512i {
        unsafe {
            let sums = _mm512_add_epi32(sums, _mm512_madd_epi16(row[0], columns[0]));
            _mm512_add_epi32(sums, _mm512_madd_epi16(row[1], columns[1]))
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut i32, sums: __m512i, add: bool) {
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
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
        fn inner<O: Int8Op>(s: Avx512, op: O) -> O::Out {
            op.eval(s)
        }
        // SAFETY: holding the token proves these features.
        unsafe { inner(self, op) }
    }
}

/// The token of AVX512-VNNI beside AVX-512.
#[derive(Clone, Copy)]
pub(in crate::isa) struct Vnni(Avx512);

impl Vnni {
    /// # Safety
    /// As [`Avx512::assume`], and the machine has AVX512-VNNI.
    pub(in crate::isa) unsafe fn assume() -> Self {
        Vnni(Avx512(()))
    }
}

#[allow(clippy::undocumented_unsafe_blocks)]
impl Int8 for Vnni {
    type Base = Avx512;
    type Group = [u8; 4];
    type Row = __m512i;
    type Columns = __m512i;
    type Sums = __m512i;
    const LEFT: Left = Left::Unsigned;
    // 28 sums, 2 registers of columns, 1 of a row.
    const MR: usize = 14;
    const NV: usize = 2;

    #[inline(always)]
    fn base(self) -> Avx512 {
        self.0
    }
    #[inline(always)]
    fn group(self, bytes: [u8; 4], _: i16) -> [u8; 4] {
        bytes
    }
    #[inline(always)]
    fn row(self, group: [u8; 4]) -> __m512i {
        unsafe { _mm512_set1_epi32(i32::from_le_bytes(group)) }
    }
    #[inline(always)]
    unsafe fn columns(self, p: *const u32) -> __m512i {
        // SAFETY: the caller's.
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    fn zero(self) -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    fn dot(self, sums: __m512i, row: __m512i, columns: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, row, columns) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut i32, sums: __m512i, add: bool) {
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
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
        fn inner<O: Int8Op>(s: Vnni, op: O) -> O::Out {
            op.eval(s)
        }
        // SAFETY: holding the token proves these features.
        unsafe { inner(self, op) }
    }
}
