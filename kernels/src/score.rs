//! From raw scores to what the softmax takes: `s = (softcap(scale * raw) + biases) / temperature`,
//! in this order, -infinity where masked.

use crate::activation::tanh;
use crate::gemm::{load_strided, store_strided};
use crate::mask::{Plan, Row};
use crate::row::{Cells, Run};
use crate::simd::{LANES, Simd};

/// Whether all of this was compiled, not scale and masks alone, with what else a softmax gives beside
/// probabilities: see the feature.
pub const ALL: bool = cfg!(feature = "scores");

/// What happens to a raw score, and which are masked.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    /// A factor of the raw scores.
    pub scale: f32,
    /// `cap * tanh(s / cap)` keeps scaled scores within `cap`; none for 0.
    pub softcap: f32,
    /// A factor of what stands behind the biases: one over the temperature.
    pub sharpness: f32,
    /// The masks and biases.
    pub plan: &'a Plan<'a>,
}

/// A point on the way of a score.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// `scale * raw`.
    Scaled,
    /// Behind the soft cap.
    Capped,
    /// Behind the biases and the temperature.
    Biased,
}

impl Rule<'_> {
    /// Whether a score is scaled and nothing else: no mask within the row's run, no bias.
    #[cfg_attr(vectors, inline(always))]
    pub(crate) fn is_plain(&self) -> bool {
        !self.plan.is_elementwise() && self.is_linear()
    }

    /// Whether a kept score is scaled and nothing else.
    #[cfg_attr(vectors, inline(always))]
    fn is_linear(&self) -> bool {
        !self.plan.has_biases() && self.is_neutral()
    }

    /// Whether there is neither cap nor temperature.
    #[cfg_attr(vectors, inline(always))]
    fn is_neutral(&self) -> bool {
        !ALL || (self.softcap == 0.0 && self.sharpness == 1.0)
    }

    /// The scores of the `n` keys of a vector from `key` on at `stage`, from raw ones.
    ///
    /// # Safety
    /// The plan's grids have those positions, valid for reading.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn score<S: Simd>(
        &self,
        s: S,
        row: Row,
        key: usize,
        n: usize,
        raw: S::V,
        stage: Stage,
    ) -> S::V {
        let mut v = s.mul(raw, s.splat(self.scale));
        if ALL && stage != Stage::Scaled && self.softcap != 0.0 {
            let cap = s.splat(self.softcap);
            v = s.mul(cap, tanh(s, s.div(v, cap)));
        }
        if stage == Stage::Biased {
            // SAFETY: the caller's.
            v = unsafe { self.plan.biased(s, row, key, n, v) };
            if ALL {
                v = s.mul(v, s.splat(self.sharpness));
            }
        }
        v
    }
}

/// A row of scores among the masks.
#[derive(Clone, Copy)]
pub(crate) struct Line<'a> {
    pub rule: &'a Rule<'a>,
    pub row: Row,
    /// The key of column 0.
    pub key: usize,
}

impl Line<'_> {
    /// The scores of the `n` columns of a vector from `c` on at `stage`, from raw ones.
    ///
    /// # Safety
    /// The plan's grids have those positions, valid for reading.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn score<S: Simd>(&self, s: S, c: usize, n: usize, raw: S::V, stage: Stage) -> S::V {
        // SAFETY: the caller's.
        unsafe { self.rule.score(s, self.row, self.key + c, n, raw, stage) }
    }
}

/// Writes the scores of the run at `stage`, -infinity where masked, and returns the greatest, or
/// the least finite number if that is more (NaN is passed over: it shows in the sum). `kept` says
/// which of 16 columns from a multiple of 16 on the masks keep, bit `i` for column `c + i`.
///
/// # Safety
/// The cells of `raw` are valid for reading, of `out` for writing (they may be the same), and the
/// plan's grids have the run's keys.
#[cfg_attr(vectors, inline(always))]
pub(crate) unsafe fn score_pass<S: Simd>(
    s: S,
    raw: Cells<*const f32>,
    out: Cells<*mut f32>,
    run: Run,
    line: Line<'_>,
    stage: Stage,
    kept: impl Fn(usize) -> u16,
) -> f32 {
    let (linear, scale) = (line.rule.is_linear(), s.splat(line.rule.scale));
    let mut max = s.splat(f32::MIN);
    let (start, hidden) = (run.first / LANES * LANES, s.splat(f32::NEG_INFINITY));
    let (from, to) = run.whole::<S>(start, run.end, [raw.stride, out.stride]);
    // What is most used of all that is not linear.
    let rule = line.rule;
    let may_have_one = const { S::LANES == LANES } && rule.is_neutral();
    let biases = if may_have_one { rule.plan.lone_bias(line.row, line.key) } else { None };
    let mut chunk = start;
    while chunk < run.end {
        let kept = kept(chunk);
        if chunk >= from && chunk < to {
            // SAFETY: this chunk exists.
            unsafe {
                let v = s.load(raw.p.wrapping_add(chunk));
                let v = match biases {
                    Some(biases) if stage == Stage::Biased => {
                        let bias = s.load(biases.wrapping_add(chunk));
                        let masks = s.lt(bias, s.splat(f32::MIN));
                        s.select(masks, hidden, s.add(s.mul(v, scale), bias))
                    }
                    _ if linear => s.mul(v, scale),
                    _ => line.score(s, chunk, LANES, v, stage),
                };
                let v = if kept == u16::MAX { v } else { s.select(s.mask(kept), v, hidden) };
                s.store(out.p.wrapping_add(chunk), v);
                max = s.max(v, max);
            }
            chunk += LANES;
            continue;
        }
        let columns = if const { S::LANES == 1 } {
            chunk.max(run.first)..run.end.min(chunk + LANES)
        } else {
            chunk..chunk + LANES
        };
        for c in columns.step_by(S::LANES) {
            let n = run.lanes::<S>(c);
            // SAFETY: these lanes exist, in the row and in the grids.
            unsafe {
                let v = load_strided(s, raw.at(c), raw.stride, n);
                let v = if linear { s.mul(v, scale) } else { line.score(s, c, n, v, stage) };
                let v = s.select(s.mask(kept >> (c - chunk)), v, hidden);
                let v = run.keep(s, c, v, f32::NEG_INFINITY);
                store_strided(s, out.at(c), out.stride, n, v);
                max = s.max(v, max);
            }
        }
        chunk += LANES;
    }
    s.largest(max)
}
