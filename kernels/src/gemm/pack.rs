//! Packing: a panel of an operand, copied so that the tile reads it from front to back.

use core::mem::MaybeUninit;

use crate::number::{Dtype, Number, Numbers, NumbersMut};
use crate::simd::{LANES, Op, Simd, each};
use half::{bf16, f16};

/// `width` lines of an operand, `depth` long: element `p` of line `x` is
/// `source[x * across + p * along]`. For A a line is a row, for B a column. The source is an address,
/// or [`Numbers`] of whatever type.
pub(crate) struct Panel<P> {
    pub source: P,
    pub across: usize,
    pub along: usize,
    pub width: usize,
    pub depth: usize,
    pub scale: f32,
    /// How far ahead, in elements of a line or of a step across, cache lines are asked for; 0 for not at all.
    pub ahead: usize,
}

/// Where a panel is packed to: number `p` of line `x` at `p * stride + x`, and something for the lines
/// behind the panel's up to `padded`.
#[derive(Clone, Copy)]
pub(crate) struct Packed {
    pub out: *mut f32,
    pub stride: usize,
    pub padded: usize,
}

/// `out[p * stride + x] = scale * panel[x, p]`, and something for `width <= x < padded`.
///
/// # Safety
/// The panel's elements are valid for reading, `out` for writing `(depth - 1) * stride + padded`
/// floats, which lie outside the panel; `width <= padded <= stride`.
#[cfg_attr(vectors, inline(always))]
pub(crate) unsafe fn pack_panel<S: Simd, T: Number>(
    s: S,
    panel: &Panel<*const T>,
    Packed { out, stride, padded }: Packed,
) {
    let scale = s.splat(panel.scale);
    if stride == 1 {
        // A single line, as it lies.
        for p in (0..panel.depth).step_by(S::LANES) {
            let n = (panel.depth - p).min(S::LANES);
            let line = panel.source.wrapping_add(p * panel.along);
            // SAFETY: numbers `p..p + n` of the line and of `out`.
            unsafe {
                let v = load_strided(s, line, panel.along, n);
                store(s, out.wrapping_add(p), n, s.mul(v, scale));
            }
        }
        return;
    }
    // A whole vector may be stored where the next numbers overwrite what is too much.
    let end =
        if padded == stride && padded < S::LANES { panel.depth.saturating_mul(stride) } else { 0 };
    for x in (0..padded).step_by(S::LANES) {
        let width = panel.width.saturating_sub(x).min(S::LANES);
        let rest = (padded - x).min(S::LANES);
        let stored = |p: usize| if p * stride + S::LANES <= end { S::LANES } else { rest };
        let source = panel.source.wrapping_add(x.wrapping_mul(panel.across));
        let out = out.wrapping_add(x);
        // SAFETY: line `x + i` with `i < width` and depth below `depth` is in the panel; the
        // stores cover floats of `out`'s row `p`, which ends at `padded`, or of the rows behind it.
        unsafe {
            let mut p = 0;
            if const { S::LANES == LANES } && panel.along == 1 && width > 0 {
                while p + LANES * T::IN_WORD <= panel.depth {
                    if panel.ahead > 0 {
                        each!(i < 16, {
                            // Lines behind the last are only asked for: their place may wrap.
                            let line = source.wrapping_add(i.wrapping_mul(panel.across));
                            s.prefetch(line.wrapping_add(p + panel.ahead).cast());
                        });
                    }
                    let block = stage(s, source.wrapping_add(p), panel.across, width);
                    each!(g < 4, {
                        let words = s.columns4(block.as_ptr().cast::<f32>().add(4 * g), LANES);
                        each!(q < 4, {
                            let numbers = T::of_words(s, words[q]);
                            each!(h < 2, {
                                if h < T::IN_WORD {
                                    let at = p + (4 * g + q) * T::IN_WORD + h;
                                    let out = out.wrapping_add(at * stride);
                                    store(s, out, stored(at), s.mul(numbers[h], scale));
                                }
                            });
                        });
                    });
                    p += LANES * T::IN_WORD;
                }
            }
            while p < panel.depth {
                let line = source.wrapping_add(p * panel.along);
                if panel.ahead > 0 {
                    let ahead = panel.ahead.wrapping_mul(panel.across);
                    s.prefetch(line.wrapping_add(ahead).cast());
                }
                let v = load_strided(s, line, panel.across, width);
                store(s, out.wrapping_add(p * stride), stored(p), s.mul(v, scale));
                p += 1;
            }
        }
    }
}

/// [`pack_panel`] in a function of its own, compiled once for each type.
struct PackPanel<T>(Panel<*const T>, Packed);

impl<T: Number> Op for PackPanel<T> {
    type Out = ();
    #[cfg_attr(vectors, inline(always))]
    fn eval<S: Simd>(self, s: S) {
        // SAFETY: `pack_numbers`, which made it.
        unsafe { pack_panel(s, &self.0, self.1) }
    }
}

/// [`pack_panel`] of numbers of whatever type.
///
/// # Safety
/// As there.
#[cfg_attr(vectors, inline(always))]
unsafe fn pack_numbers<S: Simd>(s: S, panel: &Panel<Numbers>, packed: Packed) {
    match panel.source.dtype() {
        Dtype::F32 => s.run(PackPanel::<f32>(panel.of(), packed)),
        Dtype::F16 => s.run(PackPanel::<f16>(panel.of(), packed)),
        Dtype::Bf16 => s.run(PackPanel::<bf16>(panel.of(), packed)),
    }
}

/// [`pack_panel`] of numbers that are of f32 unless `MIXED`.
///
/// # Safety
/// As there.
#[cfg_attr(vectors, inline(always))]
pub(crate) unsafe fn pack_any<S: Simd, const MIXED: bool>(
    s: S,
    panel: &Panel<Numbers>,
    packed: Packed,
) {
    // SAFETY: the caller's.
    unsafe {
        if MIXED {
            pack_numbers(s, panel, packed)
        } else {
            pack_panel(s, &panel.of::<f32>(), packed)
        }
    }
}

impl Panel<Numbers> {
    /// The same lines, of numbers that are `T`.
    #[cfg_attr(vectors, inline(always))]
    pub(crate) fn of<T: Number>(&self) -> Panel<*const T> {
        let Panel { source, across, along, width, depth, scale, ahead } = *self;
        Panel { source: source.of(), across, along, width, depth, scale, ahead }
    }
}

/// 64 bytes of each of 16 lines, copied side by side, so that the cache lines are touched once:
/// lines a power of two apart share few places in the cache.
pub(crate) type Stage = [MaybeUninit<[f32; LANES]>; LANES];

/// Copies 64 bytes of each of `lines` lines, 1 to 16, and the last line again for the missing.
///
/// # Safety
/// 64 bytes from `p + i * stride` are valid for reading for `i < lines`.
#[cfg_attr(vectors, inline(always))]
pub(crate) unsafe fn stage<S: Simd, T: Number>(
    s: S,
    p: *const T,
    stride: usize,
    lines: usize,
) -> Stage {
    let mut block: Stage = [const { MaybeUninit::uninit() }; LANES];
    each!(i < 16, {
        let line = p.wrapping_add(stride * if i < lines { i } else { lines - 1 }).cast::<f32>();
        // SAFETY: the caller's; a place of the block holds 16 floats. A load may have any alignment.
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
pub(crate) unsafe fn load_strided<S: Simd, T: Number>(
    s: S,
    p: *const T,
    stride: usize,
    n: usize,
) -> S::V {
    // SAFETY: the caller's.
    unsafe {
        if stride == 1 || const { S::LANES == 1 } {
            return T::load_first(s, p, n);
        }
        let mut lanes = [MaybeUninit::<T>::zeroed(); LANES];
        for (i, lane) in lanes.iter_mut().enumerate() {
            if i < n {
                lane.write(p.wrapping_add(i * stride).read());
            }
        }
        T::load_first(s, lanes.as_ptr().cast(), LANES)
    }
}

/// Rounds and writes the first `n` lanes, at most all, to `p`, `p + stride`, and so on.
///
/// # Safety
/// Those places are valid for writing.
#[cfg_attr(vectors, inline(always))]
pub(crate) unsafe fn store_strided<S: Simd, T: Number>(
    s: S,
    p: *mut T,
    stride: usize,
    n: usize,
    v: S::V,
) {
    // SAFETY: the caller's.
    unsafe {
        if stride == 1 || const { S::LANES == 1 } {
            return T::store_first(s, p, n, v);
        }
        let mut lanes = [const { MaybeUninit::<T>::uninit() }; LANES];
        T::store_first(s, lanes.as_mut_ptr().cast(), LANES, v);
        for (i, lane) in lanes.iter().enumerate() {
            if i < n {
                p.wrapping_add(i * stride).write(lane.assume_init_read());
            }
        }
    }
}

/// [`store_strided`] to numbers that are of f32 unless `MIXED`.
///
/// # Safety
/// As there.
#[cfg_attr(vectors, inline(always))]
pub(crate) unsafe fn store_any<S: Simd, const MIXED: bool>(
    s: S,
    p: NumbersMut,
    stride: usize,
    n: usize,
    v: S::V,
) {
    // SAFETY: the caller's.
    unsafe {
        match p.dtype() {
            Dtype::F16 if MIXED => store_strided(s, p.of::<f16>(), stride, n, v),
            Dtype::Bf16 if MIXED => store_strided(s, p.of::<bf16>(), stride, n, v),
            _ => store_strided(s, p.of::<f32>(), stride, n, v),
        }
    }
}
