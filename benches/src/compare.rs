//! `compare`: what got faster or slower between two files, beyond noise.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, ensure};

use crate::record::{self, Key, Record};
use crate::table::Table;

/// Prints the changes; the exit status is 1 where something's speed fell below `fail_below` of the
/// old one, beyond noise.
///
/// # Errors
/// If a file cannot be read or the two have nothing in common.
pub fn compare(old: &Path, new: &Path, fail_below: f64) -> Result<ExitCode> {
    let (old_records, new_records) = (by_key(record::read(old)?), by_key(record::read(new)?));
    let changes: Vec<Change> = old_records
        .iter()
        .filter_map(|(key, old)| Some(Change::new(key, old, new_records.get(key)?)))
        .collect();
    let (old, new) = (old.display(), new.display());
    ensure!(!changes.is_empty(), "{old} and {new} have no measurement in common");

    let mut changed: Vec<_> = changes.iter().filter(|change| change.is_beyond_noise()).collect();
    changed.sort_by(|a, b| a.least().total_cmp(&b.least()));
    if !changed.is_empty() {
        println!("{}", table(&changed));
    }
    let slower = changed.iter().filter(|change| change.least() < 1.0).count();
    let (all, faster) = (changes.len(), changed.len() - slower);
    let only = |a: &BTreeMap<Key, Record>, b: &BTreeMap<Key, Record>| {
        a.keys().filter(|key| !b.contains_key(key)).count()
    };
    println!("{faster} faster and {slower} slower beyond noise, of {all}");
    println!("speed over the old one, geometric mean: {:.3}", mean(&changes));
    for (name, count) in
        [(&old, only(&old_records, &new_records)), (&new, only(&new_records, &old_records))]
    {
        if count > 0 {
            println!("only in {name}: {count}");
        }
    }
    let regressions = changed.iter().filter(|change| change.least() < fail_below).count();
    if regressions > 0 {
        println!("{regressions} REGRESSED below {fail_below}");
        return Ok(ExitCode::FAILURE);
    }
    println!("no regression below {fail_below}");
    Ok(ExitCode::SUCCESS)
}

/// The last record of each key.
fn by_key(records: Vec<Record>) -> BTreeMap<Key, Record> {
    records.into_iter().map(|record| (record.key.clone(), record)).collect()
}

/// One measurement in both files.
struct Change<'a> {
    key: &'a Key,
    old: &'a Record,
    new: &'a Record,
}

impl<'a> Change<'a> {
    fn new(key: &'a Key, old: &'a Record, new: &'a Record) -> Self {
        Change { key, old, new }
    }

    /// New speed over the old one.
    fn speed(&self) -> f64 {
        self.old.median_ns / self.new.median_ns
    }

    /// Old instructions over the new ones: of speed's direction. 1 where not counted in both.
    fn instructions(&self) -> f64 {
        match (self.old.instructions, self.new.instructions) {
            (Some(old), Some(new)) => old as f64 / new.max(1) as f64,
            _ => 1.0,
        }
    }

    /// How much of a change of speed may be chance: as far as the middle halves of both
    /// measurements' rounds reach.
    fn noise(&self) -> f64 {
        self.old.spread + self.new.spread
    }

    fn is_slower_or_faster(&self) -> bool {
        (self.speed() - 1.0).abs() > self.noise()
    }

    /// Instructions have no noise, but addresses may add or save a few.
    fn is_beyond_noise(&self) -> bool {
        self.is_slower_or_faster() || (self.instructions() - 1.0).abs() > 0.002
    }

    /// The worse of both, of speed only what is beyond noise.
    fn least(&self) -> f64 {
        let speed = if self.is_slower_or_faster() { self.speed() } else { 1.0 };
        let instructions = self.instructions();
        if speed < 1.0 || instructions < 1.0 {
            speed.min(instructions)
        } else {
            speed.max(instructions)
        }
    }
}

fn mean(changes: &[Change<'_>]) -> f64 {
    let logs: f64 = changes.iter().map(|change| change.speed().ln()).sum();
    (logs / changes.len() as f64).exp()
}

fn table(changes: &[&Change<'_>]) -> Table {
    let heading = ["", "old us", "new us", "speed", "noise", "instructions"];
    let mut table = Table::new(1, heading);
    for change in changes {
        let us = |record: &Record| format!("{:.1}", record.median_ns / 1e3);
        let counted = change.old.instructions.and(change.new.instructions).is_some();
        table.row([
            change.key.to_string(),
            us(change.old),
            us(change.new),
            format!("x {:.3}", change.speed()),
            format!("± {:.3}", change.noise()),
            if counted { format!("/ {:.3}", change.instructions()) } else { "-".into() },
        ]);
    }
    table
}
