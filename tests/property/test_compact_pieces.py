"""Compaction's pure parts: cutting, grouping, and comparing rows."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ddstore.bounds import Lossless
from ddstore.codec.segment import decode_column
from ddstore.compact.distinct import find_distinct
from ddstore.compact.encode import cut
from ddstore.compact.insert import _int4_array
from ddstore.compact.plan import SeriesPlan, group_plans
from ddstore.compact.rows import HotRows
from ddstore.db.catalog import ManagedColumn, ManagedTable
from ddstore.profiles import Profile

TABLE = ManagedTable(
    id=1,
    oid=1,
    schema="public",
    name="t",
    segments="ddstore.segment_1",
    cold=None,
    profile=Profile.BALANCED,
    segment_rows=64,
    min_rows=8,
    hot_for=timedelta(0),
    time=ManagedColumn(1, "time", "int8", "time", Lossless()),
    keys=(ManagedColumn(2, "k", "text", "key", Lossless()),),
    values=(ManagedColumn(3, "v", "float8", "value", Lossless()),),
)


@given(st.integers(0, 5000), st.integers(16, 600), st.integers(1, 700), st.booleans())
def test_cut_leaves_out_only_a_rest_that_may_stay(count: int, segment_rows: int, min_rows: int, partial: bool) -> None:
    pieces = list(cut(count, segment_rows, min_rows, partial=partial))
    assert [piece.start for piece in pieces] == [0, *(piece.stop for piece in pieces)][: len(pieces)]
    covered = pieces[-1].stop if pieces else 0
    assert all(piece.stop - piece.start == segment_rows for piece in pieces[:-1])
    rest = count - covered
    assert 0 <= rest < segment_rows
    assert rest == 0 or not partial or rest < min_rows


@given(st.lists(st.integers(1, 300)), st.integers(1, 400), st.integers(1, 9), st.integers(1, 400))
def test_groups_hold_every_series_once_within_limits(
    rows: list[int], max_rows: int, max_series: int, alone_rows: int
) -> None:
    plans = [SeriesPlan(TABLE, (str(number),), count) for number, count in enumerate(rows)]
    groups = list(group_plans(plans, max_rows=max_rows, max_series=max_series, alone_rows=alone_rows))
    assert sorted((plan for group in groups for plan in group), key=lambda plan: int(plan.key[0] or "")) == plans
    for group in groups:
        assert 1 <= len(group) <= max_series
        assert len(group) == 1 or sum(plan.rows for plan in group) <= max_rows
        assert len(group) == 1 or max(plan.rows for plan in group) < alone_rows


def _rows(seed: int, count: int) -> HotRows:
    rng = np.random.default_rng(seed)
    return HotRows(
        filenode=1,
        series=np.zeros(count, np.int32),
        place=rng.choice(2**40, count, replace=False).astype(np.int64),
        xmin=rng.integers(-9, 9, count, dtype=np.int32),
        time=rng.integers(-9, 9, count),
        values=(rng.choice([0.0, -0.0, np.nan, 1.0], count),),
        valid=(rng.random(count) < 0.8,),
    )


@given(st.integers(0, 99), st.integers(1, 50), st.data())
def test_one_changed_bit_is_another_row(seed: int, count: int, data: st.DataObject) -> None:
    rows = _rows(seed, count)
    order = np.random.default_rng(seed + 1).permutation(count)
    assert rows.same_rows(rows.take(order))
    assert HotRows.join([rows.take(slice(0, count // 2)), rows.take(slice(count // 2, count))]).same_rows(rows)
    changed = rows.take(order)
    arrays = [changed.place, changed.xmin, changed.time, *changed.values, *changed.valid]
    raw = data.draw(st.sampled_from(arrays)).view(np.uint8)
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= np.uint8(1) if len(raw) == count else np.uint8(1 << data.draw(st.integers(0, 7)))
    assert not rows.same_rows(changed)
    assert not rows.same_rows(rows.take(slice(1, None)))


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1)), min_size=1, max_size=20))
def test_tids_are_postgresqls_own(places: list[tuple[int, int]]) -> None:
    rows = _rows(0, len(places))
    rows.place[:] = [block << 16 | offset for block, offset in places]
    data = rows.tids()
    assert data[:20] == b"".join(n.to_bytes(4, "big") for n in (1, 0, 27, len(places), 1))
    for number, (block, offset) in enumerate(places):
        element = data[20 + 10 * number : 30 + 10 * number]
        assert element == (6).to_bytes(4, "big") + block.to_bytes(4, "big") + offset.to_bytes(2, "big")
    assert len(data) == 20 + 10 * len(places)


@given(st.lists(st.none() | st.integers(0, 5) | st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=200))
def test_positions_give_back_what_they_stand_for(hashes: list[int | None]) -> None:
    valid = np.array([value is not None for value in hashes])
    found = find_distinct(np.array([value or 0 for value in hashes]), valid, Profile.BALANCED)
    there = [value for value in hashes if value is not None]
    if found is None:
        assert 8 * (len(there) - len(set(there))) < len(there)
        return
    entries = [hashes[row] for row in found.first]
    assert entries == list(dict.fromkeys(there))
    assert [None if at == 0 else entries[at - 1] for at in found.positions] == hashes
    read, present = decode_column(found.residual, None, None, "int4", len(hashes))
    assert np.array_equal(np.ones(len(hashes), np.bool_) if present is None else present, valid)
    assert np.array_equal(read[valid] + 1, found.positions[valid])


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=20))
def test_positions_are_sent_as_postgresql_wants_them(positions: list[int]) -> None:
    data = _int4_array(np.array(positions, np.int32))
    assert data[:20] == b"".join(n.to_bytes(4, "big") for n in (1, 0, 23, len(positions), 1))
    assert data[20:] == b"".join((4).to_bytes(4, "big") + n.to_bytes(4, "big") for n in positions)
