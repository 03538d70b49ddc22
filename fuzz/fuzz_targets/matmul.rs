//! Batched products with epilogues: float64 within its bound, the same bits in parts, and on every
//! instruction set.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use masktile::matmul::workspace_len;
use masktile::{Activation, Matmul, View, ViewMut};
use masktile_fuzz::common::{Product, same_bits};
use masktile_fuzz::{Floats, Lie, indices, on_every_isa};

#[derive(Arbitrary, Debug)]
struct Case {
    sizes: [u8; 4],
    is_b_shared: bool,
    /// Of A, B, C and the residual.
    lies: [Lie; 4],
    numbers: [Floats; 4],
    alpha: f32,
    beta: f32,
    has_bias: bool,
    has_scale: bool,
    has_residual: bool,
    activation: u8,
    clamp: Option<(f32, f32)>,
    parts: u8,
}

impl Case {
    /// Neither epilogue nor numbers that overflow: the oracle has a bound.
    fn is_plain(&self) -> bool {
        let is_bare = !self.has_scale && !self.has_residual && self.clamp.is_none();
        let plain = self.numbers.iter().all(Floats::are_plain);
        let factors = [self.alpha, self.beta];
        let tame = factors.iter().all(|x| *x == 0.0 || (1e-9..1e9).contains(&x.abs()));
        is_bare && plain && tame && self.activation % 5 == 0
    }
}

fuzz_target!(|case: Case| {
    let [batch, m, n, k] = case.sizes.map(usize::from);
    let [batch, m, n, k] = [batch % 4, m % 40, n % 70, k % 70];
    let b_batch = if case.is_b_shared { 1 } else { batch };
    let shapes = [[batch, m, k], [b_batch, k, n], [batch, m, n], [batch, m, n]];
    let memory: [Vec<f32>; 4] =
        std::array::from_fn(|i| case.numbers[i].many(case.lies[i].extent(shapes[i])));
    let view = |i: usize| {
        View::with_strides(&memory[i], shapes[i], case.lies[i].strides(shapes[i])).unwrap()
    };
    let (bias, scale) = (case.numbers[2].many(n), case.numbers[3].many(n));
    let mut matmul = Matmul::new(view(0), view(1)).alpha(case.alpha).beta(case.beta);
    matmul = if case.has_bias { matmul.bias(&bias) } else { matmul };
    matmul = if case.has_scale { matmul.scale(&scale) } else { matmul };
    matmul = if case.has_residual { matmul.residual(view(3)) } else { matmul };
    matmul = matmul.activation(match case.activation % 5 {
        1 => Activation::Relu,
        2 => Activation::GeluErf,
        3 => Activation::GeluTanh,
        4 => Activation::Silu,
        _ => Activation::None,
    });
    matmul = case.clamp.map_or(matmul, |(least, greatest)| matmul.clamp(least, greatest));

    let strides = case.lies[2].strides(shapes[2]);
    let run = |isa, parts: usize, memory: &mut [f32]| {
        let mut c = ViewMut::with_strides(memory, shapes[2], strides).unwrap();
        let mut workspace = vec![f32::NAN; workspace_len(batch * m, n, k)];
        match parts {
            0 => matmul.isa(isa).run(&mut c, &mut workspace[..]),
            parts => matmul
                .isa(isa)
                .parts(&mut c, parts)?
                .try_for_each(|part| part.run(&mut workspace[..])),
        }
    };
    let len = case.lies[2].extent(shapes[2]);
    let whole = on_every_isa(len, |isa, memory| run(isa, 0, memory)).unwrap();
    let parts = usize::from(case.parts % 9) + 1;
    let in_parts = on_every_isa(len, |isa, memory| run(isa, parts, memory)).unwrap();
    assert!(same_bits(&whole, &in_parts), "{parts} parts");

    if case.is_plain() {
        let given = View::with_strides(&whole, shapes[2], strides).unwrap();
        let contiguous = |view: View<'_, f32, 3>, at: usize| -> Vec<f32> {
            let [_, rows, columns] = view.shape();
            indices([1, rows, columns]).map(|[_, i, j]| *view.get([at, i, j]).unwrap()).collect()
        };
        // What `on_every_isa` begins with.
        let before = vec![7.0; m * n];
        for i in 0..batch {
            let (a, b) = (contiguous(view(0), i), contiguous(view(1), i % b_batch));
            let (alpha, beta) = (case.alpha, case.beta);
            let bias = case.has_bias.then_some(&bias[..]);
            let oracle = Product { m, n, k, alpha, beta, a: &a, b: &b, c: &before, bias };
            for [row, column] in indices([m, n]) {
                let (wanted, magnitude) = oracle.element(row, column);
                let bound = (k + 4) as f64 * magnitude * 2f64.powi(-24) + 1e-37;
                let given = f64::from(*given.get([i, row, column]).unwrap());
                assert!((given - wanted).abs() <= bound, "{given} wanted {wanted}, {bound:e}");
            }
        }
    }
});
