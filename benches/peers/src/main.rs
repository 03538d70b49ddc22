//! masktile on every instruction set of this machine beside its peers, in one process on one core.
//!
//! `matmul` prints a table in GFLOP/s; `--json FILE` writes the same numbers one object a line.

mod buffer;
mod limits;
mod matmul;
mod measure;
mod peers;
mod report;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use masktile::Isa;

use limits::Limits;
use measure::Plan;
use report::Report;

/// Measures masktile and its peers, interleaved in one process.
///
/// MASKTILE_OPENBLAS and MASKTILE_MKL name the libraries of OpenBLAS and MKL.
#[derive(Parser)]
struct Cli {
    /// The operations to measure.
    #[arg(value_enum, required = true)]
    ops: Vec<Operation>,
    /// Also writes the numbers to this file, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Rounds for each shape; fewer, but at least 5, where they would take more than 10 seconds.
    #[arg(long, default_value_t = 101, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// 5 rounds for each shape.
    #[arg(long, conflicts_with = "rounds")]
    quick: bool,
    /// Only the shapes whose names hold this.
    #[arg(long, value_name = "FILTER", default_value = "")]
    shape: String,
    /// Of masktile only this instruction set.
    #[arg(long, value_name = "NAME", value_parser = masktile::isa::named)]
    isa: Option<Isa>,
    /// Only the implementations whose names hold one of these.
    #[arg(long = "impl", value_name = "FILTER", value_delimiter = ',')]
    implementations: Vec<String>,
    /// Threads of each implementation.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1))]
    threads: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum Operation {
    /// Products of 21 shapes of f32.
    Matmul,
}

/// What of an operation is measured, and how.
pub struct Choice {
    plan: Plan,
    shape: String,
    isas: Vec<Isa>,
    implementations: Vec<String>,
    threads: u32,
}

impl Choice {
    fn new(cli: &Cli) -> Self {
        Choice {
            plan: Plan { rounds: if cli.quick { 5 } else { cli.rounds as usize } },
            shape: cli.shape.clone(),
            isas: cli.isa.map_or_else(|| Isa::available().collect(), |isa| vec![isa]),
            implementations: cli.implementations.clone(),
            threads: cli.threads,
        }
    }

    fn wants_shape(&self, name: &str) -> bool {
        name.contains(&self.shape)
    }

    fn wants_implementation(&self, name: &str) -> bool {
        self.implementations.is_empty() || self.implementations.iter().any(|f| name.contains(f))
    }
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    println!("pinned to core {}; {} thread", pin()?, cli.threads);
    // rten-gemm runs on the global pool, which then is this thread alone.
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global()?;

    let choice = Choice::new(&cli);
    let mut limits = Limits::new();
    let mut measured = Vec::new();
    for op in &cli.ops {
        measured.push(match op {
            Operation::Matmul => matmul::measure(&choice, &mut limits)?,
        });
    }
    let reports: Vec<_> = measured.iter().map(|points| Report::new(points, &limits)).collect();
    println!("{limits}");
    reports.iter().for_each(Report::print);
    if let Some(path) = &cli.json {
        report::write_json(&reports, path)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Pins this thread, and so those that it starts, to the last core that it may use.
fn pin() -> Result<usize> {
    let core = core_affinity::get_core_ids()
        .and_then(|cores| cores.into_iter().next_back())
        .context("cannot tell which cores there are")?;
    ensure!(core_affinity::set_for_current(core), "cannot pin to core {}", core.id);
    Ok(core.id)
}
