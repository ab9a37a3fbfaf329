"""Rows come in the order of keys and time without a sort, from as few segments as the LIMIT needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from psycopg.sql import SQL, Composable

LATEST = "SELECT time, temp FROM plant.sensors_cold WHERE device = 'a' ORDER BY time DESC LIMIT 3"


@pytest.fixture
def overlapping(cold_table: Callable[..., Any]) -> Any:
    """Four series of two keys (one of them NULL at times); segments that overlap, touch, contain one another."""
    made = cold_table({"site": "int4", "device": "text"}, {"v": "float4", "note": "text"}, "int8")
    rng = np.random.default_rng(11)
    for site, device in ((1, "a"), (1, None), (2, "a"), (None, "b")):
        for part in range(8):
            start, length = int(rng.integers(0, 300)), int(rng.integers(1, 60))
            time = np.sort(rng.integers(start, start + int(rng.integers(1, 200)), length))
            values: dict[str, list[Any]] = {
                "v": rng.integers(0, 1000, length).tolist(),
                "note": [None if x < 3 else f"n{x % 5}" for x in rng.integers(0, 20, length)],
            }
            (made.cold if part else made.hot)([site, device], time, values)
    edge = np.array([-(2**63), -(2**63), 0, 2**63 - 1])
    made.cold([1, "a"], edge, {"v": [1, 2, 3, 4], "note": ["x"] * 4})
    _analyze(made)
    return made


def _analyze(made: Any) -> None:
    made.conn.execute(SQL("ANALYZE {}").format(made.table.segments_identifier))
    made.conn.execute("ANALYZE plant.sensors_cold")


def _rows(made: Any, table: Composable, where: str, order: str, limit: int) -> list[tuple[Any, ...]]:
    query = SQL("SELECT site, device, time, v, note FROM {} AS x WHERE {} ORDER BY {} LIMIT {}")
    return made.conn.execute(query.format(table, SQL(where), SQL(order), limit)).fetchall()


@pytest.mark.parametrize("work_mem", ["64kB", "4MB"])
def test_any_order_is_that_of_a_plain_table(overlapping: Any, work_mem: str) -> None:
    conn = overlapping.conn
    conn.execute(f"SET work_mem = '{work_mem}'; SET enable_sort = off; SET enable_incremental_sort = off")
    rng, ordered = np.random.default_rng(5), 0
    everything = set(_rows(overlapping, overlapping.truth, "true", "time", 10_000))
    columns = {"site": 0, "device": 1, "time": 2}
    orders = ["time", "time DESC", "site, device, time", "device DESC, site NULLS FIRST, time DESC", "site, time"]
    orders += ["device NULLS FIRST, time", "site DESC, device, time DESC, v"]
    clauses = [
        "true",
        "site = 1",
        "device = 'a'",
        "site = 1 AND device = 'a'",
        "device IS NULL",
        "site IN (1, 2)",
        "v > 500",
    ]
    for _ in range(80):
        order, clause = str(rng.choice(orders)), str(rng.choice(clauses))
        low, high = sorted(int(x) for x in rng.integers(-10, 510, 2))
        where = clause if rng.random() < 0.3 else f"{clause} AND time >= {low} AND time < {high}"
        limit = int(rng.choice([1, 3, 50, 5000]))
        table = overlapping.table.identifier
        ours, truth = (_rows(overlapping, t, where, order, limit) for t in (table, overlapping.truth))
        by = [columns[part.split()[0]] for part in order.split(", ") if part.split()[0] in columns]
        assert [[row[i] for i in by] for row in ours] == [[row[i] for i in by] for row in truth], (where, order, limit)
        assert set(ours) <= everything
        if limit == 5000:
            assert sorted(map(str, ours)) == sorted(map(str, truth)), (where, order)
        plan = overlapping.explain(
            f"SELECT time FROM plant.sensors WHERE {where} ORDER BY {order.removesuffix(', v')}", "COSTS OFF"
        )
        ordered += "Segment Order" in plan
    assert ordered > 40


def test_the_latest_rows_come_from_the_latest_segment(sensors: Any) -> None:
    conn = sensors.conn
    conn.execute("SET ddstore.segment_cache = 0")
    _analyze(sensors)
    for query, decoded in (
        (LATEST, 1),
        (LATEST.replace("sensors_cold", "sensors"), 0),
        (LATEST.replace("DESC", ""), 1),
    ):
        plan = sensors.explain(query)
        assert (plan["Segments Total"], plan["Segments Decoded"]) == (18, decoded)
        assert plan["Segment Order"].startswith('"time"')
        if "_cold" not in query:
            assert conn.execute(query).fetchall() == conn.execute(query.replace("sensors", "sensors_truth")).fetchall()
    for order in ("time DESC", "time"):  # all series end and begin at the same time
        plan = sensors.explain(f"SELECT temp + 0 FROM plant.sensors_cold ORDER BY {order} LIMIT 1")
        assert plan["Segments Decoded"] == 1
    plan = sensors.explain("SELECT * FROM plant.sensors ORDER BY device, time LIMIT 150")
    assert plan["Segments Decoded"] == 2
    assert (
        conn.execute("SELECT max(time), min(time) FROM plant.sensors WHERE device = 'b'").fetchall()
        == conn.execute("SELECT max(time), min(time) FROM plant.sensors_truth WHERE device = 'b'").fetchall()
    )


def test_the_latest_row_of_each_series(sensors: Any) -> None:
    conn = sensors.conn
    query = (
        "SELECT s, l.time, l.rpm FROM (VALUES ('b'), ('nobody'), ('a'), ('b')) AS v (s) LEFT JOIN LATERAL"
        " (SELECT time, rpm FROM {} AS x WHERE x.device = s ORDER BY time DESC LIMIT 1) AS l ON true"
    )
    ours = conn.execute(SQL(query).format(sensors.table.identifier)).fetchall()
    assert ours == conn.execute(SQL(query).format(sensors.truth)).fetchall()
    for table, decoded in (("plant.sensors", 0), ("plant.sensors_cold", 3)):  # hot rows are the latest
        plan = sensors.explain(query.format(table))
        assert (plan["Actual Loops"], plan["Segments Total"]) == (4, 72)
        assert plan["Segments Decoded"] + plan["Cache Hits"] == decoded


def test_a_segment_is_not_decoded_before_its_values_are_asked_for(sensors: Any) -> None:
    """Its last time and its keys are known without; whoever takes or copies the row has it whole."""
    conn = sensors.conn
    conn.execute("SET ddstore.segment_cache = 0; SET enable_sort = off")
    _analyze(sensors)
    conn.execute("DELETE FROM ONLY plant.sensors")
    first = "SELECT device, time, temp, state FROM {} WHERE device {} ORDER BY time DESC LIMIT 1"
    for device in ("= 'a'", "IS NULL"):
        plan = sensors.explain("SELECT max(time) FROM plant.sensors_cold WHERE device " + device)
        assert plan["Segments Decoded"] == 0
        wanted = conn.execute(first.format("plant.sensors", device)).fetchall()
        bound = "time < (SELECT max(time) + interval '1 s' FROM plant.sensors)"
        assert wanted == conn.execute(first.format("plant.sensors_truth", f"{device} AND {bound}")).fetchall()
        conn.execute("CREATE TABLE plant.one AS " + first.format("plant.sensors_cold", device))
        assert conn.execute("SELECT * FROM plant.one").fetchall() == wanted
        conn.execute("DROP TABLE plant.one")
        conn.execute("DECLARE c SCROLL CURSOR FOR " + first.format("plant.sensors", device))
        assert [conn.execute(f"FETCH {way} FROM c").fetchall() for way in ("1", "1", "PRIOR")] == [wanted, [], wanted]
        conn.execute("CLOSE c")


def test_more_open_segments_than_memory_are_sorted(cold_table: Callable[..., Any]) -> None:
    made = cold_table({"device": "text"}, {"a": "float8", "b": "float8", "note": "text"})
    rng = np.random.default_rng(3)
    for part in range(40):  # all of the same time
        time = np.sort(rng.integers(0, 1000, 500)) * 1_000_000
        values = {"a": rng.integers(0, 9, 500).tolist(), "b": [part] * 500, "note": ["x"] * 500}
        made.cold(["a" if part < 35 else "b"], time, values)
    _analyze(made)
    made.conn.execute("SET enable_sort = off; SET work_mem = '64kB'; SET ddstore.segment_cache = '256kB'")
    for order in ("time DESC", "device, time"):
        plan = made.explain(f"SELECT * FROM plant.sensors_cold ORDER BY {order}")
        assert plan["Segments Decoded"] + plan["Cache Hits"] == 40
        assert "Segment Order" in plan
        for query in (f"SELECT time FROM {{}} ORDER BY {order}", f"SELECT time FROM {{}} ORDER BY {order} LIMIT 100"):
            ours = made.conn.execute(SQL(query).format(made.table.identifier)).fetchall()
            assert ours == made.conn.execute(SQL(query).format(made.truth)).fetchall()
    assert made.differences() == []
    (temporary,) = made.conn.execute(
        "SELECT count(*) FROM pg_ls_tmpdir()"
    ).fetchone()  # the sort went to disk and tidied up
    assert temporary == 0
