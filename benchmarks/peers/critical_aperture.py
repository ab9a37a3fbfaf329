"""Critical aperture (CA), what process historians do: keep the points between which straight lines stay in the bound.

Positions and values of the kept points are compressed with libbsc, as LFZip's evaluation does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from benchmarks.peers.base import ColumnCodec, Peer, Values, index_from_bytes, index_to_bytes
from benchmarks.peers.libbsc import bsc_compress, bsc_decompress

__all__ = ["PEERS"]


def _points(values: NDArray[np.float64], eps: float, kept: NDArray[np.int64]) -> int:
    """Write the rows to keep, first and last included; how many they are."""
    count, anchor = 1, 0
    kept[0] = 0
    low, high = -np.inf, np.inf
    row = 1
    while row < len(values):
        run = row - anchor
        slope = (values[row] - values[anchor]) / run
        # The first point after an anchor always fits: the aperture is open.
        if low <= slope <= high:
            low = max(low, (values[row] - eps - values[anchor]) / run)
            high = min(high, (values[row] + eps - values[anchor]) / run)
            row += 1
        else:
            anchor = row - 1
            kept[count] = anchor
            count += 1
            low, high = -np.inf, np.inf
    if len(values) > 1:
        kept[count] = len(values) - 1
        count += 1
    return count


_compiled = njit(cache=True)(_points)


class CriticalAperture(ColumnCodec):
    """The kept points, in two streams."""

    label = "plain"

    def pack_column(self, values: Values, eps: float) -> Sequence[bytes]:
        # Narrower by the rounding of interpolated values to the column's type; nothing but straight runs if too tight.
        rounding = 2 * float(np.spacing(np.abs(values).max()))
        kept = np.empty(len(values) + 1, np.int64)
        count = _compiled(values.astype(np.float64), max(eps - rounding, 0.0), kept)
        rows = kept[:count]
        gaps = np.diff(rows, prepend=0)
        return [bsc_compress(index_to_bytes(gaps, planes=True)), bsc_compress(values[rows].tobytes())]

    def unpack_column(self, parts: Sequence[bytes], n: int, dtype: Any, eps: float) -> Values:
        rows = np.cumsum(index_from_bytes(bsc_decompress(parts[0]), planes=True))
        points = np.frombuffer(bsc_decompress(parts[1]), dtype).astype(np.float64)
        return np.interp(np.arange(n), rows, points).astype(dtype)


PEERS = (Peer("CA", (CriticalAperture(),)),)
