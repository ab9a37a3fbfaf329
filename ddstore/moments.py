"""Times as PostgreSQL keeps them: datetime64 and epoch nanoseconds to exact int64 ticks, and back."""

from __future__ import annotations

from datetime import UTC, date, datetime
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ddstore.arrays import Column, first
from ddstore.errors import InvalidSeries

__all__ = [
    "PG_EPOCH_DAYS",
    "PG_EPOCH_US",
    "PG_MIN_US",
    "epoch_ticks",
    "moments_of",
    "pg_days",
    "pg_micros",
    "tick_bound",
]

Unit = Literal["D", "us", "ns"]

PG_EPOCH_US = 946_684_800_000_000  #: 2000-01-01, where PostgreSQL counts from, in microseconds since 1970.
PG_EPOCH_DAYS = 10_957  #: the same in days.
PG_MIN_US = -210_866_803_200_000_000  #: 4714-11-24 BC, PostgreSQL's first timestamp, in microseconds since 1970.

_DAY = 86_400
#: Length of NumPy's units as a fraction of a second: (numerator, denominator).
_SECONDS = {
    "W": (7 * _DAY, 1),
    "D": (_DAY, 1),
    "h": (3600, 1),
    "m": (60, 1),
    "s": (1, 1),
    "ms": (1, 10**3),
    "us": (1, 10**6),
    "ns": (1, 10**9),
    "ps": (1, 10**12),
    "fs": (1, 10**15),
    "as": (1, 10**18),
}
_INT64 = np.iinfo(np.int64)


def epoch_ticks(column: Column, unit: Unit, *, name: str) -> NDArray[np.int64]:
    """Return times as int64 ``unit`` since 1970-01-01 UTC, shape (n,). Integers are read as epoch nanoseconds.

    NULL rows come back as 0; see :func:`pg_micros` for columns that may not have any.

    Raises:
        InvalidSeries: not a time, out of int64's range, or finer than ``unit``; nothing is ever rounded.
    """
    data, valid = column.data, column.valid
    if column.kind in "iu":
        if data.dtype == np.uint64 and (over := data > np.uint64(_INT64.max)).any():
            raise _out_of_range(name, first(over))
        raw, source, count = data.astype(np.int64), "ns", 1
    elif column.kind == "M":
        source, count = np.datetime_data(data.dtype)
        if source in "YM":
            # Calendar units have no fixed length; int32 years are far beyond what is accepted later.
            if (far := np.abs(data.astype(np.int64)) > 2**31).any():
                raise _out_of_range(name, first(far))
            data, source, count = data.astype("datetime64[D]"), "D", 1
        raw = data.view(np.int64)
        missing = np.isnat(data) if valid is None else np.isnat(data) & valid
        if missing.any():
            raise InvalidSeries("NaT is not a time", column=name, row=first(missing), remedy="Drop the row.")
    else:
        raise InvalidSeries(
            f"values of type {'text' if column.kind == 'T' else data.dtype} are not times",
            column=name,
            remedy="Give datetime64, datetimes, or int64 nanoseconds since 1970.",
        )
    if valid is not None:
        raw = np.where(valid, raw, 0)
    return _rescale(raw, source, count, unit, name)


def _rescale(raw: NDArray[np.int64], source: str, count: int, unit: Unit, name: str) -> NDArray[np.int64]:
    if source not in _SECONDS:
        raise InvalidSeries("datetime64 without a unit", column=name, remedy="Give it one: datetime64[us].")
    up, down = _SECONDS[source]
    target_up, target_down = _SECONDS[unit]
    scale, divisor = up * count * target_down, down * target_up
    common = int(np.gcd.reduce(np.array([scale, divisor], dtype=object)))
    scale, divisor = scale // common, divisor // common
    if divisor > 1:
        if (lost := raw % divisor != 0).any():
            raise InvalidSeries(
                f"the time has digits below 1 {'day' if unit == 'D' else unit}, which the column cannot keep",
                column=name,
                row=first(lost),
                remedy="Round it yourself, or use a table whose time column is a bigint (nanoseconds)."
                if unit == "us"
                else "Round it yourself.",
            )
        raw = raw // divisor
    if scale > 1:
        if (far := (raw > _INT64.max // scale) | (raw < -(_INT64.max // scale))).any():
            raise _out_of_range(name, first(far))
        raw = raw * np.int64(scale)
    return raw


def _out_of_range(name: str, row: int) -> InvalidSeries:
    return InvalidSeries(
        "the time is outside PostgreSQL's range",
        column=name,
        row=row,
        remedy="Times run from 4714 BC to 294246 AD (1677 to 2262 as nanoseconds).",
    )


def pg_micros(column: Column, *, name: str) -> NDArray[np.int64]:
    """Return times as PostgreSQL stores them: int64 microseconds since 2000-01-01 UTC; NULL rows as 0.

    Raises:
        InvalidSeries: as :func:`epoch_ticks`, or before PostgreSQL's first timestamp.
    """
    ticks = epoch_ticks(column, "us", name=name)
    if (early := ticks < PG_MIN_US).any():
        raise _out_of_range(name, first(early))
    return ticks - PG_EPOCH_US


def pg_days(column: Column, *, name: str) -> NDArray[np.int32]:
    """Return dates as PostgreSQL stores them: int32 days since 2000-01-01; NULL rows as 0.

    Raises:
        InvalidSeries: as :func:`epoch_ticks`, or outside PostgreSQL's dates.
    """
    days = epoch_ticks(column, "D", name=name) - PG_EPOCH_DAYS
    if (far := (days < -2_451_545) | (days >= 2_145_031_949)).any():
        raise _out_of_range(name, first(far))
    return days.astype(np.int32)


def moments_of(stored: NDArray[np.int64], *, name: str) -> NDArray[Any]:
    """Return PostgreSQL's microseconds since 2000 as datetime64[us], shape (n,).

    Raises:
        InvalidSeries: infinity, or a year past 294246: datetime64 has no such time.
    """
    beyond = (stored > _INT64.max - PG_EPOCH_US) | (stored == _INT64.min)
    if beyond.any():
        raise InvalidSeries(
            "the table holds a time that datetime64 cannot (infinity, or past the year 294246)",
            column=name,
            row=first(beyond),
            remedy="Give start and end, or read it with SQL.",
        )
    return (stored + PG_EPOCH_US).view("datetime64[us]")


def tick_bound(value: Any, *, time_type: str, name: str) -> int | None:
    """Return one end of a time range as the ticks that a column of ``time_type`` stores, rounded up.

    Rounding up is exact for both ends: no stored time lies between the two. Accepts datetime64, datetime, date, ISO
    text, pandas Timestamps, and integers: epoch nanoseconds, or the stored number itself for a bigint column.

    Raises:
        InvalidSeries: ``value`` is not a time.
    """
    if value is None:
        return None
    if time_type == "int8":
        return value if isinstance(value, int) else _ceil(_seconds(value, name) * 10**9)
    return _ceil(_seconds(value, name) * 10**6) - PG_EPOCH_US


def _ceil(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)


def _seconds(value: Any, name: str) -> Fraction:
    """Seconds since 1970-01-01 UTC, exactly; a time without zone is UTC."""
    if isinstance(value, np.generic) and not isinstance(value, np.datetime64):
        value = value.item()
    if isinstance(value, int) and not isinstance(value, bool):
        return Fraction(value, 10**9)
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            value = None
    if isinstance(value, np.datetime64) and not np.isnat(value):
        unit, count = np.datetime_data(value.dtype)
        if unit in "YM":
            value, unit, count = value.astype("datetime64[D]"), "D", 1
        if unit in _SECONDS:
            up, down = _SECONDS[unit]
            return Fraction(int(value.astype(np.int64)) * count * up, down)
    if isinstance(value, date) and value == value:  # pandas' NaT is a datetime, and not equal to itself
        moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
        since = moment - datetime(1970, 1, 1)
        micros = (since.days * _DAY + since.seconds) * 10**6 + since.microseconds
        return Fraction(micros * 1000 + getattr(moment, "nanosecond", 0), 10**9)
    raise InvalidSeries(f"{name} is not a time", remedy="Give a datetime, datetime64, ISO text or epoch nanoseconds.")
