//! The steps and some products for `ci/wasm.mjs`, which calls what is exported here.
#![no_std]

use masktile::{MatMut, MatRef, Matmul, isa, matmul};
use masktile_firmware::{EXPECTED, LAYER, Layer, Memory, Step};

const SIDE: usize = 96;

/// Whether vectors are there, and in use from now on; else scalar code is.
#[unsafe(no_mangle)]
extern "C" fn use_vectors(wanted: bool) -> bool {
    let name = if wanted { "wasm128" } else { "scalar" };
    let found = isa::named(name);
    isa::force(found.ok());
    found.is_ok()
}

/// A bit for each step, set where its bits are those expected.
#[unsafe(no_mangle)]
extern "C" fn steps() -> u32 {
    let (mut memory, mut out, mut equal) = (Memory::NEW, [0.0; Step::LONGEST], 0);
    let mut rest = &EXPECTED[..];
    for (i, step) in Step::ALL.into_iter().enumerate() {
        let (expected, behind) = rest.split_at(step.len());
        rest = behind;
        let done = step.run(&Layer::new(&LAYER), &mut out, &mut memory).is_ok();
        let same = out.iter().zip(expected).all(|(x, y)| x.to_bits() == y.to_bits());
        equal |= u32::from(done && same) << i;
    }
    equal
}

/// How many steps there are.
#[unsafe(no_mangle)]
extern "C" fn step_count() -> usize {
    Step::ALL.len()
}

/// A digest of the bits of products of every size up to `sides`: not 0.
#[unsafe(no_mangle)]
extern "C" fn products(sides: usize) -> u32 {
    let mut digest = 0x811c_9dc5u32;
    for side in 1..=sides.min(SIDE) {
        for x in &product(side)[..side * side] {
            digest = (digest ^ x.to_bits()).wrapping_mul(0x0100_0193);
        }
    }
    digest.max(1)
}

/// One product of the greatest size, to be timed.
#[unsafe(no_mangle)]
extern "C" fn largest_product() -> f32 {
    product(SIDE)[0]
}

fn product(side: usize) -> [f32; SIDE * SIDE] {
    let a: [f32; SIDE * SIDE] = core::array::from_fn(|i| LAYER[i % LAYER.len()]);
    let mut c = [0.0; SIDE * SIDE];
    let mut workspace = [0.0; matmul::workspace_len(SIDE, SIDE, SIDE)];
    let shape = [side, side];
    let (Ok(a), Ok(mut view)) = (MatRef::new(&a, shape), MatMut::new(&mut c, shape)) else {
        return c;
    };
    // A failure leaves zeros, which no other product gives.
    let _ = Matmul::new(a, a.transposed()).run(&mut view, &mut workspace);
    c
}

#[cfg(target_family = "wasm")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    core::arch::wasm32::unreachable()
}
