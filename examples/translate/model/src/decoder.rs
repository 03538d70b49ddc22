//! A layer of a transformer's decoder (A. Vaswani et al., *Attention Is All You Need*, 2017, in the
//! form that normalises first: R. Xiong et al., *On Layer Normalization in the Transformer
//! Architecture*, 2020):
//!
//! ```text
//! x = x + SelfAttention(norm(x))            each token attends to those before it, and itself
//! x = x + CrossAttention(norm(x), memory)   and to the encoder's output
//! x = x + FeedForward(norm(x))              and is then looked at alone
//! ```

use masktile::cache::{KvCache, PagedKv};
use masktile::{Mask, Result, TensorMut, TensorRef, View, attention::Copied};

use crate::layers::{Linear, Norm, Then, Work, heads, heads_mut};
use crate::{HEAD_DIM, HEADS, ROOMS, WIDTH};

/// What a decoder's layer has learned.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names of the textbook")]
pub struct DecoderLayer<'a> {
    pub norm1: Norm<'a>,
    /// To queries, keys and values of the self-attention.
    pub qkv: Linear<'a>,
    pub out: Linear<'a>,
    pub norm2: Norm<'a>,
    /// To queries of the cross-attention.
    pub query: Linear<'a>,
    /// From the encoder's output to keys and values of the cross-attention.
    pub memory: [Linear<'a>; 2],
    pub cross_out: Linear<'a>,
    pub norm3: Norm<'a>,
    pub up: Linear<'a>,
    pub down: Linear<'a>,
}

/// The encoder's output as a layer's keys and values, which no step changes.
#[derive(Debug)]
pub struct Memory<'m> {
    /// texts x [`ROOMS`] x (keys, dim x longest; then values, longest x dim). Attention reads keys
    /// dim by dim, so that is how they lie.
    pub rooms: &'m [f32],
    /// Which of the rooms is this layer's.
    pub room: usize,
    /// How many texts there are.
    pub texts: usize,
    /// Characters of the longest of them.
    pub longest: usize,
    /// The text that each sentence translates.
    pub text: &'m [u32],
    /// Its characters; behind them is padding.
    pub lengths: &'m [usize],
    /// For who wants to see how much each token attends to each character: batch x heads x tokens
    /// x characters.
    pub watched: Option<&'m mut [f32]>,
}

impl<'m> Memory<'m> {
    /// Keys and values, texts x heads x characters x dim: a page for each text.
    fn keys_values(&self) -> Result<PagedKv<'m>> {
        let shape = [self.texts, HEADS, self.longest, HEAD_DIM];
        let (half, text) = (self.longest * WIDTH, self.longest * WIDTH * 2 * ROOMS);
        let after = |skipped| self.rooms.get(skipped * half..).unwrap_or_default();
        let (keys, values) = (after(2 * self.room), after(2 * self.room + 1));
        PagedKv::new(
            TensorRef::with_strides(keys, shape, [text, HEAD_DIM * self.longest, 1, self.longest])?,
            TensorRef::with_strides(values, shape, [text, HEAD_DIM, WIDTH, 1])?,
            View::new(self.text, [self.text.len(), 1])?,
            self.lengths,
        )
    }
}

impl DecoderLayer<'_> {
    /// Replaces the rows x of each sentence's next tokens. Those before them are in the cache
    /// `past`, which these join; `seen` says which of all of them each may see.
    ///
    /// # Errors
    /// If memory is too short, the cache full, or the mask of another shape.
    pub fn step(
        &self,
        x: &mut [f32],
        past: &mut KvCache<'_>,
        seen: Mask<'_>,
        memory: Memory<'_>,
        work: &mut Work<'_>,
    ) -> Result<()> {
        self.self_attention(x, past, seen, work)?;
        self.cross_attention(x, memory, work)?;
        self.feed_forward(x, work)
    }

    fn self_attention(
        &self,
        x: &mut [f32],
        past: &mut KvCache<'_>,
        seen: Mask<'_>,
        work: &mut Work<'_>,
    ) -> Result<()> {
        let (rows, shape) = (work.rows(), [work.sentences, work.tokens]);
        let Work { narrow, wide, tools, .. } = work;
        self.norm1.run(x, narrow);
        self.qkv.run(rows, narrow, wide, Then::Store, tools)?;
        let [q, k, v] = heads(wide, shape)?;
        past.append(k, v)?;
        past.attend(q)
            .mask(seen)
            .isa(tools.isa)
            .run(&mut heads_mut(narrow, shape)?, tools.scratch)?;
        self.out.run(rows, narrow, x, Then::Add, tools)
    }

    fn cross_attention(
        &self,
        x: &mut [f32],
        memory: Memory<'_>,
        work: &mut Work<'_>,
    ) -> Result<()> {
        let (rows, shape) = (work.rows(), [work.sentences, work.tokens]);
        let Work { narrow, wide, tools, .. } = work;
        self.norm2.run(x, narrow);
        self.query.run(rows, narrow, wide, Then::Store, tools)?;
        let [q] = heads(wide, shape)?;
        let mask = Mask::KeyLengths(memory.lengths);
        let mut attention = memory.keys_values()?.attend(q).mask(mask).isa(tools.isa);
        if let Some(watched) = memory.watched {
            let shape = [work.sentences, HEADS, work.tokens, memory.longest];
            attention = attention.copy_scores(Copied::Probs, TensorMut::new(watched, shape)?);
        }
        attention.run(&mut heads_mut(narrow, shape)?, tools.scratch)?;
        self.cross_out.run(rows, narrow, x, Then::Add, tools)
    }

    fn feed_forward(&self, x: &mut [f32], work: &mut Work<'_>) -> Result<()> {
        let rows = work.rows();
        let Work { narrow, wide, tools, .. } = work;
        self.norm3.run(x, narrow);
        self.up.run(rows, narrow, wide, Then::Relu, tools)?;
        self.down.run(rows, wide, x, Then::Add, tools)
    }
}
