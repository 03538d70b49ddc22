//! What the tests share: numbers, masks of every kind, and the oracle in float64.
#![allow(dead_code, unused_imports, reason = "each test binary uses its own part")]

mod masks;

pub use masks::MaskData;
use masktile::Isa;

/// Numbers that look random and are the same every time (xorshift; no zeros, none subnormal).
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 33) % n.max(1) as u64) as usize
    }

    /// In -1 .. 1.
    pub fn one(&mut self) -> f32 {
        (self.below(1 << 24) as f32 + 0.5) / (1 << 23) as f32 - 1.0
    }

    pub fn many(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.one()).collect()
    }
}

/// How many cases are tested: all, or fewer under emulation of a processor (`MASKTILE_TEST_EFFORT`
/// is `small`), fewer still under that of a whole computer (`tiny`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    Full,
    Small,
    Tiny,
}

impl Effort {
    pub fn current() -> Effort {
        match std::env::var("MASKTILE_TEST_EFFORT").as_deref() {
            Ok("small") => Effort::Small,
            Ok("tiny") => Effort::Tiny,
            _ => Effort::Full,
        }
    }

    /// The first, second or third.
    pub fn pick<T>(self, full: T, small: T, tiny: T) -> T {
        match self {
            Effort::Full => full,
            Effort::Small => small,
            Effort::Tiny => tiny,
        }
    }
}

/// Whether tables are thinned out.
pub fn is_small() -> bool {
    Effort::current() != Effort::Full
}

/// `all`, or every few of them where effort is small; the first and the last always.
pub fn thinned(all: impl IntoIterator<Item = usize>) -> Vec<usize> {
    let all: Vec<usize> = all.into_iter().collect();
    let step = Effort::current().pick(1, 7, 29);
    let last = all.len().saturating_sub(1);
    all.iter().enumerate().filter(|(i, _)| i % step == 0 || *i == last).map(|(_, x)| *x).collect()
}

/// The instruction sets beside scalar, named once a binary so that a run shows what it tested.
pub fn vector_isas() -> Vec<Isa> {
    let isas: Vec<Isa> = Isa::available().filter(|isa| *isa != Isa::SCALAR).collect();
    println!("tested against scalar: {isas:?}");
    isas
}

/// Equal bits, or both NaN (whose payloads differ by processor).
pub fn same_bits(a: &[f32], b: &[f32]) -> bool {
    let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    a.len() == b.len() && a.iter().zip(b).all(same)
}

#[track_caller]
pub fn assert_same_bits(given: &[f32], wanted: &[f32], case: impl std::fmt::Display) {
    assert_eq!(given.len(), wanted.len(), "{case}");
    for (i, (a, b)) in given.iter().zip(wanted).enumerate() {
        assert!(same_bits(&[*a], &[*b]), "{case}: number {i} is {a:e}, wanted {b:e}");
    }
}

/// `alpha A B + beta C + bias` of row-major matrices, and the sum of the magnitudes of its terms.
pub struct Product<'a> {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub alpha: f32,
    pub beta: f32,
    pub a: &'a [f32],
    pub b: &'a [f32],
    pub c: &'a [f32],
    pub bias: Option<&'a [f32]>,
}

impl Product<'_> {
    pub fn element(&self, i: usize, j: usize) -> (f64, f64) {
        let (mut sum, mut magnitude) = (0.0, 0.0);
        let mut add = |x: f64| {
            sum += x;
            magnitude += x.abs();
        };
        for p in 0..self.k {
            let (a, b) = (self.a[i * self.k + p], self.b[p * self.n + j]);
            add(f64::from(self.alpha) * f64::from(a) * f64::from(b));
        }
        if self.beta != 0.0 {
            add(f64::from(self.beta) * f64::from(self.c[i * self.n + j]));
        }
        if let Some(bias) = self.bias {
            add(f64::from(bias[j]));
        }
        (sum, magnitude)
    }
}

/// Probabilities and log-sum-exp of one row: `scores[j]` is `None` where masked.
pub fn softmax_row(scores: &[Option<f64>]) -> (Vec<f64>, f64) {
    let max = scores.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY && scores.iter().flatten().all(|s| *s == max) {
        return (vec![0.0; scores.len()], f64::NEG_INFINITY);
    }
    let exps: Vec<f64> = scores.iter().map(|s| s.map_or(0.0, |s| (s - max).exp())).collect();
    let sum: f64 = exps.iter().sum();
    (exps.iter().map(|e| e / sum).collect(), max + sum.ln())
}

/// batch, heads, queries, keys
pub type Shape = [usize; 4];

/// Attention of one row by the formula: the output and the greatest sum of the magnitudes of a
/// score's terms.
pub struct AttentionRow<'a> {
    pub q: &'a [f32],
    pub keys: Vec<&'a [f32]>,
    pub values: Vec<&'a [f32]>,
    pub scale: f64,
}

impl AttentionRow<'_> {
    /// `score(j, scaled)` is what the softmax takes of key j, `None` of a masked one.
    pub fn output(
        &self,
        width: usize,
        score: impl Fn(usize, f64) -> Option<f64>,
    ) -> (Vec<f64>, f64) {
        let mut magnitude: f64 = 0.0;
        let scores: Vec<Option<f64>> = (0..self.keys.len())
            .map(|j| {
                let terms =
                    self.q.iter().zip(self.keys[j]).map(|(q, k)| f64::from(*q) * f64::from(*k));
                let score = score(j, terms.clone().sum::<f64>() * self.scale);
                if score.is_some() {
                    let sum = terms.map(f64::abs).sum::<f64>();
                    magnitude = magnitude.max(sum * self.scale);
                }
                score
            })
            .collect();
        let (probs, _) = softmax_row(&scores);
        let mut out = vec![0.0; width];
        for j in (0..self.keys.len()).filter(|j| scores[*j].is_some()) {
            for (out, v) in out.iter_mut().zip(self.values[j]) {
                *out += probs[j] * f64::from(*v);
            }
        }
        (out, magnitude)
    }
}
