"""A net for one column, causal or between decoded rows: which of its rows it is trained on, and on which lattice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddstore.bounds import Bound
from ddstore.codec import choose
from ddstore.codec.column import Column
from ddstore.codec.format import as_native
from ddstore.codec.model import pack_model
from ddstore.codec.select import place
from ddstore.errors import InvalidSeries

__all__ = ["INET_BYTES", "NET_BYTES", "train_density", "train_interp"]

#: What a net takes, rounded down: the density net, and that of mode interp.
NET_BYTES, INET_BYTES = 3_500, 1_500

_SMALL, _LARGE = (24, 16), (32, 24)  # hidden layers of mode interp's net
_MUCH = 40_000  # bytes of a column, of which the larger one saves more than it takes
_TRAINING_ROWS = 524_288  # more show it nothing new in the time that there is
_STRETCH_ROWS = 65_536  # at least on end, or the lattices of many short segments take longer than training


def train_density(
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    *,
    type: str,
    bound: Bound,
    segment_rows: int,
    seed: int,
    seconds: float,
) -> tuple[bytes, dict[str, Any]]:
    """Train a net on a simple random sample of a column's stretches, each of one long segment or several short ones.

    Args:
        values: shape (n,).
        valid: where they are not NULL, shape (n,).
        type: "int2", "int4", "int8", "float4" or "float8".
        bound: how much error each may have.
        segment_rows: rows of a segment.
        seed: of the sample, of the weights and of the batches.
        seconds: wall time.

    Returns:
        The bytes of ``ddstore.model``, and the record of how they came about.

    Raises:
        InvalidSeries: there is nothing to train on.
        NotInstalled: torch is missing.
    """
    from ddstore.model import Stretch, train_net  # torch: only when something is trained

    rows = min(segment_rows * max(1, _STRETCH_ROWS // segment_rows), len(values))
    parts, drawn = _draw(len(values), rows, seed)
    finite = np.concatenate([values[part][valid[part] & np.isfinite(values[part])] for part in parts]).astype(
        np.float64
    )
    mean, std = (float(finite.mean()), float(finite.std())) if len(finite) else (0.0, 0.0)
    if not (0 < std < np.inf and abs(mean) < np.inf):
        raise InvalidSeries("a density net needs finite values that differ")
    stretches = []
    for part in parts:
        path = choose.cheapest_path(Column.of(values[part], valid[part], as_native(type), bound), bound)
        at = place(path.lattice, mean, std)
        if at is None:
            continue
        index, plain = path.index, path.plain
        for cut in range(0, rows, segment_rows):  # the net's state starts afresh in each segment
            segment = slice(cut, cut + segment_rows)
            stretches.append(Stretch(index[segment][plain[segment]], *at))
    trained = train_net(stretches, mean=mean, std=std, seed=seed, budget_seconds=seconds)
    return pack_model(trained.section), trained.record | drawn


def train_interp(
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    *,
    type: str,
    bound: Bound,
    segment_rows: int,
    seed: int,
    seconds: float,
    coded_bytes: float,
) -> tuple[bytes, dict[str, Any]]:
    """Train a net of mode interp on a simple random sample of a column's segments.

    Arguments, result and errors are those of :func:`train_density`; ``coded_bytes`` is what the column takes without.
    """
    from ddstore.model import train_inet  # torch: only when something is trained

    parts, drawn = _draw(len(values), min(segment_rows, len(values)), seed)
    columns = (Column.of(values[part], valid[part], as_native(type), bound) for part in parts)
    found = [choose.fine_rows(column, bound) for column in columns]
    hidden = _LARGE if coded_bytes > _MUCH else _SMALL
    segments = [segment for segment in found if segment is not None]
    trained = train_inet(segments, hidden=hidden, seed=seed, budget_seconds=seconds)
    return pack_model(trained.section), trained.record | drawn


def _draw(n: int, rows: int, seed: int) -> tuple[list[slice], dict[str, Any]]:
    """A simple random sample of n rows' stretches of so many rows, in their order, and the record of it."""
    from ddstore.model import draw_sample

    whole = n // rows
    chosen = np.sort(draw_sample(whole, max(1, _TRAINING_ROWS // rows), seed))
    parts = [slice(number * rows, (number + 1) * rows) for number in chosen]
    return parts, {"stretch": rows, "population": whole, "sample": [int(number) for number in chosen]}
