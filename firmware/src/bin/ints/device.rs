//! The report: for each step whether its result is the expected one, what it took, and how much
//! stack.

use core::panic::PanicInfo;

use cortex_m::Peripherals;
use cortex_m_rt::entry;
use cortex_m_semihosting::debug::{self, EXIT_FAILURE, EXIT_SUCCESS};
use masktile_firmware::ints::{IntStep, Memory};

use crate::gauge::Gauge;
use crate::report::Line;

#[entry]
fn main() -> ! {
    static mut MEMORY: Memory = Memory::NEW;
    let Some(peripherals) = Peripherals::take() else { fail() };
    let gauge = Gauge::new(peripherals.SYST);
    let mut all_equal = true;
    for (step, expected) in IntStep::ALL {
        let (result, cost) = gauge.measure(|| step.run(MEMORY));
        let equal = result == Ok(expected);
        all_equal &= equal;
        let bits = if equal { "equal" } else { "differ" };
        Line::new(step.name()).word("bits", bits).cost(&cost, Some(step.work())).print();
    }
    debug::exit(if all_equal { EXIT_SUCCESS } else { EXIT_FAILURE });
    fail()
}

fn fail() -> ! {
    debug::exit(EXIT_FAILURE);
    loop {
        cortex_m::asm::bkpt();
    }
}

/// Nothing panics, so this is not linked.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    fail()
}
