"""Recompression: the same rows in segments of today's policy, within today's bound of what was first written."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.sql import SQL, Identifier

from ddstore import Absolute, Lossless, Profile, RangeRelative, Relative, connect
from ddstore.bounds import Bound
from ddstore.compact import CompactOptions, RecompressReport, compact, recompress, verify
from ddstore.db.manage import adopt, set_column_bound, set_policy
from ddstore.db.pool import Connection, Database
from ddstore.errors import SchemaMismatch
from fix_cli import run_cli
from fix_compact import Twins

#: The package has the function by the same name.
module = importlib.import_module("ddstore.compact.recompress")


def _trickle(twins: Twins, times: int, rows: int = 10, **options: Any) -> None:
    """Two interleaved series, a short segment of each per pass."""
    for number in range(times):
        for device in "ab":
            twins.insert(1 + rows * number, rows * (number + 1), device, **options)
        twins.compact()


def _again(twins: Twins, **options: Any) -> RecompressReport:
    report = recompress(twins.database, twins.table.id, **options)
    assert (report.failed, report.notes) == ([], [])
    assert twins.differences() == []
    assert verify(twins.database).damaged == []
    return report


def _lengths(twins: Twins) -> list[int]:
    found = twins.conn.execute(
        SQL("SELECT n FROM {} ORDER BY k2, t_min, id").format(twins.table.segments_identifier)
    ).fetchall()
    twins.conn.commit()
    return [n for (n,) in found]


def test_small_segments_are_joined(twins: Twins) -> None:
    _trickle(twins, 20)
    twins.insert(5, 17, "a", note="late ")  # late: its segment overlaps others
    twins.insert(201, 400, "c", note="random ", shift=7)
    twins.compact()
    report = _again(twins)
    assert _lengths(twins) == [64, 64, 64, 21, 64, 64, 64, 8, 64, 64, 64, 8]
    assert (report.replaced, report.segments, report.rows) == (41, 8, 413)
    assert report.bytes_after < 0.6 * report.bytes_before
    assert report.bytes_after == twins.number("SELECT sum(bytes) FROM ddstore.segments WHERE series <> '[\"c\"]'")
    assert twins.hot == 0
    again = _again(twins)
    assert (again.replaced, again.kept) == (0, 12)


def test_part_of_the_segments(twins: Twins) -> None:
    _trickle(twins, 9)
    assert _again(twins, key=["b"], start="2024-01-01 00:00:10", end="2024-01-01 00:00:20").replaced == 4
    assert _lengths(twins) == [10] * 11 + [40] + [10] * 3
    assert _again(twins, key={"device": "a"}).replaced == 9
    assert _again(twins, key=["nobody"]).replaced == 0
    with pytest.raises(SchemaMismatch, match="key values"):
        recompress(twins.database, twins.table.id, key=["a", "b"])


@pytest.mark.parametrize("profile", list(Profile))
def test_another_policy(twins: Twins, profile: Profile) -> None:
    twins.insert(1, 1000)
    twins.compact()
    set_policy(twins.conn, twins.table, profile=profile, segment_rows=500)
    twins.conn.commit()
    twins.reload()
    assert _again(twins).segments == 2
    assert _lengths(twins) == [500, 500]
    set_policy(twins.conn, twins.table, segment_rows=250)
    twins.conn.commit()
    assert _again(twins).segments == 4
    assert _again(twins).replaced == 0


def test_every_kind_of_column(needs_extension: None, db: Database, conn: Connection) -> None:
    """What the core does not code comes from arrays of distinct values, of one value per row, and of arrays."""
    columns = "t timestamptz NOT NULL, k char(4), a text, b text[], c jsonb, d timestamptz, e bool, f numeric, g int2"
    for name in ("watched", "truth"):
        conn.execute(SQL("CREATE TABLE {} ({})").format(Identifier(name), SQL(columns)))
    adopt(conn, "watched", time="t", key=["k"], segment_rows=1000, min_rows=1)
    conn.commit()
    for number in range(8):
        conn.execute(
            f"""INSERT INTO watched
                SELECT timestamptz '2024-01-01' + g % 70 * interval '1 s', 'k',
                       CASE WHEN {number} % 2 = 0 THEN md5(g::text) WHEN g % 5 > 0 THEN 'state ' || g % 3 END,
                       CASE g % 4 WHEN 0 THEN ARRAY['x', NULL] WHEN 1 THEN '{{}}' WHEN 2 THEN ARRAY[md5(g::text)] END,
                       CASE WHEN {number} % 3 > 0 THEN jsonb_build_object('a', g % 2) END,
                       CASE WHEN g % 9 > 0 THEN timestamptz 'infinity' END, CASE WHEN g % 3 > 0 THEN g % 2 = 0 END,
                       (g % 3)::numeric(10, 2), CASE WHEN g % 2 = 0 THEN g END
                FROM generate_series(1, 100) AS g""".encode()
        )
        conn.execute("INSERT INTO truth SELECT * FROM ONLY watched")
        conn.commit()
        assert compact(db, CompactOptions(all=True, train="never")).rows == 100
    report = recompress(db, "watched")
    assert (report.failed, report.replaced, report.segments) == ([], 8, 1)
    assert conn.execute(
        """SELECT count(*) FROM (SELECT x::text FROM watched x EXCEPT ALL SELECT x::text FROM truth x) y"""
    ).fetchall() == [(0,)]
    assert conn.execute("SELECT count(*) FROM watched").fetchall() == [(800,)]
    assert verify(db).damaged == []


BOUNDS = st.one_of(
    st.just(Lossless()),
    st.sampled_from([1e-3, 0.01, 0.02, 0.05, 0.11, 0.25]).map(Absolute),
    st.sampled_from([1e-6, 1e-3, 0.01, 0.05, 0.3]).map(Relative),
    st.sampled_from([1e-4, 0.01, 0.1]).map(RangeRelative),
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["float4", "float8", "int4"]),
    st.sampled_from(["walk", "steps", "noise", "odd"]),
    st.lists(st.tuples(BOUNDS, st.booleans()), min_size=2, max_size=4),
)
def test_the_bound_holds_for_what_was_first_written(
    db: Database, conn: Connection, seed: int, type_: str, kind: str, bounds: list[tuple[Bound, bool]]
) -> None:
    """However often bounds and rows are changed and segments written anew, each value is within the widest of them."""
    rng = np.random.default_rng(seed)
    conn.rollback()
    conn.execute("DROP TABLE IF EXISTS m CASCADE; DELETE FROM ddstore.managed_table")
    conn.execute(SQL("CREATE TABLE m (t int8 NOT NULL, x {})").format(SQL(type_)))  # type: ignore[arg-type]
    table = adopt(conn, "m", time="t", min_rows=1, segment_rows=256)
    conn.commit()
    written: list[np.ndarray[Any, Any]] = []
    allowed: list[np.ndarray[Any, Any]] = []
    for bound, changed in bounds:
        set_column_bound(conn, table, table.value("x"), bound)
        x = _values(rng, kind, 300).astype({"float4": np.float32, "float8": np.float64, "int4": np.int32}[type_])
        first = sum(map(len, written))
        with conn.cursor() as cursor:
            rows = [(first + number, value) for number, value in enumerate(x.tolist())]
            cursor.executemany("INSERT INTO m VALUES (%s, %s)", rows)
        conn.commit()
        compact(db, CompactOptions(all=True, train="never", vacuum=False))
        written.append(x)
        allowed.append(_allowed(x, bound))
        # A value keeps the widest bound that it was ever under; ranges are those of segments, hence no more than this.
        every = np.concatenate(written)
        allowed = [np.maximum(np.concatenate(allowed), _allowed(every, bound))]
        if changed:  # rows that were in segments become hot, and cold again
            conn.execute("UPDATE m SET x = x WHERE t % 500 = 3")
            conn.commit()
            compact(db, CompactOptions(all=True, train="never", vacuum=False))
        report = recompress(db, table.id)
        assert report.failed == []
        with db.connection() as reading:
            found = reading.execute("SELECT x FROM m ORDER BY t", prepare=False).fetchall()
            stored = reading.execute(SQL("SELECT written FROM {}").format(table.segments_identifier)).fetchall()
        read = np.array([x for (x,) in found], dtype=every.dtype)
        finite = np.isfinite(every)
        error = np.abs(every.astype(np.longdouble) - read.astype(np.longdouble))
        assert (error[finite] <= allowed[0][finite]).all(), (bounds, stored)
        assert (np.isnan(every) == np.isnan(read)).all()
        assert (every[~finite & ~np.isnan(every)] == read[~finite & ~np.isnan(every)]).all()
        assert verify(db).damaged == []


def _values(rng: np.random.Generator, kind: str, n: int) -> np.ndarray[Any, Any]:
    if kind == "walk":
        return np.round(rng.normal(size=n).cumsum(), 2)
    if kind == "steps":
        return rng.integers(0, 4, n).cumsum() / 8
    if kind == "noise":
        return rng.normal(scale=100, size=n)
    x = rng.normal(size=n)
    x[:: n // 7] = 1e9
    x[3 :: n // 5] = 0
    return x


def _allowed(x: np.ndarray[Any, Any], bound: Bound) -> np.ndarray[Any, Any]:
    exact = x.astype(np.longdouble)
    if bound.kind == "relative":
        return np.abs(exact) * np.longdouble(bound.value)
    size = np.ptp(exact[np.isfinite(exact)]) if bound.kind == "range" else 1
    return np.full(len(x), np.longdouble(bound.value) * size)


def test_wider_bounds_make_segments_smaller(db: Database, conn: Connection) -> None:
    """Narrower ones change nothing, and neither do those that leave no room."""
    table = _noise(conn, db, Absolute(0.01))

    def again(bound: Bound) -> RecompressReport:
        set_column_bound(conn, table, table.value("x"), bound)
        conn.commit()
        return recompress(db, table.id)

    before = _read(conn)
    assert again(Absolute(0.001)).replaced == 0
    assert again(Absolute(0.012)).replaced == 0
    assert _read(conn) == before
    wider = again(Absolute(0.1))
    assert wider.replaced == 4
    assert wider.bytes_after < 0.8 * wider.bytes_before
    assert again(Absolute(0.1)).replaced == 0
    written = conn.execute(SQL("SELECT DISTINCT written FROM {}").format(table.segments_identifier)).fetchall()
    assert [record["asked"] for (record,) in written] == [{"2": ["absolute", 0.1]}]
    assert again(Lossless()).replaced == 0
    conn.execute(SQL("UPDATE {} SET written = NULL").format(table.segments_identifier))
    conn.commit()
    unknown = _read(conn)
    again(Absolute(10))  # of segments that do not say how they were written nothing more is taken
    assert _read(conn) == unknown


def _noise(conn: Connection, db: Database, bound: Bound) -> Any:
    conn.execute("CREATE TABLE m (t int8 NOT NULL, x float8)")
    table = adopt(conn, "m", time="t", max_error={"x": bound}, segment_rows=1024)
    conn.execute("INSERT INTO m SELECT g, sin(g) * 100 + hashint4(g) / 1e9 FROM generate_series(1, 4096) AS g")
    conn.commit()
    compact(db, CompactOptions(all=True, train="never", vacuum=False))
    return table


def _read(conn: Connection) -> list[tuple[Any, ...]]:
    rows = conn.execute("SELECT * FROM m ORDER BY t").fetchall()
    conn.commit()
    return rows


def _disturb(twins: Twins, action: Callable[[], object]) -> None:
    """Run an action once, between reading and replacing."""
    commit = module._commit
    left = [action]

    def disturbed(*args: Any) -> int:
        if left:
            left.pop()()
        return commit(*args)

    twins.monkeypatch.setattr(module, "_commit", disturbed)


def test_somebody_else_was_faster(twins: Twins) -> None:
    """Segments that were replaced, changed or deleted meanwhile stay as they are, and so does their window."""
    _trickle(twins, 8)
    _disturb(twins, lambda: recompress(twins.database, twins.table.id))
    assert _again(twins).conflicts == 2
    _trickle(twins, 3)
    _disturb(twins, lambda: _execute(twins, "UPDATE {s} SET created_at = now()"))
    assert _again(twins).conflicts >= 1
    alter = "ALTER TABLE {t} ADD COLUMN extra int; ALTER TABLE truth ADD COLUMN extra int"
    _disturb(twins, lambda: _execute(twins, alter))
    assert _again(twins).conflicts >= 1
    _again(twins)
    assert twins.number("SELECT count(*) FROM {s} WHERE n < 10") == 0


def _execute(twins: Twins, statement: str) -> None:
    twins.conn.execute(
        SQL(statement).format(t=twins.table.identifier, s=twins.table.segments_identifier)  # type: ignore[arg-type]
    )
    twins.conn.commit()


def test_every_statement_fails_once(twins: Twins) -> None:
    """Whatever statement or commit is the last one, rows are in one place."""
    count, at, original, commit = 0, 0, psycopg.Cursor.execute, psycopg.Connection.commit

    def failing(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == at:
                raise psycopg.OperationalError("injected")
            return call(*args, **options)

        return wrapped

    _trickle(twins, 7)
    for at in range(1, 60, 2):
        count = 0
        with twins.monkeypatch.context() as patch, contextlib.suppress(psycopg.Error, Exception):
            patch.setattr(psycopg.Cursor, "execute", failing(original))
            patch.setattr(psycopg.Connection, "commit", failing(commit))
            recompress(twins.database, twins.table.id)
        at = 0
        assert twins.differences() == []
        assert twins.cold == 140
    _again(twins)
    assert _lengths(twins) == [64, 6, 64, 6]


def test_a_damaged_segment_is_left_alone(twins: Twins) -> None:
    _trickle(twins, 3)
    twins.conn.execute(SQL("UPDATE {} SET c4_residual = '\\x00' WHERE id = 1").format(twins.table.segments_identifier))
    twins.conn.commit()
    report = recompress(twins.database, twins.table.id)
    assert len(report.failed) == 1
    assert "segment 1 of" in report.failed[0]
    assert _lengths(twins) == [10, 10, 10, 30]


def test_on_the_command_line(database_url: str, needs_extension: None) -> None:
    with connect(database_url) as store:
        store.create_table("m", time="t", key=["k"], columns={"x": Absolute(0.1)}, min_rows=1)
        time = np.datetime64("2024-01-01", "us") + np.arange(100)
        for _ in range(3):
            store.write({"t": time, "k": ["a"] * 100, "x": np.arange(100.0)}, table="m")
            store.compact(train="never")
    run = run_cli("recompress", "m", "--key", "k=a", "--start", "2024-01-01", "--json", "--url", database_url)
    assert run.code == 0
    assert (run.json["replaced"], run.json["segments"], run.json["rows"]) == (3, 1, 300)
    assert "Nothing to recompress" in run_cli("recompress", "m", "--url", database_url).out
    assert "COLUMN=VALUE" in run_cli("recompress", "m", "--key", "a", "--url", database_url).err
