"""SQLAlchemy Core over the catalog and over a managed table."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest

from ddstore.bounds import Absolute
from ddstore.db.manage import create_table
from ddstore.db.pool import connect
from ddstore.errors import SchemaMismatch

sa = pytest.importorskip("sqlalchemy")


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """An engine on a database with one managed table of three rows."""
    with connect(database_url) as conn:
        create_table(conn, "plant.sensors", time="time", key=["device"], columns={"temp": Absolute(0.05)})
        conn.execute(
            "INSERT INTO plant.sensors VALUES ('2024-01-01', 'a', 1), ('2024-01-02', 'a', 3), ('2024-01-01', 'b', 9)"
        )
    engine = sa.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(database_url))
    yield engine
    engine.dispose()


def test_a_managed_table_is_queried_like_any_other(engine: sa.Engine) -> None:
    from ddstore.db.tables import managed_table

    sensors = managed_table(engine, "plant.sensors")
    assert isinstance(sensors.c.time.type, sa.DateTime)
    query = (
        sa.select(sensors.c.device, sa.func.avg(sensors.c.temp))
        .where(sensors.c.time >= datetime(2024, 1, 1, tzinfo=UTC))
        .group_by(sensors.c.device)
        .order_by(sensors.c.device)
    )
    with engine.connect() as connection:
        assert connection.execute(query).fetchall() == [("a", 2.0), ("b", 9.0)]
        assert managed_table(connection, "Plant.Sensors").c.keys() == ["time", "device", "temp"]


def test_unmanaged_tables_are_not_reflected(engine: sa.Engine) -> None:
    from ddstore.db.tables import managed_table

    with pytest.raises(SchemaMismatch, match="not a managed table"):
        managed_table(engine, "sensors")
    with pytest.raises(SchemaMismatch, match="not a managed table"):
        managed_table(engine, "ddstore.model")


def test_the_core_tables_say_what_the_database_has(engine: sa.Engine) -> None:
    from ddstore.db.tables import metadata, tables

    columns = sa.text(
        "SELECT attname::text FROM pg_attribute"
        " WHERE attrelid = to_regclass('ddstore.' || :name) AND attnum > 0 ORDER BY attnum"
    )
    with engine.connect() as connection:
        for table in metadata.tables.values():
            assert connection.scalars(columns, {"name": table.name}).all() == table.c.keys(), table.name
        row = connection.execute(sa.select(tables.c.time_column, tables.c.max_error)).one()
        assert row == ("time", {"temp": "absolute 0.05"})
        for table in metadata.tables.values():
            connection.execute(sa.select(table)).fetchall()
