//! A checked product of bytes: one for each index of the leading axes.

use core::marker::PhantomData;

use masktile_kernels::DotProduct;
use masktile_kernels::gemm::split;
use masktile_kernels::int8::{self as kernel, Left, Product};

use super::{Byte, Finishing, MatmulInt8, PackedInt8, workspace_len};
use crate::Result;
use crate::error::same;
use crate::isa::{self, Isa};
use crate::view::{View, ViewMut};
use crate::workspace::Scratch;

/// The right-hand matrix.
#[derive(Clone, Copy, Debug)]
pub(super) enum Right<'a, const N: usize> {
    View(View<'a, i8, N>),
    Packed(PackedInt8<'a>),
}

impl<const N: usize> Right<'_, N> {
    /// Its shape, with 1 for the leading axes of a packed one.
    fn shape(&self) -> [usize; N] {
        match self {
            Right::View(b) => b.shape(),
            Right::Packed(b) => {
                let mut shape = [1; N];
                shape[N - 2..].copy_from_slice(&b.shape());
                shape
            }
        }
    }

    fn strides(&self) -> [usize; N] {
        match self {
            Right::View(b) => b.strides(),
            Right::Packed(_) => [0; N],
        }
    }
}

/// One [`Product`] for each index of the leading axes.
pub(super) struct Job<'a, F: Finishing, const N: usize> {
    product: Product<'a, F::Kernel>,
    isa: Isa,
    dot: DotProduct,
    /// The leading axes; the last two are 1.
    lead: [usize; N],
    /// Of A, B and C.
    strides: [[usize; N]; 3],
}

impl<F: Finishing, const N: usize> Clone for Job<'_, F, N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: Finishing, const N: usize> Copy for Job<'_, F, N> {}

impl<'c, F: Finishing, const N: usize> Job<'c, F, N> {
    /// What to compute, all checks done: every element that it names is in a view of its own.
    pub(super) fn checked<'a: 'c, A: Byte>(
        matmul: &MatmulInt8<'a, A, F, N>,
        c: &mut ViewMut<'_, F::Out, N>,
    ) -> Result<Self> {
        let isa = isa::or_current(matmul.isa)?;
        let dot = matmul.dot_product.unwrap_or_else(|| DotProduct::best(isa));
        let (shape, a_shape, b_shape) = (c.shape(), matmul.a.shape(), matmul.b.shape());
        let ([m, n], [a_m, k], [b_k, b_n]) =
            (last_two(shape), last_two(a_shape), last_two(b_shape));
        same("b", "rows", b_k, k)?;
        same("c", "rows", m, a_m)?;
        same("c", "columns", n, b_n)?;
        let mut b_lead = matmul.b.strides();
        for (axis, lead) in b_lead.iter_mut().enumerate().take(N - 2) {
            same("c", "batch", shape[axis], a_shape[axis])?;
            if b_shape[axis] == 1 {
                *lead = 0;
            } else {
                same("b", "batch", b_shape[axis], shape[axis])?;
            }
        }
        if let Some(bias) = matmul.bias {
            same("bias", "length", bias.len(), n)?;
        }
        let mut lead = shape;
        lead[N - 2..].fill(1);
        // Saturating for a C without elements, whose other sizes may be any.
        let rows = lead.iter().fold(m, |all, len| all.saturating_mul(*len));
        let strides = [matmul.a.strides(), b_lead, c.strides()];
        let ([a_row, a_column], [c_row, c_column]) = (last_two(strides[0]), last_two(strides[2]));
        let [row, column] = last_two(matmul.b.strides());
        let b = match &matmul.b {
            Right::View(b) => kernel::Right::Matrix { data: b.as_ptr(), row, column },
            Right::Packed(b) => b.panels(isa)?,
        };
        let (a_zero, b_zero) = matmul.zero_points;
        let a_zero: i32 = a_zero.into();
        let product = Product {
            m,
            n,
            k,
            a: Left {
                data: matmul.a.as_ptr().cast(),
                row: a_row,
                column: a_column,
                is_signed: A::IS_SIGNED,
            },
            b,
            a_zero: a_zero as i16,
            b_zero: b_zero.into(),
            bias: matmul.bias.unwrap_or(&[]),
            c: c.as_mut_ptr(),
            c_row,
            c_column,
            finish: matmul.finish.lowered(rows, n)?,
            origin: (0, 0),
        };
        Ok(Job { product, isa, dot, lead, strides }.merged())
    }

    /// One product of many rows, where all share B and rows follow on from batch to batch.
    fn merged(mut self) -> Self {
        let [a, b, c] = self.strides;
        for axis in (0..N - 2).rev() {
            let (len, p) = (self.lead[axis], &self.product);
            let follows = |lead: [usize; N], row: usize| lead[axis] == row.wrapping_mul(p.m);
            if len != 1 && !(b[axis] == 0 && follows(a, p.a.row) && follows(c, p.c_row)) {
                break;
            }
            self.product.m = p.m.wrapping_mul(len);
            self.lead[axis] = 1;
        }
        self
    }

    fn batches(&self) -> usize {
        self.lead.iter().fold(1, |all: usize, len| all.saturating_mul(*len))
    }

    pub(super) fn workspace_len(&self) -> usize {
        let Product { m, n, k, .. } = self.product;
        // Without an element of C the other sizes may be any.
        if self.batches() == 0 { 0 } else { workspace_len(m, n, k) }
    }

    /// Multiplications.
    #[cfg(feature = "rayon")]
    pub(super) fn work(&self) -> usize {
        let Product { m, n, k, .. } = self.product;
        [n, k, self.batches()].iter().fold(m, |work, size| work.saturating_mul(*size))
    }

    /// The product at batch `index`.
    fn batch(&self, index: usize) -> Product<'c, F::Kernel> {
        let (mut rest, mut offsets) = (index, [0usize; 3]);
        for axis in (0..N - 2).rev() {
            let len = self.lead[axis].max(1);
            let at = rest % len;
            rest /= len;
            for (offset, strides) in offsets.iter_mut().zip(self.strides) {
                *offset += at * strides[axis];
            }
        }
        let mut product = self.product;
        product.a.data = product.a.data.wrapping_add(offsets[0]);
        if let kernel::Right::Matrix { data, .. } = &mut product.b {
            *data = data.wrapping_add(offsets[1]);
        }
        product.c = product.c.wrapping_add(offsets[2]);
        product.origin.0 = index * product.m;
        product
    }

    /// Computes part `index` of `parts`.
    ///
    /// # Safety
    /// The views that [`Job::checked`] saw are still borrowed, C by nobody who uses this part of it;
    /// `workspace` is valid for writing [`Job::workspace_len`] words.
    pub(super) unsafe fn run(&self, index: usize, parts: usize, workspace: *mut u32) {
        if self.product.m == 0 || self.product.n == 0 {
            return;
        }
        let batches = self.batches();
        // Each batch in as many pieces as give every part one.
        let pieces = parts.div_ceil(batches.max(1)).max(1);
        let at = |index: usize| split(batches.saturating_mul(pieces), index, parts);
        for piece in at(index)..at(index + 1) {
            let product = self.batch(piece / pieces).part(piece % pieces, pieces);
            // SAFETY: `checked`: sizes and strides name elements of the views alone; C is borrowed
            // mutably, so it overlaps nothing, and its elements are distinct by construction; other
            // batches are other elements.
            unsafe { kernel::product(self.isa, self.dot, &product, workspace) };
        }
    }
}

/// A piece of a product, for any thread; see [`MatmulInt8::parts`].
#[must_use = "C lacks this part until it is run"]
pub struct Part<'c, F: Finishing, const N: usize = 2> {
    job: Job<'c, F, N>,
    index: usize,
    parts: usize,
    c: PhantomData<&'c mut F::Out>,
}

impl<'c, F: Finishing, const N: usize> Part<'c, F, N> {
    pub(super) fn new(job: Job<'c, F, N>, index: usize, parts: usize) -> Self {
        Part { job, index, parts, c: PhantomData }
    }

    /// Computes the piece. `workspace` holds at least [`workspace_len`] floats and is this thread's
    /// alone.
    ///
    /// # Errors
    /// If the workspace is too short; the piece is not computed then.
    pub fn run<W: Scratch + ?Sized>(self, workspace: &mut W) -> Result<()> {
        let workspace = workspace.floats(self.job.workspace_len())?;
        // SAFETY: `Job::checked`; parts are disjoint in C, which is borrowed as long as they live,
        // and each is run once.
        unsafe { self.job.run(self.index, self.parts, workspace.as_mut_ptr().cast()) };
        Ok(())
    }
}

/// The sizes or strides of rows and columns.
fn last_two<const N: usize>(all: [usize; N]) -> [usize; 2] {
    [all[N - 2], all[N - 1]]
}
