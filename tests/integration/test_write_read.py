"""What is written comes back: hot, cold and mixed, through Python and through SQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from psycopg.sql import SQL

from ddstore import Absolute, Lossless, Relative, Series, Store, connect
from ddstore.db.strung import MAX_STRUNG
from ddstore.errors import BoundConflict, CorruptSegment, InvalidSeries, NotInstalled, SchemaMismatch

START = np.datetime64("2024-03-01T00:00:00", "us")


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A store on a fresh database."""
    with connect(database_url) as opened:
        yield opened


def seconds(n: int) -> NDArray[Any]:
    """``n`` times, one a second."""
    return START + np.arange(n) * np.timedelta64(1, "s")


def wave(n: int) -> NDArray[np.float64]:
    """A noisy sine."""
    rng = np.random.default_rng(7)
    return np.asarray(20 + 5 * np.sin(np.arange(n) / 40) + rng.normal(0, 0.05, n))


def same_bits(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("compacted", [False, True])
def test_series_comes_back(store: Store, compacted: bool) -> None:
    values = wave(5000)
    values[[3, 70, 71, 72]] = [np.nan, np.inf, -np.inf, -0.0]
    masked = np.ma.masked_array(values, np.arange(5000) % 17 == 5)
    report = store.write(Series("s", seconds(5000), masked))
    assert (report.rows, report.series, report.table) == (5000, "s", "ddstore.samples")
    if compacted:
        assert store.compact(train="never", all=True).rows == 5000
    read = store.read("s")
    assert same_bits(read.time, seconds(5000))
    assert read.valid is not None
    assert np.array_equal(read.valid, ~masked.mask)
    assert same_bits(read.values[read.valid], values[read.valid])
    assert read.max_error == Lossless()


def test_bound_holds_and_ranges_are_half_open(store: Store) -> None:
    values, time = wave(6000), seconds(6000)
    store.write(Series("s", time[:4000], values[:4000], max_error=Absolute(0.1)))
    store.compact(train="never", segment_rows=1000)
    store.write(Series("s", time[4000:], values[4000:]))  # stays hot, takes the bound there is
    read = store.read("s")
    assert same_bits(read.time, time)
    assert np.abs(read.values - values).max() <= 0.1
    assert read.max_error == Absolute(0.1)
    for first, last in [(0, 6000), (999, 1001), (3990, 4010), (5999, 6000), (10, 10)]:
        part = store.read("s", start=time[first], end=time[last] if last < 6000 else None)
        assert same_bits(part.values, read.values[first:last])
    # Ends between two microseconds: rounded up, so that nothing is cut off or added.
    nanoseconds = time.astype("datetime64[ns]")
    part = store.read("s", start=nanoseconds[10] + 1, end=nanoseconds[20] + 1)
    assert same_bits(part.time, time[11:21])
    assert len(store.read("s", start="2024-03-01T00:00:10Z", end="2024-03-01 00:00:12")) == 2
    assert len(store.read("s", start="0001-01-01", end=np.datetime64("1000000-01-01", "s"))) == 6000
    assert len(store.read("s", start=np.datetime64("290000000-01-01", "s"))) == 0


def test_order_and_duplicates_are_kept(store: Store) -> None:
    rng = np.random.default_rng(1)
    time = seconds(300)[rng.integers(0, 300, 2000)]
    values = np.arange(2000.0)
    store.write(Series("s", time, values))
    for _ in range(2):
        read = store.read("s")
        order = np.argsort(time, kind="stable")
        assert same_bits(read.time, time[order])
        assert same_bits(read.values, values[order])
        store.compact(train="never", all=True)


def test_sql_sees_what_python_reads(store: Store, needs_extension: None) -> None:
    store.write(Series("s", seconds(3000), wave(3000), max_error=Relative(1e-3)))
    store.compact(train="never")
    store.write(Series("s", seconds(3010)[3000:], wave(10)))
    with store.connection() as conn:
        rows = conn.execute("SELECT value FROM ddstore.samples WHERE series = 's' ORDER BY time").fetchall()
    assert [row[0] for row in rows] == store.read("s").values.tolist()


def test_bound_is_kept(store: Store) -> None:
    time, values = seconds(10), wave(10)
    store.write(Series("lossy", time, values, max_error=Absolute(0.5)))
    store.write(Series("exact", time, values))
    with pytest.raises(BoundConflict, match=r"Absolute\(0.5\).*Absolute\(0.2\).*set_max_error"):
        store.write(Series("lossy", time, values, max_error=Absolute(0.2)))
    with pytest.raises(BoundConflict, match="Lossless"):
        store.write(Series("exact", time, values, max_error=Absolute(0.2)))
    assert len(store.read("lossy")) == len(store.read("exact")) == 10
    store.set_max_error(Absolute(0.2), series="lossy")
    store.write(Series("lossy", time, values, max_error=Absolute(0.2)))
    assert len(store.read("lossy")) == 20


def test_unknown_series_names_close_ones(store: Store) -> None:
    with pytest.raises(SchemaMismatch, match="Nothing was written yet"):
        store.read("boiler")
    store.write(Series("boiler.temp", seconds(2000), wave(2000)))
    store.compact(train="never", all=True)
    store.write(Series("pump.rpm", seconds(3), wave(3)))
    with pytest.raises(SchemaMismatch, match=r"boiler\.tmp.*Did you mean boiler\.temp"):
        store.read("boiler.tmp")
    with pytest.raises(SchemaMismatch, match=r"pump\.rpm"):
        store.set_max_error(Absolute(1), series="pumprpm")
    assert len(store.read("pump.rpm", start="2030-01-01")) == 0


def test_damaged_segment_is_named_and_the_others_stay_readable(store: Store) -> None:
    store.write(Series("s", seconds(4000), wave(4000)))
    store.compact(train="never", segment_rows=1000)
    (stats,) = store.stats()
    assert stats.segments == 4
    table = store.tables()[0]
    with store.connection() as conn:
        column = f"c{table.values[0].id}_residual"
        bad = conn.execute(f"SELECT min(id) FROM {table.segments} WHERE t_min > %s", [str(START + 1)]).fetchone()
        assert bad is not None
        conn.execute(
            f"UPDATE {table.segments} SET {column} = set_byte({column}, 40, get_byte({column}, 40) # 1) WHERE id = %s",
            bad,
        )
    with pytest.raises(CorruptSegment, match=f"segment {bad[0]} of ") as caught:
        store.read("s")
    assert caught.value.column == "value"
    assert len(store.read("s", end=seconds(4000)[1000])) == 1000
    assert store.stats()[0].columns[0].segments == 4
    assert not store.verify().ok


def test_the_index_forgets_what_was_compacted(store: Store) -> None:
    """Rows that are written into pages of moved ones are found by their own times."""
    store.write(Series("s", seconds(60_000), wave(60_000)))
    assert store.compact(train="never", all=True).notes == []
    later = seconds(30_000) + np.timedelta64(1000, "D")
    store.write(Series("s", later, wave(30_000)))
    hour = "FROM ONLY ddstore.samples WHERE series = 's' AND time >= {} AND time < {}"
    with store.connection() as conn:
        conn.execute("SET LOCAL enable_seqscan = off")
        between = [
            SQL("EXPLAIN (ANALYZE, FORMAT JSON) SELECT " + hour).format(str(start), str(start + np.timedelta64(1, "h")))
            for start in (seconds(1)[0], later[0])
        ]
        plans = [conn.execute(query).fetchone() for query in between]
    old, new = (plan[0][0]["Plan"] for plan in plans if plan is not None)
    assert old["Actual Rows"] == 0
    # A small heap keeps its pages. Of a last range of 32 that is not full PostgreSQL makes no summary: it is read.
    assert old.get("Lossy Heap Blocks", 0) < 32
    assert new["Actual Rows"] == 3600
    assert 0 < new["Lossy Heap Blocks"] < 100


def test_reads_beyond_what_one_row_holds_go_by_copy(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create_table(
        "frames",
        time="time",
        key={"k": "text", "u": "uuid"},
        columns={"value": Lossless(), "note": ("text", Lossless())},
    )
    n = 3000
    key = np.array(["", "Ä", "plain"], dtype=object)[np.arange(n) % 3]
    note = np.array([None, "", "🐌" * 300, "x"], dtype=object)[np.arange(n) % 4]
    value = np.ma.masked_array(wave(n), np.arange(n) % 5 == 0)
    uuids = np.array(["00000000-0000-0000-0000-00000000000a"] * n, dtype=object)
    store.write({"time": seconds(n), "k": key, "u": uuids, "value": value, "note": note}, table="frames")
    for _ in range(2):
        frames = []
        for limit in (MAX_STRUNG, 0):
            monkeypatch.setattr("ddstore.db.copy.MAX_STRUNG", limit)
            frames.append(store.read(table="frames"))
        strung, copied = frames
        assert same_bits(strung.time, copied.time)
        assert list(strung.keys["k"]) == list(copied.keys["k"])
        assert list(strung.columns["note"]) == list(copied.columns["note"])
        assert strung.columns["note"][2] == "🐌" * 300
        assert same_bits(strung.valid["value"], copied.valid["value"])
        assert same_bits(strung.columns["value"][strung.valid["value"]], value.compressed())
        assert same_bits(copied.columns["value"][copied.valid["value"]], value.compressed())
        store.compact("frames", train="never", all=True)


def test_nothing_is_half_written(store: Store) -> None:
    store.create_table("plant.sensors", time="t", key={"device": "text"}, columns={"temp": Lossless()})
    with store.connection() as conn:
        conn.execute("ALTER TABLE plant.sensors ADD CHECK (temp < 100)")
    data: dict[str, Any] = {"t": seconds(3), "device": ["a", "b", "c"], "temp": [1.0, 2.0, 300.0]}
    with pytest.raises(InvalidSeries, match="check constraint"):
        store.write(data, table="plant.sensors")
    with pytest.raises(InvalidSeries, match="device"):
        store.write({**data, "device": ["a", None, "c"], "temp": [1.0, 2.0, 3.0]}, table="plant.sensors")
    assert len(store.read(table="plant.sensors")) == 0


def test_a_database_without_a_catalog_says_so(empty_database_url: str) -> None:
    with connect(empty_database_url) as store:
        for verb in (
            lambda: store.write(Series("s", seconds(3), wave(3))),
            lambda: store.read("s"),
            lambda: store.stats(),
            lambda: store.compact(),
        ):
            with pytest.raises(NotInstalled, match="ddstore migrate"):
                verb()
        assert store.migrate().migrations
        store.write(Series("s", seconds(3), wave(3)))
        assert len(store.read("s")) == 3


def test_without_the_extension_python_reads_everything(plain_database_url: str) -> None:
    with connect(plain_database_url) as store:
        store.write(Series("s", seconds(3000), wave(3000), max_error=Absolute(0.01)))
        store.compact(train="never")
        assert np.abs(store.read("s").values - wave(3000)).max() <= 0.01
        assert store.stats()[0].rows_cold > 0
