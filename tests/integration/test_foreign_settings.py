"""What a role or a database has set, and what a user calls things, changes nothing of what is stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier, Literal

from ddstore import Absolute, Lossless, Series, connect

START = np.datetime64("2024-03-01T00:00:00", "us")
OPTIONS = " ".join(
    f"-c {setting}"
    for setting in (
        "datestyle=SQL,DMY",
        "intervalstyle=iso_8601",
        "extra_float_digits=-15",
        "client_encoding=LATIN1",
        "timezone=America/New_York",
        "bytea_output=escape",
    )
)
# What SQL, psycopg's placeholders, LIKE patterns or format() could trip over.
NAMES = [
    "100% sure",
    "%s",
    "%(x)s",
    'a "quoted" one',
    "it's",
    "UPPER lower",
    "Grün 温度",
    "back\\slash",
    "{braces}",
    "%%",
]


def _seconds(n: int, start: int = 0) -> NDArray[Any]:
    return START + np.arange(start, start + n) * np.timedelta64(1, "s")


def test_keys_do_not_depend_on_the_sessions_settings(database_url: str) -> None:
    hostile = make_conninfo(database_url, options=OPTIONS)
    with connect(database_url) as store, connect(hostile) as other:
        store.create_table(
            "m",
            time="t",
            key={"day": "date", "span": "interval", "level": "float8", "at": "timestamptz"},
            columns={"v": Lossless()},
            min_rows=10,
        )
        for number, session in enumerate((store, other, store, other)):
            with session.connection() as conn:
                conn.execute(
                    SQL(
                        """INSERT INTO m SELECT timestamptz '2024-03-01Z' + g * interval '1 s', '2024-03-04',
                                  '1 day 2 h', '0.30000000000000004', '2024-03-04 05:06:07.89Z', g
                           FROM generate_series({}, {}) g"""
                    ).format(Literal(100 * number + 1), Literal(100 * number + 100))
                )
            report = session.compact(train="never")
            assert [series.series for series in report.series] == [
                ("2024-03-04", "1 day 02:00:00", "0.30000000000000004", "2024-03-04 05:06:07.89+00")
            ]
        with store.connection() as conn:
            jobs = conn.execute("SELECT count(*) FROM ddstore.job").fetchone()
        assert jobs == (1,)
        for session in (store, other):
            frame = session.read(table="m", key={"level": 0.1 + 0.2})
            assert np.array_equal(frame.columns["v"], np.arange(1.0, 401.0))
            (stats,) = session.stats()
            assert (stats.series, stats.rows_cold) == (1, 400)
            assert session.verify().ok
        with other.connection() as conn:
            seen = conn.execute("SELECT DISTINCT series->>0 FROM ddstore.segments").fetchall()
        assert seen == [("2024-03-04",)]
    with psycopg.connect(hostile) as plain:  # anybody's session, not one of ours
        query = "SELECT DISTINCT series->>0, series->>1, series->>2 FROM ddstore.segments"
        assert plain.execute(query).fetchall() == [("2024-03-04", "1 day 02:00:00", "0.30000000000000004")]


@pytest.fixture
def ascii_url(server_url: str) -> Iterator[str]:
    """A database that does not know what its characters mean."""
    name = "ddstore_sql_ascii"
    with psycopg.connect(server_url, autocommit=True) as conn:
        conn.execute(
            SQL(
                "CREATE DATABASE {} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc"
                " LC_COLLATE 'C' LC_CTYPE 'C'"
            ).format(Identifier(name))
        )
    yield make_conninfo(server_url, dbname=name)
    with psycopg.connect(server_url, autocommit=True) as conn:
        conn.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


def test_a_database_without_an_encoding_works(ascii_url: str) -> None:
    values = np.sin(np.arange(2000) / 50)
    with connect(ascii_url) as store:
        store.migrate()
        store.write(Series("Grün 温度", _seconds(2000), values, max_error=Absolute(0.01)))
        store.compact(train="never")
        assert np.abs(store.read("Grün 温度").values - values).max() <= 0.01
        assert store.stats()[0].columns[0].series == ("Grün 温度",)
        assert store.verify().ok
        store.release("ddstore.samples")
        with store.connection() as conn:
            assert conn.execute("SELECT DISTINCT series FROM ddstore.samples").fetchall() == [("Grün 温度",)]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_goes_through_every_verb(database_url: str, extension_missing: str | None, name: str) -> None:
    values = np.round(20 + np.sin(np.arange(600) / 40), 3)
    quoted = '"' + name.replace('"', '""') + '"'
    with connect(database_url) as store:
        table = store.create_table(
            f"{quoted}.{quoted}",
            time=f"t {name}",
            key=[f"k {name}"],
            columns={f"v {name}": Absolute(0.01), f"n {name}": ("text", Lossless())},
            segment_rows=256,
            min_rows=10,
        )
        data = {
            f"t {name}": _seconds(600),
            f"k {name}": [name] * 300 + ["plain"] * 300,
            f"v {name}": values,
            f"n {name}": [f"{name} {i}" for i in range(600)],
        }
        label = f"{quoted}.{quoted}"
        assert store.write(data, table=label).rows == 600
        report = store.compact(label, train="never")
        assert (report.rows, report.failed) == (600, [])
        assert {series.series for series in report.series} == {(name,), ("plain",)}
        frame = store.read(table=label, key={f"k {name}": name})
        assert np.abs(frame.columns[f"v {name}"] - values[:300]).max() <= 0.01
        assert list(frame.columns[f"n {name}"]) == data[f"n {name}"][:300]
        if extension_missing is None:
            with store.connection() as conn:
                query = SQL("SELECT count(*), min({n}) FROM {t} WHERE {k} = {key} AND {t0} >= '2024-03-01Z'").format(
                    n=Identifier(f"n {name}"),
                    t=table.identifier,
                    k=Identifier(f"k {name}"),
                    key=Literal(name),
                    t0=Identifier(f"t {name}"),
                )
                assert conn.execute(query).fetchone() == (300, f"{name} 0")
        (stats,) = store.stats(label)
        assert {column.column for column in stats.columns} == {f"v {name}", f"n {name}"}
        assert {column.series for column in stats.columns} == {(name,), ("plain",)}
        with store.connection() as conn:
            (seen,) = conn.execute(
                "SELECT count(*) FROM ddstore.segments WHERE series = jsonb_build_array(%s::text)", [name]
            )
            assert seen == (2,)
        assert store.verify(label).ok
        assert store.release(label).rows == 600
        with store.connection() as conn:
            query = SQL("SELECT {}, {} FROM {} ORDER BY {}").format(
                Identifier(f"k {name}"), Identifier(f"n {name}"), table.identifier, Identifier(f"t {name}")
            )
            assert conn.execute(query).fetchall() == list(zip(data[f"k {name}"], data[f"n {name}"], strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_series_may_have_any_name(database_url: str, name: str) -> None:
    values = np.round(np.sin(np.arange(2000) / 40), 3)
    with connect(database_url) as store:
        store.write(Series(name, _seconds(2000), values, max_error=Absolute(0.01)))
        store.compact(train="never")
        assert len(store.read(name)) == 2000
        store.set_max_error(Absolute(0.1), series=name)
        assert store.read(name, start=START + 10).max_error == Absolute(0.1)
        assert store.release("ddstore.samples").rows == 2000
