"""The views a DBA looks at, on hand-made segments, and who may see what in them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ddstore.bounds import Absolute, Lossless
from ddstore.db.catalog import ManagedTable
from ddstore.db.manage import create_table
from ddstore.db.pool import Connection, connect


@pytest.fixture
def table(plain: Connection) -> ManagedTable:
    """A managed table with two segments, a model and a job; the bytes mean nothing."""
    table = create_table(
        plain,
        "plant.sensors",
        time="time",
        key={"device": "text", "unit": "int4"},
        columns={"temp": Absolute(0.05), "it's": ("text", Lossless())},
    )
    plain.execute(
        """
        INSERT INTO ddstore.model (table_id, column_id, series_key, bytes, record)
        VALUES (1, 4, '["a", "7"]', '\\x0102', '{"seed": 1}');
        INSERT INTO ddstore.segment_1 (k2, k3, t_min, t_max, n, time, c4_latents, c4_residual, c4_model, c4_count,
                                       c5_array, c5_count)
        VALUES ('a', 7, '2024-01-01', '2024-01-02', 3, '\\x01', '\\x0102', '\\x010203', 1, 3, '{x,y,NULL}', 2),
               ('b', NULL, '2024-01-01', '2024-01-02', 2, '\\x01', NULL, '\\x01', NULL, 2, '{}', 0);
        INSERT INTO ddstore.job (table_id, series_key, state, profile, worker, rows, segments, bytes, error)
        VALUES (1, '["a", "7"]', 'failed', 'archive', 'w1', 3, 1, 9, 'out of tape');
        """
    )
    return table


def test_segments(plain: Connection, table: ManagedTable) -> None:
    rows = plain.execute(
        """SELECT relation::text, series, t_min, t_max, rows, time_bytes, latents_bytes, residual_bytes,
                  bytes - array_bytes, array_bytes > 0, column_bytes -> 'temp', (column_bytes -> 'it''s')::int > 0
           FROM ddstore.segments ORDER BY segment_id"""
    ).fetchall()
    assert rows == [
        ("plant.sensors", ["a", "7"], "2024-01-01 00:00:00+00", "2024-01-02 00:00:00+00", 3, 1, 2, 3, 6, True, 5, True),
        (
            "plant.sensors",
            ["b", None],
            "2024-01-01 00:00:00+00",
            "2024-01-02 00:00:00+00",
            2,
            1,
            0,
            1,
            2,
            True,
            1,
            True,
        ),
    ]


def test_tables(plain: Connection, table: ManagedTable) -> None:
    row = plain.execute(
        """SELECT relation::text, time_column, key_columns, max_error, segments, cold_rows, models, model_bytes,
                  segment_bytes = (SELECT sum(bytes) FROM ddstore.segments), hot_size > 0, cold_size > 0, table_id
           FROM ddstore.tables"""
    ).fetchone()
    max_error = {"temp": "absolute 0.05", "it's": "lossless"}
    assert row == ("plant.sensors", "time", ["device", "unit"], max_error, 2, 5, 1, 2, True, True, True, table.id)


def test_models_and_compaction(plain: Connection, table: ManagedTable) -> None:
    model = plain.execute("SELECT relation::text, column_name, series, bytes, record FROM ddstore.models").fetchone()
    assert model == ("plant.sensors", "temp", ["a", "7"], 2, {"seed": 1})
    job = plain.execute(
        "SELECT relation::text, series, state, profile, worker, rows, error FROM ddstore.compaction"
    ).fetchone()
    assert job == ("plant.sensors", ["a", "7"], "failed", "archive", "w1", 3, "out of tape")


def test_one_series_without_keys(plain: Connection) -> None:
    create_table(plain, "m", time="t", time_type="int8", columns={"x": Lossless()})
    plain.execute(
        "INSERT INTO ddstore.segment_1 (t_min, t_max, n, time, c2_residual, c2_count) VALUES (-5, 9, 1, '', '', 0)"
    )
    row = plain.execute("SELECT series, t_min, t_max FROM ddstore.segments").fetchone()
    assert row == ([], "-5", "9")


def test_a_table_with_the_most_columns(plain: Connection) -> None:
    names = [f"c{i}" for i in range(100)]
    create_table(plain, "wide", time="t", columns=dict.fromkeys(names, Absolute(1)))
    columns = ", ".join(f"c{i}_latents, c{i}_residual, c{i}_count, c{i}_min, c{i}_max, c{i}_sum" for i in range(2, 102))
    values = ", ".join(["repeat('x', 3000)::bytea, repeat('x', 3000)::bytea, 1, 1.5, 1.5, 1.5"] * 100)
    plain.execute(
        f"INSERT INTO ddstore.segment_1 (n, t_min, t_max, time, {columns})"
        f" VALUES (1, now(), now(), '', {values})".encode()
    )
    row = plain.execute("SELECT bytes, column_bytes -> 'c99' FROM ddstore.segments").fetchone()
    assert row == (600_000, 6000)


def test_others_see_names_but_neither_series_nor_data(
    plain: Connection, table: ManagedTable, plain_database_url: str, ordinary_role: Callable[[str], str]
) -> None:
    plain.commit()
    with connect(ordinary_role(plain_database_url)) as other:
        for view in ("segments", "codings", "models", "compaction"):
            assert other.execute(f"SELECT * FROM ddstore.{view}".encode()).fetchall() == []
        seen = other.execute("SELECT segments, cold_rows, segment_bytes FROM ddstore.tables").fetchall()
        assert seen == [(None, None, None)]
        role = other.info.user
        plain.execute(f'GRANT SELECT ON plant.sensors TO "{role}"'.encode())
        plain.commit()
        assert len(other.execute("SELECT * FROM ddstore.compaction").fetchall()) == 1
