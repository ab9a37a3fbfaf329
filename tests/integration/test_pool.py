"""The pool: transactions, sessions, and errors as they come from a real server."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from psycopg import errors as pg_errors
from psycopg.conninfo import make_conninfo

from ddstore.db import pool
from ddstore.db.catalog import list_tables
from ddstore.db.pool import Database, connect
from ddstore.errors import ConnectionFailed, CorruptSegment, NotInstalled, NotPermitted


def test_a_block_is_a_transaction(db: Database) -> None:
    with db.connection() as conn:
        conn.execute("CREATE TABLE kept (x int)")
    with pytest.raises(pg_errors.DivisionByZero), db.connection() as conn:
        conn.execute("INSERT INTO kept VALUES (1) RETURNING x / 0")
    with db.connection() as conn:
        assert conn.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_sessions_say_who_they_are_and_think_in_utc(db: Database, database_url: str) -> None:
    with db.connection() as conn:
        assert conn.execute("SHOW timezone").fetchone() == ("UTC",)
        assert conn.execute("SHOW application_name").fetchone() == ("ddstore",)
    with Database(make_conninfo(database_url, application_name="mine")) as other, other.connection() as conn:
        assert conn.execute("SHOW application_name").fetchone() == ("mine",)


def test_a_session_that_died_is_replaced(db: Database) -> None:
    with db.connection() as conn:
        pid = conn.info.backend_pid
    with db.connection() as conn, connect(db.url) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [pid])
        other.commit()
        with pytest.raises((pg_errors.AdminShutdown, ConnectionFailed)):
            conn.execute("SELECT pg_sleep(10)")
        conn.close()
    with db.connection() as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_a_closed_database_stays_closed(database_url: str) -> None:
    db = Database(database_url)
    with db.connection():
        pass
    db.close()
    db.close()
    with pytest.raises(ConnectionFailed, match="was closed"), db.connection():
        pass


def test_a_missing_database_is_named(server_url: str) -> None:
    with (
        Database(make_conninfo(server_url, dbname="no_such_database")) as db,
        pytest.raises(ConnectionFailed, match="no_such_database"),
        db.connection(),
    ):
        pass


def test_an_unsupported_server_is_refused(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MAX_SERVER", 9)
    with Database(database_url) as db, pytest.raises(ConnectionFailed, match="supports PostgreSQL"), db.connection():
        pass


def test_no_catalog(empty_database_url: str) -> None:
    with Database(empty_database_url) as db, pytest.raises(NotInstalled, match="ddstore migrate"), db.connection() as c:
        list_tables(c)


def test_no_rights(plain_database_url: str, ordinary_role: Callable[[str], str]) -> None:
    with Database(ordinary_role(plain_database_url)) as db:
        with db.connection() as conn:
            assert list_tables(conn) == []  # the catalog's names are public
        with pytest.raises(NotPermitted), db.connection() as conn:
            conn.execute("SELECT * FROM ddstore.model")


def test_damage_reported_by_the_server(db: Database) -> None:
    with pytest.raises(CorruptSegment, match="damaged on purpose"), db.connection() as conn:
        conn.execute("DO $$ BEGIN RAISE 'damaged on purpose' USING ERRCODE = 'data_corrupted'; END $$")
