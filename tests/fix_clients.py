"""A managed table, two thirds of it cold, and what every client that reads it must find."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

import ddstore
from ddstore import Lossless

START = datetime(2024, 1, 1, tzinfo=UTC)
Reading = tuple[datetime, str, float | None, str]


def readings(first: int, last: int) -> list[Reading]:
    """Rows of two devices, one a minute; some values are NULL."""
    return [
        (
            START + timedelta(minutes=i),
            device,
            None if i % 50 == 7 else round(20 + (i % 90) / 7, 2),
            "on" if i % 3 else "off",
        )
        for i in range(first, last)
        for device in ("boiler", "pump")
    ]


@dataclass
class Plant:
    """``plant.sensors`` (time, device, temp, state): 400 rows of each device are cold, 200 hot.

    ``conninfo`` is what libpq takes, ``parts`` is the same by keyword; ``bin_dir`` has the server's programs, where it
    is ours.
    """

    conninfo: str
    parts: dict[str, Any]
    bin_dir: Path | None
    rows: list[Reading]

    def program(self, name: str) -> Path:
        """A client program of the server's own version, or a skip."""
        if self.bin_dir is None or not (self.bin_dir / name).exists():
            pytest.skip(f"{name} of the server's version is not installed")
        return self.bin_dir / name


def insert(conninfo: str, rows: list[Reading]) -> None:
    """COPY rows into the table."""
    into = "COPY plant.sensors (time, device, temp, state) FROM STDIN"
    with psycopg.connect(conninfo) as conn, conn.cursor().copy(into) as copy:
        for row in rows:
            copy.write_row(row)


@pytest.fixture
def plant(database_url: str, server: Any, needs_extension: None) -> Plant:
    """The table, in a database of its own."""
    rows = readings(0, 600)
    with ddstore.connect(database_url) as store:
        store.create_table(
            "plant.sensors",
            time="time",
            key={"device": "text"},
            columns={"temp": Lossless(), "state": ("text", Lossless())},
            segment_rows=128,
            min_rows=16,
        )
        insert(database_url, rows[:800])
        assert store.compact("plant.sensors", train="never", all=True).rows == 800
    insert(database_url, rows[800:])
    bin_dir = None if server.pg_config is None else server.pg_config.parent
    return Plant(database_url, conninfo_to_dict(database_url), bin_dir, rows)
