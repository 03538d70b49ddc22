"""Against PyTorch's scaled_dot_product_attention, where PyTorch is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import masktile as mt
from oracle import random

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed: nothing is compared with it")

Q, K, V = random(1, 2, 8, 13, 32), random(2, 2, 8, 21, 32), random(3, 2, 8, 21, 32)
KEPT = random(4, 2, 1, 13, 21) > -0.5
BIAS = random(5, 1, 8, 13, 21)
SQUARE = (slice(None), slice(None), slice(13))

CASES: list[tuple[str, Any, mt.Mask | None, dict[str, Any]]] = [
    ("nothing", ..., None, {}),
    ("scale", ..., None, {"scale": 0.5}),
    ("is_causal", SQUARE, mt.Causal.top_left(), {"is_causal": True}),
    ("bool", ..., mt.BoolMask.ones_are_kept(KEPT), {"attn_mask": torch.from_numpy(KEPT)}),
    ("float", ..., mt.Bias(BIAS), {"attn_mask": torch.from_numpy(BIAS)}),
]


@pytest.mark.parametrize("case", range(len(CASES)), ids=[case[0] for case in CASES])
def test_scaled_dot_product_attention(case: int) -> None:
    _, keys, mask, options = CASES[case]
    k, v = K[keys], V[keys]
    wanted = torch.nn.functional.scaled_dot_product_attention(
        *map(torch.from_numpy, (Q, k, v)), **options
    )
    out = mt.attention(Q, k, v, mask=mask, scale=options.get("scale"))
    np.testing.assert_allclose(out, wanted.numpy(), atol=2e-6)


def test_memory_of_torch_is_taken_as_it_lies() -> None:
    x, weight = torch.randn(5, 16), torch.randn(7, 16)
    out = torch.empty(5, 7)
    mt.matmul(x.numpy(), weight.numpy().T, out=out.numpy())
    torch.testing.assert_close(out, x @ weight.T)
