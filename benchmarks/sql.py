"""Managed tables in SQL, beside a plain heap table with btrees on (series, time) and (time), in the same run.

Rows are real series, repeated from other places until there are enough, one value every ten seconds, written in the
order in which they would arrive. Where the server of --url has TimescaleDB (it must be in shared_preload_libraries),
the same rows are in its columnstore, too.

Queries run on one core and are timed by libpq: until all rows are there, in binary. "Warm" is the median of runs in
turn, table after table, each with a connection of its own. "Cold" (embedded server only) is the median of runs after
the server was restarted and its files were dropped from the operating system's cache, which takes no rights but those
on the files; catalogs are warmed by EXPLAIN. Ratio is heap by ddstore: of time, and of bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import RESULTS, parser, save, show
from benchmarks.sql_queries import HEADER, Row, run_queries
from benchmarks.sql_server import Bench, a_bench
from benchmarks.sql_tables import (
    HEAP,
    VARIANTS,
    disk_bytes,
    fill_heap,
    fill_managed,
    fill_timescale,
    managed_bytes,
    series_of,
    timescale_bytes,
)
from benchmarks.sql_writes import copy_rows, watch_compaction

#: How many times smaller than the heap table with its indexes a managed table has to be: lossless, and lossy.
SMALLER = {True: 40.0, False: 100.0}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and report."""
    options = parser(__doc__)
    options.add_argument("--rows", type=int, default=10_000_000, help="rows in all (%(default)s)")
    options.add_argument("--series", type=int, default=50, help="series that they belong to (%(default)s)")
    options.add_argument("--budget", type=float, default=2.0, help="seconds per query and table, warm (%(default)s)")
    options.add_argument("--limit", type=float, default=60.0, help="seconds to wait for a query (%(default)s)")
    options.add_argument("--cold", type=int, default=3, help="restarts per query with cold caches (%(default)s)")
    options.add_argument("--seconds", type=float, default=600.0, help="of compaction beside readers (%(default)s)")
    options.add_argument("--beside", action="store_true", help="compaction beside readers, and nothing else")
    options.add_argument("--out", type=Path, default=RESULTS, help="folder for the CSV (%(default)s)")
    given = options.parse_args(arguments)
    with a_bench(given.url, given.rows) as bench:
        rows = [row.cells() for row in measure(bench, given)]
    kept = [place for place in range(len(HEADER)) if any(row[place] != "" for row in rows)]
    header, rows = [HEADER[place] for place in kept], [[row[place] for place in kept] for row in rows]
    show("sql", header, rows)
    save(given.out, "sql", header, rows)


def measure(bench: Bench, given: argparse.Namespace) -> list[Row]:
    """Every line of the results."""
    each = given.rows // given.series
    values = series_of(given.data, given.series, each)
    fill_heap(bench, values)
    if given.beside:
        return watch_compaction(bench, each, given.seconds)
    timescale = fill_timescale(bench)
    heap = disk_bytes(bench, HEAP)
    peer = timescale_bytes(bench) / 1e6 if timescale else None
    speeds: list[Row] = []
    sizes: list[Row] = []
    for variant in VARIANTS:
        speed = fill_managed(bench, variant, values) / 1e6
        size, least = managed_bytes(bench, variant), SMALLER[variant.lossless]
        speeds.append(Row("compaction", variant.label, "warm", "M rows/s", speed))
        what = "on disk, with hot rows, indexes and models"
        aim, met = f">= {least:g}", heap / size >= least
        sizes.append(Row(what, variant.label, "", "MB", size / 1e6, heap / 1e6, peer, aim, met))
    found = run_queries(bench, each, budget=given.budget, limit=given.limit, cold_runs=given.cold, timescale=timescale)
    found += sizes + speeds + copy_rows(bench, min(1_000_000, each * given.series))
    if given.seconds:
        found += watch_compaction(bench, each, given.seconds)
    return found


if __name__ == "__main__":
    main()
