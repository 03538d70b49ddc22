//! Products of bytes with NEON, and with the dot products of Armv8.2 beside it.

use core::arch::aarch64::*;

use super::Neon;
use crate::isa::int8::{Int8, Int8Op, Left};

/// # Safety
/// [`Int8::store`]'s.
#[inline(always)]
unsafe fn store(p: *mut i32, sums: [int32x4_t; 4], add: bool) {
    // SAFETY: the caller's.
    unsafe {
        let place = |i: usize| p.wrapping_add(4 * i);
        let total = |i: usize| {
            if add { vaddq_s32(sums[i], vld1q_s32(place(i))) } else { sums[i] }
        };
        vst1q_s32(place(0), total(0));
        vst1q_s32(place(1), total(1));
        vst1q_s32(place(2), total(2));
        vst1q_s32(place(3), total(3));
    }
}

/// # Safety
/// 64 bytes at `p` are valid for reading.
#[inline(always)]
unsafe fn load(p: *const u32) -> [int8x16_t; 4] {
    let p: *const i8 = p.cast();
    // SAFETY: the caller's.
    unsafe { [vld1q_s8(p), vld1q_s8(p.add(16)), vld1q_s8(p.add(32)), vld1q_s8(p.add(48))] }
}

// SAFETY of the blocks without a comment of their own, here and below: the token proves the
// instruction exists, and arithmetic on registers has no other precondition.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Int8 for Neon {
    type Base = Neon;
    type Group = [u8; 4];
    type Row = int8x8_t;
    type Columns = [int8x16_t; 4];
    /// Two of each column, to be added.
    type Sums = [int32x4_t; 8];
    const LEFT: Left = Left::Signed;
    // 16 sums, 4 registers of columns, 1 of a row, 2 of products.
    const MR: usize = 2;
    const NV: usize = 1;

    #[inline(always)]
    fn base(self) -> Neon {
        self
    }
    #[inline(always)]
    fn group(self, bytes: [u8; 4], _: i16) -> [u8; 4] {
        bytes
    }
    #[inline(always)]
    fn row(self, group: [u8; 4]) -> int8x8_t {
        unsafe { vreinterpret_s8_u32(vdup_n_u32(u32::from_le_bytes(group))) }
    }
    #[inline(always)]
    unsafe fn columns(self, p: *const u32) -> Self::Columns {
        // SAFETY: the caller's.
        unsafe { load(p) }
    }
    #[inline(always)]
    fn zero(self) -> Self::Sums {
        unsafe { [vdupq_n_s32(0); 8] }
    }
    #[inline(always)]
    fn dot(self, sums: Self::Sums, row: int8x8_t, columns: Self::Columns) -> Self::Sums {
        // Products of 16 bits, at most 2^14; two of them are added where there are 32.
        let low = |sum: int32x4_t, bytes: int8x16_t| unsafe {
            vpadalq_s16(sum, vmull_s8(vget_low_s8(bytes), row))
        };
        let high = |sum: int32x4_t, bytes: int8x16_t| unsafe {
            vpadalq_s16(sum, vmull_s8(vget_high_s8(bytes), row))
        };
        let [a, b, c, d] = columns;
        [
            low(sums[0], a),
            high(sums[1], a),
            low(sums[2], b),
            high(sums[3], b),
            low(sums[4], c),
            high(sums[5], c),
            low(sums[6], d),
            high(sums[7], d),
        ]
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut i32, sums: Self::Sums, add: bool) {
        // SAFETY: the caller's.
        unsafe {
            let sums = [
                vpaddq_s32(sums[0], sums[1]),
                vpaddq_s32(sums[2], sums[3]),
                vpaddq_s32(sums[4], sums[5]),
                vpaddq_s32(sums[6], sums[7]),
            ];
            store(p, sums, add);
        }
    }

    #[inline(always)]
    fn run<O: Int8Op>(self, op: O) -> O::Out {
        #[inline(never)]
        fn inner<O: Int8Op>(s: Neon, op: O) -> O::Out {
            op.eval(s)
        }
        inner(self, op)
    }
}

/// The token of the dot products beside NEON.
#[derive(Clone, Copy)]
pub(in crate::isa) struct Dotprod(Neon);

impl Dotprod {
    /// # Safety
    /// The machine has them.
    pub(in crate::isa) unsafe fn assume() -> Self {
        Dotprod(Neon::new())
    }
}

/// Adds the products of four bytes to each sum. (The intrinsic is not stable yet.)
///
/// # Safety
/// The machine has dot products.
#[inline]
#[target_feature(enable = "dotprod")]
unsafe fn sdot(mut sums: int32x4_t, row: int8x16_t, columns: int8x16_t) -> int32x4_t {
    // SAFETY: arithmetic on registers.
    unsafe {
        core::arch::asm!("sdot {sums:v}.4s, {row:v}.16b, {columns:v}.16b",
            sums = inout(vreg) sums, row = in(vreg) row, columns = in(vreg) columns,
            options(pure, nomem, nostack, preserves_flags));
    }
    sums
}

#[allow(clippy::undocumented_unsafe_blocks)]
impl Int8 for Dotprod {
    type Base = Neon;
    type Group = [u8; 4];
    type Row = int8x16_t;
    type Columns = [int8x16_t; 4];
    type Sums = [int32x4_t; 4];
    const LEFT: Left = Left::Signed;
    // 24 sums, 4 registers of columns, 1 of a row.
    const MR: usize = 6;
    const NV: usize = 1;

    #[inline(always)]
    fn base(self) -> Neon {
        self.0
    }
    #[inline(always)]
    fn group(self, bytes: [u8; 4], _: i16) -> [u8; 4] {
        bytes
    }
    #[inline(always)]
    fn row(self, group: [u8; 4]) -> int8x16_t {
        unsafe { vreinterpretq_s8_u32(vdupq_n_u32(u32::from_le_bytes(group))) }
    }
    #[inline(always)]
    unsafe fn columns(self, p: *const u32) -> Self::Columns {
        // SAFETY: the caller's.
        unsafe { load(p) }
    }
    #[inline(always)]
    fn zero(self) -> Self::Sums {
        unsafe { [vdupq_n_s32(0); 4] }
    }
    #[inline(always)]
    fn dot(self, sums: Self::Sums, row: int8x16_t, columns: Self::Columns) -> Self::Sums {
        unsafe {
            [
                sdot(sums[0], row, columns[0]),
                sdot(sums[1], row, columns[1]),
                sdot(sums[2], row, columns[2]),
                sdot(sums[3], row, columns[3]),
            ]
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut i32, sums: Self::Sums, add: bool) {
        // SAFETY: the caller's.
        unsafe { store(p, sums, add) }
    }

    #[inline(always)]
    fn run<O: Int8Op>(self, op: O) -> O::Out {
        #[inline(never)]
        #[target_feature(enable = "dotprod")]
        fn inner<O: Int8Op>(s: Dotprod, op: O) -> O::Out {
            op.eval(s)
        }
        // SAFETY: holding the token proves the feature.
        unsafe { inner(self, op) }
    }
}

/// Whether the machine has dot products: where the target was compiled with them, or the standard
/// library finds them.
pub(in crate::isa) fn has_dotprod() -> bool {
    #[cfg(feature = "std")]
    return std::arch::is_aarch64_feature_detected!("dotprod");
    #[cfg(not(feature = "std"))]
    cfg!(target_feature = "dotprod")
}
