"""Every mask class: its picture, and what attention and softmax make of it."""

from __future__ import annotations

from typing import Callable

import numpy as np
import pytest

import masktile as mt
from oracle import Bools, Doubles, Integers, random, scored, softmax

BATCH, HEADS, QUERIES, KEYS = 2, 3, 5, 9
SHAPE = (BATCH, HEADS, QUERIES, KEYS)
B, H, I, J = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
MATRIX = random(7, *SHAPE) > 0
LENGTHS = np.array([4, 7])
IDS = np.array([[1, 1, 2, 2, 2], [3, 3, 3, 4, 5]], dtype=np.int32)
KEY_IDS = np.array([[1, 1, 1, 2, 2, 2, 2, 9, 9], [3, 4, 4, 4, 4, 5, 5, 5, 5]], dtype=np.int32)
TABLE = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 0]], dtype=np.uint8)
BIAS = np.where(MATRIX, random(8, *SHAPE), -np.inf).astype(np.float32)
SLOPES = np.array([0.5, 0.25, 0.125], dtype=np.float32)
bottom_right = mt.Offset.bottom_right()


def packed(starts: list[int], at: Integers) -> Integers:
    """The segment that each position is in."""
    return np.searchsorted(np.array(starts[1:]), at, side="right")


# Name: the mask, where it keeps, what it adds.
CASES: dict[str, tuple[mt.Mask, Bools, Doubles | float]] = {
    "top left": (mt.Causal.top_left(), J <= I, 0.0),
    "bottom right": (mt.Causal.bottom_right(), J <= I + KEYS - QUERIES, 0.0),
    "offset": (mt.Causal(mt.Offset.of(-2)), J <= I - 2, 0.0),
    "offsets": (mt.Causal(mt.Offset.per_batch([1, -3])), J <= I + np.array([1, -3])[B], 0.0),
    "past": (mt.Causal(mt.Offset.past([1, 3])), J <= I + np.array([1, 3])[B], 0.0),
    "ending at": (mt.Causal(mt.Offset.ending_at(LENGTHS)), J <= I + LENGTHS[B] - QUERIES, 0.0),
    "window": (
        mt.Window(2, 1, bottom_right),
        (J >= I + KEYS - QUERIES - 2) & (J <= I + KEYS - QUERIES + 1),
        0.0,
    ),
    "half a window": (mt.Window(None, 0, mt.Offset.top_left()), J <= I, 0.0),
    "prefix": (
        mt.PrefixLm([3, 0], mt.Offset.top_left()),
        (J < np.array([3, 0])[B]) | (J <= I),
        0.0,
    ),
    "lengths": (mt.KeyLengths(LENGTHS), J < LENGTHS[B], 0.0),
    "ranges": (
        mt.KeyRanges([(2, 9), (0, 4)]),
        (J >= np.array([2, 0])[B]) & (J < np.array([9, 4])[B]),
        0.0,
    ),
    "packed": (
        mt.Segments.cumulative([0, 2, 5], [0, 4, 9]),
        packed([0, 2, 5], I) == packed([0, 4, 9], J),
        0.0,
    ),
    "packed causal": (
        mt.Segments.cumulative_causal([0, 2, 5], [0, 4, 9]),
        (packed([0, 2, 5], I) == packed([0, 4, 9], J))
        & (J <= I + np.where(I < 2, 4 - 2, 9 - 5)),
        0.0,
    ),
    "ids": (mt.Segments.ids(IDS, KEY_IDS), IDS[B, I] == KEY_IDS[B, J], 0.0),
    "ones are kept": (mt.BoolMask.ones_are_kept(MATRIX), MATRIX, 0.0),
    "ones are masked": (mt.BoolMask.ones_are_masked(MATRIX.astype(np.uint8)), ~MATRIX, 0.0),
    "one matrix for all": (
        mt.BoolMask.ones_are_kept(MATRIX[0, 0]),
        np.broadcast_to(MATRIX[0, 0], SHAPE),
        0.0,
    ),
    "one row a batch": (
        mt.BoolMask.ones_are_kept(MATRIX[:, :1, :1]),
        np.broadcast_to(MATRIX[:, :1, :1], SHAPE),
        0.0,
    ),
    "transposed": (
        mt.BoolMask.ones_are_kept(np.asfortranarray(MATRIX[0, 0])),
        np.broadcast_to(MATRIX[0, 0], SHAPE),
        0.0,
    ),
    "bits": (
        mt.BitMask.ones_are_kept(np.packbits(MATRIX, axis=-1, bitorder="little")),
        MATRIX,
        0.0,
    ),
    "bits masked": (
        mt.BitMask.ones_are_masked(np.packbits(MATRIX[:, :1], axis=-1, bitorder="little")),
        np.broadcast_to(~MATRIX[:, :1], SHAPE),
        0.0,
    ),
    "blocks": (mt.BlockMask.ones_are_kept(TABLE, (2, 3)), TABLE[I // 2, J // 3] != 0, 0.0),
    "blocks masked": (
        mt.BlockMask.ones_are_masked(TABLE.astype(bool), (2, 3)),
        TABLE[I // 2, J // 3] == 0,
        0.0,
    ),
    "bias": (mt.Bias(BIAS), MATRIX, np.where(MATRIX, BIAS, 0.0).astype(np.float64)),
    "half bias": (
        mt.Bias(BIAS.astype(np.float16)),
        MATRIX,
        np.where(MATRIX, BIAS.astype(np.float16), 0.0).astype(np.float64),
    ),
    "alibi": (
        mt.Alibi(SLOPES, bottom_right),
        np.ones(SHAPE, dtype=np.bool_),
        -SLOPES[H].astype(np.float64) * np.abs(I + KEYS - QUERIES - J),
    ),
    "composed": (
        mt.Causal.bottom_right() & mt.KeyLengths(LENGTHS) & mt.Bias(BIAS[:1, :, :1]),
        (J <= I + KEYS - QUERIES) & (J < LENGTHS[B]) & np.isfinite(BIAS[:1, :, :1]),
        np.where(np.isfinite(BIAS[:1, :, :1]), BIAS[:1, :, :1], 0.0).astype(np.float64),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_picture(name: str) -> None:
    mask, kept, _ = CASES[name]
    lines = [line for line in mask.draw(SHAPE).splitlines() if not line.startswith("batch")]
    drawn = np.array([[c == "." for c in line] for line in lines]).reshape(SHAPE)
    np.testing.assert_array_equal(drawn, kept)


@pytest.mark.parametrize("isa", mt.isas())
@pytest.mark.parametrize("name", CASES)
def test_softmax_and_attention(name: str, isa: str) -> None:
    mask, kept, bias = CASES[name]
    raw = random(1, *SHAPE)
    probs, lse = mt.softmax(raw, mask=mask, return_lse=True, isa=isa)
    wanted, wanted_lse = softmax(scored(raw.astype(np.float64), kept, 1.0, bias=bias))
    np.testing.assert_allclose(probs, wanted, rtol=2e-6, atol=1e-30)
    np.testing.assert_allclose(lse, wanted_lse, rtol=1e-6, atol=1e-6)

    q, k, v = (random(i, BATCH, HEADS, n, 8) for i, n in enumerate((QUERIES, KEYS, KEYS)))
    out = mt.attention(q, k, v, mask=mask, isa=isa)
    raw64 = q.astype(np.float64) @ k.astype(np.float64).swapaxes(-1, -2)
    wanted = softmax(scored(raw64, kept, 8**-0.5, bias=bias))[0] @ v
    np.testing.assert_allclose(out, wanted, atol=2e-6)


def test_repr_draws() -> None:
    assert repr(mt.Causal.bottom_right()).startswith("Causal.bottom_right()\n.#######\n..######\n")
    assert repr(mt.KeyLengths([1, 3])).splitlines()[:3] == [
        "KeyLengths([1, 3])",
        "batch 0, head 0:",
        ".##",
    ]
    tril = np.tril(np.ones((2, 3), dtype=bool))
    assert repr(mt.BoolMask.ones_are_masked(tril)) == "BoolMask.ones_are_masked(<2x3>)\n#..\n##."
    both = mt.Causal.top_left() & mt.BoolMask.ones_are_kept(tril)
    assert repr(both) == "Causal.top_left() & BoolMask.ones_are_kept(<2x3>)\n.##\n..#"
    assert repr(mt.Window(2, None, mt.Offset.past([4]))).startswith(
        "Window(2, None, Offset.past([4]))\n"
    )
    row = mt.BoolMask.ones_are_kept(np.array([[True, False]])) & mt.Causal.top_left()
    assert repr(row).endswith("\n.#" * 8)
    assert repr(mt.KeyLengths([1, 2]) & mt.KeyLengths([3])).endswith("given 1, wanted 2")
    assert repr(mt.Offset.bottom_right()) == "Offset.bottom_right()"
    for mask, _, _ in CASES.values():
        assert isinstance(mask, mt.Mask)
        assert len(repr(mask).splitlines()) > 2


WRONG: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: mt.KeyLengths([4, 10]).draw(SHAPE), ValueError, "`mask`: key length: given 10, wanted at most 9"),
    (lambda: mt.KeyLengths([4]).draw(SHAPE), ValueError, "`mask`: key lengths: given 1, wanted 2"),
    (
        lambda: mt.BoolMask.ones_are_kept(MATRIX[..., :4]).draw(SHAPE),
        ValueError,
        "`mask`: keys: given 4, wanted 9",
    ),
    (
        lambda: mt.BoolMask.ones_are_kept(BIAS),  # type: ignore[arg-type]
        TypeError,
        "`matrix`: given an array of float32, wanted uint8",
    ),
    (
        lambda: mt.BoolMask.ones_are_kept(np.zeros(3, dtype=bool)).draw(SHAPE),
        ValueError,
        "`mask`: axes: given 1, wanted 2 to 4",
    ),
    (
        lambda: mt.BoolMask.ones_are_kept(MATRIX[..., ::-1]).draw(SHAPE),
        ValueError,
        "`mask`: `strides`: stride: given -1, wanted none below 0",
    ),
    (
        lambda: mt.Bias(BIAS.astype(np.float64)),  # type: ignore[arg-type]
        TypeError,
        "`bias`: given an array of float64, wanted float32",
    ),
    (
        lambda: mt.BlockMask.ones_are_kept(TABLE, (0, 3)),
        ValueError,
        "`block`: given [0, 3], wanted at least 1 of each",
    ),
    (lambda: mt.Mask(), TypeError, "cannot create 'masktile.Mask' instances|No constructor"),
    (lambda: mt.Causal.top_left() & 3, TypeError, "unsupported operand"),  # type: ignore[operator]
]


@pytest.mark.parametrize("case", range(len(WRONG)))
def test_errors(case: int) -> None:
    make, kind, text = WRONG[case]
    pattern = text if "|" in text else text.replace("[", r"\[").replace("]", r"\]")
    with pytest.raises(kind, match=pattern):
        make()
