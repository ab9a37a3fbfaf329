"""``Store.write`` of one million rows against psycopg's binary COPY of the same rows into a plain table.

Both psycopg ways are timed: row by row (``copy.write_row``), and bytes encoded beforehand, without an index and with
the btree that one would give such a table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC
from functools import partial

import numpy as np

from benchmarks.common import a_store, load, parser, report
from ddstore import Absolute, Series, Store
from ddstore._native import copy_encode
from ddstore.db.copy import HEADER, TRAILER
from ddstore.db.pool import Connection

PLAIN = "CREATE TABLE plain (series text NOT NULL, time timestamptz NOT NULL, value float8)"
INDEX = "CREATE INDEX ON plain (series, time)"
COPY = "COPY plain (series, time, value) FROM STDIN (FORMAT BINARY)"
PG_EPOCH = np.datetime64("2000-01-01")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and report."""
    options = parser(__doc__)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--times", type=int, default=3, help="runs of each; the fastest counts")
    given = options.parse_args(arguments)
    values = load(given.data, "pow")["values"][: given.rows].astype(np.float64)
    moments = np.datetime64("2006-12-16T17:24:00", "us") + np.arange(len(values)) * np.timedelta64(60, "s")
    micros = (moments - PG_EPOCH).astype("m8[us]").astype(np.int64)

    def by_row(conn: Connection) -> None:
        with conn.cursor() as cursor, cursor.copy(COPY) as copy:
            copy.set_types(["text", "timestamptz", "float8"])
            for moment, value in zip(rows_time, rows_value, strict=True):
                copy.write_row(("pow", moment, value))

    def by_bytes(conn: Connection) -> None:
        with conn.cursor() as cursor, cursor.copy(COPY) as copy:
            copy.write(encoded)

    # What the peers need is made before the clock runs.
    rows_time = [moment.replace(tzinfo=UTC) for moment in moments.astype(object)]
    rows_value = values.tolist()
    columns = [("c", b"pow", None, None), ("8", micros, None, None), ("8", values, None, None)]
    encoded = HEADER + copy_encode(columns, 0, len(values)) + TRAILER

    with a_store(given.url) as store:
        runs: dict[str, list[float]] = {}
        for turn in range(given.times):
            runs.setdefault("psycopg COPY, row by row, plain table", []).append(plain(store, by_row, index=False))
            runs.setdefault("psycopg COPY, encoded before, plain table", []).append(plain(store, by_bytes, index=False))
            runs.setdefault("psycopg COPY, encoded before, with btree", []).append(plain(store, by_bytes, index=True))
            series = Series(f"pow{turn}", moments, values, max_error=Absolute(0.1))
            runs.setdefault("ddstore.write", []).append(timed(partial(store.write, series)))
    seconds = {who: min(all_) for who, all_ in runs.items()}
    ours = seconds["ddstore.write"]
    rows = [[who, len(values), spent, len(values) / spent / 1e6, spent / ours] for who, spent in seconds.items()]
    report("ingest", ["way", "rows", "seconds", "M rows/s", "ddstore.write is x as fast"], rows)


def plain(store: Store, work: Callable[[Connection], None], *, index: bool) -> float:
    """Seconds of filling a fresh plain table, commit included."""
    with store.connection() as conn:
        conn.execute("DROP TABLE IF EXISTS plain")
        conn.execute(PLAIN)
        if index:
            conn.execute(INDEX)

    def fill() -> None:
        with store.connection() as conn:
            work(conn)

    return timed(fill)


def timed(work: Callable[[], object]) -> float:
    """Seconds of one run."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
