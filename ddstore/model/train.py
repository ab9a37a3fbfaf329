"""Training a BTAE on one series: which windows, how long, when to stop, and the record that makes it reproducible.

Training sees a simple random sample without replacement of the series' windows, drawn by SHA-256 in counter mode from
a seed (cryptorandom, by the authors of the sampling paper). Given ``max_epochs`` and a budget that outlasts them, the
same windows, seed and configuration give the same bytes on the same machine's CPU.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from cryptorandom.cryptorandom import SHA256
from cryptorandom.sample import random_sample
from numpy.typing import NDArray
from torch import Tensor

from ddstore.errors import InvalidSeries
from ddstore.model.btae import BTAE, BTAEConfig
from ddstore.model.losses import LossName, l1, make_loss, quantized_entropy
from ddstore.model.quantize import load_decoder, load_encoder, pack_decoder, pack_encoder

__all__ = ["Progress", "TrainedBTAE", "draw_sample", "encode_latents", "pick_device", "reproducible", "train_btae"]

BATCH = 64
LEARNING_RATE = 6e-3
WARMUP_STEPS = 50
L1_SHARE = 0.4  # of a QEL run: QEL is flat where residuals are many bins wide, so L1 first brings them near
NOISE_SHARE = 0.4  # of a run: by then latents are no longer sampled but thresholded, as encoding has them
WARM_START = 0.4  # where on that schedule a model with a parent begins: its latents and units are already useful
PATIENCE = 0.35  # of the run without a better held-out loss
HELD_OUT = 0.1
EVALUATION_WINDOWS = 4096  # at once


@dataclass(frozen=True, slots=True)
class TrainedBTAE:
    """A trained model.

    Attributes:
        weights: the BTAE section: what decoding needs.
        encoder: what further encoding needs.
        record: how it came about; JSON-serialisable.
    """

    weights: bytes
    encoder: bytes
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Progress:
    """What a training run reports after every epoch.

    Attributes:
        epoch: epochs done.
        fraction: of the budget (time or epochs, whichever is further along) that is spent.
        held_out: bits per sample (QEL), or the loss, on held-out windows.
    """

    epoch: int
    fraction: float
    held_out: float


def pick_device() -> torch.device:
    """CUDA if there is one, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def draw_sample(population: int, size: int, seed: int) -> NDArray[np.int64]:
    """A simple random sample without replacement of ``size`` from 0..population-1, in random order."""
    drawn = random_sample(population, min(size, population), method="sample_by_index", prng=SHA256(seed))
    return np.asarray(drawn, dtype=np.int64)


def train_btae(
    windows: NDArray[np.float32],
    *,
    eps: float,
    config: BTAEConfig | None = None,
    loss: LossName = "qel",
    seed: int = 0,
    budget_seconds: float = 20.0,
    max_epochs: int | None = None,
    sample_windows: int = 20_000,
    parent: TrainedBTAE | None = None,
    progress: Callable[[Progress], None] | None = None,
    device: torch.device | str | None = None,
) -> TrainedBTAE:
    """Train a BTAE on a random sample of ``windows``.

    Args:
        windows: (N, T) float32 in raw units, N >= 2, all finite.
        eps: half the residual quantization bin, in raw units (for QEL and the held-out entropy).
        config: shape; its ``window`` must be T.
        loss: what to minimise.
        seed: of the sample, the initial weights, the batches and the Bernoulli draws.
        budget_seconds: wall time, after which the best weights so far are returned.
        max_epochs: passes over the sample; the learning rate then follows epochs, not time.
        sample_windows: sample size; a tenth of it is held out.
        parent: a model of the same configuration to start from (transfer learning).
        progress: called after every epoch.
        device: defaults to :func:`pick_device`.

    Raises:
        InvalidSeries: ``windows`` has another shape than (N >= 2, T), or a value is not finite.
        ValueError: ``eps``, ``loss``, a budget or ``parent`` makes no sense.
        CorruptSegment: the bytes of ``parent`` are damaged.
    """
    started = time.monotonic()
    config = config or BTAEConfig()
    windows = _check_windows(windows, config)
    if not (math.isfinite(eps) and eps > 0):
        raise ValueError(f"eps must be finite and above zero, not {eps!r}")
    if budget_seconds <= 0 or (max_epochs is not None and max_epochs < 1) or sample_windows < 2:
        raise ValueError("budget_seconds, max_epochs and sample_windows must allow at least one epoch on two windows")
    device = torch.device(device) if device is not None else pick_device()
    indices = draw_sample(len(windows), sample_windows, seed)
    sample = windows[indices].astype(np.float64)
    mean, std = _scale(sample)
    data = torch.from_numpy(((sample - mean) / std).astype(np.float32)).to(device)
    held_out = max(1, round(HELD_OUT * len(data)))  # the sample is in random order, so its head is a random part
    with reproducible(seed):
        model = BTAE(config)
        if parent is not None:
            _start_from(model, parent)
        model.to(device)
        # Any bin far below float32's resolution is as good as any other; zero would divide by zero.
        bin_half_width = max(eps / std, 1e-30)
        begin = WARM_START if parent is not None else 0.0
        run = _Run(model, data[held_out:], data[:held_out], loss, bin_half_width, seed, begin, progress)
        run.fit(started, budget_seconds, max_epochs)
    model.cpu()
    record = {
        "seed": seed,
        "generator": "cryptorandom SHA256, sample_by_index",
        "population": len(windows),
        "sample": len(indices),
        "sample_sha256": hashlib.sha256(indices.astype("<i8").tobytes()).hexdigest(),
        "held_out": held_out,
        "held_out_fraction": HELD_OUT,
        "loss": loss,
        "eps": eps,
        "mean": mean,
        "std": std,
        "config": {name: getattr(config, name) for name in ("window", "latents", "patch", "layers")},
        "epochs": len(run.held_out_losses),
        "best_epoch": run.best_epoch,
        "train_loss": [round(value, 5) for value in run.train_losses],
        "held_out_loss": [round(value, 5) for value in run.held_out_losses],
        "held_out_entropy": round(run.best_entropy, 5),
        "budget_seconds": budget_seconds,
        "max_epochs": max_epochs,
        "seconds": round(time.monotonic() - started, 3),
        "device": str(device),
        "torch": torch.__version__,
        "parent_sha256": hashlib.sha256(parent.weights).hexdigest() if parent is not None else None,
    }
    return TrainedBTAE(
        pack_decoder(model.decoder, config, mean, std), pack_encoder(model.encoder, config, mean, std), record
    )


@torch.inference_mode()
def encode_latents(
    encoder: bytes, windows: NDArray[np.float32], *, device: torch.device | str = "cpu"
) -> NDArray[np.uint8]:
    """Latent bits of ``windows`` (N, T) float32 in raw units: (N, ceil(|c| / 8)) uint8, first bit highest.

    Raises:
        InvalidSeries: ``windows`` does not have T columns, or a value is not finite.
        CorruptSegment: ``encoder`` is damaged.
    """
    network, config, mean, std = load_encoder(encoder)
    windows = _check_windows(windows, config, at_least=0)
    if network is None:
        return np.zeros((len(windows), 0), np.uint8)
    network.to(device)
    out = np.empty((len(windows), config.latent_bytes), np.uint8)
    for start in range(0, len(windows), EVALUATION_WINDOWS):
        part = slice(start, start + EVALUATION_WINDOWS)
        x = ((windows[part].astype(np.float64) - mean) / std).astype(np.float32)
        bits = (network(torch.from_numpy(x).to(device)) > 0.5).cpu().numpy()
        out[part] = np.packbits(bits, axis=1)
    return out


class _Run:
    """One optimisation: losses per epoch, and the best weights seen."""

    def __init__(
        self,
        model: BTAE,
        train: Tensor,
        held_out: Tensor,
        loss: LossName,
        eps: float,
        seed: int,
        begin: float,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.begin = begin
        self.model, self.train, self.held_out, self.eps, self.progress = model, train, held_out, eps, progress
        self.loss, self.by_entropy = make_loss(loss, eps), loss == "qel"
        self.generator = torch.Generator(train.device).manual_seed(seed)
        # MPS has no fused Adam; elsewhere one kernel instead of one per tensor halves the optimiser's time.
        self.optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=train.device.type != "mps")
        self.train_losses: list[float] = []
        self.held_out_losses: list[float] = []
        self.best_epoch, self.best_fraction, self.best_loss, self.best_entropy = 0, 0.0, math.inf, math.inf
        self.best_weights: dict[str, Tensor] = {}
        self.steps = 0

    def fit(self, started: float, budget_seconds: float, max_epochs: int | None) -> None:
        """Train until time or epochs are spent or nothing improves, and leave the best weights in the model."""
        steps_per_epoch = math.ceil(len(self.train) / BATCH)

        def spent() -> float:
            of_time = (time.monotonic() - started) / budget_seconds
            if max_epochs is None:
                return min(1.0, of_time)
            # Time never moves the learning rate here, it only ends the run: that keeps epochs reproducible.
            return 1.0 if of_time >= 1 else min(1.0, self.steps / (steps_per_epoch * max_epochs))

        while (fraction := spent()) < 1 or not self.held_out_losses:
            self.train_losses.append(self._epoch(spent))
            fraction = spent()
            self._evaluate(fraction)
            if self.progress is not None:
                self.progress(Progress(len(self.held_out_losses), fraction, self.held_out_losses[-1]))
            if fraction - max(self.best_fraction, NOISE_SHARE) > PATIENCE:
                break
        self.model.load_state_dict(self.best_weights)

    def _epoch(self, spent: Callable[[], float]) -> float:
        """One pass in random batches of 64; returns the mean training loss."""
        self.model.train()
        order = torch.randperm(len(self.train), generator=self.generator, device=self.train.device)
        losses: list[Tensor] = []
        for batch in torch.split(order, BATCH):
            fraction = spent()
            if fraction >= 1 and losses:
                break
            stage = self.begin + (1 - self.begin) * fraction
            rate = LEARNING_RATE * min(1.0, (self.steps + 1) / WARMUP_STEPS)
            for group in self.optimiser.param_groups:
                group["lr"] = rate * (0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * stage)))
            self.model.noise = max(0.0, 1 - stage / NOISE_SHARE)
            x = self.train[batch]
            residual = x - self.model(x, self.generator)
            loss = (l1 if self.by_entropy and stage < L1_SHARE else self.loss)(residual)
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimiser.step()
            self.steps += 1
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    @torch.no_grad()
    def _evaluate(self, fraction: float) -> None:
        """Held-out loss with thresholded latents, as decoding has them; remembers the best weights."""
        self.model.eval()
        residual = torch.cat([x - self.model(x) for x in torch.split(self.held_out, EVALUATION_WINDOWS)]).cpu()
        entropy = quantized_entropy(residual, self.eps)
        value = entropy if self.by_entropy else float(self.loss(residual))
        self.held_out_losses.append(value)
        if value < self.best_loss or not self.best_weights:
            self.best_epoch, self.best_fraction = len(self.held_out_losses), fraction
            self.best_loss, self.best_entropy = value, entropy
            self.best_weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}


def _check_windows(windows: NDArray[np.float32], config: BTAEConfig, at_least: int = 2) -> NDArray[np.float32]:
    windows = np.asarray(windows, dtype=np.float32)
    if windows.ndim != 2 or windows.shape[1] != config.window or len(windows) < at_least:
        raise InvalidSeries(
            f"windows have shape {windows.shape}, not (at least {at_least}, {config.window})",
            remedy="Give more rows, or choose a smaller window.",
        )
    finite = np.isfinite(windows).all(axis=1)
    if not finite.all():
        raise InvalidSeries("a window holds a value that is not finite", row=int(np.argmin(finite)))
    return windows


def _scale(sample: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard deviation; 1 for the latter where all values are equal."""
    mean, std = float(sample.mean()), float(sample.std())
    return mean, std if std > 0 else 1.0


def _start_from(model: BTAE, parent: TrainedBTAE) -> None:
    """Copy the parent's weights; its units are not taken over, the windows are normalised by their own."""
    decoder, config, _, _ = load_decoder(parent.weights)
    encoder, encoder_config, _, _ = load_encoder(parent.encoder)
    if config != model.config or encoder_config != model.config:
        raise ValueError(f"the parent model has configuration {config}, not {model.config}")
    model.decoder.load_state_dict(decoder.state_dict())
    if model.encoder is not None and encoder is not None:
        model.encoder.load_state_dict(encoder.state_dict())


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Seed torch and keep it to one CPU thread, then put both back: tensors this small gain nothing from more."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.set_num_threads(1)
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
