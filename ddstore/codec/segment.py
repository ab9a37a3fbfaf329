"""One column of one segment: encode, decode with the production decoder, verify, and only then hand out.

Nothing leaves :func:`encode_column` that was not decoded from its very bytes and compared value by value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddstore import _native
from ddstore.bounds import Bound, Lossless
from ddstore.codec import select, tube
from ddstore.codec.bound_check import absolute_bound, violations
from ddstore.codec.format import Coder, Mode, NativeType, RowClass, as_native, code_of, dtype_of, type_code
from ddstore.codec.lattice import EMPTY, Lattice, exact_lattices, lossy_lattices, relative_lattices
from ddstore.codec.model import Model, is_damaged
from ddstore.codec.sample import sample
from ddstore.errors import BoundViolation, CorruptSegment
from ddstore.profiles import Profile

__all__ = ["EncodedColumn", "column_stats", "decode_column", "encode_column", "encode_exact"]

_SUM_UNITS = 2**1074
# With more exact rows than this share a lattice is not worth a trial beside another.
_ESCAPES_TOLERATED = 0.02
# Bits per sample above which an exact lattice may be a bad guess, so that the next one gets a trial.
_DEAR = 8

Values = NDArray[Any]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class EncodedColumn:
    """A verified column. ``minimum``, ``maximum`` and ``total`` are of what is read back, as PostgreSQL aggregates."""

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
) -> EncodedColumn:
    """Encode one column and verify it against what the production decoder makes of the bytes.

    Args:
        values: shape (n,), 0 < n <= 2**20, the column type's own dtype; ignored where not valid.
        valid: shape (n,), False where NULL; None when nothing is.
        type: "int2", "int4", "int8", "float4" or "float8".
        bound: how much error is tolerated.
        profile: which coders are tried, and how hard the smallest coding is searched for.
        model: the series' shared model, tried when its encoder is at hand.

    Raises:
        BoundViolation: the decoded values break the bound (a defect: nothing may be deleted).
        SchemaMismatch: the type is not coded by the core.
    """
    column = _Column.of(values, valid, as_native(type), bound)
    best = _best(column, bound, profile, model)
    data = model.data if model is not None and best.uses_model else None
    read, read_valid = decode_column(best.residual, best.latents, data, type, column.n)
    _verify(column, read, read_valid)
    count, low, high, total = column_stats(read, read_valid)
    return EncodedColumn(
        residual=best.residual,
        latents=best.latents,
        uses_model=best.uses_model,
        mode=best.mode.name.lower(),
        coder=best.coder.name.lower(),
        n=column.n,
        count=count,
        escapes=best.escapes,
        min=low,
        max=high,
        sum=total,
    )


def encode_exact(values: Values, type: str) -> bytes:
    """Encode values without NULLs bit-exactly and return the residual bytes, verified."""
    return encode_column(values, None, type=type, bound=Lossless()).residual


def decode_column(
    residual: bytes, latents: bytes | None, model: bytes | None, type: str, n: int
) -> tuple[Values, Mask | None]:
    """Decode all ``n`` rows: values, shape (n,), of the column's dtype, and validity (None: nothing is NULL).

    Raises:
        CorruptSegment: the bytes are damaged, or do not fit the type, the count or the model.
    """
    kind = as_native(type)
    try:
        data, valid = _native.decode_column(residual, latents, model, type_code(kind), n, -1)
    except _native.CorruptError as error:
        what = f"{error}" if model is None or not is_damaged(model) else f"its model is damaged: {error}"
        raise CorruptSegment(what, remedy="Run ddstore verify to list every damaged segment.") from None
    mask = None if valid is None else np.frombuffer(valid, dtype=np.bool_)
    return np.frombuffer(data, dtype=dtype_of(kind)), mask


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
    smallest, largest = float(there.min()), float(there.max())
    if math.isnan(smallest):
        numbers = there[~np.isnan(there)]
        smallest = float(numbers.min()) if len(numbers) else math.nan
    return len(there), smallest, largest, _float_sum(there)


def _float_sum(values: Values) -> float:
    """The sum, rounded once."""
    data, odd = _native.exact_sum(code_of(values.dtype), np.ascontiguousarray(values))
    if odd:  # one infinity is the sum, both or a NaN make it NaN
        with np.errstate(invalid="ignore"):
            return float(values[~np.isfinite(values)].astype(np.float64).sum())
    total = int.from_bytes(data, "little", signed=True)
    try:
        return total / _SUM_UNITS
    except OverflowError:
        return math.copysign(math.inf, total)


@dataclass(frozen=True, slots=True)
class _Column:
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
    def of(cls, values: Values, valid: Mask | None, kind: NativeType, bound: Bound) -> _Column:
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

    def sample(self) -> _Column:
        """A part of it to choose by; itself when it is short."""
        values = sample(self.values)
        if len(values) == self.n:
            return self
        classes = sample(self.classes)
        ordinary = None if self.ordinary is None else classes == RowClass.VALUE
        allowed = self.allowed
        if isinstance(allowed, np.ndarray):
            allowed = sample(allowed) if self.ordinary is None else sample(self._spread(allowed))[ordinary]
        return replace(
            self,
            values=values,
            classes=classes,
            ordinary=ordinary,
            usable=values if ordinary is None else values[ordinary],
            allowed=allowed,
        )

    def on(self, lattice: Lattice) -> tuple[select.Rows, int]:
        """The rows on a lattice; those whose reconstruction would break the bound are marked exact, and counted."""
        index = lattice.index(self.usable, self.kind)
        broken = violations(self.usable, lattice.value(index, self.kind), self.allowed)
        escaped = int(np.count_nonzero(broken))
        classes = self.classes if self.ordinary is not None else None
        if escaped:
            classes = self.classes.copy()
            classes[np.flatnonzero(broken) if self.ordinary is None else np.flatnonzero(self.ordinary)[broken]] = (
                RowClass.EXACT
            )
        return select.Rows(self.values, classes, self._spread(index), lattice, self.kind), escaped

    def _spread(self, of_usable: NDArray[Any]) -> NDArray[Any]:
        """The elements in their rows, 0 in the others."""
        if self.ordinary is None:
            return of_usable
        spread = np.zeros(self.n, dtype=of_usable.dtype)
        spread[self.ordinary] = of_usable
        return spread


def _candidates(column: _Column, bound: Bound) -> Iterator[Lattice]:
    """Lattices in the order of trial; the last one holds every value."""
    usable, kind = column.usable, column.kind
    if len(usable) == 0:  # nothing but NULLs and oddities
        yield EMPTY
        return
    if bound.kind == "relative":
        yield from relative_lattices(usable, kind, bound.value)
    elif isinstance(column.allowed, float) and column.allowed > 0:
        yield from lossy_lattices(usable, kind, column.allowed)
    yield from exact_lattices(usable, kind)


def _best(column: _Column, bound: Bound, profile: Profile, model: Model | None) -> select.Coded:
    """The column on the lattice that is cheapest by a sample, of the nearest indices or of a cheaper path."""
    coder = Coder.RANS if profile is Profile.FAST else Coder.MIX
    some = column.sample()
    prices: list[tuple[float, Lattice]] = []
    for lattice in _candidates(column, bound):
        rows, escaped = some.on(lattice)
        if prices and escaped > _ESCAPES_TOLERATED * len(some.usable):
            continue
        good = escaped == 0 and lattice.settled
        if good and not lattice.exact and not prices:
            prices.append((0.0, lattice))
            break
        bits = select.price(rows, coder)
        prices.append((bits, lattice))
        if good and not (lattice.exact and bits > _DEAR):
            break
    _, lattice = min(prices, key=lambda pair: pair[0])
    rows, _ = column.on(lattice)
    coded = select.encode(rows, coder, None if profile is Profile.FAST else model)
    return coded if profile is Profile.FAST else _on_cheaper_path(column, rows, coded, coder, model)


def _on_cheaper_path(
    column: _Column, rows: select.Rows, coded: select.Coded, coder: Coder, model: Model | None
) -> select.Coded:
    """The rows on the path of a tube search where that may pay and does, otherwise as they are coded."""
    if rows.lattice.exact or coded.mode is Mode.LINEAR or 8.0 * coded.size > tube.PAYS_BELOW * column.n:
        return coded
    plain, allowed = rows.plain, column.allowed
    if isinstance(allowed, np.ndarray):
        allowed = allowed[plain if column.ordinary is None else plain[column.ordinary]]
    found = tube.search(column.values[plain], rows.lattice, column.kind, allowed)
    if found is None:
        return coded
    lattice, path = found
    index = np.zeros(column.n, dtype=np.int64)
    index[plain] = path
    other = select.encode(replace(rows, lattice=lattice, index=index), coder, model)
    return other if other.size < coded.size else coded


def _verify(column: _Column, read: Values, read_valid: Mask | None) -> None:
    values, ordinary, allowed = column.values, column.ordinary, column.allowed
    if ordinary is None:
        wrong = violations(values, read, allowed)
        exact = np.broadcast_to(allowed == 0, values.shape)
        if read_valid is not None:
            wrong |= ~read_valid
    else:
        present = column.classes != RowClass.NULL
        wrong = np.ones(column.n, dtype=bool) if read_valid is None else read_valid
        wrong = wrong != present
        wrong[ordinary] |= violations(column.usable, read[ordinary], allowed)
        exact = present & ~ordinary
        exact[ordinary] = allowed == 0
    # Bit-exact where the bound is 0, and for everything that is not an ordinary number.
    if exact.any():
        unsigned = f"u{values.itemsize}"
        wrong |= exact & (values.view(unsigned) != read.view(unsigned))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise BoundViolation(
            f"value {values[row]!r} would be read back as {read[row]!r}",
            row=row,
            remedy="This is a defect of DDStore: please report it. No row was deleted.",
        )
