"""Which reconstruction values are legal: lattices, and the sensor's grid they are laid on.

A lattice maps an integer index ``q`` to a value such that neighbouring indices are as far apart as the bound
allows. Where values lie on a grid ``g`` (ADC counts, printed decimals) a bin holds ``N = floor(2 eps / g) + 1``
grid values, which makes the step ``N g`` wider than ``2 eps``; where ``eps < g / 2`` the lattice is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddstore import _native
from ddstore.codec.format import LatticeKind, NativeType, dtype_of, type_code
from ddstore.codec.sample import sample
from ddstore.codec.scale import Scale, find_scale

__all__ = [
    "EMPTY",
    "Grid",
    "Lattice",
    "exact_lattices",
    "find_grid",
    "fine",
    "lossy_lattices",
    "ordinals",
    "rebin",
    "relative_lattices",
    "rephased",
    "step_lattices",
]

_MANTISSA = {"float4": 23, "float8": 52}
_PHASES = 8
_PHASE_ROWS = 16384  # by fewer, phases are told apart badly: that costs up to 4 % at low rates
_FAR = 2.0**50  # beyond, a bin is not told from the next
_MOST_LEVELS = 4096  # DD_MAX_LEVELS
_PROBES = 1024  # values that tell whether they are printed float32
_PRINTED = 10**4  # decimals in more places than these may be printed float32
_DENOMINATOR = 10**5  # of a fraction that a program may have divided by
_EQUAL = 1e-13  # a share of it that a fitted pitch may be off
_MOSTLY = 0.98  # a share of values worth a lattice: exact rows for the others cost less

Values = NDArray[Any]
Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Grid:
    """Values are ``(origin + k * pitch) / den`` for integers ``k``; through float32 first if ``via_float32``."""

    origin: int
    pitch: int
    den: int
    via_float32: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """Reconstruction ``q -> value``, in the terms of the format.

    GRID: ``(q * mul + add) / den``; STEP: ``q * step + offset``; ORDINAL: the ``q * mul + add``-th float; LEVELS: the
    ``q``-th of ``levels``, which are ordinals in ascending order.
    """

    kind: LatticeKind
    mul: int = 1
    add: int = 0
    den: int = 1
    step: float = 0.0
    offset: float = 0.0
    via_float32: bool = False
    shortest: bool = False
    exact: bool = False
    grid: Grid | None = None
    levels: Index | None = None
    settled: bool = True  # no other lattice needs a trial once this one holds every value
    bin: int = 1  # grid values (or steps of a scale, or ordinals) in one bin
    phase: int = 0

    def index(self, values: Values, type_name: NativeType) -> Index:
        """The index whose bin holds each value. Shape (n,), int64."""
        if self.levels is not None:
            return np.searchsorted(self.levels, ordinals(values, type_name))
        low, width = 0, 1
        if self.kind is LatticeKind.ORDINAL:
            # The middle of bin q is the ordinal q * bin, so that 0.0 stays 0.0.
            low, width = -(self.bin // 2), self.bin
        elif self.grid is not None:
            low, width = _wrap(self.grid.origin + self.phase * self.grid.pitch), self.bin * self.grid.pitch
        index = _native.quantize(
            type=type_code(type_name),
            values=np.ascontiguousarray(values),
            kind=self.kind,
            low=low,
            width=width,
            den=float(self.grid.den) if self.grid else 1.0,
            step=self.step,
            offset=self.offset,
        )
        return np.frombuffer(index, dtype=np.int64)

    @property
    def listed(self) -> int:
        """Bytes that the list of levels takes, about: however many rows there are."""
        return 0 if self.levels is None else 10 + int(((np.frexp(np.diff(self.levels))[1] + 6) // 7).sum())

    def value(self, index: Index, type_name: NativeType) -> Values:
        """What the decoder will return for each index: computed by the same code."""
        values = _native.reconstruct(
            type=type_code(type_name),
            index=np.ascontiguousarray(index),
            lattice=self.kind,
            mul=self.mul,
            add=self.add,
            den=self.den,
            step=self.step,
            offset=self.offset,
            via_float32=self.via_float32,
            shortest=self.shortest,
            levels=self.levels,
        )
        return np.frombuffer(values, dtype=dtype_of(type_name))


def ordinals(values: Values, type_name: NativeType) -> Index:
    """Number the floats of a type in their order: 0.0 is 0, the next float above is 1. Shape (n,), int64."""
    if type_name == "float4":
        bits = np.ascontiguousarray(values).view(np.int32).astype(np.int64)
        return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    bits = np.ascontiguousarray(values).view(np.int64)
    return np.where(bits < 0, -(bits & np.int64(0x7FFFFFFFFFFFFFFF)), bits)


def find_grid(values: Values, type_name: NativeType) -> Grid | None:
    """The coarsest decimal or binary grid that holds every value exactly, else one that holds almost all, or None.

    The few values off a grid that holds the rest are stored bit-exact beside it by the caller.

    Args:
        values: finite values without -0.0, shape (n,), n > 0.
        type_name: their column type.
    """
    whole, mostly = _find_grids(values, type_name)
    return whole or mostly


def _find_grids(values: Values, type_name: NativeType) -> tuple[Grid | None, Grid | None]:
    """The coarsest grid of all values, and the coarsest of almost all."""
    whole, mostly = _native.find_grids(type_code(type_name), np.ascontiguousarray(values))
    return whole and Grid(*whole), mostly and Grid(*mostly)


def _scaled(scale: Scale, bin_: int, phase: int) -> Lattice:
    """The lattice of bins of ``bin_`` steps of a scale each."""
    return Lattice(
        LatticeKind.STEP,
        step=scale.pitch * bin_,
        offset=scale.origin + scale.pitch * (phase + (bin_ - 1) / 2),
        via_float32=scale.via_float32,
        exact=bin_ == 1,
        settled=False,
        bin=bin_,
        phase=phase,
    )


def _ratio(scale: Scale) -> Grid | None:
    """The grid of a scale whose steps are a fraction: a quotient of whole numbers is rounded once, a product twice."""
    share = Fraction(scale.pitch).limit_denominator(_DENOMINATOR)
    if abs(float(share) - scale.pitch) > scale.pitch * _EQUAL or not abs(scale.origin) * share.denominator < _FAR:
        return None
    return Grid(round(scale.origin * share.denominator), share.numerator, share.denominator, scale.via_float32)


def _on(grid: Grid, bin_: int, phase: int) -> Lattice:
    """The lattice of bins of ``bin_`` grid values each; the middle of an even bin lies between two of them."""
    if bin_ % 2:
        mul, add, den = grid.pitch * bin_, grid.origin + grid.pitch * (phase + (bin_ - 1) // 2), grid.den
    else:
        mul, den = 2 * grid.pitch * bin_, 2 * grid.den
        add = 2 * grid.origin + grid.pitch * (2 * phase + bin_ - 1)
    return Lattice(
        LatticeKind.GRID,
        _wrap(mul),
        _wrap(add),
        den,
        via_float32=grid.via_float32,
        exact=bin_ == 1,
        grid=grid,
        bin=bin_,
        phase=phase,
    )


def _wrap(number: int) -> int:
    """Modulo 2**64, as int64: index arithmetic wraps, and the middle of an int8 column's last bin may lie beyond."""
    return (number + 2**63) % 2**64 - 2**63


def rebin(lattice: Lattice, bin_: int) -> Lattice:
    """The same grid in bins of another width."""
    assert lattice.grid is not None
    return _on(lattice.grid, bin_, lattice.phase)


_FINE = 31  # points of a fine lattice within the bound, where no grid gives them
_WIDEST = 2**40  # what the format allows


def fine(lattice: Lattice) -> tuple[Lattice, int, Lattice] | None:
    """The points between a lattice's: on every grid value or step of a scale, or a 31st of a step apart.

    Returns:
        The fine lattice; its ``width``, so many neighbouring points are legal for a value; and a lattice by which the
        index of a value is that of the highest of them. None where the lattice has nothing between its points.
    """
    if lattice.kind is LatticeKind.STEP:
        width = lattice.bin if lattice.bin > 1 else _FINE
        dense = replace(lattice, step=lattice.step / width, exact=False, bin=1, phase=0)
        return dense, width, replace(dense, offset=dense.offset - dense.step * (width - 1) / 2)
    grid, width = lattice.grid, lattice.bin
    if grid is None or not 1 < width <= _WIDEST:
        return None
    # The point of index k is the middle of the grid values k .. k + width - 1.
    double = 1 if width % 2 else 2
    mul, add = double * grid.pitch, double * grid.origin + double * grid.pitch * (width - 1) // 2
    dense = replace(lattice, mul=_wrap(mul), add=_wrap(add), den=double * grid.den, bin=1, phase=0, exact=False)
    return dense, width, dense


EMPTY = _on(Grid(0, 1, 1), 1, 0)  # for a column without a single ordinary value


def exact_lattices(values: Values, type_name: NativeType) -> Iterator[Lattice]:
    """Lattices that return (finite, not -0.0) values bit for bit, in the order of trial; the last holds every value.

    Args:
        values: shape (n,), n > 0.
        type_name: their column type.
    """
    grid, coarse = _find_grids(values, type_name)
    some = coarse or grid
    if some is None or _says_nothing(some, values):
        scale = find_scale(values)
        ratio = None if scale is None else _ratio(scale)
        if scale is not None:
            yield _scaled(scale, 1, 0)
        if ratio is not None:
            yield replace(_on(ratio, 1, 0), settled=False)
    if grid is not None:
        yield _on(grid, 1, 0)
        if values.dtype.kind == "i":
            return
    if coarse is not None and coarse != grid:
        yield _on(coarse, 1, 0)
    if type_name == "float8" and (grid is None or grid.den > _PRINTED):
        yield from _printed(values)
    levels = np.sort(ordinals(values, type_name))  # np.unique hashes, which takes ten times as long
    levels = levels[np.append(True, levels[1:] != levels[:-1])]
    if len(levels) <= min(_MOST_LEVELS, len(values) // 4):
        yield Lattice(LatticeKind.LEVELS, levels=levels, exact=True)
    for zeros in _common_zeros(levels):
        yield Lattice(LatticeKind.ORDINAL, mul=1 << zeros, bin=1 << zeros, exact=True)


def _says_nothing(grid: Grid, values: Values) -> bool:
    """Whether it is only how far the float32 of this size are apart: any of them lie on it."""
    if values.dtype != np.float32:
        return False
    return grid.pitch / grid.den <= float(np.spacing(np.abs(values).max()))


def _common_zeros(ordinals_: Index) -> list[int]:
    """How many bits at the end are 0 in nearly all of these, and in all: as many as a shorter type lacks of theirs."""
    lowest = ordinals_ & -ordinals_  # a power of two; 0 for 0.0, which has all the zeros there are
    lowest = lowest[lowest != 0]
    if len(lowest) == 0:
        return [0]
    every = int(np.bitwise_or.reduce(lowest))
    most = int(np.partition(lowest, len(lowest) // 100)[len(lowest) // 100])
    return sorted({each.bit_length() - 1 for each in (most, every & -every)}, reverse=True)


def _measured(values: Values) -> Values | None:
    """The float32 measurements that float64 values were before they were printed in as few digits as tell them apart.

    None where they were not.
    """
    with np.errstate(over="ignore", under="ignore"):
        some = values[:: max(1, len(values) // _PROBES)]
        if (np.frombuffer(_native.shortest(some.astype(np.float32)), dtype=np.float64) == some).mean() < _MOSTLY:
            return None
        return values.astype(np.float32)


def _printed(values: Values) -> Iterator[Lattice]:
    """The lattice of float32 measurements that were printed and parsed again."""
    measured = _measured(values)
    if measured is None:
        return
    grid = find_grid(measured, "float4")
    if grid is not None:
        yield replace(_on(replace(grid, via_float32=True), 1, 0), shortest=True, settled=False)
        return
    scale = find_scale(measured)
    if scale is not None:
        yield _printed_scale(scale)


def _printed_scale(scale: Scale) -> Lattice:
    return replace(_scaled(replace(scale, via_float32=True), 1, 0), shortest=True)


def _best_phase(places: NDArray[np.float64], shifts: Sequence[float]) -> int:
    """By which of these shifts values make the smoothest path, as far as the entropy of its steps tells.

    Args:
        places: where some of them lie, in bins: the middle of bin q is at q, or at q + shift.
        shifts: 0 to 1.
    """
    if not np.abs(places).max() < _FAR:
        return 0
    rough = [_native.phase_roughness(places, shift) for shift in shifts]
    return rough.index(min(rough))


def lossy_lattices(values: Values, type_name: NativeType, eps: float, *, aligned: bool = False) -> Iterator[Lattice]:
    """Lattices for ``|x - y| <= eps``, the most promising first; none when ``eps`` is below the type's resolution.

    Args:
        values: finite values without -0.0, shape (n,), n > 0.
        type_name: their column type.
        eps: the absolute bound, > 0.
        aligned: 0 must be a reconstruction value (a relative bound leaves no room around it).
    """
    grid = find_grid(values, type_name)
    integer = values.dtype.kind == "i"
    if not aligned and not integer and (grid is None or grid.den > _PRINTED):
        yield from _scale_lattices(values, type_name, eps, printed=grid is not None)
    if grid is not None:
        room = Fraction(eps) * grid.den / grid.pitch
        # Integer columns have nothing between two grid values: their bins are odd.
        widest = 2 * floor(room) + 1 if integer else floor(2 * room) + 1
        fitting = [bin_ for bin_ in ((widest,) if integer else (widest, widest - 1)) if bin_ == 1 or _fits(grid, bin_)]
        for bin_ in fitting:
            yield _on(grid, 1, 0) if bin_ == 1 else _phased(grid, bin_, values, aligned)
        if integer:
            if not fitting:
                yield _on(grid, 1, 0)
            return
    yield from step_lattices(values, type_name, eps, aligned)


def _scale_lattices(values: Values, type_name: NativeType, eps: float, *, printed: bool) -> Iterator[Lattice]:
    """Bins of a sensor's scale. Decimals in many places (``printed``) may be float32 on one that were printed."""
    scale = None if printed else find_scale(values, 2 * eps)
    measured = _measured(values) if scale is None and type_name == "float8" else None
    if measured is not None:
        scale = find_scale(measured, 2 * eps)
    if scale is None:
        return
    widest = floor(2 * eps / scale.pitch * (1 + 1e-9)) + 1
    for bin_ in range(max(1, widest - 1), widest + 1):
        if bin_ == 1 and measured is not None:
            yield _printed_scale(scale)
        else:
            base, phases = _scaled(scale, bin_, 0), _phases(bin_)
            shifts = [phase / bin_ for phase in phases]
            yield _scaled(scale, bin_, phases[_best_phase(_places(values, base), shifts)])


def _fits(grid: Grid, bin_: int) -> bool:
    """Whether bins of so many grid values have numerators that a double holds."""
    return 1 < bin_ * grid.pitch * 2 < 2**53


def step_lattices(values: Values, type_name: NativeType, eps: float, aligned: bool) -> list[Lattice]:
    """The lattice that needs no grid; none when ``eps`` is below the type's resolution."""
    # Leave room for the rounding of the value itself, once to double and once to the column's type.
    slack = max(float(values.max()), -float(values.min())) * 2.0 ** -(_MANTISSA[type_name] - 1)
    usable = min(eps, 1e300) - slack  # a step beyond that would overflow when multiplied
    if usable < eps / 2:
        return []
    base = Lattice(LatticeKind.STEP, step=2 * usable)
    if aligned:
        return [base]
    shift = _best_phase(_places(values, base), [k / _PHASES for k in range(_PHASES)])
    return [replace(base, offset=base.step * shift / _PHASES)]


def _places(values: Values, lattice: Lattice) -> NDArray[np.float64]:
    """Where some of the values lie between the points of a lattice of steps, whose own are whole numbers."""
    return np.asarray((sample(values, _PHASE_ROWS).astype(np.float64) - lattice.offset) / lattice.step)


def _phases(bin_: int) -> list[int]:
    """Where bins of so many grid values may start."""
    return sorted({bin_ * k // _PHASES for k in range(_PHASES)})


def _phased(grid: Grid, bin_: int, values: Values, aligned: bool) -> Lattice:
    if aligned:
        middle = (bin_ - 1) // 2
        zero = -grid.origin // grid.pitch if grid.origin % grid.pitch == 0 else 0
        return _on(grid, bin_, (zero - middle) % bin_)
    phases, width = _phases(bin_), float(bin_ * grid.pitch)
    some = sample(values, _PHASE_ROWS).astype(np.float64)
    numerator = some if values.dtype.kind == "i" else np.rint(some * grid.den)
    places = (numerator - (grid.origin + (width - 1) / 2)) / width
    return _on(grid, bin_, phases[_best_phase(places, [phase / bin_ for phase in phases])])


def rephased(lattice: Lattice, values: Values) -> Lattice:
    """The same bins where they suit other values best, which the lattice of an absolute bound leaves open.

    Args:
        lattice: of :func:`lossy_lattices` or :func:`exact_lattices`.
        values: shape (n,), n > 0.
    """
    if lattice.exact or lattice.kind not in (LatticeKind.GRID, LatticeKind.STEP):
        return lattice
    if lattice.grid is not None:
        return _phased(lattice.grid, lattice.bin, values, aligned=False)
    parts = lattice.bin if lattice.bin > 1 else _PHASES
    phases = _phases(parts)
    best = phases[_best_phase(_places(values, lattice), [phase / parts for phase in phases])]
    return replace(lattice, offset=lattice.offset + lattice.step * best / parts)


def relative_lattices(values: Values, type_name: NativeType, ratio: float) -> list[Lattice]:
    """Lattices for ``|x - y| <= ratio * |x|``.

    Within one binade floats are evenly spaced, so bins of ``2 floor(ratio 2**m) + 1`` consecutive floats keep a
    relative bound everywhere; a fixed step for the smallest magnitude is better when magnitudes differ little.
    """
    magnitude = np.abs(values[values != 0].astype(np.float64))
    if len(magnitude) == 0:
        return []
    smallest = ratio * float(magnitude.min())
    fixed = lossy_lattices(values, type_name, smallest, aligned=True) if smallest > 0 else []
    found = [replace(lattice, settled=False) for lattice in fixed]
    if values.dtype.kind == "f":
        bin_ = 2 * floor(min(ratio, 0.5) * 2 ** _MANTISSA[type_name]) + 1
        # Where values lie on a grid, not to err at all may cost less.
        found.append(Lattice(LatticeKind.ORDINAL, mul=bin_, exact=bin_ == 1, settled=False, bin=bin_))
    return found
