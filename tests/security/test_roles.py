"""Two roles: who may not read a managed table learns nothing of its rows; who may, reads through it alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import errors as pg_errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from ddstore import Absolute, Lossless, Series, Store, connect
from ddstore.errors import DDStoreError, NotPermitted

START = np.datetime64("2024-03-01T00:00:00", "us")
SECRET = "patient 4711"
ROWS = 2000


@dataclass
class Roles:
    """The owner's store, and a session of a role that was granted USAGE on the schema and nothing else."""

    store: Store
    other: psycopg.Connection[Any]
    url: str
    segments: str

    def grant(self, what: str) -> None:
        """GRANT something to the other role, as the owner."""
        with self.store.connection() as conn:
            role = Identifier(self.other.info.user)
            conn.execute(SQL("GRANT " + what + " TO {}").format(role))  # type: ignore[operator]

    def seen(self, query: str) -> list[Any]:
        """What the other role gets."""
        return self.other.execute(query.encode()).fetchall()

    def denied(self, query: str) -> None:
        """The other role is refused, in words that hold no data."""
        with pytest.raises(pg_errors.InsufficientPrivilege) as caught:
            self.other.execute(query.encode())
        assert SECRET not in str(caught.value)


@pytest.fixture
def roles(database_url: str, needs_extension: None, ordinary_role: Callable[[str], str]) -> Iterator[Roles]:
    """``ward.pulse`` and ``ddstore.samples`` with hot and cold rows, a model, a trial and jobs."""
    time = START + np.arange(ROWS) * np.timedelta64(1, "s")
    values = np.round(70 + np.sin(np.arange(ROWS) / 50), 3)
    with connect(database_url) as store:
        store.create_table(
            "ward.pulse", time="t", key=["patient"], columns={"bpm": Absolute(0.5), "note": ("text", Lossless())}
        )
        data = {"t": time, "patient": [SECRET] * ROWS, "bpm": values, "note": [SECRET] * ROWS}
        for hot in (False, True):
            store.write(data, table="ward.pulse")
            store.write(Series(SECRET, time, values, max_error=Absolute(0.5)))
            if not hot:
                report = store.compact(train="never")
                assert (report.rows, report.failed) == (2 * ROWS, [])
        (pulse,) = [table for table in store.tables() if table.label == "ward.pulse"]
        url = ordinary_role(database_url)
        with store.connection() as conn:
            conn.execute(
                """INSERT INTO ddstore.model (table_id, column_id, series_key, bytes)
                   VALUES (1, 3, '["patient 4711"]', 'x');
                   INSERT INTO ddstore.model_trial
                       (table_id, column_id, series_key, bound_kind, bound_value, rows, note)
                   VALUES (1, 3, '["patient 4711"]', 'absolute', 0.5, 9, '')"""
            )
            role = Identifier(str(conninfo_to_dict(url)["user"]))
            conn.execute(SQL("GRANT USAGE, CREATE ON SCHEMA ward TO {}").format(role))
        with psycopg.connect(url, autocommit=True) as other:
            yield Roles(store, other, url, pulse.segments)


def test_without_rights_nothing_is_seen(roles: Roles) -> None:
    tables = [
        "ward.pulse",
        "ONLY ward.pulse",
        "ward.pulse_cold",
        roles.segments,
        "ddstore.samples",
        "ddstore.segment_2",
    ]
    tables += ["ddstore.samples_cold", "ddstore.model", "ddstore.model_trial", "ddstore.job", "ddstore.series_bound"]
    for table in tables:
        for query in (
            "SELECT * FROM {}",
            "SELECT count(*) FROM {}",
            "EXPLAIN ANALYZE SELECT * FROM {}",
            "COPY (SELECT FROM {}) TO STDOUT",
        ):
            roles.denied(query.format(table))
    for table in ("ward.pulse", "ward.pulse_cold", roles.segments):
        roles.denied(f"INSERT INTO {table} DEFAULT VALUES")
        roles.denied(f"DELETE FROM {table}")
    for table in ("ward.pulse", roles.segments):
        roles.denied(f"BEGIN; LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
        roles.other.execute("ROLLBACK")
    for view in (
        "segments",
        "codings",
        "models",
        "compaction",
        "list_segments()",
        "list_segments(1)",
        "list_codings(1)",
    ):
        assert roles.seen(f"SELECT * FROM ddstore.{view}") == []
    # Names, settings and sizes are as public as in PostgreSQL's own catalogs; contents are not.
    public = roles.seen("SELECT * FROM ddstore.tables") + roles.seen("SELECT * FROM ddstore.managed_column")
    assert len(public) > 2
    assert SECRET not in str(public)
    assert roles.seen("SELECT segments, cold_rows, segment_bytes FROM ddstore.tables") == [(None, None, None)] * 2
    statistics = "SELECT * FROM pg_stats WHERE schemaname IN ('ward', 'ddstore')"
    with roles.store.connection() as conn:
        conn.execute("ANALYZE")
    assert SECRET not in str(roles.seen(statistics))


def test_without_rights_no_verb_works(roles: Roles) -> None:
    with connect(roles.url) as store:
        verbs: list[Callable[[], object]] = [
            lambda: store.read(table="ward.pulse"),
            lambda: store.read(SECRET),
            lambda: store.stats(),
            lambda: store.stats("ward.pulse"),
            lambda: store.verify("ward.pulse"),
            lambda: store.compact("ward.pulse"),
            lambda: store.release("ward.pulse"),
        ]
        for verb in verbs:
            with pytest.raises(NotPermitted):
                verb()
        with pytest.raises(DDStoreError) as caught:  # a guess does not tell whether the series exists
            store.read("patient 4712")
        assert isinstance(caught.value, NotPermitted)


def test_the_table_is_the_only_way_in(roles: Roles) -> None:
    """SELECT on the table shows hot and cold rows, and the views on it; what is beneath stays closed."""
    roles.grant("SELECT ON ward.pulse")
    assert roles.seen("SELECT count(*), min(patient), count(bpm) FROM ward.pulse") == [(2 * ROWS, SECRET, 2 * ROWS)]
    assert roles.seen("SELECT count(*) FROM ONLY ward.pulse") == [(ROWS,)]
    for table in ("ward.pulse_cold", roles.segments, "ddstore.samples", "ddstore.model", "ddstore.job"):
        roles.denied(f"SELECT * FROM {table}")
    assert {row[0] for row in roles.seen("SELECT relation::text FROM ddstore.compaction")} == {"ward.pulse"}
    assert roles.seen("SELECT relation::text FROM ddstore.models") == [("ward.pulse",)]
    assert roles.seen("SELECT * FROM ddstore.segments") == []


def test_a_column_right_is_a_column_right(roles: Roles) -> None:
    roles.grant("SELECT (t, bpm) ON ward.pulse")
    assert roles.seen("SELECT count(bpm) FROM ward.pulse WHERE t >= '2024-03-01Z'") == [(2 * ROWS,)]
    for query in (
        "SELECT note FROM ward.pulse",
        "SELECT count(*) FROM ward.pulse WHERE patient > ''",
        "TABLE ward.pulse",
    ):
        roles.denied(query)


@pytest.mark.parametrize("target", ["companion", "samples", "model"])
def test_a_foreign_table_of_ones_own_opens_nothing(roles: Roles, target: str) -> None:
    name = {"companion": roles.segments, "samples": "ddstore.segment_2", "model": "ddstore.model"}[target]
    roles.grant("SELECT ON ward.pulse")  # not even who may read the table reads around it
    try:
        roles.other.execute(
            "CREATE FOREIGN TABLE ward.peek (t timestamptz OPTIONS (segment_column 'time'),"
            " patient text OPTIONS (segment_column 'k2'), bpm float8 OPTIONS (segment_column 'c3'))"
            f" SERVER ddstore OPTIONS (segments '{name}')".encode()
        )
    except pg_errors.InsufficientPrivilege:
        return
    for query in (
        "SELECT * FROM ward.peek",
        "SELECT count(*) FROM ward.peek",
        "EXPLAIN SELECT * FROM ward.peek WHERE patient = 'x'",
        "ANALYZE ward.peek",
        "COPY (SELECT * FROM ward.peek) TO STDOUT",
        "CREATE TABLE ward.copy AS TABLE ward.peek",
    ):
        roles.denied(query)
    # Nor does it become the owner's, or part of the owner's table.
    owner = roles.seen("SELECT tableowner FROM pg_tables WHERE schemaname = 'ward' AND tablename = 'pulse'")[0][0]
    for statement in (
        f'ALTER FOREIGN TABLE ward.peek OWNER TO "{owner}"',
        "ALTER FOREIGN TABLE ward.peek INHERIT ward.pulse",
        f"ALTER FOREIGN TABLE ward.pulse_cold OPTIONS (SET segments '{roles.segments}')",
        f"CREATE TABLE ward.child () INHERITS ({roles.segments})",
        f"CREATE RULE x AS ON INSERT TO {roles.segments} DO INSTEAD NOTHING",
    ):
        roles.denied(statement)
