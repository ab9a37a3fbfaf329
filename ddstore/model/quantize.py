"""Trained weights as bytes: the BTAE section that the C core decodes, and the encoder that only training hosts use.

The section's layout is specified in docs/format.md. Everything is little-endian. Quantizing loses nothing that training
did not already see: the decoder rounds its weights to the same grid in every forward pass.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddstore.errors import CorruptSegment
from ddstore.model.btae import INT8, INT16, Q_GATE, Q_POS, Q_SCORE, BTAEConfig, Decoder, Encoder, Linear, row_scales

__all__ = ["load_decoder", "load_encoder", "pack_decoder", "pack_encoder", "pack_linear"]

_HEADER = struct.Struct("<4sBBHHHI2d")  # magic, version, layers, window, latents, patch, 0, mean, std
_DECODER, _ENCODER, _VERSION = b"BTAE", b"BTEN", 1


def pack_decoder(decoder: Decoder, config: BTAEConfig, mean: float, std: float) -> bytes:
    """The BTAE section: ``decoder`` in int8, and the units its predictions are in."""
    parts = [_header(_DECODER, config, mean, std)]
    for item in _tensors(decoder):
        if isinstance(item, Linear):
            parts += pack_linear(item)
        else:
            tensor, bits, width = item
            limits = INT8 if width == 1 else INT16
            parts.append(_grid(tensor, bits, limits).astype(f"<i{width}").tobytes())
    return b"".join(parts)


def pack_linear(layer: Linear) -> tuple[bytes, bytes, bytes]:
    """Shifts, biases and weights of a linear layer."""
    scale = row_scales(layer.weight.detach())
    weight = torch.round(layer.weight.detach() * scale[:, None]).clamp(-127, 127)
    return (
        (torch.frexp(scale)[1] - 1).cpu().numpy().astype(np.uint8).tobytes(),
        _grid(layer.bias, layer.bits, INT16).astype("<i2").tobytes(),
        weight.cpu().numpy().astype(np.int8).tobytes(),
    )


@torch.no_grad()
def load_decoder(section: bytes) -> tuple[Decoder, BTAEConfig, float, float]:
    """The inverse of :func:`pack_decoder`: decoder, configuration, mean and standard deviation.

    Raises:
        CorruptSegment: the bytes are no BTAE section.
    """
    config, mean, std = _read_header(_DECODER, section)
    reader = _Reader(section, _HEADER.size)
    decoder = Decoder(config)
    for item in _tensors(decoder):
        if isinstance(item, Linear):
            rows, inputs = item.weight.shape
            shifts = reader.take(rows, "u1").astype(np.int64)
            item.bias.copy_(torch.from_numpy(reader.take(rows, "<i2") / 2.0**item.bits))
            weight = reader.take(rows * inputs, "i1").reshape(rows, inputs)
            item.weight.copy_(torch.from_numpy(weight / np.exp2(shifts)[:, None]))
        else:
            tensor, bits, width = item
            values = reader.take(tensor.numel(), f"<i{width}").reshape(tensor.shape)
            tensor.copy_(torch.from_numpy(values / 2.0**bits))
    reader.finish()
    return decoder, config, mean, std


def pack_encoder(encoder: Encoder | None, config: BTAEConfig, mean: float, std: float) -> bytes:
    """The encoder in float16, with the units its input is normalised to. Without latents there is only the header."""
    parts = [_header(_ENCODER, config, mean, std)]
    if encoder is not None:
        for tensor in encoder.parameters():
            half = tensor.detach().cpu().clamp(-65504, 65504).to(torch.float16)
            parts.append(half.numpy().astype("<f2").tobytes())
    return b"".join(parts)


@torch.no_grad()
def load_encoder(data: bytes) -> tuple[Encoder | None, BTAEConfig, float, float]:
    """The inverse of :func:`pack_encoder`, weights in float32.

    Raises:
        CorruptSegment: the bytes are no encoder.
    """
    config, mean, std = _read_header(_ENCODER, data)
    reader = _Reader(data, _HEADER.size)
    encoder = Encoder(config) if config.latents else None
    if encoder is not None:
        for tensor in encoder.parameters():
            values = reader.take(tensor.numel(), "<f2").astype(np.float32)
            tensor.copy_(torch.from_numpy(values).view(tensor.shape))
    reader.finish()
    return encoder, config, mean, std


def _tensors(decoder: Decoder) -> Iterator[Linear | tuple[Tensor, int, int]]:
    """Everything the section stores, in its order: linear layers, and (tensor, fractional bits, bytes each)."""
    yield decoder.augment
    yield decoder.gate, Q_GATE, 1
    yield decoder.embed
    yield decoder.position, Q_POS, 1
    for layer in decoder.layers:
        yield layer.qkv  # type: ignore[misc]
        yield layer.distance, Q_SCORE, 2  # type: ignore[misc]
        yield layer.proj  # type: ignore[misc]
        yield layer.up  # type: ignore[misc]
        yield layer.down  # type: ignore[misc]
    yield decoder.head


def _grid(tensor: Tensor, bits: int, limits: tuple[int, int]) -> NDArray[np.float32]:
    """``tensor`` as integers on the grid 2**-bits, rounded as :func:`ddstore.model.btae.fixed` does."""
    rounded = torch.floor(tensor.detach() * 2.0**bits + 0.5).clamp(*limits)
    out: NDArray[np.float32] = rounded.cpu().numpy()
    return out


def _header(magic: bytes, config: BTAEConfig, mean: float, std: float) -> bytes:
    return _HEADER.pack(
        magic, _VERSION, config.layers, config.window, config.latents, config.patch, 0, float(mean), float(std)
    )


def _read_header(magic: bytes, data: bytes) -> tuple[BTAEConfig, float, float]:
    if len(data) < _HEADER.size:
        raise CorruptSegment("model bytes are shorter than their header")
    found, version, layers, window, latents, patch, zero, mean, std = _HEADER.unpack_from(data)
    if found != magic or zero != 0:
        raise CorruptSegment(f"model bytes do not start with {magic.decode()}")
    if version != _VERSION:
        raise CorruptSegment(f"model bytes have version {version}", remedy="Upgrade ddstore.")
    try:
        config = BTAEConfig(window=window, latents=latents, patch=patch, layers=layers)
    except ValueError as error:
        raise CorruptSegment(f"model bytes describe an impossible shape: {error}") from error
    if not (np.isfinite(mean) and np.isfinite(std) and std > 0):
        raise CorruptSegment(f"model bytes have mean {mean} and standard deviation {std}")
    return config, mean, std


class _Reader:
    """Takes arrays off the front of bytes."""

    def __init__(self, data: bytes, offset: int) -> None:
        self._data, self._offset = data, offset

    def take(self, count: int, dtype: str) -> NDArray[Any]:
        size = count * np.dtype(dtype).itemsize
        if self._offset + size > len(self._data):
            raise CorruptSegment("model bytes are truncated")
        out = np.frombuffer(self._data, dtype, count, self._offset)
        self._offset += size
        return out

    def finish(self) -> None:
        if self._offset != len(self._data):
            raise CorruptSegment("model bytes have bytes left over")
