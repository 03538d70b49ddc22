//! The exponential over every f32, and the primitives of every instruction set against scalar.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Numbers, is_small, same_bits, vector_isas};
use masktile::mask::{bf16, f16};
use masktile_kernels::{Isa, LANES, Op, Simd, exp, run};

/// Applies `exp` to each number.
struct Exp<'a>(&'a mut [f32]);

impl Op for Exp<'_> {
    type Out = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        for chunk in self.0.chunks_mut(S::LANES) {
            let n = chunk.len();
            // SAFETY: the chunk has `n` numbers.
            unsafe {
                let x = s.load_first(chunk.as_ptr(), n);
                s.store_first(chunk.as_mut_ptr(), n, exp::exp(s, x));
            }
        }
    }
}

/// The same by the form for arguments that are not positive.
struct ExpNonpositive<'a>(&'a mut [f32]);

impl Op for ExpNonpositive<'_> {
    type Out = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        for chunk in self.0.chunks_mut(S::LANES) {
            let n = chunk.len();
            // SAFETY: the chunk has `n` numbers.
            unsafe {
                let x = s.load_first(chunk.as_ptr(), n);
                s.store_first(chunk.as_mut_ptr(), n, exp::exp_nonpositive(s, x));
            }
        }
    }
}

/// Distance from the true value in units of its last place.
fn ulps(given: f32, x: f32) -> f64 {
    let wanted = f64::from(x).exp();
    if x.is_nan() {
        return if given.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if wanted < f64::from(f32::MIN_POSITIVE) {
        // May flush to zero, and may be the smallest normal number just below it.
        return if given == 0.0 || given == f32::MIN_POSITIVE { 0.0 } else { f64::INFINITY };
    }
    if wanted >= f64::from(f32::MAX) + f64::from(2f32.powi(103)) {
        return if given == f32::INFINITY { 0.0 } else { f64::INFINITY };
    }
    let exponent = ((wanted.to_bits() >> 52) as i32 - 1023).min(127);
    (f64::from(given) - wanted).abs() / 2f64.powi(exponent - 23)
}

/// Every `step`-th bit pattern: at most 1 ulp from the true value, and scalar's bits on every
/// instruction set.
fn sweep(step: usize) {
    const PIECE: usize = 1 << 20;
    let isas = vector_isas();
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut worst = (0.0, 0.0);
        loop {
            let first = next.fetch_add(1, Ordering::Relaxed) as u64 * PIECE as u64;
            if first >= 1 << 32 {
                return worst;
            }
            let xs: Vec<f32> = (first.next_multiple_of(step as u64)..first + PIECE as u64)
                .step_by(step)
                .map(|bits| f32::from_bits(bits as u32))
                .collect();
            let mut scalar = xs.clone();
            run(Isa::SCALAR, Exp(&mut scalar));
            for isa in &isas {
                let mut given = xs.clone();
                run(*isa, Exp(&mut given));
                assert!(same_bits(&given, &scalar), "{isa}, from bits {first:#x} on");
            }
            for (x, y) in xs.into_iter().zip(scalar) {
                // The true value rounds to 1 near 0; no need of the slow function.
                let error = if x.abs() < 1e-9 { f64::from((y - 1.0).abs()) } else { ulps(y, x) };
                if error > worst.0 {
                    worst = (error, x);
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
    println!("exp: greatest error {:.4} ulp, at {:e}", worst.0, worst.1);
    println!("cases: {} arguments of exp", ((1u64 << 32) / step as u64) * (isas.len() as u64 + 1));
    assert!(worst.0 <= 1.0, "{worst:?}");
}

/// A sample of all arguments, small enough for every run.
#[test]
fn exp_is_within_an_ulp() {
    sweep(if is_small() { 4099 } else { 61 });
}

/// All 2^32 arguments: `cargo test --release -- --ignored exhaustive`
#[test]
#[ignore = "minutes: all 2^32 arguments on every instruction set"]
fn exhaustive_exp() {
    sweep(1);
}

/// Special values and a sample of all others have scalar's bits on every instruction set, and the
/// form for nonpositive arguments agrees with the general one.
#[test]
fn exp_has_the_same_bits_everywhere() {
    vector_isas();
    let mut xs: Vec<f32> =
        (0..1 << 20).map(|i: u32| f32::from_bits(i.wrapping_mul(4099))).collect();
    xs.extend([0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN]);
    xs.extend([
        -87.336_54,
        -87.336_55,
        88.722_84,
        88.722_85,
        88.0,
        -0.5,
        1e-45,
        f32::from_bits(0x7f80_0001),
    ]);
    let mut scalar = xs.clone();
    run(Isa::SCALAR, Exp(&mut scalar));
    for isa in Isa::available() {
        let mut given = xs.clone();
        run(isa, Exp(&mut given));
        assert!(same_bits(&given, &scalar), "{isa}");
        let mut nonpositive: Vec<f32> = xs.iter().map(|x| if *x > 0.0 { -x } else { *x }).collect();
        let mut general = nonpositive.clone();
        run(isa, ExpNonpositive(&mut nonpositive));
        run(isa, Exp(&mut general));
        assert!(same_bits(&nonpositive, &general), "{isa}, nonpositive");
    }
}

/// Each primitive on the given lanes, written one after the other; what is of 16 lanes and what is of
/// a vector of the instruction set, each at its end. A vector of one number takes lane after lane.
struct Primitives<'a> {
    a: &'a [f32; LANES],
    b: &'a [f32; LANES],
    c: &'a [f32; LANES],
}

impl Primitives<'_> {
    /// `f` of every vector's first lane, and what it writes there.
    #[inline(always)]
    fn lanes<S: Simd>(s: S, f: impl Fn(usize) -> S::V) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        for first in (0..LANES).step_by(S::LANES) {
            // SAFETY: a vector of its lanes lies within the 16.
            unsafe { s.store(lanes.as_mut_ptr().add(first), f(first)) };
        }
        lanes
    }
}

impl Op for Primitives<'_> {
    type Out = Vec<f32>;
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) -> Vec<f32> {
        let mut out = Vec::new();
        // SAFETY: a vector of its lanes lies within the 16.
        let load = |x: &[f32; LANES], first: usize| unsafe { s.load(x.as_ptr().add(first)) };
        let show = |m: S::M| s.select(m, s.splat(1.0), s.splat(0.0));
        let mut each = |f: &dyn Fn(S::V, S::V, S::V) -> S::V| {
            out.extend(Self::lanes(s, |first| {
                f(load(self.a, first), load(self.b, first), load(self.c, first))
            }));
        };
        each(&|a, b, _| s.add(a, b));
        each(&|a, b, _| s.sub(a, b));
        each(&|a, b, _| s.mul(a, b));
        each(&|a, b, _| s.div(a, b));
        each(&|a, b, c| s.fma(a, b, c));
        each(&|a, b, _| s.max(a, b));
        each(&|a, _, _| s.shl23(a));
        each(&|a, b, _| s.copysign(a, b));
        each(&|a, b, _| s.select(s.lt(a, b), a, b));
        each(&|a, b, _| show(s.not(s.lt(a, b))));
        each(&|a, b, c| show(s.and(s.lt(a, b), s.lt(b, c))));
        // 16 rows of 5 numbers, read from the second number of each on.
        let rows: Vec<f32> = (0..16 * 5).map(|i| i as f32).collect();
        for column in 0..4 {
            // SAFETY: the last number read is that at 1 + 15 * 5 + 3, the last of the 80.
            out.extend(Self::lanes(s, |first| unsafe {
                s.columns4(rows.as_ptr().add(1 + 5 * first), 5)[column]
            }));
        }
        // SAFETY: `a` has 16 numbers.
        out.extend(Self::lanes(s, |first| unsafe {
            s.fma_at::<15>(self.a.as_ptr(), load(self.b, first), load(self.c, first))
        }));
        for n in 0..=LANES + 1 {
            let rest = |first: usize| n.saturating_sub(first);
            out.extend(Self::lanes(s, |first| show(s.first(rest(first)))));
            // Exactly as long as may be touched; the guard-page test proves the end.
            let source = self.a[..n.min(LANES)].to_vec();
            let mut target = [7.0; LANES];
            // SAFETY: the source has `min(n, 16)` numbers, the target 16.
            unsafe {
                out.extend(Self::lanes(s, |first| {
                    s.load_first(source.as_ptr().wrapping_add(first), rest(first))
                }));
                for first in (0..LANES).step_by(S::LANES) {
                    let p = target.as_mut_ptr().add(first);
                    s.store_first(p, rest(first), load(self.b, first));
                }
            }
            out.extend(target);
        }
        let nonzero = s.nonzero_bytes(self.a.map(|x| u8::from(x > 0.0) * 128));
        for bits in [nonzero, 0, 1, 0x8000, 0x5a3c, u16::MAX] {
            out.extend(Self::lanes(s, |first| show(s.mask(bits >> first))));
            let own = u16::MAX >> (16 - S::LANES);
            assert_eq!(s.bits(s.mask(bits)), bits & own);
        }
        for first in (0..LANES).step_by(S::LANES) {
            let less = s.bits(s.lt(load(self.a, first), load(self.b, first)));
            out.extend((0..S::LANES).map(|lane| f32::from(less >> lane & 1)));
        }
        // Of all 16 lanes; single numbers are folded by the same tree.
        let fold = |f: fn(f32, f32) -> f32, mut x: [f32; LANES]| {
            for half in [8, 4, 2, 1] {
                (0..half).for_each(|i| x[i] = f(x[i], x[i + half]));
            }
            x[0]
        };
        let greater = Self::lanes(s, |first| s.max(load(self.a, first), s.splat(f32::MIN)));
        if S::LANES == LANES {
            out.push(s.sum(load(self.a, 0)));
            out.push(s.largest(load(&greater, 0)));
        } else {
            out.push(fold(|low, high| low + high, *self.a));
            out.push(fold(|low, high| if high > low { high } else { low }, greater));
        }
        out
    }
}

/// 16 numbers as half and as bfloat16, widened.
struct Widen([u16; LANES]);

impl Op for Widen {
    type Out = [[f32; LANES]; 2];
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) -> [[f32; LANES]; 2] {
        let from =
            |first: usize| std::array::from_fn(|i| self.0.get(first + i).copied().unwrap_or(0));
        [
            Primitives::lanes(s, |first| s.widen_f16(from(first))),
            Primitives::lanes(s, |first| s.widen_bf16(from(first))),
        ]
    }
}

#[test]
fn every_half_is_widened_exactly() {
    for isa in Isa::available() {
        for first in (0..=u16::MAX).step_by(LANES) {
            let bits: [u16; LANES] = std::array::from_fn(|i| first + i as u16);
            let [halves, bfloats] = run(isa, Widen(bits));
            assert!(same_bits(&halves, &bits.map(|x| f16::from_bits(x).to_f32())), "{isa} {first}");
            assert!(
                same_bits(&bfloats, &bits.map(|x| bf16::from_bits(x).to_f32())),
                "{isa} {first}"
            );
        }
    }
}

/// A model in plain f32 of what [`Primitives`] begins with.
fn model(a: &[f32; LANES], b: &[f32; LANES], c: &[f32; LANES]) -> Vec<f32> {
    type F = fn(f32, f32, f32) -> f32;
    let functions: [F; 11] = [
        |a, b, _| a + b,
        |a, b, _| a - b,
        |a, b, _| a * b,
        |a, b, _| a / b,
        |a, b, c| a.mul_add(b, c),
        |a, b, _| if a > b { a } else { b },
        |a, _, _| f32::from_bits(a.to_bits() << 23),
        |a, b, _| a.copysign(b),
        |a, b, _| if a < b { a } else { b },
        |a, b, _| if a < b { 0.0 } else { 1.0 },
        |a, b, c| if a < b && b < c { 1.0 } else { 0.0 },
    ];
    let mut out = Vec::new();
    for f in functions {
        out.extend((0..LANES).map(|i| f(a[i], b[i], c[i])));
    }
    for column in 1..5 {
        out.extend((0..LANES).map(|i| (i * 5 + column) as f32));
    }
    out.extend((0..LANES).map(|i| a[15].mul_add(b[i], c[i])));
    out
}

#[test]
fn primitives_are_scalar_arithmetic() {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        f32::MIN,
        f32::MIN_POSITIVE,
        1e-45,
        -1e-45,
        1.5,
        16_777_215.0,
        0.1,
        f32::EPSILON,
    ];
    let mut numbers = Numbers::new(3);
    for round in 0..400 {
        let mut pick = || {
            core::array::from_fn(|_| {
                let plain = numbers.one() * 10f32.powi(numbers.below(20) as i32 - 10);
                if round % 2 == 0 { special[numbers.below(special.len())] } else { plain }
            })
        };
        let (a, b, c) = (pick(), pick(), pick());
        let scalar = run(Isa::SCALAR, Primitives { a: &a, b: &b, c: &c });
        let wanted = model(&a, &b, &c);
        assert!(same_bits(&scalar[..wanted.len()], &wanted), "{a:?} {b:?} {c:?}");
        for isa in Isa::available() {
            let given = run(isa, Primitives { a: &a, b: &b, c: &c });
            common::assert_same_bits(&given, &scalar, format_args!("{isa} {a:?} {b:?} {c:?}"));
        }
    }
}
