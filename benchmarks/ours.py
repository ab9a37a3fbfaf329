"""DDStore's codec as the ratio benchmark sees it: one codec per profile, in segments of the profile's length."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.base import Codec, Values
from ddstore.bounds import Absolute, Lossless
from ddstore.codec.segment import decode_column, encode_column
from ddstore.profiles import Profile

__all__ = ["PROFILES", "Ours"]


class Ours(Codec):
    """A profile of ours, in segments of its own length. NaN needs no help here: it is coded where it lies."""

    def __init__(self, profile: Profile) -> None:
        self.label = profile.value
        self._profile = profile

    def pack(self, values: Values, eps: NDArray[np.float64]) -> Sequence[bytes]:
        """Latents and residual of each segment in turn."""
        column = np.ascontiguousarray(values[:, 0])
        bound = Absolute(float(eps[0])) if eps[0] > 0 else Lossless()
        segments = [
            encode_column(column[low:high], None, type=_kind(column.dtype), bound=bound, profile=self._profile)
            for low, high in pairwise(self._cuts(len(column)))
        ]
        return [part for coded in segments for part in (coded.latents or b"", coded.residual)]

    def unpack(self, parts: Sequence[bytes], shape: tuple[int, int], dtype: Any, eps: NDArray[np.float64]) -> Values:
        read = np.empty(shape[0], dtype)
        for (low, high), latents, residual in zip(pairwise(self._cuts(shape[0])), parts[::2], parts[1::2], strict=True):
            read[low:high], _ = decode_column(residual, latents or None, None, _kind(read.dtype), high - low)
        return read[:, None]

    def _cuts(self, n: int) -> list[int]:
        return [*range(0, n, self._profile.segment_rows), n]


def _kind(dtype: np.dtype[Any]) -> str:
    return f"float{dtype.itemsize}"


PROFILES = (Ours(Profile.FAST), Ours(Profile.BALANCED), Ours(Profile.ARCHIVE))
