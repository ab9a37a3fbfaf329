"""Rows of one series into one verified segment: cutting windows, and encoding each column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ddstore.bounds import Bound
from ddstore.codec.segment import EncodedColumn, checksum, encode_column
from ddstore.codec.side import Side
from ddstore.codec.times import encode_times
from ddstore.compact.distinct import Distinct, find_distinct
from ddstore.compact.insert import EncodedSegment
from ddstore.compact.plan import SeriesPlan
from ddstore.compact.rows import HotRows
from ddstore.compact.train import SeriesModel
from ddstore.errors import DDStoreError
from ddstore.profiles import Profile

__all__ = ["cut", "encode_segment"]


def cut(count: int, segment_rows: int, min_rows: int, *, partial: bool) -> Iterator[slice]:
    """Cut ``count`` rows into segments of ``segment_rows``; a rest below ``min_rows`` (or not wanted) is left out."""
    for start in range(0, count, segment_rows):
        stop = min(start + segment_rows, count)
        if stop - start == segment_rows or (partial and stop - start >= min_rows):
            yield slice(start, stop)


def encode_segment(
    plan: SeriesPlan,
    job: int,
    rows: HotRows,
    bounds: Mapping[int, Bound],
    models: Mapping[int, SeriesModel],
    profile: Profile,
) -> EncodedSegment:
    """Encode the rows of one segment. Every byte string has been decoded again and compared when this returns.

    Args:
        plan: the series.
        job: its lease.
        rows: of this series only, ordered by time and place.
        bounds: by column id, the bounds that this series keeps for itself; other columns keep their own.
        models: by column id, the series' models.
        profile: what its decoding may cost.

    Raises:
        BoundViolation: what would be read back is not what was asked for (a defect).
    """
    time = encode_times(rows.time, profile)
    columns, used = _encode_columns(plan, rows, bounds, models, profile, conditioned=True)
    if _ambiguous(columns):
        columns, used = _encode_columns(plan, rows, bounds, models, profile, conditioned=False)
    return EncodedSegment(plan, job, rows, time, tuple(columns), tuple(used))


_Encoded = EncodedColumn | Distinct | None


def _encode_columns(
    plan: SeriesPlan,
    rows: HotRows,
    bounds: Mapping[int, Bound],
    models: Mapping[int, SeriesModel],
    profile: Profile,
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
