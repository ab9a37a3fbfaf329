"""Promise: a truncated or flipped column raises CorruptSegment; no damage goes unnoticed."""

from __future__ import annotations

import pytest

from columns import Case, cases, encode
from ddstore.codec.segment import decode_column
from ddstore.errors import CorruptSegment

SEEDS = [
    case for case in cases(60) if case.name.endswith(("walk-absolute", "nulls", "noise-lossless", "ramp-lossless"))
]


@pytest.mark.parametrize("case", SEEDS, ids=lambda case: case.name)
def test_every_truncation(case: Case) -> None:
    residual, n = encode(case).residual, len(case.values)
    for length in range(len(residual)):
        with pytest.raises(CorruptSegment):
            decode_column(residual[:length], None, None, case.type, n)


@pytest.mark.parametrize("case", SEEDS, ids=lambda case: case.name)
def test_every_flipped_bit(case: Case) -> None:
    residual, n = encode(case).residual, len(case.values)
    for bit in range(len(residual) * 8):
        damaged = bytearray(residual)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptSegment):
            decode_column(bytes(damaged), None, None, case.type, n)


def test_another_count_or_type_is_refused() -> None:
    case = SEEDS[0]
    residual = encode(case).residual
    with pytest.raises(CorruptSegment, match="count"):
        decode_column(residual, None, None, case.type, len(case.values) + 1)
    with pytest.raises(CorruptSegment, match="type"):
        decode_column(residual, None, None, "float8" if case.type != "float8" else "float4", len(case.values))
