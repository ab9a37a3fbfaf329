"""What every command shares: the two consoles, exit codes, the options --url and --json, and opening the store."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any

import typer
from rich.console import Console

from ddstore.config import Config
from ddstore.store import Store, connect

__all__ = ["JsonOption", "Settings", "Status", "UrlOption", "note", "open_store", "out", "print_json", "say"]


class Status(IntEnum):
    """The exit codes, as ``ddstore --help`` documents them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    DAMAGED = 3
    PARTIAL = 4
    UNREACHABLE = 5


@dataclass(slots=True)
class Settings:
    """What was given before the command: ``ctx.obj``."""

    url: str | None = None


UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="The database, postgresql://user@host/name. Default: $DDSTORE_URL, else the embedded server.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def out() -> Console:
    """Where results go. Made anew each time: tests and pipes replace the streams."""
    return Console(highlight=False)


def say() -> Console:
    """Where everything else goes: progress, notes and errors, on stderr."""
    return Console(stderr=True, highlight=False)


def note(text: str) -> None:
    """Tell the user something besides the result."""
    say().print(f"note: {text}", markup=False, style="dim", soft_wrap=True)


@contextmanager
def open_store(ctx: typer.Context, url: str | None) -> Iterator[Store]:
    """Connect to what ``--url`` (of the command, else of ``ddstore`` itself) names; close it at the end."""
    url = url or (ctx.obj.url if isinstance(ctx.obj, Settings) else None)
    console = say()
    if url is None and Config.from_env().url is None and console.is_terminal:
        with console.status("Starting the embedded PostgreSQL ..."):
            store = connect()
    else:
        store = connect(url)
    with store:
        yield store


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print ``value`` as JSON. What JSON has no number for (NaN, infinity) becomes text, as PostgreSQL does it."""
    typer.echo(json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False, default=str))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
