"""A managed table whose segments the test writes itself, beside a plain table with the very same rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from psycopg.sql import SQL, Composable, Identifier, Literal

from ddstore.bounds import Lossless
from ddstore.codec.segment import encode_column
from ddstore.codec.times import encode_times
from ddstore.db.catalog import ManagedTable, load_table
from ddstore.db.manage import adopt

DTYPES = {"float4": np.float32, "float8": np.float64, "int2": np.int16, "int4": np.int32, "int8": np.int64}


def time_sql(table: ManagedTable, value: int) -> Composable:
    """A time of the raw value that segments hold, as SQL."""
    if table.time.type == "int8":
        return Literal(int(value))
    zone = " UTC" if table.time.type == "timestamptz" else ""
    return SQL("({}::{} + {} * interval '1 microsecond')").format(
        Literal(f"2000-01-01{zone}"), SQL(table.time.type), Literal(int(value))
    )


def as_text(value: Any) -> Literal:
    """A value as a string: as a number, -0.0 would lose its sign."""
    return Literal(None if value is None else str(value))


@dataclass
class ColdTable:
    """``table`` and the plain table ``truth``, which holds all rows that ``table`` should show."""

    conn: psycopg.Connection[tuple[Any, ...]]
    table: ManagedTable
    truth: Identifier

    def _insert_rows(
        self, target: Identifier, key: Sequence[Any], time: NDArray[np.int64], values: Mapping[str, Sequence[Any]]
    ) -> None:
        names = [c.name for c in (self.table.time, *self.table.keys, *self.table.values)]
        rows = [
            SQL("({})").format(
                SQL(", ").join(
                    [time_sql(self.table, t), *map(as_text, key)]
                    + [as_text(values[c.name][i]) for c in self.table.values]
                )
            )
            for i, t in enumerate(time)
        ]
        self.conn.execute(
            SQL("INSERT INTO {} ({}) SELECT {} FROM (VALUES {}) AS v ({})").format(
                target,
                SQL(", ").join(map(Identifier, names)),
                SQL(", ").join(
                    SQL("{}::{}").format(Identifier(n), Identifier("pg_catalog", self.table.columns[n].type))
                    for n in names
                ),
                SQL(", ").join(rows),
                SQL(", ").join(map(Identifier, names)),
            )
        )

    def hot(self, key: Sequence[Any], time: NDArray[np.int64], values: Mapping[str, Sequence[Any]]) -> None:
        """Insert hot rows."""
        for target in (self.table.identifier, self.truth):
            self._insert_rows(target, key, time, values)

    def cold(
        self, key: Sequence[Any], time: NDArray[np.int64], values: Mapping[str, Sequence[Any]], known: bool = True
    ) -> int:
        """Insert one segment (times ascending) and return its id; ``known``: into the truth too."""
        columns: dict[str, Any] = {f"k{c.id}": Literal(k) for c, k in zip(self.table.keys, key, strict=True)}
        columns |= {
            "t_min": time_sql(self.table, time[0]),
            "t_max": time_sql(self.table, time[-1]),
            "n": Literal(len(time)),
            "time": Literal(encode_times(time)),
        }
        for column in self.table.values:
            given = list(values[column.name])
            name = f"c{column.id}"
            columns[f"{name}_count"] = Literal(sum(v is not None for v in given))
            if column.coded_as is None:
                columns[f"{name}_array"] = SQL("{}::{}[]").format(Literal(given), SQL(column.type))
                continue
            valid = np.array([v is not None for v in given])
            if column.type == "date":
                columns[f"{name}_array"] = SQL("'{}'::date[]")
                given = [None if v is None else (date.fromisoformat(v) - date(2000, 1, 1)).days for v in given]
            data = np.array([0 if v is None else v for v in given], dtype=DTYPES[column.coded_as])
            coded = encode_column(data, None if valid.all() else valid, type=column.coded_as, bound=Lossless())
            columns[f"{name}_residual"] = Literal(coded.residual)
            if column.native:
                columns[f"{name}_latents"] = Literal(coded.latents)
                for part in ("min", "max", "sum"):
                    columns[f"{name}_{part}"] = Literal(getattr(coded, part))
        row = self.conn.execute(
            SQL("INSERT INTO {} ({}) VALUES ({}) RETURNING id").format(
                self.table.segments_identifier,
                SQL(", ").join(map(Identifier, columns)),
                SQL(", ").join(columns.values()),
            )
        ).fetchone()
        if known:
            self._insert_rows(self.truth, key, time, values)
        assert row is not None
        return int(row[0])

    def differences(self, where: str = "true", columns: str = "*") -> list[tuple[Any, ...]]:
        """Rows that ``table`` and the truth do not have in common, duplicates counted."""
        query = SQL(
            "WITH ours AS MATERIALIZED (SELECT {c}::text AS r FROM {t} AS x WHERE {w}),"
            " truth AS MATERIALIZED (SELECT {c}::text AS r FROM {p} AS x WHERE {w})"
            " (SELECT 'extra', r FROM (SELECT r FROM ours EXCEPT ALL SELECT r FROM truth) AS a)"
            " UNION ALL (SELECT 'missing', r FROM (SELECT r FROM truth EXCEPT ALL SELECT r FROM ours) AS b)"
        ).format(
            c=SQL("x" if columns == "*" else f"ROW({columns})"), t=self.table.identifier, p=self.truth, w=SQL(where)
        )
        return self.conn.execute(query).fetchall()

    def explain(self, query: str, options: str = "ANALYZE, TIMING OFF", params: Any = None) -> dict[str, Any]:
        """The plan node of the foreign scan."""
        row = self.conn.execute(SQL("EXPLAIN ({}, FORMAT JSON) ").format(SQL(options)) + SQL(query), params).fetchone()
        assert row is not None
        return foreign_scan(row[0][0]["Plan"])

    @property
    def cold_name(self) -> str:
        assert self.table.cold is not None
        return self.table.cold


def foreign_scan(plan: dict[str, Any]) -> dict[str, Any]:
    """The one foreign scan in a plan."""
    nodes, found = [plan], []
    while nodes:
        node = nodes.pop()
        found += [node] if node["Node Type"] == "Foreign Scan" else []
        nodes += node.get("Plans", [])
    assert len(found) == 1
    return found[0]


@pytest.fixture
def cold_table(needs_extension: None, conn: psycopg.Connection[tuple[Any, ...]]) -> Callable[..., ColdTable]:
    """Makes a managed table of the given ``key``, ``values`` (name -> type) and ``time_type``."""

    def make(
        key: Mapping[str, str], values: Mapping[str, str], time_type: str = "timestamptz", name: str = "plant.sensors"
    ) -> ColdTable:
        # Adopted rather than created, so that keys may be NULL.
        schema = name.split(".")[0]
        conn.execute(SQL("CREATE SCHEMA IF NOT EXISTS {}").format(Identifier(schema)))
        conn.execute(
            SQL("CREATE TABLE {} (time {} NOT NULL, {})").format(
                Identifier(*name.split(".")),
                SQL(time_type),
                SQL(", ").join(SQL("{} {}").format(Identifier(n), SQL(t)) for n, t in {**key, **values}.items()),
            )
        )
        adopt(conn, name, time="time", key=list(key))
        table = load_table(conn, name)
        assert table.cold is not None
        truth = Identifier(table.schema, f"{table.name}_truth")
        conn.execute(SQL("CREATE TABLE {} (LIKE {})").format(truth, table.identifier))
        return ColdTable(conn, table, truth)

    return make


@pytest.fixture
def sensors(cold_table: Callable[..., ColdTable]) -> ColdTable:
    """Two devices and one of NULL name; 6 segments of 100 rows (10 s apart) each, hot rows after them."""
    made = cold_table(
        {"device": "text"},
        {"temp": "float8", "flow": "float4", "rpm": "int4", "count": "int8", "level": "int2", "state": "text"},
    )
    rng = np.random.default_rng(7)
    for device in ("a", "b", None):
        for part in range(7):
            time = (np.arange(100, dtype=np.int64) + 100 * part) * 10_000_000
            values: dict[str, list[Any]] = {
                "temp": np.round(rng.normal(size=100).cumsum(), 2).tolist(),
                "flow": rng.normal(size=100).astype(np.float32).tolist(),
                "rpm": rng.integers(-(2**31), 2**31, 100).tolist(),
                "count": rng.integers(-(2**63), 2**63, 100).tolist(),
                "level": rng.integers(-(2**15), 2**15, 100).tolist(),
                "state": rng.choice(["on", "off", "", 'it"s,{}'], 100).tolist(),
            }
            for name in values:
                values[name][3 + part] = None
            (made.cold if part < 6 else made.hot)([device], time, values)
    return made
