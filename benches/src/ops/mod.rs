//! The operations that are measured: one table, a file for each family.
//!
//! A new operation is an [`Operation`] in [`OPERATIONS`] with a [`Problem`] that runs it; all
//! commands, the criterion benches and the report then have it.

mod activation;
mod attention;
mod matmul;
mod matmul_int8;
mod oracle;
mod softmax;
mod typed;

use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use masktile::Isa;

pub use oracle::Worst;

use crate::machine;
use crate::masks;

/// All of them, in the order of tables.
pub static OPERATIONS: &[Operation] = &[
    matmul::MATMUL,
    matmul::PACKED,
    typed::F16,
    typed::BF16,
    typed::Q8,
    typed::Q4,
    matmul_int8::MATMUL_INT8,
    matmul_int8::PACKED,
    softmax::SOFTMAX,
    attention::ATTENTION,
    activation::RELU,
    activation::SIGMOID,
    activation::SILU,
    activation::TANH,
    activation::ERF,
    activation::GELU_ERF,
    activation::GELU_TANH,
];

/// An operation with its tables of cases. Every mask is measured at every shape.
pub struct Operation {
    /// As in records and on the command line.
    pub name: &'static str,
    /// Those that share a table and a form of shapes.
    pub family: &'static str,
    /// The type of its operands.
    pub dtype: &'static str,
    /// What a shape is, for a person.
    pub form: &'static str,
    /// What its speed is counted in.
    pub unit: Unit,
    /// Whether it has parts for several threads.
    pub threaded: bool,
    /// The masks that are measured; `None` alone for what takes none.
    pub masks: &'static [masks::Kind],
    /// The shapes of a full run.
    pub shapes: &'static [&'static str],
    /// Those of `run --quick`, fast enough in scalar code.
    pub quick: &'static [&'static str],
    /// Those of `verify`, with remainders on every axis.
    pub verify: &'static [&'static str],
    /// Shapes that differ in size alone.
    pub series: Series,
    /// Whether a shape is one of this operation's, and of what memory holds.
    pub check: fn(&str) -> Result<()>,
    /// Operands of a shape and a mask.
    pub problem: fn(&str, masks::Kind) -> Result<Box<dyn Problem>>,
}

/// Shapes of an operation that differ in one number.
pub struct Series {
    /// What that number is.
    pub label: &'static str,
    /// The number; none for a shape out of the series.
    pub at: fn(&str) -> Option<f64>,
}

/// What a speed is counted in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// 10^9 floating-point operations a second, a fused multiply-add being two.
    Gflops,
    /// 10^9 bytes a second, read and written.
    Gbps,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Gflops => "GFLOP/s",
            Unit::Gbps => "GB/s",
        })
    }
}

/// What a call does, as if nothing was masked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Additions, multiplications, divisions and comparisons of the formula; a fused multiply-add
    /// is two.
    pub flops: f64,
    /// Of operands, each read once, and of the result, written once; masks are left out.
    pub bytes: f64,
}

impl Work {
    /// Of so many operations on f32, so many of which are read or written.
    pub fn f32(flops: usize, floats: usize) -> Self {
        Work { flops: flops as f64, bytes: floats as f64 * size_of::<f32>() as f64 }
    }

    /// The speed of one call that takes so many nanoseconds.
    pub fn speed(&self, unit: Unit, ns: f64) -> f64 {
        match unit {
            Unit::Gflops => self.flops / ns,
            Unit::Gbps => self.bytes / ns,
        }
    }
}

/// How a problem is run.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// With this instruction set.
    pub isa: Isa,
    /// On all threads of the current rayon pool, else on this one.
    pub threaded: bool,
}

/// Operands of one operation at one shape, random.
pub trait Problem: Sync {
    /// What one call does.
    fn work(&self) -> Work;

    /// Numbers in the result.
    fn outputs(&self) -> usize;

    /// Computes the result.
    ///
    /// # Errors
    /// As the operation.
    fn run(&self, how: How, out: &mut [f32], workspace: &mut [f32]) -> masktile::Result<()>;

    /// The greatest error of a result, against float64.
    ///
    /// # Errors
    /// As the operation.
    fn worst(&self, out: &[f32]) -> masktile::Result<Worst>;
}

/// An operation at one shape with one mask.
#[derive(Clone)]
pub struct Case {
    /// The operation.
    pub op: &'static Operation,
    /// In the operation's form.
    pub shape: String,
    /// One of the kinds that the operation takes.
    pub mask: masks::Kind,
}

impl Case {
    /// Its operands.
    ///
    /// # Errors
    /// If the shape is none of this operation, or needs too much memory.
    pub fn problem(&self) -> Result<Box<dyn Problem>> {
        (self.op.problem)(&self.shape, self.mask)
    }

    /// Shape and mask, and the operation's name where it is not the family's.
    pub fn label(&self) -> String {
        label(self.op.family, self.op.name, &self.shape, &self.mask.to_string())
    }
}

/// As [`Case::label`], of a record.
pub fn label(family: &str, op: &str, shape: &str, mask: &str) -> String {
    let op = if op == family { "" } else { op.strip_prefix(family).unwrap_or(op) };
    let mask = if mask == "none" { "" } else { mask };
    let words = [op.trim_start_matches('_'), shape, mask];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

impl Operation {
    /// Every mask at every shape.
    pub fn cases<S: AsRef<str>>(&'static self, shapes: &[S]) -> Vec<Case> {
        let at = |shape: &S| {
            let shape = shape.as_ref().to_owned();
            self.masks.iter().map(move |mask| Case { op: self, shape: shape.clone(), mask: *mask })
        };
        shapes.iter().flat_map(at).collect()
    }
}

/// The operation called `name`.
///
/// # Errors
/// If there is none; lists those that there are.
pub fn named(name: &str) -> Result<&'static Operation> {
    let all = || OPERATIONS.iter().map(|op| op.name).collect::<Vec<_>>().join(", ");
    known(name).with_context(|| format!("given \"{name}\", wanted one of {}", all()))
}

/// The operation called `name`; records of another version may have one that is not known here.
pub fn known(name: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|op| op.name == name)
}

/// The sizes of a shape of `N` axes.
fn sizes<const N: usize>(shape: &str, form: &str) -> Result<[usize; N]> {
    let sizes = shape.split('x').map(str::parse).collect::<Result<Vec<usize>, _>>().ok();
    let sizes = sizes.filter(|sizes| sizes.iter().all(|size| *size > 0));
    let sizes = sizes.and_then(|sizes| sizes.try_into().ok());
    sizes.with_context(|| format!("shape: given \"{shape}\", wanted {form} (positive numbers)"))
}

/// The greatest memory of a problem's operands: more is a slip of the finger.
const LARGEST: usize = 8 << 30;

/// The product of each of `operands`, none of which is too large.
fn floats<const N: usize>(shape: &str, operands: [&[usize]; N]) -> Result<[usize; N]> {
    let mut total = Some(0usize);
    let mut counts = [0; N];
    for (count, sizes) in counts.iter_mut().zip(operands) {
        let product = sizes.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
        *count = product.unwrap_or(0);
        total = total.zip(product).and_then(|(total, product)| total.checked_add(product));
    }
    let bytes = total.and_then(|total| total.checked_mul(size_of::<f32>()));
    match bytes {
        Some(bytes) if bytes <= LARGEST => {
            ensure!(bytes > 0, "shape: given \"{shape}\", which is empty");
            Ok(counts)
        }
        Some(bytes) => {
            let (given, most) = (machine::bytes(bytes), machine::bytes(LARGEST));
            bail!("shape: given \"{shape}\", which needs {given}, wanted at most {most}")
        }
        None => bail!("shape: given \"{shape}\", which no memory holds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every shape of every table is of its operation's form.
    #[test]
    fn tables_hold_shapes_of_their_form() {
        for op in OPERATIONS {
            for shape in op.shapes.iter().chain(op.quick).chain(op.verify) {
                let checked = (op.check)(shape);
                assert!(checked.is_ok(), "{} {shape}: {:?}", op.name, checked.err());
            }
        }
    }

    #[test]
    fn shapes_of_another_form_are_refused() {
        for (op, shape) in [
            ("matmul", "12x"),
            ("matmul", "0x1x1"),
            ("matmul", "1x2x3x4"),
            ("softmax", "7"),
            ("attention", "8/3x4x4x4"),
            ("attention", "8x4x4"),
            ("silu", "3x3"),
            ("matmul", "99999999999x99999999999x2"),
            ("matmul", "100000x100000x1"),
        ] {
            let error = (named(op).unwrap().check)(shape).unwrap_err().to_string();
            assert!(error.starts_with("shape: given"), "{op} {shape}: {error}");
        }
    }

    #[test]
    fn labels_leave_out_what_is_known() {
        assert_eq!(label("matmul", "matmul", "8x8x8", "none"), "8x8x8");
        assert_eq!(label("matmul", "matmul_packed", "8x8x8", "none"), "packed 8x8x8");
        assert_eq!(label("attention", "attention", "1x8x8x8", "causal"), "1x8x8x8 causal");
        assert_eq!(label("activation", "tanh", "64", "none"), "tanh 64");
    }
}
