"""Writing beside readers: COPY into a managed table, and queries that go on while their rows are compacted."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from psycopg.errors import Diagnostic

from benchmarks.sql_queries import Row
from benchmarks.sql_server import Bench
from benchmarks.sql_tables import HEAP, START, STEP, create
from ddstore import Profile
from ddstore.db.pool import Connection, connect

WATCHED = "public.bench_watched"
PATIENCE_MS = 50
#: Each reader asks for these of a random series and range; thousandths are integers, so that their sum is exact.
FINGERPRINT = (
    "SELECT count(*), min(value), max(value), sum(round(value * 1000)::int8), min(time), max(time)"
    " FROM {t} WHERE series = %s AND time >= %s AND time < %s"
)


def copy_rows(bench: Bench, rows: int, turns: int = 5) -> list[Row]:
    """COPY of the same bytes into a managed and into a plain table with its columns and index; the fastest counts."""
    with bench.connect() as conn, conn.cursor() as cursor:
        select = f"COPY (SELECT time, series, value FROM {HEAP} LIMIT {rows}) TO STDOUT (FORMAT BINARY)"
        with cursor.copy(select.encode()) as copy:
            data = b"".join(bytes(block) for block in copy)
    found = []
    for index in ("brin", "btree"):
        managed, plain = f"public.bench_copy_{index}", f"bench_copy_{index}_plain"
        create(bench.store, managed, Profile.BALANCED, index)
        with bench.connect() as conn:
            conn.execute(f"CREATE TABLE {plain} (LIKE {managed} INCLUDING ALL)".encode())
            seconds: dict[str, list[float]] = {managed: [], plain: []}
            for turn in range(turns):
                for table in sorted(seconds, reverse=turn % 2 == 0):
                    conn.execute(f"TRUNCATE ONLY {table}".encode())
                    conn.execute("CHECKPOINT")
                    started = time.perf_counter()
                    with (
                        conn.cursor() as cursor,
                        cursor.copy(f"COPY {table} FROM STDIN (FORMAT BINARY)".encode()) as into,
                    ):
                        into.write(data)
                    seconds[table].append(time.perf_counter() - started)
        ours, peer = (min(seconds[table]) * 1e3 for table in (managed, plain))
        found.append(
            Row(f"COPY, hot index {index}", "", "warm", "ms", ours, peer, target=">= 0.85", met=peer / ours >= 0.85)
        )
    return found


@dataclass
class Watch:
    """What readers and a writer saw while compaction ran."""

    reads: int = 0
    wrong: int = 0
    written: int = 0
    compacted: int = 0
    passes: int = 0
    waits: list[tuple[float, str]] = field(default_factory=list)
    slowest: float = 0.0
    errors: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def heard(self, said: Diagnostic) -> None:
        """Note how long a session waited for a lock, which the server tells it with ``log_lock_waits``."""
        text = said.message_primary or ""
        if found := re.search(r"acquired (\w+ on \w+) .*after (\d+\.\d+) ms", text):
            with self.lock:
                self.waits.append((float(found[2]), found[1]))


def watch_compaction(bench: Bench, rows: int, seconds: float, readers: int = 2) -> list[Row]:
    """Compact again and again for so many seconds while readers check what does not change and a writer adds rows."""
    with bench.connect() as conn:
        names = [name for (name,) in conn.execute("SELECT series FROM bench_names ORDER BY 1")]
        create(bench.store, WATCHED, Profile.FAST)
        insert = f"INSERT INTO {WATCHED} (series, time, value) SELECT series, time, value FROM {HEAP}"
        conn.execute(insert.encode())
        conn.execute(f"ANALYZE {WATCHED}".encode())
    watch, done = Watch(), threading.Event()
    threads = [threading.Thread(target=_read, args=(bench, watch, done, names, rows, n)) for n in range(readers)]
    threads.append(threading.Thread(target=_write, args=(bench, watch, done, len(names), rows)))
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    try:
        while not watch.passes or time.monotonic() < deadline:
            report = bench.store.compact(WATCHED, train="never")
            watch.passes += 1
            watch.compacted += report.rows
            if not report.rows:
                done.wait(0.2)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    if watch.errors:
        raise SystemExit(f"while compaction ran, a reader or the writer failed: {watch.errors[0]}")
    longest, lock = max(watch.waits, default=(0.0, ""))
    told = [
        f"{watch.reads} reads, {watch.passes} passes, {watch.compacted} rows compacted, {watch.written} written",
        f"{lock}; {len(watch.waits)} waits of 1 ms or more" if lock else "no wait of 1 ms",
    ]
    limit = f"<= {PATIENCE_MS}"
    return [
        Row(
            "wrong answers beside compaction",
            "fast lossless",
            "",
            "",
            watch.wrong,
            None,
            None,
            "0",
            not watch.wrong,
            told[0],
        ),
        Row(
            "longest wait for a lock beside compaction",
            "fast lossless",
            "",
            "ms",
            longest,
            None,
            None,
            limit,
            longest <= PATIENCE_MS,
            told[1],
        ),
        Row("slowest answer beside compaction", "fast lossless", "", "ms", watch.slowest * 1e3),
    ]


@contextmanager
def _listening(bench: Bench, watch: Watch) -> Iterator[Connection]:
    """A session that is told of each wait of a millisecond or more for a lock."""
    with connect(bench.store.url, autocommit=True) as conn:
        conn.execute("SET lc_messages = 'C'; SET deadlock_timeout = '1ms'; SET log_lock_waits = on")
        conn.execute("SET client_min_messages = log; SET log_min_messages = fatal")
        conn.add_notice_handler(watch.heard)
        yield conn


def _read(bench: Bench, watch: Watch, done: threading.Event, names: list[str], rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    try:
        with _listening(bench, watch) as conn:
            while not done.is_set():
                low, high = sorted(rng.integers(0, rows, 2))
                given = [str(rng.choice(names)), *((START + int(at) * STEP).astype(object) for at in (low, high))]
                expected = conn.execute(FINGERPRINT.format(t=HEAP).encode(), given).fetchone()
                started = time.perf_counter()
                found = conn.execute(FINGERPRINT.format(t=WATCHED).encode(), given).fetchone()
                spent = time.perf_counter() - started
                with watch.lock:
                    watch.reads += 1
                    watch.wrong += found != expected
                    watch.slowest = max(watch.slowest, spent)
    except Exception as error:
        watch.errors.append(repr(error))
        done.set()


def _write(bench: Bench, watch: Watch, done: threading.Event, count: int, rows: int) -> None:
    """Every series goes on after its last row: 20 rows each, twenty times a second."""
    insert = (
        f"INSERT INTO {WATCHED} (series, time, value)"
        " SELECT n.series, %s::timestamptz + i * interval '10 s', i FROM generate_series(0, 19) i, bench_names n"
    )
    at = rows
    try:
        with _listening(bench, watch) as conn:
            while not done.wait(0.05):
                conn.execute(insert.encode(), [(START + at * STEP).astype(object)])
                at += 20
                watch.written += 20 * count
    except Exception as error:
        watch.errors.append(repr(error))
        done.set()
