"""DROP of a managed table: plain, by whoever owns it, and nothing is left of it."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from ddstore.db.extension import enable
from ddstore.db.manage import orphans
from fix_compact import Twins

LEFT = """
SELECT (SELECT array_agg(c.relname::text) FROM pg_class c WHERE c.relname ~ '^(watched|segment_)'),
       (SELECT array_agg(y.typname::text) FROM pg_type y WHERE y.typname ~ '^segment_'),
       (SELECT count(*) FROM ddstore.managed_table), (SELECT count(*) FROM ddstore.job),
       (SELECT count(*) FROM ddstore.managed_column), (SELECT count(*) FROM ddstore.model),
       (SELECT array_agg(p.proname::text) FROM pg_proc p WHERE p.proname ~ '^check_unique_')"""
NOTHING = (None, None, 0, 0, 0, 0, None)
DEPENDS = (
    "SELECT deptype::text FROM pg_depend WHERE objid = 'watched_cold'::regclass AND refobjid = 'watched'::regclass"
)


@pytest.fixture
def filled(twins: Twins) -> Twins:
    """With segments, a model, a row of every kind in the catalog, and triggers that look for unique keys."""
    twins.insert(1, 200)
    twins.compact()
    conn = twins.conn
    conn.execute("ALTER TABLE watched ADD UNIQUE (device, time, id)")
    conn.execute("UPDATE ddstore.managed_table SET unique_check = 'all'")
    column = twins.table.values[0].id
    model = conn.execute(
        "INSERT INTO ddstore.model (table_id, column_id, series_key, bytes) VALUES (%s, %s, '[]', 'x') RETURNING id",
        (twins.table.id, column),
    ).fetchone()
    assert model is not None
    conn.execute(f"UPDATE {twins.table.segments} SET c{column}_model = {model[0]}".encode())
    conn.commit()
    return twins


def test_its_owner_drops_it_without_further_ado(filled: Twins, ordinary_role: Callable[[str], str]) -> None:
    conn = filled.conn
    url = ordinary_role(str(conn.info.dsn))
    role = Identifier(str(psycopg.conninfo.conninfo_to_dict(url)["user"]))
    conn.execute(SQL("GRANT CREATE ON SCHEMA public TO {}").format(role))
    conn.execute(SQL("ALTER TABLE watched OWNER TO {}").format(role))
    conn.execute(SQL("SET ROLE {}").format(role))
    conn.execute("SAVEPOINT before; DROP TABLE watched; ROLLBACK TO before")
    assert conn.execute("SELECT count(*) FROM watched").fetchone() == (200,)
    conn.execute("DROP TABLE watched")
    conn.execute("RESET ROLE")
    assert conn.execute(LEFT).fetchone() == NOTHING
    assert orphans(conn) == {}
    conn.execute("CREATE TABLE watched (v int); DROP TABLE watched")  # other tables go as ever
    conn.rollback()


def test_with_its_schema_or_beside_a_view(filled: Twins) -> None:
    conn = filled.conn
    conn.execute("CREATE SCHEMA plant; ALTER TABLE watched SET SCHEMA plant")
    conn.execute("CREATE VIEW above AS SELECT * FROM plant.watched")
    conn.commit()
    with pytest.raises(psycopg.errors.DependentObjectsStillExist, match="watched"):
        conn.execute("DROP TABLE plant.watched")
    conn.rollback()
    conn.execute("DROP SCHEMA plant CASCADE")
    assert conn.execute(LEFT).fetchone() == NOTHING


def test_a_cold_table_that_was_bound_otherwise(filled: Twins) -> None:
    """As after pg_upgrade: migrate mends it."""
    conn = filled.conn
    assert conn.execute(DEPENDS).fetchall() == [("a",)]
    conn.execute("ALTER EVENT TRIGGER ddstore_bind DISABLE")
    conn.execute("DELETE FROM pg_depend WHERE objid = 'watched_cold'::regclass AND refobjid = 'watched'::regclass")
    conn.execute("ALTER FOREIGN TABLE watched_cold NO INHERIT watched")
    conn.execute("ALTER FOREIGN TABLE watched_cold INHERIT watched")
    conn.execute("ALTER EVENT TRIGGER ddstore_bind ENABLE")
    assert conn.execute(DEPENDS).fetchall() == [("n",)]
    enable(conn)
    assert conn.execute(DEPENDS).fetchall() == [("a",)]
    conn.execute("ALTER FOREIGN TABLE watched_cold NO INHERIT watched")
    enable(conn)  # one that somebody took away is left alone


def test_only_owners_say_what_depends_on_what(filled: Twins, ordinary_role: Callable[[str], str]) -> None:
    with psycopg.connect(ordinary_role(str(filled.conn.info.dsn))) as other:
        for relation in ("watched_cold", "watched"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                other.execute("SELECT ddstore.depend_on_table(%s::regclass)", (relation,))
            other.rollback()
