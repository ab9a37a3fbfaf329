"""A series coded with a learned model: the same bits through SQL and Python, and damage to the model is contained."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from psycopg import errors as pg_errors

from ddstore import Absolute, Store, connect
from ddstore.errors import CorruptSegment
from fix_model import periodic

SEGMENT = 4096
ROWS = 56 * SEGMENT
START = np.datetime64("2024-03-01T00:00:00", "us")
BOUND = 1.0


def _values() -> dict[str, NDArray[np.float64]]:
    learned = periodic(ROWS)
    learned[[5, 4100, 9000]] = [np.nan, np.inf, -0.0]
    return {"learned": learned, "short": periodic(2 * SEGMENT + 100, seed=5)}


@pytest.fixture
def store(database_url: str, needs_extension: None, epochs: list[int]) -> Iterator[Store]:
    """Two series in segments: a learned model pays for the long one; the short one is coded without."""
    with connect(database_url) as store:
        store.create_table("machine", time="time", key=["device"], columns={"v": Absolute(BOUND)}, segment_rows=SEGMENT)
        for device, values in _values().items():
            time = START + np.arange(len(values)) * np.timedelta64(1, "s")
            store.write({"time": time, "device": [device] * len(values), "v": values}, table="machine")
        report = store.compact(all=True, train="always", train_seconds=12.0, vacuum=False)
        assert report.failed == []
        yield store


def _sql_values(store: Store, device: str) -> NDArray[np.float64]:
    with store.connection() as conn, conn.cursor(binary=True) as cursor:
        rows = cursor.execute("SELECT v FROM machine WHERE device = %s ORDER BY time", [device]).fetchall()
    return np.array(rows, dtype=np.float64).ravel()


def test_sql_and_python_read_the_same_bits(store: Store) -> None:
    with store.connection() as conn:
        models = conn.execute("SELECT id, series_key FROM ddstore.model").fetchall()
        used = conn.execute("SELECT k2, c3_model, count(*) FROM ddstore.segment_1 GROUP BY 1, 2").fetchall()
        hot = conn.execute("SELECT count(*) FROM ONLY machine").fetchone()
    ((model, key),) = models
    assert key == ["learned"]
    assert hot == (0,)
    by_model = {(device, id_): count for device, id_, count in used}
    assert by_model["learned", model] > ROWS // SEGMENT // 2
    assert by_model["short", None] == 3
    for device, values in _values().items():
        read = store.read(table="machine", key=device).columns["v"]
        through_sql = _sql_values(store, device)
        assert read.tobytes() == through_sql.tobytes()
        odd = ~np.isfinite(values) | ((values == 0) & np.signbit(values))
        assert read[odd].tobytes() == values[odd].tobytes()
        assert np.abs(read[~odd] - values[~odd]).max() <= BOUND
    assert store.verify().ok


def test_a_damaged_model_is_named_and_spares_other_series(store: Store) -> None:
    short = store.read(table="machine", key="short").columns["v"].tobytes()
    with store.connection() as conn:
        conn.execute("UPDATE ddstore.model SET bytes = set_byte(bytes, 5000, get_byte(bytes, 5000) # 1)")
        rows = conn.execute("SELECT id FROM ddstore.segment_1 WHERE c3_model IS NOT NULL ORDER BY id").fetchall()
    affected = [id_ for (id_,) in rows]

    with psycopg.connect(store.url) as plain:
        with pytest.raises(pg_errors.DataCorrupted, match="model") as raised:
            plain.execute("SELECT v FROM machine WHERE device = 'learned'")
        assert raised.value.sqlstate == "XX001"
    with pytest.raises(CorruptSegment, match="model"), store.connection() as conn:
        conn.execute("SELECT v FROM machine")
    with pytest.raises(CorruptSegment, match=r"segment \d+ of ddstore.segment_1 is damaged: .*model") as caught:
        store.read(table="machine", key="learned")
    assert (caught.value.series, caught.value.column) == ("public.machine", "v")
    assert any(f"segment {id_} of" in str(caught.value) for id_ in affected)

    report = store.verify()
    assert [(d.table, d.id, d.series, d.column) for d in report.damaged] == [
        ("public.machine", id_, ("learned",), "v") for id_ in affected
    ]
    assert all("model" in d.what for d in report.damaged)
    assert report.segments == ROWS // SEGMENT + 3

    assert store.read(table="machine", key="short").columns["v"].tobytes() == short
    assert _sql_values(store, "short").tobytes() == short
    with pytest.raises(CorruptSegment):
        store.release("machine")
    assert store.tables()[0].name == "machine"
