"""Aggregates over segments, hundreds of random queries: the same to the bit as over a plain table of the same rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from psycopg.sql import SQL

# Sums of these are exact in any order, in float4 too: what differs is a mistake, never a rounding.
GRID = 0.25

AGGREGATES = [
    "count(*)",
    *(f"count({c})" for c in ("time", "device", "site", "f8", "f4", "i2", "i8", "amount", "note", "day")),
    *(f"{f}({c})" for f in ("min", "max") for c in ("time", "device", "site", "f8", "f4", "i2", "i4", "i8")),
    *(f"{f}({c})" for f in ("min", "max") for c in ("amount", "note", "day")),
    *(f"{f}({c})" for f in ("sum", "avg") for c in ("f8", "f4", "i2", "i4", "i8")),
]
GROUPS = [
    "",
    "",
    "device",
    "site",
    "site, device",
    "upper(device)",
    "ddstore.time_bucket('90 s', time)",
    "ddstore.time_bucket('7 min', time), device",
    "ddstore.time_bucket('1 day', time)",
    "ddstore.time_bucket('1 month', time), site",
    "date_trunc('minute', time)",
    "date_trunc('hour', time AT TIME ZONE 'Asia/Kolkata'), device",
    "extract(minute FROM time)",
    "time::date, site IS NULL",
]
T0 = "timestamptz '2000-01-01 00:00 UTC'"


def _clause(rng: np.random.Generator) -> str:
    second = int(rng.integers(-100, 3000))
    number = float(rng.integers(-20, 20)) * GRID
    operator = str(rng.choice(["<", "<=", "=", ">=", ">", "<>"]))
    return str(
        rng.choice(
            [
                f"time >= {T0} + interval '{second} s'",
                f"time < {T0} + interval '{second} s'",
                f"time BETWEEN {T0} AND {T0} + interval '{abs(second)} s'",
                f"time = {T0} + interval '{second} s'",
                f"time <> {T0} + interval '{second} s'",
                "device = 'a'",
                "device IN ('a', 'c', 'nobody')",
                "device IS NULL",
                "site > 1",
                "site + length(device) > 2",
                f"f8 {operator} {number}",
                f"f4 {operator} {number}",
                f"f8 {operator} 'NaN'",
                f"{number} {operator} f8",
                f"i2 {operator} {int(number)}",
                f"i8 {operator} {int(number) * 2**59}",
                f"i4 {operator} NULL::int4",
                "f8 IS NULL",
                "note IS NOT NULL",
                "note > 'm'",
                "i4 % 3 = 0",
                "f8 > 0 OR i2 < 0",
                f"amount {operator} {number}",
            ]
        )
    )


def _query(rng: np.random.Generator) -> str:
    group = str(rng.choice(GROUPS))
    outputs = [str(a) for a in rng.choice(AGGREGATES, rng.integers(1, 6), replace=False)]
    query = f"SELECT {', '.join([group, *outputs] if group else outputs)} FROM {{}}"
    if clauses := [_clause(rng) for _ in range(rng.integers(0, 3))]:
        query += f" WHERE {' AND '.join(f'({c})' for c in clauses)}"
    if group:
        query += f" GROUP BY {group}"
    if rng.random() < 0.2:
        query += f" HAVING {outputs[0]} IS NOT NULL AND count(f8) > {rng.integers(0, 30)}"
    return query


def _values(rng: np.random.Generator, rows: int, odd: bool) -> dict[str, list[Any]]:
    floats = [*(rng.integers(-40, 40, rows) * GRID).tolist()]
    if odd:
        floats = [float("nan"), float("inf"), -0.0, 0.0, *floats][:rows]
    columns: dict[str, list[Any]] = {
        "f8": floats,
        "f4": list(reversed(floats)),
        "i2": rng.integers(-(2**15), 2**15, rows).tolist(),
        "i4": rng.integers(-(2**31), 2**31, rows).tolist(),
        "i8": rng.integers(-(2**63), 2**63, rows).tolist(),
        "amount": [str(v) for v in rng.integers(-40, 40, rows) * GRID],
        "note": rng.choice(["", "a", "Z", "zebra", "müde"], rows).tolist(),
        "day": [f"2000-01-{d:02}" for d in rng.integers(1, 29, rows)],
    }
    for column in columns.values():
        missing = rng.choice([0.0, 0.0, 0.2, 1.0], p=[0.3, 0.4, 0.2, 0.1])
        for row in np.flatnonzero(rng.random(rows) < missing):
            column[row] = None
    return columns


@pytest.mark.parametrize("workers", [0, 2])
def test_as_over_a_plain_table(cold_table: Callable[..., Any], workers: int) -> None:
    rng = np.random.default_rng(workers)
    types = {"f8": "float8", "f4": "float4", "i2": "int2", "i4": "int4", "i8": "int8"}
    made = cold_table({"site": "int4", "device": "text"}, {**types, "amount": "numeric", "note": "text", "day": "date"})
    for site, device in ((1, "a"), (1, "b"), (2, "a"), (None, "c"), (2, None)):
        for part in range(6):
            rows = int(rng.integers(1, 120))
            start, step = (400 * part + int(rng.integers(0, 300))) * 1_000_000, int(rng.choice([0, 1, 10])) * 1_000_000
            time = start + np.arange(rows, dtype=np.int64) * step
            if rng.random() < 0.5:
                time = np.sort(time + rng.integers(-10_000_000, 10_000_000, rows))
            (made.cold if part < 5 else made.hot)([site, device], time, _values(rng, rows, rng.random() < 0.2))
    conn = made.conn
    conn.commit()
    conn.execute(f"SET max_parallel_workers_per_gather = {workers}; SET parallel_setup_cost = 0")
    conn.execute("SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0")
    used = parallel = 0
    for _ in range(120):
        query = _query(rng)
        over = made.table.identifier if rng.random() < 0.8 else SQL("plant.sensors_cold")
        truth = made.truth
        if over != made.table.identifier:
            truth = SQL("(SELECT * FROM plant.sensors_truth EXCEPT ALL SELECT * FROM ONLY plant.sensors) AS t")
        conn.execute("SET LOCAL ddstore.enable_aggregate = on")
        plan = "\n".join(r for (r,) in conn.execute(SQL("EXPLAIN " + query).format(over)).fetchall())
        used += "DDStoreAggregate" in plan
        parallel += "Parallel Custom Scan (DDStoreAggregate)" in plan
        ours = sorted(map(repr, conn.execute(SQL(query).format(over)).fetchall()))
        expected = sorted(map(repr, conn.execute(SQL(query).format(truth)).fetchall()))
        assert _plus_zero(ours) == _plus_zero(expected), f"{query}\n{plan}"
    assert used > 60  # costs decide
    assert (parallel > 20) == (workers > 0)


def _plus_zero(rows: list[str]) -> list[str]:
    """0.0 and -0.0 are equal, so which of them is the least or greatest is left to the order of rows."""
    return sorted(row.replace("-0.0,", "0.0,").replace("-0.0)", "0.0)") for row in rows)
