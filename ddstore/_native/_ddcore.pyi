from collections.abc import Buffer
from typing import TypedDict

FORMAT_VERSION: int
MAX_ROWS: int

class CorruptError(ValueError): ...

class ColumnInfo(TypedDict):
    type: int
    mode: int
    n: int
    has_nulls: bool
    needs_model: bool
    model_crc: int
    escapes: int
    exact: bool

def decode_column(
    residual: Buffer, latents: Buffer | None, model: Buffer | None, type: int, n: int, want: int, /
) -> tuple[bytearray, bytearray | None]: ...
def peek_column(residual: Buffer, /) -> ColumnInfo: ...
def encode_column(
    *,
    type: int,
    mode: int,
    flags: int,
    n: int,
    lattice: int,
    mul: int,
    add: int,
    den: int,
    step: float,
    offset: float,
    drift: int,
    centre: int,
    base: int,
    scale: int,
    index: Buffer,
    classes: Buffer | None,
    bits: Buffer | None,
    latents: Buffer | None,
    model: Buffer | None,
    capacity: int,
) -> bytes | None: ...
def describe_model(data: Buffer, /) -> tuple[int, int, float, float]: ...
def crc32c(data: Buffer, crc: int = 0, /) -> int: ...
def btae_predict(section: Buffer, latents: Buffer, n_windows: int, /) -> bytes: ...
def copy_encode(columns: list[tuple[str, Buffer, Buffer | None, Buffer | None]], start: int, stop: int, /) -> bytes: ...
def copy_decode(data: Buffer, widths: list[int], /) -> tuple[list[bytearray], list[bytearray | None]]: ...
