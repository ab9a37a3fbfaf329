"""The density net: the last indices of a column in, the distribution of the next one out.

    lags and extras (int16, from the C core) -> two hidden layers -> a mixture of four logistic distributions

The layers compute exactly what ``net.c`` computes, in the manner of :mod:`ddstore.model.btae`; the inputs are the
core's own. Training minimises the true code length, the mixture's share of each index's cell, with the real past as
context.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ddstore.model.btae import INT16, Linear, fixed, gelu
from ddstore.model.quantize import pack_linear

__all__ = [
    "EXTRAS",
    "ONE",
    "DensityNet",
    "MixtureNet",
    "NetConfig",
    "code_length",
    "learning_rate",
    "mixture_mean",
    "pack_layers",
    "pack_net",
]

EXTRAS = 16  # inputs that are not about one lag
PARTS = 4  # logistic distributions
ONE = 4096.0  # inputs, activations and outputs are Q12
_BITS = 12
_REACH = 4.0  # an output of 1 moves a centre by so many scales
_NARROWEST = 0.02  # deviation of a part, in indices
_FLOOR = 1e-6  # what any index has: the coder's decisions are never quite sure
_HEADER = struct.Struct("<4sBBBBf2d")  # magic, version, lags, hidden, hidden, pace, mean, std


def _lags() -> tuple[int, ...]:
    return tuple(range(1, 49))


@dataclass(frozen=True, slots=True)
class NetConfig:
    """The shape of a density net.

    Attributes:
        lags: how many rows back its inputs look from the last one, ascending.
        hidden: widths of its hidden layers.
    """

    lags: tuple[int, ...] = _lags()
    hidden: tuple[int, int] = (32, 32)

    def __post_init__(self) -> None:
        if not (1 <= len(self.lags) <= 112 and all(1 <= low < 65 for low in self.hidden)):
            raise ValueError("a net has 1 to 112 lags and layers of 1 to 64")
        if list(self.lags) != sorted(set(self.lags)) or not 1 <= self.lags[0] <= self.lags[-1] < 1024:
            raise ValueError("lags ascend from 1 at least to 1023 at most")


class MixtureNet(nn.Module):
    """Inputs (B, inputs) -> the mixture's logits, centres and logarithms of scales (B, 12), Q12."""

    def __init__(self, inputs: int, hidden: tuple[int, int]) -> None:
        super().__init__()
        self.hidden = first, second = hidden
        self.layers = nn.ModuleList(
            (
                Linear(inputs, first, _BITS),
                Linear(first, second, _BITS),
                Linear(second, 3 * PARTS, _BITS),
            )
        )
        with torch.no_grad():
            *_, last = _linear(self)
            last.weight.mul_(0.3)
            last.bias[2 * PARTS :] = torch.linspace(-2.2, 0.3, PARTS)

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            x = gelu(fixed(layer(x), _BITS, INT16))
        return fixed(last(x), _BITS, INT16)


class DensityNet(MixtureNet):
    """The net of :class:`NetConfig`'s shape."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__(len(config.lags) + EXTRAS, config.hidden)
        self.config = config
        with torch.no_grad():
            next(_linear(self)).weight.mul_(3)  # inputs are small


def mixture_mean(output: Tensor, scale: Tensor) -> Tensor:
    """The mean of each mixture, (B,), in the unit of ``scale``; arguments as :func:`code_length` has them."""
    share = torch.softmax(output[:, :PARTS], 1)
    return (share * output[:, PARTS : 2 * PARTS]).sum(1) * (_REACH * scale)


def code_length(output: Tensor, scale: Tensor, move: Tensor, narrowest: float = _NARROWEST) -> Tensor:
    """Bits that each move takes, shape (B,): the mixture's share of the cell around it, which is 1 wide.

    Args:
        output: of a :class:`MixtureNet`, (B, 12).
        scale: of the rows' moves, (B,), as the core has it.
        move: index less the one before, (B,).
        narrowest: deviation of a part, at least.
    """
    scale, move = scale[:, None], move[:, None]
    share = torch.log_softmax(output[:, :PARTS], 1)
    centre = _REACH * scale * output[:, PARTS : 2 * PARTS]
    width = torch.exp(output[:, 2 * PARTS :]) * scale + narrowest
    away = (move - centre).abs()  # on the side where differences of the logistic function keep their digits
    cell = torch.sigmoid((0.5 - away) / width) - torch.sigmoid((-0.5 - away) / width)
    return -torch.log2((share.exp() * cell).sum(1) * (1 - _FLOOR) + _FLOOR)


def pack_net(net: DensityNet, pace: float, mean: float, std: float) -> bytes:
    """The DNET section of docs/format.md."""
    config = net.config
    head = _HEADER.pack(b"DNET", 1, len(config.lags), *config.hidden, min(pace, 1e9), mean, std)
    lags = struct.pack(f"<{len(config.lags)}H", *config.lags)
    return head + lags + pack_layers(net)


def pack_layers(net: MixtureNet) -> bytes:
    """Its linear layers as a section has them."""
    return b"".join(part for layer in _linear(net) for part in pack_linear(layer))


def _linear(net: MixtureNet) -> Iterator[Linear]:
    for layer in net.layers:
        assert isinstance(layer, Linear)
        yield layer


def learning_rate(step: int, stage: float) -> float:
    """Of the optimiser, at a step, a share ``stage`` of the way."""
    return 1e-2 * min(1.0, (step + 1) / 100) * (0.003 + 0.997 * (0.5 + 0.5 * math.cos(math.pi * stage)))
