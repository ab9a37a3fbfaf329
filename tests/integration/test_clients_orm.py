"""SQLAlchemy's ORM over a managed table: mapped by hand and by reflection, insert, relationship, paging by key."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from fix_clients import START, Plant, readings

sa = pytest.importorskip("sqlalchemy")
orm = pytest.importorskip("sqlalchemy.orm")


class Base(orm.DeclarativeBase):  # type: ignore[name-defined, misc]
    """The models of this file."""


class Device(Base):
    """An ordinary table beside the managed one."""

    __tablename__ = "device"
    __table_args__ = {"schema": "plant"}  # noqa: RUF012
    name = sa.Column(sa.Text, primary_key=True)
    site = sa.Column(sa.Text, nullable=False)
    readings = orm.relationship("Reading", back_populates="of", order_by="Reading.time", lazy="write_only")


class Reading(Base):
    """A row of the managed table. The ORM wants a primary key: these two identify a row, though nothing enforces it."""

    __tablename__ = "sensors"
    __table_args__ = {"schema": "plant"}  # noqa: RUF012
    time = sa.Column(sa.DateTime(timezone=True), primary_key=True)
    device = sa.Column(sa.ForeignKey("plant.device.name"), primary_key=True)
    temp = sa.Column(sa.Double)
    state = sa.Column(sa.Text)
    of = orm.relationship("Device", back_populates="readings")

    @property
    def row(self) -> tuple[Any, ...]:
        return self.time, self.device, self.temp, self.state


@pytest.fixture
def session(plant: Plant) -> Iterator[Any]:
    """A session in UTC, with both devices in their table."""
    engine = sa.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(plant.conninfo, options="-c timezone=UTC")
    )
    Base.metadata.create_all(engine)  # makes the table that is missing, and leaves the managed one alone
    with orm.Session(engine) as session:
        session.add_all([Device(name="boiler", site="north"), Device(name="pump", site="south")])
        session.commit()
        yield session
    engine.dispose()


def test_objects_are_written_and_found(plant: Plant, session: Any) -> None:
    names = ("time", "device", "temp", "state")
    session.add_all(Reading(**dict(zip(names, row, strict=True))) for row in readings(600, 620))
    session.commit()
    session.execute(sa.insert(Reading), [dict(zip(names, row, strict=True)) for row in readings(620, 650)])
    session.commit()
    ordered = sa.select(Reading).order_by(Reading.time, Reading.device)
    assert [reading.row for reading in session.scalars(ordered)] == readings(0, 650)
    cold = session.get(Reading, (START + timedelta(minutes=5), "pump"))
    assert cold.row == plant.rows[11]
    assert cold.of.site == "south"


def test_objects_are_changed_and_deleted(plant: Plant, session: Any) -> None:
    rows = list(plant.rows)
    for place, minute in ((11, 5), (1101, 550)):  # cold, hot
        session.get(Reading, (START + timedelta(minutes=minute), "pump")).temp = -1.5
        rows[place] = (*rows[place][:2], -1.5, rows[place][3])
    session.delete(session.get(Reading, (START, "boiler")))
    session.commit()
    session.execute(sa.delete(Reading).where(Reading.device == "boiler", Reading.time < START + timedelta(minutes=3)))
    session.commit()
    kept = [row for row in rows if row[1] == "pump" or row[0] >= START + timedelta(minutes=3)]
    ordered = sa.select(Reading).order_by(Reading.time, Reading.device)
    assert [reading.row for reading in session.scalars(ordered)] == kept


def test_joins_and_relationships(plant: Plant, session: Any) -> None:
    pump = session.get(Device, "pump")
    window = (Reading.time >= START + timedelta(hours=6), Reading.time < START + timedelta(hours=7))
    expected = [row for row in plant.rows if row[1] == "pump" and row[0].hour == 6]
    assert [reading.row for reading in session.scalars(pump.readings.select().where(*window))] == expected
    counts = sa.select(Device.site, sa.func.count(Reading.temp)).join(Reading.of).group_by(Device.site)
    measured = sum(row[2] is not None for row in plant.rows) // 2
    assert dict(session.execute(counts).all()) == {"north": measured, "south": measured}
    loaded = sa.select(Reading).where(*window).options(orm.joinedload(Reading.of))
    assert {(reading.device, reading.of.site) for reading in session.scalars(loaded)} == {
        ("boiler", "north"),
        ("pump", "south"),
    }


@pytest.mark.parametrize("backwards", [False, True])
def test_paging_by_key(plant: Plant, session: Any, backwards: bool) -> None:
    key = sa.tuple_(Reading.time, Reading.device)
    page = sa.select(Reading).limit(170)
    page = page.order_by(*(column.desc() if backwards else column for column in (Reading.time, Reading.device)))
    found: list[Any] = []
    while True:
        last = sa.tuple_(*found[-1][:2]) if found else None
        after = sa.true() if last is None else key < last if backwards else key > last
        rows = [reading.row for reading in session.scalars(page.where(after))]
        found += rows
        if len(rows) < 170:
            break
    assert found == (plant.rows[::-1] if backwards else plant.rows)


def test_reflection(plant: Plant, session: Any) -> None:
    inspector = sa.inspect(session.get_bind())
    assert sorted(inspector.get_table_names("plant")) == ["device", "sensors"]
    assert inspector.get_foreign_table_names("plant") == ["sensors_cold"]
    for name in ("sensors", "sensors_cold"):
        types = {column["name"]: str(column["type"]) for column in inspector.get_columns(name, schema="plant")}
        assert types == {"time": "TIMESTAMP", "device": "TEXT", "temp": "DOUBLE PRECISION", "state": "TEXT"}
    assert [index["column_names"] for index in inspector.get_indexes("sensors", schema="plant")] == [["device", "time"]]
    reflected = sa.Table("sensors", sa.MetaData(), schema="plant", autoload_with=session.get_bind())
    assert session.scalar(sa.select(sa.func.count()).select_from(reflected)) == len(plant.rows)
