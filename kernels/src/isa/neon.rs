//! Advanced SIMD of AArch64: a vector is four registers, a mask four registers of all-ones or
//! zero lanes.

use core::arch::aarch64::*;

use crate::simd::{LANES, Op, Simd, sealed::Sealed};

pub(super) mod int8;

pub(super) use int8::has_dotprod;

/// The token. This file is compiled only for targets that have NEON, so anyone may make one;
/// every `unsafe` around arithmetic below rests on that.
#[derive(Clone, Copy)]
pub struct Neon(());

impl Neon {
    pub(super) fn new() -> Self {
        Neon(())
    }
}

impl Sealed for Neon {}

type V = [float32x4_t; 4];
type M = [uint32x4_t; 4];

/// Applies `f` to the four registers of `a` and `b`.
#[inline(always)]
fn zip<A: Copy, B: Copy, R>(a: [A; 4], b: [B; 4], f: impl Fn(A, B) -> R) -> [R; 4] {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
}

/// Bit `i` where byte `i` is all ones.
#[inline(always)]
fn byte_bits(ones: uint8x16_t) -> u16 {
    let lane: [u8; LANES] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
    // SAFETY: the array has 16 bytes, and the target has NEON.
    unsafe {
        let bits = vandq_u8(ones, vld1q_u8(lane.as_ptr()));
        let (low, high) = (vaddv_u8(vget_low_u8(bits)), vaddv_u8(vget_high_u8(bits)));
        u16::from(low) | u16::from(high) << 8
    }
}

#[inline(always)]
fn quarters(halves: [u16; LANES]) -> [uint16x4_t; 4] {
    let p = halves.as_ptr();
    // SAFETY: the array has 16 numbers, and the target has NEON.
    unsafe { [vld1_u16(p), vld1_u16(p.add(4)), vld1_u16(p.add(8)), vld1_u16(p.add(12))] }
}

#[inline(always)]
fn in_memory(quarters: [uint16x4_t; 4]) -> [u16; LANES] {
    let mut halves = [0; LANES];
    let p = halves.as_mut_ptr();
    // SAFETY: the array has 16 numbers, and the target has NEON.
    unsafe {
        vst1_u16(p, quarters[0]);
        vst1_u16(p.add(4), quarters[1]);
        vst1_u16(p.add(8), quarters[2]);
        vst1_u16(p.add(12), quarters[3]);
    }
    halves
}

/// Every AArch64 with NEON has the conversion; its intrinsic asks for a type that the oldest
/// supported compiler lacks.
#[inline(always)]
fn widen_f16_of_4(halves: uint16x4_t) -> float32x4_t {
    let wide: float32x4_t;
    // SAFETY: arithmetic on registers, and the target has NEON.
    unsafe {
        core::arch::asm!("fcvtl {wide:v}.4s, {halves:v}.4h", wide = lateout(vreg) wide,
            halves = in(vreg) halves, options(pure, nomem, nostack, preserves_flags));
    }
    wide
}

/// The first `n` of 4 floats, lane by lane, zero in the others. NEON has no masked load, and a copy
/// by way of the stack would be a call in each step of a product's ragged edge.
///
/// # Safety
/// `p` is valid for reading `min(n, 4)` floats.
#[inline(always)]
unsafe fn load_part(p: *const f32, n: usize) -> float32x4_t {
    // SAFETY: the caller's; lane `i` is read only where `n > i`.
    unsafe {
        if n >= 4 {
            return vld1q_f32(p);
        }
        let mut v = vdupq_n_f32(0.0);
        if n > 0 {
            v = vld1q_lane_f32::<0>(p, v);
        }
        if n > 1 {
            v = vld1q_lane_f32::<1>(p.add(1), v);
        }
        if n > 2 {
            v = vld1q_lane_f32::<2>(p.add(2), v);
        }
        v
    }
}

// SAFETY of the blocks without a comment of their own: the target has NEON, and arithmetic on
// registers has no other precondition.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Neon {
    type V = V;
    type M = M;
    // 24 accumulators and 4 registers of B leave 4 of 32 for A.
    const MR: usize = 6;
    const NV: usize = 1;
    // 12 registers of sums, 16 of B, 1 broadcast.
    const MR_BY_COLUMNS: usize = 3;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        unsafe { [vdupq_n_f32(x); 4] }
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        zip(a, b, |a, b| unsafe { vaddq_f32(a, b) })
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        zip(a, b, |a, b| unsafe { vsubq_f32(a, b) })
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        zip(a, b, |a, b| unsafe { vmulq_f32(a, b) })
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        zip(a, b, |a, b| unsafe { vdivq_f32(a, b) })
    }
    #[inline(always)]
    fn copysign(self, a: V, b: V) -> V {
        zip(a, b, |a, b| unsafe { vbslq_f32(vdupq_n_u32(1 << 31), b, a) })
    }
    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        unsafe {
            [
                vfmaq_f32(c[0], a[0], b[0]),
                vfmaq_f32(c[1], a[1], b[1]),
                vfmaq_f32(c[2], a[2], b[2]),
                vfmaq_f32(c[3], a[3], b[3]),
            ]
        }
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        // `fmax` would return a NaN from either side.
        zip(a, b, |a, b| unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) })
    }
    #[inline(always)]
    fn lt(self, a: V, b: V) -> M {
        zip(a, b, |a, b| unsafe { vcltq_f32(a, b) })
    }
    #[inline(always)]
    fn select(self, m: M, a: V, b: V) -> V {
        unsafe {
            [
                vbslq_f32(m[0], a[0], b[0]),
                vbslq_f32(m[1], a[1], b[1]),
                vbslq_f32(m[2], a[2], b[2]),
                vbslq_f32(m[3], a[3], b[3]),
            ]
        }
    }
    #[inline(always)]
    fn and(self, a: M, b: M) -> M {
        zip(a, b, |a, b| unsafe { vandq_u32(a, b) })
    }
    #[inline(always)]
    fn not(self, a: M) -> M {
        zip(a, a, |a, _| unsafe { vmvnq_u32(a) })
    }
    #[inline(always)]
    fn first(self, n: usize) -> M {
        let n = if n > LANES { LANES as u32 } else { n as u32 };
        let index: [u32; LANES] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        unsafe {
            let n = vdupq_n_u32(n);
            let p = index.as_ptr();
            [
                vcltq_u32(vld1q_u32(p), n),
                vcltq_u32(vld1q_u32(p.add(4)), n),
                vcltq_u32(vld1q_u32(p.add(8)), n),
                vcltq_u32(vld1q_u32(p.add(12)), n),
            ]
        }
    }
    #[inline(always)]
    fn shl23(self, a: V) -> V {
        zip(a, a, |a, _| unsafe {
            vreinterpretq_f32_u32(vshlq_n_u32::<23>(vreinterpretq_u32_f32(a)))
        })
    }
    #[inline(always)]
    fn sum(self, a: V) -> f32 {
        unsafe {
            let x = vaddq_f32(vaddq_f32(a[0], a[2]), vaddq_f32(a[1], a[3]));
            let x = vadd_f32(vget_low_f32(x), vget_high_f32(x));
            vget_lane_f32::<0>(x) + vget_lane_f32::<1>(x)
        }
    }
    #[inline(always)]
    fn largest(self, a: V) -> f32 {
        let greater = |a, b| unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) };
        let x = greater(greater(a[3], a[1]), greater(a[2], a[0]));
        unsafe {
            let (low, high) = (vget_low_f32(x), vget_high_f32(x));
            let x = vbsl_f32(vcgt_f32(high, low), high, low);
            let (low, high) = (vget_lane_f32::<0>(x), vget_lane_f32::<1>(x));
            if high > low { high } else { low }
        }
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> V {
        // SAFETY: the caller's.
        unsafe { [vld1q_f32(p), vld1q_f32(p.add(4)), vld1q_f32(p.add(8)), vld1q_f32(p.add(12))] }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> V {
        // SAFETY: the caller's; a part is as long as what is left of the run.
        unsafe {
            [
                load_part(p, n),
                load_part(p.wrapping_add(4), n.saturating_sub(4)),
                load_part(p.wrapping_add(8), n.saturating_sub(8)),
                load_part(p.wrapping_add(12), n.saturating_sub(12)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: V) {
        // SAFETY: the caller's.
        unsafe {
            vst1q_f32(p, v[0]);
            vst1q_f32(p.add(4), v[1]);
            vst1q_f32(p.add(8), v[2]);
            vst1q_f32(p.add(12), v[3]);
        }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize, v: V) {
        // SAFETY: the caller's; once a tile, a short run goes through the stack.
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
        // SAFETY: the caller's.
        unsafe {
            let part = |first: usize| {
                let row = |i: usize| vld1q_f32(rows[first + i]);
                let (a, b, c, d) = (row(0), row(1), row(2), row(3));
                let even = vreinterpretq_f64_f32(vtrn1q_f32(a, b));
                let odd = vreinterpretq_f64_f32(vtrn2q_f32(a, b));
                let even_low = vreinterpretq_f64_f32(vtrn1q_f32(c, d));
                let odd_low = vreinterpretq_f64_f32(vtrn2q_f32(c, d));
                [
                    vreinterpretq_f32_f64(vtrn1q_f64(even, even_low)),
                    vreinterpretq_f32_f64(vtrn1q_f64(odd, odd_low)),
                    vreinterpretq_f32_f64(vtrn2q_f64(even, even_low)),
                    vreinterpretq_f32_f64(vtrn2q_f64(odd, odd_low)),
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
    }
    #[inline(always)]
    fn nonzero_bytes(self, bytes: [u8; LANES]) -> u16 {
        unsafe {
            let bytes = vld1q_u8(bytes.as_ptr());
            byte_bits(vtstq_u8(bytes, bytes))
        }
    }
    #[inline(always)]
    fn bits(self, m: M) -> u16 {
        unsafe {
            let low = vcombine_u16(vmovn_u32(m[0]), vmovn_u32(m[1]));
            let high = vcombine_u16(vmovn_u32(m[2]), vmovn_u32(m[3]));
            byte_bits(vcombine_u8(vmovn_u16(low), vmovn_u16(high)))
        }
    }
    #[inline(always)]
    fn mask(self, bits: u16) -> M {
        let lane: [u32; 4] = [1, 2, 4, 8];
        unsafe {
            let lane = vld1q_u32(lane.as_ptr());
            let part = |bits: u16| vtstq_u32(vdupq_n_u32(u32::from(bits)), lane);
            [part(bits), part(bits >> 4), part(bits >> 8), part(bits >> 12)]
        }
    }
    #[inline(always)]
    fn widen_f16(self, halves: [u16; LANES]) -> V {
        quarters(halves).map(widen_f16_of_4)
    }
    #[inline(always)]
    fn widen_bf16(self, halves: [u16; LANES]) -> V {
        quarters(halves)
            .map(|half| unsafe { vreinterpretq_f32_u32(vshlq_n_u32::<16>(vmovl_u16(half))) })
    }
    #[inline(always)]
    fn narrow_f16(self, a: V) -> [u16; LANES] {
        in_memory(zip(a, a, |a, _| {
            let half: uint16x4_t;
            unsafe {
                core::arch::asm!("fcvtn {half:v}.4h, {a:v}.4s", half = lateout(vreg) half,
                    a = in(vreg) a, options(pure, nomem, nostack, preserves_flags));
            }
            half
        }))
    }
    #[inline(always)]
    fn narrow_bf16(self, a: V) -> [u16; LANES] {
        in_memory(zip(a, a, |a, _| unsafe {
            let bits = vreinterpretq_u32_f32(a);
            let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
            let rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
            // A NaN stays one: it becomes quiet before its lower bits are lost.
            let quiet = vorrq_u32(bits, vdupq_n_u32(0x0040_0000));
            vshrn_n_u32::<16>(vbslq_u32(vceqq_f32(a, a), rounded, quiet))
        }))
    }
    #[inline(always)]
    fn pairs_f16(self, words: V) -> [V; 2] {
        let lower = |w, _| unsafe { widen_f16_of_4(vmovn_u32(vreinterpretq_u32_f32(w))) };
        let upper = |w, _| unsafe { widen_f16_of_4(vshrn_n_u32::<16>(vreinterpretq_u32_f32(w))) };
        [zip(words, words, lower), zip(words, words, upper)]
    }
    #[inline(always)]
    fn pairs_bf16(self, words: V) -> [V; 2] {
        let lower =
            |w, _| unsafe { vreinterpretq_f32_u32(vshlq_n_u32::<16>(vreinterpretq_u32_f32(w))) };
        let upper = |w, _| unsafe {
            let bits = vandq_u32(vreinterpretq_u32_f32(w), vdupq_n_u32(!0xffff));
            vreinterpretq_f32_u32(bits)
        };
        [zip(words, words, lower), zip(words, words, upper)]
    }
    #[inline(always)]
    fn signed_byte<const I: usize>(self, words: V) -> V {
        zip(words, words, |w, _| unsafe {
            let above = vdupq_n_s32(24 - 8 * (I % 4) as i32);
            let top = vshlq_s32(vreinterpretq_s32_f32(w), above);
            vcvtq_f32_s32(vshrq_n_s32::<24>(top))
        })
    }
    #[inline(always)]
    fn top_byte<const I: usize>(self, words: V) -> V {
        zip(words, words, |w, _| unsafe {
            let above = vdupq_n_s32(24 - 8 * (I % 4) as i32);
            let top = vshlq_s32(vreinterpretq_s32_f32(w), above);
            vcvtq_f32_s32(vandq_s32(top, vdupq_n_s32(!0xff_ffff)))
        })
    }
    #[inline(always)]
    fn nibbles(self, words: V) -> [V; 2] {
        let upper = |bytes| unsafe { vreinterpretq_f32_u8(vandq_u8(bytes, vdupq_n_u8(0xf0))) };
        let signed = |w| unsafe { veorq_u8(vreinterpretq_u8_f32(w), vdupq_n_u8(0x88)) };
        [
            zip(words, words, |w, _| upper(unsafe { vshlq_n_u8::<4>(signed(w)) })),
            zip(words, words, |w, _| upper(signed(w))),
        ]
    }

    #[inline(always)]
    fn run<O: Op>(self, op: O) -> O::Out {
        // The target has NEON, so there is no feature to enable: a plain call, not inlined, keeps
        // the kernels apart as the boundary of the other instruction sets does.
        #[inline(never)]
        fn inner<O: Op>(s: Neon, op: O) -> O::Out {
            op.eval(s)
        }
        inner(self, op)
    }
}
