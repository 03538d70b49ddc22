//! `report`: records as one HTML page with SVG charts, which needs no network and no script.

mod axis;
mod bars;
mod charts;
mod colours;
mod lines;
mod page;
mod roofline;
mod svg;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::record::{self, Key, Machine, Record};

/// The records of one machine, in order of appearance.
struct Measured {
    machine: Machine,
    records: Vec<Record>,
}

/// Writes `out/index.html` from the records of all `files`.
///
/// # Errors
/// If a file cannot be read or the page cannot be written.
pub fn report(files: &[PathBuf], out: &Path) -> Result<ExitCode> {
    let mut records = Vec::new();
    for file in files {
        records.extend(record::read(file)?);
    }
    let machines = by_machine(records);
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let path = out.join("index.html");
    fs::write(&path, page::page(&machines))
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(ExitCode::SUCCESS)
}

/// Of what was measured twice on one machine, the last counts.
fn by_machine(records: Vec<Record>) -> Vec<Measured> {
    let mut machines: Vec<Measured> = Vec::new();
    let mut places: HashMap<(String, Key), usize> = HashMap::new();
    for record in records {
        let of = machines.iter().position(|of| of.machine.name == record.machine.name);
        let of = of.unwrap_or_else(|| {
            machines.push(Measured { machine: record.machine.clone(), records: Vec::new() });
            machines.len() - 1
        });
        let Measured { machine, records } = &mut machines[of];
        machine.clone_from(&record.machine);
        let place = places.entry((machine.name.clone(), record.key.clone()));
        let place = *place.or_insert(records.len());
        if place < records.len() {
            records[place] = record;
        } else {
            records.push(record);
        }
    }
    machines
}
