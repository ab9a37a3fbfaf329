"""Promise: coder rans in mode interp gives each row one of its legal points, however rows fall into levels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from coded import encode_native
from ddstore import _native
from ddstore.bounds import Absolute
from ddstore.codec.format import FLAG_EXCEPTIONS, FLAG_NULLS, Coder, Mode, RowClass
from ddstore.codec.segment import decode_column, encode_column
from ddstore.profiles import Profile

INT8, LANES, PIECE = 3, 8, 512
points = st.one_of(
    st.integers(-20, 20),
    st.integers(-(10**6), 10**6),
    st.integers(0, 62).map(lambda bits: 1 << bits),
    st.integers(-(2**63), 2**63 - 1),
)
widths = st.one_of(st.integers(1, 40), st.integers(1, 2**40))


def encode(highest: NDArray[np.int64], width: int, stride: int = 8, classes: NDArray[np.uint8] | None = None) -> bytes:
    """The bytes of int8 rows whose highest legal points these are."""
    return encode_native(
        "int8",
        Coder.RANS,
        Mode.INTERP,
        highest,
        flags=0 if classes is None else FLAG_EXCEPTIONS | FLAG_NULLS,
        classes=classes,
        bits=highest.view(np.uint64),
        width=width,
        stride=stride,
    )


def decoded(coded: bytes, n: int, want: int = -1) -> NDArray[np.int64]:
    data, _ = _native.decode_column(coded, None, None, INT8, n, want)
    return np.frombuffer(data, dtype=np.int64)


def below(highest: NDArray[np.int64], read: NDArray[np.int64]) -> NDArray[np.uint64]:
    """How far points are below the highest legal ones, modulo 2**64."""
    return highest.view(np.uint64) - read.view(np.uint64)


@settings(max_examples=300, deadline=None)
@given(st.lists(points, min_size=1, max_size=150), widths, st.integers(0, 16))
def test_any_points(rows: list[int], width: int, stride: int) -> None:
    highest = np.array(rows, dtype=np.int64)
    assert (below(highest, decoded(encode(highest, width, stride), len(rows))) < width).all()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(points, st.sampled_from(RowClass)), min_size=1, max_size=120), st.integers(1, 9))
def test_exceptions_between_values(rows: list[tuple[int, RowClass]], width: int) -> None:
    highest = np.array([point for point, _ in rows], dtype=np.int64)
    classes = np.array([class_ for _, class_ in rows], dtype=np.uint8)
    data, valid = _native.decode_column(encode(highest, width, 3, classes), None, None, INT8, len(rows), -1)
    read = np.frombuffer(data, dtype=np.int64)
    assert valid is not None
    assert np.array_equal(np.frombuffer(valid, dtype=np.bool_), classes != RowClass.NULL)
    assert (below(highest, read)[classes == RowClass.VALUE] < width).all()
    assert np.array_equal(read[classes == RowClass.EXACT], highest[classes == RowClass.EXACT])
    assert (read[classes == RowClass.NULL] == 0).all()


@pytest.mark.parametrize("n", [*range(1, 4 * LANES + 2), *(2 * PIECE + k for k in (-1, 0, 1, 2)), 4097, 65536])
def test_any_number_of_rows(n: int) -> None:
    highest = np.rint(np.random.default_rng(n).normal(0, 9, n).cumsum()).astype(np.int64)
    for stride in (0, 1, 8, 16):
        assert (below(highest, decoded(encode(highest, 5, stride), n)) < 5).all()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 2000), st.data())
def test_a_prefix_of_any_length(seed: int, n: int, data: Any) -> None:
    coded = encode(np.rint(np.random.default_rng(seed).normal(0, 20, n).cumsum()).astype(np.int64), 7)
    want = data.draw(st.integers(0, n))
    assert np.array_equal(decoded(coded, n, want), decoded(coded, n)[:want])


def test_smooth_columns_take_less_than_in_the_order_of_rows() -> None:
    rng = np.random.default_rng(3)
    at = np.arange(20_000)
    values = np.sin(at / 9.0) + 0.4 * np.sin(at / 31.7) + rng.normal(0, 0.01, len(at))
    coded = encode_column(values, None, type="float8", bound=Absolute(0.05), profile=Profile.FAST)
    assert (coded.mode, coded.coder) == ("interp", "rans")
    present = (at < 5000) | (at > 5300)
    holed = encode_column(values, present, type="float8", bound=Absolute(0.05), profile=Profile.FAST)
    assert (holed.mode, holed.coder) == ("interp", "rans")
    read, valid = decode_column(holed.residual, None, None, "float8", len(values))
    assert valid is not None
    assert np.array_equal(valid, present)
    assert (np.abs(read - values)[present] <= 0.05).all()
