//! Packing of keys and values of eight bits: each is `code * scale`, with a scale for each token.

use core::mem::MaybeUninit;

use crate::gemm::{Packed, min};
use crate::simd::{LANES, Op, Simd, each};

/// Tokens from the first on: code `c` of token `t` is `codes[t * token + c * dim]`.
#[derive(Clone, Copy)]
pub(super) struct ScaledTokens {
    pub codes: *const i8,
    pub scales: *const f32,
    pub token: usize,
    pub dim: usize,
    /// From scale to scale.
    pub scale: usize,
    pub tokens: usize,
    /// Codes of a token.
    pub width: usize,
}

// SAFETY of the methods below: the callers' contracts; tokens are below `tokens`, codes below `width`.
impl ScaledTokens {
    /// Up to 16 codes `step` apart as floats, zero behind the first `n`.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn load<S: Simd>(s: S, p: *const i8, step: usize, n: usize) -> S::V {
        let mut floats = [0f32; LANES];
        // SAFETY: the impl block's.
        unsafe {
            if step == 1 && const { S::LANES == LANES } && n >= LANES {
                let codes = p.cast::<[i8; LANES]>().read();
                for (float, code) in floats.iter_mut().zip(codes) {
                    *float = f32::from(code);
                }
            } else {
                for (i, float) in floats.iter_mut().enumerate().take(S::LANES) {
                    if i < n {
                        *float = f32::from(p.wrapping_add(i * step).read());
                    }
                }
            }
            s.load(floats.as_ptr())
        }
    }

    /// The scales of as many tokens as a vector has lanes, zero behind the last.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn load_scales<S: Simd>(&self, s: S, first: usize) -> S::V {
        let mut scales = [0f32; LANES];
        for (i, scale) in scales.iter_mut().enumerate().take(S::LANES) {
            if first + i < self.tokens {
                // SAFETY: the impl block's.
                *scale = unsafe { self.scales.wrapping_add((first + i) * self.scale).read() };
            }
        }
        // SAFETY: the array has 16 numbers.
        unsafe { s.load(scales.as_ptr()) }
    }

    /// Sixteen codes of 16 tokens, those of a token side by side; the last token again for the missing.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn stage(&self, first: usize, c: usize) -> [MaybeUninit<[u32; 4]>; LANES] {
        let mut stage = [const { MaybeUninit::uninit() }; LANES];
        for (i, place) in stage.iter_mut().enumerate() {
            let p = self.codes.wrapping_add(min(first + i, self.tokens - 1) * self.token + c);
            // SAFETY: the impl block's; 16 codes are 4 words.
            place.write(unsafe { p.cast::<[u32; 4]>().read_unaligned() });
        }
        stage
    }
}

/// Packs keys: code `c` of token `t` to `out[c * stride + t]`, and something for the tokens behind the
/// last up to `padded`.
pub(super) struct PackKeys(pub ScaledTokens, pub Packed);

impl Op for PackKeys {
    type Out = ();
    #[cfg_attr(vectors, inline(always))]
    fn eval<S: Simd>(self, s: S) {
        let PackKeys(x, Packed { out, stride, padded }) = self;
        for t in (0..padded).step_by(S::LANES) {
            if t >= x.tokens {
                return;
            }
            let (n, stored) = (min(x.tokens - t, S::LANES), min(padded - t, S::LANES));
            let out = out.wrapping_add(t);
            // SAFETY: `Group::pack_keys`, which made it.
            unsafe {
                let scale = x.load_scales(s, t);
                let mut c = 0;
                if const { S::LANES == LANES } && x.dim == 1 {
                    while c + LANES <= x.width {
                        let words = s.columns4(x.stage(t, c).as_ptr().cast(), 4);
                        each!(q < 4, {
                            each!(i < 4, {
                                let key = s.mul(s.signed_byte::<i>(words[q]), scale);
                                let out = out.wrapping_add((c + 4 * q + i) * stride);
                                s.store_first(out, stored, key);
                            });
                        });
                        c += LANES;
                    }
                }
                while c < x.width {
                    let p = x.codes.wrapping_add(t * x.token + c * x.dim);
                    let key = s.mul(ScaledTokens::load(s, p, x.token, n), scale);
                    s.store_first(out.wrapping_add(c * stride), stored, key);
                    c += 1;
                }
            }
        }
    }
}

/// Packs values: code `c` of token `t` to `out[t * stride + c]`, and zeros up to `padded`.
pub(super) struct PackValues(pub ScaledTokens, pub Packed);

impl Op for PackValues {
    type Out = ();
    #[cfg_attr(vectors, inline(always))]
    fn eval<S: Simd>(self, s: S) {
        let PackValues(x, Packed { out, stride, padded }) = self;
        for t in 0..x.tokens {
            // SAFETY: `Group::pack_values`, which made it.
            unsafe {
                let scale = s.splat(x.scales.wrapping_add(t * x.scale).read());
                for c in (0..padded).step_by(S::LANES) {
                    let p = x.codes.wrapping_add(t * x.token + c * x.dim);
                    let value =
                        s.mul(ScaledTokens::load(s, p, x.dim, x.width.saturating_sub(c)), scale);
                    s.store_first(out.wrapping_add(t * stride + c), padded - c, value);
                }
            }
        }
    }
}
