//! `masktile.softmax`.

use masktile::{Mask, Softmax};
use numpy::{PyArrayDyn, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::{self, numbers, output, span, tensor, tensor_mut, typed, write};
use crate::classes;
use crate::masks::Composed;
use crate::run::{invalid, named};

/// exp(s - max) / sum over the kept keys of each row, 0 where masked; with `log` its logarithm.
///
/// scores are float32, [batch x [heads x]] queries x keys, of any strides that are not negative.
/// s = (softcap(scale * scores) + biases) / temperature. `out` may be `scores` itself; otherwise
/// it must be memory apart. The global interpreter lock is released meanwhile.
///
/// Returns the probabilities; with `return_lse` also the log-sum-exp of each row.
#[pyfunction]
#[pyo3(signature = (scores, *, mask=None, scale=1.0, softcap=None, temperature=1.0, sinks=None,
    log=false, return_lse=false, out=None, isa=None))]
#[allow(clippy::too_many_arguments, reason = "named arguments of Python")]
pub fn softmax<'py>(
    py: Python<'py>,
    scores: &Bound<'py, PyAny>,
    mask: Option<&Bound<'py, classes::Mask>>,
    scale: f32,
    softcap: Option<f32>,
    temperature: f32,
    sinks: Option<&Bound<'py, PyAny>>,
    log: bool,
    return_lse: bool,
    out: Option<&Bound<'py, PyAny>>,
    isa: Option<&str>,
) -> PyResult<Bound<'py, PyAny>> {
    let array = typed::<f32>("scores", scores)?;
    let leaves = mask.map_or(&[][..], |mask| &mask.get().leaves);
    let composed = Composed::hold(py, leaves)?;
    let in_place = out.is_some_and(|out| is_same(&array, out));
    let mut spans: Vec<_> = composed.spans().collect();
    if !in_place {
        spans.push(("scores", span(&array)));
    }
    let out = output(py, "out", out, array.shape(), &spans)?;
    let (sinks, isa) = (numbers("sinks", sinks)?, named(isa)?);

    let mut written = write("out", &out)?;
    let mut probs = tensor_mut("out", written.as_array_mut())?;
    let shape = probs.shape();
    let masks = composed.lower(shape)?;
    let mut softmax = Softmax::new().mask(Mask::All(&masks)).scale(scale).temperature(temperature);
    if let Some(cap) = softcap {
        softmax = softmax.softcap(cap);
    }
    if let Some(sinks) = &sinks {
        softmax = softmax.sinks(sinks);
    }
    if log {
        softmax = softmax.log();
    }
    if let Some(isa) = isa {
        softmax = softmax.isa(isa);
    }
    let rows = &array.shape()[..array.ndim() - 1];
    let lse = return_lse.then(|| PyArrayDyn::<f32>::zeros(py, rows, false));
    let mut lse_written = lse.as_ref().map(|lse| write("lse", lse)).transpose()?;
    if let Some(lse) = &mut lse_written {
        softmax = softmax.log_sum_exp(lse.as_slice_mut()?);
    }
    if in_place {
        py.detach(|| softmax.run_in_place(probs.reborrow())).map_err(invalid)?;
    } else {
        let read = arrays::read::<f32>("scores", scores)?;
        let scores = tensor("scores", read.as_array())?;
        py.detach(|| softmax.run(scores, probs.reborrow())).map_err(invalid)?;
    }
    match lse {
        Some(lse) => Ok((out, lse).into_pyobject(py)?.into_any()),
        None => Ok(out.into_any()),
    }
}

/// Whether `out` is the very memory of `scores`.
fn is_same(scores: &Bound<'_, PyArrayDyn<f32>>, out: &Bound<'_, PyAny>) -> bool {
    typed::<f32>("out", out).is_ok_and(|out| {
        let same_layout = out.shape() == scores.shape() && out.strides() == scores.strides();
        same_layout && out.data() == scores.data()
    })
}
