"""Which mode and centre code a column in the fewest bytes: by trial on a sample of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ddstore import _native
from ddstore.codec.format import (
    FLAG_EXACT,
    FLAG_EXCEPTIONS,
    FLAG_MATCHES,
    FLAG_NULLS,
    FLAG_SHAPES,
    FLAG_SHORTEST,
    FLAG_VIA_FLOAT32,
    Centre,
    Coder,
    LatticeKind,
    Mode,
    NativeType,
    RowClass,
    dtype_of,
    type_code,
)
from ddstore.codec.lattice import Lattice
from ddstore.codec.model import Model, Net
from ddstore.codec.sample import STRETCHES, sample, stretch
from ddstore.codec.side import SideUse

__all__ = [
    "LEARNT",
    "Coded",
    "Density",
    "Plan",
    "Rows",
    "Trial",
    "Way",
    "drift_of",
    "encode",
    "learned",
    "place",
    "plan",
    "price",
    "spread",
]

LEARNT = 8192
"""Rows on end, at least, after which a coder that learns shows what it is worth."""


# A segment is at most raw + 64 bytes per column (DESIGN invariant 5); the header's own varints fit in it.
_OVERHEAD = 64
_SCALE_MAX = 2**42
# Few modelled bits decode twice as fast and learn sooner; many find structure in what looks like noise.
_MODELLED = (1, 4)
_DEEPER = 0.985
_ALL = 64
# What rows around a level have to promise beside rows around the last one, for a trial: a share, or bits of a row.
_LEVELLER, _LEVELLER_BITS = 0.98, 0.1
_AHEAD = 4  # spreads that a drift has to be worth
_FEW = 10  # bits per row up to which all of them may be modelled


@dataclass(frozen=True, slots=True)
class Coded:
    """A column coded in one mode."""

    residual: bytes
    latents: bytes | None
    mode: Mode
    lattice: Lattice
    escapes: int
    coder: Coder = Coder.MIX
    decoded: tuple[NDArray[Any], NDArray[np.bool_] | None] | None = None
    """What the production decoder made of these very bytes, where it was asked already: values and validity."""
    way: Way | None = None
    """How rows were coded, where other rows may be coded likewise."""

    @property
    def uses_model(self) -> bool:
        """Whether decoding needs the shared model."""
        return self.mode is Mode.BTAE or self.coder is Coder.NET

    @property
    def size(self) -> int:
        """Bytes, without the shared model."""
        return len(self.residual) + len(self.latents or b"")


@dataclass(frozen=True, slots=True)
class Rows:
    """A column's rows on a lattice, ready to be coded."""

    values: NDArray[Any]
    """Shape (n,), of the column's dtype."""
    classes: NDArray[np.uint8] | None
    """Shape (n,), RowClass of each row; None when all are VALUE."""
    index: NDArray[np.int64]
    """Shape (n,), the lattice index of each row of class VALUE; each of them keeps the bound."""
    lattice: Lattice
    kind: NativeType
    checked: NDArray[Any] | None = None
    """What the lattice gives back, found within the bound, bit for bit where that is 0. Shape (n,), of its dtype.
    None where nobody looked, or not all rows are values."""

    @property
    def escapes(self) -> int:
        """Rows stored bit-exact beside the lattice."""
        return 0 if self.classes is None else int((self.classes == RowClass.EXACT).sum())

    @property
    def plain(self) -> NDArray[np.bool_]:
        """Where rows are of class VALUE. Shape (n,)."""
        if self.classes is None:
            return np.ones(len(self.values), dtype=bool)
        return np.asarray(self.classes == RowClass.VALUE)

    def sample(self) -> Rows:
        """A part of them to choose by; all of them when they are few."""
        classes = None if self.classes is None else sample(self.classes)
        return replace(self, values=sample(self.values), classes=classes, index=sample(self.index), checked=None)

    def stretch(self) -> slice:
        """Which neighbouring rows to choose by, where a coder has to learn; all of them when they are few."""
        return stretch(self.index, _native.roughness, LEARNT)

    def part(self, which: slice) -> Rows:
        """Some of them."""
        classes = None if self.classes is None else self.classes[which]
        return replace(self, values=self.values[which], classes=classes, index=self.index[which], checked=None)

    def none(self) -> Rows:
        """Not one of them."""
        return replace(self, values=self.values[:0].copy(), classes=None, index=self.index[:0].copy(), checked=None)

    def on(self, lattice: Lattice, index: NDArray[np.int64]) -> Rows:
        """The same on another lattice, or another path."""
        return replace(self, lattice=lattice, index=index, checked=None)

    def only(self, of_rows: NDArray[Any]) -> NDArray[Any]:
        """Those elements, shape (n,), that stand where rows are of class VALUE."""
        return of_rows if self.classes is None else of_rows[self.plain]

    def spread(self, of_values: NDArray[Any]) -> NDArray[Any]:
        """Such elements in their rows again, 0 in the others. Shape (n,)."""
        return spread(of_values, None if self.classes is None else self.plain)

    def price(self, coded: bytes | None) -> float:
        """Bits per row of these bytes; never more than raw bytes take."""
        return 8.0 * (len(coded) if coded is not None else self.values.nbytes) / len(self.values)

    def run(
        self,
        mode: Mode,
        centre: Centre,
        *,
        coder: Coder = Coder.MIX,
        drift: int = 0,
        base: int = 0,
        scale: int = 0,
        latents: bytes | None = None,
        model: bytes | None = None,
        modelled: int = 4,
        deep: int = 0,
        width: int = 1,
        stride: int = 0,
        sides: Sequence[SideUse] = (),
        shapes: bool = False,
        unit: float = 0.0,
        weights: bytes | None = None,
        matches: bool = False,
    ) -> bytes | None:
        """The bytes, or None when they would be larger than raw + 64."""
        n, classes, lattice = len(self.values), self.classes, self.lattice
        if mode is Mode.RAW and classes is not None:  # every value in its own bits: only NULL is left to tell
            classes = np.where(classes == RowClass.NULL, classes, np.uint8(RowClass.VALUE))
            classes = classes if classes.any() else None
        flags = (
            (FLAG_EXCEPTIONS if classes is not None else 0)
            | (FLAG_NULLS if classes is not None and bool((classes == RowClass.NULL).any()) else 0)
            | (FLAG_EXACT if lattice.exact or mode is Mode.RAW else 0)
            | (FLAG_VIA_FLOAT32 if lattice.via_float32 and mode is not Mode.RAW else 0)
            | (FLAG_SHORTEST if lattice.shortest and mode is not Mode.RAW else 0)
            | (FLAG_SHAPES if shapes else 0)
            | (FLAG_MATCHES if matches else 0)
        )
        own = None
        if classes is not None or mode is Mode.RAW:
            own = self.values.view(f"u{self.values.itemsize}").astype(np.uint64)
        return _native.encode_column(
            type=type_code(self.kind),
            mode=mode,
            coder=coder,
            flags=flags,
            n=n,
            lattice=lattice.kind,
            mul=lattice.mul,
            add=lattice.add,
            den=lattice.den,
            step=lattice.step,
            offset=lattice.offset,
            drift=drift,
            centre=centre,
            base=base,
            scale=scale,
            index=self.index,
            classes=None if classes is None else np.ascontiguousarray(classes),
            bits=own,
            latents=latents,
            model=model,
            levels=lattice.levels,
            capacity=n * dtype_of(self.kind).itemsize + _OVERHEAD,
            modelled=modelled,
            deep=deep,
            width=width,
            stride=stride,
            sides=[use.native for use in sides],
            unit=unit,
            weights=weights,
        )


class Way(Protocol):
    """How rows may be coded."""

    @property
    def rows(self) -> Rows:
        """What is coded."""

    @property
    def coder(self) -> Coder:
        """What codes them."""

    def on_part(self, which: slice) -> bytes | None:
        """The bytes of some of the rows; None when raw ones are fewer."""

    def code(self, residual: bytes | None) -> Coded | None:
        """All rows in bytes, which may be known; None when raw ones are fewer."""

    def bare(self) -> Way:
        """The same without any rows."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a stretch of the rows takes in some way."""

    way: Way
    bits: float
    """Per row; never more than raw bytes take."""
    _bytes: bytes | None = None
    """All rows', where the stretch is all of them."""

    @classmethod
    def of(cls, way: Way, which: slice) -> Trial:
        """Try it."""
        coded, some = way.on_part(which), way.rows.part(which)
        whole = len(some.values) == len(way.rows.values)
        return cls(way, some.price(coded), coded if whole else None)

    def code(self) -> Coded | None:
        """All rows in bytes; None when raw ones are fewer."""
        return self.way.code(self._bytes)


@dataclass(frozen=True, slots=True)
class Plan:
    """Rows in mode lattice around some centre.

    ``drift`` is added to the last index, or is the level itself. Of an average residual, ``modelled`` bits are
    modelled: the others are coded at even odds.
    """

    rows: Rows
    coder: Coder
    centre: Centre
    drift: int
    modelled: int

    def run(self) -> bytes | None:
        """The bytes; None when raw ones are fewer."""
        return self.rows.run(Mode.LATTICE, self.centre, coder=self.coder, drift=self.drift, modelled=self.modelled)

    def on(self, rows: Rows) -> Plan:
        """The same for other rows."""
        return replace(self, rows=rows)

    def again(self, rows: Rows) -> Plan:
        """The same for another segment's rows, with a drift or a level of their own."""
        if self.centre is Centre.LEVEL:
            return replace(self, rows=rows, drift=_level_of(rows))
        return replace(self, rows=rows, drift=drift_of(rows)[0] if self.drift else 0)

    def on_part(self, which: slice) -> bytes | None:
        """The bytes of some of the rows; None when raw ones are fewer."""
        return self.on(self.rows.part(which)).run()

    def code(self, residual: bytes | None = None) -> Coded | None:
        """All rows in bytes, which may be known; None when raw ones are fewer."""
        residual, rows = residual or self.run(), self.rows
        if residual is None:
            return None
        return Coded(residual, None, Mode.LATTICE, rows.lattice, rows.escapes, self.coder, way=self)

    def bare(self) -> Plan:
        """The same without any rows."""
        return self.on(self.rows.none())

    def price(self) -> float:
        """Bits per row."""
        return self.rows.price(self.run())


@dataclass(frozen=True, slots=True)
class Density:
    """Rows coded by a density net."""

    rows: Rows
    net: Net
    base: int
    unit: float

    coder = Coder.NET

    @classmethod
    def of(cls, rows: Rows, net: Net) -> Density | None:
        """None when the net's units do not reach this lattice."""
        at = place(rows.lattice, net.mean, net.std)
        return None if at is None else cls(rows, net, *at)

    def run(self) -> bytes | None:
        """The bytes; None when raw ones are fewer."""
        return self.rows.run(
            Mode.LATTICE, Centre.LAST, coder=Coder.NET, base=self.base, unit=self.unit, model=self.net.data
        )

    def on_part(self, which: slice) -> bytes | None:
        """The bytes of some of the rows; None when raw ones are fewer."""
        return replace(self, rows=self.rows.part(which)).run()

    def code(self, residual: bytes | None = None) -> Coded | None:
        """All rows in bytes, which may be known; None when raw ones are fewer."""
        residual, rows = residual or self.run(), self.rows
        if residual is None:
            return None
        return Coded(residual, None, Mode.LATTICE, rows.lattice, rows.escapes, Coder.NET, way=self)

    def bare(self) -> Density:
        """The same without any rows."""
        return replace(self, rows=self.rows.none())


def spread(elements: NDArray[Any], where: NDArray[np.bool_] | None) -> NDArray[Any]:
    """Elements in the rows that they are of, 0 in the others; where is None: of all rows. Shape (n,)."""
    if where is None:
        return elements
    rows = np.zeros(len(where), dtype=elements.dtype)
    rows[where] = elements
    return rows


def place(lattice: Lattice, mean: float, std: float) -> tuple[int, float] | None:
    """Where a mean is on a lattice, and how many deviations an index is; None where that means nothing."""
    if lattice.kind not in (LatticeKind.GRID, LatticeKind.STEP):
        return None
    if lattice.kind is LatticeKind.GRID:
        unit, origin = lattice.mul / lattice.den, lattice.add / lattice.den
    else:
        unit, origin = lattice.step, lattice.offset
    base, share = (mean - origin) / unit, unit / std
    return (round(base), share) if abs(base) < 2.0**62 and 1e-15 < share < 1e15 else None


def encode(rows: Rows, coder: Coder) -> Coded:
    """Code rows around the centre that does best on a sample of them, or as a line, or raw.

    Args:
        rows: what to code.
        coder: what residuals are coded by.
    """
    drift, steady = drift_of(rows)
    if steady:
        line = rows.run(Mode.LINEAR, Centre.LAST, drift=drift)
        if line is not None:
            return Coded(line, None, Mode.LINEAR, rows.lattice, 0)
    best = plan(rows, coder, drift).code()
    if best is None:
        raw = rows.run(Mode.RAW, Centre.LAST)
        assert raw is not None, "raw bytes always fit"
        best = Coded(raw, None, Mode.RAW, rows.lattice, 0)
    return best


def price(rows: Rows, coder: Coder) -> float:
    """Bits per row that these rows would take in mode lattice; never more than raw bytes take."""
    return plan(rows, coder, 0).price()


def plan(rows: Rows, coder: Coder, drift: int) -> Plan:
    """How to code rows in mode lattice: what is cheapest on a sample of them."""
    some = rows.sample()
    if coder is not Coder.MIX:
        return _centred(some, coder, drift).on(rows)
    static = _centred(some, Coder.RANS, drift)  # quick to try, and likes the same centre
    found = replace(static, coder=coder, modelled=_MODELLED[0])
    if static.price() > _MODELLED[0] + 1:  # below, no bit is left out
        bits = found.price()
        # Positions in a list have no noise: each of their bits means something.
        for modelled in (_MODELLED[1], _ALL) if rows.lattice.exact and bits < _FEW else _MODELLED[1:]:
            deeper = replace(found, modelled=modelled)
            deeper_bits = deeper.price()
            if deeper_bits < _DEEPER * bits:
                bits, found = deeper_bits, deeper
    return found.on(rows)


def _centred(some: Rows, coder: Coder, drift: int) -> Plan:
    """Around the centre that leaves the least to be told."""
    last = Plan(some, coder, Centre.LAST, drift, _MODELLED[1])
    linear = replace(last, centre=Centre.LINEAR, drift=0)
    steady = some.index - drift * np.arange(len(some.index)) if drift else some.index
    steps, turns = _native.roughness(steady), _native.roughness(np.diff(steady, prepend=steady[:1]))
    way = last if steps <= turns else linear
    level = replace(last, centre=Centre.LEVEL, drift=_level_of(some))
    least = min(steps, turns)
    if _native.roughness(np.cumsum(some.index - level.drift)) < max(
        _LEVELLER * least, least - _LEVELLER_BITS * len(some.index)
    ):
        return min(way, level, key=Plan.price)
    return way


def _level_of(rows: Rows) -> int:
    """The index in the middle of all."""
    index = rows.only(rows.index)
    return int(np.partition(index, len(index) // 2)[len(index) // 2]) if len(index) else 0


def drift_of(rows: Rows) -> tuple[int, bool]:
    """What an index is mostly ahead of the last one (a clock's sampling interval), and whether that is all there is."""
    if rows.classes is not None:
        return 0, False
    if len(rows.index) < 2:
        return 0, True
    some = np.diff(sample(rows.index))
    middle = len(some) // 2
    up, down = int(np.count_nonzero(some > 0)), int(np.count_nonzero(some < 0))
    if down <= middle < len(some) - up:  # in their order the one in the middle is 0, as it mostly is
        return 0, up + down < STRETCHES and not np.diff(rows.index).any()
    step = int(np.partition(some, middle)[middle])  # what most of them are, if most are the same
    others = len(some) - int(np.count_nonzero(some == step))
    if 2 * others < len(some) + STRETCHES:
        return step, others < STRETCHES and bool((np.diff(rows.index) == step).all())
    # A clock that jitters, or a counter: far from standing still.
    away = np.abs(some - float(step))
    if np.count_nonzero(_AHEAD * away < abs(step)) < middle:  # neither is their median, which takes longer
        return 0, False
    return (step if _AHEAD * float(np.median(away)) < abs(step) < 2**62 else 0), False


def learned(rows: Rows, coder: Coder, model: Model) -> Coded | None:
    """Code around the BTAE's prediction; None when the model's units do not reach this lattice."""
    at = place(rows.lattice, model.mean, model.std)
    if at is None:
        return None
    base, unit = at
    scale = 2.0**20 / unit  # the decoder's unit is 2**-32 per 2**-12 standard deviations
    if not 1 <= scale < _SCALE_MAX:
        return None
    latents = model.latents(rows.values, rows.plain)
    residual = rows.run(
        Mode.BTAE, Centre.MODEL, coder=coder, base=base, scale=round(scale), latents=latents, model=model.data
    )
    return None if residual is None else Coded(residual, latents, Mode.BTAE, rows.lattice, rows.escapes, coder)
