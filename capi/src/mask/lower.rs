//! Masks as the Rust API has them.

use std::ops::Range;

use api::mask::{bf16, f16};

use super::{
    Alibi, BiasOf, BoolMatrix, KeptWhere, KeyRange, Mask, MaskKind, MaskOf, Offset, OffsetKind,
    Ones, PrefixLm, SegmentIds, Segments, Window,
};
use crate::memory::{Memory, Slice, User, View};
use crate::status::{Fault, Result, Status};

/// The member that a mask's kind names.
enum Member {
    None,
    Causal(Offset),
    Window(Window),
    PrefixLm(PrefixLm),
    KeyLengths(Slice<usize>),
    KeyRanges(Slice<KeyRange>),
    Segments { of: Segments, is_causal: bool },
    SegmentIds(SegmentIds),
    Bool(BoolMatrix),
    Bits(BoolMatrix),
    Blocks(BoolMatrix),
    KeptWhere(KeptWhere),
    Bias(View<f32>),
    BiasF16(View<u16>),
    BiasBf16(View<u16>),
    Alibi(Alibi),
    BiasOf(BiasOf),
}

impl Member {
    fn of(mask: &Mask) -> Result<Member> {
        let kind = enumerator("mask kind", mask.kind, 0, &MaskKind::ALL)?;
        // SAFETY: of every member all bits are a value.
        Ok(unsafe {
            match (kind, mask.of) {
                (MaskKind::None, _) => Member::None,
                (MaskKind::Causal, MaskOf { offset }) => Member::Causal(offset),
                (MaskKind::Window, MaskOf { window }) => Member::Window(window),
                (MaskKind::PrefixLm, MaskOf { prefix }) => Member::PrefixLm(prefix),
                (MaskKind::KeyLengths, MaskOf { lengths }) => Member::KeyLengths(lengths),
                (MaskKind::KeyRanges, MaskOf { ranges }) => Member::KeyRanges(ranges),
                (MaskKind::Segments, MaskOf { segments: of }) => {
                    Member::Segments { of, is_causal: false }
                }
                (MaskKind::SegmentsCausal, MaskOf { segments: of }) => {
                    Member::Segments { of, is_causal: true }
                }
                (MaskKind::SegmentIds, MaskOf { ids }) => Member::SegmentIds(ids),
                (MaskKind::Bool, MaskOf { matrix }) => Member::Bool(matrix),
                (MaskKind::Bits, MaskOf { matrix }) => Member::Bits(matrix),
                (MaskKind::Blocks, MaskOf { matrix }) => Member::Blocks(matrix),
                (MaskKind::KeptWhere, MaskOf { kept_where }) => Member::KeptWhere(kept_where),
                (MaskKind::Bias, MaskOf { bias }) => Member::Bias(bias),
                (MaskKind::BiasF16, MaskOf { half_bias }) => Member::BiasF16(half_bias),
                (MaskKind::BiasBf16, MaskOf { half_bias }) => Member::BiasBf16(half_bias),
                (MaskKind::Alibi, MaskOf { alibi }) => Member::Alibi(alibi),
                (MaskKind::BiasOf, MaskOf { bias_of }) => Member::BiasOf(bias_of),
            }
        })
    }
}

/// What a mask of the Rust API borrows and C has in another form.
enum Converted {
    Nothing,
    Ranges(Vec<Range<usize>>),
    Keeps(Box<dyn Fn(usize, usize, usize, usize) -> bool + Sync>),
    Bias(Box<dyn Fn(usize, usize, usize, usize) -> f32 + Sync>),
}

impl Converted {
    fn of(memory: &Memory<'_>, member: &Member) -> Result<Converted> {
        Ok(match member {
            Member::KeyRanges(ranges) => {
                let ranges = memory.read("masks", *ranges)?;
                Converted::Ranges(ranges.iter().map(|range| range.start..range.end).collect())
            }
            Member::KeptWhere(KeptWhere { function, user }) => {
                let (function, user) = (given(*function)?, User(*user));
                Converted::Keeps(Box::new(move |batch, head, query, key| {
                    // SAFETY: the caller's function takes any position.
                    unsafe { function(user.get(), batch, head, query, key) != 0 }
                }))
            }
            Member::BiasOf(BiasOf { function, user }) => {
                let (function, user) = (given(*function)?, User(*user));
                Converted::Bias(Box::new(move |batch, head, query, key| {
                    // SAFETY: the caller's function takes any position.
                    unsafe { function(user.get(), batch, head, query, key) }
                }))
            }
            _ => Converted::Nothing,
        })
    }
}

/// A call's masks, with all that those of the Rust API borrow.
pub(crate) struct Masks(Vec<(Member, Converted)>);

impl Masks {
    /// The array's. What is written was lent before.
    pub fn new(memory: &Memory<'_>, masks: *const Mask, count: usize) -> Result<Self> {
        let masks = memory.array("masks", masks, count)?;
        let convert = |mask| {
            let member = Member::of(mask)?;
            let converted = Converted::of(memory, &member)?;
            Ok((member, converted))
        };
        masks.iter().map(convert).collect::<Result<_>>().map(Masks)
    }

    /// The same as the Rust API has them; none if there are none.
    pub fn lowered<'m, 'a: 'm>(&'m self, memory: &Memory<'a>) -> Result<Vec<api::Mask<'m>>> {
        self.0.iter().map(|(member, converted)| lower(memory, member, converted)).collect()
    }
}

fn lower<'m, 'a: 'm>(
    memory: &Memory<'a>,
    member: &Member,
    converted: &'m Converted,
) -> Result<api::Mask<'m>> {
    Ok(match (member, converted) {
        (_, Converted::Ranges(ranges)) => api::Mask::KeyRanges(ranges),
        (_, Converted::Keeps(keeps)) => api::Mask::kept_where(keeps),
        (_, Converted::Bias(bias)) => api::Mask::bias_of(bias),
        // A window without a bound at the left is causal: the Rust API knows no difference.
        (Member::Causal(at), _) => api::Window::new(usize::MAX, 0, offset(memory, at)?).into(),
        (Member::Window(window), _) => {
            api::Window::new(window.left, window.right, offset(memory, &window.offset)?).into()
        }
        (Member::PrefixLm(prefix), _) => {
            let lengths = memory.read("masks", prefix.lengths)?;
            api::PrefixLm::new(lengths, offset(memory, &prefix.offset)?).into()
        }
        (Member::KeyLengths(lengths), _) => api::Mask::KeyLengths(memory.read("masks", *lengths)?),
        (Member::Segments { of, is_causal }, _) => {
            let (queries, keys) =
                (memory.read("masks", of.queries)?, memory.read("masks", of.keys)?);
            let segments = match is_causal {
                false => api::Segments::cumulative(queries, keys),
                true => api::Segments::cumulative_causal(queries, keys),
            };
            segments.into()
        }
        (Member::SegmentIds(ids), _) => {
            let of = |view| memory.view("masks", view);
            api::Segments::ids(of(&ids.queries)?, of(&ids.keys)?).into()
        }
        (Member::Bool(matrix), _) => {
            let ones: api::TensorRef<'_, u8> = memory.view("masks", &matrix.ones)?;
            match meaning(matrix)? {
                Ones::AreMasked => api::BoolMask::ones_are_masked(ones),
                Ones::AreKept => api::BoolMask::ones_are_kept(ones),
            }
            .into()
        }
        (Member::Bits(matrix), _) => {
            let ones: api::TensorRef<'_, u8> = memory.view("masks", &matrix.ones)?;
            match meaning(matrix)? {
                Ones::AreMasked => api::BitMask::ones_are_masked(ones),
                Ones::AreKept => api::BitMask::ones_are_kept(ones),
            }
            .into()
        }
        (Member::Blocks(matrix), _) => {
            let ones: api::TensorRef<'_, u8> = memory.view("masks", &matrix.ones)?;
            let block = [matrix.block_queries, matrix.block_keys];
            match meaning(matrix)? {
                Ones::AreMasked => api::BlockMask::ones_are_masked(ones, block),
                Ones::AreKept => api::BlockMask::ones_are_kept(ones, block),
            }
            .into()
        }
        (Member::Bias(bias), _) => api::Mask::Bias(memory.view("masks", bias)?),
        (Member::BiasF16(bias), _) => {
            api::Mask::BiasF16(memory.view("masks", &bias.cast::<f16>())?)
        }
        (Member::BiasBf16(bias), _) => {
            api::Mask::BiasBf16(memory.view("masks", &bias.cast::<bf16>())?)
        }
        (Member::Alibi(alibi), _) => {
            let slopes = memory.read("masks", alibi.slopes)?;
            api::Alibi::new(slopes, offset(memory, &alibi.offset)?).into()
        }
        // The three others have been converted.
        (
            Member::None | Member::KeyRanges(_) | Member::KeptWhere(_) | Member::BiasOf(_),
            Converted::Nothing,
        ) => api::Mask::None,
    })
}

fn offset<'a>(memory: &Memory<'a>, offset: &Offset) -> Result<api::Offset<'a>> {
    Ok(match enumerator("offset kind", offset.kind, 1, &OffsetKind::ALL)? {
        OffsetKind::TopLeft => api::Offset::top_left(),
        OffsetKind::BottomRight => api::Offset::bottom_right(),
        OffsetKind::Same => api::Offset::of(offset.same),
        OffsetKind::PerBatch => api::Offset::per_batch(memory.read("masks", offset.per_batch)?),
        OffsetKind::Past => api::Offset::past(memory.read("masks", offset.lengths)?),
        OffsetKind::EndingAt => api::Offset::ending_at(memory.read("masks", offset.lengths)?),
    })
}

fn meaning(matrix: &BoolMatrix) -> Result<Ones> {
    enumerator("meaning of a 1", matrix.meaning, 1, &[Ones::AreMasked, Ones::AreKept])
}

/// The enumerator of number `given`, of all in order from `first` on.
fn enumerator<T: Copy>(what: &str, given: u32, first: u32, all: &[T]) -> Result<T> {
    let place = given.checked_sub(first).and_then(|place| usize::try_from(place).ok());
    place.and_then(|place| all.get(place)).copied().ok_or_else(|| {
        let last = first as usize + all.len() - 1;
        let what = format_args!("{what}: given {given}, wanted one of {first} to {last}");
        Fault::new(Status::Unknown, "masks", what)
    })
}

fn given<F>(function: Option<F>) -> Result<F> {
    function.ok_or_else(|| {
        Fault::new(Status::Null, "masks", "function: given a null pointer, wanted a function")
    })
}
