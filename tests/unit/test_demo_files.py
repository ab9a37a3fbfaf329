"""Reading the user's file: CSV, NPZ and Parquet, their times, and what is refused with which words."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from ddstore.bounds import RangeRelative
from ddstore.cli.demo.data import file_data
from ddstore.cli.files import read_file
from ddstore.errors import DDStoreError, InvalidSeries, NotInstalled, SchemaMismatch


def _csv(tmp_path: Path, text: str, name: str = "a.csv") -> Path:
    pytest.importorskip("pyarrow", reason="reads CSV; pip install 'ddstore[frames]'")
    path = tmp_path / name
    path.write_text(text)
    return path


def test_csv_with_times_nulls_and_nan(tmp_path: Path) -> None:
    file = read_file(_csv(tmp_path, "When,Time,temp,state\na,2024-01-01T00:00:00Z,1.5,3\nb,2024-01-01T00:00:01Z,,NA\n"))
    name, time = file.time(None, None)
    assert name == "Time"
    assert (
        time.data.astype("datetime64[s]").tolist()
        == np.array(["2024-01-01T00:00:00", "2024-01-01T00:00:01"], "datetime64[s]").tolist()
    )
    numbers = file.numbers([], besides=name)
    assert list(numbers) == ["temp", "state"]
    assert numbers["temp"].valid is not None
    assert numbers["temp"].valid.tolist() == [True, False]
    assert any("When" in note for note in file.notes)


def test_nan_in_a_csv_is_a_value(tmp_path: Path) -> None:
    column = read_file(_csv(tmp_path, "x\n1.5\nNaN\n")).column("x")
    assert column.valid is None
    assert np.isnan(column.data[1])


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_delimiters(tmp_path: Path, delimiter: str) -> None:
    text = "\n".join(delimiter.join(cells) for cells in (("a", "b"), ("1", "2"), ("3", "4")))
    assert list(read_file(_csv(tmp_path, text)).columns) == ["a", "b"]


def test_csv_without_a_header_says_so(tmp_path: Path) -> None:
    file = read_file(_csv(tmp_path, "1.5,2\n3.5,4\n"))
    assert list(file.columns) == ["f0", "f1"]
    assert len(file) == 2
    assert any("no header" in note for note in file.notes)


def test_compressed_csv(tmp_path: Path) -> None:
    _csv(tmp_path, "")
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"x\n1\n2\n"))
    assert read_file(path).column("x").data.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("number", "unit", "told"),
    [(1.7e9, "s", 1.7e9), (1.7e12, "ms", 1.7e9), (1.7e15, "us", 1.7e9), (1.7e18, "ns", 1.7e9)],
)
def test_numbers_as_times(tmp_path: Path, number: float, unit: str, told: float) -> None:
    path = _csv(tmp_path, f"ts,x\n{int(number)},1\n{int(number) + 1},2\n")
    guessed, said = read_file(path), read_file(path)
    _, time = guessed.time(None, None)
    assert time.data[0] == np.datetime64(int(told), "s")
    assert any(f"as {unit} since 1970" in note for note in guessed.notes)
    assert np.array_equal(said.time("ts", unit)[1].data, time.data)
    assert not said.notes


def test_fractions_of_seconds_are_kept_to_the_microsecond(tmp_path: Path) -> None:
    _, time = read_file(_csv(tmp_path, "t,x\n1700000000.25,1\n1700000000.5,2\n")).time(None, None)
    assert time.data.astype(np.int64).tolist() == [1_700_000_000_250_000, 1_700_000_000_500_000]


def test_times_beyond_reach_name_the_row(tmp_path: Path) -> None:
    with pytest.raises(InvalidSeries, match="--time-unit") as caught:
        read_file(_csv(tmp_path, "t,x\n1,1\n100000000000,2\n")).time("t", "s")
    assert caught.value.row == 1


def test_npz_channels_and_regular_clock(tmp_path: Path) -> None:
    path = tmp_path / "b.npz"
    np.savez(path, values=np.arange(6.0).reshape(3, 2), offsets=np.arange(9))
    file = read_file(path)
    name, time = file.time(None, None)
    assert name is None
    assert np.diff(time.data).tolist() == [np.timedelta64(1, "s").astype("timedelta64[us]").item()] * 2
    assert list(file.numbers([], besides=None)) == ["value_0", "value_1"]
    assert any("2020-01-01" in note for note in file.notes)
    assert any("offsets" in note for note in file.notes)


def test_npz_integer_times_are_nanoseconds(tmp_path: Path) -> None:
    path = tmp_path / "b.npz"
    np.savez(path, values=np.arange(2.0), time=np.array([5, 1_000_000_005]))
    _, time = read_file(path).time(None, None)
    assert time.data.astype("datetime64[ns]").astype(np.int64).tolist() == [5, 1_000_000_005]


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="reads Parquet; pip install 'ddstore[frames]'")
    from pyarrow import parquet

    times = np.array(["2024-01-01", "2024-01-02"], "datetime64[us]")
    parquet.write_table(pa.table({"at": times, "x": np.float32([1.5, 2.5])}), tmp_path / "c.parquet")
    file = read_file(tmp_path / "c.parquet")
    name, time = file.time(None, None)
    assert (name, time.data.tolist()) == ("at", times.tolist())
    assert file.column("x").data.dtype == np.float32


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.xls", b"x", "no kind"),
        ("a.npz", b"not a zip", "cannot be read"),
        ("a.npz", None, "No such file"),
        ("a.csv", b"", "cannot be read"),
        ("a.csv", b"x,y\n", "no rows"),
        ("a.csv", b"x,y\n1\n", "cannot be read"),
        ("a.csv", b"x,x\n1,2\n", "two columns"),
        ("a.parquet", b"PAR1", "cannot be read"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    pytest.importorskip("pyarrow", reason="reads CSV; pip install 'ddstore[frames]'")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidSeries, match=words) as caught:
        read_file(tmp_path / name)
    assert caught.value.remedy


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", values=np.array([{}], dtype=object))
    with pytest.raises(InvalidSeries, match="cannot be read"):
        read_file(tmp_path / "a.npz")


def test_unknown_columns_name_those_there_are(tmp_path: Path) -> None:
    file = read_file(_csv(tmp_path, "x,y\n1,a\n"))
    with pytest.raises(SchemaMismatch, match="x, y"):
        file.column("z")
    with pytest.raises(SchemaMismatch, match="no column of numbers"):
        file.numbers([], besides="x")


def test_without_pyarrow_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(NotInstalled, match=r"a\.csv needs pyarrow.*ddstore\[frames\]"):
        read_file(tmp_path / "a.csv")


def test_demo_data_of_a_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "b.npz", values=np.arange(4000, dtype=np.float32), count=np.arange(4000, dtype=np.uint16))
    data = file_data(tmp_path / "b.npz", 3000, RangeRelative(0.01), None, None)
    assert len(data) == 3000
    assert data.types() == {"value": "float4", "count": "int4"}
    np.savez(tmp_path / "c.npz", values=np.zeros(3000), bits=np.zeros(3000, np.float16))
    with pytest.raises(DDStoreError, match="float16"):
        file_data(tmp_path / "c.npz", None, RangeRelative(0.01), None, None).types()
