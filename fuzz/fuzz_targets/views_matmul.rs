//! Products of any views: none panics, errors leave C alone, every instruction set has scalar's bits.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use masktile::{MatMut, MatRef, Matmul, Workspace};
use masktile_fuzz::on_every_isa;

#[derive(Arbitrary, Debug)]
struct Case {
    shapes: [[u8; 2]; 3],
    strides: [[u16; 2]; 3],
    alpha: f32,
    beta: f32,
    numbers: Vec<f32>,
}

fuzz_target!(|case: Case| {
    let shape = |i: usize| case.shapes[i].map(usize::from);
    let strides = |i: usize| case.strides[i].map(usize::from);
    let view = |i| MatRef::with_strides(&case.numbers, shape(i), strides(i));
    let (Ok(a), Ok(b)) = (view(0), view(1)) else { return };
    on_every_isa(4096, |isa, memory| {
        let mut c = MatMut::with_strides(memory, shape(2), strides(2))?;
        let matmul = Matmul::new(a, b).alpha(case.alpha).beta(case.beta).isa(isa);
        matmul.run(&mut c, &mut Workspace::new())
    });
});
