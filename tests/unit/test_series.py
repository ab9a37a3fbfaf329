"""Series and frames: what is accepted becomes exact arrays, what is not is refused with row and remedy."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ddstore
from ddstore import Absolute, Frame, Series
from ddstore.errors import InvalidBound, InvalidSeries
from ddstore.frames import columns_of
from ddstore.moments import PG_EPOCH_US, tick_bound

TIME = np.array(["2024-01-01", "2024-01-02", "2024-01-03"], dtype="datetime64[s]")
TOKYO = dt.timezone(dt.timedelta(hours=9))


def test_public_face_is_sorted_and_complete() -> None:
    assert ddstore.__all__ == sorted(ddstore.__all__)
    assert all(hasattr(ddstore, name) for name in ddstore.__all__)


@pytest.mark.parametrize(
    "time",
    [
        TIME,
        TIME.astype("datetime64[D]"),
        TIME.astype("datetime64[ns]"),
        TIME.astype(">M8[us]"),
        TIME.astype("datetime64[ns]").view(np.int64),
        TIME.astype("datetime64[ns]").astype(np.uint64),
        TIME.astype("datetime64[us]").tolist(),
        [t.replace(tzinfo=dt.UTC).astimezone(TOKYO) for t in TIME.tolist()],
        [t.date() for t in TIME.tolist()],
        tuple(TIME),
        np.ma.masked_array(TIME, False),
    ],
)
def test_times_of_every_kind(time: Any) -> None:
    series = Series("s", time, [1, 2, 3])
    assert series.time.dtype == "datetime64[us]"
    assert np.array_equal(series.time, TIME)


def test_times_of_frame_libraries() -> None:
    pd = pytest.importorskip("pandas")
    pl = pytest.importorskip("polars")
    pa = pytest.importorskip("pyarrow")
    index = pd.DatetimeIndex(TIME, tz="UTC")
    for time in [
        index,
        index.tz_convert("Asia/Tokyo"),
        index.tz_localize(None),
        pd.Series(index),
        pd.Series(index, dtype=pd.ArrowDtype(pa.timestamp("ns", "UTC"))),
        index.tolist(),
        pl.Series(TIME.astype("datetime64[ms]")),
        pl.Series(TIME.astype("datetime64[ns]")).dt.replace_time_zone("Asia/Tokyo").dt.convert_time_zone("UTC"),
        pa.array(TIME),
        pa.chunked_array([pa.array(TIME[:1]), pa.array(TIME[1:])]),
        pa.array(TIME.astype("datetime64[D]")),
    ]:
        moved = "Tokyo" if isinstance(time, pl.Series) and time.dtype == pl.Datetime("ns", "UTC") else ""
        expected = TIME - np.timedelta64(9, "h") if moved else TIME
        assert np.array_equal(Series("s", time, [1, 2, 3]).time, expected)


def test_missing_values_of_every_kind() -> None:
    pd = pytest.importorskip("pandas")
    pl = pytest.importorskip("polars")
    pa = pytest.importorskip("pyarrow")
    for values in [
        [1, None, 3],
        np.array([1.0, None, 3.0], dtype=object),
        np.ma.masked_array([1.0, 2.0, 3.0], [0, 1, 0]),
        pd.Series([1, pd.NA, 3], dtype="Int32"),
        pd.Series([1, None, 3], dtype="double[pyarrow]"),
        pd.array([1.0, None, 3.0], dtype="Float32"),
        pl.Series([1, None, 3]),
        pa.array([1.0, None, 3.0]),
    ]:
        series = Series("s", TIME, values)
        assert series.valid is not None
        assert series.valid.tolist() == [True, False, True]
        assert series.values.dtype == np.float64
        assert series.values[[0, 2]].tolist() == [1, 3]
    # NaN is a value, not a missing one.
    for values in [[1.0, float("nan"), 3.0], pd.Series([1.0, np.nan, 3.0])]:
        assert Series("s", TIME, values).valid is None


@pytest.mark.parametrize(
    ("time", "values", "row", "said"),
    [
        (TIME, [1, 2], None, "3 times and 2 values"),
        ([], [], None, "empty"),
        (TIME, ["a", "b", "c"], None, "not numbers"),
        (TIME, [True, False, True], None, "not numbers"),
        (TIME, np.zeros(3, complex), None, "complex128"),
        (TIME, np.zeros(3, np.longdouble), None, "longdouble|float128"),
        (TIME, np.zeros((3, 1)), None, "2-dimensional"),
        (TIME, [[1], [2], [3]], None, "2-dimensional"),
        (TIME, 5, None, "not an array"),
        (TIME, "abc", None, "not an array"),
        (TIME, [1, 2**53 + 1, 3], 1, "bigint"),
        (TIME, [1, 2, 2**70], None, "64 bits"),
        (TIME, [1, 2.5, 2**53 + 1], 2, "loses digits"),
        (TIME, [object()] * 3, None, "object"),
        (TIME, np.array([1, 2, 2**64 - 1], np.uint64), 2, "float64"),
        (np.array([0, 1000, 1001]), [1, 2, 3], 2, "below 1 us.*bigint"),
        (np.array([2**63, 0, 0], np.uint64), [1, 2, 3], 0, "range"),
        (np.array(["2024", "NaT", "2024"], "datetime64[s]"), [1, 2, 3], 1, "NaT"),
        ([*TIME.tolist()[:2], None], [1, 2, 3], 2, "missing"),
        (np.array([0, 2**61, 0]).view("datetime64[s]"), [1, 2, 3], 1, "range"),
        (np.array([0, 0, -(2**61)]).view("datetime64[us]"), [1, 2, 3], 2, "range"),
        (np.array([0, 0, 2**60]).view("datetime64[M]"), [1, 2, 3], 2, "range"),
        ([1.5, 2.5, 3.5], [1, 2, 3], None, "not times"),
        (["2024-01-01"] * 3, [1, 2, 3], None, "not times"),
        (np.array(["NaT"] * 3, "datetime64"), [1, 2, 3], 0, "NaT"),
    ],
)
def test_refusals_name_row_and_series(time: Any, values: Any, row: int | None, said: str) -> None:
    with pytest.raises(InvalidSeries, match=said) as caught:
        Series("pump", time, values)
    assert caught.value.series == "pump"
    assert caught.value.row == row
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["", "a\0b", None, 5])
def test_names(name: Any) -> None:
    with pytest.raises(InvalidSeries, match="no name"):
        Series(name, TIME, [1, 2, 3])


def test_a_bare_number_is_no_bound() -> None:
    with pytest.raises(InvalidBound, match="Absolute"):
        Series("s", TIME, [1, 2, 3], max_error=0.1)  # type: ignore[arg-type]
    assert "Absolute(0.1)" in repr(Series("s", TIME, [1, 2, 3], max_error=Absolute(0.1)))


def test_edges_of_postgresql() -> None:
    first = np.datetime64("-4713-11-24", "us")
    assert Series("s", [first], [1]).time[0] == first
    with pytest.raises(InvalidSeries, match="range"):
        Series("s", [first - 1], [1])
    last = np.array([2**63 - 1]).view("datetime64[us]")
    assert Series("s", last, [1]).time[0] == last[0]
    for integer in [-(2**63), 2**63 - 1024, 2**53, -(2**53)]:
        assert int(Series("s", [0], np.array([integer])).values[0]) == integer


@given(st.integers(-(2**62), 2**62), st.sampled_from(["s", "ms", "us", "ns", "ps", "fs", "as", "m", "h", "D", "W"]))
def test_units_are_exact_or_refused(ticks: int, unit: str) -> None:
    moment = np.array([ticks]).view(f"datetime64[{unit}]")
    try:
        kept = Series("s", moment, [1]).time
    except InvalidSeries:
        return
    seconds = tick_bound(moment[0], time_type="timestamptz", name="t")
    assert seconds is not None
    assert int(kept.view(np.int64)[0]) == seconds + PG_EPOCH_US


@pytest.mark.parametrize(
    ("value", "ticks"),
    [
        ("2000-01-01", 0),
        ("2000-01-01T09:00:00+09:00", 0),
        (dt.date(2000, 1, 2), 86_400_000_000),
        (dt.datetime(2000, 1, 1, 9, tzinfo=TOKYO), 0),
        (np.datetime64("2000-01-01T00:00:00.000000001"), 1),
        (np.datetime64("1999-12-31T23:59:59.999999999"), 0),
        (np.datetime64("2000-02", "M"), 31 * 86_400_000_000),
        (np.int64(946_684_800_000_000_001), 1),
    ],
)
def test_ends_of_a_range_are_rounded_up(value: Any, ticks: int) -> None:
    assert tick_bound(value, time_type="timestamptz", name="start") == ticks


@pytest.mark.parametrize("value", ["soon", 1.5, np.datetime64("NaT"), object(), True, b"2000"])
def test_what_is_no_time(value: Any) -> None:
    with pytest.raises(InvalidSeries, match="start is not a time"):
        tick_bound(value, time_type="timestamptz", name="start")


def frame() -> Frame:
    """Three rows with a NULL in each kind of column."""
    valid = np.array([True, False, True])
    return Frame(
        TIME.astype("datetime64[us]"),
        {"k": np.array(["a", None, "b"], dtype=object)},
        {
            "i": np.array([1, 0, 3], np.int16),
            "f": np.array([1, 0, np.nan], np.float32),
            "b": np.array([True, False, True]),
            "d": TIME.astype("datetime64[D]"),
            "n": np.arange(3),
        },
        dict.fromkeys(["k", "i", "f", "b", "d"], valid),
        time_name="ts",
        time_zone="UTC",
    )


def test_conversions() -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    original = frame()
    pandas, polars, arrow = original.to_pandas(), original.to_polars(), original.to_arrow()
    assert [str(dtype) for dtype in pandas.dtypes[["i", "f", "b", "n"]]] == ["Int16", "float32", "boolean", "int64"]
    assert str(pandas["ts"].dt.tz) == "UTC"
    assert pandas["k"].tolist() == ["a", None, "b"]
    assert polars["i"].to_list() == [1, None, 3]
    assert polars["ts"].dtype.time_zone == "UTC"
    assert arrow["f"].null_count == 1
    assert str(arrow["ts"].type) == "timestamp[us, tz=UTC]"
    for converted in (polars, arrow):
        columns = columns_of(converted, time="ts")
        assert list(columns) == ["ts", "k", "i", "f", "b", "d", "n"]
        for name in "ifbd":
            column = columns[name]
            assert column.valid is not None
            assert column.valid.tolist() == [True, False, True]
            assert column.data.dtype == original[name].dtype
    series = Series("s", TIME, [1, None, 3])
    assert series.to_pandas().isna().tolist() == [False, True, False]
    assert series.to_polars()["value"].to_list() == [1, None, 3]
    assert series.to_arrow()["value"].to_pylist() == [1, None, 3]


def test_frames_that_are_no_tables() -> None:
    pd = pytest.importorskip("pandas")
    for data, said in [
        ({"a": [1], 5: [2]}, "not a text"),
        ({"a": []}, "empty"),
        ({}, "empty"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "twice"),
        ({"a": [1, 2], "b": [1]}, "1 rows where 'a' has 2"),
        (5, "not a table"),
    ]:
        with pytest.raises(InvalidSeries, match=said):
            columns_of(data, time="ts")
    indexed = pd.DataFrame({"x": [1.0]}, index=pd.DatetimeIndex(["2024-01-01"]))
    assert list(columns_of(indexed, time="when")) == ["x", "when"]
    levels = pd.MultiIndex.from_tuples([("a", 1)], names=["k", "j"])
    assert list(columns_of(pd.DataFrame({"x": [1.0]}, index=levels), time="when")) == ["x", "k", "j"]
