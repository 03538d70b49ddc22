//! A product whose operands were checked, whole or in parts.

use core::marker::PhantomData;

use masktile_kernels::Dtype;
use masktile_kernels::gemm::{self, Gemm, Right as Weight};

use super::{rounded_workspace_len, workspace_len};
use crate::Result;
use crate::isa::Isa;
use crate::workspace::Scratch;

/// A piece of a product, for any thread; see [`Matmul::parts`](super::Matmul::parts).
#[must_use = "C lacks this part until it is run"]
pub struct Part<'c, const N: usize = 2> {
    pub(super) job: Job<'c, N>,
    pub(super) index: usize,
    pub(super) parts: usize,
    pub(super) c: PhantomData<&'c mut f32>,
}

impl<const N: usize> Part<'_, N> {
    /// Computes the piece. `workspace` holds at least [`workspace_len`] floats, or
    /// [`rounded_workspace_len`], and is this thread's alone.
    ///
    /// # Errors
    /// If the workspace is too short; the piece is not computed then.
    pub fn run<W: Scratch + ?Sized>(self, workspace: &mut W) -> Result<()> {
        let workspace = workspace.floats(self.job.workspace_len())?;
        // SAFETY: `Matmul::checked`; parts are disjoint in C, which is borrowed as long as they
        // live, and each is run once.
        unsafe { self.job.run(self.index, self.parts, workspace.as_mut_ptr()) };
        Ok(())
    }
}

/// [`gemm::gemm`] or [`gemm::gemm_mixed`].
pub(super) type Kernel = unsafe fn(Isa, &Gemm<'_>, *mut f32);

/// A checked product: one [`Gemm`] for each index of the leading axes.
#[derive(Clone, Copy)]
pub(super) struct Job<'a, const N: usize> {
    pub gemm: Gemm<'a>,
    pub isa: Isa,
    pub kernel: Kernel,
    /// The leading axes; the last two are 1.
    pub lead: [usize; N],
    /// Of A, B, C and the residual.
    pub strides: [[usize; N]; 4],
}

impl<'a, const N: usize> Job<'a, N> {
    pub(super) fn batches(&self) -> usize {
        // Saturating for a C without elements, whose other sizes may be any.
        self.lead.iter().fold(1, |all: usize, len| all.saturating_mul(*len))
    }

    #[inline(always)]
    pub(super) fn workspace_len(&self) -> usize {
        let Gemm { m, n, k, .. } = self.gemm;
        match self.gemm.c.dtype() {
            Dtype::F32 => workspace_len(m, n, k),
            _ => rounded_workspace_len(m, n, k),
        }
    }

    /// One product of many rows, where all share B and rows follow on from batch to batch.
    pub(super) fn merged(mut self) -> Self {
        let [a, b, c, residual] = self.strides;
        for axis in (0..N - 2).rev() {
            let (len, g) = (self.lead[axis], &self.gemm);
            let follows = |lead: [usize; N], row: usize| lead[axis] == row.wrapping_mul(g.m);
            let merges = b[axis] == 0
                && follows(a, g.a_row)
                && follows(c, g.c_row)
                && (g.epilogue.residual.data.is_null()
                    || follows(residual, g.epilogue.residual.row));
            if len != 1 && !merges {
                break;
            }
            self.gemm.m = self.gemm.m.wrapping_mul(len);
            self.lead[axis] = 1;
        }
        self
    }

    /// The product at batch `index`.
    fn batch(&self, index: usize) -> Gemm<'a> {
        let (mut rest, mut offsets) = (index, [0usize; 4]);
        for axis in (0..N - 2).rev() {
            let len = self.lead[axis].max(1);
            let at = rest % len;
            rest /= len;
            for (offset, strides) in offsets.iter_mut().zip(self.strides) {
                *offset += at * strides[axis];
            }
        }
        let [a, b, c, residual] = offsets;
        let mut gemm = self.gemm;
        gemm.a = gemm.a.skip(a);
        if let Weight::Numbers(numbers) = &mut gemm.b {
            *numbers = numbers.skip(b);
        }
        gemm.c = gemm.c.skip(c);
        gemm.epilogue.origin.0 = index * gemm.m;
        let operand = &mut gemm.epilogue.residual;
        if !operand.data.is_null() {
            operand.data = operand.data.wrapping_add(residual);
        }
        gemm
    }

    /// Computes part `index` of `parts`.
    ///
    /// # Safety
    /// The views that `Matmul::checked` saw are still borrowed, C by nobody who uses this part of
    /// it; `workspace` is valid for writing [`Job::workspace_len`] floats.
    pub(super) unsafe fn run(&self, index: usize, parts: usize, workspace: *mut f32) {
        if self.gemm.m == 0 || self.gemm.n == 0 {
            return;
        }
        let batches = self.batches();
        if N == 2 || batches == 1 {
            let gemm = if parts == 1 { self.gemm } else { self.gemm.part(index, parts) };
            // SAFETY: `checked`: sizes and strides name elements of the views alone; C is borrowed
            // mutably, so it overlaps nothing, and its elements are distinct by construction.
            return unsafe { (self.kernel)(self.isa, &gemm, workspace) };
        }
        // Each batch in as many pieces as give every part one.
        let pieces = parts.div_ceil(batches.max(1)).max(1);
        let at = |index: usize| gemm::split(batches.saturating_mul(pieces), index, parts);
        for piece in at(index)..at(index + 1) {
            let gemm = self.batch(piece / pieces).part(piece % pieces, pieces);
            // SAFETY: as above; other batches are other elements of the views.
            unsafe { (self.kernel)(self.isa, &gemm, workspace) };
        }
    }
}
