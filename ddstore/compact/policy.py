"""What a compaction run is asked to do, and what it did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ddstore.db.catalog import ManagedTable
from ddstore.errors import InvalidSeries
from ddstore.profiles import Profile

if TYPE_CHECKING:
    from ddstore.compact.insert import EncodedSegment

__all__ = ["CompactOptions", "CompactReport", "Progress", "SeriesReport", "TrainPolicy"]

TrainPolicy = Literal["auto", "never", "always"]


class Progress(Protocol):
    """Called after every committed batch; must not raise."""

    def __call__(self, series: str, done: int, total: int) -> None:
        """``done`` of the run's ``total`` planned rows are dealt with; ``series`` was worked on last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactOptions:
    """What one run may do. ``None`` means: as the managed table says.

    Attributes:
        table: name (``schema.table``) or catalog id of the only table to compact; None is every managed table.
        profile: decode-cost budget for the segments of this run, or its name; fast has no room for models.
        all: every hot row becomes cold: neither ``min_rows`` nor ``hot_for`` nor a failed series' waiting time holds.
        partial: a series' last, incomplete segment is written too when it has ``min_rows`` rows.
        min_rows: series (and last segments) with fewer rows stay hot.
        segment_rows: rows per segment. None: as the managed table says, else as the profile of this run does.
        train: "auto" trains models where they can pay and did not just fail to, "never" trains nothing, "always"
            tries a learned model for every series column that has enough rows, whatever earlier runs found.
        train_seconds: budget for training learned models: of the whole run ("auto"), of one model ("always").
        seed: makes training reproducible; recorded with the model.
        now: the moment against which ``hot_for`` counts; None is the clock.
        vacuum: give the freed heap space back to the table afterwards (plain VACUUM, blocks nobody).
    """

    table: str | int | None = None
    profile: Profile | None = None
    all: bool = False
    partial: bool = True
    min_rows: int | None = None
    segment_rows: int | None = None
    train: TrainPolicy = "auto"
    train_seconds: float = 60.0
    seed: int = 0
    now: datetime | None = None
    vacuum: bool = True

    def __post_init__(self) -> None:
        if self.train not in ("auto", "never", "always"):
            raise InvalidSeries(f"train={self.train!r} is unknown", remedy="Use auto, never or always.")
        if self.profile is not None:
            object.__setattr__(self, "profile", Profile.named(self.profile))
        if self.min_rows is not None and self.min_rows < 1:
            raise InvalidSeries(f"min_rows={self.min_rows} is below 1")
        if self.segment_rows is not None and not 16 <= self.segment_rows <= 1 << 20:
            raise InvalidSeries(f"segment_rows={self.segment_rows} is outside 16 .. {1 << 20}")
        if not self.train_seconds >= 0:
            raise InvalidSeries(f"train_seconds={self.train_seconds} is no duration")

    def profile_for(self, table: ManagedTable) -> Profile:
        """The profile of the segments that this run writes for ``table``."""
        return self.profile or table.profile

    def segment_rows_for(self, table: ManagedTable) -> int:
        """Rows of a full segment of ``table`` in this run."""
        return self.segment_rows or table.segment_rows or self.profile_for(table).segment_rows

    def min_rows_for(self, table: ManagedTable) -> int:
        """Rows below which a series of ``table``, or its last, incomplete segment, stays hot."""
        return 1 if self.all else self.min_rows or table.min_rows

    @property
    def moment(self) -> datetime:
        """``now`` as an aware UTC time."""
        if self.now is None:
            return datetime.now(UTC)
        return self.now.replace(tzinfo=UTC) if self.now.tzinfo is None else self.now.astimezone(UTC)


@dataclass(slots=True)
class SeriesReport:
    """What happened to one series.

    ``bytes`` are the segments' payloads, ``model_bytes`` what decoding needs besides; ``samples`` are values (rows
    times value columns) that the core coded, on which ``bits_per_sample`` rests.
    """

    table: str
    series: tuple[str | None, ...]
    planned: int = 0
    rows: int = 0
    segments: int = 0
    samples: int = 0
    bytes: int = 0
    model_bytes: int = 0
    models: int = 0
    conflicts: int = 0
    seconds: float = 0.0
    modes: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    error: str | None = None

    @property
    def bits_per_sample(self) -> float | None:
        """Stored bits per sample, models included; None when nothing was coded."""
        return 8.0 * (self.bytes + self.model_bytes) / self.samples if self.samples else None

    def add(self, segment: EncodedSegment) -> None:
        """Count one committed segment."""
        self.rows += len(segment.rows)
        self.segments += 1
        self.samples += len(segment.rows) * len(segment.coded)
        self.bytes += sum(map(len, segment.payload))
        for column in segment.coded:
            self.modes[column.mode] = self.modes.get(column.mode, 0) + 1

    def note(self, text: str) -> None:
        """Remember ``text`` once."""
        if text not in self.notes:
            self.notes.append(text)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            "table": self.table,
            "series": list(self.series),
            "planned": self.planned,
            "rows": self.rows,
            "segments": self.segments,
            "bytes": self.bytes,
            "models": self.models,
            "model_bytes": self.model_bytes,
            "bits_per_sample": self.bits_per_sample,
            "conflicts": self.conflicts,
            "seconds": round(self.seconds, 6),
            "modes": dict(self.modes),
            "notes": list(self.notes),
            "error": self.error,
        }


@dataclass(slots=True)
class CompactReport:
    """What one run did: one :class:`SeriesReport` per series it worked on, and their sums.

    ``refused`` says of each table that could not be compacted at all why not.
    """

    series: list[SeriesReport] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rows(self) -> int:
        """Rows that are cold now and were hot before."""
        return sum(s.rows for s in self.series)

    @property
    def segments(self) -> int:
        """Segments written."""
        return sum(s.segments for s in self.series)

    @property
    def bytes(self) -> int:
        """Payload bytes of the segments written."""
        return sum(s.bytes for s in self.series)

    @property
    def model_bytes(self) -> int:
        """Bytes of the models written, as decoding needs them."""
        return sum(s.model_bytes for s in self.series)

    @property
    def conflicts(self) -> int:
        """Batches that were rolled back because rows changed meanwhile, and were then read again."""
        return sum(s.conflicts for s in self.series)

    @property
    def failed(self) -> list[SeriesReport]:
        """The series that did not get through; their rows are hot as before."""
        return [s for s in self.series if s.error is not None]

    @property
    def bits_per_sample(self) -> float | None:
        """Stored bits per sample over the run, models included."""
        samples = sum(s.samples for s in self.series)
        return 8.0 * (self.bytes + self.model_bytes) / samples if samples else None

    def merge_notes(self, notes: Iterable[str]) -> None:
        """Add each of ``notes`` that is not there yet."""
        self.notes.extend(note for note in dict.fromkeys(notes) if note not in self.notes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            "rows": self.rows,
            "segments": self.segments,
            "bytes": self.bytes,
            "model_bytes": self.model_bytes,
            "bits_per_sample": self.bits_per_sample,
            "conflicts": self.conflicts,
            "failed": len(self.failed),
            "refused": list(self.refused),
            "seconds": round(self.seconds, 6),
            "notes": list(self.notes),
            "series": [s.to_dict() for s in self.series],
        }
