"""A column on its way into a segment: its values, what may be put on a lattice, and how much error each may have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddstore import _native
from ddstore.bounds import Bound
from ddstore.codec import select
from ddstore.codec.bound_check import absolute_bound, violations
from ddstore.codec.format import NativeType, RowClass, dtype_of, type_code
from ddstore.codec.lattice import Lattice
from ddstore.codec.sample import sample

__all__ = ["Column"]

Values = NDArray[Any]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Column:
    """A column to encode."""

    values: Values
    classes: NDArray[np.uint8]
    ordinary: Mask | None
    """Rows that a lattice may hold; None when all are."""
    usable: Values
    """The values of those rows."""
    allowed: float | NDArray[np.float64]
    """Their bound: one for all, or one for each."""
    kind: NativeType

    @classmethod
    def of(cls, values: Values, valid: Mask | None, kind: NativeType, bound: Bound) -> Column:
        values = np.ascontiguousarray(values, dtype=dtype_of(kind))
        mask = None if valid is None else np.ascontiguousarray(valid, dtype=bool)
        data, odd = _native.classify(type_code(kind), values, mask)
        classes = np.frombuffer(data, dtype=np.uint8)
        ordinary = classes == RowClass.VALUE if odd else None
        usable = values if ordinary is None else values[ordinary]
        return cls(values, classes, ordinary, usable, absolute_bound(usable, bound), kind)

    @property
    def n(self) -> int:
        return len(self.values)

    def sample(self) -> Column:
        """A part of it to choose by; itself when it is short."""
        values = sample(self.values)
        if len(values) == self.n:
            return self
        classes = sample(self.classes)
        ordinary = None if self.ordinary is None else classes == RowClass.VALUE
        allowed = self.allowed
        if isinstance(allowed, np.ndarray):
            allowed = sample(allowed) if self.ordinary is None else sample(self.spread(allowed))[ordinary]
        return replace(
            self,
            values=values,
            classes=classes,
            ordinary=ordinary,
            usable=values if ordinary is None else values[ordinary],
            allowed=allowed,
        )

    def none(self) -> Column:
        """A column of its type without a single row."""
        empty = self.values[:0].copy()
        return Column(empty, np.zeros(0, dtype=np.uint8), None, empty, 0.0, self.kind)

    def on(self, lattice: Lattice) -> tuple[select.Rows, int]:
        """The rows on a lattice; those whose reconstruction would break the bound are marked exact, and counted."""
        index = lattice.index(self.usable, self.kind)
        read = lattice.value(index, self.kind)
        broken = violations(self.usable, read, self.allowed)
        if self.usable.dtype.kind == "f" and np.any(np.asarray(self.allowed) == 0):
            # What lies between may round to -0.0, which is no farther from 0.0 than 0.0 is.
            broken = broken | ((self.usable == 0) & np.signbit(read) & (np.asarray(self.allowed) == 0))
        escaped = int(np.count_nonzero(broken))
        classes = self.classes if self.ordinary is not None else None
        if escaped:
            classes = self.classes.copy()
            classes[np.flatnonzero(broken) if self.ordinary is None else np.flatnonzero(self.ordinary)[broken]] = (
                RowClass.EXACT
            )
        checked = read if classes is None else None
        return select.Rows(self.values, classes, self.spread(index), lattice, self.kind, checked), escaped

    def spread(self, of_usable: NDArray[Any]) -> NDArray[Any]:
        """The elements in their rows, 0 in the others. Shape (n,)."""
        return select.spread(of_usable, self.ordinary)
