//! Weights of four or eight bits, as models are distributed, multiplied as they are: [`Matmul::quantised`]
//! turns them into floats in registers, so that few rows read the few bytes alone.
//!
//! | type | a weight | memory a weight | from |
//! | --- | --- | --- | --- |
//! | [`Q8_0`] | `code * scale`, blocks of 32 | 8.5 bits | ggml, GGUF |
//! | [`Q4_0`] | `(code - 8) * scale`, blocks of 32 | 4.5 bits | ggml, GGUF |
//! | [`Q4Groups`] | `(code - zero) * scale`, groups of 32, 64 or 128 | 4.75 to 4.19 bits | GPTQ, AWQ |
//!
//! All are out x in (a row holds the weights of one output, blocks lie along it), read-only views of
//! memory of yours. The result of a product has the bits of the product with the dequantised weight.
//!
//! [`Matmul::quantised`]: crate::Matmul::quantised

mod blocks;
mod groups;

#[doc(inline)]
pub use blocks::{BlockFormat, Blocks, Q4_0, Q4_0Block, Q8_0, Q8_0Block};
#[doc(inline)]
pub use groups::{Group, Q4Groups};
use masktile_kernels::gemm;

use crate::Result;
use crate::error::{Error, ErrorKind, same_shape};
use crate::number::Number;
use crate::view::{MatMut, MatRef};

/// A quantised weight of any format, out x in.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Quantised<'a> {
    /// Eight bits in blocks.
    Q8_0(Q8_0<'a>),
    /// Four bits in blocks.
    Q4_0(Q4_0<'a>),
    /// Four bits in groups.
    Q4Groups(Q4Groups<'a>),
}

impl<'a> From<Q8_0<'a>> for Quantised<'a> {
    fn from(weight: Q8_0<'a>) -> Self {
        Quantised::Q8_0(weight)
    }
}

impl<'a> From<Q4_0<'a>> for Quantised<'a> {
    fn from(weight: Q4_0<'a>) -> Self {
        Quantised::Q4_0(weight)
    }
}

impl<'a> From<Q4Groups<'a>> for Quantised<'a> {
    fn from(weight: Q4Groups<'a>) -> Self {
        Quantised::Q4Groups(weight)
    }
}

impl Quantised<'_> {
    /// out x in
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Quantised::Q8_0(weight) => weight.shape(),
            Quantised::Q4_0(weight) => weight.shape(),
            Quantised::Q4Groups(weight) => weight.shape(),
        }
    }

    /// The weight at `index`, if there is one: a float, exactly as products take it.
    pub fn get(&self, index: [usize; 2]) -> Option<f32> {
        match self {
            Quantised::Q8_0(weight) => weight.get(index),
            Quantised::Q4_0(weight) => weight.get(index),
            Quantised::Q4Groups(weight) => weight.get(index),
        }
    }

    /// Writes all weights as floats, out x in; halves are rounded.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn dequantise<T: Number>(&self, out: &mut MatMut<'_, T>) -> Result<()> {
        let [rows, columns] = self.shape();
        same_shape("out", ["rows", "columns"], out.shape(), [rows, columns])?;
        // Without a column the rows may be any.
        for i in 0..if columns == 0 { 0 } else { rows } {
            for j in 0..columns {
                if let (Some(place), Some(weight)) = (out.get_mut([i, j]), self.get([i, j])) {
                    *place = T::from_f32(weight);
                }
            }
        }
        Ok(())
    }

    /// As kernels take it.
    pub(crate) fn kernel(&self) -> gemm::Quantised {
        match self {
            Quantised::Q8_0(weight) => weight.kernel(),
            Quantised::Q4_0(weight) => weight.kernel(),
            Quantised::Q4Groups(weight) => weight.kernel(),
        }
    }
}

/// How many blocks of `block` weights an out x in weight has.
fn block_count([rows, columns]: [usize; 2], block: usize) -> Result<usize> {
    if !columns.is_multiple_of(block) {
        let kind = ErrorKind::Multiple { what: "columns", given: columns, of: block };
        return Err(Error::new("shape", kind));
    }
    // All weights must be countable, not their blocks alone.
    let weights = rows.checked_mul(columns).ok_or(Error::new("shape", ErrorKind::Overflow))?;
    Ok(weights / block)
}

/// `SIZE` weights from column `first` of row `row` on.
fn weights<T: Number, const SIZE: usize>(
    weight: &MatRef<'_, T>,
    row: usize,
    first: usize,
) -> [f32; SIZE] {
    core::array::from_fn(|i| weight.get([row, first + i]).map_or(0.0, |x| x.to_f32()))
}
