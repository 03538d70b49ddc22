//! Every kind of mask: what C says is what the Rust API does.

mod common;

use std::ffi::{CStr, c_char, c_void};

use api::mask::{bf16, f16};
use common::{
    args, assert_done, assert_same_bits, last_error, numbers, slice, view, view_mut, view_of,
};
use masktile::mask::{
    Alibi, BiasOf, BoolMatrix, KeptWhere, KeyRange, Mask, MaskKind, MaskOf, Offset, OffsetKind,
    Ones, PrefixLm, SegmentIds, Segments, Window, masktile_mask_draw, masktile_mask_kept,
};
use masktile::softmax::{Softmax, masktile_softmax};
use masktile::status::Status;

const SHAPE: [usize; 4] = [2, 2, 5, 9];
const ALL: usize = 2 * 2 * 5 * 9;

unsafe extern "C-unwind" fn keeps(
    user: *mut c_void,
    batch: usize,
    head: usize,
    query: usize,
    key: usize,
) -> i32 {
    i32::from(keeps_with(user.addr(), batch, head, query, key))
}

fn keeps_with(user: usize, batch: usize, head: usize, query: usize, key: usize) -> bool {
    !(user + batch + 2 * head + 3 * query + 5 * key).is_multiple_of(4)
}

unsafe extern "C-unwind" fn bias(
    user: *mut c_void,
    batch: usize,
    head: usize,
    query: usize,
    key: usize,
) -> f32 {
    bias_with(user.addr(), batch, head, query, key)
}

fn bias_with(user: usize, batch: usize, head: usize, query: usize, key: usize) -> f32 {
    match (user + batch + head + 2 * query + 3 * key) % 7 {
        0 => f32::NEG_INFINITY,
        n => n as f32 * 0.25 - 0.8,
    }
}

fn mask(kind: MaskKind, of: MaskOf) -> Mask {
    args(|mask: &mut Mask| {
        mask.kind = kind as u32;
        mask.of = of;
    })
}

fn offset(kind: OffsetKind) -> Offset {
    Offset { kind: kind as u32, same: 0, per_batch: slice(&[]), lengths: slice(&[]) }
}

/// Both forms of every kind, with a name, to `f`.
fn each_kind(mut f: impl FnMut(&str, Mask, api::Mask<'_>)) {
    let (lengths, offsets) = ([7, 4], [1, -2]);
    let ranges = [2..9, 1..4];
    let c_ranges = ranges.clone().map(|range| KeyRange { start: range.start, end: range.end });
    let (starts, key_starts) = ([0, 2, 5], [0, 4, 9]);
    let ids: Vec<i32> = (0..18).map(|i| i % 9 / 3).collect();
    let bytes: Vec<u8> = (0..ALL).map(|i| (i * 7 % 3) as u8).collect();
    let bias_f32: Vec<f32> = numbers(3, ALL);
    let bias_f16: Vec<f16> = bias_f32.iter().map(|x| f16::from_f32(*x)).collect();
    let bias_bf16: Vec<bf16> = bias_f32.iter().map(|x| bf16::from_f32(*x)).collect();
    let slopes = [0.5, 0.25];
    let user = std::ptr::without_provenance_mut(1);
    let keeps_one = |b, h, i, j| keeps_with(1, b, h, i, j);
    let bias_one = |b, h, i, j| bias_with(1, b, h, i, j);

    f("none", mask(MaskKind::None, MaskOf { lengths: slice(&[]) }), api::Mask::None);
    let stands: [(Offset, api::Causal<'_>); 6] = [
        (offset(OffsetKind::TopLeft), api::Causal::top_left()),
        (offset(OffsetKind::BottomRight), api::Causal::bottom_right()),
        (Offset { same: -1, ..offset(OffsetKind::Same) }, api::Causal::offset(-1)),
        (
            Offset { per_batch: slice(&offsets), ..offset(OffsetKind::PerBatch) },
            api::Causal::offsets(&offsets),
        ),
        (
            Offset { lengths: slice(&lengths), ..offset(OffsetKind::Past) },
            api::Causal::past(&lengths),
        ),
        (
            Offset { lengths: slice(&lengths), ..offset(OffsetKind::EndingAt) },
            api::Causal::ending_at(&lengths),
        ),
    ];
    for (offset, causal) in stands {
        f("causal", mask(MaskKind::Causal, MaskOf { offset }), causal.into());
    }
    let at = offset(OffsetKind::BottomRight);
    let window = Window { left: 2, right: 1, offset: at };
    let there = api::Offset::bottom_right();
    f("window", mask(MaskKind::Window, MaskOf { window }), api::Window::new(2, 1, there).into());
    let prefix = PrefixLm { lengths: slice(&lengths), offset: offset(OffsetKind::TopLeft) };
    f(
        "prefix",
        mask(MaskKind::PrefixLm, MaskOf { prefix }),
        api::PrefixLm::new(&lengths, api::Offset::top_left()).into(),
    );
    f(
        "key lengths",
        mask(MaskKind::KeyLengths, MaskOf { lengths: slice(&lengths) }),
        api::Mask::KeyLengths(&lengths),
    );
    f(
        "key ranges",
        mask(MaskKind::KeyRanges, MaskOf { ranges: slice(&c_ranges) }),
        api::Mask::KeyRanges(&ranges),
    );
    let segments = Segments { queries: slice(&starts), keys: slice(&key_starts) };
    f(
        "segments",
        mask(MaskKind::Segments, MaskOf { segments }),
        api::Segments::cumulative(&starts, &key_starts).into(),
    );
    f(
        "causal segments",
        mask(MaskKind::SegmentsCausal, MaskOf { segments }),
        api::Segments::cumulative_causal(&starts, &key_starts).into(),
    );
    let of = SegmentIds {
        queries: view_of(&ids[..10], [1, 1, 2, 5]),
        keys: view_of(&ids, [1, 1, 2, 9]),
    };
    f("segment ids", mask(MaskKind::SegmentIds, MaskOf { ids: of }), {
        let of_queries = api::View::new(&ids[..10], [2, 5]).unwrap();
        api::Segments::ids(of_queries, api::View::new(&ids, [2, 9]).unwrap()).into()
    });
    let matrix = |shape, meaning: Ones, [block_queries, block_keys]: [usize; 2]| MaskOf {
        matrix: BoolMatrix {
            ones: view_of(&bytes, shape),
            meaning: meaning as u32,
            block_queries,
            block_keys,
        },
    };
    let ones = |shape| api::TensorRef::new(&bytes, shape).unwrap();
    for (meaning, is_kept) in [(Ones::AreMasked, false), (Ones::AreKept, true)] {
        f("bytes", mask(MaskKind::Bool, matrix(SHAPE, meaning, [0; 2])), {
            let polarity = [api::BoolMask::ones_are_masked, api::BoolMask::ones_are_kept];
            polarity[usize::from(is_kept)](ones(SHAPE)).into()
        });
        let shape = [2, 2, 5, 2];
        f("bits", mask(MaskKind::Bits, matrix(shape, meaning, [0; 2])), {
            let polarity = [api::BitMask::ones_are_masked, api::BitMask::ones_are_kept];
            polarity[usize::from(is_kept)](ones(shape)).into()
        });
        let shape = [2, 2, 3, 3];
        f("blocks", mask(MaskKind::Blocks, matrix(shape, meaning, [2, 4])), {
            let polarity = [api::BlockMask::ones_are_masked, api::BlockMask::ones_are_kept];
            polarity[usize::from(is_kept)](ones(shape), [2, 4]).into()
        });
    }
    let kept_where = KeptWhere { function: Some(keeps), user };
    f(
        "function",
        mask(MaskKind::KeptWhere, MaskOf { kept_where }),
        api::Mask::kept_where(&keeps_one),
    );
    let tensor = api::TensorRef::new(&bias_f32, SHAPE).unwrap();
    f(
        "bias",
        mask(MaskKind::Bias, MaskOf { bias: view(&bias_f32, SHAPE) }),
        api::Mask::Bias(tensor),
    );
    let bits: Vec<u16> = bias_f16.iter().map(|x| x.to_bits()).collect();
    f(
        "f16 bias",
        mask(MaskKind::BiasF16, MaskOf { half_bias: view_of(&bits, SHAPE) }),
        api::Mask::BiasF16(api::TensorRef::new(&bias_f16, SHAPE).unwrap()),
    );
    let bits: Vec<u16> = bias_bf16.iter().map(|x| x.to_bits()).collect();
    f(
        "bf16 bias",
        mask(MaskKind::BiasBf16, MaskOf { half_bias: view_of(&bits, SHAPE) }),
        api::Mask::BiasBf16(api::TensorRef::new(&bias_bf16, SHAPE).unwrap()),
    );
    let alibi = Alibi { slopes: slice(&slopes), offset: at };
    f("alibi", mask(MaskKind::Alibi, MaskOf { alibi }), api::Alibi::new(&slopes, there).into());
    let bias_of = BiasOf { function: Some(bias), user };
    f("bias function", mask(MaskKind::BiasOf, MaskOf { bias_of }), api::Mask::bias_of(&bias_one));
}

fn softmax(masks: &[Mask]) -> Vec<f32> {
    let (scores, mut probs) = (numbers(1, ALL), vec![0.0; ALL]);
    let args = args(|softmax: &mut Softmax| {
        softmax.scores = view(&scores, SHAPE);
        softmax.probs = view_mut(&mut probs, SHAPE);
        (softmax.masks, softmax.mask_count) = (masks.as_ptr(), masks.len());
    });
    // SAFETY: the memory is there.
    assert_done(unsafe { masktile_softmax(&args) });
    probs
}

fn softmax_in_rust(mask: api::Mask<'_>) -> Vec<f32> {
    let (scores, mut probs) = (numbers(1, ALL), vec![0.0; ALL]);
    let scores = api::TensorRef::new(&scores, SHAPE).unwrap();
    let out = api::TensorMut::new(&mut probs, SHAPE).unwrap();
    api::Softmax::new().mask(mask).run(scores, out).unwrap();
    probs
}

#[test]
fn every_kind_and_every_kind_beside_padding() {
    let lengths = [6, 9];
    let padding = mask(MaskKind::KeyLengths, MaskOf { lengths: slice(&lengths) });
    let mut kinds = 0;
    each_kind(|name, mask, same| {
        assert_same_bits(&softmax(&[mask]), &softmax_in_rust(same), name);
        let both = [same, api::Mask::KeyLengths(&lengths)];
        assert_same_bits(
            &softmax(&[mask, padding]),
            &softmax_in_rust(api::Mask::All(&both)),
            &format!("{name}, padded"),
        );
        kinds += 1;
    });
    assert_eq!(kinds, 26);
}

#[test]
fn pictures_and_positions() {
    each_kind(|name, mask, same| {
        let mut text = [0u8; 4096];
        // SAFETY: the memory is there.
        assert_done(unsafe {
            masktile_mask_draw(&mask, 1, SHAPE.as_ptr(), text.as_mut_ptr().cast(), text.len())
        });
        let drawn = CStr::from_bytes_until_nul(&text).unwrap().to_str().unwrap();
        assert_eq!(drawn, same.draw(SHAPE).unwrap().to_string(), "{name}");
        for position in [[0, 0, 0, 0], [1, 1, 4, 8], [0, 1, 2, 5], [1, 0, 3, 2]] {
            let mut kept = -1;
            // SAFETY: the memory is there.
            assert_done(unsafe {
                masktile_mask_kept(&mask, 1, SHAPE.as_ptr(), position.as_ptr(), &mut kept)
            });
            assert_eq!(kept != 0, same.kept(SHAPE, position).unwrap(), "{name}, {position:?}");
        }
    });
}

#[test]
fn a_picture_needs_room_for_its_zero() {
    let shape = [1, 1, 2, 2];
    let draw = |text: &mut [c_char]| {
        // SAFETY: the memory is there.
        unsafe {
            masktile_mask_draw(std::ptr::null(), 0, shape.as_ptr(), text.as_mut_ptr(), text.len())
        }
    };
    let mut text = [1; 7];
    for room in 0..7 {
        assert_eq!(draw(&mut text[..room]), Status::TooShort, "{room}");
        assert_eq!(last_error(), format!("`text`: length: given {room}, wanted more"));
        assert_eq!(text, [1; 7], "touched");
    }
    assert_done(draw(&mut text));
    assert_eq!(text.map(|byte| byte as u8), *b"..\n..\n\0");
}

#[test]
fn errors_of_masks() {
    let check = |masks: &[Mask], status, message: &str| {
        let (scores, mut probs) = (numbers(1, ALL), vec![common::BEFORE; ALL]);
        let args = args(|softmax: &mut Softmax| {
            softmax.scores = view(&scores, SHAPE);
            softmax.probs = view_mut(&mut probs, SHAPE);
            (softmax.masks, softmax.mask_count) = (masks.as_ptr(), masks.len());
        });
        // SAFETY: the memory is there.
        assert_eq!(unsafe { masktile_softmax(&args) }, status, "{message}");
        assert_eq!(last_error(), message);
        assert!(probs.iter().all(|x| *x == common::BEFORE), "touched: {message}");
    };
    let none = mask(MaskKind::None, MaskOf { lengths: slice(&[]) });
    let unknown = Mask { kind: 18, ..none };
    check(&[none, unknown], Status::Unknown, "`masks`: mask kind: given 18, wanted one of 0 to 17");
    let causal =
        mask(MaskKind::Causal, MaskOf { offset: Offset { kind: 0, ..offset(OffsetKind::Past) } });
    check(&[causal], Status::Unknown, "`masks`: offset kind: given 0, wanted one of 1 to 6");
    let bytes = [0; ALL];
    let mut matrix =
        BoolMatrix { ones: view_of(&bytes, SHAPE), meaning: 0, block_queries: 0, block_keys: 0 };
    check(
        &[mask(MaskKind::Bool, MaskOf { matrix })],
        Status::Unknown,
        "`masks`: meaning of a 1: given 0, wanted one of 1 to 2",
    );
    matrix.meaning = 1;
    matrix.ones.len -= 1;
    check(
        &[mask(MaskKind::Bool, MaskOf { matrix })],
        Status::TooShort,
        "`masks`: length: given 179, wanted at least 180",
    );
    let kept_where = KeptWhere { function: None, user: std::ptr::null_mut() };
    check(
        &[mask(MaskKind::KeptWhere, MaskOf { kept_where })],
        Status::Null,
        "`masks`: function: given a null pointer, wanted a function",
    );
    let size = size_of::<Mask>();
    for wrong in [0, 8, size - 1, size + 8, usize::MAX] {
        check(
            &[Mask { size: wrong, ..none }, none],
            Status::StructSize,
            &format!("`masks`: size: given {wrong}, wanted {size} to {size}"),
        );
    }
    check(
        &[none, Mask { size: 3, ..none }],
        Status::StructSize,
        &format!("`masks`: size of element 1: given 3, wanted {size}"),
    );
    let lengths = [4];
    check(
        &[mask(MaskKind::KeyLengths, MaskOf { lengths: slice(&lengths) })],
        Status::Size,
        "`mask`: key lengths: given 1, wanted 2",
    );
}
