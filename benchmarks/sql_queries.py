"""The queries of the SQL benchmark with their targets, and how they are timed: warm and cold, beside the heap table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.sql_server import Bench, has, seconds_of, segments_of
from benchmarks.sql_tables import BOTH, HEAP, START, STEP, TIMESCALE, VARIANTS, Variant
from ddstore import Profile
from ddstore.db.pool import Connection

#: What answers aggregates from segments' statistics; off, every row is read.
AGGREGATE = "ddstore.enable_aggregate"
#: How much of what it decoded a session keeps.
CACHE = "ddstore.segment_cache"


@dataclass(frozen=True)
class Case:
    """One query; ``{t}`` is the table, other names are moments of the range.

    Attributes:
        least: how many times as fast as the heap table it has to be, by profile.
        by_rows: with what answers aggregates without reading rows switched off.
        decoding: with nothing kept from one run to the next, so that each decodes.
        most_segments: how many segments it may decode, at most.
        every: with both kinds of bounds; otherwise with the lossy one alone.
    """

    name: str
    query: str
    least: Mapping[Profile, float] = field(default_factory=dict)
    by_rows: bool = False
    decoding: bool = False
    most_segments: int | None = None
    every: bool = False


CASES = (
    Case(
        "full scan, row by row: count, sum, max",
        "SELECT count(*), sum(value), max(value) FROM {t}",
        {Profile.FAST: 1.0, Profile.BALANCED: 0.4},
        by_rows=True,
        decoding=True,
        every=True,
    ),
    Case(
        "all of time: count, sum, max, avg",
        "SELECT count(*), sum(value), max(value), avg(value) FROM {t} WHERE time >= '{start}'",
        dict.fromkeys(BOTH, 50.0),
    ),
    Case(
        "nine tenths of time: count, sum, max, avg",
        "SELECT count(*), sum(value), max(value), avg(value) FROM {t} WHERE time >= '{early}' AND time < '{late}'",
    ),
    Case(
        "rows above a value: count, sum",
        "SELECT count(*), sum(value) FROM {t} WHERE value > 1",
        {Profile.FAST: 5.0},
        decoding=True,
    ),
    Case(
        "by hour: avg",
        "SELECT ddstore.time_bucket('1 hour', time) AS bucket, avg(value) FROM {t} GROUP BY bucket",
        {Profile.FAST: 5.0},
        decoding=True,
    ),
    Case(
        "one series, one hour",
        "SELECT time, value FROM {t} WHERE series = 'meter-01' AND time >= '{noon}' AND time < '{one}'",
        dict.fromkeys(BOTH, 1 / 1.5),
        most_segments=2,
    ),
    Case(
        "one series, one day: avg",
        "SELECT avg(value) FROM {t} WHERE series = 'meter-01' AND time >= '{noon}' AND time < '{next}'",
    ),
    Case(
        "latest of one series",
        "SELECT time, value FROM {t} WHERE series = 'meter-01' ORDER BY time DESC LIMIT 1",
        dict.fromkeys(BOTH, 0.5),
    ),
    Case(
        "latest of each series",
        "SELECT n.series, l.time, l.value FROM bench_names n CROSS JOIN LATERAL ("
        "SELECT time, value FROM {t} t WHERE t.series = n.series ORDER BY time DESC LIMIT 1) l",
        dict.fromkeys(BOTH, 0.5),
    ),
)


@dataclass(frozen=True)
class Row:
    """A line of the results: what was measured with us and beside us, and what it should have been."""

    what: str
    table: str
    cache: str
    unit: str
    ours: float
    heap: float | None = None
    timescale: float | None = None
    target: str = ""
    met: bool | None = None
    detail: str = ""

    def cells(self) -> list[object]:
        """One for each of :data:`HEADER`; the ratio is that of the heap table to us."""
        ratio = None if self.heap is None else self.heap / self.ours
        met = "" if self.met is None else "yes" if self.met else "no"
        figures = ["" if figure is None else figure for figure in (self.ours, self.heap, self.timescale, ratio)]
        return [self.what, self.table, self.cache, self.unit, *figures, self.target, met, self.detail]


HEADER = ["what", "table", "cache", "unit", "ddstore", "heap", "timescaledb", "ratio", "target", "met", "detail"]


def moments(rows: int) -> dict[str, str]:
    """The moments that queries name, for series of so many rows."""
    noon = START + rows * 2 // 5 * STEP
    return {
        "start": str(START),
        "early": str(START + rows // 20 * STEP),
        "late": str(START + rows * 19 // 20 * STEP),
        "noon": str(noon),
        "one": str(noon + np.timedelta64(1, "h")),
        "next": str(noon + np.timedelta64(1, "D")),
    }


def times_in_turn(connections: Sequence[Connection], queries: Sequence[str], budget: float) -> list[float]:
    """Median warm seconds of each query, run in turn at least three times, until the budget of seconds is used up."""
    spent: list[list[float]] = [[seconds_of(conn, query)] for conn, query in zip(connections, queries, strict=True)]
    measured: list[list[float]] = [[] if np.isfinite(first[0]) else first for first in spent]
    for _ in range(200):
        if sum(map(sum, measured)) > budget and all(len(m) >= 3 for m in measured if np.inf not in m):
            break
        for mine, conn, query in zip(measured, connections, queries, strict=True):
            if np.inf not in mine:
                mine.append(seconds_of(conn, query))
    return [float(np.median(mine)) for mine in measured]


def run_queries(bench: Bench, rows: int, *, budget: float, limit: float, cold_runs: int, timescale: bool) -> list[Row]:
    """Each case with each table that it concerns, warm, then cold where the server is ours.

    Args:
        bench: where the tables are.
        rows: of each series.
        budget: seconds to spend on one case and table, warm.
        limit: seconds after which a query is given up.
        cold_runs: restarts per case; 0 leaves cold caches out.
        timescale: whether the rows are in TimescaleDB, too.
    """
    named = moments(rows)
    found: list[Row] = []
    for cache in ("warm", "cold"):
        if cache == "cold" and (bench.server is None or not cold_runs):
            continue
        for case in CASES:
            variants = [v for v in VARIANTS if case.every or not v.lossless]
            tables = [HEAP, *([TIMESCALE] if timescale else []), *(v.table for v in variants)]
            queries = [case.query.format(t=table, **named) for table in tables]
            if cache == "warm":
                seconds, segments = _warm(bench, case, queries, budget, limit)
            else:
                seconds, segments = _cold(bench, case, queries, cold_runs, limit), [None] * len(queries)
            peer = seconds[1] * 1e3 if timescale else None
            first = len(tables) - len(variants)
            for variant, ours, decoded in zip(variants, seconds[first:], segments[first:], strict=True):
                found.append(_row(case, variant, cache, ours * 1e3, seconds[0] * 1e3, peer, decoded))
    return found


def _row(
    case: Case,
    variant: Variant,
    cache: str,
    ours: float,
    heap: float,
    timescale: float | None,
    segments: tuple[int, int] | None,
) -> Row:
    least = case.least.get(variant.profile) if cache == "warm" else None
    target, met = "", None
    if least is not None:
        target = f">= {least:.3g}"
        met = heap / ours >= least
        if case.most_segments is not None:
            target += f", <= {case.most_segments} segments"
            met = met and segments is not None and segments[0] <= case.most_segments
    detail = "{} of {} segments".format(*segments) if segments is not None and segments[1] else ""
    return Row(case.name, variant.label, cache, "ms", ours, heap, timescale, target, met, detail)


def _session(bench: Bench, case: Case, limit: float) -> Connection:
    conn = bench.connect()
    conn.execute(f"SELECT FROM {VARIANTS[0].table} LIMIT 0".encode())  # loads the extension, hence its settings
    conn.execute(f"SET statement_timeout = {int(limit * 1000)}".encode())
    if case.by_rows and has(conn, AGGREGATE):
        conn.execute(f"SET {AGGREGATE} = off".encode())
    if case.decoding and has(conn, CACHE):
        conn.execute(f"SET {CACHE} = 0".encode())
    return conn


def _warm(
    bench: Bench, case: Case, queries: Sequence[str], budget: float, limit: float
) -> tuple[list[float], list[tuple[int, int] | None]]:
    segments = []
    for query in queries:
        with _session(bench, case, limit) as conn:
            segments.append(segments_of(conn, query))
    connections = [_session(bench, case, limit) for _ in queries]
    try:
        return times_in_turn(connections, queries, budget * len(queries)), segments
    finally:
        for conn in connections:
            conn.close()


def _cold(bench: Bench, case: Case, queries: Sequence[str], runs: int, limit: float) -> list[float]:
    seconds: list[list[float]] = [[] for _ in queries]
    for _ in range(runs):
        bench.chill()
        connections = [_session(bench, case, limit) for _ in queries]
        for conn, query in zip(connections, queries, strict=True):
            conn.execute(f"EXPLAIN {query}".encode())
        for mine, conn, query in zip(seconds, connections, queries, strict=True):
            mine.append(seconds_of(conn, query))
            conn.close()
    return [float(np.median(mine)) for mine in seconds]
