//! What the machine can do at most, by instruction set: fused multiply-adds on registers alone,
//! and reading from each level of cache and from memory.

use std::fmt;
use std::hint::black_box;
use std::time::Duration;

use anyhow::Result;
use masktile_kernels::{Isa, LANES, Op, Simd, run};

use crate::buffer::Buffer;
use crate::machine::{self, Level};
use crate::measure::{self, Plan, Run, median};

/// The type that the peaks are of. A kernel of another type adds its own.
pub const DTYPE: &str = "f32";

/// From memory so many bytes are read, far more than caches hold.
const FROM_MEMORY: usize = 256 << 20;

/// Peaks in GFLOP/s and reading in GB/s.
pub struct Limits {
    levels: Vec<Level>,
    peaks: Vec<(Isa, Vec<f64>)>,
    reads: Vec<Reading>,
}

/// What one instruction set reads from one level.
#[derive(Clone, Debug)]
pub struct Reading {
    /// By this instruction set.
    pub isa: Isa,
    /// From here.
    pub level: Level,
    /// So many GB/s.
    pub gbps: f64,
}

impl Limits {
    /// Measures reading, and the peaks a first time.
    ///
    /// # Errors
    /// Never, as long as measuring itself does not fail.
    pub fn measured() -> Result<Self> {
        let peaks = Isa::available().map(|isa| (isa, Vec::new())).collect();
        let mut limits = Limits { levels: machine::levels(), peaks, reads: Vec::new() };
        limits.measure_reads()?;
        limits.measure_peaks()?;
        Ok(limits)
    }

    /// Measures the peaks once more, as is done before each case: clocks drift.
    ///
    /// # Errors
    /// As [`Limits::measured`].
    pub fn measure_peaks(&mut self) -> Result<()> {
        let mut runs: Vec<Run<'_>> = self.peaks.iter().map(|(isa, _)| peak(*isa)).collect();
        let plan = Plan { rounds: 9, budget: Duration::from_millis(200), fewest: 3 };
        let times = measure::interleaved(plan, &mut runs)?;
        for ((_, peaks), time) in self.peaks.iter_mut().zip(times) {
            peaks.push(PEAK_FLOPS as f64 / time.median_ns());
        }
        Ok(())
    }

    /// Measures reading, again if it was before: the most that was ever read counts, for a
    /// neighbour only takes.
    ///
    /// # Errors
    /// As [`Limits::measured`].
    pub fn measure_reads(&mut self) -> Result<()> {
        let largest = self.levels.iter().map(probe).max().unwrap_or(0);
        let buffer = Buffer::random(largest / size_of::<f32>(), 7);
        for level in &self.levels {
            let data = &buffer[..probe(level) / size_of::<f32>()];
            let isas: Vec<Isa> = Isa::available().collect();
            let mut runs: Vec<Run<'_>> = isas.iter().map(|isa| reading(*isa, data)).collect();
            let plan = Plan { rounds: 15, budget: Duration::from_secs(1), fewest: 3 };
            let times = measure::interleaved(plan, &mut runs)?;
            for (isa, time) in isas.into_iter().zip(times) {
                let gbps = size_of_val(data) as f64 / time.median_ns();
                let same = |read: &&mut Reading| read.isa == isa && read.level.name == level.name;
                match self.reads.iter_mut().find(same) {
                    Some(read) => read.gbps = read.gbps.max(gbps),
                    None => self.reads.push(Reading { isa, level: level.clone(), gbps }),
                }
            }
        }
        Ok(())
    }

    /// GFLOP/s of fused multiply-adds on registers, the median of all times it was measured.
    pub fn peak(&self, isa: Isa) -> f64 {
        self.peaks.iter().find(|(of, _)| *of == isa).map_or(f64::NAN, |(_, peaks)| middle(peaks))
    }

    /// The peak of the best instruction set.
    pub fn best_peak(&self) -> f64 {
        self.peak(Isa::detect())
    }

    /// GB/s of reading from the first level that holds so many bytes, by whatever instruction set
    /// reads most: compilers turn loops of single numbers into vectors, too.
    pub fn read(&self, bytes: f64) -> f64 {
        let Some(first) = self.reads.iter().find(|reading| reading.level.bytes as f64 >= bytes)
        else {
            return f64::NAN;
        };
        let same = self.reads.iter().filter(|reading| reading.level.name == first.level.name);
        same.map(|reading| reading.gbps).fold(0.0, f64::max)
    }

    /// The peak of each instruction set, plainest first.
    pub fn peaks(&self) -> impl Iterator<Item = (Isa, f64)> {
        self.peaks.iter().map(|(isa, peaks)| (*isa, middle(peaks)))
    }

    /// All readings, by level from the first cache on.
    pub fn reads(&self) -> &[Reading] {
        &self.reads
    }

    /// By how much the peaks of one instruction set differed, over their median: clock and neighbours.
    pub fn drift(&self) -> f64 {
        let drift = |(_, peaks): &(Isa, Vec<f64>)| {
            let (least, most) = peaks.iter().fold((f64::MAX, 0.0f64), |(least, most), peak| {
                (least.min(*peak), most.max(*peak))
            });
            (most - least) / middle(peaks)
        };
        self.peaks.iter().map(drift).fold(0.0, f64::max)
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("fused multiply-adds:")?;
        self.peaks().try_for_each(|(isa, peak)| write!(f, " {isa} {peak:.1}"))?;
        f.write_str(" GFLOP/s; reading")?;
        let best = self.reads.iter().filter(|reading| reading.isa == Isa::detect());
        for Reading { level, gbps, .. } in best {
            write!(f, " {} {gbps:.0}", level.name)?;
        }
        f.write_str(" GB/s")
    }
}

/// Bytes to read from a level: half of it, for something else is always there too.
fn probe(level: &Level) -> usize {
    if level.bytes == usize::MAX { FROM_MEMORY } else { level.bytes / 2 }
}

fn middle(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    median(&sorted)
}

fn peak<'a>(isa: Isa) -> Run<'a> {
    measure::calls(move || {
        black_box(run(isa, Peak(black_box(0.4))));
        Ok(())
    })
}

fn reading(isa: Isa, data: &[f32]) -> Run<'_> {
    measure::calls(move || {
        black_box(run(isa, Read(black_box(data))));
        Ok(())
    })
}

/// Enough independent chains to hide the latency on two ports of any width of register that
/// holds them (AVX2 takes two registers a vector), few enough to stay in registers.
const CHAINS: usize = 12;
const STEPS: usize = 4096;

/// Floating-point operations of a [`Peak`].
const PEAK_FLOPS: u64 = (CHAINS * LANES * STEPS * 2) as u64;

/// Fused multiply-adds on registers alone; gives a number that depends on all of them.
struct Peak(f32);

impl Op for Peak {
    type Out = f32;
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) -> f32 {
        // Twelve vectors fill the registers of AVX-512 without spilling; AVX2 and NEON hold half
        // as many and as few as a quarter, which still is twelve registers.
        // Single numbers are a register each.
        if has_wide_registers::<S>() || S::LANES == 1 {
            chains::<S, CHAINS>(s, self.0, STEPS * LANES / S::LANES)
        } else {
            chains::<S, { CHAINS / 2 }>(s, self.0, STEPS * 2)
        }
    }
}

/// Whether a vector is one register of many, which the height of the product's tile tells.
#[inline(always)]
fn has_wide_registers<S: Simd>() -> bool {
    S::MR > 8
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

/// Reads by vectors; gives a number that depends on every float of each whole part.
struct Read<'a>(&'a [f32]);

impl Op for Read<'_> {
    type Out = f32;
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) -> f32 {
        // As many sums as hide the latency of an addition behind two loads a cycle.
        if has_wide_registers::<S>() {
            sums::<S, 8, { 8 * LANES }>(s, self.0)
        } else {
            sums::<S, 4, { 4 * LANES }>(s, self.0)
        }
    }
}

#[inline(always)]
fn sums<S: Simd, const N: usize, const PART: usize>(s: S, data: &[f32]) -> f32 {
    let mut acc = [s.splat(0.0); N];
    for part in data.as_chunks::<PART>().0 {
        for first in (0..LANES).step_by(S::LANES) {
            for (v, lanes) in acc.iter_mut().zip(part.as_chunks::<LANES>().0) {
                // SAFETY: `lanes` are 16 floats, of which a vector begins at `first`.
                *v = s.add(*v, unsafe { s.load(lanes.as_ptr().add(first)) });
            }
        }
    }
    acc.into_iter().map(|v| s.sum(v)).sum()
}
