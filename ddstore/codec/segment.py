"""One column of one segment: encode, decode with the production decoder, verify, and only then hand out.

Nothing leaves :func:`encode_column` that was not decoded from its very bytes and compared value by value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddstore import _native
from ddstore.bounds import Bound
from ddstore.codec import choose
from ddstore.codec.aggregates import column_stats
from ddstore.codec.bound_check import violations
from ddstore.codec.choice import Choice
from ddstore.codec.column import Column
from ddstore.codec.format import FLAG_SIDES, Coder, RowClass, as_native, code_of, dtype_of, type_code
from ddstore.codec.hint import Hint
from ddstore.codec.model import AnyModel, is_damaged
from ddstore.codec.select import Coded
from ddstore.codec.side import Side, lattice_units
from ddstore.config import Config
from ddstore.errors import BoundViolation, CorruptSegment, NotInstalled, NotPermitted
from ddstore.profiles import Profile

__all__ = [
    "REMEDY",
    "EncodedColumn",
    "checksum",
    "decode_column",
    "encode_column",
    "needs",
    "verified",
]

REMEDY = "Run ddstore verify to list every damaged segment."

Values = NDArray[Any]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class EncodedColumn:
    """A verified column.

    ``min``, ``max`` and ``sum`` are of what is read back, as PostgreSQL aggregates; ``side`` is the column as those
    encoded after it in the segment may be conditioned on it; ``choice`` is how it was coded, for the segment after it.
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
    choice: Choice | None = None

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
    model: AnyModel | None = None,
    sides: Sequence[Side] = (),
    before: Choice | None = None,
    hints: Sequence[Hint] = (),
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
        before: the ``choice`` of the segment before this one, which saves the search where it still fits.
        hints: with a lossless bound, how some of the values were coded before.

    Raises:
        BoundViolation: the decoded values break the bound (a defect: nothing may be deleted).
        SchemaMismatch: the type is not coded by the core.
    """
    column = Column.of(values, valid, as_native(type), bound)
    best, choice = choose.smallest(column, bound, profile, model, sides, before, hints)
    given = {side.crc: side.values for side in sides}
    return replace(verified(column, best, model, [given[crc] for crc in needs(best.residual)]), choice=choice)


def verified(column: Column, best: Coded, model: AnyModel | None, sides: Sequence[Values] = ()) -> EncodedColumn:
    """Hand out a column that was just coded, if it decodes to what it should.

    Args:
        column: what was coded.
        best: how.
        model: what it may have been coded with.
        sides: values of the columns that it is conditioned on, as :func:`decode_column` takes them.

    Raises:
        BoundViolation: it does not (a defect: nothing may be deleted).
    """
    if best.decoded is not None:
        read, read_valid = best.decoded
    else:
        data = model.data if model is not None and best.uses_model else None
        read, read_valid = decode_column(best.residual, best.latents, data, column.kind, column.n, sides, trusting=True)
    checked = None if best.way is None else best.way.rows.checked
    if checked is None or read_valid is not None or not _same_bits(read, checked):
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
        side=Side(checksum(best.residual), column.kind, read, *lattice_units(best.lattice, best.mode)),
    )


def checksum(residual: bytes) -> int:
    """What names a column within its segment: the last four bytes of its residual."""
    return int.from_bytes(residual[-4:], "little")


def needs(residual: bytes) -> tuple[int, ...]:
    """Checksums of the other columns of the segment that this one is conditioned on, in the order decoding takes them.

    Raises:
        CorruptSegment: the bytes are damaged.
    """
    if len(residual) > 3 and not residual[3] & FLAG_SIDES:
        return ()  # without reading all of it for the checksum, which decoding does
    try:
        return _native.peek_column(residual)["sides"]
    except _native.CorruptError as error:
        raise CorruptSegment(f"{error}", remedy=REMEDY) from None


def decode_column(
    residual: bytes,
    latents: bytes | None,
    model: bytes | None,
    type: str,
    n: int,
    sides: Sequence[Values] = (),
    *,
    trusting: bool = False,
) -> tuple[Values, Mask | None]:
    """Decode all ``n`` rows: values, shape (n,), of the column's dtype, and validity (None: nothing is NULL).

    Args:
        residual: as stored.
        latents: as stored, None where there are none.
        model: the model that coded the column, None where none did.
        type: "int2", "int4", "int8", "float4" or "float8".
        n: rows of the segment.
        sides: decoded values of the columns that :func:`needs` names, in its order, each of shape (n,), 0 where NULL.
        trusting: the bytes come from this very process, so that even libbsc may decode them.

    Raises:
        CorruptSegment: the bytes are damaged, or do not fit the type, the count, the model or the other columns.
        NotInstalled: they are libbsc's, which this build has not.
        NotPermitted: they are libbsc's, and stored bytes are not trusted here.
    """
    kind = as_native(type)
    try:
        trusting = _is_bsc(residual) and (trusting or _trusts_bsc())
        crcs = needs(residual) if sides else ()
        if len(sides) != len(crcs):
            raise CorruptSegment(f"it is conditioned on {len(crcs)} columns, {len(sides)} are given", remedy=REMEDY)
        others = [(crc, code_of(side.dtype), side) for crc, side in zip(crcs, sides, strict=True)]
        data, valid = _native.decode_column(residual, latents, model, type_code(kind), n, -1, others, trusting)
    except _native.CorruptError as error:
        what = f"{error}" if model is None or not is_damaged(model) else f"its model is damaged: {error}"
        raise CorruptSegment(what, remedy=REMEDY) from None
    mask = None if valid is None else np.frombuffer(valid, dtype=np.bool_)
    return np.frombuffer(data, dtype=dtype_of(kind)), mask


def _is_bsc(residual: bytes) -> bool:
    """Whether sound bytes are libbsc's; CorruptError where they are damaged.

    Raises:
        NotInstalled: they are, and this build lacks it.
    """
    if len(residual) < 2 or residual[1] >> 4 != Coder.BSC:
        return False
    _native.peek_column(residual)
    if not _native.WITH_BSC:
        raise NotInstalled(
            "it is coded by libbsc, which this build of ddstore lacks",
            remedy="Build ddstore with it (docs/operations.md). To recode the table, there: ddstore release, compact.",
        )
    return True


def _trusts_bsc() -> bool:
    if not Config.from_env().trust_bsc:
        raise NotPermitted(
            "it is coded by libbsc, which forged bytes can make overwrite memory",
            remedy="Set DDSTORE_TRUST_BSC=1 if nobody else can write to the segments; to recode them: ddstore release, "
            "then compact again.",
        )
    return True


def _same_bits(a: Values, b: Values) -> bool:
    unsigned = f"u{a.itemsize}"
    return np.array_equal(a.view(unsigned), b.view(unsigned))


def _verify(column: Column, read: Values, read_valid: Mask | None) -> None:
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
