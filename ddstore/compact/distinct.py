"""Columns of types that the core does not code: each distinct value once, and per row which of them it has.

The values never leave the server. A read brings a hash of each one's text, which only proposes what is equal; the
transaction that stores the segment rebuilds the column from the distinct values and the decoded positions, and keeps
them only if that gives back every byte (``compact_pays`` in ``sql/queries/compact.sql``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddstore.bounds import Lossless
from ddstore.codec.segment import decode_column, encode_column
from ddstore.profiles import Profile

__all__ = ["Distinct", "find_distinct"]

#: With a smaller share of repeated values, one value per row is about as small, and finding that out costs time.
_LEAST_REPEATED = 1 / 8


@dataclass(frozen=True, slots=True)
class Distinct:
    """One column of one segment.

    Attributes:
        residual: the coded positions, from 0, among the distinct values in the order in which they first come.
        positions: int32 (n,), what the production decoder makes of ``residual``, counted from 1; 0 where NULL.
        first: the rows in which each distinct value first comes.
    """

    residual: bytes
    positions: NDArray[np.int32]
    first: NDArray[np.intp]


def find_distinct(hashes: NDArray[np.int64], valid: NDArray[np.bool_], profile: Profile) -> Distinct | None:
    """Return the distinct values among rows of these hashes; None where too few rows have one in common.

    Args:
        hashes: shape (n,), equal where values are; ignored where not valid.
        valid: shape (n,), False where NULL.
        profile: how hard the smallest coding of the positions is searched for.

    Raises:
        BoundViolation: decoding does not give back the positions (a defect).
    """
    there = np.flatnonzero(valid)
    found, first, which = np.unique(hashes[there], return_index=True, return_inverse=True)
    if len(there) - len(found) < _LEAST_REPEATED * len(there):
        return None
    order = np.argsort(first)
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    positions = np.zeros(len(hashes), np.int32)
    positions[there] = rank[which]
    coded = encode_column(
        positions, None if len(there) == len(hashes) else valid, type="int4", bound=Lossless(), profile=profile
    )
    read, present = decode_column(coded.residual, coded.latents, None, "int4", len(hashes))
    return Distinct(coded.residual, np.where(True if present is None else present, read + 1, 0), there[first[order]])
