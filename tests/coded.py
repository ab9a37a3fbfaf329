"""Columns of every coder, mode, type and lattice, straight from the core's encoder.

What the product would choose is no matter here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddstore import _native
from ddstore.codec.format import (
    FLAG_EXACT,
    FLAG_EXCEPTIONS,
    FLAG_MATCHES,
    FLAG_NULLS,
    FLAG_SHAPES,
    FLAG_SHORTEST,
    FLAG_VIA_FLOAT32,
    NATIVE_TYPES,
    Centre,
    Coder,
    LatticeKind,
    Mode,
    NativeType,
    dtype_of,
    type_code,
)
from ddstore.codec.model import pack_model

Side = tuple[int, int, NDArray[Any]]
"""Checksum, type and values of a column that another one is conditioned on."""


@dataclass(frozen=True)
class Coded:
    """A coded column and what decoding it takes."""

    name: str
    type: NativeType
    n: int
    residual: bytes
    sides: tuple[Side, ...] = ()
    model: bytes = b""


WAYS = (
    (Coder.MIX, Mode.RAW),
    (Coder.MIX, Mode.LATTICE),
    (Coder.RANS, Mode.LATTICE),
    (Coder.CM, Mode.LATTICE),
    (Coder.CM, Mode.ADAPTIVE),
    (Coder.CM, Mode.INTERP),
    (Coder.RANS, Mode.INTERP),
)


def random_net(seed: int = 1, lags: Sequence[int] = (1, 2, 3, 5, 9, 30), hidden: tuple[int, int] = (7, 33)) -> bytes:
    """A density net that nobody trained: its weights are noise, its distributions wide, narrow or far off."""
    rng = np.random.default_rng(seed)
    parts = [
        struct.pack("<4sBBBBf2d", b"DNET", 1, len(lags), *hidden, 2.5, 20.0, 30.0),
        np.array(lags, "<u2").tobytes(),
    ]
    return pack_model(b"".join([*parts, _random_layers(rng, (len(lags) + 16, *hidden, 12))]))


def random_inet(seed: int = 1, hidden: tuple[int, int] = (7, 33)) -> bytes:
    """A net of mode interp that nobody trained."""
    return pack_model(b"INET" + bytes([1, *hidden, 0]) + _random_layers(np.random.default_rng(seed), (32, *hidden, 12)))


def _random_layers(rng: np.random.Generator, sizes: Sequence[int]) -> bytes:
    parts = []
    for inputs, outputs in pairwise(sizes):
        parts.append(rng.integers(5, 11, outputs, dtype=np.uint8).tobytes())
        parts.append(rng.integers(-9000, 9000, outputs).astype("<i2").tobytes())
        parts.append(rng.integers(-128, 128, outputs * inputs).astype(np.int8).tobytes())
    return b"".join(parts)


NET = random_net()
INET = random_inet()


def encode_native(kind: NativeType, coder: Coder, mode: Mode, index: NDArray[np.int64], **other: Any) -> bytes:
    """Indices coded by the core, on the lattice of whole numbers and plainly but for what ``other`` says."""
    plain = {
        "flags": FLAG_EXACT,
        "lattice": LatticeKind.GRID,
        "mul": 1,
        "add": 0,
        "den": 1,
        "step": 0.0,
        "offset": 0.0,
        "levels": None,
        "drift": 0,
        "centre": Centre.LAST,
        "base": 0,
        "scale": 0,
        "classes": None,
        "bits": None,
        "latents": None,
        "model": None,
        "capacity": 20 * len(index) + 4096,
    }
    coded = _native.encode_column(
        type=type_code(kind), mode=mode, coder=coder, n=len(index), index=index, **{**plain, **other}
    )
    assert coded is not None, "the capacity suffices"
    return coded


def coded_columns(n: int = 300, seed: int = 5) -> Iterator[Coded]:
    """Every way of coding every type, without and with exceptions, (coder cm) with other columns, shapes or matches."""
    rng = np.random.default_rng(seed)
    for coder, mode in WAYS:
        for at, kind in enumerate(NATIVE_TYPES):
            others = range(4 if coder is Coder.CM else 1)
            for exceptions in (False, True):
                for sides in others if exceptions else (0, 1 + at % 3) if coder is Coder.CM else (0,):
                    yield _encode(rng, coder, mode, kind, n, exceptions, sides)
    for coder, mode in (*WAYS[1:5], WAYS[6]):  # residuals as large as there can be
        yield _encode(rng, coder, mode, "int8", n, False, 0, far=True)
    for mode in (Mode.LATTICE, Mode.ADAPTIVE):
        for kind in NATIVE_TYPES:
            yield _encode(rng, Coder.CM, mode, kind, n, kind == "float4", 0, far=kind == "int8", shapes=True)
    for kind in NATIVE_TYPES:  # last: the columns before are what they were before there was a net
        for exceptions in (False, True):
            yield _encode(rng, Coder.NET, Mode.LATTICE, kind, n, exceptions, 0)
    yield _encode(rng, Coder.NET, Mode.LATTICE, "int8", n, False, 0, far=True)
    for mode in (Mode.LATTICE, Mode.ADAPTIVE):
        for at, kind in enumerate(NATIVE_TYPES):
            shapes, sides = (kind == "int4", 0) if mode is Mode.LATTICE else (False, at % 3)
            far, odd = kind == "int8", kind == "float4"
            yield _encode(rng, Coder.CM, mode, kind, n, odd, sides, far=far, shapes=shapes, matches=True)
    for coder in (Coder.MIX, Coder.RANS):
        for kind in NATIVE_TYPES:
            yield _encode(rng, coder, Mode.LATTICE, kind, n, kind != "float8", 0, centre=Centre.LEVEL)
    for at, kind in enumerate(NATIVE_TYPES):  # mode adaptive as it is now; above, as it was before there was a cascade
        mode, sides, far, odd = Mode.ADAPTIVE, at % 3, kind == "int8", kind == "float4"
        yield _encode(rng, Coder.CM, mode, kind, n, odd, 0 if odd else sides, far=far, shapes=odd, cascade=True)
        yield _encode(rng, Coder.CM, mode, kind, n, not odd, sides, matches=odd, cascade=True)
    for kind in NATIVE_TYPES:
        for exceptions in (False, True):
            yield _encode(rng, Coder.NET, Mode.INTERP, kind, n, exceptions, 0)
    yield _encode(rng, Coder.NET, Mode.INTERP, "int8", n, False, 0, far=True)


def _lattice(kind: NativeType, mode: Mode, rng: np.random.Generator) -> dict[str, Any]:
    """A lattice that the type has; of floats, another one each time."""
    grid = {"lattice": LatticeKind.GRID, "mul": 1, "add": 0, "den": 1, "step": 0.0, "offset": 0.0, "levels": None}
    if kind.startswith("int"):
        return grid
    step = {**grid, "lattice": LatticeKind.STEP, "step": 0.37, "offset": -5.25}
    decimal = {**grid, "mul": 3, "add": 1, "den": 100}
    ordinal = {**grid, "lattice": LatticeKind.ORDINAL, "mul": 1000}
    levels = {**grid, "lattice": LatticeKind.LEVELS, "levels": np.sort(rng.integers(-9000, 9000, 40)).tobytes()}
    legal = [step, decimal] if mode is Mode.INTERP else [step, decimal, ordinal, levels]
    return legal[int(rng.integers(len(legal)))]


def _encode(
    rng: np.random.Generator,
    coder: Coder,
    mode: Mode,
    kind: NativeType,
    n: int,
    exceptions: bool,
    sides: int,
    far: bool = False,
    shapes: bool = False,
    matches: bool = False,
    centre: Centre | None = None,
    cascade: bool = False,
) -> Coded:
    lattice = _lattice(kind, mode, rng)
    scale = (0.8, 4.0, 900.0)[int(rng.integers(3))] if kind != "int8" else float(10.0 ** rng.integers(0, 16))
    index = np.rint(rng.normal(0, scale, n).cumsum() + 20).astype(np.int64)
    index[rng.random(n) < 0.02] += int(50 * scale)
    if far:
        index = rng.integers(2**61, 2**62, n) * (1 - 2 * (np.arange(n) & 1))
    if matches:  # the same rows again and again, but for a few
        again = np.resize(index[: max(1, n // 4)], n)
        index = np.where(rng.random(n) < 0.03, index, again)
    if lattice["levels"] is not None:
        index %= len(lattice["levels"]) // 8
    classes = None
    if exceptions:
        classes = np.where(rng.random(n) < 0.7, 0, rng.integers(1, 5, n)).astype(np.uint8)
        if mode is Mode.RAW:
            classes &= 1
    other = [_side(rng, index, k) for k in range(sides)]
    flags = FLAG_EXACT | (0 if classes is None else FLAG_EXCEPTIONS | FLAG_NULLS)
    flags |= (FLAG_SHAPES if shapes else 0) | (FLAG_MATCHES if matches else 0)
    if kind == "float8" and mode is not Mode.RAW:
        flags |= (0, FLAG_VIA_FLOAT32, FLAG_VIA_FLOAT32 | FLAG_SHORTEST)[int(rng.integers(3))]
    drift = 0 if coder is Coder.NET else int(rng.integers(-2, 3))
    if centre is None:
        centre = Centre.LINEAR if coder not in (Coder.CM, Coder.NET) and rng.random() < 0.5 else Centre.LAST
    elif centre is Centre.LEVEL:
        drift = int(index[0])
    net = b"" if coder is not Coder.NET else INET if mode is Mode.INTERP else NET
    residual = encode_native(
        kind,
        coder,
        mode,
        index,
        flags=flags,
        **lattice,
        drift=drift,
        centre=centre,
        classes=classes,
        bits=rng.integers(0, 2 ** (8 * dtype_of(kind).itemsize), n, dtype=np.uint64, endpoint=False),
        model=net or None,
        base=7 if coder is Coder.NET else 0,
        unit=0.03 if coder is Coder.NET else 0.0,
        width=int(rng.integers(1, 9)) if mode is Mode.INTERP else 1,
        stride=int(rng.integers(0, 6)) if mode is Mode.INTERP else 0,
        sides=[(crc, code, values, 1.5, 0.25, int(rng.integers(0, 3))) for crc, code, values in other],
        cascade=cascade,
    )
    contents = "odd" if exceptions else "full" if far else "plain"
    given = ("cascade-" if cascade else "") + ("matches-" if matches else "") + ("shapes" if shapes else f"{sides}")
    given += "-level" if centre is Centre.LEVEL else ""
    name = f"{coder.name}-{mode.name}-{kind}-{contents}-{given}".lower()
    return Coded(name, kind, n, residual, tuple(other), net)


def _side(rng: np.random.Generator, index: NDArray[np.int64], k: int) -> Side:
    kind = NATIVE_TYPES[int(rng.integers(len(NATIVE_TYPES)))]
    values = (np.roll(index, k) % 30000 + rng.integers(-2, 3, len(index))).astype(dtype_of(kind))
    if values.dtype.kind == "f":
        values[rng.random(len(index)) < 0.02] = (np.nan, np.inf, 1e30)[k]
    return 1000 + k, type_code(kind), values
