"""Columns that are no numbers: every byte comes back, by SQL, in Python and after a release, and they are small."""

from __future__ import annotations

import itertools
import subprocess
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.sql import SQL, Identifier, Literal

from ddstore.bounds import Lossless
from ddstore.codec.segment import encode_column
from ddstore.compact import CompactOptions, compact, verify
from ddstore.db.catalog import ManagedTable, load_table
from ddstore.db.copy import HEADER, TRAILER
from ddstore.db.manage import adopt, detach_cold
from ddstore.db.pool import Connection, Database
from ddstore.errors import CorruptSegment, InvalidSeries
from ddstore.reading import begin_snapshot, read_table, select_rows
from ddstore.releasing import release_table

EVERYTHING = CompactOptions(all=True, train="never", vacuum=False)

TYPES = """
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
    CREATE TYPE pair AS (a float8, b text);
    CREATE DOMAIN positive AS int4 CHECK (VALUE > 0);
    CREATE DOMAIN label AS varchar(20);
    CREATE TYPE confused AS RANGE (subtype = float8);
"""


def _table(conn: Connection, type_: str, *, segment_rows: int = 1000, **options: Any) -> ManagedTable:
    """``watched`` is managed, ``truth`` a plain table of the same columns; both empty."""
    for name in ("watched", "truth"):
        statement = SQL("CREATE TABLE {} (time timestamptz NOT NULL, id int4 NOT NULL, v {})")
        conn.execute(statement.format(Identifier(name), SQL(type_)))  # type: ignore[arg-type]
    table = adopt(conn, "watched", time="time", segment_rows=segment_rows, **options)
    conn.commit()
    return table


def _fill(conn: Connection, rows: int, value: str) -> None:
    """Put ``rows`` rows into both, ``value`` being an expression of the row number ``g``."""
    conn.execute(
        f"INSERT INTO truth SELECT timestamptz '2024-01-01' + g / 3 * interval '1 s', g, {value}"
        f" FROM generate_series(0, {rows - 1}) AS g".encode()
    )
    conn.execute("INSERT INTO watched SELECT * FROM truth")
    conn.commit()


def _same_bytes(conn: Connection) -> None:
    """``watched`` has the rows of ``truth``, to the last byte of how PostgreSQL stores them."""
    wrong = conn.execute(
        """SELECT count(*) FROM truth AS t FULL JOIN watched AS w USING (id)
           WHERE t.time IS DISTINCT FROM w.time OR NOT record_image_eq(ROW(t.v), ROW(w.v))"""
    ).fetchall()
    count = conn.execute("SELECT count(*) FROM watched").fetchall()
    assert wrong == [(0,)]
    assert count == conn.execute("SELECT count(*) FROM truth").fetchall()
    conn.commit()


def _read(db: Database, table: ManagedTable, **selected: Any) -> list[tuple[Any, ...]]:
    with db.connection() as conn:
        begin_snapshot(conn)
        frame = read_table(conn, table, select_rows(table, None, selected.get("start"), selected.get("end")))
    columns = [np.where(frame.valid.get(n, True), frame.columns[n], None) for n in ("id", "v")]
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


def _cold(conn: Connection, table: ManagedTable) -> list[tuple[bool, int, int]]:
    """Per segment: whether it has positions, elements of the array, bytes of both."""
    v = table.value("v").segment_column
    found = conn.execute(
        f"""SELECT {v}_residual IS NOT NULL, cardinality({v}_array),
                   pg_column_size({v}_array) + coalesce(octet_length({v}_residual), 0)
            FROM {table.segments} ORDER BY t_min, id""".encode()
    ).fetchall()
    conn.commit()
    return found  # type: ignore[return-value]


def _round_trip(db: Database, conn: Connection, table: ManagedTable) -> list[tuple[bool, int, int]]:
    """Compact, look at the rows in every way there is, release; what the segments looked like."""
    hot = _read(db, table)
    report = compact(db, EVERYTHING)
    assert [series.error for series in report.series] == [None]
    assert conn.execute("SELECT count(*) FROM ONLY watched").fetchall() == [(0,)]
    _same_bytes(conn)
    assert _read(db, table) == hot
    assert verify(db).damaged == []
    cold = _cold(conn, table)
    release_table(conn, table)
    conn.commit()
    assert conn.execute("SELECT count(*) FROM ONLY watched").fetchall() != [(0,)]
    _same_bytes(conn)
    return cold


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        ("bool", "true, false, NULL"),
        ("text", "'', 'a', 'a ', 'A', 'ä', 'a\u0308', '\u00e4', 'NULL', '{,}\"\\', NULL"),
        ("varchar(3)", "'a', 'a ', 'abc', NULL"),
        ("char(4)", "'a', 'ab', '', NULL"),
        ("bpchar", "'a', 'a ', 'a  ', NULL"),
        ('"char"', "'a', 'b', 'c', NULL"),
        ("name", "'a', 'b', NULL"),
        ("label", "'x', 'y', NULL"),
        ("positive", "1, 2, NULL"),
        ("mood", "'sad', 'ok', 'happy', NULL"),
        ("numeric", "1, 1.0, 1.00, 'NaN', 'Infinity', 1e-9, 12345678901234567890.5, NULL"),
        ("numeric(6,2)", "1, 1.5, NULL"),
        ("jsonb", """'{"a": 1.0}', '{"a": 1.00}', '{"a": 1}', 'null', '[]', '{}', NULL"""),
        ("json", """'{"a": 1}', '{"a":1}', '{"a": 1, "a": 2}', NULL"""),
        ("xml", "'<a/>', '<a></a>', NULL"),
        ("uuid", "'00000000-0000-0000-0000-000000000001', 'ffffffff-0000-0000-0000-000000000001', NULL"),
        ("inet", "'10.0.0.1', '10.0.0.1/8', '::1', NULL"),
        ("interval", "'1 month', '30 days', '720:00:00', NULL"),
        ("time", "'00:00', '24:00', '12:34:56.789012', NULL"),
        ("timetz", "'12:00+01', '11:00+00', NULL"),
        ("timestamptz", "'2024-02-29 12:00+02', '0044-03-15 BC', NULL"),
        ("timestamp", "'2024-02-29 12:00:00.000001', '0044-03-15 BC', NULL"),
        ("date", "'2024-02-29', 'infinity', '-infinity', '4713-01-01 BC', '5874897-12-31', NULL"),
        ("pair", "'(1,)', '(1,\"\")', '(,)', '(0,x)', '(-0,x)', '(NaN,x)', NULL"),
        ("point", "'(0,0)', '(-0,0)', '(0,-0)', '(NaN,1)', NULL"),
        ("confused", "'[0,1]', '[-0,1]', '[0,1)', 'empty', NULL"),
        ("int4multirange", "'{[1,2)}', '{}', NULL"),
        ("bytea", "'', '\\x00', '\\x0000', NULL"),
        ("bit varying", "B'', B'0', B'00', NULL"),
        ("tsvector", "'a:1', 'a:1A', 'a', NULL"),
        ("oid", "0, 4294967295, NULL"),
        ("money", "1, -1, NULL"),
        ("regclass", "'pg_class', 'pg_type', NULL"),
    ],
)
def test_every_type(needs_extension: None, db: Database, conn: Connection, type_: str, values: str) -> None:
    """Equal values that are stored differently stay different; NULL stays NULL, and no composite becomes it."""
    conn.execute(TYPES.encode())
    if type_ == "xml" and not _has_xml(conn):
        pytest.skip("the server has no libxml")
    table = _table(conn, type_, segment_rows=1024)
    _fill(conn, 4000, f"(ARRAY[{values}]::{type_}[])[1 + hashint4(g / 5) % 1000 % {values.count(', ') + 1}]")
    cold = _round_trip(db, conn, table)
    assert all(positions for positions, _, _ in cold)
    distinct = 0 if table.value("v").coded_as is not None else 20
    assert all(elements <= distinct for _, elements, _ in cold)


def _has_xml(conn: Connection) -> bool:
    try:
        with conn.transaction():
            conn.execute("SELECT xml '<a/>'")
    except psycopg.errors.FeatureNotSupported:
        return False
    return True


@pytest.mark.parametrize("type_", ["timestamptz", "timestamp"])
def test_times_that_python_does_not_know(needs_extension: None, db: Database, conn: Connection, type_: str) -> None:
    table = _table(conn, type_)
    last = "294276-12-31 23:59:59.999999" + "+00" * (type_ == "timestamptz")
    _fill(conn, 1000, f"(ARRAY['infinity', '-infinity', '{last}', '4713-01-01 BC', NULL]::{type_}[])[1 + g % 5]")
    assert compact(db, EVERYTHING).failed == []
    _same_bytes(conn)
    assert verify(db).damaged == []
    with pytest.raises(InvalidSeries, match="infinity"):
        _read(db, table)
    release_table(conn, table)
    _same_bytes(conn)


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("text", "md5(g::text)"),
        ("text", "repeat(md5(g::text), 200)"),
        ("text", "CASE WHEN g % 3 = 0 THEN 'some' ELSE md5(g::text) END"),
        ("numeric", "g / 7.0"),
        ("uuid", "CASE WHEN g % 50 <> 0 THEN md5(g::text)::uuid END"),
        ("timestamptz", "timestamptz '2024-01-01' + g * interval '1 s' + hashint4(g) % 1000 * interval '1 us'"),
        ("date", "date '2024-01-01' + g"),
        ("time", "time '00:00' + g * interval '1.000001 s'"),
        ("time", "CASE WHEN g % 3 <> 0 THEN time '12:00' + hashint4(g) * interval '10 us' END"),
        ("bool", "NULL"),
        ("text", "NULL"),
        ("timestamp", "NULL"),
        ("text", "''"),
        ("bool", "true"),
    ],
)
def test_many_values_and_none(needs_extension: None, db: Database, conn: Connection, type_: str, value: str) -> None:
    table = _table(conn, type_)
    _fill(conn, 2500, value + f"::{type_}" * (value == "NULL"))
    _round_trip(db, conn, table)


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        ("int4[]", ["{1,2}", "{}", "{NULL}", "{{1},{2}}", "[0:1]={1,2}"]),
        ("text[]", ["{}", "{a}", '{"a "}', '{""}', "{NULL}", '{"NULL"}']),
        ("float8[]", ["{0}", "{-0}", "{NaN}", "{5e-324}"]),
        ("numeric[]", ["{1}", "{1.0}", "{1.00}"]),
        ("jsonb[]", ['{"{\\"a\\": 1.0}"}', '{"{\\"a\\": 1.00}"}']),
        ("pair[]", ['{"(1,)"}', '{"(1,\\"\\")"}', '{"(,)"}', "{NULL}"]),
        ("int4range[]", ['{"[1,2)"}', "{empty}"]),
    ],
)
def test_arrays(needs_extension: None, db: Database, conn: Connection, type_: str, values: list[str]) -> None:
    """There are no arrays of arrays: they are stored within a type of their own, which goes with the table."""
    conn.execute(TYPES.encode())
    table = _table(conn, type_)
    cases = " ".join(f"WHEN {number} THEN '{value}'::{type_}" for number, value in enumerate(values))
    _fill(conn, 3000, f"CASE g / 3 % {len(values) + 1} {cases} END")
    assert all(positions for positions, _, _ in _round_trip(db, conn, table))
    assert conn.execute("SELECT typname FROM pg_type WHERE typname LIKE 'segment%c3'").fetchall() == []
    conn.execute("DROP TABLE watched, truth")
    table = _table(conn, type_)
    _fill(conn, 1500, f"CASE WHEN g % 11 <> 0 THEN array_fill(('{values[0]}'::{type_})[1], ARRAY[1 + g]) END")
    assert not any(positions for positions, _, _ in _round_trip(db, conn, table))


def test_the_type_of_a_dropped_table(needs_extension: None, db: Database, conn: Connection) -> None:
    _table(conn, "text[]")
    _fill(conn, 1500, "ARRAY[g % 4]::text[]")
    compact(db, EVERYTHING)
    conn.execute("DROP TABLE watched")
    assert conn.execute("SELECT relname FROM pg_class WHERE relname LIKE 'segment\\_%'").fetchall() == []


def test_times_of_day_read_as_postgresql_prints_them(db: Database, conn: Connection) -> None:
    """As a column and as a key, hot and cold."""
    values = ["00:00", "24:00", "23:59:59.999999", "12:34:56.7", "01:02:03.00004", "NULL"]
    literals = ", ".join(value if value == "NULL" else f"'{value}'" for value in values)
    conn.execute("CREATE TABLE clocks (time timestamptz NOT NULL, k time, v time)")
    table = adopt(conn, "clocks", time="time", key=["k"])
    conn.execute(f"INSERT INTO clocks SELECT '2024-01-01', t, t FROM unnest(ARRAY[{literals}]::time[]) AS t".encode())
    printed = conn.execute("SELECT k::text, v::text FROM clocks ORDER BY v").fetchall()
    conn.commit()
    for _ in range(2):
        with db.connection() as reading:
            begin_snapshot(reading)
            frame = read_table(reading, table, select_rows(table, None, None, None))
        found = zip(frame.keys["k"].tolist(), frame.columns["v"].tolist(), strict=True)
        assert sorted(found, key=lambda row: row[1] or "~") == printed
        compact(db, EVERYTHING)
    assert conn.execute("SELECT count(*) FROM ONLY clocks").fetchall() == [(0,)]


def test_small_and_single_segments(needs_extension: None, db: Database, conn: Connection) -> None:
    table = _table(conn, "text", segment_rows=16)
    _fill(conn, 33, "CASE g WHEN 32 THEN 'alone' ELSE 'the same text in every row' END")
    cold = _round_trip(db, conn, table)
    assert [elements for _, elements, _ in cold] == [1, 1, 1]
    assert [positions for positions, _, _ in cold] == [True, True, False]


def test_a_collation_that_calls_different_texts_equal(needs_extension: None, db: Database, conn: Connection) -> None:
    try:
        conn.execute("CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false)")
    except (psycopg.errors.FeatureNotSupported, psycopg.errors.InternalError):
        pytest.skip("the server has no ICU")
    table = _table(conn, "text COLLATE loose")
    _fill(conn, 1000, "(ARRAY['resume', 'Résumé', 'RESUME'])[1 + hashint4(g) % 1000 % 3 + (hashint4(g) < 0)::int]")
    assert conn.execute("SELECT count(DISTINCT v) FROM truth").fetchall() == [(1,)]
    ((positions, elements, _),) = _round_trip(db, conn, table)
    assert positions
    assert elements == 3


def test_values_that_print_alike(needs_extension: None, db: Database, conn: Connection) -> None:
    """Their hashes are equal, and so are the positions; what these give back is not, so every row keeps its value."""
    table = _table(conn, "point")
    nans = bytes.fromhex("7ff8000000000000"), bytes.fromhex("7ff8000000000001")
    fields = ((bytes(8), number.to_bytes(4, "big"), nans[number % 2] + bytes(8)) for number in range(100))
    rows = (b"".join(len(field).to_bytes(4, "big") + field for field in row) for row in fields)
    with conn.cursor().copy("COPY truth FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(HEADER + b"".join(b"\0\3" + row for row in rows) + TRAILER)
    conn.execute("INSERT INTO watched SELECT * FROM truth")
    conn.commit()
    assert conn.execute("SELECT count(DISTINCT v::text) FROM truth").fetchall() == [(1,)]
    assert [positions for positions, _, _ in _round_trip(db, conn, table)] == [False]


# A few texts that come again and again, and some that do not; PostgreSQL's text has no NUL.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
COLUMNS = st.lists(TEXTS, min_size=1, max_size=5).flatmap(
    lambda few: st.lists(
        st.one_of(st.none(), st.sampled_from(few), st.sampled_from(few), TEXTS, TEXTS.map(lambda text: text * 300)),
        min_size=1,
        max_size=150,
    )
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(COLUMNS, st.sampled_from(["text", "varchar", "bytea"]))
def test_any_texts(needs_extension: None, db: Database, conn: Connection, column: list[str | None], type_: str) -> None:
    table = _table(conn, type_, segment_rows=64)
    rows: list[Any] = [None if text is None else text.encode() if type_ == "bytea" else text for text in column]
    with conn.cursor() as cursor:
        cursor.executemany("INSERT INTO truth VALUES ('2024-01-01', %s, %s)", list(enumerate(rows)))
    conn.execute("INSERT INTO watched SELECT * FROM truth")
    conn.commit()
    _round_trip(db, conn, table)
    conn.execute("DROP TABLE watched, truth")
    conn.commit()


def test_part_of_the_rows(needs_extension: None, db: Database, conn: Connection) -> None:
    """Ranges that begin and end inside segments, of which some have positions and some a value per row."""
    table = _table(conn, "text", segment_rows=100)
    _fill(conn, 1000, "CASE WHEN g / 300 % 2 = 0 THEN 'state ' || g % 3 WHEN g % 7 <> 0 THEN md5(g::text) END")
    compact(db, EVERYTHING)
    assert {positions for positions, _, _ in _cold(conn, table)} == {True, False}
    for first, last in ((0, 0), (10, 12), (33, 200), (90, 100), (99, 301), (331, 334)):
        start, end = (f"2024-01-01 00:{s // 60:02}:{s % 60:02}+00" for s in (first, last))
        where = f"time >= '{start}' AND time < '{end}'"
        expected = conn.execute(f"SELECT id, v FROM truth WHERE {where} ORDER BY id".encode()).fetchall()
        assert conn.execute(f"SELECT id, v FROM watched WHERE {where} ORDER BY id".encode()).fetchall() == expected
        assert conn.execute(f"SELECT v FROM watched WHERE {where} AND id % 2 = 0 ORDER BY id".encode()).fetchall() == [
            (v,) for number, v in expected if number % 2 == 0
        ]
        conn.commit()
        assert _read(db, table, start=start, end=end) == expected


def test_they_are_small(needs_extension: None, db: Database, conn: Connection) -> None:
    """100,000 rows of what sensors say besides numbers; the limits are far below one value per row, compressed."""
    names = {"state": "text", "on": "bool", "meta": "jsonb", "unit": "uuid", "seen": "timestamptz"}
    conn.execute(
        SQL("CREATE TABLE t (time timestamptz NOT NULL, {})").format(
            SQL(", ").join(SQL("{} {}").format(Identifier(n), SQL(t)) for n, t in names.items())
        )
    )
    table = adopt(conn, "t", time="time", segment_rows=16384)
    conn.execute(
        """INSERT INTO t SELECT timestamptz '2024-01-01' + g * interval '1 s',
                  (ARRAY['running', 'stopped', 'starting', 'fault: motor', 'maintenance'])[1 + (hashint4(g) & 63) % 5],
                  true, jsonb_build_object('site', 'north', 'firmware', '1.' || g / 40000),
                  md5((g / 1000 % 8)::text)::uuid, timestamptz '2024-01-01' + g * interval '1 s' + interval '20 ms'
           FROM generate_series(1, 100000) AS g"""
    )
    conn.commit()
    assert compact(db, EVERYTHING).segments == 7
    found = conn.execute(
        SQL(
            "SELECT key, sum(value::int)::int FROM ddstore.list_segments({}), jsonb_each_text(column_bytes) GROUP BY 1"
        ).format(Literal(table.id))
    ).fetchall()
    sizes = dict(found)
    assert sizes["on"] < 7 * 60
    assert sizes["state"] < 100_000 * 2.6 / 8  # log2(5) is 2.32 bits
    assert sizes["meta"] < 7 * 250
    assert sizes["unit"] < 7 * 400
    assert sizes["seen"] < 7 * 100
    # What one value per row costs, compressed by TOAST as the arrays of segments are.
    conn.execute("CREATE TABLE arrays AS SELECT array_agg(state) AS states FROM t")
    assert conn.execute("SELECT pg_column_size(states) FROM arrays").fetchall() > [(2 * sizes["state"],)]


def _damaged(value: list[int], type_: str) -> bytes:
    return encode_column(np.array(value), None, type=type_, bound=Lossless()).residual


DAMAGES = {
    "an element is missing": "{array} = {array}[2:]",
    "no element": "{array} = '{{}}'",
    "an element is NULL": "{array} = array_append({array}[2:], NULL)",
    "two dimensions": "{array} = array_fill('x'::text, ARRAY[2, 2])",
    "no positions": "{residual} = NULL",
    "empty positions": "{residual} = ''",
    "times for positions": "{residual} = time",
    "a position below 0": _damaged([0, 1, -1, 2] * 16, "int4"),
    "a position too high": _damaged([0, 1, 2, 4] * 16, "int4"),
    "the highest position": _damaged([0, 1, 2, 2**31 - 1] * 16, "int4"),
    "positions of another type": _damaged([0, 1, 2, 3] * 16, "int8"),
    "positions of other rows": _damaged([0, 1, 2, 3] * 15, "int4"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_is_reported(needs_extension: None, db: Database, conn: Connection, damage: str | bytes) -> None:
    """By SQL, in Python, by verify and by a release, which changes nothing; other columns stay readable."""
    table = _table(conn, "text", segment_rows=64)
    _fill(conn, 256, "'state ' || g % 4")
    compact(db, EVERYTHING)
    prefix = table.value("v").segment_column
    change = damage if isinstance(damage, str) else "{residual} = " + Literal(damage).as_string(conn)
    change = change.format(array=f"{prefix}_array", residual=f"{prefix}_residual")
    conn.execute(f"UPDATE {table.segments} SET {change} WHERE id = 2".encode())
    conn.commit()
    with pytest.raises(psycopg.errors.DataCorrupted, match=f'segment 2 of table "segment_{table.id}".*"{prefix}_'):
        conn.execute("SELECT * FROM watched")
    conn.rollback()
    assert conn.execute("SELECT count(v) FROM watched WHERE time < '2024-01-01 00:00:20'").fetchall() == [(60,)]
    assert conn.execute("SELECT count(id) FROM watched").fetchall() == [(256,)]
    conn.commit()
    with pytest.raises(CorruptSegment, match="segment 2 of"):
        _read(db, table)
    assert [(found.id, found.column) for found in verify(db).damaged] == [(2, "v")]
    with pytest.raises(CorruptSegment, match="segment 2 of"):
        release_table(conn, table)
    conn.rollback()
    assert load_table(conn, "watched").segments == table.segments


def test_any_damaged_byte(needs_extension: None, db: Database, conn: Connection) -> None:
    """Cut anywhere, or with any bit the other way: an error, and the server stays up."""
    table = _table(conn, "text", segment_rows=64)
    _fill(conn, 64, "'state ' || hashint4(g) % 9")
    compact(db, EVERYTHING)
    column = Identifier(f"{table.value('v').segment_column}_residual")
    ((good,),) = conn.execute(SQL("SELECT {} FROM {}").format(column, table.segments_identifier)).fetchall()
    pid = conn.info.backend_pid
    conn.commit()
    bits = [good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :] for at in range(len(good)) for bit in range(8)]
    for bad in itertools.chain(bits, (good[:end] for end in range(len(good)))):
        conn.execute(SQL("UPDATE {} SET {} = {}").format(table.segments_identifier, column, Literal(bad)))
        with pytest.raises((psycopg.errors.DataCorrupted, psycopg.errors.FeatureNotSupported)):
            conn.execute("SELECT max(v) FROM watched")
        conn.rollback()
    assert conn.info.backend_pid == pid


def test_without_the_extension(db: Database, conn: Connection) -> None:
    """Python decodes, and the table goes back to plain rows."""
    table = _table(conn, "text")
    if table.cold is not None:
        table = detach_cold(conn, table)
        conn.commit()
    _fill(conn, 3000, "CASE WHEN g % 7 <> 0 THEN 'state ' || hashint4(g) % 5 END")
    hot = _read(db, table)
    assert compact(db, EVERYTHING).rows == 3000
    assert _read(db, table) == hot
    assert verify(db).damaged == []
    release_table(conn, table)
    _same_bytes(conn)


@pytest.mark.parametrize("type_", ["mood", "mood[]"])
def test_a_dump_restores(
    needs_extension: None,
    server: Any,
    db: Database,
    conn: Connection,
    database_url: str,
    empty_database_url: str,
    type_: str,
) -> None:
    if server.pg_config is None:
        pytest.skip("pg_dump of the server's version is needed")
    conn.execute(TYPES.encode())
    table = _table(conn, type_)
    mood = "(ARRAY['sad', 'ok', 'happy', NULL]::mood[])[1 + g % 4]"
    _fill(conn, 3000, mood if type_ == "mood" else f"ARRAY[{mood}]")
    assert compact(db, EVERYTHING).rows == 3000
    programs = server.pg_config.parent
    dump = subprocess.run([programs / "pg_dump", database_url], capture_output=True, check=True).stdout
    command = [programs / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", empty_database_url]
    subprocess.run(command, input=dump, stdout=subprocess.DEVNULL, check=True)
    with Database(empty_database_url) as restored, restored.connection() as there:
        _same_bytes(there)
        assert _cold(there, table) == _cold(conn, table)
        assert verify(restored).damaged == []
