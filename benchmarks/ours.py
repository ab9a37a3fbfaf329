"""DDStore's codec as the ratio benchmark sees it: one codec per profile, in segments of the profile's length."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.base import Codec, Values
from ddstore.bounds import Absolute, Lossless
from ddstore.codec.choice import Choice
from ddstore.codec.segment import encode_column
from ddstore.codec.side import Side
from ddstore.codec.stored import SegmentColumns, StoredColumn
from ddstore.profiles import Profile

__all__ = ["PROFILES", "Ours"]


class Ours(Codec):
    """A profile of ours: the columns of a set as one table, in segments of the profile's length.

    NaN needs no help here: it is coded where it lies.
    """

    joint = True

    def __init__(self, profile: Profile) -> None:
        self.label = profile.value
        self._profile = profile

    def pack(self, values: Values, eps: NDArray[np.float64]) -> Sequence[bytes]:
        """Latents and residual of each column of each segment in turn."""
        kind, parts = _kind(values.dtype), []
        choices: list[Choice | None] = [None] * len(eps)
        for low, high in pairwise(self._cuts(len(values))):
            sides: list[Side] = []
            for column, bound in enumerate(eps):
                coded = encode_column(
                    np.ascontiguousarray(values[low:high, column]),
                    None,
                    type=kind,
                    bound=Absolute(float(bound)) if bound > 0 else Lossless(),
                    profile=self._profile,
                    sides=sides,
                    before=choices[column],
                )
                choices[column] = coded.choice
                sides.append(coded.side)
                parts += [coded.latents or b"", coded.residual]
        return parts

    def unpack(self, parts: Sequence[bytes], shape: tuple[int, int], dtype: Any, eps: NDArray[np.float64]) -> Values:
        read = np.empty(shape, dtype)
        columns, kind = shape[1], _kind(read.dtype)
        for at, (low, high) in enumerate(pairwise(self._cuts(shape[0]))):
            own = parts[2 * columns * at : 2 * columns * (at + 1)]
            stored = {
                column: StoredColumn(f"{column}", kind, residual, latents or None)
                for column, (latents, residual) in enumerate(zip(own[::2], own[1::2], strict=True))
            }
            segment = SegmentColumns(high - low, stored)
            for column in range(columns):
                read[low:high, column], _ = segment.decode(column)
        return read

    def _cuts(self, n: int) -> list[int]:
        return [*range(0, n, self._profile.segment_rows), n]


def _kind(dtype: np.dtype[Any]) -> str:
    return f"float{dtype.itemsize}"


PROFILES = tuple(Ours(profile) for profile in Profile)
