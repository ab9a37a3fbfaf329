"""The ratio benchmark: every peer returns what it was given, within the bound, and the tables add up."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmarks import ratio
from benchmarks.measure import Cell, Measured, measure_codec, measure_peer
from benchmarks.ours import PROFILES, Ours
from benchmarks.peers import FILES, Codec, Peer, Values, load_peers
from benchmarks.peers.base import Exceptions, find_exceptions, index_from_bytes, index_to_bytes, step_of
from benchmarks.summary import by_cell, tables
from ddstore.profiles import Profile
from fix_model import chaos

# SZ3 and zfp promise the bound up to the rounding of their own arithmetic.
TOLERANCE = 1 + 1e-6
CELL = Cell("made up", "some")


def some_series(dtype: str, columns: int = 2) -> Values:
    """A walk, a wave with noise, on a grid, a jump: shape (3000, columns)."""
    rng = np.random.default_rng(5)
    walk = np.cumsum(rng.normal(size=(3000, columns)), axis=0)
    wave = 20 * np.sin(np.arange(3000) / 40)[:, None] + rng.normal(size=(3000, columns))
    values = np.where(np.arange(columns) % 2, np.round(wave, 2), walk)
    values[1500:] += 300
    return np.ascontiguousarray(values, dtype=dtype)


def peers_of(file: str) -> tuple[Peer, ...]:
    """The peers of one file, or a skip that says what is not installed."""
    try:
        found: tuple[Peer, ...] = import_module(f"benchmarks.peers.{file}").PEERS
    except ImportError as error:
        pytest.skip(f"{error}: tools/install-peers installs the peers")
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("file", FILES)
def test_every_codec_of_every_peer_keeps_its_bound(file: str, dtype: str) -> None:
    values = some_series(dtype)
    for peer in peers_of(file):
        for codec in peer.codecs:
            for eps in (np.array([1.0, 0.3]), np.array([0.01, 0.001])):
                eps = np.zeros(2) if peer.lossless else eps
                result = measure_peer(CELL, Peer(peer.name, (codec,), peer.lossless), values, eps)
                assert result.worst <= TOLERANCE, (peer.name, codec.label)
                assert result.bytes < values.nbytes * 1.2, (peer.name, codec.label)


@pytest.mark.parametrize("file", FILES)
def test_nan_and_constant_columns_do_not_stop_a_peer(file: str) -> None:
    values = some_series("float64", 3)
    values[:, 1] = 7.0
    values[:5, 2] = values[100:200, 2] = np.nan
    for peer in peers_of(file):
        assert measure_peer(CELL, peer, values, np.array([0.1, 1.0, 0.1])).worst <= TOLERANCE


@pytest.mark.parametrize("eps", [0.0, 0.1])
@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.label)
def test_ours_keeps_its_bound_across_segments(profile: Ours, eps: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddstore.profiles._SEGMENT_ROWS", dict.fromkeys(Profile, 8192))
    values = np.resize(some_series("float32"), (Profile(profile.label).segment_rows + 100, 2))
    values[7, 0] = np.nan
    result = measure_codec(CELL, profile, values, np.full(2, eps))
    assert result.ours
    assert result.worst <= 1
    assert result.beyond == 0
    assert result.ratio > 1


def test_ours_counts_the_nets_that_pay(monkeypatch: pytest.MonkeyPatch, net_steps: list[int]) -> None:
    monkeypatch.setattr("ddstore.profiles._SEGMENT_ROWS", dict.fromkeys(Profile, 1024))
    values = np.stack([chaos(30 * 1024), np.full(30 * 1024, 7.0)], axis=1)
    bare, learned = (
        measure_codec(CELL, Ours(Profile.ARCHIVE, train), values, np.full(2, 0.5)) for train in (0.0, 60.0)
    )
    assert (bare.who, learned.who) == ("archive", "archive + net")
    assert learned.train_seconds > 0
    assert learned.bytes < bare.bytes - 500
    assert learned.worst <= 1


@given(
    arrays(np.float32, st.integers(1, 60), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
    st.floats(1e-30, 1e30),
)
@settings(deadline=None)
def test_the_quantizer_holds_its_bound_or_says_so(values: Values, eps: float) -> None:
    step = step_of(values, eps)
    index, exceptions = find_exceptions(values, eps, step)
    with np.errstate(over="ignore"):
        read = (index * step).astype(np.float32)
    read = Exceptions.from_bytes(exceptions.to_bytes(), np.float32).put(read)
    assert (np.abs(read.astype(np.float64) - values.astype(np.float64)) <= eps).all()


@given(arrays(np.int64, st.integers(1, 50), elements=st.integers(-(2**53), 2**53)), st.booleans())
def test_indices_survive_their_bytes(index: np.ndarray, planes: bool) -> None:  # type: ignore[type-arg]
    np.testing.assert_array_equal(index_from_bytes(index_to_bytes(index, planes=planes), planes=planes), index)


def test_broken_bounds_are_counted() -> None:
    class Careless(Codec):
        label = "careless"

        def pack(self, values: Values, eps: Values) -> list[bytes]:
            return [values.tobytes()]

        def unpack(self, parts: Sequence[bytes], shape: tuple[int, int], dtype: Any, eps: Values) -> Values:
            read = np.frombuffer(parts[0], dtype).reshape(shape).copy()
            read[3, 0] += 0.2
            return read

    values = some_series("float64", 1)
    for eps, worst in ((0.1, pytest.approx(2)), (0.0, np.inf)):
        careless = measure_codec(CELL, Careless(), values, np.array([eps]))
        assert (careless.worst, careless.beyond) == (worst, 1)


def test_what_cannot_be_imported_is_left_out_and_named() -> None:
    peers, missing = load_peers(("no_such_peer",))
    assert peers == []
    assert missing[0].startswith("no_such_peer is left out: ")
    assert "tools/install-peers" in missing[0]


def result(cell: Cell, who: str, size: int, seconds: float = 1.0) -> Measured:
    """A result of a million samples."""
    return Measured(*cell, who, who == "balanced", 1_000_000, size, seconds, seconds, 0.5, 0, "plain")


def test_the_tables_add_up() -> None:
    lossy, lossless = Cell("s", "0.1"), Cell("s", "0")
    results = [
        result(lossy, "balanced", 100_000),
        result(lossy, "SZ3", 200_000, 0.5),
        result(lossy, "zfp", 400_000),
        result(lossless, "balanced", 400_000),
        result(lossless, "pcodec", 300_000),
    ]
    assert by_cell(results)[lossy]["pcodec"].bytes == 300_000
    shown = {title.split(":")[0]: rows for title, _, rows in tables(results, ["SZ3", "zfp", "pcodec"])}
    standing = {str(row[0]): row[1] for row in shown["how we stand"]}
    assert standing["lossy: ratio / SZ3"] == pytest.approx(2)
    assert standing["lossy: ratio / best peer of all"] == pytest.approx(2)
    assert standing["lossless: ratio / best peer of all"] == pytest.approx(0.75)
    assert standing["lossy: decode speed / SZ3"] == pytest.approx(0.5)
    assert [row[:5] for row in shown["cells where the best peer is ahead"]] == [["s", "0", "balanced", 10.0, "pcodec"]]


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_benchmark_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str], jobs: int) -> None:
    np.savez(tmp_path / "tiny.npz", values=some_series("float64")[:1000])
    options = ["--data", tmp_path, "--sets", "tiny:1", "tiny", "--eps", "0.1", "--rows", "700", "--jobs", jobs]
    ratio.main([*map(str, options), "--out", str(tmp_path / "out"), "--name", "small"])
    table = next((tmp_path / "out").glob("*_small.csv"))
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["set"], row["eps"]) for row in rows} == {
        (name, eps) for name in ("tiny", "tiny:1") for eps in ("0.1", "0")
    }
    assert {int(row["samples"]) for row in rows} == {700, 1400}
    ours = [row for row in rows if row["ours"] == "True"]
    assert len(ours) == 4 * len(PROFILES)
    for row in ours:
        assert float(row["ratio"]) == pytest.approx(4 * int(row["samples"]) / int(row["bytes"]))
    assert "ratio: 4 bytes" in capsys.readouterr().out
