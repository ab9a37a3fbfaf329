"""What ``unique_check`` costs: COPY and INSERT beside a million compacted rows, with it and without.

python -m benchmarks.unique postgresql://...      # an empty database whose server has the extension
"""

from __future__ import annotations

import sys
import time

import ddstore
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


def main() -> None:
    """Print a line per table and kind of row."""
    choices: tuple[UniqueCheck, ...] = ("hot", "all")
    with ddstore.connect(sys.argv[1]) as store:
        store.migrate()
        for unique_check in choices:
            name = f"unique_{unique_check}"
            prepare(store, name, unique_check)
            with store.connection() as conn:
                for what, start in (
                    ("later than all segments", "2025-01-01 UTC"),
                    ("amidst", "2024-01-01 00:00:00.5 UTC"),
                ):
                    best = max(copied(conn, name, start) for _ in range(TIMES))
                    print(f"{unique_check:4} COPY {what}: {best:,.0f} rows/s", flush=True)
                print(f"{unique_check:4} INSERT of one row: {inserted(conn, name):.2f} ms", flush=True)


if __name__ == "__main__":
    main()
