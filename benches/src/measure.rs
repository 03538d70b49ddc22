//! Time of a call: implementations take turns, round by round, so that what drifts in the machine
//! drifts for all of them; the median of the rounds counts.

use std::time::{Duration, Instant};

use anyhow::Result;
use cpu_time::ThreadTime;
use rayon::ThreadPool;

use crate::interrupt;

/// Makes so many calls of what is measured; returns their time.
pub type Run<'a> = Box<dyn FnMut(u32) -> Result<Duration> + 'a>;

/// Calls on this thread. Their time is that of the processor, not of the wall: what other programs
/// take of a core does not count.
pub fn calls<'a>(mut call: impl FnMut() -> Result<()> + 'a) -> Run<'a> {
    Box::new(move |times| {
        let start = ThreadTime::now();
        (0..times).try_for_each(|_| call())?;
        Ok(start.elapsed())
    })
}

/// Calls on a thread of `pool`, whose other threads they may use; their time is that of the wall.
pub fn calls_in<'a>(
    pool: &'a ThreadPool,
    mut call: impl FnMut() -> Result<()> + Send + 'a,
) -> Run<'a> {
    Box::new(move |times| {
        let start = Instant::now();
        pool.install(|| (0..times).try_for_each(|_| call()))?;
        Ok(start.elapsed())
    })
}

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Samples of each run, at most.
    pub rounds: usize,
    /// No round begins after this, for all runs together,
    pub budget: Duration,
    /// but so many.
    pub fewest: usize,
}

/// The samples of one implementation, each the time of a call.
#[derive(Clone, Debug)]
pub struct Time {
    sorted_ns: Vec<f64>,
}

impl Time {
    fn new(mut samples_ns: Vec<f64>) -> Self {
        samples_ns.sort_by(f64::total_cmp);
        Time { sorted_ns: samples_ns }
    }

    /// Adds the samples of `other`.
    pub fn join(&mut self, other: Time) {
        self.sorted_ns.extend(other.sorted_ns);
        self.sorted_ns.sort_by(f64::total_cmp);
    }

    /// The median of the samples.
    pub fn median_ns(&self) -> f64 {
        median(&self.sorted_ns)
    }

    /// The middle half of the samples, from its first to its last, over the median.
    pub fn spread(&self) -> f64 {
        let last = (self.rounds() - 1) as f64;
        let at = |share: f64| self.sorted_ns[(last * share).round() as usize];
        (at(0.75) - at(0.25)) / self.median_ns()
    }

    /// How many samples there are: at least one.
    pub fn rounds(&self) -> usize {
        self.sorted_ns.len()
    }
}

/// A sample is so many calls that the fastest implementation takes at least `SHORTEST`: the same
/// number for all, but fewer for one that would take more than `LONGEST`, as scalar code does.
/// Samples much shorter than a millisecond are slow, of vector code by almost a half: cold caches
/// and predictors, and a clock that adapts to wide registers.
const SHORTEST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(30);

/// Times of each of `runs`, in their order; of fewer rounds, but one, where Ctrl-C was pressed.
///
/// # Errors
/// If a run fails.
pub fn interleaved(plan: Plan, runs: &mut [Run<'_>]) -> Result<Vec<Time>> {
    let estimates = runs.iter_mut().map(estimate).collect::<Result<Vec<_>>>()?;
    let repeats = repeats(&estimates);
    let mut samples = vec![Vec::new(); runs.len()];
    let start = Instant::now();
    for round in 0..plan.rounds.max(1) {
        let is_late = round >= plan.fewest && start.elapsed() >= plan.budget;
        if is_late || (round > 0 && interrupt::requested()) {
            break;
        }
        for ((run, samples), &repeats) in runs.iter_mut().zip(&mut samples).zip(&repeats) {
            samples.push(run(repeats)?.as_nanos() as f64 / f64::from(repeats));
        }
    }
    Ok(samples.into_iter().map(Time::new).collect())
}

/// Roughly the time of one call, from as many as last a tenth of a sample; warms up as well.
fn estimate(run: &mut Run<'_>) -> Result<Duration> {
    let mut repeats = 1;
    loop {
        let elapsed = run(repeats)?;
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

/// The middle one of sorted numbers, the upper of two.
pub fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spreads_are_of_all_samples() {
        let mut time = Time::new(vec![9.0, 1.0, 5.0]);
        time.join(Time::new(vec![3.0, 7.0]));
        assert_eq!((time.median_ns(), time.rounds()), (5.0, 5));
        assert_eq!(time.spread(), (7.0 - 3.0) / 5.0);
        assert_eq!(Time::new(vec![2.0]).spread(), 0.0);
    }

    /// Slow and fast runs take turns, and no run has more samples than another.
    #[test]
    fn rounds_are_as_many_as_fit_but_the_fewest() {
        let plan = Plan { rounds: 50, budget: Duration::from_millis(40), fewest: 3 };
        let spin = |time: Duration| {
            calls(move || {
                let start = Instant::now();
                while start.elapsed() < time {}
                Ok(())
            })
        };
        for (time_ms, wanted) in [(5, 3..=5), (60, 3..=3)] {
            let time = Duration::from_millis(time_ms);
            let times = interleaved(plan, &mut [spin(time), spin(time)]).unwrap();
            assert!(times.iter().all(|time| wanted.contains(&time.rounds())), "{times:?}");
        }
    }
}
