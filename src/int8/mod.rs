//! Products of quantised matrices: u8 or i8 by i8, exact in 32 bits on every instruction set.
//!
//! A quantised number `q` stands for `scale (q - zero)`. Of two such matrices the product of the
//! numbers is `scale_a scale_b sum (a - zero_a) (b - zero_b)`: the sum is what [`MatmulInt8`]
//! computes, and the factor is applied where its results become floats
//! ([`MatmulInt8::dequantized`]) or bytes again ([`MatmulInt8::requantized`]).
//!
//! The steps to bytes are those of TensorFlow Lite for Microcontrollers, bit for bit, and need no
//! floating-point unit. Its fully connected layer (a weight of out x in) is
//!
//! ```
//! use masktile::int8::{Multiplier, Multipliers};
//! use masktile::{MatMut, MatRef, MatmulInt8};
//!
//! let (input, weight, bias) = ([10i8, -20, 30], [1i8, 2, 3, -4, 5, -6], [100, -100]);
//! let mut output = [0i8; 2];
//! // TensorFlow Lite's input_offset is minus the zero point.
//! let factor = Multiplier::from_scale(0.05).unwrap();             // input_scale weight_scale / output_scale
//! MatmulInt8::new(MatRef::new(&input, [1, 3])?, MatRef::new(&weight, [2, 3])?.transposed())
//!     .zero_points(-2, 0)
//!     .bias(&bias)
//!     .requantized(Multipliers::Same(factor), 5i8)
//!     .clamp(-128, 127)
//!     .run(&mut MatMut::new(&mut output, [1, 2])?, &mut [0.0; masktile::int8::workspace_len(1, 2, 3)])?;
//! assert_eq!(output, [14, -17]);
//! # Ok::<(), masktile::Error>(())
//! ```
//!
//! and its batched product is that with views of more axes.

mod finish;
mod job;
mod packed;
mod softmax;

use masktile_kernels::int8 as kernel;

#[doc(inline)]
pub use masktile_kernels::DotProduct;
#[doc(inline)]
pub use masktile_kernels::int8::EXACT_K;

use crate::Result;
use crate::isa::Isa;
use crate::view::{View, ViewMut};
use crate::workspace::Scratch;
pub use finish::{
    Byte, Dequantized, Exact, Finishing, Multiplier, Multipliers, Requantized, Scales,
};
pub use job::Part;
use job::{Job, Right};
pub use packed::PackedInt8;
pub use softmax::{Form, FromInt8, FromInt16, SoftmaxInt};

/// Floats of workspace for an m x k by k x n product of bytes, whatever the machine and the strides;
/// none on targets without vectors.
///
/// ```
/// static WORKSPACE: [f32; masktile::int8::workspace_len(16, 16, 16)] =
///     [0.0; masktile::int8::workspace_len(16, 16, 16)];
/// assert!(WORKSPACE.len() < 1024);
/// ```
pub const fn workspace_len(m: usize, n: usize, k: usize) -> usize {
    kernel::workspace(m, n, k)
}

/// `C[i, j] = finish(sum over p of (A[i, p] - zero_a) (B[p, j] - zero_b) + bias[j])` for bytes of
/// any strides: A is m x k of u8 or i8, B is k x n of i8, C is m x n.
///
/// The sums are exact modulo 2^32 on every instruction set; none wraps around for k up to
/// [`EXACT_K`] without zero points, up to 33,025 with any (and a bias that leaves room).
///
/// With views of more than two axes it is one product for each index of the leading axes, as
/// [`crate::Matmul`]: B may have 1 there, or be [packed](MatmulInt8::packed).
///
/// ```
/// use masktile::{MatMut, MatRef, MatmulInt8};
///
/// let x = [250u8, 2, 3, 4];                               // 2 tokens x 2
/// let w = [-128i8, 0, 0, 1, 1, 1];                        // 3 out x 2 in
/// let mut y = [0i32; 6];
/// MatmulInt8::new(MatRef::new(&x, [2, 2])?, MatRef::new(&w, [3, 2])?.transposed())
///     .bias(&[0, 10, 0])
///     .run(&mut MatMut::new(&mut y, [2, 3])?, &mut masktile::Workspace::new())?;
/// assert_eq!(y, [-32000, 12, 252, -384, 14, 7]);
/// # Ok::<(), masktile::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct MatmulInt8<'a, A: Byte, F = Exact, const N: usize = 2> {
    a: View<'a, A, N>,
    b: Right<'a, N>,
    zero_points: (A, i8),
    bias: Option<&'a [i32]>,
    finish: F,
    isa: Option<Isa>,
    dot_product: Option<DotProduct>,
}

impl<'a, A: Byte, const N: usize> MatmulInt8<'a, A, Exact, N> {
    /// `C = A B` of i32.
    pub fn new(a: View<'a, A, N>, b: View<'a, i8, N>) -> Self {
        Self::with(a, Right::View(b))
    }

    /// `C = A B` of i32 with a B that was packed before, the same for all indices of leading axes.
    pub fn packed(a: View<'a, A, N>, b: PackedInt8<'a>) -> Self {
        Self::with(a, Right::Packed(b))
    }

    fn with(a: View<'a, A, N>, b: Right<'a, N>) -> Self {
        const { assert!(N >= 2, "a matrix has rows and columns") };
        MatmulInt8 {
            a,
            b,
            zero_points: (A::ZERO, 0),
            bias: None,
            finish: Exact,
            isa: None,
            dot_product: None,
        }
    }

    fn finished<F>(self, finish: F) -> MatmulInt8<'a, A, F, N> {
        let MatmulInt8 { a, b, zero_points, bias, isa, dot_product, .. } = self;
        MatmulInt8 { a, b, zero_points, bias, finish, isa, dot_product }
    }
}

impl<'a, A: Byte, F: Finishing, const N: usize> MatmulInt8<'a, A, F, N> {
    /// What stands for nothing in A and in B. Default 0.
    pub fn zero_points(mut self, a: A, b: i8) -> Self {
        self.zero_points = (a, b);
        self
    }

    /// A number for each column of C, added to the sums.
    pub fn bias(mut self, bias: &'a [i32]) -> Self {
        self.bias = Some(bias);
        self
    }

    /// The instruction set to use; see [`crate::isa`] for the default.
    pub fn isa(mut self, isa: Isa) -> Self {
        self.isa = Some(isa);
        self
    }

    /// The instructions that multiply bytes, to compare them; what the instruction set has none of
    /// is [`DotProduct::PLAIN`]. Default [`DotProduct::best`].
    pub fn dot_product(mut self, dot_product: DotProduct) -> Self {
        self.dot_product = Some(dot_product);
        self
    }

    /// Computes C. `workspace` holds at least [`workspace_len`] floats.
    ///
    /// # Errors
    /// If shapes do not fit, bias, scales, multipliers or the workspace are too short, B was packed
    /// for another instruction set, or `MASKTILE_ISA` names no available one; C is untouched then.
    pub fn run<W: Scratch + ?Sized>(
        &self,
        c: &mut ViewMut<'_, F::Out, N>,
        workspace: &mut W,
    ) -> Result<()> {
        let job = Job::checked(self, c)?;
        let workspace = workspace.floats(job.workspace_len())?;
        // SAFETY: `checked`, and the workspace is as long as asked.
        unsafe { job.run(0, 1, workspace.as_mut_ptr().cast()) };
        Ok(())
    }

    /// The product as `parts` pieces of work for the threads of your own pool: each writes its own
    /// elements of C. A piece may be empty. None may be left out.
    ///
    /// # Errors
    /// As [`MatmulInt8::run`].
    pub fn parts<'c>(
        &self,
        c: &'c mut ViewMut<'_, F::Out, N>,
        parts: usize,
    ) -> Result<impl ExactSizeIterator<Item = Part<'c, F, N>> + use<'a, 'c, A, F, N>>
    where
        'a: 'c,
    {
        let job = Job::checked(self, c)?;
        Ok((0..parts).map(move |index| Part::new(job, index, parts)))
    }

    /// Computes C on the current rayon pool, in at most as many parts as it has threads. Small
    /// products run on the caller's thread.
    ///
    /// # Errors
    /// As [`MatmulInt8::run`].
    #[cfg(feature = "rayon")]
    pub fn run_rayon(&self, c: &mut ViewMut<'_, F::Out, N>) -> Result<()> {
        // Four times a float product's, for so much faster is it.
        const WORTH_A_THREAD: usize = 4 * crate::workspace::WORTH_A_THREAD;
        let job = Job::checked(self, c)?;
        let parts = rayon::current_num_threads().min(job.work() / WORTH_A_THREAD).max(1);
        crate::workspace::run_parts(parts, job.workspace_len(), |index, workspace| {
            // SAFETY: as in `run`; parts are disjoint in C, and each has its own workspace.
            unsafe { job.run(index, parts, workspace.as_mut_ptr().cast()) }
        })
    }
}
