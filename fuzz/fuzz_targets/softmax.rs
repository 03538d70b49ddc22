//! Softmax under any composition of masks: float64 within the promised bound, nothing from behind
//! a mask, the same bits in place and on every instruction set.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use masktile::{Softmax, TensorMut, TensorRef};
use masktile_fuzz::common::{same_bits, softmax_row};
use masktile_fuzz::{Floats, Lie, MaskChoice, indices, on_every_isa};

#[derive(Arbitrary, Debug)]
struct Case {
    shape: [u8; 4],
    lie: Lie,
    scores: Floats,
    scale: f32,
    mask: MaskChoice,
    softcap: Option<f32>,
    temperature: Option<f32>,
    has_sinks: bool,
    is_log: bool,
}

fuzz_target!(|case: Case| {
    let [batch, heads, queries, keys] = case.shape.map(usize::from);
    let shape = [batch % 3 + 1, heads % 3 + 1, queries % 6, keys % 70];
    let strides = case.lie.strides(shape);
    let scores = case.scores.many(case.lie.extent(shape));
    let scores_view = TensorRef::with_strides(&scores, shape, strides).unwrap();
    let rows = shape[0] * shape[1] * shape[2];
    let sinks = case.scores.many(shape[1]);
    case.mask.with(shape, |data, mask| {
        let softmax = || {
            let softmax = Softmax::new().mask(mask).scale(case.scale);
            let softmax = if case.is_log { softmax.log() } else { softmax };
            let softmax = if case.has_sinks { softmax.sinks(&sinks) } else { softmax };
            let softmax = match case.softcap {
                Some(cap) => softmax.softcap(cap),
                None => softmax,
            };
            match case.temperature {
                Some(temperature) => softmax.temperature(temperature),
                None => softmax,
            }
        };
        let probs = on_every_isa(rows + scores.len(), |isa, memory| {
            let (lse, probs) = memory.split_at_mut(rows);
            let out = TensorMut::with_strides(probs, shape, strides).unwrap();
            softmax().isa(isa).log_sum_exp(lse).run(scores_view, out)
        });
        let Some(probs) = probs else { return };
        let probs = TensorRef::with_strides(&probs[rows..], shape, strides).unwrap();

        // Whatever stands behind the masks has no influence.
        let mut poisoned = scores.clone();
        let mut view = TensorMut::with_strides(&mut poisoned, shape, strides).unwrap();
        for at in indices(shape).filter(|at| !mask.kept(shape, *at).unwrap()) {
            *view.get_mut(at).unwrap() = f32::NAN;
        }
        softmax().run_in_place(view.reborrow()).unwrap();
        let elements = |view: TensorRef<'_>| -> Vec<f32> {
            indices(shape).map(|at| *view.get(at).unwrap()).collect()
        };
        assert!(same_bits(&elements(view.as_ref()), &elements(probs)), "poisoned, in place");

        let is_plain = case.softcap.is_none() && case.temperature.is_none();
        if !is_plain || case.has_sinks || case.is_log {
            return;
        }
        for [b, h, q] in indices([shape[0], shape[1], shape[2]]) {
            let logits: Vec<Option<f64>> = (0..shape[3])
                .map(|key| {
                    let at = [b, h, q, key];
                    let score = *scores_view.get(at).unwrap() * case.scale;
                    let kept = mask.kept(shape, at).unwrap();
                    kept.then(|| f64::from(data.biased(&mask, at, score)))
                })
                .collect();
            let is_finite = logits.iter().flatten().all(|logit| logit.is_finite());
            let max = logits.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
            let (wanted, _) = softmax_row(&logits);
            for (key, (logit, wanted)) in logits.into_iter().zip(wanted).enumerate() {
                let given = *probs.get([b, h, q, key]).unwrap();
                match logit {
                    None => assert_eq!(given.to_bits(), 0, "masked"),
                    Some(logit) if is_finite => {
                        let bound = (4.0 + (logit - max).abs()) * 2f64.powi(-24) * wanted;
                        let error = (f64::from(given) - wanted).abs();
                        assert!(error <= bound.max(1e-37), "{given:e}, wanted {wanted:e}");
                    }
                    Some(_) => {}
                }
            }
        }
    });
});
