"""LFZip's predictor: a normalised LMS filter over what was reconstructed, its error quantized, libbsc over that.

Chandak et al., LFZip: Lossy compression of multivariate floating-point time series data via improved prediction
(DCC 2020). Orders 32 and 0, step size 0.5, as there. Order 0 predicts from the columns before it at the same row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from benchmarks.peers.base import Codec, Peer, Values, index_from_bytes, index_to_bytes, step_of
from benchmarks.peers.libbsc import bsc_compress, bsc_decompress

__all__ = ["PEERS"]

_STEP_SIZE = 0.5
_RAW = -32768  # this index means: the value follows, raw


def _run(
    values: Values,
    eps: NDArray[np.float64],
    steps: NDArray[np.float64],
    index: NDArray[np.int16],
    read: Values,
    columns: int,
    order: int,
    decode: bool,
) -> None:
    """Fill ``index`` and ``read`` from ``values``, or ``read`` from ``index``; all flat, row by row.

    When decoding, ``read`` comes with the raw values in their places. One function for both directions, so that
    they predict alike to the last bit although the sums may be reassociated.
    """
    weights = np.zeros((columns, order * columns + columns))
    for i in range(len(index)):
        row, j = i // columns, i % columns
        taps = order * columns + j
        history = read[i - taps : i] if row > order else read[:0]
        prediction, power = 0.0, 1.0
        if row > order:
            for k in range(taps):
                prediction += weights[j, k] * history[k]
                power += history[k] * history[k]
        elif row > 0:
            prediction = float(read[i - columns])
        step = steps[j]
        if not decode:
            wanted = (values[i] - prediction) / step
            index[i] = _RAW
            read[i] = values[i]
            if abs(wanted) < 32767.0:
                nearest = np.rint(wanted)
                read[i] = prediction + nearest * step
                if abs(np.float64(read[i]) - np.float64(values[i])) <= eps[j]:
                    index[i] = np.int16(nearest)
                else:
                    read[i] = values[i]
        elif index[i] != _RAW:
            read[i] = prediction + index[i] * step
        if row > order:
            gain = _STEP_SIZE * (read[i] - prediction) / power
            for k in range(taps):
                weights[j, k] += gain * history[k]


_compiled = njit(fastmath={"reassoc", "contract", "nsz"}, cache=True)(_run)


class Nlms(Codec):
    """The filter of one order, over one column or all."""

    def __init__(self, order: int, *, joint: bool, planes: bool) -> None:
        self.label = f"{'joint' if joint else 'single'}, {'planes' if planes else 'plain'}"
        self.joint = joint
        self._order, self._planes = order, planes

    def pack(self, values: Values, eps: NDArray[np.float64]) -> Sequence[bytes]:
        n, columns = values.shape
        steps = np.array([step_of(values[:, j], float(eps[j])) for j in range(columns)])
        index, read = np.empty(n * columns, np.int16), np.empty(n * columns, values.dtype)
        flat = np.ascontiguousarray(values).reshape(-1)
        _compiled(flat, eps, steps, index, read, columns, self._order, False)
        coded = [
            bsc_compress(index_to_bytes(column.astype(np.int64), planes=self._planes))
            for column in index.reshape(n, columns).T
        ]
        return [steps.tobytes(), bsc_compress(flat[index == _RAW].tobytes()), *coded]

    def unpack(self, parts: Sequence[bytes], shape: tuple[int, int], dtype: Any, eps: NDArray[np.float64]) -> Values:
        n, columns = shape
        steps, raw = np.frombuffer(parts[0]), np.frombuffer(bsc_decompress(parts[1]), dtype)
        index = np.empty(shape, np.int16)
        for j, part in enumerate(parts[2:]):
            index[:, j] = index_from_bytes(bsc_decompress(part), planes=self._planes)
        flat = index.reshape(-1)
        read = np.zeros(n * columns, dtype)
        read[flat == _RAW] = raw
        _compiled(read[:0], eps, steps, flat, read, columns, self._order, True)
        return read.reshape(shape)


def _codecs(order: int) -> tuple[Codec, ...]:
    return tuple(Nlms(order, joint=joint, planes=planes) for joint in (False, True) for planes in (False, True))


PEERS = (Peer("NLMS-32+bsc", _codecs(32)), Peer("NLMS-0+bsc", _codecs(0)))
