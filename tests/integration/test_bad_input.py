"""Bad input, one test per kind: a typed error that names the place and the remedy, and nothing written."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from psycopg.sql import SQL, Identifier

from ddstore import Absolute, Bound, Lossless, RangeRelative, Relative, Series, Store, connect
from ddstore.errors import (
    BoundConflict,
    CorruptSegment,
    DDStoreError,
    InvalidBound,
    InvalidSeries,
    NotInstalled,
    NotPermitted,
    SchemaMismatch,
)

START = np.datetime64("2024-03-01T00:00:00", "us")
TABLE = "plant.sensors"


def _seconds(n: int) -> NDArray[Any]:
    return START + np.arange(n) * np.timedelta64(1, "s")


def _wave(n: int) -> NDArray[np.float64]:
    return np.round(20 + 5 * np.sin(np.arange(n) / 40), 4)


def _frame(n: int) -> dict[str, Any]:
    return {"t": _seconds(n), "device": ["a"] * n, "temp": _wave(n), "level": np.zeros(n, "f4"), "rpm": [5] * n}


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A table with some rows in segments and some hot, and a series with a bound."""
    with connect(database_url) as store:
        store.create_table(
            TABLE,
            time="t",
            key=["device"],
            columns={"temp": Absolute(0.05), "level": ("float4", Lossless()), "rpm": ("int4", Lossless())},
        )
        store.write(_frame(2000), table=TABLE)
        store.write(Series("pump", _seconds(2000), _wave(2000), max_error=Absolute(0.05)))
        store.compact(train="never")
        store.write(_frame(20), table=TABLE)
        yield store


def _counts(store: Store) -> dict[str, int]:
    """Rows of every table of the database, its catalog included."""
    with store.connection() as conn:
        names = conn.execute(
            """SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE c.relkind = 'r' AND n.nspname !~ '^(pg_|information_schema$)'"""
        ).fetchall()
        found = {}
        for schema, name in names:
            row = conn.execute(SQL("SELECT count(*) FROM ONLY {}").format(Identifier(schema, name))).fetchone()
            assert row is not None
            found[f"{schema}.{name}"] = row[0]
        return found


@contextmanager
def _refused(
    store: Store,
    error: type[DDStoreError],
    said: str,
    *,
    series: str | None = None,
    column: str | None = None,
    row: int | None = None,
) -> Iterator[None]:
    """The block raises ``error`` about that place, says what to do, and changes no table."""
    before = _counts(store)
    with pytest.raises(error, match=said) as caught:
        yield
    assert type(caught.value) is error
    assert (caught.value.series, caught.value.column, caught.value.row) == (series, column, row)
    assert caught.value.remedy
    assert caught.value.remedy in str(caught.value)
    for part in (series, column, row):
        assert part is None or repr(part) in str(caught.value)
    assert _counts(store) == before


def test_unsorted_and_duplicate_timestamps_are_kept(store: Store) -> None:
    time = _seconds(400)[np.random.default_rng(1).integers(0, 300, 400)]
    values = np.arange(400.0)
    store.write(Series("mixed", time, values))
    order = np.argsort(time, kind="stable")
    for _ in range(2):
        read = store.read("mixed")
        assert np.array_equal(read.time, time[order])
        assert np.array_equal(read.values, values[order])
        store.compact(all=True, train="never")
    assert store.stats("ddstore.samples")[0].rows_hot == 0


def test_lengths_that_differ(store: Store) -> None:
    with _refused(store, InvalidSeries, "3 times and 2 values", series="s"):
        store.write(Series("s", _seconds(3), [1.0, 2.0]))
    with _refused(store, InvalidSeries, "9 rows where 't' has 10", column="temp"):
        store.write(_frame(10) | {"temp": _wave(9)}, table=TABLE)


def test_unknown_tables_and_columns(store: Store) -> None:
    with _refused(store, SchemaMismatch, r"Did you mean plant\.sensors", series="plant.sensor"):
        store.write(_frame(3), table="plant.sensor")
    with _refused(store, SchemaMismatch, "Did you mean 'temp'", series=TABLE, column="tmp"):
        store.write(_frame(3) | {"tmp": _wave(3)}, table=TABLE)
    with _refused(store, SchemaMismatch, "no column 'rpm'", series=TABLE, column="rpm"):
        store.write({name: part for name, part in _frame(3).items() if name != "rpm"}, table=TABLE)
    with _refused(store, SchemaMismatch, "Did you mean pump", series="pum"):
        store.read("pum")
    with _refused(store, SchemaMismatch, "temp", series=TABLE, column="tmp"):
        store.read(table=TABLE, columns=["tmp"])
    with _refused(store, SchemaMismatch, r"Did you mean plant\.sensors", series="plant.sensor"):
        store.compact("plant.sensor")


@pytest.mark.parametrize(
    ("column", "values", "row"),
    [
        ("temp", np.array([1, 2, 2**53 + 1]), 2),
        ("level", np.array([0.5, 0.1, 0.25]), 1),
        ("rpm", np.array([1.0, 2.0, 2.5]), 2),
        ("rpm", np.array([2**31, 0, 0]), 0),
        ("rpm", np.array([1.0, -0.0, 2.0]), 1),
    ],
)
def test_a_dtype_that_would_lose_precision(store: Store, column: str, values: NDArray[Any], row: int) -> None:
    with _refused(store, InvalidSeries, r"cannot be kept exactly.*astype", column=column, row=row):
        store.write(_frame(3) | {column: values}, table=TABLE)
    with _refused(store, InvalidSeries, "bigint", series="s", column="values", row=1):
        store.write(Series("s", _seconds(3), np.array([1, 2**53 + 1, 3])))


@pytest.mark.parametrize("kind", [Absolute, Relative, RangeRelative])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), 0, -0.0, "0.1", None, True])
def test_a_max_error_that_is_none(store: Store, kind: type[Bound], value: Any) -> None:
    with _refused(store, InvalidBound, r"Lossless\(\)"):
        store.write(Series("s", _seconds(3), _wave(3), max_error=kind(value)))
    with _refused(store, InvalidBound, "Absolute", series="s"):
        store.write(Series("s", _seconds(3), _wave(3), max_error=value if value is not None else 0.1))


def test_a_second_write_with_another_max_error(store: Store) -> None:
    with _refused(
        store, BoundConflict, r"Absolute\(0.05\).*Absolute\(0.1\).*set_max_error", series="pump", column="value"
    ):
        store.write(Series("pump", _seconds(3), _wave(3), max_error=Absolute(0.1)))
    with _refused(store, BoundConflict, r"Lossless\(\)", series="pump", column="value"):
        store.write(Series("pump", _seconds(3), _wave(3), max_error=Lossless()))
    assert len(store.read("pump")) == 2000


def test_a_bound_below_float_resolution_is_exact_and_said(store: Store) -> None:
    values = np.random.default_rng(5).normal(1e9, 1, 2000)
    store.write(Series("fine", _seconds(2000), values, max_error=Absolute(1e-30)))
    store.compact(train="never")
    assert store.read("fine").values.tobytes() == values.tobytes()
    (column,) = [c for c in store.stats("ddstore.samples")[0].columns if c.series == ("fine",)]
    assert column.exact_segments == 1
    assert column.note is not None
    assert "finer than the values' own grid or resolution" in column.note


def test_an_empty_series(store: Store) -> None:
    with _refused(store, InvalidSeries, "empty", series="s"):
        store.write(Series("s", [], []))
    with _refused(store, InvalidSeries, "empty", series="pump"):
        store.write(store.read("pump", start="2030-01-01"))
    with _refused(store, InvalidSeries, "empty"):
        store.write({name: part[:0] for name, part in _frame(3).items()}, table=TABLE)


@pytest.mark.parametrize("time", ["-5000-01-01", "300000-01-01", "NaT"])
def test_time_outside_postgresqls_range(store: Store, time: str) -> None:
    moments = _seconds(3).astype("datetime64[s]")
    moments[1] = np.datetime64(time, "s")
    said = "NaT" if time == "NaT" else "range"
    with _refused(store, InvalidSeries, said, series="s", column="time", row=1):
        store.write(Series("s", moments, _wave(3)))
    with _refused(store, InvalidSeries, said, column="t", row=1):
        store.write(_frame(3) | {"t": moments}, table=TABLE)


def test_a_database_without_a_catalog(empty_database_url: str) -> None:
    with connect(empty_database_url) as store, _refused(store, NotInstalled, "ddstore migrate"):
        store.write(Series("s", _seconds(3), _wave(3)))


def test_a_database_without_the_extension(plain_database_url: str, ordinary_role: Callable[[str], str]) -> None:
    with connect(plain_database_url) as store:
        store.write(Series("s", _seconds(2000), _wave(2000), max_error=Absolute(0.05)))
        assert store.compact(train="never").failed == []
        assert np.abs(store.read("s").values - _wave(2000)).max() <= 0.05
        assert store.tables()[0].cold is None
        assert store.doctor().extension_version is None
        assert store.verify().ok
        # What cannot work is an error that says whom to ask.
        with connect(ordinary_role(plain_database_url)) as other:
            before = _counts(store)
            with pytest.raises((NotPermitted, NotInstalled)) as caught:
                other.enable_extension()
            assert caught.value.remedy
            assert _counts(store) == before


def test_a_role_without_rights(store: Store, database_url: str, ordinary_role: Callable[[str], str]) -> None:
    with connect(ordinary_role(database_url)) as other:
        verbs: list[Callable[[], object]] = [
            lambda: other.write(Series("s", _seconds(3), _wave(3))),
            lambda: other.write(_frame(3), table=TABLE),
            lambda: other.read("pump"),
            lambda: other.read(table=TABLE),
            lambda: other.compact(),
            lambda: other.stats(),
            lambda: other.verify(),
            lambda: other.release(TABLE),
            lambda: other.create_table("public.mine", time="t", columns={"v": Lossless()}),
            lambda: other.set_max_error(Absolute(1), series="pump"),
            lambda: other.set_max_error(Absolute(1), table=TABLE, column="temp"),
        ]
        before = _counts(store)
        for verb in verbs:
            with pytest.raises(NotPermitted) as caught:
                verb()
            assert caught.value.remedy is not None
            assert "Connect as a role that owns" in caught.value.remedy
        assert _counts(store) == before


@pytest.mark.parametrize("train", ["auto", "always"])
def test_torch_missing_when_training_is_asked_for(store: Store, monkeypatch: pytest.MonkeyPatch, train: Any) -> None:
    for name in [name for name in sys.modules if name.startswith("ddstore.model")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("ddstore.model", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    values = np.random.default_rng(2).normal(0, 1000, 40_000)
    store.write(Series("long", _seconds(40_000), values, max_error=Absolute(1e-6)))
    report = store.compact("ddstore.samples", train=train, segment_rows=4096, all=True)
    assert report.rows == 40_000
    assert any("pip install 'ddstore[train]'" in note for note in report.notes)
    assert {mode for series in report.series for mode in series.modes} <= {"lattice", "constant", "raw"}
    assert np.abs(store.read("long").values - values).max() <= 1e-6


def test_a_damaged_segment(store: Store, extension_missing: str | None) -> None:
    table = next(t for t in store.tables() if t.label == TABLE)
    store.write({**_frame(2000), "device": ["b"] * 2000}, table=TABLE)
    store.compact(train="never")
    column = Identifier(f"c{table.value('temp').id}_residual")
    with store.connection() as conn:
        row = conn.execute(
            SQL("UPDATE {s} SET {c} = set_byte({c}, 30, get_byte({c}, 30) # 1) WHERE k2 = 'a' RETURNING id").format(
                s=table.segments_identifier, c=column
            )
        ).fetchone()
    assert row is not None
    with _refused(store, CorruptSegment, f"segment {row[0]} of ddstore.segment_", series=TABLE, column="temp"):
        store.read(table=TABLE)
    assert len(store.read(table=TABLE, key="b")) == 2000
    assert len(store.read(table=TABLE, key="a", columns=["rpm"])) == 2020
    report = store.verify()
    assert [(d.table, d.id, d.series, d.column) for d in report.damaged] == [(TABLE, row[0], ("a",), "temp")]
    with _refused(store, CorruptSegment, f"segment {row[0]} of", series=TABLE, column="temp"):
        store.release(TABLE)
    if extension_missing is None:
        with _refused(store, CorruptSegment, f"segment {row[0]}"), store.connection() as conn:
            conn.execute("SELECT temp FROM plant.sensors WHERE device = 'a'")
        with store.connection() as conn:
            found = conn.execute("SELECT count(temp), sum(rpm) FROM plant.sensors WHERE device = 'b'").fetchone()
        assert found == (2000, 10_000)
