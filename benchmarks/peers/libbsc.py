"""libbsc (PyPI bsc): after a uniform quantizer, with and without differences; and on raw bytes, lossless."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import bsc
import numpy as np

from benchmarks.peers.base import (
    ColumnCodec,
    Exceptions,
    Peer,
    Values,
    find_exceptions,
    index_from_bytes,
    index_to_bytes,
    step_of,
)

__all__ = ["PEERS", "bsc_compress", "bsc_decompress"]


def bsc_compress(data: bytes, *, lzp: bool = False) -> bytes:
    """libbsc's best coder (adaptive QLFC), with or without its long-match preprocessor; b"" stays b""."""
    if not data:
        return b""
    # Bytes: the binding returns a bytearray.
    return bytes(bsc.compress(data, coder=2) if lzp else bsc.compress(data, coder=2, hash_size=0, min_length=0))


def bsc_decompress(data: bytes) -> bytes:
    """Inverse of :func:`bsc_compress`."""
    return bytes(bsc.decompress(data)) if data else b""


class QuantizeBsc(ColumnCodec):
    """Quantize, difference perhaps, libbsc over the whole column."""

    def __init__(self, *, delta: bool, planes: bool, lzp: bool) -> None:
        self.label = f"{'planes' if planes else 'plain'}{', lzp' if lzp else ''}"
        self._delta, self._planes, self._lzp = delta, planes, lzp

    def pack_column(self, values: Values, eps: float) -> Sequence[bytes]:
        index, exceptions = find_exceptions(values, eps, step := step_of(values, eps))
        if self._delta:
            index = np.diff(index, prepend=0)
        packed = bsc_compress(index_to_bytes(index, planes=self._planes), lzp=self._lzp)
        return [np.float64(step).tobytes(), packed, exceptions.to_bytes()]

    def unpack_column(self, parts: Sequence[bytes], n: int, dtype: Any, eps: float) -> Values:
        index = index_from_bytes(bsc_decompress(parts[1]), planes=self._planes)
        if self._delta:
            index = np.cumsum(index)
        values = (index * np.frombuffer(parts[0])[0]).astype(dtype)
        return Exceptions.from_bytes(parts[2], dtype).put(values)


class RawBsc(ColumnCodec):
    """libbsc over the column's own bytes, as they lie or with the planes apart."""

    def __init__(self, *, planes: bool, lzp: bool) -> None:
        self.label = f"{'planes' if planes else 'plain'}{', lzp' if lzp else ''}"
        self._planes, self._lzp = planes, lzp

    def pack_column(self, values: Values, eps: float) -> Sequence[bytes]:
        data = values.view(np.uint8).reshape(-1, values.itemsize).T if self._planes else values
        return [bsc_compress(data.tobytes(), lzp=self._lzp)]

    def unpack_column(self, parts: Sequence[bytes], n: int, dtype: Any, eps: float) -> Values:
        data = np.frombuffer(bsc_decompress(parts[0]), np.uint8)
        if self._planes:
            data = np.ascontiguousarray(data.reshape(-1, n).T).reshape(-1)
        return data.view(dtype)


_FORMS = [{"planes": planes, "lzp": lzp} for planes, lzp in product((False, True), repeat=2)]

PEERS = (
    Peer("q+delta+bsc", tuple(QuantizeBsc(delta=True, **form) for form in _FORMS)),
    Peer("q+bsc", tuple(QuantizeBsc(delta=False, **form) for form in _FORMS)),
    Peer("bsc", tuple(RawBsc(planes=False, lzp=lzp) for lzp in (False, True)), lossless=True),
    Peer("shuffle+bsc", tuple(RawBsc(planes=True, lzp=lzp) for lzp in (False, True)), lossless=True),
)
