//! Structs of garbage through the C ABI: no crash, no panic caught, and an error touches nothing.
#![no_main]

pub use capi as c;

use libfuzzer_sys::fuzz_target;

#[path = "../../capi/tests/common/garbage/mod.rs"]
mod garbage;

fuzz_target!(|choices: &[u8]| {
    garbage::Garbage::new(choices).call();
});
