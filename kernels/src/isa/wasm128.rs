//! WebAssembly's vectors of 128 bits: a vector is four of them, a mask four of all-ones or zero
//! lanes.
//!
//! Fused multiply-add exists with `relaxed-simd` alone, and there an engine may also round twice:
//! V8 fuses wherever the processor has FMA, and then the bits are those of every other instruction
//! set. Without `relaxed-simd` every lane is fused in software: the same bits, slowly.

use core::arch::wasm32::*;

use crate::simd::{LANES, Op, Simd, sealed::Sealed};

mod int8;

/// The token. This file is compiled only for targets that have the instructions, and an engine
/// that lacks them refuses the whole module, so anyone may make one.
#[derive(Clone, Copy)]
pub struct Wasm128(());

impl Wasm128 {
    pub(super) fn new() -> Self {
        Wasm128(())
    }
}

impl Sealed for Wasm128 {}

type V = [v128; 4];

/// Applies `f` to the four parts of `a` and `b`.
#[inline(always)]
fn zip(a: V, b: V, f: impl Fn(v128, v128) -> v128) -> V {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
}

#[inline(always)]
fn floats(s: Wasm128, v: V) -> [f32; LANES] {
    let mut floats = [0.0; LANES];
    // SAFETY: the array has 16 numbers.
    unsafe { s.store(floats.as_mut_ptr(), v) }
    floats
}

#[cfg(target_feature = "relaxed-simd")]
#[inline(always)]
fn fused(a: v128, b: v128, c: v128) -> v128 {
    f32x4_relaxed_madd(a, b, c)
}

/// A function of its own: inlined it would be most of the program.
#[cfg(not(target_feature = "relaxed-simd"))]
#[inline(never)]
fn fused(a: v128, b: v128, c: v128) -> v128 {
    f32x4(
        libm::fmaf(
            f32x4_extract_lane::<0>(a),
            f32x4_extract_lane::<0>(b),
            f32x4_extract_lane::<0>(c),
        ),
        libm::fmaf(
            f32x4_extract_lane::<1>(a),
            f32x4_extract_lane::<1>(b),
            f32x4_extract_lane::<1>(c),
        ),
        libm::fmaf(
            f32x4_extract_lane::<2>(a),
            f32x4_extract_lane::<2>(b),
            f32x4_extract_lane::<2>(c),
        ),
        libm::fmaf(
            f32x4_extract_lane::<3>(a),
            f32x4_extract_lane::<3>(b),
            f32x4_extract_lane::<3>(c),
        ),
    )
}

impl Simd for Wasm128 {
    type V = V;
    type M = V;
    // Engines map to 16 registers: 8 sums, 4 of B, 1 broadcast.
    const MR: usize = 2;
    const NV: usize = 1;
    const MR_BY_COLUMNS: usize = 1;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [f32x4_splat(x); 4]
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        zip(a, b, |a, b| f32x4_add(a, b))
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        zip(a, b, |a, b| f32x4_sub(a, b))
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        zip(a, b, |a, b| f32x4_mul(a, b))
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        zip(a, b, |a, b| f32x4_div(a, b))
    }
    #[inline(always)]
    fn copysign(self, a: V, b: V) -> V {
        let sign = f32x4_splat(-0.0);
        zip(a, b, |a, b| v128_bitselect(b, a, sign))
    }
    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        [
            fused(a[0], b[0], c[0]),
            fused(a[1], b[1], c[1]),
            fused(a[2], b[2], c[2]),
            fused(a[3], b[3], c[3]),
        ]
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        // `pmax(b, a)` is `b < a ? a : b`.
        zip(a, b, |a, b| f32x4_pmax(b, a))
    }
    #[inline(always)]
    fn lt(self, a: V, b: V) -> V {
        zip(a, b, |a, b| f32x4_lt(a, b))
    }
    #[inline(always)]
    fn select(self, m: V, a: V, b: V) -> V {
        [
            v128_bitselect(a[0], b[0], m[0]),
            v128_bitselect(a[1], b[1], m[1]),
            v128_bitselect(a[2], b[2], m[2]),
            v128_bitselect(a[3], b[3], m[3]),
        ]
    }
    #[inline(always)]
    fn and(self, a: V, b: V) -> V {
        zip(a, b, |a, b| v128_and(a, b))
    }
    #[inline(always)]
    fn not(self, a: V) -> V {
        zip(a, a, |a, _| v128_not(a))
    }
    #[inline(always)]
    fn first(self, n: usize) -> V {
        let n = i32x4_splat(n.min(LANES) as i32);
        [
            i32x4_lt(i32x4(0, 1, 2, 3), n),
            i32x4_lt(i32x4(4, 5, 6, 7), n),
            i32x4_lt(i32x4(8, 9, 10, 11), n),
            i32x4_lt(i32x4(12, 13, 14, 15), n),
        ]
    }
    #[inline(always)]
    fn shl23(self, a: V) -> V {
        zip(a, a, |a, _| i32x4_shl(a, 23))
    }
    #[inline(always)]
    fn sum(self, a: V) -> f32 {
        let x = f32x4_add(f32x4_add(a[0], a[2]), f32x4_add(a[1], a[3]));
        let x = f32x4_add(x, i64x2_shuffle::<1, 0>(x, x));
        f32x4_extract_lane::<0>(x) + f32x4_extract_lane::<1>(x)
    }
    #[inline(always)]
    fn largest(self, a: V) -> f32 {
        let greater = |high, low| f32x4_pmax(low, high);
        let x = greater(greater(a[3], a[1]), greater(a[2], a[0]));
        let x = greater(i64x2_shuffle::<1, 0>(x, x), x);
        let (low, high) = (f32x4_extract_lane::<0>(x), f32x4_extract_lane::<1>(x));
        if high > low { high } else { low }
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> V {
        let p: *const v128 = p.cast();
        // SAFETY: the caller's; the instruction takes any alignment.
        unsafe { [v128_load(p), v128_load(p.add(1)), v128_load(p.add(2)), v128_load(p.add(3))] }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> V {
        // SAFETY: the caller's; there is no masked load, so a short run goes through the stack.
        unsafe {
            if n >= LANES {
                return self.load(p);
            }
            let mut lanes = [0f32; LANES];
            core::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), n);
            self.load(lanes.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: V) {
        let p: *mut v128 = p.cast();
        // SAFETY: the caller's; the instruction takes any alignment.
        unsafe {
            v128_store(p, v[0]);
            v128_store(p.add(1), v[1]);
            v128_store(p.add(2), v[2]);
            v128_store(p.add(3), v[3]);
        }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize, v: V) {
        // SAFETY: the caller's; as in `load_first`.
        unsafe {
            if n >= LANES {
                return self.store(p, v);
            }
            let mut lanes = [0f32; LANES];
            self.store(lanes.as_mut_ptr(), v);
            core::ptr::copy_nonoverlapping(lanes.as_ptr(), p, n);
        }
    }
    #[inline(always)]
    unsafe fn turn4(self, rows: [*const f32; LANES]) -> [V; 4] {
        // Rows `first..first + 4`, turned.
        let part = |first: usize| {
            // SAFETY: the caller's.
            let row = |i: usize| unsafe { v128_load(rows[first + i].cast()) };
            let (a, b, c, d) = (row(0), row(1), row(2), row(3));
            let (ab, ab_high) =
                (i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<2, 6, 3, 7>(a, b));
            let (cd, cd_high) =
                (i32x4_shuffle::<0, 4, 1, 5>(c, d), i32x4_shuffle::<2, 6, 3, 7>(c, d));
            [
                i64x2_shuffle::<0, 2>(ab, cd),
                i64x2_shuffle::<1, 3>(ab, cd),
                i64x2_shuffle::<0, 2>(ab_high, cd_high),
                i64x2_shuffle::<1, 3>(ab_high, cd_high),
            ]
        };
        let (a, b, c, d) = (part(0), part(4), part(8), part(12));
        [
            [a[0], b[0], c[0], d[0]],
            [a[1], b[1], c[1], d[1]],
            [a[2], b[2], c[2], d[2]],
            [a[3], b[3], c[3], d[3]],
        ]
    }
    #[inline(always)]
    fn nonzero_bytes(self, bytes: [u8; LANES]) -> u16 {
        // SAFETY: the array has 16 bytes.
        let bytes = unsafe { v128_load(bytes.as_ptr().cast()) };
        i8x16_bitmask(u8x16_ne(bytes, u8x16_splat(0)))
    }
    #[inline(always)]
    fn bits(self, m: V) -> u16 {
        let [a, b, c, d] = m.map(|part| u16::from(i32x4_bitmask(part)));
        a | b << 4 | c << 8 | d << 12
    }
    #[inline(always)]
    fn mask(self, bits: u16) -> V {
        let bits = i32x4_splat(i32::from(bits));
        let part = |lanes: v128| i32x4_ne(v128_and(bits, lanes), i32x4_splat(0));
        [
            part(i32x4(1, 1 << 1, 1 << 2, 1 << 3)),
            part(i32x4(1 << 4, 1 << 5, 1 << 6, 1 << 7)),
            part(i32x4(1 << 8, 1 << 9, 1 << 10, 1 << 11)),
            part(i32x4(1 << 12, 1 << 13, 1 << 14, 1 << 15)),
        ]
    }
    #[inline(always)]
    fn widen_f16(self, halves: [u16; LANES]) -> V {
        let floats = halves.map(|bits| half::f16::from_bits(bits).to_f32());
        // SAFETY: the array has 16 floats.
        unsafe { self.load(floats.as_ptr()) }
    }
    #[inline(always)]
    fn widen_bf16(self, halves: [u16; LANES]) -> V {
        let floats = halves.map(|bits| f32::from_bits(u32::from(bits) << 16));
        // SAFETY: the array has 16 floats.
        unsafe { self.load(floats.as_ptr()) }
    }
    #[inline(always)]
    fn narrow_f16(self, a: V) -> [u16; LANES] {
        floats(self, a).map(|x| half::f16::from_f32(x).to_bits())
    }
    #[inline(always)]
    fn narrow_bf16(self, a: V) -> [u16; LANES] {
        floats(self, a).map(|x| half::bf16::from_f32(x).to_bits())
    }
    #[inline(always)]
    fn pairs_f16(self, words: V) -> [V; 2] {
        let bits = floats(self, words).map(f32::to_bits);
        [self.widen_f16(bits.map(|b| b as u16)), self.widen_f16(bits.map(|b| (b >> 16) as u16))]
    }
    #[inline(always)]
    fn pairs_bf16(self, words: V) -> [V; 2] {
        let upper = u32x4_splat(!0xffff);
        [words.map(|w| u32x4_shl(w, 16)), words.map(|w| v128_and(w, upper))]
    }
    #[inline(always)]
    fn signed_byte<const I: usize>(self, words: V) -> V {
        words.map(|w| f32x4_convert_i32x4(i32x4_shr(i32x4_shl(w, 24 - 8 * (I % 4) as u32), 24)))
    }
    #[inline(always)]
    fn nibbles(self, words: V) -> [V; 2] {
        let upper = |bytes| v128_and(bytes, u8x16_splat(0xf0));
        let signed = |w| v128_xor(w, u8x16_splat(0x88));
        [words.map(|w| upper(u8x16_shl(signed(w), 4))), words.map(|w| upper(signed(w)))]
    }

    #[inline(always)]
    fn run<O: Op>(self, op: O) -> O::Out {
        // The module as a whole has the features: a plain call, not inlined, keeps the kernels
        // apart as the boundary of the other instruction sets does.
        #[inline(never)]
        fn inner<O: Op>(s: Wasm128, op: O) -> O::Out {
            op.eval(s)
        }
        inner(self, op)
    }
}
