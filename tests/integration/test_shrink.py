"""Empty pages go back to the system in short steps: no more than asked for, none that is used, and nobody waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import errors as pg_errors
from psycopg.sql import SQL, Identifier

from ddstore.compact import CompactOptions, compact, vacuum
from ddstore.db.manage import adopt, drop_management
from ddstore.db.pool import Connection, connect
from fix_compact import Twins
from fix_operations import ServerOf
from moves import MAJORS, new_database


@pytest.fixture
def heap(database_url: str, needs_extension: None) -> Iterator[Connection]:
    with connect(database_url, autocommit=True) as conn:
        make_heap(conn)
        yield conn


def make_heap(conn: Connection) -> None:
    """A table of an index, a TOAST table and 5,000 rows."""
    conn.execute("CREATE TABLE t (id int, note text) WITH (autovacuum_enabled = off, toast.autovacuum_enabled = off)")
    conn.execute("CREATE INDEX t_id ON t (id)")
    conn.execute("INSERT INTO t SELECT i, repeat('x', 60) FROM generate_series(1, 5000) i")


def pages(conn: Connection, oid: int | None = None) -> int:
    row = conn.execute(
        "SELECT pg_relation_size(coalesce(%s::oid, 't'::regclass)) / current_setting('block_size')::int", [oid]
    ).fetchone()
    assert row is not None
    return int(row[0])


def empty(conn: Connection, keep: str = "false") -> None:
    conn.execute(f"DELETE FROM t WHERE NOT ({keep})".encode())
    conn.execute("VACUUM (TRUNCATE false) t")


def shrink(conn: Connection, most: int, oid: int | None = None) -> int | None:
    row = conn.execute("SELECT ddstore.shrink(coalesce(%s::oid, 't'::regclass), %s)", [oid, most]).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize("major", MAJORS)
def test_steps(server_of: ServerOf, major: int) -> None:
    """Each gives back as many pages as it was asked for, up to the last row that is there."""
    with connect(new_database(server_of(major)), autocommit=True) as conn:
        make_heap(conn)
        before = pages(conn)
        assert shrink(conn, 16) == 0
        empty(conn, "id <= 100 OR id = 2000")
        assert shrink(conn, 16) == 16
        assert pages(conn) == before - 16
        while (given := shrink(conn, 16)) == 16:
            assert pages(conn) % 16 == before % 16
        assert given is not None
        assert 0 < given < 16
        assert shrink(conn, 16) == 0
        row = conn.execute("SELECT max(ctid)::text FROM t WHERE id = 2000").fetchone()
        assert row is not None
        assert row[0].startswith(f"({pages(conn) - 1},")
        # What the planner goes by.
        facts = "SELECT relpages, reltuples, relallvisible <= relpages FROM pg_class WHERE relname = 't'"
        assert conn.execute(facts).fetchone() == (pages(conn), 101, True)
        conn.execute("SET enable_seqscan = off")
        assert conn.execute("SELECT count(*), max(id) FROM t WHERE id > 0").fetchone() == (101, 2000)
        left = pages(conn)
        empty(conn)
        assert shrink(conn, 1_000_000) == left
        assert pages(conn) == 0


def test_rows_out_of_line(heap: Connection) -> None:
    """The TOAST table is one of those that are shrunk."""
    heap.execute("ALTER TABLE t ALTER note SET STORAGE EXTERNAL")
    heap.execute("INSERT INTO t SELECT i, repeat('y', 9000) FROM generate_series(1, 100) i")
    row = heap.execute("SELECT reltoastrelid FROM pg_class WHERE relname = 't'").fetchone()
    assert row is not None
    size = pages(heap, row[0])
    assert size > 100
    empty(heap)
    assert shrink(heap, 10, row[0]) == 10
    assert pages(heap, row[0]) == size - 10


def test_it_does_not_wait(heap: Connection, database_url: str) -> None:
    empty(heap)
    size = pages(heap)
    for statement in ("SELECT FROM t LIMIT 1", "INSERT INTO t VALUES (1)", "LOCK TABLE t"):
        with connect(database_url) as other:
            other.execute(statement.encode())
            assert shrink(heap, 8) is None
            other.rollback()
    assert pages(heap) == size


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("SELECT ddstore.shrink('t'::regclass, 0)", pg_errors.InvalidParameterValue),
        ("SELECT ddstore.shrink('pg_class'::regclass, 8)", pg_errors.WrongObjectType),
        ("SELECT ddstore.shrink('t_id'::regclass, 8)", psycopg.Error),
        ("SELECT ddstore.shrink('ddstore.tables'::regclass, 8)", psycopg.Error),
        ("SELECT ddstore.shrink(0, 8)", psycopg.Error),
        ("SELECT ddstore.shrink('t'::regclass, 8) FROM t", pg_errors.ObjectInUse),
        (
            "SET TRANSACTION READ ONLY; SELECT ddstore.shrink('t'::regclass, 8)",
            pg_errors.ReadOnlySqlTransaction,
        ),
    ],
)
def test_what_is_refused(heap: Connection, call: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        heap.execute(call.encode())


def test_the_owner_alone(heap: Connection, database_url: str, ordinary_role: Callable[[str], str]) -> None:
    with connect(ordinary_role(database_url), autocommit=True) as conn:
        heap.execute(SQL("GRANT ALL ON t TO {}").format(Identifier(conn.info.user)))
        with pytest.raises(pg_errors.InsufficientPrivilege, match="must be owner of table t"):
            shrink(conn, 8)
        heap.execute(SQL("ALTER TABLE t OWNER TO {}").format(Identifier(conn.info.user)))
        assert shrink(conn, 8) == 0


def test_rows_written_meanwhile(heap: Connection, database_url: str) -> None:
    """Nothing of what others insert, update and delete is lost, in the heap and by the index."""
    done = threading.Event()
    expected: list[int] = []

    def write() -> None:
        with connect(database_url, autocommit=True) as conn:
            at = 10_000
            while not done.wait(0.005):
                conn.execute("INSERT INTO t SELECT i, 'new' FROM generate_series(%s::int, %s::int) i", [at, at + 19])
                conn.execute("UPDATE t SET note = repeat('z', 50) WHERE id BETWEEN %s AND %s", [at, at + 5])
                conn.execute("DELETE FROM t WHERE id BETWEEN %s AND %s", [at + 10, at + 19])
                conn.execute("DELETE FROM t WHERE id BETWEEN 10000 AND %s", [at - 1001])  # no page is used for ever
                at += 20
            first = max(10_000, at - 1020)
            expected.extend(i for i in range(first, at) if i % 20 < 10)

    writer = threading.Thread(target=write)
    writer.start()
    given = 0
    try:
        for turn in range(4000):
            if turn % 40 == 0:  # pages that will be empty, behind those in use unless the writer was quicker
                heap.execute("INSERT INTO t SELECT -i, repeat('x', 60) FROM generate_series(1, 5000) i")
                empty(heap, "id >= 10000")
            given += shrink(heap, 4) or 0
            if turn >= 400 and given >= 40:
                break
    finally:
        done.set()
        writer.join()
    assert given >= 40
    for method in ("seqscan", "indexscan"):
        for other in ("seqscan", "indexscan", "bitmapscan"):
            heap.execute(f"SET enable_{other} = {'on' if other == method else 'off'}".encode())
        found = heap.execute("SELECT id FROM t WHERE id >= 10000 ORDER BY id").fetchall()
        assert [i for (i,) in found] == expected


def options(conn: Connection, name: str) -> dict[str, list[str]]:
    """The storage parameters of a table and of its TOAST table."""
    rows = conn.execute(
        """SELECT CASE WHEN c.oid = r.oid THEN 'heap' ELSE 'toast' END, c.reloptions
           FROM pg_class r JOIN pg_class c ON c.oid IN (r.oid, r.reltoastrelid)
           WHERE r.oid = %s::regclass AND c.reloptions IS NOT NULL""",
        [name],
    ).fetchall()
    return dict(rows)


OURS = {"heap": ["vacuum_truncate=false"], "toast": ["vacuum_truncate=false"]}


def test_adoption_sets_what_release_resets(conn: Connection, needs_extension: None) -> None:
    for given, adopted in (
        ("", OURS),
        ("fillfactor = 90", {"heap": ["fillfactor=90", "vacuum_truncate=false"], "toast": OURS["toast"]}),
        ("vacuum_truncate = off", {"heap": ["vacuum_truncate=off"]}),
        ("vacuum_truncate = on", {"heap": ["vacuum_truncate=on"]}),
        ("toast.vacuum_truncate = false", {"toast": ["vacuum_truncate=false"]}),
    ):
        conn.execute(f"CREATE TABLE u (at timestamptz NOT NULL, v text) {f'WITH ({given})' if given else ''}".encode())
        before = options(conn, "u")
        table = adopt(conn, "u", time="at")
        assert options(conn, "u") == adopted
        drop_management(conn, table, restored_rows=0)
        assert options(conn, "u") == before
        conn.execute("DROP TABLE u")


def test_what_the_user_sets_later_stays(conn: Connection, needs_extension: None) -> None:
    conn.execute("CREATE TABLE u (at timestamptz NOT NULL, v text)")
    table = adopt(conn, "u", time="at")
    conn.execute("ALTER TABLE u SET (vacuum_truncate = on)")
    drop_management(conn, table, restored_rows=0)
    assert options(conn, "u") == {"heap": ["vacuum_truncate=on"]}


def test_without_the_extension_vacuum_does_it(plain: Connection) -> None:
    plain.execute("CREATE TABLE u (at timestamptz NOT NULL, v text)")
    table = adopt(plain, "u", time="at")
    assert options(plain, "u") == {}
    drop_management(plain, table, restored_rows=0)


def hot_pages(twins: Twins) -> int:
    return twins.number("SELECT pg_relation_size('watched') / current_setting('block_size')::int")


@pytest.fixture
def small_steps(twins: Twins) -> Twins:
    """Heaps of a few pages are shrunk, three pages at a time."""
    twins.monkeypatch.setattr(vacuum, "_STEPPED_FROM", 1)
    twins.monkeypatch.setattr(vacuum, "_STEP_PAGES", 3)
    twins.monkeypatch.setattr(vacuum, "_MISSES", 2)
    return twins


def test_compaction_shrinks_the_heap(small_steps: Twins) -> None:
    twins = small_steps
    twins.insert(1, 3000)
    twins.insert(4000, 4001, "b")  # too few to become cold, and at the end
    twins.insert(5000, 7000)
    before = hot_pages(twins)
    assert twins.compact(vacuum=True, all=False).notes == []
    assert twins.hot == 2
    assert 1 < hot_pages(twins) < before
    assert twins.compact(vacuum=True).notes == []
    assert hot_pages(twins) == 0
    assert twins.differences() == []


def test_who_reads_is_not_disturbed(small_steps: Twins, database_url: str) -> None:
    twins = small_steps
    twins.insert(1, 3000)
    before = hot_pages(twins)
    with connect(database_url) as reader:
        reader.execute("SELECT FROM ONLY watched LIMIT 1")
        assert twins.compact(vacuum=True).notes == []
        assert hot_pages(twins) == before
    twins.insert(4000, 5000)
    twins.compact(vacuum=True)
    assert hot_pages(twins) == 0


def test_tables_adopted_before(small_steps: Twins) -> None:
    """The next compaction makes the settings that adoption would make today."""
    twins = small_steps
    twins.conn.execute("UPDATE ddstore.managed_table SET shrinks = NULL")
    twins.conn.execute("ALTER TABLE watched RESET (vacuum_truncate, toast.vacuum_truncate)")
    twins.insert(1, 3000)
    twins.compact(vacuum=True)
    assert options(twins.conn, "watched") == OURS
    assert hot_pages(twins) == 0


@pytest.mark.parametrize("setting", ["SET (vacuum_truncate = on)", "RESET (vacuum_truncate)"])
def test_whoever_wants_vacuum_to_do_it(small_steps: Twins, setting: str) -> None:
    twins = small_steps
    twins.conn.execute(f"ALTER TABLE watched {setting}".encode())
    twins.monkeypatch.setattr(vacuum, "_shrink", lambda *given: pytest.fail("shrunk in steps"))
    twins.monkeypatch.setattr(vacuum, "_SHRUNK_FROM", 1)
    twins.insert(1, 3000)
    twins.compact(vacuum=True)
    assert twins.hot == 0


def test_pages_are_kept_where_the_user_says_so(small_steps: Twins) -> None:
    twins = small_steps
    twins.conn.execute("UPDATE ddstore.managed_table SET shrinks = false")
    twins.monkeypatch.setattr(vacuum, "_SHRUNK_FROM", 1)
    twins.insert(1, 3000)
    before = hot_pages(twins)
    twins.compact(vacuum=True)
    assert hot_pages(twins) == before
    assert options(twins.conn, "watched") == OURS


def test_vacuum_does_it_again_when_the_extension_has_gone(small_steps: Twins) -> None:
    twins = small_steps
    twins.conn.execute("DROP EXTENSION ddstore CASCADE")
    twins.monkeypatch.setattr(vacuum, "_SHRUNK_FROM", 1)
    twins.insert(1, 12_000)
    compact(twins.database, CompactOptions(table=twins.table.id, all=True, train="never"))
    assert hot_pages(twins) == 0
