//! Attention and caches of halves, bfloat16 and eight bits: the bits of the attention over f32 copies
//! of what they hold, on the same instruction set, rounded once.

mod common;

use common::{Effort, Numbers, assert_same_bits, vector_isas};
use masktile::cache::{KvCache, PagedCache, RaggedCache, ScaledCache, ScaledTokens};
use masktile::{
    Attention, Causal, Isa, Mask, Number, TensorMut, TensorRef, View, ViewMut, Workspace, bf16, f16,
};

/// Batch, heads, kv_heads, queries, keys, dim, value_dim.
type Sizes = [usize; 7];

const SIZES: [Sizes; 5] = [
    [1, 1, 1, 1, 40, 33, 17],
    [2, 4, 2, 5, 70, 64, 48],
    [1, 2, 1, 1, 300, 40, 64],
    [1, 1, 1, 20, 530, 16, 5],
    [1, 6, 2, 9, 21, 8, 0],
];

/// The strides of a tensor in one of three layouts: heads first, tokens first, dims before tokens.
fn strides(lie: usize, [_, heads, tokens, dim]: [usize; 4]) -> [usize; 4] {
    match lie {
        0 => [heads * tokens * dim, tokens * dim, dim, 1],
        1 => [heads * tokens * dim, dim, heads * dim, 1],
        _ => [heads * tokens * dim, tokens * dim, 1, tokens],
    }
}

/// Numbers of a type with their f32 copies.
struct Operand<T> {
    own: Vec<T>,
    widened: Vec<f32>,
    shape: [usize; 4],
    lie: usize,
}

impl<T: Number> Operand<T> {
    fn new(numbers: &mut Numbers, shape: [usize; 4], lie: usize) -> Self {
        let len = shape.iter().product();
        let own: Vec<T> = numbers.many(len).into_iter().map(|x| T::from_f32(2.0 * x)).collect();
        let widened = own.iter().map(|x| x.to_f32()).collect();
        Operand { own, widened, shape, lie }
    }

    fn own(&self) -> TensorRef<'_, T> {
        TensorRef::with_strides(&self.own, self.shape, strides(self.lie, self.shape)).unwrap()
    }

    fn widened(&self) -> TensorRef<'_> {
        TensorRef::with_strides(&self.widened, self.shape, strides(self.lie, self.shape)).unwrap()
    }
}

/// What attention writes, rounded to `T` and widened.
fn output<T: Number>(attention: Attention<'_>, shape: [usize; 4], isa: Isa) -> Vec<f32> {
    let mut out = vec![T::from_f32(7.0); shape.iter().product()];
    let mut view = TensorMut::new(&mut out, shape).unwrap();
    attention.isa(isa).run(&mut view, &mut Workspace::new()).unwrap();
    out.into_iter().map(T::to_f32).collect()
}

fn rounded<T: Number>(numbers: Vec<f32>) -> Vec<f32> {
    numbers.into_iter().map(|x| T::from_f32(x).to_f32()).collect()
}

fn attention<Q: Number, K: Number, V: Number, O: Number>(sizes: Sizes, lie: usize) {
    let [batch, heads, kv_heads, queries, keys, dim, value_dim] = sizes;
    let mut numbers = Numbers::new((keys + lie) as u64);
    let q = Operand::<Q>::new(&mut numbers, [batch, heads, queries, dim], lie);
    let k = Operand::<K>::new(&mut numbers, [batch, kv_heads, keys, dim], (lie + 1) % 3);
    let v = Operand::<V>::new(&mut numbers, [batch, kv_heads, keys, value_dim], lie);
    let lengths = vec![keys * 2 / 3; batch];
    let both = [Mask::from(Causal::bottom_right()), Mask::KeyLengths(&lengths)];
    let shape = [batch, heads, queries, value_dim];
    for (name, mask) in [("none", Mask::None), ("both", Mask::All(&both))] {
        for isa in Isa::available() {
            let wanted = Attention::new(q.widened(), k.widened(), v.widened()).mask(mask);
            let wanted = rounded::<O>(output::<f32>(wanted, shape, isa));
            let given = Attention::new(q.own(), k.own(), v.own()).mask(mask);
            let given = output::<O>(given, shape, isa);
            let types = [Q::DTYPE, K::DTYPE, V::DTYPE, O::DTYPE];
            let case = format_args!("{isa} {sizes:?} lie {lie} mask {name} {types:?}");
            assert_same_bits(&given, &wanted, case);
        }
    }
}

#[test]
fn attention_of_every_type() {
    vector_isas();
    for sizes in &SIZES[..Effort::current().pick(5, 4, 2)] {
        for lie in 0..3 {
            attention::<f16, f16, f16, f16>(*sizes, lie);
            attention::<bf16, bf16, bf16, bf16>(*sizes, lie);
            attention::<f32, bf16, f16, f32>(*sizes, lie);
            attention::<bf16, f32, f32, f16>(*sizes, lie);
            attention::<f32, f32, bf16, f32>(*sizes, lie);
            attention::<f32, f32, f32, bf16>(*sizes, lie);
        }
    }
}

/// NaN and infinity at masked keys have no influence, whatever they are held in.
#[test]
fn masked_halves_have_no_influence() {
    let (keys, dim) = (40, 24);
    let mut numbers = Numbers::new(2);
    let q = numbers.many(dim);
    let clean: Vec<bf16> = numbers.many(keys * dim).into_iter().map(bf16::from_f32).collect();
    let mut dirty = clean.clone();
    dirty[30 * dim..].fill(bf16::NAN);
    dirty[35 * dim..].fill(bf16::INFINITY);
    let q = TensorRef::new(&q, [1, 1, 1, dim]).unwrap();
    for isa in Isa::available() {
        let out = |memory: &[bf16]| {
            let x = TensorRef::new(memory, [1, 1, keys, dim]).unwrap();
            let attention = Attention::new(q, x, x).mask(Mask::KeyLengths(&[30]));
            output::<f32>(attention, [1, 1, 1, dim], isa)
        };
        assert_same_bits(&out(&dirty), &out(&clean), isa);
    }
}

/// Three appends of f32, then a decode step and a prefill of the last tokens, for a cache of `T`.
fn caches<T: Number>() {
    let [batch, heads, kv_heads, capacity, dim, value_dim] = [2, 4, 2, 320, 20, 33];
    let mut numbers = Numbers::new(11);
    let zeros = |width: usize| vec![T::from_f32(0.0); batch * kv_heads * capacity * width];
    let (mut keys, mut values) = (zeros(dim), zeros(value_dim));
    let shape = |width| [batch, kv_heads, capacity, width];
    let mut cache = KvCache::new(
        TensorMut::new(&mut keys, shape(dim)).unwrap(),
        TensorMut::new(&mut values, shape(value_dim)).unwrap(),
    )
    .unwrap();
    for tokens in [270, 1, 6] {
        let k = numbers.many(batch * kv_heads * tokens * dim);
        let v = numbers.many(batch * kv_heads * tokens * value_dim);
        cache
            .append(
                TensorRef::new(&k, [batch, kv_heads, tokens, dim]).unwrap(),
                TensorRef::new(&v, [batch, kv_heads, tokens, value_dim]).unwrap(),
            )
            .unwrap();
    }
    let len = cache.len();
    let copy = |view: TensorRef<'_, T>, width: usize| -> Vec<f32> {
        let all = (0..batch * kv_heads * len * width).map(|at| {
            let (row, d) = (at / width, at % width);
            let (line, t) = (row / len, row % len);
            view.get([line / kv_heads, line % kv_heads, t, d]).unwrap().to_f32()
        });
        all.collect()
    };
    let (k, v) = (copy(cache.keys(), dim), copy(cache.values(), value_dim));
    let k = TensorRef::new(&k, [batch, kv_heads, len, dim]).unwrap();
    let v = TensorRef::new(&v, [batch, kv_heads, len, value_dim]).unwrap();
    for queries in [1, 6] {
        let q = numbers.many(batch * heads * queries * dim);
        let q = TensorRef::new(&q, [batch, heads, queries, dim]).unwrap();
        let shape = [batch, heads, queries, value_dim];
        for isa in Isa::available() {
            let wanted = Attention::new(q, k, v).mask(Causal::bottom_right());
            let wanted = output::<f32>(wanted, shape, isa);
            let given = output::<f32>(cache.attend(q), shape, isa);
            assert_same_bits(&given, &wanted, format_args!("{isa} {:?} {queries}", T::DTYPE));
        }
    }

    // The same tokens in a ragged cache, all of batch 0 and one of batch 1, and in pages.
    let counts = [len, 1];
    let (mut keys, mut values, mut lengths) = (zeros(dim), zeros(value_dim), [0; 2]);
    let mut ragged = RaggedCache::new(
        TensorMut::new(&mut keys, [batch, kv_heads, capacity, dim]).unwrap(),
        TensorMut::new(&mut values, [batch, kv_heads, capacity, value_dim]).unwrap(),
        &mut lengths,
    )
    .unwrap();
    ragged.append(k, v, &counts).unwrap();
    let (page, pages) = (16, 40);
    let (mut keys, mut values, mut lengths) = (zeros(dim), zeros(value_dim), [0; 2]);
    let table: Vec<u32> = (0..40).rev().collect();
    let mut paged = PagedCache::new(
        TensorMut::new(&mut keys, [pages, kv_heads, page, dim]).unwrap(),
        TensorMut::new(&mut values, [pages, kv_heads, page, value_dim]).unwrap(),
        View::new(&table, [batch, 20]).unwrap(),
        &mut lengths,
    )
    .unwrap();
    paged.append(k, v, &counts).unwrap();
    let q = numbers.many(batch * heads * dim);
    let q = TensorRef::new(&q, [batch, heads, 1, dim]).unwrap();
    let shape = [batch, heads, 1, value_dim];
    for isa in Isa::available() {
        let wanted = Attention::new(q, k, v).mask(Causal::ending_at(&counts));
        let wanted = output::<f32>(wanted, shape, isa);
        let given = output::<f32>(ragged.attend(q).unwrap(), shape, isa);
        assert_same_bits(&given, &wanted, format_args!("{isa} ragged {:?}", T::DTYPE));
        let given = output::<f32>(paged.kv().unwrap().attend(q), shape, isa);
        assert_same_bits(&given, &wanted, format_args!("{isa} paged {:?}", T::DTYPE));
    }
}

#[test]
fn caches_of_every_type() {
    caches::<f32>();
    caches::<f16>();
    caches::<bf16>();
}

/// Numbers of eight bits as floats.
fn widened(view: ScaledTokens<'_>) -> Vec<f32> {
    let [_, heads, tokens, dim] = view.shape();
    (0..view.shape().iter().product())
        .map(|at: usize| {
            let (row, d) = (at / dim, at % dim);
            view.get([row / tokens / heads, row / tokens % heads, row % tokens, d]).unwrap()
        })
        .collect()
}

#[test]
fn a_cache_of_eight_bits() {
    for [batch, heads, kv_heads, queries, len, dim, value_dim] in SIZES {
        let mut numbers = Numbers::new(len as u64);
        let capacity = len + 3;
        let codes = |width: usize| vec![0i8; batch * kv_heads * capacity * width];
        let scales = || vec![f32::NAN; batch * kv_heads * capacity];
        let (mut keys, mut values) = (codes(dim), codes(value_dim));
        let (mut key_scales, mut value_scales) = (scales(), scales());
        let shape = |width| [batch, kv_heads, capacity, width];
        let scales_shape = [batch, kv_heads, capacity];
        let mut cache = ScaledCache::new(
            TensorMut::with_strides(&mut keys, shape(dim), strides(len % 3, shape(dim))).unwrap(),
            ViewMut::new(&mut key_scales, scales_shape).unwrap(),
            TensorMut::new(&mut values, shape(value_dim)).unwrap(),
            ViewMut::new(&mut value_scales, scales_shape).unwrap(),
        )
        .unwrap();
        let k = numbers.many(batch * kv_heads * len * dim);
        let v = numbers.many(batch * kv_heads * len * value_dim);
        let key_view = TensorRef::new(&k, [batch, kv_heads, len, dim]).unwrap();
        let value_view = TensorRef::new(&v, [batch, kv_heads, len, value_dim]).unwrap();
        // All but one, then one.
        for (first, tokens) in [(0, len - 1), (len - 1, 1)] {
            cache
                .append(
                    key_view.narrow(2, first, tokens).unwrap(),
                    value_view.narrow(2, first, tokens).unwrap(),
                )
                .unwrap();
        }
        assert_eq!((cache.len(), cache.capacity(), cache.is_empty()), (len, capacity, false));
        let (own_k, own_v) = (widened(cache.keys()), widened(cache.values()));
        for (given, wanted) in own_k.chunks(dim).zip(k.chunks(dim)) {
            let greatest = wanted.iter().fold(0f32, |most, x| most.max(x.abs()));
            for (given, wanted) in given.iter().zip(wanted) {
                let error = (given - wanted).abs();
                assert!(error <= greatest / 254.0 * 1.0001, "{given} of {wanted}, {greatest}");
            }
        }
        let q = numbers.many(batch * heads * queries * dim);
        let q = TensorRef::new(&q, [batch, heads, queries, dim]).unwrap();
        let out = [batch, heads, queries, value_dim];
        let own_k = TensorRef::new(&own_k, [batch, kv_heads, len, dim]).unwrap();
        let own_v = TensorRef::new(&own_v, [batch, kv_heads, len, value_dim]).unwrap();
        for isa in Isa::available() {
            let wanted = Attention::new(q, own_k, own_v).mask(Causal::bottom_right());
            let wanted = output::<f32>(wanted, out, isa);
            let given = output::<f32>(cache.attend(q), out, isa);
            assert_same_bits(&given, &wanted, format_args!("{isa} {len} x {dim}"));
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (mut keys, mut values) = ([0i8; 8], [0i8; 8]);
    let (mut a, mut b) = ([0f32; 4], [0f32; 4]);
    let error = ScaledCache::new(
        TensorMut::new(&mut keys, [1, 1, 4, 2]).unwrap(),
        ViewMut::new(&mut a, [1, 1, 3]).unwrap(),
        TensorMut::new(&mut values, [1, 1, 4, 2]).unwrap(),
        ViewMut::new(&mut b, [1, 1, 4]).unwrap(),
    );
    assert_eq!(error.unwrap_err().to_string(), "`key_scales`: tokens: given 3, wanted 4");
    let tokens = [0.5; 10];
    let tokens = TensorRef::new(&tokens, [1, 1, 5, 2]).unwrap();
    let mut cache = ScaledCache::new(
        TensorMut::new(&mut keys, [1, 1, 4, 2]).unwrap(),
        ViewMut::new(&mut a, [1, 1, 4]).unwrap(),
        TensorMut::new(&mut values, [1, 1, 4, 2]).unwrap(),
        ViewMut::new(&mut b, [1, 1, 4]).unwrap(),
    )
    .unwrap();
    let error = cache.append(tokens, tokens).unwrap_err();
    assert_eq!(error.to_string(), "`keys`: tokens: given 5, wanted at most 4");
    assert!(cache.is_empty());
    let codes = TensorRef::new(&keys, [1, 2, 2, 2]).unwrap();
    let error = ScaledTokens::new(codes, View::new(&b, [1, 1, 2]).unwrap());
    assert_eq!(error.unwrap_err().to_string(), "`scales`: heads: given 1, wanted 2");
}
