"""Hot rows that were in segments before: they are compacted without loss, or their errors would add up.

An UPDATE or DELETE that reaches compacted rows takes their segments apart, and says in ``ddstore.settled`` of which
times of which series that was. Whatever is hot there counts as read back already: late rows, too, which costs a few
bytes and is never wrong. What is said of times without hot rows is forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from psycopg import sql as pgsql
from psycopg.types.json import Jsonb

from ddstore.compact.plan import SeriesPlan, hot_column, series_condition
from ddstore.compact.rows import time_literal
from ddstore.db.catalog import SeriesKey
from ddstore.db.pool import Connection
from ddstore.db.queries import sql

__all__ = ["TimeRange", "any_settled", "forget_settled", "load_settled"]

#: First and last time, as PostgreSQL stores them.
TimeRange = tuple[int, int]

_EPOCH = 946_684_800_000_000  # microseconds from 1970, where the catalog counts from, to 2000, where PostgreSQL does
_FINITE = 1 << 62


def load_settled(conn: Connection, plans: Sequence[SeriesPlan]) -> dict[SeriesKey, list[TimeRange]]:
    """Return the settled times of these series (of one table); none for most.

    Ask after the rows were read: what took them out of a segment was committed with them.
    """
    found: dict[SeriesKey, list[TimeRange]] = {plan.key: [] for plan in plans}
    parameters = {"table_id": plans[0].table.id, "series": Jsonb([list(key) for key in found])}
    shift = 0 if plans[0].table.time.type == "int8" else _EPOCH
    for key, first, last in conn.execute(sql("compact_settled"), parameters):
        found[tuple(key)].append((_stored(first, shift), _stored(last, shift)))
    return found


def any_settled(times: NDArray[np.int64], ranges: Sequence[TimeRange]) -> bool:
    """Whether one of ``times``, which ascend, is in one of ``ranges``."""
    if not ranges:
        return False
    first, last = np.array(ranges, dtype=np.int64).T
    return bool((np.searchsorted(times, first, "left") < np.searchsorted(times, last, "right")).any())


def forget_settled(conn: Connection, plan: SeriesPlan, ranges: Sequence[TimeRange]) -> None:
    """Forget those of a series' settled times that no hot row is left of. The caller commits."""
    shift = 0 if plan.table.time.type == "int8" else _EPOCH
    for first, last in ranges:
        query = pgsql.SQL(sql("compact_unsettle")).format(
            table=plan.table.identifier,
            series=series_condition(plan.table, plan.key),
            time=hot_column(plan.table.time),
            first=time_literal(plan.table.time, first),
            last=time_literal(plan.table.time, last),
            table_id=pgsql.Literal(plan.table.id),
            series_key=pgsql.Literal(Jsonb(list(plan.key))),
            t_min=pgsql.Literal(_told(first, shift)),
            t_max=pgsql.Literal(_told(last, shift)),
        )
        conn.execute(query)


def _stored(instant: int, shift: int) -> int:
    return instant - shift if abs(instant) < _FINITE else instant  # infinity stays what it is


def _told(time: int, shift: int) -> int:
    return time + shift if abs(time) < _FINITE else time
