//! Portable code: a vector is an array, every operation a loop over it.
//!
//! `f32::mul_add` is not in `core`, so the fused multiply-add is the machine's where the target
//! is known to have one, and libm's correctly rounded software elsewhere: the same bits, slower.

use crate::simd::{LANES, Op, Simd, fold_lanes, sealed::Sealed};

/// One way to a fused multiply-add.
trait Fma: Copy + Send + Sync + 'static {
    fn fma(self, a: f32, b: f32, c: f32) -> f32;
    fn run<O: Op>(s: Scalar<Self>, op: O) -> O::Out;
}

/// The token, with its fused multiply-add.
#[derive(Clone, Copy)]
struct Scalar<F>(F);

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

/// A function of its own: inlined into every lane of every loop it would be most of the program.
#[cfg(not(all(target_arch = "aarch64", target_feature = "neon")))]
#[inline(never)]
fn software_fma(a: f32, b: f32, c: f32) -> f32 {
    libm::fmaf(a, b, c)
}

/// What the target was compiled with.
#[derive(Clone, Copy)]
struct TargetFma;

impl Fma for TargetFma {
    #[inline(always)]
    fn fma(self, a: f32, b: f32, c: f32) -> f32 {
        #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
        {
            let r: f32;
            // SAFETY: arithmetic on registers that every such target has.
            unsafe {
                core::arch::asm!("fmadd {r:s}, {a:s}, {b:s}, {c:s}", r = lateout(vreg) r,
                    a = in(vreg) a, b = in(vreg) b, c = in(vreg) c,
                    options(pure, nomem, nostack, preserves_flags));
            }
            r
        }
        #[cfg(not(all(target_arch = "aarch64", target_feature = "neon")))]
        software_fma(a, b, c)
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

/// `f` of every lane's index.
#[inline(always)]
fn lanes<T>(f: impl Fn(usize) -> T) -> [T; LANES] {
    core::array::from_fn(f)
}

impl<F: Fma> Simd for Scalar<F> {
    type V = [f32; LANES];
    type M = [bool; LANES];
    const MR: usize = 4;
    const NV: usize = 1;
    const MR_BY_COLUMNS: usize = 1;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; LANES]
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] / b[i])
    }
    #[inline(always)]
    fn copysign(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i].copysign(b[i]))
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        lanes(|i| self.0.fma(a[i], b[i], c[i]))
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn lt(self, a: Self::V, b: Self::V) -> Self::M {
        lanes(|i| a[i] < b[i])
    }
    #[inline(always)]
    fn select(self, m: Self::M, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| if m[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn and(self, a: Self::M, b: Self::M) -> Self::M {
        lanes(|i| a[i] & b[i])
    }
    #[inline(always)]
    fn not(self, a: Self::M) -> Self::M {
        lanes(|i| !a[i])
    }
    #[inline(always)]
    fn first(self, n: usize) -> Self::M {
        lanes(|i| i < n)
    }
    #[inline(always)]
    fn shl23(self, a: Self::V) -> Self::V {
        lanes(|i| f32::from_bits(a[i].to_bits() << 23))
    }
    #[inline(always)]
    fn sum(self, a: Self::V) -> f32 {
        fold_lanes(a, |low, high| low + high)
    }
    #[inline(always)]
    fn largest(self, a: Self::V) -> f32 {
        fold_lanes(a, |low, high| if high > low { high } else { low })
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::V {
        // SAFETY: the caller's; an array of f32 has the alignment of f32.
        unsafe { p.cast::<Self::V>().read() }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> Self::V {
        // SAFETY: lane `i` is read only below `n`.
        lanes(|i| if i < n { unsafe { p.add(i).read() } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::V) {
        // SAFETY: the caller's; an array of f32 has the alignment of f32.
        unsafe { p.cast::<Self::V>().write(v) }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize, v: Self::V) {
        for (i, x) in v.into_iter().enumerate().take(n) {
            // SAFETY: lane `i` is written only below `n`.
            unsafe { p.add(i).write(x) }
        }
    }
    #[inline(always)]
    unsafe fn columns4(self, p: *const f32, stride: usize) -> [Self::V; 4] {
        // SAFETY: the caller's.
        core::array::from_fn(|c| lanes(|i| unsafe { p.wrapping_add(i * stride).add(c).read() }))
    }
    #[inline(always)]
    fn nonzero_bytes(self, bytes: [u8; LANES]) -> u16 {
        self.bits(bytes.map(|byte| byte != 0))
    }
    #[inline(always)]
    fn bits(self, m: Self::M) -> u16 {
        m.iter().rev().fold(0, |bits, kept| bits << 1 | u16::from(*kept))
    }
    #[inline(always)]
    fn mask(self, bits: u16) -> Self::M {
        lanes(|i| bits >> i & 1 == 1)
    }
    #[inline(always)]
    fn widen_f16(self, halves: [u16; LANES]) -> Self::V {
        halves.map(|bits| half::f16::from_bits(bits).to_f32())
    }
    #[inline(always)]
    fn widen_bf16(self, halves: [u16; LANES]) -> Self::V {
        halves.map(|bits| f32::from_bits(u32::from(bits) << 16))
    }

    #[inline(always)]
    fn run<O: Op>(self, op: O) -> O::Out {
        F::run(self, op)
    }
}
