//! What a product does beside multiplying: epilogues, packed weights, batches and parts, each
//! against the plain product and the same steps written out.

mod common;

use common::{Numbers, assert_same_bits, vector_isas};
use masktile::{
    Activation, ErrorKind, Isa, MatMut, MatRef, Matmul, PackedB, TensorMut, TensorRef, View,
    ViewMut, Workspace,
};
use masktile_kernels::gemm::panel_width;
use masktile_kernels::{Op, Simd, activation, run};

const ACTIVATIONS: [Activation; 5] = [
    Activation::None,
    Activation::Relu,
    Activation::GeluErf,
    Activation::GeluTanh,
    Activation::Silu,
];

/// An activation of one number, by the functions that tests/activation.rs checks.
struct Apply(Activation, f32);

impl Op for Apply {
    type Out = f32;
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) -> f32 {
        let x = s.splat(self.1);
        s.largest(match self.0 {
            Activation::Relu => activation::relu(s, x),
            Activation::GeluErf => activation::gelu_erf(s, x),
            Activation::GeluTanh => activation::gelu_tanh(s, x),
            Activation::Silu => activation::silu(s, x),
            _ => x,
        })
    }
}

fn plain(isa: Isa, a: MatRef<'_>, b: MatRef<'_>) -> Vec<f32> {
    let [m, n] = [a.rows(), b.columns()];
    let mut c = vec![0.0; m * n];
    let mut view = MatMut::new(&mut c, [m, n]).unwrap();
    Matmul::new(a, b).isa(isa).run(&mut view, &mut Workspace::new()).unwrap();
    c
}

/// C by rows, by columns, or with numbers between its columns.
fn strides(layout: usize, [m, n]: [usize; 2]) -> [usize; 2] {
    [[n, 1], [1, m], [2 * n, 2]][layout]
}

#[test]
fn every_step_of_an_epilogue_in_its_order() {
    vector_isas();
    for (m, n, k) in [(1, 1, 1), (3, 17, 5), (15, 33, 40), (61, 50, 530), (20, 1, 9)] {
        let mut numbers = Numbers::new((m * n + k) as u64);
        let (a, b) = (numbers.many(m * k), numbers.many(k * n));
        let (scale, bias, residual) = (numbers.many(n), numbers.many(n), numbers.many(m * n));
        let (a, b) = (MatRef::new(&a, [m, k]).unwrap(), MatRef::new(&b, [k, n]).unwrap());
        for activation in ACTIVATIONS {
            for isa in Isa::available() {
                let wanted: Vec<f32> = plain(isa, a, b)
                    .into_iter()
                    .enumerate()
                    .map(|(at, x)| {
                        let x = x * scale[at % n] + bias[at % n];
                        let x = run(Isa::SCALAR, Apply(activation, x)) + residual[at];
                        x.clamp(-0.25, 1.5)
                    })
                    .collect();
                for layout in 0..3 {
                    let strides = strides(layout, [m, n]);
                    let mut c = vec![f32::NAN; 2 * m * n];
                    Matmul::new(a, b)
                        .scale(&scale)
                        .bias(&bias)
                        .activation(activation)
                        .residual(MatRef::new(&residual, [m, n]).unwrap())
                        .clamp(-0.25, 1.5)
                        .isa(isa)
                        .run(
                            &mut MatMut::with_strides(&mut c, [m, n], strides).unwrap(),
                            &mut Workspace::new(),
                        )
                        .unwrap();
                    let view = MatRef::with_strides(&c, [m, n], strides).unwrap();
                    let given: Vec<f32> =
                        (0..m * n).map(|at| *view.get([at / n, at % n]).unwrap()).collect();
                    let case = format_args!("{isa} {m}x{n}x{k} {activation:?} layout {layout}");
                    assert_same_bits(&given, &wanted, case);
                }
            }
        }
    }
}

#[test]
fn a_nan_stays_through_a_clamp() {
    let (a, b, mut c) = ([f32::NAN], [1.0], [0.0]);
    for isa in Isa::available() {
        Matmul::new(MatRef::new(&a, [1, 1]).unwrap(), MatRef::new(&b, [1, 1]).unwrap())
            .clamp(-1.0, 1.0)
            .isa(isa)
            .run(&mut MatMut::new(&mut c, [1, 1]).unwrap(), &mut Workspace::new())
            .unwrap();
        assert!(c[0].is_nan(), "{isa}");
    }
}

#[test]
fn a_function_of_ones_own_sees_every_element_once() {
    for (m, n, layout) in [(31, 70, 0), (31, 70, 1), (20, 1, 1), (5, 40, 2)] {
        let (a, b) = (vec![0.0; m * 3], vec![0.0; 3 * n]);
        let mut c = vec![f32::NAN; 2 * m * n];
        let strides = strides(layout, [m, n]);
        Matmul::new(MatRef::new(&a, [m, 3]).unwrap(), MatRef::new(&b, [3, n]).unwrap())
            .each(&|row, column, elements| {
                for (j, x) in elements.iter_mut().enumerate() {
                    *x += (row * 1000 + column + j) as f32;
                }
            })
            .run(&mut MatMut::with_strides(&mut c, [m, n], strides).unwrap(), &mut Workspace::new())
            .unwrap();
        let view = MatRef::with_strides(&c, [m, n], strides).unwrap();
        for i in 0..m {
            for j in 0..n {
                assert_eq!(view.get([i, j]), Some(&((i * 1000 + j) as f32)), "layout {layout}");
            }
        }
    }
}

#[test]
fn a_packed_weight_gives_the_same_bits() {
    for (m, n, k) in
        [(1, 40, 33), (3, 31, 600), (14, 64, 7), (50, 33, 513), (200, 1030, 20), (4, 5, 0)]
    {
        let mut numbers = Numbers::new((m + n + k) as u64);
        let (a, b) = (numbers.many(m * k), numbers.many(k * n));
        let a = MatRef::new(&a, [m, k]).unwrap();
        let by_columns = MatRef::new(&b, [n, k]).unwrap().transposed();
        for b in [MatRef::new(&b, [k, n]).unwrap(), by_columns] {
            for isa in Isa::available() {
                let mut memory = vec![f32::NAN; PackedB::len(k, n)];
                PackedB::pack_for(isa, b, &mut memory).unwrap();
                let packed = PackedB::from_memory(&memory).unwrap();
                assert_eq!(packed.shape(), [k, n]);
                let mut c = vec![0.0; m * n];
                let mut view = MatMut::new(&mut c, [m, n]).unwrap();
                let mut workspace = vec![f32::NAN; masktile::matmul::workspace_len(m, n, k)];
                Matmul::packed(a, packed).isa(isa).run(&mut view, &mut workspace[..]).unwrap();
                assert_same_bits(&c, &plain(isa, a, b), format_args!("{isa} {m}x{n}x{k}"));
            }
        }
    }
}

#[test]
fn a_packed_weight_is_refused_where_it_cannot_be_read() {
    let b = [1.0; 6];
    let b = MatRef::new(&b, [2, 3]).unwrap();
    let mut memory = vec![0.0; PackedB::len(2, 3)];
    let error = PackedB::pack(b, &mut memory[1..]).unwrap_err();
    assert_eq!(error.to_string(), "`memory`: length: given 79, wanted at least 80");
    assert_eq!(PackedB::from_memory(&memory).unwrap_err().kind(), ErrorKind::NotPacked);
    assert_eq!(PackedB::from_memory(&[]).unwrap_err().kind(), ErrorKind::NotPacked);
    PackedB::pack_for(Isa::SCALAR, b, &mut memory).unwrap();
    assert!(PackedB::from_memory(&memory[..70]).is_err());
    let packed = PackedB::from_memory(&memory).unwrap();
    // Scalar code reads panels of 4 columns, AVX-512 of 32, the others of 16.
    for isa in Isa::available().filter(|isa| *isa != Isa::SCALAR) {
        let (a, mut c) = ([1.0; 2], [7.0; 3]);
        let error = Matmul::packed(MatRef::new(&a, [1, 2]).unwrap(), packed)
            .isa(isa)
            .run(&mut MatMut::new(&mut c, [1, 3]).unwrap(), &mut Workspace::new())
            .unwrap_err();
        let columns = panel_width(isa);
        let wanted = format!(
            "`b`: given panels of 4 columns, wanted {columns}, which {isa} reads: pack for it"
        );
        assert_eq!(error.to_string(), wanted);
        assert_eq!(c, [7.0; 3]);
    }
}

/// 2 x 3 products of 5 x 4 by 4 x 20, with B of each, B shared, tokens before heads, and in parts.
#[test]
fn batches_are_their_products() {
    let [batch, heads, m, k, n] = [2, 3, 5, 4, 20];
    let mut numbers = Numbers::new(1);
    let (a, b) = (numbers.many(batch * heads * m * k), numbers.many(batch * heads * k * n));
    let residual = numbers.many(batch * heads * m * n);
    let by_heads = TensorRef::new(&a, [batch, heads, m, k]).unwrap();
    let by_tokens = TensorRef::new(&a, [batch, m, heads, k]).unwrap().heads_and_tokens_swapped();
    for (name, a) in [("heads first", by_heads), ("tokens first", by_tokens)] {
        for (shared, b_shape) in [(false, [batch, heads, k, n]), (true, [1, 1, k, n])] {
            for parts in [1, 2, 5, 40] {
                let mut c = vec![f32::NAN; residual.len()];
                let shape = [batch, heads, m, n];
                let product = Matmul::new(a, TensorRef::new(&b, b_shape).unwrap())
                    .residual(TensorRef::new(&residual, shape).unwrap());
                for part in
                    product.parts(&mut TensorMut::new(&mut c, shape).unwrap(), parts).unwrap()
                {
                    part.run(&mut Workspace::new()).unwrap();
                }
                for index in 0..batch * heads {
                    let (i, h) = (index / heads, index % heads);
                    let rows: Vec<f32> =
                        (0..m * k).map(|at| *a.get([i, h, at / k, at % k]).unwrap()).collect();
                    let b = &b[if shared { 0 } else { index * k * n }..][..k * n];
                    let mut wanted = plain(
                        Isa::detect(),
                        MatRef::new(&rows, [m, k]).unwrap(),
                        MatRef::new(b, [k, n]).unwrap(),
                    );
                    let at = index * m * n;
                    for (x, r) in wanted.iter_mut().zip(&residual[at..]) {
                        *x += r;
                    }
                    let case = format_args!("{name}, shared {shared}, {parts} parts, {i} {h}");
                    assert_same_bits(&c[at..at + m * n], &wanted, case);
                }
            }
        }
    }
}

#[test]
fn batches_that_do_not_fit_are_errors() {
    let data = [0.0; 64];
    let a = View::<f32, 3>::new(&data, [4, 2, 2]).unwrap();
    let run = |b: [usize; 3], c: [usize; 3]| {
        let mut out = [7.0; 64];
        let error = Matmul::new(a, View::new(&data, b).unwrap())
            .run(&mut ViewMut::new(&mut out, c).unwrap(), &mut Workspace::new())
            .unwrap_err();
        assert_eq!(out, [7.0; 64]);
        error.to_string()
    };
    assert_eq!(run([3, 2, 2], [4, 2, 2]), "`b`: batch: given 3, wanted 4");
    assert_eq!(run([4, 2, 2], [3, 2, 2]), "`c`: batch: given 3, wanted 4");
    assert_eq!(run([1, 3, 2], [4, 2, 2]), "`b`: rows: given 3, wanted 2");
    assert_eq!(run([1, 2, 3], [4, 2, 2]), "`c`: columns: given 2, wanted 3");
}
