"""Migrations: applied once, in order, verifiably; and their sum is sql/schema.sql with functions.sql and writes.sql."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ddstore.db import schema
from ddstore.db.pool import Connection, connect
from ddstore.db.resources import resource_dir
from ddstore.db.schema import Migration, is_migrated, migrate, migrations, pending, require_migrated
from ddstore.errors import NotInstalled, NotPermitted, SchemaMismatch

_CATALOGS = {
    "columns": """
        SELECT c.relname, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
               a.attstorage, pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relnamespace = 'ddstore'::regnamespace AND c.relkind IN ('r', 'v')""",
    "relations": """
        SELECT relname, relkind, relacl::text, reloptions::text, obj_description(oid),
               CASE WHEN relkind = 'v' THEN pg_get_viewdef(oid) END
        FROM pg_class WHERE relnamespace = 'ddstore'::regnamespace AND relkind <> 't'""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated
        FROM pg_constraint WHERE connamespace = 'ddstore'::regnamespace""",
    "indexes": """
        SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = 'ddstore'::regnamespace""",
    "functions": """
        SELECT proname, CASE WHEN prokind <> 'a' THEN pg_get_functiondef(oid) END, obj_description(oid), proacl::text
        FROM pg_proc WHERE pronamespace = 'ddstore'::regnamespace""",
    "aggregates": """
        SELECT p.oid::regprocedure::text, a.aggtransfn::text, a.aggtranstype::regtype::text, a.aggfinalfn::text,
               a.aggcombinefn::text, p.proparallel
        FROM pg_aggregate a JOIN pg_proc p ON p.oid = a.aggfnoid WHERE p.pronamespace = 'ddstore'::regnamespace""",
    "types": """
        SELECT typname, typtype, pg_get_userbyid(typowner) FROM pg_type WHERE typnamespace = 'ddstore'::regnamespace""",
    "schema": """
        SELECT nspacl::text, obj_description(oid) FROM pg_namespace WHERE nspname = 'ddstore'""",
}


def _catalogs(conn: Connection) -> dict[str, set[tuple[Any, ...]]]:
    return {what: set(conn.execute(query).fetchall()) for what, query in _CATALOGS.items()}


def test_the_sum_of_migrations_is_the_schema(plain_database_url: str, empty_database_url: str) -> None:
    with connect(plain_database_url) as migrated, connect(empty_database_url) as built:
        for name in ("schema.sql", "functions.sql", "writes.sql"):
            built.execute((resource_dir("sql") / name).read_bytes())
        expected, found = _catalogs(built), _catalogs(migrated)
    assert expected["columns"]
    for what, rows in expected.items():
        assert rows ^ found[what] == set(), what


def test_every_object_says_what_it_is(plain_database_url: str) -> None:
    with connect(plain_database_url) as conn:
        silent = conn.execute(
            """
            SELECT relname::text FROM pg_class
            WHERE relnamespace = 'ddstore'::regnamespace AND relkind IN ('r', 'v') AND obj_description(oid) IS NULL
            UNION ALL
            SELECT proname::text FROM pg_proc
            WHERE pronamespace = 'ddstore'::regnamespace AND obj_description(oid) IS NULL"""
        ).fetchall()
    assert silent == []


def test_migrating_twice_changes_nothing(empty_database_url: str) -> None:
    names = [migration.name for migration in migrations()]
    with connect(empty_database_url) as conn:
        assert pending(conn) == names
        assert not is_migrated(conn)
        with pytest.raises(NotInstalled, match="ddstore migrate"):
            require_migrated(conn)
        conn.rollback()
        assert migrate(conn) == names
        assert migrate(conn) == []
        require_migrated(conn)
        conn.rollback()  # nothing is left to commit
        assert is_migrated(conn)


def test_an_edited_migration_is_refused(plain_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    edited = [Migration(m.name, m.text + "\n-- harmless?") for m in migrations()]
    monkeypatch.setattr(schema, "migrations", lambda: edited)
    with connect(plain_database_url) as conn, pytest.raises(SchemaMismatch, match="edited after it ran"):
        migrate(conn)


def test_a_newer_catalog_is_refused(plain_database_url: str) -> None:
    with connect(plain_database_url) as conn:
        conn.execute("INSERT INTO ddstore.migration (name, sha256) VALUES ('99.00.00_01_future', 'x')")
        with pytest.raises(SchemaMismatch, match="upgrade ddstore"):
            migrate(conn)


def test_a_failing_migration_leaves_nothing(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = [*migrations(), Migration("99.00.00_01_broken", "CREATE TABLE ddstore.half (); SELECT 1/0;")]
    monkeypatch.setattr(schema, "migrations", lambda: broken)
    with connect(empty_database_url) as conn:
        with pytest.raises(Exception, match="division by zero"):
            migrate(conn)
        assert pending(conn) == ["99.00.00_01_broken"]
        row = conn.execute("SELECT to_regclass('ddstore.half')").fetchone()
        assert row == (None,)


def test_many_may_migrate_at_once(empty_database_url: str) -> None:
    ran: list[list[str]] = []

    def work() -> None:
        with connect(empty_database_url) as conn:
            ran.append(migrate(conn))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name for names in ran for name in names) == [m.name for m in migrations()]


def test_a_role_without_create_is_told_what_to_ask_for(
    empty_database_url: str, ordinary_role: Callable[[str], str]
) -> None:
    with connect(ordinary_role(empty_database_url)) as conn:
        with pytest.raises(NotPermitted, match="GRANT CREATE ON DATABASE"):
            migrate(conn)
        conn.rollback()


def test_no_superuser_is_needed(empty_database_url: str, ordinary_role: Callable[[str], str]) -> None:
    url = ordinary_role(empty_database_url)
    with connect(empty_database_url) as owner, connect(url) as conn:
        owner.execute(f'GRANT CREATE ON DATABASE "{owner.info.dbname}" TO "{conn.info.user}"'.encode())
        owner.commit()
        assert migrate(conn)
        assert is_migrated(conn)


def test_migration_files_sort_and_carry_no_transaction_control() -> None:
    files = sorted(Path(resource_dir("migrations")).glob("*"))
    assert [m.name for m in migrations()] == sorted(m.name for m in migrations())
    for file in files:
        assert file.suffix == ".sql"
        assert "\nCOMMIT" not in file.read_text().upper()
