"""Seeded mutations of stored bytes: bits, bytes, runs, truncations, headers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def mutations(seed: bytes, count: int, rng: np.random.Generator) -> Iterator[bytes]:
    """``count`` damaged copies of ``seed``; half of them damaged within the first 24 bytes, where headers are."""
    for i in range(count):
        data = bytearray(seed)
        reach = len(data) if i % 2 else min(len(data), 24)
        for _ in range(int(rng.integers(1, 5))):
            at = int(rng.integers(0, max(1, reach)))
            kind = int(rng.integers(0, 6))
            if kind == 0:
                data[at:] = data[at:][: int(rng.integers(0, 40))]
            elif kind == 1:
                data[at:at] = rng.bytes(int(rng.integers(1, 12)))
            elif not data:
                break
            elif kind == 2:
                data[min(at, len(data) - 1)] ^= 1 << int(rng.integers(0, 8))
            elif kind == 3:
                data[min(at, len(data) - 1)] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFE, 0xFF]))
            elif kind == 4:
                data[at : at + 8] = rng.bytes(8)
            else:
                data[at : at + 10] = b"\xff" * 9 + b"\x01"
        yield bytes(data)
