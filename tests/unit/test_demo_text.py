"""Bounds, durations and sizes as people write and read them."""

from __future__ import annotations

from datetime import timedelta

import pytest
import typer

from ddstore.bounds import Absolute, Bound, Lossless, RangeRelative, Relative
from ddstore.cli.text import bound_text, bytes_text, parse_bound, parse_bounds, parse_column, parse_duration

_BOUNDS = [
    ("0.05", Absolute(0.05)),
    ("1e-3rel", Relative(1e-3)),
    ("0.1range", RangeRelative(0.1)),
    ("Lossless", Lossless()),
    (" 5 ", Absolute(5)),
    ("2abs", Absolute(2)),
]


@pytest.mark.parametrize(("text", "bound"), _BOUNDS)
def test_bounds(text: str, bound: Bound) -> None:
    assert parse_bound(text) == bound
    assert parse_bound(bound_text(bound)) == bound


@pytest.mark.parametrize("text", ["", "abc", "0", "-1", "nan", "inf", "rel", "1percent"])
def test_what_is_no_bound(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_bound(text)


def test_bounds_of_columns() -> None:
    assert parse_bounds(["a=0.1", "b=c=1rel"]) == {"a": Absolute(0.1), "b=c": Relative(1)}
    for text in ("0.1", "=0.1"):
        with pytest.raises(typer.BadParameter, match="which column"):
            parse_bounds([text])


def test_columns() -> None:
    assert parse_column("temp") == ("temp", ("float8", Lossless()))
    assert parse_column("rpm:float4=1e-3rel") == ("rpm", ("float4", Relative(1e-3)))
    assert parse_column("temp=0.5") == ("temp", ("float8", Absolute(0.5)))
    with pytest.raises(typer.BadParameter):
        parse_column(":float8")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60s", 60), ("5m", 300), ("2h", 7200), ("7d", 604800), ("500ms", 0.5), ("1.5", 1.5), ("0", 0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "-1s", "soon", "5w", "9e9d", "99999999999d"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_duration(text)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1234, "1.2 kB"), (123456, "123 kB"), (9.6e12, "9.6 TB")]
)
def test_bytes(count: float, text: str) -> None:
    assert bytes_text(count) == text
