//! `masktile.attention`.

use masktile::{Attention, Mask};
use numpy::{PyArrayDyn, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::{numbers, output, read, span, tensor, tensor_mut, write};
use crate::classes;
use crate::masks::Composed;
use crate::run::{invalid, named, pool, with_workspace};

/// softmax(scale q k^T + biases, masked) v for each batch and head.
///
/// q, k and v are float32, [batch x [heads x]] tokens x dim, of any strides that are not negative;
/// with fewer key/value heads than query heads, these share them (grouped queries). `scale` is
/// 1 / sqrt(dim) where it is not given. `out` must be memory apart from everything that is read.
/// The global interpreter lock is released meanwhile; `threads` changes no bit of the result.
///
/// Returns [batch x [heads x]] queries x value dim; with `return_lse` also the log-sum-exp of each
/// row.
#[pyfunction]
#[pyo3(signature = (q, k, v, *, mask=None, scale=None, softcap=None, temperature=1.0, sinks=None,
    return_lse=false, out=None, isa=None, threads=1))]
#[allow(clippy::too_many_arguments, reason = "named arguments of Python")]
pub fn attention<'py>(
    py: Python<'py>,
    q: &Bound<'py, PyAny>,
    k: &Bound<'py, PyAny>,
    v: &Bound<'py, PyAny>,
    mask: Option<&Bound<'py, classes::Mask>>,
    scale: Option<f32>,
    softcap: Option<f32>,
    temperature: f32,
    sinks: Option<&Bound<'py, PyAny>>,
    return_lse: bool,
    out: Option<&Bound<'py, PyAny>>,
    isa: Option<&str>,
    threads: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let [q, k, v] = [read::<f32>("q", q)?, read("k", k)?, read("v", v)?];
    let leaves = mask.map_or(&[][..], |mask| &mask.get().leaves);
    let composed = Composed::hold(py, leaves)?;
    let (q_view, k_view, v_view) =
        (tensor("q", q.as_array())?, tensor("k", k.as_array())?, tensor("v", v.as_array())?);
    let [batch, heads, queries, _] = q_view.shape();
    let [_, _, keys, value_dim] = v_view.shape();
    let masks = composed.lower([batch, heads, queries, keys])?;
    let (sinks, isa, pool) = (numbers("sinks", sinks)?, named(isa)?, pool(threads)?);

    let mut spans = vec![("q", span(&q)), ("k", span(&k)), ("v", span(&v))];
    spans.extend(composed.spans());
    let rows = &q.shape()[..q.ndim() - 1];
    let out = output(py, "out", out, &[rows, &[value_dim]].concat(), &spans)?;
    let mut written = write("out", &out)?;
    let mut out_view = tensor_mut("out", written.as_array_mut())?;

    let mut attention =
        Attention::new(q_view, k_view, v_view).mask(Mask::All(&masks)).temperature(temperature);
    if let Some(scale) = scale {
        attention = attention.scale(scale);
    }
    if let Some(cap) = softcap {
        attention = attention.softcap(cap);
    }
    if let Some(sinks) = &sinks {
        attention = attention.sinks(sinks);
    }
    if let Some(isa) = isa {
        attention = attention.isa(isa);
    }
    let lse = return_lse.then(|| PyArrayDyn::<f32>::zeros(py, rows, false));
    let mut lse_written = lse.as_ref().map(|lse| write("lse", lse)).transpose()?;
    if let Some(lse) = &mut lse_written {
        attention = attention.log_sum_exp(lse.as_slice_mut()?);
    }
    py.detach(|| match pool {
        Some(pool) => pool.install(|| attention.run_rayon(&mut out_view)),
        None => with_workspace(|workspace| attention.run(&mut out_view, workspace)),
    })
    .map_err(invalid)?;
    match lse {
        Some(lse) => Ok((out, lse).into_pyobject(py)?.into_any()),
        None => Ok(out.into_any()),
    }
}
