"""The README's Python is run as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

import ddstore

README = Path(__file__).resolve().parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.mark.usefixtures("needs_extension")
def test_the_tour(database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DDSTORE_URL", database_url)
    with psycopg.connect(database_url) as conn:
        conn.execute("CREATE TABLE public.metrics (ts timestamptz NOT NULL, host text NOT NULL, cpu float8)")
        conn.execute(
            "INSERT INTO public.metrics SELECT '2024-01-01'::timestamptz + i * interval '1 s', 'a', sin(i / 100.0)"
            " FROM generate_series(1, 5000) i"
        )
    time = np.datetime64("2024-01-01", "us") + np.arange(3000) * np.timedelta64(1, "s")
    frame = {
        "time": time,
        "device": ["boiler"] * 3000,
        "temp": np.linspace(20, 30, 3000),
        "rpm": np.linspace(1000, 1100, 3000),
        "state": np.arange(3000.0) // 100,
    }
    names: dict[str, Any] = {"frame": frame}
    for block in blocks("python"):
        exec(block, names)
    length, worst = capsys.readouterr().out.splitlines()[-1].split()
    assert int(length) == 3600
    assert float(worst) <= 0.05
    names["store"].close()
    with psycopg.connect(database_url) as conn:
        for table, rows in (("ddstore.samples", 100_000), ("plant.sensors", 3000), ("public.metrics", 5000)):
            assert conn.execute(f"SELECT count(*) FROM {table}").fetchone() == (rows,)


def test_every_name_it_imports_is_public() -> None:
    imported = {
        name for names in re.findall(r"from ddstore import (.+)", README.read_text()) for name in names.split(", ")
    }
    assert imported <= set(ddstore.__all__)


def test_every_name_is_sorted_and_there() -> None:
    assert ddstore.__all__ == sorted(ddstore.__all__)
    assert all(hasattr(ddstore, name) for name in ddstore.__all__)
