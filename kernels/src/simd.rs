//! The contract between an instruction set and the operations.
//!
//! The vector is 16 f32 wide, whatever the register: one register with AVX-512, two with AVX2, four
//! with NEON. Scalar code has one lane: sixteen single numbers fit no small core's registers, and
//! everything done to them would be code sixteen times. An operation does the same arithmetic in
//! the same order on each of them, which is what makes the results equal bit for bit: what is
//! summed up over lanes is summed up over 16, whatever the vector.

use crate::gemm::Lines;
use crate::row::Strip;

/// Lanes of a vector, and of a sum over them.
pub const LANES: usize = 16;

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// An operation, generic over the instruction set. [`crate::run`] evaluates it.
pub trait Op {
    /// What it returns.
    type Out;
    /// The body. Mark every implementation `#[inline(always)]`, so that it is compiled with the
    /// target features of the instruction set.
    fn eval<S: Simd>(self, s: S) -> Self::Out;
}

/// An instruction set. A value exists only where the processor has it and the operating system
/// saves its registers, so arithmetic is safe; loads and stores trust their pointers.
///
/// Comparisons with NaN are false. Arithmetic rounds to nearest even and is never fused or
/// reordered except where [`Simd::fma`] says so. NaN payloads are not part of the contract.
pub trait Simd: Copy + Send + Sync + sealed::Sealed + 'static {
    /// Numbers in a vector: 16, or 1 where there are no vectors.
    const LANES: usize = LANES;
    /// [`Simd::LANES`] f32.
    type V: Copy;
    /// [`Simd::LANES`] booleans.
    type M: Copy;
    /// Rows of the register tile of the matrix product.
    const MR: usize;
    /// Vectors in a row of the register tile: 1 or 2, or 4 of one number.
    const NV: usize;
    /// Rows of the register tile one vector wide that takes B by columns, which holds four
    /// vectors of B beside its sums: at most 16. Means nothing where a vector is one number.
    const MR_BY_COLUMNS: usize;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// `a + b`
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`, rounded to nearest as IEEE 754 wants it.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// The bits of `a` with the sign bit of `b`; NaN and zero have signs like any other number.
    fn copysign(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `if a > b { a } else { b }`: a NaN in `a` gives `b`.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a < b`
    fn lt(self, a: Self::V, b: Self::V) -> Self::M;
    /// `m ? a : b`
    fn select(self, m: Self::M, a: Self::V, b: Self::V) -> Self::V;
    /// Lanes kept by both.
    fn and(self, a: Self::M, b: Self::M) -> Self::M;
    /// Lanes not in `a`.
    fn not(self, a: Self::M) -> Self::M;
    /// The first `n` lanes, all of them if there are not so many.
    fn first(self, n: usize) -> Self::M;
    /// The bits of each lane shifted left by 23, as a float: turns a biased exponent in the low
    /// bits into a power of two.
    fn shl23(self, a: Self::V) -> Self::V;

    /// The sum of the lanes by halving: of 16 lanes, lane `i` takes lane `i + 8`, then `i + 4`,
    /// `i + 2`, `i + 1`.
    fn sum(self, a: Self::V) -> f32;
    /// The greatest lane, by the same tree, each step as [`Simd::max`] with the upper half first.
    fn largest(self, a: Self::V) -> f32;

    /// A vector from `p`, of any alignment.
    ///
    /// # Safety
    /// `p` is valid for reading [`Simd::LANES`] floats.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// `n` floats from `p`, at most a vector, zero in the other lanes. Touches nothing behind them.
    ///
    /// # Safety
    /// `p` is valid for reading `min(n, LANES)` floats.
    unsafe fn load_first(self, p: *const f32, n: usize) -> Self::V;
    /// Writes a vector to `p`, of any alignment.
    ///
    /// # Safety
    /// `p` is valid for writing [`Simd::LANES`] floats.
    unsafe fn store(self, p: *mut f32, v: Self::V);
    /// Writes the first `n` lanes to `p`, at most all of them. Touches nothing behind them.
    ///
    /// # Safety
    /// `p` is valid for writing `min(n, LANES)` floats.
    unsafe fn store_first(self, p: *mut f32, n: usize, v: Self::V);
    /// Four columns of rows of contiguous numbers, one row for each lane: lane `i` of vector `c` is
    /// `rows[i][c]`.
    ///
    /// # Safety
    /// `rows[i]` is valid for reading 4 floats, of any alignment, for each lane `i`.
    unsafe fn turn4(self, rows: [*const f32; LANES]) -> [Self::V; 4];
    /// As [`Simd::turn4`], of rows `stride` apart.
    ///
    /// # Safety
    /// `p + i * stride` is valid for reading 4 floats for each lane `i`.
    #[inline(always)]
    unsafe fn columns4(self, p: *const f32, stride: usize) -> [Self::V; 4] {
        let mut rows = [p; LANES];
        each!(i < 16, {
            rows[i] = p.wrapping_add(i * stride);
        });
        // SAFETY: the caller's.
        unsafe { self.turn4(rows) }
    }
    /// `p[I] * b + c`, rounded once, the first factor in every lane.
    ///
    /// # Safety
    /// `p + I` is valid for reading a float.
    #[inline(always)]
    unsafe fn fma_at<const I: usize>(self, p: *const f32, b: Self::V, c: Self::V) -> Self::V {
        // SAFETY: the caller's.
        self.fma(self.splat(unsafe { p.add(I).read() }), b, c)
    }
    /// `sums[i][j] += a[i, p] * b[p, j]` for each `p` in order, each step rounded once: the products
    /// of instruction sets without vectors.
    ///
    /// # Safety
    /// Number `p` of line `x` of an operand is at `p * along + x * across`; there are `depth` numbers
    /// of as many lines as there are sums, valid for reading.
    #[inline(always)]
    unsafe fn add_products<const ROWS: usize>(
        self,
        sums: &mut [[Self::V; 4]; ROWS],
        depth: usize,
        operands: [Lines; 2],
    ) {
        // SAFETY: the caller's.
        unsafe { crate::gemm::add_products(self, sums, depth, operands) }
    }
    /// `exp(x)` for `x <= 0` or NaN; see [`crate::exp::exp_nonpositive`], whose steps it has.
    #[inline(always)]
    fn exp_nonpositive(self, x: Self::V) -> Self::V {
        crate::exp::nonpositive(self, x)
    }
    /// The greatest of `scale * x` of a strip and `max`, NaN passed over, where the instruction set
    /// has a function of its own.
    ///
    /// # Safety
    /// The strip is valid for reading; vectors are single numbers.
    #[inline(always)]
    unsafe fn max_strip(self, strip: &Strip, scale: Self::V, max: Self::V) -> Option<Self::V> {
        let _ = (strip, scale, max);
        None
    }
    /// `exp(scale * x - max)` of a strip, each added to its own of 16 sums, in order, the first to
    /// sum `lane`, where the instruction set has a function of its own; whether it has.
    ///
    /// # Safety
    /// The strip is valid for reading and for writing; vectors are single numbers.
    #[inline(always)]
    unsafe fn exp_strip(
        self,
        strip: &Strip,
        [scale, max]: [f32; 2],
        lane: usize,
        sums: &mut [Self::V; LANES],
    ) -> bool {
        let _ = (strip, scale, max, lane, sums);
        false
    }
    /// `x * inverse + x * off` of a strip, the last product and the sum rounded once together, where
    /// the instruction set has a function of its own; whether it has.
    ///
    /// # Safety
    /// As [`Simd::exp_strip`].
    #[inline(always)]
    unsafe fn divide_strip(self, strip: &Strip, inverse: Self::V, off: Self::V) -> bool {
        let _ = (strip, inverse, off);
        false
    }
    /// Asks for the cache line of `p`, which may be any address, to come into the second level of
    /// cache. Touches nothing.
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        let _ = p;
    }
    /// Which of the bytes are not zero, bit `i` for byte `i`.
    fn nonzero_bytes(self, bytes: [u8; LANES]) -> u16;
    /// The lanes kept, bit `i` for lane `i`.
    fn bits(self, m: Self::M) -> u16;
    /// The lanes whose bit is set.
    fn mask(self, bits: u16) -> Self::M;
    /// The bits of halves (IEEE 754 binary16) as floats, exactly; one number takes the first.
    fn widen_f16(self, halves: [u16; LANES]) -> Self::V;
    /// The bits of bfloat16 as floats, exactly; one number takes the first.
    fn widen_bf16(self, halves: [u16; LANES]) -> Self::V;
    /// The bits of the nearest halves, of two such the even one; one number comes first.
    fn narrow_f16(self, a: Self::V) -> [u16; LANES];
    /// The same of bfloat16.
    fn narrow_bf16(self, a: Self::V) -> [u16; LANES];
    /// The two halves in each lane's bits as floats: those of the lower 16 bits, those of the upper.
    fn pairs_f16(self, words: Self::V) -> [Self::V; 2];
    /// The same of bfloat16.
    fn pairs_bf16(self, words: Self::V) -> [Self::V; 2];
    /// Byte `I mod 4` of each lane's bits, the lowest the first, as a signed number.
    fn signed_byte<const I: usize>(self, words: Self::V) -> Self::V;
    /// As [`Simd::signed_byte`], times 2^24, for which some instruction sets need no shift.
    #[inline(always)]
    fn top_byte<const I: usize>(self, words: Self::V) -> Self::V {
        self.mul(self.signed_byte::<I>(words), self.splat(16_777_216.0))
    }
    /// Two numbers from -8 to 7 for each byte of each lane's bits, each as a signed byte of 16 times
    /// it: those whose excess over -8 is the byte's lower four bits, and those of its upper four.
    fn nibbles(self, words: Self::V) -> [Self::V; 2];

    /// Runs `op` with this instruction set's target features enabled.
    fn run<O: Op>(self, op: O) -> O::Out;
}

/// The tree of [`Simd::sum`] and [`Simd::largest`] over 16 lanes in memory.
#[inline(always)]
pub(crate) fn fold_lanes(mut lanes: [f32; LANES], step: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        let (low, high) = lanes.split_at_mut(half);
        for (l, h) in low.iter_mut().zip(high.iter()) {
            *l = step(*l, *h);
        }
        half /= 2;
    }
    lanes[0]
}

/// Runs the block with `$i` as each constant below a bound, so that arrays indexed by it stay in
/// registers at every optimisation level. The bound is a literal, or a constant and the literal
/// that it does not exceed: `each!(i < 4, ...)`, `each!(i < N <= 16, ...)`.
///
/// The block is copied as often as the literal says, so a block with another `each!` in it belongs
/// in a function of its own where the product of both is great. Copies beyond the constant go
/// before any code is generated, for which their conditions must be constants themselves.
macro_rules! each {
    ($i:ident < 2, $body:block) => { $crate::simd::each!(@ $i, 2, $body, 0 1) };
    ($i:ident < 4, $body:block) => { $crate::simd::each!(@ $i, 4, $body, 0 1 2 3) };
    ($i:ident < 8, $body:block) => { $crate::simd::each!(@ $i, 8, $body, 0 1 2 3 4 5 6 7) };
    ($i:ident < 16, $body:block) => {
        $crate::simd::each!(@ $i, 16, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    ($i:ident < $n:ident <= 2, $body:block) => { $crate::simd::each!(@ $i, $n, $body, 0 1) };
    ($i:ident < $n:ident <= 4, $body:block) => { $crate::simd::each!(@ $i, $n, $body, 0 1 2 3) };
    ($i:ident < $n:ident <= 16, $body:block) => {
        $crate::simd::each!(@ $i, $n, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $i:ident, $n:expr, $body:block, $($l:literal)*) => {
        $( if const { $l < $n } {
            #[allow(non_upper_case_globals, reason = "a constant that reads as a variable")]
            const $i: usize = $l;
            #[allow(clippy::out_of_bounds_indexing, reason = "what is out of bounds is not run")]
            $body
        } )*
    };
}
pub(crate) use each;
