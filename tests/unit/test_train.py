"""Training: reproducible, stops when told, learns what can be learned, refuses what it cannot use."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="the training extra is not installed")

from ddstore._native import btae_predict  # noqa: E402
from ddstore.errors import CorruptSegment, InvalidSeries  # noqa: E402
from ddstore.model import BTAEConfig, TrainedBTAE, encode_latents, train_btae  # noqa: E402
from ddstore.model.quantize import load_decoder, load_encoder, pack_decoder, pack_encoder  # noqa: E402
from ddstore.model.train import draw_sample  # noqa: E402

SMALL = BTAEConfig(window=32, latents=16, patch=8)


def waves(n: int = 600, window: int = 32) -> NDArray[np.float32]:
    """Sine windows of random phase around 20 degrees: three or four bits say which."""
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 2 * np.pi, (n, 1))
    x = 20 + 5 * np.sin(2 * np.pi * np.arange(window) / window + phase) + rng.normal(scale=0.02, size=(n, window))
    return x.astype(np.float32)


def train(**kwargs: Any) -> TrainedBTAE:
    given: dict[str, Any] = {"eps": 0.5, "config": SMALL, "budget_seconds": 60.0, "max_epochs": 3, "device": "cpu"}
    return train_btae(waves(), **(given | kwargs))


def predictions(trained: TrainedBTAE, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """What decoding predicts, in raw units."""
    latents = encode_latents(trained.encoder, x)
    raw = np.frombuffer(btae_predict(trained.weights, latents.tobytes(), len(x)), np.int32)
    return raw.reshape(x.shape) / 4096 * trained.record["std"] + trained.record["mean"]


@pytest.fixture(scope="module")
def trained() -> TrainedBTAE:
    return train(max_epochs=40)


def test_same_seed_and_epochs_give_the_same_bytes() -> None:
    first, second, other = train(seed=7), train(seed=7), train(seed=8)
    assert first.weights == second.weights
    assert first.encoder == second.encoder
    assert {k: v for k, v in first.record.items() if k != "seconds"} == {
        k: v for k, v in second.record.items() if k != "seconds"
    }
    assert first.weights != other.weights
    assert first.record["sample_sha256"] != other.record["sample_sha256"]


def test_training_leaves_torch_as_it_was() -> None:
    torch.manual_seed(5)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    train(max_epochs=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_learns_waves(trained: TrainedBTAE) -> None:
    x = waves()
    error = np.abs(predictions(trained, x) - x).mean()
    assert error < 0.35 * np.abs(x - x.mean()).mean()
    losses = trained.record["held_out_loss"]
    assert trained.record["held_out_entropy"] == min(losses) < 0.7 * losses[0]


def test_what_training_measured_is_what_decoding_does(trained: TrainedBTAE) -> None:
    """The held-out entropy of the record, recomputed with the stored bytes and the production decoder."""
    x = waves()[draw_sample(600, 600, 0)[: trained.record["held_out"]]]
    bins = np.round((x - predictions(trained, x)) / (2 * 0.5))
    counts = np.unique(bins, return_counts=True)[1] / bins.size
    assert -(counts * np.log2(counts)).sum() == pytest.approx(trained.record["held_out_entropy"], abs=0.05)


@pytest.mark.parametrize("loss", ["qel", "l1", "l2"])
def test_record_is_json_and_complete(loss: Any) -> None:
    seen: list[float] = []
    record = train(loss=loss, sample_windows=100, progress=lambda p: seen.append(p.held_out)).record
    assert json.loads(json.dumps(record)) == record
    assert (record["population"], record["sample"], record["held_out"]) == (600, 100, 10)
    assert record["loss"] == loss
    assert record["config"] == {"window": 32, "latents": 16, "patch": 8, "layers": 2}
    assert record["epochs"] == 3 == len(record["train_loss"]) == len(record["held_out_loss"])
    assert record["held_out_loss"] == [round(value, 5) for value in seen]
    assert record["torch"] == torch.__version__
    assert record["device"] == "cpu"


def test_sample_is_drawn_without_replacement_and_depends_on_the_seed_alone() -> None:
    sample = draw_sample(1000, 400, 3)
    assert len(set(sample.tolist())) == 400
    assert sample.min() >= 0
    assert sample.max() < 1000
    assert sample.tolist() == draw_sample(1000, 400, 3).tolist()
    assert sorted(draw_sample(10, 50, 0).tolist()) == list(range(10))
    # Frozen: a model trained years ago can be trained again only if its sample can be drawn again.
    assert draw_sample(30_000, 3, 0).tolist() == [21008, 16095, 29250]


def test_a_spent_budget_still_gives_a_model() -> None:
    trained = train(budget_seconds=1e-6, max_epochs=None)
    assert trained.record["epochs"] == 1
    assert np.isfinite(predictions(trained, waves(5))).all()


def test_stops_early_when_nothing_improves() -> None:
    noise = np.random.default_rng(1).normal(size=(60, 32)).astype(np.float32)
    trained = train_btae(noise, eps=1e-3, config=SMALL, loss="l2", budget_seconds=60, max_epochs=200, device="cpu")
    record = trained.record
    assert record["epochs"] < 200
    assert record["best_epoch"] < record["epochs"]


def test_transfer_starts_where_the_parent_ended(trained: TrainedBTAE) -> None:
    shifted = waves() * 3 - 100  # other units: normalisation makes them the same
    warm = train_btae(shifted, eps=1.5, config=SMALL, max_epochs=1, parent=trained, seed=1, device="cpu")
    cold = train_btae(shifted, eps=1.5, config=SMALL, max_epochs=1, seed=1, device="cpu")
    assert warm.record["held_out_entropy"] < cold.record["held_out_entropy"]
    assert warm.record["parent_sha256"] is not None


def test_transfer_wants_the_same_shape(trained: TrainedBTAE) -> None:
    with pytest.raises(ValueError, match="configuration"):
        train(config=BTAEConfig(window=32, latents=8, patch=8), parent=trained)
    with pytest.raises(CorruptSegment):
        train(parent=replace(trained, weights=trained.weights[:-1]))


@pytest.mark.parametrize("eps", [1e-300, 1e300])
def test_absurd_bounds_train_all_the_same(eps: float) -> None:
    trained = train(eps=eps, max_epochs=1)
    assert np.isfinite(predictions(trained, waves(5))).all()
    assert json.dumps(trained.record, allow_nan=False)


def test_two_windows_with_an_outlier() -> None:
    x = waves(2)
    x[1, 5] = 3e38
    trained = train_btae(x, eps=0.1, config=SMALL, max_epochs=2, device="cpu")
    assert (trained.record["sample"], trained.record["held_out"]) == (2, 1)
    assert np.isfinite(predictions(trained, x)).all()


@pytest.mark.parametrize("constant", [0.0, 3.5, -1e30])
def test_constant_windows(constant: float) -> None:
    x = np.full((20, 32), constant, np.float32)
    trained = train_btae(x, eps=1e-3, config=SMALL, max_epochs=1, device="cpu")
    assert trained.record["std"] == 1.0
    assert np.isfinite(predictions(trained, x)).all()


def test_without_latents() -> None:
    config = BTAEConfig(window=32, latents=0, patch=8)
    trained = train(config=config)
    assert encode_latents(trained.encoder, waves(7)).shape == (7, 0)
    assert len(np.unique(predictions(trained, waves(7)), axis=0)) == 1


def test_latents_do_not_depend_on_the_batch(trained: TrainedBTAE) -> None:
    x = waves(50)
    whole = encode_latents(trained.encoder, x)
    assert whole.shape == (50, 2)
    assert whole.dtype == np.uint8
    assert encode_latents(trained.encoder, x[:0]).shape == (0, 2)
    assert np.count_nonzero(encode_latents(trained.encoder, x[10:20]) != whole[10:20]) <= 1  # torch is no integer


@pytest.mark.parametrize(
    ("windows", "match"),
    [
        (np.zeros((1, 32), np.float32), "shape"),
        (np.zeros((9, 31), np.float32), "shape"),
        (np.zeros(32, np.float32), "shape"),
        (np.full((9, 32), np.inf, np.float32), "not finite"),
    ],
)
def test_refuses_windows(windows: NDArray[np.float32], match: str) -> None:
    with pytest.raises(InvalidSeries, match=match):
        train_btae(windows, eps=0.1, config=SMALL)


def test_names_the_row_that_is_not_finite() -> None:
    x = waves(9)
    x[4, 3] = np.nan
    with pytest.raises(InvalidSeries) as caught:
        train_btae(x, eps=0.1, config=SMALL)
    assert caught.value.row == 4


@pytest.mark.parametrize(
    "bad", [{"eps": 0.0}, {"eps": float("nan")}, {"loss": "l3"}, {"budget_seconds": 0}, {"max_epochs": 0}]
)
def test_refuses_arguments(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        train(**bad)


@pytest.mark.parametrize(
    "bad",
    [{"window": 0}, {"window": 1025}, {"latents": 257}, {"latents": -1}, {"patch": 7}, {"patch": 0}, {"layers": 0}],
)
def test_refuses_shapes(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        BTAEConfig(**bad)


def test_bytes_round_trip(trained: TrainedBTAE) -> None:
    assert pack_decoder(*load_decoder(trained.weights)) == trained.weights
    assert pack_encoder(*load_encoder(trained.encoder)) == trained.encoder


@pytest.mark.parametrize("part", ["weights", "encoder"])
def test_damaged_bytes(trained: TrainedBTAE, part: str) -> None:
    data: bytes = getattr(trained, part)
    load: Any = load_decoder if part == "weights" else load_encoder
    nan = np.float64(np.nan).tobytes()
    for damaged in (b"", data[:31], data[:-1], data + b"\0", b"X" + data[1:], data[:4] + b"\2" + data[5:],
                    data[:6] + b"\0\0" + data[8:], data[:24] + nan + data[32:]):  # fmt: skip
        with pytest.raises(CorruptSegment):
            load(damaged)
