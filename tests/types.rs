//! Products of halves and bfloat16 in any mix with f32: the bits of the f32 product of widened
//! copies, on the same instruction set, rounded once. (tests/matmul.rs judges that one by float64.)

mod common;

use std::fmt::Display;

use common::{Effort, Numbers, assert_same_bits, vector_isas};
use masktile::matmul::{rounded_workspace_len, workspace_len};
use masktile::{
    Activation, Isa, MatMut, MatRef, Matmul, Number, PackedB, View, ViewMut, Workspace, bf16, f16,
};
use masktile_kernels::{LANES, Op, Simd, run};

/// A vector's worth of numbers rounded by one primitive after the other, and words taken apart.
struct Convert<'a>(&'a [f32; LANES]);

impl Op for Convert<'_> {
    type Out = ([[u16; LANES]; 2], [[f32; LANES]; 4]);
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) -> Self::Out {
        let (mut halves, mut numbers) = ([[0; LANES]; 2], [[0.0; LANES]; 4]);
        for first in (0..LANES).step_by(S::LANES) {
            // SAFETY: a vector of its lanes lies within the 16.
            unsafe {
                let v = s.load(self.0.as_ptr().add(first));
                let all = [s.narrow_f16(v), s.narrow_bf16(v)];
                for (to, from) in halves.iter_mut().zip(all) {
                    to[first..first + S::LANES].copy_from_slice(&from[..S::LANES]);
                }
                let ([a, b], [c, d]) = (s.pairs_f16(v), s.pairs_bf16(v));
                for (to, from) in numbers.iter_mut().zip([a, b, c, d]) {
                    s.store(to.as_mut_ptr().add(first), from);
                }
            }
        }
        (halves, numbers)
    }
}

/// Numbers on, next to and midway between neighbouring halves, of both signs, and random bits.
fn hard_to_round() -> Vec<f32> {
    let mut all = Vec::new();
    for bits in 0..u16::MAX {
        let halves = |bits| [f16::from_bits(bits).to_f32(), bf16::from_bits(bits).to_f32()];
        for (low, high) in halves(bits).into_iter().zip(halves(bits + 1)) {
            let middle = f32::midpoint(low, high);
            all.extend([low, middle, middle.next_up(), middle.next_down(), high.next_down()]);
        }
    }
    let mut numbers = Numbers::new(5);
    all.extend((0..1 << 16).map(|_| f32::from_bits(numbers.below(1 << 32) as u32)));
    all.resize(all.len().next_multiple_of(LANES), f32::NAN);
    all
}

#[test]
fn every_half_is_rounded_to() {
    vector_isas();
    let all = hard_to_round();
    let step = Effort::current().pick(1, 17, 101);
    for chunk in all.as_chunks::<LANES>().0.iter().step_by(step) {
        let scalar = run(Isa::SCALAR, Convert(chunk));
        let same_f16 =
            |a: u16, b: u16| a == b || (f16::from_bits(a).is_nan() && f16::from_bits(b).is_nan());
        let same_bf16 =
            |a: u16, b: u16| a == b || (bf16::from_bits(a).is_nan() && bf16::from_bits(b).is_nan());
        for isa in Isa::available() {
            let (halves, numbers) = run(isa, Convert(chunk));
            for (i, x) in chunk.iter().enumerate() {
                let wanted = [f16::from_f32(*x).to_bits(), bf16::from_f32(*x).to_bits()];
                assert!(same_f16(halves[0][i], wanted[0]), "{isa} f16 of {x:e}");
                assert!(same_bf16(halves[1][i], wanted[1]), "{isa} bf16 of {x:e}");
            }
            for (given, wanted) in numbers.iter().zip(&scalar.1) {
                assert_same_bits(given, wanted, isa);
            }
        }
    }
}

/// How a matrix lies: by rows, by columns, with gaps, sparse.
const LIES: usize = 4;

fn strides(lie: usize, [rows, columns]: [usize; 2]) -> [usize; 2] {
    [[columns, 1], [1, rows], [columns + 3, 1], [2 * columns + 1, 2]][lie]
}

fn extent([rows, columns]: [usize; 2], [row, column]: [usize; 2]) -> usize {
    if rows * columns == 0 { 0 } else { (rows - 1) * row + (columns - 1) * column + 1 }
}

/// A matrix of `T`, and the same numbers in f32.
struct Matrix<T> {
    own: Vec<T>,
    widened: Vec<f32>,
    shape: [usize; 2],
    strides: [usize; 2],
}

impl<T: Number> Matrix<T> {
    fn new(numbers: &mut Numbers, shape: [usize; 2], lie: usize) -> Self {
        let strides = strides(lie, shape);
        let own: Vec<T> =
            numbers.many(extent(shape, strides)).into_iter().map(T::from_f32).collect();
        let widened = own.iter().map(|x| x.to_f32()).collect();
        Matrix { own, widened, shape, strides }
    }

    fn own(&self) -> MatRef<'_, T> {
        MatRef::with_strides(&self.own, self.shape, self.strides).unwrap()
    }

    fn widened(&self) -> MatRef<'_> {
        MatRef::with_strides(&self.widened, self.shape, self.strides).unwrap()
    }
}

/// Every step of an epilogue, or none.
fn with_steps<'a, A: Number, B: Number>(
    matmul: Matmul<'a, 2, A, B>,
    steps: bool,
    by_column: &'a [f32],
    residual: MatRef<'a>,
) -> Matmul<'a, 2, A, B> {
    if !steps {
        return matmul;
    }
    matmul
        .alpha(0.75)
        .beta(0.5)
        .scale(by_column)
        .bias(by_column)
        .activation(Activation::GeluTanh)
        .residual(residual)
        .clamp(-1.5, 2.0)
}

/// One product of the types, as it is and in parts, with workspaces as long as asked and no longer.
fn product<A: Number, B: Number, C: Number>([m, n, k]: [usize; 3], lies: [usize; 3], steps: bool) {
    let mut numbers = Numbers::new((m * n + k) as u64);
    let a = Matrix::<A>::new(&mut numbers, [m, k], lies[0]);
    let b = Matrix::<B>::new(&mut numbers, [k, n], lies[1]);
    let before = Matrix::<C>::new(&mut numbers, [m, n], lies[2]);
    let (by_column, residual) = (numbers.many(n), numbers.many(m * n));
    let residual = MatRef::new(&residual, [m, n]).unwrap();
    let name = |x: &str| x.rsplit("::").next().unwrap_or("").to_owned();
    let types = [
        name(std::any::type_name::<A>()),
        name(std::any::type_name::<B>()),
        name(std::any::type_name::<C>()),
    ];
    for isa in Isa::available() {
        let mut wanted = before.widened.clone();
        with_steps(Matmul::new(a.widened(), b.widened()), steps, &by_column, residual)
            .isa(isa)
            .run(
                &mut MatMut::with_strides(&mut wanted, [m, n], before.strides).unwrap(),
                &mut vec![f32::NAN; workspace_len(m, n, k)][..],
            )
            .unwrap();
        let wanted: Vec<f32> = wanted.into_iter().map(|x| C::from_f32(x).to_f32()).collect();
        let len = if size_of::<C>() == 4 { workspace_len } else { rounded_workspace_len };
        for parts in [1, 2, 5] {
            let mut given = before.own.clone();
            let mut c = MatMut::with_strides(&mut given, [m, n], before.strides).unwrap();
            let matmul = with_steps(Matmul::new(a.own(), b.own()), steps, &by_column, residual);
            for part in matmul.isa(isa).parts(&mut c, parts).unwrap() {
                part.run(&mut vec![f32::NAN; len(m, n, k)][..]).unwrap();
            }
            let given: Vec<f32> = given.into_iter().map(C::to_f32).collect();
            let case = format_args!("{isa} {m}x{n}x{k} {types:?} {lies:?} {steps} {parts} parts");
            assert_same_bits(&given, &wanted, case);
        }
    }
}

/// The same product with each mix of types.
fn every_mix(shape: [usize; 3], lies: [usize; 3], steps: bool) {
    fn with_a<A: Number>(shape: [usize; 3], lies: [usize; 3], steps: bool) {
        with_ab::<A, f32>(shape, lies, steps);
        with_ab::<A, f16>(shape, lies, steps);
        with_ab::<A, bf16>(shape, lies, steps);
    }
    fn with_ab<A: Number, B: Number>(shape: [usize; 3], lies: [usize; 3], steps: bool) {
        product::<A, B, f32>(shape, lies, steps);
        product::<A, B, f16>(shape, lies, steps);
        product::<A, B, bf16>(shape, lies, steps);
    }
    with_a::<f32>(shape, lies, steps);
    with_a::<f16>(shape, lies, steps);
    with_a::<bf16>(shape, lies, steps);
}

/// Shapes that go each way through the product, in every layout.
#[test]
fn products_of_every_mix() {
    vector_isas();
    let shapes = [
        [1, 1, 1],
        [1, 70, 33],
        [1, 300, 300],
        [2, 17, 2100],
        [4, 33, 530],
        [5, 40, 600],
        [16, 33, 130],
        [17, 2, 2100],
        [29, 65, 47],
        [61, 50, 530],
        [175, 40, 20],
        [3, 5, 0],
    ];
    let shapes = &shapes[..Effort::current().pick(shapes.len(), 6, 4)];
    for (i, shape) in shapes.iter().enumerate() {
        for lies in 0..LIES * LIES * LIES {
            // Every layout of each operand, most pairs of them.
            let step = Effort::current().pick(3, 7, 23);
            if lies % step != i % step {
                continue;
            }
            let lies = [lies % LIES, lies / LIES % LIES, lies / LIES / LIES];
            every_mix(*shape, lies, (i + lies[0]).is_multiple_of(2));
        }
    }
}

/// A C of more than one piece, either way, whose sums take several blocks of depth.
#[test]
fn outputs_of_several_pieces() {
    if Effort::current() == Effort::Tiny {
        return println!("too large for this effort");
    }
    product::<bf16, bf16, bf16>([3, 1100, 2100], [0, 1, 0], true);
    product::<f16, f16, f16>([520, 530, 40], [0, 0, 1], true);
    product::<f32, bf16, f16>([1030, 20, 600], [1, 1, 0], false);
}

#[test]
fn batches_of_halves() {
    let [batch, m, n, k] = [3, 4, 21, 18];
    let mut numbers = Numbers::new(3);
    let halves = |x: Vec<f32>| x.into_iter().map(bf16::from_f32).collect::<Vec<_>>();
    let (a, b) = (halves(numbers.many(batch * m * k)), halves(numbers.many(batch * k * n)));
    let widened = |x: &[bf16]| x.iter().map(|x| x.to_f32()).collect::<Vec<_>>();
    for b_batch in [1, batch] {
        let b = &b[..b_batch * k * n];
        let mut wanted = vec![0.0; batch * m * n];
        Matmul::new(
            View::new(&widened(&a), [batch, m, k]).unwrap(),
            View::new(&widened(b), [b_batch, k, n]).unwrap(),
        )
        .run(&mut ViewMut::new(&mut wanted, [batch, m, n]).unwrap(), &mut Workspace::new())
        .unwrap();
        let mut given = vec![f16::ZERO; batch * m * n];
        Matmul::new(View::new(&a, [batch, m, k]).unwrap(), View::new(b, [b_batch, k, n]).unwrap())
            .run(&mut ViewMut::new(&mut given, [batch, m, n]).unwrap(), &mut Workspace::new())
            .unwrap();
        let given: Vec<f32> = given.into_iter().map(f16::to_f32).collect();
        let wanted: Vec<f32> = wanted.into_iter().map(|x| f16::from_f32(x).to_f32()).collect();
        assert_same_bits(&given, &wanted, format_args!("{b_batch} of {batch}"));
    }
}

/// Packed from halves, and taken by a product of halves.
#[test]
fn packed_halves() {
    for [m, n, k] in [[1, 40, 33], [15, 33, 600], [50, 70, 65]] {
        let mut numbers = Numbers::new(n as u64);
        let a = Matrix::<f16>::new(&mut numbers, [m, k], 0);
        for lie in 0..LIES {
            let b = Matrix::<bf16>::new(&mut numbers, [k, n], lie);
            for isa in Isa::available() {
                let mut wanted = vec![0.0; m * n];
                Matmul::new(a.widened(), b.widened())
                    .isa(isa)
                    .run(&mut MatMut::new(&mut wanted, [m, n]).unwrap(), &mut Workspace::new())
                    .unwrap();
                let mut memory = vec![f32::NAN; PackedB::len(k, n)];
                let packed = PackedB::pack_for(isa, b.own(), &mut memory).unwrap();
                let mut given = vec![0.0; m * n];
                Matmul::packed(a.own(), packed)
                    .isa(isa)
                    .run(&mut MatMut::new(&mut given, [m, n]).unwrap(), &mut Workspace::new())
                    .unwrap();
                assert_same_bits(&given, &wanted, format_args!("{isa} {m}x{n}x{k} lie {lie}"));
            }
        }
    }
}

/// Errors as with f32, the output untouched.
#[test]
fn what_does_not_fit_is_refused() {
    let halves = [f16::ONE; 8];
    let (a, b) = (MatRef::new(&halves, [2, 3]).unwrap(), MatRef::new(&halves, [4, 2]).unwrap());
    let mut c = [f16::ONE; 4];
    let fails = |result: masktile::Result<()>, wanted: &dyn Display| {
        assert_eq!(result.unwrap_err().to_string(), wanted.to_string());
    };
    let mut view = MatMut::new(&mut c, [2, 2]).unwrap();
    fails(Matmul::new(a, b).run(&mut view, &mut []), &"`b`: rows: given 4, wanted 3");
    let b = MatRef::new(&halves, [3, 2]).unwrap();
    let wanted = rounded_workspace_len(2, 2, 3);
    let error = format!("`workspace`: length: given {}, wanted at least {wanted}", wanted - 1);
    fails(Matmul::new(a, b).run(&mut view, &mut vec![0.0; wanted - 1][..]), &error);
    assert_eq!(c, [f16::ONE; 4]);
}
