//! Weights of few bits in blocks along k, stored out x in: a row is a column of B. Units of 32 weights
//! of 16 rows at once are turned into words of four signed bytes, which become floats as they are packed
//! or multiplied: a weight is `(code - zero) * scale`, exact in f32.

use core::mem::MaybeUninit;

use half::f16;

use super::pack::Packed;
use super::{Span, min};
use crate::simd::{LANES, Op, Simd, each};

/// Weights that are unpacked together. Blocks have so many, groups a multiple of it.
pub const UNIT: usize = 32;

/// A quantised weight: `k` weights in each row, a multiple of [`UNIT`].
#[derive(Clone, Copy, Debug)]
pub enum Quantised {
    /// Blocks of a half for the scale and 32 signed bytes.
    Q8_0(Q8_0),
    /// Blocks of a half for the scale and 16 bytes: weight `i` in the lower half of byte `i`, weight
    /// `16 + i` in the upper; 8 stands for zero.
    Q4_0(Q4_0),
    /// Bytes of two weights, the first in the lower half; scales and zeros by themselves.
    Q4Groups(Q4Groups),
}

/// See [`Quantised::Q8_0`].
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Q8_0 {
    pub data: *const u8,
    /// Of a row.
    pub blocks: usize,
}

/// See [`Quantised::Q4_0`].
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Q4_0 {
    pub data: *const u8,
    /// Of a row.
    pub blocks: usize,
}

/// See [`Quantised::Q4Groups`].
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Q4Groups {
    /// Half a byte for each weight.
    pub codes: *const u8,
    /// One for each group of a row.
    pub scales: *const f16,
    /// The code that stands for zero, one for each group of a row.
    pub zeros: *const u8,
    /// Of a row.
    pub groups: usize,
    /// Two to the power of it are the units of a group.
    pub log_units: u32,
}

impl Quantised {
    /// From row `rows` on.
    pub(super) fn skip(self, rows: usize) -> Self {
        match self {
            Quantised::Q8_0(q) => Quantised::Q8_0(q.skip(rows)),
            Quantised::Q4_0(q) => Quantised::Q4_0(q.skip(rows)),
            Quantised::Q4Groups(q) => Quantised::Q4Groups(q.skip(rows)),
        }
    }
}

impl Q8_0 {
    /// Bytes of a block.
    pub const BYTES: usize = 2 + UNIT;
}

impl Q4_0 {
    /// Bytes of a block.
    pub const BYTES: usize = 2 + UNIT / 2;
}

/// How a unit of 32 weights lies.
pub(super) trait Format: Copy {
    /// Bits of a code: 8 or 4.
    const BITS: usize;
    /// Whether weights follow one another in a byte, the first in its lower half.
    const BY_TURNS: bool = false;
    /// Whether another code may stand for zero than 8 of four bits.
    const HAS_ZEROS: bool = false;

    /// From row `rows` on.
    fn skip(self, rows: usize) -> Self;
    /// The unit's codes.
    fn codes(self, row: usize, unit: usize) -> *const u8;
    /// The bits of its scale.
    ///
    /// # Safety
    /// The weight has the row and the unit.
    unsafe fn scale(self, row: usize, unit: usize) -> u16;
    /// 8 less the codes for zero of these rows: what is to be added to their codes less 8.
    ///
    /// # Safety
    /// As above.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn zeros<S: Simd>(self, s: S, _: Lines, _: usize) -> S::V {
        s.splat(0.0)
    }
}

impl Format for Q8_0 {
    const BITS: usize = 8;

    #[cfg_attr(vectors, inline(always))]
    fn skip(self, rows: usize) -> Self {
        Q8_0 { data: self.data.wrapping_add(rows * self.blocks * Q8_0::BYTES), ..self }
    }
    #[cfg_attr(vectors, inline(always))]
    fn codes(self, row: usize, unit: usize) -> *const u8 {
        self.skip(row).data.wrapping_add(unit * Q8_0::BYTES + 2)
    }
    #[cfg_attr(vectors, inline(always))]
    unsafe fn scale(self, row: usize, unit: usize) -> u16 {
        // SAFETY: the caller's; a block begins with it.
        unsafe { self.codes(row, unit).wrapping_sub(2).cast::<u16>().read_unaligned() }
    }
}

impl Format for Q4_0 {
    const BITS: usize = 4;

    #[cfg_attr(vectors, inline(always))]
    fn skip(self, rows: usize) -> Self {
        Q4_0 { data: self.data.wrapping_add(rows * self.blocks * Q4_0::BYTES), ..self }
    }
    #[cfg_attr(vectors, inline(always))]
    fn codes(self, row: usize, unit: usize) -> *const u8 {
        self.skip(row).data.wrapping_add(unit * Q4_0::BYTES + 2)
    }
    #[cfg_attr(vectors, inline(always))]
    unsafe fn scale(self, row: usize, unit: usize) -> u16 {
        // SAFETY: the caller's; a block begins with it.
        unsafe { self.codes(row, unit).wrapping_sub(2).cast::<u16>().read_unaligned() }
    }
}

impl Format for Q4Groups {
    const BITS: usize = 4;
    const BY_TURNS: bool = true;
    const HAS_ZEROS: bool = true;

    #[cfg_attr(vectors, inline(always))]
    fn skip(self, rows: usize) -> Self {
        let groups = rows * self.groups;
        Q4Groups {
            codes: self.codes.wrapping_add((groups << self.log_units) * UNIT / 2),
            scales: self.scales.wrapping_add(groups),
            zeros: self.zeros.wrapping_add(groups),
            ..self
        }
    }
    #[cfg_attr(vectors, inline(always))]
    fn codes(self, row: usize, unit: usize) -> *const u8 {
        self.skip(row).codes.wrapping_add(unit * UNIT / 2)
    }
    #[cfg_attr(vectors, inline(always))]
    unsafe fn scale(self, row: usize, unit: usize) -> u16 {
        // SAFETY: the caller's.
        unsafe { self.skip(row).scales.wrapping_add(unit >> self.log_units).read() }.to_bits()
    }
    #[cfg_attr(vectors, inline(always))]
    unsafe fn zeros<S: Simd>(self, s: S, lines: Lines, unit: usize) -> S::V {
        let mut zeros = [0.0; LANES];
        each!(i < 16, {
            if i < S::LANES {
                let zero = self.skip(lines.row(i)).zeros.wrapping_add(unit >> self.log_units);
                // SAFETY: the caller's.
                zeros[i] = 8.0 - f32::from(unsafe { zero.read() });
            }
        });
        // SAFETY: the array has 16 numbers.
        unsafe { s.load(zeros.as_ptr()) }
    }
}

/// Rows of a quantised weight to be packed, the first its first.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub weight: Quantised,
    /// How many, which may be fewer than the panel is padded to.
    pub len: usize,
    /// In whole units.
    pub depth: Span,
    /// How many weights ahead cache lines are asked for.
    pub ahead: usize,
}

/// Packs weight `p` of row `x` to `out[p * stride + x]`, and something for the rows behind the last.
///
/// # Safety
/// The weight has the rows and the depth; `out` is valid for writing
/// `(depth - 1) * stride + padded` floats; `len <= padded <= stride`, padded to whole vectors.
#[cfg_attr(vectors, inline(always))]
pub(super) unsafe fn pack_quantised<S: Simd>(s: S, rows: Rows, packed: Packed) {
    match rows.weight {
        Quantised::Q8_0(format) => s.run(Unpack { format, rows, packed }),
        Quantised::Q4_0(format) => s.run(Unpack { format, rows, packed }),
        Quantised::Q4Groups(format) => s.run(Unpack { format, rows, packed }),
    }
}

/// [`pack_quantised`] of one format, in a function of its own.
struct Unpack<F> {
    format: F,
    rows: Rows,
    packed: Packed,
}

impl<F: Format> Op for Unpack<F> {
    type Out = ();
    #[cfg_attr(vectors, inline(always))]
    fn eval<S: Simd>(self, s: S) {
        let Unpack { format, rows: Rows { len, depth, ahead, .. }, packed } = self;
        for x in (0..packed.padded).step_by(S::LANES) {
            // Without a row left the last stands for all of them.
            let lines = if x < len { Lines(len - x) } else { Lines(1) };
            let format = format.skip(min(x, len.saturating_sub(1)));
            for p in (0..depth.len).step_by(UNIT) {
                let (unit, mut words) = ((depth.first + p) / UNIT, Words::new());
                let out = packed.out.wrapping_add(p * packed.stride + x);
                // SAFETY: `pack_quantised`, which made it.
                unsafe {
                    let scales = lines.turn(s, format, unit, ahead, &mut words);
                    for run in 0..UNIT / Words::run::<F>() {
                        each!(i < 8, {
                            if const { i < Words::run::<F>() } {
                                let weight = words.weight::<S, F, i>(s, run, scales);
                                let at = run * Words::run::<F>() + i;
                                s.store(out.wrapping_add(at * packed.stride), weight);
                            }
                        });
                    }
                }
            }
        }
    }
}

/// As many rows as a vector has lanes, of which there are so many; the last again for the missing.
#[derive(Clone, Copy)]
pub(super) struct Lines(pub usize);

impl Lines {
    #[cfg_attr(vectors, inline(always))]
    fn row(self, lane: usize) -> usize {
        if lane < self.0 { lane } else { self.0 - 1 }
    }

    /// Turns a unit of the rows into words, and gives what the bytes are to be multiplied by and what
    /// is to be added; asks for the cache lines of the unit `ahead` weights ahead.
    ///
    /// # Safety
    /// The weight has the rows and the unit.
    #[cfg_attr(vectors, inline(always))]
    pub(super) unsafe fn turn<S: Simd, F: Format>(
        self,
        s: S,
        format: F,
        unit: usize,
        ahead: usize,
        words: &mut Words,
    ) -> [S::V; 2] {
        let mut rows = [core::ptr::null::<f32>(); LANES];
        let mut scales = [0; LANES];
        each!(i < 16, {
            rows[i] = format.codes(self.row(i), unit).cast();
        });
        // SAFETY: the caller's: a unit has 16 or 32 bytes of codes.
        unsafe {
            let turned = s.turn4(rows);
            if const { F::BITS == 8 } {
                each!(q < 4, {
                    words.put(s, q, turned[q]);
                });
                each!(i < 16, {
                    rows[i] = rows[i].wrapping_add(4);
                });
                let rest = s.turn4(rows);
                each!(q < 4, {
                    words.put(s, 4 + q, rest[q]);
                });
            } else {
                each!(q < 4, {
                    let [lower, upper] = s.nibbles(turned[q]);
                    let places =
                        if const { F::BY_TURNS } { [2 * q, 2 * q + 1] } else { [q, 4 + q] };
                    words.put(s, places[0], lower);
                    words.put(s, places[1], upper);
                });
            }
            each!(i < 16, {
                if i < S::LANES {
                    s.prefetch(format.codes(self.row(i), unit + ahead / UNIT).cast());
                    scales[i] = format.scale(self.row(i), unit);
                }
            });
            let scale = s.widen_f16(scales);
            // Of bytes as the top of 32 bits, or of half bytes as the top of bytes.
            let factor = const { 1.0 / (1u64 << (32 - F::BITS)) as f32 };
            let zeros = format.zeros(s, self, unit);
            [s.mul(scale, s.splat(factor)), s.mul(zeros, scale)]
        }
    }
}

/// A unit of as many rows as a vector has lanes, in words of four signed bytes.
pub(super) struct Words([MaybeUninit<[f32; LANES]>; UNIT / 4]);

impl Words {
    #[cfg_attr(vectors, inline(always))]
    pub(super) const fn new() -> Self {
        Words([const { MaybeUninit::uninit() }; UNIT / 4])
    }

    #[cfg_attr(vectors, inline(always))]
    fn put<S: Simd>(&mut self, s: S, at: usize, words: S::V) {
        if let Some(place) = self.0.get_mut(at) {
            // SAFETY: a place has 16 floats.
            unsafe { s.store(place.as_mut_ptr().cast(), words) }
        }
    }

    /// How many weights follow one another in a word, or in two by turns.
    pub(super) const fn run<F: Format>() -> usize {
        if F::BY_TURNS { 8 } else { 4 }
    }

    /// Weight `I` of run `run`, with what [`Lines::turn`] gave.
    ///
    /// # Safety
    /// The words were turned, and there are so many runs and weights in one.
    #[cfg_attr(vectors, inline(always))]
    pub(super) unsafe fn weight<S: Simd, F: Format, const I: usize>(
        &self,
        s: S,
        run: usize,
        [scale, offset]: [S::V; 2],
    ) -> S::V {
        let (word, byte) = if const { F::BY_TURNS } { (2 * run + I % 2, I / 2) } else { (run, I) };
        // SAFETY: the caller's.
        let words = unsafe { s.load(self.0.as_ptr().add(word).cast()) };
        let number = match byte {
            0 => s.top_byte::<0>(words),
            1 => s.top_byte::<1>(words),
            2 => s.top_byte::<2>(words),
            _ => s.top_byte::<3>(words),
        };
        // Rounded not at all: the product is exact, and so is what is to be added, and their sum.
        if const { F::HAS_ZEROS } { s.fma(number, scale, offset) } else { s.mul(number, scale) }
    }
}
