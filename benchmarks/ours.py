"""DDStore's codec as the ratio benchmark sees it: one codec per profile, in segments, models counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.base import Codec, Values
from ddstore.bounds import Absolute, Bound, Lossless
from ddstore.codec.segment import EncodedColumn, decode_column, encode_column

__all__ = ["PROFILES", "SEGMENT_ROWS", "Profile", "balanced"]

SEGMENT_ROWS = 16384  # the default of ddstore.managed_table

Encode = Callable[[list[Values], str, Bound], tuple[list[EncodedColumn], bytes | None]]
"""(the parts of one column, its type, its bound) -> (each part encoded, the bytes of the model they share)"""


def balanced(parts: list[Values], kind: str, bound: Bound) -> tuple[list[EncodedColumn], bytes | None]:
    """The default profile."""
    return [encode_column(part, None, type=kind, bound=bound) for part in parts], None


class Profile(Codec):
    """A profile of ours. NaN needs no help here: it is coded where it lies."""

    def __init__(self, label: str, encode: Encode) -> None:
        self.label = label
        self._encode = encode

    def pack(self, values: Values, eps: NDArray[np.float64]) -> Sequence[bytes]:
        """The model's bytes (empty without one), then latents and residual of each segment in turn."""
        column = np.ascontiguousarray(values[:, 0])
        bound = Absolute(float(eps[0])) if eps[0] > 0 else Lossless()
        parts = [column[low:high] for low, high in pairwise(_cuts(len(column)))]
        segments, model = self._encode(parts, _kind(column.dtype), bound)
        return [model or b"", *(part for coded in segments for part in (coded.latents or b"", coded.residual))]

    def unpack(self, parts: Sequence[bytes], shape: tuple[int, int], dtype: Any, eps: NDArray[np.float64]) -> Values:
        cuts = _cuts(shape[0])
        read = np.empty(shape[0], dtype)
        for (low, high), latents, residual in zip(pairwise(cuts), parts[1::2], parts[2::2], strict=True):
            model = parts[0] if latents else None
            read[low:high], _ = decode_column(residual, latents or None, model, _kind(read.dtype), high - low)
        return read[:, None]


def _cuts(n: int) -> list[int]:
    return [*range(0, n, SEGMENT_ROWS), n]


def _kind(dtype: np.dtype[Any]) -> str:
    return f"float{dtype.itemsize}"


PROFILES = (Profile("balanced", balanced),)
