"""The demo's work in the database: write, compact, query, check. Each step measures itself; nothing is printed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql as pgsql
from psycopg.types.json import Jsonb

from ddstore.bounds import Bound
from ddstore.cli.demo.data import DemoData
from ddstore.compact import CompactReport, Progress
from ddstore.db.catalog import ManagedTable, load_table
from ddstore.db.manage import drop_management
from ddstore.db.pool import Connection
from ddstore.db.queries import sql
from ddstore.errors import NotInstalled, SchemaMismatch
from ddstore.statistics import TableStats
from ddstore.store import Store

__all__ = ["Check", "Demo", "Sizes", "Timing", "Window"]

SCHEMA = "ddstore_demo"

_REPEATS = 7
_DAY_US, _HOUR_US = 86_400_000_000, 3_600_000_000


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes on disk, indexes and TOAST included."""

    table: int
    segments: int
    models: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.table + self.segments + self.models


@dataclass(slots=True)
class Timing:
    """One query's median time in milliseconds, hot and cold, and what it returned then."""

    what: str
    hot_ms: float = 0.0
    cold_ms: float = 0.0
    hot_rows: Any = None
    cold_rows: Any = None


@dataclass(frozen=True, slots=True)
class Check:
    """One column read back through SQL, against the rows as they were written.

    Attributes:
        lost: rows that are missing or were not there before.
        turned: values that became NULL, or NULLs that became values.
        worst: the largest error; ``share`` of it in what is allowed there (0 for lossless).
        beyond: values whose error is larger than allowed.
    """

    column: str
    bound: Bound
    lost: int
    turned: int
    values: int
    worst: float
    share: float
    beyond: int

    @property
    def ok(self) -> bool:
        """Whether nothing is lost and every value is within its bound."""
        return not (self.lost or self.turned or self.beyond)


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of one series: times, values as written and as read back; NaN where NULL. All of shape (n,)."""

    column: str
    time: NDArray[Any]
    written: NDArray[np.float64]
    read: NDArray[np.float64]
    allowed: NDArray[np.float64]


@dataclass(slots=True)
class Demo:
    """One run: what it works on and what it found so far."""

    store: Store
    data: DemoData
    table: ManagedTable = field(init=False)
    before: Sizes = field(init=False)
    compacted: Sizes = field(init=False)
    after: Sizes = field(init=False)
    report: CompactReport = field(init=False)
    stats: TableStats = field(init=False)
    seconds: dict[str, float] = field(default_factory=dict)
    timings: list[Timing] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    plan: list[str] = field(default_factory=list)
    _models_before: int = field(default=0, init=False)
    _spans: dict[str, float] = field(default_factory=dict, init=False)

    @property
    def original(self) -> pgsql.Identifier:
        """The plain table that keeps the rows as they were written."""
        return pgsql.Identifier(SCHEMA, f"{self.data.name}_original")

    # ---- steps, in this order -----------------------------------------------------------------------------------

    def create(self) -> None:
        """Create the managed table.

        Raises:
            NotInstalled: the database lacks the extension, so that SQL would not see what the demo is to show.
            SchemaMismatch: an earlier demo's tables are there.
        """
        if self.store.doctor().extension_version is None:
            raise NotInstalled(
                "the demo reads compressed rows through SQL, and this database does not have the extension",
                remedy="ddstore doctor says how to get it; a C compiler and make are all that the embedded one needs.",
            )
        name = f"{SCHEMA}.{self.data.name}"
        with self.store.connection() as conn:
            for taken in (name, f"{name}_original"):
                row = conn.execute(sql("demo_exists"), {"name": taken}).fetchone()
                if row is not None and row[0]:
                    raise SchemaMismatch(
                        f"{taken} is there already, from a demo that was kept",
                        remedy=f"Remove it: ddstore release {name} --yes; "
                        f'ddstore query --write "DROP SCHEMA {SCHEMA} CASCADE".',
                    )
        types = self.data.types()
        self.table = self.store.create_table(
            name,
            time="time",
            key=list(self.data.key),
            columns={column: (types[column], bound) for column, bound in self.data.bounds.items()},
            segment_rows=self.data.segment_rows,
        )

    def write(self) -> None:
        """Write the rows, and keep a copy of them in a plain table."""
        started = time.monotonic()
        self.store.write(self.data.frame(), table=self.table.label)
        self.seconds["write"] = time.monotonic() - started
        with self.store.connection() as conn:
            conn.execute(self._sql("demo_keep_original"))
            conn.execute(self._sql("demo_analyze"))
            self._models_before = self._sizes(conn).models
            self.before = self._sizes(conn)

    def compact(self, *, train: str, train_seconds: float, seed: int, progress: Progress | None) -> None:
        """Move every row into segments; then give the emptied index's pages back, which plain VACUUM keeps."""
        started = time.monotonic()
        self.report = self.store.compact(
            self.table.label, all=True, train=train, train_seconds=train_seconds, seed=seed, progress=progress
        )
        self.seconds["compact"] = time.monotonic() - started
        with self.store.connection() as conn:
            self.compacted = self._sizes(conn)
            conn.execute(self._sql("demo_reindex"))
            self.after = self._sizes(conn)
        self.stats = self.store.stats(self.table.label)[0]

    def query(self, temperature: str) -> None:
        """Time the queries; ``temperature`` is what the rows are: hot or cold."""
        start, end, label = self._range()
        column = next(iter(self.data.values))
        parameters = {"start": start, "end": end}
        averages: list[pgsql.Composable] = [pgsql.SQL("count(*)")]
        averages += [pgsql.SQL("avg({})").format(pgsql.Identifier(name)) for name in self.data.values]
        queries: dict[str, tuple[pgsql.Composed, Mapping[str, Any]]] = {
            f"{label} of one series": (self._sql("demo_range", v=pgsql.Identifier(column)), parameters),
            "averages over everything": (self._sql("demo_aggregate", averages=pgsql.SQL(", ").join(averages)), {}),
        }
        if not self.timings:
            self.timings = [Timing(what) for what in queries]
        for timing, (query, given) in zip(self.timings, queries.values(), strict=True):
            with self.store.connection() as conn:
                milliseconds, rows = _median_ms(conn, query, given)
                setattr(timing, f"{temperature}_ms", milliseconds)
                setattr(timing, f"{temperature}_rows", rows)
                if temperature == "cold" and given:
                    explain = pgsql.SQL("{} {}").format(pgsql.SQL(sql("demo_explain")), query)
                    self.plan = [line for (line,) in conn.execute(explain, given)]

    def check(self, advance: Callable[[str, int, int], None] | None = None) -> None:
        """Compare every value with its original, in SQL, column by column."""
        for number, (column, bound) in enumerate(self.data.bounds.items(), 1):
            with self.store.connection() as conn:
                row = conn.execute(
                    self._sql("demo_check", v=pgsql.Identifier(column), allowed=self._allowed(conn, column, bound))
                ).fetchone()
            assert row is not None
            self.checks.append(Check(column, bound, row[0], row[1], row[2], float(row[3]), float(row[4]), row[5]))
            if advance is not None:
                advance(column, number, len(self.data.bounds))

    def window(self, column: str, start: Any, end: Any) -> Window:
        """Read one stretch of the first series, as written and as stored now, both through SQL."""
        found = []
        parameters = {"start": start.item(), "end": end.item()}
        with self.store.connection() as conn:
            for table in (self.original, self.table.identifier):
                query = self._sql("demo_window", v=pgsql.Identifier(column), table=table)
                found.append(conn.execute(query, parameters).fetchall())
        written, read = (np.array([np.nan if v is None else v for _, v in rows], dtype=np.float64) for rows in found)
        moments = np.array([moment.replace(tzinfo=None) for moment, _ in found[1]], dtype="datetime64[us]")
        bound = self.data.bounds[column]
        if bound.kind == "relative":
            allowed = bound.value * np.abs(written)
        else:
            allowed = np.full(len(written), bound.value * self._spans.get(column, 1.0))
        return Window(column, moments, written, read, allowed)

    def bits(self) -> list[tuple[Any, Any, int, dict[str, int]]]:
        """Per segment of the first series: first and last time, rows, and bytes by column."""
        series = Jsonb(list(self.data.first_series().values()))
        with self.store.connection() as conn:
            return list(conn.execute(sql("demo_bits"), {"table_id": self.table.id, "series": series}).fetchall())

    def remove(self) -> None:
        """Drop what the demo made, compressed rows included."""
        with self.store.connection() as conn:
            row = conn.execute(self._sql("demo_cold_rows")).fetchone()
            assert row is not None
            drop_management(conn, load_table(conn, self.table.id), restored_rows=row[0])
            conn.execute(self._sql("demo_drop", table=self.original))
            conn.execute(self._sql("demo_drop"))
            conn.execute(self._sql("demo_drop_schema"))

    # ---- the SQL ------------------------------------------------------------------------------------------------

    def _sql(self, name: str, **parts: pgsql.Composable) -> pgsql.Composed:
        key = [pgsql.Identifier(column) for column in self.data.key]
        series = [
            pgsql.SQL("{} = {} AND").format(pgsql.Identifier(column), pgsql.Literal(value))
            for column, value in self.data.first_series().items()
        ]
        common: dict[str, pgsql.Composable] = {
            "table": self.table.identifier,
            "segments": self.table.segments_identifier,
            "original": self.original,
            "schema": pgsql.Identifier(SCHEMA),
            "key": pgsql.SQL("").join(pgsql.SQL("{},").format(column) for column in key),
            "series": pgsql.SQL(" ").join(series),
        }
        return pgsql.SQL(sql(name)).format(**(common | parts))

    def _sizes(self, conn: Connection) -> Sizes:
        parameters = {"oid": self.table.oid, "segments": self.table.segments}
        row = conn.execute(sql("demo_sizes"), parameters).fetchone()
        assert row is not None
        # Other tables' models are not ours to count.
        return Sizes(row[0], row[1], row[2] - self._models_before)

    def _allowed(self, conn: Connection, column: str, bound: Bound) -> pgsql.Composable:
        if bound.kind == "relative":
            return pgsql.SQL("{} * abs(a.v::float8)").format(pgsql.Literal(bound.value))
        if bound.kind == "range":
            row = conn.execute(self._sql("demo_span", v=pgsql.Identifier(column))).fetchone()
            self._spans[column] = 0.0 if row is None or row[0] is None else float(row[0])
            return pgsql.Literal(bound.value * self._spans[column])
        return pgsql.Literal(bound.value)

    def _range(self) -> tuple[Any, Any, str]:
        """An hour in the middle of the first series; of shorter ones, a 24th part."""
        moments = self.data.time[self.data.rows_of(self.data.first_series())]
        middle = moments[len(moments) // 2]
        span = int((moments[-1] - moments[0]).astype(np.int64))
        length, label = (_HOUR_US, "one hour") if span >= _DAY_US else (max(span // 24, 1), "a 24th")
        return middle.item(), (middle + np.timedelta64(length, "us")).item(), label


def _median_ms(conn: Connection, query: pgsql.Composed, parameters: Mapping[str, Any]) -> tuple[float, Any]:
    """Return the median time of some warm runs in milliseconds, the client's side included, and the row returned."""
    result, taken = conn.execute(query, parameters).fetchone(), []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        result = conn.execute(query, parameters).fetchone()
        taken.append(1e3 * (time.perf_counter() - started))
    return statistics.median(taken), result
