//! A layer of the encoder: every character of a text attends to all others.

use masktile::{Attention, Result};

use crate::layers::{Linear, Norm, Then, Work, heads, heads_mut};

/// Self-attention and a feed-forward block, each behind a normalisation and around it a residual
/// connection.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names of the textbook")]
pub struct EncoderLayer<'a> {
    pub norm1: Norm<'a>,
    pub qkv: Linear<'a>,
    pub out: Linear<'a>,
    pub norm2: Norm<'a>,
    pub up: Linear<'a>,
    pub down: Linear<'a>,
}

impl EncoderLayer<'_> {
    /// Replaces the rows x of each text's characters.
    ///
    /// # Errors
    /// If memory is too short.
    pub fn run(&self, x: &mut [f32], work: &mut Work<'_>) -> Result<()> {
        let (rows, shape) = (work.rows(), [work.sentences, work.tokens]);
        let Work { narrow, wide, tools, .. } = work;

        self.norm1.run(x, narrow);
        self.qkv.run(rows, narrow, wide, Then::Store, tools)?;
        let [q, k, v] = heads(wide, shape)?;
        Attention::new(q, k, v)
            .isa(tools.isa)
            .run(&mut heads_mut(narrow, shape)?, tools.scratch)?;
        self.out.run(rows, narrow, x, Then::Add, tools)?;

        self.norm2.run(x, narrow);
        self.up.run(rows, narrow, wide, Then::Relu, tools)?;
        self.down.run(rows, wide, x, Then::Add, tools)
    }
}
