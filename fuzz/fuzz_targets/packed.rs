//! Packed weights: what was packed gives the bits of what was not, and memory that holds anything
//! is refused or read inside its bounds.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use masktile::{MatMut, MatRef, Matmul, PackedB, Workspace};
use masktile_fuzz::common::same_bits;
use masktile_fuzz::{Floats, Lie, on_every_isa};

#[derive(Arbitrary, Debug)]
struct Case {
    sizes: [u8; 3],
    lie: Lie,
    numbers: Floats,
    /// Words of the header that are changed after packing, and what they become.
    changes: Vec<(u8, u32)>,
    /// Numbers that are cut off.
    cut: u16,
}

fuzz_target!(|case: Case| {
    let [m, n, k] = case.sizes.map(usize::from);
    let [m, n, k] = [m % 40, n % 100, k % 70];
    let (a, b) = (case.numbers.many(m * k), case.numbers.many(case.lie.extent([k, n])));
    let a = MatRef::new(&a, [m, k]).unwrap();
    let b = MatRef::with_strides(&b, [k, n], case.lie.strides([k, n])).unwrap();
    let plain = on_every_isa(m * n, |isa, memory| {
        let mut c = MatMut::new(memory, [m, n]).unwrap();
        Matmul::new(a, b).isa(isa).run(&mut c, &mut Workspace::new())
    });
    let packed = on_every_isa(m * n, |isa, memory| {
        let mut panels = vec![f32::NAN; PackedB::len(k, n)];
        let packed = PackedB::pack_for(isa, b, &mut panels)?;
        let mut c = MatMut::new(memory, [m, n]).unwrap();
        Matmul::packed(a, packed).isa(isa).run(&mut c, &mut Workspace::new())
    });
    assert!(same_bits(&plain.unwrap(), &packed.unwrap()));

    for isa in masktile::Isa::available() {
        let mut panels = vec![0.0; PackedB::len(k, n)];
        PackedB::pack_for(isa, b, &mut panels).unwrap();
        for (place, word) in &case.changes {
            panels[usize::from(place % 8)] = f32::from_bits(*word);
        }
        panels.truncate(panels.len() - usize::from(case.cut) % panels.len());
        // To its very length, so that a read behind it shows.
        let panels = panels.into_boxed_slice();
        let Ok(packed) = PackedB::from_memory(&panels) else { continue };
        let [k, n] = packed.shape();
        assert!(PackedB::len(k, n) <= panels.len());
        // A shape may say anything where the matrix has no elements.
        if k * n > 0 {
            let a = case.numbers.many(3 * k);
            let mut c = vec![0.0; 3 * n];
            let mut view = MatMut::new(&mut c, [3, n]).unwrap();
            let a = MatRef::new(&a, [3, k]).unwrap();
            let _ = Matmul::packed(a, packed).isa(isa).run(&mut view, &mut Workspace::new());
        }
    }
});
