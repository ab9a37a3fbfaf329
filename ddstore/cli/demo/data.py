"""What the demo stores: the made-up plant, or a file of the user's."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddstore.arrays import Column
from ddstore.bounds import Bound
from ddstore.cli.demo.plant import SENSORS, make_plant
from ddstore.cli.files import read_file
from ddstore.errors import InvalidSeries

__all__ = ["DemoData", "file_data", "plant_data"]

#: The narrowest types that hold NumPy's, by kind and size.
_TYPES = {
    "f4": "float4",
    "f8": "float8",
    "i1": "int2",
    "i2": "int2",
    "i4": "int4",
    "i8": "int8",
    "u1": "int2",
    "u2": "int4",
    "u4": "int8",
}


@dataclass(slots=True)
class DemoData:
    """Rows to store, and what the columns are.

    Attributes:
        name: what the table will be called.
        time: datetime64[us] in UTC, shape (n,).
        key: key columns by name, objects of shape (n,).
        values: value columns by name.
        bounds: their max errors.
        units: what their numbers count, where known.
        segment_rows: rows per segment: small enough that the picture shows how the cost varies with time.
        notes: how the file was read.
    """

    name: str
    time: NDArray[Any]
    key: dict[str, NDArray[Any]]
    values: dict[str, Column]
    bounds: dict[str, Bound]
    units: dict[str, str] = field(default_factory=dict)
    segment_rows: int = 4096
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.time)

    def types(self) -> dict[str, str]:
        """PostgreSQL's types of the value columns."""
        return {name: _type_of(column.data.dtype) for name, column in self.values.items()}

    def frame(self) -> dict[str, Any]:
        """The rows as Store.write takes them."""
        return {"time": self.time, **self.key, **self.values}

    def first_series(self) -> dict[str, str]:
        """The key of the first row: the series that is queried and drawn."""
        return {name: str(values[0]) for name, values in self.key.items()}

    def rows_of(self, series: dict[str, str]) -> NDArray[np.intp]:
        """Positions of one series' rows in order of time."""
        mine = np.ones(len(self), np.bool_)
        for name, value in series.items():
            mine &= self.key[name] == value
        rows = np.flatnonzero(mine)
        return np.asarray(rows[np.argsort(self.time[rows], kind="stable")])


def _type_of(dtype: np.dtype[Any]) -> str:
    try:
        return _TYPES[f"{dtype.kind}{dtype.itemsize}"]
    except KeyError:
        raise InvalidSeries(f"values of type {dtype} cannot be stored", remedy="Convert them to float64.") from None


def plant_data(rows: int, bound: Bound | None, seed: int) -> DemoData:
    """Make up a plant; ``bound`` replaces every sensor's own max error."""
    plant = make_plant(rows, seed=seed)
    values = {}
    for name in SENSORS:
        missing = np.isnan(plant[name])
        values[name] = Column(np.where(missing, 0.0, plant[name]), ~missing if missing.any() else None)
    return DemoData(
        "plant",
        plant["time"],
        {"unit": plant["unit"]},
        values,
        {name: bound or sensor.max_error for name, sensor in SENSORS.items()},
        {name: sensor.unit for name, sensor in SENSORS.items()},
    )


def file_data(path: Path, rows: int | None, bound: Bound, time: str | None, unit: str | None) -> DemoData:
    """Read a file: every column of numbers is a value column of one series.

    Raises:
        InvalidSeries, SchemaMismatch, NotInstalled: it cannot be read, see :func:`ddstore.cli.files.read_file`.
    """
    file = read_file(path)
    found, moments = file.time(time, unit, round_to_us=True)
    columns = file.numbers([], besides=found)
    if moments.kind != "M" or moments.valid is not None:
        raise InvalidSeries(f"{found!r} of {path.name} is not a time in every row", remedy="Say which: --time COLUMN.")
    kept = slice(rows)
    values = {
        name: Column(np.ascontiguousarray(c.data[kept]), None if c.valid is None else c.valid[kept])
        for name, c in columns.items()
    }
    stored = moments.data.astype("datetime64[us]")[kept]
    # About forty segments: fewer show little, and more cost.
    segment_rows = int(np.clip(1 << (max(len(stored) // 40, 1).bit_length()), 1024, 16384))
    return DemoData(
        "data", stored, {}, values, dict.fromkeys(values, bound), segment_rows=segment_rows, notes=file.notes
    )
