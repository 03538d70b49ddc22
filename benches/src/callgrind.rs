//! Instructions of a call, counted by Valgrind's callgrind: the same number every time, so that a
//! change can be judged on a noisy machine.
//!
//! This program runs itself under callgrind as `count`, which calls the operation twice: once so
//! that memory is there, once within `call_under_callgrind`, the one function whose instructions
//! are counted.

use std::env::current_exe;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use masktile::Isa;

use crate::buffer::Buffer;
use crate::cli::CountArgs;
use crate::interrupt;
use crate::ops::{Case, How, Problem};
use crate::record::Point;

/// Callgrind takes about a hundred times as long; calls longer than this are not counted.
const LONGEST_NS: f64 = 1e8;

/// That Valgrind can be run.
///
/// # Errors
/// If it cannot.
pub fn require() -> Result<()> {
    let status = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    let status = status.context("--callgrind needs valgrind, which cannot be run")?;
    ensure!(status.success(), "--callgrind needs valgrind, which fails");
    Ok(())
}

/// Counts the instructions of each point on one thread; says which it leaves out.
///
/// # Errors
/// If Valgrind fails for another reason than an instruction set that it lacks.
pub fn count(points: &mut [Point]) -> Result<()> {
    let mut missing: Vec<Isa> = Vec::new();
    let mut long = 0;
    for point in points.iter_mut().filter(|point| point.key.threads == 1) {
        let Some(isa) = point.isa.filter(|isa| !missing.contains(isa)) else { continue };
        if point.time.median_ns() > LONGEST_NS {
            long += 1;
            continue;
        }
        eprint!("\rcounting {:<70}", point.key);
        let count = instructions(point);
        // Ctrl-C ends valgrind as well.
        if interrupt::requested() {
            break;
        }
        point.instructions = count?;
        if point.instructions.is_none() {
            missing.push(isa);
        }
    }
    eprint!("\r{:<79}\r", "");
    for isa in missing {
        println!("instructions of {isa} are not counted: valgrind does not have it");
    }
    if long > 0 {
        println!(
            "instructions of {long} calls longer than {} ms are not counted",
            LONGEST_NS / 1e6
        );
    }
    Ok(())
}

/// None if Valgrind's processor lacks the instruction set.
fn instructions(point: &Point) -> Result<Option<u64>> {
    let key = &point.key;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=*call_under_callgrind*")
        .arg(current_exe()?)
        .args(["count", "--op", &key.op, "--shape", &key.shape, "--mask", &key.mask])
        .args(["--isa", key.isa.as_deref().unwrap_or_default()])
        .output()
        .context("cannot run valgrind")?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(i32::from(UNAVAILABLE)) {
        return Ok(None);
    }
    let count =
        text.lines().find_map(|line| line.split("Collected : ").nth(1)?.trim().parse().ok());
    let last = || text.lines().last().unwrap_or_default().to_owned();
    let count = count.with_context(|| format!("valgrind counted nothing of {key}: {}", last()))?;
    ensure!(count > 0, "valgrind counted nothing of {key}: function not found");
    Ok(Some(count))
}

/// The exit status of `count` where the instruction set is not there.
const UNAVAILABLE: u8 = 3;

/// Under callgrind: one call of the operation, whose instructions are counted.
///
/// # Errors
/// If the operation fails.
pub fn count_one(args: &CountArgs) -> Result<ExitCode> {
    let Ok(isa) = masktile::isa::named(&args.isa) else {
        return Ok(ExitCode::from(UNAVAILABLE));
    };
    let case = Case { op: args.op, shape: args.shape.clone(), mask: args.mask };
    let problem = case.problem()?;
    let mut out = Buffer::filled(f32::NAN, problem.outputs());
    let mut workspace = Buffer::workspace();
    let how = How { isa, threaded: false };
    problem.run(how, &mut out, &mut workspace)?;
    call_under_callgrind(&*problem, how, &mut out, &mut workspace)?;
    Ok(ExitCode::SUCCESS)
}

/// A function of its own, for callgrind finds it by its name, which no other has a part of.
#[inline(never)]
fn call_under_callgrind(
    problem: &dyn Problem,
    how: How,
    out: &mut [f32],
    workspace: &mut [f32],
) -> masktile::Result<()> {
    problem.run(how, out, workspace)
}
