"""Is every value that was read back within its bound? Exact, not up to rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddstore.bounds import Bound

__all__ = ["absolute_bound", "violations"]


def absolute_bound(values: NDArray[Any], bound: Bound) -> float | NDArray[np.float64]:
    """The largest allowed ``|x - y|`` for each value, rounded towards zero: (scalar, or shape (n,)), >= 0.

    Args:
        values: the finite values of one segment, shape (n,).
        bound: any bound; ``Lossless()`` gives 0.
    """
    if bound.kind == "absolute":
        return bound.value
    if bound.kind == "relative":
        return np.maximum(np.nextafter(bound.value * np.abs(values.astype(np.float64)), 0.0), 0.0)
    if bound.kind == "range" and len(values):
        # Halves first: the span of doubles may lie beyond the doubles.
        span = 2.0 * min(float(values.max()) / 2 - float(values.min()) / 2, float(np.finfo(np.float64).max) / 2)
        return max(0.0, float(np.nextafter(bound.value * span, 0.0)))
    return 0.0


def violations(values: NDArray[Any], read: NDArray[Any], allowed: float | NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where ``|x - y| <= allowed`` fails, in exact arithmetic. Shape (n,), bool.

    Args:
        values: finite values, shape (n,), of the column's dtype.
        read: what was read back, same shape and dtype; not finite counts as a violation.
        allowed: the bound, as :func:`absolute_bound` gives it.
    """
    if values.dtype.kind == "i":
        wide, back = values.astype(np.int64), read.astype(np.int64)
        # The distance of two int64 fits uint64; modular subtraction of the views gives it.
        high, low = np.maximum(wide, back).view(np.uint64), np.minimum(wide, back).view(np.uint64)
        limit = np.floor(np.minimum(allowed, 2.0**63)).astype(np.uint64)
        return np.asarray((high - low) > limit)
    with np.errstate(invalid="ignore", over="ignore"):
        x, y = values.astype(np.float64), read.astype(np.float64)
        distance = x - y
        # Knuth's TwoSum: distance + error is x - y exactly, so that a tie with the bound is decided rightly.
        turned = distance - x
        error = (x - (distance - turned)) + (-y - turned)
        size = np.abs(distance)
        beyond = (size > allowed) | ((size == allowed) & (error * np.sign(distance) > 0)) | ~np.isfinite(y)
        if values.dtype == np.float32:
            # PostgreSQL subtracts float4 in float4: that rounded distance must hold the bound as well.
            beyond |= np.abs(values - read).astype(np.float64) > allowed
    return np.asarray(beyond)
