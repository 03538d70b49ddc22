//! The loads and stores of every instruction set, which all operations are made of.

use masktile::{bf16, f16};
use masktile_kernels::{LANES, Number, Op, Simd, run};

use super::against_both;

/// Loads and stores `floats`, as many as there are.
struct Touch<'a> {
    floats: &'a mut [f32],
}

impl Op for Touch<'_> {
    type Out = Vec<f32>;
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) -> Vec<f32> {
        let n = self.floats.len();
        let mut seen = vec![0.0; LANES];
        let rows = vec![1.0; (LANES - 1) * (n + 4) + 4];
        // SAFETY: floats are `n`, `seen` is 16 and the rows of `columns4` are 4 numbers long.
        unsafe {
            for c in (0..n).step_by(S::LANES) {
                let (p, n) = (self.floats.as_mut_ptr().add(c), n - c);
                let v = s.load_first(p, n);
                s.store_first(p, n, s.add(v, v));
                if n >= S::LANES {
                    s.store(p, s.load(p));
                }
            }
            for c in (0..LANES).step_by(S::LANES) {
                let seen = seen.as_mut_ptr().add(c);
                for column in s.columns4(rows.as_ptr().add(c * (n + 4)), n + 4) {
                    s.store(seen, s.add(s.load(seen), column));
                }
            }
            // Whatever the address.
            s.prefetch(self.floats.as_ptr().wrapping_add(1 << 20));
        }
        seen.extend(&*self.floats);
        seen
    }
}

#[test]
fn loads_and_stores_touch_what_they_were_given() {
    against_both("primitives", |tally| {
        for n in 0..=LANES {
            tally.each_isa(format_args!("{n} lanes"), |isa, _| {
                let mut floats: Vec<f32> = (0..n).map(|i| i as f32 + 0.5).collect();
                run(isa, Touch { floats: &mut floats })
            });
        }
    });
}

/// Loads numbers of a type, and stores them doubled.
struct TouchNumbers<'a, T>(&'a mut [T]);

impl<T: Number> Op for TouchNumbers<'_, T> {
    type Out = Vec<f32>;
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) -> Vec<f32> {
        let n = self.0.len();
        for c in (0..n).step_by(S::LANES) {
            // SAFETY: there are `n` numbers, `n - c` of them from `c` on.
            unsafe {
                let p = self.0.as_mut_ptr().add(c);
                let v = T::load_first(s, p, n - c);
                T::store_first(s, p, n - c, s.add(v, v));
            }
        }
        self.0.iter().map(|x| x.to_f32()).collect()
    }
}

#[test]
fn numbers_are_touched_one_by_one() {
    fn of<T: Number>(tally: &mut super::Tally) {
        for n in 0..=2 * LANES {
            tally.each_isa(format_args!("{n} of {:?}", T::DTYPE), |isa, _| {
                let mut numbers: Vec<T> = (0..n).map(|i| T::from_f32(i as f32 + 0.5)).collect();
                let touched = run(isa, TouchNumbers(&mut numbers));
                assert!(touched.iter().enumerate().all(|(i, x)| *x == 2.0 * i as f32 + 1.0));
                touched
            });
        }
    }
    against_both("loads and stores of numbers", |tally| {
        of::<f32>(tally);
        of::<f16>(tally);
        of::<bf16>(tally);
    });
}
