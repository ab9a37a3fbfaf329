"""Training of the density net: reproducible, learns what can be learned, refuses what it cannot use."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the training extra is not installed")

from ddstore.bounds import Absolute, Lossless  # noqa: E402
from ddstore.codec.archive import Between  # noqa: E402
from ddstore.codec.model import InterpNet, Net, pack_model  # noqa: E402
from ddstore.compact.density import INET_BYTES, NET_BYTES, train_density, train_interp  # noqa: E402
from ddstore.errors import InvalidSeries  # noqa: E402
from ddstore.model import NetConfig, Stretch, TrainedNet, train_inet, train_net  # noqa: E402
from fix_model import chaos, gaps  # noqa: E402

SMALL = NetConfig((1, 2, 3, 4), (16, 16))


def train(n: int = 4000, **other: Any) -> TrainedNet:
    values = chaos(n)
    mean, std = float(values.mean()), float(values.std())
    stretch = Stretch(np.rint(values).astype(np.int64), round(mean), 1 / std)
    options = {"config": SMALL, "budget_seconds": 600.0, "max_steps": 30, "device": "cpu"} | other
    return train_net([stretch], mean=mean, std=std, **options)


def test_same_seed_and_steps_give_the_same_bytes() -> None:
    first, second, other = train(seed=7), train(seed=7), train(seed=8)
    assert first.section == second.section
    assert first.section != other.section
    assert json.loads(json.dumps(first.record)) == first.record
    assert (first.record["rows"], first.record["steps"]) == (3999, 30)


def test_what_follows_from_the_last_values_is_learned() -> None:
    before, after = (train(max_steps=steps).record["trained_bits"] for steps in (1, 300))
    assert after < before - 1.5


def test_time_ends_it_after_one_step_at_least() -> None:
    trained = train(budget_seconds=1e-9, max_steps=None)
    assert trained.record["steps"] == 1
    Net(pack_model(trained.section))


def test_what_cannot_be_used_is_refused() -> None:
    for options in ({"budget_seconds": 0.0}, {"max_steps": 0}):
        with pytest.raises(ValueError, match="at least one step"):
            train(**options)
    with pytest.raises(InvalidSeries, match="two rows"):
        train_net([Stretch(np.zeros(1, np.int64), 0, 1.0)], mean=0.0, std=1.0)
    for shape in (
        ((), (32, 32)),
        ((1,), (0, 32)),
        ((1,), (32, 65)),
        ((2, 1), (32, 32)),
        ((0, 1), (8, 8)),
        ((1024,), (8, 8)),
    ):
        with pytest.raises(ValueError, match="lags"):
            NetConfig(*shape)


@pytest.mark.parametrize("values", [np.full(300, 7.0), np.full(300, np.nan), np.array([1.0, np.inf] * 150)])
def test_a_column_without_two_finite_values_that_differ_trains_nothing(values: np.ndarray[Any, Any]) -> None:
    with pytest.raises(InvalidSeries, match="finite values that differ"):
        train_density(
            values, np.ones(300, bool), type="float8", bound=Absolute(0.1), segment_rows=300, seed=0, seconds=1.0
        )


def test_the_screen_knows_what_a_net_costs() -> None:
    """If the net's shape changes, the screen before training has to change with it."""
    size = len(train(config=None, max_steps=1).section)
    assert 0.9 * size < NET_BYTES <= size


def train_between(n: int = 4000, **other: Any) -> TrainedNet:
    highest = np.rint(20 * gaps(n)).astype(np.int64)
    options = {"hidden": (24, 16), "budget_seconds": 600.0, "max_steps": 30, "device": "cpu"} | other
    return train_inet([Between(highest, 60, 7)], **options)


def test_the_net_of_mode_interp_is_reproducible_and_learns() -> None:
    first, second, other = train_between(seed=7), train_between(seed=7), train_between(seed=8)
    assert first.section == second.section
    assert first.section != other.section
    assert json.loads(json.dumps(first.record)) == first.record
    assert (first.record["kind"], first.record["rows"], first.record["steps"]) == ("inet", 3968, 30)
    assert train_between(max_steps=300).record["trained_bits"] < train_between(max_steps=1).record["trained_bits"] - 1
    InterpNet(pack_model(first.section))
    assert 0.9 * len(first.section) < INET_BYTES <= len(first.section)


def test_what_no_row_lies_between_trains_nothing() -> None:
    with pytest.raises(InvalidSeries, match="between others"):
        train_inet([Between(np.zeros(1, np.int64), 3, 0)])
    lossless, valid = np.random.default_rng(2).normal(0, 1, 300), np.ones(300, bool)
    with pytest.raises(InvalidSeries, match="between others"):
        train_interp(
            lossless,
            valid,
            type="float8",
            bound=Lossless(),
            segment_rows=300,
            seed=0,
            seconds=1.0,
            coded_bytes=1e6,
        )
