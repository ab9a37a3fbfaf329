"""The Bernoulli transformer autoencoder (BTAE) of the Deep Dict paper, in the arithmetic that decodes it.

    window (T samples) -> encoder FFN -> c Bernoulli bits        float; runs where torch is
    bits -> augmenting FFN -> tokens -> 2 transformer layers
         with relative positional attention -> patches           integers; runs in the C core (btae.c)

The decoder below computes exactly what ``btae.c`` computes. Every activation is a real number on a binary grid
(``Q12`` means a multiple of 2**-12), every weight an int8 times a power of two, so that in float64 each step is exact
and the result equals the core's bit for bit; in float32, in which we train, the odd rounding differs. Softmax, GELU and
layer norm have integer forms, in the manner of I-BERT (Kim et al. 2021). In the backward pass each rounding is the
identity where it does not saturate, and each integer form has the derivative of what it approximates.

Shapes: B windows, T samples, P samples per patch, N = T / P tokens, D = 32 (d_model), H = 8 heads, E = D / H.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["BTAE", "DIM", "FFN", "HEADS", "HIDDEN", "BTAEConfig", "Decoder", "Encoder", "Linear"]

DIM, HEADS, FFN, HIDDEN = 32, 8, 64, 64  # fixed by the byte format (and the paper)

# Grids, as numbers of fractional bits.
Q_ACT = 12  # normalised activations, hidden activations, latents and the output
Q_STREAM = 11  # the residual stream, and queries, keys and values
Q_SCORE = 10  # attention scores, in powers of two
Q_GATE = 6
Q_POS = 5

INT8 = (-128, 127)
INT15 = (-(1 << 14), (1 << 14) - 1)  # queries, keys, values: four products of two of them fit in int32
INT16 = (-(1 << 15), (1 << 15) - 1)
INT21 = (-(1 << 20), 1 << 20)
MAX_SHIFT = 15


@dataclass(frozen=True, slots=True)
class BTAEConfig:
    """The shape of a BTAE; what is not here is fixed by the format.

    Attributes:
        window: T, samples seen at once.
        latents: |c|, Bernoulli bits per window; 0 leaves a learned constant window.
        patch: samples per token (1 is the paper; 16 decodes an order of magnitude faster).
        layers: transformer layers.
    """

    window: int = 128
    latents: int = 32
    patch: int = 16
    layers: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.window <= 1024:
            raise ValueError(f"window must be 1 to 1024 samples, not {self.window}")
        if not 0 <= self.latents <= 256:
            raise ValueError(f"latents must be 0 to 256 bits, not {self.latents}")
        if self.patch < 1 or self.window % self.patch or self.tokens > 256:
            raise ValueError(f"patch {self.patch} must divide window {self.window} into at most 256 tokens")
        if not 1 <= self.layers <= 4:
            raise ValueError(f"layers must be 1 to 4, not {self.layers}")

    @property
    def tokens(self) -> int:
        """N = T / P."""
        return self.window // self.patch

    @property
    def latent_bytes(self) -> int:
        """Bytes of packed latents per window."""
        return (self.latents + 7) // 8


# ---- integer arithmetic as differentiable functions ----


class _Fixed(torch.autograd.Function):
    """Round half up to a multiple of 2**-bits and saturate; the gradient passes where nothing saturated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: int, low: int, high: int) -> Tensor:
        rounded = (x * 2.0**bits).add_(0.5).floor_()
        y = rounded.clamp(low, high)
        ctx.save_for_backward(rounded.eq_(y))
        return y.mul_(2.0**-bits)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return grad[0] * inside, None, None, None


class _Weight(torch.autograd.Function):
    """Round rows to int8 times a power of two, see :func:`row_scales`; straight-through gradient."""

    @staticmethod
    def forward(ctx: Any, w: Tensor) -> Tensor:
        scale = row_scales(w)[:, None]
        return (w * scale).round_().clamp_(-127, 127).div_(scale)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> Tensor:
        return grad[0]


class _Gelu(torch.autograd.Function):
    """relu(x) - |x| max(0, 1 - |x|/2.5)**2 / 2, Q12: I-BERT's erf made continuous at 0, off GELU by < 0.025."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        magnitude = x.abs().mul_(4096.0)
        v = magnitude.neg().add_(10240.0).clamp_(min=0)
        half_square = v.square_().mul_(2.0**-11).floor_().mul_(20972.0).mul_(2.0**-15).floor_()  # (v/2.5)**2 / 2, Q16
        dip = half_square.mul_(magnitude).add_(32768.0).mul_(2.0**-16).floor_().mul_(2.0**-Q_ACT)
        return x.clamp(min=0).sub_(dip)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        v = x.abs().mul_(-0.4).add_(1.0).clamp_(min=0)
        slope = x.sign().mul_(0.5).mul_(1 - v * v).add_(0.5).addcmul_(x, v, value=0.4)
        out: Tensor = slope.mul_(grad[0])
        return out


class _Norm(torch.autograd.Function):
    """(x - mean) / deviation over the last D values, Q11 -> Q12. Gain and bias live in the next linear layer."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x * 2.0**Q_STREAM
        centred = x.sub_(torch.floor((x.sum(-1, keepdim=True) + DIM // 2) / DIM))
        deviation16 = torch.floor(torch.sqrt(8 * centred.square().sum(-1, keepdim=True))).clamp_(min=16)
        reciprocal = torch.floor((1 << 30) / deviation16)
        y = centred.mul_(reciprocal).add_(8192.0).mul_(2.0**-14).floor_().mul_(2.0**-Q_ACT)
        ctx.save_for_backward(y, deviation16 / (16 << Q_STREAM))
        return y

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> Tensor:
        y, deviation = ctx.saved_tensors
        g = grad[0]
        out: Tensor = (g - g.mean(-1, keepdim=True) - y * (g * y).mean(-1, keepdim=True)) / deviation
        return out


class _Softmax2(torch.autograd.Function):
    """2**(x - max) normalised over the last axis, Q10 -> Q14. 2**-f on [0, 1) is a parabola exact at both ends."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        z = (x.amax(-1, keepdim=True) - x).mul_(2.0**Q_SCORE)
        whole = (z * 2.0**-10).floor_()
        f = z.sub_(whole, alpha=1024)
        p = (f * (2811 / 1024)).floor_().neg_().add_(11003.0).mul_(f).mul_(2.0**-10).floor_().neg_().add_(16384.0)
        e = p.mul_(whole.clamp_(max=15).neg_().exp2_()).floor_()  # exp2 is exact for integers
        reciprocal = torch.floor((1 << 30) / e.sum(-1, keepdim=True))
        y = e.mul_(reciprocal).mul_(2.0**-16).floor_().mul_(2.0**-14)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        g = grad[0]
        out: Tensor = math.log(2) * y * (g - (g * y).sum(-1, keepdim=True))
        return out


class _Bernoulli(torch.autograd.Function):
    """Sample bits from probabilities; straight-through gradient, as in the paper."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, uniform: Tensor) -> Tensor:
        return (uniform < p).to(p.dtype)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None]:
        return grad[0], None


def fixed(x: Tensor, bits: int, limits: tuple[int, int]) -> Tensor:
    """``x`` rounded to multiples of 2**-bits and saturated at ``limits`` (integers on that grid)."""
    y: Tensor = _Fixed.apply(x, bits, *limits)  # type: ignore[no-untyped-call]
    return y


def gelu(x: Tensor) -> Tensor:
    """GELU, integer form."""
    y: Tensor = _Gelu.apply(x)  # type: ignore[no-untyped-call]
    return y


def norm(x: Tensor) -> Tensor:
    """Layer norm without gain and bias, integer form."""
    y: Tensor = _Norm.apply(x)  # type: ignore[no-untyped-call]
    return y


def softmax2(x: Tensor) -> Tensor:
    """Base-2 softmax, integer form (the network learns the factor log2 e)."""
    y: Tensor = _Softmax2.apply(x)  # type: ignore[no-untyped-call]
    return y


def row_scales(w: Tensor) -> Tensor:
    """Per row of ``w`` (R, K) the largest 2**s, s in 1..15, with max|w| * 2**s <= 127 (or 2: weights stay below 63)."""
    largest = w.detach().abs().amax(1) if w.shape[1] else w.new_zeros(w.shape[0])
    exponent = torch.frexp(127 / largest.clamp(min=1e-9))[1] - 1  # floor(log2), exactly
    return exponent.clamp(1, MAX_SHIFT).to(w.dtype).exp2_()


# ---- the model ----


class Linear(nn.Linear):
    """A linear layer with int8 rows and int16 biases on the grid of its output."""

    def __init__(self, inputs: int, outputs: int, bits: int) -> None:
        super().__init__(max(inputs, 1), outputs)
        if inputs == 0:
            self.weight = nn.Parameter(torch.zeros(outputs, 0))
        self.bits = bits

    def forward(self, x: Tensor) -> Tensor:
        """(..., K) -> (..., R), not yet rounded: the caller says where it saturates."""
        weight: Tensor = _Weight.apply(self.weight)  # type: ignore[no-untyped-call]
        return F.linear(x, weight, fixed(self.bias, self.bits, INT16))


class Encoder(nn.Module):
    """Three-layer FFN from a normalised window (B, T) to Bernoulli probabilities (B, |c|)."""

    def __init__(self, config: BTAEConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(config.window, HIDDEN),
            nn.GELU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.GELU(),
            nn.Linear(HIDDEN, config.latents),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.layers(x))


class Layer(nn.Module):
    """Pre-norm transformer layer; a learned bias per head and distance makes its attention relative."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.qkv = Linear(DIM, 3 * DIM, Q_STREAM)
        self.distance = nn.Parameter(torch.zeros(HEADS, 2 * tokens - 1))  # bias of key j for query i at j - i + N - 1
        self.proj = Linear(DIM, DIM, Q_STREAM)
        self.up = Linear(DIM, FFN, Q_ACT)
        self.down = Linear(FFN, DIM, Q_STREAM)
        position = torch.arange(tokens)
        self.register_buffer("offset", position[None, :] - position[:, None] + tokens - 1, persistent=False)

    def forward(self, h: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D), Q11."""
        b, n, _ = h.shape
        qkv = fixed(self.qkv(norm(h)), Q_STREAM, INT15)
        q, k, v = qkv.view(b, n, 3, HEADS, DIM // HEADS).permute(2, 0, 3, 1, 4)  # each (B, H, N, E)
        scores = fixed(q @ k.transpose(-1, -2) * 0.5, Q_SCORE, (-(1 << 31), 1 << 31))  # 1/sqrt(E)
        bias = fixed(self.distance, Q_SCORE, INT16)[:, self.offset]  # type: ignore[index]
        mixed = fixed(softmax2(scores + bias) @ v, Q_STREAM, INT16)
        h = fixed(h + self.proj(mixed.transpose(1, 2).reshape(b, n, DIM)), Q_STREAM, INT16)
        return fixed(h + self.down(gelu(fixed(self.up(norm(h)), Q_ACT, INT16))), Q_STREAM, INT16)


class Decoder(nn.Module):
    """Latent bits (B, |c|) -> predicted windows (B, T) in normalised units, Q12."""

    def __init__(self, config: BTAEConfig) -> None:
        super().__init__()
        self.augment = Linear(config.latents, HIDDEN, Q_ACT)
        self.gate = nn.Parameter(1 + 0.5 * torch.randn(config.tokens, HIDDEN))
        self.embed = Linear(HIDDEN, DIM, Q_STREAM)
        self.position = nn.Parameter(0.3 * torch.randn(config.tokens, DIM))
        self.layers = nn.ModuleList(Layer(config.tokens) for _ in range(config.layers))
        self.head = Linear(DIM, config.patch, Q_ACT)

    def forward(self, bits: Tensor) -> Tensor:
        u = gelu(fixed(self.augment(2 * bits - 1), Q_ACT, INT16))  # (B, 64)
        gate = fixed(self.gate, Q_GATE, INT8)  # (N, 64): a token is the augmented code as seen from its position
        h = self.embed(fixed(u[:, None, :] * gate, Q_ACT, INT16))
        h = fixed(h + fixed(self.position, Q_POS, INT8), Q_STREAM, INT16)
        for layer in self.layers:
            h = layer(h)
        return fixed(self.head(norm(h)), Q_ACT, INT21).flatten(1)


class BTAE(nn.Module):
    """Encoder, Bernoulli latents and decoder."""

    def __init__(self, config: BTAEConfig) -> None:
        super().__init__()
        self.config = config
        self.noise = 1.0  # in training: 1 samples the bits, 0 takes p > 0.5 as encoding does, training goes from 1 to 0
        self.encoder = Encoder(config) if config.latents else None
        self.decoder = Decoder(config)

    def bits(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Latent bits (B, |c|) of normalised windows: sampled when training, p > 0.5 otherwise."""
        if self.encoder is None:
            return x.new_zeros(len(x), 0)
        p: Tensor = self.encoder(x)
        if not self.training:
            return (p > 0.5).to(x.dtype)
        uniform = torch.rand(p.shape, generator=generator, device=p.device, dtype=p.dtype)
        uniform = 0.5 + self.noise * (uniform - 0.5)
        bits: Tensor = _Bernoulli.apply(p, uniform)  # type: ignore[no-untyped-call]
        return bits

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Normalised windows (B, T) -> their predictions (B, T)."""
        out: Tensor = self.decoder(self.bits(x, generator))
        return out
