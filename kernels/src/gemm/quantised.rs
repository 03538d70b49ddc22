//! Weights of few bits in blocks along k, stored out x in: a row is a column of B. They are turned
//! into floats as they are packed, 32 of each of 16 rows at once: the codes lie in registers from the
//! first load on, and a weight is `(code - zero) * scale`, exact in f32.

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
trait Format: Copy {
    /// Words of 32 bits of codes.
    const WORDS: usize;
    /// Codes in a word.
    const IN_WORD: usize = UNIT / Self::WORDS;
    /// Whether another code than 0 may stand for zero.
    const HAS_ZEROS: bool = true;

    /// From row `rows` on.
    fn skip(self, rows: usize) -> Self;
    /// The unit's codes.
    fn codes(self, row: usize, unit: usize) -> *const u8;
    /// The bits of its scale.
    ///
    /// # Safety
    /// The weight has the row and the unit.
    unsafe fn scale(self, row: usize, unit: usize) -> u16;
    /// The codes for zero of these rows.
    ///
    /// # Safety
    /// As above.
    unsafe fn zeros<S: Simd>(self, s: S, lines: Lines, unit: usize) -> S::V;
    /// Code `I` of each lane's word.
    fn code<S: Simd, const I: usize>(s: S, words: S::V) -> S::V;
    /// Where in the unit the weight of code `i` of word `word` is.
    fn place(word: usize, i: usize) -> usize;
}

impl Format for Q8_0 {
    const WORDS: usize = 8;
    const HAS_ZEROS: bool = false;

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
    #[cfg_attr(vectors, inline(always))]
    unsafe fn zeros<S: Simd>(self, s: S, _: Lines, _: usize) -> S::V {
        s.splat(0.0)
    }
    #[cfg_attr(vectors, inline(always))]
    fn code<S: Simd, const I: usize>(s: S, words: S::V) -> S::V {
        s.signed_byte::<I>(words)
    }
    #[cfg_attr(vectors, inline(always))]
    fn place(word: usize, i: usize) -> usize {
        4 * word + i
    }
}

impl Format for Q4_0 {
    const WORDS: usize = 4;

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
    #[cfg_attr(vectors, inline(always))]
    unsafe fn zeros<S: Simd>(self, s: S, _: Lines, _: usize) -> S::V {
        s.splat(8.0)
    }
    #[cfg_attr(vectors, inline(always))]
    fn code<S: Simd, const I: usize>(s: S, words: S::V) -> S::V {
        s.nibble::<I>(words)
    }
    #[cfg_attr(vectors, inline(always))]
    fn place(word: usize, i: usize) -> usize {
        4 * word + i / 2 + i % 2 * (UNIT / 2)
    }
}

impl Format for Q4Groups {
    const WORDS: usize = 4;

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
                zeros[i] = f32::from(unsafe { zero.read() });
            }
        });
        // SAFETY: the array has 16 numbers.
        unsafe { s.load(zeros.as_ptr()) }
    }
    #[cfg_attr(vectors, inline(always))]
    fn code<S: Simd, const I: usize>(s: S, words: S::V) -> S::V {
        s.nibble::<I>(words)
    }
    #[cfg_attr(vectors, inline(always))]
    fn place(word: usize, i: usize) -> usize {
        8 * word + i
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
    /// How many weights ahead cache lines are asked for; 0 for not at all.
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
                let unit = (depth.first + p) / UNIT;
                let out = packed.out.wrapping_add(p * packed.stride + x);
                // SAFETY: `pack_quantised`, which made it.
                unsafe {
                    if ahead > 0 {
                        lines.prefetch(s, format, unit + ahead / UNIT);
                    }
                    lines.unpack(s, format, unit, out, packed.stride);
                }
            }
        }
    }
}

/// As many rows as a vector has lanes, of which there are so many; the last again for the missing.
#[derive(Clone, Copy)]
struct Lines(usize);

/// The codes of a unit of 16 rows, those of a row side by side.
type Codes = [MaybeUninit<[u32; 8]>; LANES];

impl Lines {
    #[cfg_attr(vectors, inline(always))]
    fn row(self, lane: usize) -> usize {
        if lane < self.0 { lane } else { self.0 - 1 }
    }

    #[cfg_attr(vectors, inline(always))]
    fn prefetch<S: Simd, F: Format>(self, s: S, format: F, unit: usize) {
        each!(i < 16, {
            if i < S::LANES {
                s.prefetch(format.codes(self.row(i), unit).cast());
            }
        });
    }

    /// The 32 weights of a unit, a vector of the rows' for each.
    ///
    /// # Safety
    /// The weight has the rows and the unit; 32 vectors from `out` on, `stride` apart, are valid for
    /// writing.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn unpack<S: Simd, F: Format>(
        self,
        s: S,
        format: F,
        unit: usize,
        out: *mut f32,
        stride: usize,
    ) {
        let mut codes: Codes = [const { MaybeUninit::uninit() }; LANES];
        let mut scales = [0; LANES];
        // SAFETY: the caller's; a place of `codes` holds 8 words.
        unsafe {
            each!(i < 16, {
                if i < S::LANES {
                    let row = self.row(i);
                    let (from, to) = (format.codes(row, unit), codes[i].as_mut_ptr());
                    core::ptr::copy_nonoverlapping(from, to.cast(), 4 * F::WORDS);
                    scales[i] = format.scale(row, unit);
                }
            });
            let scale = s.widen_f16(scales);
            // (code - zero) * scale, rounded once, and not at all: both products are exact, and so
            // is their difference.
            let offset = s.sub(s.splat(0.0), s.mul(format.zeros(s, self, unit), scale));
            for first in (0..F::WORDS).step_by(4) {
                let words = s.columns4(codes.as_ptr().cast::<f32>().add(first), 8);
                each!(q < 4, {
                    each!(i < 8, {
                        if i < F::IN_WORD {
                            let code = F::code::<S, i>(s, words[q]);
                            let weight = if const { F::HAS_ZEROS } {
                                s.fma(code, scale, offset)
                            } else {
                                s.mul(code, scale)
                            };
                            let out = out.wrapping_add(F::place(first + q, i) * stride);
                            s.store(out, weight);
                        }
                    });
                });
            }
        }
    }
}
