//! Products of bytes, exact: every instruction set and every sort of multiplication against sums
//! written out in i128.

mod common;

use common::{Numbers, thinned};
use masktile::int8::{Byte, DotProduct, Multiplier, Multipliers, Scales, workspace_len};
use masktile::{
    Activation, ErrorKind, Isa, MatMut, MatRef, MatmulInt8, PackedInt8, TensorMut, TensorRef, View,
    ViewMut, Workspace,
};

/// Every way that this machine multiplies bytes.
fn ways() -> Vec<(Isa, DotProduct)> {
    let of = |isa| DotProduct::available(isa).map(move |dot| (isa, dot));
    let ways: Vec<_> = Isa::available().flat_map(of).collect();
    println!("multiplied by: {ways:?}");
    ways
}

/// Bytes of all values, the extreme ones often.
fn bytes<T: Byte + TryFrom<i32>>(numbers: &mut Numbers, n: usize) -> Vec<T> {
    let [least, greatest]: [i32; 2] = T::RANGE.map(Into::into);
    let byte = |x: i32| T::try_from(x).unwrap_or(T::ZERO);
    (0..n)
        .map(|_| match numbers.below(4) {
            0 => byte(least),
            1 => byte(greatest),
            _ => byte(least + numbers.below(256) as i32),
        })
        .collect()
}

/// Wraps around as 32 bits do.
fn wrapped(x: i128) -> i32 {
    x as i32
}

/// How a matrix lies: by rows, by columns, with bytes between, or backwards in neither way.
fn strides(layout: usize, [rows, columns]: [usize; 2]) -> [usize; 2] {
    [[columns, 1], [1, rows], [2 * columns + 3, 2], [3, 3 * rows]][layout % 4]
}

fn extent(shape: [usize; 2], strides: [usize; 2]) -> usize {
    if shape.contains(&0) {
        return 0;
    }
    (shape[0] - 1) * strides[0] + (shape[1] - 1) * strides[1] + 1
}

struct Case<A> {
    shape: [usize; 3],
    a: Vec<A>,
    b: Vec<i8>,
    strides: [[usize; 2]; 2],
    zeros: (A, i8),
    bias: Vec<i32>,
}

impl<A: Byte + TryFrom<i32>> Case<A> {
    fn new([m, n, k]: [usize; 3], layouts: [usize; 2], zeros: (i32, i8)) -> Self {
        let mut numbers = Numbers::new((m * 10_007 + n * 101 + k) as u64);
        let strides = [strides(layouts[0], [m, k]), strides(layouts[1], [k, n])];
        Case {
            shape: [m, n, k],
            a: bytes(&mut numbers, extent([m, k], strides[0])),
            b: bytes(&mut numbers, extent([k, n], strides[1])),
            strides,
            zeros: (A::try_from(zeros.0).unwrap_or(A::RANGE[0]), zeros.1),
            bias: (0..n).map(|_| numbers.below(1 << 20) as i32 - (1 << 19)).collect(),
        }
    }

    fn views(&self) -> (MatRef<'_, A>, MatRef<'_, i8>) {
        let [m, n, k] = self.shape;
        let a = MatRef::with_strides(&self.a, [m, k], self.strides[0]).unwrap();
        (a, MatRef::with_strides(&self.b, [k, n], self.strides[1]).unwrap())
    }

    /// The definition.
    fn sums(&self) -> Vec<i32> {
        let [m, n, k] = self.shape;
        let (a, b) = self.views();
        let (a_zero, b_zero): (i32, i8) = (self.zeros.0.into(), self.zeros.1);
        let element = |i: usize, j: usize| {
            let products = (0..k).map(|p| {
                let a: i32 = (*a.get([i, p]).unwrap()).into();
                let b = i128::from(*b.get([p, j]).unwrap());
                i128::from(a - a_zero) * (b - i128::from(b_zero))
            });
            wrapped(products.sum::<i128>() + i128::from(self.bias[j]))
        };
        (0..m * n).map(|at| element(at / n, at % n)).collect()
    }

    fn matmul(&self) -> MatmulInt8<'_, A> {
        let (a, b) = self.views();
        MatmulInt8::new(a, b).zero_points(self.zeros.0, self.zeros.1).bias(&self.bias)
    }

    #[track_caller]
    fn check(&self, ways: &[(Isa, DotProduct)]) {
        let [m, n, k] = self.shape;
        let wanted = self.sums();
        for (isa, dot) in ways {
            let mut c = vec![0x5555_5555; m * n];
            let mut workspace = vec![f32::NAN; workspace_len(m, n, k)];
            let matmul = self.matmul().isa(*isa).dot_product(*dot);
            matmul.run(&mut MatMut::new(&mut c, [m, n]).unwrap(), &mut workspace[..]).unwrap();
            assert!(c == wanted, "{isa} {dot} {m}x{n}x{k} {:?}", self.strides);
        }
    }
}

/// Zero points in turn: none, of A, of B, of both, the extreme ones.
const ZEROS: [(i32, i8); 6] = [(0, 0), (3, 0), (0, -5), (127, -128), (-128, 127), (100, 1)];

#[test]
fn every_remainder_of_every_tile() {
    let ways = ways();
    let mut turn = 0;
    for m in thinned(0..=29) {
        for n in thinned(0..=67) {
            turn += 1;
            let k = [1, 2, 3, 4, 5, 7, 0, 63, 64, 65, 130][turn % 11];
            let layouts = [turn % 4, turn / 4 % 4];
            Case::<i8>::new([m, n, k], layouts, ZEROS[turn % 6]).check(&ways);
            Case::<u8>::new([m, n, k], layouts, ZEROS[(turn + 1) % 6]).check(&ways);
        }
    }
}

/// Few rows over a large B, blocks of columns, more depth than a block has, more columns.
#[test]
fn every_way_through_the_product() {
    let ways = ways();
    let shapes = [[1, 300, 530], [5, 4100, 37], [16, 270, 530], [40, 70, 4000], [17, 1100, 130]];
    for shape in thinned(0..shapes.len()).into_iter().map(|i| shapes[i]) {
        for layout in thinned(0..4) {
            Case::<i8>::new(shape, [layout, layout], ZEROS[layout + 1]).check(&ways);
            Case::<u8>::new(shape, [0, layout], ZEROS[layout]).check(&ways);
        }
    }
}

/// The greatest sums that fit, and sums that wrap around.
#[test]
fn sums_are_those_of_32_bits() {
    let ways = ways();
    for (a, b, k) in [(255u8, -128i8, 65_793), (255, 127, 65_794), (255, -128, 140_000)] {
        let case = Case {
            shape: [2, 3, k],
            a: vec![a; 2 * k],
            b: vec![b; 3 * k],
            strides: [[k, 1], [1, k]],
            zeros: (0, 0),
            bias: vec![0; 3],
        };
        let exact = i128::from(a) * i128::from(b) * k as i128;
        assert_eq!(exact < i128::from(i32::MIN), k > 65_794, "{k}");
        case.check(&ways);
    }
}

#[test]
fn packed_weights_give_the_same_sums() {
    let ways = ways();
    let mut turn = 0;
    for n in thinned(1..=67) {
        for (m, k) in [(1, 17), (3, 64), (15, 33), (40, 131), (2, 0)] {
            turn += 1;
            let case = Case::<i8>::new([m, n, k], [turn % 4, turn / 4 % 4], ZEROS[turn % 6]);
            let (a, b) = case.views();
            for (isa, dot) in &ways {
                let mut memory = vec![0; PackedInt8::len(k, n)];
                PackedInt8::pack_for(*isa, b, &mut memory).unwrap();
                let packed = PackedInt8::from_memory(&memory).unwrap();
                assert_eq!(packed.shape(), [k, n]);
                let mut c = vec![0; m * n];
                MatmulInt8::packed(a, packed)
                    .zero_points(case.zeros.0, case.zeros.1)
                    .bias(&case.bias)
                    .isa(*isa)
                    .dot_product(*dot)
                    .run(
                        &mut MatMut::new(&mut c, [m, n]).unwrap(),
                        &mut vec![f32::NAN; workspace_len(m, n, k)][..],
                    )
                    .unwrap();
                assert!(c == case.sums(), "{isa} {dot} {m}x{n}x{k}");
            }
        }
    }
}

#[test]
fn batches_and_parts_are_their_products() {
    let [batch, heads, m, k, n] = [2, 3, 5, 9, 40];
    let mut numbers = Numbers::new(4);
    let a = bytes::<u8>(&mut numbers, batch * heads * m * k);
    let b = bytes::<i8>(&mut numbers, batch * heads * k * n);
    let by_heads = TensorRef::new(&a, [batch, heads, m, k]).unwrap();
    let by_tokens = TensorRef::new(&a, [batch, m, heads, k]).unwrap().heads_and_tokens_swapped();
    for a in [by_heads, by_tokens] {
        for (shared, b_shape) in [(false, [batch, heads, k, n]), (true, [1, 1, k, n])] {
            let b = TensorRef::new(&b, b_shape).unwrap();
            for parts in [1, 2, 5, 40] {
                let mut c = vec![0i32; batch * heads * m * n];
                let mut view = TensorMut::new(&mut c, [batch, heads, m, n]).unwrap();
                for part in MatmulInt8::new(a, b).zero_points(7, 3).parts(&mut view, parts).unwrap()
                {
                    part.run(&mut Workspace::new()).unwrap();
                }
                for (at, given) in c.iter().enumerate() {
                    let (index, i, j) = (at / (m * n), at / n % m, at % n);
                    let [x, y] = [index / heads, index % heads];
                    let [bx, by] = if shared { [0, 0] } else { [x, y] };
                    let products = (0..k).map(|p| {
                        let a = i32::from(*a.get([x, y, i, p]).unwrap()) - 7;
                        a * (i32::from(*b.get([bx, by, p, j]).unwrap()) - 3)
                    });
                    assert_eq!(
                        *given,
                        products.sum::<i32>(),
                        "shared {shared}, {parts} parts, {at}"
                    );
                }
            }
        }
    }
}

/// Floats: the same bits as the steps written out, on every instruction set.
#[test]
fn sums_become_floats() {
    for (m, n, k) in [(1, 1, 1), (3, 33, 20), (20, 50, 130)] {
        let case = Case::<i8>::new([m, n, k], [0, 1], (-7, 0));
        let mut numbers = Numbers::new(n as u64);
        let (scales, rows) = (numbers.many(n), numbers.many(m));
        let bias = numbers.many(n);
        let sums = case.sums();
        for (isa, dot) in ways() {
            let mut given = vec![f32::NAN; m * n];
            let matmul = case.matmul().isa(isa).dot_product(dot);
            let mut run = |matmul: MatmulInt8<'_, i8, _>| {
                matmul
                    .run(&mut MatMut::new(&mut given, [m, n]).unwrap(), &mut Workspace::new())
                    .unwrap();
                given.clone()
            };
            let same = run(matmul.dequantized(Scales::Same(0.25)));
            let wanted: Vec<f32> = sums.iter().map(|sum| *sum as f32 * 0.25).collect();
            common::assert_same_bits(&same, &wanted, format_args!("{isa} {dot}"));
            let all = run(matmul
                .dequantized(Scales::PerColumn(&scales))
                .row_scales(&rows)
                .float_bias(&bias)
                .activation(Activation::Relu));
            let wanted: Vec<f32> = sums
                .iter()
                .enumerate()
                .map(|(at, sum)| {
                    let x = *sum as f32 * rows[at / n] * scales[at % n] + bias[at % n];
                    if x > 0.0 { x } else { 0.0 }
                })
                .collect();
            common::assert_same_bits(&all, &wanted, format_args!("{isa} {dot} {m}x{n}x{k}"));
        }
    }
}

/// `x 2^(shift - 31) value` by its definition: two roundings, of exact quotients.
fn scaled(by: Multiplier, x: i32) -> i32 {
    let shifted = i128::from(x) << by.shift.max(0);
    // To nearest, halves upwards.
    let product = (shifted * i128::from(by.value) + (1 << 30)).div_euclid(1 << 31);
    // To nearest, halves away from zero.
    let divisor = 1i128 << -by.shift.min(0);
    let magnitude = (product.abs() * 2 + divisor) / (2 * divisor);
    (magnitude * product.signum()) as i32
}

#[test]
fn sums_become_bytes() {
    for (m, n, k) in [(1, 1, 1), (3, 33, 20), (20, 50, 130)] {
        let case = Case::<i8>::new([m, n, k], [0, 1], (-7, 0));
        let scale = |j: usize| 1e-4 * (j as f64 + 0.37);
        let multipliers: Vec<Multiplier> =
            (0..n).map(|j| Multiplier::from_scale(scale(j)).unwrap()).collect();
        let sums = case.sums();
        for (isa, dot) in ways() {
            let matmul = case.matmul().isa(isa).dot_product(dot);
            let mut signed = vec![0i8; m * n];
            matmul
                .requantized(Multipliers::PerColumn(&multipliers), -3i8)
                .clamp(-100, 90)
                .run(&mut MatMut::new(&mut signed, [m, n]).unwrap(), &mut Workspace::new())
                .unwrap();
            let mut unsigned = vec![0u8; 2 * m * n];
            let mut view = MatMut::with_strides(&mut unsigned, [m, n], [2, 2 * m]).unwrap();
            let same = Multipliers::Same(multipliers[0]);
            matmul.requantized(same, 128u8).run(&mut view, &mut Workspace::new()).unwrap();
            for (at, sum) in sums.iter().enumerate() {
                let (i, j) = (at / n, at % n);
                let wanted = (scaled(multipliers[j], *sum) - 3).clamp(-100, 90);
                assert_eq!(i32::from(signed[at]), wanted, "{isa} {dot} [{i}, {j}] of {sum}");
                let wanted = (scaled(multipliers[0], *sum) + 128).clamp(0, 255);
                let given = view.as_ref().get([i, j]).copied().unwrap();
                assert_eq!(i32::from(given), wanted, "{isa} {dot} [{i}, {j}] of {sum}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let (a, b) = ([0u8; 12], [0i8; 12]);
    let a = MatRef::new(&a, [3, 4]).unwrap();
    let run = |matmul: MatmulInt8<'_, u8>, shape| {
        let mut c = [7; 12];
        let error = matmul
            .run(&mut MatMut::new(&mut c, shape).unwrap(), &mut Workspace::new())
            .unwrap_err();
        assert_eq!(c, [7; 12]);
        error.to_string()
    };
    let by = |shape| MatmulInt8::new(a, MatRef::new(&b, shape).unwrap());
    assert_eq!(run(by([3, 4]), [3, 4]), "`b`: rows: given 3, wanted 4");
    assert_eq!(run(by([4, 3]), [2, 3]), "`c`: rows: given 2, wanted 3");
    assert_eq!(run(by([4, 3]), [3, 4]), "`c`: columns: given 4, wanted 3");
    assert_eq!(run(by([4, 3]).bias(&[1, 2]), [3, 3]), "`bias`: length: given 2, wanted 3");

    let mut c = [7i8; 9];
    let mut view = MatMut::new(&mut c, [3, 3]).unwrap();
    let factor = Multiplier::from_scale(1.0).unwrap();
    let error = by([4, 3])
        .requantized(Multipliers::PerColumn(&[factor; 4]), 0i8)
        .run(&mut view, &mut Workspace::new())
        .unwrap_err();
    assert_eq!(error.to_string(), "`multipliers`: length: given 4, wanted 3");
    let mut c = [7f32; 9];
    let mut view = MatMut::new(&mut c, [3, 3]).unwrap();
    let error = by([4, 3])
        .dequantized(Scales::PerColumn(&[1.0; 2]))
        .run(&mut view, &mut Workspace::new())
        .unwrap_err();
    assert_eq!(error.to_string(), "`scales`: length: given 2, wanted 3");
    let error = by([4, 3])
        .dequantized(Scales::Same(1.0))
        .row_scales(&[1.0; 4])
        .run(&mut view, &mut Workspace::new())
        .unwrap_err();
    assert_eq!(error.to_string(), "`row_scales`: length: given 4, wanted 3");

    assert_eq!(PackedInt8::from_memory(&[0; 40]).unwrap_err().kind(), ErrorKind::NotPacked);
    assert_eq!(workspace_len(usize::MAX, usize::MAX, usize::MAX), usize::MAX);
}

#[test]
fn a_packed_weight_is_refused_where_it_cannot_be_read() {
    let b = [1i8; 6];
    let mut memory = vec![0; PackedInt8::len(2, 3)];
    PackedInt8::pack_for(Isa::SCALAR, MatRef::new(&b, [2, 3]).unwrap(), &mut memory).unwrap();
    let packed = PackedInt8::from_memory(&memory).unwrap();
    for isa in Isa::available().filter(|isa| *isa != Isa::SCALAR) {
        let (a, mut c) = ([1i8; 2], [7; 3]);
        let error = MatmulInt8::packed(MatRef::new(&a, [1, 2]).unwrap(), packed)
            .isa(isa)
            .run(&mut MatMut::new(&mut c, [1, 3]).unwrap(), &mut Workspace::new())
            .unwrap_err();
        assert!(error.to_string().starts_with("`b`: given panels of 1 columns, wanted"), "{error}");
        assert_eq!(c, [7; 3]);
    }
}

/// Sizes that nothing holds, where there is no element to compute.
#[test]
fn nothing_to_do_is_done_at_once() {
    let huge = usize::MAX / 4;
    let a = View::<u8, 3>::with_strides(&[], [0, 7, huge], [huge, huge, huge]).unwrap();
    let b = View::<i8, 3>::with_strides(&[], [0, huge, 7], [huge, huge, huge]).unwrap();
    let mut c = ViewMut::<i32, 3>::new(&mut [], [0, 7, 7]).unwrap();
    MatmulInt8::new(a, b).run(&mut c, &mut []).unwrap();
    let a = MatRef::<u8>::with_strides(&[], [0, huge], [huge, huge]).unwrap();
    let b = MatRef::<i8>::with_strides(&[5], [huge, 1], [0, 0]).unwrap();
    MatmulInt8::new(a, b).run(&mut MatMut::new(&mut [], [0, 1]).unwrap(), &mut []).unwrap();
}
