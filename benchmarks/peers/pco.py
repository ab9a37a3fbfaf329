"""pcodec (PyPI pcodec): lossless on the column's own type, and on the indices of a uniform quantizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pcodec import ChunkConfig, standalone

from benchmarks.peers.base import ColumnCodec, Exceptions, Peer, Values, find_exceptions, step_of

__all__ = ["PEERS"]

_LEVELS = (8, 12)  # the default and the highest


class Pcodec(ColumnCodec):
    """pcodec on the values themselves."""

    def __init__(self, level: int) -> None:
        self.label = f"level {level}"
        self._config = ChunkConfig(compression_level=level)

    def pack_column(self, values: Values, eps: float) -> Sequence[bytes]:
        return [standalone.simple_compress(values, self._config)]

    def unpack_column(self, parts: Sequence[bytes], n: int, dtype: Any, eps: float) -> Values:
        return np.asarray(standalone.simple_decompress(parts[0]))


class QuantizePcodec(Pcodec):
    """pcodec on quantized values."""

    def pack_column(self, values: Values, eps: float) -> Sequence[bytes]:
        index, exceptions = find_exceptions(values, eps, step := step_of(values, eps))
        narrow: NDArray[Any] = index.astype(np.int32) if np.abs(index).max() < 2**31 else index
        return [np.float64(step).tobytes(), *super().pack_column(narrow, eps), exceptions.to_bytes()]

    def unpack_column(self, parts: Sequence[bytes], n: int, dtype: Any, eps: float) -> Values:
        index = super().unpack_column(parts[1:2], n, dtype, eps)
        values = (index * np.frombuffer(parts[0])[0]).astype(dtype)
        return Exceptions.from_bytes(parts[2], dtype).put(values)


PEERS = (
    Peer("pcodec", tuple(map(Pcodec, _LEVELS)), lossless=True),
    Peer("q+pcodec", tuple(map(QuantizePcodec, _LEVELS))),
)
