"""Who works on which series: claims, signs of life, and taking back what a vanished worker held.

``ddstore.job`` has one row per series. A claim is a lease: its holder renews it with a heartbeat, and every
transaction that moves rows checks that it still holds it. Two workers therefore never collide, and if a lease is
lost all the same, the guarded delete of :mod:`ddstore.compact.commit` keeps the rows safe.
"""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import TracebackType

import psycopg
from psycopg.types.json import Jsonb

from ddstore.compact.plan import SeriesPlan
from ddstore.db.catalog import SeriesKey
from ddstore.db.pool import Connection, Database
from ddstore.db.queries import sql
from ddstore.errors import DDStoreError
from ddstore.profiles import Profile

__all__ = ["HEARTBEAT", "STALE_AFTER", "Worker", "claim", "fail", "finish", "reap"]

HEARTBEAT = timedelta(seconds=15)
#: A worker silent for this long is taken for dead.
STALE_AFTER = timedelta(minutes=5)


class Worker:
    """One compactor's identity and its pulse: inside the ``with`` block a thread keeps its leases alive.

    Attributes:
        name: what ``ddstore.job.worker`` says.
        quiet: held by whoever must not be disturbed by a heartbeat (a REPEATABLE READ transaction on the job).
    """

    def __init__(self, database: Database) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.quiet = threading.Lock()
        self._database = database
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="ddstore-heartbeat", daemon=True)

    def __enter__(self) -> Worker:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT.total_seconds()):
            try:
                with self.quiet, self._database.connection() as conn:
                    conn.execute(sql("compact_heartbeat"), {"worker": self.name})
            except (DDStoreError, psycopg.Error):
                continue  # the worker itself meets the same trouble and reports it; here the next beat tries again


def claim(
    conn: Connection, worker: str, plans: Sequence[SeriesPlan], *, profile: Profile, force: bool
) -> dict[SeriesKey, int]:
    """Take those of ``plans`` (of one table) that are free, to write segments of ``profile``; return each one's job.

    ``force`` takes failed series before their waiting time is over. The caller commits, at once.
    """
    rows = conn.execute(
        sql("compact_claim"),
        {
            "table_id": plans[0].table.id,
            "series": Jsonb([list(plan.key) for plan in plans]),
            "profile": profile,
            "worker": worker,
            "force": force,
        },
    ).fetchall()
    return {tuple(key): job for job, key in rows}


def finish(conn: Connection, worker: str, jobs: Mapping[int, Sequence[str]]) -> None:
    """Record that these series are through, each with its notes. The caller commits."""
    conn.execute(
        sql("compact_done"),
        {"worker": worker, "ids": list(jobs), "notes": ["; ".join(notes) for notes in jobs.values()]},
    )


def fail(conn: Connection, worker: str, job: int, *, error: str, notes: Sequence[str]) -> None:
    """Record why a series did not get through, if ``worker`` still holds it. The caller commits."""
    conn.execute(sql("compact_failed"), {"worker": worker, "id": job, "error": error, "note": "; ".join(notes)})


def reap(conn: Connection, *, after: timedelta = STALE_AFTER) -> int:
    """Free the series whose worker has not been heard of for ``after``; return how many."""
    return len(conn.execute(sql("compact_reap"), {"after": after}).fetchall())
