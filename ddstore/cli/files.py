"""Files in, columns out: CSV and Parquet through pyarrow, NPZ through NumPy; and which column is the time."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddstore.arrays import Column, first, make_column, require
from ddstore.errors import InvalidSeries, NotInstalled, SchemaMismatch

__all__ = ["TIME_UNITS", "DataFile", "read_file"]

#: What a number in a time column may count, in nanoseconds.
TIME_UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
#: A file without times gets this clock, one row a second.
REGULAR_START = np.datetime64("2020-01-01T00:00:00", "us")

_TIME_NAMES = ("time", "timestamp", "ts", "date", "datetime", "t")
# Everything that means "no value", but not NaN: that is a float of its own and stays one.
_NULLS = ["", "NA", "N/A", "n/a", "#N/A", "NULL", "null", "None"]
_SNIFF_BYTES = 1 << 16


@dataclass(slots=True)
class DataFile:
    """What was read: columns by name, all of n rows, and what the user should know about how they were read."""

    path: Path
    columns: dict[str, Column]
    epoch_ns: bool = False  # numbers in a time column are nanoseconds by this project's convention (NPZ)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def time(self, name: str | None, unit: str | None, *, round_to_us: bool = False) -> tuple[str | None, Column]:
        """Return the time column's name and its times (datetime64); (None, a regular clock) when there is none.

        Args:
            name: the column; None looks for one called time, timestamp, ..., or of a date type.
            unit: what numbers in it count since 1970: s, ms, us or ns; None tells by their size.
            round_to_us: drop what PostgreSQL cannot keep.

        Raises:
            SchemaMismatch: there is no such column.
            InvalidSeries: it holds no times.
        """
        if name is None:
            name = self._find_time()
        if name is None:
            self.notes.append(
                f"{self.path.name} has no times: one row a second from {REGULAR_START.item():%Y-%m-%d} is assumed"
            )
            return None, Column(REGULAR_START + np.arange(len(self)).astype("timedelta64[s]"))
        column = self.column(name)
        if column.kind in "iuf":
            column = Column(self._moments(name, column, unit), column.valid)
        if round_to_us and column.kind == "M":
            column = Column(column.data.astype("datetime64[us]"), column.valid)
        return name, column

    def column(self, name: str) -> Column:
        """Return one column.

        Raises:
            SchemaMismatch: there is none of that name.
        """
        if name not in self.columns:
            raise SchemaMismatch(
                f"{self.path.name} has no column {name!r}",
                column=name,
                remedy=f"Its columns are {', '.join(self.columns)}.",
            )
        return self.columns[name]

    def numbers(self, names: Sequence[str], *, besides: str | None) -> dict[str, Column]:
        """Return the named columns; without names, every column of numbers besides the time.

        Raises:
            SchemaMismatch: a column is unknown, or none holds numbers.
        """
        if names:
            return {name: self.column(name) for name in names}
        found = {n: c for n, c in self.columns.items() if n != besides and c.kind in "iuf"}
        if skipped := [n for n in self.columns if n != besides and n not in found]:
            self.notes.append(f"columns that are no numbers are left out: {', '.join(skipped)}")
        if not found:
            raise SchemaMismatch(f"{self.path.name} has no column of numbers", remedy="Say which one: --value COLUMN.")
        return found

    def _find_time(self) -> str | None:
        by_lower = {name.lower(): name for name in reversed(self.columns)}
        for name in _TIME_NAMES:
            if name in by_lower:
                return by_lower[name]
        return next((name for name, column in self.columns.items() if column.kind == "M"), None)

    def _moments(self, name: str, column: Column, unit: str | None) -> NDArray[Any]:
        data = column.data
        here = np.ones(len(data), np.bool_) if column.valid is None else column.valid
        if data.dtype.kind == "f" and (bad := here & ~np.isfinite(data)).any():
            raise InvalidSeries("NaN is not a time", column=name, row=first(bad), remedy="Drop the row.")
        largest = float(np.abs(data[here].astype(np.float64)).max()) if here.any() else 0.0
        if unit is None:
            unit = "ns" if self.epoch_ns and data.dtype.kind != "f" else _unit_of(largest)
            self.notes.append(f"the numbers in {name!r} are read as {unit} since 1970; --time-unit says otherwise")
        step = TIME_UNITS[unit]
        if largest * step >= 2.0**63:
            far = first(here & (np.abs(data.astype(np.float64)) * step >= 2.0**63))
            raise InvalidSeries(
                f"{data[far]} {unit} since 1970 is no time that nanoseconds reach",
                column=name,
                row=far,
                remedy="Say what the numbers count: --time-unit s, ms, us or ns.",
            )
        if data.dtype.kind == "f":
            micros = np.rint(np.where(here, data, 0) * (step / 1000)).astype(np.int64)
            return micros.view("datetime64[us]")
        return (np.where(here, data, 0).astype(np.int64) * step).view("datetime64[ns]")


def _unit_of(largest: float) -> str:
    """Tell the unit by size: from 1973 to 5138 the units' numbers do not overlap."""
    return "s" if largest < 1e11 else "ms" if largest < 1e14 else "us" if largest < 1e17 else "ns"


def read_file(path: Path) -> DataFile:
    """Read a ``.csv``, ``.npz`` or ``.parquet`` file (CSV also compressed, ``.csv.gz``).

    Raises:
        InvalidSeries: it cannot be read, or holds no rows.
        NotInstalled: pyarrow is missing (for CSV and Parquet).
    """
    suffix = next((s.lower() for s in reversed(path.suffixes) if s.lower() not in (".gz", ".bz2", ".zst")), "")
    reader = {".csv": _read_csv, ".tsv": _read_csv, ".txt": _read_csv, ".npz": _read_npz, ".parquet": _read_parquet}
    if suffix not in reader:
        raise InvalidSeries(f"{path.name} is of no kind DDStore reads", remedy="Give a .csv, .npz or .parquet file.")
    try:
        found = reader[suffix](path)
    except OSError as error:
        raise InvalidSeries(f"{path} cannot be read: {_reason(error)}", remedy="Check the path.") from None
    if not found.columns or not len(found):
        raise InvalidSeries(f"{path.name} has no rows", remedy="Give a file with at least one row.")
    return found


def _reason(error: OSError) -> str:
    """The system's own words; pyarrow wraps them in text of its own."""
    return os.strerror(error.errno) if error.errno else str(error)


def _pyarrow(path: Path) -> Any:
    try:
        return require("pyarrow")
    except NotInstalled as error:
        raise NotInstalled(f"reading {path.name} needs pyarrow, which is not installed", remedy=error.remedy) from None


def _read_csv(path: Path) -> DataFile:
    pa = _pyarrow(path)
    from pyarrow import csv

    try:
        with pa.input_stream(str(path)) as stream:
            head = bytes(stream.read(_SNIFF_BYTES)).decode("utf-8-sig", "replace").partition("\n")[0].strip()
        delimiter = max(",;\t|", key=head.count)
        headless = bool(head) and all(_is_number(cell) for cell in head.split(delimiter))
        table = csv.read_csv(
            str(path),
            read_options=csv.ReadOptions(autogenerate_column_names=headless),
            parse_options=csv.ParseOptions(delimiter=delimiter),
            convert_options=csv.ConvertOptions(null_values=_NULLS, strings_can_be_null=True),
        )
    except pa.ArrowException as error:
        raise InvalidSeries(f"{path.name} cannot be read: {error}", remedy="Give a CSV file in UTF-8.") from None
    found = _from_arrow(path, table)
    if headless:
        found.notes.append(f"{path.name} has no header: its columns are called {', '.join(found.columns)}")
    return found


def _is_number(text: str) -> bool:
    try:
        float(text.strip().strip('"'))
    except ValueError:
        return False
    return True


def _read_parquet(path: Path) -> DataFile:
    pa = _pyarrow(path)
    from pyarrow import parquet

    try:
        with path.open("rb") as file:
            return _from_arrow(path, parquet.read_table(file))
    except pa.ArrowException as error:
        raise InvalidSeries(f"{path.name} cannot be read: {error}", remedy="Give a Parquet file.") from None


def _from_arrow(path: Path, table: Any) -> DataFile:
    import pyarrow as pa

    columns: dict[str, Column] = {}
    notes: list[str] = []
    for name, values in zip(table.column_names, table.columns, strict=True):
        if name in columns:
            raise InvalidSeries(f"{path.name} has two columns called {name!r}", remedy="Rename one.")
        if pa.types.is_null(values.type):
            notes.append(f"column {name!r} is empty and left out")
            continue
        columns[name] = make_column(values, name=name)
    return DataFile(path, columns, notes=notes)


def _read_npz(path: Path) -> DataFile:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise InvalidSeries(f"{path.name} cannot be read: {error}", remedy="Give a file of numpy.savez.") from None
    values = arrays.get("values")
    if values is None:
        values = next((array for array in arrays.values() if array.ndim), None)
    if values is None or not values.ndim:
        raise InvalidSeries(f"{path.name} has no array 'values'", remedy="Save it as numpy.savez(path, values=...).")
    columns: dict[str, Column] = {}
    left_out = []
    for name, array in arrays.items():
        if array.ndim not in (1, 2) or len(array) != len(values) or array.dtype.kind not in "biufMU":
            left_out.append(name)
        elif array.ndim == 1:
            columns["value" if name == "values" else name] = make_column(array, name=name)
        else:
            base = "value" if name == "values" else name
            for number in range(array.shape[1]):
                columns[f"{base}_{number}"] = make_column(np.ascontiguousarray(array[:, number]), name=name)
    notes = [f"arrays of another length or type are left out: {', '.join(left_out)}"] if left_out else []
    return DataFile(path, columns, epoch_ns=True, notes=notes)
