//! Masks that own what they say, or hold the arrays that say it, and what they become for a call.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use masktile::mask::f16;
use masktile::{TensorRef, View};
use numpy::{Element, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::{span, tensor};
use crate::run::invalid;

/// Batch, heads, queries, keys.
pub type Shape = [usize; 4];

/// Where queries stand beside keys.
#[derive(Clone)]
pub enum Stand {
    Of(isize),
    BottomRight,
    PerBatch(Vec<isize>),
    Past(Vec<usize>),
    EndingAt(Vec<usize>),
}

/// One mask that is no composition.
pub enum Leaf {
    Causal(Stand),
    Window { left: Option<usize>, right: Option<usize>, stand: Stand },
    PrefixLm { lengths: Vec<usize>, stand: Stand },
    KeyLengths(Vec<usize>),
    KeyRanges(Vec<Range<usize>>),
    Cumulative { queries: Vec<usize>, keys: Vec<usize>, causal: bool },
    Ids { queries: Py<PyArrayDyn<i32>>, keys: Py<PyArrayDyn<i32>> },
    Bool(Ones),
    Bits(Ones),
    Blocks { table: Ones, block: [usize; 2] },
    Bias(Py<PyArrayDyn<f32>>),
    BiasF16(Py<PyArrayDyn<f16>>),
    Alibi { slopes: Vec<f32>, stand: Stand },
}

/// A matrix of bytes, and what a 1 in it means.
pub struct Ones {
    pub matrix: Py<PyArrayDyn<u8>>,
    pub are_kept: bool,
}

/// What a mask borrows of Python during a call.
pub enum Held<'py> {
    Nothing,
    Bytes(PyReadonlyArrayDyn<'py, u8>),
    Floats(PyReadonlyArrayDyn<'py, f32>),
    Halves(PyReadonlyArrayDyn<'py, f16>),
    Ids([PyReadonlyArrayDyn<'py, i32>; 2]),
}

/// Masks of which a position must be kept by every one, and the arrays that they borrow.
pub struct Composed<'py> {
    leaves: Vec<(Arc<Leaf>, Held<'py>)>,
}

impl<'py> Composed<'py> {
    pub fn hold(py: Python<'py>, leaves: &[Arc<Leaf>]) -> PyResult<Self> {
        let hold = |leaf: &Arc<Leaf>| Ok((leaf.clone(), leaf.hold(py)?));
        Ok(Composed { leaves: leaves.iter().map(hold).collect::<PyResult<_>>()? })
    }

    /// The addresses that are read.
    pub fn spans(&self) -> impl Iterator<Item = (&'static str, Range<usize>)> {
        self.leaves.iter().flat_map(|(_, held)| held.spans()).map(|span| ("mask", span))
    }

    /// The masks for scores of `shape`, matrices repeated along axes of 1.
    pub fn lower(&self, shape: Shape) -> PyResult<Vec<masktile::Mask<'_>>> {
        self.leaves.iter().map(|(leaf, held)| leaf.lower(held, shape)).collect()
    }

    /// The least scores that all of them fit, 8 queries and 8 keys where none states them.
    pub fn usual_shape(&self) -> Shape {
        const USUAL: usize = 8;
        let mut shape = [1; 4];
        for (leaf, held) in &self.leaves {
            for (size, own) in shape.iter_mut().zip(leaf.own_shape(held)) {
                *size = own.max(*size);
            }
        }
        let [batch, heads, queries, keys] = shape;
        let drawn = |size| if size == 1 { USUAL } else { size };
        [batch, heads, drawn(queries), drawn(keys)]
    }
}

impl Held<'_> {
    /// Batch, heads, rows and columns, 1 where an axis is missing.
    fn shape(&self) -> Shape {
        let sizes = match self {
            Held::Nothing => &[],
            Held::Bytes(array) => array.shape(),
            Held::Floats(array) => array.shape(),
            Held::Halves(array) => array.shape(),
            Held::Ids([queries, keys]) => {
                let [own, others] = [queries, keys].map(|array| array.shape());
                let batch = own.first().copied().unwrap_or(1);
                let [queries, keys] = [own, others].map(|ids| ids.get(1).copied().unwrap_or(1));
                return [batch, 1, queries, keys];
            }
        };
        let mut shape = [1; 4];
        for (size, own) in shape.iter_mut().rev().zip(sizes.iter().rev()) {
            *size = *own;
        }
        shape
    }

    fn spans(&self) -> Vec<Range<usize>> {
        match self {
            Held::Nothing => Vec::new(),
            Held::Bytes(array) => vec![span(array)],
            Held::Floats(array) => vec![span(array)],
            Held::Halves(array) => vec![span(array)],
            Held::Ids(arrays) => arrays.iter().map(|array| span(array)).collect(),
        }
    }
}

fn held<'py, T: Element>(
    py: Python<'py>,
    array: &Py<PyArrayDyn<T>>,
) -> PyResult<PyReadonlyArrayDyn<'py, T>> {
    Ok(array.bind(py).try_readonly()?)
}

impl Leaf {
    fn hold<'py>(&self, py: Python<'py>) -> PyResult<Held<'py>> {
        Ok(match self {
            Leaf::Bool(ones) | Leaf::Bits(ones) | Leaf::Blocks { table: ones, .. } => {
                Held::Bytes(held(py, &ones.matrix)?)
            }
            Leaf::Bias(bias) => Held::Floats(held(py, bias)?),
            Leaf::BiasF16(bias) => Held::Halves(held(py, bias)?),
            Leaf::Ids { queries, keys } => Held::Ids([held(py, queries)?, held(py, keys)?]),
            _ => Held::Nothing,
        })
    }

    /// The sizes of the scores that a mask states by itself, 1 where it states none.
    fn own_shape(&self, held: &Held<'_>) -> Shape {
        let last = |starts: &[usize]| starts.last().copied().unwrap_or(1);
        let [batch, heads, queries, keys] = held.shape();
        match self {
            Leaf::Causal(stand) | Leaf::Window { stand, .. } => [stand.batch(), 1, 1, 1],
            Leaf::PrefixLm { lengths, stand } => [lengths.len().max(stand.batch()), 1, 1, 1],
            Leaf::KeyLengths(lengths) => {
                [lengths.len(), 1, 1, lengths.iter().copied().max().unwrap_or(1)]
            }
            Leaf::KeyRanges(ranges) => {
                [ranges.len(), 1, 1, ranges.iter().map(|range| range.end).max().unwrap_or(1)]
            }
            Leaf::Cumulative { queries, keys, .. } => [1, 1, last(queries), last(keys)],
            Leaf::Alibi { slopes, stand } => [stand.batch(), slopes.len(), 1, 1],
            Leaf::Bits(_) => [batch, heads, queries, keys.saturating_mul(8)],
            Leaf::Blocks { block: [rows, columns], .. } => {
                [batch, heads, queries.saturating_mul(*rows), keys.saturating_mul(*columns)]
            }
            Leaf::Ids { .. } | Leaf::Bool(_) | Leaf::Bias(_) | Leaf::BiasF16(_) => {
                [batch, heads, queries, keys]
            }
        }
    }

    fn lower<'a>(&'a self, held: &'a Held<'_>, shape: Shape) -> PyResult<masktile::Mask<'a>> {
        use masktile::{
            Alibi, BitMask, BlockMask, BoolMask, Causal, Mask, PrefixLm, Segments, Window,
        };
        let [batch, heads, queries, keys] = shape;
        Ok(match (self, held) {
            (Leaf::Causal(stand), _) => match stand {
                Stand::Of(offset) => Causal::offset(*offset),
                Stand::BottomRight => Causal::bottom_right(),
                Stand::PerBatch(offsets) => Causal::offsets(offsets),
                Stand::Past(tokens) => Causal::past(tokens),
                Stand::EndingAt(lengths) => Causal::ending_at(lengths),
            }
            .into(),
            (Leaf::Window { left, right, stand }, _) => {
                let bound = |side: &Option<usize>| side.unwrap_or(usize::MAX);
                Window::new(bound(left), bound(right), stand.offset()).into()
            }
            (Leaf::PrefixLm { lengths, stand }, _) => PrefixLm::new(lengths, stand.offset()).into(),
            (Leaf::KeyLengths(lengths), _) => Mask::KeyLengths(lengths),
            (Leaf::KeyRanges(ranges), _) => Mask::KeyRanges(ranges),
            (Leaf::Cumulative { queries, keys, causal: true }, _) => {
                Segments::cumulative_causal(queries, keys).into()
            }
            (Leaf::Cumulative { queries, keys, causal: false }, _) => {
                Segments::cumulative(queries, keys).into()
            }
            (Leaf::Alibi { slopes, stand }, _) => Alibi::new(slopes, stand.offset()).into(),
            (Leaf::Ids { .. }, Held::Ids([queries, keys])) => {
                let ids = |array: &'a PyReadonlyArrayDyn<'_, i32>| {
                    View::<i32, 2>::try_from(array.as_array()).map_err(invalid)
                };
                Segments::ids(ids(queries)?, ids(keys)?).into()
            }
            (Leaf::Bool(ones), Held::Bytes(matrix)) => {
                let matrix = repeated(matrix, shape)?;
                if ones.are_kept {
                    BoolMask::ones_are_kept(matrix).into()
                } else {
                    BoolMask::ones_are_masked(matrix).into()
                }
            }
            (Leaf::Bits(ones), Held::Bytes(matrix)) => {
                let matrix = repeated(matrix, [batch, heads, queries, keys.div_ceil(8)])?;
                if ones.are_kept {
                    BitMask::ones_are_kept(matrix).into()
                } else {
                    BitMask::ones_are_masked(matrix).into()
                }
            }
            (Leaf::Blocks { table, block }, Held::Bytes(matrix)) => {
                let [rows, columns] = *block;
                let blocks = [queries.div_ceil(rows), keys.div_ceil(columns)];
                let matrix = repeated(matrix, [batch, heads, blocks[0], blocks[1]])?;
                if table.are_kept {
                    BlockMask::ones_are_kept(matrix, *block).into()
                } else {
                    BlockMask::ones_are_masked(matrix, *block).into()
                }
            }
            (_, Held::Floats(bias)) => Mask::Bias(repeated(bias, shape)?),
            (_, Held::Halves(bias)) => Mask::BiasF16(repeated(bias, shape)?),
            _ => unreachable!("`hold` gives each leaf what it needs"),
        })
    }
}

/// A matrix of a mask, with axes of 1 as long as those wanted. Others are checked by the operation.
fn repeated<'a, T: Element>(
    array: &'a PyReadonlyArrayDyn<'_, T>,
    wanted: Shape,
) -> PyResult<TensorRef<'a, T>> {
    let matrix = tensor("mask", array.as_array())?;
    let mut shape = matrix.shape();
    for (size, wanted) in shape.iter_mut().zip(wanted) {
        if *size == 1 {
            *size = wanted;
        }
    }
    matrix.broadcast(shape).map_err(invalid)
}

impl Stand {
    fn offset(&self) -> masktile::Offset<'_> {
        use masktile::Offset;
        match self {
            Stand::Of(offset) => Offset::of(*offset),
            Stand::BottomRight => Offset::bottom_right(),
            Stand::PerBatch(offsets) => Offset::per_batch(offsets),
            Stand::Past(tokens) => Offset::past(tokens),
            Stand::EndingAt(lengths) => Offset::ending_at(lengths),
        }
    }

    /// How many batches it speaks of, 1 where of all.
    fn batch(&self) -> usize {
        match self {
            Stand::Of(_) | Stand::BottomRight => 1,
            Stand::PerBatch(offsets) => offsets.len(),
            Stand::Past(lengths) | Stand::EndingAt(lengths) => lengths.len(),
        }
    }

    /// The name of its constructor, with the arguments.
    pub fn constructor(&self) -> String {
        match self {
            Stand::Of(0) => "top_left()".to_owned(),
            Stand::Of(offset) => format!("of({offset})"),
            Stand::BottomRight => "bottom_right()".to_owned(),
            Stand::PerBatch(offsets) => format!("per_batch({offsets:?})"),
            Stand::Past(tokens) => format!("past({tokens:?})"),
            Stand::EndingAt(lengths) => format!("ending_at({lengths:?})"),
        }
    }
}

/// As Python writes it; of an array its shape alone.
impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |side: &Option<usize>| side.map_or("None".to_owned(), |side| side.to_string());
        match self {
            Leaf::Causal(stand) => write!(f, "Causal.{}", stand.constructor()),
            Leaf::Window { left, right, stand } => {
                let (left, right, stand) = (side(left), side(right), stand.constructor());
                write!(f, "Window({left}, {right}, Offset.{stand})")
            }
            Leaf::PrefixLm { lengths, stand } => {
                write!(f, "PrefixLm({lengths:?}, Offset.{})", stand.constructor())
            }
            Leaf::KeyLengths(lengths) => write!(f, "KeyLengths({lengths:?})"),
            Leaf::KeyRanges(ranges) => {
                let pairs: Vec<_> = ranges.iter().map(|range| (range.start, range.end)).collect();
                write!(f, "KeyRanges({pairs:?})")
            }
            Leaf::Cumulative { queries, keys, causal } => {
                let name = if *causal { "cumulative_causal" } else { "cumulative" };
                write!(f, "Segments.{name}({queries:?}, {keys:?})")
            }
            Leaf::Ids { queries, keys } => {
                write!(f, "Segments.ids({}, {})", Sizes(queries), Sizes(keys))
            }
            Leaf::Bool(ones) => write!(f, "BoolMask.{ones}"),
            Leaf::Bits(ones) => write!(f, "BitMask.{ones}"),
            Leaf::Blocks { table, block: [rows, columns] } => {
                write!(f, "BlockMask.{table} of blocks ({rows}, {columns})")
            }
            Leaf::Bias(bias) => write!(f, "Bias({})", Sizes(bias)),
            Leaf::BiasF16(bias) => write!(f, "Bias({})", Sizes(bias)),
            Leaf::Alibi { slopes, stand } => {
                write!(f, "Alibi({slopes:?}, Offset.{})", stand.constructor())
            }
        }
    }
}

impl fmt::Display for Ones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meaning = if self.are_kept { "ones_are_kept" } else { "ones_are_masked" };
        write!(f, "{meaning}({})", Sizes(&self.matrix))
    }
}

/// `<2x3>`
struct Sizes<'a, T>(&'a Py<PyArrayDyn<T>>);

impl<T: Element> fmt::Display for Sizes<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = Python::attach(|py| {
            let sizes = self.0.bind(py).shape().iter().map(usize::to_string);
            sizes.collect::<Vec<_>>().join("x")
        });
        write!(f, "<{sizes}>")
    }
}
