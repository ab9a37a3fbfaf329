"""count, min, max and sum of a column, as PostgreSQL's aggregates give them."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddstore import _native
from ddstore.codec.format import code_of

__all__ = ["column_stats"]

_SUM_UNITS = 2**1074

Values = NDArray[Any]
Mask = NDArray[np.bool_]


def column_stats(
    values: Values, valid: Mask | None
) -> tuple[int, int | float | None, int | float | None, Decimal | float | None]:
    """count, min, max and sum of the non-NULL values as PostgreSQL's aggregates give them.

    NaN is greater than every number and makes the sum NaN; an integer sum is exact (numeric), a float sum
    is correctly rounded.
    """
    there = values if valid is None else values[valid]
    if len(there) == 0:
        return 0, None, None, None
    if there.dtype.kind == "i":
        high, low = there.astype(np.int64) >> 32, there.astype(np.int64) & 0xFFFFFFFF
        total = (int(high.sum()) << 32) + int(low.sum())
        return len(there), int(there.min()), int(there.max()), Decimal(total)
    smallest, largest = float(there.min()), float(there.max())
    if math.isnan(smallest):
        numbers = there[~np.isnan(there)]
        smallest = float(numbers.min()) if len(numbers) else math.nan
    return len(there), smallest, largest, _float_sum(there)


def _float_sum(values: Values) -> float:
    """The sum, rounded once."""
    data, odd = _native.exact_sum(code_of(values.dtype), np.ascontiguousarray(values))
    if odd:  # one infinity is the sum, both or a NaN make it NaN
        with np.errstate(invalid="ignore"):
            return float(values[~np.isfinite(values)].astype(np.float64).sum())
    total = int.from_bytes(data, "little", signed=True)
    try:
        return total / _SUM_UNITS
    except OverflowError:
        return math.inf if total > 0 else -math.inf
