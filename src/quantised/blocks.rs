//! Blocks of 32 weights and one scale, as ggml lays them out.

use core::fmt;
use core::marker::PhantomData;

use half::f16;
use masktile_kernels::gemm;

use super::{block_count, weights};
use crate::Result;
use crate::error::{Error, ErrorKind, long_enough};
use crate::number::Number;
use crate::view::MatRef;

/// Weights of a block.
const BLOCK: usize = 32;

/// A weight in blocks, out x in: row by row, a row's blocks one behind the other, of any alignment.
pub struct Blocks<'a, F> {
    data: &'a [u8],
    shape: [usize; 2],
    format: PhantomData<F>,
}

/// ggml's `Q8_0`: a block is an f16 `scale` (little-endian, as the codes' order is) and 32 signed bytes;
/// a weight is `code * scale`.
///
/// ```
/// use masktile::quantised::Q8_0;
/// use masktile::{MatMut, MatRef, Matmul, Workspace};
///
/// let weight: [f32; 64] = std::array::from_fn(|i| i as f32 - 31.0);    // 2 out x 32 in
/// let mut memory = [0; Q8_0::len([2, 32])];
/// let weight = Q8_0::quantise(MatRef::new(&weight, [2, 32])?, &mut memory)?;
///
/// let (x, mut y) = ([1.0; 32], [0.0; 2]);
/// Matmul::quantised(MatRef::new(&x, [1, 32])?, weight)
///     .run(&mut MatMut::new(&mut y, [1, 2])?, &mut Workspace::new())?;
/// assert!((y[0] + 496.0).abs() < 2.0 && (y[1] - 528.0).abs() < 2.0);
/// # Ok::<(), masktile::Error>(())
/// ```
pub type Q8_0<'a> = Blocks<'a, Q8_0Block>;

/// ggml's `Q4_0`: a block is an f16 `scale` and 16 bytes, code `i` in the lower half of byte `i` and code
/// `16 + i` in the upper; a weight is `(code - 8) * scale`.
pub type Q4_0<'a> = Blocks<'a, Q4_0Block>;

/// The format of [`Q8_0`].
#[derive(Clone, Copy, Debug)]
pub enum Q8_0Block {}

/// The format of [`Q4_0`].
#[derive(Clone, Copy, Debug)]
pub enum Q4_0Block {}

/// A format of [`Blocks`].
pub trait BlockFormat: Copy + sealed::Format {
    /// Bytes of a block.
    const BYTES: usize;
}

mod sealed {
    pub trait Format {
        /// Writes a block.
        fn encode(weights: &[f32; super::BLOCK], block: &mut [u8]);
        /// Weight `i` of a block.
        fn decode(block: &[u8], i: usize) -> f32;
        /// The rows from `data` on, of so many blocks.
        fn kernel(data: *const u8, blocks: usize) -> super::gemm::Quantised;
    }
}

impl BlockFormat for Q8_0Block {
    const BYTES: usize = gemm::Q8_0::BYTES;
}

impl BlockFormat for Q4_0Block {
    const BYTES: usize = gemm::Q4_0::BYTES;
}

/// Splits a block into its scale and its codes.
fn scale_and_codes(block: &[u8]) -> (f32, &[u8]) {
    block
        .split_first_chunk()
        .map_or((0.0, &[]), |(scale, codes)| (f16::from_le_bytes(*scale).to_f32(), codes))
}

/// The inverse of a scale; of zero, zero.
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

impl sealed::Format for Q8_0Block {
    fn encode(weights: &[f32; BLOCK], block: &mut [u8]) {
        let greatest = weights.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
        let scale = greatest / 127.0;
        let factor = inverse(scale);
        if let Some((head, codes)) = block.split_first_chunk_mut() {
            *head = f16::from_f32(scale).to_le_bytes();
            for (code, x) in codes.iter_mut().zip(weights) {
                *code = libm::roundf(x * factor) as i8 as u8;
            }
        }
    }

    fn decode(block: &[u8], i: usize) -> f32 {
        let (scale, codes) = scale_and_codes(block);
        codes.get(i).map_or(0.0, |code| f32::from(*code as i8) * scale)
    }

    fn kernel(data: *const u8, blocks: usize) -> gemm::Quantised {
        gemm::Quantised::Q8_0(gemm::Q8_0 { data, blocks })
    }
}

impl sealed::Format for Q4_0Block {
    fn encode(weights: &[f32; BLOCK], block: &mut [u8]) {
        // The weight of the greatest magnitude becomes code 0, which is 8 from the code for zero;
        // of two alike the first.
        let farthest =
            weights.iter().fold(0.0, |far: f32, x| if x.abs() > far.abs() { *x } else { far });
        let scale = farthest / -8.0;
        let factor = inverse(scale);
        let code = |x: &f32| ((x * factor + 8.5) as u8).min(15);
        if let Some((head, codes)) = block.split_first_chunk_mut() {
            *head = f16::from_f32(scale).to_le_bytes();
            let (low, high) = weights.split_at(BLOCK / 2);
            for ((byte, low), high) in codes.iter_mut().zip(low).zip(high) {
                *byte = code(low) | code(high) << 4;
            }
        }
    }

    fn decode(block: &[u8], i: usize) -> f32 {
        let (scale, codes) = scale_and_codes(block);
        codes.get(i % (BLOCK / 2)).map_or(0.0, |byte| {
            let code = if i < BLOCK / 2 { byte & 15 } else { byte >> 4 };
            (f32::from(code) - 8.0) * scale
        })
    }

    fn kernel(data: *const u8, blocks: usize) -> gemm::Quantised {
        gemm::Quantised::Q4_0(gemm::Q4_0 { data, blocks })
    }
}

impl<F> Clone for Blocks<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Blocks<'_, F> {}

impl<F> fmt::Debug for Blocks<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocks").field("shape", &self.shape).finish_non_exhaustive()
    }
}

impl<'a, F: BlockFormat> Blocks<'a, F> {
    /// Bytes of an out x in weight, whose columns are a multiple of 32.
    #[allow(clippy::len_without_is_empty, reason = "a length to allocate, of no one's contents")]
    pub const fn len([rows, columns]: [usize; 2]) -> usize {
        rows.saturating_mul(columns / BLOCK).saturating_mul(F::BYTES)
    }

    /// The out x in weight that `data` holds, as a GGUF file has it.
    ///
    /// # Errors
    /// If the columns are no multiple of 32, or `data` is shorter than [`Blocks::len`].
    pub fn new(data: &'a [u8], shape: [usize; 2]) -> Result<Self> {
        check::<F>(data.len(), shape)?;
        Ok(Blocks { data, shape, format: PhantomData })
    }

    /// Quantises `weight`, out x in, into `data`, with the codes of ggml's reference.
    ///
    /// With `a` the greatest magnitude of a block, no weight is off by more than `a / 226` in
    /// [`Q8_0`], nor more than `a / 7.9` in [`Q4_0`], where only weights near the end opposite to `a`
    /// are off by more than `a / 15.8`. That is for `a` between 0.01 and 500,000: the scale is an f16.
    ///
    /// # Errors
    /// If the columns are no multiple of 32, or `data` is shorter than [`Blocks::len`].
    pub fn quantise<T: Number>(weight: MatRef<'_, T>, data: &'a mut [u8]) -> Result<Self> {
        let shape = weight.shape();
        check::<F>(data.len(), shape)?;
        let blocks = shape[1] / BLOCK;
        for (index, block) in
            data.chunks_mut(F::BYTES).take(Self::len(shape) / F::BYTES).enumerate()
        {
            let (row, at) = (index.checked_div(blocks), index.checked_rem(blocks));
            if let (Some(row), Some(at)) = (row, at) {
                F::encode(&weights(&weight, row, at * BLOCK), block);
            }
        }
        Ok(Blocks { data, shape, format: PhantomData })
    }

    /// out x in
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The weight at `index`, if there is one: a float, exactly as products take it.
    pub fn get(&self, [row, column]: [usize; 2]) -> Option<f32> {
        let [rows, columns] = self.shape;
        if row >= rows || column >= columns {
            return None;
        }
        let first = (row * (columns / BLOCK) + column / BLOCK) * F::BYTES;
        let block = self.data.get(first..first + F::BYTES)?;
        Some(F::decode(block, column % BLOCK))
    }

    pub(super) fn kernel(&self) -> gemm::Quantised {
        F::kernel(self.data.as_ptr(), self.shape[1] / BLOCK)
    }
}

/// An error unless so many bytes hold a weight of the shape.
fn check<F: BlockFormat>(len: usize, shape: [usize; 2]) -> Result<()> {
    let bytes = block_count(shape, BLOCK)?.checked_mul(F::BYTES);
    long_enough("data", len, bytes.ok_or(Error::new("shape", ErrorKind::Overflow))?)
}
