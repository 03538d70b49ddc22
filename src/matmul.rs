//! The matrix product `C = alpha A B + beta C + bias`.

use masktile_kernels::gemm;

use crate::Result;
use crate::error::same;
use crate::isa::{self, Isa};
use crate::view::{MatMut, MatRef};
use crate::workspace::Scratch;

/// Floats of workspace for an m x k by k x n product, whatever the machine and the strides.
///
/// ```
/// static WORKSPACE: [f32; masktile::matmul::workspace_len(16, 16, 16)] =
///     [0.0; masktile::matmul::workspace_len(16, 16, 16)];
/// assert!(WORKSPACE.len() < 1024);
/// ```
pub const fn workspace_len(m: usize, n: usize, k: usize) -> usize {
    gemm::workspace(m, n, k)
}

/// `C = alpha A B + beta C + bias` for f32 of any strides: A is m x k, B is k x n, C is m x n,
/// `bias` one number a column.
///
/// Every element is one chain of fused multiply-adds over k in order: it has the same bits on
/// every instruction set, whatever the other rows and columns.
///
/// Method: K. Goto and R. van de Geijn, *Anatomy of High-Performance Matrix Multiplication*, 2008.
///
/// ```
/// use masktile::{MatMut, MatRef, Matmul};
///
/// let x = [1.0, 2.0, 3.0, 4.0];                           // 2 tokens x 2
/// let w = [1.0, 0.0, 0.0, 1.0, 1.0, 1.0];                 // 3 out x 2 in, as frameworks store it
/// let mut y = [0.0; 6];
/// Matmul::new(MatRef::new(&x, [2, 2])?, MatRef::new(&w, [3, 2])?.transposed())
///     .bias(&[10.0, 20.0, 30.0])
///     .run(&mut MatMut::new(&mut y, [2, 3])?, &mut [0.0; masktile::matmul::workspace_len(2, 3, 2)])?;
/// assert_eq!(y, [11.0, 22.0, 33.0, 13.0, 24.0, 37.0]);
/// # Ok::<(), masktile::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Matmul<'a> {
    a: MatRef<'a>,
    b: MatRef<'a>,
    alpha: f32,
    beta: f32,
    bias: Option<&'a [f32]>,
    isa: Option<Isa>,
}

impl<'a> Matmul<'a> {
    /// `C = A B`.
    pub fn new(a: MatRef<'a>, b: MatRef<'a>) -> Self {
        Matmul { a, b, alpha: 1.0, beta: 0.0, bias: None, isa: None }
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

    /// A number for each column of C, added last.
    pub fn bias(mut self, bias: &'a [f32]) -> Self {
        self.bias = Some(bias);
        self
    }

    /// The instruction set to use; see [`isa`] for the default.
    pub fn isa(mut self, isa: Isa) -> Self {
        self.isa = Some(isa);
        self
    }

    /// Computes C. `workspace` holds at least [`workspace_len`] floats.
    ///
    /// # Errors
    /// If shapes do not fit, the bias or the workspace is too short, or `MASKTILE_ISA` names no
    /// available instruction set; C is untouched then.
    pub fn run<W: Scratch + ?Sized>(&self, c: &mut MatMut<'_>, workspace: &mut W) -> Result<()> {
        let gemm = self.checked(c)?;
        let isa = isa::or_current(self.isa)?;
        let workspace = workspace.floats(workspace_len(gemm.m, gemm.n, gemm.k))?;
        // SAFETY: the views hold every element that the sizes and strides name; C is borrowed
        // mutably, so it overlaps nothing, and its elements are distinct by construction. The
        // workspace is as long as `workspace_len` says.
        unsafe { gemm::gemm(isa, &gemm, workspace.as_mut_ptr()) };
        Ok(())
    }

    /// Computes C on the current rayon pool, in at most as many parts as it has threads. The bits
    /// are those of [`Matmul::run`]. Small products run on the caller's thread.
    ///
    /// # Errors
    /// As [`Matmul::run`].
    #[cfg(feature = "rayon")]
    pub fn run_rayon(&self, c: &mut MatMut<'_>) -> Result<()> {
        // Under about 50 microseconds of one core a second one is not worth waking.
        const WORTH_A_THREAD: usize = 2 << 20;
        let gemm = self.checked(c)?;
        let isa = isa::or_current(self.isa)?;
        let work = gemm.m.saturating_mul(gemm.n).saturating_mul(gemm.k);
        let parts = rayon::current_num_threads().min(work / WORTH_A_THREAD).max(1);
        let len = workspace_len(gemm.m, gemm.n, gemm.k);
        crate::workspace::run_parts(parts, len, |index, workspace| {
            // SAFETY: as in `run`; parts are disjoint in C, and each has its own workspace.
            unsafe { gemm::gemm(isa, &gemm.part(index, parts), workspace.as_mut_ptr()) }
        });
        Ok(())
    }

    fn checked(&self, c: &mut MatMut<'_>) -> Result<gemm::Gemm> {
        let ([m, k], [k_b, n]) = (self.a.shape(), self.b.shape());
        same("b", "rows", k_b, k)?;
        same("c", "rows", c.rows(), m)?;
        same("c", "columns", c.columns(), n)?;
        if let Some(bias) = self.bias {
            same("bias", "length", bias.len(), n)?;
        }
        let ([a_row, a_col], [b_row, b_col]) = (self.a.strides(), self.b.strides());
        let [c_row, c_col] = c.strides();
        Ok(gemm::Gemm {
            m,
            n,
            k,
            alpha: self.alpha,
            a: self.a.as_ptr(),
            a_row,
            a_col,
            b: self.b.as_ptr(),
            b_row,
            b_col,
            beta: self.beta,
            c: c.as_mut_ptr(),
            c_row,
            c_col,
            bias: self.bias.map_or(core::ptr::null(), <[f32]>::as_ptr),
        })
    }
}
