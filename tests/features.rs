//! What a build leaves out is an error that names the feature, and touches no output; what it has
//! works. CI runs this with and without the features.

use masktile::mask::f16;
use masktile::{
    Activation, Alibi, Attention, BitMask, BlockMask, BoolMask, Causal, ErrorKind, Mask, MatMut,
    MatRef, Matmul, Offset, PrefixLm, Result, Segments, Softmax, TensorMut, TensorRef, View,
    Window,
};

/// `asked` fails if and only if `feature` is left out, and then by its name.
fn needs(feature: &'static str, is_there: bool, asked: impl FnOnce(&mut [f32]) -> Result<()>) {
    let untouched = [7.0; 64];
    let mut out = untouched;
    match asked(&mut out) {
        Ok(()) => {
            assert!(is_there, "without the feature {feature} it worked");
            assert_ne!(out, untouched, "{feature}");
        }
        Err(error) => {
            assert!(!is_there, "with the feature {feature}: {error}");
            assert_eq!(error.kind(), ErrorKind::Feature { wanted: feature });
            assert!(error.to_string().contains(&format!("`{feature}`")), "{error}");
            assert_eq!(out, untouched, "{feature}");
        }
    }
}

const SHAPE: [usize; 4] = [1, 1, 4, 16];
const SCORES: [f32; 64] = [0.5; 64];

fn softmax(softmax: Softmax<'_>, out: &mut [f32]) -> Result<()> {
    softmax.run(TensorRef::new(&SCORES, SHAPE)?, TensorMut::new(out, SHAPE)?)
}

fn attention() -> Attention<'static> {
    let tokens = |tokens| TensorRef::new(&SCORES, [1, 1, tokens, 4]).expect("it fits");
    Attention::new(tokens(4), tokens(16), tokens(16))
}

#[test]
fn masks() {
    let (lengths, ids) = ([9], [3i32; 16]);
    let ids = |n| View::new(&ids[..n], [1, n]).expect("it fits");
    let bits = TensorRef::new(&[0x5fu8; 8], [1, 1, 4, 2]).expect("it fits");
    let blocks = TensorRef::new(&[1u8; 4], [1, 1, 2, 2]).expect("it fits");
    let halves = [f16::ONE; 64];
    let always: [Mask; 5] = [
        Causal::bottom_right().into(),
        Window::new(2, 1, Offset::top_left()).into(),
        Mask::KeyLengths(&lengths),
        BoolMask::ones_are_kept(TensorRef::new(&[1u8; 64], SHAPE).expect("it fits")).into(),
        Mask::Bias(TensorRef::new(&SCORES, SHAPE).expect("it fits")),
    ];
    let mut out = [7.0; 64];
    for mask in always {
        softmax(Softmax::new().mask(mask), &mut out).expect("every build has it");
    }
    let by_feature: [Mask; 9] = [
        PrefixLm::new(&lengths, Offset::top_left()).into(),
        Mask::KeyRanges(std::slice::from_ref(&(2..9))),
        Segments::cumulative(&[0, 4], &[0, 16]).into(),
        Segments::ids(ids(4), ids(16)).into(),
        BitMask::ones_are_kept(bits).into(),
        BlockMask::ones_are_kept(blocks, [2, 8]).into(),
        Mask::kept_where(&|_, _, _, key| key < 5),
        Mask::BiasF16(TensorRef::new(&halves, SHAPE).expect("it fits")),
        Alibi::new(&[0.5], Offset::top_left()).into(),
    ];
    for mask in by_feature {
        needs("masks", cfg!(feature = "masks"), |out| softmax(Softmax::new().mask(mask), out));
        needs("masks", cfg!(feature = "masks"), |out| {
            let mut out = TensorMut::new(out, [1, 1, 4, 4])?;
            attention().mask(Mask::All(&[mask])).run(&mut out, &mut [0.0; 4096][..])
        });
    }
}

#[test]
fn scores() {
    let is_there = cfg!(feature = "scores");
    let options: [fn(Softmax<'static>) -> Softmax<'static>; 4] =
        [|s| s.softcap(3.0), |s| s.temperature(2.0), |s| s.sinks(&[1.0]), |s| s.log()];
    for option in options {
        needs("scores", is_there, |out| softmax(option(Softmax::new()), out));
    }
    needs("scores", is_there, |out| {
        let (lse, probs) = out.split_at_mut(4);
        let probs = TensorMut::with_strides(probs, [1, 1, 4, 8], [0, 0, 8, 1])?;
        let scores = TensorRef::new(&SCORES, [1, 1, 4, 8])?;
        Softmax::new().log_sum_exp(lse).run(scores, probs)
    });
    needs("scores", is_there, |blocks| attention().run_key_blocks(blocks, &mut [0.0; 4096][..]));
    needs("scores", is_there, |out| {
        let mut values = [0.0; 16];
        let copy = TensorMut::new(out, SHAPE)?;
        attention()
            .copy_scores(masktile::attention::Copied::Probs, copy)
            .run(&mut TensorMut::new(&mut values, [1, 1, 4, 4])?, &mut [0.0; 4096][..])
    });
}

#[test]
fn activations() {
    for (activation, is_there) in [
        (Activation::Relu, true),
        (Activation::GeluErf, cfg!(feature = "activations")),
        (Activation::GeluTanh, cfg!(feature = "activations")),
        (Activation::Silu, cfg!(feature = "activations")),
    ] {
        needs("activations", is_there, |out| {
            let a = MatRef::new(&SCORES, [8, 8])?;
            let mut c = MatMut::new(out, [8, 8])?;
            Matmul::new(a, a).activation(activation).run(&mut c, &mut [0.0; 2048][..])
        });
    }
}
