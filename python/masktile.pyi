"""CPU kernels for transformer decoders on NumPy arrays: matmul, masked softmax and attention, the
same bits on every instruction set.

Arrays are float32, of 2 to 4 axes, [batch x [heads x]] rows x columns, of any strides that are not
negative: nothing is copied. A wrong type is a TypeError, a wrong shape or number a ValueError; both
name the argument, what was given and what was wanted, and no output was touched.
"""

from collections.abc import Sequence
from typing import Any, Literal, final, overload

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

_Floats = npt.NDArray[np.float32]
_Integers = Sequence[int] | npt.NDArray[np.integer[Any]]
_Ones = npt.NDArray[np.bool_] | npt.NDArray[np.uint8]

@final
class Offset:
    """Where queries stand beside keys: query `i` stands at key `i + offset`."""

    @staticmethod
    def top_left() -> Offset:
        """0: query 0 stands at key 0."""
    @staticmethod
    def bottom_right() -> Offset:
        """keys - queries: the last query stands at the last key."""
    @staticmethod
    def of(offset: int) -> Offset:
        """Any offset."""
    @staticmethod
    def per_batch(offsets: _Integers) -> Offset:
        """Any offset for each batch."""
    @staticmethod
    def past(tokens: _Integers) -> Offset:
        """For each batch the number of tokens before its first query."""
    @staticmethod
    def ending_at(lengths: _Integers) -> Offset:
        """For each batch `lengths[batch] - queries`."""

@disjoint_base
class Mask:
    """What is kept of scores, and what is added to them. Its `repr` draws it. Masks compose by `&`:
    a position is kept when every one keeps it."""

    def draw(self, shape: Sequence[int]) -> str:
        """A picture for scores of `shape` (batch, heads, queries, keys): `.` kept, `#` masked."""
    def __and__(self, other: Mask, /) -> Mask: ...

@final
class Causal(Mask):
    """Keeps key j for query i if `j <= i + offset`."""

    def __new__(cls, offset: Offset) -> Causal: ...
    @staticmethod
    def top_left() -> Causal:
        """Offset 0: query 0 sees key 0 alone."""
    @staticmethod
    def bottom_right() -> Causal:
        """Offset keys - queries: the last query sees every key."""

@final
class Window(Mask):
    """Keeps keys from `left` before to `right` behind the one that the query stands at; `None` for
    no bound."""

    def __new__(cls, left: int | None, right: int | None, offset: Offset) -> Window: ...

@final
class PrefixLm(Mask):
    """Keeps the first `lengths[batch]` keys, and those that `Causal` keeps."""

    def __new__(cls, lengths: _Integers, offset: Offset) -> PrefixLm: ...

@final
class KeyLengths(Mask):
    """Keeps the first `lengths[batch]` keys: the rest is padding."""

    def __new__(cls, lengths: _Integers) -> KeyLengths: ...

@final
class KeyRanges(Mask):
    """Keeps the keys from `start` to before `end` of each batch: padding on both sides."""

    def __new__(cls, ranges: Sequence[tuple[int, int]]) -> KeyRanges: ...

@final
class Segments(Mask):
    """Keeps the keys of the query's own sequence among several packed into one."""

    @staticmethod
    def cumulative(queries: _Integers, keys: _Integers) -> Segments:
        """Segment s is queries[s] to before queries[s + 1], and keys likewise, in every batch."""
    @staticmethod
    def cumulative_causal(queries: _Integers, keys: _Integers) -> Segments:
        """The same, and causal within each segment, aligned at its end."""
    @staticmethod
    def ids(queries: npt.NDArray[np.int32], keys: npt.NDArray[np.int32]) -> Segments:
        """Keeps a key whose identity is the query's: batch x queries and batch x keys of int32."""

@final
class BoolMask(Mask):
    """A matrix of booleans or bytes, with the meaning of a 1. Axes of 1 are repeated."""

    @staticmethod
    def ones_are_masked(matrix: _Ones) -> BoolMask:
        """1 = ignore, 0 = attend."""
    @staticmethod
    def ones_are_kept(matrix: _Ones) -> BoolMask:
        """1 = attend, 0 = ignore."""

@final
class BitMask(Mask):
    """A matrix of bits, ceil(keys / 8) bytes a query, the least significant first
    (`numpy.packbits(.., axis=-1, bitorder="little")`), with the meaning of a 1."""

    @staticmethod
    def ones_are_masked(matrix: npt.NDArray[np.uint8]) -> BitMask:
        """1 = ignore, 0 = attend."""
    @staticmethod
    def ones_are_kept(matrix: npt.NDArray[np.uint8]) -> BitMask:
        """1 = attend, 0 = ignore."""

@final
class BlockMask(Mask):
    """A byte or boolean for each block of `block[0]` queries by `block[1]` keys, with the meaning
    of a 1."""

    @staticmethod
    def ones_are_masked(table: _Ones, block: tuple[int, int]) -> BlockMask:
        """1 = ignore, 0 = attend."""
    @staticmethod
    def ones_are_kept(table: _Ones, block: tuple[int, int]) -> BlockMask:
        """1 = attend, 0 = ignore."""

@final
class Bias(Mask):
    """Numbers of float32 or float16 added to the scaled scores; -infinity masks its position. Axes
    of 1 are repeated."""

    def __new__(cls, bias: _Floats | npt.NDArray[np.float16]) -> Bias: ...

@final
class Alibi(Mask):
    """Adds `-slopes[head] * abs(i + offset - j)` to the scaled score."""

    def __new__(
        cls, slopes: Sequence[float] | npt.NDArray[np.floating[Any]], offset: Offset
    ) -> Alibi: ...

@overload
def attention(
    q: _Floats,
    k: _Floats,
    v: _Floats,
    *,
    mask: Mask | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    temperature: float = 1.0,
    sinks: _Floats | None = None,
    return_lse: Literal[False] = False,
    out: _Floats | None = None,
    isa: str | None = None,
    threads: int = 1,
) -> _Floats:
    """softmax(scale q k^T + biases, masked) v for each batch and head.

    With fewer key/value heads than query heads, these share them (grouped queries). `scale` is
    1 / sqrt(dim) where it is not given. `out` must be memory apart from everything that is read.
    The global interpreter lock is released meanwhile; `threads` changes no bit of the result.

    Returns [batch x [heads x]] queries x value dim; with `return_lse` also the log-sum-exp of each
    row.
    """

@overload
def attention(
    q: _Floats,
    k: _Floats,
    v: _Floats,
    *,
    mask: Mask | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    temperature: float = 1.0,
    sinks: _Floats | None = None,
    return_lse: Literal[True],
    out: _Floats | None = None,
    isa: str | None = None,
    threads: int = 1,
) -> tuple[_Floats, _Floats]: ...
@overload
def softmax(
    scores: _Floats,
    *,
    mask: Mask | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    sinks: _Floats | None = None,
    log: bool = False,
    return_lse: Literal[False] = False,
    out: _Floats | None = None,
    isa: str | None = None,
) -> _Floats:
    """exp(s - max) / sum over the kept keys of each row, 0 where masked; with `log` its logarithm.

    s = (softcap(scale * scores) + biases) / temperature. `out` may be `scores` itself; otherwise it
    must be memory apart. The global interpreter lock is released meanwhile.

    Returns the probabilities; with `return_lse` also the log-sum-exp of each row.
    """

@overload
def softmax(
    scores: _Floats,
    *,
    mask: Mask | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    sinks: _Floats | None = None,
    log: bool = False,
    return_lse: Literal[True],
    out: _Floats | None = None,
    isa: str | None = None,
) -> tuple[_Floats, _Floats]: ...
def matmul(
    a: _Floats,
    b: _Floats,
    *,
    alpha: float = 1.0,
    bias: _Floats | None = None,
    activation: Literal["relu", "gelu", "gelu_tanh", "silu"] | None = None,
    residual: _Floats | None = None,
    out: _Floats | None = None,
    isa: str | None = None,
    threads: int = 1,
) -> _Floats:
    """activation(alpha a b + bias) + residual, for each of the leading axes.

    `weight.T` is no copy; leading axes broadcast as in numpy.matmul. `bias` is a number for each
    column. `gelu` is by erf. `out` must be memory apart from everything that is read. The global
    interpreter lock is released meanwhile; `threads` changes no bit of the result.
    """

def isa() -> str:
    """The instruction set that operations use: the one that MASKTILE_ISA names, else the best that
    the machine has."""

def isas() -> list[str]:
    """The instruction sets of this machine, worst first."""
