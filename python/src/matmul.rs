//! `masktile.matmul`.

use masktile::{Activation, Matmul, TensorRef};
use numpy::PyUntypedArrayMethods;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::{numbers, output, read, span, tensor, tensor_mut, write};
use crate::run::{invalid, named, pool, with_workspace};

/// The names that Python gives to activations.
const ACTIVATIONS: [(&str, Activation); 4] = [
    ("relu", Activation::Relu),
    ("gelu", Activation::GeluErf),
    ("gelu_tanh", Activation::GeluTanh),
    ("silu", Activation::Silu),
];

/// activation(alpha a b + bias) + residual, for each of the leading axes.
///
/// a and b are float32, [batch x [heads x]] rows x columns, of any strides that are not negative
/// (`weight.T` is no copy); leading axes broadcast as in numpy.matmul. `bias` is a number for each
/// column. `activation` is one of relu, gelu (by erf), gelu_tanh, silu. `out` must be memory apart
/// from everything that is read. The global interpreter lock is released meanwhile; `threads`
/// changes no bit of the result.
#[pyfunction]
#[pyo3(signature = (a, b, *, alpha=1.0, bias=None, activation=None, residual=None, out=None,
    isa=None, threads=1))]
#[allow(clippy::too_many_arguments, reason = "named arguments of Python")]
pub fn matmul<'py>(
    py: Python<'py>,
    a: &Bound<'py, PyAny>,
    b: &Bound<'py, PyAny>,
    alpha: f32,
    bias: Option<&Bound<'py, PyAny>>,
    activation: Option<&str>,
    residual: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
    isa: Option<&str>,
    threads: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let (a, b) = (read::<f32>("a", a)?, read::<f32>("b", b)?);
    let residual = residual.map(|residual| read::<f32>("residual", residual)).transpose()?;
    let (a_view, b_view) = (tensor("a", a.as_array())?, tensor("b", b.as_array())?);
    let (lead, b_lead) = common_lead(a_view, b_view)?;
    let [_, _, m, k] = a_view.shape();
    let [_, _, k_b, n] = b_view.shape();
    let a_view = a_view.broadcast([lead[0], lead[1], m, k]).map_err(invalid)?;
    let b_view = b_view.broadcast([b_lead[0], b_lead[1], k_b, n]).map_err(invalid)?;
    let mut product = Matmul::new(a_view, b_view).alpha(alpha).activation(activated(activation)?);

    let mut spans = vec![("a", span(&a)), ("b", span(&b))];
    spans.extend(residual.iter().map(|residual| ("residual", span(residual))));
    let shape = [lead[0], lead[1], m, n];
    let axes = a.ndim().max(b.ndim());
    let out = output(py, "out", out, &shape[4 - axes..], &spans)?;

    if let Some(residual) = &residual {
        let view = tensor("residual", residual.as_array())?.broadcast(shape);
        product = product
            .residual(view.map_err(|error| PyValueError::new_err(format!("`residual`: {error}")))?);
    }
    let bias = numbers("bias", bias)?;
    if let Some(bias) = &bias {
        product = product.bias(bias);
    }
    if let Some(isa) = named(isa)? {
        product = product.isa(isa);
    }
    let pool = pool(threads)?;
    let mut written = write("out", &out)?;
    let mut c = tensor_mut("out", written.as_array_mut())?;
    py.detach(|| match pool {
        Some(pool) => pool.install(|| product.run_rayon(&mut c)),
        None => with_workspace(|workspace| product.run(&mut c, workspace)),
    })
    .map_err(invalid)?;
    Ok(out.into_any())
}

/// The leading axes of the product, and those of b: 1 where all products share it.
fn common_lead(a: TensorRef<'_>, b: TensorRef<'_>) -> PyResult<([usize; 2], [usize; 2])> {
    let ([a0, a1, ..], [b0, b1, ..]) = (a.shape(), b.shape());
    let mut lead = [a0, a1];
    for (own, other) in lead.iter_mut().zip([b0, b1]) {
        if *own == 1 {
            *own = other;
        } else if other != 1 && other != *own {
            let text = format!("`b`: batch: given {other}, wanted {own} or 1");
            return Err(PyValueError::new_err(text));
        }
    }
    Ok((lead, [b0, b1]))
}

fn activated(name: Option<&str>) -> PyResult<Activation> {
    let Some(name) = name else { return Ok(Activation::None) };
    let known = ACTIVATIONS.iter().find(|(known, _)| *known == name);
    known.map(|(_, activation)| *activation).ok_or_else(|| {
        let names = ACTIVATIONS.map(|(known, _)| known).join(", ");
        PyValueError::new_err(format!("`activation`: given {name:?}, wanted one of {names}"))
    })
}
