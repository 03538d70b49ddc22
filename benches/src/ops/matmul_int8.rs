//! i8 products, the results scaled to f32, as a quantised layer of a model is computed.

use masktile::int8::Scales;
use masktile::{Isa, MatMut, MatRef, MatmulInt8, PackedInt8};

use super::matmul::{Dims, MATMUL};
use super::oracle::{HALF_ULP, Number};
use super::{How, Operation, Problem, Work, Worst};
use crate::buffer::Buffer;

/// B as it lies.
pub const MATMUL_INT8: Operation = Operation {
    name: "matmul_int8",
    dtype: "i8",
    shapes: &[
        "256x256x256",
        "1024x1024x1024",
        "1x4096x4096",
        "1x4096x4096t",
        "4x4096x4096t",
        "16x1024x4096t",
        "128x768x3072t",
    ],
    quick: &["256x256x256", "1x1024x1024t", "64x256x768t"],
    problem: |shape, _| Ok(Box::new(Product::new(Dims::parse(shape)?, false))),
    ..MATMUL
};

/// B packed before.
pub const PACKED: Operation = Operation {
    name: "matmul_int8_packed",
    shapes: &["1024x1024x1024", "1x4096x4096", "16x1024x4096", "128x768x3072"],
    quick: &["256x256x256", "64x256x768"],
    verify: &["1x1x1", "13x77x19", "67x129x35t", "5x600x33"],
    problem: |shape, _| Ok(Box::new(Product::new(Dims::parse(shape)?, true))),
    ..MATMUL_INT8
};

/// What a sum is multiplied by: no rounding but that of the sum itself.
const SCALE: f32 = 1.0 / 4096.0;

/// Bytes in the memory of floats, which starts at a cache line.
struct Bytes {
    memory: Buffer,
    len: usize,
}

impl Bytes {
    fn random(len: usize, seed: u64) -> Self {
        let mut memory = Buffer::random(len.div_ceil(4), seed);
        // The high bytes of a float's fraction look random; its exponent does not.
        for word in bytemuck::cast_slice_mut::<f32, u32>(&mut memory) {
            *word = word.wrapping_mul(0x9e37_79b1) ^ word.rotate_left(16);
        }
        Bytes { memory, len }
    }

    fn as_slice(&self) -> &[i8] {
        &bytemuck::cast_slice(&self.memory)[..self.len]
    }
}

struct Product {
    dims: Dims,
    a: Bytes,
    b: Bytes,
    /// B in the form of each instruction set; empty where B is used as it lies.
    packed: Vec<(Isa, Buffer)>,
}

impl Product {
    fn new(dims: Dims, packed: bool) -> Self {
        let Dims { m, k, n, .. } = dims;
        let (a, b) = (Bytes::random(m * k, 1), Bytes::random(k * n, 2));
        let mut product = Product { dims, a, b, packed: Vec::new() };
        if packed {
            product.packed = Isa::available().map(|isa| (isa, product.packed_for(isa))).collect();
        }
        product
    }

    fn b(&self) -> masktile::Result<MatRef<'_, i8>> {
        let Dims { k, n, .. } = self.dims;
        MatRef::with_strides(self.b.as_slice(), [k, n], self.dims.b_strides())
    }

    fn packed_for(&self, isa: Isa) -> Buffer {
        let mut memory = Buffer::filled(0.0, PackedInt8::len(self.dims.k, self.dims.n));
        let words = bytemuck::cast_slice_mut(&mut memory);
        let packed = self.b().and_then(|b| PackedInt8::pack_for(isa, b, words).map(drop));
        packed.expect("the memory is as long as asked");
        memory
    }
}

impl Problem for Product {
    fn work(&self) -> Work {
        let Dims { m, k, n, .. } = self.dims;
        let bytes = m * k + k * n + m * n * size_of::<f32>();
        Work { flops: (2 * m * k * n) as f64, bytes: bytes as f64 }
    }

    fn outputs(&self) -> usize {
        self.dims.m * self.dims.n
    }

    fn run(&self, how: How, out: &mut [f32], workspace: &mut [f32]) -> masktile::Result<()> {
        let Dims { m, k, n, .. } = self.dims;
        let a = MatRef::new(self.a.as_slice(), [m, k])?;
        let product = match self.packed.iter().find(|(isa, _)| *isa == how.isa) {
            Some((_, memory)) => {
                MatmulInt8::packed(a, PackedInt8::from_memory(bytemuck::cast_slice(memory))?)
            }
            None => MatmulInt8::new(a, self.b()?),
        };
        let product = product.isa(how.isa).dequantized(Scales::Same(SCALE));
        let mut c = MatMut::new(out, [m, n])?;
        if how.threaded { product.run_rayon(&mut c) } else { product.run(&mut c, workspace) }
    }

    fn worst(&self, out: &[f32]) -> masktile::Result<Worst> {
        let Dims { m, k, n, .. } = self.dims;
        let ([b_row, b_column], a, b) =
            (self.dims.b_strides(), self.a.as_slice(), self.b.as_slice());
        let places = (0..m).flat_map(|i| (0..n).map(move |j| (i, j)));
        Ok(Worst::of(places.zip(out).map(|((i, j), given)| {
            let term = |p: usize| i64::from(a[i * k + p]) * i64::from(b[p * b_row + j * b_column]);
            let wanted = (0..k).map(term).sum::<i64>() as f64 * f64::from(SCALE);
            Number { given: *given, wanted, scale: wanted.abs(), bound: HALF_ULP }
        })))
    }
}
