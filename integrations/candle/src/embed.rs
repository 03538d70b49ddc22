//! Sentences to embeddings, as sentence-transformers makes them of all-MiniLM-L6-v2: the mean of
//! the last layer over the tokens, of length 1.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use candle_core::{D, DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use tokenizers::{Tokenizer, TruncationParams};

use crate::bert::Bert;

/// As sentence-transformers cuts sentences for this model.
const MOST_TOKENS: usize = 256;

/// A BERT: the words of each sentence to its tokens x width.
pub trait Encoder {
    /// The last layer of each sentence.
    ///
    /// # Errors
    /// If a sentence does not fit the model.
    fn encode(&self, sentences: &[Vec<u32>]) -> candle_core::Result<Vec<Tensor>>;
}

/// As candle has it: padded to the longest sentence, and the padding masked.
impl Encoder for BertModel {
    fn encode(&self, sentences: &[Vec<u32>]) -> candle_core::Result<Vec<Tensor>> {
        let longest = sentences.iter().map(Vec::len).max().unwrap_or(0);
        let (mut ids, mut kept) = (Vec::new(), Vec::new());
        for words in sentences {
            let padding = longest - words.len();
            ids.extend(words.iter().copied().chain(std::iter::repeat_n(0, padding)));
            kept.extend(words.iter().map(|_| 1u32).chain(std::iter::repeat_n(0, padding)));
        }
        let tensor = |numbers| Tensor::from_vec(numbers, (sentences.len(), longest), &self.device);
        let (ids, kept) = (tensor(ids)?, tensor(kept)?);
        let hidden = self.forward(&ids, &ids.zeros_like()?, Some(&kept))?;
        let of = |(i, words): (usize, &Vec<u32>)| hidden.get(i)?.narrow(0, 0, words.len());
        sentences.iter().enumerate().map(of).collect()
    }
}

/// One sentence behind the other.
impl Encoder for Bert {
    fn encode(&self, sentences: &[Vec<u32>]) -> candle_core::Result<Vec<Tensor>> {
        let mut starts = vec![0];
        for words in sentences {
            starts.push(starts.last().copied().unwrap_or(0) + words.len());
        }
        let hidden = self.forward(&sentences.concat(), &starts)?;
        starts.windows(2).map(|ends| hidden.narrow(0, ends[0], ends[1] - ends[0])).collect()
    }
}

/// The model by both, and its tokenizer.
pub struct Models {
    tokenizer: Tokenizer,
    /// candle's own.
    pub candle: BertModel,
    /// With masktile's operations.
    pub masktile: Bert,
}

impl Models {
    /// Reads `config.json`, `tokenizer.json` and `model.safetensors` of a folder.
    ///
    /// # Errors
    /// If a file is missing or is not what it should be.
    pub fn load(folder: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let config: Config = serde_json::from_slice(&read("config.json")?)?;
        let weights = read("model.safetensors")?;
        let vb = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu)?;
        Ok(Models {
            tokenizer: tokenizer(&read("tokenizer.json")?)?,
            masktile: Bert::load(&vb, &config)?,
            candle: BertModel::load(vb, &config)?,
        })
    }

    /// The words of each sentence, as numbers.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub fn tokenize(&self, sentences: &[String]) -> Result<Vec<Vec<u32>>> {
        let encodings = self
            .tokenizer
            .encode_batch_fast(sentences.to_vec(), true)
            .map_err(|error| anyhow!("cannot cut the sentences into tokens: {error}"))?;
        Ok(encodings.iter().map(|encoding| encoding.get_ids().to_vec()).collect())
    }

    /// An embedding for each sentence: sentences x width.
    ///
    /// # Errors
    /// If the tokenizer or the encoder fails.
    pub fn embed(&self, encoder: &dyn Encoder, sentences: &[String]) -> Result<Tensor> {
        let hidden = encoder.encode(&self.tokenize(sentences)?)?;
        let means = hidden.iter().map(|tokens| tokens.mean(0));
        let mean = Tensor::stack(&means.collect::<candle_core::Result<Vec<_>>>()?, 0)?;
        Ok(mean.broadcast_div(&mean.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?)?)
    }
}

fn tokenizer(json: &[u8]) -> Result<Tokenizer> {
    let failed = |error| anyhow!("tokenizer.json: {error}");
    let mut tokenizer = Tokenizer::from_bytes(json).map_err(failed)?;
    let truncation = TruncationParams { max_length: MOST_TOKENS, ..Default::default() };
    tokenizer.with_padding(None);
    tokenizer.with_truncation(Some(truncation)).map_err(failed)?;
    Ok(tokenizer)
}

/// The greatest difference of two tensors' elements.
///
/// # Errors
/// If their shapes differ.
pub fn greatest_difference(a: &Tensor, b: &Tensor) -> candle_core::Result<f32> {
    (a - b)?.abs()?.flatten_all()?.max(0)?.to_scalar()
}
