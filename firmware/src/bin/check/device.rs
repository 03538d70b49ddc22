//! The report: for each step whether its bits are those expected, what it took, and how much stack.

use core::panic::PanicInfo;

use cortex_m::Peripherals;
use cortex_m_rt::entry;
use cortex_m_semihosting::debug::{self, EXIT_FAILURE, EXIT_SUCCESS};
use masktile::{
    BoolMask, Causal, Mask, MatMut, MatRef, Matmul, Result, Softmax, TensorRef, matmul,
};
use masktile_firmware::{EXPECTED, LAYER, Layer, Memory, Step};

use crate::gauge::Gauge;
use crate::report::Line;

/// Sides of the product and of the scores that are only measured.
#[cfg(not(small_ram))]
const SIDE: usize = 64;
#[cfg(small_ram)]
const SIDE: usize = 8;

/// What the measured product and softmax work on.
struct Square {
    a: [f32; SIDE * SIDE],
    b: [f32; SIDE * SIDE],
    c: [f32; SIDE * SIDE],
    workspace: [f32; matmul::workspace_len(SIDE, SIDE, SIDE)],
    mask: [u8; SIDE],
}

#[entry]
fn main() -> ! {
    static mut MEMORY: Memory = Memory::NEW;
    static mut OUT: [f32; Step::LONGEST] = [0.0; Step::LONGEST];
    static mut SQUARE: Square = Square {
        a: [0.0; SIDE * SIDE],
        b: [0.0; SIDE * SIDE],
        c: [0.0; SIDE * SIDE],
        workspace: [0.0; matmul::workspace_len(SIDE, SIDE, SIDE)],
        mask: [0; SIDE],
    };
    let Some(peripherals) = Peripherals::take() else { fail() };
    let gauge = Gauge::new(peripherals.SYST);

    let layer = Layer::new(&LAYER);
    let mut rest = &EXPECTED[..];
    let mut all_equal = true;
    for step in Step::ALL {
        let (result, cost) = gauge.measure(|| step.run(&layer, OUT, MEMORY));
        let (expected, behind) = rest.split_at_checked(step.len()).unwrap_or((&[], &[]));
        rest = behind;
        let same = |(x, y): (&f32, &f32)| x.to_bits() == y.to_bits();
        let equal = result.is_ok() && !expected.is_empty() && OUT.iter().zip(expected).all(same);
        all_equal &= equal;
        let bits = if equal { "equal" } else { "differ" };
        Line::new(step.name()).word("bits", bits).cost(&cost, None).print();
    }

    for (place, number) in SQUARE.a.iter_mut().zip(LAYER.iter().cycle()) {
        *place = *number;
    }
    SQUARE.b = SQUARE.a;
    SQUARE.mask[SIDE - 4..].fill(1);
    let kept = SIDE * (SIDE - 4);
    let (product, cost) = gauge.measure(|| square_product(SQUARE));
    Line::new("product").cost(&cost, Some(SIDE * SIDE * SIDE)).print();
    let (padded, cost) = gauge.measure(|| square_softmax(SQUARE, Mask::KeyLengths(&[SIDE - 4])));
    Line::new("padded-softmax").cost(&cost, Some(kept)).print();
    let (causal, cost) = gauge.measure(|| square_softmax(SQUARE, Causal::top_left().into()));
    Line::new("causal-softmax").cost(&cost, Some(SIDE * (SIDE + 1) / 2)).print();
    let mask = SQUARE.mask;
    let (bool_masked, cost) = gauge.measure(|| {
        let ones = TensorRef::new(&mask, [1, 1, 1, SIDE])?.broadcast([1, 1, SIDE, SIDE])?;
        square_softmax(SQUARE, BoolMask::ones_are_masked(ones).into())
    });
    Line::new("bool-softmax").cost(&cost, Some(kept)).print();

    all_equal &= product.and(padded).and(causal).and(bool_masked).is_ok();
    #[cfg(feature = "plant-panic")]
    plant_panic();
    debug::exit(if all_equal { EXIT_SUCCESS } else { EXIT_FAILURE });
    fail()
}

fn square_product(s: &mut Square) -> Result<()> {
    let shape = [SIDE, SIDE];
    Matmul::new(MatRef::new(&s.a, shape)?, MatRef::new(&s.b, shape)?)
        .run(&mut MatMut::new(&mut s.c, shape)?, &mut s.workspace)
}

fn square_softmax(s: &mut Square, mask: Mask<'_>) -> Result<()> {
    let shape = [SIDE, SIDE];
    Softmax::new().mask(mask).run(MatRef::new(&s.a, shape)?, MatMut::new(&mut s.c, shape)?)
}

/// What `ci/embedded.sh` must find.
#[cfg(feature = "plant-panic")]
fn plant_panic() {
    let index = cortex_m::register::msp::read() as usize;
    Line::new(["a", "b"][index]).print();
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
