"""zfp (PyPI zfpy) in fixed-accuracy mode, one dimension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import zfpy

from benchmarks.peers.base import ColumnCodec, Peer, Values

__all__ = ["PEERS"]


class Zfp(ColumnCodec):
    """zfp with the bound as its tolerance, which it rounds down to a power of two."""

    label = "accuracy"

    def pack_column(self, values: Values, eps: float) -> Sequence[bytes]:
        return [zfpy.compress_numpy(values, tolerance=eps)]

    def unpack_column(self, parts: Sequence[bytes], n: int, dtype: Any, eps: float) -> Values:
        return np.asarray(zfpy.decompress_numpy(parts[0]))


PEERS = (Peer("zfp", (Zfp(),)),)
