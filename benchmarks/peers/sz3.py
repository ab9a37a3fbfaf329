"""SZ3 (PyPI pysz) over the whole column: the best of its algorithms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def sz3(values: NDArray[Any], eps: float) -> tuple[int, float]:
    """Compressed bytes of the best algorithm that keeps the bound as SZ3 understands it, and the worst error."""
    import pysz

    data = np.ascontiguousarray(values, dtype=np.float32)
    best: tuple[int, float] | None = None
    for algorithm in (0, 1, 2):
        config = pysz.szConfig(data.shape)
        config.errorBoundMode = pysz.szErrorBoundMode.ABS
        config.absErrorBound = eps
        config.cmprAlgo = algorithm
        packed, _ = pysz.sz.compress(data, config)
        restored, _ = pysz.sz.decompress(packed, data.dtype, data.shape)
        worst = float(np.abs(restored.astype(np.float64) - data).max())
        if best is None or len(packed) < best[0]:
            best = len(packed), worst
    assert best is not None
    return best
