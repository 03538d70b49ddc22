//! f32 products: the shapes of a decoder's layers, and squares of every size.

use anyhow::Result;
use masktile::{Isa, MatMut, MatRef, Matmul, PackedB};

use super::oracle::{HALF_ULP, Number};
use super::{How, Operation, Problem, Series, Unit, Work, Worst, floats, sizes};
use crate::buffer::Buffer;
use crate::masks;

/// B as it lies.
pub const MATMUL: Operation = Operation {
    name: "matmul",
    family: "matmul",
    dtype: "f32",
    form: "m x k x n, with a t behind it where B is stored n x k",
    unit: Unit::Gflops,
    threaded: true,
    masks: &[masks::Kind::None],
    shapes: &[
        "32x32x32",
        "64x64x64",
        "128x128x128",
        "256x256x256",
        "512x512x512",
        "1024x1024x1024",
        "2048x2048x2048",
        "127x129x131",
        "1x4096x4096",
        "1x4096x4096t",
        "4x4096x4096t",
        "16x1024x4096t",
        "128x768x768t",
        "128x768x3072t",
        "512x64x512t",
        "512x512x64",
    ],
    quick: &["64x64x64", "256x256x256", "1x1024x1024t", "64x256x768t"],
    verify: &["1x1x1", "13x77x19", "1x300x70t", "67x129x35", "67x129x35t", "5x600x33"],
    series: Series { label: "m = k = n", at: square },
    check: |shape| Dims::parse(shape).map(drop),
    problem: |shape, _| Ok(Box::new(Product::new(Dims::parse(shape)?, false))),
};

/// B packed before.
pub const PACKED: Operation = Operation {
    name: "matmul_packed",
    shapes: &[
        "64x64x64",
        "256x256x256",
        "512x512x512",
        "1024x1024x1024",
        "1x4096x4096",
        "4x4096x4096",
        "16x1024x4096",
        "128x768x3072",
    ],
    quick: &["256x256x256", "64x256x768"],
    verify: &["1x1x1", "13x77x19", "67x129x35t", "5x600x33"],
    problem: |shape, _| Ok(Box::new(Product::new(Dims::parse(shape)?, true))),
    ..MATMUL
};

/// An m x k by k x n product.
#[derive(Clone, Copy)]
pub(super) struct Dims {
    pub m: usize,
    pub k: usize,
    pub n: usize,
    /// B is stored n x k, as frameworks store a weight (out x in) and attention its keys.
    pub transposed: bool,
}

impl Dims {
    pub fn parse(shape: &str) -> Result<Self> {
        let plain = shape.strip_suffix('t');
        let [m, k, n] = sizes(plain.unwrap_or(shape), MATMUL.form)?;
        floats(shape, [&[m, k], &[k, n], &[m, n]])?;
        Ok(Dims { m, k, n, transposed: plain.is_some() })
    }

    /// Steps in memory to the next row and the next column of B.
    pub fn b_strides(self) -> [usize; 2] {
        if self.transposed { [1, self.k] } else { [self.n, 1] }
    }

    /// The greatest error of a product of `a` by `b`, each an element of two indices.
    pub fn worst(
        self,
        out: &[f32],
        a: impl Fn(usize, usize) -> f64,
        b: impl Fn(usize, usize) -> f64,
    ) -> Worst {
        let places = (0..self.m).flat_map(|i| (0..self.n).map(move |j| (i, j)));
        Worst::of(places.zip(out).map(|((i, j), given)| {
            let (wanted, scale) = (0..self.k).fold((0.0, 0.0), |(sum, magnitude), p| {
                let term = a(i, p) * b(p, j);
                (sum + term, magnitude + term.abs())
            });
            Number { given: *given, wanted, scale, bound: (self.k + 3) as f64 * HALF_ULP }
        }))
    }
}

fn square(shape: &str) -> Option<f64> {
    let Dims { m, k, n, transposed } = Dims::parse(shape).ok()?;
    (m == k && k == n && !transposed).then_some(n as f64)
}

struct Product {
    dims: Dims,
    a: Buffer,
    b: Buffer,
    /// B in the form of each instruction set; empty where B is used as it lies.
    packed: Vec<(Isa, Buffer)>,
}

impl Product {
    fn new(dims: Dims, packed: bool) -> Self {
        let Dims { m, k, n, .. } = dims;
        let (a, b) = (Buffer::random(m * k, 1), Buffer::random(k * n, 2));
        let mut product = Product { dims, a, b, packed: Vec::new() };
        if packed {
            product.packed = Isa::available().map(|isa| (isa, product.packed_for(isa))).collect();
        }
        product
    }

    fn b(&self) -> masktile::Result<MatRef<'_>> {
        let Dims { k, n, .. } = self.dims;
        MatRef::with_strides(&self.b, [k, n], self.dims.b_strides())
    }

    fn packed_for(&self, isa: Isa) -> Buffer {
        let mut memory = Buffer::filled(0.0, PackedB::len(self.dims.k, self.dims.n));
        let packed = self.b().and_then(|b| PackedB::pack_for(isa, b, &mut memory).map(drop));
        packed.expect("the memory is as long as asked");
        memory
    }
}

impl Problem for Product {
    fn work(&self) -> Work {
        let Dims { m, k, n, .. } = self.dims;
        Work::f32(2 * m * k * n, m * k + k * n + m * n)
    }

    fn outputs(&self) -> usize {
        self.dims.m * self.dims.n
    }

    fn run(&self, how: How, out: &mut [f32], workspace: &mut [f32]) -> masktile::Result<()> {
        let Dims { m, k, n, .. } = self.dims;
        let a = MatRef::new(&self.a, [m, k])?;
        let product = match self.packed.iter().find(|(isa, _)| *isa == how.isa) {
            Some((_, memory)) => Matmul::packed(a, PackedB::from_memory(memory)?),
            None => Matmul::new(a, self.b()?),
        };
        let product = product.isa(how.isa);
        let mut c = MatMut::new(out, [m, n])?;
        if how.threaded { product.run_rayon(&mut c) } else { product.run(&mut c, workspace) }
    }

    fn worst(&self, out: &[f32]) -> masktile::Result<Worst> {
        let [b_row, b_column] = self.dims.b_strides();
        let a = |i: usize, p: usize| f64::from(self.a[i * self.dims.k + p]);
        let b = |p: usize, j: usize| f64::from(self.b[p * b_row + j * b_column]);
        Ok(self.dims.worst(out, a, b))
    }
}
