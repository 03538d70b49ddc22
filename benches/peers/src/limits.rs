//! What the machine can do at most: fused multiply-adds of each instruction set and reading from
//! memory, measured again before every shape; the median of all counts.

use std::fmt;
use std::hint::black_box;

use anyhow::Result;
use masktile::Isa;
use masktile_benches::{PEAK_FLOPS, fma_peak, numbers, read};

use crate::buffer::Buffer;
use crate::measure::{self, Plan, Run, median};

/// 256 MiB, far more than a core's own caches hold.
const BUFFER: usize = 64 << 20;

/// Peaks in GFLOP/s and reading in GB/s, each with its measurements so far.
pub struct Limits {
    buffer: Buffer,
    peaks: Vec<(Isa, Vec<f64>)>,
    bandwidth: Vec<f64>,
}

impl Limits {
    /// Nothing measured yet.
    pub fn new() -> Self {
        Limits {
            buffer: Buffer::copied(&numbers(BUFFER, 7)),
            peaks: Isa::available().map(|isa| (isa, Vec::new())).collect(),
            bandwidth: Vec::new(),
        }
    }

    /// Measures all of them once more.
    pub fn measure(&mut self) -> Result<()> {
        let mut runs: Vec<Run<'_>> = self.peaks.iter().map(|(isa, _)| peak(*isa)).collect();
        let times = measure::interleaved(Plan { rounds: 9 }, &mut runs)?;
        for ((_, peaks), time) in self.peaks.iter_mut().zip(times) {
            peaks.push(PEAK_FLOPS as f64 / time.median_ns);
        }
        let buffer = &self.buffer;
        let mut pass: [Run<'_>; 1] = [Box::new(|| {
            black_box(read(Isa::detect(), black_box(buffer)));
            Ok(())
        })];
        let times = measure::interleaved(Plan { rounds: 3 }, &mut pass)?;
        let bytes = size_of_val(&**buffer) as f64;
        self.bandwidth.extend(times.iter().map(|time| bytes / time.median_ns));
        Ok(())
    }

    /// GFLOP/s of fused multiply-adds on registers.
    pub fn peak(&self, isa: Isa) -> f64 {
        self.peaks.iter().find(|(of, _)| *of == isa).map_or(f64::NAN, |(_, peaks)| middle(peaks))
    }

    /// The peak of the best instruction set.
    pub fn best_peak(&self) -> f64 {
        self.peak(Isa::detect())
    }
}

fn peak<'a>(isa: Isa) -> Run<'a> {
    Box::new(move || {
        black_box(fma_peak(isa, black_box(0.4)));
        Ok(())
    })
}

fn middle(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    median(&sorted)
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("fused multiply-adds:")?;
        for (isa, peaks) in &self.peaks {
            write!(f, " {isa} {:.1}", middle(peaks))?;
        }
        write!(f, " GFLOP/s; reading 256 MiB: {:.1} GB/s", middle(&self.bandwidth))
    }
}
