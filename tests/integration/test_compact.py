"""Compaction end to end: what is due becomes cold, every kind of value comes back, the report says what was done."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from psycopg.sql import SQL, Identifier

from ddstore.bounds import Absolute, Bound, Lossless, RangeRelative, Relative
from ddstore.compact import CompactOptions, compact, rows, verify, worker
from ddstore.compact.plan import plan_table
from ddstore.db.catalog import ManagedTable, load_table
from ddstore.db.manage import adopt, create_table, detach_cold, set_column_bound, set_series_bound
from ddstore.db.pool import Connection, Database
from ddstore.errors import InvalidSeries, SchemaMismatch
from fix_compact import Twins

EVERYTHING = CompactOptions(all=True, train="never", vacuum=False)


def _fill(conn: Connection, query: str) -> None:
    conn.execute(query)  # type: ignore[call-overload]
    conn.commit()


def _managed(conn: Connection, columns: str, key: list[str], **options: Any) -> ManagedTable:
    conn.execute(SQL(f"CREATE TABLE watched ({columns})"))  # type: ignore[arg-type]
    table = adopt(conn, "watched", time="time", key=key, segment_rows=64, **options)
    conn.commit()
    return table


def _kept(conn: Connection, db: Database, bits: str = "") -> None:
    """Compact everything; ``watched`` must show the same rows as before. ``bits``: columns compared by their bits."""
    columns = "watched::text" + "".join(f", {send}" for send in bits.split(",") if send)
    query = SQL(f"SELECT {columns} FROM watched ORDER BY watched::text")  # type: ignore[arg-type]
    before = conn.execute(query).fetchall()
    conn.commit()
    report = compact(db, EVERYTHING)
    assert report.failed == []
    assert report.rows == len(before) > 0
    assert conn.execute("SELECT count(*) FROM ONLY watched").fetchall() == [(0,)]
    assert conn.execute(query).fetchall() == before
    conn.commit()
    assert verify(db).damaged == []


@pytest.fixture
def whole(needs_extension: None, db: Database, conn: Connection) -> tuple[Database, Connection]:
    """A database whose tables show cold rows."""
    return db, conn


def test_every_native_type_with_its_oddities(whole: tuple[Database, Connection]) -> None:
    db, conn = whole
    _managed(conn, "time timestamptz, a float4, b float8, c int2, d int4, e int8", [])
    _fill(
        conn,
        """INSERT INTO watched
           SELECT timestamptz '2024-01-01' + g * interval '1 min',
                  (ARRAY['NaN', 'Infinity', '-Infinity', '-0', NULL, '1e-45', '3.4e38', '0.1'])[1 + g % 8]::float4,
                  (ARRAY['NaN', 'Infinity', '-Infinity', '-0', NULL, '5e-324', '1.7e308', '0.1'])[1 + g % 8]::float8,
                  CASE g % 4 WHEN 0 THEN -32768 WHEN 1 THEN 32767 WHEN 2 THEN g END,
                  CASE g % 4 WHEN 0 THEN -2147483648 WHEN 1 THEN 2147483647 WHEN 2 THEN g END,
                  CASE g % 4 WHEN 0 THEN -9223372036854775808 WHEN 1 THEN 9223372036854775807 WHEN 2 THEN g END
           FROM generate_series(1, 200) AS g""",
    )
    _kept(conn, db, "float4send(a),float8send(b)")
    for number, column in enumerate("cde", start=4):
        stored = f"SELECT sum(c{number}_sum), min(c{number}_min), max(c{number}_max), sum(c{number}_count) FROM {{}}"
        told = conn.execute(SQL(stored).format(load_table(conn, "watched").segments_identifier))  # type: ignore[arg-type]
        true = conn.execute(SQL(f"SELECT sum({column}), min({column}), max({column}), count({column}) FROM watched"))  # type: ignore[arg-type]
        assert told.fetchall() == true.fetchall()


@pytest.mark.parametrize(
    ("type_", "times"),
    [
        ("timestamptz", "timestamptz '0044-03-15 BC' + g * interval '40 years'"),
        ("timestamptz", "CASE WHEN g < 50 THEN '-infinity' WHEN g > 150 THEN 'infinity' ELSE now() END::timestamptz"),
        ("timestamp", "timestamp '2024-01-01' + (g * 7919 % 200) * interval '1 us'"),
        ("timestamp", "timestamp '2024-01-01'"),
        ("int8", "1700000000000000000 + g * 1000 + g % 3"),
        ("int8", "CASE WHEN g % 2 = 0 THEN -9223372036854775808 ELSE 9223372036854775807 END"),
    ],
)
def test_every_kind_of_time(whole: tuple[Database, Connection], type_: str, times: str) -> None:
    db, conn = whole
    _managed(conn, f"time {type_} NOT NULL, v int4", [])
    _fill(conn, f"INSERT INTO watched SELECT {times}, g FROM generate_series(1, 200) AS g")
    _kept(conn, db)


@pytest.mark.parametrize(
    ("type_", "keys"),
    [
        ("text", "'a', NULL, '', 'Ä''\"\\ [x]', 'a '"),
        ("numeric", "1.0, 1.00, 1, NULL, 'NaN'"),  # equal, and yet they must come back as they were
        ("float8", "'0', '-0', 'NaN', '1e300', NULL"),
        ("uuid", "'00000000-0000-0000-0000-000000000001', 'ffffffff-0000-0000-0000-000000000001', NULL"),
        ("bool", "true, false, NULL"),
        ("date", "'2024-02-29', '-infinity', '0044-03-15 BC', NULL"),
        ("timestamptz", "'2024-02-29 12:00+02', 'infinity', NULL"),
        ("interval", "'1 month', '30 days', NULL"),
        ("mood", "'sad', 'happy', NULL"),
        ("varchar(3)", "'a', 'b ', NULL"),
        ("char(4)", "'a', 'b', NULL"),
        ("int2", "-1, 0, 1, NULL"),
    ],
)
def test_every_kind_of_key(whole: tuple[Database, Connection], type_: str, keys: str) -> None:
    db, conn = whole
    conn.execute("CREATE SCHEMA apart; CREATE TYPE apart.mood AS ENUM ('happy', 'sad')")
    type_ = type_.replace("mood", "apart.mood")
    _managed(conn, f'"the key" {type_}, unit int4, time timestamptz NOT NULL, v float4', ["the key", "unit"])
    _fill(
        conn,
        f"""INSERT INTO watched SELECT k, u, timestamptz '2024-01-01' + g * interval '1 s', g
            FROM unnest(ARRAY[{keys}]::{type_}[]) AS k, unnest(ARRAY[1, NULL]) AS u, generate_series(1, 70) AS g""",
    )
    _kept(conn, db)


def test_other_types_are_kept_as_arrays(whole: tuple[Database, Connection]) -> None:
    db, conn = whole
    conn.execute("CREATE TYPE pair AS (a int, b text)")
    _managed(conn, "time timestamptz NOT NULL, t text, j jsonb, p pair, n numeric, y bytea, x json", [])
    _fill(
        conn,
        """INSERT INTO watched
           SELECT timestamptz '2024-01-01' + g / 4 * interval '1 s',
                  CASE WHEN g % 3 <> 0 THEN repeat('"{,}\\ ', g % 50) END, CASE WHEN g % 4 <> 0 THEN to_jsonb(g) END,
                  CASE WHEN g % 5 <> 0 THEN ROW(g, NULL)::pair END, g / 3.0, decode(md5(g::text), 'hex'), '{"a": 1}'
           FROM generate_series(1, 300) AS g""",
    )
    _kept(conn, db)


def test_a_table_without_key(twins: Twins) -> None:
    twins.conn.execute("CREATE TABLE lone (time int8 NOT NULL, v int2)")
    adopt(twins.conn, "lone", time="time", segment_rows=16)
    twins.conn.execute("INSERT INTO lone SELECT g, g FROM generate_series(1, 100) AS g")
    twins.conn.commit()
    report = compact(twins.database, CompactOptions(table="lone", all=True, train="never"))
    assert [(s.series, s.rows, s.segments) for s in report.series] == [((), 100, 7)]


def test_strange_names(whole: tuple[Database, Connection]) -> None:
    """Percent signs, quotes and braces in names and keys are neither placeholders nor SQL."""
    db, conn = whole
    _fill(
        conn,
        """CREATE TABLE "%s {} ""t" ("the %(time)s" timestamptz NOT NULL, "%" text, "{v} %%" float8, "'%b" text)""",
    )
    table = adopt(conn, '"%s {} ""t"', time="the %(time)s", key=["%"], segment_rows=64)
    _fill(
        conn,
        r"""INSERT INTO "%s {} ""t" SELECT timestamptz '2024-01-01' + g * interval '1 s', k, g, k || g
            FROM unnest(ARRAY['50 %', '%(x)s', '{}', '\', '''']) AS k, generate_series(1, 70) AS g""",
    )
    report = compact(db, EVERYTHING)
    assert (report.failed, report.rows) == ([], 350)
    query = SQL("SELECT count(*), count(*) FILTER (WHERE {} = {} || {}) FROM {}").format(
        *map(Identifier, ("'%b", "%", "{v} %%")), table.identifier
    )
    assert conn.execute(query).fetchall() == [(350, 350)]
    assert verify(db).ok


def test_hot_for_keeps_young_rows(twins: Twins) -> None:
    twins.conn.execute("UPDATE ddstore.managed_table SET hot_for = '1 hour'")
    twins.add(
        """SELECT g, 'a', timestamptz '2024-01-01' + g * interval '1 min', g, NULL
           FROM generate_series(0, 599) AS g"""
    )
    now = datetime(2024, 1, 1, 10, tzinfo=UTC)
    options = {"all": False, "min_rows": 1, "now": now}
    assert twins.compact(**options).rows == 9 * 60
    assert twins.number("SELECT extract(epoch FROM min(time) - '2024-01-01')::int FROM ONLY {t}") == 9 * 3600
    assert twins.compact(**options).rows == 0
    assert twins.compact().rows == 60
    assert twins.differences() == []


@pytest.mark.parametrize(
    ("rows", "options", "moved"),
    [
        (7, {}, 0),  # min_rows is 8
        (8, {}, 8),
        (64 + 7, {}, 64),
        (64 + 8, {}, 72),
        (64 + 8, {"partial": False}, 64),
        (100, {"min_rows": 50}, 64),
        (100, {"min_rows": 200}, 0),
        (100, {"segment_rows": 16}, 96),
        (7, {"all": True}, 7),
        (65, {"all": True, "partial": False}, 65),
    ],
)
def test_what_is_too_little_stays_hot(twins: Twins, rows: int, options: dict[str, Any], moved: int) -> None:
    twins.insert(1, rows)
    report = twins.compact(**({"all": False} | options))
    assert (report.rows, twins.hot) == (moved, rows - moved)
    assert report.failed == []
    assert twins.differences() == []


def test_many_batches_of_one_series(twins: Twins) -> None:
    """More rows than are read at once, and more than fit one transaction."""
    twins.monkeypatch.setattr(worker, "READ_SEGMENTS", 5)
    twins.monkeypatch.setattr(worker, "COMMIT_ROWS", 130)
    twins.insert(1, 3000)
    calls: list[tuple[str, int, int]] = []
    options = CompactOptions(all=True, train="never", vacuum=False)
    report = compact(twins.database, options, progress=lambda *call: calls.append(call))
    assert (report.rows, report.segments) == (3000, 47)
    assert calls[-1] == ("public.watched[a]", 3000, 3000)
    assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)
    assert twins.differences() == []


def test_hundreds_of_small_series(twins: Twins) -> None:
    twins.add(
        """SELECT g, 'star ' || s, timestamptz '2024-01-01' + g * interval '1 day', g % 10, NULL
           FROM generate_series(1, 300) AS s, generate_series(1, 20 + s % 5) AS g"""
    )
    report = twins.compact()
    assert (len(report.series), report.segments, report.rows) == (300, 300, twins.cold)
    assert twins.hot == 0
    assert twins.differences() == []
    assert twins.number("SELECT count(*) FROM ddstore.job WHERE state = 'done'") == 300


BOUNDS = [Absolute(0.01), Relative(1e-3), RangeRelative(1e-3), Absolute(1e-30)]


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
@pytest.mark.parametrize("type_", ["float4", "float8", "int4"])
def test_bounds_hold_in_sql(whole: tuple[Database, Connection], bound: Bound, type_: str) -> None:
    db, conn = whole
    _managed(conn, f"id int4, time timestamptz NOT NULL, v {type_}", [], max_error={"v": bound})
    _fill(
        conn,
        """INSERT INTO watched SELECT g, timestamptz '2024-01-01' + g * interval '1 s',
           CASE WHEN g % 11 = 0 THEN NULL ELSE (sin(g / 10.0) * 1000 + g % 7)::numeric(20, 6) END
           FROM generate_series(1, 1000) AS g""",
    )
    conn.execute("CREATE TABLE truth AS SELECT * FROM watched")
    conn.commit()
    assert compact(db, EVERYTHING).rows == 1000
    allowed = {
        "absolute": f"{bound.value!r}",
        "relative": f"{bound.value!r} * abs(t.v)",
        "range": f"{bound.value!r} * (SELECT max(v) - min(v) FROM truth)",
    }[bound.kind]
    query = f"""SELECT count(*), count(*) FILTER (WHERE (w.v IS NULL) <> (t.v IS NULL) OR abs(w.v - t.v) > {allowed})
                FROM watched AS w JOIN truth AS t USING (id, time)"""
    assert conn.execute(SQL(query)).fetchall() == [(1000, 0)]  # type: ignore[arg-type]


def test_a_series_bound_wins(whole: tuple[Database, Connection]) -> None:
    db, conn = whole
    table = _managed(conn, "device text, time timestamptz NOT NULL, v float8", ["device"], max_error={"v": Absolute(1)})
    set_series_bound(conn, table, table.value("v"), ("exact",), Lossless())
    _fill(
        conn,
        """INSERT INTO watched SELECT d, timestamptz '2024-01-01' + g * interval '1 s', sin(g)
           FROM unnest(ARRAY['exact', 'loose']) AS d, generate_series(1, 64) AS g""",
    )
    compact(db, EVERYTHING)
    query = """SELECT device, count(*) FILTER (WHERE v = sin(extract(epoch FROM time - '2024-01-01')::int))
               FROM watched GROUP BY device ORDER BY device"""
    exact, loose = (row[1] for row in conn.execute(query))
    assert exact == 64
    assert loose < 64


def test_a_bound_tightened_meanwhile(twins: Twins) -> None:
    """Segments are not written with the bound that was read before it changed."""
    twins.insert(1, 64)

    def tighten() -> None:
        set_column_bound(twins.conn, twins.table, twins.table.value("value"), Absolute(0.5))
        twins.conn.commit()

    twins.monkeypatch.setattr(worker, "MAX_CONFLICTS", 1)
    twins.between(tighten)
    assert len(twins.compact().failed) == 1
    assert twins.hot == 64


def test_a_changed_table_is_left_alone(twins: Twins) -> None:
    twins.insert(1, 64)
    twins.table = detach_cold(twins.conn, twins.table)  # with the cold table it would be refused at once
    twins.conn.execute("DROP EXTENSION ddstore CASCADE; ALTER TABLE watched ALTER value TYPE float4")
    twins.conn.commit()
    with pytest.raises(SchemaMismatch, match="has changed"):
        twins.compact()
    report = compact(twins.database, EVERYTHING)
    assert report.rows == 0
    assert "has changed" in report.refused[0]
    assert twins.hot == 64


def test_the_report_is_json(twins: Twins) -> None:
    twins.insert(1, 200)
    twins.insert(1, 100, "b")
    report = twins.compact(vacuum=True)
    told = json.loads(json.dumps(report.to_dict()))
    assert (told["rows"], told["segments"], told["failed"], told["notes"]) == (300, 6, 0, [])
    assert told["bytes"] == twins.number(
        """SELECT sum(octet_length(time) + octet_length(c1_residual) + octet_length(c4_residual)
                      + coalesce(octet_length(c1_latents), 0) + coalesce(octet_length(c4_latents), 0)) FROM {s}"""
    )
    assert told["bytes"] == twins.number("SELECT sum(bytes) FROM ddstore.compaction")
    assert {tuple(s["series"]): s["rows"] for s in told["series"]} == {("a",): 200, ("b",): 100}
    assert report.bits_per_sample == pytest.approx(8 * told["bytes"] / 600)


@pytest.mark.parametrize(
    "options",
    [{"train": "maybe"}, {"profile": "slow"}, {"min_rows": 0}, {"segment_rows": 8}, {"train_seconds": float("nan")}],
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidSeries):
        CompactOptions(**options)


def test_an_unknown_table(db: Database) -> None:
    with pytest.raises(SchemaMismatch, match="not a managed table"):
        compact(db, CompactOptions(table="nowhere"))


def test_without_the_extension(plain_database_url: str) -> None:
    """Segments are written all the same; SQL sees the hot rows, verify the cold ones."""
    with Database(plain_database_url) as db:
        with db.connection() as conn:
            create_table(conn, "plant", time="time", columns={"v": Absolute(0.1)}, segment_rows=64)
            conn.execute(
                """INSERT INTO plant SELECT timestamptz '2024-01-01' + g * interval '1 s', g
                   FROM generate_series(1, 100) AS g"""
            )
        assert compact(db, CompactOptions(all=True)).rows == 100
        report = verify(db, "plant")
        assert (report.rows, report.segments, report.ok) == (100, 2, True)


def test_real_stars(data_dir: Path, whole: tuple[Database, Connection]) -> None:
    """Many short irregular series: every value within its bound, through SQL."""
    db, conn = whole
    stars = np.load(data_dir / "asas_lightcurves.npz")
    values, time, offsets = stars["values"], stars["time"], stars["offsets"]
    count = 150
    conn.execute("CREATE TABLE stars (star int4, time int8, mag float8, err float8)")
    adopt(conn, "stars", time="time", key=["star"], max_error={"mag": Absolute(0.01)})
    with conn.cursor().copy("COPY stars FROM STDIN") as copy:
        for star in range(count):
            for row in range(offsets[star], offsets[star + 1]):
                copy.write_row((star, int(time[row] * 86400e3), float(values[row, 0]), float(values[row, 1])))
    conn.execute("CREATE TABLE truth AS SELECT * FROM stars")
    conn.commit()
    report = compact(db, EVERYTHING)
    assert (report.rows, len(report.series), report.failed) == (int(offsets[count] - offsets[0]), count, [])
    ours, truth = (
        np.array(
            conn.execute(SQL(f"SELECT star, time, err, mag FROM {t} ORDER BY star, time, err, mag")).fetchall()  # type: ignore[arg-type]
        )
        for t in ("stars", "truth")
    )
    assert np.array_equal(ours[:, :3], truth[:, :3])
    for low in (ours, truth):
        low[:] = low[np.lexsort((low[:, 3], low[:, 2], low[:, 1], low[:, 0]))]
    assert np.abs(ours[:, 3] - truth[:, 3]).max() <= 0.01
    assert verify(db).ok


def test_hot_for_in_nanoseconds(whole: tuple[Database, Connection]) -> None:
    """A bigint time counts nanoseconds since 1970."""
    db, conn = whole
    _managed(conn, "time int8, v int4", [], hot_for=timedelta(minutes=1))
    _fill(
        conn,
        "INSERT INTO watched SELECT 1700000000000000000 + g * 1000000000::int8, g FROM generate_series(0, 119) AS g",
    )
    now = datetime.fromtimestamp(1_700_000_120, UTC)
    report = compact(db, CompactOptions(now=now, min_rows=1, train="never", vacuum=False))
    assert report.rows == 60
    assert load_table(conn, "watched").hot_for == timedelta(minutes=1)


def test_the_oldest_rows_are_read_whatever_came_since(twins: Twins) -> None:
    """More rows than were planned, more than twice as many even: so many of each series, the oldest, as ever."""
    for device in ("a", "b", "c"):
        twins.insert(150, 300, device)
        twins.insert(1, 149, device)
    options = CompactOptions(all=True)
    plans = plan_table(twins.conn, twins.table, options)
    for slack in (0, 10_000):
        twins.monkeypatch.setattr(rows, "_SLACK", slack)
        read = rows.read_rows(twins.conn, [(plan, 5 + number) for number, plan in enumerate(plans)], options)
        assert np.bincount(read.series).tolist() == [5, 6, 7]
        first = (read.time[0] // 1_000_000) * 1_000_000
        for number in range(3):
            mine = read.take(np.flatnonzero(read.series == number))
            assert (mine.time - first).tolist() == [g // 3 * 1_000_000 for g in range(1, 6 + number)]
            assert (np.diff(mine.time) > 0).any()
            assert all(np.diff(mine.place)[np.diff(mine.time) == 0] > 0)
        (plan, *_) = plans
        until = int(read.time[2])
        part = rows.read_rows(twins.conn, [(plan, 50)], options, since=until, until=until)
        assert set(part.time.tolist()) == {until}
        assert len(part) == 3
    assert len(rows.read_edges(twins.conn, plans[0], options, 100)) == 2
    twins.conn.rollback()


def test_rows_that_vanish_between_the_parts_of_a_series(twins: Twins) -> None:
    """A series is read in parts by time; when a part is thinned out, the reading goes on behind it."""
    twins.monkeypatch.setattr(worker, "READ_SEGMENTS", 2)
    twins.monkeypatch.setattr(worker, "COMMIT_ROWS", 64)
    twins.insert(1, 1000)
    twins.between(lambda: None, lambda: twins.both("DELETE FROM {t} WHERE id BETWEEN 129 AND 700"))
    report = twins.compact()
    assert (report.rows, twins.hot) == (428, 0)
    assert twins.differences() == []


def test_segments_of_a_dropped_table_are_dropped(twins: Twins) -> None:
    """Where no event trigger has done so, as without the extension."""
    twins.conn.execute("ALTER EVENT TRIGGER ddstore_drop DISABLE")
    twins.insert(1, 200)
    twins.compact()
    twins.conn.execute("DROP TABLE watched CASCADE")
    twins.conn.commit()
    assert "ddstore.segment_1 was dropped" in " ".join(compact(twins.database).notes)
    left = """SELECT (SELECT count(*) FROM pg_class WHERE relname LIKE 'segment\\_%'), count(*)
              FROM (SELECT id FROM ddstore.managed_table UNION ALL SELECT id FROM ddstore.job) x"""
    assert twins.conn.execute(left.encode()).fetchone() == (0, 0)
    assert compact(twins.database).notes == []
