"""The smallest coding of a column that its profile's decode budget allows: lattice, path, mode and coder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ddstore.bounds import Bound
from ddstore.codec import archive, select, tube
from ddstore.codec.column import Column
from ddstore.codec.format import Coder, Mode
from ddstore.codec.lattice import EMPTY, Lattice, exact_lattices, lossy_lattices, relative_lattices
from ddstore.codec.model import Model
from ddstore.codec.side import Side
from ddstore.profiles import Profile

__all__ = ["smallest"]

# With more exact rows than this share a lattice is not worth a trial beside another.
_ESCAPES_TOLERATED = 0.02
# Bits per sample above which an exact lattice may be a bad guess, so that the next one gets a trial.
_DEAR = 8
# Two paths are as good as static tables have it, give or take this much.
_CLOSE = 1.06
# What the strong coder has to save for the balanced profile to use it.
_WORTH = 0.2


def smallest(
    column: Column, bound: Bound, profile: Profile, model: Model | None, sides: Sequence[Side]
) -> select.Coded:
    """Code a column; what comes back decodes to values within the bound, which the caller verifies.

    Args:
        column: what to code.
        bound: how much error is tolerated.
        profile: which coders may be used.
        model: the series' model, or None.
        sides: columns of the segment that this one may be conditioned on.
    """
    rows, _ = column.on(_cheapest_lattice(column, bound))
    if profile is Profile.FAST:
        return select.encode(rows, Coder.RANS)
    best, finer = _mixed(column, rows, model)
    if best.mode is Mode.LINEAR:
        return best
    # The balanced profile reads a column at a tenth of its speed where that saves much.
    if profile is Profile.ARCHIVE or archive.pays(column, rows, best, sides, _WORTH):
        best = archive.smallest(column, rows, finer, best, sides)
    return best


def _mixed(column: Column, rows: select.Rows, model: Model | None) -> tuple[select.Coded, select.Rows | None]:
    """Mixing where a sample says that it pays, otherwise static tables; and the cheaper path that was searched for.

    Mixing costs many times what static tables cost, to encode and to decode, and on noise it gains nothing.
    """
    best = select.encode(rows, Coder.RANS)
    if best.mode is Mode.LINEAR:
        return best, None
    tried, finer = [rows], None
    if _may_search(column, rows, best):
        finer = _on_cheaper_path(column, rows)
        other = best if finer is None else select.encode(finer, Coder.RANS)
        if finer is not None and other.size < _CLOSE * best.size:
            tried = [finer] if other.size < best.size else [rows, finer]
            best = min(best, other, key=lambda coded: coded.size)
    elif model is None:
        some = rows.sample()
        if select.price(some, Coder.MIX) >= select.price(some, Coder.RANS):
            return best, None
    mixed = [select.encode(each, Coder.MIX, model) for each in tried]
    return min(best, *mixed, key=lambda coded: coded.size), finer


def _cheapest_lattice(column: Column, bound: Bound) -> Lattice:
    """By a sample of the column, under the coder that is quick to try."""
    some = column.sample()
    prices: list[tuple[float, Lattice]] = []
    for lattice in _candidates(column, bound):
        rows, escaped = some.on(lattice)
        if prices and escaped > _ESCAPES_TOLERATED * len(some.usable):
            continue
        good = escaped == 0 and lattice.settled
        if good and not lattice.exact and not prices:
            return lattice
        bits = select.price(rows, Coder.RANS)
        prices.append((bits, lattice))
        if good and not (lattice.exact and bits > _DEAR):
            break
    return min(prices, key=lambda pair: pair[0])[1]


def _candidates(column: Column, bound: Bound) -> Iterator[Lattice]:
    """Lattices in the order of trial; the last one holds every value."""
    usable, kind = column.usable, column.kind
    if len(usable) == 0:  # nothing but NULLs and oddities
        yield EMPTY
        return
    if bound.kind == "relative":
        yield from relative_lattices(usable, kind, bound.value)
    elif isinstance(column.allowed, float) and column.allowed > 0:
        yield from lossy_lattices(usable, kind, column.allowed)
    yield from exact_lattices(usable, kind)


def _may_search(column: Column, rows: select.Rows, coded: select.Coded) -> bool:
    """Whether a search for a cheaper path may pay."""
    return not (rows.lattice.exact or coded.mode is Mode.LINEAR or 8.0 * coded.size > tube.PAYS_BELOW * column.n)


def _on_cheaper_path(column: Column, rows: select.Rows) -> select.Rows | None:
    """The rows on the path of a tube search, if there is a finer lattice for one."""
    plain, allowed = rows.plain, column.allowed
    if isinstance(allowed, np.ndarray):
        allowed = allowed[plain if column.ordinary is None else plain[column.ordinary]]
    found = tube.search(column.values[plain], rows.lattice, column.kind, allowed)
    if found is None:
        return None
    lattice, path = found
    index = np.zeros(column.n, dtype=np.int64)
    index[plain] = path
    return replace(rows, lattice=lattice, index=index)
