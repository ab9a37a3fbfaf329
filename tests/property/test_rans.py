"""Promise: coder rans gives back every row, however rows fall into lanes, contexts, buckets and tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from coded import encode_native
from ddstore import _native
from ddstore.bounds import Absolute, Lossless
from ddstore.codec.format import FLAG_EXACT, FLAG_EXCEPTIONS, FLAG_NULLS, Centre, Coder, Mode, RowClass
from ddstore.codec.segment import decode_column, encode_column
from ddstore.profiles import Profile

INT8, LANES = 3, 8
residuals = st.one_of(
    st.integers(-2, 2),
    st.integers(-40, 40),
    st.integers(0, 62).map(lambda bits: 1 << bits),
    st.integers(0, 62).map(lambda bits: -(1 << bits)),
    st.integers(-(2**63), 2**63 - 1),
)


def encode(index: NDArray[np.int64], classes: NDArray[np.uint8] | None = None, centre: Centre = Centre.LAST) -> bytes:
    """The bytes of int8 indices, which are their own values."""
    flags = FLAG_EXACT | (0 if classes is None else FLAG_EXCEPTIONS | FLAG_NULLS)
    return encode_native(
        "int8", Coder.RANS, Mode.LATTICE, index, flags=flags, centre=centre, classes=classes, bits=index.view(np.uint64)
    )


def decoded(coded: bytes, n: int) -> NDArray[np.int64]:
    data, _ = _native.decode_column(coded, None, None, INT8, n, -1)
    return np.frombuffer(data, dtype=np.int64)


@settings(max_examples=300, deadline=None)
@given(st.lists(residuals, min_size=1, max_size=120), st.sampled_from([Centre.LAST, Centre.LINEAR, Centre.LEVEL]))
def test_any_residuals(steps: list[int], centre: Centre) -> None:
    index = np.array([s % 2**64 for s in steps], dtype=np.uint64).cumsum(dtype=np.uint64).view(np.int64)
    assert np.array_equal(decoded(encode(index, centre=centre), len(index)), index)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(residuals, st.sampled_from(RowClass)), min_size=1, max_size=120))
def test_exceptions_between_values(rows: list[tuple[int, RowClass]]) -> None:
    index = np.array([step % 2**64 for step, _ in rows], dtype=np.uint64).view(np.int64)
    classes = np.array([class_ for _, class_ in rows], dtype=np.uint8)
    data, valid = _native.decode_column(encode(index, classes), None, None, INT8, len(index), -1)
    read = np.frombuffer(data, dtype=np.int64)
    kept = np.isin(classes, [RowClass.VALUE, RowClass.EXACT])
    assert valid is not None
    assert np.array_equal(np.frombuffer(valid, dtype=np.bool_), classes != RowClass.NULL)
    assert np.array_equal(read[kept], index[kept])
    assert (read[classes == RowClass.NULL] == 0).all()


@pytest.mark.parametrize("n", [*range(1, 4 * LANES + 2), 511, 512, 513, 4095, 4096, 4097, 65536])
def test_any_number_of_rows(n: int) -> None:
    index = np.rint(np.random.default_rng(n).normal(0, 3, n).cumsum()).astype(np.int64)
    assert np.array_equal(decoded(encode(index), n), index)


def test_every_bucket_at_both_ends() -> None:
    sizes = sorted({(2 + half << bits) + edge for bits in range(30) for half in (0, 1) for edge in (-1, 0, 1, 2)})
    steps = np.array([sign * size for size in sizes for sign in (1, -1)], dtype=np.int64)
    assert np.array_equal(decoded(encode(steps), len(steps)), steps)


def test_more_contexts_than_tables() -> None:
    """Noise whose size wanders over all levels of activity wants more tables than there are."""
    rng = np.random.default_rng(1)
    n = 1 << 18
    size = np.exp(3 + 3 * np.sin(np.arange(n) / 900.0))
    index = np.rint(rng.normal(0, 1, n) * size).astype(np.int64).cumsum()
    coded = encode(index)
    assert np.array_equal(decoded(coded, n), index)
    spread = np.log2(size * np.sqrt(2 * np.pi * np.e)).mean()  # the entropy of such noise, known its size
    assert 8 * len(coded) < (spread + 0.8) * n


def test_rare_tokens_do_not_crowd_out_the_others() -> None:
    """A table of many tokens that occur once: each takes a slot at least, and they must leave some."""
    once = np.array([sign << bits for bits in range(30) for sign in (1, -1)], dtype=np.int64)
    steps = np.concatenate([np.zeros(60_000, dtype=np.int64), once])
    index = np.random.default_rng(2).permutation(steps).cumsum()
    coded = encode(index)
    assert np.array_equal(decoded(coded, len(index)), index)
    assert len(coded) < 1500


def test_flat_data_costs_next_to_nothing() -> None:
    values = np.full(65536, 21.5)
    values[40_000:] = 22.0
    coded = encode_column(values, None, type="float8", bound=Absolute(0.1), profile=Profile.FAST)
    assert coded.coder == "rans"
    assert coded.size < 80


@pytest.mark.parametrize("profile", Profile)
def test_the_fast_profile_uses_the_fast_coder_only(profile: Profile) -> None:
    values = np.random.default_rng(4).normal(0, 1, 5000).cumsum()
    coded = encode_column(values, None, type="float8", bound=Absolute(0.05), profile=profile)
    assert (coded.coder == "rans") or profile is not Profile.FAST


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 2000), st.data())
def test_a_prefix_of_any_length(seed: int, n: int, data: Any) -> None:
    index = np.rint(np.random.default_rng(seed).normal(0, 20, n).cumsum()).astype(np.int64)
    want = data.draw(st.integers(0, n))
    part, _ = _native.decode_column(encode(index), None, None, INT8, n, want)
    assert np.array_equal(np.frombuffer(part, dtype=np.int64), index[:want])


def test_lossless_float_columns_of_every_length_of_residual() -> None:
    values = np.ldexp(np.random.default_rng(5).normal(0, 1, 3000), np.arange(3000) % 1800 - 900)
    coded = encode_column(values, None, type="float8", bound=Lossless(), profile=Profile.FAST)
    read, _ = decode_column(coded.residual, None, None, "float8", len(values))
    assert read.tobytes() == values.tobytes()
    assert coded.size <= values.nbytes + 64
