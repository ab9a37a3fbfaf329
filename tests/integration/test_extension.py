"""The extension: built and installed once, switched on where the role may, never required."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ddstore.bounds import Absolute
from ddstore.db import build_extension
from ddstore.db.build_extension import install_extension
from ddstore.db.catalog import load_table
from ddstore.db.extension import capabilities, enable, prepare
from ddstore.db.manage import create_table, detach_cold, ensure_samples
from ddstore.db.pool import connect
from ddstore.db.resources import resource_dir
from ddstore.errors import NotInstalled, NotPermitted
from fix_cli import Cli, run_cli


def test_a_second_installation_is_instant(server: Any, needs_extension: None, monkeypatch: pytest.MonkeyPatch) -> None:
    if server.pg_config is None:
        pytest.skip("the server is not ours to install into")
    monkeypatch.setattr(build_extension, "_run", lambda command: pytest.fail("built again"))
    installed = install_extension(server.pg_config)
    assert not installed.built
    assert installed.library.is_file()
    assert installed.control.stat().st_mode & 0o444 == 0o444


def test_enable_attaches_tables_that_exist(plain_database_url: str, needs_extension: None) -> None:
    with connect(plain_database_url) as conn:
        table = create_table(conn, '"Plant"."Sensors"', time="time", columns={"temp": Absolute(0.05)})
        assert table.cold is None
        assert not capabilities(conn).sql_sees_cold_rows
        assert enable(conn) == ["Plant.Sensors"]
        assert enable(conn) == []
        table = load_table(conn, table.id)
        assert table.cold == "Plant.Sensors_cold"
        options = conn.execute(
            "SELECT attname::text, attfdwoptions FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0",
            ['"Plant"."Sensors_cold"'],
        ).fetchall()
        assert options == [("time", ["segment_column=time"]), ("temp", ["segment_column=c2"])]
        assert conn.execute('SELECT * FROM "Plant"."Sensors"').fetchall() == []
        assert detach_cold(conn, table).cold is None
        assert conn.execute('SELECT to_regclass(\'"Plant"."Sensors_cold"\')').fetchone() == (None,)


def test_new_tables_are_attached_at_once(plain_database_url: str, needs_extension: None) -> None:
    with connect(plain_database_url) as conn:
        assert prepare(conn).note is None
        assert ensure_samples(conn).cold == "ddstore.samples_cold"
        found = capabilities(conn)
        assert found.sql_sees_cold_rows
        assert (found.tables, found.tables_without_cold) == (1, 0)


def test_a_changed_table_does_not_stop_the_others(
    plain_database_url: str, needs_extension: None, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(plain_database_url) as conn:
        create_table(conn, "a", time="t", columns={"x": Absolute(1)})
        create_table(conn, "b", time="t", columns={"x": Absolute(1)})
        conn.execute("ALTER TABLE a ALTER x TYPE float4; CREATE TABLE b_cold ()")
        assert enable(conn) == []
        assert "column x is now real" in caplog.text
        assert "b_cold exists" in caplog.text
        conn.execute("DROP TABLE b_cold")
        assert enable(conn) == ["public.b"]


def test_an_ordinary_role_is_told_whom_to_ask(
    plain_database_url: str, needs_extension: None, ordinary_role: Callable[[str], str]
) -> None:
    with connect(ordinary_role(plain_database_url)) as conn:
        with pytest.raises(NotPermitted, match="Ask a superuser to run: CREATE EXTENSION"):
            enable(conn)
        prepared = prepare(conn)
        assert prepared.migrations == []
        assert prepared.note is not None
        found = capabilities(conn)
        assert (found.superuser, found.owns_catalog, found.migrated) == (False, False, True)
        assert found.extension_available is not None
        assert found.extension_version is None


def test_once_a_superuser_created_it_an_ordinary_owner_can_use_it(
    empty_database_url: str, needs_extension: None, ordinary_role: Callable[[str], str]
) -> None:
    url = ordinary_role(empty_database_url)
    with connect(empty_database_url) as admin, connect(url) as conn:
        admin.execute(f'GRANT CREATE ON DATABASE "{admin.info.dbname}" TO "{conn.info.user}"'.encode())
        admin.commit()
        assert prepare(conn).note is not None
        conn.commit()
        admin.execute("CREATE EXTENSION ddstore SCHEMA ddstore")
        admin.commit()
        table = create_table(conn, "mine.t", time="t", columns={"x": Absolute(1)})
        assert table.cold == "mine.t_cold"
        assert conn.execute("SELECT count(*) FROM mine.t").fetchone() == (0,)
        conn.commit()


def test_a_server_without_the_files(empty_database_url: str) -> None:
    with connect(empty_database_url) as conn:
        found = capabilities(conn)
        assert not found.migrated
        assert found.pending
        if found.extension_available is not None:
            if conn.info.server_version < 180000:
                pytest.skip("this server has the extension, and before PostgreSQL 18 that cannot be hidden")
            conn.execute("SET extension_control_path = '/nowhere'")
            conn.commit()
        prepared = prepare(conn)
        assert prepared.migrations
        assert "ddstore extension install" in str(prepared.note)
        assert ensure_samples(conn).cold is None


@pytest.mark.parametrize(
    ("absent", "message"),
    [(("make", "gmake"), "apt install make"), (("gcc", "cc", "clang"), "apt install gcc")],
)
def test_a_missing_tool_is_named(
    server: Any, monkeypatch: pytest.MonkeyPatch, absent: tuple[str, ...], message: str
) -> None:
    if server.pg_config is None:
        pytest.skip("the server is not ours to install into")
    real = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name in absent else real(name))
    monkeypatch.setattr(build_extension, "_fingerprint", lambda server: "never installed")
    with pytest.raises(NotInstalled, match=message):
        install_extension(server.pg_config)


def _fake_pg_config(place: Path, version: str = "17.2") -> Path:
    (place / "share" / "extension").mkdir(parents=True)
    (place / "lib").mkdir()
    program = place / "pg_config"
    answers = f"PostgreSQL {version}\n{place}/lib\n{place}/share\n{place}/pgxs.mk\n{place}/include\n"
    program.write_text(f"#!/bin/sh\nprintf '%s' '{answers}'\n")
    program.chmod(0o755)
    return program


def test_missing_headers_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotInstalled, match=r"apt install postgresql-server-dev-17"):
        install_extension(_fake_pg_config(tmp_path))


def test_a_missing_pg_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotInstalled, match="there is no program"):
        install_extension(tmp_path / "pg_config")


def test_a_failing_build_shows_the_compilers_words(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if server.pg_config is None:
        pytest.skip("the server is not ours to install into")
    (tmp_path / "extension").mkdir()
    (tmp_path / "extension" / "Makefile").write_text("all:\n\t@echo a hint from the compiler; false\n")
    monkeypatch.setattr(build_extension, "resource_dir", lambda name: tmp_path)
    fake = _fake_pg_config(tmp_path / "pg")
    (tmp_path / "pg" / "pgxs.mk").touch()
    (tmp_path / "pg" / "include").mkdir()
    (tmp_path / "pg" / "include" / "postgres.h").touch()
    with pytest.raises(NotInstalled, match="a hint from the compiler"):
        install_extension(fake)
    assert (tmp_path / "pg" / "share" / "extension" / "ddstore.build").read_text() == ""


def test_a_postgres_below_a_directory_with_spaces(server: Any, needs_extension: None, tmp_path: Path) -> None:
    """Make cannot handle spaces, and a checkout with its environment may well lie in one."""
    if server.pg_config is None:
        pytest.skip("the server is not ours to install into")
    copy = tmp_path / "my projects" / "pg"
    prefix = server.pg_config.parent.parent
    if not (prefix / "lib").is_dir() or prefix == Path("/usr"):
        pytest.skip("this PostgreSQL cannot be moved")
    shutil.copytree(prefix, copy, symlinks=True)
    for stale in copy.rglob("ddstore*"):
        stale.unlink()
    installed = install_extension(copy / "bin" / "pg_config")
    assert installed.built
    assert copy in installed.library.parents
    assert installed.library.is_file()
    assert not install_extension(copy / "bin" / "pg_config").built


def test_psycopg_alone_reads_a_managed_table(database_url: str) -> None:
    with connect(database_url) as conn:
        create_table(conn, "t", time="t", columns={"x": Absolute(1)})
        conn.execute("INSERT INTO t VALUES ('2024-01-01', 1.5)")
    with psycopg.connect(database_url) as conn:
        assert conn.execute("SELECT x FROM t").fetchone() == (1.5,)


@pytest.fixture
def newer_files(server: Any, database_url: str, needs_extension: None) -> Iterator[Callable[[str], Path]]:
    """Call with a version: the database finds files of it, and a script that leads there from the version it has."""
    with connect(database_url) as conn:
        if conn.info.server_version < 180000 or server.pg_config is None:
            pytest.skip("before PostgreSQL 18 a server has one place for extensions")
        row = conn.execute("SELECT extversion FROM pg_extension WHERE extname = 'ddstore'").fetchone()
        assert row is not None
    place = Path(tempfile.mkdtemp(prefix="ddstore-test-"))  # root's server runs as another user
    place.chmod(0o755)
    (place / "extension").mkdir()

    def make(version: str) -> Path:
        control = (resource_dir("sql") / "extension" / "ddstore.control").read_text()
        (place / "extension" / "ddstore.control").write_text(control.replace(f"'{row[0]}'", f"'{version}'"))
        update = place / "extension" / f"ddstore--{row[0]}--{version}.sql"
        if version > row[0]:
            update.write_text("COMMENT ON SERVER ddstore IS 'updated';")
        with psycopg.connect(database_url, autocommit=True) as conn:
            conn.execute(
                f"ALTER DATABASE \"{conn.info.dbname}\" SET extension_control_path = '{place}:$system'".encode()
            )
        return update

    yield make
    shutil.rmtree(place)


def _told(url: str) -> Any:
    (check,) = [c for c in run_cli("doctor", "--json", "--url", url).json["checks"] if c["name"] == "extension"]
    return check


def test_an_update_of_the_files_is_told_and_followed(
    newer_files: Callable[[str], Path], database_url: str, cli: Cli
) -> None:
    """The server's files first (extension install), then each database (migrate): doctor says what is due."""
    assert _told(database_url)["ok"]
    newer_files("9.0.0")
    assert "Update it to 9.0.0" in _told(database_url)["remedy"]
    assert cli("migrate").code == 0
    with connect(database_url) as conn:
        assert capabilities(conn).extension_version == "9.0.0"
        row = conn.execute("SELECT obj_description(oid) FROM pg_foreign_server WHERE srvname = 'ddstore'").fetchone()
        assert row == ("updated",)
    told = _told(database_url)  # the library is this version's still
    assert "9.0.0, but the server's library is 0.1.0" in told["found"]
    assert "ddstore extension install" in told["remedy"]


def test_files_of_an_older_version_are_told(newer_files: Callable[[str], Path], database_url: str) -> None:
    newer_files("0.0.1")
    with connect(database_url) as conn, pytest.raises(NotInstalled, match=r"is version 0\.1\.0 here.*are of 0\.0\.1"):
        enable(conn)


def test_versions_agree() -> None:
    """The control file, the library and the script that makes it; the makefile installs every script there is."""
    folder = resource_dir("sql") / "extension"
    (version,) = re.findall(r"default_version = '(.*)'", (folder / "ddstore.control").read_text())
    assert f'#define DDSTORE_EXTENSION_VERSION "{version}"' in (folder / "fdw.h").read_text()
    assert (folder / f"ddstore--{version}.sql").exists()
    assert "wildcard $(here)ddstore--*.sql" in (folder / "Makefile").read_text()
