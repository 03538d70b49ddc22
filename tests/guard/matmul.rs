//! Products of every remainder, layout, epilogue and way.

use masktile::matmul::{rounded_workspace_len, workspace_len};
use masktile::quantised::{Group, Q4_0, Q4Groups, Q8_0, Quantised};
use masktile::{Activation, Isa, MatMut, MatRef, Matmul, Number, PackedB, bf16, f16};

use super::common::{Numbers, thinned};
use super::{Input, Lie, Output, Tally, against_both};

/// The three operands' layouts of case `i`; every triple comes up.
fn lies(i: usize) -> [Lie; 3] {
    [1, 4, 16].map(|place| Lie::ALL[i / place % 4])
}

/// One product with every operand that an epilogue can have.
fn product(tally: &mut Tally, [m, n, k]: [usize; 3], lies: [Lie; 3]) {
    let mut numbers = Numbers::new((m * 10_000 + n * 100 + k) as u64);
    let [a_lie, b_lie, c_lie] = lies;
    let a = Input::new(&mut numbers, [m, k], a_lie.strides([m, k]));
    let b = Input::new(&mut numbers, [k, n], b_lie.strides([k, n]));
    let residual = Input::new(&mut numbers, [m, n], a_lie.strides([m, n]));
    let (scale, bias) = (numbers.many(n), numbers.many(n));
    let mut workspace = vec![f32::NAN; workspace_len(m, n, k)];
    for has_epilogue in [false, true] {
        let workspace = std::cell::RefCell::new(&mut workspace);
        let case = format_args!("{m}x{n}x{k} {lies:?} epilogue {has_epilogue}");
        tally.each_isa(case, |isa, case| {
            let mut c = Output::new([m, n], c_lie.strides([m, n]));
            let mut matmul = Matmul::new(a.view(), b.view()).isa(isa);
            if has_epilogue {
                matmul = matmul
                    .alpha(1.5)
                    .beta(1e-20)
                    .scale(&scale)
                    .bias(&bias)
                    .activation(Activation::Silu)
                    .residual(residual.view())
                    .clamp(-3.0, 3.0);
            }
            matmul.run(&mut c.view(), &mut workspace.borrow_mut()[..]).unwrap();
            c.elements(case)
        });
    }
}

/// Every remainder of rows and columns modulo every tile (of 4, 6, 14 and 16 rows, 16 and 32
/// columns), with depths and layouts in turn.
#[test]
fn products_of_every_remainder() {
    against_both("products of every remainder", |tally| {
        let mut case = 0;
        for m in thinned(1..=33) {
            for n in thinned(1..=65) {
                // 5 is prime to the layouts' 64, and 7 to the depths.
                case += 5;
                product(tally, [m, n, [1, 2, 3, 4, 15, 16, 17, 0, 33][case / 7 % 9]], lies(case));
            }
        }
    });
}

/// Shapes that go each way through the product: few rows over a large B by rows and by columns,
/// blocks of packed operands, more than one block of each size.
#[test]
fn products_of_every_way() {
    against_both("products of every way", |tally| {
        for shape in [
            [1, 300, 300],
            [3, 270, 530],
            [2, 17, 2100],
            [16, 33, 70],
            [61, 50, 530],
            [175, 40, 20],
        ] {
            for i in thinned(0..64) {
                product(tally, shape, lies(i));
            }
        }
        product(tally, [20, 1030, 3], lies(0));
    });
}

#[test]
fn packed_weights() {
    against_both("packed weights", |tally| {
        for n in thinned(1..=65) {
            for (m, k) in [(1, 17), (5, n), (15, 33), (40, 2)] {
                let mut numbers = Numbers::new((n * 100 + m) as u64);
                let lie = Lie::ALL[n % 4];
                let a = Input::new(&mut numbers, [m, k], lie.strides([m, k]));
                let b = Input::new(&mut numbers, [k, n], lie.strides([k, n]));
                tally.each_isa(format_args!("{m}x{n}x{k} {lie:?}"), |isa, case| {
                    let mut memory = vec![f32::NAN; PackedB::len(k, n)];
                    PackedB::pack_for(isa, b.view(), &mut memory).unwrap();
                    let packed = PackedB::from_memory(&memory).unwrap();
                    let mut c = Output::new([m, n], lie.strides([m, n]));
                    let mut workspace = vec![f32::NAN; workspace_len(m, n, k)];
                    let matmul = Matmul::packed(a.view(), packed).isa(isa);
                    matmul.run(&mut c.view(), &mut workspace[..]).unwrap();
                    c.elements(case)
                });
            }
        }
    });
}

/// Batches with B of their own and shared, whole and in parts.
#[test]
fn batches_and_parts() {
    against_both("batches and parts", |tally| {
        for (i, n) in thinned(1..=35).into_iter().enumerate() {
            let (batch, m, k, lie) = (3, i % 9 + 1, i % 5, Lie::ALL[i % 4]);
            for b_batch in [1, batch] {
                let mut numbers = Numbers::new(n as u64);
                let a = Input::new(&mut numbers, [batch, m, k], lie.strides([batch, m, k]));
                let b = Input::new(&mut numbers, [b_batch, k, n], lie.strides([b_batch, k, n]));
                for parts in [1, 2, 7] {
                    let case = format_args!("{batch} of {m}x{n}x{k} {lie:?} {parts} parts");
                    tally.each_isa(case, |isa, case| {
                        let mut c = Output::new([batch, m, n], lie.strides([batch, m, n]));
                        let matmul = Matmul::new(a.view(), b.view()).isa(isa);
                        for part in matmul.parts(&mut c.view(), parts).unwrap() {
                            let mut workspace = vec![f32::NAN; workspace_len(batch * m, n, k)];
                            part.run(&mut workspace[..]).unwrap();
                        }
                        c.elements(case)
                    });
                }
            }
        }
    });
}

/// Numbers of a type, the last at the end of their memory.
fn numbers_of<T: Number>(numbers: &mut Numbers, n: usize) -> Box<[T]> {
    numbers.many(n).into_iter().map(T::from_f32).collect()
}

/// A product of halves, every operand and the output ending where its memory ends.
fn product_of_halves<A: Number, B: Number, C: Number>(
    tally: &mut Tally,
    [m, n, k]: [usize; 3],
    lies: [Lie; 3],
) {
    let mut numbers = Numbers::new((m * 10_000 + n * 100 + k) as u64);
    let shapes = [[m, k], [k, n], [m, n]];
    let strides: [[usize; 2]; 3] = std::array::from_fn(|i| lies[i].strides(shapes[i]));
    let a = numbers_of::<A>(&mut numbers, super::extent(shapes[0], strides[0]));
    let b = numbers_of::<B>(&mut numbers, super::extent(shapes[1], strides[1]));
    let before = numbers_of::<C>(&mut numbers, super::extent(shapes[2], strides[2]));
    let a = MatRef::with_strides(&a, shapes[0], strides[0]).unwrap();
    let b = MatRef::with_strides(&b, shapes[1], strides[1]).unwrap();
    tally.each_isa(format_args!("{m}x{n}x{k} {lies:?}"), |isa, case| {
        let mut memory = before.clone();
        let mut c = MatMut::with_strides(&mut memory, shapes[2], strides[2]).unwrap();
        let mut workspace = vec![f32::NAN; rounded_workspace_len(m, n, k)];
        Matmul::new(a, b).isa(isa).beta(0.5).run(&mut c, &mut workspace[..]).unwrap();
        // Every number that is no element is as it was.
        let is_element = |at: usize| {
            let mut all = (0..m).flat_map(|i| (0..n).map(move |j| [i, j]));
            all.any(|[i, j]| i * strides[2][0] + j * strides[2][1] == at)
        };
        for (at, (now, before)) in memory.iter().zip(&before).enumerate() {
            let same = now.to_f32() == before.to_f32();
            assert!(same || is_element(at), "{case}: wrote between elements, at {at}");
        }
        memory.iter().map(|x| x.to_f32()).collect()
    });
}

#[test]
fn products_of_halves() {
    against_both("products of halves", |tally| {
        for (i, n) in thinned(1..=35).into_iter().enumerate() {
            let m = i % 18 + 1;
            let k = [1, 31, 33, 0, 65, 7][i % 6];
            product_of_halves::<f16, bf16, f16>(tally, [m, n, k], lies(i));
            product_of_halves::<bf16, f16, bf16>(tally, [m, n, k], lies(i + 21));
            product_of_halves::<f32, bf16, f16>(tally, [m, n, k], lies(i + 42));
        }
        for i in thinned(0..64) {
            product_of_halves::<bf16, bf16, bf16>(tally, [3, 270, 140], lies(i));
        }
    });
}

#[test]
fn quantised_weights() {
    against_both("quantised weights", |tally| {
        for (i, n) in thinned(1..=35).into_iter().enumerate() {
            let (m, k) = ([1, 4, 5, 2, 20][i % 5], [128, 0, 256, 2176][i % 4]);
            let mut numbers = Numbers::new(n as u64);
            let a = numbers.many(m * k);
            let mut bytes = |n: usize| -> Box<[u8]> {
                (0..n).map(|_| numbers.below(256) as u8 & 0xbb).collect()
            };
            let (q8_0, q4_0) = (bytes(Q8_0::len([n, k])), bytes(Q4_0::len([n, k])));
            let (codes, zeros) = (bytes(n * k / 2), bytes(n * k / 64));
            let scales: Box<[f16]> = vec![f16::ONE; n * k / 64].into();
            let weights: [Quantised<'_>; 3] = [
                Q8_0::new(&q8_0, [n, k]).unwrap().into(),
                Q4_0::new(&q4_0, [n, k]).unwrap().into(),
                Q4Groups::new(&codes, &scales, &zeros, [n, k], Group::Of64).unwrap().into(),
            ];
            for weight in weights {
                tally.each_isa(format_args!("{m}x{n}x{k} {weight:?}"), |isa, case| {
                    let mut c = Output::new([m, n], Lie::ALL[i % 4].strides([m, n]));
                    let mut workspace = vec![f32::NAN; workspace_len(m, n, k)];
                    Matmul::quantised(MatRef::new(&a, [m, k]).unwrap(), weight)
                        .isa(isa)
                        .run(&mut c.view(), &mut workspace[..])
                        .unwrap();
                    c.elements(case)
                });
            }
        }
    });
}

/// Rows of a part are few where those of the whole were many, and few go deeper.
#[test]
fn parts_of_narrow_products() {
    against_both("parts of narrow products", |tally| {
        for (n, parts) in [(1, 2), (2, 2), (3, 5)] {
            let (m, k) = (17, 2100);
            let mut numbers = Numbers::new(n as u64);
            let a = Input::new(&mut numbers, [m, k], Lie::Plain.strides([m, k]));
            let b = Input::new(&mut numbers, [k, n], Lie::Turned.strides([k, n]));
            tally.each_isa(format_args!("{m}x{n}x{k} {parts} parts"), |isa, case| {
                let mut c = Output::new([m, n], Lie::Gaps.strides([m, n]));
                let matmul = Matmul::new(a.view(), b.view()).isa(isa);
                for part in matmul.parts(&mut c.view(), parts).unwrap() {
                    let mut workspace = vec![f32::NAN; workspace_len(m, n, k)];
                    part.run(&mut workspace[..]).unwrap();
                }
                c.elements(case)
            });
        }
    });
}

/// What one operation writes is no other's to read: canaries are numbers, so a B that is read
/// between its columns would show in the result.
#[test]
fn gaps_have_no_influence() {
    let (m, n, k) = (7, 21, 19);
    let mut numbers = Numbers::new(8);
    let (a, b) = (numbers.many(m * k), numbers.many(k * n));
    let plain = |isa| {
        let mut c = Output::new([m, n], [n, 1]);
        let (a, b) = (MatRef::new(&a, [m, k]).unwrap(), MatRef::new(&b, [k, n]).unwrap());
        let mut workspace = vec![f32::NAN; workspace_len(m, n, k)];
        Matmul::new(a, b).isa(isa).run(&mut c.view(), &mut workspace[..]).unwrap();
        c.elements(&"plain")
    };
    for isa in Isa::available() {
        for lie in Lie::ALL {
            let spread = |from: &[f32], shape: [usize; 2]| {
                let mut to = Output::new(shape, lie.strides(shape));
                for (at, x) in from.iter().enumerate() {
                    *to.view().get_mut([at / shape[1], at % shape[1]]).unwrap() = *x;
                }
                to
            };
            let (mut a, mut b) = (spread(&a, [m, k]), spread(&b, [k, n]));
            let mut c = Output::new([m, n], [n, 1]);
            let mut workspace = vec![f32::NAN; workspace_len(m, n, k)];
            Matmul::new(a.view().as_ref(), b.view().as_ref())
                .isa(isa)
                .run(&mut c.view(), &mut workspace[..])
                .unwrap();
            let case = format_args!("{isa} {lie:?}");
            super::common::assert_same_bits(&c.elements(&case), &plain(isa), case);
        }
    }
}
