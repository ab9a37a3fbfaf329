"""Promise: every value comes back within its bound, whatever the values, the type and the bound."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from coded import encode_native
from ddstore import _native
from ddstore.bounds import Absolute, Bound, Lossless, RangeRelative, Relative
from ddstore.codec import segment, select
from ddstore.codec.aggregates import column_stats
from ddstore.codec.format import FLAG_EXACT, FLAG_MATCHES, Coder, Mode, as_native, type_code
from ddstore.codec.lattice import lossy_lattices
from ddstore.codec.scale import find_scale
from ddstore.codec.segment import decode_column, encode_column
from ddstore.codec.times import decode_times, encode_times
from ddstore.errors import BoundViolation
from ddstore.profiles import Profile

TYPES = {"int2": np.int16, "int4": np.int32, "int8": np.int64, "float4": np.float32, "float8": np.float64}

sizes = st.integers(1, 300)
bounds = st.one_of(
    st.just(Lossless()),
    st.floats(1e-12, 1e6).map(Absolute),
    st.floats(1e-9, 0.5).map(Relative),
    st.floats(1e-9, 0.5).map(RangeRelative),
)


@st.composite
def columns(draw: st.DrawFn) -> tuple[str, NDArray[Any], NDArray[np.bool_] | None]:
    """Arbitrary bit patterns, grids and smooth walks of every type, with and without NULLs."""
    name = draw(st.sampled_from(sorted(TYPES)))
    dtype = np.dtype(TYPES[name])
    n = draw(sizes)
    shape = draw(st.sampled_from(["any", "grid", "walk", "flat"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if shape == "any":
        values = draw(hnp.arrays(dtype, n, elements=hnp.from_dtype(dtype)))
    elif shape == "flat":
        values = np.full(n, draw(hnp.from_dtype(dtype)), dtype)
    else:
        steps = rng.normal(0, draw(st.sampled_from([0.3, 5, 1000])), n).cumsum()
        den = draw(st.sampled_from([1, 2, 10, 64, 500, 1000, 3]))
        values = (np.rint(steps) / (den if dtype.kind == "f" else 1) if shape == "grid" else steps).clip(-30000, 30000)
        values = values.astype(dtype)
        if dtype.kind == "f" and draw(st.booleans()):
            odd = rng.integers(0, n, 3)
            values[odd] = [np.nan, -0.0, np.inf]
    valid = rng.random(n) > 0.2 if draw(st.booleans()) else None
    return name, values, valid


def within(x: Any, y: Any, bound: Bound, span: Fraction) -> bool:
    """The bound in exact rational arithmetic, written independently of the product's check."""
    distance = abs(Fraction(x) - Fraction(y))
    allowed = Fraction(bound.value)
    if bound.kind == "relative":
        allowed *= abs(Fraction(x))
    elif bound.kind == "range":
        allowed *= span
    return distance <= allowed


@settings(max_examples=400, deadline=None)
@given(columns(), bounds, st.sampled_from(Profile))
def test_bound_holds(
    column: tuple[str, NDArray[Any], NDArray[np.bool_] | None], bound: Bound, profile: Profile
) -> None:
    name, values, valid = column
    n = len(values)
    coded = encode_column(values, valid, type=name, bound=bound, profile=profile)
    assert coded.size <= values.nbytes + 64
    read, read_valid = decode_column(coded.residual, coded.latents, None, name, n)
    present = np.ones(n, bool) if valid is None else valid
    assert np.array_equal(present, np.ones(n, bool) if read_valid is None else read_valid)
    x, y = values[present], read[present]
    tiny = np.finfo(values.dtype).tiny if values.dtype.kind == "f" else 0
    numbers = np.isfinite(x) & (np.abs(x) >= tiny) if values.dtype.kind == "f" else np.ones(len(x), bool)
    exact = ~numbers | np.array([bound.kind == "lossless"] * len(x), dtype=bool)
    zeros = (x == 0) & ~np.signbit(x) if values.dtype.kind == "f" else np.zeros(len(x), bool)
    exact &= ~zeros if bound.kind != "lossless" else True
    assert np.array_equal(x[exact].view(f"u{x.itemsize}"), y[exact].view(f"u{x.itemsize}"))
    finite = numbers | zeros
    span = Fraction(0)
    if finite.any():
        span = Fraction(x[finite].max().item()) - Fraction(x[finite].min().item())
    assert all(within(a.item(), b.item(), bound, span) for a, b in zip(x[finite], y[finite], strict=True))


@settings(max_examples=150, deadline=None)
@given(columns(), st.integers(0, 299), st.sampled_from(Profile))
def test_a_prefix_decodes_to_the_same_rows(
    column: tuple[str, NDArray[Any], NDArray[np.bool_] | None], want: int, profile: Profile
) -> None:
    name, values, valid = column
    want = min(want, len(values))
    coded = encode_column(values, valid, type=name, bound=Lossless(), profile=profile)
    whole, mask = _native.decode_column(coded.residual, None, None, type_code(as_native(name)), len(values), -1)
    part, part_mask = _native.decode_column(coded.residual, None, None, type_code(as_native(name)), len(values), want)
    assert whole[: want * values.itemsize] == part
    assert mask is None or part_mask == mask[:want]


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(np.int64, sizes))
def test_times_are_exact(time: NDArray[np.int64]) -> None:
    assert np.array_equal(decode_times(encode_times(time), len(time)), time)


@pytest.mark.parametrize("n", [1, 2, 1000, 16384])
def test_regular_sampling_costs_nothing(n: int) -> None:
    assert len(encode_times(np.arange(n, dtype=np.int64) * 60_000_000 + 757_382_400_000_000)) < 40


def test_stats_are_those_of_postgresql() -> None:
    assert column_stats(np.array([1.5, np.nan, -2.0]), None)[1] == -2.0
    assert np.isnan(column_stats(np.array([1.5, np.nan, -2.0]), None)[2])  # type: ignore[arg-type]
    assert column_stats(np.array([2**62, 2**62, 2**62]), None)[3] == 3 * 2**62
    assert column_stats(np.array([1e16, 1.0, -1e16]), None)[3] == 1.0
    assert column_stats(np.array([1.0]), np.array([False])) == (0, None, None, None)


def test_a_path_through_the_tube_is_smaller_and_keeps_the_bound() -> None:
    rng = np.random.default_rng(7)
    level = np.repeat(rng.uniform(0, 40, 60), 50)
    values = level + rng.normal(0, 0.4, 3000)  # hovers around bin borders: plain quantization flips back and forth
    nearest = encode_on_nearest(values, 1.0)
    coded = encode_column(values, None, type="float8", bound=Absolute(1.0))
    assert coded.size < 0.8 * nearest
    read, _ = decode_column(coded.residual, coded.latents, None, "float8", coded.n)
    assert np.abs(read - values).max() <= 1.0


def encode_on_nearest(values: NDArray[Any], eps: float) -> int:
    """Bytes without a path search."""
    lattice = next(lossy_lattices(values, "float8", eps))
    rows = select.Rows(values, None, lattice.index(values, "float8"), lattice, "float8")
    return select.encode(rows, Coder.MIX).size


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("origin", [3.2975103, 176 * 0.018735854453])  # the second: 0 is a level
def test_counts_times_a_factor_are_a_scale(dtype: str, origin: float) -> None:
    counts = np.rint(np.random.default_rng(3).normal(0, 6, 5000).cumsum() % 3000)
    values = (counts * 0.018735854453 - origin).astype(np.float32).astype(dtype)
    name = "float4" if dtype == "float32" else "float8"
    coded = encode_column(values, None, type=name, bound=Lossless())
    assert coded.escapes == 0
    assert coded.size < 1.1 * encode_column(counts.astype(np.int32), None, type="int4", bound=Lossless()).size
    read, _ = decode_column(coded.residual, None, None, name, len(values))
    assert read.tobytes() == values.tobytes()


@pytest.mark.parametrize(
    "formula",
    [
        lambda count: count * 0.01,
        lambda count: (count - 700) * 0.1,
        lambda count: count / 7,
        lambda count: count * 10 / 36,
        lambda count: count.astype(np.float32) * np.float32(0.1),
    ],
    ids=["product", "product around 0", "quotient", "fraction", "narrow product"],
)
def test_counts_that_a_program_converted_cost_what_counts_do(formula: Callable[[Any], Any]) -> None:
    """Rounded once, as floating-point arithmetic does it, not to the nearest decimal."""
    count = 2000 + np.rint(np.random.default_rng(9).normal(0, 4, 20_000).cumsum())
    values = formula(count)
    name = "float4" if values.dtype == np.float32 else "float8"
    coded = encode_column(values, None, type=name, bound=Lossless())
    read, _ = decode_column(coded.residual, None, None, name, len(values))
    assert read.tobytes() == values.tobytes()
    assert coded.size < 1.02 * encode_column(count.astype(np.int32), None, type="int4", bound=Lossless()).size


def test_counts_that_a_driver_multiplied_and_a_file_printed_are_a_scale() -> None:
    """Products round otherwise than sums, extremes are far apart, and float64 holds the float32's shortest decimals."""
    rng = np.random.default_rng(5)
    counts = (np.rint(rng.normal(0, 25, 6000).cumsum()) % 3000 + 500).astype(np.int32)
    counts[rng.integers(0, 6000, 12)] = rng.integers(-21_000, 21_000, 12)
    measured = counts.astype(np.float32) * np.float32(0.00059855043)
    values = np.array([float(str(value)) for value in measured])
    counted = encode_column(counts, None, type="int4", bound=Lossless())
    coded = encode_column(values, None, type="float8", bound=Lossless())
    read, _ = decode_column(coded.residual, None, None, "float8", len(values))
    assert read.tobytes() == values.tobytes()
    assert coded.escapes == 0
    assert coded.size < 1.05 * counted.size
    # A bound of a little more than a step takes three counts into a bin, not two and a bit.
    wide = encode_column(values, None, type="float8", bound=Absolute(0.00065))
    assert wide.size < 1.02 * encode_column(counts, None, type="int4", bound=Absolute(1)).size


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_counts_that_never_repeat_are_a_scale(dtype: str) -> None:
    """A converter's counts less a learnt bias go farther than there are rows; the factor shows all the same."""
    rng = np.random.default_rng(6)
    counts = 4000 * np.rint(rng.laplace(0, 20, 9000)) - np.repeat(np.rint(rng.normal(0, 700, 900)), 10)
    values = (counts.astype(np.float32) * np.float32(np.pi / 180 / 65536)).astype(dtype)
    values = values[values != 0]
    name = "float4" if dtype == "float32" else "float8"
    coded = encode_column(values, None, type=name, bound=Lossless())
    read, _ = decode_column(coded.residual, None, None, name, len(values))
    assert read.tobytes() == values.tobytes()
    assert coded.escapes == 0
    assert 8 * coded.size < 14 * len(values)  # as float32 they take 29
    # Without a common factor, none is found.
    noise = rng.normal(0, 1, 9000).astype(dtype)
    assert find_scale(noise) is None
    assert find_scale(noise.astype(np.float32).astype(dtype)) is None


@pytest.mark.parametrize("profile", list(Profile))
def test_float32_in_a_float64_column_take_no_more(profile: Profile) -> None:
    rng = np.random.default_rng(7)
    narrow = (rng.normal(0, 1, 6000).cumsum() + 300).astype(np.float32)
    wide = narrow.astype(np.float64)
    counted = encode_column(narrow, None, type="float4", bound=Lossless(), profile=profile)
    wide[[5, 5000]] = np.pi, -np.e  # nearly all will do
    coded = encode_column(wide, None, type="float8", bound=Lossless(), profile=profile)
    read, _ = decode_column(coded.residual, None, None, "float8", len(wide))
    assert read.tobytes() == wide.tobytes()
    assert coded.size < counted.size + 100


@pytest.mark.parametrize("profile", list(Profile))
def test_what_noise_leaves_alike_is_saved(profile: Profile) -> None:
    """Doubles that differ in their last 45 bits or so take these, whatever codes them."""
    values = np.random.default_rng(8).normal(0, 1, 6000).cumsum() * 0.01 + 20
    coded = encode_column(values, None, type="float8", bound=Lossless(), profile=profile)
    read, _ = decode_column(coded.residual, None, None, "float8", len(values))
    assert read.tobytes() == values.tobytes()
    assert 8 * coded.size < 46 * len(values)


@pytest.mark.parametrize("profile", [Profile.BALANCED, Profile.ARCHIVE])
def test_rows_that_come_again_take_next_to_nothing(profile: Profile) -> None:
    """However far back they are, and although some differ: noise cannot be told, but its repetition can."""
    rng = np.random.default_rng(8)
    once = rng.normal(0, 40, 12_000)
    twice = np.concatenate([once, once])
    twice[rng.integers(12_000, 24_000, 40)] += 9
    first, both = (
        encode_column(values, None, type="float8", bound=Absolute(0.05), profile=profile) for values in (once, twice)
    )
    assert both.residual[3] & FLAG_MATCHES
    assert both.size < 1.1 * first.size
    read, _ = decode_column(both.residual, None, None, "float8", len(twice))
    assert np.abs(read - twice).max() <= 0.05


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 60)), min_size=1, max_size=40),
    st.sampled_from([1, 50, 10**6, 2**40, 2**62]),
    st.sampled_from([Mode.LATTICE, Mode.ADAPTIVE]),
    st.integers(0, 2**32 - 1),
)
def test_any_repetition_comes_back(pieces: list[tuple[int, int]], size: int, mode: Mode, seed: int) -> None:
    """Pieces of four different stretches of rows, in any order, of any length, with indices of any size."""
    rng = np.random.default_rng(seed)
    stretches = rng.integers(-size, size, (4, 60), endpoint=True)
    index = np.concatenate([stretches[which, :length] for which, length in pieces])
    coded = encode_native("int8", Coder.CM, mode, index, flags=FLAG_EXACT | FLAG_MATCHES)
    read, _ = decode_column(coded, None, None, "int8", len(index))
    assert read.tobytes() == index.tobytes()


@settings(max_examples=50, deadline=None)
@given(st.integers(-4, 8), st.integers(0, 2**32 - 1))
def test_printed_float32_measurements_come_back_and_are_recognised(power: int, seed: int) -> None:
    """float64 columns of float32 printed as shortly as possible: not a decimal grid, but 20 bits a value at most."""
    rng = np.random.default_rng(seed)
    measured = (np.cumsum(rng.integers(-300, 301, 3000)) * 2.0**power / 2**12).astype(np.float32)
    values = np.array([float(str(value)) for value in measured])
    coded = encode_column(values, None, type="float8", bound=Lossless())
    read, _ = decode_column(coded.residual, None, None, "float8", len(values))
    assert read.tobytes() == values.tobytes()
    assert 8 * coded.size < 20 * len(values)


def test_the_shortest_decimal_is_the_one_that_numpy_prints() -> None:
    rng = np.random.default_rng(0)
    values = (rng.standard_normal(20_000) * 10.0 ** rng.integers(-8, 7, 20_000)).astype(np.float32)
    shortest = np.frombuffer(_native.shortest(values), dtype=np.float64)
    np.testing.assert_array_equal(shortest, [float(str(value)) for value in values])


@pytest.mark.parametrize("profile", Profile)
def test_jittered_clocks_are_small_and_exact(profile: Profile) -> None:
    """Ten million microseconds apart, give or take a few: what is stored is the jitter."""
    rng = np.random.default_rng(9)
    time = np.arange(20_000, dtype=np.int64) * 10_000_000 + np.rint(rng.normal(0, 3, 20_000)).astype(np.int64)
    data = encode_times(time, profile)
    assert decode_times(data, len(time)).tobytes() == time.tobytes()
    assert 8 * len(data) < 4.7 * len(time)


@pytest.mark.parametrize("bin_", [20, 21])
def test_steps_of_a_scale_are_interpolated_between(bin_: int) -> None:
    """Of so many steps to a bin each is a point of the fine lattice, and none of the points is beyond the bound."""
    rng = np.random.default_rng(11)
    counts = np.rint(900 * np.sin(np.arange(12_000) / 90) + rng.normal(0, 4, 12_000))
    values = (counts * 0.018735854453 - 3.2975103).astype(np.float32).astype(np.float64)
    eps = (bin_ - 0.9) / 2 * 0.018735854453
    coded = encode_column(values, None, type="float8", bound=Absolute(eps), profile=Profile.ARCHIVE)
    read, _ = decode_column(coded.residual, None, None, "float8", len(values))
    assert coded.mode == "interp"
    assert coded.escapes == 0
    assert np.abs(read - values).max() <= eps


def test_a_relative_bound_never_costs_more_than_none() -> None:
    """Few levels far apart: bins of floats as narrow as the smallest values need have far more indices than levels."""
    rng = np.random.default_rng(4)
    values = rng.normal(90, 20, 400)[np.rint(rng.normal(0, 3, 20_000).cumsum()).astype(int) % 400]
    lossless = encode_column(values, None, type="float8", bound=Lossless())
    assert encode_column(values, None, type="float8", bound=Relative(1e-6)).size <= 1.01 * lossless.size


@pytest.mark.parametrize("bound", [Lossless(), Relative(1e-3)])
def test_zero_does_not_become_its_negative(bound: Bound) -> None:
    """Counts times a factor so small that float32 rounds what the scale makes of 0 to 0, on either side."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        factor = 10.0 ** rng.uniform(-35, -33)
        values = (np.rint(rng.normal(0, 30, 4096).cumsum()) * factor).astype(np.float32)
        values[:8] = 0.0
        coded = encode_column(values, None, type="float4", bound=bound)
        read, _ = decode_column(coded.residual, None, None, "float4", len(values))
        assert np.array_equal(np.signbit(read[values == 0]), np.signbit(values[values == 0]))


@pytest.mark.parametrize("bound", [Lossless(), Absolute(0.25)])
@pytest.mark.parametrize("nulls", [False, True])
def test_what_decodes_wrongly_is_not_handed_out(bound: Bound, nulls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both where what was decoded is compared with what was checked before coding, and where with the values."""
    values = np.round(np.random.default_rng(1).normal(0, 1, 300).cumsum(), 1)
    valid = np.arange(300) != 7 if nulls else None
    decode = segment.decode_column

    def wrong(*given: Any, **more: Any) -> tuple[Any, Any]:
        read, there = decode(*given, **more)
        read = read.copy()
        read[200] += 0.6
        return read, there

    monkeypatch.setattr(segment, "decode_column", wrong)
    with pytest.raises(BoundViolation) as raised:
        segment.encode_column(values, valid, type="float8", bound=bound, profile=Profile.FAST)
    assert raised.value.row == 200
