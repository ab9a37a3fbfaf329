"""The made-up plant: seeded, plausible, and with everything in it that makes real data hard."""

from __future__ import annotations

import numpy as np
import pytest

from ddstore.cli.demo.data import plant_data
from ddstore.cli.demo.plant import SENSORS, STEP_SECONDS, make_plant


def test_the_same_seed_makes_the_same_plant() -> None:
    one, two, other = make_plant(20_000, seed=3), make_plant(20_000, seed=3), make_plant(20_000, seed=4)
    assert all(np.array_equal(one[n], two[n], equal_nan=n in SENSORS) for n in one)
    assert len(one["time"]) != len(other["time"]) or not np.array_equal(one["power"], other["power"], equal_nan=True)


@pytest.mark.parametrize("rows", [2000, 20_000, 100_000])
def test_rows_times_and_gaps(rows: int) -> None:
    plant = make_plant(rows)
    assert 0.7 * rows < len(plant["time"]) < rows
    for unit in ("boiler-1", "boiler-2"):
        steps = np.diff(plant["time"][plant["unit"] == unit]).astype("timedelta64[s]").astype(int)
        assert steps.min() == STEP_SECONDS
        assert steps.max() > STEP_SECONDS
        assert not (steps % STEP_SECONDS).any()


@pytest.mark.parametrize("name", list(SENSORS))
def test_values_are_finite_on_their_grid_and_sometimes_missing(name: str) -> None:
    values = make_plant(40_000)[name]
    here = values[~np.isnan(values)]
    assert 0 < len(values) - len(here) < 0.2 * len(values)
    assert np.isfinite(here).all()
    assert len(np.unique(here)) > 20
    if grid := SENSORS[name].grid:
        assert np.abs(here - np.rint(here / grid) * grid).max() < 1e-9


def test_missing_values_are_nulls_in_the_table() -> None:
    data = plant_data(20_000, None, seed=0)
    assert data.bounds == {name: sensor.max_error for name, sensor in SENSORS.items()}
    assert set(data.types().values()) == {"float8"}
    for column in data.values.values():
        assert column.valid is not None
        assert not np.isnan(column.data).any()
    rows = data.rows_of({"unit": "boiler-2"})
    assert (data.key["unit"][rows] == "boiler-2").all()
    assert (np.diff(data.time[rows]) > np.timedelta64(0)).all()
