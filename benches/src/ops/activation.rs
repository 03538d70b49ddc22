//! The activation functions, each on a row of numbers.

use anyhow::Result;
use masktile_kernels::{Isa, Op, Simd, activation, run};

use super::oracle::{HALF_ULP, Number};
use super::{How, Operation, Problem, Series, Unit, Work, Worst, floats, sizes};
use crate::buffer::Buffer;
use crate::masks;

/// One function of a number.
struct Function {
    apply: fn(Isa, &[f32], &mut [f32]),
    exact: fn(f64) -> f64,
    /// The greatest error that its documentation admits, in units in the last place.
    ulps: f64,
    /// Additions, multiplications, divisions and comparisons of its formula.
    flops: usize,
}

/// The operation of one function, which is a name in `masktile_kernels::activation`.
macro_rules! operation {
    ($constant:ident, $f:ident, exact: $exact:expr, ulps: $ulps:literal, flops: $flops:literal) => {
        #[doc = concat!("`", stringify!($f), "` of each number.")]
        pub const $constant: Operation = Operation {
            name: stringify!($f),
            problem: |shape, _| {
                struct Apply<'a>(&'a [f32], &'a mut [f32]);
                impl Op for Apply<'_> {
                    type Out = ();
                    #[inline(always)]
                    fn eval<S: Simd>(self, s: S) {
                        let mut x = self.0.chunks_exact(S::LANES);
                        let mut y = self.1.chunks_exact_mut(S::LANES);
                        for (x, y) in (&mut x).zip(&mut y) {
                            // SAFETY: both have the numbers of a vector.
                            unsafe {
                                let x = s.load(x.as_ptr());
                                s.store(y.as_mut_ptr(), activation::$f(s, x));
                            }
                        }
                        let (x_rest, y_rest) = (x.remainder(), y.into_remainder());
                        let n = x_rest.len().min(y_rest.len());
                        // SAFETY: both have `n` numbers.
                        unsafe {
                            let x = s.load_first(x_rest.as_ptr(), n);
                            s.store_first(y_rest.as_mut_ptr(), n, activation::$f(s, x));
                        }
                    }
                }
                const FUNCTION: Function = Function {
                    apply: |isa, x, y| run(isa, Apply(x, y)),
                    exact: $exact,
                    ulps: $ulps,
                    flops: $flops,
                };
                Ok(Box::new(Row::new(&FUNCTION, len(shape)?)))
            },
            ..FAMILY
        };
    };
}

operation!(RELU, relu, exact: |x| x.max(0.0), ulps: 0.0, flops: 1);
operation!(SIGMOID, sigmoid, exact: |x| 1.0 / (1.0 + (-x).exp()), ulps: 2.0, flops: 26);
operation!(SILU, silu, exact: |x| x / (1.0 + (-x).exp()), ulps: 3.0, flops: 26);
operation!(TANH, tanh, exact: libm::tanh, ulps: 2.0, flops: 29);
operation!(ERF, erf, exact: libm::erf, ulps: 2.0, flops: 44);
operation!(
    GELU_ERF, gelu_erf,
    exact: |x| x / 2.0 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2),
    ulps: 4.0, flops: 62
);
operation!(
    GELU_TANH, gelu_tanh,
    exact: |x| {
        let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
        x / (1.0 + (-2.0 * u).exp())
    },
    ulps: 3.0, flops: 45
);

/// What all functions share.
const FAMILY: Operation = Operation {
    name: "",
    family: "activation",
    dtype: "f32",
    form: "a length",
    unit: Unit::Gbps,
    threaded: false,
    masks: &[masks::Kind::None],
    shapes: &["4096", "32768", "1048576"],
    quick: &["32768"],
    verify: &["1", "17", "10007"],
    series: Series { label: "numbers", at: |shape| len(shape).ok().map(|len| len as f64) },
    check: |shape| len(shape).map(drop),
    problem: |_, _| anyhow::bail!("no function"),
};

fn len(shape: &str) -> Result<usize> {
    let [len] = sizes(shape, FAMILY.form)?;
    floats(shape, [&[len], &[len]])?;
    Ok(len)
}

struct Row {
    function: &'static Function,
    /// Spread over -8 .. 8.
    x: Buffer,
}

impl Row {
    fn new(function: &'static Function, len: usize) -> Self {
        let mut x = Buffer::random(len, 8);
        x.iter_mut().for_each(|x| *x *= 8.0);
        Row { function, x }
    }
}

impl Problem for Row {
    fn work(&self) -> Work {
        Work::f32(self.function.flops * self.x.len(), 2 * self.x.len())
    }

    fn outputs(&self) -> usize {
        self.x.len()
    }

    fn run(&self, how: How, out: &mut [f32], _: &mut [f32]) -> masktile::Result<()> {
        (self.function.apply)(how.isa, &self.x, out);
        Ok(())
    }

    fn worst(&self, out: &[f32]) -> masktile::Result<Worst> {
        Ok(Worst::of(self.x.iter().zip(out).map(|(x, given)| {
            let wanted = (self.function.exact)(f64::from(*x));
            // A unit in the last place is at most 2^-23 and at least 2^-24 of a number.
            let ulp = 2f64
                .powi(wanted.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor() as i32)
                * 2.0
                * HALF_ULP;
            let scale = wanted.abs().max(f64::MIN_POSITIVE);
            Number { given: *given, wanted, scale, bound: self.function.ulps * ulp / scale }
        })))
    }
}
