//! The activation functions: errors against float64, equal bits, special values.

mod common;

use common::{assert_same_bits, is_small, same_bits, vector_isas};
use masktile_kernels::{Isa, Op, Simd, activation, run};

/// One function: its name, itself on a slice, its value in float64 for finite arguments, and the
/// greatest error that its documentation admits, in units in the last place.
struct Case {
    name: &'static str,
    apply: fn(Isa, &mut [f32]),
    exact: fn(f64) -> f64,
    bound: f64,
}

macro_rules! apply {
    ($f:ident) => {{
        struct Apply<'a>(&'a mut [f32]);
        impl Op for Apply<'_> {
            type Out = ();
            #[inline(always)]
            fn eval<S: Simd>(self, s: S) {
                for chunk in self.0.chunks_mut(S::LANES) {
                    let n = chunk.len();
                    // SAFETY: the chunk has `n` numbers.
                    unsafe {
                        let x = s.load_first(chunk.as_ptr(), n);
                        s.store_first(chunk.as_mut_ptr(), n, activation::$f(s, x));
                    }
                }
            }
        }
        |isa, xs| run(isa, Apply(xs))
    }};
}

const RELU: Case = Case { name: "relu", apply: apply!(relu), exact: |x| x.max(0.0), bound: 0.0 };
const SIGMOID: Case = Case {
    name: "sigmoid",
    apply: apply!(sigmoid),
    exact: |x| 1.0 / (1.0 + (-x).exp()),
    bound: 2.0,
};
const SILU: Case =
    Case { name: "silu", apply: apply!(silu), exact: |x| x / (1.0 + (-x).exp()), bound: 3.0 };
const TANH: Case = Case { name: "tanh", apply: apply!(tanh), exact: libm::tanh, bound: 2.0 };
const ERF: Case = Case { name: "erf", apply: apply!(erf), exact: libm::erf, bound: 2.0 };
const GELU_ERF: Case = Case {
    name: "gelu_erf",
    apply: apply!(gelu_erf),
    exact: |x| x / 2.0 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2),
    bound: 4.0,
};
const GELU_TANH: Case = Case {
    name: "gelu_tanh",
    apply: apply!(gelu_tanh),
    exact: |x| {
        let u = (2.0 * std::f64::consts::FRAC_2_PI).sqrt() * (x + 0.044715 * x * x * x)
            / std::f64::consts::SQRT_2;
        x / (1.0 + (-2.0 * u).exp())
    },
    bound: 3.0,
};
const CASES: [Case; 7] = [RELU, SIGMOID, SILU, TANH, ERF, GELU_ERF, GELU_TANH];

impl Case {
    /// Distance of `given` from the true value at a finite `x`, in units of its last place, which
    /// under the smallest normal number is the smallest number there is.
    fn ulps(&self, given: f32, x: f32) -> f64 {
        let wanted = (self.exact)(f64::from(x));
        let error = (f64::from(given) - wanted).abs();
        let sign = if self.name == "sigmoid" { 1.0 } else { x };
        if given.is_nan() || given.is_sign_negative() != sign.is_sign_negative() {
            // The only function that has zero for both signs.
            let relu = self.name == "relu" && x < 0.0 && given.to_bits() == 0;
            return if relu { 0.0 } else { f64::INFINITY };
        }
        let exponent = (wanted.to_bits() >> 52 & 0x7ff).max(1023 - 126);
        error * f64::from_bits((2 * 1023 + 23 - exponent) << 52)
    }

    /// Every `step`-th bit pattern: scalar's bits on every instruction set, and the error below the
    /// bound.
    fn sweep(&self, step: usize) {
        const PIECE: u64 = 1 << 22;
        let isas = vector_isas();
        let next = std::sync::atomic::AtomicU64::new(0);
        let worker = || {
            let mut worst = (0.0, 0.0);
            loop {
                let first = next.fetch_add(PIECE, std::sync::atomic::Ordering::Relaxed);
                if first >= 1 << 32 {
                    return worst;
                }
                // From a multiple of the step on.
                let xs: Vec<f32> = (first.next_multiple_of(step as u64)..first + PIECE)
                    .step_by(step)
                    .map(|bits| f32::from_bits(bits as u32))
                    .collect();
                let mut scalar = xs.clone();
                (self.apply)(Isa::SCALAR, &mut scalar);
                for isa in &isas {
                    let mut given = xs.clone();
                    (self.apply)(*isa, &mut given);
                    if !same_bits(&given, &scalar) {
                        assert_same_bits(&given, &scalar, format_args!("{}, {isa}", self.name));
                    }
                }
                for (x, y) in xs.into_iter().zip(scalar) {
                    if x.is_nan() {
                        assert!(y.is_nan(), "{}({x})", self.name);
                    } else if x.is_finite() {
                        let error = self.ulps(y, x);
                        if error > worst.0 {
                            worst = (error, x);
                        }
                    }
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let worst = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
            handles
                .into_iter()
                .map(|h| h.join().unwrap())
                .fold((0.0, 0.0), |a, b| if b.0 > a.0 { b } else { a })
        });
        println!("{}: greatest error {:.4} ulp, at {:e}", self.name, worst.0, worst.1);
        let arguments = (1u64 << 32) / step as u64 * (isas.len() as u64 + 1);
        println!("cases: {arguments} arguments of {}", self.name);
        assert!(worst.0 <= self.bound, "{}: {worst:?}", self.name);
    }
}

/// A sample of all arguments, small enough for every run.
#[test]
fn errors_are_within_bounds_and_bits_the_same() {
    let step = if is_small() { 65_537 } else { 307 };
    CASES.iter().for_each(|case| case.sweep(step));
}

/// All 2^32 arguments, a test for each function:
/// `cargo test --release -- --ignored exhaustive` (`--nocapture` shows the errors)
macro_rules! exhaustive {
    ($($name:ident: $case:expr;)*) => {
        mod exhaustive {
            $(
                #[test]
                #[ignore = "minutes: all 2^32 arguments on every instruction set"]
                fn $name() {
                    $case.sweep(1);
                }
            )*
        }
    };
}
exhaustive! {
    relu: super::RELU;
    sigmoid: super::SIGMOID;
    silu: super::SILU;
    tanh: super::TANH;
    erf: super::ERF;
    gelu_erf: super::GELU_ERF;
    gelu_tanh: super::GELU_TANH;
}

/// Limits, signed zeros, the ends of the range, NaN.
#[test]
fn special_values() {
    const INF: f32 = f32::INFINITY;
    const TINY: f32 = f32::from_bits(1);
    let xs = [0.0, -0.0, INF, -INF, f32::MAX, f32::MIN, TINY, -TINY, f32::NAN, -f32::NAN];
    let wanted: [(&Case, [f32; 8]); 7] = [
        (&RELU, [0.0, -0.0, INF, 0.0, f32::MAX, 0.0, TINY, 0.0]),
        (&SIGMOID, [0.5, 0.5, 1.0, 0.0, 1.0, 0.0, 0.5, 0.5]),
        (&SILU, [0.0, -0.0, INF, -0.0, f32::MAX, -0.0, 0.0, -0.0]),
        (&TANH, [0.0, -0.0, 1.0, -1.0, 1.0, -1.0, TINY, -TINY]),
        (&ERF, [0.0, -0.0, 1.0, -1.0, 1.0, -1.0, TINY, -TINY]),
        (&GELU_ERF, [0.0, -0.0, INF, -0.0, f32::MAX, -0.0, 0.0, -0.0]),
        (&GELU_TANH, [0.0, -0.0, INF, -0.0, f32::MAX, -0.0, 0.0, -0.0]),
    ];
    for (case, wanted) in wanted {
        for isa in Isa::available() {
            let mut given = xs;
            (case.apply)(isa, &mut given);
            let wanted: Vec<f32> = wanted.into_iter().chain([f32::NAN; 2]).collect();
            assert_same_bits(&given, &wanted, format_args!("{}, {isa}", case.name));
        }
    }
}

/// The functions keep their relative accuracy where the textbook formula has none left.
#[test]
fn far_tails_are_not_zero() {
    let cases = [(&GELU_ERF, -12.0), (&GELU_TANH, -9.5), (&SILU, -90.0), (&SIGMOID, -87.0)];
    for (case, x) in cases {
        let mut given = [x];
        (case.apply)(Isa::SCALAR, &mut given);
        let wanted = (case.exact)(f64::from(x));
        let error = (f64::from(given[0]) / wanted - 1.0).abs();
        assert!(given[0] != 0.0 && error < 4e-7, "{}({x}): {given:?}, {wanted:e}", case.name);
    }
}
