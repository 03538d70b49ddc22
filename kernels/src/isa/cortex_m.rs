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
use crate::simd::Op;

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

/// The steps of [`crate::exp::exp_nonpositive`], its constants in registers.
#[unsafe(naked)]
extern "C" fn exp_nonpositive(x: f32) -> f32 {
    naked_asm!(
        ".fpu fpv4-sp-d16",
        "adr r0, 2f",
        "vldmia r0, {{s1-s12}}",
        "vcmp.f32 s0, s1",          // x < SMALLEST?
        "vmrs APSR_nzcv, fpscr",
        "vmov.f32 s13, s3",         // t = ROUND + x log2(e)
        "vfma.f32 s13, s0, s2",
        "vsub.f32 s14, s13, s3",    // n = t - ROUND
        "vfma.f32 s0, s14, s4",     // r = x - n ln(2), in two parts
        "vfma.f32 s0, s14, s5",
        "vfma.f32 s7, s6, s0",      // C[3] + C[4] r
        "vfma.f32 s8, s7, s0",
        "vfma.f32 s9, s8, s0",
        "vfma.f32 s10, s9, s0",
        "vmov.f32 s1, s11",
        "vfma.f32 s1, s10, s0",     // 1 + r (C[0] + ...)
        "vfma.f32 s11, s1, s0",
        "vmov r0, s13",
        "lsl r0, r0, #23",
        "vmov s13, r0",
        "vmul.f32 s0, s11, s13",
        "it mi",
        "vmovmi.f32 s0, s12",
        "bx lr",
        ".p2align 2",
        "2:",
        ".word {smallest}",
        ".word {log2e}",
        ".word {round}",
        ".word {ln2_high}",
        ".word {ln2_low}",
        ".word {c4}",
        ".word {c3}",
        ".word {c2}",
        ".word {c1}",
        ".word {c0}",
        ".word {one}",
        ".word 0",
        smallest = const exp::SMALLEST.to_bits(),
        log2e = const core::f32::consts::LOG2_E.to_bits(),
        round = const exp::ROUND.to_bits(),
        ln2_high = const (-exp::LN2_HIGH).to_bits(),
        ln2_low = const (-exp::LN2_LOW).to_bits(),
        c4 = const exp::C[4].to_bits(),
        c3 = const exp::C[3].to_bits(),
        c2 = const exp::C[2].to_bits(),
        c1 = const exp::C[1].to_bits(),
        c0 = const exp::C[0].to_bits(),
        one = const 1f32.to_bits(),
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
