//! The floating-point control register (MXCSR, FPCR) is the host's: no operation changes it, whatever
//! it holds. With flush-to-zero the instruction sets still agree, but for the sign of a zero: one that
//! copies an operand, multiplied by 1, may flush it earlier than another. In other rounding modes they
//! need not agree: the compiler takes rounding to nearest for granted, and moves signs by it.
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

mod common;
#[path = "common/operations.rs"]
mod operations;

use common::{assert_same_bits, same_bits};
use masktile::Isa;
use operations::{COPIES, Inputs, OPERATIONS};

/// A name and the control bits.
type Mode = (&'static str, u64);

#[cfg(target_arch = "x86_64")]
mod control {
    /// Flags that arithmetic raises; the rest is control.
    const FLAGS: u32 = 0x3f;
    const FLUSH: u64 = 1 << 15 | 1 << 6;
    pub const MODES: [super::Mode; 6] = [
        ("default", 0),
        ("flush to zero", 1 << 15),
        ("flush to zero, subnormal operands are zero", FLUSH),
        ("round down", 1 << 13),
        ("round up", 2 << 13),
        ("round toward zero, flush to zero", 3 << 13 | FLUSH),
    ];
    /// All exceptions masked, as at the start of a process.
    const START: u32 = 0x1f80;

    pub fn read() -> u64 {
        let mut word = 0u32;
        // SAFETY: stores MXCSR to `word`.
        unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &mut word, options(nostack)) };
        u64::from(word & !FLAGS & !START)
    }

    pub fn write(mode: u64) {
        let word = START | mode as u32;
        // SAFETY: loads MXCSR with bits that exist.
        unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &word, options(nostack)) };
    }
}

#[cfg(target_arch = "aarch64")]
mod control {
    const FLUSH: u64 = 1 << 24;
    pub const MODES: [super::Mode; 5] = [
        ("default", 0),
        ("flush to zero", FLUSH),
        ("round up", 1 << 22),
        ("round down", 2 << 22),
        ("round toward zero, flush to zero", 3 << 22 | FLUSH),
    ];

    pub fn read() -> u64 {
        let word: u64;
        // SAFETY: reads FPCR.
        unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) word, options(nostack)) };
        word
    }

    pub fn write(mode: u64) {
        // SAFETY: writes bits to FPCR that exist.
        unsafe { std::arch::asm!("msr fpcr, {}", in(reg) mode, options(nostack)) };
    }
}

/// Runs `f` with the control bits `mode` and gives what they are then.
fn within<T>(mode: u64, f: impl FnOnce() -> T) -> (T, u64) {
    let before = control::read();
    control::write(mode);
    let result = f();
    let after = control::read();
    control::write(before);
    (result, after)
}

/// Normal numbers, numbers whose products are subnormal, and subnormal numbers.
const SCALES: [f32; 3] = [1.0, 1e-20, 1e-41];

#[test]
fn the_control_register_stays_and_instruction_sets_agree() {
    let mut cases = 0;
    for scale in SCALES {
        let inputs = Inputs::new(scale);
        for (mode, bits) in control::MODES {
            for (name, run) in OPERATIONS.into_iter().chain(COPIES) {
                let mut wanted = Vec::new();
                for isa in Isa::available() {
                    let (mut given, after) = within(bits, || run(&inputs, isa));
                    if bits != 0 {
                        given.iter_mut().for_each(|x| *x += 0.0);
                    }
                    let case = format!("{name}, {isa}, {mode}, numbers of {scale:e}");
                    assert_eq!(after, bits, "{case}: the control register changed");
                    cases += 1;
                    if mode.starts_with("round") {
                        continue;
                    }
                    if isa == Isa::SCALAR {
                        wanted = given;
                    } else if !same_bits(&given, &wanted) {
                        assert_same_bits(&given, &wanted, case);
                    }
                }
            }
        }
    }
    println!("cases: {cases} operations with control bits set");
}

/// Where nothing on the way is subnormal, flush-to-zero changes no bit; where a result is
/// subnormal, it becomes a zero.
#[test]
fn flush_to_zero_flushes_and_changes_nothing_else() {
    let flush = control::MODES[1].1;
    let mut flushed = 0;
    for (scale, is_flushed) in [(1.0, false), (1e-20, true)] {
        let inputs = Inputs::new(scale);
        let (name, product) = OPERATIONS[0];
        for isa in Isa::available() {
            let plain = product(&inputs, isa);
            let (given, _) = within(flush, || product(&inputs, isa));
            if is_flushed {
                assert!(plain.iter().any(|x| x.is_subnormal()), "the case needs subnormal results");
                assert!(!given.iter().any(|x| x.is_subnormal()), "{name}, {isa}");
                flushed += given.iter().filter(|x| **x == 0.0).count();
            } else {
                assert_same_bits(&given, &plain, format_args!("{name}, {isa}"));
            }
        }
    }
    assert!(flushed > 0);
}
