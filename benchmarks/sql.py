"""The table in SQL, cold, against a heap table of the same rows with a btree on (series, time), in the same run."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.common import a_store, load, parser, report
from ddstore import Absolute, Series, Store

HOUR = "SELECT time, value FROM {} WHERE series = 'pow' AND time >= '2008-03-01 10:00' AND time < '2008-03-01 11:00'"
QUERIES = {
    "one hour of one series": HOUR,
    "one day, avg": HOUR.replace("time, value", "avg(value)").replace("01 11:00", "02 10:00"),
    "full scan: count, sum": "SELECT count(*), sum(value) FROM {}",
    "full scan: count, sum, max": "SELECT count(*), sum(value), max(value) FROM {}",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and report."""
    options = parser(__doc__)
    options.add_argument("--times", type=int, default=7, help="warm runs of each query; the median counts")
    given = options.parse_args(arguments)
    values = load(given.data, "pow")["values"].astype(np.float64)
    moments = np.datetime64("2006-12-16T17:24:00", "us") + np.arange(len(values)) * np.timedelta64(60, "s")
    with a_store(given.url) as store:
        store.write(Series("pow", moments, values, max_error=Absolute(0.1)))
        with store.connection() as conn:
            conn.execute("CREATE TABLE heap AS SELECT * FROM ddstore.samples")
            conn.execute("CREATE INDEX ON heap (series, time)")
        store.compact(train="never", all=True)
        with store.connection() as conn:
            conn.commit()
            conn.autocommit = True
            conn.execute("VACUUM ANALYZE heap")
            conn.autocommit = False
        rows: list[list[object]] = []
        for name, query in QUERIES.items():
            cold, plan = measure(store, query.format("ddstore.samples"), given.times)
            heap, _ = measure(store, query.format("heap"), given.times)
            decoded = plan.get("Segments Decoded", 0)
            rows.append([name, cold * 1e3, heap * 1e3, heap / cold, decoded, plan.get("Segments Total", 0)])
        with store.connection() as conn:
            size = "SELECT pg_total_relation_size(%s::regclass)"
            heap_bytes = conn.execute(size, ["heap"]).fetchone()
        assert heap_bytes is not None
        stats = store.stats("ddstore.samples")[0]
        whole = stats.segments_size + stats.model_bytes + stats.encoder_bytes
        rows.append(["bytes on disk, indexes included", whole, heap_bytes[0], heap_bytes[0] / whole, "", ""])
    report("sql", ["query", "ddstore ms", "heap ms", "heap / ddstore", "segments decoded", "of"], rows)


def measure(store: Store, query: str, times: int) -> tuple[float, dict[str, Any]]:
    """Median warm seconds, and the foreign scan's figures from EXPLAIN ANALYZE."""
    with store.connection() as conn:
        conn.execute("SET max_parallel_workers_per_gather = 0")
        conn.execute(query).fetchall()
        seconds = []
        for _ in range(times):
            started = time.perf_counter()
            conn.execute(query).fetchall()
            seconds.append(time.perf_counter() - started)
        row = conn.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {query}").fetchone()
    assert row is not None
    plan = json.loads(row[0]) if isinstance(row[0], str) else row[0]
    return float(np.median(seconds)), find(plan[0]["Plan"])


def find(node: dict[str, Any]) -> dict[str, Any]:
    """The plan node that scans segments, or an empty one."""
    if "Segments Decoded" in node:
        return node
    for child in node.get("Plans", ()):
        if found := find(child):
            return found
    return {}


if __name__ == "__main__":
    main()
