"""Statistics add up, and say when a bound was too fine to help."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import ddstore
from ddstore import Absolute, Lossless, Series, Store, connect, store

START = np.datetime64("2024-03-01T00:00:00", "us")
TIME = START + np.arange(4000) * np.timedelta64(1, "s")


@pytest.fixture
def opened(database_url: str) -> Iterator[Store]:
    """A store on a fresh database."""
    with connect(database_url) as found:
        yield found


def test_stats_add_up(opened: Store) -> None:
    values = np.random.default_rng(1).normal(20, 1, 4000)
    opened.write(Series("coarse", TIME, values, max_error=Absolute(0.1)))
    opened.write(Series("fine", TIME, values, max_error=Absolute(1e-17)))
    opened.write(Series("exact", TIME, np.ma.masked_array(values, np.arange(4000) % 4 == 0)))
    opened.compact(train="never", segment_rows=1000)
    opened.write(Series("coarse", TIME[:7], values[:7]))
    opened.write(Series("new", TIME[:5], values[:5]))
    (stats,) = opened.stats()
    assert (stats.table, stats.series) == ("ddstore.samples", 4)
    assert (stats.rows_hot, stats.rows_cold, stats.segments) == (12, 12000, 12)
    by_series = {column.series[0]: column for column in stats.columns}
    assert sorted(filter(None, by_series)) == ["coarse", "exact", "fine"]
    coarse, exact, fine = by_series["coarse"], by_series["exact"], by_series["fine"]
    assert (coarse.values, exact.values, fine.values) == (4000, 3000, 4000)
    assert coarse.max_error == str(Absolute(0.1))
    assert exact.max_error == str(Lossless())
    assert coarse.ratio is not None
    assert coarse.bits_per_sample is not None
    assert coarse.ratio > 8
    assert coarse.bits_per_sample == pytest.approx(64 / coarse.ratio)
    assert sum(coarse.modes.values()) == 4
    assert coarse.note is None
    assert exact.note is None
    assert fine.note is not None
    assert "all segments are stored exactly" in fine.note
    assert stats.payload_bytes == stats.time_bytes + sum(column.bytes for column in stats.columns)
    assert stats.raw_bytes == 8 * 12000 + 8 * 11000
    assert stats.ratio == pytest.approx(stats.raw_bytes / (stats.payload_bytes + stats.model_bytes))
    assert stats.segments_size > stats.payload_bytes
    assert json.loads(json.dumps(stats.to_dict()))["columns"][0]["series"] == ["coarse"]
    assert np.array_equal(opened.read("fine").values, values)


def test_stats_without_rows(opened: Store) -> None:
    assert opened.stats() == []
    opened.create_table("t", time="t", columns={"x": Lossless(), "note": ("text", Lossless())})
    (stats,) = opened.stats("t")
    assert (stats.rows_hot, stats.rows_cold, stats.series, stats.ratio, stats.columns) == (0, 0, 0, None, [])


def test_default_store(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDSTORE_URL", database_url)
    monkeypatch.setattr(store, "_default", None)
    ddstore.write(Series("s", TIME, np.arange(4000.0)))
    assert len(ddstore.read("s", start=TIME[10], end=TIME[20])) == 10
    assert store._default is not None
    store._default.close()


def test_url_and_directory_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ddstore.SchemaMismatch, match="both given"):
        connect("postgresql://localhost/x", data_dir=tmp_path)


def test_no_server_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ddstore.ConnectionFailed):
        connect(f"postgresql:///x?host={tmp_path}")
