"""The server that the SQL benchmark asks: warm, and as cold as one can make it without being root."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import errors as pg_errors
from psycopg import pq

import ddstore
from ddstore.db.embedded import embedded_server
from ddstore.db.pool import Connection, connect
from ddstore.db.server import LocalServer

#: How a cold cache is made, for the title of the results.
COLD = "server restarted, its files dropped from the OS cache by posix_fadvise; catalogs warmed by EXPLAIN"


@dataclass
class Bench:
    """A store, and the server behind it where it is ours to stop and start."""

    store: ddstore.Store
    server: LocalServer | None

    def connect(self) -> Connection:
        """A connection of its own: one core, no prepared statements."""
        conn = connect(self.store.url, autocommit=True)
        conn.prepare_threshold = None
        conn.execute("SET max_parallel_workers_per_gather = 0")
        return conn

    def chill(self) -> None:
        """Restart the server, with none of its files in the operating system's cache."""
        assert self.server is not None
        self.server.stop()
        for path in self.server.pgdata.rglob("*"):
            if path.is_file():
                drop_from_cache(path)
        self.server.start()


def drop_from_cache(path: Path) -> None:
    """Tell the operating system that nobody needs the pages of a file: clean ones leave its cache."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(file)


@contextmanager
def a_bench(url: str | None, rows: int) -> Iterator[Bench]:
    """The database at ``url``, or an embedded server of its own that is removed afterwards.

    The server's shared buffers hold the whole heap table (a scan of more than a quarter of them would bypass them),
    so that the peer is as warm as it can be.
    """
    if url is not None:
        with ddstore.connect(url) as store:
            store.migrate()
            yield Bench(store, None)
        return
    settings = {
        "shared_buffers": f"{max(128, rows * 4 * 64 >> 20)}MB",
        "max_wal_size": "8GB",
        "checkpoint_timeout": "30min",
    }
    with tempfile.TemporaryDirectory(prefix="ddstore-bench-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)  # the server may run as another user
        home = Path(folder) / "pg"
        server = embedded_server(home, settings=settings)
        try:
            with ddstore.connect(data_dir=home) as store:
                yield Bench(store, server)
        finally:
            server.stop()


def has(conn: Connection, setting: str) -> bool:
    """Whether the server knows a setting; those of the extension are there once it is loaded."""
    return conn.execute("SELECT FROM pg_settings WHERE name = %s", [setting]).fetchone() is not None


def seconds_of(conn: Connection, query: str) -> float:
    """Seconds until all rows are here, in binary and untouched by Python; infinite when the statement timed out."""
    started = time.perf_counter()
    result = conn.pgconn.exec_params(query.encode(), None, result_format=pq.Format.BINARY)
    spent = time.perf_counter() - started
    if result.status == pq.ExecStatus.TUPLES_OK:
        return spent
    error = pg_errors.lookup((result.error_field(pq.DiagnosticField.SQLSTATE) or b"XX000").decode())
    if error is pg_errors.QueryCanceled:
        return float("inf")
    raise error(result.error_message.decode())


def segments_of(conn: Connection, query: str) -> tuple[int, int] | None:
    """How many segments a query decodes, of how many, as EXPLAIN ANALYZE says; None when it timed out."""
    try:
        row = conn.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {query}").fetchone()
    except psycopg.errors.QueryCanceled:
        return None
    assert row is not None
    nodes = list(_nodes(row[0][0]["Plan"]))
    total = max((node.get("Segments Total", 0) for node in nodes), default=0)
    return sum(node.get("Segments Decoded", 0) for node in nodes), total


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    children: Sequence[dict[str, Any]] = node.get("Plans", ())
    for child in children:
        yield from _nodes(child)
