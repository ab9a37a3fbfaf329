"""Whatever other sessions do while a compaction runs, the table shows what a table without compaction shows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ddstore.compact import verify, worker
from fix_compact import Twins

Action = tuple[str, int, int, str]

ACTIONS = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from(["insert", "update", "update note", "move", "delete", "vacuum", "rewrite", "nothing"]),
            st.integers(1, 400),
            st.integers(1, 120),
            st.sampled_from(["a", "b", "c"]),
        ),
        max_size=3,
    ),
    min_size=1,
    max_size=5,
)


def _run(twins: Twins, actions: list[Action]) -> None:
    for kind, first, count, device in actions:
        # Only hot rows can be changed, and the plain twin has all rows: name those that are hot now.
        hot = f"SELECT id FROM ONLY watched WHERE device = '{device}' AND id BETWEEN {first} AND {first + count}"
        ids = [row[0] for row in twins.conn.execute(hot)]  # type: ignore[call-overload]
        twins.conn.commit()
        where = f"WHERE id = ANY (ARRAY[{', '.join(map(str, ids))}]::float8[])"
        if kind == "insert":
            last = twins.number("SELECT coalesce(max(id), 0) FROM truth")
            twins.insert(first, first + count, device, shift=last)
        elif kind == "update":
            twins.both(f"UPDATE {{t}} SET value = value + {count} {where}")
        elif kind == "update note":
            twins.both(f"UPDATE {{t}} SET note = 'changed' {where}")
        elif kind == "move":
            twins.both(f"UPDATE {{t}} SET device = 'c' {where}")
        elif kind == "delete":
            twins.both(f"DELETE FROM {{t}} {where}")
        elif kind in ("vacuum", "rewrite"):
            twins.maintain("VACUUM {t}" if kind == "vacuum" else "VACUUM (FULL) {t}")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 300), st.sampled_from(["a", "b", "c"])), max_size=4), ACTIONS, st.booleans())
def test_nothing_is_lost_or_doubled(
    twins: Twins, fresh: list[tuple[int, str]], disturbances: list[list[Action]], together: bool
) -> None:
    twins.monkeypatch.setattr(worker, "GROUP_SERIES", 8 if together else 1)
    for count, device in fresh:
        _run(twins, [("insert", 1, count, device)])
    original = worker.commit_segments
    actions: list[Callable[[], object]] = [partial(_run, twins, list(part)) for part in disturbances]
    twins.between(*actions)
    try:
        twins.compact()
    finally:
        twins.monkeypatch.setattr(worker, "commit_segments", original)
    assert twins.differences() == []
    assert verify(twins.database).ok
