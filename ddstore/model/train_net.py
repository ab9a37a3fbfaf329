"""Training a density net on lattice indices: which stretches, how long, and the record that makes it reproducible.

A step sees a random batch of rows, each with its own past (teacher forcing), and lowers the bits that they take. Given
``max_steps`` and a budget that outlasts them, the same indices, seed and configuration give the same bytes on the same
machine's CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddstore import _native
from ddstore.errors import InvalidSeries
from ddstore.model.net import EXTRAS, ONE, DensityNet, MixtureNet, NetConfig, code_length, learning_rate, pack_net
from ddstore.model.train import pick_device, reproducible

__all__ = ["CHUNK", "Stretch", "TrainedNet", "descend", "train_net"]

BATCH = 1024
BETAS = (0.9, 0.99)
WEIGHT_DECAY = 1e-4
CHUNK = 65536  # rows looked at when code lengths are measured


@dataclass(frozen=True, slots=True)
class Stretch:
    """Indices of neighbouring rows on one lattice.

    Attributes:
        index: (n,) int64.
        base: the index of the column's mean.
        unit: how many of its standard deviations an index is.
    """

    index: NDArray[np.int64]
    base: int
    unit: float


@dataclass(frozen=True, slots=True)
class TrainedNet:
    """A trained net.

    Attributes:
        section: the DNET or INET section.
        record: how it came about; JSON-serialisable.
    """

    section: bytes
    record: dict[str, Any]


def train_net(
    stretches: Sequence[Stretch],
    *,
    mean: float,
    std: float,
    config: NetConfig | None = None,
    seed: int = 0,
    budget_seconds: float = 60.0,
    max_steps: int | None = None,
    device: torch.device | str | None = None,
) -> TrainedNet:
    """Train a density net on the rows of ``stretches``.

    Args:
        stretches: rows as they are going to be coded; at least two in one of them.
        mean: of the column, in its own unit, as the stretches' bases have it.
        std: its standard deviation, likewise.
        config: shape.
        seed: of the initial weights and the batches.
        budget_seconds: wall time, after which the weights so far are returned.
        max_steps: batches; the learning rate then follows them, not time.
        device: defaults to :func:`~ddstore.model.train.pick_device`.

    Raises:
        InvalidSeries: there are no two rows on end.
        ValueError: a budget makes no sense.
    """
    config = config or NetConfig()
    stretches = [stretch for stretch in stretches if len(stretch.index) > 1]
    if not stretches:
        raise InvalidSeries("a density net needs two rows on end")
    device = torch.device(device) if device is not None else pick_device()
    pace = float(np.mean([np.abs(np.diff(stretch.index)).mean() for stretch in stretches]))
    with reproducible(seed):
        net = DensityNet(config)
        rows = _Rows.of(stretches, pack_net(net, pace, mean, std), config).to(device)
        record = descend(
            net, lambda: rows, seed=seed, budget_seconds=budget_seconds, max_steps=max_steps, device=device
        )
    record |= {"kind": "net", "lags": list(config.lags), "hidden": list(config.hidden), "mean": mean, "std": std}
    return TrainedNet(pack_net(net.cpu(), pace, mean, std), record)


class Rows(Protocol):
    """What a net is trained on."""

    def __len__(self) -> int: ...

    def bits(self, net: MixtureNet, rows: Tensor | slice, stage: float) -> Tensor:
        """What each of some rows takes, a share ``stage`` of the way."""

    def mean_bits(self, net: MixtureNet) -> float:
        """What a row takes in the end."""


def descend(
    net: MixtureNet,
    rows_now: Callable[[], Rows],
    *,
    seed: int,
    budget_seconds: float,
    max_steps: int | None,
    device: torch.device,
    rounds: int = 1,
) -> dict[str, Any]:
    """Train a net; returns the record of it.

    Args:
        net: what is trained, in place.
        rows_now: the rows, which may depend on what the net is by now: asked for at the start of each round.
        seed: of the batches.
        budget_seconds: wall time.
        max_steps: batches, or None: until time is up.
        device: where.
        rounds: equal parts of the way.

    Raises:
        ValueError: a budget makes no sense.
    """
    started = time.monotonic()
    if budget_seconds <= 0 or (max_steps is not None and max_steps < 1):
        raise ValueError("budget_seconds and max_steps must allow at least one step")
    net.to(device)
    generator = torch.Generator(device).manual_seed(seed)
    optimiser = torch.optim.AdamW(net.parameters(), betas=BETAS, weight_decay=WEIGHT_DECAY, fused=device.type != "mps")
    rows, round_, steps = rows_now(), 0, 0
    while True:
        stage = (time.monotonic() - started) / budget_seconds
        if max_steps is not None:  # time never moves the learning rate here, it only ends the run
            stage = 1.0 if stage >= 1 else steps / max_steps
        if stage >= 1 and steps:
            break
        stage = min(stage, 1.0)
        if int(stage * rounds) > round_:
            rows, round_ = rows_now(), int(stage * rounds)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(steps, stage)
        batch = torch.randint(len(rows), (BATCH,), generator=generator, device=device)
        loss = rows.bits(net, batch, stage).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        steps += 1
    return {
        "seed": seed,
        "rows": len(rows),
        "steps": steps,
        "batch": BATCH,
        "trained_bits": round(rows.mean_bits(net), 5),
        "budget_seconds": budget_seconds,
        "max_steps": max_steps,
        "seconds": round(time.monotonic() - started, 3),
        "device": str(device),
        "torch": torch.__version__,
    }


@dataclass(frozen=True, slots=True)
class _Rows:
    """What training knows of each row: the core's inputs and scale, and the move that is to be foretold."""

    inputs: Tensor
    scale: Tensor
    move: Tensor

    @classmethod
    def of(cls, stretches: Sequence[Stretch], section: bytes, config: NetConfig) -> _Rows:
        wide = len(config.lags) + EXTRAS
        inputs, scales, moves = [], [], []
        for stretch in stretches:
            index = np.ascontiguousarray(stretch.index, dtype=np.int64)
            seen, scale, _ = _native.net_trace(section, index, stretch.base, stretch.unit)
            inputs.append(np.frombuffer(seen, np.int16).reshape(-1, wide)[1:])
            scales.append(np.frombuffer(scale, np.float32)[1:])
            moves.append(np.diff(index).astype(np.float32))
        return cls(*(torch.from_numpy(np.concatenate(part)) for part in (inputs, scales, moves)))

    def to(self, device: torch.device) -> _Rows:
        return _Rows(self.inputs.to(device), self.scale.to(device), self.move.to(device))

    def __len__(self) -> int:
        return len(self.move)

    def bits(self, net: MixtureNet, rows: Tensor | slice, stage: float) -> Tensor:
        return code_length(net(self.inputs[rows].float().mul_(1 / ONE)), self.scale[rows], self.move[rows])

    @torch.no_grad()
    def mean_bits(self, net: MixtureNet) -> float:
        parts = [slice(start, start + CHUNK) for start in range(0, len(self.move), CHUNK)]
        return math.fsum(float(self.bits(net, part, 1.0).sum()) for part in parts) / len(self.move)
