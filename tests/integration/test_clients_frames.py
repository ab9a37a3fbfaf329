"""pandas and polars beside a managed table: read and append through SQLAlchemy, psycopg and ADBC."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from fix_clients import Plant, readings

sa = pytest.importorskip("sqlalchemy")

COLUMNS = ["time", "device", "temp", "state"]
ORDERED = "SELECT time, device, temp, state FROM plant.sensors ORDER BY time, device"


@pytest.fixture
def engine(plant: Plant) -> Iterator[sa.Engine]:
    """An engine whose sessions are in UTC."""
    options = {"options": "-c timezone=UTC"}
    engine = sa.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(plant.conninfo, **options))
    yield engine
    engine.dispose()


def pandas_rows(frame: Any) -> list[tuple[Any, ...]]:
    import pandas as pd

    return [(t, d, None if pd.isna(v) else v, s) for t, d, v, s in frame[COLUMNS].itertuples(index=False)]


def test_pandas(plant: Plant, engine: sa.Engine) -> None:
    pd = pytest.importorskip("pandas")
    with engine.connect() as conn:
        frame = pd.read_sql(ORDERED, conn)
        assert pandas_rows(frame) == plant.rows
        assert str(frame["time"].dtype) == "datetime64[us, UTC]"
        parts = list(pd.read_sql(sa.text(ORDERED), conn.execution_options(stream_results=True), chunksize=500))
        assert [len(part) for part in parts] == [500, 500, 200]
        assert pandas_rows(pd.concat(parts)) == plant.rows
        whole = pd.read_sql_table("sensors", conn, schema="plant")
        assert sorted(pandas_rows(whole), key=lambda row: row[:2]) == plant.rows
    for first, last, method in ((600, 620, None), (620, 650, "multi")):
        more = pd.DataFrame(readings(first, last), columns=COLUMNS)
        more.to_sql("sensors", engine, schema="plant", if_exists="append", index=False, method=method)
    assert pandas_rows(pd.read_sql(ORDERED, engine)) == readings(0, 650)


def test_polars(plant: Plant, engine: sa.Engine) -> None:
    pl = pytest.importorskip("polars")
    with psycopg.connect(plant.conninfo) as conn:
        assert pl.read_database(ORDERED, conn).rows() == plant.rows
    with engine.connect() as conn:
        assert pl.read_database(ORDERED, conn).rows() == plant.rows
        parts = pl.read_database(ORDERED, conn, iter_batches=True, batch_size=500)
        assert pl.concat(list(parts)).rows() == plant.rows
    more = pl.DataFrame(readings(600, 650), schema=COLUMNS, orient="row")
    more.write_database("plant.sensors", engine, if_table_exists="append")
    assert pl.read_database(ORDERED, engine).rows() == readings(0, 650)


def test_polars_through_adbc(plant: Plant) -> None:
    pl = pytest.importorskip("polars")
    pytest.importorskip("adbc_driver_postgresql", reason="ADBC is not installed: pip install 'ddstore[dev]'")
    parts = "&".join(f"{name}={value}" for name, value in plant.parts.items() if name not in ("user", "dbname"))
    uri = f"postgresql://{plant.parts['user']}@/{plant.parts['dbname']}?{parts}"
    frame = pl.read_database_uri(ORDERED, uri, engine="adbc")
    assert frame.rows() == plant.rows
    more = pl.DataFrame(readings(600, 650), schema=frame.schema, orient="row")
    assert more.write_database("plant.sensors", uri, engine="adbc", if_table_exists="append") == 100
    assert pl.read_database_uri(ORDERED, uri, engine="adbc").rows() == readings(0, 650)
