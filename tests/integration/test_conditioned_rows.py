"""Columns conditioned on others of their segment, read through SQL and in Python, verified, released, damaged."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from conditioned import condition, decode_stored, encode_conditioned, renamed, replace, stored
from ddstore import Absolute, CorruptSegment, Lossless, Profile, connect
from ddstore.codec.segment import checksum, needs
from ddstore.compact import encode
from ddstore.db.catalog import load_table
from fix_compact import Twins
from fix_fdw import ColdTable

TABLE = "plant.sensors"
ROWS, SEGMENTS = 200, 4
ON = {"flow": ["temp"], "rpm": ["temp", "flow"], "level": ["rpm"], "count": ["flow", "rpm", "level"]}


@pytest.fixture
def related(cold_table: Callable[..., ColdTable]) -> ColdTable:
    """Four segments, the last of them of columns that stand alone; some values are NULL; a few hot rows."""
    made = cold_table(
        {"device": "text"},
        {"temp": "float8", "state": "text", "flow": "float4", "rpm": "int4", "level": "int2", "count": "int8"},
    )
    rng = np.random.default_rng(5)
    for part in range(SEGMENTS + 1):
        time = (np.arange(ROWS, dtype=np.int64) + ROWS * part) * 1_000_000
        temp = rng.integers(-3, 4, ROWS).cumsum() + 100
        values: dict[str, list[Any]] = {
            "temp": temp.astype(float).tolist(),
            "state": rng.choice(["on", "off"], ROWS).tolist(),
            "flow": (2 * temp + rng.integers(0, 2, ROWS)).astype(float).tolist(),
            "rpm": (-temp).tolist(),
            "level": (temp // 4).tolist(),
            "count": (temp * 1000 + rng.integers(0, 3, ROWS)).tolist(),
        }
        for at, name in enumerate(values):
            values[name][at + 5 + part] = values[name][190 - at] = None
        if part == SEGMENTS:
            made.hot(["a"], time[:10], {name: column[:10] for name, column in values.items()})
            break
        id_ = made.cold(["a"], time, values)
        if part < SEGMENTS - 1:
            condition(made, id_, ON)
    return made


QUERIES = [
    ("true", "flow"),
    ("true", "count"),
    ("true", "flow, temp"),
    ("true", "temp, flow"),
    ("true", "count, level, state, rpm, flow, temp, device"),
    ("true", "level, time"),
    ("true", "1"),
    ("count > 100000", "time"),
    ("flow IS NULL OR level = 25", "rpm"),
    ("time < timestamptz '2000-01-01 00:01:00Z'", "count"),
    ("time < timestamptz '2000-01-01 00:01:00Z'", "temp, count, rpm"),
    ("time >= timestamptz '2000-01-01 00:04:00Z' AND time < timestamptz '2000-01-01 00:09:30Z'", "rpm, temp"),
    ("time = timestamptz '2000-01-01 00:05:17Z'", "level"),
]


@pytest.mark.parametrize(("where", "columns"), QUERIES)
def test_every_projection(related: ColdTable, where: str, columns: str) -> None:
    assert related.differences(where, columns) == []


def test_aggregates_limits_and_statistics(related: ColdTable) -> None:
    conn = related.conn
    for query in (
        "SELECT count(*), count(count), sum(count), min(level), max(rpm), avg(flow) FROM {}",
        "SELECT count FROM {} ORDER BY time LIMIT 7",
        "SELECT level FROM {} WHERE time < timestamptz '2000-01-01 00:02:00Z' ORDER BY time DESC LIMIT 3",
        "SELECT count(*) FROM {}",
    ):
        ours, truth = (conn.execute(SQL(query).format(t)).fetchall() for t in (related.table.identifier, related.truth))
        assert ours == truth, query
    assert len(conn.execute("SELECT count FROM plant.sensors_cold LIMIT 5").fetchall()) == 5
    conn.execute("ANALYZE plant.sensors_cold")


def test_a_rescan_decodes_more_of_the_same_segment(related: ColdTable) -> None:
    """First a few rows, then all: what others need was decoded whole the first time."""
    conn = related.conn
    conn.execute("CREATE TABLE plant.ask (until timestamptz)")
    conn.execute(
        "INSERT INTO plant.ask SELECT timestamptz '2000-01-01Z' + s * interval '1 s'"
        " FROM unnest('{3,10,3,150,199,250,20}'::int[]) s"
    )
    conn.execute("SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off")
    query = (
        "SELECT a.until, l.* FROM plant.ask a, LATERAL (SELECT sum(temp), sum(count), sum(rpm), count(*)"
        " FROM {} x WHERE x.time < a.until) l ORDER BY 1"
    )
    ours, truth = (conn.execute(SQL(query).format(t)).fetchall() for t in (related.table.identifier, related.truth))
    assert ours == truth


def test_parallel_workers(related: ColdTable) -> None:
    conn = related.conn
    conn.execute("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0")
    query = "SELECT count(*), sum(count), sum(level) FROM {}"
    ours, truth = (conn.execute(SQL(query).format(t)).fetchall() for t in (related.table.identifier, related.truth))
    assert ours == truth


def test_reading_in_python_verifying_and_releasing(related: ColdTable, database_url: str) -> None:
    conn, names = related.conn, [column.name for column in related.table.values]
    names = [name for name in names if name != "state"]
    conn.commit()
    with connect(database_url) as store:
        whole = store.read(table=TABLE)
        for wanted in (*([name] for name in names), ["count", "temp"], ["state", "level"]):
            part = store.read(table=TABLE, columns=wanted)
            for name in wanted:
                np.testing.assert_array_equal(part.columns[name], whole.columns[name])
                np.testing.assert_array_equal(part.valid[name], whole.valid[name])
        expected = conn.execute(SQL("SELECT count, level FROM {} ORDER BY time").format(related.truth)).fetchall()
        conn.commit()
        read = zip(whole.columns["count"], whole.valid["count"], strict=True)
        assert [int(value) if there else None for value, there in read] == [count for count, _ in expected]
        assert store.verify().ok
        assert store.release(TABLE).rows == ROWS * SEGMENTS
    query = SQL("SELECT * FROM ONLY {} EXCEPT ALL SELECT * FROM {}")
    assert conn.execute(query.format(Identifier("plant", "sensors"), related.truth)).fetchall() == []
    assert conn.execute(query.format(related.truth, Identifier("plant", "sensors"))).fetchall() == []


def test_dropped_columns_are_still_there_for_others(related: ColdTable, database_url: str) -> None:
    conn = related.conn
    for table in (related.table.identifier, related.truth):
        conn.execute(SQL("ALTER TABLE {} DROP COLUMN temp").format(table))
        conn.execute(SQL("ALTER TABLE {} DROP COLUMN rpm").format(table))
    related.table = load_table(conn, TABLE)
    assert [column.name for column in related.table.lost] == ["temp", "rpm"]
    assert related.differences() == []
    assert related.differences(columns="count") == []
    # Whoever owns a segment table may take parts of a column away that nothing is bound to any more.
    conn.execute("SAVEPOINT s")
    number = related.table.lost[0].id
    for part in ("latents", "model"):
        conn.execute(f"ALTER TABLE ddstore.segment_1 DROP COLUMN c{number}_{part}")  # type: ignore[call-overload]
        assert related.differences(columns="count") == []
    conn.execute(f"ALTER TABLE ddstore.segment_1 DROP COLUMN c{number}_residual")  # type: ignore[call-overload]
    with pytest.raises(psycopg.errors.DataCorrupted, match="lacks a column that it is conditioned on"):
        conn.execute("SELECT count FROM plant.sensors").fetchall()
    conn.execute("ROLLBACK TO s")
    conn.commit()
    with connect(database_url) as store:
        frame = store.read(table=TABLE, columns=["count"])
        total = conn.execute(SQL("SELECT sum(count) FROM {}").format(related.truth)).fetchone()
        conn.commit()
        assert total == (int(frame.columns["count"][frame.valid["count"]].sum()),)
        assert store.verify().ok
        store.release(TABLE)
    query = SQL("SELECT * FROM ONLY {} EXCEPT ALL SELECT * FROM {}")
    assert conn.execute(query.format(Identifier("plant", "sensors"), related.truth)).fetchall() == []


def _swap(made: ColdTable, one: str, other: str) -> None:
    names = [f"c{made.table.columns[name].id}_residual" for name in (one, other)]
    made.conn.execute(
        SQL("UPDATE {} SET {a} = {b}, {b} = {a} WHERE id = 2").format(
            made.table.segments_identifier, a=Identifier(names[0]), b=Identifier(names[1])
        )
    )


def _flip(made: ColdTable, name: str) -> None:
    data = bytearray(stored(made, 2)[made.table.columns[name].id].residual)
    data[len(data) // 2] ^= 16
    replace(made, 2, name, bytes(data))


def _encode_anew(made: ColdTable, name: str, shift: int) -> None:
    column = made.table.columns[name]
    values, valid = decode_stored(made, 2, name)
    values = np.where(np.ones(len(values), bool) if valid is None else valid, values + shift, values)
    replace(made, 2, name, encode_conditioned(values.astype(values.dtype), valid, column.type, []))


def _ring(made: ColdTable, *names: str) -> None:
    """Every column needs the next one, and the last the first."""
    walk = np.arange(float(ROWS))
    for at, name in enumerate(names):
        type_ = made.table.columns[name].type
        values = walk.astype({"float8": np.float64, "float4": np.float32, "int4": np.int32}[type_])
        following = (at + 1) % len(names)
        coded = encode_conditioned(values, None, type_, [(type_, 1000 + following, values)])
        replace(made, 2, name, renamed(coded, 1000 + at))


DAMAGES: list[tuple[Callable[[ColdTable], None], str, str, str]] = [
    # what is done, which column is read, in SQL the column named and what is said of it
    (lambda made: _encode_anew(made, "temp", 1), "flow", "flow", "lacks a column that it is conditioned on"),
    (lambda made: _encode_anew(made, "temp", 1), "count", "flow", "lacks a column that it is conditioned on"),
    (lambda made: _flip(made, "temp"), "flow", "temp", "checksum mismatch"),
    (lambda made: _flip(made, "temp"), "count", "temp", "checksum mismatch"),
    (lambda made: _flip(made, "flow"), "count", "flow", "checksum mismatch"),
    (lambda made: replace(made, 2, "temp", b""), "flow", "flow", "lacks a column that it is conditioned on"),
    (lambda made: _swap(made, "rpm", "flow"), "flow", "flow", "it is of another type"),
    (lambda made: _swap(made, "temp", "count"), "count", "count", "it is of another type"),
    (lambda made: _ring(made, "temp"), "temp", "temp", "conditioned on itself"),
    (lambda made: _ring(made, "temp", "flow", "rpm"), "flow", "flow", "conditioned on itself"),
    (lambda made: _ring(made, "temp", "flow", "rpm"), "rpm", "rpm", "conditioned on itself"),
]


@pytest.mark.parametrize("number", range(len(DAMAGES)))
def test_damage_among_columns_is_an_error(related: ColdTable, database_url: str, number: int) -> None:
    act, column, named, what = DAMAGES[number]
    conn = related.conn
    act(related)
    conn.commit()
    # All of the segment, its first rows, and with the column that others need.
    first = "time < '2000-01-01 00:03:25Z'"
    for select, where in ((column, "time >= '2000-01-01 00:03:20Z'"), (column, first), (f"temp, {column}", "true")):
        with pytest.raises(psycopg.errors.DataCorrupted) as caught:
            conn.execute(f"SELECT {select} FROM plant.sensors WHERE {where}").fetchall()  # type: ignore[call-overload]
        conn.rollback()
        assert 'segment 2 of table "segment_1" is damaged' in str(caught.value)
        if select == column:
            assert f'column "c{related.table.columns[named].id}_residual": ' in str(caught.value)
            assert what in str(caught.value)
        assert "ddstore verify" in str(caught.value.diag.message_hint)
    # The other segments stay readable.
    assert related.differences("time >= timestamptz '2000-01-01 00:06:40Z'", column) == []
    with connect(database_url) as store:
        with pytest.raises(CorruptSegment, match=r"segment 2 of ddstore\.segment_1 is damaged") as python:
            store.read(table=TABLE, columns=[column])
        assert python.value.column == column
        damaged = store.verify().damaged
        assert column in [found.column for found in damaged]
        assert {found.id for found in damaged} == {2}
        with pytest.raises(CorruptSegment):
            store.release(TABLE)


def test_a_long_chain(cold_table: Callable[..., ColdTable], database_url: str) -> None:
    """Sixty columns, each conditioned on the one before; the last is all that is asked for."""
    names = [f"v{at}" for at in range(60)]
    made = cold_table({"device": "text"}, dict.fromkeys(names, "int4"))
    time = np.arange(100, dtype=np.int64) * 1_000_000
    walk = np.random.default_rng(1).integers(-3, 4, 100).cumsum()
    made.cold(["a"], time, {name: (walk + at).tolist() for at, name in enumerate(names)})
    condition(made, 1, {name: [before] for before, name in pairwise(names)})
    assert made.differences(columns="v59") == []
    assert made.differences("time < timestamptz '2000-01-01 00:00:05Z'") == []
    made.conn.commit()
    with connect(database_url) as store:
        np.testing.assert_array_equal(store.read(table=TABLE, columns=["v59"]).columns["v59"], walk + 59)


def test_what_compaction_makes_of_related_columns(database_url: str, needs_extension: None) -> None:
    """The archive profile conditions columns of its own accord; every way of reading gives the same values."""
    rng = np.random.default_rng(9)
    n = 6000
    walk = rng.normal(0, 1, n).cumsum()
    columns = {
        "x": np.round(walk, 2),
        "y": np.round(walk + rng.normal(0, 0.02, n), 2),
        "z": np.round(walk - 3 + rng.normal(0, 0.02, n), 2).astype(np.float32),
    }
    frame = {"time": np.datetime64("2024-03-01", "us") + np.arange(n) * np.timedelta64(1, "s"), **columns}
    bounds = {"x": ("float8", Lossless()), "y": ("float8", Lossless()), "z": ("float4", Absolute(0.05))}
    with connect(database_url) as store:
        store.create_table("related", time="time", columns=bounds)
        store.write(frame, table="related")
        report = store.compact("related", profile=Profile.ARCHIVE, train="never", all=True)
        assert (report.rows, report.failed) == (n, [])
        assert store.verify("related").ok
        with psycopg.connect(database_url) as conn:
            table = load_table(conn, "related")
            names = [Identifier(f"c{column.id}_residual") for column in table.values]
            rows = conn.execute(
                SQL("SELECT {} FROM {}").format(SQL(", ").join(names), table.segments_identifier)
            ).fetchall()
            assert all(not needs(x) for x, _, _ in rows)
            assert all(needs(y) == (checksum(x),) for x, y, _ in rows)
            assert all(set(needs(z)) <= {checksum(x), checksum(y)} for x, y, z in rows)
            for name, values in columns.items():
                query = SQL("SELECT {} FROM related ORDER BY time").format(Identifier(name))
                python = store.read(table="related", columns=[name]).columns[name]
                sql = np.array([value for (value,) in conn.execute(query)], python.dtype)
                np.testing.assert_array_equal(sql, python)
                assert np.abs(python.astype(float) - values.astype(float)).max() <= (0.05 if name == "z" else 0)
        assert store.release("related").rows == n


def test_equal_checksums_of_different_columns_condition_nothing(twins: Twins) -> None:
    """Then they would not tell which column is meant, so each stands alone."""
    given: list[int] = []
    really = encode.encode_column

    def counted(*arguments: Any, **named: Any) -> Any:
        given.append(len(named["sides"]))
        return really(*arguments, **named)

    twins.monkeypatch.setattr(encode, "encode_column", counted)
    twins.insert(1, 64)
    twins.compact()
    assert given == [0, 1]
    given.clear()
    twins.monkeypatch.setattr(encode, "checksum", lambda residual: 7)
    twins.insert(65, 128)
    twins.compact()
    assert given == [0, 1, 0, 0]
    assert twins.differences() == []
