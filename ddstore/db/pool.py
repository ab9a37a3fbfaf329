"""Connections: a pool per database, and one place where PostgreSQL's errors become DDStore's."""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors as pg_errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import set_json_dumps
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from ddstore.errors import ConnectionFailed, CorruptSegment, DDStoreError, InvalidSeries, NotInstalled, NotPermitted

__all__ = ["MAX_SERVER", "MIN_SERVER", "Connection", "Database", "connect", "translate_errors"]

Connection = psycopg.Connection[tuple[Any, ...]]

MIN_SERVER, MAX_SERVER = 15, 18

_CONNECT_TIMEOUT_S = 10
_POOL_TIMEOUT_S = 30.0


class Database:
    """One database and its pool of connections. Threads may share it; close it, or use it as a context manager.

    Sessions run in UTC and UTF-8 with autocommit off, and write every type as PostgreSQL does by default, whatever the
    role has set. Nothing is connected before the first :meth:`connection`.
    """

    def __init__(self, url: str, *, max_size: int = 8) -> None:
        """Remember ``url`` (a PostgreSQL URL or conninfo string); at most ``max_size`` connections are kept.

        Raises:
            ConnectionFailed: ``url`` is neither a URL nor a conninfo string.
        """
        self.url = url
        self.address = describe(url)
        self._max_size = max_size
        self._lock = threading.Lock()
        self._pool: ConnectionPool[Connection] | None = None
        self._closed = False

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Database({self.address!r})"

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a connection in a transaction: committed when the block ends, rolled back when it raises.

        Raises:
            ConnectionFailed: no usable server answers, or it went away.
            NotInstalled, NotPermitted, CorruptSegment: see :func:`translate_errors`.
        """
        pool = self._opened()
        with translate_errors(self.address):
            try:
                lent = pool.connection()
                with lent as conn:
                    yield conn
            except PoolTimeout as error:
                raise ConnectionFailed(
                    f"no connection to {self.address} within {_POOL_TIMEOUT_S:g} s",
                    remedy="Check that the server is up and that its connection limit is not used up.",
                ) from error

    def close(self) -> None:
        """Close every connection. Idempotent; the database cannot be used afterwards."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _opened(self) -> ConnectionPool[Connection]:
        with self._lock:
            if self._closed:
                raise ConnectionFailed(f"the connection to {self.address} was closed", remedy="Connect again.")
            if self._pool is None:
                # The pool retries in the background and then only says "timeout": ask once directly, so that a
                # wrong password or an unsupported server is reported as what it is.
                connect(self.url).close()
                self._pool = ConnectionPool(
                    self.url,
                    min_size=0,
                    max_size=self._max_size,
                    timeout=_POOL_TIMEOUT_S,
                    kwargs=_KWARGS,
                    configure=_configure,
                    check=ConnectionPool.check_connection,  # a server restart must not surface as a broken session
                    open=True,
                    name="ddstore",
                )
                weakref.finalize(self, self._pool.close)
            return self._pool


def connect(url: str, *, autocommit: bool = False) -> Connection:
    """Open one connection of its own (not pooled) to ``url``, checked and configured like the pool's.

    Raises:
        ConnectionFailed: no server answers, it refuses us, or it is not PostgreSQL 15 to 18.
    """
    address = describe(url)
    with translate_errors(address):
        conn = psycopg.connect(url, **_KWARGS)
        try:
            _configure(conn)
            conn.autocommit = autocommit
        except BaseException:
            conn.close()
            raise
    return conn


# fallback_: an application_name in the URL or in $PGAPPNAME wins.
_KWARGS: dict[str, Any] = {"fallback_application_name": "ddstore", "connect_timeout": _CONNECT_TIMEOUT_S}


#: The key of a series is the text of its key columns: it must not depend on what a role or database has set.
_SETTINGS = """
SET TIME ZONE 'UTC';
SET client_encoding = 'UTF8';
SET DateStyle = 'ISO, MDY';
SET IntervalStyle = 'postgres';
SET extra_float_digits = 1;
SET bytea_output = 'hex';
SET lc_monetary = 'C';
"""


def _dump_json(value: Any) -> str:
    # Characters as they are: a database of another encoding than UTF-8 refuses their escapes, even where it has them.
    return json.dumps(value, ensure_ascii=False)


def _configure(conn: Connection) -> None:
    major = conn.info.server_version // 10000
    if not MIN_SERVER <= major <= MAX_SERVER:
        raise ConnectionFailed(
            f"the server is PostgreSQL {major}",
            remedy=f"DDStore supports PostgreSQL {MIN_SERVER} to {MAX_SERVER}.",
        )
    # Statements, not start-up options: connection poolers refuse options they do not know.
    conn.execute(_SETTINGS)
    set_json_dumps(_dump_json, conn)
    conn.commit()


def describe(url: str) -> str:
    """Return where ``url`` points, for messages: never with the password.

    Raises:
        ConnectionFailed: ``url`` is neither a URL nor a conninfo string.
    """
    try:
        info = conninfo_to_dict(url)
    except psycopg.Error:
        # psycopg's message quotes the whole string, password included.
        raise ConnectionFailed(
            "the database URL is not understood", remedy="Write it as postgresql://user@host:port/database."
        ) from None
    host, port = info.get("host") or info.get("hostaddr"), info.get("port")
    where = f"{host or 'the default host'}{f':{port}' if port else ''}"
    return f"{where}/{info['dbname']}" if info.get("dbname") else where


@contextmanager
def translate_errors(address: str = "the database") -> Iterator[None]:
    """Turn PostgreSQL's errors inside the block into DDStore's; what has no counterpart passes unchanged.

    Raises:
        NotPermitted: SQLSTATE insufficient_privilege, or a password or host that the server refuses.
        NotInstalled: a relation of schema ddstore, or the schema itself, is missing.
        CorruptSegment: SQLSTATE data_corrupted (XX001).
        InvalidSeries: a value, such as a very long key, does not fit into an index.
        ConnectionFailed: the connection could not be made or was lost.
    """
    try:
        yield
    except DDStoreError:
        raise
    except PoolClosed as error:
        raise ConnectionFailed(f"the connection to {address} was closed", remedy="Connect again.") from error
    except psycopg.Error as error:
        translated = _translate(error, address)
        if translated is None:
            raise
        raise translated from error


def _translate(error: psycopg.Error, address: str) -> DDStoreError | None:
    said = error.diag.message_primary or str(error).strip()
    hint = error.diag.message_hint
    if isinstance(error, pg_errors.InsufficientPrivilege):
        return NotPermitted(said, remedy=hint or "Connect as a role that owns the table and the schema ddstore.")
    if isinstance(error, (pg_errors.UndefinedTable, pg_errors.UndefinedFunction, pg_errors.InvalidSchemaName)):
        if "ddstore" in said:
            return NotInstalled(said, remedy="Run: ddstore migrate.")
        return None
    if isinstance(error, pg_errors.DataCorrupted):
        return CorruptSegment(said, remedy=hint or "Run ddstore verify to find every damaged segment.")
    if isinstance(error, (pg_errors.InvalidPassword, pg_errors.InvalidAuthorizationSpecification)):
        return ConnectionFailed(f"{address} refused the login: {said}", remedy="Check user and password in the URL.")
    if isinstance(error, pg_errors.ProgramLimitExceeded) and "index row" in said:
        return InvalidSeries(
            f"a value is too long for an index of its table: {said}",
            remedy="Shorten the key, or drop the index if it is one of your own; nothing was written.",
        )
    # No SQLSTATE: the failure is the connection's, not a statement's. Class 08 and 57P0x: the server went away.
    lost = error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))
    if isinstance(error, psycopg.OperationalError) and (lost or error.sqlstate in {"3D000", "53300"}):
        return ConnectionFailed(f"cannot reach {address}: {said}", remedy="Check the URL and that the server is up.")
    return None
