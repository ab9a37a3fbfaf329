"""A real PostgreSQL for the tests: found or started once per session, a fresh database per test.

The server is the first of: ``$DDSTORE_TEST_DSN``; the embedded one; one that ``initdb`` makes with the PostgreSQL
of this machine; a container, where testcontainers is installed. ``$DDSTORE_TEST_PG`` (15 to 18) picks the version.
``$DDSTORE_TEST_NO_EXTENSION`` leaves the extension out: tests that need it are skipped.

Fixtures, each a URL: ``database_url`` (catalog, and the extension when there is a compiler), ``plain_database_url``
(catalog only), ``empty_database_url``; ``db`` and ``conn`` are connected to ``database_url``.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from ddstore.db.build_extension import install_extension
from ddstore.db.embedded import embedded_bin_dirs
from ddstore.db.extension import enable
from ddstore.db.pool import Connection, Database, connect
from ddstore.db.schema import migrate
from ddstore.db.server import LocalServer
from ddstore.errors import NotInstalled, NotPermitted

# Durability is what costs time in tests, and a test server has nothing to lose.
_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "64MB"}

CloneDatabase = Callable[[], str]


@dataclass(frozen=True)
class Server:
    """The session's server: its URL (as a superuser, of any database) and its pg_config, where it is ours."""

    url: str
    pg_config: Path | None


def bin_dirs() -> dict[int, Path]:
    """PostgreSQL programs on this machine by major version; the embedded package's win."""
    found = {
        int(path.parent.parent.name): path.parent
        for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")
        if path.parent.parent.name.isdigit()
    }
    try:
        return found | embedded_bin_dirs()
    except NotInstalled:
        return found


def _default_bin_dir() -> Path | None:
    found = bin_dirs()
    if wanted := os.environ.get("DDSTORE_TEST_PG"):
        if int(wanted) not in found:
            pytest.exit(f"DDSTORE_TEST_PG={wanted}, but this machine has {sorted(found)}", returncode=2)
        return found[int(wanted)]
    try:
        embedded = embedded_bin_dirs()
    except NotInstalled:
        embedded = {}
    candidates = embedded or found
    return candidates[max(candidates)] if candidates else None


@contextmanager
def running_server(bin_dir: Path) -> Iterator[Server]:
    """Run a throw-away server with the programs in ``bin_dir``."""
    # Not pytest's tmp_path: its parents are closed to other users, and root's server runs as another one.
    home = Path(tempfile.mkdtemp(prefix="ddstore-test-"))
    server = LocalServer(home, bin_dir, _SETTINGS)
    try:
        yield Server(server.start(), bin_dir / "pg_config")
    finally:
        server.release()
        shutil.rmtree(home)


@contextmanager
def _container() -> Iterator[Server]:
    postgres = pytest.importorskip(
        "testcontainers.postgres", reason="no PostgreSQL: set DDSTORE_TEST_DSN or pip install 'ddstore[embedded]'"
    )
    image = f"postgres:{os.environ.get('DDSTORE_TEST_PG', '18')}"
    with postgres.PostgresContainer(image, driver=None) as container:
        yield Server(container.get_connection_url(), None)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The session's PostgreSQL server."""
    if dsn := os.environ.get("DDSTORE_TEST_DSN"):
        yield Server(dsn, None)
        return
    bin_dir = _default_bin_dir()
    with running_server(bin_dir) if bin_dir is not None else _container() as found:
        yield found


@pytest.fixture(scope="session")
def server_url(server: Server) -> str:
    """URL of the session's server, as a superuser."""
    return server.url


@pytest.fixture(scope="session")
def extension_missing(server: Server) -> str | None:
    """Why the server lacks the extension; None when it has it. A failing build is a failing test run."""
    if os.environ.get("DDSTORE_TEST_NO_EXTENSION"):
        return "DDSTORE_TEST_NO_EXTENSION is set"
    if server.pg_config is not None:
        try:
            install_extension(server.pg_config)
        except (NotInstalled, NotPermitted) as error:
            if "building the extension failed" in str(error):
                raise
            return str(error)
        return None
    with psycopg.connect(server.url) as conn:
        row = conn.execute("SELECT FROM pg_available_extensions WHERE name = 'ddstore'").fetchone()
    return None if row is not None else "the server at DDSTORE_TEST_DSN does not have the extension"


@pytest.fixture
def needs_extension(extension_missing: str | None) -> None:
    """Skips the test when the server lacks the extension."""
    if extension_missing is not None:
        pytest.skip(extension_missing)


@contextmanager
def _database(server: Server, name: str, template: str = "template0") -> Iterator[str]:
    with psycopg.connect(server.url, autocommit=True) as conn:
        conn.execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(template)))
    try:
        yield make_conninfo(server.url, dbname=name)
    finally:
        with psycopg.connect(server.url, autocommit=True) as conn:
            conn.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


def _unique(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(6)}"


@pytest.fixture(scope="session")
def plain_template(server: Server) -> Iterator[str]:
    """Name of a database that holds the migrated catalog and nothing else."""
    name = _unique("ddstore_plain")
    with _database(server, name) as url:
        with connect(url) as conn:
            migrate(conn)
        yield name


@pytest.fixture(scope="session")
def full_template(server: Server, plain_template: str, extension_missing: str | None) -> Iterator[str]:
    """Name of a database that holds the migrated catalog and the extension, where the server has it."""
    if extension_missing is not None:
        yield plain_template
        return
    name = _unique("ddstore_full")
    with _database(server, name, plain_template) as url:
        with connect(url) as conn:
            enable(conn)
        yield name


@pytest.fixture
def database_url(server: Server, full_template: str) -> Iterator[str]:
    """A fresh database with the catalog and, where the server has it, the extension."""
    with _database(server, _unique("ddstore_test"), full_template) as url:
        yield url


@pytest.fixture
def plain_database_url(server: Server, plain_template: str) -> Iterator[str]:
    """A fresh database with the catalog and without the extension."""
    with _database(server, _unique("ddstore_test"), plain_template) as url:
        yield url


@pytest.fixture
def empty_database_url(server: Server) -> Iterator[str]:
    """A fresh database with nothing in it."""
    with _database(server, _unique("ddstore_test")) as url:
        yield url


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """A pool on ``database_url``."""
    with Database(database_url) as database:
        yield database


@pytest.fixture
def conn(database_url: str) -> Iterator[Connection]:
    """A connection to ``database_url``, in UTC, autocommit off."""
    with connect(database_url) as connection:
        yield connection


@pytest.fixture
def ordinary_role(server: Server) -> Iterator[Callable[[str], str]]:
    """A role without superuser: call with a database's URL to get that database's URL for this role."""
    name = _unique("ddstore_role")
    password = secrets.token_urlsafe(16)
    urls: list[str] = []

    def url_for(url: str) -> str:
        urls.append(url)
        return make_conninfo(url, user=name, password=password)

    with psycopg.connect(server.url, autocommit=True) as conn:
        conn.execute(SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(Identifier(name), password))
    yield url_for
    for url in urls:
        with psycopg.connect(url, autocommit=True) as conn:
            owner = conninfo_to_dict(url).get("user") or conn.info.user
            conn.execute(SQL("REASSIGN OWNED BY {} TO {}").format(Identifier(name), Identifier(str(owner))))
            conn.execute(SQL("DROP OWNED BY {}").format(Identifier(name)))
    with psycopg.connect(server.url, autocommit=True) as conn:
        conn.execute(SQL("DROP ROLE {}").format(Identifier(name)))


@pytest.fixture
def plain(plain_database_url: str) -> Iterator[Connection]:
    """A connection to a database without the extension."""
    with connect(plain_database_url) as conn:
        yield conn
