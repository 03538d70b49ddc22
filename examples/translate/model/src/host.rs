//! For machines with an operating system: the weights from their file, packed once, batches, and
//! beam search.

use std::error::Error;
use std::path::Path;

use masktile::{BoolMask, Causal, Isa, MatMut, MatRef, PackedB, Result, Softmax, TensorRef};

use crate::layers::{Bf16, Form, Weight, widen};
use crate::text::{STEPS, TARGET, TARGETS, Text, Translation};
use crate::translator::{PARAMETERS, Texts, Translator, memory_len};
use crate::{HEADS, LAYERS, flat};

/// The model in memory, and the memory that translating takes, used again and again.
#[derive(Debug)]
pub struct Model {
    numbers: Box<[Bf16; PARAMETERS]>,
    /// The weights, in the model's order.
    packed: Vec<Vec<f32>>,
    isa: Isa,
}

/// Memory for batches, which grows to the largest.
#[derive(Debug, Default)]
pub struct Memory {
    floats: Vec<f32>,
    active: Vec<u32>,
    lengths: Vec<usize>,
}

impl Memory {
    /// The texts, and room for their translation.
    fn hold<'t>(&'t mut self, texts: &'t [Text], beams: usize) -> (Texts<'t>, &'t mut [f32]) {
        self.active.resize(texts.len(), 0);
        self.lengths.resize(texts.len(), 0);
        let texts = Texts::new(texts, &mut self.active, &mut self.lengths);
        let len = memory_len(Form::Packed, texts.shape(), beams);
        self.floats.resize(self.floats.len().max(len), 0.0);
        (texts, &mut self.floats)
    }
}

impl Model {
    /// The weights' file at `path`, packed for an instruction set.
    ///
    /// # Errors
    /// If it cannot be read, or holds another model.
    pub fn load(path: &Path, isa: Isa) -> std::result::Result<Self, Box<dyn Error>> {
        let numbers: Box<[Bf16; PARAMETERS]> =
            flat::read(path, LAYERS)?.try_into().map_err(|numbers: Vec<_>| {
                format!("{}: given {} numbers, wanted {PARAMETERS}", path.display(), numbers.len())
            })?;
        let mut packed = Vec::new();
        Translator::new(&numbers, |weight, [outputs, inputs]| {
            let mut wide = vec![0.0; weight.len()];
            widen(weight, &mut wide);
            let mut memory = vec![0.0; PackedB::len(inputs, outputs)];
            let weight_in_out = MatRef::new(&wide, [outputs, inputs])?.transposed();
            PackedB::pack_for(isa, weight_in_out, &mut memory)?;
            packed.push(memory);
            Ok(Weight::Narrow(weight))
        })?;
        Ok(Model { numbers, packed, isa })
    }

    /// The model as its operations use it.
    ///
    /// # Errors
    /// None.
    pub fn translator(&self) -> Result<Translator<'_>> {
        let mut packed = self.packed.iter();
        Translator::new(&self.numbers, |_, _| {
            let memory = packed.next().map_or(&[][..], Vec::as_slice);
            Ok(Weight::Packed(PackedB::from_memory(memory)?))
        })
    }

    /// The translation of each text by its most likely token again and again.
    ///
    /// # Errors
    /// None for texts of [`Text::new`].
    pub fn greedy(&self, texts: &[Text], memory: &mut Memory) -> Result<Vec<Translation>> {
        let mut translations = vec![Translation::default(); texts.len()];
        let (texts, floats) = memory.hold(texts, 1);
        self.translator()?.greedy(texts, self.isa, floats, None, &mut translations)?;
        Ok(translations)
    }

    /// The logits of every next token of a given translation, tokens x [`TARGETS`].
    ///
    /// # Errors
    /// If the translation is longer than any.
    pub fn forced(&self, text: Text, translation: &str, memory: &mut Memory) -> Result<Vec<f32>> {
        let (texts, floats) = memory.hold(std::slice::from_ref(&text), 1);
        let translator = self.translator()?;
        let mut decoding = translator.begin(texts, 1, self.isa, floats)?;
        let number = |character| TARGET.find(character).map_or(0, |place| place as u8 + 1);
        let mut all = Vec::new();
        for token in [0].into_iter().chain(translation.chars().map(number)) {
            let (_, logits) = decoding.step(|_, _| token, Causal::bottom_right().into())?;
            all.extend_from_slice(logits);
        }
        Ok(all)
    }

    /// The translation of a text, and how much each of its tokens attended to each character in the
    /// last layer: tokens x [`HEADS`] x characters probabilities.
    ///
    /// # Errors
    /// None for a text of [`Text::new`].
    pub fn watched(&self, text: Text) -> Result<(Translation, Vec<f32>)> {
        let (mut translation, mut memory) = ([Translation::default()], Memory::default());
        let (texts, floats) = memory.hold(std::slice::from_ref(&text), 1);
        let step = HEADS * text.tokens().len();
        let mut probs = vec![0.0; STEPS * step];
        let watched = Some(&mut probs[..]);
        self.translator()?.greedy(texts, self.isa, floats, watched, &mut translation)?;
        let [translation] = translation;
        probs.truncate(translation.tokens().len() * step);
        Ok((translation, probs))
    }

    /// The translation of each text that is the most likely of those that beam search finds, with
    /// the logarithm of its probability.
    ///
    /// # Errors
    /// None for texts of [`Text::new`].
    pub fn beam_search(
        &self,
        texts: &[Text],
        beams: usize,
        memory: &mut Memory,
    ) -> Result<Vec<(Translation, f32)>> {
        let mut found: Vec<_> = texts.iter().map(|_| Beam::first(beams)).collect();
        let (texts, floats) = memory.hold(texts, beams);
        let translator = self.translator()?;
        let mut decoding = translator.begin(texts, beams, self.isa, floats)?;
        let (rows, mut seen) = (found.len() * beams, Vec::new());
        for step in 0..STEPS {
            if found.iter().flatten().all(Beam::is_over) {
                break;
            }
            let shape = [found.len(), 1, beams, (step + 1) * beams];
            tree(&found, step, &mut seen);
            let mask =
                TensorRef::new(&seen, shape)?.broadcast([shape[0], HEADS, beams, shape[3]])?;
            let last = |text: usize, beam: usize| found[text][beam].translation.last();
            let (_, logits) = decoding.step(last, BoolMask::ones_are_kept(mask).into())?;
            Softmax::new()
                .log()
                .isa(self.isa)
                .run_in_place(MatMut::new(logits, [rows, TARGETS])?)?;
            for (beams, logs) in found.iter_mut().zip(logits.chunks(beams * TARGETS)) {
                *beams = Beam::followers(beams, logs.as_chunks().0, step);
            }
        }
        let best = |beams: Vec<Beam>| beams.into_iter().next().map(|b| (b.translation, b.score));
        Ok(found.into_iter().filter_map(best).collect())
    }
}

/// A beginning of a translation.
#[derive(Clone, Debug)]
struct Beam {
    translation: Translation,
    /// The logarithm of its probability; -infinity for a place that no beginning has taken.
    score: f32,
    /// Where its tokens are in the cache, which holds those of all beams, step by step.
    keys: Vec<usize>,
}

impl Beam {
    /// Nothing, once.
    fn first(beams: usize) -> Vec<Beam> {
        let score = |place| if place == 0 { 0.0 } else { f32::NEG_INFINITY };
        let beam = |score| Beam { translation: Translation::default(), score, keys: Vec::new() };
        (0..beams).map(|place| beam(score(place))).collect()
    }

    /// Whether nothing may follow.
    fn is_over(&self) -> bool {
        self.translation.ended() || self.score == f32::NEG_INFINITY
    }

    /// The likeliest of all that may follow these, the likeliest first; `logs` has the logarithms
    /// of each next token's probability.
    fn followers(beams: &[Beam], logs: &[[f32; TARGETS]], step: usize) -> Vec<Beam> {
        let mut all = Vec::new();
        for (place, (beam, logs)) in beams.iter().zip(logs).enumerate() {
            if beam.is_over() {
                all.push((beam.score, place, None));
            } else {
                all.extend(
                    (0..).zip(logs).map(|(token, log)| (beam.score + log, place, Some(token))),
                );
            }
        }
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        let follower = |&(score, place, token): &(f32, usize, Option<u8>)| {
            let mut beam = Beam { score, ..beams[place].clone() };
            if let Some(token) = token {
                beam.translation.push(token, &[]);
                beam.keys.push(step * beams.len() + place);
            }
            beam
        };
        all.iter().take(beams.len()).map(follower).collect()
    }
}

/// Ones where a beam's next token sees a token of the cache: texts x beams x keys. The beams of a
/// text are a tree in one cache, and each sees its own branch.
fn tree(found: &[Vec<Beam>], step: usize, seen: &mut Vec<u8>) {
    seen.clear();
    for beams in found {
        for (place, beam) in beams.iter().enumerate() {
            let row = seen.len();
            seen.resize(row + (step + 1) * beams.len(), 0);
            let own = step * beams.len() + place;
            beam.keys.iter().chain([&own]).for_each(|key| seen[row + key] = 1);
        }
    }
}
