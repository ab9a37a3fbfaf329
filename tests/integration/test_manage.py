"""Creating tables, their bounds and types, and letting go of them."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from ddstore.bounds import Absolute, Bound, Lossless, RangeRelative, Relative
from ddstore.db.catalog import ManagedTable, list_tables, load_series_bounds, load_table, require_intact, series_bound
from ddstore.db.manage import (
    adopt,
    create_table,
    drop_management,
    drop_orphans,
    ensure_samples,
    orphans,
    set_column_bound,
    set_series_bound,
)
from ddstore.db.pool import Connection, connect
from ddstore.errors import BoundConflict, NotInstalled, SchemaMismatch
from ddstore.following import follow_changes


def _sensors(conn: Connection) -> ManagedTable:
    return create_table(
        conn,
        "plant.sensors",
        time="time",
        key={"device": "text", "unit": "int4"},
        columns={
            "temp": Absolute(0.05),
            "rpm": ("float4", Relative(1e-3)),
            "state": Lossless(),
            "n": ("int8", RangeRelative(0.01)),
            "note": ("text", Lossless()),
        },
        segment_rows=512,
        min_rows=8,
        hot_for=timedelta(days=1, seconds=1.5),
    )


def _columns(conn: Connection, table: str) -> dict[str, str]:
    rows = conn.execute(
        """SELECT attname, format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END
           FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped""",
        [table],
    )
    return dict(rows.fetchall())


def test_create_table(conn: Connection) -> None:
    table = _sensors(conn)
    assert table.label == "plant.sensors"
    assert table == load_table(conn, "plant.sensors") == load_table(conn, table.id)
    assert [(c.name, c.type, c.bound) for c in (table.time, *table.keys, *table.values)] == [
        ("time", "timestamptz", Lossless()),
        ("device", "text", Lossless()),
        ("unit", "int4", Lossless()),
        ("temp", "float8", Absolute(0.05)),
        ("rpm", "float4", Relative(1e-3)),
        ("state", "float8", Lossless()),
        ("n", "int8", RangeRelative(0.01)),
        ("note", "text", Lossless()),
    ]
    assert [c.native for c in table.values] == [True, True, True, True, False]
    assert (table.segment_rows, table.min_rows, table.hot_for) == (512, 8, timedelta(days=1, seconds=1.5))
    assert table.changes == ()
    assert _columns(conn, table.segments) == {
        "id": "bigint NOT NULL",
        "k2": "text",
        "k3": "integer",
        "t_min": "timestamp with time zone NOT NULL",
        "t_max": "timestamp with time zone NOT NULL",
        "n": "integer NOT NULL",
        "time": "bytea NOT NULL",
        **_native(4, "double precision", "double precision"),
        **_native(5, "real", "double precision"),
        **_native(6, "double precision", "double precision"),
        **_native(7, "bigint", "numeric"),
        "c8_array": "text[] NOT NULL",
        "c8_residual": "bytea",
        "c8_count": "integer NOT NULL",
        "created_at": "timestamp with time zone NOT NULL",
        "written": "jsonb",
    }


def _native(number: int, type_: str, sum_type: str) -> dict[str, str]:
    return {
        f"c{number}_latents": "bytea",
        f"c{number}_residual": "bytea NOT NULL",
        f"c{number}_model": "bigint",
        f"c{number}_count": "integer NOT NULL",
        f"c{number}_min": type_,
        f"c{number}_max": type_,
        f"c{number}_sum": sum_type,
    }


def test_segment_bytes_are_not_compressed_again(plain: Connection) -> None:
    table = _sensors(plain)
    rows = plain.execute(
        """SELECT attname, attstorage, attcompression FROM pg_attribute
           WHERE attrelid = %s::regclass AND atttypid IN ('bytea'::regtype, 'text[]'::regtype)""",
        [table.segments],
    ).fetchall()
    assert {storage for name, storage, _ in rows if name != "c8_array"} == {"e"}
    lz4 = plain.execute(
        "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
    ).fetchone()
    if lz4 == (True,):
        assert ("c8_array", "x", "l") in rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"columns": {"x": ("no_such_type", Lossless())}}, "'no_such_type' is not a plain type"),
        ({"columns": {"x": ("numeric(4,2)", Lossless())}}, "not a plain type"),
        ({"columns": {"x": ("int4; DROP TABLE x", Lossless())}}, "not a plain type"),
        ({"columns": {"x": ("record", Lossless())}}, "not a plain type"),
        ({"columns": {"x": ("text", Absolute(1))}}, "cannot have a max_error"),
        ({"columns": {"x": ("numeric", Absolute(1))}}, "cannot have a max_error"),
        ({"columns": {"x": ("float8[]", Absolute(1))}}, "cannot have a max_error"),
        ({"columns": {"t": Lossless()}}, "must differ"),
        ({"columns": {}}, "0 value columns"),
        ({"columns": {f"c{i}": Lossless() for i in range(101)}}, "101 value columns"),
        ({"key": {"k": "json"}}, "no order"),
        ({"time_type": "date"}, "cannot be the time"),
        ({"segment_rows": 1}, "out of its range"),
        ({"profile": "fastest"}, "out of its range"),
        ({"name": "a.b.c"}, "not a table name"),
    ],
)
def test_create_table_refuses(plain: Connection, arguments: dict[str, object], message: str) -> None:
    given = {"name": "s.t", "time": "t", "columns": {"x": Lossless()}} | arguments
    with pytest.raises(SchemaMismatch, match=message) as caught:
        create_table(plain, **given)  # type: ignore[arg-type]
    assert caught.value.remedy or "differ" in message
    assert list_tables(plain) == []
    assert plain.execute("SELECT to_regclass('s.t'), to_regnamespace('s')").fetchone() == (None, None)


def test_create_table_does_not_touch_an_existing_one(plain: Connection) -> None:
    plain.execute("CREATE TABLE t (x int)")
    with pytest.raises(SchemaMismatch, match=r"adopt\(\)"):
        create_table(plain, "t", time="t", columns={"x": Lossless()})


def test_strange_names_work_everywhere(conn: Connection) -> None:
    name = '"pl.ant, x"."Sen""sors"'
    table = create_table(conn, name, time="the time", key=["a,b"], columns={"temp'é": Absolute(1), 'x"y': Lossless()})
    assert (table.schema, table.name) == ("pl.ant, x", 'Sen"sors')
    assert load_table(conn, name) == load_table(conn, table.label) == table
    assert conn.execute("SELECT * FROM ddstore.segments").fetchall() == []
    drop_management(conn, table, restored_rows=0)
    assert list_tables(conn) == []


def test_names_are_looked_up_on_the_search_path(plain: Connection) -> None:
    table = _sensors(plain)
    with pytest.raises(SchemaMismatch):
        load_table(plain, "sensors")
    plain.execute("SET LOCAL search_path = plant")
    assert load_table(plain, "sensors") == table


def test_no_catalog(empty_database_url: str) -> None:
    with connect(empty_database_url) as conn:
        with pytest.raises(NotInstalled):
            ensure_samples(conn)
        conn.rollback()
        with pytest.raises(NotInstalled):
            create_table(conn, "t", time="t", columns={"x": Lossless()})


def test_samples_are_managed_at_first_use_by_any_number_of_writers(database_url: str) -> None:
    found: list[ManagedTable] = []

    def work() -> None:
        with connect(database_url) as conn:
            found.append(ensure_samples(conn))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    samples = found[0]
    assert (samples.label, samples.time.name, [k.name for k in samples.keys]) == ("ddstore.samples", "time", ["series"])


def test_series_keep_their_bounds(plain: Connection) -> None:
    table = _sensors(plain)
    temp, key = table.value("temp"), ("a/b", None)
    assert series_bound(plain, table, temp, key) is None
    set_series_bound(plain, table, temp, key, Absolute(0.1))
    set_series_bound(plain, table, temp, key, Absolute(0.1))
    with pytest.raises(BoundConflict, match=r"Absolute\(0\.1\), and Relative\(0\.2\) was given") as caught:
        set_series_bound(plain, table, temp, key, Relative(0.2))
    assert "set_max_error" in (caught.value.remedy or "")
    set_series_bound(plain, table, temp, key, Lossless(), replace=True)
    assert load_series_bounds(plain, table.id) == {(temp.id, key): Lossless()}
    with pytest.raises(SchemaMismatch, match="cannot have a max_error"):
        set_series_bound(plain, table, table.value("note"), key, Absolute(0.1))
    with pytest.raises(SchemaMismatch, match="Did you mean temp"):
        table.value("tmp")


@pytest.mark.parametrize("bound", [Absolute(1e-300), Relative(5e-324), RangeRelative(0.1 + 0.2), Lossless()])
def test_bounds_come_back_exactly(plain: Connection, bound: Bound) -> None:
    table = _sensors(plain)
    set_column_bound(plain, table, table.value("temp"), bound)
    assert load_table(plain, table.id).value("temp").bound == bound
    with pytest.raises(SchemaMismatch):
        set_column_bound(plain, table, table.value("note"), Absolute(1))


def test_release_refuses_to_drop_rows(plain: Connection) -> None:
    table = create_table(plain, "m", time="t", columns={"x": Lossless()})
    plain.execute(
        "INSERT INTO ddstore.segment_1 (t_min, t_max, n, time, c2_residual, c2_count)"
        " VALUES (now(), now(), 5, '', '', 5)"
    )
    with pytest.raises(SchemaMismatch, match="0 rows were put back, but the segments hold 5"):
        drop_management(plain, table, restored_rows=0)
    assert load_table(plain, "m") == table
    drop_management(plain, table, restored_rows=5)
    assert list_tables(plain) == []
    assert plain.execute("SELECT to_regclass(%s), to_regclass('m')::text", [table.segments]).fetchone() == (None, "m")
    again = adopt(plain, "m", time="t")
    assert again.id != table.id


def test_renames_follow_the_foreign_table(conn: Connection, needs_extension: None) -> None:
    table = _sensors(conn)
    conn.execute("ALTER TABLE plant.sensors RENAME COLUMN rpm TO speed; ALTER TABLE plant.sensors RENAME TO s2")
    renamed = load_table(conn, "plant.s2")
    require_intact(renamed)
    assert renamed.value("speed").id == table.value("rpm").id
    assert renamed.value("speed").bound == Relative(1e-3)


@pytest.mark.parametrize(
    ("ddl", "changes"),
    [
        ("ADD COLUMN extra int", ()),
        ("DROP COLUMN rpm", ()),
        ("RENAME COLUMN rpm TO speed", ()),
        ("ALTER COLUMN rpm TYPE float8", ("column rpm is now double precision, was real",)),
        ("DROP COLUMN time", ("the time column time was dropped",)),
    ],
)
def test_changed_columns_are_noticed(plain: Connection, ddl: str, changes: tuple[str, ...]) -> None:
    _sensors(plain)
    assert not load_table(plain, "plant.sensors").behind
    plain.execute(f"ALTER TABLE plant.sensors {ddl}".encode())
    table = load_table(plain, "plant.sensors")
    assert (table.behind, table.changes) == (not changes, changes)
    if changes:
        with pytest.raises(SchemaMismatch, match=changes[0]):
            require_intact(table)
    else:
        table = follow_changes(plain, table)
        assert not table.behind


def test_a_bound_on_a_checked_column(plain: Connection) -> None:
    table = _sensors(plain)
    plain.execute("ALTER TABLE plant.sensors ADD CONSTRAINT known CHECK (state IN (0, 1))")
    for bound in (Absolute(1), Relative(0.1)):
        with pytest.raises(SchemaMismatch, match="constraint known"):
            set_column_bound(plain, table, table.value("state"), bound)
        with pytest.raises(SchemaMismatch, match="constraint known"):
            set_series_bound(plain, table, table.value("state"), ("a", "1"), bound)
    set_column_bound(plain, table, table.value("state"), Lossless())


def test_a_dropped_table_leaves_an_orphan(plain: Connection) -> None:
    _sensors(plain)
    plain.execute("DROP TABLE plant.sensors")
    assert list_tables(plain) == []
    assert plain.execute("SELECT count(*) FROM ddstore.tables").fetchone() == (0,)
    assert orphans(plain) == {1: "ddstore.segment_1"}
    assert drop_orphans(plain) == ["ddstore.segment_1"]
    assert orphans(plain) == {}
    assert plain.execute("SELECT to_regclass('ddstore.segment_1')").fetchone() == (None,)


_TYPES = ["bool", "int2", "int8", "float4", "numeric", "text", "varchar", "bpchar", '"char"', "name", "uuid", "date"]
_TYPES += ["timestamptz", "interval", "inet", "bytea", "mood", "positive"]


def _create_types(conn: Connection) -> None:
    conn.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN positive AS int CHECK (VALUE > 0);"
        "CREATE TYPE pair AS (a int, b text)"
    )


@pytest.mark.parametrize("type_", _TYPES)
def test_key_types(conn: Connection, type_: str) -> None:
    _create_types(conn)
    table = create_table(conn, "m", time="t", key={"k": type_}, columns={"x": Lossless()})
    assert conn.execute(b"SELECT (SELECT k FROM m) IS NOT DISTINCT FROM (SELECT k2 FROM ddstore.segment_1)").fetchone()
    assert table.keys[0].type == type_.strip('"')


@pytest.mark.parametrize("type_", [*_TYPES, "jsonb", "json", "point", "pair", "int4range", "xml"])
def test_value_types(conn: Connection, type_: str) -> None:
    _create_types(conn)
    table = create_table(conn, "m", time="t", columns={"x": (type_, Lossless())})
    parts = _columns(conn, table.segments)
    assert ("c2_latents" in parts) == table.values[0].native == (type_ in {"int2", "int8", "float4"})
    assert "c2_residual" in parts
    assert ("c2_array" in parts) == (not table.values[0].native)


@pytest.mark.parametrize("time_type", ["timestamptz", "timestamp", "int8", "timestamp with time zone", "bigint"])
def test_time_types(conn: Connection, time_type: str) -> None:
    table = create_table(conn, "m", time="t", time_type=time_type, columns={"x": Lossless()})
    assert table.time.type in {"timestamptz", "timestamp", "int8"}
