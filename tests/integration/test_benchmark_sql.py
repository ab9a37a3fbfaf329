"""The SQL benchmark runs from end to end on few rows, and says of each line whether its target is met."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from benchmarks import sql
from benchmarks.sql_queries import CASES, HEADER, Row


@pytest.mark.usefixtures("needs_extension")
def test_the_benchmark_runs(database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "pow.npz", values=np.round(rng.normal(size=5000).cumsum(), 2))
    options = ["--data", tmp_path, "--url", database_url, "--rows", 9000, "--series", 3, "--budget", 0]
    sql.main([*map(str, options), "--seconds", "0.2", "--out", str(tmp_path / "out")])
    table = next((tmp_path / "out").glob("*_sql.csv"))
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == set(HEADER) - {"timescaledb"}
    assert {row["what"] for row in rows if row["unit"] == "ms"} >= {case.name for case in CASES}
    for row in rows:
        assert (row["target"] == "") == (row["met"] == "")
        if row["heap"]:
            assert float(row["ratio"]) == pytest.approx(float(row["heap"]) / float(row["ddstore"]))
    (wrong,) = [row for row in rows if row["what"].startswith("wrong answers")]
    assert (wrong["ddstore"], wrong["met"]) == ("0", "yes")
    assert int(wrong["detail"].split()[0]) > 0
    assert "full scan" in capsys.readouterr().out


def test_a_query_that_was_given_up_does_not_meet_its_target() -> None:
    row = Row("what", "table", "warm", "ms", float("inf"), 1.0, None, ">= 1", False)
    assert dict(zip(HEADER, row.cells(), strict=True))["ratio"] == 0
