"""How much error a column tolerates.

A bound is absolute, relative to each value, relative to the range, or none at all (:class:`Lossless`).
Loss is always asked for, never assumed: a column without a stated bound is lossless.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from ddstore.errors import InvalidBound

__all__ = ["Absolute", "Bound", "BoundKind", "Lossless", "RangeRelative", "Relative", "make_bound"]

BoundKind = Literal["absolute", "relative", "range", "lossless"]


@dataclass(frozen=True, slots=True)
class Bound:
    """Base of the four bounds; ``kind`` and ``value`` are what the catalog stores."""

    value: float = 0.0
    kind: ClassVar[BoundKind]

    def __post_init__(self) -> None:
        value = self.value
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
            raise InvalidBound(
                f"max_error {value!r} is not a bound",
                remedy="Give a finite number above zero, or Lossless().",
            )
        if value == 0 and self.kind != "lossless":
            raise InvalidBound("max_error 0 is ambiguous", remedy="Say Lossless() for exact storage.")
        object.__setattr__(self, "value", float(value))

    def __str__(self) -> str:
        return f"{type(self).__name__}({self.value:g})" if self.kind != "lossless" else "Lossless()"


@dataclass(frozen=True, slots=True)
class Absolute(Bound):
    """``|x - x_read| <= value``, in the column's own unit."""

    kind = "absolute"


@dataclass(frozen=True, slots=True)
class Relative(Bound):
    """``|x - x_read| <= value * |x|`` for every value."""

    kind = "relative"


@dataclass(frozen=True, slots=True)
class RangeRelative(Bound):
    """``|x - x_read| <= value * (max - min)``, taken over each segment's finite values.

    A segment's range is never wider than the column's, so the bound also holds for the whole column.
    """

    kind = "range"


@dataclass(frozen=True, slots=True)
class Lossless(Bound):
    """Bit-exact: every value, -0.0 and NaN payloads included, comes back as it was."""

    kind = "lossless"

    def __post_init__(self) -> None:
        if self.value != 0.0:
            raise InvalidBound("Lossless() takes no value", remedy="Use Absolute(value) to allow an error.")


_KINDS: dict[str, type[Bound]] = {c.kind: c for c in (Absolute, Relative, RangeRelative, Lossless)}


def make_bound(kind: str, value: float | None) -> Bound:
    """Return the bound that the catalog stored as ``(kind, value)``.

    Raises:
        InvalidBound: ``kind`` is unknown or ``value`` bounds nothing.
    """
    if kind not in _KINDS:
        raise InvalidBound(f"unknown bound kind {kind!r}", remedy=f"Use one of {', '.join(sorted(_KINDS))}.")
    return _KINDS[kind](0.0 if value is None else value)
