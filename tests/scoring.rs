//! What happens to a score before the softmax: scale, soft cap, biases, temperature, sinks; its
//! logarithm; copies of scores. In softmax and in attention, against float64 and scalar bits.

mod common;

use common::{AttentionRow, MaskData, Numbers, Shape, assert_same_bits, softmax_row};
use masktile::attention::Copied;
use masktile::{Attention, Causal, Isa, Mask, Softmax, TensorMut, TensorRef, Workspace};

#[derive(Clone, Copy, Debug)]
struct Options {
    scale: f32,
    softcap: Option<f32>,
    temperature: f32,
    sinks: Option<[f32; 2]>,
}

/// Every combination of the options, two values of each.
fn options() -> Vec<Options> {
    let mut all = Vec::new();
    for softcap in [None, Some(3.0)] {
        for temperature in [1.0, 0.7] {
            for sinks in [None, Some([0.5, 6.0]), Some([-4.0, f32::NEG_INFINITY])] {
                all.push(Options { scale: 0.8, softcap, temperature, sinks });
            }
        }
    }
    all
}

impl Options {
    fn softmax(&self) -> Softmax<'_> {
        let mut softmax = Softmax::new().scale(self.scale).temperature(self.temperature);
        if let Some(cap) = self.softcap {
            softmax = softmax.softcap(cap);
        }
        match &self.sinks {
            Some(sinks) => softmax.sinks(sinks),
            None => softmax,
        }
    }

    /// The softmax's argument from a scaled score, by the formula.
    fn score(&self, scaled: f64, bias: f64) -> f64 {
        let capped = self.softcap.map(f64::from).map_or(scaled, |cap| cap * (scaled / cap).tanh());
        (capped + bias) / f64::from(self.temperature)
    }

    /// [`softmax_row`] with the head's sink as one more score, whose probability is dropped.
    fn probs(&self, head: usize, scores: &[Option<f64>]) -> (Vec<f64>, f64) {
        let sink = self.sinks.map(|sinks| f64::from(sinks[head]));
        let mut all = scores.to_vec();
        all.push(sink);
        let (mut probs, lse) = softmax_row(&all);
        probs.pop();
        (probs, lse)
    }
}

const SHAPE: Shape = [2, 2, 3, 37];

fn positions() -> impl Iterator<Item = Shape> {
    let [_, heads, queries, keys] = SHAPE;
    (0..SHAPE.iter().product()).map(move |at| {
        [at / keys / queries / heads, at / keys / queries % heads, at / keys % queries, at % keys]
    })
}

/// Probabilities or their logarithms, and log-sum-exp.
fn run(isa: Isa, options: &Options, mask: Mask<'_>, log: bool, scores: &[f32]) -> [Vec<f32>; 2] {
    let (mut probs, mut lse) = (vec![f32::NAN; scores.len()], vec![f32::NAN; 12]);
    let softmax = options.softmax().mask(mask).isa(isa).log_sum_exp(&mut lse);
    let softmax = if log { softmax.log() } else { softmax };
    softmax
        .run(TensorRef::new(scores, SHAPE).unwrap(), TensorMut::new(&mut probs, SHAPE).unwrap())
        .unwrap();
    let mut in_place = scores.to_vec();
    let softmax = options.softmax().mask(mask).isa(isa);
    let softmax = if log { softmax.log() } else { softmax };
    softmax.run_in_place(TensorMut::new(&mut in_place, SHAPE).unwrap()).unwrap();
    assert_same_bits(&in_place, &probs, format_args!("{isa} {options:?} in place"));
    [probs, lse]
}

#[test]
fn softmax_is_the_formula() {
    let data = MaskData::new(SHAPE);
    let clean: Vec<f32> = Numbers::new(1).many(444).iter().map(|x| x * 6.0).collect();
    for options in options() {
        data.each_kind(|name, mask| {
            let mut scores = clean.clone();
            for (score, at) in scores.iter_mut().zip(positions()) {
                if !mask.kept(SHAPE, at).unwrap() {
                    *score = f32::NAN;
                }
            }
            for log in [false, true] {
                let [given, given_lse] = run(Isa::SCALAR, &options, mask, log, &scores);
                for row in 0..12 {
                    let line: Vec<Shape> = positions().skip(row * 37).take(37).collect();
                    let logits: Vec<Option<f64>> = line
                        .iter()
                        .enumerate()
                        .map(|(j, at)| {
                            let scaled = f64::from(scores[row * 37 + j] * options.scale);
                            let kept = mask.kept(SHAPE, *at).unwrap();
                            kept.then(|| options.score(scaled, data.biased(&mask, *at, 0.0)))
                        })
                        .collect();
                    let (probs, lse) = options.probs(row / 3 % 2, &logits);
                    for (j, prob) in probs.iter().enumerate() {
                        let given = f64::from(given[row * 37 + j]);
                        let wanted = if log { prob.ln() } else { *prob };
                        let case =
                            format!("{options:?} {name} log {log} [{row}, {j}]: {given} {wanted}");
                        if logits[j].is_none() {
                            assert_eq!(given, if log { f64::NEG_INFINITY } else { 0.0 }, "{case}");
                        } else {
                            // The scores, up to 10, are rounded some times on their way.
                            let scale = if log { 1.0 } else { *prob };
                            assert!((given - wanted).abs() <= 6e-6 * scale, "{case}");
                        }
                    }
                    let given = f64::from(given_lse[row]);
                    assert!(given == lse || (given - lse).abs() < 1e-5, "{name}: {given} {lse}");
                }
                for isa in Isa::available() {
                    let [probs, lse] = run(isa, &options, mask, log, &scores);
                    assert_same_bits(&probs, &given, format_args!("{isa} {options:?} {name}"));
                    assert_same_bits(&lse, &given_lse, format_args!("{isa} {options:?} {name}"));
                }
            }
        });
    }
}

/// Options that say nothing change no bit.
#[test]
fn neutral_options_change_nothing() {
    let scores = Numbers::new(2).many(444);
    let none = Options { scale: 1.0, softcap: None, temperature: 1.0, sinks: None };
    let no_sink = Options { sinks: Some([f32::NEG_INFINITY; 2]), ..none };
    for isa in Isa::available() {
        let causal = Causal::offset(20).into();
        let wanted = run(isa, &none, causal, false, &scores);
        assert_eq!(run(isa, &no_sink, causal, false, &scores), wanted);
    }
}

#[test]
fn nan_and_empty_rows() {
    let lengths = [0, 37];
    let none = Options { scale: 1.0, softcap: None, temperature: 1.0, sinks: None };
    let mut scores = Numbers::new(5).many(444);
    scores[444 - 30] = f32::NAN;
    for isa in Isa::available() {
        let [log, lse] = run(isa, &none, Mask::KeyLengths(&lengths), true, &scores);
        assert!(log[..222].iter().all(|x| *x == f32::NEG_INFINITY), "{isa}");
        assert!(lse[..6].iter().all(|x| *x == f32::NEG_INFINITY), "{isa}");
        assert!(log[444 - 37..].iter().all(|x| x.is_nan()), "{isa}");
        assert!(log[222..444 - 37].iter().all(|x| x.is_finite()), "{isa}");

        let sinks = Options { sinks: Some([2.0, f32::NAN]), ..none };
        let [probs, lse] = run(isa, &sinks, Mask::KeyLengths(&lengths), false, &scores);
        assert_eq!((probs[0], lse[0]), (0.0, 2.0), "{isa}: nothing kept but a sink");
        assert!(lse[3..6].iter().all(|x| x.is_nan()), "{isa}: a sink that is NaN");
        assert!(probs[222 + 111..].iter().all(|x| x.is_nan()), "{isa}: a sink that is NaN");
    }
}

/// Inputs of an attention, 2 batches x 2 heads x 3 queries x 37 or 300 keys x 8.
struct Inputs {
    keys: usize,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Inputs {
    fn new(keys: usize) -> Self {
        let mut numbers = Numbers::new(keys as u64);
        let mut spread = |n| numbers.many(n).iter().map(|x| x * 2.0).collect();
        Inputs { keys, q: spread(96), k: spread(32 * keys), v: spread(32 * keys) }
    }

    fn attention<'a>(&'a self, options: &'a Options, mask: Mask<'a>) -> Attention<'a> {
        let [q, k, v] = [(&self.q, 3), (&self.k, self.keys), (&self.v, self.keys)]
            .map(|(data, tokens)| TensorRef::new(data, [2, 2, tokens, 8]).unwrap());
        let mut attention = Attention::new(q, k, v)
            .mask(mask)
            .scale(options.scale)
            .temperature(options.temperature);
        if let Some(cap) = options.softcap {
            attention = attention.softcap(cap);
        }
        match &options.sinks {
            Some(sinks) => attention.sinks(sinks),
            None => attention,
        }
    }

    fn row(&self, line: usize, query: usize) -> AttentionRow<'_> {
        let tokens = line * self.keys * 8..(line + 1) * self.keys * 8;
        AttentionRow {
            q: &self.q[(line * 3 + query) * 8..][..8],
            keys: self.k[tokens.clone()].chunks(8).collect(),
            values: self.v[tokens].chunks(8).collect(),
            scale: 1.0,
        }
    }
}

#[test]
fn attention_is_the_formula() {
    for keys in [37, 300] {
        let inputs = Inputs::new(keys);
        let shape = [2, 2, 3, keys];
        let data = MaskData::new(shape);
        for options in options() {
            data.each_kind(|name, mask| {
                let run = |isa| {
                    let (mut out, mut lse) = ([f32::NAN; 96], [f32::NAN; 12]);
                    inputs
                        .attention(&options, mask)
                        .isa(isa)
                        .log_sum_exp(&mut lse)
                        .run(
                            &mut TensorMut::new(&mut out, [2, 2, 3, 8]).unwrap(),
                            &mut Workspace::new(),
                        )
                        .unwrap();
                    (out, lse)
                };
                let (scalar, scalar_lse) = run(Isa::SCALAR);
                for (row, given) in scalar.chunks(8).enumerate() {
                    let (line, query) = (row / 3, row % 3);
                    let at = |j| [line / 2, line % 2, query, j];
                    let oracle = inputs.row(line, query);
                    let logits: Vec<Option<f64>> = (0..keys)
                        .map(|j| {
                            let terms = oracle.q.iter().zip(oracle.keys[j]);
                            let dot: f64 = terms.map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
                            let scaled = dot * f64::from(options.scale);
                            let kept = mask.kept(shape, at(j)).unwrap();
                            kept.then(|| options.score(scaled, data.biased(&mask, at(j), 0.0)))
                        })
                        .collect();
                    let (probs, lse) = options.probs(line % 2, &logits);
                    for (x, given) in given.iter().enumerate() {
                        let wanted: f64 =
                            (0..keys).map(|j| probs[j] * f64::from(oracle.values[j][x])).sum();
                        let error = (f64::from(*given) - wanted).abs();
                        assert!(error <= 2e-5, "{options:?} {name} [{row}, {x}]: {given} {wanted}");
                    }
                    let given = f64::from(scalar_lse[row]);
                    assert!(given == lse || (given - lse).abs() < 2e-5, "{name}: {given} {lse}");
                }
                for isa in Isa::available() {
                    let (out, lse) = run(isa);
                    assert_same_bits(&out, &scalar, format_args!("{isa} {options:?} {name}"));
                    assert_same_bits(&lse, &scalar_lse, format_args!("{isa} {options:?} {name}"));
                }
            });
        }
    }
}

/// Copies are the scores at each stage, bit for bit what a softmax would be given and give.
#[test]
fn copies_are_the_stages() {
    for keys in [17, 37, 300] {
        let inputs = Inputs::new(keys);
        let shape = [2, 2, 3, keys];
        let data = MaskData::new(shape);
        let options =
            Options { scale: 0.8, softcap: Some(3.0), temperature: 0.7, sinks: Some([0.5, 6.0]) };
        let check = |name: &str, mask: Mask<'_>| {
            let copy = |isa, what| {
                let (mut out, mut copy) = ([f32::NAN; 96], vec![f32::NAN; 12 * keys]);
                inputs
                    .attention(&options, mask)
                    .isa(isa)
                    .copy_scores(what, TensorMut::new(&mut copy, shape).unwrap())
                    .run(
                        &mut TensorMut::new(&mut out, [2, 2, 3, 8]).unwrap(),
                        &mut Workspace::new(),
                    )
                    .unwrap();
                (copy, out)
            };
            let all = [Copied::Scaled, Copied::Capped, Copied::Biased, Copied::Probs];
            let scalar = all.map(|what| copy(Isa::SCALAR, what).0);
            for (row, scaled) in scalar[0].chunks(keys).enumerate() {
                let oracle = inputs.row(row / 3, row % 3);
                let logits: Vec<Option<f64>> = (0..keys)
                    .map(|j| {
                        let at = [row / 6, row / 3 % 2, row % 3, j];
                        let [scaled, capped, biased] =
                            [scaled[j], scalar[1][row * keys + j], scalar[2][row * keys + j]];
                        if !mask.kept(shape, at).unwrap() {
                            assert_eq!([scaled, capped, biased], [f32::NEG_INFINITY; 3], "{name}");
                            return None;
                        }
                        let dot: f32 = oracle
                            .q
                            .iter()
                            .zip(oracle.keys[j])
                            .fold(0.0, |sum: f32, (q, k)| q.mul_add(*k, sum));
                        assert_eq!(scaled.to_bits(), (dot * 0.8).to_bits(), "{name}");
                        let cap = 3.0 * (f64::from(scaled) / 3.0).tanh();
                        assert!((f64::from(capped) - cap).abs() < 2e-6, "{name}");
                        let wanted = data.biased(&mask, at, capped) * (1.0 / 0.7);
                        assert_eq!(biased.to_bits(), wanted.to_bits(), "{name}");
                        Some(f64::from(biased))
                    })
                    .collect();
                let (probs, _) = options.probs(row / 3 % 2, &logits);
                for (j, wanted) in probs.iter().enumerate() {
                    let given = f64::from(scalar[3][row * keys + j]);
                    // Under the smallest normal number there may be zero.
                    let bound = (4e-6 * wanted).max(1.2e-38);
                    assert!((given - wanted).abs() <= bound, "{name}: {given} {wanted}");
                }
            }
            let mut plain = [f32::NAN; 96];
            let mut out = TensorMut::new(&mut plain, [2, 2, 3, 8]).unwrap();
            inputs.attention(&options, mask).run(&mut out, &mut Workspace::new()).unwrap();
            for isa in Isa::available() {
                for (what, wanted) in all.into_iter().zip(&scalar) {
                    let (copy, out) = copy(isa, what);
                    assert_same_bits(&copy, wanted, format_args!("{isa} {what:?} {name}"));
                    assert_same_bits(&out, &plain, format_args!("{isa} {what:?} {name}: output"));
                }
            }
        };
        data.each_kind(check);
        // Chunks of 16 keys that nobody keeps are left out of the work.
        check("chunks", Mask::kept_where(&|_, _, _, key| key % 48 < 16));
    }
}

/// A sink gives a row weight of which no key is kept: its values are zeros all the same, whatever the
/// workspace held, in tiles that keep nothing and beside rows that do.
#[test]
fn a_sink_alone_gives_zeros() {
    let (heads, queries, keys, dim) = (2, 16, 3, 4);
    let numbers = |len: usize| (0..len).map(|i| 0.25 * (i % 7) as f32 - 0.5).collect::<Vec<_>>();
    let (q, k) = (numbers(heads * queries * dim), numbers(heads * keys * dim));
    let tokens = |data, tokens| TensorRef::new(data, [1, heads, tokens, dim]).unwrap();
    for isa in Isa::available() {
        let mut out = vec![f32::NAN; q.len()];
        let len = masktile::attention::workspace_len(queries, keys, dim, dim);
        Attention::new(tokens(&q, queries), tokens(&k, keys), tokens(&k, keys))
            .mask(Causal::bottom_right())
            .sinks(&[0.5, -1.0])
            .isa(isa)
            .run(
                &mut TensorMut::new(&mut out, [1, heads, queries, dim]).unwrap(),
                &mut vec![f32::NAN; len][..],
            )
            .unwrap();
        for (row, values) in out.chunks(dim).enumerate() {
            // The last three queries of a head keep keys.
            let keeps = row % queries + keys >= queries;
            assert!(values.iter().all(|x| x.is_finite()), "{isa}: row {row}: {values:?}");
            assert_eq!(values.iter().any(|x| *x != 0.0), keeps, "{isa}: row {row}: {values:?}");
        }
    }
}
