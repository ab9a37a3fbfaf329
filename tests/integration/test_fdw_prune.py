"""EXPLAIN says which segments were pruned and how many decoded, and only what is needed is decoded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from psycopg.sql import SQL

T0 = "timestamptz '2000-01-01 00:00 UTC'"


@pytest.fixture(autouse=True)
def _no_cache(conn: Any) -> None:
    """What is decoded is counted here, however often it was before."""
    conn.execute("SET ddstore.segment_cache = 0")
    conn.commit()


# clause -> segments left of 18: 6 of 1,000 s for each of the devices a, b and NULL
PRUNED = {
    "true": 18,
    "device = 'a'": 6,
    "device IS NULL": 6,
    "device IS NOT NULL": 12,
    "device IN ('a', 'b', 'nobody')": 12,
    "device = 'nobody'": 0,
    "device > 'a'": 6,
    f"time < {T0}": 0,
    f"time <= {T0}": 3,
    f"time < {T0} + interval '1000 s'": 3,
    f"time <= {T0} + interval '1000 s'": 6,
    f"time > {T0} + interval '5990 s'": 0,
    f"time >= {T0} + interval '5990 s'": 3,
    f"{T0} + interval '5990 s' <= time": 3,
    f"time = {T0} + interval '1995 s'": 0,
    f"time = {T0} + interval '1990 s'": 3,
    f"time BETWEEN {T0} + interval '1500 s' AND {T0} + interval '2500 s'": 6,
    f"time > {T0} + interval '1500 s' AND time < {T0} + interval '2500 s' AND device = 'b'": 2,
    f"time > {T0} + interval '2500 s' AND time < {T0} + interval '1500 s'": 0,
    "time > now() - interval '1 hour'": 0,
    "time > date '2000-01-02'": 0,
    "time < timestamp '2000-01-01 00:10:00'": 3,
    f"time > (SELECT {T0} + interval '5500 s')": 3,
    "device = NULL": 0,
    "time > NULL": 0,
    "device = 'a' AND device >= 'b'": 0,
}


@pytest.mark.parametrize("clause", PRUNED)
def test_segments_are_pruned(sensors: Any, clause: str) -> None:
    sensors.conn.execute("SET timezone = 'UTC'")
    query = f"SELECT temp FROM plant.sensors_cold WHERE {clause}"
    if "NULL" in clause and "IS" not in clause:  # the planner itself sees that nothing can match
        assert sensors.conn.execute(query).fetchall() == []
        return
    plan = sensors.explain(query)
    left = PRUNED[clause]
    assert (plan["Segments Decoded"], plan["Segments Pruned"]) == (left, plan["Segments Total"] - left)
    assert plan["Segments Table"] == f"ddstore.segment_{sensors.table.id}"
    assert ("Segment Cond" in plan) == (clause != "true")


def test_pruning_without_any_index(sensors: Any) -> None:
    sensors.conn.execute(SQL("DROP INDEX ddstore.{}").format(SQL(f"segment_{sensors.table.id}_series")))
    for clause in (c for c in PRUNED if "IN (" not in c and "NULL" not in c):
        test_segments_are_pruned(sensors, clause)
        assert sensors.differences(clause) == []
    assert sensors.differences("device IN ('a', 'b', 'nobody')") == []


def test_decoding_stops_after_the_last_row_wanted(sensors: Any) -> None:
    plan = sensors.explain(
        f"SELECT temp FROM plant.sensors WHERE device = 'a' AND time >= {T0} + interval '1100 s'"
        f" AND time < {T0} + interval '1300 s'"
    )
    assert plan["Actual Rows"] == 20
    assert (plan["Segments Decoded"], plan["Rows Decoded"]) == (1, 30)
    assert "Filter" not in plan  # segments and their sorted times have answered


@pytest.mark.parametrize(
    ("clause", "left"),
    [
        ("device > 'a' AND time > now() - interval '99 years'", None),
        ("device IS NULL AND temp > 1", "temp"),
        ("device IN ('a', 'b')", "device"),
        ("lower(device) = 'a' AND device = 'a'", "lower"),
    ],
)
def test_what_segments_answer_is_not_checked_again_row_by_row(sensors: Any, clause: str, left: str | None) -> None:
    assert sensors.differences(clause, "temp") == []
    checked = sensors.explain(f"SELECT temp FROM plant.sensors WHERE {clause}", "COSTS OFF").get("Filter", "")
    assert "time" not in checked
    assert left in checked if left else checked == ""


def test_a_limit_decodes_one_segment(sensors: Any) -> None:
    plan = sensors.explain("SELECT temp FROM plant.sensors_cold WHERE device = 'a' LIMIT 5")
    assert (plan["Actual Rows"], plan["Segments Decoded"]) == (5, 1)


def test_nothing_is_decoded_to_count_or_list_keys(sensors: Any) -> None:
    for columns in ("count(*)", "count(device)"):
        plan = sensors.explain(f"SELECT {columns} FROM plant.sensors_cold WHERE device = 'a'")
        assert (plan["Segments Decoded"], plan["Rows Decoded"]) == (0, 0)
    plan = sensors.explain("SELECT device FROM plant.sensors_cold WHERE device = 'a'")
    assert (plan["Actual Rows"], plan["Segments Decoded"], plan["Rows Decoded"]) == (600, 0, 0)


def test_a_segment_asked_for_again_is_not_decoded_again(sensors: Any) -> None:
    plan = sensors.explain(
        f"SELECT * FROM generate_series(1, 50) g, LATERAL (SELECT * FROM plant.sensors_cold WHERE device = 'a'"
        f" AND time = {T0} + (g % 50 + 20) * interval '10 s' OFFSET 0) x"
    )
    assert plan["Actual Loops"] == 50
    assert plan["Segments Total"] == 50 * 18
    assert (plan["Segments Pruned"], plan["Segments Decoded"]) == (50 * 17, 1)
    assert plan["Rows Decoded"] == 22 + 100  # first as far as needed, then whole


def test_explain_without_analyze_and_text_format(sensors: Any) -> None:
    plan = sensors.explain("SELECT * FROM plant.sensors WHERE device = 'a'", "COSTS OFF")
    assert plan["Segment Cond"] == "(device = 'a'::text)"
    assert "Segments Decoded" not in plan
    lines = sensors.conn.execute("EXPLAIN (ANALYZE) SELECT * FROM plant.sensors WHERE time < now()").fetchall()
    text = "\n".join(line for (line,) in lines)
    assert 'Segment Cond: ("time" < now())' in text
    assert "Segments Pruned: 0" in text
    assert "Segments Decoded: 18" in text
    assert "Decode Time: " in text


def test_a_hundred_series_of_one_segment(cold_table: Callable[..., Any]) -> None:
    made = cold_table({"site": "int4", "device": "text"}, {"v": "float4"}, "int8")
    for series in range(100):
        made.cold([series // 10, f"d{series % 10}"], np.arange(20, dtype=np.int64), {"v": [float(series)] * 20})
    plan = made.explain("SELECT * FROM plant.sensors WHERE site = 4 AND device IN ('d1', 'd9', 'x') AND time >= 3")
    assert (plan["Actual Rows"], plan["Segments Decoded"], plan["Segments Pruned"]) == (34, 2, 98)
    plan = made.explain("SELECT * FROM plant.sensors WHERE device = 'd1'")
    assert (plan["Actual Rows"], plan["Segments Decoded"]) == (200, 10)
    assert made.differences("site IN (1, 2) AND device > 'd5' AND time < 7") == []


def test_workers_share_out_the_segments(sensors: Any) -> None:
    conn = sensors.conn
    conn.commit()
    conn.execute(
        "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;"
        " SET max_parallel_workers_per_gather = 3"
    )
    query = "SELECT count(temp), sum(rpm), max(state) FROM plant.sensors WHERE time >= '2000-01-01 00:20 UTC'"
    row = conn.execute(SQL("EXPLAIN (ANALYZE, FORMAT JSON) ") + SQL(query)).fetchone()[0][0]
    assert "Workers Launched" in str(row)
    plan = sensors.explain(query)
    assert plan["Parallel Aware"]
    assert (plan["Segments Total"], plan["Segments Pruned"], plan["Segments Decoded"]) == (18, 3, 15)
    assert plan["Rows Decoded"] == 1500
    for clause in ("true", "device = 'b'", "device IS NULL AND temp > 0"):
        query = f"SELECT count(*), sum(rpm), sum(temp::numeric), max(state) FROM {{}} AS x WHERE {clause}"
        ours = conn.execute(SQL(query).format(sensors.table.identifier)).fetchone()
        assert ours == conn.execute(SQL(query).format(sensors.truth)).fetchone()
    limited = (
        "SELECT g, l.n FROM generate_series(1, 4) g, LATERAL (SELECT count(*) AS n FROM"
        " (SELECT 1 FROM {} WHERE rpm IS NOT NULL OFFSET 0) s WHERE g > 0 LIMIT 1) l ORDER BY g"
    )
    ours = conn.execute(SQL(limited).format(sensors.table.identifier)).fetchall()
    assert ours == conn.execute(SQL(limited).format(sensors.truth)).fetchall()


def test_values_prune_by_the_least_and_greatest_of_a_segment(cold_table: Callable[..., Any]) -> None:
    made = cold_table({}, {"v": "float4", "n": "int8", "s": "text"}, "int8")
    nan, infinity = float("nan"), float("inf")
    for part, v in enumerate(
        ([1, 2, None], [10, 20, 15], [-infinity, 0, nan], [nan, nan, nan], [None, None, None], [-0.0] * 3)
    ):
        n = [None if value is None else part * 2**40 for value in v]
        made.cold([], np.arange(3, dtype=np.int64) + 10 * part, {"v": v, "n": n, "s": ["x"] * 3})
    made.hot([], np.array([100]), {"v": [nan], "n": [5], "s": ["y"]})
    # clause -> segments left of 6
    left = {
        "v > 9": 3,
        "v > 9.5::float8": 3,
        "9 < v": 3,
        "v >= 20 AND v < 21": 2,
        "v = 15": 2,
        "v = 0": 2,
        "v < 0": 1,
        "v <= '-Infinity'": 1,
        "v = 'NaN'": 2,
        "v > 'Infinity'": 2,
        "v < 'NaN'": 4,
        "v > (SELECT 2::float4)": 3,
        "n = 1099511627776": 1,
        "n < 0": 0,
        "n > 4::int2 AND v > 9": 3,
        "v <> 1": 6,
        "v IS NULL": 6,
        "v + 1 > 10": 6,
        "s > 'x'": 6,
        "v > 9 OR n = 0": 6,
    }
    for clause, segments in left.items():
        plan = made.explain(f"SELECT v, n, s FROM plant.sensors_cold WHERE {clause}")
        assert (clause, plan["Segments Decoded"], plan["Segments Pruned"]) == (clause, segments, 6 - segments)
        assert made.differences(clause) == [], clause


def test_what_the_planner_expects_of_rows(cold_table: Callable[..., Any]) -> None:
    """Estimates are within a factor of two of what comes, with keys, ranges of time, and in joins."""
    made = cold_table({"device": "text"}, {"v": "float8"})
    conn = made.conn
    for device in range(20):
        for part in range(3):
            time = (np.arange(200, dtype=np.int64) + 200 * part) * 10_000_000
            made.cold([f"d{device}"], time, {"v": np.arange(200.0).tolist()}, known=False)
    conn.execute(SQL("ANALYZE {}").format(made.table.segments_identifier))
    conn.execute("ANALYZE plant.sensors_cold, plant.sensors")
    conn.execute("CREATE TABLE plant.ask AS SELECT 'd' || g AS device FROM generate_series(1, 5) g")
    conn.execute("ANALYZE plant.ask")
    for where in (
        "true",
        "device = 'd3'",
        "device IN ('d1', 'd2', 'd3')",
        f"time < {T0} + interval '3000 s'",
        f"device = 'd3' AND time >= {T0} + interval '1000 s' AND time < {T0} + interval '2000 s'",
        "v > 150",
        "device = ANY (SELECT device FROM plant.ask)",
    ):
        plan = made.explain(f"SELECT * FROM plant.sensors_cold WHERE {where}")
        assert 0.5 <= plan["Plan Rows"] / plan["Actual Rows"] <= 2, (where, plan["Plan Rows"], plan["Actual Rows"])
    conn.execute("SET enable_hashjoin = off; SET enable_mergejoin = off")
    plan = made.explain(
        f"SELECT * FROM plant.ask JOIN plant.sensors_cold s USING (device) WHERE s.time < {T0} + interval '500 s'"
    )
    assert plan["Actual Loops"] == 5  # by the key of the outer row, not all of it once
    assert plan["Segments Decoded"] == 5
    assert 0.5 <= plan["Plan Rows"] / plan["Actual Rows"] <= 2
