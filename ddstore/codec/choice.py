"""What was chosen for one segment of a column, so that the next one need not search for it anew.

A choice is a value that whoever encodes segment after segment hands from one to the next. Nothing is stored. Whether it
still fits is asked of every segment, before and after it is coded, and its bytes are verified like any others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ddstore import _native
from ddstore.codec import archive, tube
from ddstore.codec.column import Column
from ddstore.codec.lattice import Lattice, rephased
from ddstore.codec.model import AnyModel
from ddstore.codec.select import Coded, Density, Plan, Rows, Way
from ddstore.codec.side import Side
from ddstore.profiles import Profile

__all__ = ["Asked", "Choice", "Path", "on_cheaper_path"]

# So many segments in a row go by one search.
_SEGMENTS = {Profile.FAST: 16, Profile.BALANCED: 16, Profile.ARCHIVE: 4}
# How much rougher or smoother a segment may be, as a share and in bits per row, before it is searched. Where static
# tables are all there is, little depends on that.
_ROUGHER = {Profile.FAST: 1.4, Profile.BALANCED: 1.15, Profile.ARCHIVE: 1.15}
_ROUGH = 0.03
# Bits per row below which each segment is unlike the others.
_FLAT = {Profile.FAST: 0.1, Profile.BALANCED: 0.2, Profile.ARCHIVE: 0.2}
# Bits per row above which it makes no difference where bins start.
_PHASED = 5
# Bits per row above which a lattice that keeps every bit may be the wrong one for other values.
_GUESSED = 8
# What it may take for the roughness it has, over what the searched one took; and in bits per row.
_DEARER, _DEAR = 1.05, 0.01
# Exact rows: how many more of them, and in any case what share of all.
_MORE_EXACT, _EXACT = 1.25, 0.001


@dataclass(frozen=True, slots=True)
class Asked:
    """What a column was to be coded as; a choice holds for the same only."""

    kind: str
    allowed: float
    profile: Profile
    model: bytes | None

    @classmethod
    def of(cls, column: Column, profile: Profile, model: AnyModel | None) -> Asked | None:
        """None where each value has a bound of its own: then lattices differ from segment to segment."""
        if not isinstance(column.allowed, float) or len(column.usable) == 0:
            return None
        return cls(column.kind, column.allowed, profile, None if model is None else model.data)


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """Rows on a path of a tube search, and the costs that it came to."""

    rows: Rows
    costs: tube.Costs


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """How a column was coded."""

    asked: Asked
    lattice: Lattice
    """On which its rows lay at first."""
    costs: tube.Costs | None
    """Of the path that was coded in their place; None where none was."""
    way: Way
    exact: float
    """The share of exact rows."""
    rough: float
    """Order-0 entropy of the differences of indices, in bits per row."""
    bits: float
    """Per row, as coded."""
    recurring: bool
    """Whether its rows had come before, so that matches were worth it."""
    age: int = 0
    """How many segments ago a search found it."""

    @classmethod
    def of(cls, asked: Asked | None, coded: Coded, rows: Rows, path: Path | None) -> Choice | None:
        """What a search found; None where other segments cannot be coded likewise.

        Args:
            asked: for what.
            coded: what was taken.
            rows: the rows on the lattice, as they were before any search for a path.
            path: the path that was found, whether it was taken or not.
        """
        if asked is None or coded.way is None:
            return None
        costs = None if path is None or coded.way.rows.lattice is not path.rows.lattice else path.costs
        n = len(rows.values)
        bits = 8.0 * coded.size / n
        rough, recurring = _roughness(rows), _recurring(asked, rows)
        return cls(asked, rows.lattice, costs, coded.way.bare(), rows.escapes / n, rough, bits, recurring)

    def fits(self, asked: Asked | None) -> bool:
        """Whether it is worth a look for another segment."""
        if asked is None or asked != self.asked or self.age + 1 >= _SEGMENTS[asked.profile]:
            return False
        return self.rough >= _FLAT[asked.profile] and not (self.lattice.exact and self.bits > _GUESSED)

    def again(self, column: Column, sides: Sequence[Side]) -> tuple[Coded, Choice] | None:
        """Code another segment likewise; None where that is not known to be as good as what a search would find."""
        lattice = rephased(self.lattice, column.usable) if self.rough < _PHASED else self.lattice
        rows, exact = column.on(lattice)
        rough = _roughness(rows)
        if exact > (self.exact * _MORE_EXACT + _EXACT) * column.n or not self._alike(rough):
            return None
        if _recurring(self.asked, rows) != self.recurring:
            return None
        coded = self._coded(column, rows, sides)
        expected = self.bits * (rough + _ROUGH) / (self.rough + _ROUGH)
        if coded is None or 8.0 * coded.size > (expected * _DEARER + _DEAR) * column.n:
            return None
        return coded, replace(self, age=self.age + 1)

    def _alike(self, rough: float) -> bool:
        rougher = _ROUGHER[self.asked.profile]
        return rough <= rougher * self.rough + _ROUGH and self.rough <= rougher * rough + _ROUGH

    def _coded(self, column: Column, rows: Rows, sides: Sequence[Side]) -> Coded | None:
        if self.costs is not None:
            path = on_cheaper_path(column, rows, self.costs)
            if path is None:
                return None
            rows = path.rows
        if isinstance(self.way, Plan):
            return self.way.again(rows).code()
        if isinstance(self.way, Density):
            density = Density.of(rows, self.way.net)
            return None if density is None else density.code()
        way = archive.again(self.way, column, rows, sides)
        coded = None if way is None else way.code(None)
        return None if coded is None else archive.settled(coded)


def _roughness(rows: Rows) -> float:
    return _native.roughness(rows.index) / len(rows.index)


def _recurring(asked: Asked, rows: Rows) -> bool:
    return asked.profile is not Profile.FAST and archive.share_foretold(rows) > 0


def on_cheaper_path(
    column: Column, rows: Rows, costs: tube.Costs | None = None, which: slice = slice(None)
) -> Path | None:
    """The rows on the path of a tube search, if there is a finer lattice for one.

    Args:
        column: whose rows they are.
        rows: on its lattice.
        costs: what a search through rows like these came to.
        which: of the rows to search through, and to return.
    """
    part, allowed = rows.part(which), column.allowed
    if isinstance(allowed, np.ndarray):
        allowed = part.only(column.spread(allowed)[which])
    found = tube.search(part.only(part.values), rows.lattice, column.kind, allowed, costs)
    if found is None:
        return None
    lattice, path, costs = found
    return Path(part.on(lattice, part.spread(path)), costs)
