"""Tables of any library in, columns by name out: pandas, polars, Arrow, anything with ``__arrow_c_stream__``, dicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ddstore.arrays import Column, make_column, require
from ddstore.errors import InvalidSeries
from ddstore.series import Frame

__all__ = ["columns_of"]


def columns_of(data: Any, *, time: str) -> dict[str, Column]:
    """Return the columns of ``data`` by name, all of one length of at least one row.

    A pandas index with a name counts as a column of that name, and a DatetimeIndex without one as column ``time``.

    Raises:
        InvalidSeries: not a table, empty, names that repeat, columns of different length, or a column of a kind that
            cannot be stored.
        NotInstalled: Arrow data was given and pyarrow is missing.
    """
    columns: dict[str, Column] = {}
    for name, values in _named(data, time):
        if not isinstance(name, str) or name in columns:
            what = "is given twice" if name in columns else "is not a text"
            raise InvalidSeries(f"the column name {name!r} {what}", remedy="Rename the column.")
        columns[name] = make_column(values, name=name)
    lengths = {name: len(column) for name, column in columns.items()}
    if not any(lengths.values()):
        raise InvalidSeries("the data is empty", remedy="Give at least one row.")
    expected = next(iter(lengths.values()))
    for name, length in lengths.items():
        if length != expected:
            raise InvalidSeries(
                f"{length} rows where {next(iter(lengths))!r} has {expected}",
                column=name,
                remedy="Give every column the same length.",
            )
    return columns


def _named(data: Any, time: str) -> Iterable[tuple[Any, Any]]:
    origin = type(data).__module__.partition(".")[0]
    if isinstance(data, Frame):
        arrays = [(data.time_name, data.time), *data.keys.items(), *data.columns.items()]
        return [(name, _masked(values, data.valid.get(name), name)) for name, values in arrays]
    if isinstance(data, Mapping):
        return data.items()
    if origin == "pandas" and hasattr(data, "columns"):
        return _pandas(data, time)
    if origin == "polars" and hasattr(data, "lazy") and hasattr(data, "get_columns"):
        return [(column.name, column) for column in data.get_columns()]
    if hasattr(data, "__arrow_c_stream__"):
        table = require("pyarrow").table(data)
        return list(zip(table.column_names, table.columns, strict=True))
    raise InvalidSeries(
        f"{type(data).__name__} is not a table",
        remedy="Give a DataFrame of pandas or polars, a pyarrow Table, or a dict of arrays.",
    )


def _masked(values: Any, valid: Any, name: str) -> Column:
    if values.dtype.kind != "O":
        return Column(values, valid)
    # Texts: None is NULL, whatever a mask besides says.
    return make_column(values if valid is None else np.where(valid, values, np.array(None, dtype=object)), name=name)


def _pandas(data: Any, time: str) -> Iterable[tuple[Any, Any]]:
    # By position: names may repeat, and then data[name] is not a column.
    columns = [(name, data.iloc[:, i]) for i, name in enumerate(data.columns)]
    names = set(data.columns)
    index = data.index
    for level in range(index.nlevels):
        name, values = index.names[level], index.get_level_values(level)
        if name is not None and name not in names:
            columns.append((name, values))
        elif name is None and time not in names and values.dtype.kind == "M":
            columns.append((time, values))
    return columns
