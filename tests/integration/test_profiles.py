"""Profiles, from the policy of a table to the bytes of its segments, and what statistics say of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from psycopg.sql import SQL

from ddstore import (
    Absolute,
    Bound,
    InvalidSeries,
    Lossless,
    NotPermitted,
    Profile,
    Relative,
    SchemaMismatch,
    Store,
    _native,
    connect,
)
from ddstore.codec import segment
from ddstore.codec.format import Coder, Mode
from ddstore.compact import encode, train
from ddstore.db.catalog import ManagedTable
from fix_cli import Cli, run_cli
from fix_compact import Twins

ROWS = 6000
BOUNDS: dict[str, tuple[str, Bound]] = {
    "temp": ("float8", Absolute(0.05)),
    "rpm": ("float4", Relative(1e-3)),
    "count": ("int4", Lossless()),
    "raw": ("float8", Lossless()),
}


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A store on a fresh database."""
    with connect(database_url) as opened:
        yield opened


def _moments(n: int) -> np.ndarray[Any, Any]:
    return np.datetime64("2024-03-01", "us") + np.arange(n) * np.timedelta64(1, "s")


def _frame(rows: int = ROWS) -> dict[str, Any]:
    """One device's rows: NULLs, NaN, -0.0 and subnormals among them."""
    rng = np.random.default_rng(7)
    t = np.arange(rows)
    temp = np.round(20 + np.sin(t / 90) + rng.normal(0, 0.1, rows), 2)
    raw = rng.normal(0, 1, rows)
    raw[::97], raw[1::97], raw[2::97] = np.nan, -0.0, 5e-324
    return {
        "time": _moments(rows),
        "device": ["a"] * rows,
        "temp": np.ma.masked_array(temp, t % 11 == 0),
        "rpm": (1000 + 100 * np.sin(t / 400)).astype(np.float32),
        "count": np.cumsum(rng.integers(0, 4, rows)).astype(np.int32),
        "raw": raw,
    }


def _assert_within(frame: dict[str, Any], read: dict[str, np.ndarray[Any, Any]], valid: np.ndarray[Any, Any]) -> None:
    temp = frame["temp"]
    assert np.array_equal(valid, ~np.ma.getmaskarray(temp))
    assert np.abs(read["temp"] - temp.data)[valid].max() <= 0.05
    rpm = frame["rpm"].astype(np.float64)
    assert (np.abs(read["rpm"].astype(np.float64) - rpm) <= 1e-3 * np.abs(rpm)).all()
    assert np.array_equal(read["count"], frame["count"])
    assert read["raw"].tobytes() == frame["raw"].tobytes()


@pytest.mark.parametrize("profile", list(Profile))
def test_a_table_of_each_profile(store: Store, profile: Profile, extension_missing: str | None) -> None:
    created = store.create_table("plant", time="time", key=["device"], columns=BOUNDS, profile=profile.value)
    assert (created.profile, created.segment_rows) == (profile, None)
    frame = _frame()
    store.write(frame, table="plant")
    report = store.compact(train="never", segment_rows=2500, all=True)
    assert (report.rows, report.segments, report.failed) == (ROWS, 3, [])

    found = store.read(table="plant", key="a")
    _assert_within(frame, found.columns, found.valid["temp"])
    if extension_missing is None:
        with store.connection() as conn:
            cursor = conn.cursor(binary=True)  # floats as they are, not as their text
            rows = cursor.execute('SELECT temp, rpm, "count", raw FROM plant ORDER BY time').fetchall()
        columns = dict(zip(BOUNDS, zip(*rows, strict=True), strict=True))
        read = {name: np.array(column, frame[name].dtype) for name, column in columns.items()}
        _assert_within(frame, read, np.array([value is not None for value in columns["temp"]]))
    assert store.verify().ok
    _assert_stats_say_what_the_bytes_say(store, created)
    with store.connection() as conn:
        assert conn.execute("SELECT profile FROM ddstore.compaction").fetchall() == [(profile.value,)]


def _assert_stats_say_what_the_bytes_say(store: Store, table: ManagedTable) -> None:
    (stats,) = store.stats(table.label)
    assert (stats.profile, stats.segment_rows) == (table.profile, table.profile.segment_rows)
    for column in stats.columns:
        prefix = f"c{table.value(column.column).id}"
        with store.connection() as conn:
            stored = conn.execute(
                f"SELECT n, {prefix}_residual, {prefix}_latents FROM {table.segments}".encode()
            ).fetchall()
        names = [(Mode(r[1] & 15).name.lower(), Coder(r[1] >> 4).name.lower()) for _, r, _ in stored]
        assert {(c.mode, c.coder): c.segments for c in column.codings} == Counter(names)
        peeked = [_native.peek_column(residual) for _, residual, _ in stored]
        assert column.escapes == sum(info["escapes"] for info in peeked) == sum(c.escapes for c in column.codings)
        assert column.exact_segments == sum(info["exact"] for info in peeked)
        assert column.rows == sum(n for n, _, _ in stored) == ROWS
        assert column.bytes == sum(len(residual) + len(latents or b"") for _, residual, latents in stored)
        assert column.bits_per_sample == pytest.approx(8 * column.bytes / ROWS)
        assert sum(coding.share for coding in column.codings) == pytest.approx(1)
    assert {column.column for column in stats.columns} == set(BOUNDS)
    with store.connection() as conn:
        listed = conn.execute(
            "SELECT relation::text, series, column_name::text, mode, coder, segments, rows, bytes, escapes"
            " FROM ddstore.codings"
        ).fetchall()
    assert {(tuple(row[1]), *row[2:]) for row in listed if row[0] == table.name} == {
        (c.series, c.column, Mode[g.mode.upper()], Coder[str(g.coder).upper()], g.segments, g.rows, g.bytes, g.escapes)
        for c in stats.columns
        for g in c.codings
    }


@pytest.fixture
def profiles(monkeypatch: pytest.MonkeyPatch) -> list[Profile]:
    """The profile of every column that is encoded from now on, by the compactor or on trial."""
    asked: list[Profile] = []

    def encode_column(*arguments: Any, profile: Profile, **named: Any) -> segment.EncodedColumn:
        asked.append(profile)
        return segment.encode_column(*arguments, profile=profile, **named)

    monkeypatch.setattr(encode, "encode_column", encode_column)
    monkeypatch.setattr(train, "encode_column", encode_column)
    return asked


def test_the_profile_reaches_the_codec(store: Store, profiles: list[Profile]) -> None:
    store.create_table("plant", time="time", key=["device"], columns=BOUNDS, profile=Profile.ARCHIVE, segment_rows=1000)
    store.write(_frame(2000), table="plant")
    store.compact(train="never")
    assert profiles == [Profile.ARCHIVE] * 8
    profiles.clear()
    later = _frame(4000)
    store.write({**later, "time": later["time"] + np.timedelta64(1, "D")}, table="plant")
    store.compact(profile="fast", train="always", train_seconds=1)
    assert profiles == [Profile.FAST] * 16
    profiles.clear()
    store.write({**later, "time": later["time"] + np.timedelta64(2, "D")}, table="plant")
    store.compact(profile=Profile.BALANCED, train_seconds=5)  # on trial first, then for good
    assert len(profiles) > 16
    assert set(profiles) == {Profile.BALANCED}
    with store.connection() as conn:
        assert conn.execute("SELECT profile FROM ddstore.compaction").fetchall() == [("balanced",)]


def _cut(store: Store, table: str, **options: Any) -> list[int]:
    """Compact a table and return the rows of the segments this wrote."""
    (managed,) = [t for t in store.tables() if t.label == table]
    query = SQL("SELECT n FROM {} WHERE id > %s ORDER BY id").format(managed.segments_identifier)
    with store.connection() as conn:
        row = conn.execute(SQL("SELECT coalesce(max(id), 0) FROM {}").format(managed.segments_identifier)).fetchone()
    assert store.compact(table, train="never", **options).failed == []
    with store.connection() as conn:
        return [n for (n,) in conn.execute(query, row)]


def _fill(store: Store, rows: int) -> None:
    with store.connection() as conn:
        conn.execute(
            "INSERT INTO t SELECT timestamptz '2024-01-01' + g * interval '1 s', 7 FROM generate_series(1, %s) g",
            [rows],
        )


@pytest.mark.parametrize("profile", list(Profile))
def test_full_segments_are_as_long_as_the_profile_says(store: Store, profile: Profile) -> None:
    store.create_table("t", time="time", columns={"v": ("int4", Lossless())}, profile=profile)
    with store.connection() as conn:
        assert conn.execute("SELECT segment_rows FROM ddstore.tables").fetchone() == (profile.segment_rows,)
        assert conn.execute("SELECT segment_rows FROM ddstore.managed_table").fetchone() == (None,)
    _fill(store, profile.segment_rows + 1500)
    assert _cut(store, "public.t") == [profile.segment_rows, 1500]


def test_what_is_said_explicitly_wins(store: Store) -> None:
    store.create_table("t", time="time", columns={"v": ("int4", Lossless())}, profile="fast", segment_rows=2000)
    with store.connection() as conn:
        assert conn.execute("SELECT segment_rows FROM ddstore.tables").fetchone() == (2000,)
    assert store.stats("t")[0].segment_rows == 2000
    _fill(store, 5000)
    assert _cut(store, "public.t", profile="archive") == [2000, 2000]  # a rest below min_rows stays hot
    assert _cut(store, "public.t", segment_rows=300, min_rows=100) == [300, 300, 300, 100]
    store.set_policy("t", segment_rows=0)
    _fill(store, 70_000)
    assert _cut(store, "public.t", profile="balanced") == [65536, 70_000 - 65536]  # the run's profile, not the table's


def test_a_policy_holds_for_segments_to_come(store: Store) -> None:
    store.create_table("plant", time="time", key=["device"], columns=BOUNDS)
    frame = _frame()
    store.write(frame, table="plant")
    store.compact(train="never")
    table = store.tables()[0]
    everything = SQL("SELECT x::text FROM {} AS x ORDER BY id").format(table.segments_identifier)
    with store.connection() as conn:
        before = conn.execute(everything).fetchall()

    changed = store.set_policy("plant", profile="archive", segment_rows=1000, min_rows=50, hot_for=timedelta(days=9))
    assert (changed.profile, changed.segment_rows, changed.min_rows) == (Profile.ARCHIVE, 1000, 50)
    assert changed.hot_for == timedelta(days=9)
    again = store.set_policy("plant", segment_rows=0)
    assert (again.profile, again.segment_rows, again.min_rows, again.hot_for) == (
        Profile.ARCHIVE,
        None,
        50,
        timedelta(days=9),
    )
    assert again.full_segment_rows == Profile.ARCHIVE.segment_rows
    assert store.set_policy("plant") == again
    with store.connection() as conn:
        assert conn.execute(everything).fetchall() == before
        # What a DBA does in psql.
        conn.execute(
            "UPDATE ddstore.managed_table SET profile = 'fast', segment_rows = 1024, hot_for = '0'"
            " WHERE relation = 'plant'::regclass"
        )
    store.write({**frame, "time": frame["time"] + np.timedelta64(1, "D")}, table="plant")
    assert _cut(store, "public.plant") == [1024] * 5 + [ROWS - 5 * 1024]
    with store.connection() as conn:
        assert conn.execute(everything).fetchmany(len(before)) == before
        assert conn.execute("SELECT profile FROM ddstore.compaction").fetchall() == [("fast",)]
    assert store.verify().ok


def test_a_policy_may_change_under_a_compaction(twins: Twins) -> None:
    """Rows that were encoded under the old one go through: no less safe, and the next run has the new one."""
    twins.insert(1, 100)

    def change() -> None:
        twins.conn.execute(
            "UPDATE ddstore.managed_table SET profile = 'archive', segment_rows = 32, min_rows = 9, hot_for = '1 s'"
        )
        twins.conn.commit()

    twins.between(change)
    report = twins.compact()
    assert (report.conflicts, report.failed, twins.hot) == (0, [], 0)
    twins.insert(101, 164)
    assert twins.compact().segments == 2
    assert twins.differences() == []


@pytest.mark.parametrize(
    "policy",
    [{"segment_rows": 5}, {"segment_rows": -1}, {"segment_rows": 2**40}, {"min_rows": 0}, {"hot_for": timedelta(-1)}],
)
def test_a_policy_out_of_range(store: Store, policy: dict[str, Any]) -> None:
    table = store.create_table("t", time="time", columns={"v": Lossless()}, segment_rows=64)
    with pytest.raises(SchemaMismatch, match="out of its range") as caught:
        store.set_policy("t", **policy)
    assert caught.value.series == "public.t"
    assert "16 to 1048576" in (caught.value.remedy or "")
    found = store.tables()[0]
    assert (found.segment_rows, found.min_rows, found.hot_for) == (64, table.min_rows, table.hot_for)


def test_a_profile_that_there_is_not(store: Store) -> None:
    store.create_table("t", time="time", columns={"v": Lossless()})
    with store.connection() as conn:
        conn.execute("CREATE TABLE mine (time timestamptz NOT NULL, v float8)")
    verbs: list[Callable[[], object]] = [
        lambda: store.create_table("u", time="time", columns={"v": Lossless()}, profile="fastest"),
        lambda: store.adopt("mine", time="time", profile="fastest"),
        lambda: store.set_policy("t", profile="fastest"),
        lambda: store.compact(profile="fastest"),
    ]
    for verb in verbs:
        with pytest.raises(InvalidSeries, match="'fastest' is unknown") as caught:
            verb()
        assert caught.value.remedy == "Use fast, balanced or archive."
    assert [(table.label, table.profile) for table in store.tables()] == [("public.t", Profile.BALANCED)]


def test_a_policy_is_its_owners(store: Store, ordinary_role: Callable[[str], str]) -> None:
    store.create_table("t", time="time", columns={"v": Lossless()})
    with connect(ordinary_role(store.url)) as other:
        assert other.set_policy("t").profile is Profile.BALANCED
        with pytest.raises(NotPermitted):
            other.set_policy("t", profile="fast")
    assert store.tables()[0].profile is Profile.BALANCED


def test_on_the_command_line(cli: Cli) -> None:
    created = cli("create-table", "t", "--column", "v:int4", "--profile", "archive", "--json").json
    assert (created["profile"], created["segment_rows"]) == ("archive", Profile.ARCHIVE.segment_rows)
    cli("query", "--write", "INSERT INTO t SELECT timestamptz '2024-01-01' + g * interval '1 s', g % 9"
        " FROM generate_series(1, 3000) g")  # fmt: skip
    assert cli("compact", "--once", "--train", "never", "--profile", "fast", "--json").json["rows"] == 3000
    assert cli("query", "SELECT profile FROM ddstore.compaction", "--json").json == {"profile": "fast"}
    assert "archive" in cli("policy", "t").out
    assert "(the profile's)" in cli("policy", "t").out
    changed = cli("policy", "t", "--segment-rows", "1024", "--min-rows", "64", "--hot-for", "2h", "--json").json
    assert changed == {
        "table": "public.t",
        "profile": "archive",
        "segment_rows": 1024,
        "min_rows": 64,
        "hot_for_seconds": 7200.0,
        "unique_check": "hot",
    }
    back = cli("policy", "t", "--profile", "balanced", "--segment-rows", "0", "--json").json
    assert (back["profile"], back["segment_rows"], back["min_rows"]) == ("balanced", 65536, 64)
    (stats,) = cli("stats", "--json").json
    assert (stats["profile"], stats["segment_rows"]) == ("balanced", 65536)
    (coding,) = stats["columns"][0]["codings"]
    assert (coding["segments"], coding["rows"], coding["share"]) == (1, 3000, 1.0)
    shown = cli("stats", "t").out
    assert "profile balanced, full segments of 65,536 rows" in shown
    assert f"{coding['mode']}/{coding['coder']} 1 (100 %)" in shown
    unsuitable = cli("policy", "t", "--segment-rows", "5")
    assert unsuitable.code == 1
    assert "out of its range" in unsuitable.err


@pytest.mark.parametrize("command", [["create-table", "t", "--column", "v"], ["compact", "--once"], ["policy", "t"]])
def test_a_wrong_profile_on_the_command_line(command: list[str]) -> None:
    wrong = run_cli(*command, "--profile", "fastest")
    assert wrong.code == 2
    assert all(profile in wrong.err for profile in Profile)
