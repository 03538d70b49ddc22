//! Every operation on one set of inputs, for tests of what all operations have in common.

use crate::common::{MaskData, Numbers};
use masktile::cache::KvCache;
use masktile::decoder::join_as_columns;
use masktile::{
    Activation, Attention, Causal, Isa, Mask, MatMut, MatRef, Matmul, PackedB, Softmax, TensorMut,
    TensorRef,
};

/// Tokens, width and heads of the inputs.
const TOKENS: usize = 48;
const WIDTH: usize = 64;
const HEADS: usize = 2;

/// What the operations read.
pub struct Inputs {
    tokens: Vec<f32>,
    weight: Vec<f32>,
    masks: MaskData,
}

impl Inputs {
    /// Numbers in -scale .. scale, none of them zero where the scale is not.
    pub fn new(scale: f32) -> Self {
        let mut numbers = Numbers::new(7);
        let mut many = |n| numbers.many(n).into_iter().map(|x| x * scale).collect();
        Inputs {
            tokens: many(TOKENS * WIDTH),
            weight: many(WIDTH * WIDTH),
            masks: MaskData::new([1, HEADS, TOKENS, TOKENS]),
        }
    }

    fn tokens(&self) -> MatRef<'_> {
        MatRef::new(&self.tokens, [TOKENS, WIDTH]).unwrap()
    }

    fn weight(&self) -> MatRef<'_> {
        MatRef::new(&self.weight, [WIDTH, WIDTH]).unwrap()
    }

    /// The tokens as heads.
    fn heads(&self) -> TensorRef<'_> {
        let shape = [1, TOKENS, HEADS, WIDTH / HEADS];
        TensorRef::new(&self.tokens, shape).unwrap().heads_and_tokens_swapped()
    }
}

/// An operation: its name, and itself, which gives all that it writes.
pub type Operation = (&'static str, fn(&Inputs, Isa) -> Vec<f32>);

/// All of them. Each touches every instruction set's code that it has.
pub const OPERATIONS: [Operation; 12] = [
    ("product", |x, isa| product(x, isa, |matmul| matmul)),
    ("product of columns", |x, isa| {
        let matmul = Matmul::new(x.tokens(), x.weight().transposed()).isa(isa);
        run(matmul, [TOKENS, WIDTH])
    }),
    ("product of one row", |x, isa| {
        run(Matmul::new(x.tokens().narrow(0, 3, 1).unwrap(), x.weight()).isa(isa), [1, WIDTH])
    }),
    ("product, GELU", |x, isa| product(x, isa, |m| m.activation(Activation::GeluErf))),
    ("product, GELU by tanh", |x, isa| product(x, isa, |m| m.activation(Activation::GeluTanh))),
    ("product, SiLU", |x, isa| product(x, isa, |m| m.activation(Activation::Silu))),
    ("product, bias and residual", |x, isa| {
        let (bias, scale) = (&x.weight[..WIDTH], &x.weight[WIDTH..2 * WIDTH]);
        product(x, isa, |m| m.alpha(0.5).scale(scale).bias(bias).residual(x.tokens()))
    }),
    ("packed product", |x, isa| {
        let mut memory = vec![0.0; PackedB::len(WIDTH, WIDTH)];
        let packed = PackedB::pack_for(isa, x.weight(), &mut memory).unwrap();
        run(Matmul::packed(x.tokens(), packed).isa(isa), [TOKENS, WIDTH])
    }),
    ("softmax", |x, isa| softmax(x, isa, Mask::None)),
    ("softmax, every mask", |x, isa| {
        let mut all = Vec::new();
        x.masks.each_kind(|_, mask| all.extend(softmax(x, isa, mask)));
        all
    }),
    ("attention", |x, isa| attention(x, isa, Causal::bottom_right().into())),
    ("attention, every mask", |x, isa| {
        let masks = x.masks.masks();
        masks.into_iter().flat_map(|(_, mask)| attention(x, isa, mask)).collect()
    }),
];

/// Those that no instruction set changes.
pub const COPIES: [Operation; 2] = [
    ("join", |x, _| {
        let mut joined = vec![0.0; TOKENS * (WIDTH + 5)];
        let mut view = MatMut::new(&mut joined, [TOKENS, WIDTH + 5]).unwrap();
        join_as_columns(x.tokens(), &x.weight[..5], &mut view).unwrap();
        joined
    }),
    ("cache", |x, _| {
        let shape = [1, HEADS, TOKENS, WIDTH / HEADS];
        let (mut keys, mut values) = (vec![0.0; TOKENS * WIDTH], vec![0.0; TOKENS * WIDTH]);
        let view = |memory| TensorMut::new(memory, shape).unwrap();
        let mut cache = KvCache::new(view(&mut keys), view(&mut values)).unwrap();
        cache.append(x.heads(), x.heads()).unwrap();
        keys.extend(values);
        keys
    }),
];

fn product<'a>(x: &'a Inputs, isa: Isa, more: impl FnOnce(Matmul<'a>) -> Matmul<'a>) -> Vec<f32> {
    run(more(Matmul::new(x.tokens(), x.weight()).isa(isa)), [TOKENS, WIDTH])
}

fn run(matmul: Matmul<'_>, shape: [usize; 2]) -> Vec<f32> {
    let [m, n] = shape;
    let mut c = vec![0.0; m * n];
    let mut workspace = vec![0.0; masktile::matmul::workspace_len(m, n, WIDTH)];
    matmul.run(&mut MatMut::new(&mut c, shape).unwrap(), &mut workspace[..]).unwrap();
    c
}

fn softmax(x: &Inputs, isa: Isa, mask: Mask<'_>) -> Vec<f32> {
    // One batch, the tokens' numbers again and again as scores.
    let scores: Vec<f32> = x.tokens.iter().copied().cycle().take(HEADS * TOKENS * TOKENS).collect();
    let mut probs = vec![0.0; scores.len()];
    let shape = [1, HEADS, TOKENS, TOKENS];
    let (from, to) =
        (TensorRef::new(&scores, shape).unwrap(), TensorMut::new(&mut probs, shape).unwrap());
    Softmax::new().mask(mask).isa(isa).run(from, to).unwrap();
    probs
}

fn attention(x: &Inputs, isa: Isa, mask: Mask<'_>) -> Vec<f32> {
    let shape = [1, HEADS, TOKENS, WIDTH / HEADS];
    let dim = WIDTH / HEADS;
    let mut out = vec![0.0; TOKENS * WIDTH];
    let mut workspace = vec![0.0; masktile::attention::workspace_len(TOKENS, TOKENS, dim, dim)];
    Attention::new(x.heads(), x.heads(), x.heads())
        .mask(mask)
        .isa(isa)
        .run(&mut TensorMut::new(&mut out, shape).unwrap(), &mut workspace[..])
        .unwrap();
    out
}
