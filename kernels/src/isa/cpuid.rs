//! What an x86-64 processor has and its operating system saves, without `std`.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, 14.3 and 15.2:
//! CPUID says what the processor has, XCR0 (read by XGETBV, itself only where OSXSAVE is set)
//! which registers survive a switch of context. Both must agree before an instruction is used.

use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use core::sync::atomic::{AtomicU8, Ordering};

/// Instruction sets of this crate that may be executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Features {
    /// Scalar FMA with the YMM state saved (the VEX encoding needs it).
    pub(super) fma: bool,
    /// AVX2, FMA and F16C.
    pub(super) avx2: bool,
    /// AVX-512 F, BW, DQ and VL, and all of `avx2`.
    pub(super) avx512: bool,
    /// Dot products of bytes in YMM registers, by the VEX encoding, beside `avx2`.
    pub(super) avx_vnni: bool,
    /// The same in ZMM registers, beside `avx512`.
    pub(super) avx512_vnni: bool,
}

const FMA: u8 = 1;
const AVX2: u8 = 2;
const AVX512: u8 = 4;
const AVX_VNNI: u8 = 8;
const AVX512_VNNI: u8 = 16;
const KNOWN: u8 = 128;

/// The answer, kept after the first call. Two threads that ask at once find the same.
pub(super) fn features() -> Features {
    static CACHE: AtomicU8 = AtomicU8::new(0);
    let mut word = CACHE.load(Ordering::Relaxed);
    if word & KNOWN == 0 {
        word = KNOWN | detect();
        CACHE.store(word, Ordering::Relaxed);
    }
    Features {
        fma: word & FMA != 0,
        avx2: word & AVX2 != 0,
        avx512: word & AVX512 != 0,
        avx_vnni: word & AVX_VNNI != 0,
        avx512_vnni: word & AVX512_VNNI != 0,
    }
}

// `__cpuid` became safe after the oldest supported compiler.
#[allow(unused_unsafe)]
fn detect() -> u8 {
    let has = |register: u32, bits: &[u32]| bits.iter().all(|bit| register >> bit & 1 == 1);

    // SAFETY: every x86-64 processor has CPUID; each leaf is asked only below the greatest.
    let greatest = unsafe { __cpuid(0) }.eax;
    if greatest < 7 {
        return 0;
    }
    // SAFETY: as above.
    let (leaf1, leaf7) = unsafe { (__cpuid(1), __cpuid_count(7, 0)) };
    let (osxsave, avx, fma, f16c) = (27, 28, 12, 29);
    if !has(leaf1.ecx, &[osxsave, avx]) {
        return 0;
    }
    // SAFETY: OSXSAVE is set, so XGETBV may be executed.
    let xcr0 = unsafe { read_xcr0() };
    let (xmm, ymm, opmask, zmm_low, zmm_high) = (1, 2, 5, 6, 7);
    if !has(xcr0, &[xmm, ymm]) {
        return 0;
    }

    let mut word = 0;
    if has(leaf1.ecx, &[fma]) {
        word |= FMA;
    }
    let avx2 = 5;
    if has(leaf1.ecx, &[fma, f16c]) && has(leaf7.ebx, &[avx2]) {
        word |= AVX2;
        // SAFETY: leaf 7 exists, and its field eax says which of its parts.
        let leaf7_1 = if leaf7.eax >= 1 { unsafe { __cpuid_count(7, 1) }.eax } else { 0 };
        let avx_vnni = 4;
        if has(leaf7_1, &[avx_vnni]) {
            word |= AVX_VNNI;
        }
        let (f, dq, bw, vl) = (16, 17, 30, 31);
        if has(leaf7.ebx, &[f, dq, bw, vl]) && has(xcr0, &[opmask, zmm_low, zmm_high]) {
            word |= AVX512;
            let avx512_vnni = 11;
            if has(leaf7.ecx, &[avx512_vnni]) {
                word |= AVX512_VNNI;
            }
        }
    }
    word
}

/// Bytes of the first (data) and second level of cache; 0 where the processor does not say.
///
/// Leaf 4 of Intel's manual, and AMD's leaf 0x8000001d, which counts alike (AMD64 Architecture
/// Programmer's Manual, volume 3, appendix E).
#[allow(unused_unsafe)]
pub(super) fn cache_sizes() -> [usize; 2] {
    // SAFETY: every x86-64 processor has CPUID; each leaf is asked only below the greatest.
    let greatest = unsafe { [__cpuid(0).eax, __cpuid(0x8000_0000).eax] };
    let mut sizes = [0; 2];
    for (leaf, greatest) in [4, 0x8000_001d].into_iter().zip(greatest) {
        for index in 0..8 {
            if leaf > greatest {
                break;
            }
            // SAFETY: the leaf is not above the greatest.
            let cache = unsafe { __cpuid_count(leaf, index) };
            let field =
                |bits: u32, shift: u32, width: u32| (bits >> shift & ((1 << width) - 1)) as usize;
            let bytes = (field(cache.ebx, 22, 10) + 1)
                * (field(cache.ebx, 12, 10) + 1)
                * (field(cache.ebx, 0, 12) + 1)
                * (cache.ecx as usize + 1);
            // Kind 1 is for data, 3 for data and instructions, 0 the end of the list.
            match (field(cache.eax, 5, 3), field(cache.eax, 0, 5)) {
                (_, 0) => break,
                (1, 1 | 3) => sizes[0] = bytes,
                (2, 1 | 3) => sizes[1] = bytes,
                _ => {}
            }
        }
        if sizes[0] != 0 {
            break;
        }
    }
    sizes
}

/// The low half of XCR0.
///
/// # Safety
/// OSXSAVE is set.
#[target_feature(enable = "xsave")]
unsafe fn read_xcr0() -> u32 {
    // SAFETY: the caller has checked OSXSAVE.
    unsafe { _xgetbv(0) as u32 }
}
