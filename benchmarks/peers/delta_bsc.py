"""Quantize to 2 eps, difference, libbsc over the whole column: the simplest strong peer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def delta_bsc(values: NDArray[Any], eps: float) -> tuple[int, float]:
    """Compressed bytes, the best of byte-planar and interleaved int16, and the worst error."""
    import bsc

    index = np.rint(values.astype(np.float64) / (2 * eps)).astype(np.int64)
    difference = np.diff(index, prepend=0)
    if np.abs(difference).max() < 2**15:
        narrow = difference.astype("<i2")
    else:
        narrow = difference.astype("<i4")
    planes = narrow.view(np.uint8).reshape(-1, narrow.itemsize).T
    forms = [narrow.tobytes(), np.ascontiguousarray(planes).tobytes()]
    if np.abs(difference).max() < 128:
        forms.append(difference.astype(np.int8).tobytes())
    restored = (index * (2 * eps)).astype(values.dtype)
    worst = float(np.abs(restored.astype(np.float64) - values).max())
    return min(len(bsc.compress(form)) for form in forms), worst
