"""time_bucket_gapfill and its parts: against the query that one would write without them, and against plain Python."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.sql import SQL
from psycopg.types.json import Jsonb

from ddstore.db.pool import Connection

DOCS = Path(__file__).resolve().parents[2] / "docs" / "sql.md"
relaxed = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

#: What filling gaps takes without the functions; {low} and {high} are t0 and t1.
BY_HAND = """
WITH bucketed AS (
    SELECT ddstore.time_bucket({width}, time) AS bucket, count(v), min(v)::float8, max(v)::float8, avg(v)::float8
      FROM {table} WHERE device IS NOT DISTINCT FROM {device} AND time >= {low} AND time < {high} GROUP BY 1),
filled AS (
    SELECT bucket, coalesce(count, 0) AS count, min, max, avg,
           ddstore.last(avg, bucket) FILTER (WHERE avg IS NOT NULL) OVER up AS before,
           max(bucket) FILTER (WHERE avg IS NOT NULL) OVER up AS t_before,
           ddstore.first(avg, bucket) FILTER (WHERE avg IS NOT NULL) OVER down AS after,
           min(bucket) FILTER (WHERE avg IS NOT NULL) OVER down AS t_after
      FROM generate_series(ddstore.time_bucket({width}, {low}), {high} - interval '1 us', {width}) AS bucket
      LEFT JOIN bucketed USING (bucket)
    WINDOW up AS (ORDER BY bucket), down AS (ORDER BY bucket DESC))
SELECT bucket, count, min, max, avg, before,
       CASE WHEN avg IS NOT NULL THEN avg
            ELSE before + (after - before) * (extract(epoch FROM bucket - t_before)::float8
                                              / extract(epoch FROM t_after - t_before)::float8) END
  FROM filled ORDER BY bucket"""


@pytest.fixture
def plant(cold_table: Callable[..., Any]) -> Callable[[str], Any]:
    """Two devices that send every ten days for three years, with long pauses and NULLs; the last rows are hot."""

    def make(time_type: str) -> Any:
        made = cold_table({"device": "text"}, {"v": "float8", "n": "int8"}, time_type=time_type)
        made.conn.execute("SET LOCAL timezone = 'UTC'")
        for device, pause in (("a", 40), (None, 60)):
            day = np.array([d for d in range(0, 1095, 10) if d % 200 < 200 - pause], dtype=np.int64)
            for part in range(3):
                some = day[part * len(day) // 3 : (part + 1) * len(day) // 3]
                values = [None if d % 70 == 0 else d / 7 for d in some.tolist()]
                rows = {"v": values, "n": [2**60 + d for d in some.tolist()]}
                (made.hot if part == 2 else made.cold)([device], some * 86_400_000_000, rows)
        return made

    return make


def filled(made: Any, call: str, *params: Any) -> list[Any]:
    return list(made.conn.execute(SQL(f"SELECT * FROM ddstore.time_bucket_gapfill({call})"), params).fetchall())


def same(ours: list[Any], expected: list[Any]) -> None:
    assert [row[:2] for row in ours] == [row[:2] for row in expected]
    for row, wanted in zip(ours, expected, strict=True):
        assert [v is None for v in row] == [v is None for v in wanted], wanted
        assert [v for v in row[2:] if v is not None] == pytest.approx([v for v in wanted[2:] if v is not None])


@pytest.mark.parametrize("time_type", ["timestamptz", "timestamp"])
def test_gaps_are_filled_as_by_hand(plant: Callable[[str], Any], time_type: str) -> None:
    made = plant(time_type)
    for width, device in product(("7 days", "1 month", "1 year", "5 hours"), ("a", None, "nobody")):
        end = "2000-02-09 10:00" if width == "5 hours" else "2003-04-05 06:07"
        low, high = f"{time_type} '2000-01-05 03:21'", f"{time_type} '{end}'"
        names = {"device": "NULL" if device is None else f"'{device}'", "low": low, "high": high}
        query = BY_HAND.format(width=f"interval '{width}'", table=made.table.label, **names)
        expected = made.conn.execute(SQL(query)).fetchall()
        assert expected
        call = f"interval '{width}', '{made.table.label}', 'v', %s, {low}, {high}"
        same(filled(made, call, Jsonb([device])), expected)


def test_the_session_time_zone_does_not_matter(plant: Callable[[str], Any]) -> None:
    made = plant("timestamptz")
    call = f"interval '1 month', '{made.table.label}', 'v', '[\"a\"]', '2000-01-01 UTC', '2002-01-01 UTC'"
    expected = filled(made, call)
    assert len(expected) == 24
    made.conn.execute("SET LOCAL timezone = 'Europe/Berlin'")
    same(filled(made, call), expected)


@relaxed
@given(
    rows=st.lists(st.tuples(st.integers(-40, 60), st.none() | st.integers(-9, 9)), max_size=12),
    width=st.integers(1, 20),
    low=st.integers(-50, 40),
    length=st.integers(-3, 60),
)
def test_gaps_of_integer_times(
    cold_table: Callable[..., Any], rows: list[tuple[int, int | None]], width: int, low: int, length: int
) -> None:
    name = f"plant.t{abs(hash((tuple(rows), width, low, length)))}"
    made = cold_table({}, {"v": "int4"}, time_type="int8", name=name)
    rows.sort(key=lambda row: row[0])
    for place, (time, value) in enumerate(rows):
        (made.cold if place % 2 else made.hot)([], np.array([time]), {"v": [value]})
    values: dict[int, list[int]] = {b: [] for b in range(low // width * width, low + length, width)}
    for time, value in rows:
        if low <= time < low + length and value is not None:
            values[time // width * width].append(value)
    known = {bucket: float(np.mean(some)) for bucket, some in values.items() if some}
    expected = []
    for bucket, some in values.items():
        before = max((b for b in known if b <= bucket), default=None)
        after = min((b for b in known if b >= bucket), default=None)
        line = (
            None
            if before is None or after is None
            else np.interp(bucket, [before, after], [known[before], known[after]])
        )
        ends = (min(some), max(some)) if some else (None, None)
        expected.append((bucket, len(some), *ends, known.get(bucket), None if before is None else known[before], line))
    same(filled(made, f"{width}, '{name}', 'v', '[]', {low}, {low + length}"), expected)


def test_exact_keys_and_large_integers(plant: Callable[[str], Any]) -> None:
    made = plant("timestamptz")
    rows = filled(made, f"interval '1 year', '{made.table.label}', 'n', '[null]', '2000-01-01Z', '2001-01-01Z'")
    assert rows[0][2] == float(2**60)
    assert rows[0][1] == sum(d % 200 < 140 for d in range(0, 366, 10))


@relaxed
@given(width=st.timedeltas(timedelta(seconds=1), timedelta(days=9)), hours=st.integers(-3, 300))
def test_buckets_are_those_of_time_bucket(plain: Connection, width: timedelta, hours: int) -> None:
    low = datetime(2024, 3, 29, 17, 4, 2)
    width = max(width, timedelta(hours=hours) / 500)
    plain.execute("SET LOCAL timezone = 'Europe/Berlin'")
    query = "SELECT array_agg(b) FROM ddstore.buckets(%(w)s::interval, %(low)s, %(high)s) b"
    find = {"w": width, "low": low, "high": low + timedelta(hours=hours)}
    (found,) = plain.execute(query, find).fetchone() or ()
    (first,) = plain.execute("SELECT ddstore.time_bucket(%(w)s, %(low)s::timestamp)", find).fetchone() or ()
    count = -(-(find["high"] - first) // width)  # type: ignore[operator]
    assert (found or []) == [first + width * step for step in range(count)]
    zoned = query.replace("%(low)s", "%(low)s AT TIME ZONE 'UTC'").replace("%(high)s", "%(high)s AT TIME ZONE 'UTC'")
    (in_utc,) = plain.execute(zoned.replace("array_agg(b)", "array_agg(b AT TIME ZONE 'UTC')"), find).fetchone() or ()
    assert in_utc == found


def test_buckets_of_nothing(plain: Connection) -> None:
    for call in (
        "interval '1 h', NULL::timestamptz, now()",
        "NULL, 1, 2",
        "interval '1 h', now(), now() - interval '1 d'",
    ):
        assert plain.execute(SQL(f"SELECT ddstore.buckets({call})")).fetchall() == []


REFUSED = (
    ("interval '0', '{t}', 'v', '[\"a\"]', '2000-01-01', '2000-01-02'", "stride must be greater than zero"),
    ("interval '1 h', '{t}', 'v', '[\"a\"]', '-infinity', '2000-01-02'", "no end of buckets"),
    ("interval '1 h', '{t}', 'v', '[\"a\"]', NULL, '2000-01-02'", "t0 or t1 is NULL"),
    ("interval '1 h', '{t}_truth', 'v', '[\"a\"]', '2000-01-01', '2000-01-02'", "not a managed table"),
    ("interval '1 h', '{t}', 'v', '[]', '2000-01-01', '2000-01-02'", "key columns: device"),
    ("interval '1 h', '{t}', 'v', '{{}}', '2000-01-01', '2000-01-02'", "key columns: device"),
    ("interval '1 h', '{t}', 'x', '[\"a\"]', '2000-01-01', '2000-01-02'", "no column x of numbers"),
    ("interval '1 h', '{t}', 'device', '[\"a\"]', '2000-01-01', '2000-01-02'", "no column device of numbers"),
    ("60, '{t}', 'v', '[\"a\"]', 1, 2", 'column "?time"? of .* is of type timestamp with time zone'),
)


def test_what_cannot_be_filled_says_so(plant: Callable[[str], Any]) -> None:
    made = plant("timestamptz")
    for call, words in REFUSED:
        with pytest.raises(psycopg.Error, match=words), made.conn.transaction():
            filled(made, call.format(t=made.table.label))


def test_without_the_extension_there_is_no_gapfill(plain: Connection) -> None:
    plain.execute(
        "CREATE TABLE t (time timestamptz);INSERT INTO ddstore.managed_table (relation) VALUES ('t'::regclass)"
    )
    with pytest.raises(psycopg.errors.FeatureNotSupported, match=r"cold rows of public\.t"):
        plain.execute("SELECT ddstore.time_bucket_gapfill(interval '1 h', 't', 'v', '[]', now(), now())")


def test_any_query_is_filled_by_the_parts(plain: Connection) -> None:
    plain.execute("SET LOCAL timezone = 'UTC'")
    rows = plain.execute(
        """SELECT b, ddstore.locf(v) OVER up, ddstore.locf(word) OVER up,
                  ddstore.interpolate(
                      ddstore.locf(ddstore.knot(v, b)) OVER up, ddstore.locf(ddstore.knot(v, b)) OVER down, b)
             FROM (VALUES (0, NULL, NULL), (10, 1, 'x'), (20, NULL, NULL), (40, 4, ''), (50, NULL, 'y')) r (b, v, word)
           WINDOW up AS (ORDER BY b), down AS (ORDER BY b DESC) ORDER BY b"""
    ).fetchall()
    assert rows == [(0, None, None, None), (10, 1, "x", 1), (20, 1, "x", 2), (40, 4, "", 4), (50, 4, "y", None)]


def test_special_numbers_are_carried_on(plain: Connection) -> None:
    row = plain.execute(
        """SELECT ddstore.interpolate(point(0, 'NaN'), point(10, 1), 5),
                  ddstore.interpolate(point(0, 'Infinity'), NULL, 0),
                  ddstore.interpolate(point(0, '-Infinity'), point(10, 1), 0),
                  ddstore.interpolate(point(5, 1), NULL, 6)"""
    ).fetchone()
    assert str(row) == "(nan, inf, -inf, None)"


def test_the_recipe_says_what_the_function_says(cold_table: Callable[..., Any]) -> None:
    # Both are in docs/sql.md; with one row a bucket max() and avg are the same.
    made = cold_table({"device": "text"}, {"temp": "float8"})
    made.conn.execute("SET LOCAL timezone = 'UTC'")
    minutes = np.array([1, 6, 22])
    made.cold(["boiler"], minutes * 60_000_000, {"temp": [3.0, None, 9.0]})
    chapter = DOCS.read_text().split("\n### Gaps\n")[1].split("\n## ")[0]
    queries = re.findall(r"```sql\n(.*?)```", chapter, re.DOTALL)
    (function,) = [q for q in queries if "time_bucket_gapfill" in q]
    (recipe,) = [q for q in queries if "DISTINCT device" in q]
    rows = made.conn.execute(SQL(function.replace("2024-01-01", "2000-01-01"))).fetchall()
    assert [row[1:] for row in rows] == [
        (3, 3, 3),
        (None, 3, 4.5),
        (None, 3, 6),
        (None, 3, 7.5),
        (9, 9, 9),
        (None, 9, None),
    ]
    found = made.conn.execute(SQL(recipe.replace("2024-01-01", "2000-01-01"))).fetchall()
    assert [row[1:] for row in found] == rows
