"""A small BTAE, trained once a session on a periodic series, a column coded with it, and training without a clock."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from ddstore.bounds import Absolute
from ddstore.codec.model import Model, pack_model
from ddstore.codec.segment import EncodedColumn, encode_column


def periodic(n: int, seed: int = 0) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Windows drawn from eight jagged templates: noise to a coder that looks back, three bits to one that learned."""
    templates = np.random.default_rng(99).normal(0, 10, (8, 128))
    rng = np.random.default_rng(seed)
    wave = templates[rng.integers(0, 8, n // 128 + 1)].ravel()[:n]
    return wave + rng.normal(0, 1.0, n)  # nothing is seen again to the letter, so there are no matches


def chaos(n: int, seed: int = 0) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A Lozi map: each value follows from the last two, but a coder that starts afresh takes long to find out how."""
    rng = np.random.default_rng(seed)
    x, y, values = 0.1, 0.1, np.empty(n)
    for i, noise in enumerate(rng.normal(0, 0.002, n)):
        x, y = 1 - 1.7 * abs(x) + y, 0.5 * x
        values[i] = x + noise
    return np.rint(values * 300)


def gaps(n: int, seed: int = 0) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Every second row is how far the two beside it are apart: no line tells that, and no row before it."""
    rng = np.random.default_rng(seed)
    own, values = rng.normal(0, 4, n // 2 + 1), np.empty(n)
    values[::2], values[1::2] = own[: (n + 1) // 2], np.abs(np.diff(own))[: n // 2]
    return values + rng.normal(0, 0.1, n)


def train_small() -> Model:
    """Trained for a few epochs; enough to beat the last value on :func:`periodic`."""
    from ddstore.model import encode_latents, train_btae

    windows = periodic(128 * 400).astype(np.float32).reshape(-1, 128)
    trained = train_btae(windows, eps=1.0, max_epochs=25, budget_seconds=60, device="cpu")
    return Model(pack_model(trained.weights), partial(encode_latents, trained.encoder))


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Train for this many epochs, not for some seconds: what comes out then depends on no clock."""
    chosen = [45]
    pytest.importorskip("torch", reason="training needs torch")
    import ddstore.model

    really = ddstore.model.train_btae

    def trained(windows: np.ndarray[Any, Any], *, eps: float, seed: int, budget_seconds: float) -> Any:
        assert budget_seconds > 0
        return really(
            windows, eps=eps, seed=seed, budget_seconds=600, max_epochs=chosen[0], sample_windows=600, device="cpu"
        )

    monkeypatch.setattr(ddstore.model, "train_btae", trained)
    return chosen


@pytest.fixture
def net_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Train nets for this many steps, not for some seconds."""
    chosen = [500]
    pytest.importorskip("torch", reason="training needs torch")
    import ddstore.model

    really = ddstore.model.train_net

    def trained(stretches: Any, *, mean: float, std: float, seed: int, budget_seconds: float) -> Any:
        assert budget_seconds > 0
        return really(stretches, mean=mean, std=std, seed=seed, budget_seconds=600, max_steps=chosen[0], device="cpu")

    between = ddstore.model.train_inet

    def trained_between(segments: Any, *, hidden: tuple[int, int], seed: int, budget_seconds: float) -> Any:
        assert budget_seconds > 0
        return between(segments, hidden=hidden, seed=seed, budget_seconds=600, max_steps=chosen[0], device="cpu")

    monkeypatch.setattr(ddstore.model, "train_net", trained)
    monkeypatch.setattr(ddstore.model, "train_inet", trained_between)
    return chosen


@pytest.fixture(scope="session")
def small_model() -> Model:
    """The model, or a skip without torch."""
    pytest.importorskip("torch", reason="training needs torch")
    return train_small()


@pytest.fixture(scope="session")
def btae_column(small_model: Model) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], EncodedColumn]:
    """(values, their encoding in btae mode)."""
    values = periodic(128 * 30 + 17, seed=1)
    coded = encode_column(values, None, type="float8", bound=Absolute(1.0), model=small_model)
    assert coded.mode == "btae"
    return values, coded


@pytest.fixture(scope="session")
def btae_case(
    small_model: Model, btae_column: tuple[np.ndarray[tuple[int], np.dtype[np.float64]], EncodedColumn]
) -> tuple[bytes, bytes, bytes, int]:
    """(residual, latents, model, n) of that column."""
    _, coded = btae_column
    assert coded.latents is not None
    return coded.residual, coded.latents, small_model.data, coded.n
