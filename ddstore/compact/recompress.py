"""Segments written anew: with the profile, the bounds and the length of today, and small ones joined."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from psycopg import errors as pg_errors
from psycopg import sql as pgsql

from ddstore.bounds import Bound
from ddstore.compact.cold import OldSegment, list_series, payload_bytes, read_segments
from ddstore.compact.commit import insert_segments
from ddstore.compact.encode import cut, recode_segment
from ddstore.compact.insert import EncodedSegment
from ddstore.compact.plan import SeriesPlan, load_bounds
from ddstore.compact.policy import CompactOptions, Progress
from ddstore.compact.rows import row_width
from ddstore.compact.train import load_models
from ddstore.compact.vacuum import vacuum_segments
from ddstore.db.catalog import ManagedTable, load_table, require_intact
from ddstore.db.pool import Connection, Database
from ddstore.db.queries import sql
from ddstore.errors import CompactionConflict, ConnectionFailed, CorruptSegment
from ddstore.following import follow_changes
from ddstore.profiles import Profile
from ddstore.reading import select_rows

__all__ = ["RecompressReport", "recompress"]

#: Rows replaced in one transaction, unless a single segment has more: keeps it short.
WINDOW_ROWS = 131_072
#: ... as far as they stay within this many bytes while they are worked on.
WINDOW_BYTES = 64 << 20
#: What a segment takes in its table beside its columns, indexes included.
ROW_BYTES = 200
#: How many times as large segments may get that are to be shorter, or quicker to decode.
PRICE = 1.5


@dataclass(slots=True)
class RecompressReport:
    """What a recompression did: ``replaced`` segments of ``bytes_before`` are ``segments`` of ``bytes_after`` now.

    Attributes:
        rows: rows in them.
        kept: segments that were looked at and left as they are: they are as today's would be, or smaller.
        conflicts: windows that somebody else changed meanwhile; they are as they were.
        failed: what could not be read or coded, in words; it is as it was.
    """

    table: str
    rows: int = 0
    replaced: int = 0
    segments: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    kept: int = 0
    conflicts: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__} | {"seconds": round(self.seconds, 6)}


def recompress(
    database: Database,
    table: str | int,
    *,
    key: Any = None,
    start: Any = None,
    end: Any = None,
    profile: Profile | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> RecompressReport:
    """Write the segments of a range anew, as the table's policy and bounds are today; what is like that stays.

    Values are within today's bound of those that were first written wherever that is possible: a bound that became at
    least twice as wide is used up, with any other, values are kept exactly as they are read back. Where these lie on no
    grid that may take more room than before, and then segments stay as they are: nothing gets larger, but by half where
    segments are to be shorter or quicker to decode. Nothing is trained; models that there are are used.

    A window of a series is decoded, coded, checked value by value, and replaced in one short transaction, which fails
    if any of its segments has changed. Readers see one or the other. Any number of processes may do this, and compact,
    at the same time.

    Args:
        key, start, end: as :meth:`ddstore.Store.read` takes them; segments that reach into the range count as a whole.
        profile: instead of the table's.
        progress: called after every window.
        stop: asked between windows; once it says True the rest stays as it is.

    Raises:
        SchemaMismatch: ``table`` is not managed, or was altered so that its segments cannot follow; or no such key.
        ConnectionFailed, NotInstalled, NotPermitted: no database, no catalog, no right to the segments.
    """
    started = time.monotonic()
    with database.connection() as conn:
        managed = load_table(conn, table)
        require_intact(managed)
        managed = follow_changes(conn, managed)
        series = list(list_series(conn, managed, select_rows(managed, key, start, end)))
    options = CompactOptions(table=managed.id, profile=profile)
    report = RecompressReport(managed.label)
    total = sum(plan.rows for plan, _ in series)
    done = 0
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1), "ddstore-recompress") as pool:
        for plan, segments in series:
            run = _Series(database, plan, options, report, pool)
            for window in run.windows(segments):
                if stop is not None and stop():
                    break
                run.replace(window)
                if progress is not None:
                    progress(plan.label, done + run.looked_at, total)
            done += plan.rows
    report.kept = sum(len(segments) for _, segments in series) - report.replaced
    if report.replaced:
        report.notes += vacuum_segments(database, managed)
    report.seconds = time.monotonic() - started
    return report


class _Series:
    """The segments of one series."""

    def __init__(
        self,
        database: Database,
        plan: SeriesPlan,
        options: CompactOptions,
        report: RecompressReport,
        pool: ThreadPoolExecutor,
    ) -> None:
        self._database = database
        self._plan = plan
        self._profile = options.profile_for(plan.table)
        self._segment_rows = options.segment_rows_for(plan.table)
        self._report = report
        self._pool = pool
        self._bounds: Mapping[int, Bound] = {}
        self.looked_at = 0  # rows of the segments so far

    def windows(self, segments: Sequence[OldSegment]) -> Iterator[list[OldSegment]]:
        """Neighbouring segments of which something is to be made: those not of today, and small ones to be joined."""
        with self._database.connection() as conn:
            self._bounds = load_bounds(conn, [self._plan])[self._plan.key]
        most = max(min(WINDOW_ROWS, WINDOW_BYTES // row_width(self._plan.table)), self._segment_rows)
        window: list[OldSegment] = []
        rows = 0
        for segment in segments:
            wanted = segment.n != self._segment_rows or not self._current(segment)
            if window and (not wanted or rows + segment.n > most):
                if self._worthwhile(window, rows):
                    yield window
                window, rows = [], 0
            if wanted:
                window.append(segment)
                rows += segment.n
            self.looked_at += segment.n
        if window and self._worthwhile(window, rows):
            yield window

    def _current(self, segment: OldSegment) -> bool:
        if segment.written is None or segment.n > self._segment_rows:
            return False
        return segment.written.fits(self._plan.table, self._bounds, self._profile)

    def _worthwhile(self, window: Sequence[OldSegment], rows: int) -> bool:
        return len(window) > -(-rows // self._segment_rows) or not all(map(self._current, window))

    def replace(self, window: Sequence[OldSegment]) -> None:
        """Code one window anew, and put it in the place of the old segments; report whatever comes in between."""
        try:
            segments = self._encode(window)
            if not self._pays(window, segments):
                return
            with self._database.connection() as conn:
                size = _commit(conn, self._plan.table, window, segments)
        except ConnectionFailed:
            raise
        except CompactionConflict:
            self._report.conflicts += 1
            return
        except Exception as error:  # whatever it is, it concerns this window only: report it and go on
            self._report.failed.append(f"{self._plan.label}: {error or repr(error)}")
            return
        report = self._report
        report.rows += sum(len(segment.rows) for segment in segments)
        report.replaced += len(window)
        report.segments += len(segments)
        report.bytes_before += sum(segment.bytes for segment in window)
        report.bytes_after += size

    def _encode(self, window: Sequence[OldSegment]) -> list[EncodedSegment]:
        with self._database.connection() as conn:
            rows = read_segments(conn, self._plan, window)
            found = {} if self._profile is Profile.FAST else load_models(conn, [self._plan])
        models = {column: model for (_, column), model in found.items()}
        futures = [
            self._pool.submit(recode_segment, self._plan, rows.take(piece), window, self._bounds, models, self._profile)
            for piece in cut(len(rows), self._segment_rows, 1, partial=True)
        ]
        return [future.result() for future in futures]

    def _pays(self, window: Sequence[OldSegment], segments: Sequence[EncodedSegment]) -> bool:
        """Whether the new segments are smaller; or not much larger, where that is the price of what is asked for."""
        before = sum(old.bytes + ROW_BYTES for old in window)
        after = sum(sum(map(len, segment.payload)) + ROW_BYTES for segment in segments)
        asked = any(
            old.n > self._segment_rows or (old.written is not None and self._quicker(old.written.profile))
            for old in window
        )
        return after < before * (PRICE if asked else 1)

    def _quicker(self, profile: Profile) -> bool:
        order = list(Profile)
        return order.index(self._profile) < order.index(profile)


def _commit(
    conn: Connection, table: ManagedTable, window: Sequence[OldSegment], segments: Sequence[EncodedSegment]
) -> int:
    """Put ``segments`` in the place of a window's, in one transaction; return their bytes.

    Why nothing can be lost or doubled: REPEATABLE READ makes the DELETE raise when anyone replaced or changed one of
    the old segments since the transaction began; and before that its xmin has changed, which is compared with what was
    listed.

    Raises:
        CompactionConflict: a segment, or the table, has changed since it was listed.
        CorruptSegment: the server holds other bytes than were sent.
    """
    ids = [segment.id for segment in window]
    try:
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        # LOCK comes before the first query, so that the snapshot is not older than the lock.
        conn.execute("SET LOCAL lock_timeout = '10s'")
        conn.execute(pgsql.SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE").format(table.segments_identifier))
        if load_table(conn, table.id) != table:
            raise CompactionConflict("the table was altered while it was being recompressed", series=table.label)
        made = insert_segments(conn, table, segments, {}, cold=True)
        delete = pgsql.SQL(sql("recompress_delete")).format(segments=table.segments_identifier)
        deleted = conn.execute(delete, {"ids": ids}).fetchall()
    except (pg_errors.SerializationFailure, pg_errors.DeadlockDetected, pg_errors.LockNotAvailable) as error:
        raise CompactionConflict(f"segments changed: {error.diag.message_primary}", series=table.label) from error
    except (pg_errors.UndefinedTable, pg_errors.ForeignKeyViolation) as error:  # released; or a model is gone
        raise CompactionConflict(f"the table changed: {error.diag.message_primary}", series=table.label) from error
    if sorted(deleted) != sorted((segment.id, segment.version, segment.n) for segment in window):
        raise CompactionConflict("segments have changed that were read", series=table.label)
    if sum(len(segment.rows) for segment in segments) != sum(segment.n for segment in window):
        raise CorruptSegment("the new segments have another number of rows", series=table.label)
    return payload_bytes(conn, table, made)
