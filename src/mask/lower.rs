//! Masks checked against the scores' shape, and sorted as kernels read them.

use core::num::NonZeroUsize;

use masktile_kernels::mask as kernel;
use masktile_kernels::mask::{Bits, Grid, MAX_OF_A_SORT, Plan, Range};

use super::kinds::{Offset, Place, SegmentsKind};
use super::{Mask, Shape};
use crate::Result;
use crate::error::{Error, ErrorKind, same, same_shape};
use crate::view::{TensorRef, View};

/// Masks in all that may be composed, and levels of [`Mask::All`].
const MOST: usize = 64;
const DEEPEST: usize = 8;

/// The masks as kernels read them, added to a plan: it is large, and what returns it copies it.
pub(super) fn add_to_plan<'a>(mask: &Mask<'a>, shape: Shape, plan: &mut Plan<'a>) -> Result<()> {
    bounded(mask)?;
    lower(mask, shape, plan)
}

/// An error for a mask that takes too long to walk: slices that hold one another grow without a
/// bound.
pub(super) fn bounded(mask: &Mask<'_>) -> Result<()> {
    fn walk(mask: &Mask<'_>, depth: usize, count: &mut usize) -> Result<()> {
        let too_large = |what, given, limit| {
            Err(Error::new("mask", ErrorKind::TooLarge { what, given, limit }))
        };
        *count += 1;
        if *count > MOST {
            return too_large("masks composed", *count, MOST);
        }
        let Mask::All(masks) = mask else { return Ok(()) };
        if depth == DEEPEST {
            return too_large("levels of masks composed", DEEPEST + 1, DEEPEST);
        }
        masks.iter().try_for_each(|mask| walk(mask, depth + 1, count))
    }
    walk(mask, 0, &mut 0)
}

fn lower<'a>(mask: &Mask<'a>, shape: Shape, plan: &mut Plan<'a>) -> Result<()> {
    let [batch, heads, queries, keys] = shape;
    let pushed = match *mask {
        Mask::None => true,
        Mask::Causal(causal) => {
            let offset = place(causal.0, shape)?;
            plan.ranges.push(Range::Band { offset, left: usize::MAX, right: 0 })
        }
        Mask::Window(window) => {
            let (offset, left) = (place(window.offset, shape)?, window.left);
            plan.ranges.push(Range::Band { offset, left, right: window.right })
        }
        Mask::KeyLengths(given) => {
            plan.ranges.push(Range::KeyLengths(lengths(KEY_LENGTHS, given, batch, keys)?))
        }
        Mask::Bool(mask) => {
            let ones = grid(mask.ones, shape)?;
            plan.bits.push(Bits::Bytes { ones, ones_are_kept: mask.ones_are_kept })
        }
        Mask::Bias(bias) => plan.biases.push(kernel::Bias::F32(grid(bias, shape)?)),
        Mask::All(masks) => {
            masks.iter().try_for_each(|mask| lower(mask, shape, plan))?;
            true
        }
        _ if !kernel::ALL => {
            return Err(Error::new("mask", ErrorKind::Feature { wanted: "masks" }));
        }
        Mask::PrefixLm(prefix) => {
            let offset = place(prefix.offset, shape)?;
            let lengths =
                lengths(["prefix lengths", "prefix length"], prefix.lengths, batch, keys)?;
            plan.ranges.push(Range::Prefix { offset, lengths })
        }
        Mask::KeyRanges(ranges) => {
            same("mask", "key ranges", ranges.len(), batch)?;
            for range in ranges {
                at_most("end of a key range", range.end, keys)?;
            }
            plan.ranges.push(Range::KeyRanges(ranges))
        }
        Mask::Segments(segments) => match segments.0 {
            SegmentsKind::Cumulative { queries: starts, keys: key_starts, causal } => {
                same("mask", "cumulative lengths of keys", key_starts.len(), starts.len())?;
                ascending("cumulative lengths of queries", starts, queries)?;
                ascending("cumulative lengths of keys", key_starts, keys)?;
                plan.ranges.push(Range::Packed { queries: starts, keys: key_starts, causal })
            }
            SegmentsKind::Ids { queries: own, keys: others } => {
                same_shape("mask", ["batch", "queries"], own.shape(), [batch, queries])?;
                same_shape("mask", ["batch", "keys"], others.shape(), [batch, keys])?;
                let [batch, token] = own.strides();
                let queries = Grid { data: own.as_ptr(), strides: [batch, 0, token, 0] };
                let [batch, token] = others.strides();
                let keys = Grid { data: others.as_ptr(), strides: [batch, 0, 0, token] };
                plan.bits.push(Bits::SameSegment { queries, keys })
            }
        },
        Mask::Bits(mask) => {
            let ones = grid(mask.ones, [batch, heads, queries, keys.div_ceil(8)])?;
            plan.bits.push(Bits::Packed { ones, ones_are_kept: mask.ones_are_kept })
        }
        Mask::Blocks(mask) => {
            let [Some(rows), Some(columns)] = mask.block.map(NonZeroUsize::new) else {
                return Err(Error::new("mask", ErrorKind::Zero { what: "block size" }));
            };
            let blocks = [queries.div_ceil(rows.get()), keys.div_ceil(columns.get())];
            let ones = grid(mask.ones, [batch, heads, blocks[0], blocks[1]])?;
            let block = [rows, columns];
            plan.bits.push(Bits::Blocks { ones, ones_are_kept: mask.ones_are_kept, block })
        }
        Mask::Where(keeps) => plan.bits.push(Bits::Where(keeps.0)),
        Mask::BiasF16(bias) => plan.biases.push(kernel::Bias::F16(halves(grid(bias, shape)?))),
        Mask::BiasBf16(bias) => plan.biases.push(kernel::Bias::Bf16(halves(grid(bias, shape)?))),
        Mask::Alibi(alibi) => {
            same("mask", "ALiBi slopes", alibi.slopes.len(), heads)?;
            if let Some(slope) = alibi.slopes.iter().find(|slope| !slope.is_finite()) {
                let kind = ErrorKind::Number {
                    what: "ALiBi slope",
                    given: *slope,
                    wanted: "a finite number",
                };
                return Err(Error::new("mask", kind));
            }
            let (slopes, offset) = (alibi.slopes, place(alibi.offset, shape)?);
            plan.biases.push(kernel::Bias::Alibi { slopes, offset })
        }
        Mask::BiasOf(bias) => plan.biases.push(kernel::Bias::Of(bias.0)),
    };
    if pushed {
        return Ok(());
    }
    let (given, limit) = (MAX_OF_A_SORT + 1, MAX_OF_A_SORT);
    let what = "masks of one sort composed (runs of keys, matrices and functions, biases)";
    Err(Error::new("mask", ErrorKind::TooLarge { what, given, limit }))
}

/// An offset with what it needs to know of the shape.
fn place<'a>(offset: Offset<'a>, [batch, _, queries, keys]: Shape) -> Result<kernel::Offset<'a>> {
    Ok(match offset.0 {
        Place::Same(offset) => kernel::Offset::Same(offset),
        Place::BottomRight => kernel::Offset::Same(bottom_right(queries, keys)),
        Place::PerBatch(offsets) => {
            same("mask", "offsets", offsets.len(), batch)?;
            kernel::Offset::PerBatch(offsets)
        }
        Place::Past(past) => {
            same("mask", "past lengths", past.len(), batch)?;
            kernel::Offset::Past(past)
        }
        Place::EndingAt(given) => {
            kernel::Offset::EndingAt { lengths: lengths(KEY_LENGTHS, given, batch, keys)?, queries }
        }
    })
}

pub(super) fn bottom_right(queries: usize, keys: usize) -> isize {
    match keys.checked_sub(queries) {
        Some(more) => isize::try_from(more).unwrap_or(isize::MAX),
        None => isize::try_from(queries - keys).map_or(isize::MIN, |fewer| -fewer),
    }
}

fn grid<T>(view: TensorRef<'_, T>, wanted: Shape) -> Result<Grid<T>> {
    same_shape("mask", ["batch", "heads", "queries", "keys"], view.shape(), wanted)?;
    Ok(Grid { data: view.as_ptr(), strides: view.strides() })
}

/// The bits of `half`'s types, which are transparent wrappers of u16.
fn halves<T>(grid: Grid<T>) -> Grid<u16> {
    const { assert!(size_of::<T>() == 2 && align_of::<T>() == 2) };
    Grid { data: grid.data.cast(), strides: grid.strides }
}

fn at_most(what: &'static str, given: usize, limit: usize) -> Result<()> {
    if given <= limit {
        return Ok(());
    }
    Err(Error::new("mask", ErrorKind::TooLarge { what, given, limit }))
}

const KEY_LENGTHS: [&str; 2] = ["key lengths", "key length"];

/// One length for each batch, none beyond the keys; named by the first word together, by the second
/// alone.
fn lengths<'a>(
    [all, one]: [&'static str; 2],
    given: &'a [usize],
    batch: usize,
    keys: usize,
) -> Result<&'a [usize]> {
    same("mask", all, given.len(), batch)?;
    given.iter().try_for_each(|length| at_most(one, *length, keys))?;
    Ok(given)
}

/// Numbers that do not fall, the last not beyond `limit`.
fn ascending(what: &'static str, starts: &[usize], limit: usize) -> Result<()> {
    for (index, (start, next)) in starts.iter().zip(starts.iter().skip(1)).enumerate() {
        if next < start {
            let kind = ErrorKind::Falls { what, index: index + 1, given: *next, wanted: *start };
            return Err(Error::new("mask", kind));
        }
    }
    at_most(what, starts.last().copied().unwrap_or(0), limit)
}

/// The sizes of the scores that a mask states by itself.
pub(super) fn own_shape(mask: &Mask<'_>) -> [Option<usize>; 4] {
    let tensor = |[batch, heads, queries, keys]: Shape| [batch, heads, queries, keys].map(Some);
    let by_batch = |len: usize| [Some(len), None, None, None];
    let stands = |offset: Offset<'_>| match offset.0 {
        Place::PerBatch(offsets) => by_batch(offsets.len()),
        Place::Past(lengths) | Place::EndingAt(lengths) => by_batch(lengths.len()),
        Place::Same(_) | Place::BottomRight => [None; 4],
    };
    match *mask {
        Mask::None | Mask::Where(_) | Mask::BiasOf(_) => [None; 4],
        Mask::Causal(causal) => stands(causal.0),
        Mask::Window(window) => stands(window.offset),
        Mask::PrefixLm(prefix) => by_batch(prefix.lengths.len()),
        Mask::KeyLengths(lengths) => {
            [Some(lengths.len()), None, None, lengths.iter().max().copied()]
        }
        Mask::KeyRanges(ranges) => {
            [Some(ranges.len()), None, None, ranges.iter().map(|range| range.end).max()]
        }
        Mask::Segments(segments) => match segments.0 {
            SegmentsKind::Cumulative { queries, keys, .. } => {
                [None, None, queries.last().copied(), keys.last().copied()]
            }
            SegmentsKind::Ids { queries, keys } => own_ids(queries, keys),
        },
        Mask::Bool(mask) => tensor(mask.ones.shape()),
        Mask::Bits(mask) => {
            let [batch, heads, queries, bytes] = mask.ones.shape();
            tensor([batch, heads, queries, bytes.saturating_mul(8)])
        }
        Mask::Blocks(mask) => {
            let [batch, heads, rows, columns] = mask.ones.shape();
            let [queries, keys] = mask.block;
            tensor([batch, heads, rows.saturating_mul(queries), columns.saturating_mul(keys)])
        }
        Mask::Bias(bias) => tensor(bias.shape()),
        Mask::BiasF16(bias) => tensor(bias.shape()),
        Mask::BiasBf16(bias) => tensor(bias.shape()),
        Mask::Alibi(alibi) => {
            let [batch, ..] = stands(alibi.offset);
            [batch, Some(alibi.slopes.len()), None, None]
        }
        Mask::All(masks) => {
            let mut known = [None; 4];
            for mask in masks {
                for (known, own) in known.iter_mut().zip(own_shape(mask)) {
                    *known = known.or(own);
                }
            }
            known
        }
    }
}

fn own_ids(queries: View<'_, i32, 2>, keys: View<'_, i32, 2>) -> [Option<usize>; 4] {
    let ([batch, queries], [_, keys]) = (queries.shape(), keys.shape());
    [Some(batch), None, Some(queries), Some(keys)]
}
