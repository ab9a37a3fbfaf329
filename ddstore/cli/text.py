"""Values as people write and read them on a terminal: bounds, durations, bytes, counts."""

from __future__ import annotations

import re
from datetime import timedelta

import typer

from ddstore.bounds import Absolute, Bound, Lossless, RangeRelative, Relative
from ddstore.errors import InvalidBound

__all__ = [
    "bound_text",
    "bytes_text",
    "parse_bound",
    "parse_bounds",
    "parse_column",
    "parse_duration",
    "rate_text",
    "series_text",
]

_BOUND_FORMS = "0.05 (absolute), 1e-3rel (of each value), 0.01range (of the column's range) or lossless"
_DURATION = re.compile(r"(?P<number>\d+(\.\d*)?|\.\d+)\s*(?P<unit>ms|s|m|min|h|d)?")
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse_bound(text: str) -> Bound:
    """Read a bound: ``0.05``, ``1e-3rel``, ``0.01range`` or ``lossless``.

    Raises:
        typer.BadParameter: it is none of these.
    """
    word = text.strip().lower()
    if word == "lossless":
        return Lossless()
    kind: type[Bound] = Absolute
    for suffix, other in (("range", RangeRelative), ("rel", Relative), ("abs", Absolute)):
        if word.endswith(suffix):
            word, kind = word.removesuffix(suffix).strip(), other
            break
    try:
        return kind(float(word))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a max error. Write {_BOUND_FORMS}.") from None
    except InvalidBound as error:
        raise typer.BadParameter(str(error)) from None


def parse_bounds(texts: list[str]) -> dict[str, Bound]:
    """Read ``COLUMN=BOUND`` options.

    Raises:
        typer.BadParameter: one is not of that form.
    """
    found: dict[str, Bound] = {}
    for text in texts:
        column, separator, bound = text.rpartition("=")
        if not separator or not column:
            raise typer.BadParameter(f"{text!r} does not say which column. Write COLUMN=BOUND, such as temp=0.05.")
        found[column] = parse_bound(bound)
    return found


def parse_column(text: str) -> tuple[str, tuple[str, Bound]]:
    """Read ``NAME[:TYPE][=BOUND]``: the name, its type (float8) and its bound (lossless).

    Raises:
        typer.BadParameter: there is no name, or the bound is none.
    """
    head, _, bound = text.partition("=")
    name, _, type_ = head.partition(":")
    if not name:
        raise typer.BadParameter(f"{text!r} has no name. Write NAME:TYPE=BOUND, such as temp:float8=0.05.")
    return name, (type_ or "float8", parse_bound(bound) if bound else Lossless())


def parse_duration(text: str) -> timedelta:
    """Read ``60s``, ``5m``, ``2h``, ``7d``, ``500ms``; a bare number is seconds.

    Raises:
        typer.BadParameter: it is no duration.
    """
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a duration. Write 60s, 5m, 2h or 7d.")
    try:
        return timedelta(seconds=float(match["number"]) * _SECONDS[match["unit"] or "s"])
    except OverflowError:
        raise typer.BadParameter(f"{text!r} is too long a duration.") from None


def bytes_text(count: float) -> str:
    """``1234567`` as ``1.2 MB`` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.5 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def rate_text(value: float | None, unit: str = "") -> str:
    """A ratio or a cost per sample with three digits; a dash for None."""
    return "–" if value is None else f"{value:.3g}{unit}"


def bound_text(bound: Bound) -> str:
    """A bound as :func:`parse_bound` reads it: ``0.05``, ``0.001rel``, ``0.01range``, ``lossless``."""
    suffix = {"absolute": "", "relative": "rel", "range": "range"}
    return "lossless" if bound.kind == "lossless" else f"{bound.value:g}{suffix[bound.kind]}"


def series_text(key: tuple[str | None, ...] | list[str | None]) -> str:
    """A series' key for people: ``boiler-1/temp``; a dash where the table has no key."""
    return "/".join("NULL" if part is None else part for part in key) if key else "–"
