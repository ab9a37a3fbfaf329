"""psycopg, asyncpg and ADBC beside a managed table: cursors, COPY, prepared statements, Arrow."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from fix_clients import START, Plant, readings

COLUMNS = "time, device, temp, state"
ORDERED = f"SELECT {COLUMNS} FROM plant.sensors ORDER BY time, device"


def test_server_side_cursors(plant: Plant) -> None:
    with psycopg.connect(plant.conninfo) as conn:
        with conn.cursor(name="rows", scrollable=True) as cursor:
            cursor.execute(ORDERED)
            assert cursor.fetchmany(7) == plant.rows[:7]
            cursor.scroll(700, mode="absolute")
            assert cursor.fetchone() == plant.rows[700]
            cursor.scroll(-201)
            assert cursor.fetchall() == plant.rows[500:]
        # One that outlives its transaction sees the rows of its own moment.
        with conn.cursor(name="held", withhold=True) as held:
            held.itersize = 100
            held.execute(ORDERED)
            conn.commit()
            conn.execute("INSERT INTO plant.sensors VALUES ('2023-01-01', 'early', 1, 'on')")
            conn.commit()
            assert list(held) == plant.rows


def test_copy_of_a_query_has_all_rows_and_of_the_table_the_hot_ones(plant: Plant) -> None:
    types = ["timestamptz", "text", "float8", "text"]
    with psycopg.connect(plant.conninfo) as conn, conn.cursor() as cursor:
        for source, expected in ((f"({ORDERED})", plant.rows), (f"plant.sensors ({COLUMNS})", plant.rows[800:])):
            for form in ("TEXT", "BINARY"):
                with cursor.copy(f"COPY {source} TO STDOUT (FORMAT {form})".encode()) as copy:
                    copy.set_types(types)
                    assert sorted(copy.rows()) == expected
        with cursor.copy(f"COPY plant.sensors ({COLUMNS}) FROM STDIN (FORMAT BINARY)".encode()) as copy:
            copy.set_types(types)
            for row in readings(600, 650):
                copy.write_row(row)
        assert cursor.execute(ORDERED.encode()).fetchall() == readings(0, 650)


def test_pipelines_and_prepared_statements(plant: Plant) -> None:
    query = "SELECT count(temp) FROM plant.sensors WHERE device = %s AND time < %s"
    given = [("pump", START.replace(hour=hour)) for hour in range(10)]
    expected = [
        (sum(d == device and t < before and v is not None for t, d, v, _ in plant.rows),) for device, before in given
    ]
    with psycopg.connect(plant.conninfo) as conn:
        plain = [conn.execute(query, one, prepare=True).fetchone() for one in given]  # generic plans from the sixth on
        with conn.pipeline():
            cursors = [conn.execute(query, one, binary=True) for one in given]
        assert plain == [cursor.fetchone() for cursor in cursors] == expected


def test_asyncpg(plant: Plant) -> None:
    asyncpg = pytest.importorskip("asyncpg", reason="asyncpg is not installed: pip install 'ddstore[dev]'")

    async def work() -> None:
        parts = plant.parts
        conn = await asyncpg.connect(
            host=parts.get("host"), port=parts.get("port"), user=parts["user"], database=parts["dbname"],
            password=parts.get("password"),
        )  # fmt: skip
        try:
            assert [tuple(row) for row in await conn.fetch(ORDERED)] == plant.rows
            latest = await conn.prepare(
                "SELECT time, temp FROM plant.sensors WHERE device = $1 ORDER BY time DESC LIMIT 1"
            )
            assert tuple(await latest.fetchrow("pump")) == (plant.rows[-1][0], plant.rows[-1][2])
            async with conn.transaction():
                cursor = await conn.cursor(ORDERED)
                await cursor.forward(790)
                assert [tuple(row) for row in await cursor.fetch(20)] == plant.rows[790:810]
            copied = await conn.copy_records_to_table(
                "sensors", schema_name="plant", columns=COLUMNS.split(", "), records=readings(600, 650)
            )
            assert copied == "COPY 100"
            assert (
                len(await conn.fetch("SELECT FROM plant.sensors WHERE state = ANY($1::text[])", ["on", "off"])) == 1300
            )
        finally:
            await conn.close()

    asyncio.run(work())


def arrow_rows(table: Any) -> list[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def test_adbc(plant: Plant) -> None:
    dbapi = pytest.importorskip(
        "adbc_driver_postgresql.dbapi", reason="ADBC is not installed: pip install 'ddstore[dev]'"
    )
    with dbapi.connect(plant.conninfo) as conn, conn.cursor() as cursor:
        cursor.execute(ORDERED)
        table = cursor.fetch_arrow_table()
        assert table.schema.types == [pa.timestamp("us", "UTC"), pa.string(), pa.float64(), pa.string()]
        assert arrow_rows(table) == plant.rows
        cursor.execute("SELECT count(*) FROM plant.sensors WHERE device = $1", ("pump",))
        assert cursor.fetchone() == (600,)
        more = pa.Table.from_pylist(
            [dict(zip(COLUMNS.split(", "), row, strict=True)) for row in readings(600, 650)], schema=table.schema
        )
        assert cursor.adbc_ingest("sensors", more, mode="append", db_schema_name="plant") == 100
        conn.commit()
        cursor.execute(ORDERED)
        assert arrow_rows(cursor.fetch_arrow_table()) == readings(0, 650)
        assert conn.adbc_get_table_schema("sensors", db_schema_filter="plant").names == COLUMNS.split(", ")
