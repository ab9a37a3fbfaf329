"""What is left of a bound: two errors in a row never exceed it, in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddstore.bounds import Absolute, Bound, Lossless, RangeRelative, Relative
from ddstore.codec.bound_check import absolute_bound
from ddstore.compact.fidelity import Written, error_of, remaining
from ddstore.profiles import Profile

BOUNDS = st.one_of(
    st.just(Lossless()),
    st.floats(1e-12, 1e3).map(Absolute),
    st.floats(1e-12, 0.9).map(Relative),
    st.floats(1e-12, 0.9).map(RangeRelative),
)
VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20)


@settings(max_examples=300, deadline=None)
@given(VALUES, BOUNDS, BOUNDS, st.lists(st.sampled_from([-1.0, 1.0, 0.0]), min_size=20, max_size=20))
def test_the_worst_of_both(values: list[float], before: Bound, today: Bound, signs: list[float]) -> None:
    """Every value is moved as far as both bounds let it, always the same way, and stays within what is recorded."""
    x = np.array(values)
    read = _moved(x, error_of(x, before), np.array(signs[: len(x)]))
    bound, error = remaining(read, [error_of(x, before)], today)
    y = _moved(read, bound if bound.kind != "range" else error_of(read, bound), np.array(signs[: len(x)]))
    assert error is not None
    for a, b in zip(x, y, strict=True):
        allowed = Fraction(error.value) * (abs(Fraction(a)) if error.kind == "relative" else 1)
        assert abs(Fraction(a) - Fraction(b)) <= allowed * (1 + Fraction(1, 1 << 40)), (before, today, bound, error)
    if bound.kind != "lossless" and today.kind in ("absolute", "relative"):
        # What is asked for today holds for what was first written, with no tolerance.
        for a, b in zip(x, y, strict=True):
            size = abs(Fraction(a)) if today.kind == "relative" else 1
            assert abs(Fraction(a) - Fraction(b)) <= Fraction(today.value) * size


def _moved(values: np.ndarray[Any, Any], bound: Bound, signs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    allowed = np.broadcast_to(absolute_bound(values, bound), values.shape)
    moved = values + signs * allowed
    for _ in range(3):  # back inside, where the sum was rounded outwards
        beyond = np.array(
            [
                abs(Fraction(a) - Fraction(b)) > Fraction(float(e))
                for a, b, e in zip(values, moved, allowed, strict=True)
            ]
        )
        moved = np.where(beyond, np.nextafter(moved, values), moved)
    return moved


@pytest.mark.parametrize(
    ("errors", "today", "coded"),
    [
        ([Absolute(0.1)], Absolute(0.1), "lossless"),
        ([Absolute(0.1)], Absolute(0.05), "lossless"),
        ([Absolute(0.1)], Absolute(0.19), "lossless"),
        ([Absolute(0.1)], Absolute(0.21), "absolute"),
        ([Absolute(0.1), Lossless()], Absolute(0.3), "absolute"),
        ([Absolute(0.1), None], Absolute(100), "lossless"),
        ([Absolute(0.1), Relative(1e-9)], Absolute(1), "absolute"),
        ([Relative(0.1)], Relative(0.5), "relative"),
        ([Relative(1.5)], Absolute(1e9), "lossless"),
        ([Lossless()], RangeRelative(0.1), "range"),
        ([Lossless()], Lossless(), "lossless"),
        ([Absolute(0.1)], RangeRelative(0.5), "absolute"),
        ([Absolute(0.1)], RangeRelative(0.001), "lossless"),
    ],
)
def test_what_is_left(errors: list[Bound | None], today: Bound, coded: str) -> None:
    bound, error = remaining(np.array([1.0, 2.0, -3.0]), errors, today)
    assert bound.kind == coded
    assert (error is None) == (None in errors)


def test_integers_of_any_size() -> None:
    values = np.array([2**62, 2**62 + 1000, -(2**63)])
    assert remaining(values[:2], [Absolute(10.0)], RangeRelative(0.1))[0].value == pytest.approx(88, abs=0.1)
    assert remaining(values, [Relative(1e-9)], Absolute(1e12))[0].kind == "absolute"


@pytest.mark.parametrize(
    "written",
    [
        Written(Profile.FAST, {}, {}),
        Written(Profile.ARCHIVE, {3: Absolute(0.1 + 0.2), 4: Lossless()}, {3: Absolute(0.1 + 0.2), 4: Lossless()}),
        Written(Profile.BALANCED, {3: RangeRelative(0.5)}, {3: Absolute(5e-324)}),
        Written(Profile.BALANCED, {3: RangeRelative(0.5)}, {3: Lossless()}),
        Written(Profile.BALANCED, {3: Lossless()}, {3: Relative(0.5), 4: None}),
    ],
)
def test_records_come_back(written: Written) -> None:
    again = Written.parse(written.to_dict())
    assert (again.profile, again.asked, again.error) == (written.profile, written.asked, written.error)
