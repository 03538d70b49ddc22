//! Masked softmax over the keys of each row of scores.

use masktile_kernels::mask::{Grid, Plan};
use masktile_kernels::softmax as kernel;

use crate::Result;
use crate::error::{Error, ErrorKind, long_enough, same_shape};
use crate::isa::{self, Isa};
use crate::mask::Mask;
use crate::score::{Scoring, compiled};
use crate::view::{TensorMut, TensorRef};

/// `probs[j] = exp(s[j] - max) / sum` over the kept keys j of each row; 0 where masked. Scores are
/// batch x heads x queries x keys; a matrix ([`crate::MatRef`]) is one batch and one head.
/// `s = (softcap(scale * scores) + biases) / temperature`, each step as given; see [`crate::score`].
///
/// A row of which nothing is kept, or whose kept scores are all -infinity, becomes zeros (with
/// [`Softmax::log`], -infinity). What stands at a masked position, NaN and infinity included, has no influence. A NaN or +infinity
/// at a kept position makes the kept positions of its own row NaN.
///
/// Each result is within `(4 + |s - max|) * 2^-24` of the true one, relative, and has the same bits
/// on every instruction set, alone or in a batch.
///
/// Method: maximum, exponentials with their sum in 16 fixed lanes, division (for the error bound
/// of the shifted form see P. Blanchard, D. J. Higham and N. J. Higham, *Accurately computing the
/// log-sum-exp and softmax functions*, 2021).
///
/// ```
/// use masktile::{Causal, MatMut, MatRef, Softmax};
///
/// let scores = [1.0, 9.0, 1.0, 1.0];
/// let mut probs = [0.0; 4];
/// Softmax::new()
///     .mask(Causal::top_left())
///     .run(MatRef::new(&scores, [2, 2])?, MatMut::new(&mut probs, [2, 2])?)?;
/// assert_eq!(probs, [1.0, 0.0, 0.5, 0.5]);
/// # Ok::<(), masktile::Error>(())
/// ```
#[derive(Debug)]
pub struct Softmax<'a> {
    scoring: Scoring<'a>,
    log: bool,
    lse: Option<&'a mut [f32]>,
    isa: Option<Isa>,
}

impl Default for Softmax<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> Softmax<'a> {
    /// No mask, scale 1.
    pub fn new() -> Self {
        Softmax { scoring: Scoring::NEW, log: false, lse: None, isa: None }
    }

    /// What is kept, and biases. Default: everything, none.
    pub fn mask(mut self, mask: impl Into<Mask<'a>>) -> Self {
        self.scoring.mask = mask.into();
        self
    }

    /// A factor of the scores. Default 1.
    pub fn scale(mut self, scale: f32) -> Self {
        self.scoring.scale = Some(scale);
        self
    }

    /// Keeps scaled scores within `cap`, by `cap * tanh(s / cap)`. Default: none.
    pub fn softcap(mut self, cap: f32) -> Self {
        self.scoring.softcap = Some(cap);
        self
    }

    /// Divides the scores, biases included, before the softmax: under 1 sharpens, over 1 flattens.
    /// (They are multiplied by `1 / temperature`, rounded.) Default 1.
    pub fn temperature(mut self, temperature: f32) -> Self {
        self.scoring.temperature = temperature;
        self
    }

    /// A logit for each head that joins the sum and has no key, so that a row's probabilities sum
    /// to less than 1 (attention sinks, *off by one* with zeros). Scale, cap and temperature do not
    /// touch it. A row of which nothing is kept has zeros and the sink as log-sum-exp.
    pub fn sinks(mut self, sinks: &'a [f32]) -> Self {
        self.scoring.sinks = Some(sinks);
        self
    }

    /// The logarithm of the probabilities, `s[j] - max - ln(sum)`, -infinity where masked: no
    /// probability is lost under the smallest float.
    ///
    /// ```
    /// use masktile::{MatMut, Softmax};
    /// let mut scores = [0.0, 200.0];
    /// Softmax::new().log().run_in_place(MatMut::new(&mut scores, [1, 2])?)?;
    /// assert_eq!(scores, [-200.0, 0.0]);
    /// # Ok::<(), masktile::Error>(())
    /// ```
    pub fn log(mut self) -> Self {
        self.log = true;
        self
    }

    /// Where to write `max + ln(sum)` of each row, batch x heads x queries numbers: the
    /// log-sum-exp, -infinity for a row of which nothing is kept.
    pub fn log_sum_exp(mut self, lse: &'a mut [f32]) -> Self {
        self.lse = Some(lse);
        self
    }

    /// The instruction set to use; see [`isa`] for the default.
    pub fn isa(mut self, isa: Isa) -> Self {
        self.isa = Some(isa);
        self
    }

    /// Reads `scores`, writes `probs`.
    ///
    /// # Errors
    /// If shapes, the mask or a number do not fit, or `MASKTILE_ISA` names no available instruction
    /// set; the outputs are untouched then.
    pub fn run<'s, 'p>(
        self,
        scores: impl Into<TensorRef<'s>>,
        probs: impl Into<TensorMut<'p>>,
    ) -> Result<()> {
        let (scores, mut probs) = (scores.into(), probs.into());
        let axes = ["batch", "heads", "queries", "keys"];
        same_shape("probs", axes, probs.shape(), scores.shape())?;
        let scores = Grid { data: scores.as_ptr(), strides: scores.strides() };
        self.run_checked(scores, &mut probs)
    }

    /// Replaces scores by probabilities.
    ///
    /// # Errors
    /// As [`Softmax::run`].
    pub fn run_in_place<'p>(self, scores: impl Into<TensorMut<'p>>) -> Result<()> {
        let mut probs = scores.into();
        let scores = Grid { data: probs.as_mut_ptr().cast_const(), strides: probs.strides() };
        self.run_checked(scores, &mut probs)
    }

    /// Scores of the shape of `probs`, the same memory or other.
    fn run_checked(mut self, scores: Grid<f32>, probs: &mut TensorMut<'_>) -> Result<()> {
        let shape = probs.shape();
        let rows = row_count(shape)?;
        let mut plan = Plan::EMPTY;
        self.scoring.mask.add_to_plan(shape, &mut plan)?;
        let rule = self.scoring.rule(shape, 1.0, &plan)?;
        compiled("log", self.log)?;
        let lse = lse_pointer(&mut self.lse, rows)?;
        let isa = isa::or_current(self.isa)?;
        let softmax = kernel::Softmax {
            shape,
            scores,
            probs: probs.as_mut_ptr(),
            probs_strides: probs.strides(),
            rule,
            sinks: self.scoring.sinks.unwrap_or(&[]),
            log: self.log,
            lse,
        };
        // SAFETY: the views hold every element that the shape and the strides name; probs are
        // the scores themselves or, borrowed mutably, overlap nothing; their elements are
        // distinct; the plan's matrices were checked against the shape.
        unsafe { kernel::softmax(isa, &softmax, 0, 1) };
        Ok(())
    }
}

/// batch x heads x queries, which every later product of sizes stays near.
pub(crate) fn row_count([batch, heads, queries, _]: [usize; 4]) -> Result<usize> {
    batch
        .checked_mul(heads)
        .and_then(|lines| lines.checked_mul(queries))
        .filter(|rows| *rows <= isize::MAX as usize)
        .ok_or(Error::new("scores", ErrorKind::Overflow))
}

/// The output for the log-sum-exp, checked, or null.
pub(crate) fn lse_pointer(lse: &mut Option<&mut [f32]>, rows: usize) -> Result<*mut f32> {
    compiled("lse", lse.is_some())?;
    match lse {
        Some(lse) => {
            long_enough("lse", lse.len(), rows)?;
            Ok(lse.as_mut_ptr())
        }
        None => Ok(core::ptr::null_mut()),
    }
}
