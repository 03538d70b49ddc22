//! Masked softmax of scores.

use anyhow::Result;
use masktile::{Softmax, TensorMut, TensorRef};

use super::oracle::{HALF_ULP, Number, greatest, softmax_row};
use super::{How, Operation, Problem, Series, Unit, Work, Worst, floats, sizes};
use crate::buffer::Buffer;
use crate::masks::{Kind, Material};

/// With every kind of mask.
pub const SOFTMAX: Operation = Operation {
    name: "softmax",
    family: "softmax",
    dtype: "f32",
    form: "heads x queries x keys",
    unit: Unit::Gbps,
    threaded: false,
    masks: &[Kind::None, Kind::Causal, Kind::Lengths, Kind::Bool, Kind::Bias],
    shapes: &["1x512x64", "1x512x512", "1x512x2048", "1x512x8192", "32x1x4096"],
    quick: &["1x512x512"],
    verify: &["1x1x1", "2x7x37", "1x33x1100"],
    series: Series { label: "keys, of 512 queries", at: |shape| parse(shape).ok().and_then(keys) },
    check: |shape| parse(shape).map(drop),
    problem: |shape, mask| Ok(Box::new(Scores::new(parse(shape)?, mask))),
};

/// A product's nominal operations for a score: scaling, maximum, subtraction, sum and division,
/// and the 20 of the exponential.
const FLOPS: usize = 25;

fn parse(shape: &str) -> Result<[usize; 3]> {
    let sizes = sizes(shape, SOFTMAX.form)?;
    floats(shape, [&sizes, &sizes])?;
    Ok(sizes)
}

fn keys([heads, queries, keys]: [usize; 3]) -> Option<f64> {
    (heads == 1 && queries == 512).then_some(keys as f64)
}

struct Scores {
    /// batch, heads, queries, keys
    shape: [usize; 4],
    /// Spread over -8 .. 8.
    scores: Buffer,
    material: Material,
}

impl Scores {
    fn new([heads, queries, keys]: [usize; 3], mask: Kind) -> Self {
        let shape = [1, heads, queries, keys];
        let mut scores = Buffer::random(heads * queries * keys, 3);
        scores.iter_mut().for_each(|score| *score *= 8.0);
        Scores { shape, scores, material: Material::new(mask, shape) }
    }
}

impl Problem for Scores {
    fn work(&self) -> Work {
        Work::f32(FLOPS * self.scores.len(), 2 * self.scores.len())
    }

    fn outputs(&self) -> usize {
        self.scores.len()
    }

    fn run(&self, how: How, out: &mut [f32], _: &mut [f32]) -> masktile::Result<()> {
        let scores = TensorRef::new(&self.scores, self.shape)?;
        let softmax = Softmax::new().mask(self.material.mask()?).isa(how.isa);
        softmax.run(scores, TensorMut::new(out, self.shape)?)
    }

    fn worst(&self, out: &[f32]) -> masktile::Result<Worst> {
        let keys = self.shape[3];
        let mut worst = Worst::of([]);
        for (row, (scores, given)) in self.scores.chunks(keys).zip(out.chunks(keys)).enumerate() {
            // The sum of score and bias as the library rounds it: the bound is about what follows.
            let biased = scores.iter().enumerate().map(|(j, score)| {
                let bias = self.material.bias(row, j)?;
                Ok(bias.map(|bias| f64::from(score + bias)))
            });
            let biased = biased.collect::<masktile::Result<Vec<_>>>()?;
            let (probs, max) = (softmax_row(&biased), greatest(&biased));
            let numbers = given.iter().zip(&probs).zip(&biased).map(|((given, prob), score)| {
                let distance = score.map_or(0.0, |score| max - score);
                let bound = (4.0 + distance) * HALF_ULP;
                Number { given: *given, wanted: *prob, scale: *prob, bound }
            });
            worst = worst.max(Worst::of(numbers));
        }
        Ok(worst)
    }
}
