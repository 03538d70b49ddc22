//! AVX2 and FMA: a vector is two registers, a mask two registers of all-ones or zero lanes.

use core::arch::x86_64::*;

use crate::simd::{LANES, Op, Simd, sealed::Sealed};

pub(super) mod int8;

/// The token. Its value says that the processor has the features of `run` and that the operating
/// system saves their registers; every `unsafe` around arithmetic below rests on that.
#[derive(Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The machine has the features listed at `run`, and its operating system saves YMM state.
    pub(super) unsafe fn assume() -> Self {
        Avx2(())
    }
}

impl Sealed for Avx2 {}

/// Reading 16 words from `16 - n` gives a mask of the first `n`.
static FIRST: [i32; 2 * LANES] = {
    let mut table = [0; 2 * LANES];
    let mut i = 0;
    while i < LANES {
        table[i] = -1;
        i += 1;
    }
    table
};

#[inline(always)]
fn first_words(n: usize) -> [__m256i; 2] {
    let start = LANES - if n > LANES { LANES } else { n };
    // SAFETY: `start` is at most 16 and the table has 32 words; the token proves AVX.
    unsafe {
        let p = FIRST.as_ptr().add(start);
        [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(8).cast())]
    }
}

#[inline(always)]
fn halves_in_registers(halves: [u16; LANES]) -> [__m128i; 2] {
    let p = halves.as_ptr();
    // SAFETY: the array has 16 numbers; the token proves SSE2.
    unsafe { [_mm_loadu_si128(p.cast()), _mm_loadu_si128(p.add(8).cast())] }
}

// Functions where a closure would do: it might be compiled without AVX, each intrinsic a call.

/// The lanes whose bit is set, of the low 8.
///
/// # Safety
/// The machine has AVX2.
#[inline(always)]
unsafe fn mask_of_8(bits: u16) -> __m256 {
    // SAFETY: the caller's.
    unsafe {
        let lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
        let bits = _mm256_and_si256(_mm256_set1_epi32(i32::from(bits)), lane);
        _mm256_castsi256_ps(_mm256_cmpeq_epi32(bits, lane))
    }
}

/// # Safety
/// The machine has AVX2.
#[inline(always)]
unsafe fn widen_bf16_of_8(halves: __m128i) -> __m256 {
    // SAFETY: the caller's.
    unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves))) }
}

/// Rounds to nearest even as 32-bit numbers below 2^16. A NaN stays one: it becomes quiet before its
/// lower bits are lost.
///
/// # Safety
/// The machine has AVX2.
#[inline(always)]
unsafe fn narrow_bf16_of_8(a: __m256) -> __m256i {
    // SAFETY: the caller's.
    unsafe {
        let bits = _mm256_castps_si256(a);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
        let rounded = _mm256_add_epi32(bits, half);
        let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
        let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(a, a));
        _mm256_srli_epi32::<16>(_mm256_blendv_epi8(rounded, quiet, nan))
    }
}

/// # Safety
/// The machine has AVX2 and F16C.
#[inline(always)]
unsafe fn pairs_f16_of_8(words: __m256) -> [__m256; 2] {
    // The lower halves of each 128 bits before the upper, then those of both together.
    // SAFETY: the caller's.
    unsafe {
        let order = _mm256_broadcastsi128_si256(_mm_setr_epi8(
            0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15,
        ));
        let halves = _mm256_shuffle_epi8(_mm256_castps_si256(words), order);
        let halves = _mm256_permute4x64_epi64::<0xd8>(halves);
        [
            _mm256_cvtph_ps(_mm256_castsi256_si128(halves)),
            _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(halves)),
        ]
    }
}

/// # Safety
/// The machine has AVX2.
#[inline(always)]
unsafe fn signed_byte_of_8<const I: usize>(words: __m256) -> __m256 {
    // SAFETY: the caller's.
    unsafe {
        let above = _mm256_set1_epi32(24 - 8 * (I % 4) as i32);
        let top = _mm256_sllv_epi32(_mm256_castps_si256(words), above);
        _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(top))
    }
}

/// How a shuffle of 16 bytes puts byte `i mod 4` of each word at its top, above zeros.
pub(super) const fn top_of_words(i: usize) -> [i8; LANES] {
    let (mut order, i) = ([-128; LANES], (i % 4) as i8);
    [order[3], order[7], order[11], order[15]] = [i, i + 4, i + 8, i + 12];
    order
}

/// # Safety
/// The machine has AVX2.
#[inline(always)]
unsafe fn top_byte_of_8<const I: usize>(words: __m256) -> __m256 {
    // SAFETY: the caller's.
    unsafe {
        // Shifts have one port on Zen 2, shuffles two.
        let order = const { &top_of_words(I) }.as_ptr().cast();
        let order = _mm256_broadcastsi128_si256(_mm_loadu_si128(order));
        _mm256_cvtepi32_ps(_mm256_shuffle_epi8(_mm256_castps_si256(words), order))
    }
}

/// # Safety
/// The machine has AVX2.
#[inline(always)]
unsafe fn nibbles_of_8(words: __m256) -> [__m256; 2] {
    // SAFETY: the caller's.
    unsafe {
        let upper = _mm256_set1_epi8(!0xf);
        let signed = _mm256_xor_si256(_mm256_castps_si256(words), _mm256_set1_epi8(!0x77));
        [
            _mm256_castsi256_ps(_mm256_and_si256(_mm256_slli_epi32::<4>(signed), upper)),
            _mm256_castsi256_ps(_mm256_and_si256(signed, upper)),
        ]
    }
}

/// Four columns of 8 rows.
///
/// # Safety
/// The machine has AVX; each row is valid for reading 4 floats.
#[inline(always)]
unsafe fn turn4_of_8(rows: [*const f32; 8]) -> [__m256; 4] {
    // Rows g and g + 4 in the two parts of a register, then a transpose of 4 x 4 in each.
    // SAFETY: the caller's.
    unsafe {
        let a = _mm256_set_m128(_mm_loadu_ps(rows[4]), _mm_loadu_ps(rows[0]));
        let b = _mm256_set_m128(_mm_loadu_ps(rows[5]), _mm_loadu_ps(rows[1]));
        let c = _mm256_set_m128(_mm_loadu_ps(rows[6]), _mm_loadu_ps(rows[2]));
        let d = _mm256_set_m128(_mm_loadu_ps(rows[7]), _mm_loadu_ps(rows[3]));
        let (ab, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (cd, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        [
            _mm256_shuffle_ps::<0x44>(ab, cd),
            _mm256_shuffle_ps::<0xee>(ab, cd),
            _mm256_shuffle_ps::<0x44>(ab_high, cd_high),
            _mm256_shuffle_ps::<0xee>(ab_high, cd_high),
        ]
    }
}

// SAFETY of the blocks without a comment of their own: the token proves the instruction exists,
// and arithmetic on registers has no other precondition.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Avx2 {
    type V = [__m256; 2];
    type M = [__m256; 2];
    // 12 accumulators, 2 registers of B and 1 broadcast fill 15 of 16.
    const MR: usize = 6;
    const NV: usize = 1;
    // 8 registers of sums, 8 of B and 1 broadcast: one waits in memory, which costs less than packing B.
    const MR_BY_COLUMNS: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        unsafe { [_mm256_set1_ps(x); 2] }
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn copysign(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            [
                _mm256_or_ps(_mm256_andnot_ps(sign, a[0]), _mm256_and_ps(sign, b[0])),
                _mm256_or_ps(_mm256_andnot_ps(sign, a[1]), _mm256_and_ps(sign, b[1])),
            ]
        }
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn lt(self, a: Self::V, b: Self::V) -> Self::M {
        unsafe {
            [_mm256_cmp_ps::<_CMP_LT_OQ>(a[0], b[0]), _mm256_cmp_ps::<_CMP_LT_OQ>(a[1], b[1])]
        }
    }
    #[inline(always)]
    fn select(self, m: Self::M, a: Self::V, b: Self::V) -> Self::V {
        unsafe { [_mm256_blendv_ps(b[0], a[0], m[0]), _mm256_blendv_ps(b[1], a[1], m[1])] }
    }
    #[inline(always)]
    fn and(self, a: Self::M, b: Self::M) -> Self::M {
        unsafe { [_mm256_and_ps(a[0], b[0]), _mm256_and_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn not(self, a: Self::M) -> Self::M {
        unsafe {
            let ones = _mm256_castsi256_ps(_mm256_set1_epi32(-1));
            [_mm256_xor_ps(a[0], ones), _mm256_xor_ps(a[1], ones)]
        }
    }
    #[inline(always)]
    fn first(self, n: usize) -> Self::M {
        let m = first_words(n);
        unsafe { [_mm256_castsi256_ps(m[0]), _mm256_castsi256_ps(m[1])] }
    }
    #[inline(always)]
    fn shl23(self, a: Self::V) -> Self::V {
        unsafe {
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(a[0]))),
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(a[1]))),
            ]
        }
    }
    #[inline(always)]
    fn sum(self, a: Self::V) -> f32 {
        unsafe {
            let x = _mm256_add_ps(a[0], a[1]);
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let halved = _mm_add_ps(x, _mm_movehl_ps(x, x));
            let x = if cfg!(masktile_fault = "sum_order") { _mm_hadd_ps(x, x) } else { halved };
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        }
    }
    #[inline(always)]
    fn largest(self, a: Self::V) -> f32 {
        unsafe {
            let x = _mm256_max_ps(a[1], a[0]);
            let x = _mm_max_ps(_mm256_extractf128_ps::<1>(x), _mm256_castps256_ps128(x));
            let x = _mm_max_ps(_mm_movehl_ps(x, x), x);
            _mm_cvtss_f32(_mm_max_ss(_mm_movehdup_ps(x), x))
        }
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::V {
        // SAFETY: the caller's.
        unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> Self::V {
        let m = first_words(n + usize::from(cfg!(masktile_fault = "long_load")));
        // SAFETY: lanes outside the mask are not accessed (`wrapping_add`: the second address
        // may lie behind the buffer); the rest is the caller's.
        unsafe { [_mm256_maskload_ps(p, m[0]), _mm256_maskload_ps(p.wrapping_add(8), m[1])] }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::V) {
        // SAFETY: the caller's.
        unsafe {
            _mm256_storeu_ps(p, v[0]);
            _mm256_storeu_ps(p.add(8), v[1]);
        }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize, v: Self::V) {
        // By powers of two: on Zen 2 a masked store takes as long as twenty others.
        // SAFETY: the first `n` places are the caller's, and no other is written.
        unsafe {
            if n >= LANES {
                return self.store(p, v);
            }
            let (mut p, mut rest) = (p, v[0]);
            if n & 8 != 0 {
                _mm256_storeu_ps(p, rest);
                (p, rest) = (p.add(8), v[1]);
            }
            let mut four = _mm256_castps256_ps128(rest);
            if n & 4 != 0 {
                _mm_storeu_ps(p, four);
                (p, four) = (p.add(4), _mm256_extractf128_ps::<1>(rest));
            }
            if n & 2 != 0 {
                _mm_store_sd(p.cast(), _mm_castps_pd(four));
                (p, four) = (p.add(2), _mm_movehl_ps(four, four));
            }
            if n & 1 != 0 {
                _mm_store_ss(p, four);
            }
        }
    }
    #[inline(always)]
    unsafe fn turn4(self, rows: [*const f32; LANES]) -> [Self::V; 4] {
        let [a, b, c, d, e, f, g, h, rest @ ..] = rows;
        // SAFETY: the caller's.
        unsafe {
            let (low, high) = (turn4_of_8([a, b, c, d, e, f, g, h]), turn4_of_8(rest));
            [[low[0], high[0]], [low[1], high[1]], [low[2], high[2]], [low[3], high[3]]]
        }
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
            !_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_setzero_si128())) as u16
        }
    }
    #[inline(always)]
    fn bits(self, m: Self::M) -> u16 {
        unsafe { (_mm256_movemask_ps(m[0]) | _mm256_movemask_ps(m[1]) << 8) as u16 }
    }
    #[inline(always)]
    fn mask(self, bits: u16) -> Self::M {
        unsafe { [mask_of_8(bits), mask_of_8(bits >> 8)] }
    }
    #[inline(always)]
    fn widen_f16(self, halves: [u16; LANES]) -> Self::V {
        let [low, high] = halves_in_registers(halves);
        unsafe { [_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)] }
    }
    #[inline(always)]
    fn widen_bf16(self, halves: [u16; LANES]) -> Self::V {
        let [low, high] = halves_in_registers(halves);
        unsafe { [widen_bf16_of_8(low), widen_bf16_of_8(high)] }
    }
    #[inline(always)]
    fn narrow_f16(self, a: Self::V) -> [u16; LANES] {
        let mut halves = [0; LANES];
        let p = halves.as_mut_ptr();
        // The array has 16 numbers.
        unsafe {
            let low = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a[0]);
            let high = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a[1]);
            _mm_storeu_si128(p.cast(), low);
            _mm_storeu_si128(p.add(8).cast(), high);
        }
        halves
    }
    #[inline(always)]
    fn narrow_bf16(self, a: Self::V) -> [u16; LANES] {
        let mut halves = [0; LANES];
        // The array has 16 numbers.
        unsafe {
            // In turns of 128 bits: the middle two change places.
            let packed = _mm256_packus_epi32(narrow_bf16_of_8(a[0]), narrow_bf16_of_8(a[1]));
            let packed = _mm256_permute4x64_epi64::<0xd8>(packed);
            _mm256_storeu_si256(halves.as_mut_ptr().cast(), packed);
        }
        halves
    }
    #[inline(always)]
    fn pairs_f16(self, words: Self::V) -> [Self::V; 2] {
        unsafe {
            let (a, b) = (pairs_f16_of_8(words[0]), pairs_f16_of_8(words[1]));
            [[a[0], b[0]], [a[1], b[1]]]
        }
    }
    #[inline(always)]
    fn pairs_bf16(self, words: Self::V) -> [Self::V; 2] {
        unsafe {
            let upper = _mm256_castsi256_ps(_mm256_set1_epi32(!0xffff));
            let shifted = [
                _mm256_slli_epi32::<16>(_mm256_castps_si256(words[0])),
                _mm256_slli_epi32::<16>(_mm256_castps_si256(words[1])),
            ];
            [
                [_mm256_castsi256_ps(shifted[0]), _mm256_castsi256_ps(shifted[1])],
                [_mm256_and_ps(words[0], upper), _mm256_and_ps(words[1], upper)],
            ]
        }
    }
    #[inline(always)]
    fn signed_byte<const I: usize>(self, words: Self::V) -> Self::V {
        unsafe { [signed_byte_of_8::<I>(words[0]), signed_byte_of_8::<I>(words[1])] }
    }
    #[inline(always)]
    fn top_byte<const I: usize>(self, words: Self::V) -> Self::V {
        unsafe { [top_byte_of_8::<I>(words[0]), top_byte_of_8::<I>(words[1])] }
    }
    #[inline(always)]
    fn nibbles(self, words: Self::V) -> [Self::V; 2] {
        unsafe {
            let (a, b) = (nibbles_of_8(words[0]), nibbles_of_8(words[1]));
            [[a[0], b[0]], [a[1], b[1]]]
        }
    }

    #[inline(always)]
    fn run<O: Op>(self, op: O) -> O::Out {
        // Never inlined: each kernel is compiled once, however many places call it.
        #[inline(never)]
        #[target_feature(enable = "avx2,fma,f16c")]
        fn inner<O: Op>(s: Avx2, op: O) -> O::Out {
            op.eval(s)
        }
        // SAFETY: holding the token proves these features.
        unsafe { inner(self, op) }
    }
}
