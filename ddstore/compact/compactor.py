"""One pass of the compactor: which tables, which of their series are due, and what became of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ddstore.compact.plan import SeriesPlan, plan_table
from ddstore.compact.policy import CompactOptions, CompactReport, Progress
from ddstore.compact.reap import Worker, reap
from ddstore.compact.vacuum import vacuum
from ddstore.compact.worker import Run
from ddstore.db.catalog import ManagedTable, list_tables, load_table, require_intact
from ddstore.db.manage import drop_orphans
from ddstore.db.pool import Database
from ddstore.db.relation import check_compactable, inspect
from ddstore.errors import CompactionConflict, NotPermitted, SchemaMismatch
from ddstore.following import follow_changes

__all__ = ["compact"]


def compact(
    database: Database,
    options: CompactOptions | None = None,
    *,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> CompactReport:
    """Move the hot rows that are due into segments, now, and say what was done.

    A series that cannot be compacted is reported (and backed off in ``ddstore.job``), and blocks no other. Any number
    of processes may call this at once.

    ``stop`` is asked between batches; once it says True the run ends with what is committed, and the rest stays hot.

    Raises:
        SchemaMismatch: ``options.table`` is not managed, or was altered so that its segments cannot follow, or its rows
            cannot be deleted without further consequences. Other tables that are so are reported.
        CompactionConflict: ``options.table`` has columns that were added, and is too busy to give its segments these.
        ConnectionFailed: the database went away; what was committed stays, the rest is hot as before.
        NotInstalled, NotPermitted: no catalog, or no right to the tables.
    """
    started = time.monotonic()
    options = options or CompactOptions()
    options = replace(options, now=options.moment)  # one cutoff for the whole run
    report = CompactReport()
    with database.connection() as conn:
        reap(conn)
    if options.table is None:
        report.notes += _clear_up(database)
    tables = _tables(database, options, report)
    plans: list[list[SeriesPlan]] = []
    for table in tables:
        with database.connection() as conn:
            plans.append(plan_table(conn, table, options))
    total = sum(plan.rows for table_plans in plans for plan in table_plans)
    with Worker(database) as worker, ThreadPoolExecutor(min(8, os.cpu_count() or 1), "ddstore-encode") as pool:
        run = Run(database, worker, options, report, pool, progress, stop, total)
        for table_plans in plans:
            run.table(table_plans)
    if run.left_alone:
        report.notes.append(
            f"{run.left_alone} series were left alone: another worker has them, or they wait after a failure "
            "(see ddstore.compaction; all=True does not wait)"
        )
    if options.vacuum:
        moved = {series.table for series in report.series if series.rows}
        for table in tables:
            if table.label in moved:
                report.merge_notes(vacuum(database, table))
    report.merge_notes(f"{s.table}: {note}" for s in report.series for note in s.notes if "no learned model" in note)
    report.seconds = time.monotonic() - started
    return report


def _clear_up(database: Database) -> list[str]:
    """Drop the segments of tables that were dropped."""
    try:
        with database.connection() as conn:
            return [f"{label} was dropped: its table is gone" for label in drop_orphans(conn)]
    except NotPermitted as error:
        return [f"segments of dropped tables were left: {error}"]


def _tables(database: Database, options: CompactOptions, report: CompactReport) -> list[ManagedTable]:
    if options.table is not None:
        with database.connection() as conn:
            found = load_table(conn, options.table)
        return [_ready(database, found)]
    with database.connection() as conn:
        every = list_tables(conn)
    tables = []
    for table in every:
        try:
            tables.append(_ready(database, table))
        except (SchemaMismatch, NotPermitted, CompactionConflict) as error:
            report.refused.append(str(error))
    return tables


def _ready(database: Database, table: ManagedTable) -> ManagedTable:
    """Follow what was done to the table since; SchemaMismatch where its rows cannot become cold any more."""
    with database.connection() as conn:
        require_intact(table)
        check_compactable(inspect(conn, table.identifier.as_string(conn)), table.lossy)
        return follow_changes(conn, table)
