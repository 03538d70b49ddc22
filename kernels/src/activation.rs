//! Activation functions on vectors: a few units in the last place over every f32, the same bits on
//! every instruction set.
//!
//! There is no branch, no table and at most one division; all lanes do the same work. Common rules:
//! * NaN gives NaN, and nothing else does: infinities give the limit.
//! * The sign of a zero is kept, as is that of a result too small for any number.
//! * Nothing is flushed: a result under the smallest normal number is rounded like any other, its
//!   unit in the last place (ulp) being the smallest number there is.
//!
//! The measured errors are the greatest over all 2^32 arguments, against float64, in ulp of the
//! true value. They hold for negative arguments too, however small the result.
//!
//! Method: everything rests on `exp` as in [`crate::exp`] (W. J. Cody and W. Waite, *Software
//! Manual for the Elementary Functions*, 1980), of an argument that is never positive, so that
//! nothing overflows, and scaled by 2^64 where the result may be small, so that nothing underflows
//! before the last operation. Where the argument of `exp` is itself computed and large, it is
//! carried in two parts, for its absolute error is the relative error of the result. The
//! polynomials are fitted for least greatest error by iteratively reweighted least squares (C. L.
//! Lawson, 1961) in float64, the coefficients rounded to f32 one after the other from the lowest,
//! all that remain fitted anew after each.

use crate::exp::{ROUND, of_reduced, reduce, reduce_sum, tail};
use crate::simd::Simd;

/// As [`ROUND`], the power of two 2^64 times greater.
const ROUND_SCALED: f32 = ROUND + 64.0;
/// 2^64
const SCALE: f32 = f32::from_bits((127 + 64) << 23);
/// 2^-64
const UNSCALE: f32 = f32::from_bits((127 - 64) << 23);

/// `-a`; part of the fused multiply-add it is an argument of.
#[cfg_attr(vectors, inline(always))]
fn negated<S: Simd>(s: S, a: S::V) -> S::V {
    s.sub(s.splat(-0.0), a)
}

/// `-|x|`, but `bound` where that is less. NaN stays.
#[cfg_attr(vectors, inline(always))]
fn negative_within<S: Simd>(s: S, x: S::V, bound: f32) -> S::V {
    s.max(s.splat(bound), s.copysign(x, s.splat(-1.0)))
}

/// `y / (1 + exp(-z))` for a `z` with the sign of `x`, given `2^64 exp(-|z|)`.
///
/// With `e = exp(-|z|)` and `q = e / (1 + e)` that is `y (1 - q)` for positive `z` and `y (e - e q)`
/// for negative: nothing cancels, and `q` and its roundings enter at most by half.
#[cfg_attr(vectors, inline(always))]
fn times_logistic<S: Simd>(s: S, y: S::V, x: S::V, scaled: S::V) -> S::V {
    let one = s.splat(1.0);
    let q = s.div(scaled, s.add(scaled, s.splat(SCALE)));
    let negative = s.lt(x, s.splat(0.0));
    let base = s.select(negative, scaled, one);
    let y = s.mul(y, s.fma(negated(s, base), q, base));
    s.mul(y, s.select(negative, s.splat(UNSCALE), one))
}

/// Down to it `2^64 exp` is a normal number; `x exp(x)` rounds to zero far above it.
const EXP_BOUND: f32 = -128.0;

/// `2^64 exp(x)` for `EXP_BOUND <= x <= 0`.
#[cfg_attr(vectors, inline(always))]
fn exp_scaled<S: Simd>(s: S, x: S::V) -> S::V {
    let (r, t) = reduce(s, x, ROUND_SCALED);
    s.mul(of_reduced(s, r), s.shl23(t))
}

/// `2^64 exp(x + low)` for `EXP_BOUND <= x <= 0` and a `low` as for [`reduce_sum`].
#[cfg_attr(vectors, inline(always))]
fn exp_scaled_sum<S: Simd>(s: S, x: S::V, low: S::V) -> S::V {
    let (r, t) = reduce_sum(s, x, low, ROUND_SCALED);
    s.mul(of_reduced(s, r), s.shl23(t))
}

/// `max(x, 0)`: exact. NaN stays NaN, -0 stays -0.
#[cfg_attr(vectors, inline(always))]
pub fn relu<S: Simd>(s: S, x: S::V) -> S::V {
    // In this order: a comparison with NaN is false, and the second is taken.
    s.max(s.splat(0.0), x)
}

/// `1 / (1 + exp(-x))`, within 2 ulp (1.65 measured).
#[cfg_attr(vectors, inline(always))]
pub fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let scaled = exp_scaled(s, negative_within(s, x, EXP_BOUND));
    times_logistic(s, s.splat(1.0), x, scaled)
}

/// `x / (1 + exp(-x))`, also called swish (S. Elfwing, E. Uchibe and K. Doya, *Sigmoid-Weighted
/// Linear Units for Neural Network Function Approximation in Reinforcement Learning*, 2018), within
/// 3 ulp (2.68 measured).
#[cfg_attr(vectors, inline(always))]
pub fn silu<S: Simd>(s: S, x: S::V) -> S::V {
    let scaled = exp_scaled(s, negative_within(s, x, EXP_BOUND));
    times_logistic(s, s.max(s.splat(EXP_BOUND), x), x, scaled)
}

/// The hyperbolic tangent, within 2 ulp (1.93 measured).
///
/// `q = (1 - e) / (1 + e)` with `e = exp(-2|x|)`, the numerator from the reduced argument, which is
/// accurate near zero; then `(1 - e) / 2 (1 + q)`, the same again with half the error.
#[cfg_attr(vectors, inline(always))]
pub fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    // tanh(10) rounds to 1.
    let z = negative_within(s, x, -10.0);
    let (r, t) = reduce(s, s.add(z, z), ROUND);
    let power = s.shl23(t);
    let less_one = s.fma(s.mul(r, r), tail(s, r), r);
    let one = s.splat(1.0);
    let over = s.fma(power, less_one, s.sub(power, one));
    let under = s.fma(power, less_one, s.add(power, one));
    let q = s.div(over, under);
    let half = s.mul(over, s.splat(0.5));
    s.copysign(s.fma(negated(s, half), q, half), x)
}

/// Where [`erf`] changes formula.
const ERF_SPLIT: f32 = 0.5625;
/// `erf(x) / x - 1` in powers of `x^2` for `|x| <= ERF_SPLIT`; relative error of erf 5.0e-9.
const ERF_NEAR: [f32; 5] =
    [0.128_379_17, -0.376_125_78, 0.112_820_365, -0.026_701_724, 0.004_602_130_5];
/// `ln(1 - erf(-x))` in powers of `x` for `-4 <= x <= -ERF_SPLIT`; relative error of erf 4.6e-9.
const ERF_FAR: [f32; 7] = [
    3.421_317e-5,
    1.128_706_6,
    -0.635_301_05,
    0.105_716_325,
    0.023_154_033,
    0.003_292_950_3,
    2.231_652_8e-4,
];

/// The error function `2 / sqrt(pi)` times the integral of `exp(-t^2)` from 0 to `x` (M. Abramowitz
/// and I. A. Stegun, *Handbook of Mathematical Functions*, 7.1.1), within 2 ulp (1.49 measured).
///
/// An odd polynomial near zero, `1 - exp(polynomial)` elsewhere.
#[cfg_attr(vectors, inline(always))]
pub fn erf<S: Simd>(s: S, x: S::V) -> S::V {
    let square = s.mul(x, x);
    let mut near = s.splat(ERF_NEAR[4]);
    near = s.fma(near, square, s.splat(ERF_NEAR[3]));
    near = s.fma(near, square, s.splat(ERF_NEAR[2]));
    near = s.fma(near, square, s.splat(ERF_NEAR[1]));
    near = s.fma(near, square, s.splat(ERF_NEAR[0]));
    near = s.fma(near, x, x);

    // erf(4) rounds to 1.
    let z = negative_within(s, x, -4.0);
    let mut far = s.splat(ERF_FAR[6]);
    far = s.fma(far, z, s.splat(ERF_FAR[5]));
    far = s.fma(far, z, s.splat(ERF_FAR[4]));
    far = s.fma(far, z, s.splat(ERF_FAR[3]));
    far = s.fma(far, z, s.splat(ERF_FAR[2]));
    far = s.fma(far, z, s.splat(ERF_FAR[1]));
    far = s.fma(far, z, s.splat(ERF_FAR[0]));
    let (r, t) = reduce(s, far, ROUND);
    far = s.fma(negated(s, of_reduced(s, r)), s.shl23(t), s.splat(1.0));

    s.select(s.lt(z, s.splat(-ERF_SPLIT)), s.copysign(far, x), near)
}

/// `K` of the variable `t = (a - K) / (a + K)`, which maps `0 <= a < infinity` to -1 .. 1; of 5
/// bits, so that subtracting it from `a + K` is exact, and such that `TAIL[0]` is nearly an f32.
const TAIL_K: f32 = 3.375;
/// `(a + K) exp(a^2 / 2) P(X > a)` for a standard normal `X` and `0 <= a <= 14.5`, in powers of
/// `t`; relative error 4.6e-9.
const TAIL: [f32; 10] = [
    0.741_080_3,
    -0.552_992_2,
    0.295_375_8,
    -0.098_384_29,
    0.008_720_231,
    0.007_824_670_5,
    -0.002_254_355_7,
    -8.502_208e-4,
    3.127_985_4e-4,
    1.368_136_6e-4,
];

/// `x / 2 (1 + erf(x / sqrt(2)))`, that is `x P(X <= x)` for a standard normal `X`, the exact form
/// (D. Hendrycks and K. Gimpel, *Gaussian Error Linear Units*, 2016), within 4 ulp (3.72 measured).
///
/// With `a = |x|` it is `max(x, 0) - a P(X > a)`, and the tail `P(X > a)` is `exp(-a^2 / 2)` times
/// a function that varies slowly: nothing cancels, and negative `x` keep their relative accuracy
/// down to the smallest result.
#[cfg_attr(vectors, inline(always))]
pub fn gelu_erf<S: Simd>(s: S, x: S::V) -> S::V {
    // gelu(-14.5) rounds to zero.
    let z = negative_within(s, x, -14.5);
    let k = s.splat(TAIL_K);
    let sum = s.sub(k, z);
    let sum_low = s.sub(s.sub(k, sum), z);
    let inverse = s.div(s.splat(1.0), sum);
    // The true inverse is `inverse (1 + e)`. Without `e`, t near -1 would be known too badly.
    let e = s.fma(negated(s, sum), inverse, s.splat(1.0));
    let e = s.fma(negated(s, sum_low), inverse, e);
    let t = s.fma(inverse, s.splat(-2.0 * TAIL_K), s.splat(1.0));
    let t = s.fma(s.mul(inverse, e), s.splat(-2.0 * TAIL_K), t);
    let mut p = s.splat(TAIL[9]);
    p = s.fma(p, t, s.splat(TAIL[8]));
    p = s.fma(p, t, s.splat(TAIL[7]));
    p = s.fma(p, t, s.splat(TAIL[6]));
    p = s.fma(p, t, s.splat(TAIL[5]));
    p = s.fma(p, t, s.splat(TAIL[4]));
    p = s.fma(p, t, s.splat(TAIL[3]));
    p = s.fma(p, t, s.splat(TAIL[2]));
    p = s.fma(p, t, s.splat(TAIL[1]));
    p = s.fma(p, t, s.splat(TAIL[0]));

    // z exp(-z^2 / 2) (1 + e), scaled: the last factor goes with the low part of the argument. With
    // `exp - 1` there is one rounding less.
    let half = s.mul(z, s.splat(-0.5));
    let high = s.mul(z, half);
    let low = s.fma(z, half, negated(s, high));
    let (r, n) = reduce_sum(s, high, s.add(low, e), ROUND_SCALED);
    let less_one = s.fma(s.mul(r, r), tail(s, r), r);
    let scaled = s.mul(s.fma(z, less_one, z), s.shl23(n));

    // The fused multiply-add may have made 0 of -0.
    let below = s.copysign(s.mul(s.mul(scaled, inverse), p), s.splat(-1.0));
    // -0 and not 0, so that the sign of a result that underflows is kept.
    let above = s.select(s.lt(x, s.splat(0.0)), s.splat(-0.0), x);
    s.fma(below, s.splat(UNSCALE), above)
}

/// `2 sqrt(2 / pi)` in two parts, the first of 6 bits, so that subtracting it from a greater number
/// is exact.
const LINEAR_HIGH: f32 = 1.593_75;
const LINEAR_LOW: f32 = 0.002_019_121_5;
/// `0.044715 * 2 sqrt(2 / pi)` in two parts.
const CUBIC_HIGH: f32 = 0.071_354_814;
const CUBIC_LOW: f32 = 2.398_832_4e-9;

/// `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`, the approximation of [`gelu_erf`] that
/// many models were trained with (D. Hendrycks and K. Gimpel, 2016), within 3 ulp (2.70 measured).
///
/// Computed as `x / (1 + exp(-2u))`, `u` the argument of tanh, which keeps the relative accuracy for
/// negative `x` that `1 + tanh` loses.
#[cfg_attr(vectors, inline(always))]
pub fn gelu_tanh<S: Simd>(s: S, x: S::V) -> S::V {
    // 2u is -126.9 here, and x exp(2u) rounds to zero.
    const BOUND: f32 = -11.5;
    let z = negative_within(s, x, BOUND);
    // 2u = z (linear + cubic z^2): each product and sum with its rounding error.
    let square = s.mul(z, z);
    let square_low = s.fma(z, z, negated(s, square));
    let (cubic, linear) = (s.splat(CUBIC_HIGH), s.splat(LINEAR_HIGH));
    let slope = s.fma(cubic, square, linear);
    let slope_low = s.fma(cubic, square, s.sub(linear, slope));
    let slope_low = s.add(
        s.fma(cubic, square_low, slope_low),
        s.fma(s.splat(CUBIC_LOW), square, s.splat(LINEAR_LOW)),
    );
    let high = s.mul(z, slope);
    let low = s.fma(z, slope_low, s.fma(z, slope, negated(s, high)));
    let scaled = exp_scaled_sum(s, high, low);
    times_logistic(s, s.max(s.splat(BOUND), x), x, scaled)
}
