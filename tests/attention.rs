//! Attention against float64 and against scalar bits: sizes around tiles and key blocks, every
//! mask and pair of masks with NaN and infinity behind them, grouped heads, strides, and rows
//! that do not know what else is computed: alone, in a batch, in prefill, in decode.

mod common;

use common::{
    AttentionRow, MaskData, Numbers, Shape, assert_same_bits, is_small, thinned, vector_isas,
};
use masktile::attention::workspace_len;
use masktile::cache::KvCache;
use masktile::{
    Attention, BlockMask, Causal, Isa, Mask, Offset, Segments, TensorMut, TensorRef, Window,
};

#[derive(Clone, Copy, Debug)]
struct Sizes {
    batch: usize,
    heads: usize,
    kv_heads: usize,
    queries: usize,
    keys: usize,
    dim: usize,
    value_dim: usize,
}

#[derive(Clone)]
struct Case {
    sizes: Sizes,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

fn sizes(heads: usize, queries: usize, keys: usize, dim: usize) -> Sizes {
    Sizes { batch: 1, heads, kv_heads: heads, queries, keys, dim, value_dim: dim }
}

impl Case {
    fn new(sizes: Sizes) -> Self {
        let Sizes { batch, heads, kv_heads, queries, keys, dim, value_dim } = sizes;
        let mut numbers = Numbers::new((queries * 1009 + keys * 31 + dim) as u64);
        // Scores that spread over some units, so that blocks have different maxima.
        let spread = |x: Vec<f32>| x.into_iter().map(|x| x * 2.5).collect();
        Case {
            sizes,
            q: spread(numbers.many(batch * heads * queries * dim)),
            k: spread(numbers.many(batch * kv_heads * keys * dim)),
            v: numbers.many(batch * kv_heads * keys * value_dim),
        }
    }

    fn scores(&self) -> Shape {
        [self.sizes.batch, self.sizes.heads, self.sizes.queries, self.sizes.keys]
    }

    fn attention(&self) -> Attention<'_> {
        let Sizes { batch, heads, kv_heads, queries, keys, dim, value_dim } = self.sizes;
        Attention::new(
            TensorRef::new(&self.q, [batch, heads, queries, dim]).unwrap(),
            TensorRef::new(&self.k, [batch, kv_heads, keys, dim]).unwrap(),
            TensorRef::new(&self.v, [batch, kv_heads, keys, value_dim]).unwrap(),
        )
    }

    fn out_shape(&self) -> Shape {
        [self.sizes.batch, self.sizes.heads, self.sizes.queries, self.sizes.value_dim]
    }

    fn workspace(&self) -> Vec<f32> {
        let Sizes { heads, kv_heads, queries, keys, dim, value_dim, .. } = self.sizes;
        vec![f32::NAN; workspace_len(heads / kv_heads.max(1) * queries, keys, dim, value_dim)]
    }

    /// Output and log-sum-exp.
    fn run(&self, isa: Isa, mask: Mask<'_>) -> (Vec<f32>, Vec<f32>) {
        let mut out = vec![f32::NAN; self.out_shape().iter().product()];
        let mut lse = vec![f32::NAN; self.scores()[..3].iter().product()];
        self.attention()
            .mask(mask)
            .isa(isa)
            .log_sum_exp(&mut lse)
            .run(
                &mut TensorMut::new(&mut out, self.out_shape()).unwrap(),
                &mut self.workspace()[..],
            )
            .unwrap();
        (out, lse)
    }

    fn row(&self, [b, h, i]: [usize; 3]) -> AttentionRow<'_> {
        let Sizes { heads, kv_heads, queries, keys, dim, value_dim, .. } = self.sizes;
        let kv = b * kv_heads + h / (heads / kv_heads);
        let q = ((b * heads + h) * queries + i) * dim;
        let token = |data: &'_ [f32], j: usize, width: usize| {
            let at = (kv * keys + j) * width;
            at..at + width.min(data.len())
        };
        AttentionRow {
            q: &self.q[q..q + dim],
            keys: (0..keys).map(|j| &self.k[token(&self.k, j, dim)]).collect(),
            values: (0..keys).map(|j| &self.v[token(&self.v, j, value_dim)]).collect(),
            scale: 1.0 / (dim.max(1) as f64).sqrt(),
        }
    }

    /// Scalar against the oracle, every instruction set against scalar.
    fn check(&self, data: &MaskData, mask: Mask<'_>, name: &str) {
        let (scalar, scalar_lse) = self.run(Isa::SCALAR, mask);
        let [_, heads, queries, width] = self.out_shape();
        let greatest = self.v.iter().filter(|v| v.is_finite()).fold(0f32, |m, v| m.max(v.abs()));
        for (line, given) in scalar.chunks(width.max(1)).enumerate() {
            let row = [line / queries / heads, line / queries % heads, line % queries];
            let at = |j| [row[0], row[1], row[2], j];
            let score = |j, scaled| {
                let kept = mask.kept(self.scores(), at(j)).unwrap();
                kept.then(|| data.biased(&mask, at(j), scaled))
            };
            let (wanted, magnitude) = self.row(row).output(width, score);
            let bound = (16.0 + 4.0 * magnitude) * 2f64.powi(-24) * f64::from(greatest);
            for (x, (given, wanted)) in given.iter().zip(&wanted).enumerate() {
                let error = (f64::from(*given) - wanted).abs();
                let case = format!("{:?} {name} {row:?} [{x}]", self.sizes);
                assert!(error <= bound, "{case}: {given} wanted {wanted}, bound {bound:e}");
            }
        }
        for isa in Isa::available() {
            let (out, lse) = self.run(isa, mask);
            assert_same_bits(&out, &scalar, format_args!("{isa} {:?} {name}", self.sizes));
            assert_same_bits(&lse, &scalar_lse, format_args!("{isa} {:?} {name} lse", self.sizes));
        }
    }

    /// Keys and values that no query of theirs keeps become NaN and infinity.
    fn poison(&mut self, mask: &Mask<'_>) {
        let Sizes { batch, heads, kv_heads, queries, keys, dim, value_dim } = self.sizes;
        for b in 0..batch {
            for kv in 0..kv_heads {
                for j in 0..keys {
                    let group = heads / kv_heads;
                    let kept = (kv * group..(kv + 1) * group).any(|h| {
                        (0..queries).any(|i| mask.kept(self.scores(), [b, h, i, j]).unwrap())
                    });
                    let token = (b * kv_heads + kv) * keys + j;
                    let poison = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][j % 3];
                    if !kept {
                        self.k[token * dim..(token + 1) * dim].fill(poison);
                        self.v[token * value_dim..(token + 1) * value_dim].fill(poison);
                    }
                }
            }
        }
    }
}

fn check_poisoned(data: &MaskData, mask: Mask<'_>, name: &str) {
    let [batch, heads, queries, keys] = data.shape;
    let mut case =
        Case::new(Sizes { batch, heads, kv_heads: 1, queries, keys, dim: 12, value_dim: 20 });
    case.poison(&mask);
    case.check(data, mask, name);
}

#[test]
fn every_mask_and_pair() {
    vector_isas();
    for (queries, keys) in [(5, 23), (1, 40), (17, 9), (31, 300)] {
        if is_small() && keys == 300 {
            println!("left out under small effort: 31 queries, 300 keys");
            continue;
        }
        let data = MaskData::new([2, 2, queries, keys]);
        data.each_kind(|name, mask| check_poisoned(&data, mask, name));
        if keys < 300 {
            data.each_pair(|name, mask| check_poisoned(&data, mask, name));
        }
    }
}

#[test]
fn every_triple_of_masks() {
    let data = MaskData::new([2, 2, 3, 21]);
    data.each_triple(|name, mask| check_poisoned(&data, mask, name));
}

/// Masks with holes of whole chunks and blocks of keys, over several key blocks.
#[test]
fn masks_that_leave_out_whole_chunks() {
    let (queries, keys) = if is_small() { (20, 600) } else { (180, 900) };
    let case = Case::new(sizes(1, queries, keys, 8));
    let data = MaskData::new(case.scores());
    let far = |query: usize, key: usize| (key / 40 + query / 50).is_multiple_of(4);
    let table: Vec<u8> = (0..queries.div_ceil(50) * keys.div_ceil(40))
        .map(|at| far(at / keys.div_ceil(40) * 50, at % keys.div_ceil(40) * 40).into())
        .collect();
    let shape = [1, 1, queries.div_ceil(50), keys.div_ceil(40)];
    let blocks = BlockMask::ones_are_kept(TensorRef::new(&table, shape).unwrap(), [50, 40]);
    case.check(&data, blocks.into(), "blocks");
    case.check(&data, Mask::kept_where(&|_, _, query, key| far(query, key)), "function");
    for masks in [
        [Window::new(300, 0, Offset::bottom_right()).into(), blocks.into()],
        [Window::new(30, 9, Offset::top_left()).into(), Mask::None],
        [Segments::cumulative(&[0, 7, 20], &[0, 300, 550]).into(), blocks.into()],
    ] {
        case.check(&data, Mask::All(&masks), "blocks and a run");
    }
}

/// What a row masks has no influence on it, though other rows keep it.
#[test]
fn nan_at_positions_masked_for_one_row_alone() {
    let (queries, keys, dim) = (5, 23, 12);
    let case = Case::new(Sizes { heads: 2, kv_heads: 1, ..sizes(1, queries, keys, dim) });
    let data = MaskData::new(case.scores());
    data.each_kind(|name, mask| {
        for isa in Isa::available() {
            let (clean, _) = case.run(isa, mask);
            for row in 0..2 * queries {
                let at = |j| [0, row / queries, row % queries, j];
                let mut poisoned = case.clone();
                for j in (0..keys).filter(|j| !mask.kept(case.scores(), at(*j)).unwrap()) {
                    let poison = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][j % 3];
                    poisoned.k[j * dim..(j + 1) * dim].fill(poison);
                    poisoned.v[j * dim..(j + 1) * dim].fill(poison);
                }
                let (out, _) = poisoned.run(isa, mask);
                let row = row * dim..(row + 1) * dim;
                let case = format_args!("{isa} {name}, elements {row:?}");
                assert_same_bits(&out[row.clone()], &clean[row.clone()], case);
            }
        }
    });
}

#[test]
fn every_remainder_of_queries_and_keys() {
    for n in thinned(1..=130) {
        for (queries, keys) in [(n, 21), (3, n), (n, n)] {
            let case = Case::new(sizes(1, queries, keys, 8));
            let data = MaskData::new(case.scores());
            case.check(&data, Causal::bottom_right().into(), "causal");
            case.check(&data, Mask::None, "none");
        }
    }
}

#[test]
fn every_remainder_of_widths() {
    for n in thinned(1..=70) {
        let wide = Sizes { value_dim: n, ..sizes(2, 9, 30, 70 - n) };
        let case = Case::new(wide);
        case.check(&MaskData::new(case.scores()), Causal::top_left().into(), "causal");
    }
}

#[test]
fn sizes_around_key_blocks_and_row_groups() {
    for (queries, keys) in
        [(2, 255), (2, 256), (2, 257), (7, 600), (167, 20), (169, 270), (340, 530)]
    {
        let case = Case::new(sizes(1, queries, keys, 16));
        let data = MaskData::new(case.scores());
        for mask in [Mask::None, Causal::bottom_right().into(), Causal::top_left().into()] {
            case.check(&data, mask, "blocks");
        }
    }
}

#[test]
fn grouped_heads() {
    for (heads, kv_heads) in [(8, 8), (8, 4), (8, 2), (8, 1), (3, 1), (6, 2)] {
        for queries in [1, 5, 30] {
            let sizes =
                Sizes { batch: 2, heads, kv_heads, queries, keys: 37, dim: 10, value_dim: 18 };
            let case = Case::new(sizes);
            case.check(&MaskData::new(case.scores()), Causal::bottom_right().into(), "grouped");
        }
    }
}

/// NaN and infinity in a value that one row masks and another keeps: the first must not see it.
#[test]
fn values_masked_for_one_row_and_kept_for_another() {
    for poison in [f32::NAN, f32::INFINITY] {
        for keys in [20, 300] {
            let mut case = Case::new(sizes(1, 20, keys, 16));
            let mask: Mask<'_> = Causal::offset(keys as isize - 20).into();
            let clean: Vec<_> = Isa::available().map(|isa| case.run(isa, mask).0).collect();
            let poisoned_key = keys - 5;
            case.v[poisoned_key * 16 + 3] = poison;
            case.k[(keys - 2) * 16] = f32::NAN;
            for (isa, clean) in Isa::available().zip(clean) {
                let (out, _) = case.run(isa, mask);
                for (at, (given, clean)) in out.iter().zip(&clean).enumerate() {
                    let last_key = at / 16 + keys - 20;
                    let case = format!("{isa} {keys} keys [{}, {}]", at / 16, at % 16);
                    if last_key >= keys - 2 || (last_key >= poisoned_key && at % 16 == 3) {
                        assert!(!given.is_finite(), "{case}: {given}");
                    } else {
                        assert_same_bits(&[*given], &[*clean], case);
                    }
                }
            }
        }
    }
}

#[test]
fn nothing_kept_gives_zeros() {
    let case = Case::new(Sizes { batch: 2, ..sizes(2, 6, 40, 8) });
    let lengths = [0, 40];
    for isa in Isa::available() {
        let (out, lse) = case.run(isa, Mask::KeyLengths(&lengths));
        let half = out.len() / 2;
        assert!(out[..half].iter().all(|x| x.to_bits() == 0), "{isa}");
        assert!(out[half..].iter().all(|x| x.is_finite() && *x != 0.0), "{isa}");
        assert!(lse[..12].iter().all(|x| *x == f32::NEG_INFINITY), "{isa}");
        let none = Case::new(sizes(1, 3, 0, 8));
        assert_eq!(none.run(isa, Mask::None).0, [0.0; 24], "{isa}: no keys at all");
    }
}

/// The same numbers laid out batch x tokens x heads x dim, and with no contiguous axis.
#[test]
fn any_strides() {
    let sizes =
        Sizes { batch: 2, heads: 4, kv_heads: 2, queries: 19, keys: 290, dim: 12, value_dim: 20 };
    let case = Case::new(sizes);
    let mask: Mask<'_> = Causal::bottom_right().into();
    let wanted = case.run(Isa::SCALAR, mask).0;
    // (batch, head, token, dim) strides of tokens-before-heads, then of dims far apart.
    let swapped = |[_, h, t, d]: Shape| [h * t * d, d, h * d, 1];
    let spread = |[_, h, t, d]: Shape| [h * t * d * 2, 2, 2 * h, 2 * h * t];
    for strides in [swapped, spread] {
        let lay = |numbers: &[f32], shape: Shape| {
            let strides = strides(shape);
            let mut laid = vec![f32::NAN; numbers.len() * 2];
            for (i, x) in numbers.iter().enumerate() {
                let [_, h, t, d] = shape;
                let at = [i / d / t / h, i / d / t % h, i / d % t, i % d];
                laid[(0..4).map(|x| at[x] * strides[x]).sum::<usize>()] = *x;
            }
            laid
        };
        let shapes = [[2, 4, 19, 12], [2, 2, 290, 12], [2, 2, 290, 20], [2, 4, 19, 20]];
        let (q, k, v) = (lay(&case.q, shapes[0]), lay(&case.k, shapes[1]), lay(&case.v, shapes[2]));
        let wanted = lay(&wanted, shapes[3]);
        for isa in Isa::available() {
            let mut out = vec![f32::NAN; wanted.len()];
            let view = |data, shape| TensorRef::with_strides(data, shape, strides(shape)).unwrap();
            Attention::new(view(&q, shapes[0]), view(&k, shapes[1]), view(&v, shapes[2]))
                .mask(mask)
                .isa(isa)
                .run(
                    &mut TensorMut::with_strides(&mut out, shapes[3], strides(shapes[3])).unwrap(),
                    &mut case.workspace()[..],
                )
                .unwrap();
            assert_same_bits(&out, &wanted, format_args!("{isa}"));
        }
    }
}

/// Decoding token by token from a cache gives the bits of the prefill's rows, with grouped heads,
/// a batch, and a cache longer than a key block.
#[test]
fn a_decode_step_is_its_row_of_the_prefill() {
    let tokens = if is_small() { 40 } else { 300 };
    let sizes = Sizes {
        batch: 2,
        heads: 4,
        kv_heads: 2,
        queries: tokens,
        keys: tokens,
        dim: 16,
        value_dim: 24,
    };
    let case = Case::new(sizes);
    for isa in Isa::available() {
        let (prefill, _) = case.run(isa, Causal::top_left().into());
        let (mut keys, mut values) = (vec![f32::NAN; case.k.len()], vec![f32::NAN; case.v.len()]);
        let mut cache = KvCache::new(
            TensorMut::new(&mut keys, [2, 2, tokens, 16]).unwrap(),
            TensorMut::new(&mut values, [2, 2, tokens, 24]).unwrap(),
        )
        .unwrap();
        let q = TensorRef::new(&case.q, [2, 4, tokens, 16]).unwrap();
        let k = TensorRef::new(&case.k, [2, 2, tokens, 16]).unwrap();
        let v = TensorRef::new(&case.v, [2, 2, tokens, 24]).unwrap();
        let wanted = TensorRef::new(&prefill, [2, 4, tokens, 24]).unwrap();
        for t in 0..tokens {
            cache.append(k.narrow(2, t, 1).unwrap(), v.narrow(2, t, 1).unwrap()).unwrap();
            let mut out = [f32::NAN; 2 * 4 * 24];
            Attention::new(q.narrow(2, t, 1).unwrap(), cache.keys(), cache.values())
                .mask(Causal::bottom_right())
                .isa(isa)
                .run(
                    &mut TensorMut::new(&mut out, [2, 4, 1, 24]).unwrap(),
                    &mut case.workspace()[..],
                )
                .unwrap();
            for (at, given) in out.iter().enumerate() {
                let wanted = wanted.get([at / 96, at / 24 % 4, t, at % 24]).unwrap();
                assert_same_bits(&[*given], &[*wanted], format_args!("{isa} token {t} [{at}]"));
            }
        }
    }
}

/// A query alone and among 2 to 130 queries, and a batch alone and among others.
#[test]
fn a_row_does_not_know_its_batch() {
    let case = Case::new(sizes(1, 130, 270, 16));
    let run = |isa, first: usize, queries: usize| {
        let mut out = vec![f32::NAN; queries * 16];
        let q = TensorRef::new(&case.q[first * 16..], [1, 1, queries, 16]).unwrap();
        let k = TensorRef::new(&case.k, [1, 1, 270, 16]).unwrap();
        let v = TensorRef::new(&case.v, [1, 1, 270, 16]).unwrap();
        Attention::new(q, k, v)
            .isa(isa)
            .run(
                &mut TensorMut::new(&mut out, [1, 1, queries, 16]).unwrap(),
                &mut case.workspace()[..],
            )
            .unwrap();
        out
    };
    for isa in Isa::available() {
        let alone: Vec<Vec<f32>> = (0..130).map(|i| run(isa, i, 1)).collect();
        for queries in thinned(2..=130) {
            let given = run(isa, 0, queries);
            assert_same_bits(&given, &alone[..queries].concat(), format_args!("{isa}, {queries}"));
        }
    }
}

#[cfg(feature = "rayon")]
#[test]
fn threads_do_not_change_bits() {
    for sizes in
        // The third has fewer heads than threads, and so many keys that they are shared out.
        [
            Sizes { batch: 3, ..sizes(4, 200, 300, 16) },
            sizes(1, 1, 5, 8),
            sizes(1, 64, 2900, 32),
            sizes(1, 0, 5, 8),
        ]
    {
        let case = Case::new(sizes);
        let mask: Mask<'_> = Causal::bottom_right().into();
        let (wanted, wanted_lse) = case.run(Isa::detect(), mask);
        for threads in [1, 2, 3, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut given = vec![f32::NAN; wanted.len()];
            let mut lse = vec![f32::NAN; wanted_lse.len()];
            let mut out = TensorMut::new(&mut given, case.out_shape()).unwrap();
            let attention = case.attention().mask(mask).log_sum_exp(&mut lse);
            pool.install(|| attention.run_rayon(&mut out)).unwrap();
            assert_same_bits(&given, &wanted, format_args!("{threads} threads"));
            assert_same_bits(&lse, &wanted_lse, format_args!("{threads} threads, lse"));
        }
    }
}
