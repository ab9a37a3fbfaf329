"""ALTER TABLE on a managed table: hot and cold rows read alike, by SQL and in Python, or the statement is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import psycopg
import pytest
from psycopg import errors as pg_errors
from psycopg.sql import SQL, Identifier

from ddstore import Absolute, Lossless, connect
from ddstore.compact import verify
from ddstore.db.catalog import load_table, require_intact
from ddstore.db.manage import adopt, detach_cold
from ddstore.db.pool import Connection, Database
from ddstore.errors import SchemaMismatch
from ddstore.reading import begin_snapshot, read_table, select_rows
from ddstore.releasing import release_table
from ddstore.statistics import table_stats
from fix_compact import Twins


def _alter(twins: Twins, action: str) -> None:
    for table in (twins.table.identifier, twins.truth):
        twins.conn.execute(SQL("ALTER TABLE {} ").format(table) + SQL(action))  # type: ignore[arg-type]
    twins.conn.commit()
    twins.reload()


def _run(twins: Twins, statements: str) -> None:
    twins.conn.execute(statements.encode())
    twins.conn.commit()


def _check(twins: Twins) -> None:
    """SQL, Python and verify agree with the plain table."""
    assert twins.differences() == []
    twins.reload()
    with twins.database.connection() as conn:
        begin_snapshot(conn)
        frame = read_table(conn, twins.table, select_rows(twins.table, None, None, None))
    for name, values in frame.columns.items():
        valid = frame.valid.get(name, np.ones(len(values), np.bool_))
        found = sorted(str(v).rstrip() for v, there in zip(values.tolist(), valid, strict=True) if there)
        query = SQL("SELECT {} FROM {} WHERE {} IS NOT NULL").format(Identifier(name), twins.truth, Identifier(name))
        expected = twins.conn.execute(query).fetchall()
        if expected and isinstance(expected[0][0], (int, float, str)) and not isinstance(expected[0][0], bool):
            assert found == sorted(str(value).rstrip() for (value,) in expected), name
        assert len(found) == len(expected), name
    twins.conn.commit()
    assert verify(twins.database).damaged == []


def _release(twins: Twins) -> None:
    release_table(twins.conn, load_table(twins.conn, twins.table.id))
    twins.conn.commit()
    assert twins.differences() == []


ADDED = [
    "a int DEFAULT 5",
    "b text",
    "c real DEFAULT 'NaN'",
    "d timestamptz DEFAULT '2024-01-01 00:00:01.5+00'",
    "e text[] DEFAULT '{a%s,NULL,\"\"}'",
    "f numeric(6,2) DEFAULT 1.5",
    "g bool NOT NULL DEFAULT true",
    "h jsonb",
    "i date",
    "j float8 DEFAULT -0.0",
    "k char(4) DEFAULT 'x'",
]


@pytest.mark.parametrize("attached", [True, False], ids=["extension", "plain"])
def test_columns_are_added(twins: Twins, attached: bool) -> None:
    """Rows of before read the default of then, in segments as in the heap, before and after segments have it."""
    if not attached:
        detach_cold(twins.conn, twins.table)
        twins.conn.commit()
        twins.reload()
    twins.insert(1, 300)
    twins.compact()
    twins.insert(301, 350)
    check = _check if attached else _check_python
    _alter(twins, ", ".join(f"ADD COLUMN {column}" for column in ADDED))
    _alter(twins, "ALTER a SET DEFAULT 6, ALTER b SET DEFAULT 'new', ALTER c DROP DEFAULT")
    check(twins)
    assert [added.missing for added in twins.table.added][:3] == ["5", None, "NaN"]
    sums = "SELECT sum(a) + count(b) + count(d) + count(h) + count(*) FILTER (WHERE f = 1.5) FROM "
    assert not attached or twins.number(sums + "{t}") == twins.number(sums + "truth")
    if attached:  # without it PostgreSQL is the only one who knows, and it forgets
        twins.maintain("VACUUM FULL {t}")
        check(twins)
    assert twins.compact().failed == []
    twins.reload()
    assert (twins.table.added, twins.hot) == ((), 0)
    check(twins)
    assert not attached or twins.number(sums + "{t}") == twins.number(sums + "truth")
    twins.conn.execute("INSERT INTO watched (id, time, device) VALUES (0, '2024-01-01', 'a')")
    twins.conn.execute("INSERT INTO truth (id, time, device) VALUES (0, '2024-01-01', 'a')")
    twins.conn.commit()
    twins.compact()
    check(twins)
    _release(twins)


def _check_python(twins: Twins) -> None:
    """Where SQL sees hot rows only: Python has as many values of every column as the plain table."""
    twins.reload()
    with twins.database.connection() as conn:
        begin_snapshot(conn)
        frame = read_table(conn, twins.table, select_rows(twins.table, None, None, None))
    for name, values in frame.columns.items():
        valid = frame.valid.get(name, np.ones(len(values), np.bool_))
        assert int(valid.sum()) == twins.number(f'SELECT count("{name}") FROM truth'), name
        assert len(values) == twins.number("SELECT count(*) FROM truth")
    assert verify(twins.database).damaged == []


def test_a_column_that_nobody_registered_yet(twins: Twins, database_url: str) -> None:
    """Between ALTER TABLE and the next compaction it can be written and read by name, and the table released."""
    twins.insert(1, 100)
    twins.compact()
    _alter(twins, "ADD COLUMN extra float8 DEFAULT 1.5")
    row = {"time": np.array(["2024-02-01"], "M8[us]"), "id": [0.0], "device": ["a"], "value": [1.0], "note": [None]}
    with connect(database_url) as store:
        with pytest.raises(SchemaMismatch, match="the data has no column 'extra'"):
            store.write(row, table="watched")
        store.write(row | {"extra": [2.5]}, table="watched")
        assert set(store.read(table="watched", columns=["extra"]).columns["extra"].tolist()) == {1.5, 2.5}
        twins.add("SELECT 1, 'a', timestamptz '2024-02-01', 1, NULL, 3.5")
        twins.conn.execute("INSERT INTO truth VALUES (0, 'a', '2024-02-01Z', 1, NULL, 2.5)")
        twins.conn.commit()
        assert twins.differences() == []
        _release(twins)


def test_a_default_for_each_row_is_refused(twins: Twins) -> None:
    """PostgreSQL computes it for hot rows only. Without cold rows it may."""
    twins.insert(1, 20)
    _alter(twins, "ADD COLUMN a uuid DEFAULT gen_random_uuid()")
    twins.compact()
    for action in ("ADD COLUMN b uuid DEFAULT gen_random_uuid()", "ADD COLUMN b serial", "SET UNLOGGED"):
        with pytest.raises(pg_errors.FeatureNotSupported, match="managed table") as caught:
            _alter(twins, action)
        assert caught.value.diag.message_hint
        twins.conn.rollback()
    _alter(twins, "ADD COLUMN b uuid, ALTER b SET DEFAULT gen_random_uuid()")
    assert verify(twins.database).damaged == []


@pytest.mark.parametrize("attached", [True, False], ids=["extension", "plain"])
def test_columns_are_dropped_and_renamed(twins: Twins, attached: bool) -> None:
    """A dropped name used again is another column; names may be swapped."""
    if not attached:
        detach_cold(twins.conn, twins.table)
        twins.conn.commit()
    check = _check if attached else _check_python
    twins.insert(1, 300)
    twins.compact()
    twins.insert(301, 350)
    _alter(twins, "DROP COLUMN value")
    _alter(twins, "ADD COLUMN value text DEFAULT 'another'")
    _alter(twins, "RENAME note TO n")
    _alter(twins, "RENAME id TO note")
    _alter(twins, "RENAME n TO id")
    _alter(twins, "RENAME device TO machine")
    _alter(twins, "RENAME time TO moment")
    assert twins.table.changes == ()
    check(twins)
    twins.compact()
    assert twins.hot == 0
    check(twins)
    names = "SELECT count(*) FROM ddstore.managed_column WHERE name IN ('note', 'id', 'machine', 'moment', 'value')"
    assert twins.number(names) == 5
    assert twins.number("SELECT count(*) FROM ddstore.segments WHERE bytes > 0") == 6
    with twins.database.connection() as conn:
        assert table_stats(conn, twins.table).rows_cold == 350
    _release(twins)


def test_tables_and_schemas_are_renamed(twins: Twins) -> None:
    twins.insert(1, 100)
    twins.compact()
    twins.conn.execute('CREATE SCHEMA one; ALTER TABLE watched RENAME TO "Other"; ALTER TABLE "Other" SET SCHEMA one;')
    twins.conn.execute('ALTER SCHEMA one RENAME TO "t""wo"')
    twins.conn.commit()
    twins.reload()
    assert (twins.table.label, twins.table.cold) == ('t"wo.Other', 't"wo.Other_cold')
    twins.insert(101, 200)
    twins.compact()
    _check(twins)
    _release(twins)


def test_a_name_that_is_taken_stops_nothing(twins: Twins) -> None:
    twins.insert(1, 100)
    twins.compact()
    twins.conn.execute("CREATE TABLE other_cold (); ALTER TABLE watched RENAME TO other")
    twins.conn.commit()
    twins.reload()
    assert twins.table.cold == "public.watched_cold"
    _check(twins)
    _release(twins)


def test_the_owner_changes(twins: Twins, database_url: str, ordinary_role: Callable[[str], str]) -> None:
    """The cold table and the segments go with the table, so that its new owner can alter, compact and release it."""
    url = ordinary_role(database_url)
    twins.insert(1, 100)
    twins.compact()
    _alter(twins, "ADD COLUMN tags text[]")
    twins.compact()
    with psycopg.connect(url) as other:
        role = other.info.user
    for table in ("watched", "truth"):
        twins.conn.execute(SQL("ALTER TABLE {} OWNER TO {}").format(Identifier(table), Identifier(role)))
    twins.conn.execute(SQL("GRANT ALL ON ALL TABLES IN SCHEMA ddstore TO {}").format(Identifier(role)))
    twins.conn.commit()
    owners = twins.conn.execute(
        "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relname ~ '^(watched|segment_)'"
        " UNION SELECT pg_get_userbyid(typowner) FROM pg_type WHERE typname ~ '^segment_[0-9]+_c'"
    ).fetchall()
    twins.conn.commit()
    assert owners == [(role,)]
    with Database(url) as database, database.connection() as conn:
        conn.execute("ALTER TABLE watched ADD COLUMN x int; ALTER TABLE truth ADD COLUMN x int")
        assert conn.execute("SELECT count(*), count(x) FROM watched").fetchall() == [(100, 0)]
    assert twins.differences() == []


REFUSED = {
    "ALTER value TYPE float4": "type",
    "ALTER value TYPE numeric": "type",
    "ALTER note TYPE varchar(10)": "type",
    "ALTER device TYPE varchar": "type",
    "ALTER time TYPE timestamp": "type",
    "DROP COLUMN device": "it is its key",
    "DROP COLUMN time": "it is its time",
    "ALTER note SET NOT NULL": "contains null values",
    "ADD CHECK (id < 250)": "is violated by some row",
    "ADD COLUMN x int NOT NULL": "contains null values",
}


@pytest.mark.parametrize(("action", "message"), REFUSED.items(), ids=REFUSED)
def test_what_cold_rows_cannot_follow_is_refused(twins: Twins, action: str, message: str) -> None:
    twins.insert(1, 300)
    twins.compact()
    with pytest.raises(psycopg.Error, match=message) as caught:
        twins.conn.execute(SQL("ALTER TABLE watched " + action))  # type: ignore[arg-type]
    assert caught.value.diag.message_hint
    twins.conn.rollback()
    _check(twins)


def test_what_cold_rows_can_follow_is_done(twins: Twins) -> None:
    """Constraints that they keep, limits that are wider; and what does not concern them."""
    twins.insert(1, 300)
    twins.compact()
    for action in (
        "ADD CONSTRAINT positive CHECK (id > 0)",
        "ADD CONSTRAINT later CHECK (id > 200) NOT VALID",
        "ALTER device SET NOT NULL",
        "ALTER value SET DEFAULT 1",
        "ADD COLUMN name varchar(5) DEFAULT 'abc'",
        "ALTER name TYPE varchar(9)",
        "ADD UNIQUE (id)",
        "ENABLE ROW LEVEL SECURITY",
        "SET (fillfactor = 90)",
    ):
        _alter(twins, action)
        _check(twins)
    with pytest.raises(pg_errors.CheckViolation, match="later"):
        _alter(twins, "VALIDATE CONSTRAINT later")
    twins.conn.rollback()
    _alter(twins, "DROP CONSTRAINT later, DROP CONSTRAINT positive, ALTER device DROP NOT NULL")
    twins.conn.execute("INSERT INTO watched (id, time) VALUES (-1, '2024-01-01')")
    twins.conn.execute("INSERT INTO truth (id, time) VALUES (-1, '2024-01-01')")
    twins.conn.commit()
    twins.compact()
    _check(twins)
    _release(twins)


def test_without_the_extension_nothing_is_silent(plain_database_url: str) -> None:
    """What nobody could refuse is refused by whoever would read or move cold rows, until it is undone."""
    with connect(plain_database_url) as store:
        store.create_table("m", time="t", key=["k"], columns={"x": Absolute(0.1), "y": ("text", Lossless())})
        time = np.datetime64("2024-01-01", "us") + np.arange(2000)
        store.write({"t": time, "k": ["a"] * 2000, "x": np.arange(2000.0), "y": ["y"] * 2000}, table="m")
        store.compact(train="never")

        def alter(action: str) -> None:
            with store.connection() as conn:
                conn.execute(f"ALTER TABLE m {action}".encode())

        for action, undo, message in (
            ("ALTER x TYPE float4", "ALTER x TYPE float8", "column x is now real, was double precision"),
            ("DROP COLUMN k", None, "the key column k was dropped"),
        ):
            alter(action)
            for verb in (
                lambda: store.read(table="m"),
                lambda: store.compact("m"),
                lambda: store.release("m"),
            ):
                with pytest.raises(SchemaMismatch, match=message):
                    verb()
            assert store.compact().refused[0].startswith("public.m has changed")
            if undo is not None:
                alter(undo)
                assert len(store.read(table="m")) == 2000
        alter("DROP COLUMN t")
        assert [table.changes for table in store.tables()] == [
            ("the time column t was dropped", "the key column k was dropped")
        ]


def test_rows_stay_hot_where_deleting_them_would_have_consequences(twins: Twins) -> None:
    twins.insert(1, 100)
    twins.both("DELETE FROM {t} WHERE id > 50")
    for ddl, undo, message in (
        ("CREATE RULE r AS ON DELETE TO watched DO INSTEAD NOTHING", "DROP RULE r ON watched", "has a rule"),
        (
            "ALTER TABLE watched ADD UNIQUE (id);"
            "CREATE TABLE child (id float8 REFERENCES watched (id) ON DELETE CASCADE);"
            "INSERT INTO child SELECT id FROM watched",
            "DROP TABLE child",
            "foreign key of child",
        ),
        (
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
            "CREATE TRIGGER t BEFORE DELETE ON watched FOR EACH ROW EXECUTE FUNCTION f()",
            "DROP TRIGGER t ON watched",
            "trigger on DELETE",
        ),
    ):
        before = twins.hot
        _run(twins, ddl)
        with pytest.raises(SchemaMismatch, match=message):
            twins.compact()
        assert twins.hot == before
        _run(twins, undo)
        # One that comes between planning and commit is seen there.
        twins.between(partial(_run, twins, ddl.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")))
        report = twins.compact()
        assert [message in (series.error or "") for series in report.series] == [True]
        _run(twins, undo)
        assert twins.hot == before
    assert twins.compact().rows == before
    assert twins.differences() == []


def test_a_lossy_column_gets_no_check(conn: Connection, needs_extension: None) -> None:
    conn.execute("CREATE TABLE m (t timestamptz NOT NULL, x float8)")
    adopt(conn, "m", time="t", max_error={"x": Absolute(0.1)})
    with pytest.raises(pg_errors.FeatureNotSupported, match="read back with an error"), conn.transaction():
        conn.execute("ALTER TABLE m ADD CONSTRAINT c CHECK (x >= 0)")
    require_intact(load_table(conn, "m"))
