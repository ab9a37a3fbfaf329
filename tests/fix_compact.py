"""A managed table and a plain twin that must always show the same rows, with hooks into a compaction under way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from psycopg.sql import SQL, Composable, Identifier

from ddstore.bounds import Lossless
from ddstore.compact import CompactOptions, CompactReport, compact, worker
from ddstore.db.catalog import ManagedTable, load_table
from ddstore.db.manage import adopt
from ddstore.db.pool import Connection, Database, connect

#: Every value is lossless here: what is read back must be the same to the bit.
COLUMNS = "id float8 NOT NULL, device text, time timestamptz NOT NULL, value float8"


@dataclass
class Twins:
    """The managed table ``watched`` and the plain table ``truth``; every statement goes to both."""

    database: Database
    conn: Connection
    table: ManagedTable
    truth: Composable
    monkeypatch: pytest.MonkeyPatch
    notes: bool

    def both(self, statement: str) -> None:
        """Run one statement on both tables, ``{t}`` being the table (its hot part), and commit."""
        for target in (SQL("ONLY ") + self.table.identifier, self.truth):
            self.conn.execute(SQL(statement).format(t=target))  # type: ignore[arg-type]
        self.conn.commit()

    def add(self, query: str) -> None:
        """Insert the rows of a query into both, and commit."""
        for target in (self.table.identifier, self.truth):
            self.conn.execute(SQL("INSERT INTO {} " + query).format(target))  # type: ignore[operator]
        self.conn.commit()

    def insert(self, first: int, last: int, device: str = "a", *, note: str = "note ", shift: int = 0) -> None:
        """Insert rows first..last into both, three a second; some values and notes are NULL.

        ``note`` and ``shift`` (of the ids) make rows that differ from others in nothing else.
        """
        self.add(
            f"""SELECT g + {shift}, '{device}', timestamptz '2024-01-01' + g / 3 * interval '1 s',
                       CASE WHEN g % 7 <> 0 THEN round((20 + sin(g / 50.0))::numeric, 3)::float8 END
                       {f", CASE WHEN g % 5 <> 0 THEN '{note}' || g % 50 END" if self.notes else ""}
                FROM generate_series({first}, {last}) AS g"""
        )

    def maintain(self, statement: str) -> None:
        """Run VACUUM, CLUSTER and the like on the managed table."""
        only = "ONLY " if self.conn.info.server_version >= 180000 and statement.startswith("VACUUM") else ""
        self.conn.autocommit = True
        self.conn.execute(SQL(statement).format(t=SQL(only) + self.table.identifier))  # type: ignore[arg-type]
        self.conn.autocommit = False

    def compact(self, **options: Any) -> CompactReport:
        """Compact everything."""
        given: dict[str, Any] = {"all": True, "train": "never", "vacuum": False} | options
        return compact(self.database, CompactOptions(table=self.table.id, **given))

    def between(self, *actions: Callable[[], object]) -> None:
        """Run the n-th action between the n-th read-and-encode and its commit; later commits go undisturbed."""
        commit = worker.commit_segments
        left = list(actions)

        def disturbed(*args: Any) -> Any:
            if left:
                left.pop(0)()
            return commit(*args)

        self.monkeypatch.setattr(worker, "commit_segments", disturbed)

    def differences(self) -> list[tuple[Any, ...]]:
        """Rows that the tables do not have in common, duplicates counted."""
        query = SQL(
            """WITH ours AS MATERIALIZED (SELECT x::text AS r FROM {} AS x),
                    truth AS MATERIALIZED (SELECT x::text AS r FROM {} AS x)
               (SELECT 'extra', r FROM (SELECT r FROM ours EXCEPT ALL SELECT r FROM truth) AS a)
               UNION ALL (SELECT 'missing', r FROM (SELECT r FROM truth EXCEPT ALL SELECT r FROM ours) AS b)"""
        ).format(self.table.identifier, self.truth)
        found = self.conn.execute(query).fetchall()
        self.conn.commit()
        return found

    def number(self, query: str) -> int:
        """The one number that a query returns; ``{t}`` is the table, ``{s}`` its segments."""
        row = self.conn.execute(
            SQL(query).format(t=self.table.identifier, s=self.table.segments_identifier)  # type: ignore[arg-type]
        ).fetchone()
        self.conn.commit()
        assert row is not None
        return int(row[0])

    @property
    def hot(self) -> int:
        """Rows in the heap."""
        return self.number("SELECT count(*) FROM ONLY {t}")

    @property
    def cold(self) -> int:
        """Rows in segments."""
        return self.number("SELECT coalesce(sum(n), 0) FROM {s}")

    def reload(self) -> None:
        """Read the table's catalog entry again."""
        self.table = load_table(self.conn, self.table.id)
        self.conn.commit()


@pytest.fixture
def twins(
    request: pytest.FixtureRequest, database_url: str, needs_extension: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Twins]:
    """Empty twins: key ``device``, lossless values, segments of 64 rows.

    They have a text column ``note`` (which the core does not code) unless parametrized with False.
    """
    notes = bool(getattr(request, "param", True))
    with Database(database_url) as database, connect(database_url) as conn:
        for name in ("watched", "truth"):
            columns = COLUMNS + (", note text" if notes else "")
            conn.execute(SQL("CREATE TABLE {} (" + columns + ")").format(Identifier(name)))  # type: ignore[operator]
        table = adopt(
            conn, "watched", time="time", key=["device"], max_error={"value": Lossless()}, segment_rows=64, min_rows=8
        )
        conn.commit()
        yield Twins(database, conn, table, Identifier("truth"), monkeypatch, notes)
