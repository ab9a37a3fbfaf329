"""``verify`` names every damaged segment and column, and goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from psycopg import errors as pg_errors
from psycopg.sql import SQL

from ddstore.compact import verify
from ddstore.compact.verify import _Verifier
from ddstore.errors import CorruptSegment, SchemaMismatch
from fix_compact import Twins

FLIP = "SET {c} = set_byte({c}, octet_length({c}) / 2, get_byte({c}, octet_length({c}) / 2) # 64)"


def _damage(twins: Twins, number: int, change: str) -> None:
    statement = SQL("UPDATE {} " + change + " WHERE id = {}")  # type: ignore[operator]
    twins.conn.execute(statement.format(twins.table.segments_identifier, number))
    twins.conn.commit()


@pytest.mark.parametrize(
    ("change", "column", "what"),
    [
        (FLIP.replace("{c}", "time"), "time", ""),
        (FLIP.replace("{c}", "c4_residual"), "value", ""),
        ("SET c4_residual = substr(c4_residual, 1, octet_length(c4_residual) - 1)", "value", ""),
        ("SET c4_residual = ''", "value", ""),
        ("SET c4_count = c4_count + 1", "value", "count is"),
        ("SET c4_min = c4_min - 1", "value", "min is"),
        ("SET c4_max = NULL", "value", "max is"),
        ("SET c4_sum = c4_sum + 1", "value", "sum is"),
        ("SET c5_count = 0", "note", "count is"),
        ("SET c5_array = c5_array[2:]", "note", "it holds 39 values for 40 positions"),
        ("SET c5_array = c5_array || c5_array[1]", "note", "it holds 41 values for 40 positions"),
        ("SET c5_array[1] = NULL", "note", "a distinct value is NULL"),
        ("SET c5_array = array_fill('x'::text, ARRAY[20, 2])", "note", "it holds 20 values for 40 positions"),
        ("SET c5_residual = NULL", "note", "it holds 40 values for 64 rows"),
        ("SET c5_residual = c4_residual", "note", ""),
        (FLIP.replace("{c}", "c5_residual"), "note", ""),
        ("SET t_min = t_min - interval '1 us'", "time", "first or last time"),
        ("SET t_max = 'infinity'", "time", "first or last time"),
    ],
)
def test_each_kind_of_damage_is_named(twins: Twins, change: str, column: str, what: str) -> None:
    twins.insert(1, 640)
    twins.compact()
    assert verify(twins.database, "watched").ok
    _damage(twins, 4, change)
    report = verify(twins.database)
    (damaged,) = report.damaged
    assert (damaged.table, damaged.id, damaged.series, damaged.column) == ("public.watched", 4, ("a",), column)
    assert what in damaged.what
    assert str(damaged).startswith("public.watched[a], segment 4")
    assert (report.segments, report.rows) == (10, 640)


def test_all_damage_is_found(twins: Twins) -> None:
    twins.insert(1, 64 * 150)
    twins.compact()
    for number in (1, 64, 65, 150):
        _damage(twins, number, FLIP.replace("{c}", "c4_residual"))
    _damage(twins, 70, "SET n = n + 1")
    calls: list[tuple[str, int, int]] = []
    report = verify(twins.database, progress=lambda *call: calls.append(call))
    assert sorted({damaged.id for damaged in report.damaged}) == [1, 64, 65, 70, 150]
    assert {damaged.column for damaged in report.damaged if damaged.id == 70} == {"time", "id", "value", "note"}
    assert not report.ok
    assert report.to_dict()["damaged"][0]["id"] == 1
    assert calls[-1][1] == 150


@pytest.mark.parametrize("error", [CorruptSegment("invalid page"), pg_errors.InternalError("missing chunk number 0")])
def test_a_row_that_postgresql_cannot_read(twins: Twins, error: Exception) -> None:
    """Named like the others, and the others are verified all the same."""
    twins.insert(1, 64 * 3)
    twins.compact()
    fetch = _Verifier._fetch

    def fails(self: _Verifier, ids: Sequence[int]) -> list[dict[str, Any]]:
        if 2 in ids:
            raise error
        return fetch(self, ids)

    twins.monkeypatch.setattr(_Verifier, "_fetch", fails)
    report = verify(twins.database)
    assert [damaged.id for damaged in report.damaged] == [2]
    assert "PostgreSQL cannot read it" in report.damaged[0].what
    assert (report.segments, report.rows) == (3, 128)


def test_an_unknown_table(twins: Twins) -> None:
    with pytest.raises(SchemaMismatch):
        verify(twins.database, "nowhere")
