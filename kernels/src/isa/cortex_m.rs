//! Scalar code on a Cortex-M with a floating-point unit (M4F, M7, M33, M55): what must be fast in
//! assembly.
//!
//! The compiler has no stable way to the fused multiply-add of these cores yet: none in `core`, and
//! `asm!` takes no floating-point register there before Rust 1.98 (rust-lang/rust#159988). So it is
//! a call, and the two loops that live on it are functions as a whole: the sums of a tile, which
//! also loads four numbers by one instruction, and the exponential.

use core::arch::naked_asm;

use super::scalar::{Fma, Scalar};
use crate::exp;
use crate::gemm::Lines;
use crate::row::Strip;
use crate::simd::{LANES, Op};

/// The target has the unit, and the instruction with it.
#[derive(Clone, Copy)]
pub(super) struct CortexM;

impl Fma for CortexM {
    #[inline(always)]
    fn fma(self, a: f32, b: f32, c: f32) -> f32 {
        fused(c, a, b)
    }
    #[inline(always)]
    fn exp_nonpositive(self, x: f32) -> Option<f32> {
        Some(exp_nonpositive(x))
    }
    #[inline(always)]
    unsafe fn add_products<const ROWS: usize>(
        self,
        sums: &mut [[f32; 4]; ROWS],
        depth: usize,
        [a, b]: [Lines; 2],
    ) -> bool {
        let sums = sums.as_mut_ptr().cast();
        // SAFETY: the caller's, and there are as many rows of sums as the function takes.
        unsafe {
            match ROWS {
                4 => add_products_4(sums, depth, &a, &b),
                1 => add_products_1(sums, depth, &a, &b),
                _ => return false,
            }
        }
        true
    }
    #[inline(always)]
    unsafe fn max_strip(self, strip: &Strip, scale: f32, max: f32) -> Option<f32> {
        // SAFETY: the caller's.
        Some(unsafe { max_strip(scale, max, strip) })
    }
    #[inline(always)]
    unsafe fn exp_strip(
        self,
        strip: &Strip,
        [scale, max]: [f32; 2],
        lane: usize,
        sums: &mut [f32; LANES],
    ) -> bool {
        // SAFETY: the caller's.
        unsafe { exp_strip(scale, max, strip, sums, lane) }
        true
    }
    #[inline(always)]
    unsafe fn divide_strip(self, strip: &Strip, inverse: f32, off: f32) -> bool {
        // SAFETY: the caller's.
        unsafe { divide_strip(inverse, off, strip) }
        true
    }
    #[inline(always)]
    fn run<O: Op>(s: Scalar<Self>, op: O) -> O::Out {
        #[inline(never)]
        fn inner<O: Op>(s: Scalar<CortexM>, op: O) -> O::Out {
            op.eval(s)
        }
        inner(s, op)
    }
}

// Assembly knows nothing of the target's unit by itself: `.fpu` says what all of these cores have.
// The functions keep to the procedure call standard for the hard-float ABI: arguments in r0 to r3
// or s0 to s2, and r4 to r11 and s16 to s31 as they were.

#[unsafe(naked)]
extern "C" fn fused(c: f32, a: f32, b: f32) -> f32 {
    naked_asm!(".fpu fpv4-sp-d16", "vfma.f32 s0, s1, s2", "bx lr")
}

/// s0 becomes its exponential by the steps of [`crate::exp::exp_nonpositive`]; r12 is where the
/// constants are. Clobbers r0, s1 to s14 and the flags.
macro_rules! exp_step {
    () => {
        concat!(
            "vldmia r12, {{s1-s12}}\n",
            "vcmp.f32 s0, s1\n", // x < SMALLEST?
            "vmrs APSR_nzcv, fpscr\n",
            "vmov.f32 s13, s3\n", // t = ROUND + x log2(e)
            "vfma.f32 s13, s0, s2\n",
            "vsub.f32 s14, s13, s3\n", // n = t - ROUND
            "vfma.f32 s0, s14, s4\n",  // r = x - n ln(2), in two parts
            "vfma.f32 s0, s14, s5\n",
            "vfma.f32 s7, s6, s0\n", // C[3] + C[4] r
            "vfma.f32 s8, s7, s0\n",
            "vfma.f32 s9, s8, s0\n",
            "vfma.f32 s10, s9, s0\n",
            "vmov.f32 s1, s11\n",
            "vfma.f32 s1, s10, s0\n", // 1 + r (C[0] + ...)
            "vfma.f32 s11, s1, s0\n",
            "vmov r0, s13\n",
            "lsl r0, r0, #23\n",
            "vmov s13, r0\n",
            "vmul.f32 s0, s11, s13\n",
            "it mi\n",
            "vmovmi.f32 s0, s12",
        )
    };
}

/// The constants of `exp_step`, in its order.
static EXP: [f32; 12] = [
    exp::SMALLEST,
    core::f32::consts::LOG2_E,
    exp::ROUND,
    -exp::LN2_HIGH,
    -exp::LN2_LOW,
    exp::C[4],
    exp::C[3],
    exp::C[2],
    exp::C[1],
    exp::C[0],
    1.0,
    0.0,
];

#[unsafe(naked)]
extern "C" fn exp_nonpositive(x: f32) -> f32 {
    naked_asm!(
        ".fpu fpv4-sp-d16",
        "movw r12, #:lower16:{constants}",
        "movt r12, #:upper16:{constants}",
        exp_step!(),
        "bx lr",
        constants = sym EXP,
    )
}

/// s1 becomes the greater of itself and of scaled `x`. `vcmp` with a NaN is not `gt`.
macro_rules! max_step {
    ($x:literal) => {
        concat!(
            "vmul.f32 ",
            $x,
            ", ",
            $x,
            ", s0\n",
            "vcmp.f32 ",
            $x,
            ", s1\n",
            "vmrs APSR_nzcv, fpscr\n",
            "it gt\n",
            "vmovgt.f32 s1, ",
            $x,
        )
    };
}

/// # Safety
/// As [`Fma::max_strip`].
#[unsafe(naked)]
unsafe extern "C" fn max_strip(scale: f32, max: f32, strip: &Strip) -> f32 {
    naked_asm!(
        ".fpu fpv4-sp-d16",
        "ldr r3, [r0, #16]", // numbers left
        "ldm r0, {{r0-r1}}", // from, its stride
        "lsl r1, r1, #2",
        "cmp r1, #4",
        "bne 4f",
        // Contiguous: four at a time.
        "subs r3, #4",
        "blo 3f",
        "2:",
        "vldmia r0!, {{s4-s7}}",
        max_step!("s4"),
        max_step!("s5"),
        max_step!("s6"),
        max_step!("s7"),
        "subs r3, #4",
        "bhs 2b",
        "3:",
        "add r3, r3, #4",
        "4:",
        "cbz r3, 6f",
        "5:",
        "vldr s4, [r0]",
        "add r0, r0, r1",
        max_step!("s4"),
        "subs r3, #1",
        "bne 5b",
        "6:",
        "vmov.f32 s0, s1",
        "bx lr",
    )
}

/// # Safety
/// As [`Fma::exp_strip`].
#[unsafe(naked)]
unsafe extern "C" fn exp_strip(
    scale: f32,
    max: f32,
    strip: &Strip,
    sums: &mut [f32; LANES],
    lane: usize,
) {
    naked_asm!(
        ".fpu fpv4-sp-d16",
        "push {{r4-r9, lr}}",
        "vpush {{s16-s17}}",
        "vmov.f32 s16, s0",
        "vmov.f32 s17, s1",
        "mov r9, r1",               // the sums
        "ldm r0, {{r3-r7}}",        // from, its stride; to, its stride; numbers left
        "lsl r4, r4, #2",
        "lsl r6, r6, #2",
        "movw r12, #:lower16:{constants}",
        "movt r12, #:upper16:{constants}",
        "rsb r8, r2, #16",          // numbers up to the last of the sums
        "add r1, r9, r2, lsl #2",
        "cmp r7, #0",
        "beq 5f",
        "2:",
        "cmp r8, r7",
        "it hi",
        "movhi r8, r7",
        "sub r7, r7, r8",
        "3:",
        "vldr s0, [r3]",
        "add r3, r3, r4",
        "vmul.f32 s0, s0, s16",
        "vsub.f32 s0, s0, s17",
        exp_step!(),
        "vldr s1, [r1]",
        "vstr s0, [r5]",
        "add r5, r5, r6",
        "vadd.f32 s1, s1, s0",
        "vstmia r1!, {{s1}}",
        "subs r8, #1",
        "bne 3b",
        "mov r8, #16",
        "mov r1, r9",
        "cmp r7, #0",
        "bne 2b",
        "5:",
        "vpop {{s16-s17}}",
        "pop {{r4-r9, pc}}",
        constants = sym EXP,
    )
}

/// # Safety
/// As [`Fma::divide_strip`].
#[unsafe(naked)]
unsafe extern "C" fn divide_strip(inverse: f32, off: f32, strip: &Strip) {
    naked_asm!(
        ".fpu fpv4-sp-d16",
        "push {{r4, lr}}",
        "ldm r0, {{r0-r4}}", // from, its stride; to, its stride; numbers left
        "lsl r1, r1, #2",
        "lsl r3, r3, #2",
        "orr r12, r1, r3",
        "cmp r12, #4",
        "bne 4f",
        // Contiguous: four at a time.
        "subs r4, #4",
        "blo 3f",
        "2:",
        "vldmia r0!, {{s4-s7}}",
        "vmul.f32 s8, s4, s1",
        "vfma.f32 s8, s4, s0",
        "vmul.f32 s9, s5, s1",
        "vfma.f32 s9, s5, s0",
        "vmul.f32 s10, s6, s1",
        "vfma.f32 s10, s6, s0",
        "vmul.f32 s11, s7, s1",
        "vfma.f32 s11, s7, s0",
        "vstmia r2!, {{s8-s11}}",
        "subs r4, #4",
        "bhs 2b",
        "3:",
        "add r4, r4, #4",
        "4:",
        "cbz r4, 6f",
        "5:",
        "vldr s4, [r0]",
        "add r0, r0, r1",
        "vmul.f32 s8, s4, s1",
        "vfma.f32 s8, s4, s0",
        "vstr s8, [r2]",
        "add r2, r2, r3",
        "subs r4, #1",
        "bne 5b",
        "6:",
        "pop {{r4, pc}}",
    )
}

/// Sixteen fused multiply-adds: sums s0 to s15, A s16 to s19, B s20 to s23.
macro_rules! tile_step {
    () => {
        concat!(
            "vfma.f32 s0, s16, s20\nvfma.f32 s1, s16, s21\n",
            "vfma.f32 s2, s16, s22\nvfma.f32 s3, s16, s23\n",
            "vfma.f32 s4, s17, s20\nvfma.f32 s5, s17, s21\n",
            "vfma.f32 s6, s17, s22\nvfma.f32 s7, s17, s23\n",
            "vfma.f32 s8, s18, s20\nvfma.f32 s9, s18, s21\n",
            "vfma.f32 s10, s18, s22\nvfma.f32 s11, s18, s23\n",
            "vfma.f32 s12, s19, s20\nvfma.f32 s13, s19, s21\n",
            "vfma.f32 s14, s19, s22\nvfma.f32 s15, s19, s23",
        )
    };
}

/// r4 to r6 and r7 to r9 become A and B: address, and strides in bytes.
macro_rules! load_lines {
    () => {
        concat!(
            "ldm r2, {{r4-r6}}\nldm r3, {{r7-r9}}\n",
            "lsl r5, r5, #2\nlsl r6, r6, #2\nlsl r8, r8, #2\nlsl r9, r9, #2",
        )
    };
}

/// # Safety
/// As [`Fma::add_products`] with four rows.
#[unsafe(naked)]
unsafe extern "C" fn add_products_4(sums: *mut f32, depth: usize, a: &Lines, b: &Lines) {
    naked_asm!(
        ".fpu fpv4-sp-d16",
        "push {{r4-r9, lr}}",
        "vpush {{s16-s23}}",
        "cmp r1, #0",
        "beq 5f",
        load_lines!(),
        "vldmia r0, {{s0-s15}}",
        "cmp r6, #4",
        "it eq",
        "cmpeq r9, #4",
        "bne 3f",
        // Both operands are packed.
        "2:",
        "vldmia r4, {{s16-s19}}",
        "vldmia r7, {{s20-s23}}",
        "add r4, r4, r5",
        "add r7, r7, r8",
        tile_step!(),
        "subs r1, #1",
        "bne 2b",
        "b 4f",
        "3:",
        "vldr s16, [r4]",
        "add r2, r4, r6",
        "vldr s17, [r2]",
        "add r2, r2, r6",
        "vldr s18, [r2]",
        "add r2, r2, r6",
        "vldr s19, [r2]",
        "vldr s20, [r7]",
        "add r3, r7, r9",
        "vldr s21, [r3]",
        "add r3, r3, r9",
        "vldr s22, [r3]",
        "add r3, r3, r9",
        "vldr s23, [r3]",
        "add r4, r4, r5",
        "add r7, r7, r8",
        tile_step!(),
        "subs r1, #1",
        "bne 3b",
        "4:",
        "vstmia r0, {{s0-s15}}",
        "5:",
        "vpop {{s16-s23}}",
        "pop {{r4-r9, pc}}",
    )
}

/// # Safety
/// As [`Fma::add_products`] with one row.
#[unsafe(naked)]
unsafe extern "C" fn add_products_1(sums: *mut f32, depth: usize, a: &Lines, b: &Lines) {
    naked_asm!(
        ".fpu fpv4-sp-d16",
        "push {{r4-r9, lr}}",
        "cmp r1, #0",
        "beq 5f",
        load_lines!(),
        "vldmia r0, {{s0-s3}}",
        "cmp r9, #4",
        "bne 3f",
        "2:",
        "vldr s4, [r4]",
        "vldmia r7, {{s5-s8}}",
        "add r4, r4, r5",
        "add r7, r7, r8",
        "vfma.f32 s0, s4, s5",
        "vfma.f32 s1, s4, s6",
        "vfma.f32 s2, s4, s7",
        "vfma.f32 s3, s4, s8",
        "subs r1, #1",
        "bne 2b",
        "b 4f",
        "3:",
        "vldr s4, [r4]",
        "vldr s5, [r7]",
        "add r3, r7, r9",
        "vldr s6, [r3]",
        "add r3, r3, r9",
        "vldr s7, [r3]",
        "add r3, r3, r9",
        "vldr s8, [r3]",
        "add r4, r4, r5",
        "add r7, r7, r8",
        "vfma.f32 s0, s4, s5",
        "vfma.f32 s1, s4, s6",
        "vfma.f32 s2, s4, s7",
        "vfma.f32 s3, s4, s8",
        "subs r1, #1",
        "bne 3b",
        "4:",
        "vstmia r0, {{s0-s3}}",
        "5:",
        "pop {{r4-r9, pc}}",
    )
}
