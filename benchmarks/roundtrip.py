"""Every value of the real sets, written, compacted, and read back through SQL and through Python.

Each row carries its number in a lossless column, so that rows are matched exactly whatever their timestamps do.
``air_quality`` keeps NaN in its even columns and has NULL instead in its odd ones.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql as pgsql

from benchmarks.common import a_store, columns_of, load, parser, report
from ddstore import Absolute, Lossless, Store
from ddstore.codec.bound_check import violations
from ddstore.db.copy import fetch_columns

SETS = ("pow", "dna", "ecg_mitbih100", "gas", "air_quality", "bar_crawl_slice", "asas_lightcurves")
PAPER_EPS = {"pow": 0.1, "dna": 0.1}


@dataclass
class Table:
    """One set as a table: arrays by column name, and NULL masks where there are NULLs."""

    name: str
    time: NDArray[np.datetime64]
    values: dict[str, NDArray[Any]]
    valid: dict[str, NDArray[np.bool_]]
    key: dict[str, NDArray[Any]]

    def frame(self) -> dict[str, Any]:
        """What ``Store.write`` takes."""
        masked = {
            name: np.ma.MaskedArray(column, mask=~self.valid[name]) if name in self.valid else column
            for name, column in self.values.items()
        }
        return {"time": self.time, "row": np.arange(len(self.time)), **self.key, **masked}


def make_table(folder: Path, name: str) -> Table:
    """Load one set."""
    arrays = load(folder, name)
    columns = columns_of(arrays["values"])
    n = len(columns[0])
    if name == "asas_lightcurves":  # Julian days; one series per star
        days = arrays["time"] - 2440587.5
        moments = np.datetime64("1970-01-01", "us") + np.rint(days * 86_400e6).astype("m8[us]")
        key = {"series": np.repeat(np.arange(1500), np.diff(arrays["offsets"]))}
    elif name == "air_quality":  # twelve stations of equal length, one after the other
        moments = (arrays["time"] // 1000).astype("M8[us]")
        key = {"series": np.repeat(np.arange(12), n // 12)}
    elif "time" in arrays:
        moments, key = (arrays["time"] // 1000).astype("M8[us]"), {}
    else:
        moments, key = np.datetime64("2020-01-01", "us") + np.arange(n) * np.timedelta64(1, "s"), {}
    values = {f"c{i}": column for i, column in enumerate(columns)}
    valid = {}
    if name == "air_quality":
        valid = {f"c{i}": ~np.isnan(column) for i, column in enumerate(columns) if i % 2}
    return Table(name, moments, values, valid, key)


def check(
    table: Table, row: NDArray[Any], read: dict[str, tuple[NDArray[Any], Any]], eps: dict[str, float]
) -> list[int]:
    """Rows lost or doubled, values beyond their bound, NULL or NaN changed."""
    counts = np.bincount(row, minlength=len(table.time))
    lost = int((counts != 1).sum())
    beyond = changed = 0
    for name, original in table.values.items():
        values, valid = read[name]
        there = np.ones(len(row), bool) if valid is None else valid
        expected = table.valid.get(name, np.ones(len(original), bool))[row]
        changed += int((there != expected).sum())
        x, y = original[row][there & expected], values[there & expected]
        number = np.isfinite(x)
        changed += int((np.isnan(x) != np.isnan(y)).sum())
        if eps[name] > 0:
            beyond += int(violations(x[number], y[number], eps[name]).sum())
        else:
            beyond += int((x.view(f"u{x.itemsize}") != y.view(f"u{y.itemsize}")).sum())
    return [lost, beyond, changed]


def run(store: Store, table: Table, factor: float) -> list[object]:
    """Write, compact and check one set; ``factor`` times the standard deviation is allowed, 0 means lossless."""
    label = f"bench.{table.name}_{'lossless' if factor == 0 else 'lossy'}"
    eps = {
        name: 0.0 if factor == 0 else PAPER_EPS.get(table.name, factor * float(np.nanstd(column)))
        for name, column in table.values.items()
    }
    columns: dict[str, Any] = {"row": ("int8", Lossless())}
    for name, column in table.values.items():
        columns[name] = (f"float{column.itemsize}", Absolute(eps[name]) if eps[name] > 0 else Lossless())
    with store.connection() as conn:
        conn.execute("CREATE SCHEMA IF NOT EXISTS bench")
    store.create_table(label, time="time", key=dict.fromkeys(table.key, "int4"), columns=columns)
    store.write(table.frame(), table=label)
    started = time.perf_counter()
    store.compact(label, train="never", all=True)
    seconds = time.perf_counter() - started
    stats = store.stats(label)[0]

    names = ["row", *table.values]
    query = pgsql.SQL("SELECT {} FROM {}").format(
        pgsql.SQL(", ").join(map(pgsql.Identifier, names)), pgsql.Identifier(*label.split("."))
    )
    with store.connection() as conn, conn.cursor() as cursor:
        fetched = fetch_columns(cursor, query, ["int8", *(f"float{c.itemsize}" for c in table.values.values())])
    by_sql = {name: (column.data, column.valid) for name, column in zip(names, fetched, strict=True)}
    through_sql = check(table, by_sql["row"][0], by_sql, eps)

    frame = store.read(table=label)
    by_python = {name: (frame.columns[name], frame.valid.get(name)) for name in names}
    through_python = check(table, by_python["row"][0], by_python, eps)

    values = [c for c in stats.columns if c.column != "row"]
    payload = sum(c.bytes + c.model_bytes for c in values)
    n = len(table.time)
    return [
        table.name,
        "lossless" if factor == 0 else "0.1" if table.name in PAPER_EPS else f"{factor:g} std",
        n,
        len(table.values),
        4 * n * len(table.values) / payload,
        (payload + stats.time_bytes) / n,
        stats.rows_hot,
        *through_sql,
        *through_python,
        n / seconds / 1e6,
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and report; exits with 1 when anything was lost or broken."""
    options = parser(__doc__)
    options.add_argument("--sets", nargs="+", default=SETS)
    options.add_argument("--factor", type=float, default=0.01, help="bound in standard deviations (%(default)s)")
    given = options.parse_args(arguments)
    rows = []
    with a_store(given.url) as store:
        for name in given.sets:
            table = make_table(given.data, name)
            rows += [run(store, table, factor) for factor in (given.factor, 0.0)]
    header = ["set", "bound", "rows", "columns", "ratio (4 bytes)", "bytes/row", "left hot"]
    header += [f"{way}: {what}" for way in ("SQL", "Python") for what in ("lost", "beyond bound", "NULL/NaN")]
    report("roundtrip", [*header, "compacted M rows/s"], rows)
    if any(any(row[7:13]) for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
