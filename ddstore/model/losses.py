"""What training minimises: L1, L2, and the paper's quantized entropy loss (QEL, equations 2 to 4)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor

__all__ = ["LossName", "l1", "l2", "make_loss", "qel", "quantized_entropy"]

LossName = Literal["qel", "l1", "l2"]
MAX_BINS = 4096  # on each side of zero; residuals beyond are counted in the last bin


def l1(residual: Tensor) -> Tensor:
    """Mean absolute residual."""
    return residual.abs().mean()


def l2(residual: Tensor) -> Tensor:
    """Mean squared residual."""
    return residual.square().mean()


def qel(residual: Tensor, eps: float, b: int = 5) -> Tensor:
    """Quantized entropy loss in bits per sample: the entropy of a soft histogram of ``residual``.

    A residual r belongs to the bin of index k (width 2 eps, centre 2 eps k) to the degree (eq. 2)

        m_k(r) = 1 / (1 + (|r - 2 eps k| / eps) ** (2 b))

    which is 1/2 on the bin's edges and tends to the indicator of the bin as b grows. Mean memberships (eq. 3), scaled
    to sum to one, are the histogram; the loss is its entropy (eq. 4). Only the three bins nearest to a residual are
    evaluated: any other has m <= 1 / (1 + 3 ** (2 b)), 0.00002 for b = 5.

    Args:
        residual: any shape, in the unit of ``eps``.
        eps: half the quantization bin.
        b: sharpness, at least 1.
    """
    u = (residual.reshape(-1) / (2 * eps)).clamp(-MAX_BINS, MAX_BINS)
    centre = torch.round(u.detach())
    near = torch.tensor([-1.0, 0.0, 1.0], dtype=u.dtype, device=u.device)
    bins = centre[:, None] + near
    member = 1 / (1 + (2 * (u[:, None] - bins)).abs().pow(2 * b))
    index = (bins - bins.min()).long().reshape(-1)
    counts = torch.zeros(int(index.max()) + 1, dtype=u.dtype, device=u.device)
    counts = counts.index_add(0, index, member.reshape(-1))
    p = counts / counts.sum()
    return -(p * torch.log2(p.clamp(min=1e-12))).sum()


def quantized_entropy(residual: Tensor, eps: float) -> float:
    """Zeroth-order entropy, in bits per sample, of ``residual`` quantized to bins of width 2 eps: what QEL tends to."""
    u = torch.round(residual.detach().double().reshape(-1) / (2 * eps)).clamp(-(2.0**52), 2.0**52)
    counts = torch.unique(u, return_counts=True)[1].double()
    p = counts / counts.sum()
    return float(-(p * torch.log2(p)).sum()) + 0.0


def make_loss(name: LossName, eps: float) -> Callable[[Tensor], Tensor]:
    """The loss called ``name`` as a function of residuals in the unit of ``eps``."""
    if name == "qel":
        return partial(qel, eps=eps)
    if name in ("l1", "l2"):
        return l1 if name == "l1" else l2
    raise ValueError(f"loss must be 'qel', 'l1' or 'l2', not {name!r}")
