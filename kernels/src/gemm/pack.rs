//! Packing: a panel of an operand, copied so that the tile reads it from front to back.

use core::mem::MaybeUninit;

use crate::simd::{LANES, Simd, each};

/// `width` lines of an operand, `depth` long: element `p` of line `x` is
/// `source[x * across + p * along]`. For A a line is a row, for B a column.
pub(crate) struct Panel {
    pub source: *const f32,
    pub across: usize,
    pub along: usize,
    pub width: usize,
    pub depth: usize,
    pub scale: f32,
}

/// `out[p * stride + x] = scale * panel[x, p]`, and something for `width <= x < padded`.
///
/// # Safety
/// The panel's elements are valid for reading, `out` for writing `(depth - 1) * stride + padded`
/// floats, which lie outside the panel; `width <= padded <= stride`.
#[cfg_attr(vectors, inline(always))]
pub(crate) unsafe fn pack_panel<S: Simd>(
    s: S,
    panel: &Panel,
    out: *mut f32,
    stride: usize,
    padded: usize,
) {
    let scale = s.splat(panel.scale);
    for x in (0..padded).step_by(S::LANES) {
        let width = panel.width.saturating_sub(x).min(S::LANES);
        let stored = (padded - x).min(S::LANES);
        let source = panel.source.wrapping_add(x * panel.across);
        let out = out.wrapping_add(x);
        // SAFETY: line `x + i` with `i < width` and depth below `depth` is in the panel; the
        // stores cover `stored` floats of `out`'s row `p`, which ends at `padded`.
        unsafe {
            let mut p = 0;
            if const { S::LANES == LANES } && panel.along == 1 && width > 0 {
                while p + LANES <= panel.depth {
                    let block = stage(s, source.wrapping_add(p), panel.across, width);
                    each!(g < 4, {
                        let columns = s.columns4(block.as_ptr().cast::<f32>().add(4 * g), LANES);
                        each!(q < 4, {
                            let out = out.wrapping_add((p + 4 * g + q) * stride);
                            store(s, out, stored, s.mul(columns[q], scale));
                        });
                    });
                    p += LANES;
                }
            }
            while p < panel.depth {
                let line = source.wrapping_add(p * panel.along);
                let v = load_strided(s, line, panel.across, width);
                store(s, out.wrapping_add(p * stride), stored, s.mul(v, scale));
                p += 1;
            }
        }
    }
}

/// Sixteen numbers of each of 16 lines, copied side by side, so that the cache lines are touched
/// once: lines a power of two apart share few places in the cache.
pub(crate) type Stage = [MaybeUninit<[f32; LANES]>; LANES];

/// Copies 16 numbers of each of `lines` lines, 1 to 16, and the last line again for the missing.
///
/// # Safety
/// 16 floats from `p + i * stride` are valid for reading for `i < lines`.
#[cfg_attr(vectors, inline(always))]
pub(crate) unsafe fn stage<S: Simd>(s: S, p: *const f32, stride: usize, lines: usize) -> Stage {
    let mut block: Stage = [const { MaybeUninit::uninit() }; LANES];
    each!(i < 16, {
        let line = p.wrapping_add(stride * if i < lines { i } else { lines - 1 });
        // SAFETY: the caller's; a place of the block holds 16 floats.
        unsafe { s.store(block[i].as_mut_ptr().cast(), s.load(line)) }
    });
    block
}

#[cfg_attr(vectors, inline(always))]
pub(crate) unsafe fn store<S: Simd>(s: S, p: *mut f32, n: usize, v: S::V) {
    // SAFETY: the caller's. The branch spares a full vector the masked form.
    unsafe { if n == S::LANES { s.store(p, v) } else { s.store_first(p, n, v) } }
}

/// The first `n`, at most a vector, of the numbers at `p`, `p + stride`, and so on; zero behind them.
///
/// # Safety
/// Those numbers are valid for reading.
#[cfg_attr(vectors, inline(always))]
pub(crate) unsafe fn load_strided<S: Simd>(s: S, p: *const f32, stride: usize, n: usize) -> S::V {
    // SAFETY: the caller's.
    unsafe {
        if stride == 1 || const { S::LANES == 1 } {
            return if n == S::LANES { s.load(p) } else { s.load_first(p, n) };
        }
        let mut lanes = [0f32; LANES];
        for (i, lane) in lanes.iter_mut().enumerate() {
            if i < n {
                *lane = p.wrapping_add(i * stride).read();
            }
        }
        s.load(lanes.as_ptr())
    }
}

/// Writes the first `n` lanes, at most all, to `p`, `p + stride`, and so on.
///
/// # Safety
/// Those places are valid for writing.
#[cfg_attr(vectors, inline(always))]
pub(crate) unsafe fn store_strided<S: Simd>(s: S, p: *mut f32, stride: usize, n: usize, v: S::V) {
    // SAFETY: the caller's.
    unsafe {
        if stride == 1 || const { S::LANES == 1 } {
            return store(s, p, n, v);
        }
        let mut lanes = [0f32; LANES];
        s.store(lanes.as_mut_ptr(), v);
        for (i, lane) in lanes.iter().enumerate() {
            if i < n {
                p.wrapping_add(i * stride).write(*lane);
            }
        }
    }
}
