"""Promise: a truncated or flipped column raises CorruptSegment; no damage goes unnoticed."""

from __future__ import annotations

import numpy as np
import pytest

from columns import Case, cases, encode
from ddstore._native import crc32c
from ddstore.codec.segment import decode_column, encode_exact
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


def test_a_count_beyond_32_bits_is_not_cut_to_fit() -> None:
    """The header's row count is a varint of up to 64 bits: 2**32 + n must not pass for n."""
    residual = encode_exact(np.full(60, 7, dtype=np.int64), "int8")
    assert residual[4] == 60
    longer = residual[:4] + b"\xbc\x80\x80\x80\x10" + residual[5:-4]  # 2**32 + 60
    with pytest.raises(CorruptSegment, match="impossible column header"):
        decode_column(longer + crc32c(longer).to_bytes(4, "little"), None, None, "int8", 60)


def test_a_coder_of_the_future_is_refused() -> None:
    residual = encode(SEEDS[0]).residual
    other = residual[:1] + bytes([residual[1] | 0xF0]) + residual[2:-4]
    with pytest.raises(CorruptSegment, match="unknown coder"):
        decode_column(other + crc32c(other).to_bytes(4, "little"), None, None, SEEDS[0].type, len(SEEDS[0].values))
