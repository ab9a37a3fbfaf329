"""Functions: labelled truly, and no schema on the search path slips another function or operator under them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import psycopg
import pytest

from ddstore import Absolute
from ddstore import connect as open_store
from ddstore.db.pool import Connection, connect

#: Run by whoever may read the table, with every row: they name the schema of all they use, as the test below shows.
NAMES_SCHEMAS = {"first_of", "first_step", "instant_of", "last_of", "last_step", "locf_step", "value_at", "value_of"}


def test_every_function_fixes_its_search_path(database_url: str) -> None:
    with connect(database_url) as conn:
        loose = conn.execute(
            """SELECT proname::text, prosecdef FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
               WHERE pronamespace = 'ddstore'::regnamespace AND lanname IN ('sql', 'plpgsql') AND prosqlbody IS NULL
                 AND NOT coalesce(proconfig && ARRAY['search_path=pg_catalog, pg_temp'], false)"""
        ).fetchall()
        assert {name for name, _ in loose} <= NAMES_SCHEMAS
        assert not any(definer for _, definer in loose)


def test_labels_say_no_more_than_is_true(database_url: str) -> None:
    """What reads tables or asks the library is not immutable; what opens companions is not parallel safe."""
    with connect(database_url) as conn:
        labels = dict(
            conn.execute(
                """SELECT proname::text, min(provolatile::text || proparallel::text) FROM pg_proc
                   WHERE pronamespace = 'ddstore'::regnamespace GROUP BY 1
                   HAVING min(provolatile::text || proparallel::text) = max(provolatile::text || proparallel::text)"""
            ).fetchall()
        )
    read = {
        name: labels[name]
        for name in ("list_segments", "list_codings", "range_agg", "extension_version")
        if name in labels
    }
    assert (
        read.items()
        <= {"list_segments": "su", "list_codings": "su", "range_agg": "sr", "extension_version": "ss"}.items()
    )
    assert {name for name, label in labels.items() if label == "is"} >= NAMES_SCHEMAS | {"time_bucket", "first", "last"}


TRAPS = """
CREATE SCHEMA evil;
DO $$
DECLARE
    found record;
    types text[] := ARRAY['int', 'bigint', 'numeric', 'interval', 'timestamp', 'timestamptz', 'text', 'float8'];
    a text; b text; name text;
BEGIN
    FOREACH a IN ARRAY types LOOP FOREACH b IN ARRAY types LOOP
        EXECUTE format('CREATE FUNCTION evil.trap(%1$s, %2$s) RETURNS %1$s LANGUAGE plpgsql AS '
                       '''BEGIN RAISE EXCEPTION ''''sprung''''; END''', a, b);
        EXECUTE format('CREATE FUNCTION evil.trapped(%1$s, %2$s) RETURNS bool LANGUAGE plpgsql AS '
                       '''BEGIN RAISE EXCEPTION ''''sprung''''; END''', a, b);
        FOREACH name IN ARRAY ARRAY['+', '-', '*', '/', '%', '&', '|', '<<', '>>', '||', '->>'] LOOP
            EXECUTE format('CREATE OPERATOR evil.%s (FUNCTION = evil.trap, LEFTARG = %s, RIGHTARG = %s)', name, a, b);
        END LOOP;
        FOREACH name IN ARRAY ARRAY['=', '<>', '<', '>', '<=', '>=', '~'] LOOP
            EXECUTE format('CREATE OPERATOR evil.%s (FUNCTION = evil.trapped, LEFTARG = %s, RIGHTARG = %s)',
                           name, a, b);
        END LOOP;
    END LOOP; END LOOP;
    -- The functions of PostgreSQL that ours call, with the very same arguments.
    FOR found IN
        SELECT proname, pg_get_function_identity_arguments(oid) AS arguments, proretset,
               pg_get_function_result(oid) AS result
        FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND proname = ANY (ARRAY[
            'array_lower', 'array_fill', 'isfinite', 'extract', 'date_part', 'date_trunc', 'make_interval', 'age',
            'date_bin', 'timezone', 'has_table_privilege', 'row_security_active', 'format_type', 'quote_ident',
            'jsonb_typeof', 'jsonb_array_length', 'jsonb_array_elements_text', 'pg_options_to_table', 'octet_length',
            'pg_column_size', 'jsonb_build_array', 'substr', 'get_byte', 'pg_total_relation_size', 'format'])
          AND pg_get_function_result(oid) || pg_get_function_identity_arguments(oid) !~ 'any|record'
    LOOP
        EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS '
                       '''BEGIN RAISE EXCEPTION ''''sprung''''; END''',
                       found.proname, found.arguments, found.result);
    END LOOP;
END
$$;
CREATE FUNCTION evil.array_lower(anyarray, int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''sprung''; END';
"""

CALLS = (
    "SELECT ddstore.time_bucket('5 min', '2024-03-01 00:07Z'::timestamptz)",
    "SELECT ddstore.time_bucket('1 month', '2024-03-07'::timestamp)",
    "SELECT ddstore.time_bucket('2 years', '2024-03-07 00:00Z'::timestamptz)",
    "SELECT ddstore.time_bucket(10, v) FROM (VALUES (37::bigint), (-3)) AS x (v)",
    "SELECT ddstore.first(bpm, t), ddstore.last(note, t) FROM ward.pulse",
    "SELECT ddstore.last(bpm, t) FILTER (WHERE true) OVER (PARTITION BY note) FROM ward.pulse LIMIT 1",
    "SELECT * FROM ddstore.range_agg('ward.pulse', 'bpm', '[\"x\"]', '2024-03-01 00:01Z'::timestamptz, NULL)",
    "SELECT * FROM ddstore.time_bucket_gapfill("
    "'7 min', 'ward.pulse', 'bpm', '[\"x\"]', '2024-03-01 00:01Z'::timestamptz, '2024-03-01 01:00Z')",
    "SELECT * FROM ddstore.buckets('1 month', '2024-03-01'::timestamp, '2025-01-01')",
    "SELECT * FROM ddstore.buckets(5, 3, 90)",
    "SELECT ddstore.interpolate(ddstore.knot(1, 10::bigint), ddstore.knot(2, 20::bigint), 15)",
    "SELECT ddstore.locf(note) FROM ward.pulse",
    "SELECT * FROM ddstore.segments",
    "SELECT * FROM ddstore.codings",
    "SELECT * FROM ddstore.models",
    "SELECT * FROM ddstore.compaction",
    "SELECT * FROM ddstore.tables",
)


@pytest.fixture
def trapped(database_url: str, needs_extension: None) -> Iterator[Connection]:
    time = np.datetime64("2024-03-01T00:00:00", "us") + np.arange(2000) * np.timedelta64(1, "s")
    with open_store(database_url) as store:
        store.create_table("ward.pulse", time="t", key=["patient"], columns={"bpm": Absolute(0.5), "note": Absolute(1)})
        rows = {"t": time, "patient": ["x"] * 2000, "bpm": np.arange(2000) % 60 + 0.5, "note": np.arange(2000) + 0.5}
        store.write(rows, table="ward.pulse")
        store.compact(train="never")
        with store.connection() as conn:
            yield conn


def test_nothing_on_the_search_path_is_run(trapped: Connection) -> None:
    expected = [trapped.execute(call.encode()).fetchall() for call in CALLS]
    trapped.execute(TRAPS.encode())
    trapped.execute("SET search_path = evil, pg_catalog")
    with pytest.raises(Exception, match="sprung"), trapped.transaction():
        trapped.execute("SELECT 1 + 1")
    for call, rows in zip(CALLS, expected, strict=True):
        assert trapped.execute(call.encode()).fetchall() == rows, call


def test_only_rows_that_are_there_are_moved(conn: Connection, needs_extension: None) -> None:
    """Whatever places are given: no crash, and no row gone that a DELETE would not have taken."""
    conn.execute("CREATE TABLE t (v int)")
    conn.execute("INSERT INTO t SELECT generate_series(1, 100)")
    conn.execute("DELETE FROM t WHERE v = 7")
    conn.execute("CREATE TABLE watched (v int)")
    conn.execute("INSERT INTO watched VALUES (1)")
    conn.execute("CREATE TRIGGER x BEFORE DELETE ON watched EXECUTE FUNCTION suppress_redundant_updates_trigger()")
    conn.commit()
    for relation, places in (
        ("t", '{"(0,7)"}'),
        ("t", '{"(0,0)"}'),
        ("t", '{"(0,101)"}'),
        ("t", '{"(0,65535)"}'),
        ("t", '{"(1,1)"}'),
        ("t", '{"(4294967295,1)"}'),
        ("t", "{NULL}"),
        ("t", '{"(0,1)","(0,1)"}'),
        ("pg_class", '{"(0,1)"}'),
        ("ddstore.tables", '{"(0,1)"}'),
        ("watched", '{"(0,1)"}'),
    ):
        with pytest.raises(psycopg.Error):
            conn.execute("SELECT ddstore.move_rows(%s::regclass, %s::tid[])", (relation, places))
        conn.rollback()
    assert conn.execute("SELECT ddstore.move_rows('t'::regclass, '{\"(0,1)\",\"(0,2)\"}')").fetchone() == (2,)
    assert conn.execute("SELECT count(*), min(v) FROM t").fetchone() == (97, 3)
