"""Every major version that this machine has: the chain from write to read, and from one version to the next."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ddstore.db.pool import connect
from ddstore.db.server import LocalServer
from fix_operations import ServerOf
from fix_postgres import Server, bin_dirs
from moves import MAJORS, contents, fill, goes_on, new_database, run_as_server


@pytest.mark.parametrize("major", MAJORS)
def test_the_whole_chain(server_of: ServerOf, major: int, tmp_path: Path) -> None:
    """Write, compact, read, EXPLAIN, dump, restore, and on."""
    server = server_of(major)
    url, restored = new_database(server), new_database(server, prepared=False)
    fill(url)
    expected = contents(url)
    with connect(url) as conn:
        assert conn.info.server_version // 10000 == major
        query = "SELECT * FROM plant.sensors WHERE device = 'a' AND t < '2024-03-01 00:10Z'"
        plan = "\n".join(row for (row,) in conn.execute(f"EXPLAIN (ANALYZE, COSTS OFF) {query}".encode()).fetchall())
        assert "Segments Decoded: 1" in plan
        assert "Segments Pruned: 1" in plan
        conn.execute("SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0")
        assert conn.execute("SELECT count(*), sum(rpm) FROM plant.sensors").fetchone() == (4000, 2 * 1999 * 1000)
    assert server.pg_config is not None
    bin_dir = server.pg_config.parent
    subprocess.run([bin_dir / "pg_dump", "-Fc", "-f", tmp_path / "dump", url], check=True)
    subprocess.run([bin_dir / "pg_restore", "--exit-on-error", "-j4", "-d", restored, tmp_path / "dump"], check=True)
    assert contents(restored) == expected
    goes_on(url)


def test_a_dump_of_the_oldest_version_restores_into_the_newest(server_of: ServerOf, tmp_path: Path) -> None:
    old, new = MAJORS[0], MAJORS[-1]
    if old == new:
        pytest.skip("this machine has one major version of PostgreSQL")
    source, target = new_database(server_of(old)), new_database(server_of(new), prepared=False)
    fill(source)
    # Arrays are compressed with lz4 where the server has it, which the other may not.
    dump = [bin_dirs()[old] / "pg_dump", "-Fc", "--no-toast-compression", "-f", tmp_path / "dump", source]
    subprocess.run(dump, check=True)
    restore = [bin_dirs()[new] / "pg_restore", "--exit-on-error", "-j4", "-d", target, tmp_path / "dump"]
    subprocess.run(restore, check=True)
    assert contents(target) == contents(source)
    goes_on(target)


def test_pg_upgrade(server_of: ServerOf, local_server: Callable[[Path], LocalServer]) -> None:
    """From the oldest version here to the newest, as administrators do: the new server's extension files first."""
    new = MAJORS[-1]
    usable = (old for old in MAJORS[:-1] if can_upgrade(server_of(old), server_of(new)))
    if (old := next(usable, None)) is None:
        pytest.skip("this machine has no two versions between which a plain table can be upgraded")
    before, after = local_server(bin_dirs()[old]), local_server(bin_dirs()[new])
    url = new_database(Server(before.start(), None))
    name = conninfo_to_dict(url)["dbname"]
    fill(url)
    expected = contents(url)
    before.stop()
    checksums = ["--no-data-checksums"] if new >= 18 > old else []
    initdb = ["--no-locale", "--encoding=UTF8", "--username=postgres", "--auth=trust", *checksums]
    run_as_server(after, "initdb", *initdb, "-D", str(after.pgdata))
    clusters = ["-d", str(before.pgdata), "-D", str(after.pgdata), "-b", str(before.bin_dir), "-B", str(after.bin_dir)]
    run_as_server(after, "pg_upgrade", *clusters, "-U", "postgres", "-s", str(after.home))
    moved = make_conninfo(after.start(), dbname=name)
    assert contents(moved) == expected
    goes_on(moved)


def can_upgrade(old: Server, new: Server) -> bool:
    """Whether pg_upgrade is here, and the newer programs know the older server (a later minor release they may not)."""
    assert old.pg_config is not None
    assert new.pg_config is not None
    old_bin, new_bin = old.pg_config.parent, new.pg_config.parent
    if not (old_bin / "pg_ctl").exists() or not (new_bin / "pg_upgrade").exists():
        return False
    source, target = new_database(old, prepared=False), new_database(new, prepared=False)
    with psycopg.connect(source) as conn:
        conn.execute("CREATE TABLE plain (a int)")
    dump = subprocess.run([new_bin / "pg_dump", source], capture_output=True, check=True).stdout
    restore = [new_bin / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", target]
    return subprocess.run(restore, input=dump, capture_output=True, check=False).returncode == 0
