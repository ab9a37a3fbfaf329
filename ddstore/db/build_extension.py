"""Builds the extension from the sources that ship with the package, and installs it for one PostgreSQL."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ddstore.db.resources import resource_dir
from ddstore.errors import NotInstalled, NotPermitted

__all__ = ["InstalledExtension", "install_extension"]

_SOURCES = ("*.c", "*.h", "*.sql", "*.control", "Makefile")
_BUILD_TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class InstalledExtension:
    """Where the extension went, and whether it had to be built (False: these very sources were installed already)."""

    server_version: str
    library: Path
    control: Path
    built: bool


def install_extension(pg_config: Path) -> InstalledExtension:
    """Build the extension against the PostgreSQL that ``pg_config`` belongs to, and install it there.

    Instant when the same sources were installed before. Servers started later, and running ones, find it at once.

    Raises:
        NotInstalled: ``pg_config``, make, a C compiler or the server's headers are missing, or the build fails.
        NotPermitted: the PostgreSQL installation cannot be written to.
    """
    server = _Server.ask(pg_config)
    fingerprint = _fingerprint(server)
    if server.installed_fingerprint() == fingerprint:
        return server.result(built=False)
    make, compiler = _tools(server)
    with server.locked():
        if server.installed_fingerprint() == fingerprint:  # somebody else built it while we waited
            return server.result(built=False)
        server.marker.write_text("")  # an interrupted installation must not look like a finished one
        with _workspace() as work:
            _copy_sources(resource_dir("sql") / "extension", work / "extension")
            _copy_sources(resource_dir("core"), work / "core")
            command = [make, "-C", str(work / "extension"), f"PG_CONFIG={_plain_path(server, work)}"]
            command += [f"CORE={work / 'core'}", f"CC={compiler}"]
            _run([*command, "-j2", "all"])
            _run([*command, "install"])
        for path in (server.library, *server.control.parent.glob("ddstore*")):
            path.chmod(path.stat().st_mode | 0o444)  # a restrictive umask here must not lock the server out
        server.marker.write_text(fingerprint)
    return server.result(built=True)


@dataclass(frozen=True, slots=True)
class _Server:
    """What pg_config says."""

    pg_config: Path
    version: str
    pkglibdir: Path
    extension_dir: Path
    pgxs: Path
    headers: Path

    @classmethod
    def ask(cls, pg_config: Path) -> _Server:
        found = shutil.which(pg_config)
        if found is None:
            raise NotInstalled(
                f"there is no program {pg_config}",
                remedy="Give the path of the server's pg_config, e.g. /usr/lib/postgresql/17/bin/pg_config.",
            )
        options = ["--version", "--pkglibdir", "--sharedir", "--pgxs", "--includedir-server"]
        said = subprocess.run([found, *options], capture_output=True, text=True, check=True).stdout.splitlines()
        return cls(
            pg_config=Path(found).absolute(),
            version=said[0].split()[1],
            pkglibdir=Path(said[1]),
            extension_dir=Path(said[2]) / "extension",
            pgxs=Path(said[3]),
            headers=Path(said[4]),
        )

    @property
    def major(self) -> str:
        return self.version.split(".")[0]

    @property
    def library(self) -> Path:
        return self.pkglibdir / "ddstore.so"

    @property
    def control(self) -> Path:
        return self.extension_dir / "ddstore.control"

    @property
    def marker(self) -> Path:
        """Holds the fingerprint of what is installed, beside it; also the lock file."""
        return self.extension_dir / "ddstore.build"

    def installed_fingerprint(self) -> str | None:
        if not (self.library.exists() and self.control.exists() and self.marker.exists()):
            return None
        return self.marker.read_text()

    def result(self, *, built: bool) -> InstalledExtension:
        return InstalledExtension(self.version, self.library, self.control, built)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        for directory in (self.pkglibdir, self.extension_dir):
            if not os.access(directory, os.W_OK):
                raise NotPermitted(
                    f"{directory} cannot be written to",
                    remedy=f"Run as its owner: ddstore extension install --pg-config {self.pg_config}.",
                )
        with self.marker.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _tools(server: _Server) -> tuple[str, str]:
    make = shutil.which("gmake") or shutil.which("make")
    if make is None:
        raise NotInstalled("building the extension needs make", remedy="Install it: apt install make.")
    compiler = shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")
    if compiler is None:
        raise NotInstalled("building the extension needs a C compiler", remedy="Install one: apt install gcc.")
    if not server.pgxs.is_file() or not (server.headers / "postgres.h").is_file():
        raise NotInstalled(
            f"the headers of PostgreSQL {server.version} are missing",
            remedy=f"Install them: apt install postgresql-server-dev-{server.major}.",
        )
    return make, compiler


def _source_files(directory: Path) -> list[Path]:
    return sorted({file for pattern in _SOURCES for file in directory.glob(pattern) if file.is_file()})


def _copy_sources(source: Path, target: Path) -> None:
    target.mkdir()
    for file in _source_files(source):
        shutil.copyfile(file, target / file.name)


def _fingerprint(server: _Server) -> str:
    """Digest of the sources and of the server they were built for."""
    digest = hashlib.sha256(f"{server.version}\0{server.pkglibdir}\0".encode())
    for directory in (resource_dir("sql") / "extension", resource_dir("core")):
        for file in _source_files(directory):
            content = file.read_bytes()
            digest.update(f"{file.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


@contextlib.contextmanager
def _workspace() -> Iterator[Path]:
    """Give a temporary directory without spaces in its name: make splits words at them."""
    place = None if " " not in tempfile.gettempdir() else "/tmp"
    with tempfile.TemporaryDirectory(prefix="ddstore-build-", dir=place) as directory:
        yield Path(directory)


def _plain_path(server: _Server, work: Path) -> Path:
    """Return a pg_config whose answers hold no spaces, for make: where they do, one that answers through a link."""
    if not any(character.isspace() for character in f"{server.pg_config}{server.pgxs}{server.pkglibdir}"):
        return server.pg_config
    prefix = server.pg_config.resolve().parent.parent
    (work / "pg").symlink_to(prefix)
    shim = work / "pg_config"
    # Both paths reach awk through its environment, where no character of theirs is special.
    shim.write_text(
        "#!/bin/sh\n"
        f"prefix={shlex.quote(str(prefix))} link={shlex.quote(str(work / 'pg'))}\n"
        f'{shlex.quote(str(server.pg_config))} "$@" | prefix="$prefix" link="$link" awk \'{{\n'
        '  p = ENVIRON["prefix"]; out = ""\n'
        "  while ((at = index($0, p)) > 0) {\n"
        '    out = out substr($0, 1, at - 1) ENVIRON["link"]; $0 = substr($0, at + length(p)) }\n'
        "  print out $0 }'\n"
    )
    shim.chmod(0o755)
    return shim


def _run(command: list[str]) -> None:
    # Neither an outer make's flags nor the user's compiler flags belong into this build (invariant 3: bit-exact).
    dropped = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "CFLAGS", "CPPFLAGS", "LDFLAGS", "COPT", "PROFILE", "DESTDIR"}
    env = {name: value for name, value in os.environ.items() if name not in dropped}
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        timeout=_BUILD_TIMEOUT_S,
        env=env | {"LC_ALL": "C"},
    )
    if done.returncode != 0:
        raise NotInstalled(
            f"building the extension failed:\n{done.stdout[-3000:]}",
            remedy="The text above is the compiler's; please report it.",
        )
