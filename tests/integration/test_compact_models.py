"""Models: trained where they pay, stored once, shared by a series' segments, replaced when the series drifts."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from ddstore.bounds import Absolute
from ddstore.compact import CompactOptions, CompactReport, compact, train, verify
from ddstore.db.catalog import ManagedTable
from ddstore.db.copy import CopyField, copy_in
from ddstore.db.manage import create_table, drop_orphans, set_column_bound
from ddstore.db.pool import Connection, Database
from ddstore.profiles import Profile
from fix_model import periodic

SEGMENT = 4096
ROWS = 56 * SEGMENT  # fewer would not pay for 53 kB of decoder and encoder


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each training that is begun."""
    begun: list[int] = []
    really = train.Trainer._training

    def counted(self: train.Trainer, *args: Any) -> Any:
        begun.append(1)
        return really(self, *args)

    monkeypatch.setattr(train.Trainer, "_training", counted)
    return begun


@pytest.fixture
def machine(conn: Connection) -> ManagedTable:
    """An empty table of one series, coarse bound, segments of 4096 rows."""
    table = create_table(conn, "machine", time="time", columns={"v": Absolute(1.0)}, segment_rows=SEGMENT)
    conn.commit()
    return table


def _write(conn: Connection, table: ManagedTable, values: np.ndarray[Any, Any], start: int = 0) -> None:
    time = (start + np.arange(len(values), dtype=np.int64)) * 1_000_000
    with conn.cursor() as cursor:
        copy_in(cursor, table.identifier, [CopyField("time", "8", time), CopyField("v", "8", values)], len(values))
    conn.commit()


def _compact(db: Database, **options: Any) -> CompactReport:
    given: dict[str, Any] = {"all": True, "train": "always", "train_seconds": 12.0, "vacuum": False}
    report = compact(db, CompactOptions(**given | options))
    assert report.failed == []
    return report


def _models(conn: Connection) -> list[tuple[Any, ...]]:
    rows = conn.execute("SELECT id, octet_length(bytes), record FROM ddstore.model ORDER BY id").fetchall()
    conn.commit()
    return rows


def test_a_model_is_trained_shared_and_reused(
    db: Database, conn: Connection, machine: ManagedTable, epochs: list[int]
) -> None:
    values = periodic(2 * ROWS)
    _write(conn, machine, values[:ROWS])
    report = _compact(db)
    (model,) = _models(conn)
    assert report.series[0].modes.get("btae", 0) > 12, report.series[0].notes
    assert (report.series[0].models, report.model_bytes) == (1, model[1])
    assert model[2]["seed"] == 0
    assert model[2]["bits_per_sample"] < model[2]["bits_per_sample_without"]
    used = conn.execute("SELECT DISTINCT c2_model FROM ddstore.segment_1 WHERE c2_model IS NOT NULL").fetchall()
    assert used == [(model[0],)]

    _write(conn, machine, values[ROWS : ROWS + SEGMENT], ROWS)
    assert "btae" not in _compact(db, profile="fast").series[0].modes
    _write(conn, machine, values[ROWS + SEGMENT :], ROWS + SEGMENT)
    assert _compact(db, train="never").series[0].modes.get("btae", 0) > 12
    assert _models(conn) == [model]
    conn.execute("CREATE TABLE read_back AS SELECT v FROM machine ORDER BY time")
    read = np.array(conn.execute("SELECT v FROM read_back").fetchall()).ravel()
    conn.commit()
    if len(read):  # with the extension
        assert np.abs(read - values).max() <= 1.0
    assert verify(db).ok


def test_drift_trains_anew(db: Database, conn: Connection, machine: ManagedTable, epochs: list[int]) -> None:
    _write(conn, machine, periodic(ROWS))
    _compact(db)
    epochs[0] = 2
    _write(conn, machine, 5 * periodic(ROWS, seed=1), ROWS)  # the same shapes, five times as high
    report = _compact(db)
    assert any("drifted" in note for note in report.series[0].notes)
    first, *more = _models(conn)
    assert all(record["replaces"] == first[0] for _, _, record in more)
    assert verify(db).ok


def test_noise_keeps_no_model_and_is_remembered(
    db: Database, conn: Connection, machine: ManagedTable, epochs: list[int], trainings: list[int]
) -> None:
    noise = np.random.default_rng(3).normal(0, 10, 17 * SEGMENT)
    _write(conn, machine, noise[: 4 * SEGMENT])
    epochs[0] = 2
    report = _compact(db)
    assert _models(conn) == []
    assert any("would not pay" in note for note in report.series[0].notes)
    trial = conn.execute(
        """SELECT series_key, column_id, bound_kind, bound_value, rows, bits_per_sample > 3, note
           FROM ddstore.model_trial"""
    ).fetchone()
    conn.commit()
    assert trial == ([], 2, "absolute", 1.0, 4 * SEGMENT, True, report.series[0].notes[0].removeprefix("v: "))
    assert len(trainings) == 1

    _write(conn, machine, noise[4 * SEGMENT : 12 * SEGMENT], 4 * SEGMENT)
    report = _compact(db, train="auto")
    assert report.series[0].notes == ["v: a learned model did not pay at 16384 rows and is tried again at 65536"]
    # The time has come: 12 segments are cold and 5 are hot. But 5 segments could not pay for any model.
    _write(conn, machine, noise[12 * SEGMENT :], 12 * SEGMENT)
    report = _compact(db, train="auto")
    assert "would not pay, however good" in report.series[0].notes[0]
    assert len(trainings) == 1
    row = conn.execute("SELECT rows FROM ddstore.model_trial").fetchone()
    assert row == (17 * SEGMENT,)


def test_long_segments_are_trained_for_as_short_ones(
    db: Database, conn: Connection, epochs: list[int], net_steps: list[int], trainings: list[int]
) -> None:
    """What a model has to pay for itself on are rows, not segments of whatever length."""
    epochs[0], net_steps[0] = 2, 1
    table = create_table(conn, "kept", time="time", columns={"v": Absolute(1.0)}, profile=Profile.ARCHIVE)
    conn.commit()
    _write(conn, table, periodic(65_535))
    _compact(db)
    assert trainings == []
    _write(conn, table, periodic(65_536 + 77), 65_535)  # not half a segment
    report = _compact(db)
    assert len(trainings) == 2, "a density net, and when that did not pay, a BTAE"
    assert (report.rows, report.segments) == (65_536 + 77, 1)
    assert verify(db).ok


def test_another_bound_is_another_trial(
    db: Database, conn: Connection, machine: ManagedTable, epochs: list[int], trainings: list[int]
) -> None:
    epochs[0] = 1
    noise = np.random.default_rng(3).normal(0, 10, 100 * SEGMENT)
    _write(conn, machine, noise[: 50 * SEGMENT])
    assert "would not pay" in _compact(db, train="auto").series[0].notes[0]
    assert len(trainings) == 1
    set_column_bound(conn, machine, machine.value("v"), Absolute(0.5))
    conn.commit()
    _write(conn, machine, noise[50 * SEGMENT :], 50 * SEGMENT)
    _compact(db, train="auto")
    assert len(trainings) == 2
    drop_orphans(conn)
    conn.execute("DELETE FROM ddstore.managed_table")
    assert conn.execute("SELECT count(*) FROM ddstore.model_trial").fetchone() == (0,)


def test_the_screen_knows_what_a_model_costs() -> None:
    """If the model's shape changes, the screen before training has to change with it."""
    btae = pytest.importorskip("ddstore.model.btae", reason="training needs torch")
    quantize = pytest.importorskip("ddstore.model.quantize")
    config = btae.BTAEConfig()
    model = btae.BTAE(config)
    assert config.window == train._WINDOW
    assert config.latents / config.window == train._LATENT_BITS
    size = len(quantize.pack_decoder(model.decoder, config, 0.0, 1.0))
    size += len(quantize.pack_encoder(model.encoder, config, 0.0, 1.0))
    assert 0.9 * size < train._MODEL_BYTES <= size


def test_without_torch_the_report_says_so(
    db: Database, conn: Connection, machine: ManagedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("ddstore.model")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("ddstore.model", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    _write(conn, machine, periodic(ROWS))
    report = _compact(db)
    assert report.rows == ROWS
    assert "btae" not in report.series[0].modes
    assert "pip install 'ddstore[train]'" in report.series[0].notes[0]
    assert "pip install 'ddstore[train]'" in report.notes[0]
    note = conn.execute("SELECT note FROM ddstore.compaction").fetchone()
    assert note is not None
    assert "pip install" in note[0]


@pytest.mark.parametrize("options", [{"train": "never"}, {"profile": "fast"}, {"train_seconds": 0.0}])
def test_training_that_was_not_asked_for(
    db: Database, conn: Connection, machine: ManagedTable, options: dict[str, Any]
) -> None:
    _write(conn, machine, periodic(4 * SEGMENT))
    report = _compact(db, **options)
    assert (report.rows, report.series[0].notes, _models(conn)) == (4 * SEGMENT, [], [])
