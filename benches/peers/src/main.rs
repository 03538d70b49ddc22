//! masktile on every instruction set of this machine beside its peers, in one process on one core.
//!
//! `matmul` prints a table in GFLOP/s; `--json FILE` writes the same numbers one object a line.

mod matmul;
mod peers;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use masktile::Isa;
use masktile_bench::limits::Limits;
use masktile_bench::machine;
use masktile_bench::measure::Plan;
use masktile_bench::record::{Machine, Output};

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
    /// The machine's name in records; its processor's if not given.
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
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

/// For the rounds of a shape.
const BUDGET: Duration = Duration::from_secs(10);
const FEWEST: usize = 5;

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
            plan: Plan {
                rounds: if cli.quick { FEWEST } else { cli.rounds as usize },
                budget: BUDGET,
                fewest: FEWEST,
            },
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
    let output = cli.json.as_deref().map(Output::create).transpose()?;
    println!("pinned to core {}; {} thread", machine::pin()?, cli.threads);
    // rten-gemm runs on the global pool, which then is this thread alone.
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global()?;

    let choice = Choice::new(&cli);
    let mut limits = Limits::measured()?;
    let mut points = Vec::new();
    for op in &cli.ops {
        points.extend(match op {
            Operation::Matmul => matmul::measure(&choice, &mut limits)?,
        });
    }
    let machine = Machine::this(cli.machine.as_deref(), &limits);
    let records: Vec<_> = points.iter().map(|point| point.record(&limits, &machine)).collect();
    println!("{limits}");
    Report::new(&records).print();
    output.map_or(Ok(()), |output| output.write(&records))
}
