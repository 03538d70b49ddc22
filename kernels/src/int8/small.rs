//! Products without vectors: operands are read where they lie, and a few sums are taken at a time.

use super::finish::{Finish, Out};
use super::pack::Lines;
use super::{Product, Right, min};
use crate::simd::{Op, Simd};

/// Columns whose sums are taken at once: each number of A is read once for all of them.
const SIDE: usize = 4;

/// [`super::product`] in scalar code.
pub(super) struct Small<'a, F: Finish>(pub &'a Product<'a, F>);

impl<F: Finish> Op for Small<'_, F> {
    type Out = ();
    #[cfg_attr(vectors, inline(always))]
    fn eval<S: Simd>(self, s: S) {
        let p = self.0;
        // A packed B is its columns, each padded to fours.
        let (b, row, column) = match p.b {
            Right::Matrix { data, row, column } => (data, row, column),
            Right::Packed { panels, .. } => (panels.cast(), 1, 4 * p.k.div_ceil(4)),
        };
        for i in 0..p.m {
            for j in (0..p.n).step_by(SIDE) {
                let width = min(SIDE, p.n - j);
                let (a, c) = (p.a.data.wrapping_add(i * p.a.row), i * p.c_row + j * p.c_column);
                let (first, at) = (b.wrapping_add(j * column), p.origin.1 + j);
                // SAFETY: `product`'s: a row of A, columns of B, and places of C.
                unsafe {
                    let mut sums = if width == SIDE {
                        p.sums::<SIDE>(a, first, [row, column])
                    } else {
                        let mut sums = [0; SIDE];
                        for (x, sum) in sums.iter_mut().enumerate().take(width) {
                            let line = first.wrapping_add(x * column);
                            [*sum] = p.sums::<1>(a, line, [row, column]);
                        }
                        sums
                    };
                    for (sum, bias) in sums.iter_mut().zip(p.bias.get(at..).unwrap_or(&[])) {
                        *sum = sum.wrapping_add(*bias);
                    }
                    let out = Out { p: p.c.wrapping_add(c), stride: p.c_column };
                    let sums = sums.get(..width).unwrap_or(&[]);
                    p.finish.finish(s, sums, p.origin.0 + i, at, out);
                }
            }
        }
    }
}

impl<F: Finish> Product<'_, F> {
    /// The sums of a row by `N` columns.
    ///
    /// # Safety
    /// They are valid for reading.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn sums<const N: usize>(
        &self,
        mut a: *const u8,
        mut b: *const i8,
        [row, column]: [usize; 2],
    ) -> [i32; N] {
        let (a_zero, b_zero) = (i32::from(self.a_zero), i32::from(self.b_zero));
        let mut sums = [0i32; N];
        for _ in 0..self.k {
            // SAFETY: the caller's.
            unsafe {
                let byte = a.read();
                let number = if self.a.is_signed { i32::from(byte as i8) } else { i32::from(byte) };
                let factor = number - a_zero;
                for (x, sum) in sums.iter_mut().enumerate() {
                    let other = i32::from(b.wrapping_add(x * column).read()) - b_zero;
                    *sum = sum.wrapping_add(factor * other);
                }
            }
            a = a.wrapping_add(self.a.column);
            b = b.wrapping_add(row);
        }
        sums
    }
}

/// [`super::pack`] where a panel is one column.
///
/// # Safety
/// As there.
pub(super) unsafe fn pack(b: Lines, panels: *mut u32, column_sums: *mut i32) {
    let groups = b.depth.div_ceil(4);
    for x in 0..b.width {
        let mut total = 0i32;
        for g in 0..groups {
            // SAFETY: the caller's.
            unsafe {
                let bytes = b.group(x, g);
                total =
                    bytes.iter().fold(total, |sum, byte| sum.wrapping_add(i32::from(*byte as i8)));
                panels.wrapping_add(x * groups + g).write(u32::from_ne_bytes(bytes));
            }
        }
        // SAFETY: the caller's.
        unsafe { column_sums.wrapping_add(x).write(total) };
    }
}
