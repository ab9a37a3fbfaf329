"""The coded columns of one segment: each decoded once, after those that it is conditioned on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ddstore.codec.segment import Mask, Values, checksum, decode_column, needs
from ddstore.errors import CorruptSegment

__all__ = ["SegmentColumns", "StoredColumn", "unmet"]


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """One coded column as the segment's row has it.

    Attributes:
        name: for messages.
        type: "int2", "int4", "int8", "float4" or "float8".
        residual: never NULL here.
        latents: None where NULL.
        model: the bytes of the model that the row names; None where it names none.
    """

    name: str
    type: str
    residual: bytes
    latents: bytes | None = None
    model: bytes | None = None


def unmet(residuals: Iterable[bytes]) -> set[int]:
    """Checksums of the columns that decoding these takes and that are not among them; damaged ones need nothing."""
    named: set[int] = set()
    own: set[int] = set()
    for residual in residuals:
        own.add(checksum(residual))
        try:
            named.update(needs(residual))
        except CorruptSegment:
            continue  # decoding it says so
    return named - own


class SegmentColumns:
    """Decodes columns of one segment of ``n`` rows, those that they are conditioned on first.

    Args:
        n: rows of the segment.
        columns: by column id, everything that decoding what is asked for takes; more does no harm.
    """

    def __init__(self, n: int, columns: Mapping[int, StoredColumn]) -> None:
        self._n = n
        self._columns = columns
        self._needs: dict[int, list[int]] = {}
        self._decoded: dict[int, tuple[Values, Mask | None]] = {}
        # Equal checksums are equal bytes: whoever encodes a segment sees to that.
        self._named = {checksum(column.residual): id_ for id_, column in columns.items()}

    def decode(self, column_id: int) -> tuple[Values, Mask | None]:
        """Decode one column: values, shape (n,), of its type's dtype, and validity (None: nothing is NULL).

        Raises:
            CorruptSegment: the column, or one that it is conditioned on, is damaged or missing.
        """
        if column_id not in self._columns:
            raise CorruptSegment("its values are missing")
        path = [] if column_id in self._decoded else [column_id]  # each needed by the one before it
        while path:
            here = path[-1]
            try:
                if here not in self._needs:
                    self._needs[here] = self._needed(here)
                left = [other for other in self._needs[here] if other not in self._decoded]
                if any(other in path for other in left):
                    raise CorruptSegment("it is conditioned on itself")
                if not left:
                    self._decoded[here] = self._decode(here)
            except CorruptSegment as error:
                what = error.what
                if here != column_id:
                    what = f"column {self._columns[here].name!r}, which it is conditioned on, is damaged: {what}"
                raise CorruptSegment(what) from None
            if left:
                path.append(left[0])
            else:
                path.pop()
        return self._decoded[column_id]

    def _needed(self, column_id: int) -> list[int]:
        crcs = needs(self._columns[column_id].residual)
        for crc in crcs:
            if crc not in self._named:
                raise CorruptSegment(f"the segment lacks the column of checksum {crc:08x}, which it is conditioned on")
        return [self._named[crc] for crc in crcs]

    def _decode(self, column_id: int) -> tuple[Values, Mask | None]:
        column = self._columns[column_id]
        sides = [self._decoded[other][0] for other in self._needs[column_id]]
        return decode_column(column.residual, column.latents, column.model, column.type, self._n, sides)
