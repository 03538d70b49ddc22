//! AVX-512 F, BW, DQ and VL: a vector is one register, a mask is a mask register.

use core::arch::x86_64::*;

use super::avx2::top_of_words;
use crate::simd::{LANES, Op, Simd, sealed::Sealed};

pub(super) mod int8;

/// The token. Its value says that the processor has the features of `run` and that the operating
/// system saves their registers; every `unsafe` around arithmetic below rests on that.
#[derive(Clone, Copy)]
pub struct Avx512(());

impl Avx512 {
    /// # Safety
    /// The machine has the features listed at `run`, and its operating system saves ZMM state.
    pub(super) unsafe fn assume() -> Self {
        Avx512(())
    }
}

impl Sealed for Avx512 {}

/// The mask of the first `n` of 16 lanes.
#[inline(always)]
fn first_bits(n: usize) -> __mmask16 {
    if n >= LANES { !0 } else { (1u16 << n) - 1 }
}

/// `p[I] * b + c` in one instruction, which broadcasts as it loads.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn fma_broadcast<const I: usize>(p: *const f32, b: __m512, mut c: __m512) -> __m512 {
    // SAFETY: the caller's.
    unsafe {
        core::arch::asm!(
            "vfmadd231ps {c}, {b}, dword ptr [{p} + {at}]{{1to16}}",
            c = inout(zmm_reg) c, b = in(zmm_reg) b, p = in(reg) p, at = const I * 4,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
    c
}

// SAFETY of the blocks without a comment of their own: the token proves the instruction exists,
// and arithmetic on registers has no other precondition.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Avx512 {
    type V = __m512;
    type M = __mmask16;
    // 28 accumulators, 2 vectors of B and 1 broadcast fill 31 of 32 registers.
    const MR: usize = 14;
    const NV: usize = 2;
    // 16 sums, 4 rows and 4 columns of B.
    const MR_BY_COLUMNS: usize = 16;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn copysign(self, a: __m512, b: __m512) -> __m512 {
        unsafe {
            let sign = _mm512_set1_ps(-0.0);
            _mm512_or_ps(_mm512_andnot_ps(sign, a), _mm512_and_ps(sign, b))
        }
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn lt(self, a: __m512, b: __m512) -> __mmask16 {
        unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b) }
    }
    #[inline(always)]
    fn select(self, m: __mmask16, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(m, b, a) }
    }
    #[inline(always)]
    fn and(self, a: __mmask16, b: __mmask16) -> __mmask16 {
        a & b
    }
    #[inline(always)]
    fn not(self, a: __mmask16) -> __mmask16 {
        !a
    }
    #[inline(always)]
    fn first(self, n: usize) -> __mmask16 {
        first_bits(n)
    }
    #[inline(always)]
    fn shl23(self, a: __m512) -> __m512 {
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(a))) }
    }
    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        unsafe {
            let x = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        }
    }
    #[inline(always)]
    fn largest(self, a: __m512) -> f32 {
        unsafe {
            let x = _mm256_max_ps(_mm512_extractf32x8_ps::<1>(a), _mm512_castps512_ps256(a));
            let x = _mm_max_ps(_mm256_extractf128_ps::<1>(x), _mm256_castps256_ps128(x));
            let x = _mm_max_ps(_mm_movehl_ps(x, x), x);
            _mm_cvtss_f32(_mm_max_ss(_mm_movehdup_ps(x), x))
        }
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        // SAFETY: the caller's.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> __m512 {
        // SAFETY: lanes outside the mask are not accessed; the rest is the caller's.
        unsafe { _mm512_maskz_loadu_ps(first_bits(n), p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        // SAFETY: the caller's.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize, v: __m512) {
        // SAFETY: lanes outside the mask are not accessed; the rest is the caller's.
        unsafe { _mm512_mask_storeu_ps(p, first_bits(n), v) }
    }
    #[inline(always)]
    unsafe fn turn4(self, rows: [*const f32; LANES]) -> [__m512; 4] {
        // SAFETY: the caller's.
        unsafe {
            let row = |i: usize| _mm_loadu_ps(rows[i]);
            // Rows g, g + 4, g + 8 and g + 12 in the four parts of a register.
            let part = |g: usize| {
                let v = _mm512_castps128_ps512(row(g));
                let v = _mm512_insertf32x4::<1>(v, row(g + 4));
                let v = _mm512_insertf32x4::<2>(v, row(g + 8));
                _mm512_insertf32x4::<3>(v, row(g + 12))
            };
            // A transpose of 4 x 4 in each part.
            let (a, b, c, d) = (part(0), part(1), part(2), part(3));
            let ab = _mm512_castps_pd(_mm512_unpacklo_ps(a, b));
            let ab_high = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
            let cd = _mm512_castps_pd(_mm512_unpacklo_ps(c, d));
            let cd_high = _mm512_castps_pd(_mm512_unpackhi_ps(c, d));
            [
                _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)),
                _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)),
                _mm512_castpd_ps(_mm512_unpacklo_pd(ab_high, cd_high)),
                _mm512_castpd_ps(_mm512_unpackhi_pd(ab_high, cd_high)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn fma_at<const I: usize>(self, p: *const f32, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the caller's.
        unsafe { fma_broadcast::<I>(p, b, c) }
    }
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        // Never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    fn nonzero_bytes(self, bytes: [u8; LANES]) -> u16 {
        unsafe {
            let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
            _mm_test_epi8_mask(bytes, bytes)
        }
    }
    #[inline(always)]
    fn bits(self, m: __mmask16) -> u16 {
        m
    }
    #[inline(always)]
    fn mask(self, bits: u16) -> __mmask16 {
        bits
    }
    #[inline(always)]
    fn widen_f16(self, halves: [u16; LANES]) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(halves.as_ptr().cast())) }
    }
    #[inline(always)]
    fn widen_bf16(self, halves: [u16; LANES]) -> __m512 {
        unsafe {
            let halves = _mm256_loadu_si256(halves.as_ptr().cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
        }
    }
    #[inline(always)]
    fn narrow_f16(self, a: __m512) -> [u16; LANES] {
        let mut halves = [0; LANES];
        // The array has 16 numbers.
        unsafe {
            let narrow = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a);
            _mm256_storeu_si256(halves.as_mut_ptr().cast(), narrow);
        }
        halves
    }
    #[inline(always)]
    fn narrow_bf16(self, a: __m512) -> [u16; LANES] {
        let mut halves = [0; LANES];
        // The array has 16 numbers.
        unsafe {
            let bits = _mm512_castps_si512(a);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
            let rounded = _mm512_add_epi32(bits, half);
            // A NaN stays one: it becomes quiet before its lower bits are lost.
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a);
            let quiet = _mm512_set1_epi32(0x0040_0000);
            let rounded = _mm512_mask_or_epi32(rounded, nan, bits, quiet);
            let narrow = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded));
            _mm256_storeu_si256(halves.as_mut_ptr().cast(), narrow);
        }
        halves
    }
    #[inline(always)]
    fn pairs_f16(self, words: __m512) -> [__m512; 2] {
        unsafe {
            let words = _mm512_castps_si512(words);
            let lower = _mm512_cvtepi32_epi16(words);
            let upper = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(words));
            [_mm512_cvtph_ps(lower), _mm512_cvtph_ps(upper)]
        }
    }
    #[inline(always)]
    fn pairs_bf16(self, words: __m512) -> [__m512; 2] {
        unsafe {
            let words = _mm512_castps_si512(words);
            [
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)),
                _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(!0xffff))),
            ]
        }
    }
    #[inline(always)]
    fn signed_byte<const I: usize>(self, words: __m512) -> __m512 {
        unsafe {
            let above = _mm512_set1_epi32(24 - 8 * (I % 4) as i32);
            let top = _mm512_sllv_epi32(_mm512_castps_si512(words), above);
            _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(top))
        }
    }
    #[inline(always)]
    fn top_byte<const I: usize>(self, words: __m512) -> __m512 {
        unsafe {
            let order = const { &top_of_words(I) }.as_ptr().cast();
            let order = _mm512_broadcast_i32x4(_mm_loadu_si128(order));
            _mm512_cvtepi32_ps(_mm512_shuffle_epi8(_mm512_castps_si512(words), order))
        }
    }
    #[inline(always)]
    fn nibbles(self, words: __m512) -> [__m512; 2] {
        unsafe {
            let upper = _mm512_set1_epi8(!0xf);
            let signed = _mm512_xor_si512(_mm512_castps_si512(words), _mm512_set1_epi8(!0x77));
            [
                _mm512_castsi512_ps(_mm512_and_si512(_mm512_slli_epi32::<4>(signed), upper)),
                _mm512_castsi512_ps(_mm512_and_si512(signed, upper)),
            ]
        }
    }

    #[inline(always)]
    fn run<O: Op>(self, op: O) -> O::Out {
        // Never inlined: each kernel is compiled once, however many places call it.
        #[inline(never)]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
        fn inner<O: Op>(s: Avx512, op: O) -> O::Out {
            op.eval(s)
        }
        // SAFETY: holding the token proves these features.
        unsafe { inner(self, op) }
    }
}
