//! `run`: every case with every instruction set and number of threads, interleaved.

mod tables;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use masktile::Isa;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::buffer::Buffer;
use crate::callgrind;
use crate::cli::RunArgs;
use crate::interrupt;
use crate::limits::Limits;
use crate::machine;
use crate::measure::{self, Plan, Run};
use crate::ops::{Case, How, OPERATIONS, Operation, Problem};
use crate::order::unique;
use crate::record::{Key, Machine, OURS, Output, Point, Record};

/// Scalar code takes too long for more operations than these, unless it is asked for by name.
const MOST_IN_SCALAR: f64 = (1u64 << 28) as f64;

/// For all cases of a quick run together: with limits and operands it ends within a minute.
const QUICK: Duration = Duration::from_secs(22);
/// For each case of a full run.
const FULL: Duration = Duration::from_secs(5);

/// All cases are measured so many times, with new operands: the spread then has what differs from
/// minute to minute, and from one place in memory to another, not only from round to round.
const PASSES: usize = 3;
/// Rounds of a pass that are measured whatever they take.
const FEWEST: usize = 3;

/// Measures what `args` ask for, prints tables, writes JSON.
///
/// # Errors
/// If nothing is to be measured, an operation fails, or a file cannot be written.
pub fn run(args: &RunArgs) -> Result<ExitCode> {
    let cases = cases(args)?;
    let output = args.json.as_deref().map(Output::create).transpose()?;
    if args.callgrind {
        callgrind::require()?;
    }
    interrupt::listen()?;
    // Before this thread is pinned, for threads that it starts inherit that.
    let pools = pools(&args.threads)?;
    match machine::pin() {
        Ok(core) => println!("pinned to core {core}"),
        Err(error) => println!("not pinned: {error:#}"),
    }

    let mut limits = Limits::measured()?;
    let mut points = measured(args, &cases, &pools, &mut limits)?;
    limits.measure_reads()?;
    if args.callgrind {
        callgrind::count(&mut points)?;
    }
    let machine = Machine::this(args.machine.as_deref(), &limits);
    let records: Vec<Record> = points.iter().map(|point| point.record(&limits, &machine)).collect();
    println!("{limits}");
    print!("{}", tables::tables(&records));
    print_notes(args, &cases, &limits);
    if let Some(output) = output {
        output.write(&records)?;
    }
    if interrupt::requested() {
        println!("interrupted: this is what was measured so far");
        return Ok(ExitCode::from(interrupt::STATUS));
    }
    Ok(ExitCode::SUCCESS)
}

/// The cases that `args` name: given shapes with the operations that have such shapes, else the
/// operations' tables.
fn cases(args: &RunArgs) -> Result<Vec<Case>> {
    let all: Vec<&'static Operation> = OPERATIONS.iter().collect();
    let ops = if args.op.is_empty() { &all } else { &args.op };
    for shape in &args.shape {
        check(shape, ops)?;
    }
    let of = |op: &&'static Operation| {
        if args.shape.is_empty() {
            return op.cases(if args.quick { op.quick } else { op.shapes });
        }
        let shapes = args.shape.iter().filter(|shape| (op.check)(shape).is_ok());
        op.cases(&shapes.collect::<Vec<_>>())
    };
    let mut cases: Vec<Case> = ops.iter().flat_map(of).collect();
    cases.retain(|case| args.mask.is_empty() || args.mask.contains(&case.mask));
    ensure!(!cases.is_empty(), "no operation has such a mask");
    Ok(cases)
}

/// That at least one of `ops` has such a shape.
fn check(shape: &str, ops: &[&Operation]) -> Result<()> {
    let [op] = ops else {
        ensure!(
            ops.iter().any(|op| (op.check)(shape).is_ok()),
            "shape: given \"{shape}\", wanted {}",
            unique(ops.iter().map(|op| format!("{} ({})", op.form, op.family))).join(" or ")
        );
        return Ok(());
    };
    (op.check)(shape)
}

/// A pool for each number of threads but one, each thread pinned to a core of its own.
fn pools(threads: &[u32]) -> Result<Vec<(u32, Option<ThreadPool>)>> {
    let cores = machine::allowed();
    let pool = |&threads: &u32| {
        if threads == 1 {
            return Ok((threads, None));
        }
        let cores = cores.clone();
        let pin = move |index: usize| {
            // Where there are fewer cores than threads, the system places the rest.
            if let Some(core) = cores.get(index) {
                core_affinity::set_for_current(*core);
            }
        };
        let pool = ThreadPoolBuilder::new().num_threads(threads as usize).start_handler(pin);
        let pool = pool.build().with_context(|| format!("cannot start {threads} threads"))?;
        Ok((threads, Some(pool)))
    };
    threads.iter().map(pool).collect()
}

fn measured(
    args: &RunArgs,
    cases: &[Case],
    pools: &[(u32, Option<ThreadPool>)],
    limits: &mut Limits,
) -> Result<Vec<Point>> {
    let budget = if args.quick { QUICK / cases.len() as u32 } else { FULL };
    let plan = Plan {
        rounds: (args.rounds as usize).div_ceil(PASSES),
        budget: budget / PASSES as u32,
        fewest: FEWEST,
    };
    let style = "{bar:24} {pos}/{len}, {eta} left  {msg}";
    let bar = ProgressBar::new((PASSES * cases.len()) as u64)
        .with_style(ProgressStyle::with_template(style)?);
    let mut points = Vec::new();
    for case in (0..PASSES).flat_map(|_| cases) {
        if interrupt::requested() && !points.is_empty() {
            break;
        }
        bar.set_message(format!("{} {}", case.op.family, case.label()));
        limits.measure_peaks()?;
        for point in measure_case(args, case, pools, plan)? {
            join(&mut points, point);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(points)
}

/// Adds the samples of `point` to those of another pass.
fn join(points: &mut Vec<Point>, point: Point) {
    match points.iter_mut().find(|other| other.key == point.key) {
        Some(other) => other.time.join(point.time),
        None => points.push(point),
    }
}

/// One case with each instruction set on each number of threads, in turns.
fn measure_case(
    args: &RunArgs,
    case: &Case,
    pools: &[(u32, Option<ThreadPool>)],
    plan: Plan,
) -> Result<Vec<Point>> {
    let problem = case.problem()?;
    let problem = &*problem;
    let (mut runs, mut keys) = (Vec::new(), Vec::new());
    for (threads, pool) in pools.iter().filter(|(threads, _)| *threads == 1 || case.op.threaded) {
        for isa in isas(args).filter(|isa| !args.isa.is_empty() || !is_too_slow(*isa, problem)) {
            runs.push(calls(problem, isa, pool.as_ref()));
            keys.push((isa, key(case, isa, *threads)));
        }
    }
    let times = measure::interleaved(plan, &mut runs)?;
    let points = keys.into_iter().zip(times).map(|((isa, key), time)| Point {
        key,
        isa: Some(isa),
        unit: case.op.unit,
        work: problem.work(),
        time,
        instructions: None,
    });
    Ok(points.collect())
}

/// The given instruction set, or all of this machine.
fn isas(args: &RunArgs) -> impl Iterator<Item = Isa> {
    Isa::available().filter(|isa| args.isa.is_empty() || args.isa.contains(isa))
}

/// Whether a problem is left out of tables with this instruction set.
pub fn is_too_slow(isa: Isa, problem: &dyn Problem) -> bool {
    isa == Isa::SCALAR && problem.work().flops > MOST_IN_SCALAR
}

fn key(case: &Case, isa: Isa, threads: u32) -> Key {
    Key {
        op: case.op.name.into(),
        dtype: case.op.dtype.into(),
        shape: case.shape.clone(),
        mask: case.mask.to_string(),
        implementation: OURS.into(),
        isa: Some(isa.to_string()),
        threads,
    }
}

/// Calls of one problem, each run with a result and a workspace of its own.
fn calls<'a>(problem: &'a dyn Problem, isa: Isa, pool: Option<&'a ThreadPool>) -> Run<'a> {
    let mut out = Buffer::filled(f32::NAN, problem.outputs());
    let mut workspace = Buffer::workspace();
    let how = How { isa, threaded: pool.is_some() };
    let call = move || Ok(problem.run(how, &mut out, &mut workspace)?);
    match pool {
        Some(pool) => measure::calls_in(pool, call),
        None => measure::calls(call),
    }
}

/// What is missing in the tables and why, and what makes them doubtful.
fn print_notes(args: &RunArgs, cases: &[Case], limits: &Limits) {
    println!("\n±: middle half of the rounds over the median; x: speed over scalar code");
    if args.isa.is_empty() {
        let flops = MOST_IN_SCALAR / 1e6;
        println!("-: scalar code is left out above {flops:.0} million operations, or not counted");
    }
    let single = cases.iter().any(|case| !case.op.threaded);
    if single && args.threads.iter().any(|threads| *threads > 1) {
        println!("softmax and activation functions have no parts for more threads than one");
    }
    if limits.drift() > 0.1 {
        println!("warning: the peak drifted by {:.0} % during this run", 100.0 * limits.drift());
    }
    for warning in machine::warnings() {
        println!("warning: {warning}");
    }
}
