//! The matrix product `C = alpha A B + beta C`, and what becomes of its elements.

mod job;

use core::marker::PhantomData;

#[doc(inline)]
pub use job::Part;
use job::{Job, Kernel};
use masktile_kernels::gemm::{self, Each, Epilogue, Gemm, Operand, Right as Weight};
use masktile_kernels::{Numbers, NumbersMut};

#[doc(inline)]
pub use masktile_kernels::gemm::Activation;

use crate::Result;
use crate::error::{Error, ErrorKind, same, same_shape};
use crate::isa::{self, Isa};
use crate::number::{Number, is_f32};
use crate::packed::PackedB;
use crate::quantised::Quantised;
use crate::view::{View, ViewMut};
use crate::workspace::Scratch;

/// Floats of workspace for an m x k by k x n product whose C is of f32, whatever the machine, the
/// strides and the types of A and B.
///
/// ```
/// static WORKSPACE: [f32; masktile::matmul::workspace_len(16, 16, 16)] =
///     [0.0; masktile::matmul::workspace_len(16, 16, 16)];
/// assert!(WORKSPACE.len() < 1024);
/// ```
pub const fn workspace_len(m: usize, n: usize, k: usize) -> usize {
    gemm::workspace(m, n, k)
}

/// As [`workspace_len`], where C is of [`f16`](struct@crate::f16) or [`bf16`](struct@crate::bf16): at most 1 MiB more,
/// for sums that are not rounded yet.
pub const fn rounded_workspace_len(m: usize, n: usize, k: usize) -> usize {
    gemm::rounded_workspace(m, n, k)
}

/// `C = clamp(activation(scale (alpha A B + beta C) + bias) + residual)` for operands of any strides:
/// A is m x k, B is k x n, C and the residual are m x n, scale and bias are one number a column.
/// All but A and B are left out where they are not given.
///
/// A, B and C are of f32, f16 or bf16, in any mix; scale, bias and residual are of f32. Arithmetic is
/// in f32: halves are widened as they are read, and a C of halves is rounded once, to nearest even,
/// behind the last step. The result has the bits of the product of f32 copies, so rounded.
///
/// Every element is one chain of fused multiply-adds over k in order: it has the same bits on
/// every instruction set, whatever the other rows and columns. Each step behind it is rounded by
/// itself, in the order above.
///
/// With views of more than two axes (`batch x rows x columns`, or with heads between) it is one
/// product for each index of the leading axes. B may have 1 there, or no such axes but be
/// [packed](Matmul::packed): then all share it.
///
/// Method: K. Goto and R. van de Geijn, *Anatomy of High-Performance Matrix Multiplication*, 2008.
///
/// ```
/// use masktile::{Activation, MatMut, MatRef, Matmul};
///
/// let x = [1.0, 2.0, 3.0, 4.0];                           // 2 tokens x 2
/// let w = [1.0, 0.0, 0.0, 1.0, 1.0, 1.0];                 // 3 out x 2 in, as frameworks store it
/// let mut y = [0.0; 6];
/// Matmul::new(MatRef::new(&x, [2, 2])?, MatRef::new(&w, [3, 2])?.transposed())
///     .bias(&[10.0, 20.0, -30.0])
///     .activation(Activation::Relu)
///     .run(&mut MatMut::new(&mut y, [2, 3])?, &mut [0.0; masktile::matmul::workspace_len(2, 3, 2)])?;
/// assert_eq!(y, [11.0, 22.0, 0.0, 13.0, 24.0, 0.0]);
/// # Ok::<(), masktile::Error>(())
/// ```
///
/// A weight of bfloat16, and a result of it:
///
/// ```
/// use masktile::{MatMut, MatRef, Matmul, Workspace, bf16};
///
/// let w = [1.0, 0.5, 0.25, 2.0].map(bf16::from_f32);      // 2 out x 2 in
/// let mut y = [bf16::ZERO; 2];
/// Matmul::new(MatRef::new(&[1.0, 4.0], [1, 2])?, MatRef::new(&w, [2, 2])?.transposed())
///     .run(&mut MatMut::new(&mut y, [1, 2])?, &mut Workspace::new())?;
/// assert_eq!(y, [3.0, 8.25].map(bf16::from_f32));
/// # Ok::<(), masktile::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Matmul<'a, const N: usize = 2, A = f32, B = f32> {
    a: View<'a, A, N>,
    b: Right<'a, N, B>,
    alpha: f32,
    beta: f32,
    scale: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
    activation: Activation,
    residual: Option<View<'a, f32, N>>,
    clamp: Option<(f32, f32)>,
    each: Option<Each<'a>>,
    isa: Option<Isa>,
    /// For a C of f32. Chosen by the types: a program of f32 alone holds nothing of the others.
    kernel: Kernel,
}

/// The right-hand matrix.
#[derive(Clone, Copy, Debug)]
enum Right<'a, const N: usize, B> {
    View(View<'a, B, N>),
    Packed(PackedB<'a>),
    Quantised(Quantised<'a>),
}

impl<const N: usize, A: Number, B: Number> core::fmt::Debug for Matmul<'_, N, A, B> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let shape = self.a.shape();
        let b = self.b_shape();
        f.debug_struct("Matmul").field("a", &shape).field("b", &b).finish_non_exhaustive()
    }
}

impl<'a, const N: usize, A: Number> Matmul<'a, N, A> {
    /// `C = A B` with a B that was packed before, the same for all indices of leading axes.
    pub fn packed(a: View<'a, A, N>, b: PackedB<'a>) -> Self {
        Self::with(a, Right::Packed(b), kernel::<A, f32>())
    }

    /// `C = A W^T` with a quantised W, out x in, the same for all indices of leading axes. The bits are
    /// those of the product with the dequantised weight.
    pub fn quantised(a: View<'a, A, N>, weight: impl Into<Quantised<'a>>) -> Self {
        Self::with(a, Right::Quantised(weight.into()), gemm::gemm_mixed)
    }
}

impl<'a, const N: usize, A: Number, B: Number> Matmul<'a, N, A, B> {
    /// `C = A B`.
    pub fn new(a: View<'a, A, N>, b: View<'a, B, N>) -> Self {
        Self::with(a, Right::View(b), kernel::<A, B>())
    }

    fn with(a: View<'a, A, N>, b: Right<'a, N, B>, kernel: Kernel) -> Self {
        const { assert!(N >= 2, "a matrix has rows and columns") };
        Matmul {
            a,
            b,
            alpha: 1.0,
            beta: 0.0,
            scale: None,
            bias: None,
            activation: Activation::None,
            residual: None,
            clamp: None,
            each: None,
            isa: None,
            kernel,
        }
    }

    /// A factor of A, by which its elements are multiplied before the product. Default 1.
    pub fn alpha(mut self, alpha: f32) -> Self {
        self.alpha = alpha;
        self
    }

    /// A factor of what C holds. Default 0, with which C is written and never read.
    pub fn beta(mut self, beta: f32) -> Self {
        self.beta = beta;
        self
    }

    /// A factor for each column of C, as a quantised weight has.
    pub fn scale(mut self, scale: &'a [f32]) -> Self {
        self.scale = Some(scale);
        self
    }

    /// A number for each column of C, added to the product.
    pub fn bias(mut self, bias: &'a [f32]) -> Self {
        self.bias = Some(bias);
        self
    }

    /// A function of each element, after the bias.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// A matrix as large as C, added after the activation.
    pub fn residual(mut self, residual: View<'a, f32, N>) -> Self {
        self.residual = Some(residual);
        self
    }

    /// The least and the greatest result, after the residual. NaN stays NaN.
    pub fn clamp(mut self, least: f32, greatest: f32) -> Self {
        self.clamp = Some((least, greatest));
        self
    }

    /// Your own last step: called as `f(row, column, elements)` once for every finished element,
    /// with contiguous elements of one row from that column on, some at a time, in no given order
    /// and from any of the threads that run parts. Rows count on through the leading axes. A C of
    /// halves is rounded behind it.
    ///
    /// ```
    /// use masktile::{MatMut, MatRef, Matmul};
    /// let (a, b, mut c) = ([1.0, 2.0], [3.0, 4.0], [0.0; 4]);
    /// Matmul::new(MatRef::new(&a, [2, 1])?, MatRef::new(&b, [1, 2])?)
    ///     .each(&|row, column, elements| {
    ///         for (j, x) in elements.iter_mut().enumerate() {
    ///             *x += (100 * row + 10 * (column + j)) as f32;
    ///         }
    ///     })
    ///     .run(&mut MatMut::new(&mut c, [2, 2])?, &mut masktile::Workspace::new())?;
    /// assert_eq!(c, [3.0, 14.0, 106.0, 118.0]);
    /// # Ok::<(), masktile::Error>(())
    /// ```
    pub fn each(mut self, f: Each<'a>) -> Self {
        self.each = Some(f);
        self
    }

    /// The instruction set to use; see [`isa`] for the default.
    pub fn isa(mut self, isa: Isa) -> Self {
        self.isa = Some(isa);
        self
    }

    /// Computes C. `workspace` holds at least [`workspace_len`] floats, or [`rounded_workspace_len`].
    ///
    /// # Errors
    /// If shapes do not fit, scale, bias or the workspace is too short, B was packed for another
    /// instruction set, or `MASKTILE_ISA` names no available one; C is untouched then.
    #[inline]
    pub fn run<C: Number, W: Scratch + ?Sized>(
        &self,
        c: &mut ViewMut<'_, C, N>,
        workspace: &mut W,
    ) -> Result<()> {
        let job = self.checked(c)?;
        let workspace = workspace.floats(job.workspace_len())?;
        // SAFETY: `checked`, and the workspace is as long as asked.
        unsafe { job.run(0, 1, workspace.as_mut_ptr()) };
        Ok(())
    }

    /// The product as `parts` pieces of work for the threads of your own pool: each writes its own
    /// elements of C, and the bits are those of [`Matmul::run`], whatever `parts` is. A piece may
    /// be empty. None may be left out.
    ///
    /// # Errors
    /// As [`Matmul::run`].
    ///
    /// ```
    /// use masktile::{MatMut, MatRef, Matmul, Workspace};
    /// let (a, b, mut c) = ([1.5; 64 * 8], [2.0; 8 * 64], [0.0; 64 * 64]);
    /// let product = Matmul::new(MatRef::new(&a, [64, 8])?, MatRef::new(&b, [8, 64])?);
    /// let mut view = MatMut::new(&mut c, [64, 64])?;
    /// let parts = product.parts(&mut view, 2)?;
    /// std::thread::scope(|scope| {
    ///     for part in parts {
    ///         scope.spawn(move || part.run(&mut Workspace::new()).unwrap());
    ///     }
    /// });
    /// assert_eq!(c, [24.0; 64 * 64]);
    /// # Ok::<(), masktile::Error>(())
    /// ```
    pub fn parts<'c, C: Number>(
        &self,
        c: &'c mut ViewMut<'_, C, N>,
        parts: usize,
    ) -> Result<impl ExactSizeIterator<Item = Part<'c, N>> + use<'a, 'c, N, A, B, C>>
    where
        'a: 'c,
    {
        let job = self.checked(c)?;
        Ok((0..parts).map(move |index| Part { job, index, parts, c: PhantomData }))
    }

    /// Computes C on the current rayon pool, in at most as many parts as it has threads. The bits
    /// are those of [`Matmul::run`]. Small products run on the caller's thread.
    ///
    /// # Errors
    /// As [`Matmul::run`].
    #[cfg(feature = "rayon")]
    pub fn run_rayon<C: Number>(&self, c: &mut ViewMut<'_, C, N>) -> Result<()> {
        let job = self.checked(c)?;
        let Gemm { m, n, k, .. } = job.gemm;
        let work = [n, k, job.batches()].iter().fold(m, |work, size| work.saturating_mul(*size));
        let parts =
            rayon::current_num_threads().min(work / crate::workspace::WORTH_A_THREAD).max(1);
        crate::workspace::run_parts(parts, job.workspace_len(), |index, workspace| {
            // SAFETY: as in `run`; parts are disjoint in C, and each has its own workspace.
            unsafe { job.run(index, parts, workspace.as_mut_ptr()) }
        })
    }

    /// What to compute, all checks done: every element that it names is in a view of its own.
    #[inline]
    fn checked<'c, C: Number>(&self, c: &mut ViewMut<'_, C, N>) -> Result<Job<'c, N>>
    where
        'a: 'c,
    {
        let isa = isa::or_current(self.isa)?;
        let shape = c.shape();
        let [m, n] = last_two(shape);
        let [a_m, k] = last_two(self.a.shape());
        let b_shape = self.b_shape();
        let (b_strides, b) = match &self.b {
            Right::View(b) => (b.strides(), Weight::Numbers(Numbers::at(b.as_ptr()))),
            Right::Packed(b) => ([0; N], Weight::Panels(b.panels(isa)?)),
            Right::Quantised(b) => ([0; N], Weight::Quantised(b.kernel())),
        };
        let [k_b, n_b] = last_two(b_shape);
        same("b", "rows", k_b, k)?;
        same("c", "rows", m, a_m)?;
        same("c", "columns", n, n_b)?;
        let mut b_lead = b_strides;
        for axis in 0..N - 2 {
            let (wanted, given) = (self.a.shape()[axis], b_shape[axis]);
            same("c", "batch", shape[axis], wanted)?;
            if given == 1 {
                b_lead[axis] = 0;
            } else {
                same("b", "batch", given, wanted)?;
            }
        }
        let by_column = |argument, operand: Option<&'a [f32]>| match operand {
            Some(operand) => same(argument, "length", operand.len(), n).map(|()| Operand {
                data: operand.as_ptr(),
                row: 0,
                column: 1,
            }),
            None => Ok(Operand::NONE),
        };
        let (scale, bias) = (by_column("scale", self.scale)?, by_column("bias", self.bias)?);
        let (mut residual, mut residual_lead) = (Operand::NONE, [0; N]);
        if let Some(view) = &self.residual {
            let axes = core::array::from_fn(|axis| match N - axis {
                1 => "columns",
                2 => "rows",
                _ => "batch",
            });
            same_shape("residual", axes, view.shape(), shape)?;
            residual_lead = view.strides();
            let [row, column] = last_two(residual_lead);
            residual = Operand { data: view.as_ptr(), row, column };
        }
        if !self.activation.is_there() {
            return Err(Error::new("activation", ErrorKind::Feature { wanted: "activations" }));
        }
        let [a_row, a_col] = last_two(self.a.strides());
        let [b_row, b_col] = last_two(b_strides);
        let c_strides = c.strides();
        let [c_row, c_col] = last_two(c_strides);
        let epilogue = Epilogue {
            scale,
            bias,
            activation: self.activation,
            residual,
            clamp: self.clamp,
            each: self.each,
            origin: (0, 0),
        };
        let gemm = Gemm {
            m,
            n,
            k,
            alpha: self.alpha,
            a: Numbers::at(self.a.as_ptr()),
            a_row,
            a_col,
            b,
            b_row,
            b_col,
            beta: self.beta,
            c: NumbersMut::at(c.as_mut_ptr()),
            c_row,
            c_col,
            epilogue,
        };
        let mut lead = shape;
        lead[N - 2..].fill(1);
        let strides = [self.a.strides(), b_lead, c_strides, residual_lead];
        let kernel = if const { is_f32::<C>() } { self.kernel } else { gemm::gemm_mixed };
        Ok(Job { gemm, isa, kernel, lead, strides }.merged())
    }

    /// B as it is multiplied, k x n.
    #[inline]
    fn b_shape(&self) -> [usize; N] {
        let [k, n] = match &self.b {
            Right::View(b) => return b.shape(),
            Right::Packed(b) => b.shape(),
            Right::Quantised(b) => {
                let [n, k] = b.shape();
                [k, n]
            }
        };
        core::array::from_fn(|axis| match N - axis {
            2 => k,
            1 => n,
            _ => 1,
        })
    }
}

fn kernel<A: Number, B: Number>() -> Kernel {
    if const { is_f32::<A>() && is_f32::<B>() } { gemm::gemm } else { gemm::gemm_mixed }
}

/// The sizes or strides of rows and columns.
fn last_two<const N: usize>(all: [usize; N]) -> [usize; 2] {
    [all[N - 2], all[N - 1]]
}
