//! The masks that are measured: a kind is a name here, its material and its mask.

use std::fmt;

use clap::ValueEnum;
use masktile::{BoolMask, Causal, Mask, TensorRef};

use crate::buffer::Buffer;

/// A kind of mask.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Kind {
    /// Everything is kept
    None,
    /// No key later than the query; queries are the last tokens
    Causal,
    /// Three quarters of the keys: the rest is padding
    Lengths,
    /// A matrix of booleans, half of them kept
    Bool,
    /// Numbers added to the scores
    Bias,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_possible_value().map_or(Ok(()), |value| f.pad(value.get_name()))
    }
}

/// What a mask of one kind refers to, for scores of one shape.
pub struct Material {
    kind: Kind,
    /// batch, heads, queries, keys
    scores: [usize; 4],
    lengths: Vec<usize>,
    ones: Vec<u8>,
    bias: Buffer,
}

impl Material {
    /// Random where the kind asks for numbers.
    pub fn new(kind: Kind, scores: [usize; 4]) -> Self {
        let [batch, _, _, keys] = scores;
        let numbers = |wanted| {
            let len = if kind == wanted { scores.iter().product() } else { 0 };
            Buffer::random(len, 9)
        };
        Material {
            kind,
            scores,
            lengths: vec![keys - keys / 4; batch],
            ones: numbers(Kind::Bool).iter().map(|x| u8::from(*x > 0.0)).collect(),
            bias: numbers(Kind::Bias),
        }
    }

    /// The mask.
    ///
    /// # Errors
    /// Never, for the material is of its shape.
    pub fn mask(&self) -> masktile::Result<Mask<'_>> {
        Ok(match self.kind {
            Kind::None => Mask::None,
            Kind::Causal => Causal::bottom_right().into(),
            Kind::Lengths => Mask::KeyLengths(&self.lengths),
            Kind::Bool => BoolMask::ones_are_kept(TensorRef::new(&self.ones, self.scores)?).into(),
            Kind::Bias => Mask::Bias(TensorRef::new(&self.bias, self.scores)?),
        })
    }

    /// What is added to the score of key `j` of a row (counted through batches, heads and
    /// queries); none where it is masked.
    ///
    /// # Errors
    /// If there is no such row or key.
    pub fn bias(&self, row: usize, j: usize) -> masktile::Result<Option<f32>> {
        let [_, heads, queries, keys] = self.scores;
        let position = [row / (heads * queries), row / queries % heads, row % queries, j];
        let kept = self.mask()?.kept(self.scores, position)?;
        Ok(kept.then(|| self.bias.get(row * keys + j).copied().unwrap_or(0.0)))
    }
}
