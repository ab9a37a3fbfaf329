"""The numbers of the byte format, as docs/format.md and the C core define them."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, Literal, cast

import numpy as np

from ddstore.errors import SchemaMismatch

__all__ = [
    "NATIVE_TYPES",
    "Centre",
    "Coder",
    "LatticeKind",
    "Mode",
    "NativeType",
    "RowClass",
    "as_native",
    "code_of",
    "dtype_of",
    "type_code",
]

NativeType = Literal["int2", "int4", "int8", "float4", "float8"]

_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "int2": np.dtype(np.int16),
    "int4": np.dtype(np.int32),
    "int8": np.dtype(np.int64),
    "float4": np.dtype(np.float32),
    "float8": np.dtype(np.float64),
}
NATIVE_TYPES: Final = tuple(_DTYPES)
_CODES: Final = {dtype: code for code, dtype in enumerate(_DTYPES.values(), 1)}

FLAG_EXCEPTIONS: Final = 1
FLAG_NULLS: Final = 2
FLAG_EXACT: Final = 4
FLAG_VIA_FLOAT32: Final = 8
FLAG_SHORTEST: Final = 32
FLAG_SIDES: Final = 16
FLAG_SHAPES: Final = 64
FLAG_MATCHES: Final = 128


class Mode(IntEnum):
    """How a column's rows are coded."""

    RAW = 0
    LATTICE = 1
    BTAE = 2
    LINEAR = 3
    INTERP = 4
    ADAPTIVE = 5


class Coder(IntEnum):
    """How residuals become bits: the high four bits of a column's mode byte. RAW and LINEAR columns have MIX."""

    MIX = 0
    RANS = 1
    CM = 2
    BSC = 3
    NET = 4


class LatticeKind(IntEnum):
    """Which reconstruction values are legal."""

    GRID = 0
    STEP = 1
    ORDINAL = 2
    LEVELS = 3


class Centre(IntEnum):
    """What a lattice index is coded around."""

    LAST = 0
    LINEAR = 1
    MODEL = 2
    LEVEL = 3


class RowClass(IntEnum):
    """What a row is, when not simply a value on the lattice."""

    VALUE = 0
    NULL = 1
    NAN = 2
    NEGATIVE_ZERO = 3
    EXACT = 4


def as_native(type_name: str) -> NativeType:
    """Return ``type_name`` if the core codes it.

    Raises:
        SchemaMismatch: it is stored as an array instead.
    """
    if type_name not in _DTYPES:
        raise SchemaMismatch(f"type {type_name!r} is not coded by the core", remedy=f"Use one of {', '.join(_DTYPES)}.")
    return cast(NativeType, type_name)


def dtype_of(type_name: NativeType) -> np.dtype[Any]:
    """The numpy dtype of a column type."""
    return _DTYPES[type_name]


def code_of(dtype: np.dtype[Any]) -> int:
    """The number that stands for the column type of a dtype in the format."""
    return _CODES[dtype]


def type_code(type_name: NativeType) -> int:
    """The number that stands for a column type in the format."""
    return NATIVE_TYPES.index(type_name) + 1
