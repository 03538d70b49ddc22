//! Products without vectors: operands are read where they lie.

use super::finish::{Finish, Out};
use super::pack::Lines;
use super::{Product, Right};
use crate::simd::{Op, Simd};

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
        let [a_zero, b_zero] = [p.a_zero, p.b_zero].map(i32::from);
        for i in 0..p.m {
            for j in 0..p.n {
                let a = p.a.data.wrapping_add(i * p.a.row);
                let dot = Dot {
                    k: p.k,
                    b: b.wrapping_add(j * column),
                    steps: [p.a.column, row],
                    a_zero,
                    b_zero,
                };
                let (place, at) = (i * p.c_row + j * p.c_column, p.origin.1 + j);
                // SAFETY: `product`'s: a row of A, a column of B, and a place of C.
                unsafe {
                    let sum = if p.a.is_signed { dot.run(a.cast::<i8>()) } else { dot.run(a) };
                    let sum = sum.wrapping_add(p.bias.get(at).copied().unwrap_or(0));
                    let out = Out { p: p.c.wrapping_add(place), stride: p.c_column };
                    p.finish.finish(s, &[sum], p.origin.0 + i, at, out);
                }
            }
        }
    }
}

/// A column of B, and how it meets a row of A.
struct Dot {
    k: usize,
    b: *const i8,
    /// From number to number of the row and of the column.
    steps: [usize; 2],
    a_zero: i32,
    b_zero: i32,
}

impl Dot {
    /// The sum of the products.
    ///
    /// # Safety
    /// `k` numbers of both are valid for reading.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn run<A: Copy + Into<i32>>(&self, a: *const A) -> i32 {
        let product = |a: *const A, b: *const i8| {
            // SAFETY: the caller's.
            let (a, b): (i32, i32) = unsafe { (a.read().into(), b.read().into()) };
            (a - self.a_zero) * (b - self.b_zero)
        };
        let mut sum = 0i32;
        if self.steps == [1, 1] {
            for p in 0..self.k {
                sum = sum.wrapping_add(product(a.wrapping_add(p), self.b.wrapping_add(p)));
            }
            return sum;
        }
        let (mut a, mut b) = (a, self.b);
        for _ in 0..self.k {
            sum = sum.wrapping_add(product(a, b));
            a = a.wrapping_add(self.steps[0]);
            b = b.wrapping_add(self.steps[1]);
        }
        sum
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
