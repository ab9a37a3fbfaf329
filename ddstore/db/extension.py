"""The PostgreSQL extension inside a database: switch it on, and see what a database can do."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import psycopg
from psycopg import errors as pg_errors

from ddstore.db.catalog import list_tables
from ddstore.db.manage import attach_cold, orphans
from ddstore.db.pool import Connection, translate_errors
from ddstore.db.queries import sql
from ddstore.db.schema import migrate, pending
from ddstore.errors import DDStoreError, NotInstalled, NotPermitted

__all__ = ["Capabilities", "Prepared", "capabilities", "enable", "prepare"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What :func:`prepare` did and found.

    Attributes:
        migrations: names of the migrations that ran.
        attached: tables whose compressed rows SQL sees from now on.
        note: why SQL sees hot rows only; None when it sees all.
    """

    migrations: list[str]
    attached: list[str]
    note: str | None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What this role can do in this database, and what the database has; for ``ddstore doctor``.

    Attributes:
        server_version: as the server says it, e.g. ``18.4``.
        can_create: CREATE on the database: what the catalog needs.
        catalog_owner: owner of schema ddstore, who may manage tables; None without a catalog.
        owns_catalog: whether this role is (a member of) that owner.
        migrated: the catalog is there and up to date; ``pending`` lists the migrations to run otherwise.
        extension_available: version that CREATE EXTENSION would install; None when the server lacks the files.
        extension_version: version installed in this database; None when it is not.
        extension_library: version of the library that the server loads for it; None when it loads none.
        tables, tables_without_cold: managed tables, and those whose compressed rows SQL does not see.
        orphans: companions whose table was dropped; see :func:`ddstore.db.manage.drop_orphans`.
        around_policies: "role on relation" for every right to read what lies beneath a table with row-level security.
    """

    server_version: str
    database: str
    role: str
    superuser: bool
    can_create: bool
    catalog_owner: str | None
    owns_catalog: bool
    migrated: bool
    pending: list[str]
    extension_available: str | None
    extension_version: str | None
    extension_library: str | None
    lz4: bool
    tables: int
    tables_without_cold: int
    orphans: list[str]
    around_policies: list[str]

    @property
    def sql_sees_cold_rows(self) -> bool:
        """Whether SELECT on every managed table sees its compressed rows."""
        return self.extension_version is not None and self.tables_without_cold == 0


def capabilities(conn: Connection) -> Capabilities:
    """Find out what ``conn``'s database and role can do. Reads only; works without a catalog."""
    with translate_errors():
        row = conn.execute(sql("capabilities")).fetchone()
    assert row is not None
    facts = row[0]
    due = pending(conn) if facts["can_use_catalog"] or facts["catalog_owner"] is None else []
    usable = facts["can_use_catalog"] and not due
    tables = list_tables(conn) if usable else []
    return Capabilities(
        server_version=facts["server_version"],
        database=facts["database"],
        role=facts["role"],
        superuser=facts["superuser"],
        can_create=facts["can_create"],
        catalog_owner=facts["catalog_owner"],
        owns_catalog=facts["owns_catalog"],
        migrated=facts["catalog_owner"] is not None and not due,
        pending=due,
        extension_available=facts["extension_available"],
        extension_version=facts["extension_version"],
        extension_library=_library(conn) if facts["extension_version"] and facts["can_use_catalog"] else None,
        lz4=facts["lz4"],
        tables=len(tables),
        tables_without_cold=sum(table.cold is None for table in tables),
        orphans=list(orphans(conn).values()) if usable else [],
        around_policies=_around_policies(conn) if usable else [],
    )


def _library(conn: Connection) -> str | None:
    try:
        with conn.transaction():
            row = conn.execute(sql("library_version")).fetchone()
    except (pg_errors.UndefinedFile, pg_errors.UndefinedFunction, pg_errors.InternalError_):
        return None
    return None if row is None else str(row[0])


def _around_policies(conn: Connection) -> list[str]:
    with translate_errors():
        return [found for (found,) in conn.execute(sql("around_policies")).fetchall()]


def prepare(conn: Connection) -> Prepared:
    """Make a database ready: migrate the catalog, and switch the extension on where that is possible.

    Raises:
        NotPermitted, SchemaMismatch: the catalog cannot be migrated, see :func:`ddstore.db.schema.migrate`.
    """
    ran = migrate(conn)
    try:
        return Prepared(ran, enable(conn), None)
    except (NotInstalled, NotPermitted) as error:
        return Prepared(ran, [], str(error))


def enable(conn: Connection) -> list[str]:
    """Switch the extension on, updating it if it is older, and let SQL see every managed table's compressed rows.

    Idempotent. Returns the labels of the tables that were attached. A table that cannot be (its columns changed, or
    it belongs to another role) is left as it is, with a warning.

    Raises:
        NotInstalled: the server lacks the extension's files, or cannot load them; or the catalog is missing.
        NotPermitted: CREATE EXTENSION needs a superuser.
    """
    with translate_errors(), conn.transaction():
        _create_extension(conn)
        conn.execute(sql("bind_cold_tables"))
        attached = []
        for table in list_tables(conn):
            if table.cold is not None:
                continue
            try:
                with conn.transaction():
                    attach_cold(conn, table)
                attached.append(table.label)
            except DDStoreError as error:
                logger.warning("SQL sees the hot rows of %s only: %s", table.label, error)
        return attached


def _create_extension(conn: Connection) -> None:
    row = conn.execute(sql("extension_versions")).fetchone()
    available, installed = (None, None) if row is None else row
    if available is None:
        raise NotInstalled(
            "the server does not have the extension ddstore, so SQL sees hot rows only",
            remedy="Run on the server's machine: ddstore extension install.",
        )
    if installed == available:
        return
    try:
        # In a savepoint: without the right, everything else still works.
        with conn.transaction():
            conn.execute(sql("create_extension") if installed is None else sql("update_extension"))
    except pg_errors.InsufficientPrivilege as error:
        raise NotPermitted(
            f"this role may not create the extension: {error.diag.message_primary}",
            remedy="Ask a superuser to run: CREATE EXTENSION ddstore SCHEMA ddstore;",
        ) from error
    except pg_errors.InvalidParameterValue as error:
        raise NotInstalled(
            f"the extension is version {installed} here, and the server's files are of {available}:"
            f" {error.diag.message_primary}",
            remedy="Install the files of a newer ddstore on the server's machine: ddstore extension install.",
        ) from error
    except (pg_errors.UndefinedFile, pg_errors.InternalError_, psycopg.OperationalError) as error:
        if conn.closed:
            raise
        raise NotInstalled(
            f"the server cannot load the extension: {error.diag.message_primary}",
            remedy="Build it for this very server: ddstore extension install.",
        ) from error
