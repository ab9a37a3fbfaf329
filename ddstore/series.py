"""What goes in and comes out: :class:`Series`, one named series, and :class:`Frame`, rows of a managed table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddstore.arrays import Column, first, make_column, require
from ddstore.bounds import Bound
from ddstore.errors import InvalidBound, InvalidSeries
from ddstore.moments import PG_EPOCH_US, pg_micros

__all__ = ["Frame", "Series"]


class Series:
    """One named series of float8 values over time; rows keep their order, duplicates and gaps.

    Attributes:
        name: the series' name, the key in ``ddstore.samples``.
        time: datetime64[us] in UTC, shape (n,).
        values: float64, shape (n,); 0 where NULL.
        valid: bool (n,), False where NULL; None when no value is.
        max_error: the bound given, or None: lossless, unless the series already keeps a bound.
    """

    __slots__ = ("max_error", "name", "time", "valid", "values")

    def __init__(self, name: str, time: Any, values: Any, max_error: Bound | None = None) -> None:
        """Check and normalise; the data is not copied where its layout already fits.

        Args:
            name: any text without NUL characters, not empty.
            time: datetime64 of any unit, int64 nanoseconds since 1970, datetimes, or pandas, polars or Arrow
                timestamps; aware times are converted to UTC, naive ones are taken as UTC. Any order, duplicates too.
            values: numbers that float64 holds exactly; masked, NA and None entries are NULL.
            max_error: ``Absolute``, ``Relative``, ``RangeRelative`` or ``Lossless``.

        Raises:
            InvalidSeries: empty, lengths differ, or a time or value cannot be kept exactly; names the row.
            InvalidBound: ``max_error`` is not a bound.
        """
        if not isinstance(name, str) or not name or "\0" in name:
            raise InvalidSeries(f"{name!r} is no name for a series", remedy="Give a text that is not empty.")
        if max_error is not None and not isinstance(max_error, Bound):
            raise InvalidBound(
                f"max_error {max_error!r} does not say of what kind it is",
                series=name,
                remedy="Say Absolute(x), Relative(x), RangeRelative(x) or Lossless().",
            )
        self.name, self.max_error = name, max_error
        try:
            moments, numbers = make_column(time, name="time"), make_column(values, name="values")
            if len(moments) != len(numbers):
                raise InvalidSeries(
                    f"{len(moments)} times and {len(numbers)} values", remedy="Give one time for every value."
                )
            if not len(moments):
                raise InvalidSeries("the series is empty", remedy="Give at least one row.")
            if moments.valid is not None:
                raise InvalidSeries(
                    "a time is missing", column="time", row=first(~moments.valid), remedy="Drop the row."
                )
            ticks = pg_micros(moments, name="time") + PG_EPOCH_US
            self.values = exact_float64(numbers, name="values")
        except InvalidSeries as error:
            if error.series is not None:
                raise
            raise InvalidSeries(
                error.what, series=name, column=error.column, row=error.row, remedy=error.remedy
            ) from None
        self.time: NDArray[Any] = ticks.view("datetime64[us]")
        self.valid = numbers.valid

    @classmethod
    def from_arrays(
        cls,
        name: str,
        time: NDArray[Any],
        values: NDArray[np.float64],
        valid: NDArray[np.bool_] | None,
        max_error: Bound | None,
    ) -> Series:
        """Make a series of arrays in this class's own form, unchecked: what a read returns, which may be empty."""
        series = cls.__new__(cls)
        series.name, series.time, series.values, series.valid, series.max_error = name, time, values, valid, max_error
        return series

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        if not len(self):
            return f"Series({self.name!r}, 0 rows)"
        bound = "" if self.max_error is None else f", max_error={self.max_error}"
        return f"Series({self.name!r}, {len(self)} rows, {self.time.min()}Z to {self.time.max()}Z{bound})"

    def to_pandas(self) -> Any:
        """Return a ``pandas.Series`` named like this one, indexed by UTC timestamps; NULL as NaN.

        Raises:
            NotInstalled: pandas is missing.
        """
        pandas = require("pandas")
        values = self.values if self.valid is None else np.where(self.valid, self.values, np.nan)
        index = pandas.DatetimeIndex(self.time, name="time").tz_localize(UTC)
        return pandas.Series(values, index=index, name=self.name)

    def to_polars(self) -> Any:
        """Return a ``polars.DataFrame`` with the columns ``time`` (UTC) and ``value``.

        Raises:
            NotInstalled: polars is missing.
        """
        return self._renamed().to_polars()

    def to_arrow(self) -> Any:
        """Return a ``pyarrow.Table`` with the columns ``time`` (UTC) and ``value``.

        Raises:
            NotInstalled: pyarrow is missing.
        """
        return self._renamed().to_arrow()

    def _renamed(self) -> Frame:
        valid = {} if self.valid is None else {"value": self.valid}
        return Frame(self.time, {}, {"value": self.values}, valid, time_name="time", time_zone="UTC")


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """Rows of a managed table, in order of time.

    Attributes:
        time: datetime64[us] (UTC when the column is timestamptz), or int64 for a bigint time column; shape (n,).
        keys: key columns by name; arrays of shape (n,).
        columns: value columns by name; arrays of shape (n,) in the column's own dtype: text as objects, and types
            that NumPy does not have (numeric, uuid, jsonb, ...) as their text.
        valid: per key or value column a bool mask (n,), False where NULL; a column without NULLs is left out.
        time_name: what the table calls its time column.
        time_zone: ``"UTC"`` for timestamptz, None for timestamp and bigint.
    """

    time: NDArray[Any]
    keys: Mapping[str, NDArray[Any]]
    columns: Mapping[str, NDArray[Any]]
    valid: Mapping[str, NDArray[np.bool_]] = field(default_factory=lambda: MappingProxyType({}))
    time_name: str = "time"
    time_zone: str | None = None

    def __len__(self) -> int:
        return len(self.time)

    def __repr__(self) -> str:
        names = [self.time_name, *self.keys, *self.columns]
        return f"Frame({len(self)} rows: {', '.join(names)})"

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The column called ``name``: time, key or value."""
        return self.time if name == self.time_name else self.keys[name] if name in self.keys else self.columns[name]

    def to_pandas(self) -> Any:
        """Return a ``pandas.DataFrame``: time, keys, values.

        NULL becomes NaN in a float column (as everywhere in pandas) and NaT in a date; integers and bools with NULLs
        get nullable dtypes.

        Raises:
            NotInstalled: pandas is missing.
        """
        pandas = require("pandas")
        time = pandas.Series(self.time)
        data = {self.time_name: time if self.time_zone is None else time.dt.tz_localize(self.time_zone)}
        for name, values in self._parts():
            valid = self.valid.get(name)
            if valid is None:
                data[name] = pandas.Series(values)
            elif values.dtype.kind == "O":
                data[name] = pandas.Series(np.where(valid, values, _NONE), dtype=object)
            elif values.dtype.kind == "f":
                data[name] = pandas.Series(np.where(valid, values, np.array(np.nan, values.dtype)))
            elif values.dtype.kind == "M":
                data[name] = pandas.Series(np.where(valid, values, np.array("NaT", values.dtype)))
            else:
                nullable = "boolean" if values.dtype.kind == "b" else values.dtype.name.capitalize()
                data[name] = pandas.Series(values, dtype=nullable).where(pandas.Series(valid))
        return pandas.DataFrame(data)

    def to_polars(self) -> Any:
        """Return a ``polars.DataFrame``: time, keys, values.

        Raises:
            NotInstalled: polars is missing.
        """
        polars = require("polars")
        time = polars.Series(self.time_name, self.time)
        columns = [time if self.time_zone is None else time.dt.replace_time_zone(self.time_zone)]
        for name, values in self._parts():
            valid = self.valid.get(name)
            if values.dtype.kind == "O":
                texts = values if valid is None else np.where(valid, values, _NONE)
                columns.append(polars.Series(name, texts.tolist(), dtype=polars.String))
            else:
                column = polars.Series(name, values)
                columns.append(column if valid is None else column.set(polars.Series(~valid), None))
        return polars.DataFrame(columns)

    def to_arrow(self) -> Any:
        """Return a ``pyarrow.Table``: time, keys, values.

        Raises:
            NotInstalled: pyarrow is missing.
        """
        pa = require("pyarrow")
        time = pa.array(self.time)
        if self.time_zone is not None:
            time = time.cast(pa.timestamp("us", self.time_zone))
        arrays = {self.time_name: time}
        for name, values in self._parts():
            valid = self.valid.get(name)
            kind = pa.string() if values.dtype.kind == "O" else None
            arrays[name] = pa.array(values, type=kind, mask=None if valid is None else ~valid, from_pandas=False)
        return pa.table(arrays)

    def _parts(self) -> list[tuple[str, NDArray[Any]]]:
        return [*self.keys.items(), *self.columns.items()]


_NONE = np.array(None, dtype=object)


def exact_float64(column: Column, *, name: str) -> NDArray[np.float64]:
    """Return a numeric column as float64, shape (n,); NULL rows as 0.

    Raises:
        InvalidSeries: not a number, or an integer that float64 would round.
    """
    data = column.data
    if column.kind not in "iuf":
        raise InvalidSeries(
            f"values of type {'text' if column.kind == 'T' else data.dtype} are not numbers",
            column=name,
            remedy="Convert them to float64, or store them in a table of their own (create_table).",
        )
    if column.valid is not None:
        data = np.where(column.valid, data, data.dtype.type(0))
    numbers = np.ascontiguousarray(data, dtype=np.float64)
    if column.kind in "iu" and data.dtype.itemsize == 8:
        # 2**63 and 2**64 are floats that the integer type does not reach, so the way back would overflow.
        limit = float(2 ** (63 if column.kind == "i" else 64))
        back = np.where(numbers < limit, numbers, 0).astype(data.dtype)
        if (lost := (back != data) | (numbers >= limit)).any():
            raise InvalidSeries(
                f"the integer {data[first(lost)]} is not a float64",
                column=name,
                row=first(lost),
                remedy="Integers beyond 2**53 need a table with a bigint column (create_table).",
            )
    return numbers
