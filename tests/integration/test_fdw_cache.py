"""Decoded segments are kept for the next query, within a limit, and never shown for anything but what they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from ddstore.db.pool import connect

T0 = "timestamptz '2000-01-01 00:00 UTC'"
FIRST = f"device = 'a' AND time < {T0} + interval '500 s'"


def _counts(plan: dict[str, Any]) -> tuple[int, int, int]:
    return plan["Segments Decoded"], plan["Cache Hits"], plan["Rows Decoded"]


def _kept_bytes(conn: Any) -> int:
    (size,) = conn.execute(
        "SELECT coalesce(sum(used_bytes), 0)::bigint FROM pg_backend_memory_contexts"
        " WHERE name = 'ddstore segment cache'"
    ).fetchone()
    return int(size)


def test_what_was_decoded_is_not_decoded_again(sensors: Any) -> None:
    query = "SELECT * FROM plant.sensors_cold WHERE device = 'a'"
    assert _counts(sensors.explain(query)) == (6, 0, 600)
    assert _counts(sensors.explain(query)) == (0, 6, 0)
    assert sensors.differences("device = 'a'") == []
    # Of another segment a column that nobody asked for is missing.
    sensors.explain("SELECT temp FROM plant.sensors_cold WHERE device = 'b'")
    assert _counts(sensors.explain("SELECT temp, rpm FROM plant.sensors_cold WHERE device IN ('a', 'b')")) == (
        6,
        6,
        600,
    )
    assert sensors.differences() == []
    assert sensors.differences() == []


def test_a_segment_decoded_in_part_is_decoded_whole_when_more_is_asked_for(sensors: Any) -> None:
    query = f"SELECT temp, state FROM plant.sensors_cold WHERE {FIRST}"
    assert _counts(sensors.explain(query)) == (1, 0, 50)
    assert _counts(sensors.explain(query.replace("500 s", "490 s"))) == (0, 1, 0)
    assert _counts(sensors.explain(query.replace("500 s", "510 s"))) == (1, 0, 100)
    assert _counts(sensors.explain(query.replace("500 s", "999 s"))) == (0, 1, 0)
    assert sensors.differences(FIRST, "temp, state") == []


def test_the_cache_has_a_limit_and_can_be_turned_off(sensors: Any) -> None:
    conn = sensors.conn
    conn.execute("SET ddstore.segment_cache = '100kB'")
    for _ in range(3):
        assert sensors.differences() == []
        for series in ("a", "b"):
            assert sensors.differences(f"device = '{series}'") == []
    full = _kept_bytes(conn)
    assert 90_000 < full < 200_000
    assert sensors.explain("SELECT * FROM plant.sensors_cold")["Cache Hits"] < 18
    conn.execute("SET ddstore.segment_cache = 0")
    assert _kept_bytes(conn) < 45_000  # what finds the entries stays
    for _ in range(2):
        assert _counts(sensors.explain("SELECT temp FROM plant.sensors_cold WHERE device = 'a'")) == (6, 0, 600)
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        conn.execute("SET ddstore.segment_cache = -1")


def test_a_scan_goes_on_with_what_the_cache_lent_it(sensors: Any) -> None:
    conn = sensors.conn
    query = "SELECT device, time, state, temp FROM plant.sensors_cold WHERE device = 'a' ORDER BY device"
    expected = conn.execute(query).fetchall()
    conn.execute(f"DECLARE c CURSOR FOR {query}")
    got = conn.execute("FETCH 150 FROM c").fetchall()
    conn.execute("SET ddstore.segment_cache = 0")  # drives out the segment that the cursor is in
    got += conn.execute("FETCH 100 FROM c").fetchall()
    conn.execute("SET ddstore.segment_cache = '1MB'")
    assert got + conn.execute("FETCH ALL FROM c").fetchall() == expected
    for _ in range(3):  # an error in the middle of a segment lets go of it
        with pytest.raises(psycopg.errors.DivisionByZero), conn.transaction():
            conn.execute("SELECT 1 / (rpm - rpm) FROM plant.sensors_cold")
    conn.execute("CLOSE c")
    conn.execute("SET ddstore.segment_cache = 0")
    assert _kept_bytes(conn) < 45_000  # what finds the entries stays


def test_changed_segments_are_never_taken_from_the_cache(sensors: Any) -> None:
    """Whoever writes to a segment table, in whatever way: the same id, the same place, undone, emptied, made again."""
    conn, segments = sensors.conn, sensors.table.segments_identifier
    temp = f"c{sensors.table.columns['temp'].id}_residual"
    query = "SELECT sum(temp::numeric) FROM plant.sensors_cold WHERE device = 'a'"

    def fresh() -> tuple[Any, Any]:
        """The sum, and what it is without a cache."""
        found = conn.execute(query).fetchone()[0]
        conn.execute("SET LOCAL ddstore.segment_cache = 0")
        truth = conn.execute(query).fetchone()[0]
        conn.execute("SET LOCAL ddstore.segment_cache = '16MB'")
        return found, truth

    seen = {fresh()[1]}
    conn.execute(SQL("CREATE TEMP TABLE others AS SELECT * FROM {}").format(segments))
    swap = SQL("UPDATE {s} AS s SET {t} = (SELECT {t} FROM others AS o WHERE o.id = s.id + %s) WHERE id = 2").format(
        s=segments, t=Identifier(temp)
    )
    for shift in (1, 2, 3):
        conn.execute("SAVEPOINT s")
        conn.execute(swap, [shift])
        found, truth = fresh()
        assert found == truth
        assert truth not in seen
        seen.add(truth)
        conn.execute("ROLLBACK TO s")
        found, truth = fresh()
        assert found == truth
    conn.commit()
    again = SQL("INSERT INTO {} OVERRIDING SYSTEM VALUE SELECT * FROM others ORDER BY {}")
    for order in ("id", "id DESC", "id % 5"):
        conn.execute(SQL("TRUNCATE {}").format(segments))
        assert fresh() == (None, None)
        conn.execute(again.format(segments, SQL(order)))
        conn.execute(swap, [4])
        found, truth = fresh()
        assert found == truth
    conn.rollback()
    with connect(conn.info.dsn) as other:
        for shift in (1, 2):
            other.execute("CREATE TEMP TABLE IF NOT EXISTS others AS SELECT * FROM " + segments.as_string(other))
            other.execute(swap, [shift])
            other.commit()
            found, truth = fresh()
            assert found == truth
            conn.commit()
    conn.execute(SQL("DELETE FROM {} WHERE id = 2").format(segments))
    found, truth = fresh()
    assert found == truth


def test_a_table_made_again_shows_its_own_rows(cold_table: Callable[..., Any]) -> None:
    made = cold_table({}, {"v": "float8"}, "int8")
    conn = made.conn
    for value in (1.0, 2.0, 3.0):
        made.cold([], np.arange(10, dtype=np.int64), {"v": [value] * 10}, known=False)
        assert conn.execute("SELECT sum(v) FROM plant.sensors").fetchone() == (10 * value,)
        conn.execute(SQL("DELETE FROM {}").format(made.table.segments_identifier))
    # Another table over the same segments, whose columns mean something else.
    conn.execute(
        SQL(
            "CREATE FOREIGN TABLE other (at int8 OPTIONS (segment_column 'time'), v int8 OPTIONS (segment_column {}))"
            " SERVER ddstore OPTIONS (segments {})"
        ).format(f"c{made.table.columns['v'].id}", f"ddstore.segment_{made.table.id}")
    )
    made.cold([], np.arange(10, dtype=np.int64), {"v": [4.0] * 10}, known=False)
    assert conn.execute("SELECT sum(v) FROM plant.sensors").fetchone() == (40.0,)
    with pytest.raises(psycopg.errors.DatatypeMismatch):
        conn.execute("SELECT sum(v) FROM other")


def test_the_right_to_read_is_asked_for_every_time(sensors: Any, ordinary_role: Callable[[str], str]) -> None:
    conn = sensors.conn
    role = Identifier(psycopg.conninfo.conninfo_to_dict(ordinary_role(conn.info.dsn))["user"])
    query = "SELECT count(temp) FROM plant.sensors_cold"
    with conn.transaction(force_rollback=True):
        conn.execute(SQL("GRANT USAGE ON SCHEMA plant, ddstore TO {}").format(role))
        conn.execute(SQL("GRANT SELECT ON ALL TABLES IN SCHEMA plant TO {}").format(role))
        conn.execute(SQL("GRANT SELECT ON {} TO {}").format(sensors.table.segments_identifier, role))
        conn.execute(SQL("ALTER FOREIGN TABLE plant.sensors_cold OWNER TO {}").format(role))
        assert conn.execute(query).fetchone() == (1782,)
        conn.execute(SQL("REVOKE SELECT ON {} FROM {}").format(sensors.table.segments_identifier, role))
        with pytest.raises(psycopg.errors.InsufficientPrivilege), conn.transaction():
            conn.execute(query)
        conn.execute(SQL("SET LOCAL ROLE {}").format(role))
        with pytest.raises(psycopg.errors.InsufficientPrivilege), conn.transaction():
            conn.execute(query)
