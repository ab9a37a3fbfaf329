"""A series coded by nets, one causal and one of mode interp: trained where they pay, kept once, read through SQL and

Python, named if damaged.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import psycopg
import pytest
from psycopg import errors as pg_errors

from ddstore import Absolute, Store, connect
from ddstore.errors import CorruptSegment
from fix_model import chaos, gaps

SEGMENT = 1024
ROWS = 56 * SEGMENT
START = np.datetime64("2024-03-01T00:00:00", "us")


def _write(store: Store, values: np.ndarray[tuple[int], np.dtype[np.float64]], start: int) -> None:
    time = START + (start + np.arange(len(values))) * np.timedelta64(1, "s")
    store.write({"time": time, "v": values, "between": gaps(ROWS + SEGMENT)[start:][: len(values)]}, table="machine")


@pytest.fixture
def store(database_url: str, needs_extension: None, net_steps: list[int]) -> Iterator[Store]:
    """One series of fifty-six segments, for each of whose columns a net pays."""
    with connect(database_url) as store:
        store.create_table(
            "machine",
            time="time",
            columns={"v": Absolute(0.5), "between": Absolute(1.5)},
            segment_rows=SEGMENT,
            profile="archive",
        )
        _write(store, _values()[:ROWS], 0)
        report = store.compact(all=True, train="always", train_seconds=60.0, vacuum=False)
        assert report.failed == []
        assert report.series[0].models == 2, report.series[0].notes
        yield store


def _values() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    values = chaos(ROWS + SEGMENT)
    values[[5, 4100, 9000]] = [np.nan, np.inf, -0.0]
    return values


def _read(store: Store) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Both columns, (2, n)."""
    columns = store.read(table="machine").columns
    with store.connection() as conn, conn.cursor(binary=True) as cursor:
        rows = cursor.execute("SELECT v, between FROM machine ORDER BY time").fetchall()
    through_sql = np.array(rows, dtype=np.float64).T.copy()
    assert columns["v"].tobytes() + columns["between"].tobytes() == through_sql.tobytes()
    return through_sql


def test_a_net_is_trained_shared_reused_and_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.connection() as conn:
        (model, size, encoder, record), (other, *sizes, of_other) = conn.execute(
            "SELECT id, octet_length(bytes), encoder, record FROM ddstore.model ORDER BY column_id"
        ).fetchall()
        coders = conn.execute("SELECT column_name, mode, coder, segments FROM ddstore.codings ORDER BY 1").fetchall()
        assert [found for found in coders if found[0] != "time"] == [("between", 4, 4, 56), ("v", 1, 4, 56)]
        # Torch is for training alone: further segments are written, and all are read, without it.
        monkeypatch.setitem(sys.modules, "torch", None)
        for name in [name for name in sys.modules if name.startswith("ddstore.model")]:
            monkeypatch.delitem(sys.modules, name)
    assert encoder is None
    assert size < 4000
    assert record["kind"] == "net"
    assert (record["stretch"], record["population"], record["sample"]) == (ROWS, 1, [0])
    assert record["bits_per_sample"] < record["bits_per_sample_without"]
    assert (sizes[0] < 1700, sizes[1], of_other["kind"], of_other["hidden"]) == (True, None, "inet", [24, 16])
    assert (of_other["stretch"], of_other["sample"]) == (SEGMENT, list(range(56)))

    _write(store, _values()[ROWS:], ROWS)
    assert store.compact(all=True, train="never", vacuum=False).failed == []
    with store.connection() as conn:
        used = conn.execute("SELECT c2_model, c2_latents, count(*) FROM ddstore.segment_1 GROUP BY 1, 2").fetchall()
        assert used == [(model, None, 57)]
        used = conn.execute("SELECT c3_model, c3_latents, count(*) FROM ddstore.segment_1 GROUP BY 1, 2").fetchall()
        assert used == [(other, None, 57)]
    values, (read, between) = _values(), _read(store)
    assert np.abs(between - gaps(len(between))).max() <= 1.5
    odd = ~np.isfinite(values) | ((values == 0) & np.signbit(values))
    assert read[odd].tobytes() == values[odd].tobytes()
    assert np.abs(read[~odd] - values[~odd]).max() <= 0.5
    assert store.verify().ok


def test_a_damaged_net_is_named(store: Store) -> None:
    with store.connection() as conn:
        conn.execute("UPDATE ddstore.model SET bytes = set_byte(bytes, 900, get_byte(bytes, 900) # 1)")
    with psycopg.connect(store.url) as plain, pytest.raises(pg_errors.DataCorrupted, match="model"):
        plain.execute("SELECT v FROM machine")
    with pytest.raises(CorruptSegment, match="model"):
        store.read(table="machine")
    assert sorted(damage.column for damage in store.verify().damaged) == ["between"] * 56 + ["v"] * 56
