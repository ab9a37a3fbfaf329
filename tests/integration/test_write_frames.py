"""Frames of every library into managed tables and back, types kept, mistakes refused before anything is written."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from psycopg import sql as pgsql

from ddstore import Absolute, Frame, Lossless, Relative, Store, connect
from ddstore.errors import InvalidSeries, SchemaMismatch

ROWS = 3000
START = np.datetime64("2024-03-01T00:00:00", "us")


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A store with the table plant.sensors."""
    with connect(database_url) as opened:
        opened.create_table(
            "plant.sensors",
            time="ts",
            key={"device": "text", "unit": "int2"},
            columns={
                "temp": Absolute(0.01),
                "rpm": ("int4", Relative(1e-3)),
                "level": ("float4", Lossless()),
                "on": ("bool", Lossless()),
                "state": ("text", Lossless()),
                "day": ("date", Lossless()),
                "tag": ("uuid", Lossless()),
                "extra": ("jsonb", Lossless()),
            },
            segment_rows=500,
        )
        yield opened


def plant(n: int = ROWS) -> dict[str, Any]:
    """Rows for plant.sensors with NULLs in every value column."""
    rng = np.random.default_rng(3)
    null = rng.random(n) < 0.1
    return {
        "ts": START + np.arange(n) * np.timedelta64(1, "s"),
        "device": np.where(np.arange(n) % 3 == 0, "pump", "vält").astype(object),
        "unit": (np.arange(n) % 2).astype(np.int16),
        "temp": np.ma.masked_array(rng.normal(20, 1, n), null),
        "rpm": np.ma.masked_array(rng.integers(900, 1100, n).astype(np.int32), null),
        "level": np.ma.masked_array(rng.normal(0, 1, n).astype(np.float32), null),
        "on": np.ma.masked_array(rng.random(n) < 0.5, null),
        "state": [None if x else f"state {i % 7}" for i, x in enumerate(null)],
        "day": np.ma.masked_array(START.astype("datetime64[D]") + np.arange(n) % 9, null),
        "tag": [None if x else uuid.UUID(int=i) for i, x in enumerate(null)],
        "extra": [None if x else f'{{"i": {i}}}' for i, x in enumerate(null)],
    }


def check(frame: Frame, data: dict[str, Any], *, nan_for_null: bool = False) -> None:
    """``frame`` holds the rows of ``data``, each column within its bound; ``nan_for_null`` as pandas has it."""
    assert frame.time_zone == "UTC"
    assert np.array_equal(frame.time, data["ts"])
    assert frame.keys["device"].tolist() == data["device"].tolist()
    assert frame.keys["unit"].dtype == np.int16
    assert np.array_equal(frame.keys["unit"], data["unit"])
    bounds = {"temp": lambda x: 0.01, "rpm": lambda x: 1e-3 * abs(x), "level": lambda x: 0}
    for name, given in list(data.items())[3:]:
        read = frame.columns[name]
        if nan_for_null and read.dtype.kind == "f":
            assert name not in frame.valid
            valid = ~np.isnan(read)
        else:
            valid = frame.valid[name]
        if isinstance(given, list):
            assert valid.tolist() == [x is not None for x in given]
            texts = [None if x is None else str(x) for x in given]
            assert read.tolist() == texts
            continue
        assert np.array_equal(valid, ~given.mask)
        assert read.dtype == given.dtype
        if name in bounds:
            error = np.abs(read[valid].astype(float) - given.data[valid].astype(float))
            assert (error <= bounds[name](given.data[valid].astype(float))).all()
        else:
            assert np.array_equal(read[valid], given.data[valid])


@pytest.mark.parametrize("compacted", [False, True])
def test_every_type_comes_back(store: Store, compacted: bool) -> None:
    data = plant()
    assert store.write(data, table="plant.sensors").rows == ROWS
    if compacted:
        report = store.compact("plant.sensors", train="never", all=True)
        assert (report.rows, report.failed) == (ROWS, [])
    check(store.read(table="plant.sensors"), data)


def test_hot_and_cold_merge(store: Store) -> None:
    data = plant()
    half = {name: values[: ROWS // 2] for name, values in data.items()}
    rest = {name: values[ROWS // 2 :] for name, values in data.items()}
    store.write(half, table="plant.sensors")
    store.compact("plant.sensors", train="never", all=True)
    store.write(rest, table="plant.sensors")
    check(store.read(table="plant.sensors"), data)
    part = store.read(table="plant.sensors", key={"device": "pump"}, columns=["rpm", "state"], start=data["ts"][600])
    wanted = (data["device"] == "pump") & (np.arange(ROWS) >= 600)
    assert np.array_equal(part.time, data["ts"][wanted])
    assert list(part.columns) == ["rpm", "state"]
    one = store.read(table="plant.sensors", key=("pump", 1), columns=["on"], end=data["ts"][2000])
    assert np.array_equal(
        one.time, data["ts"][(data["device"] == "pump") & (data["unit"] == 1) & (np.arange(ROWS) < 2000)]
    )
    assert len(store.read(table="plant.sensors", key={"device": None})) == 0


def _pandas(frame: Frame) -> Any:
    pytest.importorskip("pandas")
    return frame.to_pandas()


def _pandas_index(frame: Frame) -> Any:
    pytest.importorskip("pandas")
    return frame.to_pandas().set_index("ts")


def _polars(frame: Frame) -> Any:
    pytest.importorskip("polars")
    return frame.to_polars()


def _arrow(frame: Frame) -> Any:
    pytest.importorskip("pyarrow")
    return frame.to_arrow()


def _stream(frame: Frame) -> Any:
    class Stream:
        def __init__(self, table: Any) -> None:
            self._table = table

        def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
            return self._table.__arrow_c_stream__(requested_schema)

    return Stream(_arrow(frame))


@pytest.mark.parametrize("library", [_pandas, _pandas_index, _polars, _arrow, _stream, lambda frame: frame])
def test_what_is_read_can_be_written(store: Store, library: Callable[[Frame], Any]) -> None:
    data = plant(300)
    store.write(data, table="plant.sensors")
    frame = store.read(table="plant.sensors")
    store.create_table(
        "copy",
        time="ts",
        key={"device": "text", "unit": "int2"},
        columns={
            "temp": Lossless(),
            "rpm": ("int4", Lossless()),
            "level": ("float4", Lossless()),
            "on": ("bool", Lossless()),
            "state": ("varchar", Lossless()),
            "day": ("date", Lossless()),
            "tag": ("uuid", Lossless()),
            "extra": ("jsonb", Lossless()),
        },
    )
    assert store.write(library(frame), table="copy").rows == 300
    check(store.read(table="copy"), data, nan_for_null=library in (_pandas, _pandas_index))


@pytest.mark.parametrize("time_type", ["int8", "timestamp"])
def test_other_time_types(store: Store, time_type: str) -> None:
    store.create_table("t", time="t", columns={"x": Lossless()}, time_type=time_type, segment_rows=100, min_rows=10)
    time = np.arange(1000, dtype=np.int64) * 1000 + 1_700_000_000_000_000_000 + (3 if time_type == "int8" else 0)
    store.write({"t": time, "x": np.arange(1000.0)}, table="t")
    store.compact("t", train="never", all=True)
    frame = store.read(table="t", start=int(time[10]), end=time[20].item())
    assert frame.time_zone is None
    expected = time if time_type == "int8" else time.view("datetime64[ns]").astype("datetime64[us]")
    assert np.array_equal(frame.time, expected[10:20])
    assert frame.columns["x"].tolist() == list(range(10, 20))
    moment = np.datetime64(int(time[990]), "ns")
    assert len(store.read(table="t", start=moment)) == 10
    if time_type == "int8":
        store.write({"t": time.view("datetime64[ns]"), "x": np.arange(1000.0)}, table="t")
        assert np.array_equal(store.read(table="t").time, np.repeat(time, 2))


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"tepm": [1.0] * 10}, SchemaMismatch, "Did you mean 'temp'"),
        ({"temp": None}, SchemaMismatch, "no column 'temp'"),
        ({"temp": [1.0] * 9}, InvalidSeries, "9 rows"),
        ({"temp": ["warm"] * 10}, SchemaMismatch, "text data does not go into a column of type float8"),
        ({"rpm": [2**31] + [1] * 9}, InvalidSeries, r"column 'rpm', row 0.*astype"),
        ({"rpm": [1.0] * 9 + [1.5]}, InvalidSeries, "row 9"),
        ({"rpm": [1.0] * 9 + [float("nan")]}, InvalidSeries, "row 9"),
        ({"level": np.full(10, 0.1)}, InvalidSeries, "float4"),
        ({"temp": np.array([2**53 + 1] * 10)}, InvalidSeries, "float8"),
        ({"tag": ["no"] * 10}, InvalidSeries, "not a UUID"),
        ({"state": ["a\0b"] * 10}, InvalidSeries, "NUL"),
        ({"extra": ["{"] * 10}, InvalidSeries, "json"),
        ({"ts": [None] * 10}, InvalidSeries, "time is missing"),
        ({"ts": np.full(10, "NaT", "datetime64[us]")}, InvalidSeries, "NaT"),
        ({"ts": np.arange(10)}, InvalidSeries, "below 1 us"),
        ({"ts": np.full(10, -(2**61)).view("datetime64[us]")}, InvalidSeries, "range"),
        ({"ts": np.arange(10.0)}, SchemaMismatch, "timestamptz"),
        ({"temp": np.zeros((10, 2))}, InvalidSeries, "2-dimensional"),
        ({"temp": np.zeros(10, complex)}, InvalidSeries, "complex128"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(store: Store, change: Any, error: Any, said: str) -> None:
    data = {name: values for name, values in {**plant(10), **change}.items() if values is not None}
    with pytest.raises(error, match=said):
        store.write(data, table="plant.sensors")
    assert len(store.read(table="plant.sensors")) == 0


def test_unsuitable_requests(store: Store) -> None:
    with pytest.raises(InvalidSeries, match="empty"):
        store.write({name: values[:0] for name, values in plant(3).items()}, table="plant.sensors")
    with pytest.raises(InvalidSeries, match="not a table"):
        store.write([1, 2], table="plant.sensors")
    with pytest.raises(SchemaMismatch, match=r"plant\.sensors"):
        store.write(plant(3), table="plant.sensor")
    with pytest.raises(SchemaMismatch, match="where it belongs"):
        store.write(plant(3))
    for request, said in [
        ({"table": "plant.sensors", "columns": ["tmp"]}, "temp"),
        ({"table": "plant.sensors", "key": {"dev": "a"}}, "key columns are device, unit"),
        ({"table": "plant.sensors", "key": "pump"}, "1 key values for 2"),
        ({"table": "plant.sensors", "key": {"unit": "many"}}, "unit|smallint"),
        ({}, "not clear"),
        ({"name": "x", "table": "plant.sensors"}, "not clear"),
    ]:
        with pytest.raises(SchemaMismatch, match=said):
            store.read(**request)  # type: ignore[call-overload]
    with pytest.raises(InvalidSeries, match="start is not a time"):
        store.read(table="plant.sensors", start="soon")


def test_unsupported_type_is_refused_with_a_way_out(store: Store) -> None:
    store.create_table("t", time="t", columns={"x": ("numeric", Lossless())})
    with pytest.raises(SchemaMismatch, match="COPY or INSERT"):
        store.write({"t": [START], "x": [1.5]}, table="t")
    with store.connection() as conn:
        conn.execute(
            "INSERT INTO t SELECT timestamp '2024-01-01' + g * interval '1s', g / 8.0 FROM generate_series(1, 2000) g"
        )
    for _ in range(2):
        texts = store.read(table="t").columns["x"]
        assert [float(text) for text in texts] == [g / 8 for g in range(1, 2001)]
        store.compact("t", train="never", all=True)


def test_infinite_times_are_refused_not_wrapped(store: Store) -> None:
    store.create_table("t", time="t", columns={"x": Lossless()})
    with store.connection() as conn:
        conn.execute("INSERT INTO t VALUES ('infinity', 1), ('2024-01-01', 2), ('-infinity', 3)")
    with pytest.raises(InvalidSeries, match="infinity"):
        store.read(table="t")
    assert store.read(table="t", start="2000-01-01", end="2100-01-01").columns["x"].tolist() == [2]


@pytest.mark.parametrize("rows", [1, 2500])
def test_release_hands_back_every_row(store: Store, rows: int) -> None:
    data = plant(rows)
    store.write(data, table="plant.sensors")
    store.compact("plant.sensors", train="never", all=True)
    store.write({name: values[:1] for name, values in data.items()}, table="plant.sensors")
    before = store.read(table="plant.sensors")
    cold = store.stats("plant.sensors")[0].rows_cold
    with store.connection() as conn:
        query = "SELECT * FROM plant.sensors ORDER BY ts, device, unit"
        sql_before = conn.execute(query).fetchall() if store.tables()[0].cold else None
    report = store.release("plant.sensors")
    assert (report.rows, report.table) == (cold, "plant.sensors")
    with pytest.raises(SchemaMismatch, match="not a managed table"):
        store.read(table="plant.sensors")
    with store.connection() as conn:
        after = conn.execute(query).fetchall()
        assert len(after) == rows + 1
        if sql_before is not None:
            assert after == sql_before
        assert conn.execute("SELECT to_regclass('ddstore.segment_1')").fetchone() == (None,)
    # Adopted again, it reads as before: what was given back is what is stored.
    store.adopt("plant.sensors", time="ts", key=["device", "unit"])
    again = store.read(table="plant.sensors")
    assert np.array_equal(again.time, before.time)
    for name, values in before.columns.items():
        valid = before.valid.get(name)
        keep = slice(None) if valid is None else valid
        assert np.array_equal(again.columns[name][keep], values[keep])


def test_release_without_cold_rows_and_with_damage(store: Store) -> None:
    store.create_table("t", time="t", columns={"x": Lossless()}, min_rows=1)
    assert store.release("t").rows == 0
    store.adopt("t", time="t")
    store.write({"t": [START], "x": [1.0]}, table="t")
    store.compact("t", train="never", all=True)
    with store.connection() as conn:
        table = store.tables()[-1]
        column = pgsql.Identifier(f"c{table.values[0].id}_residual")
        conn.execute(pgsql.SQL("UPDATE {} SET {} = 'x'").format(table.segments_identifier, column))
    with pytest.raises(Exception, match="damaged"):
        store.release("t")
    assert store.tables()[-1].label == "public.t"
