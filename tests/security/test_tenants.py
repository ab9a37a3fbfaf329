"""Two tenants of one table, kept apart by row-level security, and two tables of separate owners: nothing leaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import errors as pg_errors
from psycopg.sql import SQL, Identifier

from ddstore import Absolute, Lossless, Series, Store, connect
from ddstore.errors import NotPermitted

ROWS = 2000
START = np.datetime64("2024-03-01T00:00:00", "us")
SECRET = "bravo's own"

Connection = psycopg.Connection[Any]


@dataclass
class Tenants:
    """``plant.meters`` of two tenants, cold and hot rows; ``session`` is that of one, kept to its rows by a policy."""

    store: Store
    session: Connection
    role: str
    url: str

    def admin(self, statement: str) -> None:
        """As the owner; ``{}`` is the tenant's role."""
        with self.store.connection() as conn:
            conn.execute(SQL(statement).format(Identifier(self.role)))  # type: ignore[arg-type]

    def seen(self, query: str, params: Any = None) -> list[Any]:
        return self.session.execute(query.encode(), params).fetchall()

    def refused(self, statement: str) -> None:
        with pytest.raises(pg_errors.InsufficientPrivilege) as caught:
            self.session.execute(statement.encode())
        assert "bravo" not in str(caught.value)


@pytest.fixture
def tenants(database_url: str, needs_extension: None, ordinary_role: Callable[[str], str]) -> Iterator[Tenants]:
    url = ordinary_role(database_url)
    role = str(psycopg.conninfo.conninfo_to_dict(url)["user"])
    with connect(database_url) as store:
        store.create_table(
            "plant.meters",
            time="t",
            key=["tenant"],
            columns={"load": Absolute(0.5), "note": ("text", Lossless())},
            hot_index="btree",
        )
        for _ in ("cold", "hot"):
            for tenant, level in ((role, 10.0), ("bravo", 123456.0)):
                data = {
                    "t": START + np.arange(ROWS) * np.timedelta64(1, "s"),
                    "tenant": [tenant] * ROWS,
                    "load": level + np.sin(np.arange(ROWS) / 9),
                    "note": ["public" if tenant == role else SECRET] * ROWS,
                }
                store.write(data, table="plant.meters")
            if _ == "cold":
                assert store.compact(train="never").rows == 2 * ROWS
        found = Tenants(store, psycopg.connect(url, autocommit=True), role, url)
        found.admin(
            "ALTER TABLE plant.meters ENABLE ROW LEVEL SECURITY;"
            "CREATE POLICY own ON plant.meters USING (tenant = current_user);"
            "GRANT USAGE, CREATE ON SCHEMA plant TO {0}; GRANT SELECT ON plant.meters TO {0};"
            "CREATE VIEW plant.mine AS SELECT * FROM plant.meters WHERE tenant = current_user;"
            "CREATE VIEW plant.by_rights WITH (security_invoker) AS SELECT * FROM plant.meters;"
            "CREATE VIEW plant.fenced WITH (security_barrier) AS"
            " SELECT * FROM plant.meters WHERE tenant = current_user;"
            "GRANT SELECT ON plant.mine, plant.by_rights, plant.fenced TO {0};"
            "INSERT INTO ddstore.model (table_id, column_id, series_key, bytes) VALUES (1, 3, '[\"bravo\"]', 'x');"
            "ANALYZE plant.meters, plant.meters_cold, ddstore.segment_1"
        )
        yield found
        found.session.close()


LEAK = """CREATE FUNCTION plant.leak(text) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS
          $$ BEGIN RAISE WARNING 'leak: %', $1; RETURN true; END $$"""
EXPLAIN = "EXPLAIN (ANALYZE, VERBOSE, COSTS OFF, TIMING OFF, SUMMARY OFF) "


def test_a_tenant_reads_its_rows_and_no_others(tenants: Tenants) -> None:
    own = [(2 * ROWS, {tenants.role}, True)]
    for name in ("plant.meters", "plant.mine", "plant.by_rights", "plant.fenced"):
        query = f"SELECT count(*), array_agg(DISTINCT tenant), max(load) < 100 FROM {name}"
        assert [(n, set(names), low) for n, names, low in tenants.seen(query)] == own, name
        assert tenants.seen(f"SELECT count(*) FROM {name} WHERE tenant = 'bravo' OR load > 100") == [(0,)]
        assert tenants.seen(f"SELECT load FROM {name} ORDER BY load DESC LIMIT 1")[0][0] < 100
        assert len(tenants.seen(f"SELECT ddstore.last(note, t) FROM {name} GROUP BY tenant")) == 1
        buckets = tenants.seen(f"SELECT ddstore.time_bucket('1 hour', t), max(load) FROM {name} GROUP BY 1")
        assert all(load < 100 for _, load in buckets)
        with tenants.session.cursor() as cursor, cursor.copy(f"COPY (SELECT note FROM {name}) TO STDOUT") as copy:
            assert {row for (row,) in copy.rows()} == {"public"}
    with pytest.raises(pg_errors.FeatureNotSupported):
        tenants.seen("SELECT ddstore.range_agg('plant.meters', 'load', '[\"bravo\"]', NULL::timestamptz, NULL)")
    with connect(tenants.url) as store, pytest.raises(NotPermitted):  # it would decode the segments itself
        store.read(table="plant.meters", key=(tenants.role,))


def test_a_plan_and_a_cursor_follow_the_role(tenants: Tenants, database_url: str) -> None:
    """Plans are kept per session: they must not be run with another role's policies."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("SET plan_cache_mode = force_generic_plan")
        conn.execute("PREPARE q AS SELECT count(*), max(load) FROM plant.meters")
        conn.execute("PREPARE c AS SELECT count(*) FROM plant.meters_cold")
        conn.execute("DECLARE held CURSOR WITH HOLD FOR SELECT note FROM plant.meters")
        tenants.admin("GRANT SELECT ON plant.meters_cold TO {}")
        role = SQL("SET ROLE {}").format(Identifier(tenants.role))
        for _ in range(2):
            assert conn.execute("EXECUTE q").fetchone()[0] == 4 * ROWS  # type: ignore[index]
            assert conn.execute("EXECUTE c").fetchone() == (2 * ROWS,)
            conn.execute(role)
            rows = conn.execute("EXECUTE q").fetchone()
            assert rows is not None
            assert (rows[0], rows[1] < 100) == (2 * ROWS, True)
            with pytest.raises(pg_errors.InsufficientPrivilege, match="meters_cold"):
                conn.execute("EXECUTE c")
            with conn.transaction():
                conn.execute("DECLARE mine CURSOR FOR SELECT note FROM plant.meters")
                conn.execute("RESET ROLE")
                assert (SECRET,) not in conn.execute("FETCH ALL FROM mine").fetchall()


def test_the_cold_table_is_no_way_round_the_policies(tenants: Tenants) -> None:
    """Not even with rights on it, as GRANT ON ALL TABLES gives them."""
    tenants.refused("SELECT * FROM plant.meters_cold")
    tenants.admin("GRANT ALL ON ALL TABLES IN SCHEMA plant TO {}")
    for query in (
        "SELECT * FROM plant.meters_cold",
        "SELECT count(*) FROM plant.meters_cold",
        "SELECT max(load) FROM plant.meters_cold WHERE tenant = 'bravo'",
        "SELECT load FROM plant.meters_cold ORDER BY t DESC LIMIT 1",
        "SELECT c.note FROM plant.meters m JOIN plant.meters_cold c USING (t) LIMIT 1",
        "EXPLAIN SELECT * FROM plant.meters_cold",
        "COPY (SELECT note FROM plant.meters_cold) TO STDOUT",
        "DELETE FROM plant.meters_cold WHERE tenant = 'bravo'",
        "UPDATE plant.meters_cold SET load = 0",
        "SELECT * FROM plant.meters_cold FOR UPDATE",
        "CREATE TABLE plant.copy AS TABLE plant.meters_cold",
        "SET row_security = off; SELECT * FROM plant.meters_cold",
    ):
        tenants.refused(query)
    tenants.session.execute("RESET row_security")
    tenants.session.execute("CREATE VIEW plant.around AS TABLE plant.meters_cold")
    tenants.refused("SELECT * FROM plant.around")
    with tenants.store.connection() as conn:  # the owner's own view is the owner's word
        conn.execute("CREATE VIEW plant.open AS SELECT count(*) FROM plant.meters_cold")
        conn.execute(SQL("GRANT SELECT ON plant.open TO {}").format(Identifier(tenants.role)))
        assert conn.execute("SELECT count(*) FROM plant.meters_cold").fetchone() == (2 * ROWS,)
    assert tenants.seen("SELECT * FROM plant.open") == [(2 * ROWS,)]
    bypasses = tenants.store.doctor().around_policies
    assert bypasses == [f"{tenants.role} on plant.meters_cold"]


def test_changes_stay_within_the_policies(tenants: Tenants) -> None:
    """Of compacted rows, too, though segments are turned back into rows for it."""
    others = (
        "SELECT count(*), md5(string_agg(m::text, ',' ORDER BY m::text)) FROM plant.meters m WHERE tenant = 'bravo'"
    )
    with tenants.store.connection() as conn:
        before = conn.execute(others.encode()).fetchall()
    tenants.admin("GRANT UPDATE, DELETE ON plant.meters TO {}")
    tenants.session.execute(LEAK.encode())
    told: list[str] = []
    tenants.session.add_notice_handler(lambda said: told.append(str(said.message_primary)))
    for statement, rows in (
        ("UPDATE plant.meters SET load = 1 WHERE load > 100", 0),
        ("DELETE FROM plant.meters WHERE tenant = 'bravo' OR plant.leak(note)", 2 * ROWS),
    ):
        with tenants.session.transaction(force_rollback=True):
            assert tenants.session.execute(statement.encode()).rowcount == rows, statement
    tenants.refused("UPDATE plant.meters SET tenant = 'bravo' WHERE t < '2024-03-01 00:01Z'")
    tenants.refused("TRUNCATE plant.meters")
    update = "UPDATE plant.meters SET load = load + 1 WHERE t < '2024-03-01 00:01Z' RETURNING tenant"
    assert set(tenants.seen(update)) == {(tenants.role,)}
    assert tenants.session.execute("DELETE FROM plant.meters").rowcount == 2 * ROWS
    assert told
    assert SECRET not in str(told)
    with tenants.store.connection() as conn:
        assert conn.execute(others.encode()).fetchall() == before


def test_functions_that_tell_what_they_see_see_nothing(tenants: Tenants) -> None:
    notices: list[str] = []
    tenants.session.add_notice_handler(lambda said: notices.append(str(said.message_primary)))
    tenants.session.execute(LEAK.encode())
    for name in ("plant.meters", "plant.by_rights", "plant.fenced"):
        tenants.seen(
            f"SELECT count(*) FROM {name} WHERE plant.leak(tenant) AND plant.leak(note) AND plant.leak(load::text)"
        )
        tenants.seen(
            f"SELECT count(*) FROM {name} WHERE tenant > 'b' AND 1 / (load - 123456)::int < 1"
        )  # nor by an error
    for view, column in (
        ("models", "series"),
        ("compaction", "series"),
        ("segments", "series"),
        ("tables", "max_error"),
    ):
        tenants.seen(f"SELECT count(*) FROM ddstore.{view} WHERE plant.leak({column}::text)")
    assert any(tenants.role in notice for notice in notices)
    assert [notice for notice in notices if "bravo" in notice or "12345" in notice] == []


def test_neither_catalog_nor_statistics_name_the_other(tenants: Tenants) -> None:
    for view in ("models", "compaction", "segments", "codings"):
        assert tenants.seen(f"SELECT * FROM ddstore.{view}") == [], view
    for table in ("model", "model_trial", "job", "series_bound", "segment_1"):
        tenants.refused(f"SELECT * FROM ddstore.{table}")
    for view in ("pg_stats", "pg_stats_ext", "ddstore.tables", "pg_stat_user_tables"):
        assert "bravo" not in str(tenants.seen(f"SELECT * FROM {view}")), view
    assert tenants.seen("SELECT * FROM pg_stats WHERE schemaname IN ('plant', 'ddstore')") == []
    with tenants.store.connection() as conn:
        row = conn.execute("SELECT count(*) FROM pg_stats WHERE schemaname = 'plant'").fetchone()
        assert row is not None
        assert row[0] > 4  # there were some to see


def test_explain_tells_of_ones_own_rows_and_of_sizes(tenants: Tenants) -> None:
    """What a plan prunes by a tenant's own condition is counted; whether another's rows exist is not told by it."""
    for condition in ("true", "tenant = 'bravo'", "tenant = 'nobody'"):
        plan = "\n".join(row for (row,) in tenants.seen(f"{EXPLAIN} SELECT * FROM plant.meters WHERE {condition}"))
        assert SECRET not in plan
        assert f"Segments Decoded: {int(condition == 'true')}" in plan
        assert "Segments Total: 2" in plan  # as public as pg_class.relpages


@pytest.fixture
def neighbours(database_url: str, needs_extension: None, ordinary_role: Callable[[str], str]) -> Iterator[Any]:
    """The owner of ``one.t``, who may manage tables, and the superuser's ``two.t``; default privileges are lavish."""
    url = ordinary_role(database_url)
    role = Identifier(str(psycopg.conninfo.conninfo_to_dict(url)["user"]))
    with connect(database_url) as store:
        with store.connection() as conn:
            for statement in (
                "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC",
                "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {}",
                "GRANT CREATE ON DATABASE {db} TO {}",
            ):
                text = statement.replace("{db}", f'"{conn.info.dbname}"')
                conn.execute(SQL(text).format(role))  # type: ignore[arg-type]
        time = START + np.arange(ROWS) * np.timedelta64(1, "s")
        store.create_table("two.t", time="t", key=["k"], columns={"x": Absolute(0.5)})
        store.write({"t": time, "k": ["bravo"] * ROWS, "x": np.arange(ROWS) + 0.0}, table="two.t")
        store.write(Series("bravo", time, np.arange(ROWS) + 0.0))
        assert store.compact(train="never").rows == 2 * ROWS
        with store.connection() as conn:
            conn.execute("REVOKE ALL ON two.t FROM PUBLIC; GRANT USAGE ON SCHEMA two TO PUBLIC; ANALYZE")
            conn.execute(SQL("REVOKE ALL ON two.t FROM {}").format(role))
        with psycopg.connect(url, autocommit=True) as other:
            yield store, other


def test_default_privileges_open_neither_segments_nor_cold_rows(neighbours: Any) -> None:
    _, other = neighbours
    for name in ("two.t", "two.t_cold", "ddstore.segment_1", "ddstore.model", "ddstore.job"):
        with pytest.raises(pg_errors.InsufficientPrivilege):
            other.execute(f"TABLE {name}")
    assert "bravo" not in str(other.execute("SELECT * FROM pg_stats WHERE schemaname = 'two'").fetchall())
    assert other.execute("SELECT * FROM ddstore.segments").fetchall() == []


def test_an_owner_sees_no_other_owners_rows(neighbours: Any) -> None:
    """Foreign tables of one's own, even of the same shape, and children of one's own open nothing."""
    store, other = neighbours
    other.execute("CREATE SCHEMA one; CREATE TABLE one.t (t timestamptz NOT NULL, k text NOT NULL, x float8)")
    with store.connection() as conn:
        store.adopt("one.t", time="t", key=["k"])
        assert conn.execute("SELECT tableowner FROM pg_tables WHERE tablename = 't' AND schemaname = 'one'").fetchone()
    other.execute("INSERT INTO one.t SELECT now() - g * interval '1 s', 'mine', g FROM generate_series(1, 2000) g")
    assert store.compact("one.t", train="never").rows == ROWS
    assert other.execute("SELECT count(*), min(k) FROM one.t").fetchone() == (ROWS, "mine")
    for statement in (
        "ALTER FOREIGN TABLE one.t_cold OPTIONS (SET segments 'ddstore.segment_1')",
        "ALTER FOREIGN TABLE two.t_cold INHERIT one.t",
        "ALTER TABLE ddstore.segment_1 OWNER TO CURRENT_USER",
        "CREATE TABLE one.child () INHERITS (two.t)",
        "UPDATE ddstore.managed_table SET segments = 'ddstore.segment_1' WHERE relation = 'one.t'::regclass",
    ):
        with pytest.raises(pg_errors.InsufficientPrivilege):
            other.execute(statement)
        assert "bravo" not in str(other.execute("SELECT DISTINCT k FROM one.t").fetchall())
