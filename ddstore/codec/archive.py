"""The archive profile's means: the strong coder, interpolation, conditions on other columns; chosen on a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddstore import _native
from ddstore.codec.bound_check import violations
from ddstore.codec.column import Column
from ddstore.codec.format import Centre, Coder, Mode, RowClass, dtype_of, type_code
from ddstore.codec.lattice import fine
from ddstore.codec.sample import sample, stretch
from ddstore.codec.select import Coded, Rows, drift_of
from ddstore.codec.side import Side, SideUse

__all__ = ["pays", "smallest"]

_MOST_SIDES = 3  # DD_SIDES_MOST
_RELATED = 0.05  # correlation of moves below which a column says nothing about another
_DEARER = 0.99  # adaptive filters cost a third of the decoding: for less than this they are not worth it
_DEEP = 10  # low bits that densities have something to say about
_DEEPEST = 62  # all of them: where values come back, bit by bit
_STRIDE = 8  # log2 of the distance of anchors: rows between them cost less than they do
_SMOOTH = 2.0  # bits per row
_ROUNDS = 3
_SMALLEST_UNIT = 1e-290  # of a column to be conditioned on: its inverse is finite
_LEARNT = 8192  # rows after which the strong coder shows what it is worth

Use = tuple[SideUse, ...]


@dataclass(frozen=True, slots=True)
class _Contender:
    """Rows in one mode."""

    rows: Rows
    mode: Mode
    uses: Use = ()
    width: int = 1
    drift: int = 0
    deep: int = _DEEP

    def run(self) -> bytes | None:
        """Code all rows."""
        stride = min(_STRIDE, max(0, len(self.rows.values).bit_length() - 4)) if self.mode is Mode.INTERP else 0
        return self.rows.run(
            self.mode,
            Centre.LAST,
            coder=Coder.CM,
            drift=self.drift,
            modelled=0,
            deep=self.deep,
            width=self.width,
            stride=stride,
            sides=self.uses,
        )

    def price(self) -> float:
        """Bits per row of a stretch."""
        some = self.rows.stretch(_LEARNT)
        uses = tuple(
            replace(use, side=replace(use.side, values=stretch(use.side.values, _LEARNT))) for use in self.uses
        )
        coded = replace(self, rows=some, uses=uses).run()
        return 8.0 * (len(coded) if coded is not None else some.values.nbytes) / len(some.values)


def pays(column: Column, rows: Rows, best: Coded, sides: Sequence[Side], saving: float) -> bool:
    """Whether the strong coder saves so large a share of ``best``, by a quick look. See :func:`smallest`."""
    bits = 8.0 * best.size / column.n
    # Interpolation is for smooth columns at wide bounds, filters for the others: one trial will do.
    contender = _interpolated(column, rows, ()) if bits < _SMOOTH else None
    if contender is None:
        contender = _Contender(rows, Mode.ADAPTIVE, _related(rows, sides), drift=drift_of(rows)[0])
    return contender.price() < (1.0 - saving) * bits


def smallest(column: Column, rows: Rows, finer: Rows | None, best: Coded, sides: Sequence[Side]) -> Coded:
    """The smaller of ``best`` and the strong coder's best.

    Args:
        column: what to code.
        rows: its rows on the cheapest lattice.
        finer: its rows on the path of a tube search, if there was one.
        best: what the other coder makes of it.
        sides: columns of the segment that it may be conditioned on.
    """
    drift, _ = drift_of(rows)
    found: Coded | None = None
    causal = [_causal(some, drift, sides) for some in (rows, finer) if some is not None]
    price, contender = min(causal, key=lambda pair: pair[0])
    smooth = _interpolated(column, rows, sides)
    if smooth is not None and smooth.price() < price:
        found = _within_bound(column, smooth)
    if found is None:
        residual = contender.run()
        if residual is not None:
            found = Coded(residual, None, contender.mode, contender.rows.lattice, contender.rows.escapes, Coder.CM)
    return found if found is not None and found.size < best.size else best


def _causal(rows: Rows, drift: int, sides: Sequence[Side]) -> tuple[float, _Contender]:
    """The best way to code rows in their order, and bits per row."""
    plain = _Contender(rows, Mode.ADAPTIVE, drift=drift)
    price = plain.price()
    uses = _related(rows, sides)
    if uses:
        related = replace(plain, uses=uses)
        price_related = related.price()
        if price_related < price:
            plain, price = related, price_related
    if price > _DEEP:
        deep = replace(plain, deep=_DEEPEST)
        price_deep = deep.price()
        if price_deep < price * _DEARER:
            plain, price = deep, price_deep
    light = replace(plain, mode=Mode.LATTICE)
    price_light = light.price()
    return (price_light, light) if price_light * _DEARER < price else (price, plain)


def _related(rows: Rows, sides: Sequence[Side]) -> Use:
    """The sides whose moves go most with this column's, and their units as steps."""
    plain = rows.plain
    own = _moves(rows.index[plain])
    ranked = []
    for side in sides:
        if not side.unit > _SMALLEST_UNIT:
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            other = np.rint((side.values[plain].astype(np.float64) - side.offset) / side.unit)
            moves = _moves(np.nan_to_num(other, nan=0.0, posinf=0.0, neginf=0.0))
            relation = _relation(own, moves)
        if relation > _RELATED:
            low = float(np.mean(np.minimum(np.ceil(np.log2(np.abs(moves) + 1)), 62)))
            ranked.append((relation, SideUse(side, 1.0 / side.unit, side.offset, int(low))))
    ranked.sort(key=lambda pair: -pair[0])
    return tuple(use for _, use in ranked[:_MOST_SIDES])


def _moves(index: NDArray[Any]) -> NDArray[np.float64]:
    return np.diff(sample(index).astype(np.float64))


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


def _interpolated(column: Column, rows: Rows, sides: Sequence[Side]) -> _Contender | None:
    """The column in mode interp; None where values do not lie on an even lattice, or have no error to spare."""
    if rows.lattice.exact or not isinstance(column.allowed, float):
        return None
    found = fine(rows.lattice)
    if found is None:
        return None
    lattice, width, lift = found
    plain = rows.plain
    index = np.zeros(column.n, dtype=np.int64)
    index[plain] = lattice.index(column.values[plain], column.kind) + lift
    contender = _Contender(replace(rows, lattice=lattice, index=index), Mode.INTERP, width=width)
    use = _departing_with(contender, sides)
    if use is None:
        return contender
    related = replace(contender, uses=(use,))
    return min(related, contender, key=_Contender.price)


def _departing_with(contender: _Contender, sides: Sequence[Side]) -> SideUse | None:
    """The side whose departures from the mean of its neighbours best foretell this column's, in this one's unit."""
    plain = contender.rows.plain
    own = _departures(contender.rows.index[plain])
    best, use = _RELATED, None
    for side in sides:
        if not side.unit > _SMALLEST_UNIT:
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            other = _departures(np.nan_to_num(side.values[plain].astype(np.float64), posinf=0.0, neginf=0.0))
            power = float(np.mean(other**2)) if len(other) else 0.0
            spread = float(np.sqrt(power * np.mean(own**2))) if len(own) else 0.0
            product = float(np.mean(own * other)) if len(own) else 0.0
        if not (0 < spread < np.inf and abs(product) < np.inf):
            continue
        scale = product / power
        if abs(product) / spread > best and 0 < abs(scale) < np.inf:
            best, use = abs(product) / spread, SideUse(side, scale, side.offset, 0)
    return use


def _departures(x: NDArray[Any]) -> NDArray[np.float64]:
    few = sample(x).astype(np.float64)
    return np.asarray(few[1:-1] - (few[:-2] + few[2:]) / 2)


def _within_bound(column: Column, contender: _Contender) -> Coded | None:
    """Code in mode interp; rows that rounding takes beyond the bound are stored exactly. None when they keep coming."""
    for _ in range(_ROUNDS):
        rows = contender.rows
        residual = contender.run()
        if residual is None:
            return None
        sides = [(use.side.crc, type_code(use.side.type), use.side.values) for use in contender.uses]
        data, _ = _native.decode_column(residual, None, None, type_code(column.kind), column.n, -1, sides)
        plain = rows.plain
        read = np.frombuffer(data, dtype=dtype_of(column.kind))[plain]
        broken = violations(column.values[plain], read, column.allowed)
        if not broken.any():
            return Coded(residual, None, Mode.INTERP, rows.lattice, rows.escapes, Coder.CM)
        classes = np.zeros(column.n, dtype=np.uint8) if rows.classes is None else rows.classes.copy()
        classes[np.flatnonzero(plain)[broken]] = RowClass.EXACT
        contender = replace(contender, rows=replace(rows, classes=classes))
    return None
