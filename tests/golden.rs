//! The real tensors of a transformer layer against their float64 references.

mod common;

use std::collections::HashMap;

use masktile::{
    Attention, Causal, Isa, Mask, MatMut, MatRef, Matmul, Softmax, TensorMut, TensorRef, Workspace,
};
use safetensors::SafeTensors;

const SHAPE: [usize; 4] = [3, 12, 35, 32];
const SCORES: [usize; 4] = [3, 12, 35, 35];

/// All tensors as f64, which holds every f32 and i32.
fn golden() -> HashMap<String, Vec<f64>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/minilm-layer3.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let numbers = |data: &[u8], size: usize| -> Vec<f64> {
        data.chunks(size)
            .map(|x| match size {
                8 => f64::from_le_bytes(x.try_into().unwrap()),
                _ => f64::from(f32::from_le_bytes(x.try_into().unwrap())),
            })
            .collect()
    };
    let tensor = |(name, tensor): (&str, safetensors::tensor::TensorView<'_>)| {
        let data = match tensor.dtype() {
            safetensors::Dtype::F64 => numbers(tensor.data(), 8),
            safetensors::Dtype::F32 => numbers(tensor.data(), 4),
            _ => tensor
                .data()
                .chunks(4)
                .map(|x| f64::from(i32::from_le_bytes(x.try_into().unwrap())))
                .collect(),
        };
        (name.to_owned(), data)
    };
    file.iter().map(tensor).collect()
}

fn f32s(numbers: &[f64]) -> Vec<f32> {
    numbers.iter().map(|x| *x as f32).collect()
}

#[track_caller]
fn assert_close(given: &[f32], wanted: &[f64], bound: f64, case: impl std::fmt::Display) {
    assert_eq!(given.len(), wanted.len());
    for (i, (given, wanted)) in given.iter().zip(wanted).enumerate() {
        let error = (f64::from(*given) - wanted).abs();
        assert!(error <= bound, "{case} [{i}]: {given} wanted {wanted}");
    }
}

#[test]
fn projection_and_attention_of_a_real_layer() {
    let golden = golden();
    let tensor = |name: &str| f32s(&golden[name]);
    let lengths: Vec<usize> = golden["lengths"].iter().map(|x| *x as usize).collect();
    let (hidden, weight, bias) = (tensor("hidden"), tensor("w_query"), tensor("b_query"));
    let [q, k, v] = ["q", "k", "v"].map(tensor);
    let view = |data| TensorRef::new(data, SHAPE).unwrap();
    let mut workspace = Workspace::new();
    let causal = [Causal::top_left().into(), Mask::KeyLengths(&lengths)];
    let kinds = [("padding", Mask::KeyLengths(&lengths)), ("causal_padding", Mask::All(&causal))];

    for isa in Isa::available() {
        let mut y = vec![0.0; 105 * 384];
        let weight = MatRef::new(&weight, [384, 384]).unwrap().transposed();
        Matmul::new(MatRef::new(&hidden, [105, 384]).unwrap(), weight)
            .bias(&bias)
            .isa(isa)
            .run(&mut MatMut::new(&mut y, [105, 384]).unwrap(), &mut workspace)
            .unwrap();
        assert_close(&y, &golden["proj_query"], 2e-5, isa);

        for (kind, mask) in kinds {
            let mut out = vec![0.0; q.len()];
            Attention::new(view(&q), view(&k), view(&v))
                .mask(mask)
                .isa(isa)
                .run(&mut TensorMut::new(&mut out, SHAPE).unwrap(), &mut workspace)
                .unwrap();
            assert_close(&out, &golden[&format!("out_{kind}")], 3e-6, format!("{isa} {kind}"));

            // The matrix that attention never holds, by way of the product and the softmax.
            let mut probs = vec![0.0; 3 * 12 * 35 * 35];
            for ((q, k), probs) in q.chunks(1120).zip(k.chunks(1120)).zip(probs.chunks_mut(1225)) {
                let k = MatRef::new(k, [35, 32]).unwrap().transposed();
                let mut scores = MatMut::new(probs, [35, 35]).unwrap();
                Matmul::new(MatRef::new(q, [35, 32]).unwrap(), k)
                    .isa(isa)
                    .run(&mut scores, &mut workspace)
                    .unwrap();
            }
            Softmax::new()
                .mask(mask)
                .scale(1.0 / 32f32.sqrt())
                .isa(isa)
                .run_in_place(TensorMut::new(&mut probs, SCORES).unwrap())
                .unwrap();
            // The references are themselves rounded to f32.
            assert_close(&probs, &golden[&format!("probs_{kind}")], 1e-6, format!("{isa} {kind}"));
        }

        for b in 0..3 {
            let mut out = vec![0.0; 12 * 35 * 32];
            let part = |data, b| view(data).narrow(0, b, 1).unwrap();
            Attention::new(part(&q, b), part(&k, 2 - b), part(&v, 2 - b))
                .mask(Mask::KeyLengths(&lengths[2 - b..3 - b]))
                .isa(isa)
                .run(&mut TensorMut::new(&mut out, [1, 12, 35, 32]).unwrap(), &mut workspace)
                .unwrap();
            let wanted = &golden["out_cross_reversed_batch"][b * out.len()..(b + 1) * out.len()];
            assert_close(&out, wanted, 3e-6, format!("{isa} cross {b}"));
        }
    }
}
