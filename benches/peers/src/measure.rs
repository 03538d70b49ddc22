//! Time of a call: implementations take turns, round by round, so that what drifts in the machine
//! drifts for all of them; the median of the rounds counts.

use std::time::{Duration, Instant};

use anyhow::Result;

/// A call to measure.
pub type Run<'a> = Box<dyn FnMut() -> Result<()> + 'a>;

/// How long to measure.
#[derive(Clone, Copy)]
pub struct Plan {
    pub rounds: usize,
}

/// What the rounds gave for one implementation.
#[derive(Clone, Copy)]
pub struct Time {
    pub median_ns: f64,
    /// The middle half of the samples, from its first to its last, over the median.
    pub spread: f64,
}

/// A sample is so many calls that the fastest implementation takes at least `SHORTEST`: the same
/// number for all, but fewer for one that would take more than `LONGEST`, as scalar code does.
/// Samples much shorter than a millisecond are slow, of vector code by almost a half: cold caches
/// and predictors, and a clock that adapts to wide registers.
const SHORTEST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(30);

/// No more rounds than fit in this, but `FEWEST`.
const BUDGET: Duration = Duration::from_secs(10);
const FEWEST: usize = 5;

/// Times of each of `runs`, in their order.
pub fn interleaved(plan: Plan, runs: &mut [Run<'_>]) -> Result<Vec<Time>> {
    let estimates = runs.iter_mut().map(estimate).collect::<Result<Vec<_>>>()?;
    let repeats = repeats(&estimates);
    let rounds = plan.rounds.min(affordable(&estimates, &repeats));
    let mut samples = vec![Vec::with_capacity(rounds); runs.len()];
    for _ in 0..rounds {
        for ((run, samples), &repeats) in runs.iter_mut().zip(&mut samples).zip(&repeats) {
            samples.push(sample(run, repeats)?.as_nanos() as f64 / repeats as f64);
        }
    }
    Ok(samples.into_iter().map(time).collect())
}

fn sample(run: &mut Run<'_>, repeats: u32) -> Result<Duration> {
    let start = Instant::now();
    for _ in 0..repeats {
        run()?;
    }
    Ok(start.elapsed())
}

/// Roughly the time of one call, from as many as last a tenth of a sample; warms up as well.
fn estimate(run: &mut Run<'_>) -> Result<Duration> {
    let mut repeats = 1;
    loop {
        let elapsed = sample(run, repeats)?;
        if elapsed >= SHORTEST / 10 {
            return Ok(elapsed / repeats);
        }
        repeats *= 2;
    }
}

/// Calls in a sample of each implementation.
fn repeats(estimates: &[Duration]) -> Vec<u32> {
    let calls = |time: Duration, one: &Duration| time.div_duration_f64((*one).max(NANOSECOND));
    let enough = estimates.iter().map(|one| calls(SHORTEST, one).ceil()).fold(1.0, f64::max);
    estimates.iter().map(|one| enough.min(calls(LONGEST, one)).max(1.0) as u32).collect()
}

const NANOSECOND: Duration = Duration::from_nanos(1);

fn affordable(estimates: &[Duration], repeats: &[u32]) -> usize {
    let round: Duration = estimates.iter().zip(repeats).map(|(one, calls)| *one * *calls).sum();
    (BUDGET.div_duration_f64(round.max(NANOSECOND)) as usize).max(FEWEST)
}

fn time(mut samples: Vec<f64>) -> Time {
    samples.sort_by(f64::total_cmp);
    let at = |share: f64| samples[((samples.len() - 1) as f64 * share).round() as usize];
    let median_ns = median(&samples);
    Time { median_ns, spread: (at(0.75) - at(0.25)) / median_ns }
}

/// The middle one of sorted numbers, the upper of two.
pub fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}
