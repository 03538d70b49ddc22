//! Instructions and stack of a piece of code.
//!
//! QEMU counts instructions (`-icount shift=0`: one a nanosecond of its time), and SysTick shows
//! that time. How many instructions a tick is, the board's clock decides: a loop of known length
//! tells. On a real core the figures are cycles.

use core::arch::asm;

use cortex_m::peripheral::{SYST, syst::SystClkSource};
use cortex_m::register::msp;

/// Bytes of stack that are looked at.
const PAINTED: usize = 3 * 1024;
const PAINT: u32 = 0xa5a5_5a5a;

/// What something took.
pub struct Cost {
    pub instructions: u32,
    /// Bytes.
    pub stack: u32,
}

pub struct Gauge {
    /// Instructions of 1024 ticks.
    rate: u64,
}

impl Gauge {
    pub fn new(mut timer: SYST) -> Self {
        timer.set_clock_source(SystClkSource::Core);
        timer.set_reload(0x00ff_ffff);
        timer.clear_current();
        timer.enable_counter();
        let turns = 200_000;
        let start = SYST::get_current();
        // SAFETY: changes the one register that it names.
        unsafe { asm!("2:", "subs {0}, #1", "bne 2b", inout(reg) turns => _) }
        let ticks = ticks_since(start).max(1);
        Gauge { rate: (2 * 200_000 * 1024) / u64::from(ticks) }
    }

    #[inline(never)]
    pub fn measure<R>(&self, f: impl FnOnce() -> R) -> (R, Cost) {
        let top = msp::read() as usize - 64;
        let bottom = (top - PAINTED) as *mut u32;
        let words = PAINTED / 4;
        for i in 0..words {
            // SAFETY: below the stack pointer, by more than this loop uses, lies nobody's memory.
            unsafe { bottom.add(i).write_volatile(PAINT) }
        }
        let start = SYST::get_current();
        let result = f();
        let ticks = ticks_since(start);
        let mut untouched = 0;
        // SAFETY: as above; now it is only read.
        while untouched < words && unsafe { bottom.add(untouched).read_volatile() } == PAINT {
            untouched += 1;
        }
        let instructions = (u64::from(ticks) * self.rate / 1024) as u32;
        (result, Cost { instructions, stack: (4 * (words - untouched)) as u32 + 64 })
    }
}

/// The counter runs down, 24 bits wide.
fn ticks_since(start: u32) -> u32 {
    start.wrapping_sub(SYST::get_current()) & 0x00ff_ffff
}
