"""Timestamps: exact int64 of any unit, for nothing when the sampling is regular."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddstore.bounds import Lossless
from ddstore.codec.segment import decode_column, encode_column
from ddstore.errors import CorruptSegment
from ddstore.profiles import Profile

__all__ = ["decode_times", "encode_times"]


def encode_times(time: NDArray[np.int64], profile: Profile = Profile.BALANCED) -> bytes:
    """Encode timestamps, in any order, duplicates included; verified like every column.

    Args:
        time: shape (n,), int64.
        profile: what decoding them may cost.
    """
    exact = np.ascontiguousarray(time, dtype=np.int64)
    return encode_column(exact, None, type="int8", bound=Lossless(), profile=profile).residual


def decode_times(data: bytes, n: int) -> NDArray[np.int64]:
    """The ``n`` timestamps that :func:`encode_times` was given.

    Raises:
        CorruptSegment: ``data`` is damaged or holds another number of timestamps.
    """
    time, valid = decode_column(data, None, None, "int8", n)
    if valid is not None:
        raise CorruptSegment("timestamps with NULLs", remedy="Run ddstore verify to list every damaged segment.")
    return time
