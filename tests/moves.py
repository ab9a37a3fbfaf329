"""Databases to move about: managed tables with hot and cold rows, and what must be the same wherever they arrive."""

from __future__ import annotations

import secrets
import subprocess
from typing import Any

import numpy as np
import psycopg
from psycopg.conninfo import make_conninfo

from ddstore import Absolute, Lossless, Series, connect
from ddstore.db.extension import prepare
from ddstore.db.pool import MAX_SERVER, MIN_SERVER
from ddstore.db.pool import connect as connect_sql
from ddstore.db.server import LocalServer
from fix_postgres import Server, bin_dirs

#: Versions of PostgreSQL that this machine has.
MAJORS = sorted(major for major in bin_dirs() if MIN_SERVER <= major <= MAX_SERVER)
ROWS = 2000
START = np.datetime64("2024-03-01T00:00:00", "us")


def new_database(server: Server, prepared: bool = True) -> str:
    """A database on that server, with the catalog and the extension unless told otherwise; returns its URL."""
    name = f"ddstore_major_{secrets.token_hex(4)}"
    with psycopg.connect(server.url, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name}".encode())
    url = make_conninfo(server.url, dbname=name)
    if prepared:
        with connect_sql(url) as conn:
            assert prepare(conn).note is None
    return url


def write_rows(url: str, hour: int) -> None:
    """Write an hour of ``plant.sensors`` and of the series ``boiler``."""
    time = START + np.timedelta64(hour, "h") + np.arange(ROWS) * np.timedelta64(1, "s")
    rng = np.random.default_rng(hour)
    values = np.round(20 + rng.normal(size=ROWS).cumsum() / 10, 2)
    with connect(url) as store:
        state = rng.choice(["on", "off", 'it"s, {}'], ROWS).tolist()
        data = {"t": time, "device": ["a", "b"] * (ROWS // 2), "temp": values, "rpm": np.arange(ROWS), "state": state}
        store.write(data, table="plant.sensors")
        store.write(Series("boiler", time, values, max_error=Absolute(0.05)))


def fill(url: str) -> None:
    """Make a database whose managed tables have hot and cold rows: an hour of each."""
    with connect(url) as store:
        columns: dict[str, Any] = {"temp": Absolute(0.05), "rpm": ("int4", Lossless()), "state": ("text", Lossless())}
        store.create_table("plant.sensors", time="t", key=["device"], columns=columns, profile="fast")
        write_rows(url, 0)
        assert store.compact(train="never", min_rows=1).rows == 2 * ROWS
        write_rows(url, 1)


def contents(url: str) -> list[Any]:
    """Every row as SQL shows it, how many of them are cold, and what the views say of the segments."""
    with connect(url) as store, store.connection() as conn:
        return [
            conn.execute(query).fetchall()
            for query in (
                "SELECT md5(string_agg(s::text, ',' ORDER BY s.t, s.device)), count(*) FROM plant.sensors s",
                "SELECT md5(string_agg(s::text, ',' ORDER BY s.time)), count(*) FROM ddstore.samples s",
                "SELECT count(*) FROM plant.sensors_cold",
                "SELECT relation::text, series, rows, bytes FROM ddstore.segments ORDER BY 1, 2",
                "SELECT relation::text, profile, max_error, cold_rows FROM ddstore.tables ORDER BY 1",
            )
        ]


def goes_on(url: str) -> None:
    """Writing and compacting work as ever, and change nothing of what was there."""
    before = contents(url)
    with connect(url) as store:
        assert not store.verify().damaged
        write_rows(url, 2)
        report = store.compact(train="never", min_rows=1)
        assert (report.rows, report.failed) == (4 * ROWS, [])
        with store.connection() as conn:
            query = "SELECT count(*), count(DISTINCT (t, device)) FROM plant.sensors WHERE t < '2024-03-01 02:00Z'"
            assert conn.execute(query).fetchall() == [(before[0][0][1],) * 2]
        assert len(store.read("boiler")) == 3 * ROWS


def run_as_server(server: LocalServer, program: str, *arguments: str) -> None:
    """Run one of the server's programs in its directory, as the user it runs as (never as root)."""
    how = server._as_server() | {"cwd": server.home}
    done = subprocess.run([server.bin_dir / program, *arguments], capture_output=True, text=True, check=False, **how)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
