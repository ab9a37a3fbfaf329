"""Servers beside the session's own: of other major versions, and clusters that a test sets up itself."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ddstore.db.build_extension import install_extension
from ddstore.db.server import LocalServer
from ddstore.errors import NotInstalled, NotPermitted

ServerOf = Callable[[int], Any]


@pytest.fixture(scope="session")
def server_of(server: Any) -> Iterator[ServerOf]:
    """Gives a server of a major version, with the extension; skips where that cannot be."""
    from fix_postgres import bin_dirs, running_server  # another plugin: pytest wants to load it by itself

    running: dict[int, Any] = {}
    with ExitStack() as stack:

        def get(major: int) -> Any:
            if os.environ.get("DDSTORE_TEST_NO_EXTENSION"):
                pytest.skip("DDSTORE_TEST_NO_EXTENSION is set")
            found = bin_dirs()
            if major not in found:
                pytest.skip(f"this machine has no PostgreSQL {major}")
            try:
                install_extension(found[major] / "pg_config")
            except (NotInstalled, NotPermitted) as error:
                if "building the extension failed" in str(error):
                    raise
                pytest.skip(str(error))
            if major not in running:
                same = server.pg_config is not None and server.pg_config.parent == found[major]
                running[major] = server if same else stack.enter_context(running_server(found[major]))
            return running[major]

        yield get


@pytest.fixture
def local_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], LocalServer]]:
    """Makes a cluster's directory for the given programs; nothing is initialised or started."""
    made: list[LocalServer] = []

    def make(bin_dir: Path) -> LocalServer:
        # Not pytest's tmp_path: its parents are closed to other users, and root's server runs as another one.
        server = LocalServer(Path(tempfile.mkdtemp(prefix="ddstore-test-")), bin_dir, {"fsync": "off"})
        server._prepare_home()
        made.append(server)
        return server

    yield make
    for server in made:
        server.stop()
        shutil.rmtree(server.home)
