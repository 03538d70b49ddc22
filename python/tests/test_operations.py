"""attention, softmax and matmul against float64: layouts, options, outputs, errors."""

from __future__ import annotations

import math
import threading
import time
from typing import Any, Callable

import numpy as np
import pytest

import masktile as mt
from oracle import Doubles, Floats, random, scored, softmax

ALL = np.ones((1, 1, 1, 1), dtype=np.bool_)


def attended(q: Floats, k: Floats, v: Floats, scale: float | None = None, **options: Any) -> Doubles:
    """Attention in float64, key/value heads repeated for the query heads that share them."""
    sinks = options.pop("sinks", None)
    shared = q.shape[-3] // k.shape[-3]
    k, v = (np.repeat(x, shared, axis=-3) for x in (k, v))
    raw = q.astype(np.float64) @ k.astype(np.float64).swapaxes(-1, -2)
    scores = scored(raw, ALL, q.shape[-1] ** -0.5 if scale is None else scale, **options)
    return softmax(scores, sinks)[0] @ v


Q, K, V = random(1, 2, 6, 5, 16), random(2, 2, 3, 11, 16), random(3, 2, 3, 11, 8)


def test_grouped_heads_and_options() -> None:
    np.testing.assert_allclose(mt.attention(Q, K, V), attended(Q, K, V), atol=2e-6)
    options: dict[str, Any] = {"scale": 0.3, "softcap": 2.0, "temperature": 0.7}
    sinks = random(4, 6)
    out, lse = mt.attention(Q, K, V, sinks=sinks, return_lse=True, **options)
    np.testing.assert_allclose(out, attended(Q, K, V, sinks=sinks, **options), atol=2e-6)
    assert lse.shape == (2, 6, 5)


@pytest.mark.parametrize("axes", [2, 3])
def test_missing_axes(axes: int) -> None:
    at = (0,) * (4 - axes)
    q, k, v = Q[:, :3][at], K[at], V[at]
    out, lse = mt.attention(q, k, v, return_lse=True)
    whole = mt.attention(Q[:, :3], K, V)
    np.testing.assert_array_equal(out, whole[at])
    assert lse.shape == out.shape[:-1]


def test_strides_are_followed() -> None:
    fused = random(5, 2, 7, 3, 4, 16)  # batch, tokens, q k v, heads, dim
    q, k, v = (fused[:, :, i].swapaxes(1, 2) for i in range(3))
    out = np.zeros((2, 7, 4, 16), dtype=np.float32)
    given = out.swapaxes(1, 2)
    result = mt.attention(q, k, v, out=given)
    assert result is given
    copies = [np.ascontiguousarray(x) for x in (q, k, v)]
    np.testing.assert_array_equal(out.swapaxes(1, 2), mt.attention(*copies))
    repeated = np.broadcast_to(k[:, :1], k.shape)
    np.testing.assert_array_equal(
        mt.attention(q, repeated, v), mt.attention(q, np.ascontiguousarray(repeated), v)
    )


@pytest.mark.parametrize("isa", mt.isas())
def test_the_same_bits(isa: str) -> None:
    here = mt.attention(Q, K, V), mt.softmax(Q), mt.matmul(Q, Q.swapaxes(-1, -2))
    there = (
        mt.attention(Q, K, V, isa=isa, threads=2),
        mt.softmax(Q, isa=isa),
        mt.matmul(Q, Q.swapaxes(-1, -2), isa=isa, threads=3),
    )
    for own, other in zip(here, there):
        np.testing.assert_array_equal(own, other)


def test_softmax_options() -> None:
    raw = random(6, 2, 6, 5, 11)
    sinks = random(4, 6)
    scores = scored(raw.astype(np.float64), ALL, 0.5, softcap=3.0, temperature=2.0)
    wanted, wanted_lse = softmax(scores, sinks.astype(np.float64))
    options: dict[str, Any] = {"scale": 0.5, "softcap": 3.0, "temperature": 2.0, "sinks": sinks}
    probs, lse = mt.softmax(raw, return_lse=True, **options)
    np.testing.assert_allclose(probs, wanted, rtol=2e-6)
    np.testing.assert_allclose(lse, wanted_lse, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(mt.softmax(raw, log=True, **options), np.log(wanted), atol=2e-6)
    np.testing.assert_array_equal(mt.softmax(raw[0, 0]), mt.softmax(raw)[0, 0])


def test_softmax_in_place() -> None:
    scores = random(6, 4, 9)
    wanted = mt.softmax(scores)
    assert mt.softmax(scores, out=scores) is scores
    np.testing.assert_array_equal(scores, wanted)


def gelu(x: Doubles) -> Doubles:
    erf = np.array([math.erf(v) for v in (x / 2**0.5).flat]).reshape(x.shape)
    return np.asarray(x * 0.5 * (1 + erf), dtype=np.float64)


ACTIVATIONS: dict[str | None, Callable[[Doubles], Doubles]] = {
    None: lambda x: x,
    "relu": lambda x: np.maximum(x, 0.0),
    "gelu": gelu,
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + np.exp(-x)),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("isa", mt.isas())
def test_matmul_of_a_layer(activation: Any, isa: str) -> None:
    x, weight, bias = random(1, 2, 7, 33), random(2, 19, 33), random(3, 19)
    residual = random(4, 2, 7, 19)
    y = mt.matmul(
        x, weight.T, alpha=0.5, bias=bias, activation=activation, residual=residual, isa=isa
    )
    product = 0.5 * x.astype(np.float64) @ weight.T.astype(np.float64) + bias
    np.testing.assert_allclose(y, ACTIVATIONS[activation](product) + residual, atol=2e-5)


BROADCAST = [
    ((3, 4), (4, 5)),
    ((2, 3, 4), (4, 5)),
    ((3, 4), (2, 4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((2, 1, 3, 4), (6, 4, 5)),
    ((2, 6, 3, 4), (2, 1, 4, 5)),
    ((0, 4), (4, 5)),
    ((3, 0), (0, 5)),
]


@pytest.mark.parametrize("a_shape, b_shape", BROADCAST)
def test_matmul_broadcasts_as_numpy(a_shape: tuple[int, ...], b_shape: tuple[int, ...]) -> None:
    a, b = random(1, *a_shape), random(2, *b_shape)
    wanted = a.astype(np.float64) @ b.astype(np.float64)
    c = mt.matmul(a, b)
    assert c.shape == wanted.shape
    np.testing.assert_allclose(c, wanted, atol=1e-5)
    out = np.full(wanted.shape[:-2] + wanted.shape[:-3:-1], np.nan, dtype=np.float32)
    mt.matmul(a, b, out=out.swapaxes(-1, -2))
    np.testing.assert_array_equal(out.swapaxes(-1, -2), c)


def test_the_lock_is_released() -> None:
    """Another thread of Python counts on while one multiplies."""
    a = random(1, 700, 700)
    finished, counted = threading.Event(), 0

    def multiply() -> None:
        for _ in range(4):
            mt.matmul(a, a)
        finished.set()

    thread = threading.Thread(target=multiply)
    thread.start()
    while not finished.is_set():
        counted += 1
        time.sleep(0)
    thread.join()
    assert counted > 100


BUFFER = random(9, 4, 40)
MISALIGNED = np.frombuffer(bytes(65), dtype=np.uint8)[1:].view(np.float32).reshape(4, 4)
FIELD = np.zeros((4, 4), dtype=[("a", "i1"), ("x", "f4")])["x"]
FROZEN = np.zeros((4, 4), dtype=np.float32)
FROZEN.flags.writeable = False
X = random(1, 4, 4)
Call = Callable[[], object]
WRONG: list[tuple[Call, type[Exception], str]] = [
    (lambda: mt.matmul(X, X.astype(float)), TypeError, "`b`: given an array of float64, wanted float32"),
    (lambda: mt.matmul(X.tolist(), X), TypeError, "`a`: given list, wanted a NumPy array of float32"),
    (lambda: mt.matmul(X.astype(">f4"), X), TypeError, "`a`: given an array of >f4, wanted float32"),
    (lambda: mt.matmul(X[0], X), ValueError, "`a`: axes: given 1, wanted 2 to 4"),
    (lambda: mt.matmul(X, X[:3]), ValueError, "`b`: rows: given 3, wanted 4"),
    (lambda: mt.matmul(random(1, 2, 4, 4), random(1, 3, 4, 4)), ValueError, "`b`: batch: given 3, wanted 2 or 1"),
    (lambda: mt.matmul(X, X, bias=X[0, :3]), ValueError, "`bias`: length: given 3, wanted 4"),
    (lambda: mt.matmul(X, X, bias=X), ValueError, "`bias`: axes: given 2, wanted 1"),
    (lambda: mt.matmul(X, X, residual=X[:, :3]), ValueError, "`residual`: `shape`: dim: given 3, wanted 4"),
    (lambda: mt.matmul(X, X, activation="tanh"), ValueError, '`activation`: given "tanh", wanted one of relu'),  # type: ignore[arg-type]
    (lambda: mt.matmul(X, X, isa="mmx"), ValueError, '`isa`: given "mmx", which is no instruction set'),
    (lambda: mt.matmul(X, X, threads=0), ValueError, "`threads`: given 0, wanted at least 1"),
    (lambda: mt.matmul(X[::-1], X), ValueError, "`a`: `strides`: stride: given -4, wanted none below 0"),
    (lambda: mt.matmul(MISALIGNED, X), ValueError, "`a`: given elements that are not aligned"),
    (lambda: mt.matmul(FIELD, X), ValueError, "`a`: given elements that are not aligned"),
    (lambda: mt.matmul(X, X, out=X), ValueError, "`out`: given memory of `a`, wanted memory apart"),
    (lambda: mt.matmul(BUFFER[:, :4], X, out=BUFFER[:, 2:6]), ValueError, "`out`: given memory of `a`"),
    (lambda: mt.matmul(X, X, out=FROZEN), ValueError, "`out`: .*not writeable"),
    (lambda: mt.matmul(X, X, out=X[:3].copy()), ValueError, r"`out`: shape: given \[3, 4\], wanted \[4, 4\]"),
    (lambda: mt.matmul(X, X, out=np.broadcast_to(FROZEN[0], (4, 4))), ValueError, "`out`: .*not writeable"),
    (lambda: mt.softmax(X, out=X.T), ValueError, "`out`: given memory of `scores`"),
    (lambda: mt.softmax(X, mask=mt.Bias(X), out=X), ValueError, "`out`: given memory of `mask`"),
    (lambda: mt.softmax(X, temperature=0.0), ValueError, "`temperature`: value: given 0, wanted a finite number"),
    (lambda: mt.softmax(X, sinks=X[0]), ValueError, "`sinks`: heads: given 4, wanted 1"),
    (lambda: mt.softmax(X, mask=X), TypeError, "mask"),  # type: ignore[call-overload]
    (lambda: mt.attention(Q, K[:1], V), ValueError, "`k`: batch: given 1, wanted 2"),
    (lambda: mt.attention(Q[:, :5], K, V), ValueError, "`q`: heads: given 5, wanted a multiple of 3"),
    (lambda: mt.attention(Q, K, V, softcap=-1.0), ValueError, "`softcap`: value: given -1"),
    (lambda: mt.attention(Q, K, V[..., :2, :]), ValueError, "`v`: tokens: given 2, wanted 11"),
]


@pytest.mark.parametrize("case", range(len(WRONG)))
def test_errors_name_argument_given_and_wanted(case: int) -> None:
    call, kind, text = WRONG[case]
    before = X.copy()
    with pytest.raises(kind, match=text):
        call()
    np.testing.assert_array_equal(X, before)


def test_instruction_sets() -> None:
    assert mt.isas()[0] == "scalar"
    assert mt.isa() in mt.isas()
