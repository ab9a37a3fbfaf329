"""What ``unique_check`` costs: COPY and INSERT beside a million compacted rows, with it and without."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import RESULTS, a_store, parser, save, show
from ddstore import Lossless, Store
from ddstore.db.catalog import UniqueCheck
from ddstore.db.pool import Connection

SERIES, COLD, NEW, TIMES = 50, 1_000_000, 200_000, 3


def rows(first: int, last: int, start: str) -> str:
    """A query of rows of all series in turn, one a second each."""
    return (
        f"SELECT 's' || g % {SERIES} AS k, timestamptz '{start}' + g / {SERIES} * interval '1 s' AS at, g::float8 AS v"
        f" FROM generate_series({first}, {last}) g"
    )


def prepare(store: Store, name: str, unique_check: UniqueCheck) -> None:
    """A table with a primary key and ``COLD`` compacted rows."""
    with store.connection() as conn:
        conn.execute(f"CREATE TABLE {name} (k text, at timestamptz, v float8, PRIMARY KEY (k, at))".encode())
        conn.execute(f"INSERT INTO {name} {rows(1, COLD, '2024-01-01 UTC')}".encode())
    store.adopt(name, time="at", key=["k"], max_error={"v": Lossless()}, unique_check=unique_check, profile="fast")
    store.compact(name, train="never")


def copied(conn: Connection, name: str, start: str) -> float:
    """Rows a second that COPY takes in; they are not kept."""
    with conn.cursor().copy(f"COPY ({rows(1, NEW, start)}) TO STDOUT".encode()) as out:
        data = b"".join(out)
    began = time.perf_counter()
    with conn.cursor().copy(f"COPY {name} FROM STDIN".encode()) as copy:
        copy.write(data)
    rate = NEW / (time.perf_counter() - began)
    conn.rollback()
    return rate


def inserted(conn: Connection, name: str) -> float:
    """Milliseconds of an INSERT of one row."""
    began = time.perf_counter()
    for second in range(300):
        statement = f"INSERT INTO {name} VALUES ('s1', timestamptz '2025-01-01' + %s * interval '1 s', 1)"
        conn.execute(statement.encode(), [second])
    took = (time.perf_counter() - began) / 300 * 1000
    conn.rollback()
    return took


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and report: the best of a few COPYs, and the mean of many INSERTs."""
    options = parser(__doc__)
    options.add_argument("--out", type=Path, default=RESULTS, help="folder for the CSV (%(default)s)")
    given = options.parse_args(arguments)
    choices: tuple[UniqueCheck, ...] = ("hot", "all")
    results = []
    with a_store(given.url) as store:
        for unique_check in choices:
            name = f"unique_{unique_check}"
            prepare(store, name, unique_check)
            with store.connection() as conn:
                later, amidst = (
                    max(copied(conn, name, start) for _ in range(TIMES))
                    for start in ("2025-01-01 UTC", "2024-01-01 00:00:00.5 UTC")
                )
                results.append((unique_check, round(later), round(amidst), inserted(conn, name)))
    header = ("unique_check", "COPY after all segments, rows/s", "COPY amidst, rows/s", "INSERT of one row, ms")
    show("unique", header, results)
    save(given.out, "unique", header, results)


if __name__ == "__main__":
    main()
