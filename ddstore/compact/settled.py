"""Hot rows that were in segments before: they are compacted without loss, or their errors would add up.

An UPDATE or DELETE that reaches compacted rows takes their segments apart, and says in ``ddstore.settled`` of which
times of which series that was. Whatever is hot there counts as read back already: late rows, too, which costs a few
bytes and is never wrong. What is said of times without hot rows is forgotten.

It says, too, how the values were coded: on the lattice of their segment, which holds nothing of the next segment's. So
these rows get segments of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from psycopg import sql as pgsql
from psycopg.types.json import Jsonb

from ddstore.codec.hint import Hint
from ddstore.compact.plan import SeriesPlan, hot_column, series_condition
from ddstore.compact.rows import time_literal
from ddstore.db.catalog import SeriesKey
from ddstore.db.pool import Connection
from ddstore.db.queries import sql

__all__ = ["Settled", "any_settled", "forget_settled", "hints_for", "load_settled", "stretches"]


@dataclass(frozen=True, slots=True)
class Settled:
    """First and last time, as PostgreSQL stores them, and by column id how the values were coded."""

    first: int
    last: int
    hints: Mapping[int, Hint] = field(default_factory=dict)


_EPOCH = 946_684_800_000_000  # microseconds from 1970, where the catalog counts from, to 2000, where PostgreSQL does
_FINITE = 1 << 62


def load_settled(conn: Connection, plans: Sequence[SeriesPlan]) -> dict[SeriesKey, list[Settled]]:
    """Return the settled times of these series (of one table); none for most.

    Ask after the rows were read: what took them out of a segment was committed with them.
    """
    found: dict[SeriesKey, list[Settled]] = {plan.key: [] for plan in plans}
    table = plans[0].table
    parameters = {"table_id": table.id, "series": Jsonb([list(key) for key in found])}
    shift = 0 if table.time.type == "int8" else _EPOCH
    types = {str(column.id): column.type for column in table.values if column.native}
    for key, first, last, heads in conn.execute(sql("compact_settled"), parameters):
        hints = {
            int(column): hint
            for column, head in (heads or {}).items()
            if column in types and head and (hint := Hint.read(bytes.fromhex(head), types[column])) is not None
        }
        found[tuple(key)].append(Settled(_stored(first, shift), _stored(last, shift), hints))
    return found


def any_settled(times: NDArray[np.int64], settled: Sequence[Settled]) -> bool:
    """Whether one of ``times``, which ascend, is settled."""
    return any(start < stop for start, stop in _places(times, settled))


def hints_for(times: NDArray[np.int64], settled: Sequence[Settled]) -> dict[int, list[Hint]]:
    """By column id, how values at some of ``times``, which ascend, were coded."""
    found: dict[int, list[Hint]] = {}
    for (start, stop), part in zip(_places(times, settled), settled, strict=True):
        for column, hint in part.hints.items() if start < stop else ():
            found.setdefault(column, []).append(hint)
    return found


def stretches(times: NDArray[np.int64], settled: Sequence[Settled], least: int) -> list[slice]:
    """All rows, cut where what is known of their coding changes; into stretches of ``least`` rows or more."""
    edges = {
        edge for places, part in zip(_places(times, settled), settled, strict=True) if part.hints for edge in places
    }
    cuts = [0]
    for edge in sorted(edges):
        if edge - cuts[-1] >= least and len(times) - edge >= least:
            cuts.append(edge)
    return [slice(start, stop) for start, stop in pairwise([*cuts, len(times)])]


def _places(times: NDArray[np.int64], settled: Sequence[Settled]) -> list[tuple[int, int]]:
    if not settled:
        return []
    first, last = np.array([(part.first, part.last) for part in settled], dtype=np.int64).T
    starts, stops = np.searchsorted(times, first, "left"), np.searchsorted(times, last, "right")
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def forget_settled(conn: Connection, plan: SeriesPlan, settled: Sequence[Settled]) -> None:
    """Forget those of a series' settled times that no hot row is left of. The caller commits."""
    shift = 0 if plan.table.time.type == "int8" else _EPOCH
    for part in settled:
        query = pgsql.SQL(sql("compact_unsettle")).format(
            table=plan.table.identifier,
            series=series_condition(plan.table, plan.key),
            time=hot_column(plan.table.time),
            first=time_literal(plan.table.time, part.first),
            last=time_literal(plan.table.time, part.last),
            table_id=pgsql.Literal(plan.table.id),
            series_key=pgsql.Literal(Jsonb(list(plan.key))),
            t_min=pgsql.Literal(_told(part.first, shift)),
            t_max=pgsql.Literal(_told(part.last, shift)),
        )
        conn.execute(query)


def _stored(instant: int, shift: int) -> int:
    return instant - shift if abs(instant) < _FINITE else instant  # infinity stays what it is


def _told(time: int, shift: int) -> int:
    return time + shift if abs(time) < _FINITE else time
