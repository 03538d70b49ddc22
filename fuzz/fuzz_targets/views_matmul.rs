//! Products of any views: none panics, errors leave C alone, every instruction set has scalar's bits.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use masktile::{Isa, MatMut, MatRef, Matmul, Workspace};

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
    let run = |isa| {
        let mut memory = vec![7.0; 4096];
        let mut c = MatMut::with_strides(&mut memory, shape(2), strides(2)).ok()?;
        let matmul = Matmul::new(a, b).alpha(case.alpha).beta(case.beta).isa(isa);
        if matmul.run(&mut c, &mut Workspace::new()).is_err() {
            assert!(memory.iter().all(|x| *x == 7.0));
        }
        Some(memory)
    };
    let Some(scalar) = run(Isa::SCALAR) else { return };
    for isa in Isa::available() {
        let same = |(x, y): (&f32, &f32)| x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan());
        assert!(run(isa).unwrap_or_default().iter().zip(&scalar).all(same), "{isa}");
    }
});
