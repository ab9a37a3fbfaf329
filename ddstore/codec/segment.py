"""One column of one segment: encode, decode with the production decoder, verify, and only then hand out.

Nothing leaves :func:`encode_column` that was not decoded from its very bytes and compared value by value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddstore import _native
from ddstore.bounds import Bound, Lossless
from ddstore.codec import select, tube
from ddstore.codec.bound_check import absolute_bound, violations
from ddstore.codec.format import NATIVE_TYPES, Mode, NativeType, RowClass, as_native, dtype_of, type_code
from ddstore.codec.lattice import EMPTY, Lattice, exact_lattices, lossy_lattices, relative_lattices
from ddstore.codec.model import Model, is_damaged
from ddstore.codec.side import Side, lattice_units
from ddstore.errors import BoundViolation, CorruptSegment
from ddstore.profiles import Profile

__all__ = [
    "EncodedColumn",
    "checksum",
    "column_stats",
    "decode_column",
    "encode_column",
    "encode_exact",
    "needs",
]

_CANONICAL_NAN = {"float4": 0x7FC00000, "float8": 0x7FF8000000000000}
_SMALLEST_NORMAL = {"float4": float(np.finfo(np.float32).tiny), "float8": float(np.finfo(np.float64).tiny)}
# With more exact rows than this share a lattice is not worth a trial beside another.
_ESCAPES_TOLERATED = 0.02
# Bits per sample above which an exact lattice may be a bad guess, so that the next one gets a trial.
_DEAR = 8

_REMEDY = "Run ddstore verify to list every damaged segment."

Values = NDArray[Any]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class EncodedColumn:
    """A verified column.

    ``min``, ``max`` and ``sum`` are of what is read back, as PostgreSQL aggregates; ``side`` is the column as those
    encoded after it in the segment may be conditioned on it.
    """

    residual: bytes
    latents: bytes | None
    uses_model: bool
    mode: str
    coder: str
    n: int
    count: int
    escapes: int
    min: int | float | None
    max: int | float | None
    sum: Decimal | float | None
    side: Side

    @property
    def size(self) -> int:
        """Stored bytes, without the shared model."""
        return len(self.residual) + len(self.latents or b"")


def encode_column(
    values: Values,
    valid: Mask | None,
    *,
    type: str,
    bound: Bound,
    profile: Profile = Profile.BALANCED,
    model: Model | None = None,
    sides: Sequence[Side] = (),
) -> EncodedColumn:
    """Encode one column and verify it against what the production decoder makes of the bytes.

    Args:
        values: shape (n,), 0 < n <= 2**20, the column type's own dtype; ignored where not valid.
        valid: shape (n,), False where NULL; None when nothing is.
        type: "int2", "int4", "int8", "float4" or "float8".
        bound: how much error is tolerated.
        profile: which coders are tried, and how hard the smallest coding is searched for.
        model: the series' shared model, tried when its encoder is at hand.
        sides: columns of the same segment encoded before; this one may be conditioned on at most three of them.

    Raises:
        BoundViolation: the decoded values break the bound (a defect: nothing may be deleted).
        SchemaMismatch: the type is not coded by the core.
    """
    kind = as_native(type)
    values = np.ascontiguousarray(values, dtype=dtype_of(kind))
    n = len(values)
    present = np.ones(n, dtype=bool) if valid is None else np.ascontiguousarray(valid, dtype=bool)
    ordinary = _ordinary(values, kind) & present
    usable = values[ordinary]
    allowed = np.zeros(n)
    allowed[ordinary] = absolute_bound(usable, bound)
    classes = _classes(values, kind, present, ordinary)

    best: select.Coded | None = None
    used = EMPTY
    for lattice in _candidates(usable, kind, bound):
        attempt, escaped = _with_escapes(values, ordinary, classes, lattice, allowed, kind)
        if best is not None and escaped > _ESCAPES_TOLERATED * len(usable):
            continue
        coded, finer = _on_lattice(values, attempt, lattice, allowed, kind, model, sides)
        if best is None or coded.size < best.size:
            best, used = coded, finer
        if escaped == 0 and lattice.settled and not (lattice.exact and 8 * coded.size > _DEAR * n):
            break
    assert best is not None, "the last candidate holds every value"
    given = {side.crc: side.values for side in sides}
    read, read_valid = decode_column(
        best.residual,
        best.latents,
        model.data if model and best.uses_model else None,
        kind,
        n,
        [given[crc] for crc in needs(best.residual)],
    )
    _verify(values, present, ordinary, allowed, read, read_valid)
    count, low, high, total = column_stats(read, read_valid)
    return EncodedColumn(
        residual=best.residual,
        latents=best.latents,
        uses_model=best.uses_model,
        mode=best.mode.name.lower(),
        coder=best.coder.name.lower(),
        n=n,
        count=count,
        escapes=best.escapes,
        min=low,
        max=high,
        sum=total,
        side=Side(checksum(best.residual), kind, read, *lattice_units(used, best.mode)),
    )


def encode_exact(values: Values, type: str) -> bytes:
    """Encode values without NULLs bit-exactly and return the residual bytes, verified."""
    return encode_column(values, None, type=type, bound=Lossless()).residual


def checksum(residual: bytes) -> int:
    """What names a column within its segment: the last four bytes of its residual."""
    return int.from_bytes(residual[-4:], "little")


def needs(residual: bytes) -> tuple[int, ...]:
    """Checksums of the other columns of the segment that this one is conditioned on, in the order decoding takes them.

    Raises:
        CorruptSegment: the bytes are damaged.
    """
    try:
        return _native.peek_column(residual)["sides"]
    except _native.CorruptError as error:
        raise CorruptSegment(f"{error}", remedy=_REMEDY) from None


def decode_column(
    residual: bytes,
    latents: bytes | None,
    model: bytes | None,
    type: str,
    n: int,
    sides: Sequence[Values] = (),
) -> tuple[Values, Mask | None]:
    """Decode all ``n`` rows: values, shape (n,), of the column's dtype, and validity (None: nothing is NULL).

    Args:
        residual: as stored.
        latents: as stored, None where there are none.
        model: the model that coded the column, None where none did.
        type: "int2", "int4", "int8", "float4" or "float8".
        n: rows of the segment.
        sides: decoded values of the columns that :func:`needs` names, in its order, each of shape (n,), 0 where NULL.

    Raises:
        CorruptSegment: the bytes are damaged, or do not fit the type, the count, the model or the other columns.
    """
    kind = as_native(type)
    try:
        crcs = needs(residual) if sides else ()
        if len(sides) != len(crcs):
            raise CorruptSegment(f"it is conditioned on {len(crcs)} columns, {len(sides)} are given", remedy=_REMEDY)
        others = [(crc, _code_of(side), side) for crc, side in zip(crcs, sides, strict=True)]
        data, valid = _native.decode_column(residual, latents, model, type_code(kind), n, -1, others)
    except _native.CorruptError as error:
        what = f"{error}" if model is None or not is_damaged(model) else f"its model is damaged: {error}"
        raise CorruptSegment(what, remedy=_REMEDY) from None
    mask = None if valid is None else np.frombuffer(valid, dtype=np.bool_)
    return np.frombuffer(data, dtype=dtype_of(kind)), mask


def _code_of(values: Values) -> int:
    return next(type_code(kind) for kind in NATIVE_TYPES if dtype_of(kind) == values.dtype)


def column_stats(
    values: Values, valid: Mask | None
) -> tuple[int, int | float | None, int | float | None, Decimal | float | None]:
    """count, min, max and sum of the non-NULL values as PostgreSQL's aggregates give them.

    NaN is greater than every number and makes the sum NaN; an integer sum is exact (numeric), a float sum
    is correctly rounded.
    """
    there = values if valid is None else values[valid]
    if len(there) == 0:
        return 0, None, None, None
    if there.dtype.kind == "i":
        high, low = there.astype(np.int64) >> 32, there.astype(np.int64) & 0xFFFFFFFF
        total = (int(high.sum()) << 32) + int(low.sum())
        return len(there), int(there.min()), int(there.max()), Decimal(total)
    numbers = there[~np.isnan(there)]
    smallest = float(numbers.min()) if len(numbers) else math.nan
    largest = float(numbers.max()) if len(numbers) == len(there) else math.nan
    try:
        exact = math.fsum(there.astype(np.float64))
    except (OverflowError, ValueError):  # beyond the doubles on the way, or +Inf and -Inf
        with np.errstate(over="ignore", invalid="ignore"):
            exact = float(there.astype(np.float64).sum())
    return len(there), smallest, largest, exact


def _ordinary(values: Values, kind: NativeType) -> Mask:
    """Values a lattice may hold: finite, normal, and not -0.0."""
    if values.dtype.kind == "i":
        return np.ones(len(values), dtype=bool)
    size = np.abs(values)
    return np.asarray(np.isfinite(values) & ((size >= _SMALLEST_NORMAL[kind]) | ((size == 0) & ~np.signbit(values))))


def _bits(values: Values) -> NDArray[np.uint64]:
    return values.view(f"u{values.itemsize}").astype(np.uint64)


def _classes(values: Values, kind: NativeType, present: Mask, ordinary: Mask) -> NDArray[np.uint8]:
    classes = np.zeros(len(values), dtype=np.uint8)
    odd = present & ~ordinary
    classes[~present] = RowClass.NULL
    classes[odd] = RowClass.EXACT
    if values.dtype.kind == "f" and odd.any():
        classes[odd & (_bits(values) == _CANONICAL_NAN[kind])] = RowClass.NAN
        classes[odd & (values == 0)] = RowClass.NEGATIVE_ZERO
    return classes


def _candidates(usable: Values, kind: NativeType, bound: Bound) -> Iterator[Lattice]:
    """Lattices in the order of trial; the last one holds every value."""
    if len(usable) == 0:  # nothing but NULLs and oddities
        yield EMPTY
        return
    if bound.kind == "relative":
        yield from relative_lattices(usable, kind, bound.value)
    else:
        eps = absolute_bound(usable, bound)
        assert isinstance(eps, float)
        if eps > 0:
            yield from lossy_lattices(usable, kind, eps)
    yield from exact_lattices(usable, kind)


def _with_escapes(
    values: Values,
    ordinary: Mask,
    classes: NDArray[np.uint8],
    lattice: Lattice,
    allowed: NDArray[np.float64],
    kind: NativeType,
) -> tuple[NDArray[np.uint8], int]:
    """Mark as exact the rows whose reconstruction would break the bound."""
    usable = values[ordinary]
    read = lattice.value(lattice.index(usable, kind), kind)
    broken = violations(usable, read, allowed[ordinary])
    if not broken.any():
        return classes, 0
    marked = classes.copy()
    marked[np.flatnonzero(ordinary)[broken]] = RowClass.EXACT
    return marked, int(broken.sum())


def _on_lattice(
    values: Values,
    classes: NDArray[np.uint8],
    lattice: Lattice,
    allowed: NDArray[np.float64],
    kind: NativeType,
    model: Model | None,
    sides: Sequence[Side],
) -> tuple[select.Coded, Lattice]:
    """The smallest coding on a lattice, of the nearest indices or, where it may pay, of a cheaper path on a finer one.

    Which of the two lattices it is stands beside it.
    """
    coded = select.encode(values, classes, lattice, kind, model, sides=sides)
    if lattice.exact or coded.mode is Mode.LINEAR or 8.0 * coded.size > tube.PAYS_BELOW * len(values):
        return coded, lattice
    plain = classes == RowClass.VALUE
    found = tube.search(values[plain], lattice, kind, allowed[plain])
    if found is None:
        return coded, lattice
    finer, path = found
    other = select.encode(values, classes, finer, kind, model, path, sides=sides)
    return (other, finer) if other.size < coded.size else (coded, lattice)


def _verify(
    values: Values, present: Mask, ordinary: Mask, allowed: NDArray[np.float64], read: Values, read_valid: Mask | None
) -> None:
    there = np.ones(len(values), dtype=bool) if read_valid is None else read_valid
    wrong = there != present
    wrong[ordinary] |= violations(values[ordinary], read[ordinary], allowed[ordinary])
    # Bit-exact where the bound is 0, and for everything that is not an ordinary number.
    exact = present & (~ordinary | (allowed == 0))
    wrong[exact] |= _bits(values[exact]) != _bits(read[exact])
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise BoundViolation(
            f"value {values[row]!r} would be read back as {read[row]!r}",
            row=row,
            remedy="This is a defect of DDStore: please report it. No row was deleted.",
        )
