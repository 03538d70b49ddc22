//! Softmax and attention under every mask and pair of masks.

use masktile::attention::Copied;
use masktile::{Attention, Mask, Softmax};

use super::common::{MaskData, Numbers, thinned};
use super::{Input, Lie, Output, against_both};

#[test]
fn softmax_of_every_remainder() {
    against_both("softmax, every remainder and mask", |tally| {
        for keys in thinned(1..=67) {
            let shape = [2, 2, 3, keys];
            let data = MaskData::new(shape);
            let lie = Lie::ALL[keys / 4 % 4];
            let sinks = vec![0.3, -0.2];
            let scores = Input::new(&mut Numbers::new(1), shape, lie.strides(shape));
            let mut every = |name: &str, mask: Mask<'_>| {
                tally.each_isa(format_args!("{keys} keys {lie:?} {name}"), |isa, case| {
                    let mut probs = Output::new(shape, lie.strides(shape));
                    let mut lse = Output::new([12], [1]);
                    let softmax = Softmax::new().mask(mask).scale(0.5).isa(isa);
                    let softmax = match keys % 4 {
                        1 => softmax.log(),
                        2 => softmax.softcap(5.0).sinks(&sinks),
                        3 => softmax.log().temperature(0.7).sinks(&sinks),
                        _ => softmax,
                    };
                    softmax.log_sum_exp(&mut lse.memory).run(scores.view(), probs.view()).unwrap();
                    let mut all = probs.elements(case);
                    all.extend(lse.elements(case));
                    all
                });
            };
            data.each_kind(&mut every);
            // Pairs at three remainders: none, one, and one less than a vector.
            if [1, 31, 64].contains(&keys) {
                data.each_pair(&mut every);
            }
        }
    });
}

#[test]
fn softmax_in_place() {
    against_both("softmax in place", |tally| {
        for keys in thinned(1..=67) {
            let shape = [1, 1, 5, keys];
            let data = MaskData::new(shape);
            for lie in Lie::ALL {
                data.each_kind(|name, mask| {
                    tally.each_isa(format_args!("{keys} keys {lie:?} {name}"), |isa, case| {
                        // Its own canaries are the scores: equal everywhere.
                        let mut scores = Output::new(shape, lie.strides(shape));
                        let softmax = Softmax::new().mask(mask).isa(isa);
                        softmax.run_in_place(scores.view()).unwrap();
                        scores.elements(case)
                    });
                });
            }
        }
    });
}

struct Sizes {
    heads: usize,
    kv_heads: usize,
    queries: usize,
    keys: usize,
    dim: usize,
    value_dim: usize,
}

impl Sizes {
    /// Attention of these sizes under every mask, and every pair of them if so.
    fn attend(&self, tally: &mut super::Tally, lie: Lie, pairs: bool) {
        let Sizes { heads, kv_heads, queries, keys, dim, value_dim } = *self;
        let mut numbers = Numbers::new((queries * 1000 + keys) as u64);
        let mut tensor = |shape| Input::new(&mut numbers, shape, lie.strides(shape));
        let q = tensor([1, heads, queries, dim]);
        let k = tensor([1, kv_heads, keys, dim]);
        let v = tensor([1, kv_heads, keys, value_dim]);
        let out_shape = [1, heads, queries, value_dim];
        let rows = heads / kv_heads * queries;
        let len = masktile::attention::workspace_len(rows, keys, dim, value_dim);
        let workspace = std::cell::RefCell::new(vec![f32::NAN; len]);
        let scores = [1, heads, queries, keys];
        let (data, sinks) = (MaskData::new(scores), vec![0.5; heads]);
        let mut attend = |name: &str, mask: Mask<'_>| {
            let case = format_args!(
                "{heads}/{kv_heads} {queries}x{keys} {dim} {value_dim} {lie:?} {name}"
            );
            tally.each_isa(case, |isa, case| {
                let mut out = Output::new(out_shape, lie.strides(out_shape));
                let mut lse = Output::new([heads * queries], [1]);
                let mut copy = Output::new(scores, lie.strides(scores));
                let attention = Attention::new(q.view(), k.view(), v.view()).mask(mask).isa(isa);
                let attention = match keys % 3 {
                    0 => attention.copy_scores(Copied::Probs, copy.view()),
                    1 => attention.copy_scores(Copied::Biased, copy.view()).softcap(3.0),
                    _ => attention.sinks(&sinks).temperature(0.7),
                };
                attention
                    .log_sum_exp(&mut lse.memory)
                    .run(&mut out.view(), &mut workspace.borrow_mut()[..])
                    .unwrap();
                let mut all = out.elements(case);
                all.extend(lse.elements(case));
                let copied = copy.elements(case);
                if keys % 3 == 0 {
                    for (number, prob) in copied.iter().enumerate() {
                        let (row, key) = (number / keys, number % keys);
                        let at = [0, row / queries, row % queries, key];
                        let kept = mask.kept(scores, at).unwrap();
                        assert!(kept || prob.to_bits() == 0, "{case}: {at:?} masked, {prob}");
                    }
                }
                all.extend(copied);
                all
            });
        };
        data.each_kind(&mut attend);
        if pairs {
            data.each_pair(&mut attend);
        }
    }
}

/// Every remainder of keys, dims and values modulo the vector and of rows modulo the tile.
#[test]
fn attention_of_every_remainder() {
    against_both("attention, every remainder and mask", |tally| {
        for n in thinned(1..=40) {
            let (heads, kv_heads) = [(2, 2), (2, 1), (4, 2)][n % 3];
            let sizes = Sizes {
                heads,
                kv_heads,
                queries: n % 17 + 1,
                keys: n,
                dim: n * 7 % 33 + 1,
                value_dim: n * 11 % 35 + 1,
            };
            for lie in [Lie::ALL[n % 4], Lie::ALL[(n + 1) % 4]] {
                sizes.attend(tally, lie, [1, 7, 33].contains(&n));
            }
        }
    });
}

/// More keys than a block holds, more rows than a group, one query as in decoding.
#[test]
fn attention_of_several_blocks() {
    against_both("attention of several blocks", |tally| {
        for (queries, keys) in [(1, 255), (1, 257), (3, 513), (100, 260), (200, 30)] {
            let sizes = Sizes { heads: 2, kv_heads: 1, queries, keys, dim: 5, value_dim: 18 };
            for lie in Lie::ALL {
                sizes.attend(tally, lie, false);
            }
        }
    });
}
