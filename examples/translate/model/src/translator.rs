//! The whole model: a text is encoded once, then a step gives the logits of every next token.

use masktile::cache::KvCache;
use masktile::decoder::join_as_columns;
use masktile::{Causal, Isa, Mask, MatMut, MatRef, Result, TensorMut};

use crate::decoder::{DecoderLayer, Memory};
use crate::encoder::EncoderLayer;
use crate::layers::{
    Bf16, Embedding, Form, Linear, Norm, Then, Tools, Weight, Work, longest, scratch_len,
};
use crate::text::{LONGEST, SOURCES, STEPS, TARGETS, Text, Translation};
use crate::{CHARACTER, HEAD_DIM, HEADS, HIDDEN, LAYERS, POSITION, ROOMS, WIDTH};

/// The parameters that a translator reads.
pub const PARAMETERS: usize = {
    let norm = 2 * WIDTH;
    let feed_forward = linear(WIDTH, HIDDEN) + linear(HIDDEN, WIDTH);
    let self_attention = linear(WIDTH, 3 * WIDTH) + linear(WIDTH, WIDTH);
    let cross_attention = 2 * linear(WIDTH, WIDTH) + linear(WIDTH, 2 * WIDTH);
    let encoder = 2 * norm + self_attention + feed_forward;
    let decoder = 3 * norm + self_attention + cross_attention + feed_forward;
    let embeddings = (SOURCES + TARGETS) * CHARACTER + (LONGEST + STEPS) * POSITION;
    embeddings + LAYERS * (encoder + decoder) + 2 * norm + linear(WIDTH, TARGETS)
};

const fn linear(inputs: usize, outputs: usize) -> usize {
    (inputs + 1) * outputs
}

/// An encoder-decoder transformer.
#[derive(Clone, Copy, Debug)]
pub struct Translator<'a> {
    source: Embedding<'a>,
    target: Embedding<'a>,
    encoder: [EncoderLayer<'a>; LAYERS],
    encoder_norm: Norm<'a>,
    decoder: [DecoderLayer<'a>; LAYERS],
    decoder_norm: Norm<'a>,
    logits: Linear<'a>,
}

/// Reads parameters one behind the other.
struct Reader<'a, F> {
    rest: &'a [Bf16],
    weight: F,
}

impl<'a, F: FnMut(&'a [Bf16], [usize; 2]) -> Result<Weight<'a>>> Reader<'a, F> {
    fn next(&mut self, len: usize) -> &'a [Bf16] {
        let (part, rest) = self.rest.split_at_checked(len).unwrap_or_default();
        self.rest = rest;
        part
    }

    fn linear(&mut self, inputs: usize, outputs: usize) -> Result<Linear<'a>> {
        let numbers = self.next(outputs * inputs);
        let weight = (self.weight)(numbers, [outputs, inputs])?;
        Ok(Linear { weight, bias: self.next(outputs), inputs })
    }

    /// Two linear maps whose weights lie one behind the other, and then their biases.
    fn keys_values(&mut self) -> Result<[Linear<'a>; 2]> {
        let mut weight = || {
            let numbers = self.next(WIDTH * WIDTH);
            (self.weight)(numbers, [WIDTH, WIDTH])
        };
        let weights = [weight()?, weight()?];
        Ok(weights.map(|weight| Linear { weight, bias: self.next(WIDTH), inputs: WIDTH }))
    }

    fn norm(&mut self) -> Norm<'a> {
        Norm { gain: self.next(WIDTH), bias: self.next(WIDTH) }
    }

    fn embedding(&mut self, characters: usize, positions: usize) -> Embedding<'a> {
        Embedding {
            characters: self.next(characters * CHARACTER),
            positions: self.next(positions * POSITION),
        }
    }

    // Fields are read in the order in which they stand.
    fn encoder(&mut self) -> Result<EncoderLayer<'a>> {
        Ok(EncoderLayer {
            norm1: self.norm(),
            qkv: self.linear(WIDTH, 3 * WIDTH)?,
            out: self.linear(WIDTH, WIDTH)?,
            norm2: self.norm(),
            up: self.linear(WIDTH, HIDDEN)?,
            down: self.linear(HIDDEN, WIDTH)?,
        })
    }

    fn decoder(&mut self) -> Result<DecoderLayer<'a>> {
        Ok(DecoderLayer {
            norm1: self.norm(),
            qkv: self.linear(WIDTH, 3 * WIDTH)?,
            out: self.linear(WIDTH, WIDTH)?,
            norm2: self.norm(),
            query: self.linear(WIDTH, WIDTH)?,
            memory: self.keys_values()?,
            cross_out: self.linear(WIDTH, WIDTH)?,
            norm3: self.norm(),
            up: self.linear(WIDTH, HIDDEN)?,
            down: self.linear(HIDDEN, WIDTH)?,
        })
    }
}

/// Texts of a batch.
#[derive(Debug)]
pub struct Texts<'t> {
    texts: &'t [Text],
    /// Those that are still translated, in order.
    active: &'t mut [u32],
    /// Their characters.
    lengths: &'t mut [usize],
}

impl<'t> Texts<'t> {
    /// All of `texts`, with a place in `active` and in `lengths` for each.
    pub fn new(texts: &'t [Text], active: &'t mut [u32], lengths: &'t mut [usize]) -> Self {
        for (place, text) in active.iter_mut().zip(0..) {
            *place = text;
        }
        for (length, text) in lengths.iter_mut().zip(texts) {
            *length = text.tokens().len();
        }
        Texts { texts, active, lengths }
    }

    /// Texts, and characters of the longest.
    pub fn shape(&self) -> [usize; 2] {
        let lengths = self.texts.iter().map(|text| text.tokens().len());
        [self.texts.len(), lengths.max().unwrap_or(0)]
    }

    /// Goes on with those texts alone of which `keep` says so.
    fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        let mut kept = 0;
        for row in 0..self.active.len() {
            let (text, length) = (self.active.get(row).copied(), self.lengths.get(row).copied());
            let (Some(text), Some(length)) = (text, length) else { continue };
            let place = (self.active.get_mut(kept), self.lengths.get_mut(kept));
            if keep(text as usize)
                && let (Some(active), Some(place)) = place
            {
                (*active, *place) = (text, length);
                kept += 1;
            }
        }
        let active = core::mem::take(&mut self.active);
        self.active = active.get_mut(..kept).unwrap_or_default();
        let lengths = core::mem::take(&mut self.lengths);
        self.lengths = lengths.get_mut(..kept).unwrap_or_default();
    }
}

/// Floats of memory to decode so many texts of up to so many characters, `beams` tokens a step.
pub const fn memory_len(form: Form, [texts, characters]: [usize; 2], beams: usize) -> usize {
    let rows = texts * beams;
    // As many queries as a head ever has beside as many keys.
    let (queries, keys) = (longest(characters, beams), longest(characters, STEPS * beams));
    texts * text_len(characters)
        + decoder_len(characters, rows)
        + rows * (5 * WIDTH + TARGETS)
        + scratch_len(form, longest(characters, rows), queries, keys)
}

/// What a text leaves to the decoder.
const fn text_len(characters: usize) -> usize {
    characters * ROOMS * 2 * WIDTH
}

/// The encoder's output of one text at a time, then the caches of all layers.
const fn decoder_len(characters: usize, rows: usize) -> usize {
    longest(characters * WIDTH, LAYERS * 2 * rows * STEPS * WIDTH)
}

/// Cuts memory into parts.
struct Memories<'m>(&'m mut [f32]);

impl<'m> Memories<'m> {
    /// The next `len` floats; none if there are fewer, which whoever gets them then reports.
    fn take(&mut self, len: usize) -> &'m mut [f32] {
        let (part, rest) =
            core::mem::take(&mut self.0).split_at_mut_checked(len).unwrap_or_default();
        self.0 = rest;
        part
    }
}

impl<'a> Translator<'a> {
    /// The model of these numbers, in the order of `flat`. `weight` makes of each weight,
    /// outputs x inputs, what its products will use.
    ///
    /// # Errors
    /// Those of `weight`.
    pub fn new(
        numbers: &'a [Bf16; PARAMETERS],
        weight: impl FnMut(&'a [Bf16], [usize; 2]) -> Result<Weight<'a>>,
    ) -> Result<Self> {
        let mut reader = Reader { rest: numbers, weight };
        Ok(Translator {
            source: reader.embedding(SOURCES, LONGEST),
            target: reader.embedding(TARGETS, STEPS),
            encoder: [reader.encoder()?, reader.encoder()?],
            encoder_norm: reader.norm(),
            decoder: [reader.decoder()?, reader.decoder()?],
            decoder_norm: reader.norm(),
            logits: reader.linear(WIDTH, TARGETS)?,
        })
    }

    /// The model with its weights as they are.
    ///
    /// # Errors
    /// None.
    pub fn narrow(numbers: &'a [Bf16; PARAMETERS]) -> Result<Self> {
        Self::new(numbers, |weight, _| Ok(Weight::Narrow(weight)))
    }

    /// Encodes texts. The steps that follow write `beams` tokens of each at a time. `memory` is
    /// [`memory_len`] floats.
    ///
    /// # Errors
    /// If memory is too short, or there is no text.
    pub fn begin<'s>(
        &'s self,
        texts: Texts<'s>,
        beams: usize,
        isa: Isa,
        memory: &'s mut [f32],
    ) -> Result<Decoding<'s>> {
        let [sentences, characters] = texts.shape();
        let rows = sentences * beams;
        let mut memory = Memories(memory);
        let read = memory.take(sentences * text_len(characters));
        let decoder = memory.take(decoder_len(characters, rows));
        let (x, logits) = (memory.take(rows * WIDTH), memory.take(rows * TARGETS));
        let (narrow, wide) = (memory.take(rows * WIDTH), memory.take(rows * 3 * WIDTH));
        let mut tools = Tools { isa, scratch: memory.0 };

        let mut parts = Memories(&mut *read);
        for text in texts.texts {
            let part = parts.take(text_len(characters));
            self.read(text.tokens(), characters, decoder, part, tools.reborrow())?;
        }
        let (mut parts, tokens) = (Memories(decoder), STEPS * beams);
        let room = [sentences, HEADS, tokens, HEAD_DIM];
        let text = HEADS * tokens * HEAD_DIM;
        let mut tensor =
            |strides| TensorMut::with_strides(parts.take(sentences * text), room, strides);
        // Attention reads keys dim by dim, so that is how they lie.
        let mut cache = || {
            let keys = tensor([text, tokens * HEAD_DIM, 1, tokens])?;
            KvCache::new(keys, tensor([text, tokens * HEAD_DIM, HEAD_DIM, 1])?)
        };
        Ok(Decoding {
            model: self,
            texts,
            longest: characters,
            read,
            watched: &mut [],
            caches: [cache()?, cache()?],
            position: 0,
            x,
            logits,
            work: Work { sentences, tokens: beams, narrow, wide, tools },
        })
    }

    /// Encodes a text, and keeps what each layer of the decoder will attend to. It is encoded by
    /// itself: no row of padding is computed, and its bits are those it has in any batch.
    fn read(
        &self,
        tokens: &[u8],
        longest: usize,
        x: &mut [f32],
        memory: &mut [f32],
        mut tools: Tools<'_>,
    ) -> Result<()> {
        let rows = tokens.len();
        let x = x.get_mut(..rows * WIDTH).unwrap_or_default();
        let (narrow, wide) = memory.split_at_mut_checked(rows * WIDTH).unwrap_or_default();
        self.source.characters(tokens.iter().copied(), wide);
        let embeddings = wide.as_chunks::<CHARACTER>().0;
        for (position, (x, embedding)) in
            x.as_chunks_mut::<WIDTH>().0.iter_mut().zip(embeddings).enumerate()
        {
            let numbers = embedding.iter().copied().chain(self.source.position(position));
            x.iter_mut().zip(numbers).for_each(|(place, number)| *place = number);
        }
        let mut work = Work { sentences: 1, tokens: rows, narrow, wide, tools: tools.reborrow() };
        for layer in &self.encoder {
            layer.run(x, &mut work)?;
        }
        self.encoder_norm.run_in_place(x);
        let mut parts = Memories(memory);
        for layer in &self.decoder {
            let (keys, values) = (parts.take(longest * WIDTH), parts.take(longest * WIDTH));
            let mut keys = MatMut::with_strides(keys, [rows, WIDTH], [1, longest])?;
            let [to_key, to_value] = &layer.memory;
            to_key.run_into(MatRef::new(x, [rows, WIDTH])?, &mut keys, Then::Store, &mut tools)?;
            to_value.run(rows, x, values, Then::Store, &mut tools)?;
        }
        Ok(())
    }

    /// Translates each text by its most likely token again and again. `memory` is [`memory_len`]
    /// floats; `watched` is for [`Decoding::watch`].
    ///
    /// # Errors
    /// If memory is too short.
    pub fn greedy(
        &self,
        texts: Texts<'_>,
        isa: Isa,
        memory: &mut [f32],
        watched: Option<&mut [f32]>,
        translations: &mut [Translation],
    ) -> Result<()> {
        translations.fill(Translation::default());
        let mut decoding = self.begin(texts, 1, isa, memory)?;
        if let Some(watched) = watched {
            decoding.watch(watched);
        }
        while decoding.is_going_on() {
            let last = |text, _| translations.get(text).map_or(0, Translation::last);
            let (texts, logits) = decoding.step(last, Causal::bottom_right().into())?;
            for (text, logits) in texts.iter().zip(logits.as_chunks::<TARGETS>().0) {
                if let Some(translation) = translations.get_mut(*text as usize) {
                    translation.push(most_likely(logits), logits);
                }
            }
            decoding.retain(|text| translations.get(text).is_some_and(|text| !text.ended()));
        }
        Ok(())
    }
}

/// The first of the greatest logits.
fn most_likely(logits: &[f32; TARGETS]) -> u8 {
    let mut best = (0, f32::NEG_INFINITY);
    for (token, logit) in (0..).zip(logits) {
        if *logit > best.1 {
            best = (token, *logit);
        }
    }
    best.0
}

/// Translations on their way.
#[derive(Debug)]
pub struct Decoding<'s> {
    model: &'s Translator<'s>,
    texts: Texts<'s>,
    longest: usize,
    /// What each text left to each layer.
    read: &'s [f32],
    watched: &'s mut [f32],
    caches: [KvCache<'s>; LAYERS],
    position: usize,
    x: &'s mut [f32],
    logits: &'s mut [f32],
    work: Work<'s>,
}

impl<'s> Decoding<'s> {
    /// Shows the last layer's cross-attention: `watched` gets texts x [`HEADS`] x beams x characters
    /// probabilities of each step, one behind the other.
    pub fn watch(&mut self, watched: &'s mut [f32]) {
        self.watched = watched;
    }

    /// Whether there is a text whose translation goes on.
    pub fn is_going_on(&self) -> bool {
        !self.texts.active.is_empty()
    }

    /// Goes on with those texts alone of which `keep` says so: no row of one that has ended is computed.
    pub fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        let active = &self.texts.active;
        for cache in &mut self.caches {
            cache.retain(|row| active.get(row).is_some_and(|text| keep(*text as usize)));
        }
        self.texts.retain(keep);
        self.work.sentences = self.texts.active.len();
    }

    /// Takes the next token of each text and beam and gives the texts that go on, and the logits of
    /// what follows, texts x beams x [`TARGETS`]. `seen` says which tokens of the text, in the order
    /// of steps and beams, each of these may see.
    ///
    /// # Errors
    /// After [`STEPS`] steps; if the mask does not fit.
    pub fn step(
        &mut self,
        token: impl Fn(usize, usize) -> u8,
        seen: Mask<'_>,
    ) -> Result<(&[u32], &mut [f32])> {
        let (model, rows, work) = (self.model, self.work.rows(), &mut self.work);
        let Texts { texts, active, lengths } = &self.texts;
        let beams = 0..work.tokens;
        let tokens =
            active.iter().flat_map(|text| beams.clone().map(|beam| token(*text as usize, beam)));
        model.target.characters(tokens, work.wide);
        let position = model.target.position(self.position);
        let x = self.x.get_mut(..rows * WIDTH).unwrap_or_default();
        let mut joined = MatMut::new(x, [rows, WIDTH])?;
        join_as_columns(MatRef::new(work.wide, [rows, CHARACTER])?, &position, &mut joined)?;

        let step = HEADS * rows * self.longest;
        let (texts, longest) = (texts.len(), self.longest);
        for (room, (layer, cache)) in model.decoder.iter().zip(&mut self.caches).enumerate() {
            let is_last = room + 1 == LAYERS;
            let shown = self.position * step..(self.position + 1) * step;
            let watched = if is_last { self.watched.get_mut(shown) } else { None };
            let memory =
                Memory { rooms: self.read, room, texts, longest, text: active, lengths, watched };
            layer.step(x, cache, seen, memory, work)?;
        }
        self.position += 1;
        model.decoder_norm.run(x, work.narrow);
        model.logits.run(rows, work.narrow, self.logits, Then::Store, &mut work.tools)?;
        Ok((active, self.logits))
    }
}
