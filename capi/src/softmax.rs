//! Masked softmax over the keys of each row of scores.

use crate::isa;
use crate::mask::{Mask, Masks};
use crate::memory::{Args, Memory, Slice, SliceMut, View, ViewMut, call, spanned};
use crate::optional::Optional;
use crate::status::{Result, Status};

/// `probs[j] = exp(s[j] - max) / sum` over the kept keys j of each row, 0 where masked, with
/// `s = (softcap(scale * scores) + biases) / temperature`. A row of which nothing is kept becomes
/// zeros.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Softmax {
    /// `sizeof(MasktileSoftmax)`.
    pub size: usize,
    /// Batch x heads x queries x keys.
    pub scores: View<f32>,
    /// The same; with the same data, shape and strides scores become probabilities in place.
    pub probs: ViewMut<f32>,
    /// What is kept, and biases.
    pub masks: *const Mask,
    /// How many masks; 0 keeps everything.
    pub mask_count: usize,
    /// A factor of the scores. Default 1.
    pub scale: Optional,
    /// Keeps scaled scores within it, by `softcap * tanh(s / softcap)`.
    pub softcap: Optional,
    /// Divides the scores, biases included. Default 1.
    pub temperature: Optional,
    /// Any but 0: the logarithm of the probabilities, -infinity where masked.
    pub log: u32,
    /// One of `MasktileIsa`.
    pub isa: u32,
    /// A logit for each head that joins the sum and has no key.
    pub sinks: Slice<f32>,
    /// Where to write the log-sum-exp of each row, batch x heads x queries numbers; -infinity for
    /// a row of which nothing is kept.
    pub lse: SliceMut<f32>,
}

// SAFETY: numbers and pointers.
unsafe impl Args for Softmax {
    const LEAST: usize = std::mem::offset_of!(Softmax, masks);
}

/// Computes the probabilities.
///
/// # Safety
/// Every pointer leads to as many elements as are said to be there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn masktile_softmax(args: *const Softmax) -> Status {
    // SAFETY: the caller's.
    unsafe {
        call(|mut memory| {
            let mut older = None;
            let args = memory.args("args", args, &mut older)?;
            softmax(&mut memory, args)
        })
    }
}

fn softmax<'a>(memory: &mut Memory<'a>, args: &Softmax) -> Result<()> {
    let probs: api::TensorMut<'_> = memory.view_mut("probs", &args.probs)?;
    let lse = memory.write_if_given("lse", args.lse)?;
    let masks = Masks::new(memory, args.masks, args.mask_count)?;
    let masks = masks.lowered(memory)?;
    let mut softmax = api::Softmax::new().mask(api::Mask::All(&masks));
    if let Some(scale) = args.scale.get() {
        softmax = softmax.scale(scale);
    }
    if let Some(softcap) = args.softcap.get() {
        softmax = softmax.softcap(softcap);
    }
    if let Some(temperature) = args.temperature.get() {
        softmax = softmax.temperature(temperature);
    }
    if let Some(sinks) = memory.read_if_given("sinks", args.sinks)? {
        softmax = softmax.sinks(sinks);
    }
    if let Some(lse) = lse {
        softmax = softmax.log_sum_exp(lse);
    }
    if let Some(isa) = isa::asked_for(args.isa)? {
        softmax = softmax.isa(isa);
    }
    if args.log != 0 {
        softmax = softmax.log();
    }
    if is_in_place(args) {
        spanned("scores", &args.scores)?;
        return Ok(softmax.run_in_place(probs)?);
    }
    Ok(softmax.run(memory.view::<_, 4>("scores", &args.scores)?, probs)?)
}

fn is_in_place(Softmax { scores, probs, .. }: &Softmax) -> bool {
    let probs = probs.to_read();
    (scores.data, scores.shape, scores.strides) == (probs.data, probs.shape, probs.strides)
}
