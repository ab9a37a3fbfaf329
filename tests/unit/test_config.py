"""Settings from the environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ddstore.config import Config


def test_url_and_home_come_from_the_environment() -> None:
    config = Config.from_env({"DDSTORE_URL": "postgresql://h/d", "DDSTORE_HOME": "/x/y", "XDG_DATA_HOME": "/z"})
    assert config == Config(url="postgresql://h/d", data_dir=Path("/x/y"))


def test_an_empty_url_is_no_url() -> None:
    assert Config.from_env({"DDSTORE_URL": ""}).url is None


def test_data_dir_follows_xdg() -> None:
    assert Config.from_env({"XDG_DATA_HOME": "/data"}).data_dir == Path("/data/ddstore")


@pytest.mark.parametrize("env", [{}, {"XDG_DATA_HOME": "relative"}])
def test_data_dir_default_depends_on_who_asks(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/u"))
    assert Config.from_env(env).data_dir == Path("/home/u/.local/share/ddstore")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert Config.from_env(env).data_dir == Path("/var/lib/ddstore")
