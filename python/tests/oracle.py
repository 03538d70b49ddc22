"""The operations as their formulas say them, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.signedinteger[Any]]
Bools = npt.NDArray[np.bool_]


def scored(
    raw: Doubles,
    kept: Bools,
    scale: float,
    softcap: float | None = None,
    bias: Doubles | float = 0.0,
    temperature: float = 1.0,
) -> Doubles:
    """Scores on their way to the softmax, -infinity where masked."""
    scores = scale * raw
    if softcap is not None:
        scores = softcap * np.tanh(scores / softcap)
    return np.where(kept, (scores + bias) / temperature, -np.inf)


def softmax(scores: Doubles, sinks: Doubles | None = None) -> tuple[Doubles, Doubles]:
    """The probabilities and the log-sum-exp; zeros and -infinity where nothing is kept."""
    sink = np.full(scores.shape[:-1] + (1,), -np.inf)
    if sinks is not None:
        sink[:] = sinks[:, None, None]
    logits = np.concatenate([scores, sink], axis=-1)
    top = logits.max(axis=-1, keepdims=True)
    shift = np.where(np.isfinite(top), top, 0.0)
    weights = np.exp(logits - shift)
    total = weights.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):
        lse = (shift + np.log(total))[..., 0]
    return (weights / np.where(total == 0.0, 1.0, total))[..., :-1], lse


def random(seed: int, *shape: int) -> Floats:
    """The same numbers every time, from the normal distribution."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
