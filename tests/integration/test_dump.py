"""pg_dump and restore: a managed table is an ordinary citizen of its database."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from ddstore.bounds import Absolute
from ddstore.db.catalog import list_tables, load_series_bounds, require_intact
from ddstore.db.manage import create_table, set_series_bound
from ddstore.db.pool import connect
from ddstore.db.schema import is_migrated


def test_a_dump_restores(server: Any, database_url: str, empty_database_url: str) -> None:
    if server.pg_config is None:
        pytest.skip("pg_dump of the server's version is needed")
    bin_dir = server.pg_config.parent
    with connect(database_url) as conn:
        table = create_table(conn, "plant.sensors", time="time", key=["device"], columns={"temp": Absolute(0.05)})
        set_series_bound(conn, table, table.value("temp"), ("a",), Absolute(0.1))
        conn.execute("INSERT INTO plant.sensors VALUES ('2024-01-01', 'a', 1)")
        conn.execute(
            "INSERT INTO ddstore.segment_1 (k2, t_min, t_max, n, time, c3_residual, c3_count)"
            " VALUES ('a', now(), now(), 1, '\\x01', '\\x02', 1)"
        )
    dump = subprocess.run([bin_dir / "pg_dump", database_url], capture_output=True, check=True).stdout
    subprocess.run(
        [bin_dir / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", empty_database_url],
        input=dump,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    with connect(empty_database_url) as conn:
        assert is_migrated(conn)
        (restored,) = list_tables(conn)
        require_intact(restored)
        assert (restored.label, restored.columns, restored.cold) == (table.label, table.columns, table.cold)
        assert load_series_bounds(conn, restored.id) == {(3, ("a",)): Absolute(0.1)}
        assert conn.execute("SELECT count(*) FROM ONLY plant.sensors").fetchone() == (1,)
        assert conn.execute("SELECT rows, bytes FROM ddstore.segments").fetchone() == (1, 2)
        again = create_table(conn, "t", time="t", columns={"x": Absolute(1)})
        assert again.id != restored.id
