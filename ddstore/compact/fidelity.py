"""How far values in a segment may be from those that were written, and what is left of a bound for coding them again.

A recompression sees what is read back, not what was written. If that is within ``e`` of it, and the new segment within
``d`` of that, it is within ``e + d`` of what was written; so new segments are coded with what today's bound leaves.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddstore.bounds import Absolute, Bound, Lossless, Relative, make_bound
from ddstore.codec.bound_check import absolute_bound
from ddstore.db.catalog import ManagedTable
from ddstore.profiles import Profile

__all__ = ["Written", "error_of", "remaining"]

#: float32 rounds a difference by 2**-24 of it at most, and a relative bound of integers is computed in float64: with
#: this part of a bound left alone, a sum of two errors is within it even as PostgreSQL computes it.
_SHARE = 1 - Fraction(1, 1 << 22)


class Written:
    """What a segment records of how it was written (``written`` of the companion, as JSON).

    Attributes:
        profile: what its decoding was allowed to cost.
        asked: by column id, the bound that was asked for; columns without one are lossless.
        error: by column id, how far its values are at most from those that were first written; None: not known.
    """

    def __init__(self, profile: Profile, asked: Mapping[int, Bound], error: Mapping[int, Bound | None]) -> None:
        self.profile = profile
        self.asked = {column: bound for column, bound in asked.items() if bound.kind != "lossless"}
        self.error = {c: bound for c, bound in error.items() if bound is None or bound.kind != "lossless"}

    @classmethod
    def parse(cls, recorded: Mapping[str, Any]) -> Written:
        """Read what :meth:`to_dict` gave."""
        asked = {int(column): make_bound(*bound) for column, bound in recorded.get("asked", {}).items()}
        error = {
            int(column): None if bound is None else make_bound(*bound)
            for column, bound in recorded.get("error", {}).items()
        }
        return cls(Profile.named(recorded["profile"]), asked, asked | error)

    def to_dict(self) -> dict[str, Any]:
        """As JSON: errors that are just what was asked for are left out."""

        def pair(bound: Bound | None) -> tuple[str, float] | None:
            return None if bound is None else (bound.kind, bound.value)

        parts = {
            "asked": {str(column): pair(bound) for column, bound in self.asked.items()},
            "error": {
                str(column): pair(self.error.get(column, Lossless()))
                for column in sorted(self.asked.keys() | self.error.keys())
                if self.error.get(column, Lossless()) != self.asked.get(column, Lossless())
            },
        }
        return {"profile": str(self.profile)} | {name: part for name, part in parts.items() if part}

    def fits(self, table: ManagedTable, bounds: Mapping[int, Bound], profile: Profile) -> bool:
        """Whether a segment written today would be no other: the same profile, and bounds that give no more room."""
        return self.profile is profile and not any(
            (asked := self.asked.get(column.id, Lossless())) != (today := bounds.get(column.id, column.bound))
            and (error := self.error.get(column.id, Lossless())) is not None
            and _gives_room(error, today, asked)
            for column in table.values
        )


def _gives_room(error: Bound, today: Bound, asked: Bound) -> bool:
    """Whether what was asked for today may leave room beside an error; for other kinds of bounds values decide."""
    if today.kind == "lossless":
        return False
    return error.kind not in (today.kind, asked.kind) or today.kind != asked.kind or today.value > error.value


def error_of(values: NDArray[Any], bound: Bound) -> Bound:
    """How far these finite values may be from what is read back when they are coded with ``bound``."""
    if bound.kind != "range":
        return bound
    allowed = float(np.max(absolute_bound(values, bound), initial=0.0))
    return Absolute(allowed) if allowed else Lossless()


def remaining(values: NDArray[Any], errors: Collection[Bound | None], today: Bound) -> tuple[Bound, Bound | None]:
    """Return the bound to code values with that were read back, and how far they then are from what was written.

    With less room than the error that they have, coding them again would gain nothing: what is read back is one of a
    few values, and two of these are about twice that error apart. They are then coded exactly.

    Args:
        values: the finite values of a column of the new segment, as read back.
        errors: how far they are, at most, from what was written; None: not known. All hold together.
        today: the bound that is asked for now.
    """
    error = _worst(values, errors)
    if error is None or today.kind == "lossless":
        return Lossless(), error
    if error.kind == "lossless":
        return today, error_of(values, today)
    limit = _SHARE * Fraction(today.value)
    if error.kind == today.kind == "relative":
        # |x - y| <= e|x| + d|v| and |v| <= (1 + e)|x|
        room = (limit - Fraction(error.value)) / (1 + Fraction(error.value))
        if room >= Fraction(error.value):
            return Relative(_below(room)), today
        return Lossless(), error
    known = _absolute(values, error)
    if known is None:
        return Lossless(), error
    total = _least(values, known, today) * _SHARE
    room = total - Fraction(known)
    if room > 0 and room >= Fraction(known):
        return Absolute(_below(room)), Absolute(math.nextafter(_below(total), math.inf))
    return Lossless(), error


def _worst(values: NDArray[Any], errors: Collection[Bound | None]) -> Bound | None:
    """One bound that holds where any of these holds."""
    kinds = {None if error is None else error.kind for error in errors} - {"lossless"}
    if None in kinds:
        return None
    lossy = [error for error in errors if error is not None and error.kind != "lossless"]
    if not lossy:
        return Lossless()
    if len(kinds) == 1:
        return max(lossy, key=lambda error: error.value)
    known = [_absolute(values, error) for error in lossy]
    return None if None in known else Absolute(max(part for part in known if part is not None))


def _absolute(values: NDArray[Any], error: Bound) -> float | None:
    """The most by which any of these values, as read back, can be wrong; None where that has no limit."""
    if error.kind == "absolute":
        return error.value
    if error.value >= 1 or not len(values):
        return None
    # |x - v| <= e|x| and |x| <= |v| / (1 - e)
    largest = max(abs(Fraction(values.max().item())), abs(Fraction(values.min().item())))
    most = Fraction(error.value) * largest / (1 - Fraction(error.value)) / _SHARE
    return math.nextafter(float(most), math.inf) if most < 1 << 1023 else None


def _least(values: NDArray[Any], error: float, bound: Bound) -> Fraction:
    """The least that ``bound`` allows any of the values as they were written, which are within ``error`` of these."""
    if bound.kind == "absolute":
        return Fraction(bound.value)
    if not len(values):
        return Fraction(0)
    if bound.kind == "relative":
        size = Fraction(float(np.min(np.abs(values.astype(np.float64))))) - Fraction(error)
    else:
        size = Fraction(values.max().item()) - Fraction(values.min().item()) - 2 * Fraction(error)
    return Fraction(bound.value) * max(size, Fraction(0)) * _SHARE


def _below(number: Fraction) -> float:
    """The largest float that is no more."""
    if number > Fraction(float(np.finfo(np.float64).max)):
        return float(np.finfo(np.float64).max)
    near = float(number)
    return near if Fraction(near) <= number else math.nextafter(near, -math.inf)
