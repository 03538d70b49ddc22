//! The contract between an instruction set and the operations.
//!
//! The vector is always 16 f32 wide, whatever the register: one register with AVX-512, two with
//! AVX2, four with NEON, an array in scalar code. An operation written on it does the same
//! arithmetic in the same order on each of them, which is what makes the results equal bit for bit.

/// Lanes of a [`Simd::V`].
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
    /// 16 f32.
    type V: Copy;
    /// 16 booleans.
    type M: Copy;
    /// Rows of the register tile of the matrix product.
    const MR: usize;
    /// Vectors (of 16 columns) in a row of the register tile: 1 or 2.
    const NV: usize;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// `a + b`
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
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
    /// The first `n` lanes, all of them if `n >= 16`.
    fn first(self, n: usize) -> Self::M;
    /// The bits of each lane shifted left by 23, as a float: turns a biased exponent in the low
    /// bits into a power of two.
    fn shl23(self, a: Self::V) -> Self::V;
    /// Row `i`, lane `j` becomes row `j`, lane `i`.
    fn transpose(self, rows: [Self::V; LANES]) -> [Self::V; LANES];

    /// The sum of the lanes by halving: lane `i` takes lane `i + 8`, then `i + 4`, `i + 2`, `i + 1`.
    fn sum(self, a: Self::V) -> f32;
    /// The greatest lane, by the same tree, each step as [`Simd::max`] with the upper half first.
    fn largest(self, a: Self::V) -> f32;

    /// 16 floats from `p`, of any alignment.
    ///
    /// # Safety
    /// `p` is valid for reading 16 floats.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// `n` floats from `p`, zero in the other lanes; all 16 if `n >= 16`. Touches nothing behind them.
    ///
    /// # Safety
    /// `p` is valid for reading `min(n, 16)` floats.
    unsafe fn load_first(self, p: *const f32, n: usize) -> Self::V;
    /// Writes 16 floats to `p`, of any alignment.
    ///
    /// # Safety
    /// `p` is valid for writing 16 floats.
    unsafe fn store(self, p: *mut f32, v: Self::V);
    /// Writes the first `n` lanes to `p`, all 16 if `n >= 16`. Touches nothing behind them.
    ///
    /// # Safety
    /// `p` is valid for writing `min(n, 16)` floats.
    unsafe fn store_first(self, p: *mut f32, n: usize, v: Self::V);
    /// Which of the first `n` (or 16) bytes from `p` are not zero; false in the other lanes.
    /// Touches nothing behind them.
    ///
    /// # Safety
    /// `p` is valid for reading `min(n, 16)` bytes.
    unsafe fn nonzero_bytes(self, p: *const u8, n: usize) -> Self::M;

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

/// Runs the block with `$i` as each constant below `$n`, so that arrays indexed by it stay in
/// registers at every optimisation level. `$n` is a constant of at most 16.
macro_rules! each {
    ($i:ident < $n:expr, $body:block) => {
        $crate::simd::each!(@ $i, $n, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $i:ident, $n:expr, $body:block, $($l:literal)*) => {
        $( if $l < $n { let $i: usize = $l; $body } )*
    };
}
pub(crate) use each;
