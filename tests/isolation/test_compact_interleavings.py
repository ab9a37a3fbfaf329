"""What other sessions do between a compactor's read and its commit: no row is lost, doubled or changed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from psycopg import errors as pg_errors

from ddstore.compact import CompactOptions, compact, worker
from ddstore.db.manage import drop_management
from ddstore.db.pool import Database, connect
from fix_compact import Twins

numbers_too = pytest.mark.parametrize("twins", [True, False], indirect=True, ids=["notes", "numbers"])


def test_nobody_interferes(twins: Twins) -> None:
    twins.insert(1, 1000)
    report = twins.compact()
    assert (report.rows, report.conflicts, twins.hot, twins.cold) == (1000, 0, 0, 1000)
    assert twins.differences() == []


@numbers_too
def test_a_late_row_stays_hot(twins: Twins) -> None:
    twins.insert(1, 200)
    twins.between(lambda: twins.insert(50, 60))
    report = twins.compact()
    assert (report.rows, report.conflicts, twins.hot, twins.cold) == (200, 0, 11, 200)
    assert twins.differences() == []


@numbers_too
def test_an_updated_row_is_read_again(twins: Twins) -> None:
    twins.insert(1, 200)
    twins.between(lambda: twins.both("UPDATE {t} SET value = -1 WHERE id = 100"))
    report = twins.compact()
    assert (report.rows, report.conflicts, twins.hot) == (200, 1, 0)
    assert twins.differences() == []


def test_only_a_column_that_the_core_does_not_code_is_updated(twins: Twins) -> None:
    twins.insert(1, 200)
    twins.between(lambda: twins.both("UPDATE {t} SET note = 'changed' WHERE id = 100"))
    assert twins.compact().conflicts == 1
    assert twins.differences() == []


@numbers_too
def test_a_row_moves_to_another_series(twins: Twins) -> None:
    twins.insert(1, 200)
    twins.between(lambda: twins.both("UPDATE {t} SET device = 'b' WHERE id = 100"))
    report = twins.compact()
    assert (report.rows, report.conflicts, twins.hot) == (199, 1, 1)
    assert twins.differences() == []


@numbers_too
def test_a_deleted_row_stays_deleted(twins: Twins) -> None:
    twins.insert(1, 200)
    twins.between(lambda: twins.both("DELETE FROM {t} WHERE id IN (1, 100, 200)"))
    report = twins.compact()
    assert (report.rows, report.conflicts, twins.hot) == (197, 1, 0)
    assert twins.differences() == []


@numbers_too
def test_all_rows_are_deleted(twins: Twins) -> None:
    twins.insert(1, 200)
    twins.between(lambda: twins.both("DELETE FROM {t}"))
    report = twins.compact()
    assert (report.rows, report.conflicts, report.failed, twins.cold) == (0, 1, [], 0)
    assert twins.differences() == []


def test_a_vacuumed_place_is_filled_again(twins: Twins) -> None:
    twins.insert(1, 200)

    def replace() -> None:
        twins.both("DELETE FROM {t} WHERE id BETWEEN 90 AND 110")
        twins.maintain("VACUUM {t}")
        twins.insert(90, 110, note="other ")  # the same in all that the core codes: only xmin tells them apart
        reused = twins.number(
            """SELECT count(*) FROM ONLY {t} WHERE note LIKE 'other%'
               AND ctid <= (SELECT max(ctid) FROM ONLY {t} WHERE note NOT LIKE 'other%')"""
        )
        assert reused > 0, "no place was reused, so this tests nothing"

    twins.between(replace)
    report = twins.compact()
    assert (report.conflicts, twins.hot) == (1, 0)
    assert twins.differences() == []


@pytest.mark.parametrize("statement", ["CLUSTER {t} USING by_id", "VACUUM (FULL) {t}"])
def test_the_table_is_rewritten(twins: Twins, statement: str) -> None:
    """Every row was written by one transaction, so after the rewrite (ctid, xmin) may name another row."""
    twins.conn.execute("CREATE INDEX by_id ON watched (id DESC)")
    twins.insert(1, 400)
    twins.both("DELETE FROM {t} WHERE id <= 200")
    twins.between(lambda: twins.maintain(statement))
    report = twins.compact()
    assert (report.rows, report.conflicts, twins.hot) == (200, 1, 0)
    assert twins.differences() == []


def test_another_series_takes_the_place_in_a_rewrite(twins: Twins) -> None:
    """Two series, equal in all that the core codes and written by one transaction, change places."""
    twins.conn.execute("CREATE INDEX by_device ON watched (device DESC, id)")
    twins.add(
        """SELECT g, d, timestamptz '2024-01-01' + g * interval '1 s', 1.5, d
           FROM (VALUES ('a'), ('b')) AS v (d), generate_series(1, 100) AS g ORDER BY d, g"""
    )
    twins.between(lambda: twins.maintain("CLUSTER {t} USING by_device"))
    report = twins.compact()
    assert (report.rows, report.conflicts, twins.hot) == (200, 2, 0)
    assert twins.differences() == []


@numbers_too
def test_a_column_is_added(twins: Twins) -> None:
    """ADD COLUMN with a default rewrites nothing, yet every row has a new value that segments could not hold."""
    twins.insert(1, 200)
    twins.monkeypatch.setattr(worker, "MAX_CONFLICTS", 2)

    def alter() -> None:
        for table in ("watched", "truth"):
            twins.conn.execute(f"ALTER TABLE {table} ADD COLUMN extra int DEFAULT 7")
        twins.conn.commit()

    twins.between(alter)
    report = twins.compact()
    assert (report.rows, len(report.failed), twins.hot) == (0, 1, 200)
    assert "altered" in str(report.failed[0].error)
    assert twins.differences() == []


@numbers_too
def test_a_row_is_locked_for_good(twins: Twins) -> None:
    """An open transaction with an update: the compactor gives up without waiting long, and blocks nobody."""
    twins.insert(1, 200)
    twins.insert(1, 200, "b")
    twins.monkeypatch.setattr(worker, "MAX_CONFLICTS", 2)
    twins.conn.execute("UPDATE ONLY watched SET value = 0 WHERE id = 100 AND device = 'a'")
    report = twins.compact()
    twins.conn.rollback()
    assert [series.series for series in report.failed] == [("a",)]
    assert (report.rows, twins.hot) == (200, 200)
    assert twins.differences() == []
    assert twins.compact().rows == 200
    assert twins.differences() == []


def test_a_user_is_no_deadlock_victim(twins: Twins, database_url: str) -> None:
    """A user holds the last row and asks for the first, which the compactor has deleted and not committed."""
    twins.insert(1, 200)
    twins.monkeypatch.setattr(worker, "MAX_CONFLICTS", 3)
    finished = threading.Event()
    with connect(database_url) as user, ThreadPoolExecutor(1) as pool:
        user.execute("SET deadlock_timeout = '10s'")
        user.execute("UPDATE ONLY watched SET value = 0 WHERE id = 200")
        running = pool.submit(twins.compact)
        running.add_done_callback(lambda _: finished.set())
        while not finished.wait(0.01):
            user.execute("UPDATE ONLY watched SET value = 0 WHERE id = 1")
        user.rollback()
        assert running.result().rows == 0
    assert twins.differences() == []


def test_a_worker_that_lost_its_lease_writes_nothing(twins: Twins) -> None:
    twins.insert(1, 200)

    def take_over() -> None:
        twins.conn.execute("UPDATE ddstore.job SET worker = 'another'")
        twins.conn.commit()

    twins.between(take_over)
    report = twins.compact()
    assert (report.rows, report.failed, twins.cold) == (0, [], 0)
    assert "taken the series over" in report.series[0].notes[0]
    assert twins.number("SELECT count(*) FROM ddstore.job WHERE worker = 'another' AND state = 'running'") == 1
    assert twins.differences() == []


def test_one_lost_lease_in_a_group_is_no_one_elses_trouble(twins: Twins) -> None:
    for device in "abc":
        twins.insert(1, 100, device)

    def take_over() -> None:
        twins.conn.execute("UPDATE ddstore.job SET worker = 'another' WHERE series_key = '[\"b\"]'")
        twins.conn.commit()

    twins.between(take_over)
    report = twins.compact()
    assert (report.rows, report.failed, twins.hot) == (200, [], 100)
    assert twins.differences() == []


def test_the_table_is_released(twins: Twins) -> None:
    twins.insert(1, 200)

    def release() -> None:
        drop_management(twins.conn, twins.table, restored_rows=0)
        twins.conn.commit()

    twins.between(release)
    report = twins.compact()
    assert report.rows == 0
    assert twins.differences() == []


def test_another_worker_leaves_claimed_series_alone(twins: Twins, database_url: str) -> None:
    twins.insert(1, 200)
    others = []

    def compact_too() -> None:
        with Database(database_url) as database:
            others.append(compact(database, CompactOptions(all=True, train="never", vacuum=False)))

    twins.between(compact_too)
    assert twins.compact().rows == 200
    assert [(other.rows, other.series) for other in others] == [(0, [])]
    assert twins.differences() == []


def test_workers_share_the_series(twins: Twins, database_url: str) -> None:
    """Four workers at once, writers going on meanwhile."""
    for number in range(24):
        twins.insert(1, 150, f"device {number}")
    twins.monkeypatch.setattr(worker, "GROUP_SERIES", 3)

    def work() -> int:
        with Database(database_url) as database:
            options = CompactOptions(all=True, train="never", vacuum=False)
            return compact(database, options).rows + compact(database, options).rows

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(work) for _ in range(4)]
        twins.insert(200, 300, "device 3")
        twins.insert(100, 200, "device 20")
        moved = sum(running.result() for running in workers)
    assert moved == twins.cold
    assert twins.differences() == []
    twins.compact()
    assert (twins.hot, twins.cold) == (0, 24 * 150 + 202)
    assert twins.differences() == []


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
def test_readers_see_every_row_once(twins: Twins, database_url: str, level: str) -> None:
    for number in range(6):
        twins.insert(1, 400, f"device {number}")
    twins.monkeypatch.setattr(worker, "GROUP_SERIES", 1)
    finished = threading.Event()

    def read() -> set[tuple[int, float]]:
        seen: set[tuple[int, float]] = set()
        with connect(database_url) as reader:
            while not finished.is_set() or not seen:
                reader.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
                for _ in range(3):
                    row = reader.execute("SELECT count(*), sum(id) FROM watched").fetchone()
                    assert row is not None
                    seen.add((int(row[0]), float(row[1])))
                reader.commit()
        return seen

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            report = twins.compact()
        finally:
            finished.set()
        assert [reader.result() for reader in readers] == [{(2400, 6 * 200.5 * 400)}] * 2
    assert report.rows == 2400
    assert twins.differences() == []


def test_an_old_snapshot_sees_the_rows_where_they_were(twins: Twins, database_url: str) -> None:
    twins.insert(1, 500)
    with connect(database_url) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        before = reader.execute("SELECT watched::text FROM watched ORDER BY id").fetchall()
        assert twins.compact(vacuum=True).rows == 500
        assert reader.execute("SELECT watched::text FROM watched ORDER BY id").fetchall() == before
        assert reader.execute("SELECT count(*) FROM ONLY watched").fetchall() == [(500,)]
        with pytest.raises(pg_errors.SerializationFailure):
            reader.execute("UPDATE ONLY watched SET value = 0")
