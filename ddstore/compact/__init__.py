"""Compaction: hot rows -> verified segments, safely and while everyone else goes on; recompression; verification."""

from __future__ import annotations

from ddstore.compact.compactor import compact
from ddstore.compact.policy import CompactOptions, CompactReport, Progress, SeriesReport
from ddstore.compact.recompress import RecompressReport, recompress
from ddstore.compact.verify import DamagedSegment, VerifyReport, verify

__all__ = [
    "CompactOptions",
    "CompactReport",
    "DamagedSegment",
    "Progress",
    "RecompressReport",
    "SeriesReport",
    "VerifyReport",
    "compact",
    "recompress",
    "verify",
]
