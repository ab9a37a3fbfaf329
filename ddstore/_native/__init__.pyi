from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT_VERSION: int
MAX_ROWS: int

class CorruptError(ValueError): ...

def decode_column(
    residual: bytes, latents: bytes | None, model: bytes | None, type: str, n: int, want: int = -1
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """First ``want`` rows (all when -1): values and validity (None: no NULLs). GIL released."""

def peek_column(residual: bytes, model: bytes | None = None) -> dict[str, Any]: ...
def decode_times(data: bytes, n: int, want: int = -1) -> NDArray[np.int64]: ...
def encode_times(time: NDArray[np.int64]) -> bytes: ...
def crc32c(data: bytes, crc: int = 0) -> int: ...

# Binary COPY, one pass over all rows. A column is (kind, data, valid or None, offsets or None):
# kind "2" | "4" | "8" | "1": fixed-width native-endian numpy array; "v": utf-8 bytes + int64 offsets (n + 1);
# "c": the same bytes in every row.
def copy_encode(columns: list[tuple[str, Any, Any, Any]], start: int, stop: int) -> bytes: ...
def copy_decode(data: bytes, widths: list[int]) -> tuple[list[NDArray[Any]], list[NDArray[np.bool_]]]:
    """Whole binary COPY stream (header and trailer included) of fixed-width columns, widths in bytes."""
