"""``ddstore.unseal()``: cold rows of a range become hot, for statements that reach hot rows only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from ddstore.db.pool import connect
from fix_compact import Twins

CALL = "SELECT ddstore.unseal('watched', %s, %s, %s)"


def _unseal(twins: Twins, key: str | None, start: str | None, end: str | None) -> int:
    row = twins.conn.execute(CALL, (key, start, end)).fetchone()
    assert row is not None
    return int(row[0])


def test_a_range_becomes_hot_and_is_compacted_again(twins: Twins) -> None:
    twins.insert(1, 300)
    twins.insert(301, 400, "b")
    twins.compact()
    assert (twins.hot, twins.cold) == (0, 400)
    # Rows 100 to 102 are in the segment of rows 65 to 128.
    assert _unseal(twins, '["a"]', "2024-01-01 00:00:33", "2024-01-01 00:00:34") == 64
    assert _unseal(twins, '["a"]', "2024-01-01 00:00:33", "2024-01-01 00:00:34") == 0
    assert _unseal(twins, '["c"]', None, None) == 0
    twins.conn.rollback()
    assert _unseal(twins, '["b"]', None, None) == 100
    assert twins.differences() == []
    assert _unseal(twins, None, "2024-01-01", "2024-01-01 00:00:21") == 64
    assert (twins.hot, twins.cold) == (164, 236)
    twins.compact()
    assert (twins.hot, twins.cold, twins.differences()) == (0, 400, [])


def test_what_reaches_hot_rows_only_reaches_them_then(twins: Twins) -> None:
    twins.insert(1, 200)
    twins.compact()
    for table in ("watched", "truth"):
        twins.conn.execute(f"CREATE UNIQUE INDEX ON {table} (device, id)".encode())
    twins.conn.commit()
    for statement in (
        "MERGE INTO {t} AS x USING generate_series(90, 210, 10) AS g ON x.id = g"
        " WHEN MATCHED AND g < 150 THEN DELETE WHEN MATCHED THEN UPDATE SET value = g"
        " WHEN NOT MATCHED THEN INSERT VALUES (g, 'a', timestamptz '2024-01-01' + g / 3 * interval '1 s', 0, 'new')",
        "INSERT INTO {t} SELECT g, 'a', timestamptz '2024-01-01', 0, 'again' FROM generate_series(1, 30, 3) g"
        " ON CONFLICT (device, id) DO UPDATE SET note = excluded.note, value = excluded.value - 1",
    ):
        assert _unseal(twins, '["a"]', None, None) > 0
        insert = statement.startswith("INSERT")
        for target in (twins.table.identifier if insert else SQL("ONLY ") + twins.table.identifier, twins.truth):
            twins.conn.execute(SQL(statement).format(t=target))  # type: ignore[arg-type]
        twins.conn.commit()
        assert twins.differences() == []
        twins.compact()


def test_nothing_is_compacted_before_the_transaction_ends(twins: Twins) -> None:
    twins.insert(1, 100)
    twins.compact()
    twins.insert(101, 300)
    assert _unseal(twins, None, None, None) > 0
    with connect(str(twins.conn.info.dsn)) as other:
        other.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute(SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE").format(twins.table.segments_identifier))
        other.rollback()
        assert other.execute("SELECT count(*) FROM watched").fetchone() == (300,)
        other.execute("INSERT INTO watched SELECT * FROM ONLY watched WHERE id = 200")


def test_it_is_for_whom_may_change_the_table(
    twins: Twins, database_url: str, ordinary_role: Callable[[str], str]
) -> None:
    twins.insert(1, 100)
    twins.compact()
    url = ordinary_role(database_url)
    role = Identifier(str(psycopg.conninfo.conninfo_to_dict(url)["user"]))
    denied = psycopg.errors.InsufficientPrivilege
    with connect(url) as other:

        def attempt(*statements: str) -> Any:
            for statement in statements:
                twins.conn.execute(SQL(statement).format(role))  # type: ignore[arg-type]
            twins.conn.commit()
            try:
                return other.execute(CALL, ('["a"]', None, None)).fetchone()
            finally:
                other.rollback()

        with pytest.raises(denied):
            attempt("GRANT SELECT, INSERT, DELETE ON watched TO {}")
        assert attempt("GRANT UPDATE (value) ON watched TO {}") == (100,)
        other.execute("SET TRANSACTION READ ONLY")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            other.execute(CALL, (None, None, None))
        other.rollback()
        with pytest.raises(denied, match="row-level security"):
            attempt("ALTER TABLE watched ENABLE ROW LEVEL SECURITY", "CREATE POLICY everyone ON watched USING (true)")


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        ("'watched', '[]', NULL, NULL", psycopg.errors.InvalidParameterValue, "no key of"),
        ("'watched', '{}', NULL, NULL", psycopg.errors.InvalidParameterValue, "no key of"),
        ("'watched', NULL, 'noon-ish', NULL", psycopg.errors.InvalidDatetimeFormat, "noon-ish"),
        ("'truth', NULL, NULL, NULL", psycopg.errors.WrongObjectType, "not a managed table"),
        ("NULL, NULL, NULL, NULL", psycopg.errors.WrongObjectType, "NULL is not"),
    ],
)
def test_bad_arguments(twins: Twins, call: str, error: type[psycopg.Error], match: str) -> None:
    with pytest.raises(error, match=match):
        twins.conn.execute(f"SELECT ddstore.unseal({call})".encode())
