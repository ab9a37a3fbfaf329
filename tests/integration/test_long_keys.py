"""Keys that no index takes: refused on writing with the row, reported by compaction, and in nobody's way."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import numpy as np
import pytest

from ddstore import Lossless, Series, Store, connect
from ddstore.db.catalog import MAX_KEY_BYTES
from ddstore.db.pool import Connection
from ddstore.errors import InvalidSeries

START = np.datetime64("2024-03-01T00:00:00", "us")
TIME = START + np.arange(40) * np.timedelta64(1, "s")


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A store with the table m, key (a, b)."""
    with connect(database_url) as store:
        store.create_table("m", time="t", key=["a", "b"], columns={"v": Lossless()}, min_rows=10)
        yield store


def _write(store: Store, a: str, b: str) -> None:
    data = {"t": TIME, "a": ["short"] * 20 + [a] * 20, "b": ["short"] * 20 + [b] * 20, "v": np.arange(40.0)}
    store.write(data, table="m")


def _count(conn: Connection, table: str) -> int:
    row = conn.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    assert row is not None
    return int(row[0])


def test_writing_refuses_them_and_names_the_row(store: Store) -> None:
    with pytest.raises(InvalidSeries, match=f"2060 bytes.*{MAX_KEY_BYTES}.*Shorten") as caught:
        _write(store, "x" * 60, secrets.token_hex(1000))
    assert (caught.value.series, caught.value.column, caught.value.row) == ("public.m", "b", 20)
    with pytest.raises(InvalidSeries, match="3000 bytes"):
        store.write(Series("ü" * 1500, TIME, np.arange(40.0)))
    with store.connection() as conn:
        assert [_count(conn, name) for name in ("m", "ddstore.samples", "ddstore.series_bound")] == [0, 0, 0]


def test_the_longest_that_are_allowed_go_through(store: Store) -> None:
    long = secrets.token_hex(MAX_KEY_BYTES // 4)
    _write(store, long, long)
    name = secrets.token_hex(MAX_KEY_BYTES // 2)
    store.write(Series(name, TIME, np.arange(40.0)))
    report = store.compact(all=True, train="never")
    assert (report.rows, report.failed) == (80, [])
    assert len(store.read(table="m", key=(long, long))) == 20
    assert len(store.read(name)) == 40
    assert store.verify().ok
    assert store.release("m").rows == 40


def test_compaction_reports_them_and_goes_on(store: Store) -> None:
    _write(store, "a", "b")
    key = secrets.token_hex(2000)
    with store.connection() as conn:
        # As it may come by SQL: the table has an index of the user's that takes such keys, and none of ours.
        for (name,) in conn.execute(
            "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'm'::regclass"
        ).fetchall():
            conn.execute(f"DROP INDEX {name}".encode())
        conn.execute("INSERT INTO m (t, a, b, v) SELECT now(), %s, 'x', g FROM generate_series(1, 30) g", [key])
    report = store.compact(train="never")
    assert report.rows == 40
    (failed,) = report.failed
    assert failed.series == (key, "x")
    assert "4001 bytes" in str(failed.error)
    assert len(store.read(table="m", key=(key, "x"))) == 30
    with pytest.raises(InvalidSeries, match="too long for an index"), store.connection() as conn:
        conn.execute("CREATE INDEX ON m (a)")
