"""The pipeline of the Deep Dict paper as it was published, to compare with: nothing chooses it.

A model predicts, what it misses is quantized uniformly to bins of twice the bound, and libbsc codes that. No grid is
looked for, no path through the tube, no other coder is tried.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddstore import _native
from ddstore.bounds import Bound
from ddstore.codec.bound_check import violations
from ddstore.codec.column import Column
from ddstore.codec.format import Centre, Coder, LatticeKind, Mode, RowClass, as_native
from ddstore.codec.lattice import EMPTY, Lattice, step_lattices
from ddstore.codec.model import Model
from ddstore.codec.segment import EncodedColumn, verified
from ddstore.codec.select import Coded, Rows
from ddstore.errors import InvalidBound, NotInstalled, SchemaMismatch

__all__ = ["encode_column"]

# A prediction is rounded to 2**-8 of a bin: the format knows whole numbers only.
_FINER = 8
_SCALE_MAX = 2**42
_WIDEST = 1e300  # a step beyond would overflow when multiplied
_LARGEST = 2.0**52  # residuals beyond are stored exactly


def encode_column(
    values: NDArray[Any], valid: NDArray[np.bool_] | None, *, type: str, bound: Bound, model: Model | None = None
) -> EncodedColumn:
    """Encode one column as the paper does, and verify it as every column is.

    Args:
        values: shape (n,), 0 < n <= 2**20, the column type's own dtype; ignored where not valid.
        valid: shape (n,), False where NULL; None when nothing is.
        type: "float4" or "float8".
        bound: absolute, or relative to the range.
        model: what predicts; without one, or where its units do not reach so fine a bound, the value before does.

    Raises:
        InvalidBound: the bound is relative to each value, or lossless.
        NotInstalled: this build lacks libbsc.
        SchemaMismatch: the type is another one.
        BoundViolation: the decoded values break the bound (a defect).
    """
    kind = as_native(type)
    if kind not in ("float4", "float8"):
        raise SchemaMismatch(f"the paper's pipeline knows no {type}", remedy="Use float4 or float8.")
    if bound.kind not in ("absolute", "range"):
        raise InvalidBound(f"the paper's pipeline cannot keep {bound}", remedy="Use Absolute or RangeRelative.")
    if not _native.WITH_BSC:
        raise NotInstalled(
            "the paper's pipeline needs libbsc, which this build of ddstore lacks",
            remedy="Build ddstore with it: docs/operations.md.",
        )
    column = Column.of(values, valid, kind, bound)
    lattice = _lattice(column)
    coded = None
    if model is not None and lattice is not EMPTY:
        coded = _predicted(column, lattice, model)
    if coded is None:
        rows, _ = column.on(lattice)
        coded = _coded(rows, rows.run(Mode.LATTICE, Centre.LAST, coder=Coder.BSC), None, Mode.LATTICE)
    if coded is None:
        raw = rows.run(Mode.RAW, Centre.LAST)
        assert raw is not None, "raw bytes always fit"
        coded = Coded(raw, None, Mode.RAW, rows.lattice, 0)
    return verified(column, coded, model)


def _lattice(column: Column) -> Lattice:
    """Bins of twice the bound."""
    assert isinstance(column.allowed, float)
    if len(column.usable) == 0 or column.allowed == 0:
        return EMPTY
    fitting = step_lattices(column.usable, column.kind, column.allowed, aligned=True)
    # An outlier's rounding leaves no room for the others: it will be stored exactly.
    return fitting[0] if fitting else Lattice(LatticeKind.STEP, step=2 * min(column.allowed, _WIDEST))


def _predicted(column: Column, lattice: Lattice, model: Model) -> Coded | None:
    """Bins around each prediction, on a lattice so fine that a prediction is one of its points; None: out of reach."""
    for bits in range(_FINER, -1, -1):
        unit = lattice.step / 2**bits
        scale, base = model.std / unit * 2.0**20, model.mean / unit
        if 1 <= scale < _SCALE_MAX and abs(base) < _LARGEST:
            break
    else:
        return None
    classes = None if column.ordinary is None else column.classes
    rows = Rows(column.values, classes, np.zeros(0, np.int64), lattice, column.kind)
    latents = model.latents(column.values, rows.plain)
    windows = -(-column.n // model.window)
    section = model.data[:-4]
    prediction = np.frombuffer(_native.btae_predict(section, latents, windows), np.int32)[: column.n].astype(np.int64)
    centre = round(base) + ((prediction * round(scale) + 2**31) >> 32)  # as the decoder has it
    wide = column.values.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        bins = np.rint((wide - centre * unit) / lattice.step)
    bins = np.where(np.abs(bins) < _LARGEST / 2**bits, bins, 0).astype(np.int64)
    rows = _marked(column, replace(rows, index=centre + (bins << bits), lattice=replace(lattice, step=unit)))
    residual = rows.run(
        Mode.BTAE,
        Centre.MODEL,
        coder=Coder.BSC,
        base=round(base),
        scale=round(scale),
        latents=latents,
        model=model.data,
    )
    return _coded(rows, residual, latents, Mode.BTAE)


def _marked(column: Column, rows: Rows) -> Rows:
    """The rows, those exact that would break the bound: rounding, and what lies too far from its prediction."""
    plain = rows.plain
    broken = violations(column.usable, rows.lattice.value(rows.index[plain], column.kind), column.allowed)
    if not broken.any():
        return rows
    classes = column.classes.copy()
    classes[np.flatnonzero(plain)[broken]] = RowClass.EXACT
    return replace(rows, classes=classes)


def _coded(rows: Rows, residual: bytes | None, latents: bytes | None, mode: Mode) -> Coded | None:
    return None if residual is None else Coded(residual, latents, mode, rows.lattice, rows.escapes, Coder.BSC)
