//! The JSON of measurements, one object a line: written by `run` and by the peers, read by
//! `report` and `compare`. `benches/README.md` describes every field.

use std::fmt;
use std::fs::{File, read_to_string};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use masktile::Isa;
use serde::{Deserialize, Serialize};

use crate::limits::{self, Limits};
use crate::machine;
use crate::measure::Time;
use crate::ops::{self, Unit, Work};

/// The version of the form; a field's meaning changes with it alone.
pub const SCHEMA: u32 = 1;

/// One implementation of one operation at one shape on one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "benches/README.md describes each field")]
pub struct Record {
    pub schema: u32,
    #[serde(flatten)]
    pub key: Key,
    pub median_ns: f64,
    pub spread: f64,
    pub rounds: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gflops: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gbps: Option<f64>,
    pub of_peak: f64,
    pub flops: f64,
    pub bytes: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<u64>,
    pub machine: Machine,
}

/// What was measured: records with the same key are of the same thing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "benches/README.md describes each field")]
pub struct Key {
    pub op: String,
    pub dtype: String,
    pub shape: String,
    pub mask: String,
    #[serde(rename = "impl")]
    pub implementation: String,
    pub isa: Option<String>,
    pub threads: u32,
}

/// Where it was measured, with the limits that were measured in the same run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "benches/README.md describes each field")]
pub struct Machine {
    pub name: String,
    pub cpu: String,
    pub cores: usize,
    pub peaks: Vec<Peak>,
    pub reads: Vec<Read>,
}

/// Fused multiply-adds of an instruction set on registers alone, one thread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "benches/README.md describes each field")]
pub struct Peak {
    pub isa: String,
    pub dtype: String,
    pub gflops: f64,
}

/// Reading by an instruction set from a level of cache or from memory, one thread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "benches/README.md describes each field")]
pub struct Read {
    pub isa: String,
    pub level: String,
    pub gbps: f64,
}

/// The name of this library among implementations.
pub const OURS: &str = "masktile";

impl Key {
    /// Operation, shape and mask, as a person writes them.
    pub fn label(&self) -> String {
        ops::label(self.family(), &self.op, &self.shape, &self.mask)
    }

    /// The operation's family; itself where it is not known here.
    pub fn family(&self) -> &str {
        ops::known(&self.op).map_or(&self.op, |op| op.family)
    }

    /// The instruction set, or the implementation where it is a peer.
    pub fn who(&self) -> &str {
        match &self.isa {
            Some(isa) if self.implementation == OURS => isa,
            _ => &self.implementation,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Key { op, dtype, shape, threads, .. } = self;
        let mask = if self.mask == "none" { "" } else { &self.mask };
        let threads = if *threads == 1 { String::new() } else { format!("{threads} threads") };
        let words = [op, dtype, self.who(), shape, mask, &threads];
        let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
        f.pad(&words.join(" "))
    }
}

/// A measurement before the machine's limits are known, which are medians over the whole run.
#[derive(Clone, Debug)]
pub struct Point {
    /// What was measured.
    pub key: Key,
    /// Of masktile; peers choose theirs.
    pub isa: Option<Isa>,
    /// What the speed is counted in.
    pub unit: Unit,
    /// Of one call.
    pub work: Work,
    /// Of one call.
    pub time: Time,
    /// Of one call, where they were counted.
    pub instructions: Option<u64>,
}

impl Point {
    /// The measurement as a share of the limits.
    pub fn record(&self, limits: &Limits, machine: &Machine) -> Record {
        let median_ns = self.time.median_ns();
        let speed = self.work.speed(self.unit, median_ns);
        let one = match self.unit {
            Unit::Gflops => limits.peak(self.isa.unwrap_or_else(Isa::detect)),
            Unit::Gbps => limits.read(self.work.bytes),
        };
        let given = |unit| (self.unit == unit).then_some(speed);
        Record {
            schema: SCHEMA,
            key: self.key.clone(),
            median_ns,
            spread: self.time.spread(),
            rounds: self.time.rounds(),
            gflops: given(Unit::Gflops),
            gbps: given(Unit::Gbps),
            of_peak: speed / (one * f64::from(self.key.threads)),
            flops: self.work.flops,
            bytes: self.work.bytes,
            instructions: self.instructions,
            machine: machine.clone(),
        }
    }
}

impl Machine {
    /// This one, under a name of your own or its processor's.
    pub fn this(name: Option<&str>, limits: &Limits) -> Self {
        let cpu = machine::cpu_name();
        let peaks = limits.peaks().map(|(isa, gflops)| Peak {
            isa: isa.to_string(),
            dtype: limits::DTYPE.into(),
            gflops,
        });
        let reads = limits.reads().iter().map(|read| Read {
            isa: read.isa.to_string(),
            level: read.level.name.clone(),
            gbps: read.gbps,
        });
        Machine {
            name: name.unwrap_or(&cpu).into(),
            cores: machine::cores(),
            peaks: peaks.collect(),
            reads: reads.collect(),
            cpu,
        }
    }
}

impl Record {
    /// Speed with its unit.
    pub fn speed(&self) -> (f64, Unit) {
        match (self.gflops, self.gbps) {
            (Some(gflops), _) => (gflops, Unit::Gflops),
            (None, Some(gbps)) => (gbps, Unit::Gbps),
            (None, None) => (self.flops / self.median_ns, Unit::Gflops),
        }
    }
}

/// Only what tells the version.
#[derive(Deserialize)]
struct Version {
    schema: Option<u32>,
}

/// All records of a file.
///
/// # Errors
/// If it cannot be read, has no records, or a line is no JSON or of another version.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    let name = path.display();
    let text = read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let records = lines.map(|(at, text)| line(text).with_context(|| format!("{name}:{}", at + 1)));
    let records = records.collect::<Result<Vec<_>>>()?;
    ensure!(!records.is_empty(), "{name} has no records");
    Ok(records)
}

fn line(text: &str) -> Result<Record> {
    let version: Version = serde_json::from_str(text).context("not a JSON object")?;
    match version.schema {
        Some(SCHEMA) => serde_json::from_str(text).context("not a record"),
        Some(other) => anyhow::bail!("schema {other}, this program reads {SCHEMA}"),
        None => anyhow::bail!("no schema, this program reads {SCHEMA}"),
    }
}

/// A file that was created before measuring, so that a bad path is known at once.
pub struct Output<'a> {
    path: &'a Path,
    file: File,
}

impl<'a> Output<'a> {
    /// Empties the file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(path: &'a Path) -> Result<Self> {
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Output { path, file })
    }

    /// Writes all of `records`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(self, records: &[Record]) -> Result<()> {
        let mut file = BufWriter::new(self.file);
        let mut write = || {
            for record in records {
                serde_json::to_writer(&mut file, record)?;
                writeln!(file)?;
            }
            file.flush()
        };
        write().with_context(|| format!("cannot write {}", self.path.display()))
    }
}
