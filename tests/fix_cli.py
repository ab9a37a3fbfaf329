"""Fixtures for the command line: run it in this process against a test database."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from typer.testing import CliRunner

from ddstore.cli import app


@dataclass(frozen=True)
class Outcome:
    """What one run of the program did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout as one JSON document."""
        return json.loads(self.out)


Cli = Callable[..., Outcome]


def run_cli(*arguments: str, stdin: str | None = None) -> Outcome:
    """Run ``ddstore`` in this process, on a wide terminal that is none; without --url no server answers."""
    env = {"COLUMNS": "160", "TERM": "dumb", "DDSTORE_URL": "postgresql://127.0.0.1:1/nobody"}
    result = CliRunner().invoke(app, arguments, input=stdin, env=env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def cli(database_url: str) -> Cli:
    """``ddstore --url <a fresh database with a catalog>``: call with the command's arguments."""
    return lambda *arguments, stdin=None: run_cli("--url", database_url, *arguments, stdin=stdin)
