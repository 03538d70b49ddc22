//! The micro-kernel of a single row over a piece of B that was packed just before: up to four vectors
//! wide, for the sums of one are a chain in which each step waits for the last.

use core::mem::MaybeUninit;

use super::tile::{A, B, Tile};
use crate::simd::{LANES, Op, Simd, each};

/// Columns of the tile.
pub(super) const COLUMNS: usize = 4 * LANES;

/// A tile of one row; its B is padded to whole vectors. See [`super::run_tile`] for what it trusts.
pub(super) struct Wide<'a>(pub &'a Tile);

impl Op for Wide<'_> {
    type Out = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        match self.0.columns.div_ceil(LANES) {
            1 => s.run(Vectors::<1>(self.0)),
            2 => s.run(Vectors::<2>(self.0)),
            3 => s.run(Vectors::<3>(self.0)),
            _ => s.run(Vectors::<4>(self.0)),
        }
    }
}

/// Of so many vectors.
struct Vectors<'a, const NV: usize>(&'a Tile);

impl<const NV: usize> Op for Vectors<'_, NV> {
    type Out = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let t = self.0;
        let (A::Packed(mut a, _) | A::Rows(mut a, _)) = t.a;
        let (B::Rows(mut b, stride) | B::Padded(mut b, stride) | B::Columns(mut b, stride)) = t.b;
        let mut acc = [const { MaybeUninit::<S::V>::uninit() }; NV];
        // SAFETY: `run_tile`'s contract bounds every access; each sum is written before it is read.
        unsafe {
            each!(v < NV <= 4, {
                let (c, n) = (t.c.wrapping_add(v * LANES), t.columns - v * LANES);
                acc[v].write(if t.beta == 0.0 {
                    s.splat(0.0)
                } else {
                    s.mul(s.splat(t.beta), s.load_first(c, n))
                });
            });
            for _ in 0..t.depth {
                let x = s.splat(a.read());
                each!(v < NV <= 4, {
                    let sum = s.fma(x, s.load(b.wrapping_add(v * LANES)), acc[v].assume_init());
                    acc[v].write(sum);
                });
                a = a.wrapping_add(1);
                b = b.wrapping_add(stride);
            }
            each!(v < NV <= 4, {
                let (c, n) = (t.c.wrapping_add(v * LANES), t.columns - v * LANES);
                s.store_first(c, n, acc[v].assume_init());
            });
        }
    }
}
