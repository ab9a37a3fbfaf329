"""QEL is the paper's formula, its gradient is the gradient of entropy, and it tends to the true entropy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="the training extra is not installed")

from ddstore.model.losses import l1, l2, make_loss, qel, quantized_entropy  # noqa: E402


def paper_qel(residual: NDArray[np.float64], eps: float, b: int) -> float:
    """Equations 2 to 4 written down directly, over every bin."""
    bins = np.arange(np.floor(residual.min() / (2 * eps)) - 8, np.ceil(residual.max() / (2 * eps)) + 9)
    member = 1 / (1 + np.abs((residual[:, None] - 2 * eps * bins) / eps) ** (2 * b))
    p = member.mean(axis=0)
    p /= p.sum()
    return float(-(p * np.log2(p)).sum())


@pytest.mark.parametrize(("eps", "b"), [(0.5, 5), (0.1, 5), (2.0, 3), (0.5, 12)])
def test_value_is_the_papers(eps: float, b: int) -> None:
    residual = np.random.default_rng(0).normal(size=500)
    ours = float(qel(torch.from_numpy(residual), eps, b))
    assert ours == pytest.approx(paper_qel(residual, eps, b), abs=0.05 if b == 3 else 2e-3)


def test_gradient_is_the_papers() -> None:
    """Against central differences of the formula over every bin, in float64."""
    residual = np.random.default_rng(1).normal(size=60)
    eps, b, h = 0.4, 5, 1e-6
    leaf = torch.from_numpy(residual).requires_grad_()
    qel(leaf, eps, b).backward()
    numeric = np.empty_like(residual)
    for i in range(len(residual)):
        up, down = residual.copy(), residual.copy()
        up[i] += h
        down[i] -= h
        numeric[i] = (paper_qel(up, eps, b) - paper_qel(down, eps, b)) / (2 * h)
    np.testing.assert_allclose(leaf.grad.numpy(), numeric, atol=1e-4, rtol=5e-3)


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.0, 8.0])
def test_gradient_follows_the_true_entropy(sigma: float) -> None:
    """Along a family of residuals the true entropy is smooth too: its slope there is QEL's."""
    noise = torch.from_numpy(np.random.default_rng(2).normal(size=400_000))
    scale = torch.tensor(sigma, dtype=torch.float64, requires_grad=True)
    qel(noise * scale, eps=0.5, b=8).backward()
    h = 0.02 * sigma
    true = (quantized_entropy(noise * (sigma + h), 0.5) - quantized_entropy(noise * (sigma - h), 0.5)) / (2 * h)
    assert float(scale.grad) == pytest.approx(true, rel=0.06)


def test_tends_to_the_true_entropy() -> None:
    residual = torch.from_numpy(np.random.default_rng(3).laplace(size=100_000))
    true = quantized_entropy(residual, 0.3)
    gaps = [abs(float(qel(residual, 0.3, b)) - true) for b in (2, 4, 8, 128)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 1e-3


def test_wide_residuals_stay_finite() -> None:
    residual = torch.tensor([0.0, 1e9, -1e9, 3.0], requires_grad=True)
    loss = qel(residual, 1e-3)
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    assert torch.isfinite(residual.grad).all()


def test_entropy_of_known_histograms() -> None:
    assert quantized_entropy(torch.zeros(10), 0.1) == 0.0
    assert quantized_entropy(torch.tensor([0.0, 1.0, 2.0, 3.0]), 0.5) == pytest.approx(2.0)


def test_l1_l2() -> None:
    residual = torch.tensor([3.0, -4.0])
    assert float(l1(residual)) == 3.5
    assert float(l2(residual)) == 12.5
    assert make_loss("l1", 0.1) is l1
    assert make_loss("l2", 0.1) is l2
    with pytest.raises(ValueError, match="loss must be"):
        make_loss("l3", 0.1)  # type: ignore[arg-type]
