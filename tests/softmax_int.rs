//! Softmax of quantised scores: every mask on every instruction set against the same steps written
//! out in wide integers, and against float64.

mod common;

use common::{MaskData, Numbers, Shape};
use masktile::int8::{Form, FromInt8, FromInt16, SoftmaxInt};
use masktile::{ErrorKind, Isa, Mask, MatMut, MatRef, TensorMut, TensorRef};

/// `a b / 2^31` to the nearest, halves upwards.
fn high(a: i128, b: i128) -> i128 {
    (a * b + (1 << 30)).div_euclid(1 << 31)
}

/// `x / 2^n` to the nearest, halves away from zero.
fn shifted(x: i128, n: u32) -> i128 {
    x.signum() * ((2 * x.abs() + (1 << n)) >> (n + 1))
}

fn fraction(x: f64) -> i128 {
    (x * 2f64.powi(31)).round() as i128
}

/// `exp(x / 2^26)` as 31 bits behind the point, step by step.
fn exp(x: i128) -> i128 {
    if x == 0 {
        return (1 << 31) - 1;
    }
    // The multiple of a quarter above x, and what is under it.
    let quarters = -x >> 24;
    let near = x + (quarters << 24);
    let (quarters, near) = if near == 0 { (quarters - 1, -(1 << 24)) } else { (quarters, near) };
    let t = near * 32 + (1 << 28);
    let t2 = high(t, t);
    let (t3, t4) = (high(t2, t), high(t2, t2));
    let higher = shifted(high(shifted(t4, 2) + t3, fraction(1.0 / 3.0)) + t2, 1);
    let middle = fraction((-0.125f64).exp());
    let mut result = middle + high(middle, t + higher);
    for bit in 0..7 {
        if quarters >> bit & 1 == 1 {
            result = high(result, fraction((-(2f64.powi(bit - 2))).exp()));
        }
    }
    result
}

/// `1 / (1 + x)` of 31 bits behind the point, step by step.
fn one_over_one_plus(x: i128) -> i128 {
    let two = |x: f64| (x * 2f64.powi(29)).round() as i128;
    let half = (x + (1 << 31)) / 2;
    let mut guess = two(48.0 / 17.0) + high(half, two(-32.0 / 17.0));
    for _ in 0..3 {
        guess += 4 * high(guess, (1 << 29) - high(half, guess));
    }
    2 * guess
}

/// A row of i8 scores, masked ones none, as probabilities of so many bits.
fn row_of_i8(scores: &[Option<i8>], form: FromInt8, bits: u32) -> Vec<i32> {
    let zero = -(1 << (bits - 1));
    let Some(greatest) = scores.iter().flatten().max() else { return vec![zero; scores.len()] };
    let exp_of = |score: i8| {
        let difference = i128::from(score) - i128::from(*greatest);
        let scaled = difference << form.multiplier.shift;
        (difference >= i128::from(form.diff_min))
            .then(|| exp(high(scaled, i128::from(form.multiplier.value))))
    };
    let weights = scores.iter().flatten().filter_map(|score| exp_of(*score));
    let sum: i128 = weights.map(|exp| shifted(exp, 12)).sum();
    // The sum as 2^over_one (1 + x).
    let over_one = sum.ilog2() as i128 - 19;
    let x = (sum << (31 - sum.ilog2())) - (1 << 31);
    let factor = one_over_one_plus(x);
    let probability = |score: Option<i8>| {
        let Some(exp) = score.and_then(exp_of) else { return zero };
        let shift = (over_one + 31 - i128::from(bits)) as u32;
        shifted(high(factor, exp), shift).min((1 << bits) - 1) as i32 + zero
    };
    scores.iter().map(|score| probability(*score)).collect()
}

/// The value at `x` of a line between two of 513 places, which the function gives as f32.
fn line(x: i32, f: impl Fn(f64) -> f32) -> i32 {
    let place = |i: i32| {
        let at = |i: f64| 32768.0 * f(i / 512.0);
        let here = at(f64::from(i)).round();
        if i == 512 {
            return here.min(32767.0) as i32;
        }
        let middle = ((at(f64::from(i + 1)) + here) / 2.0).round();
        let off = middle - at(f64::from(i) + 0.5).round();
        (here - (off / 2.0).round()).min(32767.0) as i32
    };
    let (i, rest) = ((x + 32768) / 128, (x + 32768) % 128);
    place(i) + ((place(i + 1) - place(i)) * rest + 64).div_euclid(128)
}

/// A row of i16 scores.
fn row_of_i16(scores: &[Option<i16>], form: FromInt16) -> Vec<i32> {
    let Some(greatest) = scores.iter().flatten().max() else { return vec![0; scores.len()] };
    let exp_of = |score: i16| {
        let difference = i128::from(score) - i128::from(*greatest);
        let by = form.multiplier;
        let scaled = high(difference << by.shift.max(0), i128::from(by.value));
        let scaled = shifted(scaled, (-by.shift).max(0) as u32);
        line((scaled + 32767).clamp(-32768, 32767) as i32, |t| (10.0 * (t - 1.0)).exp() as f32)
    };
    let sum: i64 = scores.iter().flatten().map(|score| i64::from(exp_of(*score))).sum();
    let top = sum.ilog2();
    let over_one = (((sum << (30 - top)) + (1 << 13)) >> 14) - (1 << 16) - (1 << 15);
    let factor = line(over_one.clamp(-32768, 32767) as i32, |t| (1.0 / (1.0 + t)) as f32);
    let probability = |score: Option<i16>| {
        let Some(score) = score else { return 0 };
        let product = i64::from(exp_of(score)) * i64::from(factor);
        ((product + (1 << (top - 1))) >> top).clamp(0, 32767) as i32
    };
    scores.iter().map(|score| probability(*score)).collect()
}

/// Runs it on every instruction set, in place too where types are the same, and compares.
fn check<F, O>(
    form: F,
    [shape, stride]: [Shape; 2],
    scores: &[F::Score],
    mask: Mask<'_>,
    case: &str,
    wanted: impl Fn(&[Option<F::Score>]) -> Vec<i32>,
) where
    F: Form<O>,
    O: Copy + Into<i32> + PartialEq,
{
    let scores = TensorRef::with_strides(scores, shape, stride).unwrap();
    let [batch, heads, queries, keys] = shape;
    for isa in Isa::available() {
        let mut probs = vec![F::ZERO; shape.iter().product()];
        let view = TensorMut::new(&mut probs, shape).unwrap();
        SoftmaxInt::new(form).mask(mask).isa(isa).run(scores, view).unwrap();
        for row in 0..batch * heads * queries {
            let [b, h, q] = [row / (heads * queries), row / queries % heads, row % queries];
            let kept = |key: usize| mask.kept(shape, [b, h, q, key]).unwrap();
            let row_scores: Vec<_> = (0..keys)
                .map(|key| kept(key).then(|| *scores.get([b, h, q, key]).unwrap()))
                .collect();
            let given: Vec<i32> = probs[row * keys..][..keys].iter().map(|p| (*p).into()).collect();
            assert_eq!(given, wanted(&row_scores), "{isa} {case} row {b} {h} {q}");
        }
    }
}

fn bytes(numbers: &mut Numbers, n: usize) -> Vec<i8> {
    (0..n).map(|_| numbers.below(256) as u8 as i8).collect()
}

/// Every mask that adds nothing, alone and with another; the others are errors.
#[test]
fn every_mask_is_as_if_its_keys_were_not_there() {
    for keys in common::thinned([1, 7, 16, 17, 33, 70]) {
        let shape = [2, 2, 5, keys];
        let data = MaskData::new(shape);
        let mut numbers = Numbers::new(keys as u64);
        let count = shape.iter().product();
        let (narrow, wide) = (
            bytes(&mut numbers, count),
            (0..count).map(|_| numbers.below(1 << 16) as u16 as i16).collect::<Vec<_>>(),
        );
        let (from_i8, from_i16) =
            (FromInt8::from_scale(0.07).unwrap(), FromInt16::from_scale(3e-4).unwrap());
        let strides = [shape, [10 * keys, 5 * keys, keys, 1]];
        let mut kinds = 0;
        let mut one = |name: &str, mask: Mask<'_>| {
            let adds = ["bias", "alibi"].iter().any(|word| name.contains(word));
            if adds {
                let mut probs = vec![7i8; count];
                let view = TensorMut::new(&mut probs, shape).unwrap();
                let scores = TensorRef::new(&narrow, shape).unwrap();
                let error = SoftmaxInt::new(from_i8).mask(mask).run(scores, view).unwrap_err();
                let wanted = ErrorKind::Misplaced { wanted: "a softmax of floats" };
                assert_eq!(error.kind(), wanted, "{name}");
                assert_eq!(probs, vec![7; count]);
                return;
            }
            kinds += 1;
            check::<_, i8>(from_i8, strides, &narrow, mask, name, |row| row_of_i8(row, from_i8, 8));
            check::<_, i16>(from_i8, strides, &narrow, mask, name, |row| {
                row_of_i8(row, from_i8, 16)
            });
            check::<_, i16>(from_i16, strides, &wide, mask, name, |row| row_of_i16(row, from_i16));
        };
        data.each_kind(&mut one);
        if keys == 17 {
            data.each_pair(&mut one);
        }
        assert!(kinds >= 22, "{kinds}");
    }
}

/// Scales from the least to where every difference counts as none, and rows of every length.
#[test]
fn every_scale_and_length() {
    let mut numbers = Numbers::new(3);
    for keys in common::thinned((1..40).chain([511, 512, 513, 3000])) {
        let shape = [1, 1, 3, keys];
        let strides = [shape, [0, 0, 2 * keys + 1, 2]];
        let narrow = bytes(&mut numbers, 6 * keys + 3);
        let wide: Vec<i16> = narrow.iter().map(|x| i16::from(*x) * 256 + 7).collect();
        for scale in [1.6e-8, 0.001, 0.02, 0.1, 0.5, 1.0, 7.0, 31.9, 1000.0] {
            let form = FromInt8::from_scale(scale).unwrap();
            let case = format!("{keys} keys, scale {scale}");
            // Differences times 2^shift that leave 32 bits have no meaning in the reference.
            if form.diff_min <= -255 || form.multiplier.shift < 24 {
                check::<_, i8>(form, strides, &narrow, Mask::None, &case, |row| {
                    row_of_i8(row, form, 8)
                });
                check::<_, i16>(form, strides, &narrow, Mask::None, &case, |row| {
                    row_of_i8(row, form, 16)
                });
            }
            let form = FromInt16::from_scale(scale * 1e-3).unwrap();
            if form.multiplier.shift < 15 {
                check::<_, i16>(form, strides, &wide, Mask::None, &case, |row| {
                    row_of_i16(row, form)
                });
            }
        }
    }
    assert_eq!(FromInt8::from_scale(1e-9), None);
    assert_eq!(FromInt8::from_scale(f64::NAN), None);
    assert_eq!(FromInt16::from_scale(-1.0), None);
}

/// Equal scores: 1 / n as long as it is half a step, and nothing behind that.
#[test]
fn long_rows_of_equal_scores() {
    let form = FromInt8::from_scale(0.1).unwrap();
    for (keys, wanted) in [(1, 127), (2, 0), (256, -127), (511, -127), (513, -128), (9000, -128)] {
        let scores = vec![5i8; keys];
        let mut probs = vec![0i8; keys];
        let view = MatMut::new(&mut probs, [1, keys]).unwrap();
        SoftmaxInt::new(form).run(MatRef::new(&scores, [1, keys]).unwrap(), view).unwrap();
        assert!(probs.iter().all(|p| *p == wanted), "{keys}: {}", probs[0]);
    }
    let (scores, mut probs) = (vec![5i8; 8000], vec![0i16; 8000]);
    let view = MatMut::new(&mut probs, [1, 8000]).unwrap();
    SoftmaxInt::new(form).run(MatRef::new(&scores, [1, 8000]).unwrap(), view).unwrap();
    assert!(probs.iter().all(|p| i32::from(*p) == 8 - 32768), "{}", probs[0]);
}

#[test]
fn scores_become_probabilities_in_place() {
    let mut numbers = Numbers::new(9);
    let scores = bytes(&mut numbers, 60);
    let (mut there, mut here) = (vec![0i8; 60], scores.clone());
    let softmax =
        SoftmaxInt::new(FromInt8::from_scale(0.05).unwrap()).mask(masktile::Causal::offset(3));
    let scores = MatRef::new(&scores, [6, 10]).unwrap();
    softmax.run(scores, MatMut::new(&mut there, [6, 10]).unwrap()).unwrap();
    softmax.run_in_place(MatMut::new(&mut here, [6, 10]).unwrap()).unwrap();
    assert_eq!(there, here);
    let wrong = MatMut::new(&mut here, [10, 6]).unwrap();
    assert_eq!(
        softmax.run(scores, wrong).unwrap_err().to_string(),
        "`probs`: queries: given 10, wanted 6"
    );
}

/// Steps of the result by which scores of this range of bytes are off, each sort of softmax by
/// itself.
fn steps_off(numbers: &mut Numbers, keys: usize, scale: f64, range: usize) -> [f64; 3] {
    let narrow: Vec<i8> = (0..keys).map(|_| (numbers.below(range) as i32 - 128) as i8).collect();
    let scaled: Vec<_> = narrow.iter().map(|s| Some(f64::from(*s) * scale)).collect();
    let (wanted, _) = common::softmax_row(&scaled);
    let view = MatRef::new(&narrow, [1, keys]).unwrap();
    let (mut p8, mut p16, mut tables) = (vec![0i8; keys], vec![0i16; keys], vec![0i16; keys]);
    let softmax = SoftmaxInt::new(FromInt8::from_scale(scale).unwrap());
    softmax.run(view, MatMut::new(&mut p8, [1, keys]).unwrap()).unwrap();
    softmax.run(view, MatMut::new(&mut p16, [1, keys]).unwrap()).unwrap();
    let wide: Vec<i16> = narrow.iter().map(|s| i16::from(*s) * 100).collect();
    let view = MatRef::new(&wide, [1, keys]).unwrap();
    SoftmaxInt::new(FromInt16::from_scale(scale / 100.0).unwrap())
        .run(view, MatMut::new(&mut tables, [1, keys]).unwrap())
        .unwrap();
    let mut worst = [0f64; 3];
    for (i, p) in wanted.iter().enumerate() {
        // The greatest number of a type stands for a little less than 1.
        let steps = |given: i32, ones: f64| (f64::from(given) - (p * ones).min(ones - 1.0)).abs();
        let errors = [
            steps(i32::from(p8[i]) + 128, 256.0),
            steps(i32::from(p16[i]) + 32768, 65536.0),
            steps(i32::from(tables[i]), 32768.0),
        ];
        for (worst, error) in worst.iter_mut().zip(errors) {
            *worst = worst.max(error);
        }
    }
    worst
}

/// The table of `SoftmaxInt`'s page.
#[test]
fn errors_against_float64() {
    let mut numbers = Numbers::new(5);
    for (keys, bounds) in [(8, [0.6, 0.7, 12.0]), (64, [0.6, 0.7, 24.0]), (512, [0.6, 0.7, 60.0])] {
        let mut worst = [0f64; 3];
        for keys in [keys / 8 + 1, keys / 2, keys] {
            for scale in [0.002, 0.01, 0.05, 0.1, 0.4] {
                for range in [2, 9, 61, 256] {
                    let off = steps_off(&mut numbers, keys, scale, range);
                    worst = std::array::from_fn(|i| worst[i].max(off[i]));
                }
            }
        }
        println!("steps of the result, up to {keys} keys: {worst:.3?}");
        for (worst, bound) in worst.iter().zip(bounds) {
            assert!(*worst <= bound && *worst > bound / 3.0, "{keys} keys: {worst} beside {bound}");
        }
    }
}
