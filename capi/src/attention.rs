//! Masked attention.

mod merge;

pub use merge::{
    KEY_BLOCK, KeyBlocks, Merge, PartialOutput, masktile_attention_key_blocks_len, masktile_merge,
};

use api::attention::workspace_len;
use api::cache::PagedKv;

use crate::isa;
use crate::mask::{Mask, Masks};
use crate::memory::{Args, Memory, Slice, SliceMut, View, ViewMut, call};
use crate::optional::Optional;
use crate::status::{Fault, Result, Status};

/// What an attention copies out.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Copied {
    /// Nothing.
    None = 0,
    /// The scaled products of queries and keys.
    Scaled = 1,
    /// Those behind the soft cap.
    Capped = 2,
    /// Those behind the biases and the temperature.
    Biased = 3,
    /// The probabilities.
    Probs = 4,
}

/// `out = softmax(scale Q K^T + bias, masked) V` for each batch and head, never holding a queries x
/// keys matrix. `kv_heads` divides `heads`: query head h reads key/value head
/// `h / (heads / kv_heads)`. A row of which nothing is kept gives zeros.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Attention {
    /// `sizeof(MasktileAttention)`.
    pub size: usize,
    /// Batch x heads x queries x dim.
    pub q: View<f32>,
    /// Batch x kv_heads x keys x dim; all zeros where a cache attends.
    pub k: View<f32>,
    /// Batch x kv_heads x keys x value_dim; all zeros where a cache attends.
    pub v: View<f32>,
    /// Batch x heads x queries x value_dim; all zeros if `blocks` is given.
    pub out: ViewMut<f32>,
    /// At least `masktile_attention_workspace_len` floats.
    pub workspace: SliceMut<f32>,
    /// What is kept, and biases.
    pub masks: *const Mask,
    /// How many masks. 0 keeps everything; where a cache attends, what is causal with the last
    /// query at the last key.
    pub mask_count: usize,
    /// The factor of the products of queries and keys. Default `1 / sqrt(dim)`.
    pub scale: Optional,
    /// Keeps scaled scores within it, by `softcap * tanh(s / softcap)`.
    pub softcap: Optional,
    /// Divides the scores, biases included. Default 1.
    pub temperature: Optional,
    /// One of `MasktileCopied`: what goes to `copy`.
    pub copied: u32,
    /// One of `MasktileIsa`.
    pub isa: u32,
    /// A logit for each head that joins the softmax's sum and has no value.
    pub sinks: Slice<f32>,
    /// Where to write the log-sum-exp of each row's scores, batch x heads x queries numbers;
    /// -infinity for a row of which nothing is kept.
    pub lse: SliceMut<f32>,
    /// Batch x heads x queries x keys, for scores or probabilities to look at. Masked positions are
    /// -infinity, of probabilities 0.
    pub copy: ViewMut<f32>,
    /// The keys and values are those from this one on
    pub first_key: usize,
    /// of so many in all, which the masks speak of; 0 and 0 if they are all.
    pub all_keys: usize,
    /// In place of `out`: where to write each block of keys by itself, for `masktile_merge`; at
    /// least `masktile_attention_key_blocks_len` floats.
    pub blocks: SliceMut<f32>,
}

// SAFETY: numbers and pointers.
unsafe impl Args for Attention {
    const LEAST: usize = std::mem::offset_of!(Attention, masks);
}

/// Floats of workspace, whatever the machine and the strides, for `rows` query rows a key/value
/// head: queries times the query heads that share it. It stops growing at 168 rows and 256 keys.
#[unsafe(no_mangle)]
pub extern "C" fn masktile_attention_workspace_len(
    rows: usize,
    keys: usize,
    dim: usize,
    value_dim: usize,
) -> usize {
    workspace_len(rows, keys, dim, value_dim)
}

/// Computes the attention.
///
/// # Safety
/// Every pointer leads to as many elements as are said to be there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn masktile_attention(args: *const Attention) -> Status {
    // SAFETY: the caller's.
    unsafe {
        call(|mut memory| {
            let mut older = None;
            let args = memory.args("args", args, &mut older)?;
            attend(&mut memory, args, |memory| {
                let (k, v) = (memory.view("k", &args.k)?, memory.view("v", &args.v)?);
                Ok((Source::Tensors { k, v }, api::Mask::None))
            })
        })
    }
}

/// Keys and values.
pub(crate) enum Source<'a> {
    Tensors { k: api::TensorRef<'a>, v: api::TensorRef<'a> },
    Paged(PagedKv<'a>),
}

/// An error if keys or values are given, which come from a cache.
pub(crate) fn without_keys(args: &Attention) -> Result<()> {
    for (argument, view) in [("k", args.k), ("v", args.v)] {
        if !view.data.is_null() {
            return Err(Fault::misplaced(argument, "those of the cache"));
        }
    }
    Ok(())
}

/// Runs the attention over keys and values from `source`, with its mask where none is given.
pub(crate) fn attend<'a>(
    memory: &mut Memory<'a>,
    args: &Attention,
    source: impl FnOnce(&Memory<'a>) -> Result<(Source<'a>, api::Mask<'a>)>,
) -> Result<()> {
    // What is written first: what is read is compared with it.
    let output = Output::of(memory, args)?;
    let workspace = memory.write("workspace", args.workspace)?;
    let lse = memory.write_if_given("lse", args.lse)?;
    let copy = match copied(args.copied)? {
        Some(what) => Some((what, memory.view_mut("copy", &args.copy)?)),
        None => None,
    };

    let q = memory.view("q", &args.q)?;
    let (source, usual) = source(memory)?;
    let masks = Masks::new(memory, args.masks, args.mask_count)?;
    let masks = masks.lowered(memory)?;
    let attention = match source {
        Source::Tensors { k, v } => api::Attention::new(q, k, v),
        Source::Paged(kv) => api::Attention::paged(q, kv),
    };
    let mask = if masks.is_empty() { usual } else { api::Mask::All(&masks) };
    let mut attention = scored(memory, args, attention.mask(mask))?;
    if let Some(lse) = lse {
        attention = attention.log_sum_exp(lse);
    }
    if let Some((what, copy)) = copy {
        attention = attention.copy_scores(what, copy);
    }
    match output {
        Output::Values(mut out) => Ok(attention.run(&mut out, workspace)?),
        Output::Blocks(blocks) => Ok(attention.run_key_blocks(blocks, workspace)?),
    }
}

/// The options that are numbers.
fn scored<'m, 'a: 'm>(
    memory: &Memory<'a>,
    args: &Attention,
    mut attention: api::Attention<'m>,
) -> Result<api::Attention<'m>> {
    if let Some(scale) = args.scale.get() {
        attention = attention.scale(scale);
    }
    if let Some(softcap) = args.softcap.get() {
        attention = attention.softcap(softcap);
    }
    if let Some(temperature) = args.temperature.get() {
        attention = attention.temperature(temperature);
    }
    if let Some(sinks) = memory.read_if_given("sinks", args.sinks)? {
        attention = attention.sinks(sinks);
    }
    if let Some(isa) = isa::asked_for(args.isa)? {
        attention = attention.isa(isa);
    }
    if (args.first_key, args.all_keys) != (0, 0) {
        attention = attention.part_of(args.first_key, args.all_keys);
    }
    Ok(attention)
}

/// Where the results go.
enum Output<'a> {
    Values(api::TensorMut<'a>),
    Blocks(&'a mut [f32]),
}

impl<'a> Output<'a> {
    fn of(memory: &mut Memory<'a>, args: &Attention) -> Result<Self> {
        match memory.write_if_given("blocks", args.blocks)? {
            None => memory.view_mut("out", &args.out).map(Output::Values),
            Some(_) if !args.out.data.is_null() => {
                Err(Fault::misplaced("out", "either it or `blocks`"))
            }
            Some(blocks) => Ok(Output::Blocks(blocks)),
        }
    }
}

fn copied(given: u32) -> Result<Option<api::attention::Copied>> {
    use api::attention::Copied as To;
    const ALL: [(Copied, Option<To>); 5] = [
        (Copied::None, None),
        (Copied::Scaled, Some(To::Scaled)),
        (Copied::Capped, Some(To::Capped)),
        (Copied::Biased, Some(To::Biased)),
        (Copied::Probs, Some(To::Probs)),
    ];
    let found = ALL.into_iter().find(|(copied, _)| *copied as u32 == given);
    found.map(|(_, copied)| copied).ok_or_else(|| {
        let what = format_args!("given {given}, wanted one of MasktileCopied");
        Fault::new(Status::Unknown, "copied", what)
    })
}
