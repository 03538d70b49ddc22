//! Errors against float64, each beside the bound that the library documents.

/// The greatest error of a result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worst {
    /// Relative to what the bound is relative to: the sum of a product's magnitudes, the
    /// probability itself, the greatest value, the true value of a function.
    pub error: f64,
    /// Over the bound: at most 1 where the library keeps its promise.
    pub of_bound: f64,
}

/// `2^-24`, half a unit in the last place of 1.
pub(super) const HALF_ULP: f64 = f32::EPSILON as f64 / 2.0;

/// One number of a result: what was given, what is true, what errors are relative to, and how
/// large they may be.
pub(super) struct Number {
    pub given: f32,
    pub wanted: f64,
    pub scale: f64,
    pub bound: f64,
}

impl Worst {
    const NONE: Worst = Worst { error: 0.0, of_bound: 0.0 };

    /// The greatest error of all numbers.
    pub(super) fn of(numbers: impl IntoIterator<Item = Number>) -> Self {
        numbers.into_iter().fold(Worst::NONE, |worst, number| {
            let Worst { error, of_bound } = number.error();
            Worst { error: worst.error.max(error), of_bound: worst.of_bound.max(of_bound) }
        })
    }

    /// The greater of both.
    pub fn max(self, other: Worst) -> Self {
        Worst { error: self.error.max(other.error), of_bound: self.of_bound.max(other.of_bound) }
    }

    /// Whether every number was within its bound.
    pub fn is_within(self) -> bool {
        self.of_bound <= 1.0
    }
}

impl Number {
    fn error(&self) -> Worst {
        let error = (f64::from(self.given) - self.wanted).abs();
        if error == 0.0 {
            return Worst::NONE;
        }
        // NaN is the greatest error, and so is any where none is allowed.
        let over = |limit: f64| if error <= f64::MAX { error / limit } else { f64::INFINITY };
        Worst { error: over(self.scale), of_bound: over(self.bound * self.scale) }
    }
}

/// Probabilities of one row; `None` is a masked score. Nothing kept gives zeros.
pub(super) fn softmax_row(scores: &[Option<f64>]) -> Vec<f64> {
    let max = greatest(scores);
    let exps: Vec<f64> = scores.iter().map(|s| s.map_or(0.0, |s| (s - max).exp())).collect();
    let sum: f64 = exps.iter().sum();
    exps.iter().map(|e| if sum > 0.0 { e / sum } else { 0.0 }).collect()
}

/// The greatest kept score.
pub(super) fn greatest(scores: &[Option<f64>]) -> f64 {
    scores.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_infinity_and_one_ulp_too_much_are_beyond_any_bound() {
        let number = |given, wanted| Number { given, wanted, scale: 1.0, bound: HALF_ULP };
        assert!(Worst::of([number(1.0, 1.0)]).is_within());
        assert!(Worst::of([number(1.0, 1.0 + HALF_ULP)]).is_within());
        assert!(!Worst::of([number(1.0, 1.0 + 2.0 * HALF_ULP), number(1.0, 1.0)]).is_within());
        assert!(!Worst::of([number(f32::NAN, 1.0)]).is_within());
        assert!(!Worst::of([number(f32::INFINITY, 1.0)]).is_within());
        let masked = Number { given: 1e-30, wanted: 0.0, scale: 0.0, bound: HALF_ULP };
        assert!(!Worst::of([masked]).is_within());
    }

    #[test]
    fn a_row_of_which_nothing_is_kept_is_zero() {
        assert_eq!(softmax_row(&[None, None]), [0.0, 0.0]);
        assert_eq!(softmax_row(&[None, Some(3.0), Some(3.0)]), [0.0, 0.5, 0.5]);
    }
}
