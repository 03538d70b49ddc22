//! The mask classes of Python. All are a [`Mask`], whose `repr` draws it; `&` composes them.

use std::sync::Arc;

use masktile::Mask as Lowered;
use masktile::mask::f16;
use numpy::{PyArrayDescr, PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::PyClass;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::typed;
use crate::masks::{Composed, Leaf, Ones, Shape, Stand};
use crate::run::invalid;

/// What is kept of scores, and what is added to them. Masks compose by `&`: a position is kept
/// when every one keeps it.
#[pyclass(frozen, subclass, module = "masktile")]
pub struct Mask {
    pub leaves: Vec<Arc<Leaf>>,
}

impl Mask {
    fn picture(&self, py: Python<'_>, shape: Option<Shape>) -> PyResult<String> {
        let composed = Composed::hold(py, &self.leaves)?;
        let shape = shape.unwrap_or_else(|| composed.usual_shape());
        let masks = composed.lower(shape)?;
        Ok(Lowered::All(&masks).draw(shape).map_err(invalid)?.to_string())
    }
}

#[pymethods]
impl Mask {
    /// A picture for scores of `shape` (batch, heads, queries, keys): `.` kept, `#` masked.
    fn draw(&self, py: Python<'_>, shape: Shape) -> PyResult<String> {
        self.picture(py, Some(shape))
    }

    fn __and__(&self, other: &Bound<'_, Mask>) -> Mask {
        let leaves = self.leaves.iter().chain(&other.get().leaves);
        Mask { leaves: leaves.cloned().collect() }
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let names: Vec<_> = self.leaves.iter().map(|leaf| leaf.to_string()).collect();
        // One that fits no scores at all has a name yet.
        let picture = self.picture(py, None).unwrap_or_else(|error| error.to_string());
        Ok(format!("{}\n{}", names.join(" & "), picture.trim_end()))
    }
}

/// What an object of a mask class is made of.
fn object<T>(class: T, leaf: Leaf) -> PyClassInitializer<T>
where
    T: PyClass<BaseType = Mask>,
{
    PyClassInitializer::from(Mask { leaves: vec![Arc::new(leaf)] }).add_subclass(class)
}

/// Where queries stand beside keys: query `i` stands at key `i + offset`.
#[pyclass(frozen, module = "masktile")]
pub struct Offset(Stand);

#[pymethods]
impl Offset {
    /// 0: query 0 stands at key 0.
    #[staticmethod]
    fn top_left() -> Self {
        Offset(Stand::Of(0))
    }

    /// keys - queries: the last query stands at the last key.
    #[staticmethod]
    fn bottom_right() -> Self {
        Offset(Stand::BottomRight)
    }

    /// Any offset.
    #[staticmethod]
    fn of(offset: isize) -> Self {
        Offset(Stand::Of(offset))
    }

    /// Any offset for each batch.
    #[staticmethod]
    fn per_batch(offsets: Vec<isize>) -> Self {
        Offset(Stand::PerBatch(offsets))
    }

    /// For each batch the number of tokens before its first query.
    #[staticmethod]
    fn past(tokens: Vec<usize>) -> Self {
        Offset(Stand::Past(tokens))
    }

    /// For each batch `lengths[batch] - queries`.
    #[staticmethod]
    fn ending_at(lengths: Vec<usize>) -> Self {
        Offset(Stand::EndingAt(lengths))
    }

    fn __repr__(&self) -> String {
        format!("Offset.{}", self.0.constructor())
    }
}

/// Keeps key j for query i if `j <= i + offset`.
#[pyclass(frozen, extends = Mask, module = "masktile")]
pub struct Causal;

#[pymethods]
impl Causal {
    #[new]
    fn new(offset: &Bound<'_, Offset>) -> PyClassInitializer<Self> {
        let leaf = Leaf::Causal(offset.get().0.clone());
        object(Causal, leaf)
    }

    /// Offset 0: query 0 sees key 0 alone.
    #[staticmethod]
    fn top_left(py: Python<'_>) -> PyResult<Py<Self>> {
        Py::new(py, object(Causal, Leaf::Causal(Stand::Of(0))))
    }

    /// Offset keys - queries: the last query sees every key.
    #[staticmethod]
    fn bottom_right(py: Python<'_>) -> PyResult<Py<Self>> {
        Py::new(py, object(Causal, Leaf::Causal(Stand::BottomRight)))
    }
}

/// Keeps keys from `left` before to `right` behind the one that the query stands at; `None` for
/// no bound.
#[pyclass(frozen, extends = Mask, module = "masktile")]
pub struct Window;

#[pymethods]
impl Window {
    #[new]
    fn new(
        left: Option<usize>,
        right: Option<usize>,
        offset: &Bound<'_, Offset>,
    ) -> PyClassInitializer<Self> {
        let leaf = Leaf::Window { left, right, stand: offset.get().0.clone() };
        object(Window, leaf)
    }
}

/// Keeps the first `lengths[batch]` keys, and those that `Causal` keeps.
#[pyclass(frozen, extends = Mask, module = "masktile")]
pub struct PrefixLm;

#[pymethods]
impl PrefixLm {
    #[new]
    fn new(lengths: Vec<usize>, offset: &Bound<'_, Offset>) -> PyClassInitializer<Self> {
        let leaf = Leaf::PrefixLm { lengths, stand: offset.get().0.clone() };
        object(PrefixLm, leaf)
    }
}

/// Keeps the first `lengths[batch]` keys: the rest is padding.
#[pyclass(frozen, extends = Mask, module = "masktile")]
pub struct KeyLengths;

#[pymethods]
impl KeyLengths {
    #[new]
    fn new(lengths: Vec<usize>) -> PyClassInitializer<Self> {
        object(KeyLengths, Leaf::KeyLengths(lengths))
    }
}

/// Keeps the keys from `start` to before `end` of each batch: padding on both sides.
#[pyclass(frozen, extends = Mask, module = "masktile")]
pub struct KeyRanges;

#[pymethods]
impl KeyRanges {
    #[new]
    fn new(ranges: Vec<(usize, usize)>) -> PyClassInitializer<Self> {
        let ranges = ranges.into_iter().map(|(start, end)| start..end).collect();
        object(KeyRanges, Leaf::KeyRanges(ranges))
    }
}

/// Keeps the keys of the query's own sequence among several packed into one.
#[pyclass(frozen, extends = Mask, module = "masktile")]
pub struct Segments;

#[pymethods]
impl Segments {
    /// Segment s is queries[s] to before queries[s + 1], and keys likewise, in every batch.
    #[staticmethod]
    fn cumulative(py: Python<'_>, queries: Vec<usize>, keys: Vec<usize>) -> PyResult<Py<Self>> {
        Py::new(py, object(Segments, Leaf::Cumulative { queries, keys, causal: false }))
    }

    /// The same, and causal within each segment, aligned at its end.
    #[staticmethod]
    fn cumulative_causal(
        py: Python<'_>,
        queries: Vec<usize>,
        keys: Vec<usize>,
    ) -> PyResult<Py<Self>> {
        Py::new(py, object(Segments, Leaf::Cumulative { queries, keys, causal: true }))
    }

    /// Keeps a key whose identity is the query's: batch x queries and batch x keys of int32.
    #[staticmethod]
    fn ids(queries: &Bound<'_, PyAny>, keys: &Bound<'_, PyAny>) -> PyResult<Py<Self>> {
        let (own, others) = (typed::<i32>("queries", queries)?, typed::<i32>("keys", keys)?);
        let leaf = Leaf::Ids { queries: own.unbind(), keys: others.unbind() };
        Py::new(queries.py(), object(Segments, leaf))
    }
}

/// A matrix of booleans or bytes, with the meaning of a 1. Axes of 1 are repeated.
#[pyclass(frozen, extends = Mask, module = "masktile")]
pub struct BoolMask;

#[pymethods]
impl BoolMask {
    /// 1 = ignore, 0 = attend.
    #[staticmethod]
    fn ones_are_masked(matrix: &Bound<'_, PyAny>) -> PyResult<Py<Self>> {
        Py::new(matrix.py(), object(BoolMask, Leaf::Bool(ones(matrix, false)?)))
    }

    /// 1 = attend, 0 = ignore.
    #[staticmethod]
    fn ones_are_kept(matrix: &Bound<'_, PyAny>) -> PyResult<Py<Self>> {
        Py::new(matrix.py(), object(BoolMask, Leaf::Bool(ones(matrix, true)?)))
    }
}

/// A matrix of bits, ceil(keys / 8) bytes a query, the least significant first
/// (`numpy.packbits(.., axis=-1, bitorder="little")`), with the meaning of a 1.
#[pyclass(frozen, extends = Mask, module = "masktile")]
pub struct BitMask;

#[pymethods]
impl BitMask {
    /// 1 = ignore, 0 = attend.
    #[staticmethod]
    fn ones_are_masked(matrix: &Bound<'_, PyAny>) -> PyResult<Py<Self>> {
        Py::new(matrix.py(), object(BitMask, Leaf::Bits(ones(matrix, false)?)))
    }

    /// 1 = attend, 0 = ignore.
    #[staticmethod]
    fn ones_are_kept(matrix: &Bound<'_, PyAny>) -> PyResult<Py<Self>> {
        Py::new(matrix.py(), object(BitMask, Leaf::Bits(ones(matrix, true)?)))
    }
}

/// A byte or boolean for each block of `block[0]` queries by `block[1]` keys, with the meaning of
/// a 1.
#[pyclass(frozen, extends = Mask, module = "masktile")]
pub struct BlockMask;

#[pymethods]
impl BlockMask {
    /// 1 = ignore, 0 = attend.
    #[staticmethod]
    fn ones_are_masked(table: &Bound<'_, PyAny>, block: [usize; 2]) -> PyResult<Py<Self>> {
        Py::new(table.py(), object(BlockMask, blocks(table, block, false)?))
    }

    /// 1 = attend, 0 = ignore.
    #[staticmethod]
    fn ones_are_kept(table: &Bound<'_, PyAny>, block: [usize; 2]) -> PyResult<Py<Self>> {
        Py::new(table.py(), object(BlockMask, blocks(table, block, true)?))
    }
}

/// Numbers of float32 or float16 added to the scaled scores; -infinity masks its position. Axes of
/// 1 are repeated.
#[pyclass(frozen, extends = Mask, module = "masktile")]
pub struct Bias;

#[pymethods]
impl Bias {
    #[new]
    fn new(bias: &Bound<'_, PyAny>) -> PyResult<PyClassInitializer<Self>> {
        let leaf = if is_of(bias, PyArrayDescr::of::<f16>(bias.py())) {
            Leaf::BiasF16(typed::<f16>("bias", bias)?.unbind())
        } else {
            Leaf::Bias(typed::<f32>("bias", bias)?.unbind())
        };
        Ok(object(Bias, leaf))
    }
}

/// Adds `-slopes[head] * abs(i + offset - j)` to the scaled score.
#[pyclass(frozen, extends = Mask, module = "masktile")]
pub struct Alibi;

#[pymethods]
impl Alibi {
    #[new]
    fn new(slopes: Vec<f32>, offset: &Bound<'_, Offset>) -> PyClassInitializer<Self> {
        let leaf = Leaf::Alibi { slopes, stand: offset.get().0.clone() };
        object(Alibi, leaf)
    }
}

/// A matrix of bytes, or of booleans, whose bytes are the same.
fn ones(matrix: &Bound<'_, PyAny>, are_kept: bool) -> PyResult<Ones> {
    let matrix = if is_of(matrix, PyArrayDescr::of::<bool>(matrix.py())) {
        typed::<u8>("matrix", &matrix.call_method1("view", ("uint8",))?)?
    } else {
        typed::<u8>("matrix", matrix)?
    };
    Ok(Ones { matrix: matrix.unbind(), are_kept })
}

fn blocks(table: &Bound<'_, PyAny>, block: [usize; 2], are_kept: bool) -> PyResult<Leaf> {
    if block.contains(&0) {
        let text = format!("`block`: given {block:?}, wanted at least 1 of each");
        return Err(PyValueError::new_err(text));
    }
    Ok(Leaf::Blocks { table: ones(table, are_kept)?, block })
}

fn is_of(object: &Bound<'_, PyAny>, wanted: Bound<'_, PyArrayDescr>) -> bool {
    object.cast::<PyUntypedArray>().is_ok_and(|array| array.dtype().is_equiv_to(&wanted))
}
