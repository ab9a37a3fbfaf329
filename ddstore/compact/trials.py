"""The memory of training: for which series' columns a learned model was tried and did not pay, and when to try anew."""

from __future__ import annotations

from psycopg import sql as pgsql
from psycopg.types.json import Jsonb

from ddstore.bounds import Bound
from ddstore.compact.plan import SeriesPlan, cold_condition
from ddstore.db.catalog import ManagedColumn
from ddstore.db.pool import Connection, Database
from ddstore.db.queries import sql

__all__ = ["GROWTH", "Trials"]

#: A series is tried again when it has this many times the rows it had.
GROWTH = 4


class Trials:
    """``ddstore.model_trial``: remembered across runs, one row per series and column. Each call is a transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def too_soon(self, plan: SeriesPlan, column: ManagedColumn, bound: Bound) -> str | None:
        """Return why no model is to be tried yet, or None when one may be."""
        with self._database.connection() as conn:
            row = conn.execute(sql("compact_trial"), _named(plan, column, bound)).fetchone()
            if row is None or _rows(conn, plan) >= GROWTH * row[0]:
                return None
        return f"a learned model did not pay at {row[0]} rows and is tried again at {GROWTH * row[0]}"

    def record(
        self, plan: SeriesPlan, column: ManagedColumn, bound: Bound, note: str, bits_per_sample: float | None
    ) -> None:
        """Remember that a model did not pay for the series as long as it is now."""
        with self._database.connection() as conn:
            said = {"rows": _rows(conn, plan), "bits_per_sample": bits_per_sample, "note": note}
            conn.execute(sql("compact_trial_record"), _named(plan, column, bound) | said)


def _named(plan: SeriesPlan, column: ManagedColumn, bound: Bound) -> dict[str, object]:
    return {
        "table_id": plan.table.id,
        "column_id": column.id,
        "series": Jsonb(list(plan.key)),
        "bound_kind": bound.kind,
        "bound_value": bound.value,
    }


def _rows(conn: Connection, plan: SeriesPlan) -> int:
    """Rows of the series, hot and cold."""
    query = pgsql.SQL(sql("compact_cold_rows")).format(
        segments=plan.table.segments_identifier, series=cold_condition(plan.table, plan.key)
    )
    row = conn.execute(query).fetchone()
    return plan.rows + (0 if row is None else int(row[0]))
