//! The operations against candle's own: on the golden tensors of a real layer, which the
//! repository has, and on the whole model where its weights are.

use std::collections::HashMap;
use std::path::Path;
use std::slice::from_ref;

use candle_core::{Device, Result, Tensor};
use masktile::Activation;
use masktile_candle::embed::{Models, greatest_difference};
use masktile_candle::ops::{Linear, PaddedSoftmax, SelfAttention};

const HEADS: usize = 12;
/// As the tensors have it.
const HEAD_DIM: f32 = 32.0;

fn golden() -> HashMap<String, Tensor> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/minilm-layer3.safetensors");
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn lengths(golden: &HashMap<String, Tensor>) -> Vec<usize> {
    let lengths = golden["lengths"].to_vec1::<i32>().unwrap();
    lengths.into_iter().map(|length| length as usize).collect()
}

#[track_caller]
fn assert_close(a: &Tensor, b: &Tensor, bound: f32) {
    let b = b.to_dtype(a.dtype()).unwrap();
    let difference = greatest_difference(a, &b).unwrap();
    assert!(difference <= bound, "they differ by {difference}, more than {bound}");
}

#[test]
fn a_layer_is_candles() -> Result<()> {
    let golden = golden();
    let parts = ["query", "key", "value"];
    let tensors = |kind: &str| parts.map(|part| golden[&format!("{kind}_{part}")].clone());
    let (weights, biases) = (tensors("w"), tensors("b"));
    // The sentences one behind the other, without their padding.
    let lengths = lengths(&golden);
    let joined = |padded: &Tensor| {
        let words = |(i, len): (usize, &usize)| padded.get(i)?.narrow(0, 0, *len);
        Tensor::cat(&lengths.iter().enumerate().map(words).collect::<Result<Vec<_>>>()?, 0)
    };
    let hidden = &joined(&golden["hidden"])?;

    let qkv = Linear::new(&weights, &biases, Activation::None)?.forward(hidden)?;
    for (i, (weight, bias)) in weights.iter().zip(&biases).enumerate() {
        let own = hidden.matmul(&weight.t()?)?.broadcast_add(bias)?;
        assert_close(&qkv.narrow(1, i * 384, 384)?, &own, 2e-5);
    }

    let starts = [0, lengths[0], lengths[0] + lengths[1], lengths.iter().sum()];
    let attended = SelfAttention { heads: HEADS, starts: &starts }.forward(&qkv)?;
    let wanted = golden["out_padding"].transpose(1, 2)?.contiguous()?.reshape((3, 35, 384))?;
    let wanted = joined(&wanted)?;
    // Sums of 384 products came before it.
    assert_close(&attended, &wanted, 2e-5);
    Ok(())
}

#[test]
fn the_steps_of_an_attention_are_candles() -> Result<()> {
    let golden = golden();
    let scores = golden["q"].matmul(&golden["k"].t()?)?;
    let softmax = PaddedSoftmax { scale: 1.0 / HEAD_DIM.sqrt(), lengths: &lengths(&golden) };
    assert_close(&softmax.forward(&scores)?, &golden["probs_padding"], 1e-6);
    Ok(())
}

#[test]
fn activation_and_residual_are_candles() -> Result<()> {
    let golden = golden();
    let (weight, bias) = (golden["w_query"].clone(), golden["b_query"].clone());
    let hidden = &golden["hidden"];
    let linear = Linear::new(from_ref(&weight), from_ref(&bias), Activation::GeluErf)?;
    let product = hidden.broadcast_matmul(&weight.t()?)?.broadcast_add(&bias)?;
    assert_close(&linear.forward(hidden)?, &product.gelu_erf()?, 2e-5);
    assert_close(&linear.forward_plus(hidden, hidden)?, &(product.gelu_erf()? + hidden)?, 2e-5);
    Ok(())
}

#[test]
fn errors_name_what_was_given_and_wanted() {
    let golden = golden();
    let (weight, bias) = (golden["w_query"].clone(), golden["b_query"].clone());
    let short = bias.narrow(0, 0, 3).unwrap();
    let text = |error: candle_core::Error| error.to_string();
    let made = Linear::new(from_ref(&weight), &[short], Activation::None);
    assert!(text(made.err().unwrap()).contains("bias: given [3], wanted 384 numbers"));
    let linear = Linear::new(&[weight], &[bias], Activation::None).unwrap();
    let error = linear.forward(&golden["q"]).unwrap_err();
    assert!(text(error).contains("x: given [3, 12, 35, 32], wanted a last axis of 384"));
    let strided = golden["hidden"].transpose(0, 1).unwrap();
    assert!(text(linear.forward(&strided).unwrap_err()).contains("wanted a contiguous tensor"));
    let attention = SelfAttention { heads: HEADS, starts: &[0, 6] };
    let qkv = Tensor::zeros((5, 36), candle_core::DType::F32, &Device::Cpu).unwrap();
    let error = text(attention.forward(&qkv).unwrap_err());
    assert!(error.contains("given 6, wanted at most 5"), "{error}");
}

#[test]
fn embeddings_are_candles() -> anyhow::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights");
    if !folder.join("model.safetensors").exists() {
        println!("no weights in {}: the golden tensors alone were tested", folder.display());
        println!("integrations/candle/fetch-weights.sh fetches them");
        return Ok(());
    }
    let models = Models::load(&folder)?;
    let word = "attention ".repeat(400);
    for sentences in [
        vec!["Hello."],
        vec!["The decoder turns the encoder's output into a sequence.", "Hello.", ""],
        vec![word.as_str(), "A short one beside one that is cut."],
    ] {
        let sentences: Vec<String> = sentences.into_iter().map(str::to_owned).collect();
        let own = models.embed(&models.candle, &sentences)?;
        let ours = models.embed(&models.masktile, &sentences)?;
        assert_close(&ours, &own, 1e-5);
    }
    Ok(())
}
