"""Segments that libbsc coded, in SQL and through the store: named, refused with a remedy, read where trusted."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest
from psycopg import errors as pg_errors
from psycopg.sql import SQL, Identifier, Literal

from ddstore import connect
from ddstore.errors import NotInstalled, NotPermitted
from fix_bsc import FROZEN, frozen_rows
from fix_fdw import ColdTable
from fix_native import CORE, ROOT
from fix_postgres import Server

TIMES = np.arange(600, dtype=np.int64) * 1_000_000


@pytest.fixture
def coded(cold_table: Callable[..., ColdTable]) -> ColdTable:
    """Two columns of one segment, the second as libbsc coded it."""
    made = cold_table({"device": "text"}, {"level": "float8", "temp": "float8"})
    values, valid = frozen_rows()
    rows = [float(v) if there else None for v, there in zip(values, valid, strict=True)]
    made.cold(["a"], TIMES, {"level": [0.5] * 600, "temp": rows})
    made.conn.execute(
        SQL("UPDATE {} SET {} = {}").format(
            made.table.segments_identifier,
            Identifier(f"{made.table.columns['temp'].segment_column}_residual"),
            Literal(FROZEN),
        )
    )
    made.conn.commit()
    return made


@pytest.fixture(scope="module")
def library(libbsc: Path, server: Server) -> Iterator[Path]:
    """The extension's library, built with libbsc, where the server's own user can read it."""
    if server.pg_config is None:
        pytest.skip("the server is not ours: nothing can be built for it")
    folder = Path(tempfile.mkdtemp(prefix="ddstore-bsc-"))
    makefile = ROOT / "sql" / "extension" / "Makefile"
    command = ["make", "-s", "-j2", "-f", str(makefile), f"PG_CONFIG={server.pg_config}", f"CORE={CORE}", "CC=gcc"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    try:
        subprocess.run([*command, f"WITH_BSC={libbsc}", "all"], cwd=folder, check=True, env=environment)
        folder.chmod(0o755)
        yield folder / "ddstore.so"
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def readable(coded: ColdTable, library: Path, database_url: str) -> ColdTable:
    """The same in a database whose sessions, from now on, load that library."""
    with psycopg.connect(database_url) as conn:  # one that has not loaded the other
        conn.execute(
            SQL(
                "CREATE OR REPLACE FUNCTION ddstore.fdw_handler() RETURNS fdw_handler AS {}, 'ddstore_fdw_handler'"
                " LANGUAGE C STRICT"
            ).format(Literal(str(library)))
        )
    return coded


def test_without_libbsc_the_error_says_what_to_do(coded: ColdTable) -> None:
    with pytest.raises(pg_errors.FeatureNotSupported, match=r"_residual.: it is coded by libbsc") as caught:
        coded.conn.execute(SQL("SELECT temp FROM {}").format(coded.table.identifier))
    assert "ddstore release" in (caught.value.diag.message_hint or "")
    coded.conn.rollback()
    row = coded.conn.execute(SQL("SELECT count(*), sum(level) FROM {}").format(coded.table.identifier)).fetchone()
    assert row == (600, 300.0)  # other columns of the segment are not touched by it


@pytest.mark.usefixtures("without_bsc")
def test_the_store_names_it(coded: ColdTable, database_url: str) -> None:
    with connect(database_url) as store:
        (stats,) = store.stats()
        (temp,) = [column for column in stats.columns if column.column == "temp"]
        assert [(coding.mode, coding.coder, coding.rows) for coding in temp.codings] == [("lattice", "bsc", 600)]
        assert temp.escapes == 1
        with pytest.raises(NotInstalled, match=r"coded by libbsc.*operations") as caught:
            store.read(table="plant.sensors", key={"device": "a"})
        assert caught.value.column == "temp"
        (damaged,) = store.verify().damaged
        assert (damaged.column, "coded by libbsc" in damaged.what) == ("temp", True)


@pytest.mark.usefixtures("with_bsc")
def test_the_store_reads_it_where_it_is_trusted(
    coded: ColdTable, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DDSTORE_TRUST_BSC", raising=False)
    with connect(database_url) as store:
        with pytest.raises(NotPermitted, match="DDSTORE_TRUST_BSC=1") as caught:
            store.read(table="plant.sensors", key={"device": "a"})
        assert caught.value.column == "temp"
        monkeypatch.setenv("DDSTORE_TRUST_BSC", "1")
        assert store.verify().ok
        store.release("plant.sensors")
    assert coded.differences() == []


def test_a_superuser_may_let_sql_read_it(readable: ColdTable, database_url: str) -> None:
    query = SQL("SELECT temp FROM {}").format(readable.table.identifier)
    with psycopg.connect(database_url) as conn:
        with pytest.raises(pg_errors.InsufficientPrivilege, match="coded by libbsc") as caught:
            conn.execute(query)
        assert "ddstore.trust_bsc" in (caught.value.diag.message_hint or "")
        conn.rollback()
        conn.execute("SET ddstore.trust_bsc = on")
        readable.conn.rollback()
        assert ColdTable(conn, readable.table, readable.truth).differences() == []


def test_nobody_else_may(readable: ColdTable, database_url: str, ordinary_role: Callable[[str], str]) -> None:
    query = SQL("SELECT temp FROM {}").format(readable.table.identifier)
    url = ordinary_role(database_url)
    with psycopg.connect(url) as conn:
        role = Identifier(conn.info.user)
        readable.conn.execute(SQL("GRANT USAGE ON SCHEMA plant TO {}").format(role))
        readable.conn.execute(SQL("GRANT SELECT ON {} TO {}").format(readable.table.identifier, role))
        readable.conn.commit()
        conn.execute("SET ddstore.trust_bsc = on")  # before the library is loaded anybody may set anything
        with pytest.raises(pg_errors.InsufficientPrivilege, match="coded by libbsc"):
            conn.execute(query)
        conn.rollback()
        with pytest.raises(pg_errors.InsufficientPrivilege, match="permission denied to set"):
            conn.execute("SET ddstore.trust_bsc = on")


def test_damage_is_damage(readable: ColdTable, database_url: str) -> None:
    residual = Identifier(f"{readable.table.columns['temp'].segment_column}_residual")
    readable.conn.execute(
        SQL("UPDATE {} SET {c} = set_byte({c}, 90, 0)").format(readable.table.segments_identifier, c=residual)
    )
    readable.conn.commit()
    with psycopg.connect(database_url) as conn:
        conn.execute("SET ddstore.trust_bsc = on")
        with pytest.raises(pg_errors.DataCorrupted, match="checksum"):
            conn.execute(SQL("SELECT temp FROM {}").format(readable.table.identifier))
