"""Messages about connections: typed, and never with the password."""

from __future__ import annotations

import pytest
from psycopg import errors as pg_errors

from ddstore.db.pool import Database, connect, describe, translate_errors
from ddstore.errors import ConnectionFailed, CorruptSegment, DDStoreError, NotInstalled, NotPermitted


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("postgresql://u:secret@db.example:5433/plant", "db.example:5433/plant"),
        ("host=/run/pg dbname=plant password=secret", "/run/pg/plant"),
        ("", "the default host"),
    ],
)
def test_addresses_leave_the_password_out(url: str, address: str) -> None:
    assert describe(url) == address


def test_a_url_that_is_none_is_refused_without_quoting_it() -> None:
    with pytest.raises(ConnectionFailed) as caught:
        Database("mysql://u:secret@h/d")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_nobody_answers() -> None:
    with pytest.raises(ConnectionFailed, match=r"cannot reach 127\.0\.0\.1:1/x") as caught:
        connect("postgresql://u:secret@127.0.0.1:1/x")
    assert caught.value.remedy
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "typed"),
    [
        (pg_errors.InsufficientPrivilege("permission denied for table t"), NotPermitted),
        (pg_errors.UndefinedTable('relation "ddstore.managed_table" does not exist'), NotInstalled),
        (pg_errors.InvalidSchemaName('schema "ddstore" does not exist'), NotInstalled),
        (pg_errors.DataCorrupted("segment 7 of ddstore.segment_1 is damaged"), CorruptSegment),
        (pg_errors.AdminShutdown("terminating connection"), ConnectionFailed),
        (pg_errors.InvalidPassword("password authentication failed"), ConnectionFailed),
        (pg_errors.TooManyConnections("too many clients"), ConnectionFailed),
    ],
)
def test_errors_become_ours(error: Exception, typed: type[DDStoreError]) -> None:
    with pytest.raises(typed) as caught, translate_errors():
        raise error
    assert caught.value.__cause__ is error
    assert caught.value.remedy


@pytest.mark.parametrize(
    "error",
    [
        pg_errors.UndefinedTable('relation "public.t" does not exist'),
        pg_errors.UniqueViolation("duplicate key"),
        pg_errors.SerializationFailure("could not serialize"),
        ValueError("not PostgreSQL's"),
    ],
)
def test_other_errors_pass_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, translate_errors():
        raise error
    assert caught.value is error
