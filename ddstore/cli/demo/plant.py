"""A plausible plant: two boilers with five sensors each, as a seeded generator makes them up.

What makes it plausible is what makes real data hard: daily cycles, regimes that change, load that ramps, noise whose
size depends on the regime, converters with a grid, sensors that stick or fail, and loggers that stop for hours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddstore.bounds import Absolute, Bound, RangeRelative, Relative

__all__ = ["SENSORS", "START", "STEP_SECONDS", "Sensor", "make_plant"]

START = np.datetime64("2024-03-04T00:00:00", "us")
STEP_SECONDS = 10

_PER_DAY = 86_400 // STEP_SECONDS
_OFF, _LOW, _HIGH = 0, 1, 2

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sensor:
    """One value column: its unit, its converter's grid, and the error that whoever reads it tolerates."""

    unit: str
    grid: float
    max_error: Bound


SENSORS: Mapping[str, Sensor] = {
    "temperature": Sensor("°C", 0.1, Absolute(0.25)),
    "pressure": Sensor("bar", 16 / 4096, Absolute(0.02)),  # 12 bits over 16 bar
    "flow": Sensor("m³/h", 0.01, Relative(0.01)),
    "vibration": Sensor("mm/s", 0.0, RangeRelative(0.01)),
    "power": Sensor("kW", 0.05, Absolute(1.0)),
}


def make_plant(rows: int = 200_000, *, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Return about ``rows`` rows of two units as columns: time, unit, and the sensors of :data:`SENSORS`.

    Values are float64 with NaN where a sensor gave none; times are datetime64[us], every 10 s but for gaps.
    """
    rng = np.random.default_rng(seed)
    units = [_unit(rng, name, rows // 2) for name in ("boiler-1", "boiler-2")]
    return {name: np.concatenate([unit[name] for unit in units]) for name in units[0]}


def _unit(rng: np.random.Generator, name: str, rows: int) -> dict[str, NDArray[Any]]:
    clock = np.arange(rows)
    time = START + (clock * STEP_SECONDS).astype("timedelta64[s]")
    day = 2 * np.pi * clock / _PER_DAY
    regime = _regimes(rng, rows)
    # Demand follows the hour, with a morning peak, and creeps.
    demand = 0.62 - 0.2 * np.cos(day) + 0.1 * np.sin(2 * day + 0.8) + 0.05 * _drift(rng, rows, 2000)
    load = _lag(np.choose(regime, [np.full(rows, 0.04), 0.55 * demand, demand]), 60)
    stroke = 2 * np.pi * clock / 23  # the feed pump beats against the sampling
    running = _lag((regime != _OFF).astype(np.float64), 12)
    flow = running * (6 + 14 * load + 0.25 * np.sin(stroke) + 0.05 * rng.standard_normal(rows))
    pressure = (
        1 + 9 * _lag(load, 90) ** 0.8 + running * (0.06 * np.sin(stroke + 0.6) + 0.012 * rng.standard_normal(rows))
    )
    temperature = 22 + 4 * np.sin(day - 2) + 135 * _lag(load, 400) ** 0.6 + 0.12 * _drift(rng, rows, 40)
    burst = _lag((rng.random(rows) < 4 / _PER_DAY).astype(np.float64), 25) * 60
    vibration = np.abs(0.15 + running * (0.9 + 0.7 * load + burst) * np.exp(0.18 * rng.standard_normal(rows)))
    power = 3 + running * (40 + 160 * load) + (0.4 + 1.6 * running) * rng.standard_normal(rows) * 0.25
    sensors = dict(zip(SENSORS, (temperature, pressure, flow, vibration, power), strict=True))
    for values, sensor in zip(sensors.values(), SENSORS.values(), strict=True):
        _stick(rng, values)
        if sensor.grid:
            np.rint(values / sensor.grid, out=values)
            values *= sensor.grid
        _fail(rng, values)
    keep = _logged(rng, rows)
    unit = np.full(int(keep.sum()), name, dtype=object)
    return {"time": time[keep], "unit": unit, **{n: values[keep] for n, values in sensors.items()}}


def _regimes(rng: np.random.Generator, rows: int) -> NDArray[np.intp]:
    """Off, low or high fire: some hours each, with off the rarest. Shape (rows,)."""
    count = rows // (_PER_DAY // 12) + 2
    lengths = rng.exponential(_PER_DAY / 5, count).astype(np.intp) + 60
    kinds = rng.choice([_OFF, _LOW, _HIGH], count, p=[0.15, 0.35, 0.5])
    return np.resize(np.repeat(kinds, lengths), rows)


def _lag(values: Floats, steps: float) -> Floats:
    """First-order lag with time constant ``steps``: what thermal mass and pipes do to a set point. Shape (n,)."""
    # The exponential's tail ends at ten time constants; a convolution by FFT instead of a loop over samples.
    kernel = np.exp(-np.arange(int(10 * steps)) / steps)
    kernel /= kernel.sum()
    padded = np.concatenate([np.full(len(kernel) - 1, values[0]), values])
    size = 1 << (len(padded) + len(kernel) - 1).bit_length()
    smooth = np.fft.irfft(np.fft.rfft(padded, size) * np.fft.rfft(kernel, size), size)
    return np.clip(smooth[len(kernel) - 1 : len(padded)], values.min(), values.max())


def _drift(rng: np.random.Generator, rows: int, steps: float) -> Floats:
    """A random walk that always comes home, of unit variance. Shape (rows,)."""
    walk = _lag(rng.standard_normal(rows), steps)
    return np.asarray((walk - walk.mean()) / walk.std())


def _stick(rng: np.random.Generator, values: Floats) -> None:
    """Now and then a sensor repeats its last value for some minutes."""
    for start in rng.integers(0, len(values), max(1, len(values) // (2 * _PER_DAY))):
        values[start : start + int(rng.integers(30, 200))] = values[start]


def _fail(rng: np.random.Generator, values: Floats) -> None:
    """Single samples get lost, and once or twice a sensor is dead for an hour."""
    values[rng.random(len(values)) < 2e-4] = np.nan
    for start in rng.integers(0, len(values), max(1, len(values) // (6 * _PER_DAY))):
        values[start : start + int(rng.integers(1, min(360, len(values) // 20)))] = np.nan


def _logged(rng: np.random.Generator, rows: int) -> NDArray[np.bool_]:
    """Which rows the logger kept: it stops for up to four hours now and then. Shape (rows,)."""
    keep = np.ones(rows, np.bool_)
    for start in rng.integers(0, rows, max(1, rows // (4 * _PER_DAY))):
        keep[start : start + int(rng.integers(2, min(_PER_DAY // 6, rows // 20)))] = False
    return keep
