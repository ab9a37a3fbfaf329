"""A column of a segment on whose condition other columns of the same segment may be coded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from ddstore.codec.format import LatticeKind, Mode, NativeType, type_code
from ddstore.codec.lattice import Lattice

__all__ = ["Side", "SideUse", "lattice_units"]


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One encoded column, as columns after it may be conditioned on it.

    Attributes:
        crc: names it within its segment: the last four bytes of its residual, little-endian.
        type: the column type.
        values: shape (n,), of the type's dtype: all rows exactly as the production decoder returns them, 0 where NULL.
        unit: what is read is about ``offset + unit * k`` for whole numbers ``k``; 0.0 where that is not known, and
            then nothing can be conditioned on the column.
        offset: see ``unit``.
    """

    crc: int
    type: NativeType
    values: NDArray[Any]
    unit: float
    offset: float


@dataclass(frozen=True, slots=True, eq=False)
class SideUse:
    """How a column is conditioned on another: its values as whole numbers ``round((value - offset) * scale)``.

    ``low`` bits of their differences carry little.
    """

    side: Side
    scale: float
    offset: float
    low: int

    @property
    def native(self) -> tuple[int, int, NDArray[Any], float, float, int]:
        """As the core's encoder takes it."""
        return self.side.crc, type_code(self.side.type), self.side.values, self.scale, self.offset, self.low


def lattice_units(lattice: Lattice, mode: Mode) -> tuple[float, float]:
    """Unit and offset of the values of a column in ``mode`` on ``lattice``, in the terms of :class:`Side`."""
    if mode is Mode.RAW:
        return 0.0, 0.0
    if lattice.kind is LatticeKind.GRID:
        return lattice.mul / lattice.den, lattice.add / lattice.den
    if lattice.kind is LatticeKind.STEP:
        return lattice.step, lattice.offset
    return 0.0, 0.0
