"""DDStore's codec as the ratio benchmark sees it: one codec per profile, in segments of the profile's length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.base import Codec, Values
from ddstore.bounds import Absolute, Bound, Lossless
from ddstore.codec.choice import Choice
from ddstore.codec.segment import encode_column
from ddstore.codec.side import Side
from ddstore.codec.stored import SegmentColumns, StoredColumn
from ddstore.compact.density import train_density, train_interp
from ddstore.compact.train import Sample, SeriesModel, SettledColumns
from ddstore.errors import InvalidSeries
from ddstore.profiles import Profile

__all__ = ["PROFILES", "Ours"]


class Ours(Codec):
    """A profile of ours: the columns of a set as one table, in segments of the profile's length.

    NaN needs no help here: it is coded where it lies. With ``train_seconds``, each column's two nets are trained for
    so long each, and the better one is kept where the compactor would keep it.
    """

    joint = True

    def __init__(self, profile: Profile, train_seconds: float = 0.0) -> None:
        self.label = f"{profile.value} + net" if train_seconds else profile.value
        self._profile = profile
        self._seconds = train_seconds
        self._models: dict[int, SeriesModel] = {}

    def train(self, values: Values, eps: NDArray[np.float64]) -> None:
        self._models = dict(self._trained(values, eps)) if self._seconds else {}

    def _trained(self, values: Values, eps: NDArray[np.float64]) -> Iterator[tuple[int, SeriesModel]]:
        """The nets that pay, by column: bits saved in a few segments, on all rows, against their own."""
        kind, rows, before = (
            _kind(values.dtype),
            min(self._profile.segment_rows, len(values)),
            SettledColumns(self._profile),
        )
        for number, allowed in enumerate(eps):
            column, bound = np.ascontiguousarray(values[:, number]), _bound(allowed)
            valid, kept = np.ones(len(column), dtype=bool), None
            sample = Sample(column, valid, kind, bound, self._profile, rows, before)
            least = sample.bits_per_sample(None)[0] * len(column)
            for train in (train_density, partial(train_interp, coded_bytes=least / 8)):
                try:
                    data, record = train(
                        column, valid, type=kind, bound=bound, segment_rows=rows, seed=0, seconds=self._seconds
                    )
                except InvalidSeries:  # nothing to learn
                    continue
                model = SeriesModel(0, number, (), data, None, record)
                cost, used = sample.bits_per_sample(model)
                size = cost * len(column) + 8 * model.size
                if used and size < least:
                    kept, least = model, size
            if kept is not None:
                yield number, kept
            before.add(column, valid, kind, bound, kept)

    def pack(self, values: Values, eps: NDArray[np.float64]) -> Sequence[bytes]:
        """The columns' models, then latents and residual of each column of each segment in turn."""
        kind, columns = _kind(values.dtype), range(len(eps))
        parts = [self._models[column].data if column in self._models else b"" for column in columns]
        choices: list[Choice | None] = [None] * len(eps)
        for low, high in pairwise(self._cuts(len(values))):
            sides: list[Side] = []
            for column in columns:
                model = self._models.get(column)
                coded = encode_column(
                    np.ascontiguousarray(values[low:high, column]),
                    None,
                    type=kind,
                    bound=_bound(eps[column]),
                    profile=self._profile,
                    model=None if model is None else model.codec(),
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
        models, parts = parts[:columns], parts[columns:]
        for at, (low, high) in enumerate(pairwise(self._cuts(shape[0]))):
            own = parts[2 * columns * at : 2 * columns * (at + 1)]
            stored = {
                column: StoredColumn(f"{column}", kind, residual, latents or None, model or None)
                for column, (latents, residual, model) in enumerate(zip(own[::2], own[1::2], models, strict=True))
            }
            segment = SegmentColumns(high - low, stored)
            for column in range(columns):
                read[low:high, column], _ = segment.decode(column)
        return read

    def _cuts(self, n: int) -> list[int]:
        return [*range(0, n, self._profile.segment_rows), n]


def _bound(eps: float) -> Bound:
    return Absolute(float(eps)) if eps > 0 else Lossless()


def _kind(dtype: np.dtype[Any]) -> str:
    return f"float{dtype.itemsize}"


PROFILES = tuple(Ours(profile) for profile in Profile)
