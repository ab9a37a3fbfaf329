"""Columns of every mode, type, lattice and oddity, small and seeded: shared by the tests of the format."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coded import Side
from ddstore._native import crc32c
from ddstore.bounds import Absolute, Bound, Lossless, RangeRelative, Relative
from ddstore.codec.format import as_native, type_code
from ddstore.codec.segment import EncodedColumn, encode_column

DTYPES = {"int2": np.int16, "int4": np.int32, "int8": np.int64, "float4": np.float32, "float8": np.float64}


@dataclass(frozen=True)
class Case:
    """A column to encode."""

    name: str
    type: str
    values: NDArray[Any]
    valid: NDArray[np.bool_] | None
    bound: Bound


def cases(n: int = 300) -> Iterator[Case]:
    """The cases, always the same for the same ``n``."""
    rng = np.random.default_rng(20)
    walk = rng.normal(0, 4, n).cumsum()
    shapes = {
        "walk": np.rint(walk),
        "flat": np.full(n, 7.0),
        "ramp": np.arange(n) * 3.0,
        "noise": rng.integers(-30000, 30000, n).astype(float),
        "spike": np.where(rng.random(n) < 0.02, 20000.0, np.rint(walk / 10)),
    }
    bounds: dict[str, Bound] = {
        "lossless": Lossless(),
        "absolute": Absolute(2.5),
        "relative": Relative(0.01),
        "range": RangeRelative(0.001),
    }
    for type_name, dtype in DTYPES.items():
        for shape, values in shapes.items():
            column = values.astype(dtype)
            if dtype is np.float32 or dtype is np.float64:
                column = (column / dtype(500 if shape != "noise" else 7)).astype(dtype)
            for kind, bound in bounds.items():
                scaled = Absolute(0.01) if kind == "absolute" and column.dtype.kind == "f" else bound
                yield Case(f"{type_name}-{shape}-{kind}", type_name, column, None, scaled)
        odd = shapes["walk"].astype(dtype)
        if odd.dtype.kind == "f":
            odd[::17], odd[::19], odd[::23], odd[5] = np.nan, -0.0, np.inf, np.finfo(dtype).tiny / 2
        yield Case(f"{type_name}-nulls", type_name, odd, rng.random(n) > 0.3, Lossless())
        yield Case(f"{type_name}-nulls-lossy", type_name, odd, rng.random(n) > 0.1, Absolute(1.5))
        yield Case(f"{type_name}-all-null", type_name, odd, np.zeros(n, bool), Lossless())
        yield Case(f"{type_name}-one", type_name, odd[1:2], None, Lossless())
        if odd.dtype.kind == "f":
            levels = np.sort(rng.normal(0, 100, 12)).astype(dtype)
            yield Case(
                f"{type_name}-levels", type_name, levels[np.abs(np.rint(walk)).astype(int) % 12], None, Lossless()
            )
        edge = np.array(
            [np.iinfo(dtype).min, np.iinfo(dtype).max, 0, -1]
            if odd.dtype.kind == "i"
            else [np.finfo(dtype).min, np.finfo(dtype).max, np.finfo(dtype).tiny, -1.5],
            dtype=dtype,
        )
        yield Case(f"{type_name}-edges", type_name, edge, None, Lossless())
        yield Case(f"{type_name}-edges-relative", type_name, edge, None, Relative(0.1))


def encode(case: Case) -> EncodedColumn:
    """Encode a case with the product's encoder."""
    return encode_column(case.values, case.valid, type=case.type, bound=case.bound)


def record(
    type_name: str,
    n: int,
    residual: bytes,
    latents: bytes = b"",
    model: bytes = b"",
    want: int | None = None,
    sides: Sequence[Side] = (),
) -> bytes:
    """One record of column_driver.c's input."""
    others = b"".join(struct.pack("<B", code) + values.tobytes() for _, code, values in sides)
    parts = (residual, latents, model, others)
    head = struct.pack("<BII", type_code(as_native(type_name)), n, n if want is None else want)
    return head + struct.pack("<4I", *map(len, parts)) + b"".join(parts)


def with_mutated_models(residual: bytes, model: bytes, n: int) -> bytes:
    """Records of an int8 column with each bit of its model flipped, checksums mended, and with each shorter model."""
    records = []
    for bit in range(8 * (len(model) - 4)):
        flipped = bytearray(model)
        flipped[bit // 8] ^= 1 << bit % 8
        # The column names its model by checksum: it has to name the flipped one.
        crc = crc32c(bytes(flipped[:-4])).to_bytes(4, "little")
        renamed = residual.replace(model[-4:], crc)
        records.append(record("int8", n, renamed, b"", bytes(flipped[:-4]) + crc))
    records += [record("int8", n, residual, b"", model[:length]) for length in range(len(model))]
    return b"".join(records)


def decode_mutated(program: object, records: bytes) -> str:
    """Decode mutated records; the sanitizers end the program with an error at the first fault."""
    done = subprocess.run([str(program), "mend"], input=records, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    return done.stdout.decode()
