//! What the benchmarks share: the limits that this machine sets, measured in the same run.

use masktile_kernels::{Isa, Op, Simd, run};

/// Floating-point operations of one call of [`fma_peak`].
pub const PEAK_FLOPS: u64 = (CHAINS * masktile_kernels::LANES * STEPS * 2) as u64;

/// Enough independent chains to hide the latency on two ports of any width of register that
/// holds them (AVX2 takes two registers a vector), few enough to stay in registers.
const CHAINS: usize = 12;
const STEPS: usize = 4096;

/// Fused multiply-adds on registers alone; returns a number that depends on all of them.
pub fn fma_peak(isa: Isa, x: f32) -> f32 {
    run(isa, Peak(x))
}

struct Peak(f32);

impl Op for Peak {
    type Out = f32;
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) -> f32 {
        // Twelve vectors fill the registers of AVX-512 without spilling; AVX2 and NEON hold half
        // as many and as few as a quarter, which still is twelve registers.
        match S::MR {
            14 => chains::<S, CHAINS>(s, self.0, STEPS),
            _ => chains::<S, { CHAINS / 2 }>(s, self.0, STEPS * 2),
        }
    }
}

#[inline(always)]
fn chains<S: Simd, const N: usize>(s: S, x: f32, steps: usize) -> f32 {
    let (a, b) = (s.splat(x), s.splat(1.0 - x));
    let mut acc = [a; N];
    for _ in 0..steps {
        for v in &mut acc {
            *v = s.fma(*v, a, b);
        }
    }
    acc.into_iter().map(|v| s.sum(v)).sum()
}

/// Reads all of `data` by vectors; returns a number that depends on every float of each whole
/// 64 of them.
pub fn read(isa: Isa, data: &[f32]) -> f32 {
    run(isa, Read(data))
}

struct Read<'a>(&'a [f32]);

impl Op for Read<'_> {
    type Out = f32;
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) -> f32 {
        const LANES: usize = masktile_kernels::LANES;
        let mut acc = [s.splat(0.0); 4];
        for part in self.0.as_chunks::<{ 4 * LANES }>().0 {
            for (v, lanes) in acc.iter_mut().zip(part.as_chunks::<LANES>().0) {
                // SAFETY: `lanes` are 16 floats.
                *v = s.add(*v, unsafe { s.load(lanes.as_ptr()) });
            }
        }
        acc.into_iter().map(|v| s.sum(v)).sum()
    }
}

/// Numbers in -1 .. 1, none zero (xorshift).
pub fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 40) as f32 + 0.5) / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}
