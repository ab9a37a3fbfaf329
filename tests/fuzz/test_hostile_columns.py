"""Promise: no bytes crash the decoder, make it read or write out of bounds, or invoke undefined behaviour.

Seeds of every kind are mutated and their checksums mended, as someone who knows the format would; the decoder runs
under AddressSanitizer and UndefinedBehaviorSanitizer. ``make fuzz`` does the same for as long as one likes.
"""

from __future__ import annotations

import re
import struct

import numpy as np
import pytest

from coded import Coded, coded_columns
from columns import cases, decode_mutated, encode, record
from fix_native import SANITIZE, BuildDriver
from mutate import mutations


def test_mutated_columns_do_no_harm(build_driver: BuildDriver) -> None:
    program = build_driver("column_driver.c", *SANITIZE)
    rng = np.random.default_rng(1)
    records = []
    for case in cases(120):
        residual = encode(case).residual
        n = len(case.values)
        records += [record(case.type, n, bad, want=int(rng.integers(0, n + 1))) for bad in mutations(residual, 60, rng)]
    said = decode_mutated(program, b"".join(records))
    assert "ok=0 " not in said, "mutations that never get past the header test nothing"
    assert "corrupt=0 " not in said


def one_of_each(n: int) -> list[Coded]:
    """A tiny column of each coder, mode, type, with exceptions; a side, shapes, matches, a cascade where they can."""
    chosen = {
        (*c.name.split("-")[:3], *(part in c.name for part in ("shapes", "matches", "cascade"))): c
        for c in coded_columns(n)
        if len(c.sides) < 2 and "full" not in c.name
    }
    return list(chosen.values())


@pytest.mark.parametrize("coded", one_of_each(9), ids=lambda coded: coded.name)
def test_every_truncation_and_every_flipped_bit_behind_a_good_checksum(build_driver: BuildDriver, coded: Coded) -> None:
    """A column cut short or flipped anywhere decodes to its number of rows or is refused."""
    program = build_driver("column_driver.c", *SANITIZE)
    damaged = [coded.residual[:length] for length in range(len(coded.residual))]
    for bit in range(8 * (len(coded.residual) - 4)):
        flipped = bytearray(coded.residual)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(flipped))
    said = decode_mutated(
        program, b"".join(record(coded.type, coded.n, bad, model=coded.model, sides=coded.sides) for bad in damaged)
    )
    assert " invalid=0" in said, "the bytes are to blame, never the caller"
    assert "ok=0 " not in said
    assert "corrupt=0 " not in said


def test_the_largest_counts_do_no_harm(build_driver: BuildDriver) -> None:
    """Headers that declare a million rows, and a payload of nothing: memory for all of them, and no row beyond."""
    program = build_driver("column_driver.c", *SANITIZE)
    most = 2**20
    records = []
    for coded in one_of_each(9):
        if not coded.sides:
            assert coded.residual[4] == coded.n
            longer = coded.residual[:4] + b"\x80\x80\x40" + coded.residual[5:]
            records.append(record(coded.type, most, longer, model=coded.model, want=700))
    said = decode_mutated(program, b"".join(records))
    whole, corrupt = map(int, re.findall(r"(?:ok|corrupt)=(\d+)", said))  # nothing may decode to too many exact rows
    assert whole >= 20
    assert whole + corrupt == len(records)


def test_mutated_columns_of_every_coder_do_no_harm(build_driver: BuildDriver) -> None:
    program = build_driver("column_driver.c", *SANITIZE)
    rng = np.random.default_rng(3)
    records = []
    for coded in coded_columns(40):
        records += [
            record(coded.type, coded.n, bad, want=int(rng.integers(0, 41)), model=coded.model, sides=coded.sides)
            for bad in mutations(coded.residual, 25, rng)
        ]
    said = decode_mutated(program, b"".join(records))
    assert "ok=0 " not in said
    assert "corrupt=0 " not in said


def test_any_number_of_low_bits_does_no_harm(build_driver: BuildDriver) -> None:
    """The encoder leaves some bits of a residual to be modelled; a header may say that all of them are low."""
    program = build_driver("column_driver.c", *SANITIZE)
    records = []
    for coded in one_of_each(20):
        if "raw" in coded.name or "interp" in coded.name:
            continue
        for low in range(256):
            other = coded.residual[:7] + bytes([low]) + coded.residual[8:]
            records.append(record(coded.type, coded.n, other, model=coded.model, sides=coded.sides))
    said = decode_mutated(program, b"".join(records))
    assert "ok=0 " not in said
    assert "corrupt=0 " not in said


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf"), 1e308, 5e-324, -0.0])
def test_odd_numbers_in_headers_do_no_harm(build_driver: BuildDriver, number: float) -> None:
    """Doubles of the header: a lattice's step and offset, the scale and offset of another column."""
    program = build_driver("column_driver.c", *SANITIZE)
    records = []
    for coded in coded_columns(40):
        for known in (0.37, -5.25, 1.5, 0.25):
            at = coded.residual.find(struct.pack("<d", known))
            if at > 0:
                odd = coded.residual[:at] + struct.pack("<d", number) + coded.residual[at + 8 :]
                records.append(record(coded.type, coded.n, odd, model=coded.model, sides=coded.sides))
    assert len(records) > 50
    assert " unsupported=0 invalid=0" in decode_mutated(program, b"".join(records))


def test_mutated_models_and_latents_do_no_harm(
    build_driver: BuildDriver, btae_case: tuple[bytes, bytes, bytes, int]
) -> None:
    residual, latents, model, n = btae_case
    program = build_driver("column_driver.c", *SANITIZE)
    rng = np.random.default_rng(2)
    records = [record("float8", n, residual, latents, bad) for bad in mutations(model, 150, rng)]
    records += [record("float8", n, bad, latents, model) for bad in mutations(residual, 150, rng)]
    records += [record("float8", n, residual, bad, model) for bad in mutations(latents, 50, rng)]
    decode_mutated(program, b"".join(records))
