"""Statistics add up, say how columns are coded, and when a bound was too fine to help."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ddstore
from ddstore import Absolute, Lossless, Series, Store, connect, store
from ddstore.codec.format import Coder, Mode

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
    assert (coarse.segments, coarse.rows, exact.rows) == (4, 4000, 4000)
    assert sum(coding.share for coding in coarse.codings) == pytest.approx(1)
    assert coarse.note is None
    assert exact.note is None
    assert fine.note is not None
    assert "all segments are stored exactly" in fine.note
    assert (stats.profile, stats.segment_rows) == ("balanced", 65536)
    assert stats.payload_bytes == stats.time_bytes + sum(column.bytes for column in stats.columns)
    assert stats.raw_bytes == 8 * 12000 + 8 * 11000
    assert stats.ratio == pytest.approx(stats.raw_bytes / (stats.payload_bytes + stats.model_bytes))
    assert stats.segments_size > stats.payload_bytes
    assert json.loads(json.dumps(stats.to_dict()))["columns"][0]["series"] == ["coarse"]
    assert np.array_equal(opened.read("fine").values, values)


def test_what_lies_on_a_line_is_no_fine_bound(opened: Store) -> None:
    values = np.r_[np.zeros(2000), np.random.default_rng(1).normal(0, 1, 2000)]
    opened.write(Series("flat at first", TIME, values, max_error=Absolute(0.1)))
    opened.compact(train="never", segment_rows=1000)
    (column,) = opened.stats()[0].columns
    assert (column.exact_segments, column.segments, column.note) == (2, 4, None)


def test_stats_without_rows(opened: Store) -> None:
    assert opened.stats() == []
    opened.create_table("t", time="t", columns={"x": Lossless(), "note": ("text", Lossless())})
    (stats,) = opened.stats("t")
    assert (stats.rows_hot, stats.rows_cold, stats.series, stats.ratio, stats.columns) == (0, 0, 0, None, [])


def _varint(number: int) -> bytes:
    return bytes([number & 127 | 128]) + _varint(number >> 7) if number > 127 else bytes([number])


def _name(numbers: type[Mode] | type[Coder], number: int) -> str:
    known = {member.value: member.name.lower() for member in numbers}
    return known.get(number, str(number))


_counts = st.one_of(st.integers(1, 1 << 20), st.sampled_from([1, 127, 128, 16383, 16384, 1 << 20]))
_columns = st.tuples(st.integers(0, 15), st.integers(0, 15), _counts, st.floats(0, 1), st.booleans())


@given(st.lists(_columns, min_size=1, max_size=20))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_coding_is_what_the_first_bytes_say(opened: Store, columns: list[tuple[int, int, int, float, bool]]) -> None:
    """Modes and coders of later versions by their numbers, and escapes of any length."""
    expected: dict[tuple[str, str], list[int]] = {}
    with opened.connection() as conn:
        conn.execute("DELETE FROM ddstore.managed_table; DROP TABLE IF EXISTS t CASCADE")
    table = opened.create_table("t", time="t", columns={"x": Lossless()})
    prefix = f"c{table.values[0].id}"
    insert = f"""INSERT INTO {table.segments} (t_min, t_max, n, time, {prefix}_residual, {prefix}_count)
                 VALUES (now(), now(), %s, '', %s, %s)"""
    exact_segments = 0
    with opened.connection() as conn:
        for mode, coder, n, share, exact in columns:
            escapes = round(share * n)
            head = bytes([1, mode | coder << 4, 5, 4 * exact]) + _varint(n) + _varint(escapes)
            conn.execute(insert.encode(), [n, head + b"\xff" * 6000, n])
            sums = expected.setdefault((_name(Mode, mode), _name(Coder, coder)), [0, 0, 0, 0])
            for position, more in enumerate((1, n, escapes, len(head) + 6000)):
                sums[position] += more
            exact_segments += exact
    (column,) = opened.stats("t")[0].columns
    assert {(c.mode, c.coder): [c.segments, c.rows, c.escapes, c.bytes] for c in column.codings} == expected
    assert (column.exact_segments, column.segments) == (exact_segments, len(columns))
    assert [c.rows for c in column.codings] == sorted((c.rows for c in column.codings), reverse=True)


def test_what_is_no_column_is_damaged(opened: Store) -> None:
    table = opened.create_table("t", time="t", columns={"x": Lossless(), "note": ("text", Lossless())})
    opened.write({"t": TIME, "x": np.arange(4000.0), "note": ["n"] * 4000}, table="t")
    opened.compact(train="never", segment_rows=1000)
    x = f"c{table.value('x').id}_residual"
    with opened.connection() as conn:
        for number, damage in enumerate([f"substr({x}, 1, 9)", "''", f"set_byte({x}, 0, 2)"]):
            conn.execute(f"UPDATE {table.segments} SET {x} = {damage} WHERE id = {number + 1}".encode())
    (stats,) = opened.stats("t")
    found = {column.column: column for column in stats.columns}
    (note,) = found["note"].codings
    assert (note.mode, note.coder, note.segments, note.share) == ("linear", "mix", 4, 1.0)
    assert [(c.mode, c.coder, c.rows) for c in found["x"].codings] == [("damaged", None, 3000), ("linear", "mix", 1000)]
    assert found["x"].note == "damaged segments: run ddstore verify"
    assert found["note"].note is None
    assert not opened.verify().ok


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
