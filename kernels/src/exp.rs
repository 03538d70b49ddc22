//! The exponential, within 1 ulp of the true value over every f32.
//!
//! Method (W. J. Cody and W. Waite, *Software Manual for the Elementary Functions*, 1980):
//! 1. `n = round(x / ln 2)`, by adding and subtracting 1.5 * 2^23, which leaves `n` in the low bits;
//! 2. `r = x - n ln 2` in two steps, `ln 2` split so that the first product is exact;
//! 3. `exp(r)` for `|r| <= ln(2) / 2` by a polynomial of degree 6, fitted for least relative error
//!    (its own error is 3.1e-9, a twentieth of an ulp: rounding decides the rest);
//! 4. `exp(x) = 2^n exp(r)`, the power of two made from the bits of step 1.

use crate::simd::Simd;

/// Adding it rounds to an integer and leaves `n + 127` in the low bits: 1.5 * 2^23 + 127.
pub(crate) const ROUND: f32 = 12_583_039.0;
/// `ln 2` rounded to 9 bits, so that `n` times it is exact, and the rest.
pub(crate) const LN2_HIGH: f32 = 0.693_359_4;
pub(crate) const LN2_LOW: f32 = -2.121_944_4e-4;
/// Below it the result is under the smallest normal number: `ln(2^-126)`, rounded up.
pub(crate) const SMALLEST: f32 = -87.336_54;
/// Above it the result is over the largest finite number.
const LARGEST: f32 = 88.722_84;
/// `exp(r) = 1 + r + C[0] r^2 + ... + C[4] r^6`
pub(crate) const C: [f32; 5] =
    [0.499_999_94, 0.166_665_21, 0.041_668_266, 0.008_368_684, 0.001_382_094_7];

/// `x - n ln 2` for `n = round(x / ln 2)`, and in the low bits of the second `n` plus what `round`
/// adds to 1.5 * 2^23.
#[inline(always)]
pub(crate) fn reduce<S: Simd>(s: S, x: S::V, round: f32) -> (S::V, S::V) {
    let t = s.fma(x, s.splat(core::f32::consts::LOG2_E), s.splat(round));
    let n = s.sub(t, s.splat(round));
    let r = s.fma(n, s.splat(-LN2_HIGH), x);
    (s.fma(n, s.splat(-LN2_LOW), r), t)
}

/// As [`reduce`] for a sum `x + low`, `low` so small (2^-16, say) that it does not matter for `n`.
#[inline(always)]
pub(crate) fn reduce_sum<S: Simd>(s: S, x: S::V, low: S::V, round: f32) -> (S::V, S::V) {
    let t = s.fma(x, s.splat(core::f32::consts::LOG2_E), s.splat(round));
    let n = s.sub(t, s.splat(round));
    // The first is exact, so that only the addition rounds.
    let r = s.fma(n, s.splat(-LN2_HIGH), x);
    (s.add(r, s.fma(n, s.splat(-LN2_LOW), low)), t)
}

/// `(exp(r) - 1 - r) / r^2` for a reduced `r`.
#[inline(always)]
pub(crate) fn tail<S: Simd>(s: S, r: S::V) -> S::V {
    let mut p = s.splat(C[4]);
    p = s.fma(p, r, s.splat(C[3]));
    p = s.fma(p, r, s.splat(C[2]));
    p = s.fma(p, r, s.splat(C[1]));
    s.fma(p, r, s.splat(C[0]))
}

/// `exp(r)` for a reduced `r`.
#[inline(always)]
pub(crate) fn of_reduced<S: Simd>(s: S, r: S::V) -> S::V {
    let p = s.fma(tail(s, r), r, s.splat(1.0));
    s.fma(p, r, s.splat(1.0))
}

/// `exp(x)` for `x <= 0` (or NaN, which stays NaN), the case of a softmax. Zero where the true
/// value is under the smallest normal number.
#[inline(always)]
pub fn exp_nonpositive<S: Simd>(s: S, x: S::V) -> S::V {
    s.exp_nonpositive(x)
}

/// [`exp_nonpositive`] where the instruction set has no function of its own.
#[inline(always)]
pub(crate) fn nonpositive<S: Simd>(s: S, x: S::V) -> S::V {
    let (r, t) = reduce(s, x, ROUND);
    let p = of_reduced(s, r);
    let small = s.lt(x, s.splat(SMALLEST));
    s.select(small, s.splat(0.0), s.mul(p, s.shl23(t)))
}

/// `exp(x)` for every `x`: infinity above 88.72, zero where the true value is under the smallest
/// normal number, NaN for NaN. The same bits as [`exp_nonpositive`] where both apply.
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    // 2^128 is no f32: scale by the root of the power where n may be 128, in two exact steps.
    let (r, t) = reduce(s, x, ROUND);
    let p = of_reduced(s, r);
    let half = s.lt(s.splat(80.0), x);
    let t = s.select(half, s.sub(t, s.splat(1.0)), t);
    let y = s.mul(p, s.shl23(t));
    let y = s.select(half, s.add(y, y), y);
    let y = s.select(s.lt(x, s.splat(SMALLEST)), s.splat(0.0), y);
    s.select(s.lt(s.splat(LARGEST), x), s.splat(f32::INFINITY), y)
}
