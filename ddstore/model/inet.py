"""The net of mode interp: decoded rows on both sides of a row in, that row's distribution out; and its training.

    points and residuals of coarser levels (int16, from the C core) -> two hidden layers -> a mixture of four logistic
    distributions, whose mean is the row's prediction

The layers compute exactly what ``inet.c`` computes, in the manner of :mod:`ddstore.model.net`. Rows of a batch have the
neighbours that decoding will give them, as far as the net is trained: the path through the points that are legal
follows from the predictions, and is found anew by the core at the start of each round.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ddstore import _native
from ddstore.codec.archive import Between
from ddstore.errors import InvalidSeries
from ddstore.model.net import ONE, MixtureNet, code_length, mixture_mean, pack_layers
from ddstore.model.train import pick_device, reproducible
from ddstore.model.train_net import CHUNK, TrainedNet, descend

__all__ = ["INPUTS", "pack_inet", "train_inet"]

INPUTS = 32
_NARROWEST = 0.01  # deviation of a part, in widths
_ROUNDS = 24
_ANYWHERE = 0.7  # the share of the way on which rows may lie anywhere in their cells, not where predictions put those


def pack_inet(net: MixtureNet) -> bytes:
    """The INET section of docs/format.md."""
    return b"INET" + bytes([1, *net.hidden, 0]) + pack_layers(net)


def train_inet(
    segments: Sequence[Between],
    *,
    hidden: tuple[int, int] = (32, 24),
    seed: int = 0,
    budget_seconds: float = 60.0,
    max_steps: int | None = None,
    device: torch.device | str | None = None,
) -> TrainedNet:
    """Train a net of mode interp; ``hidden`` are its layers' widths, the rest as in :func:`~ddstore.model.train_net`.

    Raises:
        InvalidSeries: there are no rows between others.
        ValueError: a budget makes no sense.
    """
    segments = [segment for segment in segments if len(segment.highest) > 1 and segment.stride > 0]
    if not segments:
        raise InvalidSeries("a net of mode interp needs rows between others")
    device = torch.device(device) if device is not None else pick_device()
    with reproducible(seed):
        net = MixtureNet(INPUTS, hidden)
        record = descend(
            net,
            lambda: _Rows.of(segments, pack_inet(net)).to(device),
            seed=seed,
            budget_seconds=budget_seconds,
            max_steps=max_steps,
            device=device,
            rounds=_ROUNDS,
        )
    return TrainedNet(pack_inet(net.cpu()), record | {"kind": "inet", "hidden": list(hidden)})


@dataclass(frozen=True, slots=True)
class _Rows:
    """What training knows of each row: the core's inputs and scale, and the middle of what is legal, all in widths."""

    inputs: Tensor
    scale: Tensor
    target: Tensor

    @classmethod
    def of(cls, segments: Sequence[Between], section: bytes) -> _Rows:
        parts = []
        for segment in segments:
            highest = np.ascontiguousarray(segment.highest, dtype=np.int64)
            seen, _, scales, targets = _native.inet_trace(section, highest, segment.width, segment.stride)
            made = ((seen, np.int16), (scales, np.float32), (targets, np.float32))
            parts.append([np.frombuffer(data, dtype) for data, dtype in made])
        inputs, scale, target = (torch.from_numpy(np.concatenate(part)) for part in zip(*parts, strict=True))
        return cls(inputs.reshape(-1, INPUTS), scale, target)

    def to(self, device: torch.device) -> _Rows:
        return _Rows(self.inputs.to(device), self.scale.to(device), self.target.to(device))

    def __len__(self) -> int:
        return len(self.target)

    def bits(self, net: MixtureNet, rows: Tensor | slice, stage: float) -> Tensor:
        output, scale, target = net(self.inputs[rows].float().mul_(1 / ONE)), self.scale[rows], self.target[rows]
        with torch.no_grad():  # the point that is taken: any legal one, or where steps from the prediction lead
            if stage < _ANYWHERE:
                point = target + torch.rand_like(target) - 0.5
            else:
                point = mixture_mean(output, scale)
                point += torch.round(target - point)
        return code_length(output, scale, point, _NARROWEST)

    @torch.no_grad()
    def mean_bits(self, net: MixtureNet) -> float:
        parts = [slice(start, start + CHUNK) for start in range(0, len(self), CHUNK)]
        return math.fsum(float(self.bits(net, part, 1.0).sum()) for part in parts) / len(self)
