//! What becomes of the exact sums of a product: they are written, scaled to floats, or requantised.

use super::{Product, compute};
use crate::fixed::Multiplier;
use crate::gemm::{Epilogue, Finished, finish};
use crate::isa::{DotProduct, Isa};
use crate::simd::{LANES, Simd};

/// Columns whose sums are finished at a time.
pub(super) const WIDEST: usize = 2 * LANES;

/// A row of results: column `j` at `p + j * stride`.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct Out<T> {
    pub p: *mut T,
    pub stride: usize,
}

impl<T> Out<T> {
    /// # Safety
    /// The row has as many places, valid for writing.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn write(self, results: impl Iterator<Item = T>) {
        for (j, result) in results.enumerate() {
            // SAFETY: the caller's.
            unsafe { self.p.wrapping_add(j * self.stride).write(result) }
        }
    }
}

/// A way to finish sums.
pub trait Finish: Copy + crate::simd::sealed::Sealed {
    /// What the result holds.
    type Out: Copy;

    /// Finishes the sums, at most 32, of this row from this column on.
    ///
    /// # Safety
    /// `out` has as many places, valid for writing, and what the finish reads is valid there.
    unsafe fn finish<S: Simd>(
        &self,
        s: S,
        sums: &[i32],
        row: usize,
        column: usize,
        out: Out<Self::Out>,
    );

    /// [`super::product`] with this finish, compiled in this crate, once.
    ///
    /// # Safety
    /// As there.
    unsafe fn product(isa: Isa, dot: DotProduct, product: &Product<'_, Self>, workspace: *mut u32);
}

/// The sums themselves.
#[derive(Clone, Copy, Debug)]
pub struct Exact;

impl crate::simd::sealed::Sealed for Exact {}

impl Finish for Exact {
    type Out = i32;
    #[cfg_attr(vectors, inline(always))]
    unsafe fn finish<S: Simd>(&self, _: S, sums: &[i32], _: usize, _: usize, out: Out<i32>) {
        // SAFETY: the caller's.
        unsafe { out.write(sums.iter().copied()) }
    }

    unsafe fn product(isa: Isa, dot: DotProduct, product: &Product<'_, Self>, workspace: *mut u32) {
        // SAFETY: the caller's.
        unsafe { compute(isa, dot, product, workspace) }
    }
}

/// The sums as floats, rounded to nearest, times a factor and one for each row, and the steps of a
/// float product behind them.
#[derive(Clone, Copy)]
pub struct Dequantize<'a> {
    /// The factor of all.
    pub scale: f32,
    /// One for each row of the whole product; empty for none.
    pub row_scales: &'a [f32],
    /// The steps.
    pub epilogue: Epilogue<'a>,
}

impl crate::simd::sealed::Sealed for Dequantize<'_> {}

impl Finish for Dequantize<'_> {
    type Out = f32;
    #[cfg_attr(vectors, inline(always))]
    unsafe fn finish<S: Simd>(&self, s: S, sums: &[i32], row: usize, column: usize, out: Out<f32>) {
        let mut numbers = [0f32; WIDEST];
        let of_row = self.row_scales.get(row).copied().unwrap_or(1.0);
        for (number, sum) in numbers.iter_mut().zip(sums) {
            *number = *sum as f32 * self.scale * of_row;
        }
        let (c, columns) = (numbers.as_mut_ptr(), sums.len());
        let tile = Finished { c, c_row: 0, rows: 1, columns, row, column };
        // SAFETY: one row of at most 32 numbers, and the caller's.
        unsafe {
            finish(s, &self.epilogue, &tile);
            out.write(numbers.iter().copied().take(columns));
        }
    }

    unsafe fn product(isa: Isa, dot: DotProduct, product: &Product<'_, Self>, workspace: *mut u32) {
        // SAFETY: the caller's.
        unsafe { compute(isa, dot, product, workspace) }
    }
}

/// The factors of the columns.
#[derive(Clone, Copy, Debug)]
pub enum Multipliers<'a> {
    /// The same for all.
    Same(Multiplier),
    /// One for each.
    PerColumn(&'a [Multiplier]),
}

/// `clamp(zero + multiplier * sum)` as bytes.
#[derive(Clone, Copy, Debug)]
pub struct Requantize<'a, T> {
    /// The factors.
    pub multipliers: Multipliers<'a>,
    /// What stands for nothing.
    pub zero: i32,
    /// The least result.
    pub least: T,
    /// The greatest.
    pub greatest: T,
}

/// A byte.
pub trait Narrow: Copy + Into<i32> + crate::simd::sealed::Sealed {
    /// `x`, which is in its range.
    fn narrow(x: i32) -> Self;

    /// [`Finish::product`] to such bytes.
    ///
    /// # Safety
    /// As there.
    unsafe fn product(
        isa: Isa,
        dot: DotProduct,
        product: &Product<'_, Requantize<'_, Self>>,
        workspace: *mut u32,
    );
}

macro_rules! narrow {
    ($($t:ty)*) => { $(
        impl crate::simd::sealed::Sealed for $t {}
        impl Narrow for $t {
            #[inline(always)]
            fn narrow(x: i32) -> Self {
                x as $t
            }
            unsafe fn product(
                isa: Isa,
                dot: DotProduct,
                product: &Product<'_, Requantize<'_, Self>>,
                workspace: *mut u32,
            ) {
                // SAFETY: the caller's.
                unsafe { compute(isa, dot, product, workspace) }
            }
        }
    )* };
}
narrow!(i8 u8);

impl<T> crate::simd::sealed::Sealed for Requantize<'_, T> {}

impl<T: Narrow> Requantize<'_, T> {
    #[cfg_attr(vectors, inline(always))]
    fn one(&self, sum: i32, by: Multiplier) -> T {
        let x = by.apply(sum).wrapping_add(self.zero);
        // Not `clamp`, which panics where the limits are the wrong way round.
        T::narrow(x.max(self.least.into()).min(self.greatest.into()))
    }
}

impl<T: Narrow> Finish for Requantize<'_, T> {
    type Out = T;
    #[cfg_attr(vectors, inline(always))]
    unsafe fn finish<S: Simd>(&self, _: S, sums: &[i32], _: usize, column: usize, out: Out<T>) {
        // SAFETY: the caller's.
        unsafe {
            match self.multipliers {
                Multipliers::Same(by) => out.write(sums.iter().map(
                    #[inline(always)]
                    |sum| self.one(*sum, by),
                )),
                Multipliers::PerColumn(all) => {
                    let own = all.get(column..).unwrap_or(&[]);
                    out.write(sums.iter().zip(own).map(
                        #[inline(always)]
                        |(sum, by)| self.one(*sum, *by),
                    ));
                }
            }
        }
    }

    unsafe fn product(isa: Isa, dot: DotProduct, product: &Product<'_, Self>, workspace: *mut u32) {
        // SAFETY: the caller's.
        unsafe { T::product(isa, dot, product, workspace) }
    }
}
