"""UPDATE and DELETE of compacted rows beside other sessions: readers, writers of the same segment, the compactor."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from psycopg import errors as pg_errors

from ddstore.compact import worker
from ddstore.db.pool import Connection, connect
from fix_compact import Twins

COUNT = "SELECT count(*), count(DISTINCT id), sum(id) FROM watched"


@pytest.fixture
def other(database_url: str) -> Iterator[Connection]:
    """A second session."""
    with connect(database_url) as conn:
        yield conn


def _waits(twins: Twins, conn: Connection, work: Callable[[], int]) -> Future[int]:
    """Start ``work`` on ``conn`` in a thread and return once it waits for a lock."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)
    pool.shutdown(wait=False)
    for _ in range(2000):
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND pid = %s"
        row = twins.conn.execute(waiting, (conn.info.backend_pid,)).fetchone()
        if row == (1,) or future.done():
            break
        time.sleep(0.005)
    return future


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
@pytest.mark.parametrize("commits", [True, False])
def test_two_writers_of_one_segment(twins: Twins, other: Connection, isolation: str, commits: bool) -> None:
    twins.insert(1, 100)
    twins.compact()
    twins.conn.execute("UPDATE watched SET value = 1 WHERE id = 5")
    other.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}".encode())
    other.execute("SELECT 1")
    future = _waits(twins, other, lambda: other.execute("UPDATE watched SET value = 2 WHERE id = 6").rowcount)
    if commits:
        twins.conn.commit()
        with pytest.raises(pg_errors.SerializationFailure, match="segment"):
            future.result(10)
        other.rollback()
        assert other.execute("UPDATE watched SET value = 2 WHERE id = 6").rowcount == 1
    else:
        twins.conn.rollback()
        assert future.result(10) == 1
    other.commit()
    changed = "id = 6 AND value = 2 OR id = 5 AND value = 1"
    assert twins.number(f"SELECT count(*) FROM {{t}} WHERE {changed}") == 1 + commits
    assert twins.number("SELECT count(DISTINCT id) FROM {t}") == 100


def test_a_locked_row_is_changed_by_nobody_else(twins: Twins, other: Connection) -> None:
    """The lock is on the segment; it agrees with others as locks of rows do, and who has it may change the row."""
    twins.insert(1, 200)
    twins.compact()
    twins.insert(201, 210)
    query = "SELECT id FROM watched WHERE id = ANY (%s) ORDER BY id"
    assert len(twins.conn.execute(query + " FOR UPDATE", ([5, 205],)).fetchall()) == 2  # type: ignore[operator]
    assert other.execute(query + " FOR UPDATE SKIP LOCKED", ([6, 100, 205],)).fetchall() == [(100,)]  # type: ignore[operator]
    assert other.execute(COUNT).fetchone() == (210, 210, 22155)
    other.rollback()
    with pytest.raises(pg_errors.LockNotAvailable):
        other.execute(query + " FOR KEY SHARE NOWAIT", ([6],))  # type: ignore[operator]
    other.rollback()
    future = _waits(twins, other, lambda: other.execute("DELETE FROM watched WHERE id = 6").rowcount)
    assert not future.done()
    twins.conn.rollback()
    assert future.result(10) == 1
    other.rollback()

    for conn in (twins.conn, other):
        assert conn.execute(query + " FOR SHARE NOWAIT", ([100],)).fetchall() == [(100,)]  # type: ignore[operator]
    other.rollback()
    assert twins.conn.execute("UPDATE watched SET value = 1 WHERE id = 100").rowcount == 1
    assert twins.conn.execute(query + " FOR UPDATE", ([100, 101],)).fetchall() == [(100,), (101,)]  # type: ignore[operator]
    future = _waits(twins, other, lambda: len(other.execute(query + " FOR UPDATE", ([101],)).fetchall()))  # type: ignore[operator]
    twins.conn.commit()
    with pytest.raises(pg_errors.SerializationFailure, match="could not lock"):
        future.result(10)


def test_a_locked_row_is_looked_at_again_with_the_one_it_is_joined_to(twins: Twins, other: Connection) -> None:
    twins.insert(1, 100)
    twins.compact()
    twins.conn.execute("CREATE TABLE wanted AS SELECT 5.0::float8 AS id, 1 AS turn UNION ALL SELECT 6.0, 1")
    twins.conn.commit()
    twins.conn.execute("UPDATE wanted SET turn = 2 WHERE id = 5; UPDATE wanted SET id = 7 WHERE id = 6")
    query = "SELECT w.id, turn, note FROM watched w JOIN wanted USING (id) FOR UPDATE"
    found: list[Any] = []
    future = _waits(twins, other, lambda: found.extend(other.execute(query).fetchall()) or 0)
    twins.conn.commit()
    future.result(10)
    assert found == [(5.0, 2, None)]  # and not row 7, which was not joined when the statement began


def test_a_reader_sees_every_row_once(twins: Twins, other: Connection, database_url: str) -> None:
    twins.insert(1, 300)
    twins.compact()
    with connect(database_url) as repeatable:
        repeatable.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        everything = (300, 300, 45150)
        assert repeatable.execute(COUNT).fetchone() == everything
        twins.conn.execute("UPDATE watched SET value = 0 WHERE id IN (5, 200)")
        assert other.execute(COUNT).fetchone() == everything
        assert twins.conn.execute(COUNT).fetchone() == everything
        twins.conn.commit()
        assert other.execute(COUNT).fetchone() == everything
        assert repeatable.execute(COUNT).fetchone() == everything
        assert repeatable.execute("SELECT count(*) FROM ONLY watched").fetchone() == (0,)
        with pytest.raises(pg_errors.SerializationFailure):
            repeatable.execute("DELETE FROM watched WHERE id = 6")


@pytest.mark.parametrize("late", [True, False])
def test_an_update_does_not_miss_a_row_that_becomes_cold(twins: Twins, other: Connection, late: bool) -> None:
    """It waits for the row that the compactor moves, or comes to it later than its snapshot."""
    twins.insert(1, 100)
    update = "UPDATE watched SET value = 7 WHERE id = 5"
    commit = worker.commit_segments
    futures: list[Future[int]] = []
    if late:  # the condition holds the statement up after its snapshot is taken
        other.execute("SET LOCAL enable_indexscan = off")
        twins.conn.execute("SELECT pg_advisory_lock(1)")
        update = "UPDATE watched SET value = 7 FROM (SELECT pg_advisory_xact_lock(1) OFFSET 0) x WHERE id = 5"
        futures.append(_waits(twins, other, lambda: other.execute(update.encode()).rowcount))

    def disturbed(*args: Any) -> Any:
        done = commit(*args)
        if not late:
            futures.append(_waits(twins, other, lambda: other.execute(update.encode()).rowcount))
        return done

    twins.monkeypatch.setattr(worker, "commit_segments", disturbed)
    assert twins.compact().rows == 100
    twins.conn.execute("SELECT pg_advisory_unlock_all()")
    twins.conn.commit()
    with pytest.raises(pg_errors.SerializationFailure):
        futures[0].result(10)
    other.rollback()
    assert other.execute("UPDATE watched SET value = 7 WHERE id = 5").rowcount == 1


def test_rows_leave_a_segment_while_their_series_is_compacted(twins: Twins) -> None:
    twins.insert(1, 200)
    twins.compact()
    twins.insert(201, 400)

    def change() -> None:
        for table in ("watched", "truth"):
            twins.conn.execute(f"UPDATE {table} SET value = 7 WHERE id IN (10, 199, 250)".encode())
        twins.conn.commit()

    twins.between(change)
    report = twins.compact()
    assert (report.conflicts, report.failed) == (1, [])
    assert twins.differences() == []
    twins.compact()
    assert (twins.hot, twins.differences()) == (0, [])
    assert twins.number("SELECT count(*) FROM ddstore.settled") == 0


def test_writers_readers_and_a_compactor_at_once(twins: Twins, database_url: str) -> None:
    twins.insert(1, 1000)
    twins.compact()
    stop = threading.Event()
    wrong: list[object] = []

    def write(device: int) -> int:
        done = 0
        with connect(database_url, autocommit=True) as conn:
            for turn in range(40):
                number = (turn * 37 + device * 500) % 1000 + 1
                try:
                    found = conn.execute("UPDATE watched SET note = 'x' WHERE id = %s", (number,)).rowcount
                    wrong.extend([] if found == 1 else [("updated", found, number)])
                    done += 1
                except pg_errors.SerializationFailure:
                    pass
        return done

    def read() -> None:
        with connect(database_url, autocommit=True) as conn:
            while not stop.is_set():
                row = conn.execute(COUNT).fetchone()
                wrong.extend([] if row == (1000, 1000, 500500) else [row])

    def compact() -> None:
        while not stop.is_set():
            twins.compact()

    with ThreadPoolExecutor(4) as pool:
        others = [pool.submit(read), pool.submit(compact)]
        writers = [pool.submit(write, device) for device in (0, 1)]
        done = [writer.result() for writer in writers]
        stop.set()
        for future in others:
            future.result()
    assert wrong == []
    assert min(done) > 0
    twins.conn.execute("SELECT 1")
    assert twins.number("SELECT count(DISTINCT id) FROM {t}") == 1000
