"""Is every value that was read back within its bound? Exact, not up to rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddstore import _native
from ddstore.bounds import Bound
from ddstore.codec.format import code_of

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

    The core does it (``dd_violations``): integers modulo 2**64, floats by Knuth's TwoSum, so that a tie with the
    bound is decided rightly; float32 must also hold it as PostgreSQL subtracts, in float32.
    """
    limit = np.atleast_1d(np.asarray(allowed, dtype=np.float64))
    same = np.ascontiguousarray(read, dtype=values.dtype)
    beyond, _ = _native.violations(code_of(values.dtype), np.ascontiguousarray(values), same, limit)
    return np.frombuffer(beyond, dtype=np.bool_)
