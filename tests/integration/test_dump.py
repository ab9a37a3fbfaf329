"""pg_dump, pg_restore and a replica: a managed table is an ordinary citizen of its database."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ddstore.bounds import Absolute
from ddstore.db.catalog import list_tables, load_series_bounds, require_intact
from ddstore.db.pool import connect
from ddstore.db.schema import is_migrated
from ddstore.db.server import LocalServer
from fix_postgres import Server
from moves import contents, fill, goes_on, run_as_server, write_rows


@pytest.mark.parametrize("how", ["plain", "directory"])  # as one file: test_majors.py
def test_a_dump_restores(
    server: Server, needs_extension: None, database_url: str, empty_database_url: str, tmp_path: Path, how: str
) -> None:
    """Into a database that has nothing, on a server that has the extension's files."""
    if server.pg_config is None:
        pytest.skip("pg_dump of the server's version is needed")
    fill(database_url)
    expected = contents(database_url)
    bin_dir, dump = server.pg_config.parent, str(tmp_path / "dump")
    into = ["--exit-on-error", "-j4", "-d", empty_database_url, dump]
    commands = {
        "plain": (
            ["pg_dump", "-f", dump],
            ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", dump, empty_database_url],
        ),
        "directory": (["pg_dump", "-Fd", "-j4", "-f", dump], ["pg_restore", *into]),
    }
    (dumping, *options), (restoring, *arguments) = commands[how]
    subprocess.run([bin_dir / dumping, *options, database_url], check=True)
    subprocess.run([bin_dir / restoring, *arguments], stdout=subprocess.DEVNULL, check=True)
    with connect(database_url) as old, connect(empty_database_url) as conn:
        assert is_migrated(conn)
        tables = list_tables(conn)
        for table in tables:
            require_intact(table)
        assert [(t.label, t.columns, t.cold) for t in tables] == [
            (t.label, t.columns, t.cold) for t in list_tables(old)
        ]
        assert load_series_bounds(conn, tables[-1].id) == {(3, ("boiler",)): Absolute(0.05)}
    assert contents(empty_database_url) == expected
    goes_on(empty_database_url)


def test_a_replica_reads_the_same(
    server: Server, needs_extension: None, database_url: str, local_server: Callable[[Path], LocalServer]
) -> None:
    if server.pg_config is None:
        pytest.skip("pg_basebackup of the server's version is needed")
    fill(database_url)
    replica = local_server(server.pg_config.parent)
    run_as_server(replica, "pg_basebackup", "-d", database_url, "-D", str(replica.pgdata), "-R", "-c", "fast")
    replica._pg_ctl_start(on_localhost=False)
    url = make_conninfo(replica._url(replica._wait_until_ready(), "x"), dbname=conninfo_to_dict(database_url)["dbname"])
    caught_up(database_url, url)
    assert contents(url) == contents(database_url)
    goes_on(database_url)  # what is compacted now arrives there, too
    write_rows(database_url, 3)
    caught_up(database_url, url)
    assert contents(url) == contents(database_url)
    with connect(url) as conn:
        row = conn.execute("SELECT pg_is_in_recovery()").fetchone()
        assert row == (True,)
        with psycopg.connect(database_url, autocommit=True) as primary:
            primary.execute("CREATE TABLE shrunk AS SELECT i FROM generate_series(1, 5000) i")
            primary.execute("DELETE FROM shrunk WHERE i > 2000")
            primary.execute("VACUUM (TRUNCATE false) shrunk")
            # First among pages that were never written (16 and later make some): the replica has none of these.
            assert primary.execute("SELECT ddstore.shrink('shrunk'::regclass, 8)").fetchone() == (8,)
            assert primary.execute("SELECT ddstore.shrink('shrunk'::regclass, 1000) > 0").fetchone() == (True,)
            caught_up(database_url, url)
            facts = "SELECT count(*), pg_relation_size('shrunk') FROM shrunk"
            assert conn.execute(facts).fetchone() == primary.execute(facts).fetchone()  # nothing keeps it locked there


def caught_up(primary: str, replica: str) -> None:
    """Wait until the replica has replayed all that was written."""
    with psycopg.connect(primary) as conn, psycopg.connect(replica, autocommit=True) as other:
        (written,) = conn.execute("SELECT pg_current_wal_insert_lsn()").fetchone() or ()
        while other.execute("SELECT pg_last_wal_replay_lsn() < %s::pg_lsn", [written]).fetchone() != (False,):
            time.sleep(0.05)
