//! Masked softmax over rows of quantised scores, in the semantics of TensorFlow Lite for
//! Microcontrollers, bit for bit, where nothing is masked: i8 scores to i8 or i16, and i16 to i16 by
//! tables. Integers alone.
//!
//! Three passes: the greatest kept score, the sum of the kept weights, their quotients. A masked
//! position has no weight and gets what stands for 0; so has every position of a row of which
//! nothing is kept.

use crate::fixed::{
    EXP, Multiplier, ONE_OVER_ONE_PLUS, doubling_high_mul, exp_nonpositive, reciprocal,
    rounding_shift_right,
};
use crate::gemm::min;
use crate::isa::Isa;
use crate::mask::{Grid, Plan, Row, first_bits};
use crate::simd::{LANES, Op, Simd, sealed::Sealed};

/// How scores become probabilities of type `O`.
pub trait Form<O>: Copy + Sealed {
    /// The scores.
    type Score: Copy + Into<i32>;
    /// What stands for 0.
    const ZERO: O;
    /// What a score adds to the sum that is `difference` (at most 0) from the greatest.
    fn weight(&self, difference: i32) -> u32;
    /// The factor of a row of this sum, as a number and a shift to the right.
    fn factor(sum: u32) -> (i32, u32);
    /// The probability of a score that is `difference` from the greatest.
    fn probability(&self, difference: i32, factor: (i32, u32)) -> O;
}

/// i8 scores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FromInt8 {
    /// The scores' scale, such that a difference times it has 26 bits behind the point: `value`,
    /// with a `shift` to the left.
    pub multiplier: Multiplier,
    /// The least difference that has any weight.
    pub diff_min: i32,
}

impl Sealed for FromInt8 {}

impl FromInt8 {
    /// For scores of which one stands for `scale` (the input's scale times what TensorFlow Lite
    /// calls beta); none where a score stands for less than 2^-26, or for nothing positive. Needs
    /// floating point, so do it beforehand where there is no unit for it.
    pub fn from_scale(scale: f64) -> Option<FromInt8> {
        let (scaled, most) = (scale * f64::from(1 << 26), f64::from(i32::MAX));
        // More would be the same: every difference is out of reach.
        let scaled = if scaled > most { most } else { scaled };
        let multiplier = Multiplier::from_scale(scaled)?;
        let diff_min = -((31i64 << 26) >> multiplier.shift.max(0)) as i32;
        (scaled > 1.0).then_some(FromInt8 { multiplier, diff_min })
    }

    /// `exp` of a scaled difference; none under the least.
    #[cfg_attr(vectors, inline(always))]
    fn exp(&self, difference: i32) -> Option<i32> {
        let Multiplier { value, shift } = self.multiplier;
        (difference >= self.diff_min).then(|| {
            exp_nonpositive(doubling_high_mul(difference.wrapping_shl(shift as u32), value))
        })
    }

    #[cfg_attr(vectors, inline(always))]
    fn weight(&self, difference: i32) -> u32 {
        self.exp(difference).map_or(0, |exp| rounding_shift_right(exp, 12) as u32)
    }

    /// The probability as so many bits.
    #[cfg_attr(vectors, inline(always))]
    fn bits(&self, difference: i32, (scale, over_one): (i32, u32), bits: u32) -> i32 {
        let shift = over_one + 31 - bits;
        match self.exp(difference) {
            // Of longer sums no probability is half of the last bit.
            Some(exp) if shift <= 31 => {
                let all = (1i32 << bits) - 1;
                rounding_shift_right(doubling_high_mul(scale, exp), shift).min(all)
            }
            _ => 0,
        }
    }

    #[cfg_attr(vectors, inline(always))]
    fn factor(sum: u32) -> (i32, u32) {
        let (scale, over_one) = reciprocal(sum);
        // The greatest score alone has a weight of one, less what rounds to it.
        (scale, over_one.max(0) as u32)
    }
}

impl Form<i8> for FromInt8 {
    type Score = i8;
    const ZERO: i8 = i8::MIN;
    #[cfg_attr(vectors, inline(always))]
    fn weight(&self, difference: i32) -> u32 {
        self.weight(difference)
    }
    #[cfg_attr(vectors, inline(always))]
    fn factor(sum: u32) -> (i32, u32) {
        Self::factor(sum)
    }
    #[cfg_attr(vectors, inline(always))]
    fn probability(&self, difference: i32, factor: (i32, u32)) -> i8 {
        (self.bits(difference, factor, 8) + i32::from(i8::MIN)) as i8
    }
}

impl Form<i16> for FromInt8 {
    type Score = i8;
    const ZERO: i16 = i16::MIN;
    #[cfg_attr(vectors, inline(always))]
    fn weight(&self, difference: i32) -> u32 {
        self.weight(difference)
    }
    #[cfg_attr(vectors, inline(always))]
    fn factor(sum: u32) -> (i32, u32) {
        Self::factor(sum)
    }
    #[cfg_attr(vectors, inline(always))]
    fn probability(&self, difference: i32, factor: (i32, u32)) -> i16 {
        (self.bits(difference, factor, 16) + i32::from(i16::MIN)) as i16
    }
}

/// i16 scores: `multiplier` makes of a difference one by which -65535 is -10.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FromInt16 {
    /// The scores' scale in tenths of 65535.
    pub multiplier: Multiplier,
}

impl Sealed for FromInt16 {}

impl FromInt16 {
    /// For scores of which one stands for `scale`; none where that is not positive, or too great.
    /// Needs floating point, as [`FromInt8::from_scale`].
    pub fn from_scale(scale: f64) -> Option<FromInt16> {
        Some(FromInt16 { multiplier: Multiplier::from_scale(scale / (10.0 / 65535.0))? })
    }

    /// `exp` as 15 bits behind the point.
    #[cfg_attr(vectors, inline(always))]
    fn exp(&self, difference: i32) -> i32 {
        i32::from(EXP.at(saturated(self.multiplier.apply(difference).saturating_add(32767))))
    }
}

#[cfg_attr(vectors, inline(always))]
fn saturated(x: i32) -> i16 {
    x.max(i32::from(i16::MIN)).min(i32::from(i16::MAX)) as i16
}

impl Form<i16> for FromInt16 {
    type Score = i16;
    const ZERO: i16 = 0;
    #[cfg_attr(vectors, inline(always))]
    fn weight(&self, difference: i32) -> u32 {
        self.exp(difference) as u32
    }
    #[cfg_attr(vectors, inline(always))]
    fn factor(sum: u32) -> (i32, u32) {
        let sum = min(sum as usize, i32::MAX as usize) as u32;
        // Its leading one, and 16 bits behind that, rounded.
        let headroom = sum.leading_zeros().max(1);
        let leading = ((i64::from(sum) << (headroom - 1)) + (1 << 13)) >> 14;
        let over_one = saturated(leading as i32 - (1 << 16) - (1 << 15));
        (i32::from(ONE_OVER_ONE_PLUS.at(over_one)), 31 - headroom.min(30))
    }
    #[cfg_attr(vectors, inline(always))]
    fn probability(&self, difference: i32, (factor, shift): (i32, u32)) -> i16 {
        let product = i64::from(self.exp(difference)) * i64::from(factor);
        let rounded = ((product + (1 << (shift - 1))) >> shift) as i32;
        rounded.max(0).min(i32::from(i16::MAX)) as i16
    }
}

/// A softmax over the keys of `[batch, heads, queries, keys]`. Strides count elements.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct Softmax<'a, O, F: Form<O>> {
    pub shape: [usize; 4],
    pub scores: Grid<F::Score>,
    pub probs: *mut O,
    pub probs_strides: [usize; 4],
    pub form: F,
    /// Without biases.
    pub plan: Plan<'a>,
}

/// Computes it.
///
/// # Safety
/// Every element that the shape and the strides name is valid: of scores and the plan's matrices for
/// reading, of probs for writing. Probs are the scores themselves, element by element, or overlap
/// neither them nor anything else, and no one else uses them meanwhile.
pub unsafe fn softmax<O: Copy, F: Form<O>>(isa: Isa, softmax: &Softmax<'_, O, F>) {
    crate::run(isa, Rows(softmax));
}

struct Rows<'a, O, F: Form<O>>(&'a Softmax<'a, O, F>);

impl<O: Copy, F: Form<O>> Op for Rows<'_, O, F> {
    type Out = ();
    #[cfg_attr(vectors, inline(always))]
    fn eval<S: Simd>(self, s: S) {
        let [batches, heads, queries, keys] = self.0.shape;
        // Without a number to write the other sizes may be any.
        if keys == 0 {
            return;
        }
        for batch in 0..batches {
            for head in 0..heads {
                for query in 0..queries {
                    // SAFETY: the row is inside the shape.
                    unsafe { row(s, self.0, Row { batch, head, query }) }
                }
            }
        }
    }
}

/// # Safety
/// [`softmax`]'s.
#[cfg_attr(vectors, inline(always))]
unsafe fn row<O: Copy, F: Form<O>, S: Simd>(s: S, x: &Softmax<'_, O, F>, at: Row) {
    let keys = x.shape[3];
    let score = |key: usize| {
        // SAFETY: `key` is one of the row's.
        let score = unsafe { x.scores.at(at, key).read() };
        score.into()
    };
    let probs = Grid { data: x.probs.cast_const(), strides: x.probs_strides };
    let (first, end) = x.plan.range(at, keys);

    // SAFETY: the caller's.
    unsafe {
        let mut greatest = i32::MIN;
        each_kept(s, x, at, first, end, |key, kept| {
            if kept {
                greatest = greatest.max(score(key));
            }
        });
        let mut sum = 0u32;
        each_kept(s, x, at, first, end, |key, kept| {
            if kept {
                sum = sum.saturating_add(x.form.weight(score(key) - greatest));
            }
        });
        let factor = F::factor(sum.max(1));
        let write = |key: usize, prob: O| probs.at(at, key).cast_mut().write(prob);
        for key in (0..first).chain(end..keys) {
            write(key, F::ZERO);
        }
        each_kept(s, x, at, first, end, |key, kept| {
            write(
                key,
                if kept { x.form.probability(score(key) - greatest, factor) } else { F::ZERO },
            );
        });
    }
}

/// Calls `f` with each key of the run and whether it is kept.
///
/// # Safety
/// The plan's matrices have those positions.
#[cfg_attr(vectors, inline(always))]
unsafe fn each_kept<O, F: Form<O>, S: Simd>(
    s: S,
    x: &Softmax<'_, O, F>,
    at: Row,
    first: usize,
    end: usize,
    mut f: impl FnMut(usize, bool),
) {
    for key in (first..end).step_by(LANES) {
        let n = min(LANES, end - key);
        let kept = if x.plan.is_elementwise() {
            // SAFETY: the caller's.
            unsafe { x.plan.kept_by_bits(s, at, key, n) }
        } else {
            first_bits(n)
        };
        for i in 0..n {
            f(key + i, kept >> i & 1 == 1);
        }
    }
}
