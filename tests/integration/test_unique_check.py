"""Unique keys: among hot rows they always hold, among compacted ones where ``unique_check`` is ``all``."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from ddstore import Lossless, Store, connect
from ddstore.db.pool import Connection
from ddstore.db.pool import connect as connect_to
from ddstore.errors import NotInstalled, SchemaMismatch

ROWS = "SELECT 'a', timestamptz '2024-01-01 UTC' + g * interval '1 s', g FROM generate_series(1, 200) g"


@pytest.fixture
def store(database_url: str, needs_extension: None) -> Iterator[Store]:
    """``t``, of primary key (k, at), with 200 compacted rows; unique among all."""
    with connect(database_url) as store:
        with store.connection() as conn:
            conn.execute("CREATE TABLE t (k text, at timestamptz, v float8, PRIMARY KEY (k, at))")
            conn.execute(f"INSERT INTO t {ROWS}".encode())
        table = store.adopt("t", time="at", key=["k"], max_error={"v": Lossless()}, min_rows=1, unique_check="all")
        assert table.unique_check == "all"
        assert store.compact(train="never", segment_rows=64).rows == 200
        yield store


@pytest.fixture
def other(store: Store, database_url: str) -> Iterator[Connection]:
    """A session beside it."""
    with connect_to(database_url) as conn:
        yield conn


def _refused(conn: Connection, statement: str) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation, match='unique constraint "t_pkey"') as caught:
        conn.execute(statement.encode())
    assert caught.value.diag.message_detail is not None
    assert "already exists" in caught.value.diag.message_detail
    conn.rollback()


def test_a_key_of_a_compacted_row_is_refused(other: Connection) -> None:
    late = "timestamptz '2024-01-01 00:00:05 UTC'"
    _refused(other, f"INSERT INTO t VALUES ('a', {late}, 1)")
    _refused(other, f"INSERT INTO t {ROWS}")
    _refused(other, f"INSERT INTO t VALUES ('a', {late}, 1) ON CONFLICT DO NOTHING")
    _refused(other, f"INSERT INTO t VALUES ('a', {late}, 1) ON CONFLICT (k, at) DO UPDATE SET v = 2")
    with pytest.raises(psycopg.errors.UniqueViolation), other.cursor().copy("COPY t FROM STDIN") as copy:
        copy.write_row(["a", "2024-01-01 00:00:07+00", 1])
    other.rollback()
    for beside in (f"'b', {late}", f"'a', {late} + interval '0.5 s'", "'a', '2025-01-01 UTC'"):
        assert other.execute(f"INSERT INTO t VALUES ({beside}, 1)".encode()).rowcount == 1
    _refused(other, "INSERT INTO t VALUES ('c', '2024-01-01 UTC', 1), ('c', '2024-01-01 UTC', 2)")


def test_an_update_to_such_a_key_is_refused(other: Connection) -> None:
    other.execute("INSERT INTO t VALUES ('b', '2024-01-01 00:00:05 UTC', 1)")
    other.commit()
    _refused(other, "UPDATE t SET k = 'a' WHERE k = 'b'")  # a hot row, to where a cold one is
    _refused(other, "UPDATE t SET at = at + interval '100 s' WHERE v = 5 AND k = 'a'")  # a cold one, likewise
    assert other.execute("UPDATE t SET at = at + interval '1 h' WHERE k = 'a'").rowcount == 200
    assert other.execute("UPDATE t SET v = v + 1").rowcount == 201
    other.commit()


def test_moving_rows_is_no_violation(store: Store, other: Connection) -> None:
    count = "SELECT count(*), count(DISTINCT (k, at)) FROM t"
    other.execute("UPDATE t SET v = 0 WHERE v = 70")
    other.execute("INSERT INTO t VALUES ('a', '2024-02-01 UTC', 1)")
    other.commit()
    assert store.compact(train="never").failed == []
    assert other.execute(count).fetchone() == (201, 201)
    other.commit()
    assert store.release("t").rows == 201
    assert other.execute(count).fetchone() == (201, 201)
    left = "SELECT count(*) FROM pg_proc WHERE proname LIKE 'check\\_unique\\_%'"
    assert other.execute(left.encode()).fetchone() == (0,)
    assert other.execute("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'ddstore%'").fetchone() == (0,)


def test_a_row_that_becomes_cold_under_a_snapshot(store: Store, other: Connection, database_url: str) -> None:
    other.execute("INSERT INTO t VALUES ('a', '2024-03-01 UTC', 1)")
    other.commit()
    with connect_to(database_url) as repeatable:
        repeatable.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        repeatable.execute("SELECT count(*) FROM t")
        assert store.compact(train="never").rows == 1
        _refused(repeatable, "INSERT INTO t VALUES ('a', '2024-03-01 UTC', 2)")


def test_who_may_only_insert_is_checked_as_well(
    store: Store, other: Connection, database_url: str, ordinary_role: Callable[[str], str]
) -> None:
    url = ordinary_role(database_url)
    with connect_to(url) as conn:
        other.execute(f'GRANT INSERT ON t TO "{conn.info.user}"'.encode())
        other.commit()
        _refused(conn, "INSERT INTO t VALUES ('a', '2024-01-01 00:00:05 UTC', 1)")
        assert conn.execute("INSERT INTO t VALUES ('a', '2030-01-01 UTC', 1)").rowcount == 1


def test_by_default_hot_rows_alone_count(store: Store, other: Connection) -> None:
    assert store.set_policy("t", unique_check="hot").unique_check == "hot"
    twin = "INSERT INTO t VALUES ('a', '2024-01-01 00:00:05 UTC', 1)"
    assert other.execute(twin.encode()).rowcount == 1
    assert other.execute(f"{twin} ON CONFLICT DO NOTHING".encode()).rowcount == 0  # the hot one is in the way
    other.commit()
    _refused(other, twin)
    other.execute("UPDATE ddstore.managed_table SET unique_check = 'all'")
    _refused(other, "INSERT INTO t VALUES ('a', '2024-01-01 00:00:06 UTC', 1)")


def test_what_cannot_be_checked_says_so(store: Store, plain_database_url: str) -> None:
    with store.connection() as conn:
        conn.execute("CREATE TABLE u (id int PRIMARY KEY, at timestamptz NOT NULL)")
    with pytest.raises(SchemaMismatch, match="lacks the time column"):
        store.adopt("u", time="at", unique_check="all")
    with pytest.raises(SchemaMismatch, match="unique_check"):
        store.set_policy("t", unique_check="some")  # type: ignore[arg-type]
    with connect(plain_database_url) as plain:
        plain.create_table("v", time="t", columns={"x": Lossless()})
        with pytest.raises(NotInstalled, match="extension"):
            plain.set_policy("v", unique_check="all")
