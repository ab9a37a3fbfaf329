"""A sensor's scale: values that are counts of a converter times a factor that is no decimal.

Such values mostly have few distinct levels, all ``origin + k * pitch`` up to the rounding of their type. Pitch and
origin are looked for so that as many levels as possible come out bit for bit: first with no origin and a float32 as the
pitch, as drivers of sensors multiply, then freely. Counts that go farther than there are rows repeat nowhere, but the
smallest values still have a common measure, which is the float32 that all were multiplied by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Scale", "find_scale"]

_MOST_LEVELS = 8192
_LARGEST = 1e30  # well inside float32
_MOST_STEPS = 2**32  # no converter counts farther
_PROBES = 1024
_REPEATS = 0.97  # 1,024 of 8,192 levels, equally likely, hit 963
_STEPS_IN_A_BIN = 64
_ORIGINS = 17  # tried around the best one, in each of
_ROUNDS = 6
_NEIGHBOURS = 8  # floats on both sides of a fitted factor
_HIT = 0.98  # a share of levels that makes a factor the right one
_SMALLEST = 64  # values that a common measure is looked for in
_FINEST = 2.0**-12  # of the larger of two of them: float32 do not tell what is less
_OFF = 0.05  # measures by which such a value misses a whole number of them, at most
_FARTHEST = 2.0**20  # counts of which a fitted measure leaves no doubt


@dataclass(frozen=True, slots=True)
class Scale:
    """Levels are ``origin + k * pitch`` in doubles, rounded to float32 if ``via_float32``."""

    origin: float
    pitch: float
    via_float32: bool


def find_scale(values: NDArray[Any], width: float = 0.0) -> Scale | None:
    """The scale that finite float values lie on; None if they have none, or none that is worth the search.

    Args:
        values: shape (n,), n > 0.
        width: of the bins that will be laid on it. With many steps to a bin a scale saves nothing.
    """
    found = _of_levels(values, width)
    return _of_counts(values) if found is None and width == 0.0 else found


def _of_levels(values: NDArray[Any], width: float) -> Scale | None:
    """The scale of values that have few levels."""
    some = np.unique(values[:: max(1, len(values) // _PROBES)][:_PROBES])
    # Values with as many levels as counts have repeat themselves even among a few.
    if len(values) >= 4 * _PROBES and len(some) > _REPEATS * _PROBES:
        return None
    if len(some) > 1 and width / _STEPS_IN_A_BIN > (some[1:] / 2 - some[:-1] / 2).min() * 2:  # halves: no overflow
        return None
    levels = np.unique(values)
    if not 8 <= len(levels) <= min(_MOST_LEVELS, len(values) // 2) or np.abs(levels).max() > _LARGEST:
        return None
    # float64 columns often hold float32 measurements.
    narrow = levels.astype(np.float32)
    via_float32 = bool((narrow == levels).all())
    levels = (narrow if via_float32 else levels).astype(np.float64)
    half = np.spacing(np.abs(levels).astype(np.float32 if via_float32 else np.float64)).astype(np.float64) / 2
    fitted = _fit(levels, float(half.max()))
    if fitted is None:
        return None
    multiplied = _multiplied(levels, *fitted, np.dtype(np.float32 if via_float32 else np.float64))
    return Scale(*(multiplied or _refine(levels, half, *fitted)), via_float32 and values.dtype == np.float64)


def _of_counts(values: NDArray[Any]) -> Scale | None:
    """The scale of float32 values that are whole multiples of another float32, rounded once, however many they are."""
    with np.errstate(over="ignore", under="ignore"):
        narrow = values.astype(np.float32)
    size = np.abs(narrow[narrow != 0]).astype(np.float64)
    if len(size) < _PROBES or (narrow[:_PROBES] != values[:_PROBES]).any() or size.max() > _LARGEST:
        return None
    measure = _common_measure(np.unique(np.partition(size, _SMALLEST)[:_SMALLEST]))
    if measure is None:
        return None
    few = size[:: max(1, len(size) // _MOST_LEVELS)]
    few = few[few < measure * _FARTHEST]
    found = _multiplied(few, np.rint(few / measure), measure, 0.0, np.dtype(np.float32))
    return None if found is None else Scale(*found, values.dtype == np.float64)


def _common_measure(size: NDArray[np.float64]) -> float | None:
    """The largest number of which nearly all of these (ascending, above 0) are multiples but for their rounding."""
    a, b = size[1:], size[:-1]
    least = a * _FINEST
    for _ in range(_SMALLEST):  # Euclid's algorithm, all neighbours at once
        going = b > least
        if not going.any():
            break
        left = np.abs(a - np.rint(a / np.where(going, b, 1.0)) * b)
        a, b = np.where(going, b, a), np.where(going, left, b)
    for measure in np.sort(a)[::-1]:
        count = np.rint(size / measure)
        if (np.abs(size / measure - count) < _OFF).mean() >= _HIT:
            return float((count * size).sum() / (count * count).sum())
    return None


def _fit(levels: NDArray[np.float64], half: float) -> tuple[NDArray[np.float64], float, float] | None:
    """Numbers of levels, pitch and origin by least squares; None when levels are off by more than their rounding."""
    gaps = np.diff(levels)
    pitch = float(gaps[gaps > 16 * half].min(initial=np.inf))
    if pitch == np.inf or not (levels[-1] - levels[0]) / pitch < _MOST_STEPS:
        return None
    # While the pitch is rough only small gaps tell how many steps they are: refine it by ever larger ones.
    reach = 1
    while True:
        part = gaps[gaps < (reach + 0.5) * pitch]
        steps = np.rint(part / pitch)
        if np.abs(part - steps * pitch).max() > pitch / 4:
            return None
        pitch = float((steps * part).sum() / (steps * steps).sum())
        if len(part) == len(gaps):
            break
        reach *= 2
    count = np.concatenate([[0.0], np.cumsum(np.rint(gaps / pitch))])
    centred = count - count.mean()
    pitch = float((centred * (levels - levels.mean())).sum() / (centred * centred).sum())
    origin = float(levels.mean() - pitch * count.mean())
    if np.abs(levels - origin - count * pitch).max() > 4 * half:
        return None
    return count, pitch, origin


def _multiplied(
    levels: NDArray[np.float64], count: NDArray[np.float64], pitch: float, origin: float, dtype: np.dtype[Any]
) -> tuple[float, float] | None:
    """(0, pitch) of counts that were multiplied by a float of this type, which a product rounded once gives exactly.

    None where that misses too many levels.
    """
    count = count + np.rint(origin / pitch)
    factor = dtype.type((count * levels).sum() / (count * count).sum())
    near = float(factor) + float(np.spacing(factor)) * np.arange(-_NEIGHBOURS, _NEIGHBOURS + 1)
    hits = [float(((count * each).astype(dtype) == levels).mean()) for each in near]
    best = int(np.argmax(hits))
    return (0.0, float(near[best])) if hits[best] >= _HIT else None


def _refine(
    levels: NDArray[np.float64], half: NDArray[np.float64], count: NDArray[np.float64], pitch: float, origin: float
) -> tuple[float, float]:
    """(origin, pitch) for which most levels are hit exactly.

    A level is hit when ``origin + k * pitch`` lies within half a unit in its last place. For a given origin that
    bounds the pitch from both sides; the origin that leaves it the most room wins. No origin at all is taken where that
    hits all levels: then products of counts are rounded once, and 0 is hit.
    """
    zero, product = levels == 0, count + np.rint(origin / pitch)
    if not (product[~zero] == 0).any() and not product[zero].any():
        low, high = _room(levels[~zero], half[~zero], product[~zero], np.zeros(1))
        if low[0] <= high[0]:
            return 0.0, float((low[0] + high[0]) / 2)
    far = (count != 0) & ~zero
    if not far.any():
        return origin, pitch
    best = (-np.inf, origin, pitch)
    width = 2 * float(half.max())
    for _ in range(_ROUNDS):  # the room is concave in the origin: look around the best one, ever closer
        origins = best[1] + np.linspace(-width, width, _ORIGINS)
        low, high = _room(levels[far], half[far], count[far], origins)
        most = int((high - low).argmax())
        if high[most] - low[most] > best[0]:
            best = (float(high[most] - low[most]), float(origins[most]), float((low[most] + high[most]) / 2))
        width /= _ORIGINS / 4
    return best[1], best[2]


def _room(
    levels: NDArray[np.float64], half: NDArray[np.float64], count: NDArray[np.float64], origins: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """From which pitch to which levels are hit, for each origin; counts are not 0."""
    side = np.sign(count)
    size, offset = np.abs(count), (levels - origins[:, None]) * side
    return ((offset - half) / size).max(axis=1), ((offset + half) / size).min(axis=1)
