"""Which mode codes a column in the fewest bytes: by trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddstore import _native
from ddstore.codec.format import (
    FLAG_EXACT,
    FLAG_EXCEPTIONS,
    FLAG_NULLS,
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
from ddstore.codec.model import Model
from ddstore.codec.side import Side

__all__ = ["Coded", "LatticeKind", "encode"]

# A segment is at most raw + 64 bytes per column (DESIGN invariant 5); the header's own varints fit in it.
_OVERHEAD = 64
_SCALE_MAX = 2**42


@dataclass(frozen=True, slots=True)
class Coded:
    """A column coded in one mode."""

    residual: bytes
    latents: bytes | None
    mode: Mode
    escapes: int
    coder: Coder = Coder.MIX

    @property
    def uses_model(self) -> bool:
        """Whether decoding needs the shared model."""
        return self.mode is Mode.BTAE

    @property
    def size(self) -> int:
        """Bytes, without the shared model."""
        return len(self.residual) + len(self.latents or b"")


def encode(
    values: NDArray[Any],
    classes: NDArray[np.uint8],
    lattice: Lattice,
    kind: NativeType,
    model: Model | None,
    path: NDArray[np.int64] | None = None,
    sides: Sequence[Side] = (),
) -> Coded:
    """Code a column on ``lattice`` in every mode that may win and keep the smallest.

    Args:
        values: shape (n,), of the column's dtype.
        classes: shape (n,), RowClass of each row; all rows of class VALUE keep the bound on this lattice.
        lattice: maps values to indices.
        kind: the column type.
        model: the series' model, or None.
        path: the indices of the rows of class VALUE, where they are not simply the nearest ones.
        sides: columns of the segment that this one may be conditioned on.
    """
    plain = classes == RowClass.VALUE
    index = np.zeros(len(values), dtype=np.int64)
    index[plain] = lattice.index(values[plain], kind) if path is None else path
    trial = _Trial(values, classes, index, lattice, kind)
    escapes = int((classes == RowClass.EXACT).sum())

    drift, steady = _common_step(index) if plain.all() else (0, 0.0)
    if steady == 1.0:
        line = trial.run(Mode.LINEAR, Centre.LAST, drift=drift)
        if line is not None:
            return Coded(line, None, Mode.LINEAR, 0)
    best: Coded | None = None
    for centre, step in ((Centre.LAST, drift if steady > 0.5 else 0), (Centre.LINEAR, 0)):
        residual = trial.run(Mode.LATTICE, centre, drift=step)
        if residual is not None and (best is None or len(residual) < best.size):
            best = Coded(residual, None, Mode.LATTICE, escapes)
    if model is not None and lattice.kind in (LatticeKind.GRID, LatticeKind.STEP):
        learned = _with_model(trial, values, plain, model, escapes)
        if learned is not None and (best is None or learned.size < best.size):
            best = learned
    if best is None:
        raw = trial.run(Mode.RAW, Centre.LAST)
        assert raw is not None, "raw bytes always fit"
        best = Coded(raw, None, Mode.RAW, 0)
    return best


def _common_step(index: NDArray[np.int64]) -> tuple[int, float]:
    """The most frequent difference of neighbours (a clock's sampling interval) and its share of all of them."""
    if len(index) < 2:
        return 0, 1.0
    steps, counts = np.unique(np.diff(index), return_counts=True)
    most = counts.argmax()
    return int(steps[most]), float(counts[most]) / (len(index) - 1)


class _Trial:
    """One column's arrays, ready to be coded in several modes."""

    def __init__(
        self,
        values: NDArray[Any],
        classes: NDArray[np.uint8],
        index: NDArray[np.int64],
        lattice: Lattice,
        kind: NativeType,
    ) -> None:
        self.n = len(values)
        self.kind = kind
        self.lattice = lattice
        self.index = index
        self.bits = np.ascontiguousarray(values).view(f"u{values.itemsize}").astype(np.uint64)
        self.classes = classes

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
    ) -> bytes | None:
        """The bytes, or None when they would be larger than raw + 64."""
        classes = self.classes
        if mode is Mode.RAW:  # every value in its own bits: only NULL is left to tell
            classes = np.where(classes == RowClass.NULL, classes, np.uint8(RowClass.VALUE))
        exceptional = bool(classes.any())
        lattice = self.lattice
        flags = (
            (FLAG_EXCEPTIONS if exceptional else 0)
            | (FLAG_NULLS if exceptional and bool((classes == RowClass.NULL).any()) else 0)
            | (FLAG_EXACT if lattice.exact or mode is Mode.RAW else 0)
            | (FLAG_VIA_FLOAT32 if lattice.via_float32 and mode is not Mode.RAW else 0)
        )
        return _native.encode_column(
            type=type_code(self.kind),
            mode=mode,
            coder=coder,
            flags=flags,
            n=self.n,
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
            classes=np.ascontiguousarray(classes) if exceptional else None,
            bits=self.bits,
            latents=latents,
            model=model,
            levels=lattice.levels,
            capacity=self.n * dtype_of(self.kind).itemsize + _OVERHEAD,
        )


def _with_model(
    trial: _Trial, values: NDArray[Any], plain: NDArray[np.bool_], model: Model, escapes: int
) -> Coded | None:
    """Code around the BTAE's prediction; None when the model's units do not reach this lattice."""
    lattice = trial.lattice
    if lattice.kind is LatticeKind.GRID:
        unit, origin = lattice.mul / lattice.den, lattice.add / lattice.den
    else:
        unit, origin = lattice.step, lattice.offset
    scale = model.std / unit * 2.0**20  # the decoder's unit is 2**-32 per 2**-12 standard deviations
    base = (model.mean - origin) / unit
    if not 1 <= scale < _SCALE_MAX or not abs(base) < 2.0**62:
        return None
    latents = model.latents(values, plain)
    residual = trial.run(
        Mode.BTAE, Centre.MODEL, base=round(base), scale=round(scale), latents=latents, model=model.data
    )
    return None if residual is None else Coded(residual, latents, Mode.BTAE, escapes)
