"""Adopting tables in place: their indexes, and what cannot be adopted, and why."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest
from psycopg import errors as pg_errors

from ddstore.bounds import Absolute, Lossless
from ddstore.db.catalog import list_tables, load_table
from ddstore.db.manage import (
    adopt,
    create_table,
    drop_management,
    ensure_samples,
)
from ddstore.db.pool import Connection, connect
from ddstore.errors import DDStoreError, InvalidSeries, NotPermitted, SchemaMismatch


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
        ("CREATE UNLOGGED TABLE m (t timestamptz, x float8)", "unlogged"),
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
        ({"max_error": {"x": Absolute(1)}}, r"constraint sane \(CHECK .*max_error Absolute\(1\)"),
        ({"key": ["double"]}, "generated column cannot be the time or a key"),
    ],
)
def test_columns_that_do_not_fit(plain: Connection, arguments: dict[str, object], message: str) -> None:
    plain.execute(_TABLE.encode())
    plain.execute("ALTER TABLE m ADD CONSTRAINT sane CHECK (x > 0)")
    plain.execute("ALTER TABLE m ADD COLUMN double float8 GENERATED ALWAYS AS (x * 2) STORED")
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
