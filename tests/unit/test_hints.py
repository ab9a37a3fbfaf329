"""Values that were read back are coded again as they were: bit for bit, and in as few bits."""

from __future__ import annotations

import numpy as np
import pytest

from ddstore.bounds import Absolute, Bound, Lossless, Relative
from ddstore.codec.hint import Hint
from ddstore.codec.segment import decode_column, encode_column
from ddstore.compact.settled import Settled, any_settled, hints_for, stretches
from ddstore.profiles import Profile

WALK = np.random.default_rng(5).normal(0, 1, 6000).cumsum() + 300
SINE = np.sin(np.arange(6000) / 300) * 50 + np.random.default_rng(5).normal(0, 0.001, 6000)


@pytest.mark.parametrize(
    ("values", "bound", "mode", "saved"),
    [
        (WALK, Absolute(0.05), "lattice", 1.5),
        (SINE, Absolute(0.05), "interp", 10),
        (SINE.astype(np.float32), Absolute(0.05), "interp", 10),
        (np.round(SINE, 3), Absolute(0.05), "interp", 8),  # on a grid
        (WALK, Relative(1e-4), "lattice", 0.9),  # which values alone show, as they lie in one binade
    ],
)
def test_coding_again_takes_no_more(values: np.ndarray, bound: Bound, mode: str, saved: float) -> None:
    type_ = f"float{values.dtype.itemsize}"
    valid = np.arange(len(values)) % 50 != 7
    first = encode_column(values, valid, type=type_, bound=bound, profile=Profile.ARCHIVE)
    read, _ = decode_column(first.residual, first.latents, None, type_, len(values))
    hint = Hint.read(first.residual[:128], type_)
    assert hint is not None
    assert (hint.width > 0) == (mode == "interp")
    plain, again = (
        encode_column(read, valid, type=type_, bound=Lossless(), profile=Profile.ARCHIVE, hints=hints)
        for hints in ((), [hint])
    )
    assert again.size <= 1.02 * first.size + 8
    assert plain.size > saved * again.size
    hint = Hint.read(again.residual[:128], type_)  # as for the third time
    assert hint is not None
    once_more = encode_column(read, valid, type=type_, bound=Lossless(), profile=Profile.ARCHIVE, hints=[hint])
    assert once_more.size <= 1.02 * again.size
    # Values that changed, or rows that went, are as exact as the others.
    changed = read.copy()
    changed[100] = 7.25
    for given, there in ((changed, valid), (read[1:], valid[1:])):
        coded = encode_column(given, there, type=type_, bound=Lossless(), hints=[hint])
        back, _ = decode_column(coded.residual, coded.latents, None, type_, len(given))
        assert back[there].tobytes() == given[there].tobytes()


def test_static_tables_code_again_what_they_coded_from_coarse_to_fine() -> None:
    first = encode_column(SINE, None, type="float8", bound=Absolute(0.05), profile=Profile.FAST)
    assert (first.mode, first.coder) == ("interp", "rans")
    read, _ = decode_column(first.residual, None, None, "float8", len(SINE))
    hint = Hint.read(first.residual[:128], "float8")
    assert hint is not None
    again = encode_column(read, None, type="float8", bound=Lossless(), profile=Profile.FAST, hints=[hint])
    assert again.coder == "rans"
    assert again.size <= 1.02 * first.size


def test_bytes_that_say_nothing() -> None:
    coded = encode_column(SINE, None, type="float8", bound=Absolute(0.05), profile=Profile.ARCHIVE)
    for head in (b"", b"\0" * 128, coded.residual[:8], b"\xff" * 128):
        assert Hint.read(head, "float8") is None
    assert Hint.read(coded.residual[:128], "float4") is None
    rng = np.random.default_rng(1)
    for _ in range(200):  # whatever they say, values come back
        head = bytearray(coded.residual[:128])
        head[int(rng.integers(4, 60))] = int(rng.integers(256))
        hint = Hint.read(bytes(head), "float8")
        if hint is not None:
            encode_column(SINE[:64], None, type="float8", bound=Lossless(), hints=[hint])


def test_rows_of_one_coding_stay_together() -> None:
    coded = encode_column(WALK, None, type="float8", bound=Absolute(0.05), profile=Profile.FAST)
    hint = Hint.read(coded.residual[:128], "float8")
    assert hint is not None
    times = np.arange(100, dtype=np.int64)
    known, unknown = Settled(20, 39, {3: hint}), Settled(60, 69)
    assert stretches(times, [], 10) == [slice(0, 100)]
    assert stretches(times, [known, unknown], 10) == [slice(0, 20), slice(20, 40), slice(40, 100)]
    assert stretches(times, [known], 30) == [slice(0, 40), slice(40, 100)]
    assert stretches(times[:0], [known], 10) == [slice(0, 0)]
    assert hints_for(times[10:30], [known, unknown]) == {3: [hint]}
    assert hints_for(times[40:], [known, unknown]) == {}
    assert [any_settled(times[part], [known, unknown]) for part in (slice(20), slice(65, 66))] == [False, True]
