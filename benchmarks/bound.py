"""Does the bound ever break? Random columns of every exponent and shape through every profile, decoded and compared.

The comparison is not the product's own: it subtracts in extended precision where that is exact and in rational numbers
where it is not.

    python -m benchmarks.bound --values 10000000
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import common
from ddstore.bounds import Absolute, Bound, Lossless, Relative
from ddstore.codec.segment import decode_column, encode_column
from ddstore.profiles import Profile

_ROWS = 8192
_SHARES = {Profile.FAST: 0.5, Profile.BALANCED: 0.35, Profile.ARCHIVE: 0.15}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and report."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--values", type=int, default=10_000_000)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args(arguments)
    rng = np.random.default_rng(given.seed)
    rows = []
    for profile, share in _SHARES.items():
        for kind, dtype in (("float4", np.float32), ("float8", np.float64)):
            seen = broken = 0
            while seen < given.values * share / 2:
                values, bound = _column(rng, dtype)
                coded = encode_column(values, None, type=kind, bound=bound, profile=profile)
                read, _ = decode_column(coded.residual, coded.latents, None, kind, len(values))
                broken += _violations(values, read, bound)
                seen += len(values)
            rows.append([profile.value, kind, seen, broken])
    common.report("bound", ["profile", "type", "values", "beyond the bound"], rows)


def _column(rng: np.random.Generator, dtype: Any) -> tuple[NDArray[Any], Bound]:
    """A walk, noise, or levels, of some exponent from the smallest to the largest, and a bound from two ulp up."""
    most = 36 if dtype is np.float32 else 300
    scale = 10.0 ** rng.uniform(-most, most)
    shape = rng.integers(4)
    if shape == 0:
        wide = rng.normal(0, 1, _ROWS).cumsum()
    elif shape == 1:
        wide = rng.normal(0, 1, _ROWS)
    elif shape == 2:
        wide = np.rint(rng.normal(0, 30, _ROWS).cumsum()) / 10.0 ** rng.integers(0, 5)
    else:
        wide = rng.normal(0, 1, _ROWS) * 10.0 ** rng.uniform(-8, 8, _ROWS)
    with np.errstate(over="ignore"):
        values = np.nan_to_num((wide * scale).astype(dtype), posinf=1.0, neginf=-1.0)
    choice = rng.random()
    if choice < 0.1:
        return values, Lossless()
    if choice < 0.4:
        return values, Relative(float(10.0 ** rng.uniform(-6 if dtype is np.float32 else -15, -0.5)))
    ulp = float(np.spacing(np.abs(values).max()))
    largest = max(float(np.abs(values).max()), ulp * 4)
    return values, Absolute(float(np.exp(rng.uniform(np.log(2 * ulp), np.log(largest)))))


def _violations(values: NDArray[Any], read: NDArray[Any], bound: Bound) -> int:
    if bound.kind == "lossless":
        unsigned = f"u{values.itemsize}"
        return int((values.view(unsigned) != read.view(unsigned)).sum())
    x, y = values.astype(np.longdouble), read.astype(np.longdouble)
    allowed = np.full(len(x), np.longdouble(bound.value))
    if bound.kind == "relative":
        allowed = allowed * np.abs(x)
    # An extended subtraction is off by 2^-64 of itself: what is nearer to the bound than that is settled exactly.
    off = np.abs(x - y)
    close = np.flatnonzero(off > allowed * (1 - np.longdouble(2.0**-60)))
    limits = (
        Fraction(bound.value) * (abs(Fraction(float(values[i]))) if bound.kind == "relative" else 1) for i in close
    )
    return sum(
        abs(Fraction(float(values[i])) - Fraction(float(read[i]))) > limit
        for i, limit in zip(close, limits, strict=True)
    )


if __name__ == "__main__":
    main()
