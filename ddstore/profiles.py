"""Profiles: how much reading may cost, in exchange for how little is stored."""

from __future__ import annotations

from enum import StrEnum

from ddstore.errors import InvalidSeries

__all__ = ["Profile"]


class Profile(StrEnum):
    """The decode-cost budget of new segments. Every profile keeps the same bounds, and any reader reads all of them.

    ``FAST`` decodes in batches from static tables; ``BALANCED`` (the default) takes a slower coder for a column
    where that saves enough; ``ARCHIVE`` spends what it takes to be small.
    """

    FAST = "fast"
    BALANCED = "balanced"
    ARCHIVE = "archive"

    @property
    def segment_rows(self) -> int:
        """Rows of a full segment where the table sets none. Longer ones take less per row, and reading one row more."""
        return _SEGMENT_ROWS[self]

    @classmethod
    def named(cls, name: str) -> Profile:
        """The profile of this name.

        Raises:
            InvalidSeries: there is none.
        """
        try:
            return cls(name)
        except ValueError:
            raise InvalidSeries(f"profile {name!r} is unknown", remedy="Use fast, balanced or archive.") from None


# The view ddstore.tables repeats these numbers: change them in sql/schema.sql, too.
_SEGMENT_ROWS = {Profile.FAST: 65536, Profile.BALANCED: 65536, Profile.ARCHIVE: 262144}
