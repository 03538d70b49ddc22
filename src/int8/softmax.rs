//! Masked softmax of quantised scores.

use masktile_kernels::int8::softmax as kernel;
use masktile_kernels::mask::{Grid, Plan};

#[doc(inline)]
pub use masktile_kernels::int8::softmax::{Form, FromInt8, FromInt16};

use crate::Result;
use crate::error::{Error, ErrorKind, same_shape};
use crate::isa::{self, Isa};
use crate::mask::Mask;
use crate::view::{TensorMut, TensorRef};

/// `probs[j] = exp(scale (s[j] - max)) / sum` over the kept keys j of each row of quantised scores,
/// in integers alone: with the bits of TensorFlow Lite for Microcontrollers where nothing is masked,
/// and as if the masked keys were not there where something is. Scores are batch x heads x queries x
/// keys; a matrix is one batch and one head.
///
/// | scores | made by | probabilities | scale, zero point |
/// | --- | --- | --- | --- |
/// | i8 | [`FromInt8`] | i8 | 1/256, -128 |
/// | i8 | [`FromInt8`] | i16 | 1/65536, -32768 |
/// | i16 | [`FromInt16`] | i16 | 1/32768, 0 |
///
/// A masked position gets the zero point, and so does every position of a row of which nothing is
/// kept. A sum of weights of 8192 and more, the greatest being 1 (of i16 scores 65536), counts as
/// that much. Masks that add to the scores are an error: add before quantising.
///
/// The greatest error against float64 of the same quantised scores, in steps of the result, that a
/// test finds with scales of 0.002 to 0.4 a byte:
///
/// | scores to probabilities | up to 8 keys | 64 | 512 |
/// | --- | ---: | ---: | ---: |
/// | i8 to i8 | 0.6 | 0.6 | 0.6 |
/// | i8 to i16 | 0.7 | 0.7 | 0.7 |
/// | i16 to i16 | 12 | 24 | 60 |
///
/// The last is the reference's as well: its table takes `exp` to be `exp(-10)` below -10, and every
/// key adds at least that.
///
/// ```
/// use masktile::int8::{FromInt8, SoftmaxInt};
/// use masktile::{Causal, MatMut, MatRef};
///
/// let scores = [10i8, 20, 10, 10];
/// let mut probs = [0i8; 4];
/// SoftmaxInt::new(FromInt8::from_scale(0.1).unwrap())     // 10 stands for 1
///     .mask(Causal::top_left())
///     .run(MatRef::new(&scores, [2, 2])?, MatMut::new(&mut probs, [2, 2])?)?;
/// assert_eq!(probs, [127, -128, 0, 0]);
/// # Ok::<(), masktile::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SoftmaxInt<'a, F> {
    form: F,
    mask: Mask<'a>,
    isa: Option<Isa>,
}

impl<'a, F: Copy> SoftmaxInt<'a, F> {
    /// No mask.
    pub fn new(form: F) -> Self {
        SoftmaxInt { form, mask: Mask::None, isa: None }
    }

    /// Which keys are kept.
    pub fn mask(mut self, mask: impl Into<Mask<'a>>) -> Self {
        self.mask = mask.into();
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
    /// If shapes or the mask do not fit, the mask adds to the scores, or `MASKTILE_ISA` names no
    /// available instruction set; `probs` are untouched then.
    pub fn run<'s, 'p, O: Copy + 'p>(
        self,
        scores: impl Into<TensorRef<'s, F::Score>>,
        probs: impl Into<TensorMut<'p, O>>,
    ) -> Result<()>
    where
        F: Form<O>,
        F::Score: 's,
    {
        let (scores, mut probs) = (scores.into(), probs.into());
        let axes = ["batch", "heads", "queries", "keys"];
        same_shape("probs", axes, probs.shape(), scores.shape())?;
        self.run_checked(Grid { data: scores.as_ptr(), strides: scores.strides() }, &mut probs)
    }

    /// Replaces scores by probabilities of the same type.
    ///
    /// # Errors
    /// As [`SoftmaxInt::run`].
    pub fn run_in_place<'p, O: Copy + 'p>(self, scores: impl Into<TensorMut<'p, O>>) -> Result<()>
    where
        F: Form<O, Score = O>,
    {
        let mut probs = scores.into();
        let scores = Grid { data: probs.as_mut_ptr().cast_const(), strides: probs.strides() };
        self.run_checked(scores, &mut probs)
    }

    /// Scores of the shape of `probs`, the same memory or other.
    fn run_checked<O: Copy>(
        self,
        scores: Grid<F::Score>,
        probs: &mut TensorMut<'_, O>,
    ) -> Result<()>
    where
        F: Form<O>,
    {
        let shape = probs.shape();
        let mut plan = Plan::EMPTY;
        self.mask.add_to_plan(shape, &mut plan)?;
        if plan.has_biases() {
            let kind = ErrorKind::Misplaced { wanted: "a softmax of floats" };
            return Err(Error::new("mask", kind));
        }
        let isa = isa::or_current(self.isa)?;
        let (probs, probs_strides) = (probs.as_mut_ptr(), probs.strides());
        let softmax =
            kernel::Softmax { shape, scores, probs, probs_strides, form: self.form, plan };
        // SAFETY: the views hold every element that the shape and the strides name; probs are the
        // scores themselves or, borrowed mutably, overlap nothing; their elements are distinct; the
        // plan's matrices were checked against the shape.
        unsafe { kernel::softmax(isa, &softmax) };
        Ok(())
    }
}
