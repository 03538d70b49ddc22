//! Attention over parts of the keys, merged: for a long cache split over threads, sockets or
//! machines (ring and sequence parallelism).

use masktile_kernels::attention as kernel;
use masktile_kernels::mask::Grid;

use super::KEY_BLOCK;
use crate::Result;
use crate::error::{Error, ErrorKind, long_enough, same, same_shape};
use crate::isa::{self, Isa};
use crate::softmax::{lse_pointer, row_count};
use crate::view::{TensorMut, TensorRef};

/// Floats for the key blocks of `rows` query rows (batch x heads x queries) and `keys` keys:
/// a maximum, a sum and `value_dim` numbers for each block.
pub const fn key_blocks_len(rows: usize, keys: usize, value_dim: usize) -> usize {
    let blocks = kernel::Blocks { count: keys.div_ceil(KEY_BLOCK), value_dim };
    rows.saturating_mul(blocks.row_len())
}

/// Key blocks that [`Attention::run_key_blocks`](super::Attention::run_key_blocks) wrote.
#[derive(Clone, Copy, Debug)]
pub struct KeyBlocks<'a> {
    /// Its `blocks`.
    pub blocks: &'a [f32],
    /// How many keys it had.
    pub keys: usize,
}

/// An output over a part of the keys.
#[derive(Clone, Copy, Debug)]
pub struct PartialOutput<'a> {
    /// batch x heads x queries x value_dim
    pub out: TensorRef<'a>,
    /// Its log-sum-exp, batch x heads x queries numbers.
    pub lse: &'a [f32],
}

/// Merges attention over parts of the keys into attention over all of them.
///
/// ```
/// use masktile::attention::{KeyBlocks, Merge, key_blocks_len, workspace_len};
/// use masktile::{Attention, TensorMut, TensorRef};
///
/// let (q, x): (Vec<f32>, Vec<f32>) = ((0..4).map(|i| i as f32).collect(), (0..1600).map(|i| (i as f32).sin()).collect());
/// let q = TensorRef::new(&q, [1, 1, 1, 4])?;
/// let x = TensorRef::new(&x, [1, 1, 400, 4])?;             // keys and values
/// let mut workspace = [0.0; workspace_len(1, 400, 4, 4)];
/// let (mut whole, mut merged) = ([0.0; 4], [0.0; 4]);
/// Attention::new(q, x, x).run(&mut TensorMut::new(&mut whole, [1, 1, 1, 4])?, &mut workspace)?;
///
/// // Two machines, the first with 256 keys, the second with the other 144.
/// let (mut a, mut b) = ([0.0; key_blocks_len(1, 256, 4)], [0.0; key_blocks_len(1, 144, 4)]);
/// for (blocks, first, keys) in [(&mut a, 0, 256), (&mut b, 256, 144)] {
///     let x = x.narrow(2, first, keys)?;
///     Attention::new(q, x, x).part_of(first, 400).run_key_blocks(blocks, &mut workspace)?;
/// }
/// Merge::blocks(&[KeyBlocks { blocks: &a, keys: 256 }, KeyBlocks { blocks: &b, keys: 144 }])
///     .run(&mut TensorMut::new(&mut merged, [1, 1, 1, 4])?)?;
/// assert_eq!(whole, merged);
/// # Ok::<(), masktile::Error>(())
/// ```
#[derive(Debug)]
pub struct Merge<'a> {
    parts: Parts<'a>,
    pub(super) sinks: Option<&'a [f32]>,
    pub(super) lse: Option<&'a mut [f32]>,
    pub(super) isa: Option<Isa>,
}

#[derive(Clone, Copy, Debug)]
enum Parts<'a> {
    Blocks(&'a [KeyBlocks<'a>]),
    Outputs(&'a [PartialOutput<'a>]),
}

impl<'a> Merge<'a> {
    /// Key blocks of consecutive parts, from the first keys to the last. All but the last have a
    /// multiple of [`KEY_BLOCK`] keys. The result has the bits of attention over all keys at once.
    pub fn blocks(parts: &'a [KeyBlocks<'a>]) -> Self {
        Self::of(Parts::Blocks(parts))
    }

    /// Outputs over any parts of the keys, each with its log-sum-exp, in any order (which rounding
    /// depends on): within `(8 + |lse|) * 2^-24` of the greatest value from the attention over all
    /// keys at once, beside what each part is off.
    pub fn outputs(parts: &'a [PartialOutput<'a>]) -> Self {
        Self::of(Parts::Outputs(parts))
    }

    fn of(parts: Parts<'a>) -> Self {
        Merge { parts, sinks: None, lse: None, isa: None }
    }

    /// A logit for each head that joins the softmax's sum and has no value.
    pub fn sinks(mut self, sinks: &'a [f32]) -> Self {
        self.sinks = Some(sinks);
        self
    }

    /// Where to write the log-sum-exp of each row's scores, batch x heads x queries numbers.
    pub fn log_sum_exp(mut self, lse: &'a mut [f32]) -> Self {
        self.lse = Some(lse);
        self
    }

    /// The instruction set to use; see [`isa`] for the default.
    pub fn isa(mut self, isa: Isa) -> Self {
        self.isa = Some(isa);
        self
    }

    /// Computes `out`, batch x heads x queries x value_dim.
    ///
    /// # Errors
    /// If sizes do not fit, or `MASKTILE_ISA` names no available instruction set; the outputs are
    /// untouched then.
    pub fn run(mut self, out: &mut TensorMut<'_>) -> Result<()> {
        let shape = out.shape();
        let rows = row_count(shape)?;
        if let Some(sinks) = self.sinks {
            same("sinks", "heads", sinks.len(), shape[1])?;
        }
        match self.parts {
            Parts::Blocks(parts) => check_blocks(parts, rows, shape[3])?,
            Parts::Outputs(parts) => check_outputs(parts, rows, shape)?,
        }
        let isa = isa::or_current(self.isa)?;
        if rows == 0 || (shape[3] == 0 && self.lse.is_none()) {
            // Without a number to write the other sizes may be any.
            return Ok(());
        }
        let lse = lse_pointer(&mut self.lse, rows)?;
        let strides = out.strides();
        let sinks = self.sinks.unwrap_or(&[]);
        let out = out.as_mut_ptr();
        match self.parts {
            Parts::Blocks(parts) => {
                let part = |i: usize| parts.get(i).map_or((&[][..], 0), part);
                let merge = kernel::MergeBlocks {
                    parts: parts.len(),
                    part: &part,
                    shape,
                    sinks,
                    out,
                    strides,
                    lse,
                };
                // SAFETY: each part was checked to hold its blocks for each row; the outputs,
                // borrowed mutably, overlap nothing, and their elements are distinct.
                unsafe { kernel::merge_blocks(isa, &merge) }
            }
            Parts::Outputs(parts) => {
                let part = |i: usize| parts.get(i).map_or(NO_OUTPUT, output);
                let merge = kernel::MergeOutputs {
                    parts: parts.len(),
                    part: &part,
                    shape,
                    sinks,
                    out,
                    strides,
                    lse,
                };
                // SAFETY: as above.
                unsafe { kernel::merge_outputs(isa, &merge) }
            }
        }
        Ok(())
    }
}

/// What stands behind the last part; nobody asks.
const NO_OUTPUT: (Grid<f32>, *const f32) =
    (Grid { data: core::ptr::null(), strides: [0; 4] }, core::ptr::null());

fn part<'a>(part: &KeyBlocks<'a>) -> (&'a [f32], usize) {
    (part.blocks, part.keys.div_ceil(KEY_BLOCK))
}

fn output(part: &PartialOutput<'_>) -> (Grid<f32>, *const f32) {
    (Grid { data: part.out.as_ptr(), strides: part.out.strides() }, part.lse.as_ptr())
}

fn check_blocks(parts: &[KeyBlocks<'_>], rows: usize, value_dim: usize) -> Result<()> {
    for (i, part) in parts.iter().enumerate() {
        let is_last = i + 1 == parts.len();
        if !is_last && !part.keys.is_multiple_of(KEY_BLOCK) {
            let kind = ErrorKind::Multiple { what: "keys", given: part.keys, of: KEY_BLOCK };
            return Err(Error::new("parts", kind));
        }
        long_enough("parts", part.blocks.len(), key_blocks_len(rows, part.keys, value_dim))?;
    }
    Ok(())
}

fn check_outputs(parts: &[PartialOutput<'_>], rows: usize, shape: [usize; 4]) -> Result<()> {
    for part in parts {
        same_shape("parts", ["batch", "heads", "queries", "dim"], part.out.shape(), shape)?;
        long_enough("parts", part.lse.len(), rows)?;
    }
    Ok(())
}
