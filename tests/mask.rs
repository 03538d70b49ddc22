//! What each kind of mask keeps, by formulas written down once more; masks that say the same in
//! different words; pictures.

mod common;

use common::{MaskData, Numbers, Shape, assert_same_bits};
use masktile::{
    Alibi, BitMask, BlockMask, BoolMask, Causal, Isa, Mask, Offset, PrefixLm, Segments, Softmax,
    TensorMut, TensorRef, View, Window,
};

const SHAPE: Shape = [2, 2, 5, 7];

/// Every position of `shape`.
fn positions([batch, heads, queries, keys]: Shape) -> impl Iterator<Item = [usize; 4]> {
    (0..batch).flat_map(move |b| {
        (0..heads)
            .flat_map(move |h| (0..queries).flat_map(move |i| (0..keys).map(move |j| [b, h, i, j])))
    })
}

fn check(name: &str, mask: Mask<'_>, wanted: impl Fn([i64; 4]) -> bool) {
    for at in positions(SHAPE) {
        let kept = mask.kept(SHAPE, at).unwrap();
        assert_eq!(kept, wanted(at.map(|x| x as i64)), "{name} at {at:?}");
    }
}

#[test]
fn kept_is_the_formula() {
    let offset = |b: i64| [1, -2][b as usize];
    let length = |b: i64| [3, 6][b as usize];
    check("none", Mask::None, |_| true);
    check("causal", Causal::top_left().into(), |[_, _, i, j]| j <= i);
    check("causal, bottom right", Causal::bottom_right().into(), |[_, _, i, j]| j <= i + 2);
    check("causal, -1", Causal::offset(-1).into(), |[_, _, i, j]| j < i);
    check("causal by batch", Causal::offsets(&[1, -2]).into(), |[b, _, i, j]| j <= i + offset(b));
    check("causal, past", Causal::past(&[3, 6]).into(), |[b, _, i, j]| j <= i + length(b));
    check("causal, ending at", Causal::ending_at(&[3, 6]).into(), |[b, _, i, j]| {
        j <= i + length(b) - 5
    });
    check("window", Window::new(2, 1, Offset::of(1)).into(), |[_, _, i, j]| {
        i + 1 - 2 <= j && j <= i + 1 + 1
    });
    check("open window", Window::new(usize::MAX, 0, Offset::top_left()).into(), |[_, _, i, j]| {
        j <= i
    });
    check("prefix", PrefixLm::new(&[3, 6], Offset::top_left()).into(), |[b, _, i, j]| {
        j < length(b) || j <= i
    });
    check("lengths", Mask::KeyLengths(&[3, 6]), |[b, _, _, j]| j < length(b));
    check("ranges", Mask::KeyRanges(&[1..3, 4..4]), |[b, _, _, j]| b == 0 && (1..3).contains(&j));
    let (queries, keys) = ([0, 2, 2, 4], [1, 3, 4, 6]);
    let inside = |i: i64, j: i64| {
        (i < 2 && (1..3).contains(&j)) || ((2..4).contains(&i) && (4..6).contains(&j))
    };
    check("segments", Segments::cumulative(&queries, &keys).into(), |[_, _, i, j]| inside(i, j));
    check(
        "causal segments",
        Segments::cumulative_causal(&queries, &keys).into(),
        |[_, _, i, j]| inside(i, j) && j <= i + if i < 2 { 1 } else { 2 },
    );
    let (own, others) =
        ([1, 2, 3, 4, 5, 1, 1, 1, 1, 1], [1, 1, 2, 3, 9, 9, 5, 1, 0, 1, 0, 1, 0, 1]);
    let ids = Segments::ids(View::new(&own, [2, 5]).unwrap(), View::new(&others, [2, 7]).unwrap());
    check("ids", ids.into(), |[b, _, i, j]| {
        own[(b * 5 + i) as usize] == others[(b * 7 + j) as usize]
    });

    let one = |at: [i64; 4]| (at[0] * 3 + at[1] * 5 + at[2] * 7 + at[3] * 2) % 3 == 0;
    let ones: Vec<u8> =
        positions(SHAPE).map(|at| if one(at.map(|x| x as i64)) { 200 } else { 0 }).collect();
    let view = TensorRef::new(&ones, SHAPE).unwrap();
    check("ones kept", BoolMask::ones_are_kept(view).into(), one);
    check("ones masked", BoolMask::ones_are_masked(view).into(), |at| !one(at));
    let bits: Vec<u8> = ones
        .chunks(7)
        .map(|row| (0..7).fold(0, |byte, j| byte | u8::from(row[j] != 0) << j))
        .collect();
    let view = TensorRef::new(&bits, [2, 2, 5, 1]).unwrap();
    check("bits kept", BitMask::ones_are_kept(view).into(), one);
    check("bits masked", BitMask::ones_are_masked(view).into(), |at| !one(at));
    let table: Vec<u8> = (0..2 * 2 * 3 * 2).map(|at| u8::from(at % 5 < 2)).collect();
    let view = TensorRef::new(&table, [2, 2, 3, 2]).unwrap();
    let block = |[b, h, i, j]: [i64; 4]| (((b * 2 + h) * 3 + i / 2) * 2 + j / 4) % 5 < 2;
    check("blocks kept", BlockMask::ones_are_kept(view, [2, 4]).into(), block);
    check("blocks masked", BlockMask::ones_are_masked(view, [2, 4]).into(), |at| !block(at));
    check("function", Mask::kept_where(&|b, h, i, j| (b + h + i + j) % 3 == 0), |at| {
        at.iter().sum::<i64>() % 3 == 0
    });
    check("alibi", Alibi::new(&[1.0, 2.0], Offset::top_left()).into(), |_| true);
    check(
        "bias function",
        Mask::bias_of(&|_, _, i, j| if i == j { f32::NEG_INFINITY } else { f32::MIN }),
        |[_, _, i, j]| i != j,
    );
    let all = [Causal::top_left().into(), Mask::All(&[Mask::KeyLengths(&[3, 6]), Mask::None])];
    check("all", Mask::All(&all), |[b, _, i, j]| j <= i && j < length(b));
}

/// Bits of the probabilities and log-sum-exps of scores that every instruction set gives.
fn softmax(mask: Mask<'_>, shape: Shape, case: &str) -> Vec<f32> {
    let rows = shape.iter().take(3).product::<usize>();
    let scores: Vec<f32> = Numbers::new(3).many(rows * shape[3]).iter().map(|x| x * 5.0).collect();
    let run = |isa| {
        let (mut probs, mut lse) = (vec![f32::NAN; scores.len()], vec![f32::NAN; rows]);
        Softmax::new()
            .mask(mask)
            .isa(isa)
            .log_sum_exp(&mut lse)
            .run(
                TensorRef::new(&scores, shape).unwrap(),
                TensorMut::new(&mut probs, shape).unwrap(),
            )
            .unwrap();
        probs.extend(lse);
        probs
    };
    let scalar = run(Isa::SCALAR);
    for isa in Isa::available() {
        assert_same_bits(&run(isa), &scalar, format_args!("{isa} {case}"));
    }
    scalar
}

/// The same positions in other words give the same bits.
#[test]
fn masks_that_say_the_same() {
    for (queries, keys) in [(5, 7), (9, 40), (40, 40), (3, 100)] {
        let shape = [2, 2, queries, keys];
        let data = MaskData::new(shape);
        data.each_kind(|name, mask| {
            let ones: Vec<u8> =
                positions(shape).map(|at| mask.kept(shape, at).unwrap().into()).collect();
            let bias: Vec<f32> = positions(shape)
                .map(|at| match mask.kept(shape, at).unwrap() {
                    true => data.biased(&mask, at, 0.0),
                    false => f32::NEG_INFINITY,
                })
                .collect();
            let bytes = keys.div_ceil(8);
            let bits: Vec<u8> = ones
                .chunks(keys)
                .flat_map(|row| {
                    row.chunks(8).map(|part| part.iter().rev().fold(0, |byte, one| byte << 1 | one))
                })
                .collect();
            let zeros: Vec<u8> = ones.iter().map(|one| 1 - one).collect();
            let view = TensorRef::new(&ones, shape).unwrap();
            let view_bits = TensorRef::new(&bits, [2, 2, queries, bytes]).unwrap();
            let bias = TensorRef::new(&bias, shape).unwrap();
            let zeros = TensorRef::new(&zeros, shape).unwrap();

            let wanted = softmax(mask, shape, name);
            assert_same_bits(&softmax(Mask::Bias(bias), shape, name), &wanted, name);
            let adds = matches!(
                mask,
                Mask::Bias(_)
                    | Mask::BiasF16(_)
                    | Mask::BiasBf16(_)
                    | Mask::Alibi(_)
                    | Mask::BiasOf(_)
            );
            if !adds {
                for other in [
                    Mask::Bool(BoolMask::ones_are_kept(view)),
                    Mask::Bool(BoolMask::ones_are_masked(zeros)),
                    Mask::Bits(BitMask::ones_are_kept(view_bits)),
                    Mask::Blocks(BlockMask::ones_are_kept(view, [1, 1])),
                    Mask::kept_where(&|b, h, i, j| view.get([b, h, i, j]) == Some(&1)),
                ] {
                    assert_same_bits(&softmax(other, shape, name), &wanted, name);
                }
            }
        });
    }
}

#[test]
fn segments_are_their_sequences_alone() {
    let starts = [0, 3, 3, 10, 24];
    let packed = [Segments::cumulative(&starts, &starts).into(), Causal::top_left().into()];
    let shape = [1, 1, 24, 24];
    let wanted = softmax(Segments::cumulative_causal(&starts, &starts).into(), shape, "causal");
    assert_same_bits(&softmax(Mask::All(&packed), shape, "packed"), &wanted, "packed");
}

#[test]
fn pictures() {
    let causal = Mask::from(Causal::top_left());
    assert_eq!(causal.draw([1, 1, 2, 3]).unwrap().to_string(), ".##\n..#\n");
    assert_eq!(causal.to_string().lines().count(), 8);
    assert_eq!(causal.to_string().lines().next(), Some(".#######"));
    let lengths = Mask::All(&[Mask::KeyLengths(&[2, 3]), Causal::bottom_right().into()]);
    let drawing = lengths.draw([2, 1, 2, 3]).unwrap().to_string();
    assert_eq!(drawing, "batch 0, head 0:\n..#\n..#\nbatch 1, head 0:\n..#\n...\n");
    // Sizes that the mask states; a mask that does not fit its own says why.
    assert_eq!(Mask::from(Segments::cumulative(&[0, 1, 2], &[0, 2, 3])).to_string(), "..#\n##.\n");
    let ones = [1u8; 6];
    let ones = Mask::Bool(BoolMask::ones_are_kept(TensorRef::new(&ones, [1, 1, 2, 3]).unwrap()));
    assert_eq!(ones.to_string(), "...\n...\n");
    assert_eq!(
        Mask::All(&[ones, Mask::KeyLengths(&[4])]).to_string(),
        "`mask`: key length: given 4, wanted at most 3"
    );
    let large = causal.draw([1, 1, 100, 200]).unwrap().to_string();
    assert_eq!(large.lines().count(), 65);
    assert!(large.lines().next().unwrap().ends_with("#…") && large.ends_with("…\n"));
    assert_eq!(format!("{:?}", Mask::kept_where(&|_, _, _, _| true)), "Where(KeptWhere(..))");
}
