//! BERT as candle has it, its products and its attention by masktile. Embeddings and layer
//! normalisation are candle's own.
//!
//! Source: J. Devlin et al., *BERT: Pre-training of Deep Bidirectional Transformers*, 2019.

use candle_core::{DType, Result, Tensor};
use candle_nn::{Embedding, LayerNorm, Module, VarBuilder, embedding, layer_norm};
use candle_transformers::models::bert::{Config, HiddenAct};
use masktile::Activation;

use crate::ops::{Linear, SelfAttention};

/// The encoder.
pub struct Bert {
    words: Embedding,
    positions: Embedding,
    kinds: Embedding,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

impl Bert {
    /// The model whose tensors have the names of Hugging Face's `BertModel`.
    ///
    /// # Errors
    /// If a tensor is missing or has another size.
    pub fn load(vb: &VarBuilder<'_>, config: &Config) -> Result<Self> {
        let embeddings = vb.pp("embeddings");
        let table = |size, name| embedding(size, config.hidden_size, embeddings.pp(name));
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::load(&vb.pp(format!("encoder.layer.{index}")), config));
        Ok(Bert {
            words: table(config.vocab_size, "word_embeddings")?,
            positions: table(config.max_position_embeddings, "position_embeddings")?,
            kinds: table(config.type_vocab_size, "token_type_embeddings")?,
            norm: norm(&embeddings, config)?,
            layers: layers.collect::<Result<_>>()?,
        })
    }

    /// Word numbers of sentences of one kind, one behind the other, to tokens x width. Sentence `i`
    /// is the tokens from `starts[i]` to before `starts[i + 1]`: there is no padding to compute.
    ///
    /// # Errors
    /// If a word is unknown, a sentence is too long, or the sizes do not fit.
    pub fn forward(&self, words: &[u32], starts: &[usize]) -> Result<Tensor> {
        let device = self.words.embeddings().device();
        let places: Vec<u32> =
            starts.windows(2).flat_map(|ends| 0..(ends[1] - ends[0]) as u32).collect();
        let words = self.words.forward(&Tensor::new(words, device)?)?;
        let places = self.positions.forward(&Tensor::new(places, device)?)?;
        // One row for all tokens: every sentence is of the first kind.
        let kind = self.kinds.forward(&Tensor::zeros(1, DType::U32, device)?)?;
        let mut hidden = self.norm.forward(&(words + places)?.broadcast_add(&kind)?)?;
        for layer in &self.layers {
            hidden = layer.forward(&hidden, starts)?;
        }
        Ok(hidden)
    }
}

struct Layer {
    heads: usize,
    qkv: Linear,
    output: Linear,
    output_norm: LayerNorm,
    up: Linear,
    down: Linear,
    down_norm: LayerNorm,
}

impl Layer {
    fn load(vb: &VarBuilder<'_>, config: &Config) -> Result<Self> {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let activation = match config.hidden_act {
            HiddenAct::Gelu => Activation::GeluErf,
            HiddenAct::GeluApproximate => Activation::GeluTanh,
            HiddenAct::Relu => Activation::Relu,
        };
        let linear = |names: &[&str], [outputs, inputs]: [usize; 2], activation| {
            let tensors = names.iter().map(|name| {
                let vb = vb.pp(name);
                Ok((vb.get((outputs, inputs), "weight")?, vb.get(outputs, "bias")?))
            });
            let (weights, biases): (Vec<_>, Vec<_>) =
                tensors.collect::<Result<Vec<_>>>()?.into_iter().unzip();
            Linear::new(&weights, &biases, activation)
        };
        let qkv = ["attention.self.query", "attention.self.key", "attention.self.value"];
        Ok(Layer {
            heads: config.num_attention_heads,
            qkv: linear(&qkv, [width, width], Activation::None)?,
            output: linear(&["attention.output.dense"], [width, width], Activation::None)?,
            output_norm: norm(&vb.pp("attention.output"), config)?,
            up: linear(&["intermediate.dense"], [inner, width], activation)?,
            down: linear(&["output.dense"], [width, inner], Activation::None)?,
            down_norm: norm(&vb.pp("output"), config)?,
        })
    }

    fn forward(&self, x: &Tensor, starts: &[usize]) -> Result<Tensor> {
        let attention = SelfAttention { heads: self.heads, starts };
        let attended = attention.forward(&self.qkv.forward(x)?)?;
        let x = self.output_norm.forward(&self.output.forward_plus(&attended, x)?)?;
        self.down_norm.forward(&self.down.forward_plus(&self.up.forward(&x)?, &x)?)
    }
}

fn norm(vb: &VarBuilder<'_>, config: &Config) -> Result<LayerNorm> {
    layer_norm(config.hidden_size, config.layer_norm_eps, vb.pp("LayerNorm"))
}
