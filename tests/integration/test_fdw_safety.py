"""Damage, other transactions, other people, cancelled and endless use: nothing crashes, nothing leaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.sql import SQL, Literal

from ddstore.db.pool import connect


def _small(cold_table: Callable[..., Any], segments: int = 4) -> Any:
    made = cold_table({"device": "text"}, {"v": "float8", "note": "text"})
    for part in range(segments):
        time = (np.arange(50, dtype=np.int64) + 50 * part) * 1_000_000
        made.cold(["a"], time, {"v": np.round(np.sin(np.arange(50.0)), 3).tolist(), "note": ["x"] * 50})
    return made


def _value_column(made: Any, name: str) -> str:
    return f"c{made.table.columns[name].id}"


@pytest.mark.parametrize("column", ["time", "residual"])
def test_any_damaged_byte_is_reported_and_the_server_stays_up(cold_table: Callable[..., Any], column: str) -> None:
    made = _small(cold_table)
    conn = made.conn
    name = "time" if column == "time" else f"{_value_column(made, 'v')}_residual"
    segments = made.table.segments_identifier
    (data,) = conn.execute(SQL("SELECT {} FROM {} WHERE id = 2").format(SQL(name), segments)).fetchone()
    (pid,) = conn.execute("SELECT pg_backend_pid()").fetchone()
    conn.execute("SAVEPOINT s")
    rng = np.random.default_rng(1)
    damaged = [data[:cut] for cut in range(0, len(data), 7)] + [data + b"\0"]
    damaged += [data[:i] + bytes([data[i] ^ (1 << rng.integers(8))]) + data[i + 1 :] for i in range(len(data))]
    for bad in damaged:
        conn.execute(SQL("UPDATE {} SET {} = {} WHERE id = 2").format(segments, SQL(name), Literal(bad)))
        with pytest.raises((psycopg.errors.DataCorrupted, psycopg.errors.FeatureNotSupported)) as caught:
            conn.execute("SELECT v, time FROM plant.sensors").fetchall()
        assert f'segment 2 of table "segment_{made.table.id}"' in str(caught.value)
        assert f'column "{name}"' in str(caught.value)
        assert caught.value.diag.message_hint is not None
        conn.execute("ROLLBACK TO s")
    conn.execute(SQL("UPDATE {} SET {} = '' WHERE id = 2").format(segments, SQL(name)))
    where = "time >= timestamptz '2000-01-01 00:01:40 UTC'"  # the segments after it
    assert conn.execute(f"SELECT count(v) FROM plant.sensors WHERE {where}").fetchone() == (100,)
    assert conn.execute("SELECT pg_backend_pid()").fetchone() == (pid,)


@pytest.mark.parametrize(
    "change",
    [
        "n = 49",
        "n = 51",
        "n = 2147483647",
        "n = 1048577",
        "n = 1048576",
        "t_min = t_min - interval '1 s'",
        "t_max = t_max + interval '1 s'",
        "{note}_array = ARRAY['x']",
        "{note}_array = '{{}}'",
        "{note}_array = array_fill('x'::text, ARRAY[5, 10])",
        "{v}_residual = time",
        "time = {v}_residual",
    ],
)
def test_a_row_that_contradicts_its_bytes_is_reported(cold_table: Callable[..., Any], change: str) -> None:
    made = _small(cold_table)
    change = change.format(v=_value_column(made, "v"), note=_value_column(made, "note"))
    made.conn.execute(SQL("UPDATE {} SET {} WHERE id = 3").format(made.table.segments_identifier, SQL(change)))
    with pytest.raises(psycopg.errors.DataCorrupted, match="segment 3 of table"):
        made.conn.execute("SELECT * FROM plant.sensors")


def test_a_missing_or_damaged_model_is_reported(cold_table: Callable[..., Any]) -> None:
    made = _small(cold_table)
    conn = made.conn
    column = made.table.columns["v"]
    conn.execute(
        "INSERT INTO ddstore.model (table_id, column_id, series_key, bytes) VALUES (%s, %s, '[]', '\\x00')",
        (made.table.id, column.id),
    )
    update = SQL("UPDATE {} SET {} = (SELECT max(id) FROM ddstore.model) WHERE id = 1").format(
        made.table.segments_identifier, SQL(f"c{column.id}_model")
    )
    conn.execute(update)
    conn.commit()
    with pytest.raises(psycopg.errors.DataCorrupted, match=rf'segment 1 .* column "c{column.id}_model"'):
        conn.execute("SELECT * FROM plant.sensors")
    conn.rollback()
    conn.execute("SET session_replication_role = replica")  # past the foreign key
    conn.execute("DELETE FROM ddstore.model")
    with pytest.raises(psycopg.errors.DataCorrupted, match="model does not exist"):
        conn.execute("SELECT * FROM plant.sensors")


def test_a_moving_row_is_seen_exactly_once(cold_table: Callable[..., Any], database_url: str) -> None:
    made = cold_table({"device": "text"}, {"v": "int4"})
    time = np.arange(100, dtype=np.int64) * 1_000_000
    made.hot(["a"], time, {"v": list(range(100))})
    made.conn.commit()
    count = "SELECT count(*), sum(v) FROM plant.sensors"
    with (
        connect(database_url) as repeatable,
        connect(database_url) as committed,
        committed.cursor(name="before") as cursor,
    ):
        repeatable.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        assert repeatable.execute(count).fetchone() == (100, 4950)
        cursor.execute("SELECT v FROM plant.sensors")
        seen = cursor.fetchmany(10)
        made.conn.execute("DELETE FROM ONLY plant.sensors")
        assert committed.execute(count).fetchone() == (100, 4950)
        made.cold(["a"], time, {"v": list(range(100))}, known=False)
        assert made.conn.execute(count).fetchone() == (100, 4950)  # its own changes
        assert committed.execute(count).fetchone() == (100, 4950)
        made.conn.commit()
        assert committed.execute(count).fetchone() == (100, 4950)
        assert repeatable.execute(count).fetchone() == (100, 4950)
        assert sorted(seen + cursor.fetchall()) == [(v,) for v in range(100)]
        assert committed.execute("SELECT count(*) FROM ONLY plant.sensors").fetchone() == (0,)
        assert repeatable.execute("SELECT count(*) FROM ONLY plant.sensors").fetchone() == (100,)


def test_nothing_is_inserted_into_the_cold_table(sensors: Any) -> None:
    conn = sensors.conn
    conn.execute("SAVEPOINT s")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="compacted") as caught:
        conn.execute("INSERT INTO plant.sensors_cold (time) VALUES (now())")
    assert caught.value.diag.message_hint is not None
    conn.execute("ROLLBACK TO s")
    with (
        pytest.raises(psycopg.errors.FeatureNotSupported),
        conn.cursor().copy("COPY plant.sensors_cold (time) FROM STDIN") as copy,
    ):
        copy.write_row(["2020-01-01"])


def test_rights_are_those_on_the_managed_table(
    sensors: Any, database_url: str, ordinary_role: Callable[[str], str]
) -> None:
    conn = sensors.conn
    url = ordinary_role(database_url)
    role = psycopg.conninfo.conninfo_to_dict(url)["user"]
    conn.execute(SQL("GRANT USAGE ON SCHEMA plant TO {0}; GRANT CREATE ON SCHEMA plant TO {0}").format(SQL(str(role))))
    conn.commit()
    with connect(url, autocommit=True) as other:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            other.execute("SELECT * FROM plant.sensors")
        conn.execute(SQL("GRANT SELECT ON plant.sensors TO {}").format(SQL(str(role))))
        conn.commit()
        assert other.execute("SELECT count(temp) FROM plant.sensors").fetchone() == (2079,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            other.execute("SELECT * FROM plant.sensors_cold")
        # A foreign table of one's own does not open other people's segments.
        other.execute(
            "CREATE FOREIGN TABLE plant.peek (t timestamptz OPTIONS (segment_column 'time')) SERVER ddstore"
            f" OPTIONS (segments 'ddstore.segment_{sensors.table.id}')"
        )
        for statement in ("SELECT * FROM plant.peek", "ANALYZE plant.peek", "EXPLAIN SELECT * FROM plant.peek"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                other.execute(statement)
        other.execute("DROP FOREIGN TABLE plant.peek")


def test_row_security_of_the_managed_table_holds_for_cold_rows(
    sensors: Any, database_url: str, ordinary_role: Callable[[str], str]
) -> None:
    conn = sensors.conn
    url = ordinary_role(database_url)
    role = SQL(str(psycopg.conninfo.conninfo_to_dict(url)["user"]))
    conn.execute("ALTER TABLE plant.sensors ENABLE ROW LEVEL SECURITY")
    conn.execute("CREATE POLICY p ON plant.sensors USING (device = 'a')")
    conn.execute(SQL("GRANT USAGE ON SCHEMA plant TO {0}; GRANT SELECT ON plant.sensors TO {0}").format(role))
    conn.commit()
    with connect(url) as other:
        assert other.execute("SELECT count(*), max(device) FROM plant.sensors").fetchone() == (700, "a")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ("segments 'a.b', other '1'", psycopg.errors.FdwInvalidOptionName),
        ("other '1'", psycopg.errors.FdwInvalidOptionName),
        ("segments 'b'", psycopg.errors.FdwInvalidAttributeValue),
        ("segments 'a.b.c'", psycopg.errors.FdwInvalidAttributeValue),
        ("segments 'a b'", psycopg.errors.InvalidName),
        ("", psycopg.errors.FdwOptionNameNotFound),
    ],
)
def test_options_are_checked(conn: Any, needs_extension: None, options: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        conn.execute(f"CREATE FOREIGN TABLE f (t int8) SERVER ddstore {f'OPTIONS ({options})' if options else ''}")


def test_wrong_segment_tables_are_refused(sensors: Any) -> None:
    conn = sensors.conn
    conn.execute("CREATE TABLE plant.plain (id int8, t_min timestamptz, t_max timestamptz, n int8, time bytea)")
    conn.execute("CREATE VIEW plant.seen AS SELECT * FROM plant.plain")
    time = "time timestamptz OPTIONS (segment_column 'time')"
    for columns, segments, message in (
        (time, "plant.nothing", "does not exist"),
        (time, "plant.seen", "not an ordinary table"),
        (time, "plant.plain", '"n" of segment table "plain" has type bigint, but integer is needed'),
        ("time timestamptz", "plant.plain", "needs a time column"),
        ("time date OPTIONS (segment_column 'time')", "plant.plain", "needs a time column"),
        (f"{time}, k text OPTIONS (segment_column 'k9')", "plant.plain", 'no column "k9"'),
        (f"{time}, k point OPTIONS (segment_column 'c9')", "plant.plain", 'no column "c9_array"'),
    ):
        conn.execute("SAVEPOINT s")
        conn.execute(f"CREATE FOREIGN TABLE f ({columns}) SERVER ddstore OPTIONS (segments '{segments}')")
        with pytest.raises(psycopg.Error, match=message):
            conn.execute("SELECT * FROM f")
        conn.execute("ROLLBACK TO s")
    with pytest.raises(psycopg.errors.FdwInvalidAttributeValue):
        conn.execute(
            "CREATE FOREIGN TABLE f (t int8 OPTIONS (segment_column 'x1')) SERVER ddstore OPTIONS (segments 'a.x')"
        )


def test_a_query_can_be_cancelled(sensors: Any) -> None:
    sensors.conn.execute("SET LOCAL statement_timeout = '300ms'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        sensors.conn.execute(
            "SELECT count(*) FROM plant.sensors_cold a, plant.sensors_cold b, plant.sensors_cold c"
            " WHERE a.temp < b.temp"
        )


def test_memory_stays_flat_over_thousands_of_queries(sensors: Any) -> None:
    conn = sensors.conn
    used = "SELECT sum(used_bytes) FROM pg_backend_memory_contexts"
    query = (
        "DO $$ BEGIN FOR i IN 1..%s LOOP PERFORM sum(temp), max(state) FROM plant.sensors WHERE device = 'a'"
        " AND time < timestamptz '2000-01-01 UTC' + (i %% 100) * interval '1 min'; END LOOP; END $$"
    )
    conn.execute(query % 200)
    (before,) = conn.execute(used).fetchone()
    conn.execute(query % 5000)
    (after,) = conn.execute(used).fetchone()
    assert after - before < 300_000


def test_memory_stays_flat_over_segments_and_rescans(sensors: Any) -> None:
    conn = sensors.conn
    used = "SELECT sum(used_bytes) FROM pg_backend_memory_contexts"
    with conn.cursor(name="many") as cursor:
        cursor.execute(
            "SELECT x.state FROM generate_series(1, 4000) g, LATERAL (SELECT * FROM plant.sensors_cold"
            " WHERE device = ANY (ARRAY['a', 'b']) AND time = timestamptz '2000-01-01 UTC' + g * 37 % 600"
            " * interval '10 s' OFFSET 0) x"
        )
        cursor.fetchmany(500)
        (before,) = conn.execute(used).fetchone()
        assert len(cursor.fetchmany(6000)) == 6000
        (after,) = conn.execute(used).fetchone()
    assert after - before < 300_000
