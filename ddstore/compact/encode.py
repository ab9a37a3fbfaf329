"""Rows of one series into one verified segment: cutting windows, and encoding each column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddstore.bounds import Bound, Lossless
from ddstore.codec.choice import Choice
from ddstore.codec.hint import Hint
from ddstore.codec.segment import EncodedColumn, checksum, encode_column
from ddstore.codec.side import Side
from ddstore.codec.times import encode_times
from ddstore.compact.cold import ColdRows, OldSegment
from ddstore.compact.distinct import Distinct, find_distinct
from ddstore.compact.fidelity import Written, error_of, remaining
from ddstore.compact.insert import EncodedSegment
from ddstore.compact.plan import SeriesPlan
from ddstore.compact.rows import HotRows
from ddstore.compact.train import SeriesModel
from ddstore.errors import DDStoreError
from ddstore.profiles import Profile

__all__ = ["cut", "encode_segment", "recode_segment"]


def cut(count: int, segment_rows: int, min_rows: int, *, partial: bool) -> Iterator[slice]:
    """Cut ``count`` rows into segments of ``segment_rows``; a rest below ``min_rows`` (or not wanted) is left out."""
    for start in range(0, count, segment_rows):
        stop = min(start + segment_rows, count)
        if stop - start == segment_rows or (partial and stop - start >= min_rows):
            yield slice(start, stop)


def encode_segment(
    plan: SeriesPlan,
    job: int,
    rows: HotRows | ColdRows,
    bounds: Mapping[int, Bound],
    models: Mapping[int, SeriesModel],
    profile: Profile,
    settled: bool = False,
    before: Mapping[int, Choice] | None = None,
    hints: Mapping[int, Sequence[Hint]] | None = None,
) -> EncodedSegment:
    """Encode the rows of one segment. Every byte string has been decoded again and compared when this returns.

    Args:
        plan: the series.
        job: its lease.
        rows: of this series only, ordered by time and place.
        bounds: by column id, the bounds that this series keeps for itself; other columns keep their own.
        models: by column id, the series' models.
        profile: what its decoding may cost.
        settled: rows were in segments before: all bounds are used up, and how much of them nobody knows.
        before: by column id, what was chosen for an earlier segment of the series, which may save a search.
        hints: by column id, how such rows were coded.

    Raises:
        BoundViolation: what would be read back is not what was asked for (a defect).
    """
    time = encode_times(rows.time, profile)
    allowed = dict.fromkeys((column.id for column in plan.table.values), Lossless()) if settled else bounds
    columns, used = _encode_columns(plan, rows, allowed, models, profile, before or {}, hints or {}, conditioned=True)
    if _ambiguous(columns):
        columns, used = _encode_columns(
            plan, rows, allowed, models, profile, before or {}, hints or {}, conditioned=False
        )
    written = _written(plan, rows, bounds, profile, settled)
    return EncodedSegment(plan, job, rows, time, tuple(columns), tuple(used), written)


def recode_segment(
    plan: SeriesPlan,
    rows: ColdRows,
    old: Sequence[OldSegment],
    bounds: Mapping[int, Bound],
    models: Mapping[int, SeriesModel],
    profile: Profile,
) -> EncodedSegment:
    """Encode rows that were read back as one segment of today, within what is left of their bounds.

    Args:
        old: the segments of ``rows.source``.
        bounds, models, profile: as :func:`encode_segment` takes them, of today.

    Raises:
        BoundViolation: what would be read back is not what was asked for (a defect).
    """
    sources = [old[number] for number in np.unique(rows.source)]
    asked: dict[int, Bound] = {}
    coded: dict[int, Bound] = {}
    errors: dict[int, Bound | None] = {}
    for column, values, valid in zip(plan.table.values, rows.values, rows.valid, strict=True):
        coded[column.id] = Lossless()
        if column.native:
            asked[column.id] = bounds.get(column.id, column.bound)
            known = [None if s.written is None else s.written.error.get(column.id, Lossless()) for s in sources]
            numbers = _finite(values, valid)
            coded[column.id], errors[column.id] = remaining(numbers, known, asked[column.id])
    segment = encode_segment(plan, 0, rows, coded, models, profile)
    return replace(segment, written=Written(profile, asked, errors))


def _written(
    plan: SeriesPlan, rows: HotRows | ColdRows, bounds: Mapping[int, Bound], profile: Profile, settled: bool
) -> Written:
    asked = {c.id: bounds.get(c.id, c.bound) for c in plan.table.values if c.native}
    errors: dict[int, Bound | None] = {}
    for column, values, valid in zip(plan.table.values, rows.values, rows.valid, strict=True):
        if column.native:
            errors[column.id] = None if settled else error_of(_finite(values, valid), asked[column.id])
    return Written(profile, asked, errors)


def _finite(values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    found: NDArray[Any] = values[valid & np.isfinite(values)]
    return found


_Encoded = EncodedColumn | Distinct | None


def _encode_columns(
    plan: SeriesPlan,
    rows: HotRows | ColdRows,
    bounds: Mapping[int, Bound],
    models: Mapping[int, SeriesModel],
    profile: Profile,
    before: Mapping[int, Choice],
    hints: Mapping[int, Sequence[Hint]],
    *,
    conditioned: bool,
) -> tuple[list[_Encoded], list[SeriesModel | None]]:
    """Every value column, in order of id, and its model if it uses it; ``conditioned`` on those before if that pays.

    Positions among distinct values are no condition: whether they are stored at all is decided with the transaction.
    """
    columns: list[_Encoded] = []
    used: list[SeriesModel | None] = []
    sides: list[Side] = []
    for column, values, valid in zip(plan.table.values, rows.values, rows.valid, strict=True):
        model = models.get(column.id)
        try:
            if column.coded_as is None:
                columns.append(find_distinct(values, valid, profile))
                used.append(None)
                continue
            coded = encode_column(
                values,
                None if valid.all() else valid,
                type=column.coded_as,
                bound=bounds.get(column.id, column.bound),
                profile=profile,
                model=None if model is None else model.codec(),
                sides=sides if conditioned else (),
                before=before.get(column.id),
                hints=hints.get(column.id, ()),
            )
        except DDStoreError as error:
            raise type(error)(str(error), series=plan.label, column=column.name) from error
        columns.append(coded)
        used.append(model if coded.uses_model else None)
        sides.append(coded.side)
    return columns, used


def _ambiguous(columns: Sequence[_Encoded]) -> bool:
    """Whether different columns have one checksum, so that it would not tell which of them a third one needs."""
    residuals = {column.residual for column in columns if column is not None}
    return len({checksum(residual) for residual in residuals}) < len(residuals)
