"""Compaction: hot rows -> verified segments, safely and while everyone else goes on; and verification of segments."""

from __future__ import annotations

from ddstore.compact.policy import CompactOptions, CompactReport, Progress, SeriesReport
from ddstore.compact.verify import DamagedSegment, VerifyReport, verify
from ddstore.compact.worker import compact

__all__ = [
    "CompactOptions",
    "CompactReport",
    "DamagedSegment",
    "Progress",
    "SeriesReport",
    "VerifyReport",
    "compact",
    "verify",
]
