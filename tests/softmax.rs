//! Masked softmax against float64 and against scalar bits: every remainder, every mask and pair
//! of masks, NaN and infinity behind the masks, in place and out of place, strided and long rows.

mod common;

use common::{
    Effort, MaskData, Numbers, Shape, assert_same_bits, softmax_row, thinned, vector_isas,
};
use masktile::{Isa, Mask, Softmax, TensorMut, TensorRef};

fn positions(shape: Shape) -> impl Iterator<Item = Shape> {
    let [batch, heads, queries, keys] = shape;
    (0..batch * heads * queries * keys).map(move |at| {
        [at / keys / queries / heads, at / keys / queries % heads, at / keys % queries, at % keys]
    })
}

/// Puts NaN and infinities wherever `mask` masks.
fn poison(scores: &mut [f32], shape: Shape, mask: &Mask<'_>) {
    let poisons = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX];
    for (i, at) in positions(shape).enumerate() {
        if !mask.kept(shape, at).unwrap() {
            scores[i] = poisons[i % poisons.len()];
        }
    }
}

/// Probabilities and log-sum-exp.
fn run(isa: Isa, scores: &[f32], shape: Shape, scale: f32, mask: Mask<'_>) -> (Vec<f32>, Vec<f32>) {
    let mut probs = vec![f32::NAN; scores.len()];
    let mut lse = vec![f32::NAN; shape[0] * shape[1] * shape[2]];
    Softmax::new()
        .mask(mask)
        .scale(scale)
        .log_sum_exp(&mut lse)
        .isa(isa)
        .run(TensorRef::new(scores, shape).unwrap(), TensorMut::new(&mut probs, shape).unwrap())
        .unwrap();
    (probs, lse)
}

/// Scalar against the oracle within the promised bound, every other instruction set against
/// scalar, in place against out of place.
fn check(scores: &[f32], data: &MaskData, scale: f32, mask: Mask<'_>, case: &str) {
    let shape = data.shape;
    let (scalar, scalar_lse) = run(Isa::SCALAR, scores, shape, scale, mask);
    let keys = shape[3].max(1);
    for (row, probs) in scalar.chunks(keys).enumerate() {
        let line: Vec<Shape> = positions(shape).skip(row * keys).take(keys).collect();
        // The score as the library rounds it; the bound is about what comes after.
        let logits: Vec<Option<f64>> = line
            .iter()
            .enumerate()
            .map(|(j, at)| {
                let scaled = scores[row * keys + j] * scale;
                let kept = mask.kept(shape, *at).unwrap();
                kept.then(|| f64::from(data.biased(&mask, *at, scaled)))
            })
            .collect();
        let (wanted, lse) = softmax_row(&logits);
        let max = logits.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
        for (j, (given, wanted)) in probs.iter().zip(&wanted).enumerate() {
            let Some(logit) = logits[j] else {
                assert_eq!(given.to_bits(), 0, "{case}: masked [{row}, {j}] is {given}");
                continue;
            };
            let distance = (logit - max).abs();
            let unit = 0.5 * f64::from(f32::EPSILON) * wanted;
            let error = (f64::from(*given) - wanted).abs();
            assert!(
                error <= ((4.0 + distance) * unit).max(1e-37),
                "{case} [{row}, {j}]: {given:e} wanted {wanted:e}, off by {} with distance {distance}",
                error / unit
            );
        }
        let given = f64::from(scalar_lse[row]);
        assert!(given == lse || (given - lse).abs() <= 1e-5, "{case}: lse {given} wanted {lse}");
    }
    for isa in Isa::available() {
        let (probs, lse) = run(isa, scores, shape, scale, mask);
        assert_same_bits(&probs, &scalar, format_args!("{isa} {case}"));
        assert_same_bits(&lse, &scalar_lse, format_args!("{isa} {case} lse"));
        let mut in_place = scores.to_vec();
        let softmax = Softmax::new().mask(mask).scale(scale).isa(isa);
        softmax.run_in_place(TensorMut::new(&mut in_place, shape).unwrap()).unwrap();
        assert_same_bits(&in_place, &scalar, format_args!("{isa} {case} in place"));
    }
}

/// [`check`] with what `mask` masks poisoned, scaled and as they are.
fn check_poisoned(data: &MaskData, mask: Mask<'_>, name: &str) {
    let keys = data.shape[3];
    let rows = data.shape.iter().take(3).product::<usize>();
    let mut scores: Vec<f32> =
        Numbers::new(keys as u64).many(rows * keys).iter().map(|x| x * 8.0).collect();
    poison(&mut scores, data.shape, &mask);
    check(&scores, data, 0.37, mask, &format!("{keys} keys, {name}"));
    check(&scores, data, 1.0, mask, &format!("{keys} keys, {name}, scale 1"));
}

#[test]
fn every_remainder_and_every_mask() {
    vector_isas();
    for keys in thinned(1..=70) {
        let data = MaskData::new([2, 2, 3, keys]);
        data.each_kind(|name, mask| check_poisoned(&data, mask, name));
    }
}

#[test]
fn every_pair_of_masks() {
    for keys in thinned([1, 4, 15, 16, 17, 31, 33, 40, 48, 67]) {
        let data = MaskData::new([2, 2, 3, keys]);
        data.each_pair(|name, mask| check_poisoned(&data, mask, name));
    }
}

#[test]
fn every_triple_of_masks() {
    let data = MaskData::new([2, 2, 3, 21]);
    data.each_triple(|name, mask| check_poisoned(&data, mask, name));
}

#[test]
fn square_causal_and_wide_rows() {
    let sizes = [(3, 1025), (130, 130), (3, 1023), (3, 1024), (2, 4100)];
    let count = Effort::current().pick(sizes.len(), sizes.len(), 1);
    for (queries, keys) in sizes.into_iter().take(count) {
        let data = MaskData::new([1, 1, queries, keys]);
        let scores: Vec<f32> =
            Numbers::new(8).many(queries * keys).iter().map(|x| x * 20.0).collect();
        for (name, mask) in data.masks() {
            let mut scores = scores.clone();
            poison(&mut scores, data.shape, &mask);
            check(&scores, &data, 1.0, mask, &format!("{queries}x{keys}, {name}"));
        }
    }
}

/// The bound of long rows' sums: near-equal terms, where every rounding adds up.
#[test]
fn a_vocabulary() {
    let keys = 50_257;
    let data = MaskData::new([1, 1, 2, keys]);
    let scores = Numbers::new(2).many(2 * keys);
    check(&scores, &data, 1.0, Mask::None, "50257 near equal");
    let flat = vec![0.3; 2 * keys];
    check(&flat, &data, 1.0, Mask::None, "50257 equal");
}

#[test]
fn nan_and_infinity_at_kept_positions_stay_in_their_row() {
    let shape = [1, 1, 5, 40];
    let data = MaskData::new(shape);
    let clean = Numbers::new(4).many(200);
    for (name, mask) in data.masks() {
        let (wanted, _) = run(Isa::SCALAR, &clean, shape, 1.0, mask);
        for poison in [f32::NAN, f32::INFINITY] {
            let Some(j) = (0..40).find(|j| mask.kept(shape, [0, 0, 2, *j]).unwrap()) else {
                continue;
            };
            let mut scores = clean.clone();
            scores[2 * 40 + j] = poison;
            for isa in Isa::available() {
                let (probs, _) = run(isa, &scores, shape, 1.0, mask);
                for (i, (p, w)) in probs.iter().zip(&wanted).enumerate() {
                    let kept = mask.kept(shape, [0, 0, i / 40, i % 40]).unwrap();
                    let case = format!("{isa} {name} {poison} [{}, {}]", i / 40, i % 40);
                    match (i / 40 == 2, kept) {
                        (true, true) => assert!(p.is_nan(), "{case}: {p}"),
                        (true, false) => assert_eq!(p.to_bits(), 0, "{case}"),
                        _ => assert_same_bits(&[*p], &[*w], case),
                    }
                }
            }
        }
    }
}

#[test]
fn rows_of_minus_infinity_give_zeros() {
    let scores = [f32::NEG_INFINITY; 20];
    for isa in Isa::available() {
        let (probs, lse) = run(isa, &scores, [1, 1, 1, 20], 1.0, Mask::None);
        assert_eq!((probs, lse), (vec![0.0; 20], vec![f32::NEG_INFINITY]), "{isa}");
        // The finite stand-in for -infinity is a score like any other.
        let (probs, _) = run(isa, &[f32::MIN; 4], [1, 1, 1, 4], 1.0, Mask::None);
        assert_eq!(probs, [0.25; 4], "{isa}");
    }
}

#[test]
fn strided_scores_and_probs() {
    let shape = [2, 3, 4, 37];
    let data = MaskData::new(shape);
    let clean = Numbers::new(6).many(2 * 3 * 4 * 37);
    // Keys two apart, queries innermost but one, heads and batches far apart.
    let strides = [5000, 1300, 100, 2];
    let lay = |numbers: &[f32]| {
        let mut laid = vec![55.0; 10_000];
        for (i, at) in positions(shape).enumerate() {
            laid[(0..4).map(|x| at[x] * strides[x]).sum::<usize>()] = numbers[i];
        }
        laid
    };
    data.each_kind(|name, mask| {
        let wanted = lay(&run(Isa::SCALAR, &clean, shape, 0.5, mask).0);
        for isa in Isa::available() {
            let scores = lay(&clean);
            let mut probs = vec![55.0; 10_000];
            Softmax::new()
                .mask(mask)
                .scale(0.5)
                .isa(isa)
                .run(
                    TensorRef::with_strides(&scores, shape, strides).unwrap(),
                    TensorMut::with_strides(&mut probs, shape, strides).unwrap(),
                )
                .unwrap();
            assert_same_bits(&probs, &wanted, format_args!("{isa} {name}"));
        }
    });
}

/// A row alone, in batches of rows, and as a longer row whose tail is masked.
#[test]
fn a_row_does_not_know_its_batch() {
    let keys = 100;
    let scores = Numbers::new(12).many(130 * keys);
    for isa in Isa::available() {
        let alone: Vec<Vec<f32>> = (0..130)
            .map(|i| {
                run(isa, &scores[i * keys..(i + 1) * keys], [1, 1, 1, keys], 1.0, Mask::None).0
            })
            .collect();
        for rows in thinned(2..=130) {
            let (batch, _) = run(isa, &scores[..rows * keys], [1, 1, rows, keys], 1.0, Mask::None);
            assert_same_bits(&batch, &alone[..rows].concat(), format_args!("{isa}, {rows} rows"));
        }
        for length in thinned(1..=keys) {
            let row = &scores[..keys];
            let (padded, _) = run(isa, row, [1, 1, 1, keys], 1.0, Mask::KeyLengths(&[length]));
            let (short, _) = run(isa, &row[..length], [1, 1, 1, length], 1.0, Mask::None);
            assert_same_bits(&padded[..length], &short, format_args!("{isa}, length {length}"));
        }
    }
}

#[test]
fn empty_shapes() {
    for shape in [[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 5], [1, 1, 5, 0]] {
        for isa in Isa::available() {
            let (probs, lse) = run(isa, &[], shape, 1.0, Mask::None);
            assert!(
                probs.is_empty() && lse.iter().all(|lse| *lse == f32::NEG_INFINITY),
                "{shape:?}"
            );
        }
    }
}
