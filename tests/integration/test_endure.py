"""A session's memory stays what it is, whatever statements it runs; benchmarks/endure.py runs many more of them."""

from __future__ import annotations

import pytest

import ddstore
from benchmarks.endure import endure, fill


@pytest.mark.usefixtures("needs_extension")
def test_memory_stays_flat_over_statements_of_all_kinds(database_url: str) -> None:
    with ddstore.connect(database_url) as store:
        fill(store)
        found = endure(store, 800)
    assert [memory.statements for memory in found] == list(range(80, 801, 80))
    assert found[9].used - found[4].used < 200_000
