"""The Deep Dict paper's own pipeline: a BTAE trained with QEL on the column, uniform bins around it, libbsc.

Encoding includes the training. Only with torch, and a ddstore that is built with libbsc (docs/operations.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.base import ColumnCodec, Peer, Values
from ddstore import _native
from ddstore.bounds import Absolute
from ddstore.codec import paper
from ddstore.codec.model import Model, pack_model
from ddstore.codec.segment import decode_column
from ddstore.errors import NotInstalled

if not _native.WITH_BSC:
    raise ImportError("this ddstore is built without libbsc")
try:
    from ddstore.model import encode_latents, train_btae
except NotInstalled as error:
    raise ImportError(error.what) from error

__all__ = ["PEERS"]

_WINDOW = 128
_LEAST_WINDOWS = 64  # fewer train nothing, and the value before predicts
_SECONDS = 60.0  # of training for a column


class DeepDict(ColumnCodec):
    """One model and the whole column, in pieces as long as a segment can be."""

    label = "btae"

    def pack_column(self, values: Values, eps: float) -> Sequence[bytes]:
        model = _train(values, eps)
        parts = [model.data if model is not None else b""]
        for start in range(0, len(values), _native.MAX_ROWS):
            piece = values[start : start + _native.MAX_ROWS]
            coded = paper.encode_column(piece, None, type=_type(piece.dtype), bound=Absolute(eps), model=model)
            parts += [coded.latents or b"", coded.residual]
        return parts

    def unpack_column(self, parts: Sequence[bytes], n: int, dtype: Any, eps: float) -> Values:
        read = np.empty(n, dtype)
        for at, start in enumerate(range(0, n, _native.MAX_ROWS)):
            latents, residual = parts[1 + 2 * at : 3 + 2 * at]
            piece = read[start : start + _native.MAX_ROWS]
            model = parts[0] if latents else None
            piece[:], _ = decode_column(residual, latents, model, _type(read.dtype), len(piece), trusting=True)
        return read


def _train(values: Values, eps: float) -> Model | None:
    with np.errstate(over="ignore"):
        windows = values[: len(values) // _WINDOW * _WINDOW].astype(np.float32).reshape(-1, _WINDOW)
    windows = windows[np.isfinite(windows).all(axis=1)]
    if len(windows) < _LEAST_WINDOWS:
        return None
    trained = train_btae(windows, eps=eps, loss="qel", budget_seconds=_SECONDS)

    def find_latents(some: NDArray[np.float32]) -> NDArray[np.uint8]:
        return encode_latents(trained.encoder, np.nan_to_num(some))

    return Model(pack_model(trained.weights), find_latents)


def _type(dtype: np.dtype[Any]) -> str:
    return f"float{dtype.itemsize}"


PEERS = (Peer("Deep Dict (paper)", (DeepDict(),)),)
