//! Fixed-point arithmetic against its definitions, in wider integers and in float64.

use masktile_kernels::fixed::{
    EXP, Multiplier, ONE_OVER_ONE_PLUS, doubling_high_mul, exp_nonpositive, reciprocal,
    rounding_shift_right,
};

/// Numbers of every size, and those at the ends.
fn numbers() -> Vec<i32> {
    let mut all = vec![0, 1, -1, 2, -2, 3, -3, i32::MAX, i32::MIN, i32::MIN + 1, 1 << 30];
    let mut x = 0x9e37_79b9_7f4a_7c15u64;
    for shift in (0..32).cycle().take(2000) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        all.push((x >> 32) as i32 >> shift);
    }
    all
}

/// `a / b` to the nearest integer, halves upwards.
fn nearest(a: i128, b: i128) -> i128 {
    (2 * a + b).div_euclid(2 * b)
}

#[test]
fn products_and_shifts_round_by_their_definition() {
    let numbers = numbers();
    for (a, b) in numbers.iter().zip(numbers.iter().skip(7)) {
        let exact = nearest(i128::from(*a) * i128::from(*b), 1 << 31);
        let wanted = exact.min(i128::from(i32::MAX));
        assert_eq!(i128::from(doubling_high_mul(*a, *b)), wanted, "{a} {b}");
    }
    assert_eq!(doubling_high_mul(i32::MIN, i32::MIN), i32::MAX);
    for x in numbers {
        for exponent in 0..32 {
            // Halves away from zero.
            let x = i128::from(x);
            let wanted = x.signum() * nearest(x.abs(), 1 << exponent);
            assert_eq!(
                i128::from(rounding_shift_right(x as i32, exponent)),
                wanted,
                "{x} {exponent}"
            );
        }
    }
}

#[test]
fn a_multiplier_is_the_nearest_to_its_scale() {
    for exponent in -30..=30 {
        for significand in [0.5, 0.5000001, 0.7, 0.75, 0.999999, 1.0 - 2f64.powi(-40)] {
            let scale = significand * 2f64.powi(exponent);
            let by = Multiplier::from_scale(scale).unwrap();
            assert!((1 << 30..=i32::MAX).contains(&by.value), "{scale}: {by:?}");
            let again = f64::from(by.value) * 2f64.powi(by.shift - 31);
            assert!((again / scale - 1.0).abs() <= 2f64.powi(-31), "{scale}: {by:?}");
        }
    }
    assert_eq!(Multiplier::from_scale(0.0), Some(Multiplier { value: 0, shift: 0 }));
    assert_eq!(Multiplier::from_scale(1e-300), Some(Multiplier { value: 0, shift: 0 }));
    assert_eq!(Multiplier::from_scale(f64::MIN_POSITIVE / 4.0).unwrap().value, 0);
    for none in [-1.0, -1e-320, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 2f64.powi(31)] {
        assert_eq!(Multiplier::from_scale(none), None, "{none}");
    }
    assert_eq!(Multiplier::from_scale(1.0).unwrap().apply(-77), -77);
    // Any fields are arithmetic, not a panic.
    for shift in [i32::MIN, -40, 40, i32::MAX] {
        Multiplier { value: i32::MIN, shift }.apply(i32::MIN);
    }
}

/// Within 2^-22: the polynomial leaves out `x^5 / 120` at 1/8.
#[test]
fn exp_is_near_the_true_one() {
    let mut worst = 0f64;
    for x in (-2_147_483_647..=0).step_by(9973).chain([-1, 0, i32::MIN]) {
        let wanted = (f64::from(x) / 2f64.powi(26)).exp();
        let given = f64::from(exp_nonpositive(x)) / 2f64.powi(31);
        worst = worst.max((given - wanted).abs());
    }
    println!("exp: at most {:.3} 2^-22", worst * 2f64.powi(22));
    assert!(worst < 2f64.powi(-22), "{worst:e}");
    assert_eq!(exp_nonpositive(0), i32::MAX);
}

#[test]
fn reciprocals_are_near_the_true_ones() {
    let mut worst = 0f64;
    for x in (1 << 19..u32::MAX - 104_729).step_by(104_729).chain([1 << 19, u32::MAX]) {
        let (scale, over_one) = reciprocal(x);
        assert!(scale >= (1 << 30) - 4, "{x}: {scale}");
        let wanted = 2f64.powi(19) / f64::from(x);
        let given = f64::from(scale) * 2f64.powi(-31 - over_one);
        worst = worst.max((given / wanted - 1.0).abs());
    }
    println!("reciprocal: at most {:.3} 2^-29, relative", worst * 2f64.powi(29));
    assert!(worst < 2f64.powi(-27), "{worst:e}");
}

/// Within two steps of 2^-15, and every place is far enough from a tie that the table is the same
/// by any exponential that rounds within a unit in the last place of f32.
#[test]
fn tables_are_near_their_functions() {
    let (mut exp, mut reciprocal) = (0f64, 0f64);
    for x in i16::MIN..=i16::MAX {
        let t = (f64::from(x) + 32768.0) / 65536.0;
        exp = exp.max((f64::from(EXP.at(x)) / 32768.0 - (10.0 * (t - 1.0)).exp()).abs());
        let wanted = 1.0 / (1.0 + t);
        reciprocal = reciprocal.max((f64::from(ONE_OVER_ONE_PLUS.at(x)) / 32768.0 - wanted).abs());
    }
    println!("tables: exp {:.2}, 1 / (1 + x) {:.2} of 2^-15", exp * 32768.0, reciprocal * 32768.0);
    assert!(exp < 2.0 / 32768.0 && reciprocal < 2.0 / 32768.0, "{exp:e} {reciprocal:e}");
    for i in 0..=1024 {
        let place = (-10.0 + f64::from(i) * 10.0 / 1024.0).exp() * 32768.0;
        assert!((place.fract() - 0.5).abs() > place * 2f64.powi(-24), "{i}");
    }
}
