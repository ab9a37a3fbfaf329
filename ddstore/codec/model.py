"""A series' shared model, as the codec sees it: bytes that decode, and for a BTAE a function that finds latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddstore import _native
from ddstore.errors import CorruptSegment

__all__ = ["AnyModel", "InterpNet", "Model", "Net", "is_damaged", "net_of", "pack_model"]

FindLatents = Callable[[NDArray[np.float32]], NDArray[np.uint8]]


def pack_model(section: bytes) -> bytes:
    """The bytes of ``ddstore.model.bytes`` for a section: that, then its CRC32C (little-endian)."""
    return section + _native.crc32c(section).to_bytes(4, "little")


def _describe(data: bytes) -> tuple[str, int, int, float, float]:
    try:
        return _native.describe_model(data)
    except _native.CorruptError as error:
        raise CorruptSegment(f"damaged model: {error}", remedy="Restore ddstore.model from a backup.") from None


@dataclass(frozen=True, slots=True)
class Net:
    """A density net to encode with: coder ``net``.

    Args:
        data: what decoding needs, as :func:`pack_model` makes it.

    Raises:
        CorruptSegment: ``data`` is damaged.
    """

    data: bytes
    mean: float = field(init=False)
    std: float = field(init=False)

    def __post_init__(self) -> None:
        *_, mean, std = _describe(self.data)
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)


@dataclass(frozen=True, slots=True)
class InterpNet:
    """A net to encode with: coder ``net`` in mode interp.

    Args:
        data: what decoding needs, as :func:`pack_model` makes it.

    Raises:
        CorruptSegment: ``data`` is damaged.
    """

    data: bytes

    def __post_init__(self) -> None:
        _describe(self.data)

    @property
    def crc(self) -> int:
        """What columns name it by."""
        return int.from_bytes(self.data[-4:], "little")


def net_of(data: bytes) -> Net | InterpNet | None:
    """The net that a model's bytes are; None for a BTAE."""
    return Net(data) if data[:4] == b"DNET" else InterpNet(data) if data[:4] == b"INET" else None


def is_damaged(data: bytes) -> bool:
    """Whether the bytes of a model, as stored, are not what :func:`pack_model` made."""
    try:
        _native.describe_model(data)
    except _native.CorruptError:
        return True
    return False


@dataclass(frozen=True, slots=True)
class Model:
    """A model to encode with.

    Args:
        data: what decoding needs, as :func:`pack_model` makes it.
        find_latents: windows, float32 (N, T), in the column's units -> packed latent bits, uint8 (N, ceil(|c| / 8));
            the trained encoder (torch), handed in so that the codec itself never needs it.

    Raises:
        CorruptSegment: ``data`` is damaged.
    """

    data: bytes
    find_latents: FindLatents
    window: int = field(init=False)
    mean: float = field(init=False)
    std: float = field(init=False)

    def __post_init__(self) -> None:
        _, window, _, mean, std = _describe(self.data)
        for name, value in (("window", window), ("mean", mean), ("std", std)):
            object.__setattr__(self, name, value)

    def windows(self, values: NDArray[Any], plain: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Cut a column into windows, float32 (N, T): gaps repeat the value before, the last window its last value."""
        where = np.where(plain, np.arange(len(values)), 0)
        with np.errstate(over="ignore"):  # beyond float32 is infinity, which find_latents has to bear
            filled = values[np.maximum.accumulate(where)].astype(np.float32)
        filled[: int(plain.argmax())] = values[int(plain.argmax())]
        padding = -len(filled) % self.window
        return np.pad(filled, (0, padding), mode="edge").reshape(-1, self.window)

    def latents(self, values: NDArray[Any], plain: NDArray[np.bool_]) -> bytes:
        """Packed latent bits of all windows of a column with at least one plain value."""
        return self.find_latents(self.windows(values, plain)).tobytes()


AnyModel = Model | Net | InterpNet
"""What a series may share among its segments."""
