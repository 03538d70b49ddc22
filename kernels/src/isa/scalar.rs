//! Portable code, for microcontrollers too: a vector is a single number.
//!
//! `f32::mul_add` is not in `core`, so the fused multiply-add is the machine's where the target
//! is known to have one, and libm's correctly rounded software elsewhere: the same bits, slower.

use crate::gemm::{Lines, add_products};
use crate::row::Strip;
use crate::simd::{LANES, Op, Simd, sealed::Sealed};

/// One way to a fused multiply-add, and what goes with it.
pub(super) trait Fma: Copy + Send + Sync + 'static {
    fn fma(self, a: f32, b: f32, c: f32) -> f32;
    fn run<O: Op>(s: Scalar<Self>, op: O) -> O::Out;
    /// [`Simd::exp_nonpositive`], where there is a function of its own.
    #[inline(always)]
    fn exp_nonpositive(self, _: f32) -> Option<f32> {
        None
    }
    /// [`Simd::add_products`], where there is a function of its own; whether there is.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn add_products<const ROWS: usize>(
        self,
        _: &mut [[f32; 4]; ROWS],
        _: usize,
        _: [Lines; 2],
    ) -> bool {
        false
    }
    /// [`Simd::max_strip`].
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn max_strip(self, _: &Strip, _: f32, _: f32) -> Option<f32> {
        None
    }
    /// [`Simd::exp_strip`], where there is a function of its own; whether there is.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn exp_strip(self, _: &Strip, _: [f32; 2], _: usize, _: &mut [f32; LANES]) -> bool {
        false
    }
    /// [`Simd::divide_strip`], where there is a function of its own; whether there is.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn divide_strip(self, _: &Strip, _: f32, _: f32) -> bool {
        false
    }
}

/// The token, with its fused multiply-add.
#[derive(Clone, Copy)]
pub(super) struct Scalar<F>(F);

impl<F> Sealed for Scalar<F> {}

/// Evaluates `op` in scalar code.
#[inline]
pub(super) fn run<O: Op>(op: O) -> O::Out {
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    if super::cpuid::features().fma {
        return Scalar(X86Fma(())).run(op);
    }
    Scalar(TargetFma).run(op)
}

/// The x86 instruction, made only where CPUID has it.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[derive(Clone, Copy)]
struct X86Fma(());

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
impl Fma for X86Fma {
    #[inline(always)]
    fn fma(self, a: f32, b: f32, c: f32) -> f32 {
        use core::arch::x86_64::*;
        // SAFETY: the token proves FMA.
        unsafe { _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(a), _mm_set_ss(b), _mm_set_ss(c))) }
    }
    #[inline(always)]
    fn run<O: Op>(s: Scalar<Self>, op: O) -> O::Out {
        #[inline(never)]
        #[target_feature(enable = "fma")]
        fn inner<O: Op>(s: Scalar<X86Fma>, op: O) -> O::Out {
            op.eval(s)
        }
        // SAFETY: holding the token proves the feature.
        unsafe { inner(s, op) }
    }
}

#[cfg(cortex_m_fpu)]
use super::cortex_m::CortexM as TargetFma;

/// What the target was compiled with.
#[cfg(not(cortex_m_fpu))]
#[derive(Clone, Copy)]
struct TargetFma;

#[cfg(not(cortex_m_fpu))]
impl Fma for TargetFma {
    #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
    #[inline(always)]
    fn fma(self, a: f32, b: f32, c: f32) -> f32 {
        let r: f32;
        // SAFETY: arithmetic on registers that every such target has.
        unsafe {
            core::arch::asm!("fmadd {r:s}, {a:s}, {b:s}, {c:s}", r = lateout(vreg) r,
                a = in(vreg) a, b = in(vreg) b, c = in(vreg) c,
                options(pure, nomem, nostack, preserves_flags));
        }
        r
    }
    // Not inlined: it would be most of the program.
    #[cfg(not(all(target_arch = "aarch64", target_feature = "neon")))]
    #[inline(never)]
    fn fma(self, a: f32, b: f32, c: f32) -> f32 {
        libm::fmaf(a, b, c)
    }
    #[inline(always)]
    fn run<O: Op>(s: Scalar<Self>, op: O) -> O::Out {
        #[inline(never)]
        fn inner<O: Op>(s: Scalar<TargetFma>, op: O) -> O::Out {
            op.eval(s)
        }
        inner(s, op)
    }
}

impl<F: Fma> Simd for Scalar<F> {
    const LANES: usize = 1;
    type V = f32;
    type M = bool;
    // 16 sums, 4 numbers of A and 4 of B, of 32 registers of a Cortex-M4F.
    const MR: usize = 4;
    const NV: usize = 4;
    const MR_BY_COLUMNS: usize = 0;

    #[inline(always)]
    fn splat(self, x: f32) -> f32 {
        x
    }
    #[inline(always)]
    fn add(self, a: f32, b: f32) -> f32 {
        a + b
    }
    #[inline(always)]
    fn sub(self, a: f32, b: f32) -> f32 {
        a - b
    }
    #[inline(always)]
    fn mul(self, a: f32, b: f32) -> f32 {
        a * b
    }
    #[inline(always)]
    fn div(self, a: f32, b: f32) -> f32 {
        a / b
    }
    #[inline(always)]
    fn copysign(self, a: f32, b: f32) -> f32 {
        a.copysign(b)
    }
    #[inline(always)]
    fn fma(self, a: f32, b: f32, c: f32) -> f32 {
        self.0.fma(a, b, c)
    }
    #[inline(always)]
    fn max(self, a: f32, b: f32) -> f32 {
        if a > b { a } else { b }
    }
    #[inline(always)]
    fn lt(self, a: f32, b: f32) -> bool {
        a < b
    }
    #[inline(always)]
    fn select(self, m: bool, a: f32, b: f32) -> f32 {
        if m { a } else { b }
    }
    #[inline(always)]
    fn and(self, a: bool, b: bool) -> bool {
        a & b
    }
    #[inline(always)]
    fn not(self, a: bool) -> bool {
        !a
    }
    #[inline(always)]
    fn first(self, n: usize) -> bool {
        n > 0
    }
    #[inline(always)]
    fn shl23(self, a: f32) -> f32 {
        f32::from_bits(a.to_bits() << 23)
    }
    #[inline(always)]
    fn sum(self, a: f32) -> f32 {
        a
    }
    #[inline(always)]
    fn largest(self, a: f32) -> f32 {
        a
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> f32 {
        // SAFETY: the caller's.
        unsafe { p.read() }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> f32 {
        // SAFETY: the caller's.
        if n > 0 { unsafe { p.read() } } else { 0.0 }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: f32) {
        // SAFETY: the caller's.
        unsafe { p.write(v) }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize, v: f32) {
        if n > 0 {
            // SAFETY: the caller's.
            unsafe { p.write(v) }
        }
    }
    #[inline(always)]
    unsafe fn turn4(self, [row, ..]: [*const f32; LANES]) -> [f32; 4] {
        // SAFETY: the caller's.
        unsafe { row.cast::<[f32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn add_products<const ROWS: usize>(
        self,
        sums: &mut [[f32; 4]; ROWS],
        depth: usize,
        operands: [Lines; 2],
    ) {
        // SAFETY: the caller's.
        unsafe {
            if !self.0.add_products(sums, depth, operands) {
                add_products(self, sums, depth, operands);
            }
        }
    }
    #[inline(always)]
    fn exp_nonpositive(self, x: f32) -> f32 {
        self.0.exp_nonpositive(x).unwrap_or_else(|| crate::exp::nonpositive(self, x))
    }
    #[inline(always)]
    unsafe fn max_strip(self, strip: &Strip, scale: f32, max: f32) -> Option<f32> {
        // SAFETY: the caller's.
        unsafe { self.0.max_strip(strip, scale, max) }
    }
    #[inline(always)]
    unsafe fn exp_strip(
        self,
        strip: &Strip,
        rule: [f32; 2],
        lane: usize,
        sums: &mut [f32; LANES],
    ) -> bool {
        // SAFETY: the caller's.
        unsafe { self.0.exp_strip(strip, rule, lane, sums) }
    }
    #[inline(always)]
    unsafe fn divide_strip(self, strip: &Strip, inverse: f32, off: f32) -> bool {
        // SAFETY: the caller's.
        unsafe { self.0.divide_strip(strip, inverse, off) }
    }
    #[inline(always)]
    fn nonzero_bytes(self, bytes: [u8; LANES]) -> u16 {
        bytes.iter().rev().fold(0, |bits, byte| bits << 1 | u16::from(*byte != 0))
    }
    #[inline(always)]
    fn bits(self, m: bool) -> u16 {
        u16::from(m)
    }
    #[inline(always)]
    fn mask(self, bits: u16) -> bool {
        bits & 1 == 1
    }
    #[inline(always)]
    fn widen_f16(self, halves: [u16; LANES]) -> f32 {
        half::f16::from_bits(halves[0]).to_f32()
    }
    #[inline(always)]
    fn widen_bf16(self, halves: [u16; LANES]) -> f32 {
        f32::from_bits(u32::from(halves[0]) << 16)
    }
    #[inline(always)]
    fn narrow_f16(self, a: f32) -> [u16; LANES] {
        [half::f16::from_f32(a).to_bits(); LANES]
    }
    #[inline(always)]
    fn narrow_bf16(self, a: f32) -> [u16; LANES] {
        [half::bf16::from_f32(a).to_bits(); LANES]
    }
    #[inline(always)]
    fn pairs_f16(self, words: f32) -> [f32; 2] {
        let bits = words.to_bits();
        [bits as u16, (bits >> 16) as u16].map(|half| half::f16::from_bits(half).to_f32())
    }
    #[inline(always)]
    fn pairs_bf16(self, words: f32) -> [f32; 2] {
        let bits = words.to_bits();
        [f32::from_bits(bits << 16), f32::from_bits(bits & 0xffff_0000)]
    }
    #[inline(always)]
    fn signed_byte<const I: usize>(self, words: f32) -> f32 {
        f32::from((words.to_bits() >> (I % 4 * 8)) as i8)
    }
    #[inline(always)]
    fn nibbles(self, words: f32) -> [f32; 2] {
        let signed = words.to_bits() ^ 0x8888_8888;
        [signed << 4, signed].map(|bits| f32::from_bits(bits & 0xf0f0_f0f0))
    }

    #[inline(always)]
    fn run<O: Op>(self, op: O) -> O::Out {
        F::run(self, op)
    }
}
