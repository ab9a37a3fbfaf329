"""SZ3 (PyPI pysz), every algorithm it has, in the column's own type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pysz

from benchmarks.peers.base import ColumnCodec, Peer, Values

__all__ = ["PEERS"]


class Sz3(ColumnCodec):
    """One of SZ3's algorithms."""

    def __init__(self, label: str, algorithm: int) -> None:
        self.label = label
        self._algorithm = algorithm

    def pack_column(self, values: Values, eps: float) -> Sequence[bytes]:
        config = pysz.szConfig(values.shape)
        config.errorBoundMode = pysz.szErrorBoundMode.ABS
        config.absErrorBound = eps
        config.cmprAlgo = self._algorithm
        packed, _ = pysz.sz.compress(values, config)
        return [packed.tobytes()]

    def unpack_column(self, parts: Sequence[bytes], n: int, dtype: Any, eps: float) -> Values:
        restored, _ = pysz.sz.decompress(np.frombuffer(parts[0], np.uint8), np.dtype(dtype), (n,))
        return np.asarray(restored)


PEERS = (
    Peer(
        "SZ3",
        tuple(
            Sz3(name.lower(), getattr(pysz.szAlgorithm, name))
            for name in ("LORENZO_REG", "INTERP_LORENZO", "INTERP", "NOPRED", "LOSSLESS")
        ),
    ),
)
