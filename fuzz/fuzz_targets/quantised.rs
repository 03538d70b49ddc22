//! Quantised weights of any bytes: products have the bits of those with the dequantised weight, on
//! every instruction set and in parts; what does not fit is an error.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use masktile::matmul::workspace_len;
use masktile::quantised::{Group, Q4_0, Q4Groups, Q8_0, Quantised};
use masktile::{MatMut, MatRef, Matmul, Result, Workspace, f16};
use masktile_fuzz::common::{Numbers, same_bits};
use masktile_fuzz::{Floats, Lie, on_every_isa};

#[derive(Arbitrary, Debug)]
struct Case {
    m: u8,
    rows: u8,
    columns: u16,
    format: u8,
    numbers: Floats,
    /// What the weight's memory repeats, and of it what is missing.
    bytes: [u8; 8],
    seed: u16,
    missing: u8,
    c: Lie,
    parts: u8,
}

/// The weight in memory of its very length, less what is missing.
fn with_weight<R>(case: &Case, shape: [usize; 2], f: impl FnOnce(Result<Quantised<'_>>) -> R) -> R {
    let mut numbers = Numbers::new(u64::from(case.seed));
    let missing = usize::from(case.missing.saturating_sub(250));
    let mut bytes = |len: usize| -> Box<[u8]> {
        let some = (0..len.saturating_sub(missing)).map(|i| case.bytes[i % 8]);
        some.map(|byte| byte ^ numbers.below(256) as u8 & 0x77).collect()
    };
    match case.format % 5 {
        0 => f(Q8_0::new(&bytes(Q8_0::len(shape)), shape).map(Quantised::from)),
        1 => f(Q4_0::new(&bytes(Q4_0::len(shape)), shape).map(Quantised::from)),
        format => {
            let group = [Group::Of32, Group::Of64, Group::Of128][usize::from(format) - 2];
            let weights = shape[0] * shape[1];
            let groups = weights / group.size();
            let (codes, zeros) = (bytes(weights / 2), bytes(groups));
            let scales: Box<[f16]> = bytes(2 * groups)
                .chunks_exact(2)
                .map(|d| f16::from_le_bytes([d[0], d[1]]))
                .collect();
            f(Q4Groups::new(&codes, &scales, &zeros, shape, group).map(Quantised::from))
        }
    }
}

fuzz_target!(|case: Case| {
    let (m, n) = (usize::from(case.m % 40), usize::from(case.rows % 70));
    // Now and then no multiple of the block.
    let k = match usize::from(case.columns) {
        columns if columns.is_multiple_of(16) => columns % 300,
        columns => columns % 20 * 32,
    };
    with_weight(&case, [n, k], |weight| {
        let Ok(weight) = weight else { return };
        let a = case.numbers.many(m * k);
        let a = MatRef::new(&a, [m, k]).unwrap();
        let mut floats = vec![0.0; n * k];
        weight.dequantise(&mut MatMut::new(&mut floats, [n, k]).unwrap()).unwrap();
        let b = MatRef::new(&floats, [n, k]).unwrap().transposed();
        let (strides, len) = (case.c.strides([m, n]), case.c.extent([m, n]));
        let wanted = on_every_isa(len, |isa, memory| {
            let mut c = MatMut::with_strides(memory, [m, n], strides)?;
            Matmul::new(a, b).isa(isa).run(&mut c, &mut Workspace::new())
        });
        let given = on_every_isa(len, |isa, memory| {
            let mut c = MatMut::with_strides(memory, [m, n], strides)?;
            let mut workspace = vec![f32::NAN; workspace_len(m, n, k)];
            let product = Matmul::quantised(a, weight).isa(isa);
            let mut parts = product.parts(&mut c, usize::from(case.parts % 5) + 1)?;
            parts.try_for_each(|part| part.run(&mut workspace[..]))
        });
        assert!(same_bits(&wanted.unwrap(), &given.unwrap()));
    });
});
