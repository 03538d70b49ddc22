//! `info`: what this machine is, which instruction set is chosen and why, and its limits.

use std::process::ExitCode;

use anyhow::Result;
use masktile::Isa;
use masktile::isa::{self, VARIABLE};

use crate::limits::{self, Limits};
use crate::machine;
use crate::order::unique;
use crate::table::{Table, digits};

/// What an instruction set needs of the processor, in Linux's words.
const NEEDS: &[(&str, &[&str])] = &[
    ("neon", &["asimd"]),
    ("avx2", &["avx2", "fma", "f16c"]),
    ("avx512", &["avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl"]),
];

/// Other features that kernels may profit from.
const OTHERS: &[&str] = &[
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "avx_vnni",
    "amx_tile",
    "asimddp",
    "i8mm",
    "bf16",
    "fphp",
    "sve",
    "sve2",
    "sme",
];

/// Measures the limits and prints all of it.
///
/// # Errors
/// If `MASKTILE_ISA` names an instruction set that this machine lacks.
pub fn info() -> Result<ExitCode> {
    let chosen = isa::current()?;
    let core = machine::pin();
    let features = machine::features();
    let wanted = NEEDS.iter().flat_map(|(_, needs)| *needs).chain(OTHERS).copied();
    let found = unique(wanted.filter(|name| features.iter().any(|feature| feature == name)));

    println!("processor  {}, {} cores", machine::cpu_name(), machine::cores());
    println!("features   {}", found.join(" "));
    println!("caches     {}", caches());
    println!("chosen     {chosen}: {}", reason());
    for name in Isa::known_names().filter(|name| Isa::from_name(name).is_none()) {
        println!("missing    {name}: {}", lacks(name, &features));
    }
    match core {
        Ok(core) => println!("pinned to  core {core}"),
        Err(error) => println!("not pinned {error:#}"),
    }
    println!("\n{}", limits_table(&Limits::measured()?));
    for warning in machine::warnings() {
        println!("warning: {warning}");
    }
    Ok(ExitCode::SUCCESS)
}

fn caches() -> String {
    let caches: Vec<String> = machine::levels()
        .iter()
        .filter(|level| level.bytes < usize::MAX)
        .map(|level| format!("{} {}", level.name, machine::bytes(level.bytes)))
        .collect();
    if caches.is_empty() { "the system does not say".into() } else { caches.join(", ") }
}

fn reason() -> String {
    match std::env::var(VARIABLE) {
        Ok(name) if !name.is_empty() => format!("{VARIABLE} names it"),
        _ => "the best that this machine has".into(),
    }
}

/// What keeps this machine from having the instruction set.
fn lacks(name: &str, features: &[String]) -> String {
    let needs = NEEDS.iter().find(|(of, _)| *of == name).map_or(&[][..], |(_, needs)| *needs);
    let lacks: Vec<_> =
        needs.iter().copied().filter(|need| !features.iter().any(|f| f == need)).collect();
    match &*lacks {
        [] => "the operating system does not save its registers".into(),
        lacks => format!("the processor lacks {}", lacks.join(", ")),
    }
}

fn limits_table(limits: &Limits) -> Table {
    let levels = machine::levels();
    let reads = levels.iter().map(|level| format!("{} GB/s", level.name));
    let heading = ["".into(), format!("{} GFLOP/s", limits::DTYPE)].into_iter().chain(reads);
    let mut table = Table::new(1, heading);
    for (isa, peak) in limits.peaks() {
        let reads = limits.reads().iter().filter(|read| read.isa == isa);
        let cells = [isa.to_string(), digits(peak)];
        table.row(cells.into_iter().chain(reads.map(|read| digits(read.gbps))));
    }
    table
}
