//! Products of bytes on every instruction set, in parts and packed, against their definition; and
//! softmax of bytes with masks, the same everywhere.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use masktile::int8::{DotProduct, FromInt8, Multiplier, Multipliers, SoftmaxInt, workspace_len};
use masktile::{Isa, MatMut, MatRef, MatmulInt8, PackedInt8, TensorMut, TensorRef};
use masktile_fuzz::common::Numbers;
use masktile_fuzz::{Lie, MaskChoice};

#[derive(Arbitrary, Debug)]
struct Case {
    sizes: [u8; 3],
    /// Of A, B and C.
    lies: [Lie; 3],
    seed: u16,
    zeros: (i8, i8),
    parts: u8,
    factor: (i32, i32),
    zero: i8,
    clamp: (i8, i8),
    mask: MaskChoice,
    diff_min: i32,
}

fn bytes(numbers: &mut Numbers, n: usize) -> Vec<i8> {
    (0..n).map(|_| numbers.below(256) as u8 as i8).collect()
}

fn products(case: &Case) {
    let [m, n, k] = case.sizes.map(usize::from);
    let [m, n, k] = [m % 34, n % 70, k % 140];
    let mut numbers = Numbers::new(u64::from(case.seed));
    let [a_lie, b_lie, c_lie] = case.lies;
    let (a, b) = (
        bytes(&mut numbers, a_lie.extent([m, k])).into_boxed_slice(),
        bytes(&mut numbers, b_lie.extent([k, n])).into_boxed_slice(),
    );
    let a = MatRef::with_strides(&a, [m, k], a_lie.strides([m, k])).unwrap();
    let b = MatRef::with_strides(&b, [k, n], b_lie.strides([k, n])).unwrap();
    let bias: Vec<i32> = (0..n).map(|_| numbers.below(1 << 32) as u32 as i32).collect();
    let wanted = |i: usize, j: usize| {
        (0..k).fold(bias[j], |sum, p| {
            let a = i32::from(*a.get([i, p]).unwrap()) - i32::from(case.zeros.0);
            let b = i32::from(*b.get([p, j]).unwrap()) - i32::from(case.zeros.1);
            sum.wrapping_add(a * b)
        })
    };
    let by = Multiplier { value: case.factor.0, shift: case.factor.1 };
    for isa in Isa::available() {
        let mut memory = vec![0; PackedInt8::len(k, n)];
        let packed = PackedInt8::pack_for(isa, b, &mut memory).unwrap();
        for dot in DotProduct::available(isa) {
            for matmul in [MatmulInt8::new(a, b), MatmulInt8::packed(a, packed)] {
                let matmul = matmul
                    .zero_points(case.zeros.0, case.zeros.1)
                    .bias(&bias)
                    .isa(isa)
                    .dot_product(dot);
                let strides = c_lie.strides([m, n]);
                let mut sums = vec![7i32; c_lie.extent([m, n])].into_boxed_slice();
                let mut view = MatMut::with_strides(&mut sums, [m, n], strides).unwrap();
                for part in matmul.parts(&mut view, usize::from(case.parts % 5) + 1).unwrap() {
                    part.run(&mut vec![f32::NAN; workspace_len(m, n, k)][..]).unwrap();
                }
                let mut narrow = vec![7i8; m * n].into_boxed_slice();
                matmul
                    .requantized(Multipliers::Same(by), case.zero)
                    .clamp(case.clamp.0, case.clamp.1)
                    .run(
                        &mut MatMut::new(&mut narrow, [m, n]).unwrap(),
                        &mut vec![f32::NAN; workspace_len(m, n, k)][..],
                    )
                    .unwrap();
                let view = MatRef::with_strides(&sums, [m, n], strides).unwrap();
                for (at, byte) in narrow.iter().enumerate() {
                    let sum = wanted(at / n, at % n);
                    assert_eq!(*view.get([at / n, at % n]).unwrap(), sum, "{isa} {dot}");
                    let (least, greatest) = (i32::from(case.clamp.0), i32::from(case.clamp.1));
                    let x = by.apply(sum).wrapping_add(i32::from(case.zero));
                    assert_eq!(i32::from(*byte), x.max(least).min(greatest), "{isa} {dot}");
                }
            }
        }
    }
}

fn softmax(case: &Case) {
    let [queries, keys, batch] = case.sizes.map(usize::from);
    let shape = [batch % 3, 2, queries % 5, keys % 50];
    let scores = bytes(&mut Numbers::new(u64::from(case.seed)), shape.iter().product());
    let scores = TensorRef::new(&scores, shape).unwrap();
    let multiplier = Multiplier { value: case.factor.0, shift: case.factor.1 };
    let form = FromInt8 { multiplier, diff_min: case.diff_min };
    case.mask.with(shape, |_, mask| {
        let run = |isa| {
            let mut probs = vec![7i8; shape.iter().product()];
            let view = TensorMut::new(&mut probs, shape).unwrap();
            let result = SoftmaxInt::new(form).mask(mask).isa(isa).run(scores, view);
            assert!(result.is_ok() || probs.iter().all(|p| *p == 7));
            (format!("{result:?}"), probs)
        };
        let wanted = run(Isa::SCALAR);
        Isa::available().for_each(|isa| assert_eq!(run(isa), wanted, "{isa}"));
    });
}

fuzz_target!(|case: Case| {
    products(&case);
    softmax(&case);
});
