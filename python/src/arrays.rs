//! NumPy's arrays as views of masktile: no copy, and every refusal names the argument.

use std::ops::Range;

use masktile::{TensorMut, TensorRef};
use ndarray::{ArrayViewD, ArrayViewMutD, Axis};
use numpy::{
    Element, PyArrayDescr, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn,
    PyReadwriteArrayDyn, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

/// `object` as an array of `T`.
pub fn typed<'py, T: Element>(
    argument: &str,
    object: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    let wanted = PyArrayDescr::of::<T>(object.py());
    let Ok(array) = object.cast::<PyUntypedArray>() else {
        let given = object.get_type().name()?;
        let text = format!("`{argument}`: given {given}, wanted a NumPy array of {wanted}");
        return Err(PyTypeError::new_err(text));
    };
    let given = array.dtype();
    if !given.is_equiv_to(&wanted) {
        let text = format!("`{argument}`: given an array of {given}, wanted {wanted}");
        return Err(PyTypeError::new_err(text));
    }
    let (size, align) = (size_of::<T>() as isize, align_of::<T>());
    let array = array.as_any().cast::<PyArrayDyn<T>>().map_err(PyErr::from)?;
    let steps = array.shape().iter().zip(array.strides()).filter(|(size, _)| **size > 1);
    let whole = steps.into_iter().all(|(_, stride)| stride % size == 0);
    if !whole || !array.data().addr().is_multiple_of(align) {
        let text = format!("`{argument}`: given elements that are not aligned, wanted a copy");
        return Err(PyValueError::new_err(text));
    }
    Ok(array.clone())
}

/// An array that is read during a call.
pub fn read<'py, T: Element>(
    argument: &str,
    object: &Bound<'py, PyAny>,
) -> PyResult<PyReadonlyArrayDyn<'py, T>> {
    typed(argument, object)?.try_readonly().map_err(|error| borrowed(argument, error))
}

/// An array that is written during a call.
pub fn write<'py>(
    argument: &str,
    array: &Bound<'py, PyArrayDyn<f32>>,
) -> PyResult<PyReadwriteArrayDyn<'py, f32>> {
    array.try_readwrite().map_err(|error| borrowed(argument, error))
}

fn borrowed(argument: &str, error: numpy::BorrowError) -> PyErr {
    PyValueError::new_err(format!("`{argument}`: {error}"))
}

/// The numbers of an array of one axis, copied: a number for each column or head.
pub fn numbers(argument: &str, object: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Vec<f32>>> {
    let Some(object) = object else { return Ok(None) };
    let array = read::<f32>(argument, object)?;
    if array.ndim() != 1 {
        return Err(axes(argument, array.ndim(), "1"));
    }
    Ok(Some(array.as_array().iter().copied().collect()))
}

/// Batch x heads x rows x columns; missing leading axes are 1.
pub fn tensor<'a, T>(argument: &str, array: ArrayViewD<'a, T>) -> PyResult<TensorRef<'a, T>> {
    let mut array = array;
    let given = array.ndim();
    if !(2..=4).contains(&given) {
        return Err(axes(argument, given, "2 to 4"));
    }
    while array.ndim() < 4 {
        array = array.insert_axis(Axis(0));
    }
    TensorRef::try_from(array).map_err(|error| named(argument, error))
}

/// As [`tensor`], to write.
pub fn tensor_mut<'a>(argument: &str, array: ArrayViewMutD<'a, f32>) -> PyResult<TensorMut<'a>> {
    let mut array = array;
    let given = array.ndim();
    if !(2..=4).contains(&given) {
        return Err(axes(argument, given, "2 to 4"));
    }
    while array.ndim() < 4 {
        array = array.insert_axis(Axis(0));
    }
    TensorMut::try_from(array).map_err(|error| named(argument, error))
}

fn axes(argument: &str, given: usize, wanted: &str) -> PyErr {
    PyValueError::new_err(format!("`{argument}`: axes: given {given}, wanted {wanted}"))
}

/// What is wrong with the layout of `argument`.
fn named(argument: &str, error: masktile::Error) -> PyErr {
    PyValueError::new_err(format!("`{argument}`: {error}"))
}

/// The addresses between an array's first and last byte.
pub fn span<T: Element>(array: &Bound<'_, PyArrayDyn<T>>) -> Range<usize> {
    let first = array.data().addr();
    if array.shape().contains(&0) {
        return first..first;
    }
    let (mut low, mut high) = (first, first + size_of::<T>());
    for (size, stride) in array.shape().iter().zip(array.strides()) {
        let reach = (size - 1) * stride.unsigned_abs();
        if *stride < 0 { low -= reach } else { high += reach }
    }
    low..high
}

/// The given output, of this shape and apart from everything that is read, or a new one.
pub fn output<'py>(
    py: Python<'py>,
    argument: &str,
    given: Option<&Bound<'py, PyAny>>,
    shape: &[usize],
    inputs: &[(&str, Range<usize>)],
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let Some(given) = given else { return Ok(PyArrayDyn::zeros(py, shape, false)) };
    let out = typed::<f32>(argument, given)?;
    if out.shape() != shape {
        let text = format!("`{argument}`: shape: given {:?}, wanted {shape:?}", out.shape());
        return Err(PyValueError::new_err(text));
    }
    let own = span(&out);
    for (input, span) in inputs {
        if own.start < span.end && span.start < own.end {
            let text = format!("`{argument}`: given memory of `{input}`, wanted memory apart");
            return Err(PyValueError::new_err(text));
        }
    }
    Ok(out)
}
