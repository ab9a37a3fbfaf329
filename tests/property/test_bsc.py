"""Promise: what libbsc coded comes back within its bound, and nothing but trusted bytes reaches libbsc."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from columns import Case, cases
from ddstore import _native
from ddstore.bounds import Absolute, Lossless, RangeRelative, Relative
from ddstore.codec import paper
from ddstore.codec.column import Column
from ddstore.codec.format import Centre, Coder, Mode, as_native, type_code
from ddstore.codec.lattice import EMPTY, exact_lattices
from ddstore.codec.model import Model
from ddstore.codec.segment import EncodedColumn, decode_column, encode_column
from ddstore.errors import CorruptSegment, InvalidBound, NotPermitted, SchemaMismatch
from fix_bsc import FROZEN, frozen_rows
from fix_model import periodic

pytestmark = pytest.mark.usefixtures("with_bsc")


def read(coded: EncodedColumn, type_name: str, model: Model | None = None) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Values and validity as a process that trusts its segments reads them."""
    data = model.data if model is not None and coded.uses_model else None
    values, valid = decode_column(coded.residual, coded.latents, data, type_name, coded.n, trusting=True)
    return values, np.ones(coded.n, bool) if valid is None else valid


@st.composite
def columns(draw: st.DrawFn) -> tuple[str, NDArray[Any], NDArray[np.bool_] | None]:
    """Arbitrary bit patterns, and walks with oddities."""
    name, dtype = draw(st.sampled_from([("float4", np.dtype(np.float32)), ("float8", np.dtype(np.float64))]))
    n = draw(st.integers(1, 300))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if draw(st.booleans()):
        values = draw(hnp.arrays(dtype, n, elements=hnp.from_dtype(dtype)))
    else:
        values = (rng.normal(0, draw(st.sampled_from([0.01, 3, 1e4])), n).cumsum() + 100).astype(dtype)
        values[rng.integers(0, n, 4)] = draw(st.sampled_from([1.5, np.nan, -0.0, np.inf, 1e30]))
    return name, values, rng.random(n) > 0.2 if draw(st.booleans()) else None


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(columns(), st.floats(1e-12, 1e6))
def test_the_bound_holds(column: tuple[str, NDArray[Any], NDArray[np.bool_] | None], eps: float) -> None:
    name, values, valid = column
    coded = paper.encode_column(values, valid, type=name, bound=Absolute(eps))
    assert coded.size <= values.nbytes + 64
    assert (coded.mode, coded.coder) in (("lattice", "bsc"), ("raw", "mix"))
    got, there = read(coded, name)
    assert np.array_equal(there, np.ones(len(values), bool) if valid is None else valid)
    for x, y in zip(values[there].tolist(), got[there].tolist(), strict=True):
        if np.isfinite(x):
            assert abs(Fraction(x) - Fraction(y)) <= Fraction(eps)
    odd = there & ~(np.isfinite(values) & ((values != 0) | ~np.signbit(values)))
    unsigned = f"u{values.itemsize}"
    assert np.array_equal(values.view(unsigned)[odd], got.view(unsigned)[odd])


@pytest.mark.parametrize("centre", [Centre.LAST, Centre.LINEAR, Centre.LEVEL])
@pytest.mark.parametrize("case", list(cases(900)), ids=lambda case: case.name)
def test_every_type_and_centre(case: Case, centre: Centre) -> None:
    """Lossless, on the first lattice that offers itself: every index comes back, and every row that is none."""
    kind = as_native(case.type)
    column = Column.of(case.values, case.valid, kind, Lossless())
    lattice = next(exact_lattices(column.usable, kind)) if len(column.usable) else EMPTY
    rows, _ = column.on(lattice)
    residual = rows.run(Mode.LATTICE, centre, coder=Coder.BSC)
    if residual is None:  # larger than raw
        assert case.values.dtype.kind == "f" or "noise" in case.name or len(case.values) < 9
        return
    assert _native.peek_column(residual)["coder"] == Coder.BSC
    values, valid = decode_column(residual, None, None, case.type, column.n, trusting=True)
    present = np.ones(column.n, bool) if valid is None else valid
    assert np.array_equal(present, np.ones(column.n, bool) if case.valid is None else case.valid)
    unsigned = f"u{values.itemsize}"
    assert np.array_equal(values.view(unsigned)[present], case.values.view(unsigned)[present])
    for want in (0, 1, column.n // 2):
        part, _ = _native.decode_column(residual, None, None, type_code(kind), column.n, want, None, True)
        assert part == values[:want].tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("eps", [1.0, 0.01, 1e-5])
def test_around_a_prediction(small_model: Model, dtype: str, eps: float) -> None:
    name, values = f"float{np.dtype(dtype).itemsize}", periodic(128 * 40 + 17, seed=3).astype(dtype)
    values[[5, 700]] = np.nan, 3e30
    coded = paper.encode_column(values, None, type=name, bound=Absolute(eps), model=small_model)
    assert (coded.mode, coded.coder) == ("btae", "bsc")
    got, _ = read(coded, name, small_model)
    there = ~np.isnan(values)
    assert np.array_equal(there, ~np.isnan(got))
    assert all(
        abs(Fraction(x) - Fraction(y)) <= Fraction(eps)
        for x, y in zip(values[there].tolist(), got[there].tolist(), strict=True)
    )
    if eps == 1.0:
        assert coded.size < paper.encode_column(values, None, type=name, bound=Absolute(eps)).size


def test_bins_lie_around_the_prediction(small_model: Model) -> None:
    """A residual within the bound is zero, wherever the prediction falls: bins at fixed places would split it."""
    values = periodic(128 * 40, seed=3)
    latents = small_model.latents(values, np.ones(len(values), bool))
    predicted = np.frombuffer(_native.btae_predict(small_model.data[:-4], latents, 40), np.int32)
    missed = np.abs(values - (small_model.mean + small_model.std * predicted / 4096)).max()
    coded = paper.encode_column(values, None, type="float8", bound=Absolute(1.01 * missed), model=small_model)
    assert coded.latents == latents
    assert len(coded.residual) < 60  # the header, and that residuals take no bytes


def test_what_the_paper_does_not_know_is_refused() -> None:
    values = np.arange(10.0)
    for bound in (Relative(0.1), Lossless()):
        with pytest.raises(InvalidBound, match=r"Relative|Lossless"):
            paper.encode_column(values, None, type="float8", bound=bound)
    with pytest.raises(SchemaMismatch, match="int4"):
        paper.encode_column(values.astype(np.int32), None, type="int4", bound=Absolute(1))


@pytest.mark.parametrize("values", [np.full(9, 7.25), np.array([np.nan] * 5), np.array([1.0])])
def test_little_to_code(values: NDArray[np.float64]) -> None:
    for bound in (Absolute(0.5), RangeRelative(0.1)):
        got, _ = read(paper.encode_column(values, None, type="float8", bound=bound), "float8")
        np.testing.assert_allclose(got, values, atol=0.5)
    nulls = paper.encode_column(values, np.zeros(len(values), bool), type="float8", bound=Absolute(1))
    assert not read(nulls, "float8")[1].any()


def test_frozen_bytes_decode_for_ever() -> None:
    values, valid = decode_column(FROZEN, None, None, "float8", 600, trusting=True)
    expected, present = frozen_rows()
    assert valid is not None
    assert np.array_equal(valid, present)
    assert values.tobytes() == expected.tobytes()


def test_stored_bytes_are_decoded_only_where_they_are_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DDSTORE_TRUST_BSC", raising=False)
    with pytest.raises(NotPermitted, match="DDSTORE_TRUST_BSC=1"):
        decode_column(FROZEN, None, None, "float8", 600)
    with pytest.raises(_native.CorruptError, match="trusted"):
        _native.decode_column(FROZEN, None, None, type_code("float8"), 600, -1)
    monkeypatch.setenv("DDSTORE_TRUST_BSC", "1")
    assert decode_column(FROZEN, None, None, "float8", 600)[0].tobytes() == frozen_rows()[0].tobytes()


def test_accidents_are_damage() -> None:
    for length in range(len(FROZEN)):
        with pytest.raises(CorruptSegment):
            decode_column(FROZEN[:length], None, None, "float8", 600, trusting=True)
    for bit in range(len(FROZEN) * 8):
        damaged = bytearray(FROZEN)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptSegment):
            decode_column(bytes(damaged), None, None, "float8", 600, trusting=True)


# Runs of classes begin at 27, the exact row's bits at 42, the width is at 50 and the block at 51.
@pytest.mark.parametrize(
    ("at", "byte", "what"),
    [
        (27, 0x29, "runs"),  # a row too many
        (27, 0x25, "runs"),  # of a class that there is none of
        (27, 0x24, "exact rows"),  # more of them than the header says
        (6, 0x03, "exact rows"),  # fewer
        (50, 0x09, "width"),
        (50, 0x01, "libbsc"),  # half as many bytes as the block has
        (50, 0x00, "behind the end"),
        (51, 0x43, "libbsc"),
    ],
)
def test_mended_checksums_do_not_hide_nonsense(at: int, byte: int, what: str) -> None:
    damaged = bytearray(FROZEN[:-4])
    damaged[at] = byte
    mended = bytes(damaged) + _native.crc32c(bytes(damaged)).to_bytes(4, "little")
    with pytest.raises(CorruptSegment, match=what):
        decode_column(mended, None, None, "float8", 600, trusting=True)


def test_the_product_never_chooses_it() -> None:
    values = periodic(3000)
    assert encode_column(values, None, type="float8", bound=Absolute(0.5)).coder != "bsc"
