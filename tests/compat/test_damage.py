"""Promise: a truncated or flipped column raises CorruptSegment; no damage goes unnoticed."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from coded import Coded, coded_columns
from columns import Case, cases, encode
from ddstore import _native
from ddstore._native import CorruptError, crc32c
from ddstore.codec.format import FLAG_MATCHES, FLAG_SHAPES, type_code
from ddstore.codec.segment import decode_column
from ddstore.codec.times import encode_times
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


@pytest.mark.parametrize("coded", list(coded_columns(9)), ids=lambda coded: coded.name)
def test_every_coder_and_mode_truncated_and_flipped(coded: Coded) -> None:
    def decode(residual: bytes) -> None:
        _native.decode_column(residual, None, coded.model or None, type_code(coded.type), coded.n, -1, coded.sides)

    decode(coded.residual)
    for length in range(len(coded.residual)):
        with pytest.raises(CorruptError):
            decode(coded.residual[:length])
    for bit in range(len(coded.residual) * 8):
        damaged = bytearray(coded.residual)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptError):
            decode(bytes(damaged))


@pytest.mark.parametrize("coded", [c for c in coded_columns(9) if c.sides], ids=lambda coded: coded.name)
def test_other_columns_than_the_ones_named_are_refused(coded: Coded) -> None:
    (crc, *column), *rest = coded.sides
    for sides in (None, rest, [(crc ^ 1, *column), *rest]):
        with pytest.raises(CorruptError, match="conditioned"):
            _native.decode_column(coded.residual, None, None, type_code(coded.type), coded.n, -1, sides)


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_a_lattice_that_is_not_finite_is_refused(number: float) -> None:
    """Infinity times 0 is a NaN of another sign on another CPU."""
    tried = 0
    for coded in coded_columns(9):
        for known in (0.37, -5.25):
            at = coded.residual.find(struct.pack("<d", known))
            if at < 0:
                continue
            tried += 1
            other = coded.residual[:at] + struct.pack("<d", number) + coded.residual[at + 8 : -4]
            with pytest.raises(CorruptError, match="impossible lattice"):
                _native.peek_column(other + crc32c(other).to_bytes(4, "little"))
    assert tried > 10


def test_another_count_or_type_is_refused() -> None:
    case = SEEDS[0]
    residual = encode(case).residual
    with pytest.raises(CorruptSegment, match="count"):
        decode_column(residual, None, None, case.type, len(case.values) + 1)
    with pytest.raises(CorruptSegment, match="type"):
        decode_column(residual, None, None, "float8" if case.type != "float8" else "float4", len(case.values))


def test_a_count_beyond_32_bits_is_not_cut_to_fit() -> None:
    """The header's row count is a varint of up to 64 bits: 2**32 + n must not pass for n."""
    residual = encode_times(np.full(60, 7, dtype=np.int64))
    assert residual[4] == 60
    longer = residual[:4] + b"\xbc\x80\x80\x80\x10" + residual[5:-4]  # 2**32 + 60
    with pytest.raises(CorruptSegment, match="impossible column header"):
        decode_column(longer + crc32c(longer).to_bytes(4, "little"), None, None, "int8", 60)


def test_a_coder_of_the_future_is_refused() -> None:
    residual = encode(SEEDS[0]).residual
    other = residual[:1] + bytes([residual[1] | 0xF0]) + residual[2:-4]
    with pytest.raises(CorruptSegment, match="unknown coder"):
        decode_column(other + crc32c(other).to_bytes(4, "little"), None, None, SEEDS[0].type, len(SEEDS[0].values))


def test_a_cascade_is_refused_where_there_are_no_filters() -> None:
    tried = 0
    for coded in coded_columns(9):
        if "adaptive" not in coded.name and "raw" not in coded.name:
            tried += 1
            assert coded.residual[4] == coded.n  # and one byte more: then comes `kind`
            other = coded.residual[:6] + bytes([coded.residual[6] | 16]) + coded.residual[7:-4]
            with pytest.raises(CorruptError, match="impossible lattice"):
                _native.peek_column(other + crc32c(other).to_bytes(4, "little"))
    assert tried > 30


@pytest.mark.parametrize(("flag", "elsewhere"), [(FLAG_SHAPES, "sides"), (FLAG_MATCHES, "nowhere")])
def test_contexts_are_refused_where_there_can_be_none(flag: int, elsewhere: str) -> None:
    """From coarse to fine, and by any other coder; those of shapes beside other columns, too."""
    tried = 0
    for coded in coded_columns(9):
        if "cm-" in coded.name and "interp" not in coded.name and not (elsewhere == "sides" and coded.sides):
            continue
        tried += 1
        other = coded.residual[:3] + bytes([coded.residual[3] | flag]) + coded.residual[4:-4]
        with pytest.raises(CorruptError, match="impossible column header"):
            _native.peek_column(other + crc32c(other).to_bytes(4, "little"))
    assert tried > 30
