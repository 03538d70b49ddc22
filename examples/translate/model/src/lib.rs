//! An encoder-decoder transformer that translates dates and times, as people write them in
//! English, German and French, into ISO 8601, built of masktile's public operations.
//!
//! The same code runs on a server (feature `std`: `host`) and on a Cortex-M7 (`firmware/translate`),
//! and every logit has the same bits on both. `tools/train_translate.py` made the weights.
//!
//! | file | holds |
//! | --- | --- |
//! | [`text`] | characters and their numbers |
//! | [`layers`] | what layers are made of: linear maps, layer normalisation, embeddings |
//! | [`encoder`], [`decoder`] | a layer of each |
//! | [`translator`] | the whole model: encode, then a token a step |
//! | `host` | the weights' file, batches, greedy and beam search |
#![cfg_attr(not(feature = "std"), no_std)]

pub mod decoder;
pub mod encoder;
#[cfg(feature = "std")]
pub mod flat;
#[cfg(feature = "std")]
pub mod host;
pub mod layers;
pub mod text;
pub mod translator;

/// Numbers of a token.
pub const WIDTH: usize = 64;
/// Heads of an attention.
pub const HEADS: usize = 4;
/// Numbers of a head's query, key or value.
pub const HEAD_DIM: usize = WIDTH / HEADS;
/// Numbers between the two linear maps of a feed-forward block.
pub const HIDDEN: usize = 96;
/// Layers of the encoder, and of the decoder.
pub const LAYERS: usize = 2;
/// Rooms for twice [`WIDTH`] numbers of each character of a text: first the encoder's work, then the
/// keys and values of each layer of the decoder.
pub const ROOMS: usize = layers::longest(2, LAYERS);
/// Numbers of a character's embedding; those of its position's follow.
pub const CHARACTER: usize = 48;
/// Numbers of a position's embedding.
pub const POSITION: usize = WIDTH - CHARACTER;
