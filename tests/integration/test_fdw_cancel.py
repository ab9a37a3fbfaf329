"""Cancelling a query while the core decodes for it is answered as such, not by what the end of decoding says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from ddstore import Profile, _native
from ddstore.codec.times import encode_times
from ddstore.db.pool import connect

ROWS = 1 << 18  # decoding them, into nonsense, takes most of a second


@pytest.fixture
def endless(cold_table: Callable[..., Any]) -> psycopg.Connection[tuple[Any, ...]]:
    """One segment of coder cm whose header says ROWS; decoded to the end its times are not sorted, which is damage."""
    made = cold_table({}, {"v": "float8"})
    made.cold([], np.arange(2, dtype=np.int64), {"v": [1.0, 2.0]}, known=False)
    time = np.sort(np.random.default_rng(1).integers(0, 10**9, 500))
    coded = encode_times(time, Profile.ARCHIVE)
    assert (coded[1] >> 4, coded[4:6]) == (2, b"\xf4\x03")  # cm, 500 rows
    coded = coded[:4] + b"\x80\x80\x10" + coded[6:-4]
    coded += _native.crc32c(coded).to_bytes(4, "little")
    segments = Identifier("ddstore", f"segment_{made.table.id}")
    made.conn.execute(SQL("UPDATE {} SET n = %s, time = %s").format(segments), [ROWS, coded])
    made.conn.commit()
    return made.conn


QUERY = "SELECT time FROM plant.sensors"


def test_it_is_damage_where_nobody_cancels(endless: psycopg.Connection[tuple[Any, ...]]) -> None:
    with pytest.raises(psycopg.errors.DataCorrupted, match="not sorted"):
        endless.execute(QUERY)


def test_statement_timeout_ends_the_decoding_of_times(endless: psycopg.Connection[tuple[Any, ...]]) -> None:
    endless.execute("SET statement_timeout = '100ms'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        endless.execute(QUERY)


def test_other_interrupts_do_not_shield_from_a_cancellation(
    endless: psycopg.Connection[tuple[Any, ...]], database_url: str
) -> None:
    pid = endless.info.backend_pid

    def disturb() -> None:
        with connect(database_url, autocommit=True) as other:
            active = "SELECT FROM pg_stat_activity WHERE pid = %s AND state = 'active' AND query = %s"
            while other.execute(active, [pid, QUERY]).fetchone() is None:
                pass
            for _ in range(5):
                other.execute("SELECT pg_log_backend_memory_contexts(%s)", [pid])
            other.execute("SELECT pg_cancel_backend(%s)", [pid])

    thread = threading.Thread(target=disturb)
    thread.start()
    with pytest.raises(psycopg.errors.QueryCanceled):
        endless.execute(QUERY)
    thread.join()
