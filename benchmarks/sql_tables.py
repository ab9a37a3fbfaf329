"""The tables of the SQL benchmark: the same rows as a plain heap table, as managed tables, and in TimescaleDB."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from psycopg import sql as pgsql

from benchmarks.common import columns_of, load
from benchmarks.sql_server import Bench
from ddstore import Absolute, Lossless, Profile, Store
from ddstore.db.catalog import load_table
from ddstore.db.manage import set_series_bound

#: Sensors that print a grid: kW, light, mV, counts, pA.
SETS = ("pow", "ppg_e4", "ecg_mitbih100", "watch_acc_e4", "dna")
START = np.datetime64("2024-01-01", "us")
STEP = np.timedelta64(10, "s")
#: What a table that is compacted all the time has hot, on average: half of the default min_rows of each series.
HOT_ROWS = 512
CHUNK = 500_000
HEAP = "bench_heap"
TIMESCALE = "bench_timescale"


@dataclass(frozen=True)
class Variant:
    """A managed table: its profile, and whether it is lossless or may err by 0.01 standard deviations of a series."""

    profile: Profile
    lossless: bool

    @property
    def table(self) -> str:
        """Its name."""
        return f"public.bench_{self.profile.value}_{'lossless' if self.lossless else 'lossy'}"

    @property
    def label(self) -> str:
        """What results call it."""
        return f"{self.profile.value} {'lossless' if self.lossless else '0.01 std'}"


BOTH = (Profile.FAST, Profile.BALANCED)
VARIANTS = tuple(
    Variant(profile, lossless) for profile in (Profile.FAST, Profile.BALANCED) for lossless in (False, True)
)


def series_of(folder: Path, count: int, rows: int) -> NDArray[np.float64]:
    """Real series, shape (count, rows): each set's channels again and again, from another place each time."""
    there = [name for name in SETS if (folder / f"{name}.npz").exists()] or [SETS[0]]
    channels = [column for name in there for column in columns_of(load(folder, name)["values"])]
    turns = -(-count // len(channels))
    made = np.empty((count, rows))
    for number in range(count):
        channel = channels[number % len(channels)]
        start = number // len(channels) * len(channel) // turns
        made[number] = channel[(start + np.arange(rows)) % len(channel)]
    return made


def names_of(count: int) -> list[str]:
    """The keys of the series."""
    return [f"meter-{number:02d}" for number in range(count)]


def fill_heap(bench: Bench, values: NDArray[np.float64]) -> None:
    """Write the rows as they would arrive, all series in turn, into a plain table with its two indexes."""
    count, rows = values.shape
    names = names_of(count)
    with bench.store.connection() as conn:
        conn.execute("CREATE TABLE bench_names AS SELECT unnest(%s::text[]) AS series", [names])
    bench.store.create_table("public.bench_staging", time="time", key={"series": "text"}, columns={"value": Lossless()})
    step = max(1, CHUNK // count)
    for start in range(0, rows, step):
        part = values[:, start : start + step]
        moments = START + np.arange(start, start + part.shape[1]) * STEP
        frame = {"time": np.repeat(moments, count), "series": names * part.shape[1], "value": part.T.ravel()}
        bench.store.write(frame, table="public.bench_staging")
    with bench.store.connection() as conn:
        conn.execute(f"CREATE TABLE {HEAP} AS SELECT series, time, value FROM ONLY bench_staging")
        conn.execute(f"CREATE INDEX ON {HEAP} (series, time)")
        conn.execute(f"CREATE INDEX ON {HEAP} (time)")
    bench.store.release("public.bench_staging")
    with bench.connect() as conn:
        conn.execute("DROP TABLE bench_staging")
        conn.execute(f"VACUUM ANALYZE {HEAP}")
        conn.execute("ANALYZE bench_names")


def fill_managed(bench: Bench, variant: Variant, values: NDArray[np.float64]) -> float:
    """Make a managed table of the same rows, compact it, then write each series' last rows; rows per second compacted.

    The backlog leaves an index of hot rows behind that is all empty pages. VACUUM does not shrink a btree, so it is
    rebuilt, as docs/operations.md says; a table that is compacted all the time never has such an index.
    """
    store, cut = bench.store, START + max(1, values.shape[1] - HOT_ROWS) * STEP
    create(store, variant.table, variant.profile)
    with store.connection() as conn:
        managed = load_table(conn, variant.table)
        for name, deviation in zip(names_of(len(values)), values.std(axis=1), strict=True):
            if not variant.lossless:
                set_series_bound(conn, managed, managed.value("value"), (name,), Absolute(float(0.01 * deviation)))
    move = (
        f"INSERT INTO {variant.table} (series, time, value) SELECT series, time, value FROM {HEAP} WHERE time {{}} %s"
    )
    with store.connection() as conn:
        conn.execute(move.format("<").encode(), [cut.astype(object)])
    report = store.compact(variant.table, train="never", all=True)
    if report.failed:
        raise SystemExit(f"compaction failed: {report.failed[0].error}")
    with bench.connect() as conn:  # should the compactor's own have met autovacuum's, which it does not wait for
        conn.execute(f"VACUUM (TRUNCATE) {variant.table}".encode())
    with store.connection() as conn:
        conn.execute(move.format(">=").encode(), [cut.astype(object)])
    with bench.connect() as conn:
        conn.execute(f"REINDEX TABLE {variant.table}".encode())
        conn.execute(f"VACUUM ANALYZE {variant.table}".encode())
    return report.rows / report.seconds


def create(store: Store, table: str, profile: Profile, hot_index: str = "btree") -> None:
    """Make an empty managed table."""
    columns = {"value": Lossless()}
    store.create_table(
        table,
        time="time",
        key={"series": "text"},
        columns=columns,
        profile=profile,
        hot_index="brin" if hot_index == "brin" else "btree",
    )


def managed_bytes(bench: Bench, variant: Variant) -> int:
    """All that a managed table takes on disk: heap, segments, their indexes and TOAST, and models."""
    stats = bench.store.stats(variant.table)[0]
    with bench.store.connection() as conn:
        managed = load_table(conn, variant.table)
        segments = managed.segments_identifier.as_string(conn)
    return stats.model_bytes + stats.encoder_bytes + disk_bytes(bench, variant.table) + disk_bytes(bench, segments)


def disk_bytes(bench: Bench, table: str) -> int:
    """What a table takes on disk with indexes, TOAST, free space and visibility maps."""
    with bench.store.connection() as conn:
        row = conn.execute("SELECT pg_total_relation_size(%s::text::regclass)", [table]).fetchone()
    assert row is not None
    return int(row[0])


def fill_timescale(bench: Bench) -> bool:
    """The same rows in TimescaleDB's columnstore; False where the server does not have it."""
    with bench.connect() as conn:
        if conn.execute("SELECT FROM pg_available_extensions WHERE name = 'timescaledb'").fetchone() is None:
            return False
        table = pgsql.Identifier(TIMESCALE)
        conn.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        conn.execute(pgsql.SQL("CREATE TABLE {} (LIKE bench_heap)").format(table))
        conn.execute("SELECT create_hypertable(%s::text::regclass, 'time')", [TIMESCALE])
        conn.execute(
            pgsql.SQL(
                "ALTER TABLE {} SET (timescaledb.compress, timescaledb.compress_segmentby = 'series',"
                " timescaledb.compress_orderby = 'time')"
            ).format(table)
        )
        conn.execute(pgsql.SQL("INSERT INTO {} SELECT * FROM bench_heap").format(table))
        conn.execute("SELECT compress_chunk(c) FROM show_chunks(%s::text::regclass) c", [TIMESCALE])
        conn.execute(pgsql.SQL("VACUUM ANALYZE {}").format(table))
    return True


def timescale_bytes(bench: Bench) -> int:
    """What the hypertable takes on disk."""
    with bench.store.connection() as conn:
        row = conn.execute("SELECT hypertable_size(%s::text::regclass)", [TIMESCALE]).fetchone()
    assert row is not None
    return int(row[0])
