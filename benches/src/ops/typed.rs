//! Products with weights of other types than f32: halves, and blocks of few bits. C is of f32.

use anyhow::Result;
use bytemuck::Pod;
use masktile::quantised::{Q4_0, Q8_0, Quantised};
use masktile::{MatMut, MatRef, Matmul, Number, bf16, f16};

use super::matmul::{Dims, MATMUL};
use super::{How, Operation, Problem, Work, Worst};
use crate::buffer::{Buffer, numbers};

/// A, B of halves.
pub const F16: Operation = Operation {
    name: "matmul_f16",
    dtype: "f16",
    shapes: SHAPES,
    quick: &["64x256x768t", "1x1024x1024t"],
    problem: |shape, _| Ok(Box::new(Halves::<f16>::new(Dims::parse(shape)?))),
    ..MATMUL
};

/// A, B of bfloat16.
pub const BF16: Operation = Operation {
    name: "matmul_bf16",
    dtype: "bf16",
    problem: |shape, _| Ok(Box::new(Halves::<bf16>::new(Dims::parse(shape)?))),
    ..F16
};

/// A of f32, B in blocks of eight bits.
pub const Q8: Operation = Operation {
    name: "matmul_q8_0",
    dtype: "q8_0",
    form: "m x k x n with a t behind it, for B is stored n x k; k is a multiple of 32",
    shapes: &["1x4096x4096t", "4x4096x4096t", "16x1024x4096t", "128x768x3072t"],
    quick: &["1x1024x1024t"],
    verify: &["1x32x70t", "13x96x19t", "67x1056x35t"],
    check: |shape| in_blocks(shape).map(drop),
    problem: |shape, _| Ok(Box::new(Blocks::new(in_blocks(shape)?, Format::Q8_0))),
    ..MATMUL
};

/// A of f32, B in blocks of four bits.
pub const Q4: Operation = Operation {
    name: "matmul_q4_0",
    dtype: "q4_0",
    problem: |shape, _| Ok(Box::new(Blocks::new(in_blocks(shape)?, Format::Q4_0))),
    ..Q8
};

const SHAPES: &[&str] = &[
    "256x256x256",
    "1024x1024x1024",
    "1x4096x4096",
    "1x4096x4096t",
    "4x4096x4096t",
    "16x1024x4096t",
    "128x768x3072t",
];

/// A product of numbers of `T`, which the buffers hold.
struct Halves<T> {
    dims: Dims,
    a: Buffer,
    b: Buffer,
    of: std::marker::PhantomData<T>,
}

impl<T: Number + Pod> Halves<T> {
    fn new(dims: Dims) -> Self {
        let rounded = |len: usize, seed| {
            let mut buffer = Buffer::filled(0.0, len.div_ceil(size_of::<f32>() / size_of::<T>()));
            let numbers = numbers(len, seed);
            let halves = bytemuck::cast_slice_mut::<f32, T>(&mut buffer).iter_mut();
            halves.zip(numbers).for_each(|(half, x)| *half = T::from_f32(x));
            buffer
        };
        let Dims { m, k, n, .. } = dims;
        Halves { dims, a: rounded(m * k, 1), b: rounded(k * n, 2), of: std::marker::PhantomData }
    }

    fn operands(&self) -> masktile::Result<[MatRef<'_, T>; 2]> {
        let Dims { m, k, n, .. } = self.dims;
        let (a, b) = (bytemuck::cast_slice(&self.a), bytemuck::cast_slice(&self.b));
        Ok([MatRef::new(a, [m, k])?, MatRef::with_strides(b, [k, n], self.dims.b_strides())?])
    }
}

impl<T: Number + Pod> Problem for Halves<T> {
    fn work(&self) -> Work {
        let Dims { m, k, n, .. } = self.dims;
        let bytes = (m * k + k * n) * size_of::<T>() + m * n * size_of::<f32>();
        Work { flops: (2 * m * k * n) as f64, bytes: bytes as f64 }
    }

    fn outputs(&self) -> usize {
        self.dims.m * self.dims.n
    }

    fn run(&self, how: How, out: &mut [f32], workspace: &mut [f32]) -> masktile::Result<()> {
        let [a, b] = self.operands()?;
        let product = Matmul::new(a, b).isa(how.isa);
        let mut c = MatMut::new(out, [self.dims.m, self.dims.n])?;
        if how.threaded { product.run_rayon(&mut c) } else { product.run(&mut c, workspace) }
    }

    fn worst(&self, out: &[f32]) -> masktile::Result<Worst> {
        let [a, b] = self.operands()?;
        let of = |view: MatRef<'_, T>, at| view.get(at).map_or(f64::NAN, |x| f64::from(x.to_f32()));
        Ok(self.dims.worst(out, |i, p| of(a, [i, p]), |p, j| of(b, [p, j])))
    }
}

/// Such dimensions as have whole blocks along k.
fn in_blocks(shape: &str) -> Result<Dims> {
    let dims = Dims::parse(shape)?;
    anyhow::ensure!(
        dims.transposed && dims.k.is_multiple_of(32),
        "shape: given \"{shape}\", wanted {}",
        Q8.form
    );
    Ok(dims)
}

#[derive(Clone, Copy)]
enum Format {
    Q8_0,
    Q4_0,
}

/// A product with a weight in blocks, which a buffer holds.
struct Blocks {
    dims: Dims,
    format: Format,
    a: Buffer,
    b: Buffer,
    /// Bytes of B.
    len: usize,
}

impl Blocks {
    fn new(dims: Dims, format: Format) -> Self {
        let Dims { m, k, n, .. } = dims;
        let len = match format {
            Format::Q8_0 => Q8_0::len([n, k]),
            Format::Q4_0 => Q4_0::len([n, k]),
        };
        let mut b = Buffer::filled(0.0, len.div_ceil(size_of::<f32>()));
        let weight = numbers(n * k, 2);
        let memory = bytemuck::cast_slice_mut(&mut b);
        let quantised = MatRef::new(&weight, [n, k]).and_then(|weight| match format {
            Format::Q8_0 => Q8_0::quantise(weight, memory).map(drop),
            Format::Q4_0 => Q4_0::quantise(weight, memory).map(drop),
        });
        quantised.expect("the memory is as long as asked, and the shape was checked");
        Blocks { dims, format, a: Buffer::random(m * k, 1), b, len }
    }

    fn weight(&self) -> masktile::Result<Quantised<'_>> {
        let (data, shape) = (bytemuck::cast_slice(&self.b), [self.dims.n, self.dims.k]);
        Ok(match self.format {
            Format::Q8_0 => Q8_0::new(data, shape)?.into(),
            Format::Q4_0 => Q4_0::new(data, shape)?.into(),
        })
    }
}

impl Problem for Blocks {
    fn work(&self) -> Work {
        let Dims { m, k, n, .. } = self.dims;
        let bytes = (m * k + m * n) * size_of::<f32>() + self.len;
        Work { flops: (2 * m * k * n) as f64, bytes: bytes as f64 }
    }

    fn outputs(&self) -> usize {
        self.dims.m * self.dims.n
    }

    fn run(&self, how: How, out: &mut [f32], workspace: &mut [f32]) -> masktile::Result<()> {
        let Dims { m, k, n, .. } = self.dims;
        let product = Matmul::quantised(MatRef::new(&self.a, [m, k])?, self.weight()?).isa(how.isa);
        let mut c = MatMut::new(out, [m, n])?;
        if how.threaded { product.run_rayon(&mut c) } else { product.run(&mut c, workspace) }
    }

    fn worst(&self, out: &[f32]) -> masktile::Result<Worst> {
        let (k, weight) = (self.dims.k, self.weight()?);
        let of = |p, j| weight.get([j, p]).map_or(f64::NAN, f64::from);
        Ok(self.dims.worst(out, |i, p| f64::from(self.a[i * k + p]), of))
    }
}
