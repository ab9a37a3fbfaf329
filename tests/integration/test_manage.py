"""Creating, adopting and letting go of tables; what cannot be managed, and why."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

import pytest
from psycopg import errors as pg_errors

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
from ddstore.errors import BoundConflict, DDStoreError, InvalidSeries, NotInstalled, NotPermitted, SchemaMismatch


@pytest.fixture
def plain(plain_database_url: str) -> Iterator[Connection]:
    """A connection to a database without the extension."""
    with connect(plain_database_url) as conn:
        yield conn


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
        "c8_count": "integer NOT NULL",
        "created_at": "timestamp with time zone NOT NULL",
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
        ({"columns": {"x": ("float8[]", Lossless())}}, "cannot be stored in segments"),
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


def test_adopt_in_place(conn: Connection) -> None:
    conn.execute('CREATE TABLE metrics (ts timestamp, host varchar(10) COLLATE "C", cpu real, v numeric(8,2), ok bool)')
    conn.execute("INSERT INTO metrics VALUES ('2024-01-01', 'a', 1, 2, true), (NULL, NULL, NULL, NULL, NULL)")
    conn.commit()
    table = adopt(conn, "metrics", time="ts", key=["host"], max_error={"cpu": Absolute(0.1)})
    assert (table.time.type, table.keys[0].type) == ("timestamp", "varchar")
    assert [c.bound for c in table.values] == [Absolute(0.1), Lossless(), Lossless()]
    collation = conn.execute(
        "SELECT attcollation::regcollation::text FROM pg_attribute WHERE attrelid = %s::regclass AND attname = 'k2'",
        [table.segments],
    ).fetchone()
    assert collation == ('"C"',)
    assert conn.execute("SELECT count(*) FROM metrics").fetchone() == (2,)


def _index_count(conn: Connection, table: str) -> int:
    row = conn.execute("SELECT count(*) FROM pg_index WHERE indrelid = %s::regclass AND indisvalid", [table]).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize(
    ("ddl", "made"),
    [
        ("CREATE UNIQUE INDEX ON m (k, t)", 0),
        ("CREATE INDEX ON m (k, t, x)", 0),
        ("CREATE INDEX ON m (k, t) INCLUDE (x)", 0),
        ("ALTER TABLE m ADD PRIMARY KEY (k, t)", 0),
        ("CREATE INDEX ON m (t, k)", 1),
        ("CREATE INDEX ON m (k) INCLUDE (t)", 1),
        ("CREATE INDEX ON m (k, t) WHERE x > 0", 1),
        ("CREATE INDEX ON m USING brin (k, t)", 1),
        ("CREATE INDEX ON m (k, (t + interval '1'))", 1),
    ],
)
@pytest.mark.parametrize("idle", [True, False])
def test_adopt_makes_an_index_only_when_none_will_do(plain: Connection, ddl: str, made: int, idle: bool) -> None:
    plain.execute("CREATE TABLE m (x float8, k text NOT NULL, t timestamp NOT NULL)")
    plain.execute(ddl.encode())
    if idle:
        plain.commit()
    before = _index_count(plain, "m") if not idle else 1
    table = adopt(plain, "m", time="t", key=["k"])
    assert _index_count(plain, "m") == before + made
    drop_management(plain, table, restored_rows=0)
    assert _index_count(plain, "m") == before, "release takes away what adopt brought"


def _index_definitions(conn: Connection, table: str) -> list[str]:
    rows = conn.execute("SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = %s::regclass", [table])
    return [definition.split(" USING ")[1] for (definition,) in rows]


def test_a_created_table_has_a_brin_index(plain: Connection) -> None:
    keys = {"a": "text", "b": "int8", "c": "uuid", "d": "varchar", "e": "bpchar", "f": "numeric"}
    table = create_table(plain, "m", time="t", key=keys, columns={"x": Lossless()})
    assert _index_definitions(plain, "m") == [
        "brin (a text_bloom_ops, b int8_bloom_ops, c uuid_bloom_ops, d text_bloom_ops, e bpchar_bloom_ops, "
        "f numeric_bloom_ops, t) WITH (pages_per_range='32', autosummarize='on')"
    ]
    drop_management(plain, table, restored_rows=0)
    assert _index_definitions(plain, "m") == []
    create_table(plain, "n", time="t", columns={"x": Lossless()}, time_type="int8")
    assert _index_definitions(plain, "n") == ["brin (t) WITH (pages_per_range='32', autosummarize='on')"]


def test_the_hot_index_can_be_chosen(plain: Connection) -> None:
    create_table(plain, "chosen", time="t", key=["k"], columns={"x": Lossless()}, hot_index="btree")
    assert _index_definitions(plain, "chosen") == ["btree (k, t)"]
    create_table(plain, "unknown_to_brin", time="t", key={"k": "bool"}, columns={"x": Lossless()})
    assert _index_definitions(plain, "unknown_to_brin") == ["btree (k, t)"]
    plain.execute("CREATE TABLE m (x float8, k text NOT NULL, t timestamp NOT NULL)")
    plain.execute("CREATE INDEX ON m USING brin (t, k)")
    adopt(plain, "m", time="t", key=["k"], hot_index="brin")
    assert _index_definitions(plain, "m") == ["brin (t, k)"]
    plain.execute("CREATE TABLE n (x float8, k text NOT NULL, t timestamp NOT NULL)")
    plain.commit()
    adopt(plain, "n", time="t", key=["k"], hot_index="brin")
    assert _index_definitions(plain, "n") == [
        "brin (k text_bloom_ops, t) WITH (pages_per_range='32', autosummarize='on')"
    ]
    ensure_samples(plain)
    assert len(_index_definitions(plain, "ddstore.samples")) == 1
    for make in (partial(create_table, columns={}), partial(adopt, max_error={})):
        with pytest.raises(SchemaMismatch, match="hash"):
            make(plain, "o", time="t", hot_index="hash")


def test_adopt_does_not_wait_for_writers(plain_database_url: str) -> None:
    with connect(plain_database_url) as writer, connect(plain_database_url) as adopter:
        writer.execute("CREATE TABLE m (t timestamptz NOT NULL, x float8)")
        writer.execute("CREATE INDEX ON m (t)")
        writer.commit()
        writer.execute("INSERT INTO m VALUES (now(), 1)")
        adopter.execute("SET lock_timeout = '5s'")
        adopter.commit()
        adopt(adopter, "m", time="t")
        writer.execute("INSERT INTO m VALUES (now(), 2)")
        writer.commit()
        assert adopter.execute("SELECT count(*) FROM m").fetchone() == (2,)


_TABLE = "CREATE TABLE m (t timestamptz NOT NULL, k text, x float8); "


@pytest.mark.parametrize(
    ("ddl", "message"),
    [
        ("CREATE TABLE m (t timestamptz, x float8) PARTITION BY RANGE (t)", "partitioned"),
        (
            "CREATE TABLE p (t timestamptz, k text, x float8) PARTITION BY RANGE (t);"
            "CREATE TABLE m PARTITION OF p DEFAULT",
            "is a partition",
        ),
        ("CREATE TEMP TABLE m (t timestamptz, x float8)", "temporary"),
        ("CREATE VIEW m AS SELECT now() AS t, 1::float8 AS x", "a view"),
        ("CREATE MATERIALIZED VIEW m AS SELECT now() AS t, 1::float8 AS x", "materialized"),
        ("CREATE SEQUENCE m", "no table"),
        (_TABLE + "CREATE TABLE c () INHERITS (m)", "c inherits m"),
        ("CREATE TABLE p (t timestamptz); CREATE TABLE m (x float8) INHERITS (p)", "m inherits p"),
        (_TABLE + "ALTER TABLE m ADD PRIMARY KEY (t); CREATE TABLE r (t timestamptz REFERENCES m)", "foreign key of r"),
        (
            _TABLE + "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';"
            "CREATE TRIGGER audit AFTER DELETE OR UPDATE ON m FOR EACH ROW EXECUTE FUNCTION f()",
            r"trigger on DELETE \(audit\)",
        ),
        (_TABLE + "CREATE RULE keep AS ON DELETE TO m DO INSTEAD NOTHING", r"rule \(keep\)"),
        (_TABLE + "ALTER TABLE m ENABLE ROW LEVEL SECURITY; ALTER TABLE m FORCE ROW LEVEL SECURITY", "row level"),
        ("CREATE TABLE m (t timestamptz, x float8, y float8 GENERATED ALWAYS AS (x * 2) STORED)", "generated column"),
        ("CREATE TYPE row AS (t timestamptz, x float8); CREATE TABLE m OF row", "typed table"),
    ],
)
def test_what_cannot_be_adopted_says_why(plain: Connection, ddl: str, message: str) -> None:
    plain.execute(ddl.encode())
    with pytest.raises(SchemaMismatch, match=message) as caught:
        adopt(plain, "m", time="t")
    assert caught.value.remedy
    assert list_tables(plain) == []


@pytest.mark.parametrize("name", ["pg_catalog.pg_class", "ddstore.model", "information_schema.sql_features"])
def test_system_tables_are_refused(plain: Connection, name: str) -> None:
    with pytest.raises(SchemaMismatch, match="belongs to"):
        adopt(plain, name, time="t")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"time": "tt"}, "Did you mean t"),
        ({"time": "x"}, "cannot be the time"),
        ({"key": ["nokey"]}, "no column 'nokey'"),
        ({"key": ["k", "k"]}, "one part only"),
        ({"key": ["t"]}, "one part only"),
        ({"max_error": {"k": Absolute(1)}}, "type text cannot have a max_error"),
        ({"max_error": {"t": Absolute(1)}}, "one part only"),
        ({"key": ["k"], "max_error": {"k": Lossless()}}, "one part only"),
        ({"max_error": {"y": Absolute(1)}}, "no column 'y'"),
    ],
)
def test_columns_that_do_not_fit(plain: Connection, arguments: dict[str, object], message: str) -> None:
    plain.execute(_TABLE.encode())
    with pytest.raises(SchemaMismatch, match=message):
        adopt(plain, "m", **({"time": "t"} | arguments))  # type: ignore[arg-type]


def test_an_unknown_table_is_corrected(plain: Connection) -> None:
    plain.execute("CREATE TABLE metrics (t timestamptz, x float8)")
    with pytest.raises(SchemaMismatch, match="Did you mean metrics"):
        adopt(plain, "metrcs", time="t")
    adopt(plain, "metrics", time="t")
    with pytest.raises(SchemaMismatch, match=r"Did you mean public\.metrics"):
        load_table(plain, "public.metric")
    with pytest.raises(SchemaMismatch, match="no managed table with id 77"):
        load_table(plain, 77)
    with pytest.raises(SchemaMismatch, match="already managed"):
        adopt(plain, "metrics", time="t")


def test_names_are_looked_up_on_the_search_path(plain: Connection) -> None:
    table = _sensors(plain)
    with pytest.raises(SchemaMismatch):
        load_table(plain, "sensors")
    plain.execute("SET LOCAL search_path = plant")
    assert load_table(plain, "sensors") == table


def test_a_user_type_cannot_pass_for_a_native_one(plain: Connection) -> None:
    plain.execute("CREATE SCHEMA s; CREATE DOMAIN s.float8 AS text; CREATE TABLE m (t timestamptz, x s.float8)")
    with pytest.raises(SchemaMismatch, match="confusable"):
        adopt(plain, "m", time="t")


def test_only_the_owner_may_adopt(plain_database_url: str, ordinary_role: Callable[[str], str]) -> None:
    with connect(plain_database_url) as owner:
        owner.execute(_TABLE.encode())
        owner.execute("GRANT ALL ON m TO PUBLIC")
        owner.commit()
        with connect(ordinary_role(plain_database_url)) as other:
            with pytest.raises(NotPermitted, match="owner"):
                adopt(other, "m", time="t")
            other.rollback()
            assert list_tables(other) == []


def test_two_adopters_one_wins(plain_database_url: str) -> None:
    with connect(plain_database_url) as conn:
        conn.execute("CREATE TABLE m (t timestamptz NOT NULL, x float8); CREATE INDEX ON m (t)")
    outcomes: list[str] = []

    def work() -> None:
        with connect(plain_database_url) as conn:
            try:
                adopt(conn, "m", time="t")
                outcomes.append("adopted")
            except SchemaMismatch:
                conn.rollback()
                outcomes.append("refused")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["adopted", "refused", "refused", "refused"]


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
    ("ddl", "change"),
    [
        ("ADD COLUMN extra int", "column extra was added"),
        ("DROP COLUMN rpm", "column rpm was dropped or renamed"),
        ("ALTER COLUMN rpm TYPE float8", "column rpm is now double precision, was real"),
    ],
)
def test_changed_columns_are_noticed(plain: Connection, ddl: str, change: str) -> None:
    _sensors(plain)
    plain.execute(f"ALTER TABLE plant.sensors {ddl}".encode())
    table = load_table(plain, "plant.sensors")
    assert table.changes == (change,)
    with pytest.raises(SchemaMismatch, match=change):
        require_intact(table)


def test_a_lost_time_column_is_an_error(plain: Connection) -> None:
    _sensors(plain)
    plain.execute("ALTER TABLE plant.sensors DROP COLUMN time")
    with pytest.raises(SchemaMismatch, match="lost its time column"):
        load_table(plain, "plant.sensors")


def test_a_dropped_table_leaves_an_orphan(plain: Connection) -> None:
    _sensors(plain)
    plain.execute("DROP TABLE plant.sensors")
    assert list_tables(plain) == []
    assert plain.execute("SELECT count(*) FROM ddstore.tables").fetchone() == (0,)
    assert orphans(plain) == {1: "ddstore.segment_1"}
    assert drop_orphans(plain) == ["ddstore.segment_1"]
    assert orphans(plain) == {}
    assert plain.execute("SELECT to_regclass('ddstore.segment_1')").fetchone() == (None,)


def test_an_error_in_adopt_leaves_the_connection_as_it_was(plain: Connection) -> None:
    plain.execute("CREATE TABLE m (t timestamptz, x text)")
    plain.commit()
    with pytest.raises(DDStoreError):
        adopt(plain, "m", time="t", max_error={"x": Absolute(1)})
    assert plain.autocommit is False
    with pytest.raises(pg_errors.UndefinedTable):
        plain.execute("SELECT * FROM nowhere")
    plain.rollback()


def test_a_failed_index_build_leaves_no_invalid_index(plain: Connection) -> None:
    plain.execute("CREATE TABLE m (t timestamptz, k text, x float8)")
    plain.execute("INSERT INTO m VALUES (now(), NULL, 1)")
    plain.execute("INSERT INTO m SELECT now(), string_agg(gen_random_uuid()::text, ''), 1 FROM generate_series(1, 999)")
    plain.commit()
    with pytest.raises(InvalidSeries, match=r"too long for an index.*Shorten the key"):
        adopt(plain, "m", time="t", key=["k"])
    assert plain.execute("SELECT count(*) FROM pg_index WHERE indrelid = 'm'::regclass").fetchone() == (0,)
    assert list_tables(plain) == []


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
    assert ("c2_residual" in parts) == table.values[0].native == (type_ in {"int2", "int8", "float4"})
    assert ("c2_array" in parts) == (not table.values[0].native)


@pytest.mark.parametrize("time_type", ["timestamptz", "timestamp", "int8", "timestamp with time zone", "bigint"])
def test_time_types(conn: Connection, time_type: str) -> None:
    table = create_table(conn, "m", time="t", time_type=time_type, columns={"x": Lossless()})
    assert table.time.type in {"timestamptz", "timestamp", "int8"}
