//! The tensors of one attention layer of a real sentence-embedding transformer, with float64
//! references: three sentences of 26, 4 and 35 tokens, padded to 35.

use std::collections::HashMap;
use std::error::Error;

use safetensors::{Dtype, SafeTensors};

/// The sentences as the model's tokenizer cuts them, in the order of the batch.
const PIECES: [&str; 3] = [
    "[CLS] the deco ##der turns the en ##code ##r ' s output into the sequence that we need , \
     one token at a time . [SEP]",
    "[CLS] hello . [SEP]",
    "[CLS] in speech recognition the en ##code ##r ' s frames are many and the token ##s few , \
     so cross - attention reads a long , padded memory for each short step . [SEP]",
];

pub const BATCH: usize = 3;
pub const TOKENS: usize = 35;
pub const HEADS: usize = 12;
pub const DIM: usize = 32;
pub const WIDTH: usize = HEADS * DIM;
pub const SHAPE: [usize; 4] = [BATCH, HEADS, TOKENS, DIM];

/// The file's tensors by name, the sentences they were made of and their lengths in tokens.
pub struct Layer {
    f32s: HashMap<String, Vec<f32>>,
    f64s: HashMap<String, Vec<f64>>,
    sentences: Vec<String>,
    pub lengths: Vec<usize>,
}

impl Layer {
    pub fn read(path: &str) -> Result<Self, Box<dyn Error>> {
        let bytes = std::fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))?;
        let file = SafeTensors::deserialize(&bytes)?;
        let mut layer = Layer {
            f32s: HashMap::new(),
            f64s: HashMap::new(),
            sentences: sentences(&bytes)?,
            lengths: Vec::new(),
        };
        for (name, tensor) in file.iter() {
            let data = tensor.data();
            match tensor.dtype() {
                Dtype::F32 => {
                    let numbers = words(data).map(f32::from_le_bytes).collect();
                    layer.f32s.insert(name.to_owned(), numbers);
                }
                Dtype::F64 => {
                    let numbers = words(data).map(f64::from_le_bytes).collect();
                    layer.f64s.insert(name.to_owned(), numbers);
                }
                Dtype::I32 => {
                    let lengths = words(data).map(i32::from_le_bytes).map(usize::try_from);
                    layer.lengths = lengths.collect::<Result<_, _>>()?;
                }
                other => return Err(format!("{name}: unexpected type {other:?}").into()),
            }
        }
        Ok(layer)
    }

    pub fn f32(&self, name: &str) -> Result<&[f32], Box<dyn Error>> {
        Ok(self.f32s.get(name).ok_or_else(|| format!("no f32 tensor {name}"))?)
    }

    pub fn f64(&self, name: &str) -> Result<&[f64], Box<dyn Error>> {
        Ok(self.f64s.get(name).ok_or_else(|| format!("no f64 tensor {name}"))?)
    }

    /// The tokens of a sentence as text, one for each that is no padding.
    pub fn pieces(&self, sentence: usize) -> Result<Vec<&'static str>, Box<dyn Error>> {
        let pieces: Vec<_> = PIECES.get(sentence).ok_or("no such sentence")?.split(' ').collect();
        let given = self.sentences.get(sentence).map(|text| bare(text));
        if self.lengths.get(sentence) != Some(&pieces.len()) || given != Some(spelled(&pieces)) {
            return Err("the sentences are not those of the file".into());
        }
        Ok(pieces)
    }
}

/// The sentences in the file's metadata, one a line.
fn sentences(bytes: &[u8]) -> Result<Vec<String>, Box<dyn Error>> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let lines = header.metadata().as_ref().and_then(|texts| texts.get("sentences"));
    Ok(lines.ok_or("no sentences in the metadata")?.lines().map(str::to_owned).collect())
}

/// What pieces spell, without the spaces that they do not tell.
fn spelled(pieces: &[&str]) -> String {
    let words = pieces.iter().filter(|piece| !["[CLS]", "[SEP]"].contains(piece));
    words.map(|piece| piece.strip_prefix("##").unwrap_or(piece)).collect()
}

/// A text as the tokenizer sees it, in lower case, without its spaces.
fn bare(text: &str) -> String {
    text.to_lowercase().split_whitespace().collect()
}

/// The bytes in groups of `N`.
fn words<const N: usize>(data: &[u8]) -> impl Iterator<Item = [u8; N]> {
    data.chunks_exact(N).filter_map(|chunk| chunk.try_into().ok())
}
