//! Fixed-point arithmetic in the semantics of TensorFlow Lite and gemmlowp, for cores without a
//! floating-point unit: every function gives the bits that the reference gives.
//!
//! Source: B. Jacob et al., *Quantization and Training of Neural Networks for Efficient
//! Integer-Arithmetic-Only Inference*, 2018, and the definitions of gemmlowp's `fixedpoint`.

/// `a b / 2^31`, rounded to nearest, halves upwards; the one product that does not fit,
/// that of the least number with itself, becomes the greatest.
#[inline(always)]
pub const fn doubling_high_mul(a: i32, b: i32) -> i32 {
    if a == i32::MIN && b == i32::MIN {
        return i32::MAX;
    }
    let product = a as i64 * b as i64;
    let nudge = if product >= 0 { 1 << 30 } else { 1 - (1 << 30) };
    // Division, for it goes towards zero, as a shift does not.
    ((product + nudge) / (1 << 31)) as i32
}

/// `x / 2^exponent`, rounded to nearest, halves away from zero; `exponent` is at most 31.
#[inline(always)]
pub const fn rounding_shift_right(x: i32, exponent: u32) -> i32 {
    let exponent = if exponent > 31 { 31 } else { exponent };
    let mask = ((1u32 << exponent) - 1) as i32;
    let threshold = (mask >> 1) + (x < 0) as i32;
    (x >> exponent) + ((x & mask) > threshold) as i32
}

/// A positive factor `value 2^(shift - 31)`, as TensorFlow Lite holds `input_scale * weight_scale /
/// output_scale`: `value` is 0, or in 2^30 .. 2^31, and `shift` in -31 ..= 31.
///
/// ```
/// use masktile_kernels::fixed::Multiplier;
/// let half = Multiplier::from_scale(0.5).unwrap();
/// assert_eq!((half.value, half.shift), (1 << 30, 0));
/// assert_eq!([3, -3, 8].map(|x| half.apply(x)), [2, -1, 4]);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Multiplier {
    /// The significand as 31 bits behind the point.
    pub value: i32,
    /// Bits to the left; to the right where negative.
    pub shift: i32,
}

impl Multiplier {
    /// `x` times the factor, rounded twice: to 32 bits and after the shift to the right. A shift to
    /// the left drops the bits that do not fit.
    #[inline(always)]
    pub const fn apply(self, x: i32) -> i32 {
        let bits = self.shift.unsigned_abs();
        let (left, right) = if self.shift > 0 { (bits, 0) } else { (0, bits) };
        rounding_shift_right(doubling_high_mul(x.wrapping_shl(left), self.value), right)
    }

    /// The nearest factor to `scale`; none for what is negative, not a number, or 2^31 and more.
    /// A scale too small for any result but 0 is 0. Needs floating point, so do it beforehand where
    /// there is no unit for it.
    pub fn from_scale(scale: f64) -> Option<Multiplier> {
        let (bits, bias) = (scale.to_bits(), 1022);
        // Subnormal ones are as good as 0.
        let (exponent, fraction) = ((bits >> 52) as i32 & 0x7ff, bits & ((1 << 52) - 1));
        if scale == 0.0 || exponent == 0 && scale > 0.0 {
            return Some(Multiplier { value: 0, shift: 0 });
        }
        if !(scale > 0.0 && scale.is_finite()) {
            return None;
        }
        // The significand in 0.5 .. 1 as 53 bits, rounded to 31.
        let significand = fraction | 1 << 52;
        let (mut value, mut shift) = ((significand + (1 << 21)) >> 22, exponent - bias);
        if value == 1 << 31 {
            (value, shift) = (1 << 30, shift + 1);
        }
        match shift {
            ..-31 => Some(Multiplier { value: 0, shift: 0 }),
            -31..=31 => Some(Multiplier { value: value as i32, shift }),
            _ => None,
        }
    }
}

/// `x 2^exponent`, saturating.
const fn saturating_shift_left(x: i32, exponent: u32) -> i32 {
    let (least, greatest) = (i32::MIN >> exponent, i32::MAX >> exponent);
    if x > greatest {
        i32::MAX
    } else if x < least {
        i32::MIN
    } else {
        x << exponent
    }
}

/// `exp(x)` for `x` at most 0 with 26 bits behind the point (-32 .. 0), as 31 bits behind the point.
///
/// `x` is a multiple of a quarter plus something in -1/4 .. 0: a Taylor polynomial about -1/8 for
/// that, and a factor for each bit of the multiple.
pub const fn exp_nonpositive(x: i32) -> i32 {
    const QUARTER: i32 = 1 << 24;
    // exp(-1/4), exp(-1/2), exp(-1) to exp(-16), as 31 bits behind the point.
    const POWERS: [i32; 7] =
        [1_672_461_947, 1_302_514_674, 790_015_084, 290_630_308, 39_332_535, 720_401, 242];
    if x >= 0 {
        return i32::MAX;
    }
    let near = (x & (QUARTER - 1)) - QUARTER;
    let mut result = exp_near_zero(saturating_shift_left(near, 5));
    let quarters = near.wrapping_sub(x) >> 24;
    let mut bit = 0;
    while bit < POWERS.len() {
        if quarters >> bit & 1 == 1 {
            result = doubling_high_mul(result, POWERS[bit]);
        }
        bit += 1;
    }
    result
}

/// `exp(x)` for `x` in -1/4 .. 0, both with 31 bits behind the point.
const fn exp_near_zero(x: i32) -> i32 {
    // exp(-1/8) and 1/3
    const MIDDLE: i32 = 1_895_147_668;
    const THIRD: i32 = 715_827_883;
    let x = x + (1 << 28);
    let x2 = doubling_high_mul(x, x);
    let x3 = doubling_high_mul(x2, x);
    let x4 = doubling_high_mul(x2, x2);
    // x^2 / 2 + x^3 / 6 + x^4 / 24
    let higher = doubling_high_mul(rounding_shift_right(x4, 2) + x3, THIRD) + x2;
    MIDDLE + doubling_high_mul(MIDDLE, x + rounding_shift_right(higher, 1))
}

/// `1 / x` for a positive `x` with 19 bits behind the point (12 before it, and the sign's as one
/// more): a number in 1/2 .. 1 with 31 bits behind the point, and the power of two that it is to be
/// divided by.
pub const fn reciprocal(x: u32) -> (i32, i32) {
    let headroom = x.leading_zeros();
    let over_one = (x << (headroom & 31)) - (1 << 31);
    (one_over_one_plus(over_one as i32), 12 - headroom as i32)
}

/// `1 / (1 + x)` for `x` in 0 .. 1, both with 31 bits behind the point: three steps of Newton and
/// Raphson for the reciprocal of half of it, with 29 bits behind the point.
const fn one_over_one_plus(x: i32) -> i32 {
    // 48/17 and -32/17, the best first guess by a line.
    const FIRST: i32 = 1_515_870_810;
    const SLOPE: i32 = -1_010_580_540;
    // Rounded half of the sum with one, which is the greatest number.
    let half = ((x as i64 + i32::MAX as i64 + 1) / 2) as i32;
    let mut guess = FIRST + doubling_high_mul(half, SLOPE);
    let mut step = 0;
    while step < 3 {
        let error = (1 << 29) - doubling_high_mul(half, guess);
        guess += saturating_shift_left(doubling_high_mul(guess, error), 2);
        step += 1;
    }
    saturating_shift_left(guess, 1)
}

/// A function of 16 bits by 513 of its values, between which it is a line.
#[derive(Debug)]
pub struct Table([i16; 513]);

/// `exp(10 (x - 32767) / 65535)`, as 15 bits behind the point.
pub static EXP: Table = {
    let mut values = [[0.0; 2]; 513];
    let mut i = 0;
    while i < 513 {
        let at = -10.0 + i as f64 * (10.0 / 512.0);
        values[i] = [exp(at) as f32, exp(at + 5.0 / 512.0) as f32];
        i += 1;
    }
    Table::new(&values)
};

/// `1 / (1 + (x + 32768) / 65535)`, as 15 bits behind the point.
pub static ONE_OVER_ONE_PLUS: Table = {
    let mut values = [[0.0; 2]; 513];
    let mut i = 0;
    while i < 513 {
        let at = 1.0 + i as f32 / 512.0;
        values[i] = [1.0 / at, 1.0 / (at + 0.5 / 512.0)];
        i += 1;
    }
    Table::new(&values)
};

impl Table {
    /// From the function's value at each place and half way to the next. A place is moved by half
    /// of what the line is off in the middle; all in the reference's float arithmetic, so that the
    /// tables are the same.
    const fn new(values: &[[f32; 2]; 513]) -> Table {
        const ONE: f32 = 32768.0;
        let mut table = [0; 513];
        let mut i = 0;
        while i < 513 {
            let here = round(values[i][0] * ONE);
            let mut place = here;
            if i < 512 {
                let line = round((values[i + 1][0] * ONE + here) / 2.0);
                place -= round((line - round(values[i][1] * ONE)) / 2.0);
            }
            table[i] = if place > 32767.0 { i16::MAX } else { place as i16 };
            i += 1;
        }
        Table(table)
    }

    /// The function at `x`.
    #[inline(always)]
    pub fn at(&self, x: i16) -> i16 {
        let (place, rest) = ((256 + (x >> 7)) as usize, i32::from(x & 127));
        let at = |place: usize| self.0.get(place).copied().unwrap_or(0);
        let slope = i32::from(at(place + 1).wrapping_sub(at(place)));
        (i32::from(at(place)) + ((slope * rest + 64) >> 7)) as i16
    }
}

/// To the nearest integer, halves away from zero.
const fn round(x: f32) -> f32 {
    // In f64 the sum is exact.
    let x = x as f64;
    (if x < 0.0 { x - 0.5 } else { x + 0.5 }) as i64 as f32
}

/// `exp(x)` for `x` in -10 .. 0, when the program is compiled: the series of `exp(x / 16)`, squared
/// four times.
const fn exp(x: f64) -> f64 {
    let (mut sum, mut term, mut n) = (1.0, 1.0, 1);
    while n < 24 {
        term *= x / 16.0 / n as f64;
        sum += term;
        n += 1;
    }
    let mut squared = 0;
    while squared < 4 {
        sum *= sum;
        squared += 1;
    }
    sum
}
