"""Adopting tables as they are found: everything that hangs on a table survives, and rows come back to the byte."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import psycopg
import pytest
from psycopg import errors as pg_errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from ddstore import Absolute, Store, connect
from ddstore.errors import InvalidSeries, SchemaMismatch

TABLE = """
    CREATE SCHEMA "Old Plant";
    CREATE DOMAIN "Old Plant".percent AS float8 CHECK (VALUE BETWEEN 0 AND 100);
    CREATE TYPE "Old Plant"."State" AS ENUM ('on', 'off');
    CREATE TABLE "Old Plant".device (name text PRIMARY KEY);
    INSERT INTO "Old Plant".device VALUES ('a'), ('b');
    CREATE TABLE "Old Plant"."Log" (
        id bigint GENERATED ALWAYS AS IDENTITY,
        "Number" serial,
        device text NOT NULL DEFAULT 'a' REFERENCES "Old Plant".device,
        "At" timestamptz NOT NULL DEFAULT now(),
        temp float8,
        load "Old Plant".percent,
        state "Old Plant"."State" DEFAULT 'on',
        n int CONSTRAINT sane CHECK (n >= 0),
        fahrenheit float8 GENERATED ALWAYS AS (temp * 1.8 + 32) STORED,
        shout text GENERATED ALWAYS AS (upper(device)) STORED,
        touched timestamptz,
        PRIMARY KEY (device, "At"),
        UNIQUE (id));
    CREATE INDEX ON "Old Plant"."Log" USING hash (device);
    CREATE INDEX ON "Old Plant"."Log" USING brin ("At");
    CREATE INDEX ON "Old Plant"."Log" (lower(device)) WHERE temp > 0;
    COMMENT ON TABLE "Old Plant"."Log" IS 'the log';
    CREATE FUNCTION "Old Plant".touch() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN NEW.touched := clock_timestamp(); RETURN NEW; END';
    CREATE TRIGGER touch BEFORE INSERT ON "Old Plant"."Log" FOR EACH ROW EXECUTE FUNCTION "Old Plant".touch();
    CREATE TRIGGER always BEFORE INSERT ON "Old Plant"."Log" FOR EACH ROW EXECUTE FUNCTION "Old Plant".touch();
    CREATE TRIGGER never BEFORE INSERT ON "Old Plant"."Log" FOR EACH ROW EXECUTE FUNCTION "Old Plant".touch();
    ALTER TABLE "Old Plant"."Log" ENABLE ALWAYS TRIGGER always, DISABLE TRIGGER never, ENABLE ROW LEVEL SECURITY;
    CREATE POLICY mine ON "Old Plant"."Log" FOR SELECT USING (device = 'a');
"""
NAME = '"Old Plant"."Log"'


def _fill(store: Store, first: int, last: int) -> None:
    with store.connection() as conn:
        conn.execute(
            f"""INSERT INTO {NAME} (device, "At", temp, load, state, n)
                SELECT CASE g % 2 WHEN 0 THEN 'a' ELSE 'b' END, timestamptz '2024-01-01' + g * interval '1 s',
                       round((20 + sin(g / 50.0))::numeric, 2), g % 101, CASE WHEN g % 7 = 0 THEN 'off' ELSE 'on' END::
                       "Old Plant"."State", g
                FROM generate_series({first}, {last}) AS g""".encode()
        )


def _what_hangs_on_it(store: Store) -> list[object]:
    queries = (
        "SELECT indexdef FROM pg_indexes WHERE tablename = 'Log' AND indexname !~ '^ddstore_' ORDER BY 1",
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = '{}'::regclass ORDER BY 1",
        "SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = '{}'::regclass ORDER BY 1",
        "SELECT attname, attidentity, attgenerated, attacl, pg_get_expr(adbin, adrelid) FROM pg_attribute"
        " LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
        " WHERE attrelid = '{}'::regclass AND attnum > 0 ORDER BY attnum",
        "SELECT relacl, relrowsecurity, obj_description(oid) FROM pg_class WHERE oid = '{}'::regclass",
        "SELECT polname FROM pg_policy WHERE polrelid = '{}'::regclass",
        "SELECT pg_get_serial_sequence('{}', 'Number')",
    )
    with store.connection() as conn:
        return [conn.execute(query.replace("{}", NAME).encode()).fetchall() for query in queries]


def test_everything_survives(needs_extension: None, database_url: str, ordinary_role: Callable[[str], str]) -> None:
    url = ordinary_role(database_url)
    role = Identifier(str(conninfo_to_dict(url)["user"]))
    with connect(database_url) as store:
        with store.connection() as conn:
            conn.execute(TABLE.encode())
            conn.execute(SQL('GRANT USAGE ON SCHEMA "Old Plant" TO {}').format(role))
            conn.execute(
                SQL('GRANT SELECT (device, "At", temp), INSERT (temp) ON "Old Plant"."Log" TO {}').format(role)
            )
        _fill(store, 1, 2000)
        before = _what_hangs_on_it(store)
        store.adopt(NAME, time="At", key=["device"], min_rows=1, segment_rows=256)
        with store.connection() as conn:
            conn.execute(f"CREATE TABLE truth AS TABLE {NAME}".encode())

        def same() -> None:
            with store.connection() as conn:
                ours, truth = (
                    conn.execute(f"SELECT x::text FROM {name} AS x ORDER BY id".encode()).fetchall()
                    for name in (NAME, "truth")
                )
            assert ours == truth

        report = store.compact(train="never")
        assert (report.rows, report.failed) == (2000, [])
        same()
        assert store.verify().ok
        with psycopg.connect(url, autocommit=True) as other:  # its rows and columns, cold as well
            assert other.execute(f"SELECT DISTINCT device, count(temp) FROM {NAME} GROUP BY 1".encode()).fetchall() == [
                ("a", 1000)
            ]
            with pytest.raises(pg_errors.InsufficientPrivilege):
                other.execute(f"SELECT n FROM {NAME}".encode())
        # Values are what they were, except that sequences went on.
        _fill(store, 2001, 2100)
        with store.connection() as conn:
            conn.execute(f"INSERT INTO truth SELECT * FROM ONLY {NAME}".encode())
            assert conn.execute('SELECT max(id), max("Number") FROM truth').fetchall() == [(2100, 2100)]
        store.compact(train="never")
        same()
        frame = store.read(table=NAME, columns=["load", "state", "fahrenheit", "shout"])
        assert set(frame.columns["shout"].tolist()) == {"A", "B"}
        assert store.release(NAME).rows == 2100
        same()
        assert _what_hangs_on_it(store) == before


def test_generated_columns_of_lossy_ones(needs_extension: None, database_url: str) -> None:
    """They keep what they were; a release computes them from what the others have become."""
    with connect(database_url) as store:
        with store.connection() as conn:
            conn.execute(
                """CREATE TABLE m (t timestamptz NOT NULL, x float8, y float8 GENERATED ALWAYS AS (x * 2) STORED,
                                   n int CONSTRAINT sane CHECK (n > 0))"""
            )
            conn.execute(
                """INSERT INTO m SELECT timestamptz '2024-01-01' + g * interval '1 s', sqrt(g)
                   FROM generate_series(1, 100) AS g"""
            )
            conn.execute("CREATE TABLE truth AS TABLE m")
        store.adopt("m", time="t", max_error={"x": Absolute(0.1)}, min_rows=1)
        assert store.compact(train="never").rows == 100

        def counts() -> list[tuple[int, ...]]:
            query = """SELECT count(*) FILTER (WHERE y IN (SELECT y FROM truth)), count(*) FILTER (WHERE y = 2 * x),
                              count(*) FILTER (WHERE x IN (SELECT x FROM truth)) FROM m"""
            with store.connection() as conn:
                return conn.execute(query).fetchall()

        ((same, computed, exact),) = counts()
        assert same == 100
        assert computed == exact < 100
        data = {"t": np.array(["2025-01-01"], "M8[us]"), "x": [1.0], "n": [-1]}
        with pytest.raises(InvalidSeries, match="sane"):
            store.write(data, table="m")
        with pytest.raises(SchemaMismatch, match="generated column"):
            store.write(data | {"y": [2.0]}, table="m")
        assert store.write(data | {"n": [1]}, table="m").rows == 1
        assert store.read(table="m", start="2025-01-01", columns=["y"]).columns["y"].tolist()[-1] == 2.0
        store.release("m")
        assert counts()[0][1] == 101


def test_a_virtual_column_is_refused(database_url: str) -> None:
    with connect(database_url) as store:
        with store.connection() as conn:
            if conn.info.server_version < 180000:
                pytest.skip("PostgreSQL 18 has virtual generated columns")
            conn.execute("CREATE TABLE m (t timestamptz NOT NULL, x float8, y float8 GENERATED ALWAYS AS (x * 2))")
        with pytest.raises(SchemaMismatch, match="virtual generated column"):
            store.adopt("m", time="t")
