//! Packing: bytes of an operand, copied so that the tile reads them from front to back, four of the
//! depth at a time.

use core::mem::MaybeUninit;

use crate::isa::int8::{Int8, Left};
use crate::simd::{LANES, Simd, each};

/// Lines of an operand along the depth: byte `p` of line `x` is `source[x * across + p * along]`.
/// For A a line is a row, for B a column.
#[derive(Clone, Copy)]
pub(super) struct Lines {
    pub source: *const u8,
    pub across: usize,
    pub along: usize,
    /// How many lines.
    pub width: usize,
    /// How many bytes of each.
    pub depth: usize,
}

impl Lines {
    /// The lines from `x` on.
    pub(super) fn from(self, x: usize) -> Self {
        let source = self.source.wrapping_add(x * self.across);
        Lines { source, width: self.width - x, ..self }
    }

    /// Bytes `4 g` and the next three of line `x`; zero behind the last.
    ///
    /// # Safety
    /// The bytes of the lines are valid for reading, and there is a line `x`.
    #[inline(always)]
    pub(super) unsafe fn group(&self, x: usize, g: usize) -> [u8; 4] {
        let p = self.source.wrapping_add(x * self.across + 4 * g * self.along);
        let rest = self.depth - 4 * g;
        // SAFETY: the caller's; byte `q` is read only where the line has it.
        unsafe {
            if self.along == 1 && rest >= 4 {
                return p.cast::<[u8; 4]>().read();
            }
            let mut bytes = [0; 4];
            for (q, byte) in bytes.iter_mut().enumerate() {
                if q < rest {
                    *byte = p.wrapping_add(q * self.along).read();
                }
            }
            bytes
        }
    }
}

/// Packs columns of B in panels of `nr`, one behind the other: bytes `4 g` and on of column `x` of a
/// panel become word `g * nr + x` of it, for whole vectors of columns; those behind the last column
/// hold anything.
///
/// # Safety
/// The bytes of the lines are valid for reading, `out` for writing whole panels, which lie outside
/// of them. `nr` is a multiple of 16.
#[inline(always)]
pub(super) unsafe fn pack_b<S: Int8>(s: S, b: Lines, out: *mut u32, nr: usize) {
    let groups = b.depth.div_ceil(4);
    let at = |x: usize| out.wrapping_add(x / nr * nr * groups + x % nr);
    // Rows are read from end to end.
    let whole = if b.across == 1 { b.width / LANES * LANES } else { 0 };
    // SAFETY: the caller's.
    unsafe {
        for g in 0..b.depth / 4 {
            for x in (0..whole).step_by(LANES) {
                interleave(s, b.from(x), g, at(x).wrapping_add(g * nr));
            }
        }
        for x in (0..b.width).step_by(LANES) {
            let columns = b.from(x);
            let done = if x < whole {
                b.depth / 4
            } else if b.along == 1 {
                transpose(s, columns, at(x), nr)
            } else {
                0
            };
            for g in done..groups {
                for i in 0..LANES {
                    // Something that was written, for those that are missing.
                    let bytes = if i < columns.width { columns.group(i, g) } else { [0; 4] };
                    at(x).wrapping_add(g * nr + i).write(u32::from_ne_bytes(bytes));
                }
            }
        }
    }
}

/// Columns that lie contiguous, 64 bytes of each at a time; gives the groups done. Words are moved
/// as floats, whose bits nothing looks at.
///
/// # Safety
/// [`pack_b`]'s, for a vector of columns.
#[inline(always)]
unsafe fn transpose<S: Int8>(s: S, b: Lines, out: *mut u32, step: usize) -> usize {
    let base = s.base();
    let mut g = 0;
    // SAFETY: the caller's; lines behind the last are the last again.
    unsafe {
        while 4 * (g + LANES) <= b.depth {
            // Side by side, so that each cache line is touched once.
            let mut block = [const { MaybeUninit::<[f32; LANES]>::uninit() }; LANES];
            each!(x < 16, {
                let line = b.across * if x < b.width { x } else { b.width - 1 };
                let line = b.source.wrapping_add(line + 4 * g);
                base.store(block[x].as_mut_ptr().cast(), base.load(line.cast()));
            });
            each!(fourth < 4, {
                let columns = base.columns4(block.as_ptr().cast::<f32>().add(4 * fourth), LANES);
                each!(q < 4, {
                    let out = out.wrapping_add((g + 4 * fourth + q) * step);
                    base.store(out.cast(), columns[q]);
                });
            });
            g += LANES;
        }
    }
    g
}

/// Four rows, from `4 g` on, of 16 contiguous columns.
///
/// # Safety
/// [`pack_b`]'s, and there are as many rows and columns.
#[inline(always)]
unsafe fn interleave<S: Int8>(s: S, b: Lines, g: usize, out: *mut u32) {
    let row = |q: usize| b.source.wrapping_add((4 * g + q) * b.along).cast::<[u8; LANES]>();
    // SAFETY: the caller's.
    unsafe {
        let columns = s.interleave([row(0).read(), row(1).read(), row(2).read(), row(3).read()]);
        out.cast::<[[u8; 4]; LANES]>().write_unaligned(columns);
    }
}

/// What is done to bytes of A on the way: `byte ^ flip` is i8 or u8 as the instruction takes it, and
/// `zero` stands for nothing there.
#[derive(Clone, Copy)]
pub(super) struct Conversion {
    pub flip: u8,
    pub zero: i16,
}

impl Conversion {
    #[inline(always)]
    pub(super) fn of<S: Int8>(is_signed: bool, zero: i16) -> Self {
        let flips = is_signed == (S::LEFT == Left::Unsigned);
        let flip = if flips { 128 } else { 0 };
        let shift = if is_signed { 128 } else { -128 };
        Conversion { flip, zero: if flips { zero + shift } else { zero } }
    }
}

/// Packs rows of A: group `g` of row `x` becomes `out[g * width + x]`.
///
/// # Safety
/// The bytes of the lines are valid for reading, `out` for writing `groups * width` groups, which
/// lie outside of them.
#[inline(always)]
pub(super) unsafe fn pack_a<S: Int8>(s: S, a: Lines, how: Conversion, out: *mut S::Group) {
    for x in 0..a.width {
        for g in 0..a.depth.div_ceil(4) {
            // SAFETY: the caller's.
            unsafe {
                let bytes = a.group(x, g).map(
                    #[inline(always)]
                    |byte| byte ^ how.flip,
                );
                out.wrapping_add(g * a.width + x).write_unaligned(s.group(bytes, how.zero));
            }
        }
    }
}
