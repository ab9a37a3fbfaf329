"""What can go wrong, as one tree.

::

    DDStoreError
    ├── InvalidSeries      the data given to write() cannot be stored as it is
    ├── InvalidBound       a max_error that is no bound (negative, NaN, zero)
    ├── SchemaMismatch     table, column, key or type does not fit what was asked
    ├── BoundConflict      a series or column already has another max_error
    ├── BoundViolation     verification found a value outside its bound (nothing was deleted)
    ├── CorruptSegment     stored bytes are damaged; other segments stay readable
    ├── CompactionConflict rows changed while they were being compacted; retry is safe
    ├── NotInstalled       the catalog, the extension or an optional package is missing
    ├── NotPermitted       the database role lacks a right, or this process a setting
    └── ConnectionFailed   no database at the given address

Every error says what happened, where (``series``, ``column``, ``row``) and what to do (``remedy``).
"""

from __future__ import annotations

__all__ = [
    "BoundConflict",
    "BoundViolation",
    "CompactionConflict",
    "ConnectionFailed",
    "CorruptSegment",
    "DDStoreError",
    "InvalidBound",
    "InvalidSeries",
    "NotInstalled",
    "NotPermitted",
    "SchemaMismatch",
]


class DDStoreError(Exception):
    """Base of every error DDStore raises on purpose.

    Attributes:
        what: what happened, without the place and the remedy.
        series: the series (or table) concerned, if one is.
        column: the column concerned, if one is.
        row: zero-based position of the offending row in the data given, if one is.
        remedy: what the user can do about it, in one sentence.
    """

    def __init__(
        self,
        message: str,
        *,
        series: str | None = None,
        column: str | None = None,
        row: int | None = None,
        remedy: str | None = None,
    ) -> None:
        self.what = message
        self.series = series
        self.column = column
        self.row = row
        self.remedy = remedy
        where = ", ".join(
            f"{name} {value!r}"
            for name, value in (("series", series), ("column", column), ("row", row))
            if value is not None
        )
        text = f"{message} ({where})" if where else message
        super().__init__(f"{text}. {remedy}" if remedy else text)


class InvalidSeries(DDStoreError):
    """The data given cannot be stored as it is; nothing was written."""


class InvalidBound(DDStoreError):
    """A max_error that bounds nothing: negative, NaN, infinite, or zero without ``Lossless()``."""


class SchemaMismatch(DDStoreError):
    """A table, column, key or type does not fit what was asked."""


class BoundConflict(DDStoreError):
    """The series or column already has another max_error."""


class BoundViolation(DDStoreError):
    """Verification found a decoded value outside its bound; no row was deleted."""


class CorruptSegment(DDStoreError):
    """Stored bytes are damaged. Other segments stay readable; ``ddstore verify`` names this one."""


class CompactionConflict(DDStoreError):
    """Rows changed between reading and committing; the compaction was rolled back and may be retried."""


class NotInstalled(DDStoreError):
    """The catalog, the extension or an optional package is missing."""


class NotPermitted(DDStoreError):
    """The database role lacks a right that this verb needs, or this process a setting."""


class ConnectionFailed(DDStoreError):
    """No database answers at the given address."""
