"""Fail the N-th: every statement and every commit of a compaction is made to fail once, and nothing may be lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from ddstore.compact import CompactOptions, compact, verify, worker
from ddstore.compact.reap import reap
from ddstore.errors import BoundViolation, CorruptSegment, DDStoreError
from fix_compact import Twins


class Injected(psycopg.OperationalError):
    """The failure that the test injects; it has no SQLSTATE, like a lost connection."""


class FailTheNth:
    """Counts statements and commits of all connections, and lets one of them fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fail: Callable[[], None]) -> None:
        self.fail = fail
        self.count, self.at, self.after = 0, 0, False
        for owner, name in (
            (psycopg.Cursor, "execute"),
            (psycopg.Cursor, "executemany"),
            (psycopg.Cursor, "copy"),
            (psycopg.Connection, "commit"),
        ):
            self._wrap(monkeypatch, owner, name)

    def arm(self, at: int, *, after: bool) -> None:
        """Fail the ``at``-th call from now on: before it runs, or after it has run on the server."""
        self.count, self.at, self.after = 0, at, after

    def _wrap(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        original = getattr(owner, name)

        def wrapped(*args: Any, **options: Any) -> Any:
            self.count += 1
            mine = self.count == self.at
            if mine and not self.after:
                self.fail()
            result = original(*args, **options)
            if mine and self.after:
                self.fail()
            return result

        monkeypatch.setattr(owner, name, wrapped)


def _raise() -> None:
    raise Injected("injected")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("series", [1, 3])
def test_every_statement_fails_once(twins: Twins, after: bool, series: int) -> None:
    """Before: the statement never ran. After: it ran, a COMMIT included, and nobody heard of it."""
    twins.monkeypatch.setattr(worker, "COMMIT_ROWS", 300)  # several transactions
    nth = FailTheNth(twins.monkeypatch, _raise)
    at, first = 0, 1
    while True:
        at += 1
        nth.arm(0, after=after)
        for number in range(series):
            twins.insert(first, first + 99, f"device {number}")
        first += 100
        reap(twins.conn, after=timedelta(0))
        twins.conn.commit()
        nth.arm(at, after=after)
        with contextlib.suppress(DDStoreError, psycopg.Error):
            twins.compact()
        reached = nth.count >= at
        nth.arm(0, after=after)
        assert twins.differences() == [], f"after failing call {at}"
        assert twins.hot + twins.cold == (first - 1) * series
        if not reached:
            break
    assert at > 20
    assert twins.compact().failed == []
    assert (twins.hot, verify(twins.database).damaged) == (0, [])
    assert twins.differences() == []


@pytest.mark.parametrize(
    "error", [BoundViolation("injected"), CorruptSegment("injected"), ValueError("injected"), MemoryError()]
)
def test_encoding_fails(twins: Twins, error: Exception) -> None:
    """One series cannot be encoded: it stays hot, is recorded and backed off; the others become cold."""
    for number in range(4):
        twins.insert(1, 100, f"device {number}")
    encode = worker.encode_segment

    def broken(plan: Any, *args: Any) -> Any:
        if plan.key == ("device 2",):
            raise error
        return encode(plan, *args)

    twins.monkeypatch.setattr(worker, "encode_segment", broken)
    report = twins.compact()
    assert [failed.series for failed in report.failed] == [("device 2",)]
    assert (twins.hot, twins.cold) == (100, 300)
    assert twins.differences() == []
    state = twins.conn.execute(
        "SELECT state, attempts, error, not_before > now() FROM ddstore.compaction WHERE series = '[\"device 2\"]'"
    ).fetchone()
    twins.conn.commit()
    assert state == ("failed", 1, report.failed[0].error, True)
    waiting = twins.compact(all=False, min_rows=1)
    assert (waiting.series, len(waiting.notes)) == ([], 1)
    assert "wait after a failure" in waiting.notes[0]
    assert len(twins.compact().failed) == 1  # unless told otherwise
    twins.monkeypatch.setattr(worker, "encode_segment", encode)
    assert twins.compact().rows == 100
    assert twins.differences() == []


def test_interrupted_while_encoding(twins: Twins) -> None:
    twins.insert(1, 500)

    def interrupted(*args: Any) -> Any:
        raise KeyboardInterrupt

    twins.monkeypatch.setattr(worker, "commit_segments", interrupted)
    with pytest.raises(KeyboardInterrupt):
        twins.compact()
    assert twins.number("SELECT count(*) FROM ddstore.job WHERE state = 'failed' AND error LIKE 'interrupted%'") == 1
    twins.monkeypatch.undo()
    assert twins.compact().rows == 500
    assert twins.differences() == []


_CHILD = """
import os, signal, sys
import psycopg
from ddstore.compact import CompactOptions, compact, worker
from ddstore.db.pool import Database

at, after, count = int(sys.argv[2]), sys.argv[3] == "True", 0

def wrap(owner, name):
    original = getattr(owner, name)
    def wrapped(*args, **options):
        global count
        count += 1
        mine = count == at
        if mine and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **options)
        if mine and after:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, name, wrapped)

for owner, name in ((psycopg.Cursor, "execute"), (psycopg.Cursor, "executemany"), (psycopg.Cursor, "copy"),
                    (psycopg.Connection, "commit")):
    wrap(owner, name)
compact(Database(sys.argv[1]), CompactOptions(all=True, train="never", vacuum=False))
print(count)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_the_process_is_killed(twins: Twins, database_url: str) -> None:
    """A killed worker leaves every row where it was or moved; its series are taken back and finished."""
    at, step = 1, 3
    while True:
        twins.insert(1 + 200 * at, 200 + 200 * at)
        command = [sys.executable, "-c", _CHILD, database_url, str(at), str(at % 2 == 0)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        child = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
        assert child.returncode in (0, -signal.SIGKILL), child.stderr
        assert twins.differences() == [], f"killed at call {at}"
        if child.returncode == 0:
            break
        reap(twins.conn, after=timedelta(0))
        twins.conn.commit()
        at += step
    assert at > 20
    assert twins.compact().failed == []
    assert twins.hot == 0
    assert twins.differences() == []


def test_a_vanished_worker_is_noticed(twins: Twins) -> None:
    twins.insert(1, 100)
    twins.conn.execute(
        """INSERT INTO ddstore.job (table_id, series_key, profile, worker, heartbeat)
           VALUES (%s, '["a"]', 'fast', 'gone', now() - interval '1 hour')""",
        [twins.table.id],
    )
    twins.conn.commit()
    assert compact(twins.database, CompactOptions(min_rows=1, train="never", vacuum=False)).rows == 100
    assert twins.number("SELECT attempts FROM ddstore.job WHERE state = 'done'") == 2
    assert twins.differences() == []


def test_a_living_worker_is_left_alone(twins: Twins) -> None:
    twins.insert(1, 100)
    twins.conn.execute(
        "INSERT INTO ddstore.job (table_id, series_key, profile, worker) VALUES (%s, '[\"a\"]', 'fast', 'busy')",
        [twins.table.id],
    )
    twins.conn.commit()
    assert twins.compact().series == []
    assert twins.hot == 100
