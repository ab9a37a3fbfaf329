"""The embedded server: shared between processes, safe from other users, in any directory."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from ddstore.db.embedded import embedded_bin_dirs, embedded_server
from ddstore.db.pool import connect
from ddstore.db.server import LocalServer
from ddstore.errors import ConnectionFailed, NotInstalled, NotPermitted

try:
    embedded_bin_dirs()
except NotInstalled as missing:
    pytest.skip(str(missing), allow_module_level=True)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the server's OS user can reach, which pytest's own are not; with spaces and quotes in it."""
    root = Path(tempfile.mkdtemp(prefix="ddstore it's "))
    root.chmod(0o755)
    yield root
    shutil.rmtree(root)


@pytest.fixture
def server(place: Path) -> Iterator[LocalServer]:
    """A server of its own, stopped afterwards."""
    server = embedded_server(place / "home", settings={"fsync": "off"})
    yield server
    server.stop()
    server.release()


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def test_starting_is_idempotent_and_stopping_too(server: LocalServer) -> None:
    url = server.start()
    assert server.start() == url
    with connect(url) as conn:
        assert conn.info.dbname == "ddstore"
        conn.execute("CREATE TABLE kept (x int)")
    server.stop()
    server.stop()
    assert not _answers(url)
    assert server.start() == url, "URLs survive a restart"
    with connect(url) as conn:
        assert conn.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_only_the_owner_reaches_it(server: LocalServer) -> None:
    server.start()
    assert stat.S_IMODE(server.pgdata.stat().st_mode) == 0o700
    assert stat.S_IMODE((server.home / "password").stat().st_mode) == 0o600
    sockets = [path for path in server._socket_dir().iterdir() if path.is_socket()]
    assert [stat.S_IMODE(path.stat().st_mode) for path in sockets] == [0o700]


def test_tcp_on_localhost_needs_the_password(server: LocalServer) -> None:
    by_socket = server.start()
    url = server.start(on_localhost=True)
    assert "@127.0.0.1:" in url
    assert _answers(url)
    assert _answers(by_socket), "URLs given out before still work"
    password = (server.home / "password").read_text()
    assert not _answers(url.replace(password, "guess"))
    assert server.start(on_localhost=True) == url


def test_a_long_path_gets_a_short_socket(place: Path) -> None:
    server = LocalServer(place / ("x" * 120), embedded_server(place / "y").bin_dir, {"fsync": "off"})
    try:
        url = server.start()
        assert _answers(url)
        assert str(server.home) not in url
    finally:
        server.release()
    assert not _answers(url)


_USER = """
    import sys
    from pathlib import Path
    from ddstore.db.embedded import embedded_server
    print(embedded_server(Path(sys.argv[1])).start(), flush=True)
    sys.stdin.readline()
"""


def _process(home: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(_USER), str(home)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_it_lives_as_long_as_the_last_process_that_uses_it(place: Path) -> None:
    home = place / "shared"
    with _process(home) as first, _process(home) as second, _process(home) as killed:
        assert first.stdout is not None
        assert second.stdout is not None
        assert killed.stdout is not None
        urls = {process.stdout.readline().strip() for process in (first, second, killed) if process.stdout}
        assert len(urls) == 1
        (url,) = urls
        killed.kill()
        killed.wait()
        first.communicate("\n")
        assert first.returncode == 0
        assert _answers(url)
        second.communicate("\n")
        assert second.returncode == 0
    assert not _answers(url)


def test_keep_running_outlives_the_process(place: Path) -> None:
    home = place / "kept"
    script = textwrap.dedent(_USER).replace(".start()", ".start(keep_running=True)")
    done = subprocess.run(
        [sys.executable, "-c", script, str(home)], input="", capture_output=True, text=True, check=True
    )
    url = done.stdout.strip()
    assert _answers(url)
    server = embedded_server(home)
    server.stop()
    assert not _answers(url)


def test_a_stale_pid_file_is_no_server(server: LocalServer) -> None:
    url = server.start()
    pid_file = server.pgdata / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    server.stop()
    # As after a crash and a reboot: the pid now belongs to another user's process. (One of the server's own user is
    # PostgreSQL's to judge, and it declines to start.)
    if os.geteuid() != 0 and Path("/proc/1").stat().st_uid == os.geteuid():
        pytest.skip("process 1 is ours")
    pid_file.write_text("\n".join(["1", *lines[1:]]) + "\n")
    if os.geteuid() == 0:
        shutil.chown(pid_file, server.server_user)
    assert server.start() == url
    assert _answers(url)


def test_an_interrupted_initdb_is_done_again(server: LocalServer) -> None:
    half = server.home / "pgdata.partial"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18")
    assert _answers(server.start())
    assert not half.exists()


def test_a_server_that_cannot_start_says_why(place: Path) -> None:
    server = LocalServer(place / "bad", embedded_server(place / "z").bin_dir, {"shared_buffers": "nonsense"})
    with pytest.raises(ConnectionFailed, match="shared_buffers"):
        server.start()


def test_every_packaged_version_runs(place: Path) -> None:
    for major in embedded_bin_dirs():
        server = embedded_server(place / str(major), major=major, settings={"fsync": "off"})
        with connect(server.start()) as conn:
            assert conn.info.server_version // 10000 == major
        server.release()


def test_a_cluster_of_an_absent_version_is_refused(place: Path) -> None:
    (place / "old" / "pgdata").mkdir(parents=True)
    (place / "old" / "pgdata" / "PG_VERSION").write_text("13\n")
    with pytest.raises(NotInstalled, match="needs PostgreSQL 13"):
        embedded_server(place / "old")


_AS_NOBODY = """
    import os, pwd, sys
    from pathlib import Path
    import psycopg
    from ddstore.db.embedded import embedded_server
    from ddstore.errors import NotPermitted

    own, foreign, taken = map(Path, sys.argv[1:])
    nobody = pwd.getpwnam("nobody")
    os.chown(own, nobody.pw_uid, nobody.pw_gid)
    embedded_server(own / "home")
    # After the imports: the interpreter may live where other users cannot look.
    os.setgroups([])
    os.setgid(nobody.pw_gid)
    os.setuid(nobody.pw_uid)
    with psycopg.connect(embedded_server(own / "home").start()) as conn:
        print(conn.execute("SHOW data_directory").fetchone()[0])
    for home in (foreign, taken):
        try:
            embedded_server(home).start()
        except NotPermitted as error:
            print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_and_a_foreign_directory(place: Path) -> None:
    own, foreign, taken = place / "own", place / "foreign", place / "taken"
    for directory in (own, foreign, taken / "pgdata"):
        directory.mkdir(parents=True)
    (taken / "pgdata").chmod(0o700)
    script = textwrap.dedent(_AS_NOBODY)
    done = subprocess.run(
        [sys.executable, "-c", script, str(own), str(foreign), str(taken)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    directory, *refusals = done.stdout.splitlines()
    assert directory == str(own / "home" / "pgdata")
    assert ["DDSTORE_HOME" in refusal for refusal in refusals] == [True, True]


def test_a_planted_socket_directory_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    server = LocalServer(place / ("x" * 120), embedded_server(place / "y").bin_dir)
    server.start()  # creates the OS user, when we are root
    server.stop()
    server.release()
    ours = server._socket_dir()
    assert server._socket_dir() == ours
    ours.chmod(0o777)
    with pytest.raises(NotPermitted, match="not ours alone"):
        server._socket_dir()
    ours.rmdir()
    ours.symlink_to(place)
    with pytest.raises(NotPermitted, match="not ours alone"):
        server._socket_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another user")
def test_a_package_installed_under_a_strict_umask(place: Path) -> None:
    bin_dir = max(embedded_bin_dirs().items())[1]
    installation, package = bin_dir.parents[:2]
    site = place / "site-packages"
    copy = site / package.name / installation.name
    shutil.copytree(installation, copy, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, site / libraries.name)
    for path in (site, *site.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o700)
    server = LocalServer(place / "home", copy / "bin", {"fsync": "off"})
    try:
        assert _answers(server.start())
    finally:
        server.release()
