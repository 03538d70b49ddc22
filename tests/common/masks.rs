//! Masks of every kind for one shape, and what they add to a score.

use std::ops::Range;

use masktile::mask::{bf16, f16};
use masktile::{
    Alibi, BitMask, BlockMask, BoolMask, Causal, Mask, Offset, PrefixLm, Segments, TensorRef, View,
    Window,
};

use super::{Effort, Numbers, Shape};

/// Material for masks of one shape.
pub struct MaskData {
    pub shape: Shape,
    pub lengths: Vec<usize>,
    pub ranges: Vec<Range<usize>>,
    pub offsets: Vec<isize>,
    pub past: Vec<usize>,
    /// Cumulative lengths of three segments of queries and of keys.
    pub starts: [Vec<usize>; 2],
    /// Identities of segments, of queries and of keys.
    pub ids: [Vec<i32>; 2],
    /// Full size.
    pub ones: Vec<u8>,
    /// One row for each query, for all batches and heads.
    pub ones_by_query: Vec<u8>,
    pub bits: Vec<u8>,
    /// Blocks of 2 queries by 5 keys.
    pub table: Vec<u8>,
    pub bias: Vec<f32>,
    /// Some of it -infinity.
    pub masking_bias: Vec<f32>,
    pub bias_f16: Vec<f16>,
    pub bias_bf16: Vec<bf16>,
    pub slopes: Vec<f32>,
}

const BLOCK: [usize; 2] = [2, 5];

fn keeps(batch: usize, head: usize, query: usize, key: usize) -> bool {
    !(batch + 2 * head + 3 * query + 5 * key).is_multiple_of(4)
}

fn bias_of(batch: usize, head: usize, query: usize, key: usize) -> f32 {
    match (batch + head + 2 * query + 3 * key) % 7 {
        0 => f32::NEG_INFINITY,
        n => n as f32 * 0.25 - 0.8,
    }
}

impl MaskData {
    pub fn new(shape: Shape) -> Self {
        let [batch, heads, queries, keys] = shape;
        let mut numbers = Numbers::new((queries * 1000 + keys) as u64);
        let all = batch * heads * queries;
        let bias = numbers.many(all * keys);
        let masking = |b: &f32| if *b < -0.4 { f32::NEG_INFINITY } else { *b };
        let masking_bias: Vec<f32> = bias.iter().map(masking).collect();
        let mut ones = |n: usize| (0..n).map(|_| (numbers.below(3) as u8) * 7).collect::<Vec<u8>>();
        let starts = |n: usize| vec![0, n / 4, n / 2, n - usize::from(n > 5)];
        let blocks = queries.div_ceil(BLOCK[0]) * keys.div_ceil(BLOCK[1]);
        MaskData {
            shape,
            lengths: (0..batch)
                .map(|b| keys * (batch - b) / batch - usize::from(keys > 2))
                .collect(),
            ranges: (0..batch).map(|b| keys / 5..keys - b * (keys / 3)).collect(),
            offsets: (0..batch).map(|b| b as isize * 3 - 1).collect(),
            past: (0..batch).map(|b| b + keys / 3).collect(),
            starts: [starts(queries), starts(keys)],
            ids: [queries, keys]
                .map(|n| (0..batch * n).map(|at| (at % n * 3 / n.max(1)) as i32).collect()),
            ones: ones(all * keys),
            ones_by_query: ones(queries * keys),
            bits: ones(all * keys.div_ceil(8)).iter().map(|x| x.wrapping_mul(29) ^ 0x5a).collect(),
            table: ones(batch * heads * blocks),
            bias_f16: masking_bias.iter().map(|x| f16::from_f32(*x)).collect(),
            bias_bf16: masking_bias.iter().map(|x| bf16::from_f32(*x)).collect(),
            masking_bias,
            bias,
            slopes: (0..heads).map(|h| 0.3 / (h + 1) as f32).collect(),
        }
    }

    fn tensor<'a, T>(&self, data: &'a [T]) -> TensorRef<'a, T> {
        TensorRef::new(data, self.shape).unwrap()
    }

    /// Every kind of mask, with its name.
    pub fn masks(&self) -> Vec<(&'static str, Mask<'_>)> {
        let [batch, heads, queries, keys] = self.shape;
        let by_query = TensorRef::new(&self.ones_by_query, [1, 1, queries, keys]).unwrap();
        let bits = [batch, heads, queries, keys.div_ceil(8)];
        let blocks = [batch, heads, queries.div_ceil(BLOCK[0]), keys.div_ceil(BLOCK[1])];
        let ids = |of: usize, n| View::new(&self.ids[of], [batch, n]).unwrap();
        vec![
            ("none", Mask::None),
            ("causal top-left", Causal::top_left().into()),
            ("causal bottom-right", Causal::bottom_right().into()),
            ("causal offset 5", Causal::offset(5).into()),
            ("causal offset -2", Causal::offset(-2).into()),
            ("causal by batch", Causal::offsets(&self.offsets).into()),
            ("causal ending at", Causal::ending_at(&self.lengths).into()),
            ("window 3", Window::new(3, 0, Offset::bottom_right()).into()),
            ("window both sides", Window::new(4, 2, Offset::past(&self.past)).into()),
            ("window to the right", Window::new(0, usize::MAX, Offset::top_left()).into()),
            ("prefix", PrefixLm::new(&self.lengths, Offset::of(-3)).into()),
            ("key lengths", Mask::KeyLengths(&self.lengths)),
            ("key ranges", Mask::KeyRanges(&self.ranges)),
            ("segments", Segments::cumulative(&self.starts[0], &self.starts[1]).into()),
            ("causal segments", {
                Segments::cumulative_causal(&self.starts[0], &self.starts[1]).into()
            }),
            ("segment ids", Segments::ids(ids(0, queries), ids(1, keys)).into()),
            ("ones masked", BoolMask::ones_are_masked(self.tensor(&self.ones)).into()),
            (
                "ones kept, broadcast",
                BoolMask::ones_are_kept(by_query.broadcast(self.shape).unwrap()).into(),
            ),
            ("bits kept", {
                BitMask::ones_are_kept(TensorRef::new(&self.bits, bits).unwrap()).into()
            }),
            ("bits masked", {
                BitMask::ones_are_masked(TensorRef::new(&self.bits, bits).unwrap()).into()
            }),
            ("blocks", {
                let table = TensorRef::new(&self.table, blocks).unwrap();
                BlockMask::ones_are_kept(table, BLOCK).into()
            }),
            ("function", Mask::kept_where(&keeps)),
            ("bias", Mask::Bias(self.tensor(&self.bias))),
            ("masking bias", Mask::Bias(self.tensor(&self.masking_bias))),
            ("f16 bias", Mask::BiasF16(self.tensor(&self.bias_f16))),
            ("bf16 bias", Mask::BiasBf16(self.tensor(&self.bias_bf16))),
            ("alibi", Alibi::new(&self.slopes, Offset::bottom_right()).into()),
            ("bias function", Mask::bias_of(&bias_of)),
        ]
    }

    /// `score` with the biases that `mask` adds, each sum rounded as by the library if `R` is f32.
    pub fn biased<R: From<f32> + std::ops::Add<Output = R>>(
        &self,
        mask: &Mask<'_>,
        at: Shape,
        score: R,
    ) -> R {
        let [batch, head, query, key] = at;
        let bias = match mask {
            Mask::Bias(bias) => *bias.get(at).unwrap(),
            Mask::BiasF16(bias) => bias.get(at).unwrap().to_f32(),
            Mask::BiasBf16(bias) => bias.get(at).unwrap().to_f32(),
            Mask::Alibi(_) => {
                let [_, _, queries, keys] = self.shape;
                let distance = (query + keys).abs_diff(key + queries);
                -(distance as f32) * self.slopes[head]
            }
            Mask::BiasOf(_) => bias_of(batch, head, query, key),
            Mask::All(masks) => {
                return masks.iter().fold(score, |score, mask| self.biased(mask, at, score));
            }
            _ => return score,
        };
        score + R::from(bias)
    }

    /// Every kind.
    pub fn each_kind(&self, mut f: impl FnMut(&str, Mask<'_>)) {
        self.masks().into_iter().for_each(|(name, mask)| f(name, mask));
    }

    /// Every pair of kinds, and four at once; one pair in nine where effort is tiny.
    pub fn each_pair(&self, mut f: impl FnMut(&str, Mask<'_>)) {
        let masks = self.masks();
        let (step, mut count) = (Effort::current().pick(1, 1, 9), 0);
        for (i, (name, mask)) in masks.iter().enumerate().skip(1) {
            for (other_name, other) in &masks[i + 1..] {
                count += 1;
                if count % step == 0 {
                    f(&format!("{name} + {other_name}"), Mask::All(&[*mask, *other]));
                }
            }
        }
        let four = |names: [&str; 4]| {
            names.map(|name| masks.iter().find(|(other, _)| *other == name).unwrap().1)
        };
        for names in [
            ["causal top-left", "key lengths", "ones masked", "masking bias"],
            ["window both sides", "segments", "key ranges", "prefix"],
            ["bits kept", "blocks", "segment ids", "function"],
            ["bias", "f16 bias", "bf16 bias", "alibi"],
        ] {
            f(&names.join(" + "), Mask::All(&four(names)));
        }
    }

    /// Every triple of kinds; one in 11 where effort is small, in 199 where it is tiny.
    pub fn each_triple(&self, mut f: impl FnMut(&str, Mask<'_>)) {
        let masks = self.masks();
        let (step, mut count) = (Effort::current().pick(1, 11, 199), 0);
        for (i, a) in masks.iter().enumerate().skip(1) {
            for (j, b) in masks.iter().enumerate().skip(i + 1) {
                for c in &masks[j + 1..] {
                    count += 1;
                    if count % step == 0 {
                        let name = format!("{} + {} + {}", a.0, b.0, c.0);
                        f(&name, Mask::All(&[a.1, Mask::All(&[b.1]), c.1]));
                    }
                }
            }
        }
    }
}
