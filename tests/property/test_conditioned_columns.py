"""Columns conditioned on other columns: within the bound, decoded in the right order and once, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from columns import DTYPES
from conditioned import encode_conditioned, renamed
from ddstore import Profile, _native
from ddstore.bounds import Absolute, Lossless
from ddstore.codec import stored
from ddstore.codec.format import Mode, code_of
from ddstore.codec.segment import checksum, encode_column, needs
from ddstore.codec.stored import SegmentColumns, StoredColumn, unmet
from ddstore.errors import CorruptSegment

N = 500
SIDE_VALUES = st.sampled_from([0.0, -0.0, 1.5, -3.0, 1e300, -1e300, 2.0**60, np.inf, -np.inf, np.nan, 5e-324])


def _walk(seed: int) -> NDArray[np.float64]:
    return np.cumsum(np.random.default_rng(seed).integers(-3, 4, N)).astype(np.float64)


def _chain(length: int) -> dict[int, StoredColumn]:
    """Columns 0, 1, ..; each conditioned on the one before it."""
    columns: dict[int, StoredColumn] = {}
    sides: list[tuple[str, int, NDArray[Any]]] = []
    for id_ in range(length):
        kind = list(DTYPES)[id_ % len(DTYPES)]
        values = (_walk(1) + id_).astype(DTYPES[kind])
        residual = encode_conditioned(values, None, kind, sides)
        columns[id_] = StoredColumn(f"c{id_}", kind, residual)
        sides = [(kind, checksum(residual), values)]
    return columns


@settings(deadline=None)
@given(
    st.sampled_from(list(DTYPES)),
    st.lists(st.sampled_from(list(DTYPES)), min_size=1, max_size=3),
    st.sampled_from([Mode.ADAPTIVE, Mode.LATTICE]),
    st.floats(0, 1),
    st.lists(SIDE_VALUES, max_size=20),
    st.integers(0, 2**32),
)
def test_any_values_to_condition_on(
    kind: str, others: list[str], mode: Mode, absent: float, odd: list[float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 400))
    values = rng.integers(-100, 100, n).cumsum().astype(DTYPES[kind])
    valid = rng.random(n) >= absent
    values[~valid] = 0
    sides = []
    for at, other in enumerate(others):
        side = (values + rng.integers(-1, 2, n)).astype(DTYPES[other])
        if side.dtype.kind == "f":
            with np.errstate(over="ignore"):
                side[: len(odd)] = np.array(odd[:n], dtype=np.float64).astype(side.dtype)
        sides.append((other, 1000 + at, side))
    residual = encode_conditioned(values, valid, kind, sides, mode)
    assert needs(residual) == tuple(crc for _, crc, _ in sides)
    others_read = [(crc, code_of(side.dtype), side) for _, crc, side in sides]
    want = int(rng.integers(1, n + 1))
    data, there = _native.decode_column(residual, None, None, code_of(values.dtype), n, want, others_read)
    np.testing.assert_array_equal(np.frombuffer(data, DTYPES[kind]), values[:want])
    np.testing.assert_array_equal(np.ones(want, bool) if there is None else np.frombuffer(there, bool), valid[:want])


@settings(deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([Absolute(0.5), Absolute(2.0), Lossless()]), st.floats(0, 0.5))
def test_what_archive_makes_of_related_columns_is_within_the_bound(
    seed: int, bound: Absolute | Lossless, absent: float
) -> None:
    rng = np.random.default_rng(seed)
    first = np.round(rng.normal(0, 3, N).cumsum(), 1)
    family = [first, np.round(0.5 * first + rng.normal(0, 0.2, N), 1), np.round(first - first[0], 1).astype(np.float32)]
    sides: list[Any] = []
    columns: dict[int, StoredColumn] = {}
    masks = [rng.random(N) >= absent for _ in family]
    for id_, (values, valid) in enumerate(zip(family, masks, strict=True)):
        kind = "float4" if values.dtype == np.float32 else "float8"
        coded = encode_column(values, valid, type=kind, bound=bound, profile=Profile.ARCHIVE, sides=sides)
        assert coded.side.crc == checksum(coded.residual)
        assert set(needs(coded.residual)) <= {side.crc for side in sides}
        columns[id_] = StoredColumn("", kind, coded.residual, coded.latents)
        sides.append(coded.side)
    read = SegmentColumns(N, columns)
    for id_ in (2, 0, 1):
        values, there = read.decode(id_)
        np.testing.assert_array_equal(np.ones(N, bool) if there is None else there, masks[id_])
        np.testing.assert_array_equal(values, sides[id_].values)
        error = np.abs(values.astype(np.float64) - family[id_].astype(np.float64))[masks[id_]]
        assert (error <= (0 if isinstance(bound, Lossless) else bound.value)).all()


def test_related_columns_are_conditioned_on_each_other() -> None:
    walk = np.round(np.random.default_rng(3).normal(0, 1, 5000).cumsum(), 2)
    first = encode_column(walk, None, type="float8", bound=Lossless(), profile=Profile.ARCHIVE)
    like = np.round(walk + np.random.default_rng(4).normal(0, 0.02, 5000), 2)
    second = {"type": "float8", "bound": Lossless(), "profile": Profile.ARCHIVE}
    alone = encode_column(like, None, **second)  # type: ignore[arg-type]
    beside = encode_column(like, None, **second, sides=[first.side])  # type: ignore[arg-type]
    assert needs(beside.residual) == (checksum(first.residual),)
    assert beside.size < 0.8 * alone.size


def test_every_column_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = _chain(60)
    decoded: list[bytes] = []
    really = stored.decode_column

    def counted(residual: bytes, *rest: Any) -> Any:
        decoded.append(residual)
        return really(residual, *rest)

    monkeypatch.setattr(stored, "decode_column", counted)
    read = SegmentColumns(N, columns)
    for id_ in (59, 3, 58, 0, 59):
        values, valid = read.decode(id_)
        np.testing.assert_array_equal(values, _walk(1) + id_)
        assert valid is None
    assert decoded == [columns[id_].residual for id_ in range(60)]


def test_only_what_is_needed_is_decoded() -> None:
    columns = _chain(4)
    columns[3] = StoredColumn("c3", "float4", b"damaged")
    np.testing.assert_array_equal(SegmentColumns(N, columns).decode(2)[0], _walk(1) + 2)


def test_a_missing_column_is_named_by_its_checksum() -> None:
    columns = _chain(3)
    crc = checksum(columns.pop(1).residual)
    with pytest.raises(CorruptSegment, match=f"lacks the column of checksum {crc:08x}"):
        SegmentColumns(N, columns).decode(2)
    with pytest.raises(CorruptSegment, match="its values are missing"):
        SegmentColumns(N, columns).decode(1)
    assert unmet([columns[0].residual, columns[2].residual]) == {crc}
    assert unmet([b"", columns[0].residual]) == set()


def test_damage_in_a_column_that_is_needed_is_told_of_that_column() -> None:
    columns = _chain(3)
    first = bytearray(columns[0].residual)
    first[9] ^= 1
    columns[0] = StoredColumn("pressure", "int2", bytes(first))
    with pytest.raises(CorruptSegment, match="column 'pressure', which it is conditioned on, is damaged: checksum"):
        SegmentColumns(N, columns).decode(2)


def test_a_column_of_another_length_or_type_is_no_condition() -> None:
    columns = _chain(2)
    short = encode_column(_walk(2)[:100], None, type="float8", bound=Lossless()).residual
    crc = checksum(short)
    other = encode_conditioned(_walk(3), None, "float8", [("float8", crc, _walk(2))])
    columns |= {2: StoredColumn("short", "float8", short), 3: StoredColumn("other", "float8", other)}
    with pytest.raises(CorruptSegment, match="'short', which it is conditioned on, is damaged"):
        SegmentColumns(N, columns).decode(3)
    columns[0] = StoredColumn("c0", "float8", columns[0].residual)
    with pytest.raises(CorruptSegment, match="'c0', which it is conditioned on, is damaged"):
        SegmentColumns(N, columns).decode(1)


def test_columns_conditioned_on_themselves_are_refused() -> None:
    walk = _walk(5)
    alone = renamed(encode_conditioned(walk, None, "float8", [("float8", 77, walk)]), 77)
    assert (checksum(alone), needs(alone)) == (77, (77,))
    with pytest.raises(CorruptSegment, match="conditioned on itself"):
        SegmentColumns(N, {1: StoredColumn("a", "float8", alone)}).decode(1)
    ring = {
        id_: StoredColumn(
            f"c{id_}",
            "float8",
            renamed(encode_conditioned(walk, None, "float8", [("float8", (id_ + 1) % 3, walk)]), id_),
        )
        for id_ in range(3)
    }
    for id_ in ring:
        with pytest.raises(CorruptSegment, match="conditioned on itself"):
            SegmentColumns(N, ring).decode(id_)


def test_decoding_with_other_columns_than_those_named() -> None:
    columns = _chain(2)
    residual, (crc,) = columns[1].residual, needs(columns[1].residual)
    side = (_walk(1)).astype(np.int16)
    for others in ([], [(crc ^ 1, 1, side)], [(crc, 1, side)] * 2):
        with pytest.raises(_native.CorruptError):
            _native.decode_column(residual, None, None, 2, N, -1, others)
    for others in ([(crc, 9, side)], [(crc, 1, side[1:])], [(crc, 2, side)], [(crc, 1, side)] * 4):
        with pytest.raises(ValueError, match="condition"):
            _native.decode_column(residual, None, None, 2, N, -1, others)


@pytest.mark.parametrize("size", [1e-305, 1e-150, 1.0, 1e150, 1e300])
def test_columns_of_every_magnitude_may_stand_beside_each_other(size: float) -> None:
    rng = np.random.default_rng(4)
    walk = np.rint(rng.normal(0, 3, 3000).cumsum())
    first = encode_column(walk * size, None, type="float8", bound=Absolute(size * 0.7), profile=Profile.ARCHIVE)
    second = encode_column(
        walk * 2.0 + rng.normal(0, 0.2, 3000),
        None,
        type="float8",
        bound=Absolute(0.5),
        profile=Profile.ARCHIVE,
        sides=[first.side],
    )
    third = (
        encode_column(
            walk / size, None, type="float8", bound=Absolute(0.7 / size), profile=Profile.ARCHIVE, sides=[second.side]
        )
        if size > 1e-300
        else second
    )
    assert first.n == second.n == third.n
