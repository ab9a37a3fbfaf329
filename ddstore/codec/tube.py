"""Tube search (encoder only): any path inside the bound is legal, so take the one that is cheapest to code.

A finer lattice, of bins half as wide as the bound allows, leaves each row two or three legal indices. Viterbi finds
the path of least cost under a table of bits for an index difference given the one before; the table is then
counted anew from that path, a few times over. The decoder knows nothing of it. Pays where most differences are
zero, below about a bit per sample, and hurts noise, so its path is one more candidate for trial.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddstore import _native
from ddstore.codec.bound_check import violations
from ddstore.codec.format import LatticeKind, NativeType
from ddstore.codec.lattice import Lattice, rebin

__all__ = ["PAYS_BELOW", "Costs", "search"]

PAYS_BELOW = 1.4
"""Bits per sample, under static tables, above which a path search has never paid."""

_REACH = 40  # DD_TUBE_REACH
_ROUNDS = 4
_FINER = 2
_MOST = 2  # legal indices to look for on either side of the nearest one

Index = NDArray[np.int64]
Costs = NDArray[np.float32]
"""Shape (81, 81): bits of a difference given the one before."""


def search(
    values: NDArray[Any],
    lattice: Lattice,
    kind: NativeType,
    allowed: float | NDArray[np.float64],
    costs: Costs | None = None,
) -> tuple[Lattice, Index, Costs] | None:
    """Return a finer lattice, the cheapest path on it and its costs; None where the lattice cannot be made finer.

    Args:
        values: ordinary values, shape (n,), of the column's dtype.
        lattice: the one that plain quantization uses.
        kind: the column type.
        allowed: the bound: of all values, or of each, shape (n,).
        costs: what a search through values like these came to, so that one round is enough.
    """
    if len(values) < 3:
        return None
    finer = _finer(lattice, integer=values.dtype.kind == "i")
    if finer is None:
        return None
    nearest = finer.index(values, kind)
    if violations(values, finer.value(nearest, kind), allowed).any():
        return None
    low = _reach(values, nearest, finer, kind, allowed, -1)
    width = (_reach(values, nearest, finer, kind, allowed, 1) - low + 1).astype(np.uint8)
    rounds, costs = (_ROUNDS, _first_cost()) if costs is None else (1, costs)
    path = nearest
    for _ in range(rounds):
        path = np.frombuffer(_native.tube(low, width, costs), dtype=np.int64)
        costs = _cost_of(path)
    return finer, path, costs


def _finer(lattice: Lattice, *, integer: bool) -> Lattice | None:
    if lattice.kind is LatticeKind.STEP:
        return replace(lattice, step=lattice.step / _FINER)
    if lattice.kind is LatticeKind.GRID and lattice.bin >= 2 * _FINER:
        narrow = lattice.bin // _FINER
        # Integer columns have nothing between two grid values: their bins are odd.
        return rebin(lattice, narrow - 1 if integer and narrow % 2 == 0 else narrow)
    return None


def _reach(
    values: NDArray[Any],
    nearest: Index,
    lattice: Lattice,
    kind: NativeType,
    allowed: float | NDArray[np.float64],
    side: int,
) -> Index:
    """The farthest legal index on one side of the nearest, without gaps on the way."""
    farthest = nearest.copy()
    open_ = np.ones(len(values), dtype=bool)
    for step in range(1, _MOST + 1):
        open_ &= ~violations(values, lattice.value(nearest + side * step, kind), allowed)
        farthest += side * open_
    return farthest


def _first_cost() -> Costs:
    """Before anything is known: half a bit to stay, more the farther one goes."""
    away = np.abs(np.arange(-_REACH, _REACH + 1))
    bits = np.where(away == 0, 0.5, 2.0 + 2.0 * np.log2(1.0 + away))
    return np.tile(bits.astype(np.float32), (2 * _REACH + 1, 1))


def _cost_of(path: Index) -> Costs:
    """Bits of a difference given the one before, as counted along a path; up and down are alike."""
    step = np.clip(np.diff(path), -_REACH, _REACH) + _REACH
    side = 2 * _REACH + 1
    count = np.bincount(step[:-1] * side + step[1:], minlength=side * side).reshape(side, side).astype(np.float64)
    count += count[::-1, ::-1]
    prior = count.sum(axis=0) + 0.5
    share = (count + 8.0 * prior / prior.sum()) / (count.sum(axis=1, keepdims=True) + 8.0)
    return np.asarray(-np.log2(share), dtype=np.float32)
