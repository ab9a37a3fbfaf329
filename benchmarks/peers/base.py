"""What a compressor is to the ratio benchmark, and what several peers need: a quantizer that keeps its bound."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Codec",
    "ColumnCodec",
    "Exceptions",
    "Peer",
    "Values",
    "find_exceptions",
    "index_from_bytes",
    "index_to_bytes",
    "step_of",
]

Values = NDArray[Any]
# Indices beyond this are exact in neither a double nor after a difference in int64: such values are stored raw.
_LARGEST_INDEX = 2.0**52


class Codec(ABC):
    """One way to code columns. Row count, column count, dtype and ``eps`` are known to the decoder for free."""

    label: str
    joint: bool = False
    """Whether it gains from all columns of a set at once; otherwise it is given one at a time."""

    @abstractmethod
    def pack(self, values: Values, eps: NDArray[np.float64]) -> Sequence[bytes]:
        """Compress.

        Args:
            values: finite float32 or float64 (any bits where the codec is lossless), shape (n, C), C-ordered.
            eps: absolute bound of each column, shape (C,); 0 where the codec is lossless.

        Returns:
            Everything that would be stored; the sizes add up.
        """

    @abstractmethod
    def unpack(self, parts: Sequence[bytes], shape: tuple[int, int], dtype: Any, eps: NDArray[np.float64]) -> Values:
        """Decompress to an array of this shape and dtype."""

    def train(self, values: Values, eps: NDArray[np.float64]) -> None:  # noqa: B027, most have nothing to train
        """Learn from the columns that are packed next, on a clock of its own."""


class ColumnCodec(Codec):
    """A codec that knows one column only."""

    @abstractmethod
    def pack_column(self, values: Values, eps: float) -> Sequence[bytes]:
        """Compress one column, shape (n,), contiguous."""

    @abstractmethod
    def unpack_column(self, parts: Sequence[bytes], n: int, dtype: Any, eps: float) -> Values:
        """Decompress one column, shape (n,)."""

    def pack(self, values: Values, eps: NDArray[np.float64]) -> Sequence[bytes]:
        return self.pack_column(np.ascontiguousarray(values[:, 0]), float(eps[0]))

    def unpack(self, parts: Sequence[bytes], shape: tuple[int, int], dtype: Any, eps: NDArray[np.float64]) -> Values:
        return self.unpack_column(parts, shape[0], dtype, float(eps[0]))[:, None]


@dataclass(frozen=True, slots=True)
class Peer:
    """A compressor under the name it has in the table: each column counts with the codec that makes it smallest."""

    name: str
    codecs: tuple[Codec, ...]
    lossless: bool = False
    """Whether it ignores the bound and returns every bit."""


def step_of(values: Values, eps: float) -> float:
    """The quantization step: 2 eps, less one unit in the last place of the column's largest value.

    With that the rounding of reconstructions to the column's type does not break the bound at every tie, which would
    cost the peer a raw value each time (LFZip takes off a fixed 1e-6 for the same reason).
    """
    with np.errstate(over="ignore"):  # the largest float has no next one
        rounding = float(np.spacing(np.abs(values).max()))
    return 2 * (eps - rounding if rounding < eps / 16 else eps)


@dataclass(frozen=True, slots=True)
class Exceptions:
    """Rows that a quantizer cannot hold within the bound, and their raw values: coded apart."""

    where: NDArray[np.int64]
    raw: Values

    def to_bytes(self) -> bytes:
        """Row distances, then values; nothing at all where there are none."""
        if len(self.where) == 0:
            return b""
        gaps = np.diff(self.where, prepend=0).astype("<u4")
        return zlib.compress(gaps.tobytes() + self.raw.tobytes(), 9)

    @classmethod
    def from_bytes(cls, data: bytes, dtype: Any) -> Exceptions:
        """Inverse of :meth:`to_bytes`."""
        plain = zlib.decompress(data) if data else b""
        count = len(plain) // (4 + np.dtype(dtype).itemsize)
        gaps = np.frombuffer(plain, "<u4", count)
        return cls(np.cumsum(gaps, dtype=np.int64), np.frombuffer(plain, dtype, count, 4 * count))

    def put(self, values: Values) -> Values:
        """``values`` with the raw ones in their places; the argument is changed."""
        values[self.where] = self.raw
        return values


def find_exceptions(values: Values, eps: float, step: float) -> tuple[NDArray[np.int64], Exceptions]:
    """The uniform quantizer's indices, shape (n,), int64, and the rows where they break the bound."""
    wide = values.astype(np.float64)
    scaled = np.rint(wide / step)
    index = np.where(np.abs(scaled) < _LARGEST_INDEX, scaled, 0).astype(np.int64)
    read = (index * step).astype(values.dtype).astype(np.float64)
    where = np.flatnonzero(~(np.abs(read - wide) <= eps))
    return index, Exceptions(where, values[where])


def index_to_bytes(index: NDArray[np.int64], *, planes: bool) -> bytes:
    """Indices in the narrowest integer type that holds them, byte planes apart if asked; first byte: its width."""
    low, high = int(index.min()), int(index.max())
    width = next(w for w in (1, 2, 4, 8) if -(1 << (8 * w - 1)) <= low and high < 1 << (8 * w - 1))
    narrow = index.astype(f"<i{width}")
    body = narrow.view(np.uint8).reshape(-1, width).T.tobytes() if planes else narrow.tobytes()
    return bytes([width]) + body


def index_from_bytes(data: bytes, *, planes: bool) -> NDArray[np.int64]:
    """Inverse of :func:`index_to_bytes`."""
    width = data[0]
    body = np.frombuffer(data, np.uint8, offset=1)
    if planes:
        body = np.ascontiguousarray(body.reshape(width, -1).T).reshape(-1)
    return body.view(f"<i{width}").astype(np.int64)
