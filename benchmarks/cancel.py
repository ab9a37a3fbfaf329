"""How long a statement goes on after somebody has cancelled it, or after its statement_timeout.

A table of profile archive, whose columns take the slowest ways to decode: long segments of coder cm, columns that are
conditioned on others, a learned model (with torch), jittered times. Every statement is run to its end once, and then
cancelled at another moment of its life each time: by pg_cancel_backend from another session, by the session's own
statement_timeout, and by pg_cancel_backend after an interrupt that is none (pg_log_backend_memory_contexts). Printed
are the milliseconds from then until the error is here, the longest and the median.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from psycopg import pq

from benchmarks.common import RESULTS, a_store, parser, save, show
from ddstore import Absolute, Bound, Lossless, Profile, Store
from ddstore.db.pool import Connection, connect

Line = tuple[str, float, str, int, float, float, str]
PATIENCE_MS = 100.0
TABLE = "public.cancelled"
WAYS = ("pg_cancel_backend", "statement_timeout", "after another interrupt")

#: Statements by name; each row of a segment is at work in all of them.
CASES = {
    "decode: one column, cm": "SELECT count(noisy + 0) FROM {t}",
    "decode: a learned column": "SELECT count(learned + 0) FROM {t}",
    "decode: jittered times": "SELECT count(extract(epoch FROM time)) FROM {t}",
    "rows: all columns": "SELECT count(x) FROM (SELECT * FROM {t} OFFSET 0) x WHERE x IS NOT NULL",
    "aggregate: a condition on a value": "SELECT count(*), sum(beside), max(smooth) FROM {t} WHERE noisy > 0",
    "aggregate: by hour": "SELECT date_trunc('hour', time) h, avg(noisy), min(learned) FROM {t} GROUP BY h",
    "ordered: of all series, by time": "SELECT count(x) FROM (SELECT * FROM {t} ORDER BY time OFFSET 0) x",
    "ordered: the latest above a value": (
        "SELECT count(l.noisy) FROM generate_series(1, 4) g, LATERAL ("
        "SELECT * FROM {t} WHERE series = 'a' AND noisy > g ORDER BY time DESC LIMIT 1) l"
    ),
    "UPDATE of a row of each segment": "UPDATE {t} SET noisy = 0 WHERE ctid IS NOT NULL AND noisy > 3.5",
    "DELETE of half of each segment": "DELETE FROM {t} WHERE noisy > 0",
    "ANALYZE": "ANALYZE cancelled_cold",
    "range_agg": "SELECT * FROM ddstore.range_agg('{t}', 'noisy', '[\"a\"]', NULL, '2024-01-01 20:00Z')",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and report."""
    options = parser(__doc__)
    options.add_argument("--rows", type=int, default=262_144, help="of each of two series (%(default)s)")
    options.add_argument("--segment-rows", type=int, default=262_144, help="rows in a segment (%(default)s)")
    options.add_argument("--times", type=int, default=20, help="cancellations of a statement each way (%(default)s)")
    options.add_argument("--out", type=Path, default=RESULTS, help="folder for the CSV (%(default)s)")
    given = options.parse_args(arguments)
    with a_store(given.url) as store:
        if TABLE not in [table.label for table in store.tables()]:
            fill(store, given.rows, given.segment_rows)
        modes = coded(store)
        rows: list[Line] = []
        for name, query in CASES.items():
            rows += measure(store, name, query, given.times)
            print(name, f"{max(row[5] for row in rows):.0f} ms at the most so far", flush=True)
    header = ("statement", "runs for, ms", "cancelled by", "times", "median, ms", "longest, ms", f"<= {PATIENCE_MS:g}")
    show(f"cancel: {modes}", header, rows)
    save(given.out, "cancel", header, rows)


def fill(store: Store, rows: int, segment_rows: int) -> None:
    """Make the table and compact it."""
    bounds: dict[str, Bound | tuple[str, Bound]] = {
        "noisy": Absolute(0.001),
        "beside": Absolute(0.001),
        "smooth": Absolute(0.001),
        "learned": Absolute(1.0),
        "state": ("text", Lossless()),
    }
    store.create_table(
        TABLE,
        time="time",
        key={"series": "text"},
        columns=bounds,
        profile=Profile.ARCHIVE,
        segment_rows=segment_rows,
        hot_index="btree",
    )
    for number, series in enumerate("ab"):
        rng = np.random.default_rng(number)
        noisy = rng.normal(size=rows)
        templates = np.random.default_rng(99).normal(0, 10, (8, 128))
        learned = templates[rng.integers(0, 8, rows // 128 + 1)].ravel()[:rows]
        micros = np.arange(rows) * 1_000_000 + rng.integers(0, 1_000_000, rows)
        frame = {
            "time": np.datetime64("2024-01-01", "us") + micros.astype("timedelta64[us]"),
            "series": [series] * rows,
            "noisy": noisy,
            "beside": noisy * 3 + rng.normal(size=rows) * 0.01,
            "smooth": rng.normal(size=rows).cumsum().cumsum() / 1000,
            "learned": learned + rng.normal(0, 0.5, rows),
            "state": np.array(["on", "off", "standby"])[rng.integers(0, 3, rows)].tolist(),
        }
        store.write(frame, table=TABLE)
    report = store.compact(TABLE, all=True, train="auto", train_seconds=20)
    if report.failed:
        raise SystemExit(f"compaction failed: {report.failed[0].error}")


def coded(store: Store) -> str:
    """Modes and coders of the table's columns."""
    columns = store.stats(TABLE)[0].columns
    return ", ".join(sorted({f"{column.column} {c.mode}/{c.coder}" for column in columns for c in column.codings}))


def measure(store: Store, name: str, query: str, times: int) -> list[Line]:
    """Lines of one statement: a line for each way to cancel it."""
    with connect(store.url, autocommit=True) as conn, connect(store.url, autocommit=True) as other:
        conn.execute("SET ddstore.segment_cache = 0")
        conn.execute("SET max_parallel_workers_per_gather = 0")
        statement = query.format(t=TABLE).encode()
        conn.execute("BEGIN")
        began = time.perf_counter()
        conn.execute(statement)
        total = time.perf_counter() - began
        conn.execute("ROLLBACK")
        rows: list[Line] = []
        for way in WAYS:
            late = [cancelled(conn, other, statement, way, total * (turn + 0.5) / times) for turn in range(times)]
            took = [milliseconds for milliseconds in late if milliseconds is not None]
            if took:
                longest = max(took)
                met = "yes" if longest <= PATIENCE_MS else "no"
                rows.append((name, total * 1e3, way, len(took), statistics.median(took), longest, met))
        other.execute(f"VACUUM {TABLE}".encode())
    return rows


def cancelled(conn: Connection, other: Connection, statement: bytes, way: str, moment: float) -> float | None:
    """Milliseconds from the cancellation to the error; None where the statement had ended before."""
    pid = [conn.info.backend_pid]
    timeout = max(1, round(moment * 1000))
    conn.execute(f"SET statement_timeout = {timeout if way == 'statement_timeout' else 0}".encode())
    conn.execute("BEGIN")
    began = time.perf_counter()
    conn.pgconn.send_query(statement)
    if way == "statement_timeout":
        began += timeout / 1000
    else:
        if way == "after another interrupt":
            time.sleep(moment * 0.8)
            other.execute("SELECT pg_log_backend_memory_contexts(%s)", pid)
        time.sleep(max(0.0, began + moment - time.perf_counter()))
        began = time.perf_counter()
        other.execute("SELECT pg_cancel_backend(%s)", pid)
    statuses = []
    while (result := conn.pgconn.get_result()) is not None:
        statuses.append((result.status, result.error_field(pq.DiagnosticField.SQLSTATE)))
    late = (time.perf_counter() - began) * 1e3
    conn.execute("ROLLBACK")
    conn.execute("SET statement_timeout = 0")
    if statuses == [(pq.ExecStatus.FATAL_ERROR, b"57014")]:
        return late
    if statuses[0][0] not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
        raise SystemExit(f"the statement failed otherwise: {statuses}")
    return None


if __name__ == "__main__":
    main()
