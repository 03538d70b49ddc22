//! Masked attention: prefill, decoding against a cache, and heads that share keys and values.

use anyhow::{Context, Result};
use masktile::{Attention, TensorMut, TensorRef};

use super::oracle::{HALF_ULP, Number, softmax_row};
use super::{How, Operation, Problem, Series, Unit, Work, Worst, floats, sizes};
use crate::buffer::Buffer;
use crate::masks::{Kind, Material};

/// With every kind of mask.
pub const ATTENTION: Operation = Operation {
    name: "attention",
    family: "attention",
    dtype: "f32",
    form: "heads[/kv_heads] x queries x keys x dim",
    unit: Unit::Gflops,
    threaded: true,
    masks: &[Kind::None, Kind::Causal, Kind::Lengths, Kind::Bool, Kind::Bias],
    shapes: &[
        "8x64x64x64",
        "8x128x128x64",
        "8x256x256x64",
        "8x512x512x64",
        "8x1024x1024x64",
        "4x512x512x128",
        "32/8x1x4096x128",
        "12x1x1024x64",
    ],
    quick: &["4x128x128x64", "4/1x1x512x64"],
    verify: &["1x1x1x1", "2x7x37x19", "4/2x33x300x16", "4/1x1x600x64"],
    series: Series { label: "tokens, 8 heads of 64", at: tokens },
    check: |shape| Dims::parse(shape).map(drop),
    problem: |shape, mask| Ok(Box::new(Heads::new(Dims::parse(shape)?, mask))),
};

#[derive(Clone, Copy)]
struct Dims {
    heads: usize,
    kv_heads: usize,
    queries: usize,
    keys: usize,
    dim: usize,
}

impl Dims {
    fn parse(shape: &str) -> Result<Self> {
        let (heads, rest) = shape.split_once('x').unwrap_or((shape, ""));
        let (heads, kv_heads) = heads.split_once('/').unwrap_or((heads, heads));
        let all = format!("{heads}x{kv_heads}x{rest}");
        let [heads, kv_heads, queries, keys, dim] = sizes(&all, ATTENTION.form)
            .ok()
            .filter(|[heads, kv_heads, ..]: &[usize; 5]| heads.is_multiple_of(*kv_heads))
            .with_context(|| format!("shape: given \"{shape}\", wanted {}", ATTENTION.form))?;
        // The scores too, for a mask may have as many numbers.
        floats(
            shape,
            [&[2, heads, queries, dim], &[2, kv_heads, keys, dim], &[heads, queries, keys]],
        )?;
        Ok(Dims { heads, kv_heads, queries, keys, dim })
    }
}

fn tokens(shape: &str) -> Option<f64> {
    let Dims { heads, kv_heads, queries, keys, dim } = Dims::parse(shape).ok()?;
    (heads == 8 && kv_heads == 8 && queries == keys && dim == 64).then_some(keys as f64)
}

struct Heads {
    dims: Dims,
    q: Buffer,
    k: Buffer,
    v: Buffer,
    material: Material,
}

impl Heads {
    fn new(dims: Dims, mask: Kind) -> Self {
        let Dims { heads, kv_heads, queries, keys, dim } = dims;
        Heads {
            dims,
            q: Buffer::random(heads * queries * dim, 4),
            k: Buffer::random(kv_heads * keys * dim, 5),
            v: Buffer::random(kv_heads * keys * dim, 6),
            material: Material::new(mask, [1, heads, queries, keys]),
        }
    }

    /// Output of one row by the formula, and the greatest sum of the magnitudes of a score's terms.
    fn row(&self, row: usize) -> masktile::Result<(Vec<f64>, f64)> {
        let Dims { heads, kv_heads, queries, keys, dim } = self.dims;
        let kv = row / queries / (heads / kv_heads);
        let q = &self.q[row * dim..][..dim];
        let scale = 1.0 / (dim as f64).sqrt();
        let mut magnitude: f64 = 0.0;
        let mut scores = Vec::with_capacity(keys);
        for j in 0..keys {
            let bias = self.material.bias(row, j)?;
            scores.push(bias.map(|bias| {
                let k = &self.k[(kv * keys + j) * dim..][..dim];
                let terms = q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k));
                magnitude = magnitude.max(terms.clone().map(f64::abs).sum::<f64>() * scale);
                terms.sum::<f64>() * scale + f64::from(bias)
            }));
        }
        let mut out = vec![0.0; dim];
        for (j, prob) in softmax_row(&scores).into_iter().enumerate() {
            let v = &self.v[(kv * keys + j) * dim..][..dim];
            out.iter_mut().zip(v).for_each(|(out, v)| *out += prob * f64::from(*v));
        }
        Ok((out, magnitude))
    }
}

impl Problem for Heads {
    fn work(&self) -> Work {
        let Dims { heads, kv_heads, queries, keys, dim } = self.dims;
        let flops = 4 * heads * queries * keys * dim;
        Work::f32(flops, 2 * (heads * queries + kv_heads * keys) * dim)
    }

    fn outputs(&self) -> usize {
        self.q.len()
    }

    fn run(&self, how: How, out: &mut [f32], workspace: &mut [f32]) -> masktile::Result<()> {
        let Dims { heads, kv_heads, queries, keys, dim } = self.dims;
        let (tokens, cache) = ([1, heads, queries, dim], [1, kv_heads, keys, dim]);
        let attention = Attention::new(
            TensorRef::new(&self.q, tokens)?,
            TensorRef::new(&self.k, cache)?,
            TensorRef::new(&self.v, cache)?,
        );
        let attention = attention.mask(self.material.mask()?).isa(how.isa);
        let mut out = TensorMut::new(out, tokens)?;
        if how.threaded {
            attention.run_rayon(&mut out)
        } else {
            attention.run(&mut out, workspace)
        }
    }

    fn worst(&self, out: &[f32]) -> masktile::Result<Worst> {
        let greatest = self.v.iter().fold(0f32, |most, v| most.max(v.abs()));
        let mut worst = Worst::of([]);
        for (row, given) in out.chunks(self.dims.dim).enumerate() {
            let (wanted, magnitude) = self.row(row)?;
            let bound = (16.0 + 4.0 * magnitude) * HALF_ULP;
            let numbers = given.iter().zip(wanted).map(|(given, wanted)| Number {
                given: *given,
                wanted,
                scale: f64::from(greatest),
                bound,
            });
            worst = worst.max(Worst::of(numbers));
        }
        Ok(worst)
    }
}
