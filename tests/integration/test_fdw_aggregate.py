"""Which aggregates are answered from segments' statistics, which from rows, and which are left to PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.sql import SQL, Identifier, Literal

from ddstore.db.pool import connect

T0 = "timestamptz '2000-01-01 00:00 UTC'"
NODE = "DDStoreAggregate"


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in _nodes(child))]


def _aggregation(conn: Any, query: str) -> tuple[int, int, int] | None:
    """Segments answered from statistics, segments from rows, rows aggregated; None when planned normally."""
    conn.execute("SET max_parallel_workers_per_gather = 0")
    (plans,) = conn.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}").fetchone()
    for node in _nodes(plans[0]["Plan"]):
        if node.get("Custom Plan Provider") == NODE:
            return node["Segments From Statistics"], node["Segments From Rows"], node["Rows Aggregated"]
    return None


ALL = "count(*), count(temp), min(temp), max(flow), sum(rpm), avg(count), avg(level), sum(temp), min(time), max(time)"

# query -> segments from statistics, segments from rows, rows; of 6 segments of 1,000 s for each of a, b and NULL
ANSWERED = {
    f"SELECT {ALL} FROM plant.sensors": (18, 0, 0),
    f"SELECT {ALL} FROM plant.sensors_cold": (18, 0, 0),
    f"SELECT device, {ALL} FROM plant.sensors GROUP BY device": (18, 0, 0),
    "SELECT device FROM plant.sensors GROUP BY device": (18, 0, 0),
    "SELECT max(device), count(device) FROM plant.sensors": (18, 0, 0),
    f"SELECT {ALL} FROM plant.sensors WHERE device = 'a'": (6, 0, 0),
    f"SELECT {ALL} FROM plant.sensors WHERE upper(device) || 'x' = 'Bx'": (6, 0, 0),
    f"SELECT {ALL} FROM plant.sensors WHERE device = 'a' AND time >= {T0} + interval '2000 s'": (4, 0, 0),
    f"SELECT {ALL} FROM plant.sensors WHERE device = 'a' AND time >= {T0} + interval '2500 s'": (3, 1, 50),
    f"SELECT sum(temp) FROM plant.sensors WHERE time BETWEEN {T0} + interval '1990 s' AND {T0} + interval '4000 s'": (
        6,
        6,
        6,
    ),
    f"SELECT sum(temp) FROM plant.sensors WHERE time > {T0} + interval '1 day'": (0, 0, 0),
    "SELECT ddstore.time_bucket('2000 s', time, '2000-01-01Z'), avg(temp) FROM plant.sensors GROUP BY 1": (18, 0, 0),
    "SELECT ddstore.time_bucket('1500 s', time, '2000-01-01Z'), avg(temp) FROM plant.sensors GROUP BY 1": (
        12,
        6,
        600,
    ),
    "SELECT device, ddstore.time_bucket('1 month', time), avg(temp) FROM plant.sensors GROUP BY 1, 2": (18, 0, 0),
    "SELECT date_trunc('day', time), avg(temp) FROM plant.sensors GROUP BY 1": (18, 0, 0),
    # What all rows of a segment satisfy, or none, its least and greatest value tell.
    "SELECT count(*), sum(rpm) FROM plant.sensors WHERE temp IS NULL": (0, 18, 18),
    "SELECT count(*) FROM plant.sensors WHERE temp > 'NaN'": (0, 0, 0),
    "SELECT count(*), min(level) FROM plant.sensors WHERE count < -9223372036854775807": (0, 0, 0),
    "SELECT sum(flow) FROM plant.sensors WHERE device = 'a' AND temp > 1e9": (0, 0, 0),
    "SELECT count(flow), max(state) FROM plant.sensors WHERE device = 'a'": (0, 6, 600),
    "SELECT count(*), avg(temp) FROM plant.sensors WHERE device = 'a' AND state <> 'off' HAVING count(*) > 3": None,
}


def test_what_is_decoded(sensors: Any) -> None:
    for query, counts in ANSWERED.items():
        _check(sensors.conn, query, counts)


def _check(conn: Any, query: str, counts: tuple[int, int, int] | None) -> None:
    conn.execute("SET LOCAL ddstore.enable_aggregate = on")
    found = _aggregation(conn, query)
    assert found is not None
    assert counts is None or found == counts, query
    ours = conn.execute(query).fetchall()
    conn.execute("SET LOCAL ddstore.enable_aggregate = off")
    assert _aggregation(conn, query) is None
    expected = conn.execute(query).fetchall()
    assert len(ours) == len(expected)
    for row, other in zip(sorted(ours, key=repr), sorted(expected, key=repr), strict=True):
        for value, wanted in zip(row, other, strict=True):
            # Of these sums only the last digits depend on the order.
            assert value == (pytest.approx(wanted, rel=1e-5) if isinstance(wanted, float) else wanted)


LEFT = [
    "SELECT count(DISTINCT temp) FROM {t}",
    "SELECT count(*) FILTER (WHERE temp > 0) FROM {t}",
    "SELECT array_agg(temp ORDER BY time) FROM {t}",
    "SELECT sum(temp ORDER BY time) FROM {t}",
    "SELECT device, count(*) FROM {t} GROUP BY ROLLUP (device)",
    "SELECT stddev(temp), avg(temp) FROM {t}",
    "SELECT sum(temp::numeric) FROM {t}",
    "SELECT sum(temp * 2) FROM {t}",
    "SELECT count(*) FROM {t} WHERE random() >= 0",
    "SELECT count(*) FROM {t} WHERE temp > (SELECT 0 WHERE device IS NOT NULL)",
    "SELECT count(*) FROM {t} JOIN (VALUES ('a'), ('b')) AS v (d) ON v.d = device",
    "SELECT temp, count(*) FROM {t} GROUP BY temp",
    "SELECT time, count(*) FROM {t} GROUP BY time",
    "SELECT count(*) FROM ONLY {t}",
    "SELECT count(*) FROM {t} TABLESAMPLE SYSTEM (100)",
    "SELECT tableoid, count(*) FROM {t} GROUP BY tableoid",
    "SELECT max(x) FROM {t} AS x",
    "SELECT generate_series(1, 2), count(*) FROM {t}",
]


def test_what_is_left_to_postgresql(sensors: Any) -> None:
    for query in LEFT:
        if "max(x)" not in query or sensors.conn.info.server_version >= 180000:
            assert _aggregation(sensors.conn, query.format(t="plant.sensors")) is None, query


def test_another_child_or_a_policy_is_left_to_postgresql(sensors: Any, ordinary_role: Any, database_url: str) -> None:
    conn = sensors.conn
    conn.execute("SAVEPOINT s")
    conn.execute("CREATE TABLE plant.more () INHERITS (plant.sensors)")
    assert _aggregation(conn, "SELECT count(*) FROM plant.sensors") is None
    assert conn.execute("SELECT count(*) FROM plant.sensors").fetchone() == (2100,)
    conn.execute("ROLLBACK TO s")
    url = ordinary_role(database_url)
    role = Identifier(str(psycopg.conninfo.conninfo_to_dict(url)["user"]))
    conn.execute(SQL("GRANT USAGE ON SCHEMA plant TO {0}; GRANT SELECT ON plant.sensors TO {0}").format(role))
    conn.commit()
    with connect(url, autocommit=True) as other:
        assert _aggregation(other, "SELECT count(*), max(device) FROM plant.sensors") == (18, 0, 0)
        conn.execute("ALTER TABLE plant.sensors ENABLE ROW LEVEL SECURITY")
        conn.execute("CREATE POLICY p ON plant.sensors USING (device = 'a')")
        conn.commit()
        assert _aggregation(other, "SELECT count(*) FROM plant.sensors") is None
        assert other.execute("SELECT count(*), max(device) FROM plant.sensors").fetchone() == (700, "a")
        conn.execute(SQL("ALTER TABLE plant.sensors DISABLE ROW LEVEL SECURITY"))
        conn.execute(SQL("REVOKE SELECT ON plant.sensors FROM {}").format(role))
        conn.execute(SQL("GRANT SELECT (time) ON plant.sensors TO {}").format(role))
        conn.commit()
        assert other.execute("SELECT max(time) IS NULL FROM plant.sensors").fetchone() == (False,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            other.execute("SELECT max(temp) FROM plant.sensors")


def _one_segment(cold_table: Callable[..., Any], type_: str, values: list[Any], name: str = "plant.sensors") -> Any:
    made = cold_table({}, {"v": type_}, name=name)
    made.cold([], np.arange(len(values), dtype=np.int64) * 1_000_000, {"v": values})
    return made


EDGES: list[tuple[str, list[Any]]] = [
    ("float8", [float("nan"), 1.0]),
    ("float8", [float("inf"), 1.0]),
    ("float8", [float("inf"), -float("inf")]),
    ("float8", [1e308, 1e308]),
    ("float8", [-1e308, -1e308, -1e308]),
    ("float8", [float("inf"), 1e308, 1e308]),
    ("float4", [3e38, 3e38]),
    ("float4", [float("-inf"), 3e38]),
    ("float8", [None, None]),
    ("int4", [2**31 - 1] * 5 + [None]),
    ("int8", [-(2**63)] * 200),
    ("int8", [2**63 - 1] * 130 + [-(2**63)]),
    ("int8", [-1, None, -2]),
    ("int2", [None]),
]


def test_sums_at_the_edges(cold_table: Callable[..., Any]) -> None:
    for number, (type_, values) in enumerate(EDGES):
        made = _one_segment(cold_table, type_, values, f"plant.edge{number}")
        for where in ("true", "time IS DISTINCT FROM '1999-01-01'"):  # from statistics, from rows
            for function in ("sum", "avg", "min", "max", "count"):
                query = f"SELECT {function}(v) FROM {{}} WHERE {where}"
                assert _as_the_truth(made, query, values), (type_, values, query)


def _as_the_truth(made: Any, query: str, values: list[Any]) -> bool:
    answers = []
    for table in (made.table.identifier, made.truth):
        made.conn.execute("SAVEPOINT q")
        try:
            answers.append(repr(made.conn.execute(SQL(query).format(table)).fetchone()))
        except psycopg.errors.NumericValueOutOfRange as error:
            answers.append(str(error.diag.message_primary))  # a worker's error has a context, too
        made.conn.execute("ROLLBACK TO q")
    if "avg" in query and "out of range" in answers[1]:
        # avg of the plain table fails for the squares that it keeps for the variance, too: ours has none.
        return "out of range" in answers[0] or max(abs(v) for v in values) > 1e150
    return answers[0] == answers[1]


def test_statistics_that_are_missing_are_not_believed(cold_table: Callable[..., Any]) -> None:
    made = _one_segment(cold_table, "float8", [1.0, 2.0, None])
    query = "SELECT count(v), min(v), max(v), sum(v) FROM plant.sensors"
    assert _aggregation(made.conn, query) == (1, 0, 0)
    column = f"c{made.table.columns['v'].id}"
    for change in (f"{column}_sum = NULL", f"{column}_min = NULL", f"{column}_count = 7"):
        made.conn.execute("SAVEPOINT s")
        made.conn.execute(SQL("UPDATE {} SET {}").format(made.table.segments_identifier, SQL(change)))
        assert _aggregation(made.conn, query) == (0, 1, 3)
        assert made.conn.execute(query).fetchone() == (2, 1.0, 2.0, 3.0)
        made.conn.execute("ROLLBACK TO s")
    made.conn.execute(SQL("UPDATE {} SET n = 1048577").format(made.table.segments_identifier))
    with pytest.raises(psycopg.errors.DataCorrupted, match="no segment has so many rows"):
        made.conn.execute("SELECT count(*) FROM plant.sensors")


def test_nothing_cold_and_nothing_at_all(cold_table: Callable[..., Any]) -> None:
    made = cold_table({"device": "text"}, {"v": "float8"})
    for table in ("plant.sensors", "plant.sensors_cold"):
        assert made.conn.execute(f"SELECT count(*), count(v), sum(v), avg(v), min(v) FROM {table}").fetchone() == (
            0,
            0,
            None,
            None,
            None,
        )
        assert made.conn.execute(f"SELECT device, count(*) FROM {table} GROUP BY device").fetchall() == []
        # A key that is known is grouped by nothing, and still makes no group of no rows.
        one = f"SELECT device, count(*) FROM {table} WHERE device = 'a' GROUP BY device"
        assert made.conn.execute(one).fetchall() == []
    made.hot(["a"], np.array([1, 2]), {"v": [1.0, None]})
    assert made.conn.execute("SELECT count(*), sum(v) FROM plant.sensors").fetchone() == (2, 1.0)
    made.cold(["a"], np.array([3, 4]), {"v": [5.0, None]})
    one = "SELECT device, count(*), sum(v) FROM plant.sensors WHERE device = 'a' GROUP BY device"
    assert made.conn.execute(one).fetchall() == [("a", 4, 6.0)]


def test_again_with_other_parameters(sensors: Any) -> None:
    conn = sensors.conn
    query = (
        "SELECT g, x.* FROM generate_series(0, 12) AS g, LATERAL (SELECT count(*), sum(rpm), max(time), max(state)"
        f" FROM plant.sensors WHERE time < {T0} + g * interval '457 s' AND rpm > g * 1000000) AS x ORDER BY g"
    )
    ours = conn.execute(query).fetchall()
    assert ours == conn.execute(query.replace("plant.sensors", "plant.sensors_truth")).fetchall()
    conn.execute("SET LOCAL plan_cache_mode = force_generic_plan")
    conn.execute(
        "PREPARE p (text, timestamptz) AS SELECT count(*), min(temp) FROM plant.sensors WHERE device = $1 AND time < $2"
    )
    for device, second in (("a", 3500), ("b", 10), ("a", 100000), (None, 5)):
        known = conn.execute(
            f"SELECT count(*), min(temp) FROM plant.sensors_truth WHERE device = %s"
            f" AND time < {T0} + %s * interval '1 s'",
            [device, second],
        ).fetchone()
        at = f"{T0} + {second} * interval '1 s'"
        assert conn.execute(SQL(f"EXECUTE p ({{}}, {at})").format(Literal(device))).fetchone() == known


def test_a_moving_row_counts_once(cold_table: Callable[..., Any], database_url: str) -> None:
    made = cold_table({"device": "text"}, {"v": "int4"})
    time = np.arange(100, dtype=np.int64) * 1_000_000
    made.hot(["a"], time, {"v": list(range(100))})
    made.conn.commit()
    query = "SELECT count(*), sum(v) FROM plant.sensors"
    with connect(database_url) as repeatable, connect(database_url) as committed:
        repeatable.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        assert repeatable.execute(query).fetchone() == (100, 4950)
        made.conn.execute("DELETE FROM ONLY plant.sensors")
        made.cold(["a"], time, {"v": list(range(100))}, known=False)
        assert _aggregation(made.conn, query) == (1, 0, 0)
        for conn in (made.conn, committed, repeatable):
            assert conn.execute(query).fetchone() == (100, 4950)
        made.conn.commit()
        for conn in (committed, repeatable):
            assert conn.execute(query).fetchone() == (100, 4950)
        assert _aggregation(repeatable, query) == (0, 0, 0)


def test_memory_stays_flat_over_groups(sensors: Any) -> None:
    conn = sensors.conn
    used = "SELECT sum(used_bytes) FROM pg_backend_memory_contexts"
    conn.execute("SET LOCAL enable_hashagg = off; SET LOCAL enable_sort = off")
    with conn.cursor(name="many") as cursor:
        cursor.execute(
            "SELECT x.* FROM generate_series(1, 400) AS g, LATERAL (SELECT date_trunc('minute', time) AS m, device,"
            " max(state), sum(count), avg(level), max(device) FROM plant.sensors_cold WHERE level <> g"
            " GROUP BY 1, 2 OFFSET 0) AS x"
        )
        cursor.fetchmany(1000)
        (before,) = conn.execute(used).fetchone()
        assert len(cursor.fetchmany(30_000)) == 30_000
        (after,) = conn.execute(used).fetchone()
    assert after - before < 300_000
