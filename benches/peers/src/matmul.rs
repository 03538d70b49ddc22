//! f32 products: the shapes of a decoder's layers, and squares of every size.
//!
//! Every implementation multiplies the same A and B, writes to its own C, and is compared with
//! masktile before it is measured. All matrices start at a cache line.

use std::fmt;

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use masktile::{Isa, MatMut, MatRef, Matmul, Workspace};
use masktile_bench::buffer::Buffer;
use masktile_bench::limits::Limits;
use masktile_bench::measure;
use masktile_bench::ops::{self, Work};
use masktile_bench::record::{Key, OURS, Point};

use crate::Choice;
use crate::peers::{self, Product};

/// Scalar code takes seconds for more multiply-adds than these.
const MOST_IN_SCALAR: usize = 1 << 26;

/// An m x k by k x n product.
#[derive(Clone, Copy)]
pub struct Shape {
    pub m: usize,
    pub k: usize,
    pub n: usize,
    /// B is stored n x k, as frameworks store a weight (out x in) and attention its keys.
    pub transposed: bool,
}

/// B stored k x n.
const fn plain(m: usize, k: usize, n: usize) -> Shape {
    Shape { m, k, n, transposed: false }
}

/// B stored n x k.
const fn transposed(m: usize, k: usize, n: usize) -> Shape {
    Shape { m, k, n, transposed: true }
}

const SHAPES: [Shape; 21] = [
    plain(8, 8, 8),
    plain(13, 77, 19),
    plain(32, 32, 32),
    plain(64, 64, 64),
    plain(128, 128, 128),
    plain(256, 256, 256),
    plain(512, 512, 512),
    plain(1024, 1024, 1024),
    plain(2048, 2048, 2048),
    plain(127, 129, 131),
    // Weights: one row, a few, a prompt.
    plain(1, 4096, 4096),
    transposed(1, 4096, 4096),
    transposed(4, 4096, 4096),
    transposed(16, 1024, 4096),
    transposed(128, 768, 768),
    transposed(128, 768, 3072),
    transposed(128, 3072, 768),
    // Attention: scores, values, scores of cross-attention, an output projection of one head.
    transposed(512, 64, 512),
    plain(512, 512, 64),
    transposed(64, 64, 512),
    plain(4096, 64, 64),
];

impl Shape {
    fn multiply_adds(self) -> usize {
        self.m * self.k * self.n
    }

    fn work(self) -> Work {
        let Shape { m, k, n, .. } = self;
        Work::f32(2 * self.multiply_adds(), m * k + k * n + m * n)
    }

    /// Steps in memory to the next row and the next column of B.
    pub fn b_strides(self) -> [usize; 2] {
        if self.transposed { [1, self.k] } else { [self.n, 1] }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.transposed { "t" } else { "" };
        f.pad(&format!("{}x{}x{}{mark}", self.m, self.k, self.n))
    }
}

/// A shape with its operands.
pub struct Problem {
    pub shape: Shape,
    pub a: Buffer,
    pub b: Buffer,
}

impl Problem {
    fn new(shape: Shape) -> Self {
        let Shape { m, k, n, .. } = shape;
        Problem { shape, a: Buffer::random(m * k, 1), b: Buffer::random(k * n, 2) }
    }

    /// The product of the operands' absolute values: what rounding is relative to.
    fn magnitudes(&self) -> Result<Buffer> {
        let abs = |values: &[f32]| {
            let values: Vec<_> = values.iter().map(|x| x.abs()).collect();
            Buffer::copied(&values)
        };
        Problem { shape: self.shape, a: abs(&self.a), b: abs(&self.b) }.product()
    }

    fn product(&self) -> Result<Buffer> {
        let mut c = Buffer::filled(0.0, self.shape.m * self.shape.n);
        Ours::new(Isa::detect()).run(self, &mut c)?;
        Ok(c)
    }
}

/// masktile with one instruction set.
struct Ours {
    isa: Isa,
    workspace: Workspace,
}

impl Ours {
    fn new(isa: Isa) -> Self {
        Ours { isa, workspace: Workspace::new() }
    }
}

impl Product for Ours {
    fn name(&self) -> &'static str {
        OURS
    }

    fn isa(&self) -> Option<Isa> {
        Some(self.isa)
    }

    fn run(&mut self, problem: &Problem, c: &mut [f32]) -> Result<()> {
        let Shape { m, k, n, .. } = problem.shape;
        let a = MatRef::new(&problem.a, [m, k])?;
        let b = MatRef::with_strides(&problem.b, [k, n], problem.shape.b_strides())?;
        let mut c = MatMut::new(c, [m, n])?;
        Ok(Matmul::new(a, b).isa(self.isa).run(&mut c, &mut self.workspace)?)
    }
}

/// Measures the shapes and implementations of `choice`; one point for each pair.
pub fn measure(choice: &Choice, limits: &mut Limits) -> Result<Vec<Point>> {
    let shapes: Vec<_> =
        SHAPES.into_iter().filter(|shape| choice.wants_shape(&shape.to_string())).collect();
    ensure!(!shapes.is_empty(), "no shape of matmul holds `{}` in its name", choice.shape);
    let mut products = products(choice)?;
    ensure!(!products.is_empty(), "no implementation has such a name");
    let bar = ProgressBar::new(shapes.len() as u64)
        .with_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg:14}")?);
    let mut points = Vec::new();
    for shape in shapes {
        bar.set_message(shape.to_string());
        bar.tick();
        limits.measure_peaks()?;
        points.extend(measure_shape(choice, shape, &mut products)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(points)
}

fn products(choice: &Choice) -> Result<Vec<Box<dyn Product>>> {
    let ours = choice.isas.iter().map(|isa| Box::new(Ours::new(*isa)) as Box<dyn Product>);
    let mut products: Vec<_> = ours.chain(peers::all()?).collect();
    products.retain(|product| choice.wants_implementation(product.name()));
    Ok(products)
}

/// Checks and measures those of `products` that are not too slow for `shape`.
fn measure_shape(
    choice: &Choice,
    shape: Shape,
    products: &mut [Box<dyn Product>],
) -> Result<Vec<Point>> {
    let problem = Problem::new(shape);
    let (ours, magnitudes) = (problem.product()?, problem.magnitudes()?);
    let (mut runs, mut names) = (Vec::new(), Vec::new());
    for product in products.iter_mut().filter(|product| !too_slow(product.isa(), shape)) {
        let mut c = Buffer::filled(f32::NAN, ours.len());
        product.run(&problem, &mut c)?;
        check(&c, &ours, &magnitudes, shape)
            .with_context(|| format!("{} deviates at {shape}", product.name()))?;
        names.push((product.name(), product.isa()));
        let problem = &problem;
        runs.push(measure::calls(move || product.run(problem, &mut c)));
    }
    let times = measure::interleaved(choice.plan, &mut runs)?;
    let op = ops::named("matmul")?;
    let points = names.into_iter().zip(times).map(|((implementation, isa), time)| Point {
        key: Key {
            op: op.name.into(),
            dtype: op.dtype.into(),
            shape: shape.to_string(),
            mask: "none".into(),
            implementation: implementation.into(),
            isa: isa.map(|isa| isa.to_string()),
            threads: choice.threads,
        },
        isa,
        unit: op.unit,
        work: shape.work(),
        time,
        instructions: None,
    });
    Ok(points.collect())
}

fn too_slow(isa: Option<Isa>, shape: Shape) -> bool {
    isa == Some(Isa::SCALAR) && shape.multiply_adds() > MOST_IN_SCALAR
}

/// That `c` is `ours` but for the rounding of sums in another order, whose error grows as the
/// square root of their length.
fn check(c: &[f32], ours: &[f32], magnitudes: &[f32], shape: Shape) -> Result<()> {
    let rounding = (8.0 + 4.0 * (shape.k as f32).sqrt()) * f32::EPSILON / 2.0;
    for (index, ((x, wanted), magnitude)) in c.iter().zip(ours).zip(magnitudes).enumerate() {
        let (row, column) = (index / shape.n, index % shape.n);
        let near = (x - wanted).abs() <= rounding * magnitude;
        ensure!(near, "C[{row}, {column}] is {x}, masktile has {wanted}");
    }
    Ok(())
}
