"""Whether a session's memory grows: statements of all kinds, over and over, in one backend.

Scans, ordered ones and aggregates, plain and prepared, cursors left half read, joins that rescan, parallel queries,
errors in the middle of a segment, cancelled decoding, changes of compacted rows that are rolled back, ANALYZE. Printed
is what the backend's memory contexts hold after so many statements, and what the operating system says (RssAnon, memory
of its own; where the server runs on this machine), first at a tenth of them, when every cache is full.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import psycopg
from psycopg import errors as pg_errors

from benchmarks.common import RESULTS, a_store, parser, save, show
from ddstore import Absolute, Lossless, Store
from ddstore.db.pool import Connection, connect

TABLE = "public.endured"
Given = dict[str, object]
SERIES, SEGMENTS, SEGMENT_ROWS = 4, 6, 512
START = datetime(2024, 1, 1, tzinfo=UTC)

FILL = """
INSERT INTO {t} (time, series, temp, rpm, state, exact)
SELECT %s + i * interval '10 s', 'm' || s, v, v * 100, CASE hashint4(i) & 3 WHEN 0 THEN 'on' WHEN 1 THEN 'off' END,
       v::numeric(9, 2)
FROM generate_series(1, %s) i, generate_series(0, %s - 1) s,
     LATERAL (SELECT 8 * sin(i / 97.0) + hashint8(i * 9 + s) / 1e10 AS v) v
"""
#: Statements to be read to the end; %(s)s is a series, %(a)s and %(b)s are moments.
READS = (
    "SELECT time, temp FROM {t} WHERE series = %(s)s AND time >= %(a)s AND time < %(b)s",
    "SELECT * FROM {t} WHERE series = %(s)s AND time >= %(a)s ORDER BY time DESC LIMIT 3",
    "SELECT time, series, rpm FROM {t} WHERE time < %(b)s ORDER BY time LIMIT 10",
    "SELECT count(*), avg(temp), max(rpm) FROM {t}",
    "SELECT series, count(*), sum(temp) FROM {t} WHERE time >= %(a)s AND time < %(b)s GROUP BY series",
    "SELECT count(*), min(state), max(exact) FROM {t} WHERE temp > 0.5",
    "SELECT ddstore.time_bucket('7 min', time) b, avg(temp) FROM {t} WHERE series = %(s)s GROUP BY b ORDER BY b",
    "SELECT extract(minute FROM time) m, sum(rpm) FROM {t} WHERE time < %(b)s GROUP BY m",
    "SELECT s, l.temp FROM unnest(ARRAY['m1', 'm2', %(s)s]) s, LATERAL"
    " (SELECT temp FROM {t} e WHERE e.series = s ORDER BY time DESC LIMIT 1) l",
    "SELECT a.temp FROM {t} a JOIN {t} b USING (series, time) WHERE a.series = %(s)s AND a.time < %(a)s LIMIT 5",
    "SELECT state, exact FROM {t} WHERE series = %(s)s AND state = 'on' AND time >= %(a)s",
    "SELECT * FROM ddstore.range_agg('{t}', 'temp', '[\"m1\"]', %(a)s, %(b)s)",
    "SELECT ddstore.last(temp, time), ddstore.first(state, time) FROM {t} WHERE series = %(s)s",
    "EXPLAIN SELECT max(time) FROM {t} WHERE series = %(s)s",
)
#: Statements that fail, and with what.
FAILURES: tuple[tuple[str, type[psycopg.Error]], ...] = (
    ("SELECT 1 / (extract(second FROM time)::int - 30) FROM {t} WHERE series = %(s)s", pg_errors.DivisionByZero),
    ("SELECT sum((rpm + 1000) * 9000000000000000000) FROM {t} WHERE time >= %(a)s", pg_errors.NumericValueOutOfRange),
    ("SELECT pg_cancel_backend(pg_backend_pid()), temp FROM {t} ORDER BY time", pg_errors.QueryCanceled),
    ("SELECT count(pg_cancel_backend(pg_backend_pid())) FROM {t} WHERE temp > 0", pg_errors.QueryCanceled),
    ("UPDATE {t} SET rpm = 1 / (rpm - rpm) WHERE series = %(s)s AND time >= %(a)s", pg_errors.DivisionByZero),
    ("INSERT INTO endured_cold (time) VALUES (%(a)s)", pg_errors.FeatureNotSupported),
)
#: Statements whose transaction is rolled back.
CHANGES = (
    "UPDATE {t} SET temp = temp + 1 WHERE series = %(s)s AND time = %(a)s",
    "DELETE FROM {t} WHERE series = %(s)s AND time >= %(a)s AND rpm > 50",
    "WITH gone AS (DELETE FROM {t} WHERE series = %(s)s AND time < %(a)s RETURNING *) SELECT count(*) FROM gone",
)


@dataclass(frozen=True)
class Memory:
    """What a backend holds: of its memory contexts all and what is in use, and what is resident, if it can be known."""

    statements: int
    total: int
    used: int
    resident: int | None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and report."""
    options = parser(__doc__)
    options.add_argument("--statements", type=int, default=100_000, help="in all (%(default)s)")
    options.add_argument("--out", type=Path, default=RESULTS, help="folder for the CSV (%(default)s)")
    given = options.parse_args(arguments)
    with a_store(given.url) as store:
        fill(store)
        found = endure(store, given.statements)
    kilobytes = [
        (m.statements, m.total >> 10, m.used >> 10, "" if m.resident is None else m.resident >> 10) for m in found
    ]
    header = ("statements", "contexts, kB", "of it used, kB", "RssAnon, kB")
    show("endure", header, kilobytes)
    save(given.out, "endure", header, kilobytes)


def fill(store: Store) -> None:
    """Make the table: most of it compacted, with a type that the core codes, positions in a list, and plain arrays."""
    store.create_table(
        TABLE,
        time="time",
        key={"series": "text"},
        columns={
            "temp": Absolute(0.001),
            "rpm": ("int8", Lossless()),
            "state": ("text", Lossless()),
            "exact": ("numeric", Lossless()),
        },
        segment_rows=SEGMENT_ROWS,
        hot_index="btree",
    )
    with store.connection() as conn:
        conn.execute(FILL.format(t=TABLE).encode(), [START, SEGMENTS * SEGMENT_ROWS, SERIES])
    report = store.compact(TABLE, all=True, train="never")
    if report.failed:
        raise SystemExit(f"compaction failed: {report.failed[0].error}")


def endure(store: Store, statements: int) -> list[Memory]:
    """Run so many statements in one session; its memory after each tenth of them."""
    found = []
    with connect(store.url, autocommit=True) as conn:
        conn.execute(
            "SET ddstore.segment_cache = '1MB'"
        )  # less than the table, so that all the time something leaves it
        run = _statements(conn)
        for tenth in range(1, 11):
            for work in itertools.islice(run, statements // 10):
                work()
            found.append(memory(conn, tenth * (statements // 10)))
    return found


def memory(conn: Connection, statements: int) -> Memory:
    """What the session's backend holds now."""
    row = conn.execute(
        "SELECT sum(total_bytes)::int8, sum(used_bytes)::int8 FROM pg_backend_memory_contexts"
    ).fetchone()
    assert row is not None
    status = Path(f"/proc/{conn.info.backend_pid}/status")
    told = re.search(r"RssAnon:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return Memory(statements, row[0], row[1], int(told[1]) * 1024 if told else None)


def _statements(conn: Connection) -> Iterator[Callable[[], None]]:
    """For ever: what to do next."""
    rng = np.random.default_rng(7)
    for turn in itertools.count():
        low, high = sorted(rng.integers(0, SEGMENTS * SEGMENT_ROWS, 2).tolist())
        given = {
            "s": f"m{rng.integers(SERIES)}",
            "a": START + low * timedelta(seconds=10),
            "b": START + high * timedelta(seconds=10),
        }
        if turn % 1000 == 999:
            yield partial(_execute, conn, "ANALYZE {t}", None)
        elif turn % 250 == 249:
            yield partial(_rolled_back, conn, CHANGES[turn // 250 % len(CHANGES)], given)
        elif turn % 100 == 99:
            yield partial(_parallel, conn, READS[turn // 100 % len(READS)], given)
        elif turn % 20 == 19:
            yield partial(_fails, conn, *FAILURES[turn // 20 % len(FAILURES)], given)
        elif turn % 20 == 9:
            yield partial(_half_read, conn, READS[turn // 20 % 3], given)
        else:
            yield partial(_execute, conn, READS[rng.integers(len(READS))], given, bool(turn & 1))


def _execute(conn: Connection, query: str, given: Given | None, prepare: bool | None = None) -> None:
    conn.execute(query.format(t=TABLE).encode(), given, prepare=prepare)


def _fails(conn: Connection, query: str, error: type[psycopg.Error], given: Given) -> None:
    with contextlib.suppress(error):
        _execute(conn, query, given, False)
        raise SystemExit(f"did not fail: {query}")


def _rolled_back(conn: Connection, query: str, given: Given) -> None:
    conn.execute("BEGIN")
    _execute(conn, query, given, False)
    conn.execute("ROLLBACK")


def _parallel(conn: Connection, query: str, given: Given) -> None:
    conn.execute("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0")
    _execute(conn, query, given, False)
    conn.execute("RESET parallel_setup_cost; RESET parallel_tuple_cost; RESET min_parallel_table_scan_size")


def _half_read(conn: Connection, query: str, given: Given) -> None:
    with conn.transaction(), conn.cursor(name="half") as cursor:
        cursor.execute(query.format(t=TABLE).encode(), given)
        cursor.fetchmany(2)


if __name__ == "__main__":
    main()
