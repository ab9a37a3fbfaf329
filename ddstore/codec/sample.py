"""The few stretches of a column by which its lattice and its coding are chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["STRETCHES", "sample", "stretch"]

STRETCHES = 4
_ROWS = 4096
_SHARE = 8


def sample(values: NDArray[Any], least: int = _ROWS) -> NDArray[Any]:
    """Four stretches of neighbouring elements, evenly spread: an eighth of the column, or some number at least.

    Args:
        values: shape (n,).
        least: how many elements it takes at least.

    Returns:
        Shape (m,), m <= n; ``values`` itself when it is that short.
    """
    n = len(values)
    length = max(least, n // _SHARE) // STRETCHES
    if n <= STRETCHES * length:
        return values
    starts = np.arange(STRETCHES) * (n - length) // (STRETCHES - 1)
    return np.concatenate([values[start : start + length] for start in starts])


def stretch(values: NDArray[Any], roughness: Callable[[NDArray[Any]], float], least: int) -> slice:
    """One stretch of neighbours, for what has to learn before it is any good: an eighth of the column, or ``least``.

    All of it where that is less than twice as much: what is tried on all rows need not be done again.

    Args:
        values: shape (n,).
        roughness: what a stretch of them takes; the one taken is the most like all others.
        least: how many elements it has at least.
    """
    length = max(least, len(values) // _SHARE)
    room = len(values) - length
    if room < length:
        return slice(0, len(values))
    starts = [room * k // (_SHARE - 1) for k in range(_SHARE)]
    rough = [roughness(values[start : start + length]) for start in starts]
    middle = sum(rough) / len(rough)
    start = min(zip(starts, rough, strict=True), key=lambda pair: abs(pair[1] - middle))[0]
    return slice(start, start + length)
