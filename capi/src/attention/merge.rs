//! Attention over parts of the keys, merged.

use crate::isa;
use crate::memory::{Args, Memory, Plain, Slice, SliceMut, View, ViewMut, call};
use crate::status::{Fault, Result, Status};

/// Keys of a block: parts that are merged begin at multiples of it.
pub const KEY_BLOCK: usize = 256;
const _: () = assert!(KEY_BLOCK == api::attention::KEY_BLOCK);

/// Key blocks that an attention with `blocks` wrote.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KeyBlocks {
    /// Its `blocks`.
    pub blocks: Slice<f32>,
    /// How many keys it had.
    pub keys: usize,
}

/// An output over a part of the keys.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PartialOutput {
    /// Batch x heads x queries x value_dim.
    pub out: View<f32>,
    /// Its log-sum-exp, batch x heads x queries numbers.
    pub lse: Slice<f32>,
}

// SAFETY: numbers and a pointer.
unsafe impl Plain for KeyBlocks {}
// SAFETY: numbers and pointers.
unsafe impl Plain for PartialOutput {}

/// Merges attention over parts of the keys into attention over all of them.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Merge {
    /// `sizeof(MasktileMerge)`.
    pub size: usize,
    /// Batch x heads x queries x value_dim.
    pub out: ViewMut<f32>,
    /// Key blocks of consecutive parts, from the first keys to the last; all but the last have a
    /// multiple of MASKTILE_KEY_BLOCK keys. The result has the bits of attention over all keys at once.
    pub blocks: Slice<KeyBlocks>,
    /// In place of `blocks`: outputs over any parts of the keys, in any order, which rounding
    /// depends on.
    pub outputs: Slice<PartialOutput>,
    /// A logit for each head that joins the softmax's sum and has no value.
    pub sinks: Slice<f32>,
    /// Where to write the log-sum-exp of each row's scores, batch x heads x queries numbers.
    pub lse: SliceMut<f32>,
    /// One of `MasktileIsa`.
    pub isa: u32,
}

// SAFETY: numbers and pointers.
unsafe impl Args for Merge {
    const LEAST: usize = std::mem::offset_of!(Merge, sinks);
}

/// Floats for the key blocks of `rows` query rows (batch x heads x queries) and `keys` keys.
#[unsafe(no_mangle)]
pub extern "C" fn masktile_attention_key_blocks_len(
    rows: usize,
    keys: usize,
    value_dim: usize,
) -> usize {
    api::attention::key_blocks_len(rows, keys, value_dim)
}

/// Merges the parts.
///
/// # Safety
/// Every pointer leads to as many elements as are said to be there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn masktile_merge(args: *const Merge) -> Status {
    // SAFETY: the caller's.
    unsafe { call(|mut memory| merge(&mut memory, args)) }
}

fn merge<'a>(memory: &mut Memory<'a>, args: *const Merge) -> Result<()> {
    let args = memory.copied("args", args)?;
    let mut out = memory.view_mut("out", &args.out)?;
    let lse = memory.write_if_given("lse", args.lse)?;
    let outputs = memory.read("outputs", args.outputs)?;
    let blocks = memory.read("blocks", args.blocks)?;
    if !outputs.is_empty() && !blocks.is_empty() {
        return Err(Fault::misplaced("outputs", "either it or `blocks`"));
    }
    let blocks = blocks.iter().map(|part| {
        let blocks = memory.read("blocks", part.blocks)?;
        Ok(api::attention::KeyBlocks { blocks, keys: part.keys })
    });
    let blocks = blocks.collect::<Result<Vec<_>>>()?;
    let outputs = outputs.iter().map(|part| {
        let (out, lse) = (memory.view("outputs", &part.out)?, memory.read("outputs", part.lse)?);
        Ok(api::attention::PartialOutput { out, lse })
    });
    let outputs = outputs.collect::<Result<Vec<_>>>()?;
    let mut merge = match outputs[..] {
        [] => api::attention::Merge::blocks(&blocks),
        _ => api::attention::Merge::outputs(&outputs),
    };
    if let Some(sinks) = memory.read_if_given("sinks", args.sinks)? {
        merge = merge.sinks(sinks);
    }
    if let Some(lse) = lse {
        merge = merge.log_sum_exp(lse);
    }
    if let Some(isa) = isa::asked_for(args.isa)? {
        merge = merge.isa(isa);
    }
    Ok(merge.run(&mut out)?)
}
