"""SQL sees cold rows as if they had never left the table: every type, NULLs, any clause, any plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.sql import SQL, Literal

from ddstore.db.catalog import load_table

T0 = "timestamptz '2000-01-01 00:00 UTC'"

CLAUSES = [
    "true",
    "device = 'a'",
    "device IS NULL",
    "device IS NOT NULL",
    "device IN ('a', 'nobody')",
    "device = ANY (ARRAY['b', NULL])",
    "device = NULL",
    "device > 'a'",
    "'a' = device",
    "device <> 'a'",
    "device COLLATE \"C\" < 'b'",
    "device IN ('a', 'b') AND time = timestamptz '2000-01-01 00:16:40 UTC'",
    "time < timestamptz '2000-01-01 00:05 UTC'",
    "time <= timestamptz '2000-01-01 00:16:40 UTC'",
    "time > timestamptz '2000-01-01 01:00 UTC' AND device = 'b'",
    "time >= timestamptz '2000-01-01 00:16:40 UTC'",
    "timestamptz '2000-01-01 00:16:40 UTC' >= time",
    "time BETWEEN timestamptz '2000-01-01 00:16:35 UTC' AND timestamptz '2000-01-01 00:20 UTC'",
    "time > timestamptz '2000-01-01 00:10 UTC' AND time > timestamptz '2000-01-01 00:20 UTC'",
    "time < timestamptz '2000-01-01 00:10 UTC' AND time > timestamptz '2000-01-01 00:20 UTC'",
    "time = timestamptz '2000-01-01 00:16:45 UTC'",
    "time = NULL",
    "time >= date '2000-01-01' AND time < timestamp '2000-01-01 00:07'",
    "time < now()",
    "time > now() - interval '1 day'",
    "time IN (timestamptz '2000-01-01 00:16:40 UTC', timestamptz '2000-01-01 00:30 UTC')",
    "time < timestamptz 'infinity' AND time > timestamptz '-infinity'",
    "device = 'a' OR time < timestamptz '2000-01-01 00:05 UTC'",
    "temp IS NULL",
    "temp > 0 AND device = 'b'",
    "state = 'on' AND level > 0",
    "time > (SELECT timestamptz '2000-01-01 00:20 UTC' + random() * interval '0')",
    "device = (SELECT x.device) AND time < timestamptz '2000-01-01 00:05 UTC'",
]


@pytest.mark.parametrize("clause", CLAUSES)
def test_every_clause_selects_what_it_selects_in_a_plain_table(sensors: Any, clause: str) -> None:
    assert sensors.differences(clause) == []


@pytest.mark.parametrize("columns", ["device", "time", "temp, device", "state", "1", "level, rpm, x"])
def test_a_part_of_the_columns(sensors: Any, columns: str) -> None:
    assert sensors.differences(columns=columns) == []
    assert sensors.differences("time > timestamptz '2000-01-01 00:20 UTC'", columns) == []


def test_counts_and_order_and_limit(sensors: Any) -> None:
    conn = sensors.conn
    assert conn.execute("SELECT count(*), count(temp) FROM plant.sensors").fetchone() == (2100, 2079)
    assert conn.execute("SELECT count(*) FROM ONLY plant.sensors").fetchone() == (300,)
    assert conn.execute("SELECT count(*) FROM plant.sensors_cold").fetchone() == (1800,)
    for query in (
        "SELECT x.temp FROM {} AS x WHERE device = 'a' ORDER BY time DESC LIMIT 150",
        "SELECT sum(count), min(flow), max(level), sum(temp::numeric) FROM {} AS x WHERE device = 'b'",
        "SELECT device, count(*), min(time), max(time) FROM {} AS x GROUP BY device ORDER BY device",
    ):
        ours = conn.execute(SQL(query).format(sensors.table.identifier)).fetchall()
        assert ours == conn.execute(SQL(query).format(sensors.truth)).fetchall()
    assert len(conn.execute("SELECT * FROM plant.sensors_cold LIMIT 7").fetchall()) == 7
    assert conn.execute("SELECT tableoid::regclass::text FROM plant.sensors_cold LIMIT 1").fetchone() == (
        "plant.sensors_cold",
    )


@pytest.mark.parametrize("time_type", ["timestamptz", "timestamp", "int8"])
@pytest.mark.parametrize("key", [{}, {"site": "int4", "id": "uuid", "on_off": "bool", "tag": "varchar"}])
def test_time_types_and_keys(cold_table: Callable[..., Any], time_type: str, key: dict[str, str]) -> None:
    made = cold_table(key, {"v": "float8"}, time_type)
    names = ["00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"]
    for series in range(4):
        series_key = [series, names[series % 2], series > 1, f"tag{series}"][: len(key)]
        for start in (-1000, 0, 1000):
            time = np.sort(np.random.default_rng(series).integers(start, start + 1000, 200))
            made.cold(series_key, time, {"v": np.arange(200.0) + series})
        made.hot(series_key, np.array([1500, 1500, 2500]), {"v": [None, float("nan"), float("inf")]})
    assert made.differences() == []
    middle = {
        "int8": "100",
        "timestamp": "timestamp '2000-01-01' + interval '100 us'",
        "timestamptz": "timestamptz '2000-01-01 UTC' + interval '100 us'",
    }[time_type]
    for operator in ("<", "<=", "=", ">=", ">", "<>"):
        assert made.differences(f"time {operator} {middle}") == []
    if time_type == "int8":
        assert made.differences("time < 100::int2 AND time > -12.5 AND time <> 3.0::float8") == []
    for clause in (
        "on_off",
        "NOT on_off",
        "on_off IS TRUE",
        "on_off = true",
        f"id = '{names[0]}'",
        "site = 2::int8",
        "site IN (1, 3)",
        "tag = 'tag1'",
        "tag::text > 'tag1'",
        "site BETWEEN 1 AND 2 AND tag < 'tag2'",
    ):
        if key:
            assert made.differences(clause) == []
    if key:
        plan = made.explain("SELECT * FROM plant.sensors WHERE on_off AND tag = 'tag3'")
        assert (plan["Segments Total"], plan["Segments Pruned"]) == (12, 9)


def test_arrays_of_other_types(cold_table: Callable[..., Any]) -> None:
    made = cold_table({}, {"flag": "bool", "amount": "numeric", "id": "uuid", "note": "text"})
    values: dict[str, list[Any]] = {
        "flag": [True, None, False],
        "amount": ["1.50", None, "NaN"],
        "id": [None, "00000000-0000-0000-0000-000000000001", None],
        "note": ["NULL", None, "x" * 3000],
    }
    made.cold([], np.array([1, 2, 3]), values)
    made.hot([], np.array([1, 2, 4]), values)
    assert made.differences() == []
    assert made.differences("flag IS NULL OR amount = 'NaN'") == []


def test_special_values_come_back_bit_for_bit(cold_table: Callable[..., Any]) -> None:
    made = cold_table({}, {"d": "float8", "f": "float4"})
    special = [0.0, -0.0, float("nan"), float("inf"), -float("inf"), 5e-324, None, 1.7976931348623157e308]
    single = [float(np.float32(v)) if v is not None and abs(v) < 1e300 else None for v in special]
    made.cold([], np.arange(len(special), dtype=np.int64), {"d": special, "f": single})
    assert made.differences(columns="float8send(d), float4send(f)") == []


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
def test_prepared_statements(sensors: Any, mode: str) -> None:
    conn = sensors.conn
    conn.execute(SQL("SET plan_cache_mode = {}").format(SQL(mode)))
    conn.execute(
        "PREPARE q (text, timestamptz, timestamptz) AS SELECT count(*), sum(temp::numeric) FROM plant.sensors"
        " WHERE device = $1 AND time >= $2 AND time < $3"
    )
    conn.execute(
        "PREPARE r (text, timestamptz, timestamptz) AS SELECT count(*), sum(temp::numeric) FROM plant.sensors_truth"
        " WHERE device = $1 AND time >= $2 AND time < $3"
    )
    ranges = [("'a'", 0, 10), ("'b'", 10, 11), ("NULL", 0, 10), ("'a'", 60, 10), ("'b'", 0, 1000), ("'c'", 0, 9)]
    for device, start, end in ranges:
        arguments = f"({device}, {T0} + interval '{start} min', {T0} + interval '{end} min')"
        ours = conn.execute(f"EXECUTE q {arguments}").fetchone()
        assert ours == conn.execute(f"EXECUTE r {arguments}").fetchone()
    plan = sensors.explain(f"EXECUTE q ('a', {T0} + interval '17 min', {T0} + interval '18 min')")
    assert plan["Segments Pruned"] == 17
    assert ("$1" in plan["Segment Cond"]) == (mode == "force_generic_plan")


def test_nested_loops_rescan_with_other_parameters(sensors: Any) -> None:
    conn = sensors.conn
    conn.execute("CREATE TABLE plant.ask (device text, since timestamptz)")
    conn.execute(
        f"INSERT INTO plant.ask SELECT d, {T0} + m * interval '1 min' FROM unnest(ARRAY['a','b','c',NULL]) d,"
        " generate_series(0, 120, 7) m"
    )
    conn.execute("SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off")
    query = (
        "SELECT a.device, a.since, count(*), sum(x.rpm) FROM plant.ask a JOIN {} x ON x.device = a.device"
        " AND x.time >= a.since AND x.time < a.since + interval '5 min' GROUP BY 1, 2 ORDER BY 1, 2"
    )
    ours = conn.execute(SQL(query).format(sensors.table.identifier)).fetchall()
    assert ours == conn.execute(SQL(query).format(sensors.truth)).fetchall()
    plan = sensors.explain(query.format("plant.sensors_cold"))
    assert "Segment Cond" in plan
    assert plan["Segments Decoded"] < plan["Segments Total"] / 4
    lateral = (
        "SELECT a.device, l.temp FROM plant.ask a, LATERAL (SELECT temp FROM {} x WHERE x.device = a.device"
        " AND x.time < a.since ORDER BY time DESC LIMIT 1) l ORDER BY 1, 2"
    )
    ours = conn.execute(SQL(lateral).format(sensors.table.identifier)).fetchall()
    assert ours == conn.execute(SQL(lateral).format(sensors.truth)).fetchall()


def test_rows_that_others_take_for_their_own(sensors: Any) -> None:
    """CREATE TABLE AS makes each row it is handed its own, in the very place where the scan puts the next one."""
    columns = "device, time, temp, state"
    sensors.conn.execute(f"CREATE TABLE plant.copy AS SELECT {columns} FROM plant.sensors")
    for one, other in (("copy", "sensors_truth"), ("sensors_truth", "copy")):
        query = f"SELECT {columns} FROM plant.{one} EXCEPT ALL SELECT {columns} FROM plant.{other}"
        assert sensors.conn.execute(query).fetchall() == []


def test_cursors(sensors: Any) -> None:
    conn = sensors.conn
    conn.execute("DECLARE c SCROLL CURSOR FOR SELECT device, time, temp FROM plant.sensors_cold WHERE device = 'a'")
    forward = conn.execute("FETCH FORWARD 250 FROM c").fetchall()
    backward = conn.execute("FETCH BACKWARD 249 FROM c").fetchall()
    assert forward[:-1] == backward[::-1]
    with pytest.raises(psycopg.errors.DivisionByZero), conn.transaction():
        conn.execute("SELECT 1 / (temp - temp) FROM plant.sensors_cold")


def test_columns_and_tables_may_be_renamed_added_and_dropped(sensors: Any) -> None:
    conn = sensors.conn
    conn.execute("ALTER TABLE plant.sensors RENAME temp TO temperature")
    conn.execute("ALTER TABLE plant.sensors DROP COLUMN flow")
    conn.execute("ALTER TABLE plant.sensors ADD COLUMN later int")
    conn.execute("ALTER TABLE plant.sensors RENAME TO devices")
    conn.execute("ALTER SCHEMA plant RENAME TO works")
    assert conn.execute(
        "SELECT count(*), count(temperature), count(level), count(later), count(d) FROM works.devices d"
        " WHERE device = 'a'"
    ).fetchone() == (700, 693, 693, 0, 700)
    # No event trigger minds what happens to the segment table, so the scan does.
    level = sensors.table.value("level").segment_column
    conn.execute(f"ALTER TABLE ddstore.segment_{sensors.table.id} ALTER {level}_min TYPE int8".encode())
    with pytest.raises(psycopg.errors.DatatypeMismatch, match="release"):
        conn.execute("SELECT level FROM works.devices")


def test_analyze_teaches_the_planner(sensors: Any) -> None:
    conn = sensors.conn
    conn.execute("ANALYZE plant.sensors, plant.sensors_cold")
    row = conn.execute(
        "SELECT n_distinct, null_frac FROM pg_stats WHERE tablename = 'sensors_cold' AND attname = 'device'"
        " AND NOT inherited"
    ).fetchone()
    assert row == (2, pytest.approx(1 / 3))
    assert conn.execute("SELECT reltuples FROM pg_class WHERE relname = 'sensors_cold'").fetchone() == (1800,)
    conn.execute(f"ANALYZE ddstore.segment_{sensors.table.id}")
    plan = sensors.explain("SELECT * FROM plant.sensors_cold WHERE device = 'a'", "COSTS")
    assert 500 <= plan["Plan Rows"] <= 700


def test_the_planner_knows_what_a_profile_costs(sensors: Any) -> None:
    costs = []
    for profile in ("fast", "balanced", "archive"):
        record = Literal(f'{{"profile": "{profile}"}}')
        sensors.conn.execute(SQL("UPDATE {} SET written = {}").format(sensors.table.segments_identifier, record))
        sensors.conn.execute(SQL("ANALYZE {}").format(sensors.table.segments_identifier))
        costs.append(sensors.explain("SELECT temp FROM plant.sensors_cold", "COSTS ON")["Total Cost"])
    assert costs[0] * 2 < costs[1] < costs[2] / 2


def test_the_foreign_table_is_what_the_catalog_says(sensors: Any) -> None:
    assert load_table(sensors.conn, "plant.sensors").cold == sensors.cold_name == "plant.sensors_cold"
    assert sensors.conn.execute("SELECT ddstore.extension_version()").fetchone() == ("0.1.0",)
