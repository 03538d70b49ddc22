//! `verify`: every operation with every instruction set against float64 and against scalar code.

use std::process::ExitCode;

use anyhow::Result;
use masktile::Isa;

use crate::buffer::Buffer;
use crate::ops::{Case, How, OPERATIONS, Operation, Problem, Worst};
use crate::table::Table;

/// What one case gave.
struct Outcome {
    worst: Worst,
    /// Whether each instruction set, on one thread and on several, gave scalar's bits.
    equal: Vec<bool>,
}

/// Prints the greatest errors; the exit status is 1 if one is beyond its bound or a bit differs.
///
/// # Errors
/// If an operation fails.
pub fn verify(ops: &[&'static Operation]) -> Result<ExitCode> {
    let isas: Vec<Isa> = Isa::available().collect();
    let heading = ["operation", "shape", "mask", "error", "of bound"].map(str::to_owned);
    let mut table = Table::new(3, heading.into_iter().chain(isas.iter().map(Isa::to_string)));
    let (mut cases, mut failures) = (0, 0);
    let all: Vec<&'static Operation> = OPERATIONS.iter().collect();
    let ops = if ops.is_empty() { &all } else { ops };
    for case in ops.iter().flat_map(|op| op.cases(op.verify)) {
        let outcome = outcome(&*case.problem()?, &isas, case.op.threaded)?;
        cases += 1;
        failures += usize::from(!outcome.is_good());
        table.row(cells(&case, &outcome));
    }
    println!("{table}");
    println!("error: the greatest against float64; of bound: over what the library promises");
    println!("the rest: whether the bits are scalar's, on one thread and on several");
    if failures > 0 {
        println!("{failures} of {cases} cases FAILED");
        return Ok(ExitCode::FAILURE);
    }
    println!("all {cases} cases are within their bounds and have the same bits");
    Ok(ExitCode::SUCCESS)
}

fn cells(case: &Case, outcome: &Outcome) -> Vec<String> {
    let Worst { error, of_bound } = outcome.worst;
    let bits = outcome.equal.iter().map(|equal| if *equal { "equal" } else { "DIFFERS" }.into());
    let numbers = [scientific(error), format!("{of_bound:.2}")];
    let words = [case.op.name.to_owned(), case.shape.clone(), case.mask.to_string()];
    words.into_iter().chain(numbers).chain(bits).collect()
}

fn scientific(error: f64) -> String {
    if error == 0.0 { "0".into() } else { format!("{error:.1e}") }
}

impl Outcome {
    fn is_good(&self) -> bool {
        self.worst.is_within() && self.equal.iter().all(|equal| *equal)
    }
}

fn outcome(problem: &dyn Problem, isas: &[Isa], threaded: bool) -> Result<Outcome> {
    let mut workspace = Buffer::workspace();
    let mut result = |how| result(problem, how, &mut workspace);
    let scalar = result(How { isa: Isa::SCALAR, threaded: false })?;
    let mut outcome = Outcome { worst: problem.worst(&scalar)?, equal: Vec::new() };
    for &isa in isas {
        let mut equal = true;
        for threaded in [false, true].into_iter().filter(|several| !several || threaded) {
            let given = result(How { isa, threaded })?;
            equal &= same_bits(&given, &scalar);
            outcome.worst = outcome.worst.max(problem.worst(&given)?);
        }
        outcome.equal.push(equal);
    }
    Ok(outcome)
}

fn result(problem: &dyn Problem, how: How, workspace: &mut [f32]) -> Result<Vec<f32>> {
    let mut out = vec![f32::NAN; problem.outputs()];
    problem.run(how, &mut out, workspace)?;
    Ok(out)
}

fn same_bits(given: &[f32], wanted: &[f32]) -> bool {
    given.iter().zip(wanted).all(|(x, y)| x.to_bits() == y.to_bits())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::masks::Kind;
    use crate::ops::{Work, named};

    /// A problem whose results are wrong by so many units in the last place of its first number,
    /// on several threads alone.
    struct Broken(Box<dyn Problem>, u32);

    impl Problem for Broken {
        fn work(&self) -> Work {
            self.0.work()
        }

        fn outputs(&self) -> usize {
            self.0.outputs()
        }

        fn run(&self, how: How, out: &mut [f32], w: &mut [f32]) -> masktile::Result<()> {
            self.0.run(how, out, w)?;
            let off = if how.threaded { self.1 } else { 0 };
            out[0] = f32::from_bits(out[0].to_bits() + off);
            Ok(())
        }

        fn worst(&self, out: &[f32]) -> masktile::Result<Worst> {
            self.0.worst(out)
        }
    }

    #[test]
    fn a_wrong_bit_and_a_wrong_number_are_found() {
        for (op, shape) in [("matmul", "5x33x17"), ("attention", "2x9x300x8")] {
            let problem =
                |off| Broken((named(op).unwrap().problem)(shape, Kind::None).unwrap(), off);
            let outcome = |off| outcome(&problem(off), &[Isa::SCALAR], true).unwrap();
            assert!(outcome(0).is_good(), "{op}");
            let (bit, number) = (outcome(1), outcome(1 << 20));
            assert!(bit.worst.is_within() && bit.equal == [false], "{op}");
            assert!(!number.worst.is_within() && !number.is_good(), "{op}");
        }
    }

    /// The oracle sees what the mask hides, and what it does not.
    #[test]
    fn softmax_of_another_mask_is_beyond_its_bound() {
        let of = |mask| (named("softmax").unwrap().problem)("1x9x33", mask).unwrap();
        let how = How { isa: Isa::SCALAR, threaded: false };
        let causal = result(&*of(Kind::Causal), how, &mut Buffer::workspace()).unwrap();
        assert!(of(Kind::Causal).worst(&causal).unwrap().is_within());
        for other in [Kind::None, Kind::Lengths, Kind::Bool, Kind::Bias] {
            assert!(!of(other).worst(&causal).unwrap().is_within(), "{other}");
        }
    }
}
