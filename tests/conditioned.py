"""Columns conditioned on others whatever the codec would choose, and residuals that bear a given checksum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg.sql import SQL, Identifier, Literal

from coded import encode_native
from ddstore import _native
from ddstore._native import crc32c
from ddstore.codec.format import FLAG_EXACT, FLAG_EXCEPTIONS, FLAG_NULLS, Coder, Mode, RowClass, as_native, type_code
from ddstore.codec.segment import checksum
from ddstore.codec.stored import SegmentColumns, StoredColumn

CHECKSUM = 4  # bytes of it


def encode_conditioned(
    values: NDArray[Any],
    valid: NDArray[np.bool_] | None,
    type_name: str,
    sides: Sequence[tuple[str, int, NDArray[Any]]],
    mode: Mode = Mode.ADAPTIVE,
) -> bytes:
    """Encode whole numbers losslessly on the condition of ``sides``: (type, checksum, values as read back) each."""
    classes = None if valid is None else np.where(valid, RowClass.VALUE, RowClass.NULL).astype(np.uint8)
    odd = classes is not None and bool(classes.any())
    index = np.zeros(len(values), np.int64)
    there = np.ones(len(values), bool) if valid is None else valid
    index[there] = values[there].astype(np.int64)
    return encode_native(
        as_native(type_name),
        Coder.CM,
        mode,
        index,
        flags=FLAG_EXACT | (FLAG_EXCEPTIONS | FLAG_NULLS if odd else 0),
        classes=classes if odd else None,
        bits=np.ascontiguousarray(values).view(f"u{values.itemsize}").astype(np.uint64) if odd else None,
        sides=[(crc, type_code(as_native(kind)), side, 1.0, 0.0, 0) for kind, crc, side in sides],
    )


def renamed(residual: bytes, crc: int) -> bytes:
    """The column with the checksum ``crc``, which is the right one: four bytes of a side's scale make it so.

    For a column conditioned on one other; it decodes to other values then.
    """
    body = bytearray(residual[:-CHECKSUM])
    (named,) = _native.peek_column(residual)["sides"]
    at = body.index(named.to_bytes(4, "little")) + 4  # the low half of the scale
    body[at : at + 4] = bytes(4)
    nothing = crc32c(bytes(body))
    rows = []  # per bit of those bytes: what it changes in the checksum, and which bit it is
    for bit in range(32):
        body[at : at + 4] = (1 << bit).to_bytes(4, "little")
        rows.append((crc32c(bytes(body)) ^ nothing, 1 << bit))
    wanted, chosen = crc ^ nothing, 0
    for bit in reversed(range(32)):  # Gauss-Jordan: a checksum is linear
        pivot = next(row for row in rows if row[0] >> bit & 1)
        rows = [(c ^ pivot[0], b ^ pivot[1]) if c >> bit & 1 and (c, b) != pivot else (c, b) for c, b in rows]
        rows.remove(pivot)
        if wanted >> bit & 1:
            wanted, chosen = wanted ^ pivot[0], chosen ^ pivot[1]
    body[at : at + 4] = chosen.to_bytes(4, "little")
    return bytes(body) + crc32c(bytes(body)).to_bytes(4, "little")


def condition(made: Any, segment: int, on: Mapping[str, Sequence[str]]) -> None:
    """Encode columns of a stored segment anew, each on the condition of the columns named, which come before it.

    ``made`` is a ColdTable; its values are whole numbers.
    """
    table = made.table
    for name, others in on.items():
        read, valid = decode_stored(made, segment, name)
        sides = []
        for other in others:
            crc = checksum(stored(made, segment)[table.columns[other].id].residual)
            sides.append((table.columns[other].type, crc, decode_stored(made, segment, other)[0]))
        type_ = table.columns[name].type
        replace(made, segment, name, encode_conditioned(read, valid, type_, sides))
        again, there = decode_stored(made, segment, name)
        np.testing.assert_array_equal(again, read)
        np.testing.assert_array_equal(there, valid)


def stored(made: Any, segment: int) -> dict[int, StoredColumn]:
    """The coded columns of a segment's row."""
    native = [column for column in made.table.values if column.native]
    row = made.conn.execute(
        SQL("SELECT {} FROM {} WHERE id = {}").format(
            SQL(", ").join(Identifier(f"c{column.id}_residual") for column in native),
            made.table.segments_identifier,
            segment,
        )
    ).fetchone()
    return {c.id: StoredColumn(c.name, c.type, residual) for c, residual in zip(native, row, strict=True)}


def decode_stored(made: Any, segment: int, name: str) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """One column of a segment's row, decoded."""
    (n,) = made.conn.execute(
        SQL("SELECT n FROM {} WHERE id = {}").format(made.table.segments_identifier, segment)
    ).fetchone()
    return SegmentColumns(n, stored(made, segment)).decode(made.table.columns[name].id)


def replace(made: Any, segment: int, name: str, residual: bytes) -> None:
    """Store other bytes."""
    made.conn.execute(
        SQL("UPDATE {} SET {} = {} WHERE id = {}").format(
            made.table.segments_identifier,
            Identifier(f"c{made.table.columns[name].id}_residual"),
            Literal(residual),
            segment,
        )
    )
