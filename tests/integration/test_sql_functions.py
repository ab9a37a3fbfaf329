"""time_bucket, first and last, range_agg, and the recipes of docs/sql.md: each against plain SQL or plain Python."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from ddstore.db.pool import Connection, connect

MONDAY = datetime(2000, 1, 3)
RECIPES = Path(__file__).resolve().parents[2] / "docs" / "sql.md"

times = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))
relaxed = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def one(conn: psycopg.Connection[Any], query: str, *params: Any) -> Any:
    """The row that a query returns, or its only value."""
    row = conn.execute(query.encode(), params).fetchone()
    assert row is not None
    return row[0] if len(row) == 1 else row


# --- time_bucket


@relaxed
@given(width=st.timedeltas(timedelta(microseconds=1), timedelta(days=400)), ts=times, origin=st.none() | times)
def test_buckets_of_time(plain: Connection, width: timedelta, ts: datetime, origin: datetime | None) -> None:
    start = MONDAY if origin is None else origin
    expected = start + (ts - start) // width * width
    given_origin: list[Any] = [] if origin is None else [origin]
    extra = "" if origin is None else ", %s::timestamp"
    query = f"SELECT ddstore.time_bucket(%s::interval, %s::timestamp{extra})"
    assert one(plain, query, width, ts, *given_origin) == expected
    zoned = [None if t is None else t.replace(tzinfo=UTC) for t in (ts, *given_origin)]
    query = query.replace("::timestamp", "::timestamptz")
    plain.execute("SET LOCAL timezone = 'Asia/Kathmandu'")
    assert one(plain, query, width, *zoned) == expected.replace(tzinfo=UTC)


@relaxed
@given(months=st.integers(1, 500), ts=times, origin=st.none() | times)
def test_buckets_of_months(plain: Connection, months: int, ts: datetime, origin: datetime | None) -> None:
    start = datetime(2000, 1, 1) if origin is None else origin
    first = 12 * start.year + start.month - 1  # the month is what counts of an origin
    number = first + (12 * ts.year + ts.month - 1 - first) // months * months
    extra = "" if origin is None else f", '{origin}'"
    for zone, type_ in ((None, "timestamp"), (UTC, "timestamptz")):
        plain.execute("SET LOCAL timezone = 'UTC'")
        query = f"SELECT ddstore.time_bucket(make_interval(months => %s), %s::{type_}{extra})"
        expected = datetime(number // 12, number % 12 + 1, 1, tzinfo=zone)
        assert one(plain, query, months, ts.replace(tzinfo=zone)) == expected


@relaxed
@given(
    width=st.integers(1, 2**62), ts=st.integers(-(2**61), 2**61), origin=st.none() | st.integers(-(2**63), 2**63 - 1)
)
def test_buckets_of_integers(plain: Connection, width: int, ts: int, origin: int | None) -> None:
    start = origin or 0
    extra: list[Any] = [] if origin is None else [origin]
    query = "SELECT ddstore.time_bucket(%s::bigint, %s::bigint" + (")" if origin is None else ", %s::bigint)")
    assert one(plain, query, width, ts, *extra) == ts - (ts - start) % width


def test_buckets_across_the_birth_of_christ(plain: Connection) -> None:
    query = "SELECT ddstore.time_bucket('2 months', t)::text FROM (VALUES (timestamp '%s')) v (t)"
    for ts, bucket in (("0001-01-31", "0001-01-01 00:00:00"), ("0001-12-31 BC", "0001-11-01 00:00:00 BC")):
        assert one(plain, query % ts) == bucket


@pytest.mark.parametrize("width", ["1 minute", "3 months"])
def test_infinity_and_null_have_no_bucket(plain: Connection, width: str) -> None:
    for type_ in ("timestamp", "timestamptz"):
        for ts in ("infinity", "-infinity"):
            assert one(plain, f"SELECT ddstore.time_bucket('{width}', '{ts}'::{type_})::text") == ts
        for call in (f"'{width}', NULL::{type_}", f"NULL::interval, '2024-01-01'::{type_}"):
            assert one(plain, f"SELECT ddstore.time_bucket({call})") is None


@pytest.mark.parametrize(
    "call",
    [
        "interval '0', now()",
        "interval '-1 hour', now()",
        "interval '-1 month', now()",
        "interval '1 month 1 day', now()",
        "interval '1 year 1 second', now()",
        "interval '1 month', now(), 'infinity'",
        "0, 7",
        "-10, 7",
    ],
)
def test_a_width_that_makes_no_buckets(plain: Connection, call: str) -> None:
    with pytest.raises((psycopg.errors.InvalidParameterValue, psycopg.errors.DatetimeFieldOverflow)):
        plain.execute(f"SELECT ddstore.time_bucket({call})".encode())


def test_a_fixed_width_costs_what_date_bin_costs(plain: Connection) -> None:
    plan = plain.execute(
        "EXPLAIN (VERBOSE, COSTS OFF) SELECT ddstore.time_bucket('5 min', started_at) FROM ddstore.job"
    ).fetchall()
    assert "date_bin('00:05:00'::interval, started_at" in str(plan)
    assert "month_bucket" not in str(plan)


# --- first and last

VALUES: dict[str, list[Any]] = {
    "float8": ["NaN", "-0", "1e-310", "-Infinity", None],
    "text": ["", "{}", 'a "b",c', None, "NULL"],
    "int2": [1, -32768, None, 0, 7],
    "jsonb": ["[1]", None, "{}", '"x"', "null"],
    "numeric(9,3)": ["1.500", "1.5", None, "NaN", "0"],
    "interval": ["1 month", "30 days", None, "0", "-1 day"],
}


@pytest.mark.parametrize("time_type", ["timestamptz", "timestamp", "bigint"])
@pytest.mark.parametrize("type_", VALUES)
def test_first_and_last_are_the_ends_of_an_ordered_query(plain: Connection, type_: str, time_type: str) -> None:
    at: list[Any] = (
        [3, -(2**62), 2**62, None, 0]
        if time_type == "bigint"
        else ["2024-01-01", "infinity", "-infinity", None, "0044-03-15 BC"]
    )
    plain.execute(f"CREATE TABLE t (at {time_type}, v {type_})".encode())
    for shift in range(5):  # every value has its turn at every time
        plain.execute("TRUNCATE t")
        rows = list(zip(at, VALUES[type_][shift:] + VALUES[type_][:shift], strict=True))
        plain.cursor().executemany(f"INSERT INTO t VALUES (%s::{time_type}, %s::{type_})".encode(), rows)
        found = one(plain, "SELECT ddstore.first(v, at)::text, ddstore.last(v, at)::text FROM t")
        ends = [
            one(plain, f"SELECT v::text FROM t WHERE at IS NOT NULL ORDER BY at {order} LIMIT 1")
            for order in ("", "DESC")
        ]
        assert list(found) == ends


def test_first_and_last_of_nothing_are_null(plain: Connection) -> None:
    query = "SELECT ddstore.first(v, t) IS NULL AND ddstore.last(v, t) IS NULL FROM (VALUES (1, NULL::int)) AS x (v, t)"
    assert one(plain, query) is True
    assert one(plain, query + " WHERE false") is True


def test_first_and_last_in_parallel_groups_and_windows(plain: Connection) -> None:
    plain.execute(
        "CREATE TABLE t AS SELECT i % 7 AS g, (i * 7919) % 100003 AS at, i::text AS v FROM generate_series(1, 50000) i;"
        "ANALYZE t; SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0;"
        "SET LOCAL min_parallel_table_scan_size = 0; SET LOCAL max_parallel_workers_per_gather = 3"
    )
    query = "SELECT g, ddstore.first(v, at), ddstore.last(v, at) FROM t GROUP BY g ORDER BY g"
    assert "Partial" in str(plain.execute(("EXPLAIN " + query).encode()).fetchall())
    expected = plain.execute(
        "SELECT g, (array_agg(v ORDER BY at))[1], (array_agg(v ORDER BY at DESC))[1] FROM t GROUP BY g ORDER BY g"
    ).fetchall()
    assert plain.execute(query.encode()).fetchall() == expected
    running = "SELECT ddstore.last(v, at) OVER (ORDER BY at), v FROM t WHERE g = 1"
    assert all(seen == v for seen, v in plain.execute(running.encode()).fetchall())


# --- range_agg


def both(made: Any, column: str, key: list[Any], low: str | None, high: str | None) -> tuple[Any, Any]:
    """What range_agg says of a range of times, given as SQL, and what SQL says of the rows of the truth."""
    ours = one(
        made.conn,
        f"SELECT * FROM ddstore.range_agg('{made.table.label}', '{column}', %s, {low or 'NULL'}, {high or 'NULL'})",
        psycopg.types.json.Jsonb(key),
    )
    where = [f"time >= {low}" if low else "true", f"time < {high}" if high else "true"]
    where += [f"{c.name} IS NOT DISTINCT FROM %s::{c.type}" for c in made.table.keys]
    float_ = made.table.columns[column].type.startswith("float")
    exact = "::float8::text::numeric" if float_ else "::numeric"
    kind = "float8" if float_ else "numeric"
    truth = made.conn.execute(
        SQL(
            f"SELECT count({column}), min({column}){exact}, max({column}){exact}, sum({column}::{kind})::text::numeric,"
            f" avg({column}::{kind})::text::numeric FROM {{}} WHERE {' AND '.join(where)}"
        ).format(made.truth),
        key,
    ).fetchone()
    return ours, truth


def agree(made: Any, column: str, key: list[Any], low: str | None = None, high: str | None = None) -> None:
    """count, min, max and sums of integers are the same, sums of floats nearly."""
    ours, truth = both(made, column, key, low, high)
    assert str(ours[:3]) == str(truth[:3]), (column, key, low, high)  # as text, in which NaN is NaN
    if not made.table.columns[column].type.startswith("float"):
        assert ours[3:] == truth[3:]
        return
    for a, b in zip(ours[3:], truth[3:], strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert float(a) == pytest.approx(float(b), rel=1e-9, abs=1e-9, nan_ok=True)


SECONDS = "timestamptz '2000-01-01 00:00 UTC' + {} * interval '1 s'"


@settings(relaxed, max_examples=60)
@given(
    column=st.sampled_from(["temp", "flow", "rpm", "count", "level"]),
    device=st.sampled_from(["a", "b", None, "nobody"]),
    low=st.none() | st.integers(-10, 710).map(lambda n: n * 10),
    length=st.none() | st.integers(-1, 720).map(lambda n: n * 10),
)
def test_ranges_agree_with_plain_sql(
    sensors: Any, column: str, device: str | None, low: int | None, length: int | None
) -> None:
    high = None if length is None else (low or 0) + length
    agree(sensors, column, [device], *(None if at is None else SECONDS.format(at) for at in (low, high)))


pieces = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 25), st.booleans()), min_size=1, max_size=8)


@settings(relaxed, max_examples=25)
@given(pieces=pieces, ranges=st.lists(st.tuples(st.integers(-1, 90), st.integers(0, 60)), min_size=4, max_size=4))
def test_segments_may_overlap(
    cold_table: Callable[..., Any], conn: Connection, pieces: list[Any], ranges: list[Any]
) -> None:
    conn.execute("DROP SCHEMA IF EXISTS plant CASCADE; DELETE FROM ddstore.managed_table")
    made = cold_table({}, {"v": "float8", "n": "int8"}, time_type="int8")
    special = [None, float("nan"), float("inf"), -0.0]
    for start, length, cold in pieces:
        time = np.arange(start, start + length, dtype=np.int64)
        values = [special[t % 11] if t % 11 < 4 and t > 40 else t / 8 for t in time.tolist()]
        (made.cold if cold else made.hot)([], time, {"v": values, "n": [2**62 - t for t in time.tolist()]})
    for start, length in [*ranges, (0, 100)]:
        for column in ("v", "n"):
            agree(made, column, [], str(start), str(start + length))
    for column in ("v", "n"):
        agree(made, column, [])


def test_numbers_come_back_as_they_are(cold_table: Callable[..., Any]) -> None:
    made = cold_table({}, {"d": "float8", "f": "float4", "n": "int8"}, time_type="timestamp")
    rows: dict[str, list[Any]] = {
        "d": [0.1 + 0.2, 5e-324],
        "f": [float(np.float32(0.1)), 3.0],
        "n": [2**63 - 1, -(2**63)],
    }
    made.cold([], np.array([1, 2]), rows)
    made.conn.execute("SET LOCAL extra_float_digits = -10")
    for column, values in rows.items():
        query = f"SELECT min, max FROM ddstore.range_agg('{made.table.label}', '{column}', '[]', NULL, NULL)"
        low, high = one(made.conn, query)
        assert (type(values[0])(low), type(values[0])(high)) == (min(values), max(values))


def test_times_in_any_form(sensors: Any) -> None:
    sensors.conn.execute("SET LOCAL datestyle = 'German'; SET LOCAL timezone = 'Europe/Berlin'")
    expected = both(sensors, "count", ["a"], SECONDS.format(55), SECONDS.format(4321))[1]
    for low, high in (
        ("'01.01.2000 01:00:55'", "'01.01.2000 02:12:01 CET'"),
        ("timestamp '2000-01-01 01:00:55'", SECONDS.format(4321)),
    ):
        assert both(sensors, "count", ["a"], low, high)[0] == expected
    agree(sensors, "rpm", ["a"], "date '2000-01-01'", "date '2000-01-02'")


def test_only_edges_are_decoded(sensors: Any) -> None:
    damage = SQL("UPDATE {} SET {} = '\\x00' WHERE k{} = 'a' AND t_min = {}")
    ids = sensors.table.columns["temp"].id, sensors.table.columns["device"].id
    start = SQL(SECONDS.format(2000))
    sensors.conn.execute(
        damage.format(sensors.table.segments_identifier, SQL(f"c{ids[0]}_residual"), SQL(str(ids[1])), start)
    )
    agree(sensors, "temp", ["a"], SECONDS.format(1500), SECONDS.format(6300))
    agree(sensors, "temp", ["a"], SECONDS.format(2000), SECONDS.format(3000))
    with pytest.raises(psycopg.errors.DataCorrupted):
        both(sensors, "temp", ["a"], SECONDS.format(2010), SECONDS.format(6300))


def test_columns_and_tables_may_have_any_name(sensors: Any) -> None:
    expected = both(sensors, "temp", ["a"], None, None)[1]
    sensors.conn.execute(
        """ALTER TABLE plant.sensors RENAME temp TO "%s $1 ""x"; ALTER TABLE plant.sensors RENAME device TO "%I";
           ALTER TABLE plant.sensors RENAME time TO "When"; ALTER TABLE plant.sensors RENAME TO "S %L" """
    )
    found = one(
        sensors.conn,
        """SELECT * FROM ddstore.range_agg('plant."S %%L"', '%%s $1 "x', '["a"]', NULL, '2100-01-01')""",
    )
    assert found[:3] == expected[:3]


def test_keys_of_other_types(cold_table: Callable[..., Any]) -> None:
    made = cold_table({"site": "bpchar", "day": "date", "unit": "int4"}, {"v": "int4"})
    made.conn.execute("SET LOCAL datestyle = 'SQL, DMY'")
    for site, day, unit in (("x", "2024-02-01", 7), ("xyz", "2024-01-02", 7), ("xyz", "2024-02-01", None)):
        made.cold([site, day, unit], np.arange(10), {"v": list(range(10))})
        agree(made, "v", [site, day, unit])
    assert both(made, "v", ["x", "2024-01-02", 7], None, None)[0][0] == 0


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ("'plant.sensors_truth', 'temp', '[\"a\"]'", "WrongObjectType", "not a managed table"),
        ("NULL, 'temp', '[\"a\"]'", "WrongObjectType", "not a managed table"),
        ("'plant.sensors', 'nothing', '[\"a\"]'", "UndefinedColumn", "nothing"),
        ("'plant.sensors', NULL, '[\"a\"]'", "UndefinedColumn", "NULL"),
        ("'plant.sensors', 'state', '[\"a\"]'", "UndefinedColumn", "state"),
        ("'plant.sensors', 'time', '[\"a\"]'", "UndefinedColumn", "time"),
        ("'plant.sensors', 'temp', '[]'", "InvalidParameterValue", "key columns: device"),
        ("'plant.sensors', 'temp', '{\"device\": \"a\"}'", "InvalidParameterValue", "key columns: device"),
        ("'plant.sensors', 'temp', NULL", "InvalidParameterValue", "key columns: device"),
    ],
)
def test_what_cannot_be_aggregated_says_so(sensors: Any, call: str, error: str, words: str) -> None:
    with pytest.raises(getattr(psycopg.errors, error), match=re.escape(words)) as caught:
        sensors.conn.execute(f"SELECT ddstore.range_agg({call}, NULL, NULL)".encode())
    assert caught.value.diag.message_hint


def test_without_the_extension_there_is_no_range_agg(plain: Connection) -> None:
    plain.execute(
        "CREATE TABLE t (time timestamptz);INSERT INTO ddstore.managed_table (relation) VALUES ('t'::regclass)"
    )
    with pytest.raises(psycopg.errors.FeatureNotSupported, match=r"cold rows of public\.t"):
        plain.execute("SELECT ddstore.range_agg('t', 'v', '[]', NULL, NULL)")


# --- rights


def test_rights_are_those_on_the_table(sensors: Any, database_url: str, ordinary_role: Callable[[str], str]) -> None:
    expected = both(sensors, "count", ["a"], None, None)[1]
    url = ordinary_role(database_url)
    role = Identifier(str(conninfo_to_dict(url)["user"]))
    sensors.conn.execute(SQL("GRANT USAGE ON SCHEMA plant TO {}").format(role))
    sensors.conn.commit()

    def allow(what: str) -> None:
        sensors.conn.execute(SQL(what).format(role))
        sensors.conn.commit()

    query = "SELECT * FROM ddstore.range_agg('plant.sensors', 'count', '[\"a\"]', NULL, NULL)"
    with psycopg.connect(url, autocommit=True) as other:
        for grant in (None, "GRANT SELECT (time, count) ON plant.sensors TO {}"):
            if grant:
                allow(grant)
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="sensors"):
                other.execute(query.encode())
        allow("GRANT SELECT (device) ON plant.sensors TO {}")
        assert one(other, query) == expected
        # Segments alone open nothing; with them the statistics answer.
        allow("REVOKE SELECT (time, count, device) ON plant.sensors FROM {}")
        allow(f"GRANT SELECT ON ddstore.segment_{sensors.table.id} TO {{}}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="sensors"):
            other.execute(query.encode())
        allow("GRANT SELECT ON plant.sensors TO {}")
        assert one(other, query) == expected
        allow("CREATE POLICY own ON plant.sensors TO {} USING (true)")
        allow("ALTER TABLE plant.sensors ENABLE ROW LEVEL SECURITY")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="row-level security"):
            other.execute(query.encode())
    assert one(sensors.conn, query) == expected
    sensors.conn.rollback()  # or the role's end waits for it


# --- isolation


def test_a_row_that_moves_meanwhile_is_counted_once(twins: Any, database_url: str) -> None:
    """Compaction after compaction commits while readers ask; the rows that are there never change."""
    twins.insert(1, 6000)
    expected = twins.number("SELECT count(value) FROM {t}")
    done = threading.Event()
    wrong: list[Any] = []
    asked: list[int] = []

    def ask() -> None:
        with connect(database_url) as conn:
            conn.autocommit = True
            while not done.is_set() or not asked:
                for limits in ("NULL, NULL", "'2024-01-01', '2024-01-02'"):
                    query = f"SELECT count FROM ddstore.range_agg('watched', 'value', '[\"a\"]', {limits})"
                    found = one(conn, query)
                    asked.append(found)
                    if found != expected:
                        wrong.append(found)

    readers = [threading.Thread(target=ask) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        assert twins.compact().rows == 6000
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert asked
    assert wrong == []
    assert twins.hot == 0


# --- the recipes of docs/sql.md


def recipes(title: str) -> list[str]:
    section = RECIPES.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    return re.findall(r"```sql\n(.*?)```", section, re.DOTALL)


@pytest.fixture
def plant(cold_table: Callable[..., Any]) -> Any:
    """A device that sends every 20 s for 25 minutes, but for nine minutes; the last third is hot."""
    made = cold_table({"device": "text"}, {"temp": "float8"})
    seconds = [s for s in range(0, 1500, 20) if not 360 <= s < 900]
    for part in range(3):
        some = seconds[part * len(seconds) // 3 : (part + 1) * len(seconds) // 3]
        time = np.array(some, dtype=np.int64) * 1_000_000
        (made.hot if part == 2 else made.cold)(["boiler"], time, {"temp": [s / 60 for s in some]})
    return made


def test_every_query_runs(plant: Any) -> None:
    queries = recipes("Functions")
    assert len(queries) >= 5
    for query in queries:
        rows = plant.conn.execute(query.replace("2024-01-01", "2000-01-01").encode()).fetchall()
        assert rows
