"""The few stretches of a column by which its lattice and its coding are chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["STRETCHES", "sample"]

STRETCHES = 4
_ROWS = 4096  # of a sample, at least
_SHARE = 8


def sample(values: NDArray[Any], share: int = _SHARE) -> NDArray[Any]:
    """Four stretches of neighbouring elements, evenly spread: an eighth of the column, at least 4,096 of them.

    Args:
        values: shape (n,).
        share: what part of the column is enough.

    Returns:
        Shape (m,), m <= n; ``values`` itself when it is that short.
    """
    n = len(values)
    length = max(_ROWS, n // share) // STRETCHES
    if n <= 2 * STRETCHES * length:
        return values
    starts = np.arange(STRETCHES) * (n - length) // (STRETCHES - 1)
    return np.concatenate([values[start : start + length] for start in starts])
