"""One compactor at work on planned series: claim, read, train, encode, commit, one after the other."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace

import numpy as np
import psycopg
from psycopg import errors as pg_errors

from ddstore.bounds import Bound
from ddstore.codec.choice import Choice
from ddstore.compact.commit import LeaseLost, commit_segments
from ddstore.compact.encode import cut, encode_segment
from ddstore.compact.insert import EncodedSegment
from ddstore.compact.plan import SeriesPlan, group_plans, load_bounds
from ddstore.compact.policy import CompactOptions, CompactReport, Progress, SeriesReport
from ddstore.compact.reap import Worker, claim, fail, finish
from ddstore.compact.rows import HotRows, read_edges, read_rows, row_width
from ddstore.compact.settled import Settled, any_settled, forget_settled, hints_for, load_settled, stretches
from ddstore.compact.train import SeriesModel, SettledColumns, Trainer, least_rows, load_models
from ddstore.compact.trials import Trials
from ddstore.db.catalog import MAX_KEY_BYTES, SeriesKey
from ddstore.db.pool import Database
from ddstore.errors import CompactionConflict, ConnectionFailed, DDStoreError
from ddstore.profiles import Profile

__all__ = ["Run"]

#: Rows moved in one transaction, unless a single segment has more: keeps it short.
COMMIT_ROWS = 131_072
#: Small series that are read by one scan of the table.
GROUP_SERIES = 1024
#: Segments read at once, so that training sees more than one transaction's worth ...
READ_SEGMENTS = 64
#: ... as far as what is read, of a group as well, stays within this many bytes.
READ_BYTES = 64 << 20
#: Times in a row that rows may change under one batch before its series is given up for now.
MAX_CONFLICTS = 5

_CONFLICTS = (
    CompactionConflict,
    pg_errors.SerializationFailure,
    pg_errors.DeadlockDetected,
    pg_errors.LockNotAvailable,
)


class Run:
    """What the steps of one run share."""

    def __init__(
        self,
        database: Database,
        worker: Worker,
        options: CompactOptions,
        report: CompactReport,
        pool: Executor,
        progress: Progress | None,
        stop: Callable[[], bool] | None,
        total: int,
    ) -> None:
        self._database = database
        self._worker = worker
        self._options = options
        self._report = report
        self._pool = pool
        self._progress = progress
        self._stop = stop or (lambda: False)
        self._total = total
        self._done = 0
        self._trainer = Trainer(options, Trials(database))
        self.left_alone = 0
        self._jobs: dict[SeriesKey, int] = {}
        self._reports: dict[SeriesKey, SeriesReport] = {}
        self._settled: dict[SeriesKey, list[Settled]] = {}  # of the series read last

    def table(self, plans: Sequence[SeriesPlan]) -> None:
        """Compact the due series of one table: small ones in groups, large ones alone."""
        plans = self._indexable(plans)
        if not plans:
            return
        # What is large enough to train a model on is not lumped together with others.
        alone = min(least_rows(self._options.segment_rows_for(plans[0].table)), COMMIT_ROWS)
        most = READ_BYTES // row_width(plans[0].table)
        for group in group_plans(plans, max_rows=most, max_series=GROUP_SERIES, alone_rows=alone):
            if self._stop():
                return
            with self._database.connection() as conn:
                profile = self._options.profile_for(group[0].table)
                self._jobs = claim(conn, self._worker.name, group, profile=profile, force=self._options.all)
            taken = [plan for plan in group if plan.key in self._jobs]
            self.left_alone += len(group) - len(taken)
            self._reports = {p.key: SeriesReport(p.table.label, p.key, planned=p.rows) for p in taken}
            self._report.series.extend(self._reports.values())
            try:
                for plan in self._together(taken) if len(taken) > 1 else taken:
                    self._alone(plan)
            except BaseException as error:
                # The database is gone, or someone wants us to stop: give back what we hold, as far as that works.
                with contextlib.suppress(DDStoreError, psycopg.Error), self._database.connection() as conn:
                    for job in self._jobs.values():
                        fail(conn, self._worker.name, job, error=f"interrupted: {error!r}", notes=())
                raise
            # Rows that stay hot (too few, failed, another worker's) are dealt with, too.
            self._advance(group[-1].label, sum(p.rows for p in group) - sum(r.rows for r in self._reports.values()))

    def _indexable(self, plans: Sequence[SeriesPlan]) -> list[SeriesPlan]:
        """Leave out, and report, series whose key no index takes: neither the companion's nor that of the jobs."""
        taken: list[SeriesPlan] = []
        for plan in plans:
            length = sum(len(part.encode()) for part in plan.key if part is not None)
            if length <= MAX_KEY_BYTES:
                taken.append(plan)
                continue
            error = f"the key has {length} bytes, and {MAX_KEY_BYTES} is the most: its rows stay hot"
            self._report.series.append(SeriesReport(plan.table.label, plan.key, planned=plan.rows, error=error))
            self._advance(plan.table.label, plan.rows)
        return taken

    def _together(self, plans: list[SeriesPlan]) -> list[SeriesPlan]:
        """Move several small series, read at once, transaction by transaction; return those to be tried alone."""
        started = time.monotonic()
        try:
            read = self._read(plans, [plan.rows for plan in plans])
        except ConnectionFailed:
            raise
        except Exception:  # some series' trouble, raised again and recorded when it is tried alone
            return plans
        again: list[SeriesPlan] = []
        for part in group_plans(plans, max_rows=COMMIT_ROWS, max_series=len(plans), alone_rows=COMMIT_ROWS):
            failed = set() if self._stop() else self._move_group(plans, part, *read)
            self._finish([plan for plan in part if plan.key not in failed])
            again += [plan for plan in part if plan.key in failed]
        for plan in plans:
            self._reports[plan.key].seconds = (time.monotonic() - started) / len(plans)
        return again

    def _move_group(
        self,
        plans: list[SeriesPlan],
        part: list[SeriesPlan],
        rows: HotRows,
        bounds: Mapping[SeriesKey, Mapping[int, Bound]],
        models: Mapping[tuple[SeriesKey, int], SeriesModel],
    ) -> set[SeriesKey]:
        """Move the series ``part`` of ``plans`` in one transaction; return those that did not get through."""
        everyone = {plan.key for plan in part}
        first = np.searchsorted(rows.series, np.arange(len(plans) + 1))
        work: list[tuple[SeriesPlan, Future[EncodedSegment]]] = []
        try:
            for number, plan in enumerate(plans):
                if plan.key in everyone:
                    mine = rows.take(slice(first[number], first[number + 1]))
                    own = {c.id: models[plan.key, c.id] for c in plan.table.values if (plan.key, c.id) in models}
                    pieces = self._cut(plan, mine)
                    work += [(plan, future) for future in self._encode(plan, mine, pieces, bounds[plan.key], own, {})]
            failed = {plan.key for plan, future in work if future.exception() is not None}
            self._commit([future.result() for plan, future in work if plan.key not in failed])
        except ConnectionFailed:
            raise
        except _CONFLICTS:
            for plan in part:
                self._reports[plan.key].conflicts += 1
            return everyone
        except Exception:
            return everyone
        return failed

    def _alone(self, plan: SeriesPlan) -> None:
        """Move one series and record how that went."""
        started = time.monotonic()
        report = self._reports[plan.key]
        try:
            self._move(plan)
        except ConnectionFailed:
            raise
        except LeaseLost as error:
            report.note(str(error))
        except Exception as error:  # whatever it is, it concerns this series only: record it and go on
            report.error = str(error) or repr(error)
            with self._database.connection() as conn:
                fail(conn, self._worker.name, self._jobs[plan.key], error=report.error, notes=report.notes)
        else:
            self._finish([plan])
        report.seconds += time.monotonic() - started

    def _move(self, plan: SeriesPlan) -> None:
        """Move one series, batch after batch; raises when it does not get through."""
        segment_rows = self._options.segment_rows_for(plan.table)
        batch = min(READ_SEGMENTS, max(1, READ_BYTES // row_width(plan.table) // segment_rows)) * segment_rows
        edges: list[int] = []
        if plan.rows > batch:
            with self._database.connection() as conn:
                edges = read_edges(conn, plan, self._options, batch)
        done, conflicts = 0, 0
        since: int | None = None
        models: dict[int, SeriesModel] | None = None
        choices: dict[int, Choice] = {}
        while done < plan.rows and not self._stop():
            limit = min(batch, plan.rows - done)
            # At least this many rows came before that time when the edges were read. It saves a scan of all the rest.
            edge = -(-done // batch)
            until = edges[edge] if edge < len(edges) else None
            rows, bounds, stored = self._read([plan], [limit], since=since, until=until)
            if len(rows) < limit and until is not None:
                rows, bounds, stored = self._read([plan], [limit], since=since)
            if models is None:
                models = {column: model for (_, column), model in stored.items()}
            own = bounds[plan.key]
            models = self._train(plan, rows, own, models)
            pieces = self._cut(plan, rows)
            if not pieces:
                return  # what is left is too little for a segment
            for part in _transactions(pieces):
                segments = [future.result() for future in self._encode(plan, rows, part, own, models, choices)]
                choices = segments[-1].choices
                try:
                    models = models | self._commit(segments)
                except _CONFLICTS as error:
                    conflicts += 1
                    self._conflict(plan, conflicts, error)
                    break  # read again from here
                conflicts = 0
                done += part[-1].stop - part[0].start
                since = int(segments[-1].rows.time[-1])

    def _conflict(self, plan: SeriesPlan, conflicts: int, error: Exception) -> None:
        """Wait before the next attempt, or give up."""
        if isinstance(error, LeaseLost):
            raise error
        self._reports[plan.key].conflicts += 1
        if conflicts == MAX_CONFLICTS:
            raise CompactionConflict(
                f"rows changed under compaction {conflicts} times in a row, last: {error}",
                series=plan.label,
                remedy="They stay hot and the next run tries again. Let hot_for outlast the time of updates.",
            ) from error
        time.sleep(random.uniform(0.5, 1.0) * 0.05 * 2**conflicts)

    def _read(
        self, plans: list[SeriesPlan], limits: list[int], *, since: int | None = None, until: int | None = None
    ) -> tuple[HotRows, dict[SeriesKey, dict[int, Bound]], dict[tuple[SeriesKey, int], SeriesModel]]:
        with self._database.connection() as conn:
            rows = read_rows(conn, list(zip(plans, limits, strict=True)), self._options, since=since, until=until)
            # After the rows: a bound that was tightened before a row was written is seen with that row.
            bounds = load_bounds(conn, plans)
            self._settled = load_settled(conn, plans)
            # The fast profile's decode budget has no room for a model.
            fast = self._options.profile_for(plans[0].table) is Profile.FAST
            return rows, bounds, {} if fast else load_models(conn, plans)

    def _train(
        self, plan: SeriesPlan, rows: HotRows, bounds: Mapping[int, Bound], models: dict[int, SeriesModel]
    ) -> dict[int, SeriesModel]:
        chosen: dict[int, SeriesModel] = {}
        before = SettledColumns(self._options.profile_for(plan.table))
        for column, values, valid in zip(plan.table.values, rows.values, rows.valid, strict=True):
            if column.coded_as is None:
                continue
            bound, report = bounds.get(column.id, column.bound), self._reports[plan.key]
            model = models.get(column.id)
            if column.native:
                model = self._trainer.model_for(plan, column, bound, values, valid, model, before, report)
            if model is not None:
                chosen[column.id] = model
            before.add(values, valid, column.coded_as, bound, model)
        return chosen

    def _cut(self, plan: SeriesPlan, rows: HotRows) -> list[slice]:
        options, table = self._options, plan.table
        size, least = options.segment_rows_for(table), options.min_rows_for(table)
        partial, pieces = options.partial or options.all, []
        for part in stretches(rows.time, self._settled.get(plan.key, ()), least):
            # But for the last rows none may be left out: the next read begins after those that are in.
            last, count = part.stop == len(rows), part.stop - part.start
            found = cut(count, size, least if last else 1, partial=partial or not last)
            pieces += [slice(part.start + piece.start, part.start + piece.stop) for piece in found]
        return pieces

    def _encode(
        self,
        plan: SeriesPlan,
        rows: HotRows,
        pieces: Sequence[slice],
        bounds: Mapping[int, Bound],
        models: Mapping[int, SeriesModel],
        before: Mapping[int, Choice],
    ) -> list[Future[EncodedSegment]]:
        job, profile = self._jobs[plan.key], self._options.profile_for(plan.table)
        futures = []
        for piece in pieces:
            part = rows.take(piece)
            ranges = self._settled.get(plan.key, ())
            settled, hints = any_settled(part.time, ranges), hints_for(part.time, ranges)
            arguments = plan, job, part, bounds, models, profile, settled, before, hints
            futures.append(self._pool.submit(encode_segment, *arguments))
        return futures

    def _commit(self, segments: list[EncodedSegment]) -> dict[int, SeriesModel]:
        """Commit segments of one table; return the models that were stored with them, by column."""
        if not segments:
            return {}
        # No heartbeat meanwhile: it would change the jobs under the transaction's snapshot.
        with self._worker.quiet, self._database.connection() as conn:
            stored = commit_segments(conn, self._worker.name, segments)
        for segment in segments:
            self._reports[segment.plan.key].add(segment)
        for model in stored:
            report = self._reports[model.key]
            report.models += 1
            report.model_bytes += len(model.data)
        self._advance(segments[-1].plan.label, sum(len(s.rows) for s in segments))
        return {model.column_id: replace(model, id=number) for model, number in stored.items()}

    def _finish(self, plans: Sequence[SeriesPlan]) -> None:
        jobs = {self._jobs[plan.key]: self._reports[plan.key].notes for plan in plans}
        with self._database.connection() as conn:
            for plan in plans:
                forget_settled(conn, plan, self._settled.get(plan.key, ()))
            finish(conn, self._worker.name, jobs)

    def _advance(self, label: str, rows: int) -> None:
        self._done += rows
        if self._progress is not None:
            self._progress(label, min(self._done, self._total), self._total)


def _transactions(pieces: Sequence[slice]) -> Iterator[list[slice]]:
    """Group neighbouring segments into transactions of at most COMMIT_ROWS rows, or of one segment."""
    part: list[slice] = []
    for piece in pieces:
        if part and piece.stop - part[0].start > COMMIT_ROWS:
            yield part
            part = []
        part.append(piece)
    if part:
        yield part
