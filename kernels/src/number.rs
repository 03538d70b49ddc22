//! Numbers as they lie in memory. Arithmetic is in f32: halves are widened exactly as they are read,
//! and rounded once, to nearest even, as they are written.

use half::{bf16, f16};

use crate::simd::{LANES, Simd};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

/// A [`Number`]'s type, where it is known at run time alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Dtype {
    /// IEEE 754 binary32
    F32,
    /// IEEE 754 binary16
    F16,
    /// bfloat16, the upper half of a binary32
    Bf16,
}

impl Dtype {
    /// Bytes of a number.
    pub const fn size(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
        }
    }
}

/// What operands and outputs may hold: `f32`, `f16` and `bf16`.
pub trait Number: Copy + Send + Sync + sealed::Sealed + 'static {
    /// Which it is.
    const DTYPE: Dtype;
    /// Numbers in 32 bits: 1 or 2.
    const IN_WORD: usize = 4 / Self::DTYPE.size();

    /// The number that is nearest, of two such the even one.
    fn from_f32(x: f32) -> Self;
    /// The same number, exactly.
    fn to_f32(self) -> f32;

    /// `n` numbers from `p`, at most a vector, zero in the other lanes. Touches nothing behind them.
    ///
    /// # Safety
    /// `p` is valid for reading `min(n, LANES)` numbers.
    unsafe fn load_first<S: Simd>(s: S, p: *const Self, n: usize) -> S::V;
    /// Rounds and writes the first `n` lanes, at most all. Touches nothing behind them.
    ///
    /// # Safety
    /// `p` is valid for writing `min(n, LANES)` numbers.
    unsafe fn store_first<S: Simd>(s: S, p: *mut Self, n: usize, v: S::V);
    /// The numbers in each lane's 32 bits, the one at the lower address first; where a word has
    /// but one, it twice.
    fn of_words<S: Simd>(s: S, words: S::V) -> [S::V; 2];
}

impl Number for f32 {
    const DTYPE: Dtype = Dtype::F32;

    fn from_f32(x: f32) -> f32 {
        x
    }
    fn to_f32(self) -> f32 {
        self
    }
    #[inline(always)]
    unsafe fn load_first<S: Simd>(s: S, p: *const f32, n: usize) -> S::V {
        // SAFETY: the caller's. The branch spares a full vector the masked form.
        unsafe { if n >= S::LANES { s.load(p) } else { s.load_first(p, n) } }
    }
    #[inline(always)]
    unsafe fn store_first<S: Simd>(s: S, p: *mut f32, n: usize, v: S::V) {
        // SAFETY: as above.
        unsafe { if n >= S::LANES { s.store(p, v) } else { s.store_first(p, n, v) } }
    }
    #[inline(always)]
    fn of_words<S: Simd>(_: S, words: S::V) -> [S::V; 2] {
        [words; 2]
    }
}

impl Number for f16 {
    const DTYPE: Dtype = Dtype::F16;

    fn from_f32(x: f32) -> f16 {
        f16::from_f32(x)
    }
    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }
    #[inline(always)]
    unsafe fn load_first<S: Simd>(s: S, p: *const f16, n: usize) -> S::V {
        // SAFETY: the caller's.
        s.widen_f16(unsafe { load_halves::<S>(p.cast(), n) })
    }
    #[inline(always)]
    unsafe fn store_first<S: Simd>(s: S, p: *mut f16, n: usize, v: S::V) {
        // SAFETY: the caller's.
        unsafe { store_halves::<S>(p.cast(), n, s.narrow_f16(v)) }
    }
    #[inline(always)]
    fn of_words<S: Simd>(s: S, words: S::V) -> [S::V; 2] {
        s.pairs_f16(words)
    }
}

impl Number for bf16 {
    const DTYPE: Dtype = Dtype::Bf16;

    fn from_f32(x: f32) -> bf16 {
        bf16::from_f32(x)
    }
    fn to_f32(self) -> f32 {
        bf16::to_f32(self)
    }
    #[inline(always)]
    unsafe fn load_first<S: Simd>(s: S, p: *const bf16, n: usize) -> S::V {
        // SAFETY: the caller's.
        s.widen_bf16(unsafe { load_halves::<S>(p.cast(), n) })
    }
    #[inline(always)]
    unsafe fn store_first<S: Simd>(s: S, p: *mut bf16, n: usize, v: S::V) {
        // SAFETY: the caller's.
        unsafe { store_halves::<S>(p.cast(), n, s.narrow_bf16(v)) }
    }
    #[inline(always)]
    fn of_words<S: Simd>(s: S, words: S::V) -> [S::V; 2] {
        s.pairs_bf16(words)
    }
}

/// # Safety
/// As [`Number::load_first`].
#[inline(always)]
unsafe fn load_halves<S: Simd>(p: *const u16, n: usize) -> [u16; LANES] {
    // SAFETY: the caller's: a full vector of 16, or number `i` below `n`.
    unsafe {
        if const { S::LANES == LANES } && n >= LANES {
            return p.cast::<[u16; LANES]>().read_unaligned();
        }
        let mut halves = [0; LANES];
        for (i, half) in halves.iter_mut().enumerate().take(S::LANES) {
            if i < n {
                *half = p.add(i).read();
            }
        }
        halves
    }
}

/// # Safety
/// As [`Number::store_first`].
#[inline(always)]
unsafe fn store_halves<S: Simd>(p: *mut u16, n: usize, halves: [u16; LANES]) {
    // SAFETY: the caller's: a full vector of 16, or number `i` below `n`.
    unsafe {
        if const { S::LANES == LANES } && n >= LANES {
            return p.cast::<[u16; LANES]>().write_unaligned(halves);
        }
        for (i, half) in halves.iter().enumerate().take(S::LANES) {
            if i < n {
                p.add(i).write(*half);
            }
        }
    }
}

/// Numbers to read, of a type known at run time: the address of the first.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    p: *const u8,
    dtype: Dtype,
}

// SAFETY: only describes memory; whoever reads or writes there says under which contract.
unsafe impl Send for Numbers {}
// SAFETY: as above.
unsafe impl Sync for Numbers {}

impl Numbers {
    /// From `p` on.
    pub fn at<T: Number>(p: *const T) -> Self {
        Numbers { p: p.cast(), dtype: T::DTYPE }
    }

    /// What they are.
    pub fn dtype(self) -> Dtype {
        self.dtype
    }

    /// The same `count` numbers on, wherever that is.
    pub fn skip(self, count: usize) -> Self {
        Numbers { p: self.p.wrapping_add(count.wrapping_mul(self.dtype.size())), ..self }
    }

    /// The address, of numbers that are `T`.
    pub(crate) fn of<T: Number>(self) -> *const T {
        debug_assert!(self.dtype == T::DTYPE);
        self.p.cast()
    }
}

/// Numbers to write, of a type known at run time: the address of the first.
#[derive(Clone, Copy, Debug)]
pub struct NumbersMut(Numbers);

impl NumbersMut {
    /// From `p` on.
    pub fn at<T: Number>(p: *mut T) -> Self {
        NumbersMut(Numbers::at(p.cast_const()))
    }

    /// What they are.
    pub fn dtype(self) -> Dtype {
        self.0.dtype
    }

    /// The same `count` numbers on, wherever that is.
    pub fn skip(self, count: usize) -> Self {
        NumbersMut(self.0.skip(count))
    }

    /// The address, of numbers that are `T`.
    pub(crate) fn of<T: Number>(self) -> *mut T {
        self.0.of::<T>().cast_mut()
    }
}
