"""The strong coder: in which mode, and on the condition of which other columns; by trial on a stretch of the rows.

And mode interp, which static tables code, too, and a net predicts for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddstore import _native
from ddstore.codec.bound_check import violations
from ddstore.codec.column import Column
from ddstore.codec.format import Centre, Coder, Mode, RowClass, dtype_of, type_code
from ddstore.codec.hint import Hint
from ddstore.codec.lattice import fine
from ddstore.codec.model import InterpNet
from ddstore.codec.sample import sample
from ddstore.codec.select import Coded, Rows, Trial, Way, drift_of
from ddstore.codec.side import Side, SideUse

__all__ = [
    "Between",
    "again",
    "as_before",
    "fine_rows",
    "interpolated",
    "look",
    "no_worse",
    "search",
    "settled",
    "share_foretold",
]

_MOST_SIDES = 3  # DD_SIDES_MOST
_RELATED = 0.05  # correlation of moves below which a column says nothing about another
_DEARER = 0.985  # with adaptive filters decoding takes one and a half times as long or more: they have to be worth it
_DEEPENED = 0.99  # so much of the bits, at most, where all low ones are modelled: that takes longer to decode
_ALIKE = 0.995  # what is no better than this on a stretch is no better on all rows than what learns more slowly
_DEEP = 10  # low bits that densities have something to say about
_DEEPEST = 62  # all of them: where values come back, bit by bit
_STRIDE = 8  # log2 of the distance of anchors: rows between them cost less than they do
_SMOOTH = 2.0  # bits per row, below which interpolation may be best
_SMOOTHEST = 2.5  # where it has never been, by far
_FLAT = 0.1  # bits per row, below which a short segment teaches the strong coder nothing
_NEAR = 1.02  # a first look this close to paying is worth a second
_HOPELESS = 1.075  # a quarter of it this far from paying is worth no look at all of it
_FORETOLD = 0.02  # a share of moves that came before: where rows only look alike it is below 0
_ROUNDS = 3
_HEAD = 128  # bytes of a column, which hold its header
_SMALLEST_UNIT = 1e-290  # of a column to be conditioned on: its inverse is finite

Use = tuple[SideUse, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """Rows on a fine lattice, as mode interp goes through them."""

    highest: NDArray[np.int64]
    """Of each value, its highest legal point. Shape (values,)."""
    width: int
    """So many points on end are legal."""
    stride: int
    """log2 of the distance of anchors."""


@dataclass(frozen=True, slots=True)
class _Contender:
    """Rows in one mode of the strong coder."""

    column: Column
    rows: Rows
    mode: Mode
    uses: Use = ()
    width: int = 1
    drift: int = 0
    deep: int = _DEEP
    shapes: bool = False
    conditioned: bool = False
    weights: bytes | None = None
    matches: bool = False
    coder: Coder = Coder.CM
    net: InterpNet | None = None

    def run(self) -> bytes | None:
        """Code all rows."""
        stride = _stride(len(self.rows.values)) if self.mode is Mode.INTERP else 0
        return self.rows.run(
            self.mode,
            Centre.LAST,
            coder=self.coder,
            drift=self.drift,
            modelled=0,
            deep=self.deep,
            width=self.width,
            stride=stride,
            sides=self.uses,
            shapes=self.shapes,
            weights=self.weights,
            matches=self.matches,
            model=None if self.net is None else self.net.data,
        )

    def on_part(self, which: slice) -> bytes | None:
        """The bytes of some of the rows; None when raw ones are fewer."""
        uses = tuple(replace(use, side=replace(use.side, values=use.side.values[which])) for use in self.uses)
        return replace(self, rows=self.rows.part(which), uses=uses).run()

    def code(self, residual: bytes | None) -> Coded | None:
        """All rows in bytes, which may be known, and not :func:`settled`; None when raw ones are fewer."""
        residual, rows = residual or self.run(), self.rows
        if residual is None:
            return None
        return Coded(residual, None, self.mode, rows.lattice, rows.escapes, self.coder, way=self)

    def bare(self) -> _Contender:
        """The same without any rows; other columns are looked for anew where there were some."""
        return replace(self, column=self.column.none(), rows=self.rows.none(), uses=(), conditioned=bool(self.uses))

    def again(self, column: Column, rows: Rows, sides: Sequence[Side]) -> _Contender | None:
        """The same for other rows on the same lattice, from :meth:`bare`; None where those have no error to spare."""
        sides = sides if self.conditioned else ()
        if self.mode is not Mode.INTERP:
            drift = drift_of(rows)[0] if self.drift else 0
            return replace(self, column=column, rows=rows, uses=_related(rows, sides), drift=drift)
        contender = _between(column, rows, self.coder, self.net)
        if contender is None or self.net is not None:
            return contender
        # Fitting weights takes longer than coding under static tables, and little beside the strong coder.
        weights = self.weights if self.coder is Coder.RANS else None
        return replace(contender, uses=_departing_with(contender.rows, sides), weights=weights)


def search(
    column: Column, own: Rows, paths: Sequence[Rows], sides: Sequence[Side], which: slice, bits: float
) -> list[Trial]:
    """Ways to code a column that may be the smallest; which one is, all rows have to tell.

    Args:
        column: what to code.
        own: its rows on the cheapest lattice.
        paths: those, the path of a tube search, or both: what may be cheapest in the order of rows.
        sides: columns of the segment that it may be conditioned on.
        which: the rows to choose by.
        bits: per row of these, that coder `mix` takes.
    """
    found: list[Trial] = []
    smooth = _interpolated(column, own, sides, which) if bits < _SMOOTHEST else None
    for rows in paths:
        share = share_foretold(rows)
        found += [_foretold(trial, share) for trial in _causal(_light(column, rows), sides, which)]
    return found if smooth is None else [*found, no_worse(smooth, found)]


def look(
    column: Column, rows: Rows, mixed: Trial, sides: Sequence[Side], which: slice, bits: float, below: float
) -> list[Trial]:
    """Good ways to code a column, by a quick look; none where they take more than ``below``.

    Args:
        column: what to code.
        rows: its rows on the cheapest lattice.
        mixed: what coder `mix` makes of those, or of the path of a tube search where that is cheaper.
        sides: columns of the segment that it may be conditioned on.
        which: the rows to choose by.
        bits: per row, that the column takes otherwise.
        below: bits per row of a stretch that are worth it.
    """
    if bits < _FLAT:
        return []
    path = mixed.way.rows
    light, share = _light(column, path), share_foretold(path)
    # Interpolation is for smooth columns at wide bounds, filters for the others.
    smooth = _interpolated(column, rows, (), which) if bits < _SMOOTH else None
    if smooth is not None and share > 0:
        found = [_foretold(Trial.of(light, which), share)]
        return [*found, no_worse(smooth, found)]
    if smooth is not None:
        return [smooth, Trial.of(light, which)]
    light = replace(light, uses=_related(path, sides), mode=Mode.ADAPTIVE)
    if share == 0.0 and _hopeless(light, mixed, which, below):
        return []
    filtered, way = _deepened(Trial.of(light, which), which)
    if filtered.bits * (1 - share) > _NEAR * below:
        return []
    plain = Trial.of(replace(way, mode=Mode.LATTICE), which)
    return [_foretold(plain if plain.bits * _DEARER < filtered.bits else filtered, share)]


def _hopeless(light: _Contender, mixed: Trial, which: slice, below: float) -> bool:
    """Whether a quarter of the stretch tells: there the strong coder is to `mix` nearly what it is in the end.

    But for values that come back bit by bit, in which it may find more and more.
    """
    if mixed.way.rows.lattice.exact or mixed.bits > _DEEP:
        return False
    first = slice(which.start, which.start + (which.stop - which.start) // 4)
    return Trial.of(light, first).bits * mixed.bits > _HOPELESS * below * Trial.of(mixed.way, first).bits


def again(way: Way, column: Column, rows: Rows, sides: Sequence[Side]) -> Way | None:
    """What :func:`search` or :func:`look` found, for other rows on the same lattice; None where it cannot be.

    Args:
        way: of those, without its rows.
        column: what to code.
        rows: its rows.
        sides: columns of the segment that it may be conditioned on.
    """
    assert isinstance(way, _Contender)
    return way.again(column, rows, sides)


def as_before(column: Column, hint: Hint, net: InterpNet | None) -> Coded | None:
    """Values as mode interp gave them back, coded as they were; None where rows or the net have changed."""
    if hint.width == 0 or hint.rows != column.n:
        return None
    if hint.coder is Coder.NET and (net is None or net.crc != hint.model_crc):
        return None
    rows, _ = column.on(hint.lattice)
    net = net if hint.coder is Coder.NET else None
    lifted = rows.on(rows.lattice, np.where(rows.plain, rows.index + hint.width // 2, 0))
    way = _Contender(column, lifted, Mode.INTERP, width=hint.width, weights=hint.weights, coder=hint.coder, net=net)
    return way.code(None)


def share_foretold(rows: Rows) -> float:
    """Which share of the moves among rows what came before foretells; 0 where that is too small."""
    share = _native.foretold(np.ascontiguousarray(rows.only(rows.index)))
    return share if share > _FORETOLD else 0.0


def _light(column: Column, rows: Rows) -> _Contender:
    return _Contender(column, rows, Mode.LATTICE, drift=drift_of(rows)[0])


def _cheapest(contenders: Sequence[_Contender], which: slice) -> Trial:
    return min((Trial.of(each, which) for each in contenders), key=lambda trial: trial.bits)


def _causal(light: _Contender, sides: Sequence[Side], which: slice) -> Iterator[Trial]:
    """Ways to code rows in their order. What needs longer to learn is not the worse for being so on a stretch."""
    filtered, way = _deepened(Trial.of(replace(light, mode=Mode.ADAPTIVE), which), which)
    uses = _related(way.rows, sides)
    if uses:
        yield Trial.of(replace(way, uses=uses), which)
    shaped = Trial.of(replace(way, shapes=True), which)
    if filtered.bits < shaped.bits * (1.0 if which == slice(0, len(way.rows.values)) else _ALIKE):
        yield filtered
    flat = Trial.of(replace(way, mode=Mode.LATTICE, shapes=True), which)
    yield min(shaped, flat, key=lambda trial: trial.bits)


def _foretold(trial: Trial, share: float) -> Trial:
    """The same with matches, where this share of moves is foretold: from too far back for a stretch to show it."""
    way = trial.way
    assert isinstance(way, _Contender)
    if share == 0.0:
        return trial
    return Trial(replace(way, matches=True), trial.bits * (1 - share))


def no_worse(trial: Trial, others: Sequence[Trial]) -> Trial:
    """Beside matches, of which a stretch tells little, so that all rows decide between the two."""
    told = [other.bits for other in others if isinstance(other.way, _Contender) and other.way.matches]
    return replace(trial, bits=min([trial.bits, *told]))


def _deepened(trial: Trial, which: slice) -> tuple[Trial, _Contender]:
    """With all low bits modelled, where there are many and that pays; and the way that is."""
    way = trial.way
    assert isinstance(way, _Contender)
    if trial.bits > _DEEP:
        deep = Trial.of(replace(way, deep=_DEEPEST), which)
        if deep.bits < trial.bits * _DEEPENED:
            return deep, replace(way, deep=_DEEPEST)
    return trial, way


def _few(rows: Rows, values: NDArray[Any]) -> NDArray[np.float64]:
    """A sample of those of the values that stand where rows are values."""
    return sample(rows.only(values)).astype(np.float64)


def _ranked(sides: Sequence[Side], relate: Callable[[Side], tuple[float, SideUse]]) -> Use:
    """The sides that say something about a column, the one that says most first."""
    found = []
    for side in sides:
        if side.unit > _SMALLEST_UNIT:
            with np.errstate(over="ignore", invalid="ignore"):
                relation, use = relate(side)
            found += [(relation, use)] if relation > _RELATED else []
    return tuple(use for _, use in sorted(found, key=lambda pair: -pair[0]))


def _related(rows: Rows, sides: Sequence[Side]) -> Use:
    """The sides whose moves go most with this column's, and their units as steps."""
    own = np.diff(_few(rows, rows.index))

    def relate(side: Side) -> tuple[float, SideUse]:
        other = np.rint((_few(rows, side.values) - side.offset) / side.unit)
        moves = np.diff(np.nan_to_num(other, nan=0.0, posinf=0.0, neginf=0.0))
        low = float(np.mean(np.minimum(np.ceil(np.log2(np.abs(moves) + 1)), 62))) if len(moves) else 0.0
        return _relation(own, moves), SideUse(side, 1.0 / side.unit, side.offset, int(low))

    return _ranked(sides, relate)[:_MOST_SIDES]


def _relation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """How much two columns' moves go together, or happen together: 0 to 1."""
    if len(a) < 2:
        return 0.0
    together = 0.0
    for x, y in ((a, b), (np.abs(a) > np.median(np.abs(a)), np.abs(b) > np.median(np.abs(b)))):
        spread = float(np.std(x)) * float(np.std(y))
        if spread > 0 and np.isfinite(spread):
            together = max(together, abs(float(np.mean((x - np.mean(x)) * (y - np.mean(y))))) / spread)
    return together


def interpolated(column: Column, rows: Rows, which: slice, net: InterpNet | None = None) -> Trial | None:
    """The column in mode interp, under static tables or with a net; None where that cannot be.

    Args:
        column: what to code.
        rows: its rows on the cheapest lattice.
        which: the rows to try it on.
        net: that of the series, or None.
    """
    contender = _between(column, rows, Coder.RANS if net is None else Coder.NET, net)
    return None if contender is None else Trial.of(contender, which)


def _interpolated(column: Column, rows: Rows, sides: Sequence[Side], which: slice) -> Trial | None:
    """The same under the strong coder, and on the condition of another column where that is cheaper."""
    contender = _between(column, rows, Coder.CM)
    if contender is None:
        return None
    uses = _departing_with(contender.rows, sides)
    return _cheapest([replace(contender, uses=uses), contender] if uses else [contender], which)


def fine_rows(column: Column, rows: Rows) -> Between | None:
    """The rows that mode interp codes; None where that cannot be."""
    contender = _between(column, rows, Coder.CM)
    if contender is None:
        return None
    return Between(contender.rows.index[contender.rows.plain], contender.width, _stride(len(rows.values)))


def _stride(n: int) -> int:
    return min(_STRIDE, max(0, n.bit_length() - 4))


def _between(column: Column, rows: Rows, coder: Coder, net: InterpNet | None = None) -> _Contender | None:
    """The column in mode interp; None where values do not lie on an even lattice, or have no error to spare."""
    if rows.lattice.exact or not isinstance(column.allowed, float):
        return None
    found = fine(rows.lattice)
    if found is None:
        return None
    lattice, width, highest = found
    index = rows.spread(highest.index(rows.only(column.values), column.kind))
    return _Contender(column, rows.on(lattice, index), Mode.INTERP, width=width, coder=coder, net=net)


def _departing_with(rows: Rows, sides: Sequence[Side]) -> Use:
    """The side whose departures from the mean of its neighbours best foretell this column's, in this one's unit."""
    own = _departures(_few(rows, rows.index))

    def relate(side: Side) -> tuple[float, SideUse]:
        other = _departures(np.nan_to_num(_few(rows, side.values), posinf=0.0, neginf=0.0))
        power, product = (float(np.mean(other * by)) if len(own) else 0.0 for by in (other, own))
        spread = float(np.sqrt(power * np.mean(own**2))) if len(own) else 0.0
        sound = 0 < spread < np.inf and 0 < abs(product / power) < np.inf
        return abs(product) / spread if sound else 0.0, SideUse(side, product / power if sound else 0.0, side.offset, 0)

    return _ranked(sides, relate)[:1]


def _departures(few: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(few[1:-1] - (few[:-2] + few[2:]) / 2)


def settled(coded: Coded) -> Coded | None:
    """A column within its bound: in mode interp, rounding may take rows beyond it, which are then stored exactly.

    None when they keep coming.
    """
    if coded.mode is not Mode.INTERP:
        return coded
    contender, residual = coded.way, coded.residual
    assert isinstance(contender, _Contender)
    column = contender.column
    for _ in range(_ROUNDS):
        rows = contender.rows
        sides = [(use.side.crc, type_code(use.side.type), use.side.values) for use in contender.uses]
        model = None if contender.net is None else contender.net.data
        data, valid = _native.decode_column(residual, None, model, type_code(column.kind), column.n, -1, sides)
        read = np.frombuffer(data, dtype=dtype_of(column.kind))
        broken = violations(rows.only(column.values), rows.only(read), column.allowed)
        contender = replace(contender, weights=_weights(residual))
        if not broken.any():
            there = None if valid is None else np.frombuffer(valid, dtype=np.bool_)
            coder, decoded = contender.coder, (read, there)
            return Coded(residual, None, Mode.INTERP, rows.lattice, rows.escapes, coder, decoded, contender)
        classes = np.zeros(column.n, dtype=np.uint8) if rows.classes is None else rows.classes.copy()
        classes[np.flatnonzero(rows.plain)[broken]] = RowClass.EXACT
        contender = replace(contender, rows=replace(rows, classes=classes))
        again = contender.run()
        if again is None:
            return None
        residual = again
    return None


def _weights(residual: bytes) -> bytes:
    """Those that mode interp was coded with."""
    return _native.peek_head(residual[:_HEAD])["weights"]
