//! The product against float64 and against scalar bits: every remainder of every tile, layouts,
//! alpha, beta, bias, and rows that do not know their neighbours.

mod common;

use common::{Numbers, Product, assert_same_bits, thinned, vector_isas};
use masktile::{Isa, MatMut, MatRef, Matmul, Workspace};

/// How a matrix of rows x columns lies in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    Rows,
    Columns,
    /// Rows some numbers apart.
    PaddedRows,
    /// No axis is contiguous, and rows are far apart.
    Scattered,
}

use Layout::*;

impl Layout {
    fn strides(self, [rows, columns]: [usize; 2]) -> [usize; 2] {
        match self {
            Rows => [columns, 1],
            Columns => [1, rows],
            PaddedRows => [columns + 5, 1],
            Scattered => [columns * 3 + 4096, 3],
        }
    }

    /// The row-major `numbers` in this layout, `fill` in between.
    fn lay(self, shape: [usize; 2], numbers: &[f32], fill: f32) -> Vec<f32> {
        let [row, column] = self.strides(shape);
        let mut data = vec![fill; shape[0] * row + shape[1] * column + 1];
        for i in 0..shape[0] {
            for j in 0..shape[1] {
                data[i * row + j * column] = numbers[i * shape[1] + j];
            }
        }
        data
    }
}

#[derive(Clone, Copy, Debug)]
struct Case {
    m: usize,
    n: usize,
    k: usize,
    layouts: [Layout; 3],
    alpha: f32,
    beta: f32,
    bias: bool,
}

impl Case {
    fn new(m: usize, n: usize, k: usize) -> Self {
        Case { m, n, k, layouts: [Rows; 3], alpha: 1.0, beta: 0.0, bias: false }
    }

    /// Computes on every instruction set; compares bits with scalar's, scalar's with the oracle,
    /// and what lies between the elements of C with what was there.
    fn check(self) {
        let Case { m, n, k, layouts, alpha, beta, bias } = self;
        let mut numbers = Numbers::new((m * 10_007 + n * 101 + k) as u64);
        let (a, b) = (numbers.many(m * k), numbers.many(k * n));
        let c = if beta == 0.0 { vec![f32::NAN; m * n] } else { numbers.many(m * n) };
        let bias = bias.then(|| numbers.many(n));
        let product = Product { m, n, k, alpha, beta, a: &a, b: &b, c: &c, bias: bias.as_deref() };

        let shapes = [[m, k], [k, n], [m, n]];
        let laid_a = layouts[0].lay(shapes[0], &a, f32::NAN);
        let laid_b = layouts[1].lay(shapes[1], &b, f32::NAN);
        let laid_c = layouts[2].lay(shapes[2], &c, 77.0);
        let strides = [0, 1, 2].map(|i| layouts[i].strides(shapes[i]));
        let run = |isa: Isa| {
            let mut out = laid_c.clone();
            let a = MatRef::with_strides(&laid_a, shapes[0], strides[0]).unwrap();
            let b = MatRef::with_strides(&laid_b, shapes[1], strides[1]).unwrap();
            let mut matmul = Matmul::new(a, b).alpha(alpha).beta(beta).isa(isa);
            if let Some(bias) = &bias {
                matmul = matmul.bias(bias);
            }
            let mut c = MatMut::with_strides(&mut out, shapes[2], strides[2]).unwrap();
            // NaN everywhere: a kernel that reads what it did not write shows.
            let mut workspace = vec![f32::NAN; masktile::matmul::workspace_len(m, n, k)];
            matmul.run(&mut c, &mut workspace[..]).unwrap();
            out
        };

        let scalar = run(Isa::SCALAR);
        let mut element = vec![false; scalar.len()];
        for i in 0..m {
            for j in 0..n {
                let at = i * strides[2][0] + j * strides[2][1];
                element[at] = true;
                let (wanted, magnitude) = product.element(i, j);
                let bound = (k + 3) as f64 * magnitude * 0.5 * f64::from(f32::EPSILON);
                let error = (f64::from(scalar[at]) - wanted).abs();
                assert!(error <= bound, "{self:?} [{i}, {j}]: {} wanted {wanted}", scalar[at]);
            }
        }
        for (at, _) in element.iter().enumerate().filter(|(_, element)| !**element) {
            assert_eq!(scalar[at], 77.0, "{self:?}: wrote between elements");
        }
        for isa in Isa::available() {
            assert_same_bits(&run(isa), &scalar, format_args!("{isa} {self:?}"));
        }
    }
}

#[test]
fn every_remainder_of_rows() {
    vector_isas();
    for m in thinned(1..=130) {
        Case::new(m, 33, 19).check();
        Case { bias: true, ..Case::new(m, 16, 3) }.check();
    }
}

#[test]
fn every_remainder_of_columns() {
    for n in thinned(1..=130) {
        for m in [1, 5, 14, 29] {
            Case::new(m, n, 9).check();
        }
        // Enough rows to pack B.
        Case { bias: true, ..Case::new(61, n, 257) }.check();
    }
}

#[test]
fn every_remainder_of_depth() {
    for k in thinned(0..=130) {
        Case { beta: 0.5, ..Case::new(15, 34, k) }.check();
        // Depth-contiguous operands, which packing transposes in blocks of 16.
        Case { layouts: [Rows, Columns, Rows], ..Case::new(3, 40, k) }.check();
    }
}

/// Every small size by every other.
#[test]
fn tiny_sizes() {
    for m in 0..=9 {
        for n in thinned(0..=18) {
            for k in 0..=4 {
                Case::new(m, n, k).check();
            }
        }
    }
}

#[test]
fn sizes_over_every_cache_block() {
    for (m, n, k) in [(85, 97, 513), (170, 33, 1030), (15, 1057, 40), (90, 1025, 515)] {
        for beta in [0.0, 1.0, -0.75] {
            Case { beta, bias: true, ..Case::new(m, n, k) }.check();
        }
        Case { alpha: -1.3, layouts: [Columns, Columns, Rows], ..Case::new(m, n, k) }.check();
    }
}

#[test]
fn every_layout() {
    let all = [Rows, Columns, PaddedRows, Scattered];
    for a in all {
        for b in all {
            for c in all {
                for (m, n, k) in [(17, 35, 21), (70, 40, 450), (1, 50, 20)] {
                    let layouts = [a, b, c];
                    let case = Case { layouts, alpha: 0.7, bias: true, ..Case::new(m, n, k) };
                    case.check();
                    Case { alpha: 1.0, beta: 2.0, ..case }.check();
                }
            }
        }
    }
}

/// A C full of NaN must not show where beta is 0, however the product is cut; and beta with no
/// depth scales what is there.
#[test]
fn beta_zero_never_reads() {
    for k in [0, 1, 600] {
        Case { bias: true, ..Case::new(20, 50, k) }.check();
        Case { beta: 3.0, ..Case::new(20, 50, k) }.check();
    }
}

/// A row has the same bits alone and in any batch of rows, in every layout of the weight.
#[test]
fn a_row_does_not_know_its_batch() {
    for (n, k) in [(70, 700), (300, 64), (1, 33)] {
        for weight in [Rows, Columns] {
            let mut numbers = Numbers::new(5);
            let (a, b) = (numbers.many(130 * k), numbers.many(k * n));
            let laid = weight.lay([k, n], &b, 0.0);
            let b = MatRef::with_strides(&laid, [k, n], weight.strides([k, n])).unwrap();
            let mut workspace = Workspace::new();
            for isa in Isa::available() {
                let mut run = |first: usize, m: usize| {
                    let mut c = vec![0.0; m * n];
                    Matmul::new(MatRef::new(&a[first * k..], [m, k]).unwrap(), b)
                        .isa(isa)
                        .run(&mut MatMut::new(&mut c, [m, n]).unwrap(), &mut workspace)
                        .unwrap();
                    c
                };
                let alone: Vec<Vec<f32>> = (0..130).map(|i| run(i, 1)).collect();
                for m in thinned(2..=130) {
                    let batch = run(0, m);
                    for i in 0..m {
                        let row = &batch[i * n..(i + 1) * n];
                        let case = format_args!("{isa} {n}x{k} {weight:?}: row {i} of {m}");
                        assert_same_bits(row, &alone[i], case);
                    }
                }
            }
        }
    }
}

#[cfg(feature = "rayon")]
#[test]
fn threads_do_not_change_bits() {
    for (m, n, k) in [(300, 200, 100), (16, 2000, 300), (1, 5000, 800), (1000, 3, 1000), (0, 4, 4)]
    {
        let mut numbers = Numbers::new(9);
        let (a, b, bias) = (numbers.many(m * k), numbers.many(k * n), numbers.many(n));
        let matmul =
            Matmul::new(MatRef::new(&a, [m, k]).unwrap(), MatRef::new(&b, [k, n]).unwrap())
                .bias(&bias);
        let mut wanted = vec![0.0; m * n];
        let mut c = MatMut::new(&mut wanted, [m, n]).unwrap();
        matmul.run(&mut c, &mut Workspace::new()).unwrap();
        for threads in [1, 2, 3, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut given = vec![f32::NAN; m * n];
            let mut c = MatMut::new(&mut given, [m, n]).unwrap();
            pool.install(|| matmul.run_rayon(&mut c)).unwrap();
            assert_same_bits(&given, &wanted, format_args!("{m}x{n}x{k} on {threads}"));
        }
    }
}
