//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use masktile::Isa;

use crate::machine;
use crate::masks;
use crate::ops::{self, Operation};
use crate::{callgrind, compare, info, report, run, verify};

/// What each instruction set of this machine gives: measures, verifies, compares and draws.
///
/// Exit status: 0, 1 for a regression or a failed verification, 2 for bad input.
#[derive(Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints what this machine is and the most that it can do
    ///
    /// Processor, features, the instruction set that is chosen and why, caches, the measured peak
    /// of fused multiply-adds of each instruction set, the measured bandwidth of each level of
    /// cache, and what makes measurements doubtful here.
    Info,
    /// Measures operations with each instruction set
    ///
    /// All instruction sets take turns, round by round, so that what drifts in the machine drifts
    /// for all of them. Tables show the median speed, its share of what the machine can do, and
    /// its ratio to scalar code. Ctrl-C prints what was measured so far.
    Run(RunArgs),
    /// Draws the records of files as one HTML page
    ///
    /// DIR/index.html needs nothing else: no network, no script. Files of several machines are
    /// compared.
    Report(ReportArgs),
    /// Tells what got faster or slower between two files, beyond noise
    ///
    /// A change counts when it is greater than the spreads of both measurements together. Where
    /// both files have instruction counts, those count too. Exit status 1 on a regression.
    Compare(CompareArgs),
    /// Checks every operation with every instruction set against float64
    ///
    /// The first thing to run on a new machine: prints greatest errors, and whether the bits are
    /// those of scalar code. Exit status 1 on a failure.
    Verify(VerifyArgs),
    /// One call under callgrind, which `run --callgrind` starts
    #[command(hide = true)]
    Count(CountArgs),
}

/// What `run` measures.
#[derive(Args)]
pub struct RunArgs {
    /// Only these operations, such as matmul,softmax
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = ops::named)]
    pub op: Vec<&'static Operation>,
    /// Only these instruction sets
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = masktile::isa::named)]
    pub isa: Vec<Isa>,
    /// These shapes in place of the table's, such as 512x512x512 for matmul
    #[arg(long, value_name = "SHAPE", value_delimiter = ',')]
    pub shape: Vec<String>,
    /// Only these masks
    #[arg(long, value_enum, value_name = "NAME", value_delimiter = ',')]
    pub mask: Vec<masks::Kind>,
    /// Numbers of threads, such as 1,2,4
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1",
        value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Vec<u32>,
    /// Few shapes in less than a minute
    #[arg(long)]
    pub quick: bool,
    /// Rounds for each case; fewer, but at least 9, where they would take too long
    #[arg(long, value_name = "N", default_value_t = 101,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rounds: u32,
    /// Also writes the records to this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// The machine's name in records; its processor's if not given
    #[arg(long, value_name = "NAME")]
    pub machine: Option<String>,
    /// Counts instructions as well, by valgrind (which has no AVX-512)
    #[arg(long)]
    pub callgrind: bool,
}

#[derive(Args)]
struct ReportArgs {
    /// Records, as `run --json` and the peers write them
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where to write index.html; made if it does not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Args)]
struct CompareArgs {
    /// Records from before
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// Records from after
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// The exit status is 1 if a speed falls below this share of the old one
    #[arg(long, value_name = "SHARE", default_value_t = 0.95, value_parser = share)]
    fail_below: f64,
}

#[derive(Args)]
struct VerifyArgs {
    /// Only these operations
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = ops::named)]
    op: Vec<&'static Operation>,
}

/// What is counted under callgrind.
#[derive(Args)]
pub struct CountArgs {
    /// The operation.
    #[arg(long, value_parser = ops::named)]
    pub op: &'static Operation,
    /// Its shape.
    #[arg(long)]
    pub shape: String,
    /// Its mask.
    #[arg(long, value_enum)]
    pub mask: masks::Kind,
    /// The name of an instruction set, which may be missing under valgrind.
    #[arg(long)]
    pub isa: String,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("given {text}, wanted a number from 0 to 1"))
}

/// The exit status for bad input.
const BAD_INPUT: u8 = 2;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let done = match Cli::try_parse() {
        Ok(cli) => cli.command.run(),
        // Asked for or, without a command, what is missing.
        Err(error) if is_help(&error) => error.exit(),
        Err(error) => Err(anyhow::anyhow!(one_line(&error.to_string()))),
    };
    done.unwrap_or_else(|error| {
        eprintln!("masktile-bench: {error:#}");
        ExitCode::from(BAD_INPUT)
    })
}

fn is_help(error: &clap::Error) -> bool {
    !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
}

/// The message of clap without its usage and tips.
fn one_line(message: &str) -> String {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let end = message.find("\n\n").unwrap_or(message.len());
    message[..end].split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Command {
    fn run(&self) -> Result<ExitCode> {
        match self {
            Command::Info => info::info(),
            Command::Run(args) => {
                machine::fix_addresses();
                run::run(args)
            }
            Command::Report(args) => report::report(&args.files, &args.out),
            Command::Compare(args) => compare::compare(&args.old, &args.new, args.fail_below),
            Command::Verify(args) => verify::verify(&args.op),
            Command::Count(args) => callgrind::count_one(args),
        }
    }
}
